"""The plan of a walk against a direct walk: every row in every direction, time by time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusedrnn._cells import Array
from fusedrnn.core._plan import plan

Row = tuple[list[tuple[int, bool]], bool]  # (time, cut before it) of each step, cut after the last


def walked(steps: int, length: int | None, mask: Array | None, reset: Array, back: bool) -> Row:
    """Walk one row: its length ends it, masked times are skipped, a reset cuts its link."""
    end = steps if length is None else length
    taken: list[tuple[int, bool]] = []
    cut, before = False, None
    for t in reversed(range(end)) if back else range(end):
        if back:  # the link between t + 1 and t; nothing crosses it at the start
            cut |= before is not None and bool(reset[before])
        else:
            cut |= bool(reset[t])
        before = t
        if mask is None or mask[t]:
            taken.append((t, cut))
            cut = False
    return taken, cut


@st.composite
def calls(draw: st.DrawFn) -> tuple[int, int, int, Array | None, Array | None, Array]:
    steps, batch = draw(st.integers(0, 7), "T"), draw(st.integers(0, 3), "B")
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(("whole", "lengths", "mask")))
    lengths = rng.integers(0, steps + 1, batch) if kind == "lengths" else None
    mask = rng.random((steps, batch)) < 0.6 if kind == "mask" else None
    return (
        steps,
        batch,
        draw(st.integers(1, 2), "D"),
        lengths,
        mask,
        rng.random((steps, batch)) < 0.3,
    )


def rows(
    batch: int, directions: int, steps: int, lengths: Array | None, mask: Array | None, reset: Array
) -> Iterator[tuple[int, int, Row]]:
    for d in range(directions):
        for b in range(batch):
            length = None if lengths is None else int(lengths[b])
            of_row = None if mask is None else mask[:, b]
            yield d, b, walked(steps, length, of_row, reset[:, b], d == 1)


@given(calls())
def test_plan(given_: tuple[int, int, int, Array | None, Array | None, Array]) -> None:
    """[L1] [L6] The times and cuts of every step, and the cut before the final state."""
    steps, batch, directions, lengths, mask, reset = given_
    found = plan(steps, batch, directions, lengths, mask, reset)
    assert found.cut is not None
    for d, b, (taken, after) in rows(batch, directions, steps, lengths, mask, reset):
        if found.lengths is not None:
            assert found.lengths[b] == len(taken)
        for s, (t, cut) in enumerate(taken):
            if found.times is not None:
                assert found.times[d, b, s] == t
            assert bool(found.cut[d, s, b]) == cut
        assert bool(found.cut[d, len(taken), b]) == after
    plain = plan(steps, batch, directions, lengths, mask, None)
    assert plain.cut is None
    assert (plain.times is None) == (mask is None)
