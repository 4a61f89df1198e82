"""Which steps each row takes: lengths, masks and resets as one plan, for both backends.

A direction walks its steps s = 0, 1, ... Row b takes its own valid times: in rising order, or in
falling order in the reverse direction (docs/conventions.md, "Sequences of several lengths, and
resets").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._cells import Array


class Plan(NamedTuple):
    """How a call walks over time: the lengths, masks and resets that its backward call needs.

    A plan is plain data: it can be kept in an autograd context, as a residual, or in a file.
    `generation` is that of the packed weights of the forward call, and a backward call with other
    weights is refused. A program that restores a plan in another process must make sure that the
    weights are the same; it then sets ``plan._replace(generation=packed.generation)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("rnn_tanh", {"w_ih": np.eye(2), "w_hh": np.eye(2)})
    >>> plan = core.forward(packed, np.ones((3, 2, 2)), lengths=np.array([3, 1])).plan
    >>> plan.steps, plan.batch, plan.lengths
    (3, 2, array([3, 1]))
    >>> plan.generation == packed.generation
    True
    """

    steps: int
    batch: int
    lengths: Array | None = None  # (B,) int64: steps that each row walks; None: all of them
    times: Array | None = None  # (D, B, T) int64: time of each walk step; None: in order
    # (D, T + 1, B) uint8: 1 if `initial` replaces the state that enters this walk step; after a
    # row's last step, the state that leaves
    cut: Array | None = None
    generation: int | tuple[int, ...] = 0  # of each member, if there are several


def plan(
    steps: int,
    batch: int,
    directions: int,
    lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
) -> Plan:
    """Plan a call of (steps, batch): `lengths` (B,) or `mask` (T, B) bool, `reset` (T, B) bool."""
    times = None
    if mask is not None:
        lengths = mask.sum(axis=0, dtype=np.int64)
        times = _times(np.argsort(~mask, axis=0, kind="stable").T, lengths, directions)
    if reset is None:
        return Plan(steps, batch, lengths, times)
    counts = np.full(batch, steps) if lengths is None else lengths
    valid = times
    if valid is None:
        rising = np.broadcast_to(np.arange(steps), (batch, steps))
        valid = _times(rising, counts, directions)
    cut = np.zeros((directions, steps + 1, batch), np.uint8)
    if steps == 0:
        return Plan(steps, batch, lengths, times, cut)
    before = np.concatenate((np.zeros((1, batch), np.int64), np.cumsum(reset, axis=0)))
    for d in range(directions):
        cut[d] = _cuts(valid[d].T, counts, before, d == 1, mask is not None)
    return Plan(steps, batch, lengths, times, cut)


def _times(rising: Array, counts: Array, directions: int) -> Array:
    """Valid times of each row (D, B, T); the reverse direction has them in falling order."""
    batch, steps = rising.shape
    times = np.zeros((directions, batch, steps), np.int64)
    times[0] = rising
    if directions > 1:
        back = counts[:, None] - 1 - np.arange(steps)
        times[1] = np.take_along_axis(rising, np.maximum(back, 0), axis=1)
    return times


def _cuts(times: Array, counts: Array, before: Array, reverse: bool, masked: bool) -> Array:
    """Whether a reset lies on the way to each walk step, and on the way out: (T + 1, B) bool.

    `before[t]` is the number of resets at times < t. The links from time a to time b > a are those
    at a + 1, ..., b. A masked row also crosses the links of the masked times before, between and
    after its valid ones.
    """
    steps, batch = times.shape
    rows = np.arange(batch)
    walked = np.arange(steps + 1)[:, None] <= counts  # <=: the way out counts too
    start = np.where(counts > 0, times[0], 0)
    stop = times[np.maximum(counts - 1, 0), rows]
    here, came = np.concatenate((times, times[-1:])), np.concatenate((times[:1], times))
    if reverse:
        came[0] = steps - 1 if masked else start
        here[counts, rows] = 0 if masked else stop
        came[counts, rows] = np.where(counts > 0, stop, steps - 1 if masked else 0)
        low, high = here, came
    else:
        came[0] = -1
        here[counts, rows] = steps - 1 if masked else np.where(counts > 0, stop, -1)
        came[counts, rows] = np.where(counts > 0, stop, -1)
        low, high = came, here
    crossed = np.take_along_axis(before, high + 1, axis=0) > np.take_along_axis(
        before, low + 1, axis=0
    )
    return crossed & walked
