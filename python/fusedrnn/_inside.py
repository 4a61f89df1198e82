"""Cell states and gate activations of a saved call, and the way of their gradients back in."""

from __future__ import annotations

import numpy as np

from ._backend import Saved, by_name
from ._outside import valid_steps
from ._reference import CELLS
from ._spec import Array


def _joined(a: Array, valid: Array | None) -> Array:
    """(D, T, B, H) as (T, B, D*H), a new array, 0 where no step was executed."""
    joined = np.concatenate(list(a), axis=2)
    return joined if valid is None else np.where(valid[..., None], joined, joined.dtype.type(0))


def cells(saved: Saved) -> Array | None:
    """Every c, (T, B, D*H); None for a cell without one."""
    found = by_name(saved.backend).slots(saved)[1]
    return None if found is None else _joined(found, valid_steps(saved.inputs, found.shape[1]))


def gates(saved: Saved) -> dict[str, Array]:
    """Every activated gate by its name, (T, B, D*H), in the order of the weights' rows."""
    weights = [w.held() for w in saved.weights]
    spec, cell = weights[0].spec, CELLS[weights[0].spec.name]
    slots = by_name(saved.backend).slots(saved)[0]
    with np.errstate(over="ignore", invalid="ignore"):  # what padding holds
        n, steps, batch, slot_count, hidden = slots.shape
        rows = slots.reshape(n, steps * batch, slot_count, hidden).swapaxes(1, 2)
        activated = np.stack([cell.gates(rows[d], w) for d, w in enumerate(weights)])
        activated = activated.reshape(n, activated.shape[1], steps, batch, hidden)
    valid = valid_steps(saved.inputs, steps)
    at = {spec.block(slot): slot for slot in range(spec.x_gates)}
    return {
        name: _joined(activated[:, at[block]], valid) for block, name in enumerate(spec.gate_names)
    }


def split(a: Array, directions: int) -> Array:
    """(T, B, D*H) as the backends take it, (D, T, B, H)."""
    apart = a.reshape(*a.shape[:2], directions, a.shape[2] // directions)
    return np.ascontiguousarray(np.moveaxis(apart, 2, 0))


def stacked(parts: list[Array], directions: int) -> Array:
    """Gradients of gates, each (T, B, D*H), as (D, T, B, n, H)."""
    return np.ascontiguousarray(np.stack([split(a, directions) for a in parts], axis=3))
