"""Operators that onnx.reference lacks, computes wrongly, or knows only in the newest version.

They were found by running every operator in every version since opset 7 and comparing with ONNX
Runtime (tests/test_onnx_operators.py). An old node is rewritten if a newer version can express it;
the others are NumPy functions in this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx

from . import _errors
from ._layers import Array, Value
from ._windows import spatial, windows_of

Attributes: TypeAlias = Mapping[str, Any]
Function: TypeAlias = Callable[..., tuple[Value, ...]]


# --- old nodes as newer ones ------------------------------------------------------------------


def renewed(where: str, proto: Any, opset: int) -> tuple[Any, int]:
    """Rewrite a node of an old version in a newer one; return it with the opset of that."""
    rule = RENEWED.get(proto.op_type)
    if rule is None or opset >= rule[0]:
        return proto, opset
    copy = type(proto)()
    copy.CopyFrom(proto)
    rule[1](where, copy)
    return copy, rule[0]


def _normalization(where: str, node: Any) -> None:
    """Refuse training; before version 14 it was the number of outputs that asked for it."""
    if len(list(filter(None, node.output))) > 1:
        _errors.differs(where, "outputs", "1: inference", len(node.output))
    for a in [a for a in node.attribute if a.name == "spatial"]:
        if not a.i:
            _errors.differs(where, "attribute spatial", "1", a.i)
        node.attribute.remove(a)


def _scatter(where: str, node: Any) -> None:
    node.op_type = "ScatterElements"


def _grid(where: str, node: Any) -> None:
    for a in node.attribute:
        if a.name == "mode":
            a.s = a.s.removeprefix(b"bi")


def _regions(where: str, node: Any) -> None:
    value = "output_half_pixel"
    node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", value))


def _same(where: str, node: Any) -> None:
    """Leave a node that the newer version writes in the same way."""


# Operator: the first version that onnx.reference has, and the function that rewrites a node for it.
RENEWED: dict[str, tuple[int, Callable[[str, Any], None]]] = {
    "BatchNormalization": (14, _normalization),
    "DequantizeLinear": (19, _same),
    "GridSample": (20, _grid),
    "RoiAlign": (16, _regions),
    "Scatter": (11, _scatter),
}


# --- NumPy ------------------------------------------------------------------------------------


def own(proto: Any, opset: int) -> Function | None:
    """Return the function (attributes, inputs) -> outputs that replaces onnx.reference, or None."""
    until, function = OWN.get(proto.op_type, (0, None))
    return function if opset < until else None


def reduced(compute: Callable[..., Any], x: Value, *axes: Value) -> Any:
    """Reduce with `compute`; a value without axes is reduced as a row of one element.

    PyTorch's exporter writes such nodes, over axis 0, for the maximum of a size (Keras has it).
    ONNX Runtime computes the same, but only if the axes are not constants.
    """
    if not isinstance(x, np.ndarray) or x.ndim:
        return compute(x, *axes)
    return [np.reshape(y, ()) for y in compute(x.reshape(1), *axes)]


def _flattened(x: Array, axis: int) -> Array:
    """Return x with two axes, those before `axis` and the rest, as softmax before version 13."""
    axis = axis % x.ndim if x.ndim else 0
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _softmax(attributes: Attributes, x: Array) -> tuple[Array]:
    flat = _flattened(x, attributes.get("axis", 1))
    e = np.exp(flat - flat.max(axis=1, keepdims=True))
    return ((e / e.sum(axis=1, keepdims=True)).reshape(x.shape),)


def _log_softmax(attributes: Attributes, x: Array) -> tuple[Array]:
    flat = _flattened(x, attributes.get("axis", 1))
    flat = flat - flat.max(axis=1, keepdims=True)
    return ((flat - np.log(np.exp(flat).sum(axis=1, keepdims=True))).reshape(x.shape),)


def _hardmax(attributes: Attributes, x: Array) -> tuple[Array]:
    flat = _flattened(x, attributes.get("axis", 1))
    y = np.zeros_like(flat)
    y[np.arange(len(flat)), flat.argmax(axis=1)] = 1
    return (y.reshape(x.shape),)


def _local_response(attributes: Attributes, x: Array) -> tuple[Array]:
    size = attributes["size"]
    squares = np.zeros_like(x)
    for c in range(x.shape[1]):
        window = slice(max(c - (size - 1) // 2, 0), c + size // 2 + 1)
        squares[:, c] = (x[:, window] ** 2).sum(axis=1)
    scale = x.dtype.type(attributes.get("alpha", 1e-4) / size)
    base = x.dtype.type(attributes.get("bias", 1.0)) + scale * squares
    return (x / base ** x.dtype.type(attributes.get("beta", 0.75)),)


def _global_lp_pool(attributes: Attributes, x: Array) -> tuple[Array]:
    p = attributes.get("p", 2)
    axes = tuple(range(2, x.ndim))
    return (((abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p)).astype(x.dtype),)


def _pad(
    attributes: Attributes, x: Array, pads: Value = None, value: Value = None, axes: Value = None
) -> tuple[Array]:
    """Pad, where negative pads cut."""
    numbers = list(attributes["pads"] if pads is None else np.asarray(pads).tolist())
    mode = attributes.get("mode", b"constant").decode()
    fill = attributes.get("value", 0.0) if value is None or value.size == 0 else value.item()
    places = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
    if len(numbers) != 2 * len(places):
        raise ValueError(f"pads: expected {2 * len(places)} numbers, got {len(numbers)}")
    widths = [(0, 0)] * x.ndim
    cuts = [slice(None)] * x.ndim
    for k, axis in enumerate(places):
        begin, end = int(numbers[k]), int(numbers[k + len(places)])
        widths[axis] = max(begin, 0), max(end, 0)
        cuts[axis] = slice(max(-begin, 0), x.shape[axis] - max(-end, 0))
    a = x[tuple(cuts)]
    if mode == "constant":
        return (np.pad(a, widths, constant_values=fill).astype(x.dtype),)
    numpy_modes: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    return (np.pad(a, widths, mode=numpy_modes[mode]),)


def _enlarged(attributes: Attributes, x: Array, scales: Value = None) -> tuple[Array]:
    """Upsample, and Resize before version 11: corners are not aligned, nearest rounds towards 0."""
    factors = [float(s) for s in (attributes["scales"] if scales is None else scales)]
    linear = attributes.get("mode", b"nearest") != b"nearest"
    for axis, factor in enumerate(factors):
        size = x.shape[axis]
        at = np.arange(int(np.floor(size * factor))) / factor
        below = np.clip((np.floor if linear or factor >= 1 else np.ceil)(at), 0, size - 1)
        first = x.take(below.astype(np.int64), axis)
        if linear and factor != 1:
            second = x.take(np.minimum(below + 1, size - 1).astype(np.int64), axis)
            part = (np.minimum(at, size - 1) - below).astype(x.dtype)
            first = first + (second - first) * part.reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = first
    return (x,)


def _max_pool(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    """MaxPool, whose indices count the elements of x without the padding."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    windows = windows_of(attributes, attributes["kernel_shape"], x)
    flat = windows.over(x, lowest, lowest)
    best = flat.argmax(axis=-1)
    index = np.zeros(best.shape, np.int64)
    inside = np.unravel_index(best, windows.kernel)
    n, unit = len(windows.kernel), 1
    for k in range(n) if attributes.get("storage_order", 0) else reversed(range(n)):
        start = np.arange(windows.counts[k]) * windows.strides[k] - windows.pads[k][0]
        place = start.reshape(-1, *[1] * (n - 1 - k)) + inside[k] * windows.dilations[k]
        index += unit * place
        unit *= x.shape[k + 2]
    rows = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * n)
    return flat.max(axis=-1), index + unit * rows


def _average_pool(attributes: Attributes, x: Array) -> tuple[Array]:
    windows = windows_of(attributes, attributes["kernel_shape"], x)
    counted = int(bool(attributes.get("count_include_pad", 0)))
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    counts = windows.over(ones, counted, 0).sum(axis=-1)
    return (windows.over(x, 0, 0).sum(axis=-1) / counts,)


def _lp_pool(attributes: Attributes, x: Array) -> tuple[Array]:
    p = attributes.get("p", 2)
    powers = windows_of(attributes, attributes["kernel_shape"], x).over(abs(x) ** p, 0, 0)
    return ((powers.sum(axis=-1) ** (1 / p)).astype(x.dtype),)


def _transposed(attributes: Attributes, x: Array, w: Array, b: Value = None) -> tuple[Array]:
    """ConvTranspose: each input adds its multiple of the kernel to the output."""
    n = x.ndim - 2
    groups = attributes.get("group", 1)
    strides = attributes.get("strides") or [1] * n
    dilations = attributes.get("dilations") or [1] * n
    extra = attributes.get("output_padding") or [0] * n
    given = attributes.get("pads") or [0] * (2 * n)
    auto = attributes.get("auto_pad", b"NOTSET")
    shape = attributes.get("output_shape")
    kernel = w.shape[2:]
    if w.ndim != x.ndim or x.shape[1] != w.shape[0] or x.shape[1] % groups:
        raise ValueError(f"W {w.shape} does not fit X {x.shape} in {groups} groups")
    # The size of all that the inputs reach, before pads are cut off.
    full = [
        (size - 1) * s + (k - 1) * d + 1 + e
        for size, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)
    ]
    cuts = []
    for k in range(n):
        begin, end = (given[k], given[n + k]) if auto == b"NOTSET" else (0, 0)
        wanted = None
        if shape:
            wanted = shape[-n:][k]
        elif auto in (b"SAME_UPPER", b"SAME_LOWER"):
            wanted = x.shape[k + 2] * strides[k]
        if wanted is not None:
            total = full[k] - wanted
            begin = total // 2 if auto == b"SAME_UPPER" else total - total // 2
            end = total - begin
        if begin < 0 or end < 0 or begin + end >= full[k]:
            raise ValueError(f"pads {(begin, end)} do not fit an output of {full[k]}")
        cuts.append(slice(begin, full[k] - end))
    y = np.zeros((len(x), groups, w.shape[1], *full), x.dtype)
    parts = x.reshape(len(x), groups, -1, *x.shape[2:])
    weights = w.reshape(groups, -1, *w.shape[1:])
    for at in np.ndindex(*kernel):
        target = tuple(
            slice(a * d, a * d + (size - 1) * s + 1, s)
            for a, d, s, size in zip(at, dilations, strides, x.shape[2:], strict=True)
        )
        factors = weights[spatial(slice(None), *at)]
        y[spatial(slice(None), *target)] += np.einsum("ngi...,gio->ngo...", parts, factors)
    y = y.reshape(len(x), -1, *full)[spatial(*cuts)]
    return (y if b is None else y + b.reshape(-1, *[1] * n),)


ALWAYS = 1 << 30
# Operator: the first version that does not need it, and the function that computes it.
OWN: dict[str, tuple[int, Function]] = {
    "AveragePool": (ALWAYS, _average_pool),
    "ConvTranspose": (ALWAYS, _transposed),
    "GlobalLpPool": (ALWAYS, _global_lp_pool),
    "Hardmax": (13, _hardmax),
    "LRN": (ALWAYS, _local_response),
    "LogSoftmax": (13, _log_softmax),
    "LpPool": (ALWAYS, _lp_pool),
    "MaxPool": (ALWAYS, _max_pool),
    "Pad": (ALWAYS, _pad),
    "Resize": (11, _enlarged),
    "Softmax": (13, _softmax),
    "Upsample": (ALWAYS, _enlarged),
}
