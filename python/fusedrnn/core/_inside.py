"""What a saved forward call holds of cell states and gates, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._backends import choice
from .._backends.reference.walks import CELLS
from .._backends.types import Inputs
from .._cells import Array
from . import _checks
from ._packed import Packed
from ._plan import Plan


def _executed(plan: Plan) -> Array | None:
    """Which steps were executed, (T, B) bool; None: all."""
    if plan.lengths is None:
        return None
    if plan.times is None:
        return np.asarray(np.arange(plan.steps)[:, None] < plan.lengths)
    found = np.zeros((plan.batch, plan.steps), bool)
    walked = np.arange(plan.steps) < plan.lengths[:, None]
    rows = np.broadcast_to(np.arange(plan.batch)[:, None], walked.shape)
    found[rows[walked], plan.times[0][walked]] = True
    executed: Array = found.T
    return executed


def _cleared(a: Array, plan: Plan) -> Array:
    """A contiguous copy (D, T, B, ...), 0 at steps that were not executed."""
    copy = np.array(a, order="C", copy=True)
    executed = _executed(plan)
    if executed is not None:
        copy[:, ~executed] = 0
    return copy


def _slots(
    packed: Packed, plan: Plan, saved: Array, keep: object = None, zoneout: object = None
) -> tuple[Array, Array | None]:
    _checks.same_generation(plan, packed.generation)
    run = choice.current()
    kept = _checks.saved_array(saved, packed, run.saved_shape(packed, plan.steps, plan.batch))
    sizes = np.broadcast_to(np.int64(0), (plan.steps, plan.batch))  # gives T and B; not read
    inputs = _checks.rest_of_inputs(
        packed, Inputs(None, sizes), plan, None, None, None, keep, zoneout, False
    )
    return run.slots(packed, inputs, kept)


def cells_of(
    packed: Packed,
    plan: Plan,
    saved: Array,
    *,
    keep: Sequence[Array] | None = None,
    zoneout: tuple[float, float] | None = None,
) -> Array | None:
    """Return every cell state of a saved call, after zoneout.

    Parameters
    ----------
    packed : Packed
        The weights of the forward call.
    plan, saved
        What the forward call returned.
    keep, zoneout
        What the forward call was given.

    Returns
    -------
    ndarray, shape (D, T, B, H), or None
        A new array, 0 at steps that were not executed; None for a cell without such a state.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.
    RuntimeError
        The weights are not those of the forward call.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> weights = {"w_ih": np.ones((16, 3)), "w_hh": np.ones((16, 4))}
    >>> packed = core.pack("lstm", weights)
    >>> y, (h, c), saved, plan = core.forward(packed, np.ones((5, 2, 3)), saved=True)
    >>> cells = core.cells_of(packed, plan, saved)  # (D, T, B, H)
    >>> cells.shape, np.array_equal(cells[:, -1], c)
    ((1, 5, 2, 4), True)
    """
    found = _slots(packed, plan, saved, keep, zoneout)[1]
    return None if found is None else _cleared(found, plan)


def gates_of(packed: Packed, plan: Plan, saved: Array) -> Array:
    """Return every gate of a saved call, after its activation.

    Parameters
    ----------
    packed : Packed
        The weights of the forward call.
    plan, saved
        What the forward call returned.

    Returns
    -------
    ndarray, shape (D, T, B, n, H)
        A new array, gates in the order of the weights' rows; 0 at steps that were not executed.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.
    RuntimeError
        The weights are not those of the forward call.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("lstm", {"w_ih": np.zeros((16, 3)), "w_hh": np.zeros((16, 4))})
    >>> y, states, saved, plan = core.forward(packed, np.ones((5, 2, 3)), saved=True)
    >>> gates = core.gates_of(packed, plan, saved)  # (D, T, B, n, H)
    >>> gates.shape, gates[0, 0, 0, :, 0]  # i f g o
    ((1, 5, 2, 4, 4), array([0.5, 0.5, 0. , 0.5]))
    """
    spec, cell = packed.spec, CELLS[packed.cell]
    weights = [form.weights() for form in packed.forms(choice.reference())]
    slots = _slots(packed, plan, saved)[0]
    n, steps, batch, count, hidden = slots.shape
    rows = slots.reshape(n, steps * batch, count, hidden).swapaxes(1, 2)
    with np.errstate(all="ignore"):  # `saved` is undefined at steps that were not executed
        activated = np.stack([cell.gates(rows[d], w) for d, w in enumerate(weights)])
    activated = activated.reshape(n, activated.shape[1], steps, batch, hidden)
    at = {spec.block(slot): slot for slot in range(spec.x_gates)}
    ordered = activated[:, [at[block] for block in range(spec.x_gates)]]
    return _cleared(np.moveaxis(ordered, 1, 3), plan)
