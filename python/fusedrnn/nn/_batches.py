"""The samples that a model is trained on, and their division into batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options

__all__ = ["Data", "batches", "split"]

Array = NDArray[Any]

# Sequences of similar length come into one batch: so many batches are drawn together, and their
# sequences are sorted by length.
SORTED = 8


class Data(NamedTuple):
    """Samples along the first axis of each array."""

    x: Array
    y: Array | None
    lengths: Array | None

    @classmethod
    def read(
        cls, x: object, y: object, lengths: object, *, aligned: bool = False, where: str = ""
    ) -> Data:
        """Check arrays of samples.

        `aligned` says that there is a target for each step of x if there are lengths. `where`
        stands before the names in error texts.
        """
        a = _samples(x, f"{where}x")
        targets = None if y is None else _samples(y, f"{where}y")
        if targets is not None and len(targets) != len(a):
            raise ValueError(
                f"{where}y: expected {len(a)} samples, as {where}x has, got {len(targets)}"
            )
        if lengths is None:
            return cls(a, targets, None)
        if a.ndim < 2:
            raise ValueError(
                f"{where}lengths: expected None for x without steps, got shape {a.shape}"
            )
        rows = _check_options.Rows(a.shape[1], len(a), True, True)
        real = _check_options.lengths(lengths, rows, copy=True, name=f"{where}lengths")
        if aligned and targets is not None and targets.shape[1:2] != a.shape[1:2]:
            raise ValueError(
                f"{where}y: expected {a.shape[1]} steps, as {where}x has, got shape {targets.shape}"
            )
        return cls(a, targets, real)

    def __len__(self) -> int:
        return len(self.x)

    def taken(self, rows: Array | slice, cut: bool = False) -> Data:
        """Return some samples; `cut` says that the targets have the steps of x.

        Steps that are real in none of the sequences are left out.
        """
        if self.lengths is None:
            return Data(self.x[rows], None if self.y is None else self.y[rows], None)
        real = self.lengths[rows]
        steps = min(max(1, int(real.max(initial=0))), self.x.shape[1])
        y = self.y
        if y is not None:
            y = y[rows, :steps] if cut else y[rows]
        return Data(self.x[rows, :steps], y, real)


def _samples(value: object, name: str) -> Array:
    a = _check.read(value, name)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array of samples, got a masked array")
    if a.ndim == 0 or not len(a):
        raise ValueError(f"{name}: expected at least one sample, got shape {a.shape}")
    return a


def split(data: Data, share: float) -> tuple[Data, Data]:
    """Divide samples: the last ones, a share of all and at least one, are held out."""
    count = len(data)
    held = max(1, int(count * share))
    if held >= count:
        raise ValueError(f"validation_split: {share} of {count} samples leaves none to train on")

    def part(rows: slice) -> Data:
        return Data(*(None if a is None else a[rows] for a in data))  # type: ignore[arg-type]

    return part(slice(count - held)), part(slice(count - held, None))


def batches(data: Data, size: int, rng: np.random.Generator | None) -> list[Array]:
    """Return the places of the samples of each batch; without a generator in their order."""
    order = np.arange(len(data)) if rng is None else rng.permutation(len(data))
    similar = rng is not None and data.lengths is not None
    if similar:
        assert data.lengths is not None
        for start in range(0, len(order), SORTED * size):
            part = order[start : start + SORTED * size]
            part[:] = part[np.argsort(data.lengths[part], kind="stable")]
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    if similar:
        assert rng is not None
        cut = [cut[k] for k in rng.permutation(len(cut))]
    return cut
