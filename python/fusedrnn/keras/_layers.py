"""SimpleRNN, LSTM and GRU: Keras' layers with the kernels in place of the loop over time."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import keras

from ._job import Job, job_of, refusal

Tensor = Any

# By the backends of Keras, the module whose `walk` runs a layer there.
_WALKS = {"numpy": "_walks", "torch": "_torch", "jax": "_jax", "tensorflow": "_tensorflow"}
# The backends whose module `refuses` calls for reasons that are not in the layer.
_REFUSE = ("torch", "tensorflow")


class Fused:
    """A mixin before a layer of Keras, whose instances `accelerate` may give this class later."""

    _fused_kind: ClassVar[str]
    cell: Any
    go_backwards: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _prepared(self)

    def _job(self, training: bool) -> Job | str:
        """Return what the kernels compute in a call, or why the call takes Keras' loop.

        Reasons in the arrays of a call are not looked for.
        """
        backend = keras.backend.backend()
        if backend not in _WALKS:
            return f"Keras runs on {backend}"
        job = job_of(self, self._fused_kind)
        return job if isinstance(job, str) else refusal(self, training) or job

    def _floats(self, a: Tensor) -> Tensor:
        """Return numbers that Keras' products would promote as the dtype that they give."""
        kind = keras.backend.standardize_dtype(a.dtype)
        whole = kind == "bool" or "int" in kind
        return keras.ops.cast(a, self.compute_dtype) if whole else a  # type: ignore[attr-defined]

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Walk over time; Keras calls this with states, dropout and masks prepared."""
        job, backend, cell = self._job(training), keras.backend.backend(), self.cell
        sequences, *states = map(self._floats, (sequences, *keras.tree.flatten(initial_state)))
        if keras.tree.is_nested(mask):
            mask = mask[0]
        weights = _tensor(cell.kernel), _tensor(cell.recurrent_kernel), _tensor(cell.bias)
        if isinstance(job, Job):
            module = import_module(f".{_WALKS[backend]}", __package__)
            if mask is not None and getattr(self, "unroll", False):
                job = "unroll=True with a mask: backends of Keras differ in what they do"
            elif backend in _REFUSE:
                job = module.refuses(sequences, *weights, *states, mask) or job
        if isinstance(job, str):
            return super().inner_loop(  # type: ignore[misc]
                sequences, initial_state, mask=mask, training=training
            )
        _check_shapes(sequences, states, mask, cell.units)
        drop = None
        if training and cell.dropout:
            factors = cell.get_dropout_mask(sequences[:, 0, :])
            sequences = sequences * keras.ops.expand_dims(factors, axis=1)
        if training and cell.recurrent_dropout:
            drop = cell.get_recurrent_dropout_mask(states[0])
        if mask is not None:
            mask = keras.ops.cast(mask, "bool")
        if self.go_backwards:
            sequences = keras.ops.flip(sequences, axis=1)
            mask = None if mask is None else keras.ops.flip(mask, axis=1)
        y, last = module.walk(job, sequences, states, weights, mask, drop)
        return y[:, -1], y, last


def _check_shapes(sequences: Tensor, states: list[Tensor], mask: Tensor | None, units: int) -> None:
    """Refuse a mask or a state that does not fit; errors of the kernels have axes of their own."""
    batch, steps = sequences.shape[:2]
    given = [(f"initial_state[{k}]", state, (batch, units)) for k, state in enumerate(states)]
    given += [] if mask is None else [("mask", mask, (batch, steps))]
    for name, a, shape in given:
        known = [n for n in zip(a.shape, shape, strict=False) if None not in n]
        if len(a.shape) != len(shape) or any(n != wanted for n, wanted in known):
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(a.shape)}")


def _tensor(weight: Any) -> Tensor | None:
    return None if weight is None else keras.ops.convert_to_tensor(weight)


def _prepared(layer: Any) -> None:
    """Keep Bidirectional on two walks, and Keras from compiling a model that has the layer.

    Compilers of JAX know the kernels. XLA of TensorFlow and torch.compile do not, and would record
    Keras' loop, which torch.compile unrolls: the first call may then take minutes.
    """
    layer.use_cudnn = False
    if keras.backend.backend() in ("tensorflow", "torch"):
        layer.supports_jit = False


@keras.saving.register_keras_serializable(package="fusedrnn")
class SimpleRNN(Fused, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` on the kernels: the same arguments, weights, masks and results.

    Parameters
    ----------
    *args, **kwargs
        As for `keras.layers.SimpleRNN`.

    Notes
    -----
    What the kernels do not compute takes Keras' own loop; `report` says what and why. A saved model
    names this class, so whoever loads it imports `fusedrnn.keras` first; `restore` the model before
    it is saved if it is to load where fusedrnn is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import SimpleRNN
    >>> layer = SimpleRNN(3)  # 'hello': four letters, one-hot
    >>> layer(np.ones((2, 4, 9), "float32")).shape == (2, 3)
    True
    """

    _fused_kind = "SimpleRNN"


@keras.saving.register_keras_serializable(package="fusedrnn")
class LSTM(Fused, keras.layers.LSTM):
    """`keras.layers.LSTM` on the kernels: the same arguments, weights, masks and results.

    Parameters
    ----------
    *args, **kwargs
        As for `keras.layers.LSTM`.

    Notes
    -----
    As for `SimpleRNN`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import LSTM
    >>> layer = LSTM(50, return_sequences=True)
    >>> layer(np.ones((2, 10, 1), "float32")).shape == (2, 10, 50)
    True
    """

    _fused_kind = "LSTM"


@keras.saving.register_keras_serializable(package="fusedrnn")
class GRU(Fused, keras.layers.GRU):
    """`keras.layers.GRU` on the kernels: the same arguments, weights, masks and results.

    Parameters
    ----------
    *args, **kwargs
        As for `keras.layers.GRU`.

    Notes
    -----
    As for `SimpleRNN`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import GRU
    >>> layer = GRU(8, return_state=True)
    >>> y, h = layer(np.ones((2, 10, 1), "float32"))
    >>> y.shape == h.shape == (2, 8)
    True
    """

    _fused_kind = "GRU"


for _class in (SimpleRNN, LSTM, GRU):
    _class.__module__ = "fusedrnn.keras"  # the module that files and pickles name
