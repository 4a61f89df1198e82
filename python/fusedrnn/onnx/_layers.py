"""The weights of a recurrent node as layers of ours: one, or one for each direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn import weights

from . import _errors
from ._attributes import GATES, Attributes

Array: TypeAlias = NDArray[Any]
Layer: TypeAlias = "fr.RNN | fr.GRU | fr.LSTM"
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# The activations with which a layer takes its faster kernels.
PLAIN = ("sigmoid", "tanh", "tanh")


def dtype_of(where: str, name: str, a: Array, like: np.dtype[Any] | None = None) -> np.dtype[Any]:
    """float32 or float64, or that of `like`."""
    dtype = a.dtype.newbyteorder("=")
    if dtype not in FLOATS or (like is not None and dtype != like):
        expected = "float32 or float64" if like is None else f"{like}, as W is"
        _errors.wrong_type(where, f"input {name}", expected, _errors.describe(a))
    return dtype


def shaped(where: str, name: str, a: Array, letters: str, shape: tuple[int, ...]) -> None:
    """An input has the shape that the specification says in `letters`."""
    if a.shape != shape:
        _errors.differs(where, f"input {name}", f"shape {letters} = {shape}", a.shape)


def pack(options: Attributes, arrays: Mapping[str, Array]) -> tuple[Layer, ...]:
    """Layers with the node's weights W, R and, where it has them, B and P.

    A bidirectional node is one layer, or two of one direction if their activations differ.
    """
    dtype, inputs, hidden = _sizes(options, arrays)
    activations = options.activations
    if len(set(activations)) == 1:
        parts = [dict(arrays)]
    else:
        parts = [{name: a[d : d + 1] for name, a in arrays.items()} for d in range(2)]
    layers = []
    for part, chosen in zip(parts, activations, strict=False):
        names = tuple(
            name if not parameters else (name, *parameters) for name, parameters in chosen
        )
        gates = None if names == PLAIN[: len(names)] else names
        options_of_all: dict[str, Any] = {
            "bias": "B" in part,
            "batch_first": options.batch_first,
            "bidirectional": len(part["W"]) == 2,
            "dtype": dtype,
            "seed": 0,
            "clip": options.clip,
        }
        layer: Layer
        if options.operator == "RNN":
            layer = fr.RNN(inputs, hidden, nonlinearity=names[0], **options_of_all)
        elif options.operator == "GRU":
            layer = fr.GRU(
                inputs,
                hidden,
                reset_after=options.reset_after,
                activations=gates,
                **options_of_all,
            )
        else:
            layer = fr.LSTM(
                inputs,
                hidden,
                peepholes="P" in part,
                activations=gates,
                coupled=options.coupled,
                **options_of_all,
            )
        layer.load_state_dict(weights.from_onnx(part, layer.cell))
        layers.append(layer)
    return tuple(layers)


def _sizes(options: Attributes, arrays: Mapping[str, Array]) -> tuple[np.dtype[Any], int, int]:
    """dtype, input size and hidden size, all arrays checked."""
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
