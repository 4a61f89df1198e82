"""The weights of a recurrent node as layers of fusedrnn: one, or one for each direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn import weights

from . import _errors
from ._activations import Activation
from ._attributes import GATES, Attributes

Array: TypeAlias = NDArray[Any]
# A value in a graph: an array, a list (of a sequence) or None (of an optional value).
Value: TypeAlias = Any
Layer: TypeAlias = "fr.RNN | fr.GRU | fr.LSTM"
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Computed in float32; the results of each node are rounded to their own type.
HALVES = (
    np.dtype(np.float16),
    np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)),
)


class Step(Protocol):
    """One node, ready to run."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, values: Mapping[str, Value], num_threads: int | None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""


def named(where: str, names: Sequence[str], found: Sequence[Value]) -> dict[str, Value]:
    """Return the outputs of a node by their names, without those that have no name."""
    if len(names) > len(found):
        _errors.differs(where, "outputs", f"at most {len(found)}", len(names))
    if len(names) == 1 and names[0]:
        return {names[0]: found[0]}
    return {name: a for name, a in zip(names, found, strict=False) if name}


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in this machine's byte order."""
    same: np.dtype[Any] = dtype.newbyteorder("=")
    return same


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which kernels compute for a dtype of the graph."""
    return dtype if dtype in FLOATS else FLOATS[0]


class Packed(NamedTuple):
    """A node's weights: one layer, or two of one direction each if their activations differ."""

    layers: tuple[Layer, ...]
    dtype: np.dtype[Any]  # of the graph; that of the layers is `computed_in(dtype)`
    input_size: int
    hidden_size: int


def dtype_of(where: str, name: str, a: Value, like: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """Return the dtype of an input; refuse one that is not floating point, or not `like`."""
    dtype = native(a.dtype) if isinstance(a, np.ndarray) else None
    if dtype is None or dtype not in FLOATS + HALVES or (like is not None and dtype != like):
        expected = "floating point numbers" if like is None else f"{like}, as W is"
        _errors.wrong_type(where, f"input {name}", expected, _errors.describe(a))
    return dtype


def shaped(where: str, name: str, a: Array, letters: str, shape: tuple[int, ...]) -> None:
    """Refuse an input whose shape is not the one that the specification gives as `letters`."""
    if a.shape != shape:
        _errors.differs(where, f"input {name}", f"shape {letters} = {shape}", a.shape)


def pack(options: Attributes, arrays: Mapping[str, Array]) -> Packed:
    """Make layers with the node's weights W, R and, if it has them, B and P."""
    dtype, inputs, hidden = _sizes(options, arrays)
    computed = computed_in(dtype)
    parts = [{name: a.astype(computed, copy=False) for name, a in arrays.items()}]
    if len(set(options.activations)) == 2:
        parts = [{name: a[d : d + 1] for name, a in parts[0].items()} for d in range(2)]
    layers = []
    for part, chosen in zip(parts, options.activations, strict=False):
        layer = _layer(options, part, chosen, inputs, hidden, computed)
        layer.load_state_dict(weights.from_onnx(part, layer.cell))
        layers.append(layer)
    return Packed(tuple(layers), dtype, inputs, hidden)


def _layer(
    options: Attributes,
    arrays: Mapping[str, Array],
    chosen: Sequence[Activation],
    input_size: int,
    hidden_size: int,
    dtype: np.dtype[Any],
) -> Layer:
    """Make a layer for these weights, with the options of the node."""
    activations = [(name, *numbers) if numbers else name for name, numbers in chosen]
    every: dict[str, Any] = {
        "bias": "B" in arrays,
        "batch_first": options.batch_first,
        "bidirectional": len(arrays["W"]) == 2,
        "clip": options.clip,
        "dtype": dtype,
        "seed": 0,
    }
    if options.operator == "RNN":
        return fr.RNN(input_size, hidden_size, nonlinearity=activations[0], **every)
    every["activations"] = activations
    if options.operator == "GRU":
        return fr.GRU(input_size, hidden_size, reset_after=options.reset_after, **every)
    every |= {"peepholes": "P" in arrays, "coupled": options.coupled}
    return fr.LSTM(input_size, hidden_size, **every)


def _sizes(options: Attributes, arrays: Mapping[str, Array]) -> tuple[np.dtype[Any], int, int]:
    """Return dtype, input size and hidden size; all arrays are checked."""
    where, gates, directions = options.where, GATES[options.operator], options.directions
    w, r = arrays["W"], arrays["R"]
    dtype = dtype_of(where, "W", w)
    for name in ("W", "R"):
        if arrays[name].ndim != 3:
            expected = f"3 axes, ({directions}, {gates}*H, {'I' if name == 'W' else 'H'})"
            _errors.differs(where, f"input {name}", expected, arrays[name].shape)
    inputs, hidden = w.shape[2], r.shape[2]
    if hidden < 1:
        _errors.differs(where, "input R", f"(D, {gates}*H, H) with H >= 1", r.shape)
    if options.hidden_size not in (None, hidden):
        expected = f"the {hidden} of input R, whose shape is {r.shape}"
        _errors.differs(where, "attribute hidden_size", expected, options.hidden_size)
    letters = {
        "W": (f"(D, {gates}*H, I)", (directions, gates * hidden, inputs)),
        "R": (f"(D, {gates}*H, H)", (directions, gates * hidden, hidden)),
        "B": (f"(D, {2 * gates}*H)", (directions, 2 * gates * hidden)),
        "P": ("(D, 3*H)", (directions, 3 * hidden)),
    }
    for name, a in arrays.items():
        dtype_of(where, name, a, dtype)
        shaped(where, name, a, *letters[name])
    return dtype, inputs, hidden
