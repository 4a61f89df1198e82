"""Cell states and gate activations of a saved call, and their gradients as backends take them."""

from __future__ import annotations

import numpy as np

from .._backends.choice import by_name, reference
from .._backends.reference.call import Weights
from .._backends.reference.walks import CELLS
from .._cells import Array
from ..core._packed import Packed
from .outside import Padding
from .stack import Kept


def _joined(a: Array, valid: Array | None) -> Array:
    """Return (D, T, B, H) as a new array (T, B, D*H), 0 at steps that were not executed."""
    joined = np.concatenate(list(a), axis=2)
    return joined if valid is None else np.where(valid[..., None], joined, joined.dtype.type(0))


def cells(kept: Kept, padding: Padding) -> Array | None:
    """Return every c, (T, B, D*H); None for a cell without one."""
    found = by_name(kept.backend).slots(kept.packed, kept.inputs, kept.saved)[1]
    return None if found is None else _joined(found, padding.valid(found.shape[1]))


def gates(kept: Kept, padding: Padding) -> dict[str, Array]:
    """Return every activated gate by name, (T, B, D*H), in the order of the weights' rows."""
    packed = kept.packed
    spec, cell = packed.spec, CELLS[packed.cell]
    weights = _read_by_gates(packed)
    slots = by_name(kept.backend).slots(packed, kept.inputs, kept.saved)[0]
    with np.errstate(over="ignore", invalid="ignore"):  # padding holds undefined values
        n, steps, batch, slot_count, hidden = slots.shape
        rows = slots.reshape(n, steps * batch, slot_count, hidden).swapaxes(1, 2)
        activated = np.stack([cell.gates(rows[d], w) for d, w in enumerate(weights)])
        activated = activated.reshape(n, activated.shape[1], steps, batch, hidden)
    valid = padding.valid(steps)
    at = {spec.block(slot): slot for slot in range(spec.x_gates)}
    return {
        name: _joined(activated[:, at[block]], valid) for block, name in enumerate(spec.gate_names)
    }


def _read_by_gates(packed: Packed) -> list[Weights]:
    """Return what the equations of gates read besides slots: parameters, if normalised."""
    if packed.spec.norm:
        return [form.weights() for form in packed.forms(reference())]
    none = np.empty((0, 0), packed.dtype)
    return [Weights(packed.spec, none, options=packed.options)] * packed.directions


def split(a: Array, directions: int) -> Array:
    """Return (T, B, D*H) as (D, T, B, H), as the backends take it."""
    apart = a.reshape(*a.shape[:2], directions, a.shape[2] // directions)
    return np.ascontiguousarray(np.moveaxis(apart, 2, 0))


def stacked(parts: list[Array], directions: int) -> Array:
    """Return gradients of gates, each (T, B, D*H), as (D, T, B, n, H)."""
    return np.ascontiguousarray(np.stack([split(a, directions) for a in parts], axis=3))
