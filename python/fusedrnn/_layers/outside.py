"""y at steps that are not valid: padding, and masked steps that repeat the last output.

Arrays are time-major, (T, B, D*P): views of the caller's arrays if those are batch-first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._cells import Array
from .._checks.options import Outside


class Padding(NamedTuple):
    """Which steps of a call are real, as the caller gave it; at most one field is given."""

    lengths: Array | None = None  # (B,)
    mask: Array | None = None  # (T, B) bool

    def valid(self, steps: int) -> Array | None:
        """Return (T, B) bool, True at executed steps; None: all."""
        if self.mask is not None:
            return self.mask
        if self.lengths is None:
            return None
        return np.asarray(np.arange(steps)[:, None] < self.lengths)


def _sources(valid: Array, reverse: bool) -> Array:
    """Time of the valid step whose output each step shows, (T, B); -1 before the walk's first."""
    times = np.where(valid, np.arange(len(valid))[:, None], -1)
    if not reverse:
        return np.asarray(np.maximum.accumulate(times, axis=0))
    late = np.where(valid, times, len(valid))
    found = np.minimum.accumulate(late[::-1], axis=0)[::-1]
    return np.where(found == len(valid), -1, found)


def _halves(a: Array, directions: int) -> list[Array]:
    return np.split(a, directions, axis=2) if directions > 1 else [a]


def filled(y: Array, padding: Padding, directions: int, how: Outside) -> Array | None:
    """A copy of y with the other steps filled in; None if y is right as it is."""
    valid = padding.valid(len(y))
    if valid is None or valid.all():
        return None
    if padding.mask is None or not how.repeat:
        return None if how.value == 0 else np.where(valid[..., None], y, y.dtype.type(how.value))
    result = []
    for d, half in enumerate(_halves(y, directions)):
        source = _sources(valid, d == 1)
        shown = np.take_along_axis(half, np.maximum(source, 0)[..., None], axis=0)
        result.append(np.where(source[..., None] < 0, y.dtype.type(0), shown))
    return np.concatenate(result, axis=2)


def filled_back(dy: Array, padding: Padding, directions: int, how: Outside) -> Array:
    """The gradient of y from that of what `filled` returned; padded steps are not read."""
    valid = padding.valid(len(dy))
    if valid is None or padding.mask is None or not how.repeat or valid.all():
        return dy
    result = []
    for d, half in enumerate(_halves(dy, directions)):
        source = _sources(valid, d == 1)
        total = np.where(valid[..., None], half, half.dtype.type(0))
        t, b = np.nonzero(~valid & (source >= 0))
        np.add.at(total, (source[t, b], b), half[t, b])
        result.append(total)
    return np.concatenate(result, axis=2)
