"""One layer and direction, converted between a system's arrays and blocks by the system's layout.

`read` and `write` know nothing of a particular system: all that differs is in `_formats.TABLE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._cells import Array, CellSpec
from .._checks import arguments as _check
from . import _text
from ._formats import B_HH, B_IH, PROJECTION, Entry, Layout, R, W, apart, letters, numbers

# (fusedrnn's array, gate) -> the gate's block of the array
Blocks = dict[tuple[str, str], Array]


def names(layout: Layout, sizes: Mapping[str, int] | None = None) -> str:
    """Return what a layout expects, for an error text."""
    parts = []
    for entry in layout:
        shape = entry.shape
        if all(PROJECTION not in other.kinds for other in layout):
            shape = tuple(sum_.replace("P", "H") for sum_ in shape)
        text = letters(shape) if sizes is None else str(numbers(shape, sizes))
        parts.append(f"{entry.name} {text}" + " (optional)" * bool(entry.optional))
    return _text.listed(parts)


def fits(layout: Layout, given: Mapping[str, Any]) -> bool:
    """Whether the names are those of the layout; optional entries must be complete or absent."""
    absent = [entry for entry in layout if entry.name not in given]
    some = {entry.optional for entry in layout if entry.name in given}
    return set(given) <= {entry.name for entry in layout} and all(
        entry.optional and entry.optional not in some for entry in absent
    )


def _sizes(layout: Layout, arrays: Mapping[str, Array]) -> dict[str, int] | None:
    """Return I, H and P, from the arrays of the first gate's W and of the projection."""
    entry = next(entry for entry in layout if W in entry.kinds)
    a = arrays[entry.name]
    if a.ndim != 2:
        return None
    rows, columns = a.shape[::-1] if entry.transposed else a.shape
    hidden = rows // len(entry.gates)
    inputs = columns - hidden * (R in entry.kinds)
    if hidden < 1 or rows % len(entry.gates) or inputs < 0:
        return None
    width = hidden
    for entry in layout:
        if PROJECTION in entry.kinds and entry.name in arrays:
            width = (*arrays[entry.name].shape, 0)[0]
            if not 0 < width < hidden:
                return None
    return {"I": inputs, "H": hidden, "P": width}


def read(what: str, layout: Layout, given: Mapping[str, Any]) -> Blocks:
    """Return the arrays of one layer and direction as blocks; names and shapes are checked."""
    if not fits(layout, given):
        _check.weights_differ(what, names(layout), _text.found(given))
    arrays = {name: _check.weights_array(what, name, value) for name, value in given.items()}
    sizes = _sizes(layout, arrays)
    if sizes is None:
        _check.weights_differ(what, f"{names(layout)} with 0 < P < H", _text.found(arrays))
    here = tuple(entry for entry in layout if entry.name in arrays)
    if any(arrays[entry.name].shape != numbers(entry.shape, sizes) for entry in here):
        text = f"{names(here)}, and so {names(here, sizes)}"
        _check.weights_differ(what, text, _text.found(arrays))
    blocks: Blocks = {}
    for entry in here:
        blocks |= _taken(entry, arrays[entry.name], sizes)
    if any(kind in (B_IH, B_HH) for kind, _ in blocks):
        for (kind, gate), block in list(blocks.items()):
            if kind == W:  # zeros for biases that the system does not have
                for bias in (B_IH, B_HH):
                    blocks.setdefault((bias, gate), np.zeros(len(block), block.dtype))
    return blocks


def _taken(entry: Entry, a: Array, sizes: Mapping[str, int]) -> Blocks:
    a = a.T if entry.transposed else a.reshape(-1) if entry.rows else a
    blocks: Blocks = {}
    at = 0
    for kind in entry.kinds:
        part = Entry("", (kind,), entry.gates)
        width = numbers(part.stacked, sizes)[-1]
        split = np.split(a[..., at : at + width], len(entry.gates))
        blocks |= {(kind, gate): block for gate, block in zip(entry.gates, split, strict=True)}
        at += width
    return blocks


def write(what: str, layout: Layout, blocks: Blocks, spec: CellSpec) -> dict[str, Array]:
    """Return blocks as the arrays of one layer and direction, each new and C-contiguous."""
    blocks = dict(blocks)
    held = {(kind, gate) for entry in layout for kind in entry.kinds for gate in entry.gates}
    if (B_IH, spec.gate_names[0]) in blocks:
        _add_biases(what, held, blocks, spec)
    elif not any(entry.optional == "bias" for entry in layout):
        for gate in spec.gate_names:
            zeros = np.zeros(len(blocks[W, gate]), blocks[W, gate].dtype)
            blocks |= {(kind, gate): zeros for kind in (B_IH, B_HH) if (kind, gate) in held}
    lost = {kind: block for (kind, gate), block in blocks.items() if (kind, gate) not in held}
    if lost:
        _check.weights_differ(what, f"nothing but what becomes {names(layout)}", _text.found(lost))
    arrays = {}
    for entry in layout:
        if (entry.kinds[0], entry.gates[0]) in blocks:
            kinds = [np.concatenate([blocks[k, g] for g in entry.gates]) for k in entry.kinds]
            a = np.concatenate(kinds, axis=-1)
            a = a.T if entry.transposed else a.reshape(entry.rows, -1) if entry.rows else a
            arrays[entry.name] = np.ascontiguousarray(a)
    return arrays


def _add_biases(what: str, held: set[tuple[str, str]], blocks: Blocks, spec: CellSpec) -> None:
    """Add both biases of a gate if the system has only one."""
    for gate in spec.gate_names:
        kept, gone = (B_IH, gate), (B_HH, gate)
        if kept in held and gone in held:
            continue
        if gone in held:
            kept, gone = gone, kept
        bias = blocks.pop(gone)
        if gate not in apart(spec):
            blocks[kept] = blocks[kept] + bias
        elif bias.any():
            expected = f"zeros in the rows of {gone[0]} for gate {gate}, which have no place there"
            _check.weights_differ(what, expected, f"numbers up to {np.abs(bias).max():g}")
