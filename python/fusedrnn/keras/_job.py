"""What of a Keras layer the kernels compute: its cell, its activations, and reasons why not."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from .. import core

# Keras' activations by the names and numbers of `core`; hard_sigmoid is relu6(x + 3) / 6.
IDENTITY = ("affine", 1.0, 0.0)
_ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "tanh": ("tanh",),
    "sigmoid": ("sigmoid",),
    "relu": ("relu",),
    "linear": IDENTITY,
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "elu": ("elu", 1.0),
    "softsign": ("softsign",),
    "softplus": ("softplus",),
    "leaky_relu": ("leaky_relu", 0.2),
}
_FLOATS = ("float32", "float64")

Weights = tuple[Any, Any, Any]  # the kernel, the recurrent kernel, and the bias or None


class Job(NamedTuple):
    """What a walk computes; plain data that a framework can keep beside an operation.

    `swap` says whether the first two gates change places: Keras' GRU has them in the order z r.
    `activations` are names for `fusedrnn.jax`.
    """

    kind: str  # the name of Keras' class
    cell: str
    options: core.Options | None
    activations: tuple[Any, ...]
    reset_after: bool
    swap: bool
    repeat: bool  # a masked step shows the output before it; otherwise zeros

    @property
    def states(self) -> int:
        """The number of states: h, or h and c."""
        return 2 if self.kind == "LSTM" else 1


def _name(activation: Any) -> str:
    return str(getattr(activation, "__name__", "")) if activation is not None else "linear"


def _usual(activation: Any, name: str) -> bool:
    return keras.activations.get(name) is activation or (name == "linear" and activation is None)


def _activations(layer: Any) -> tuple[str, ...] | str:
    """Return the names of the gates' and the candidate's activations, or what is unknown."""
    cell = layer.cell
    given = [cell.activation]
    if hasattr(cell, "recurrent_activation"):
        given.insert(0, cell.recurrent_activation)
    names = []
    for activation in given:
        name = _name(activation)
        if name not in _ACTIVATIONS or not _usual(activation, name):
            return name or repr(activation)
        names.append(name)
    return tuple(names)


def job_of(layer: Any, kind: str) -> Job | str:
    """Return what the kernels compute for a layer, or why they do not."""
    names = _activations(layer)
    if isinstance(names, str):
        return f"the kernels do not have the activation {names}"
    dtype = layer.compute_dtype
    if dtype not in _FLOATS or layer.variable_dtype != dtype:
        return f"it computes in {dtype} with weights in {layer.variable_dtype}"
    if layer.cell.quantization_mode is not None:
        return "its weights are quantised"
    if getattr(layer.cell, "lora_enabled", False):
        return "it has LoRA weights"
    reset_after = bool(getattr(layer.cell, "reset_after", False))
    cell, usual = {
        "SimpleRNN": ("rnn", ("tanh",)),
        "LSTM": ("lstm", ("sigmoid", "tanh")),
        "GRU": ("gru" if reset_after else "gru_reset_before", ("sigmoid", "tanh")),
    }[kind]
    given = [_ACTIVATIONS[name] for name in names]
    options = None
    if kind == "SimpleRNN" and names[0] in ("tanh", "sigmoid", "relu"):
        cell = f"rnn_{names[0]}"
    elif kind == "SimpleRNN" and names[0] == "linear":
        cell = "rnn_identity"
    elif names != usual:
        cell += "_chosen"
        kinds = [core.Activation(*one) for one in given]
        f, g = (kinds[0], kinds[-1])
        options = core.Options(f, g, g)
    if kind == "LSTM":
        given.append(given[-1])
    activations = tuple(one[0] if len(one) == 1 else one for one in given)
    return Job(
        kind,
        cell,
        options,
        activations,
        reset_after,
        kind == "GRU",
        not layer.zero_output_for_mask,
    )


def refusal(layer: Any, training: bool) -> str:
    """Return why one call takes Keras' loop; empty if the kernels compute it."""
    cell = layer.cell
    noisy = bool(training) and (cell.dropout or cell.recurrent_dropout)
    if noisy and getattr(cell, "implementation", 2) == 1:
        return "a mask of dropout for each gate (implementation=1, or recurrent_dropout)"
    return ""
