"""The samples that a model is trained on, and their division into batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options

__all__ = ["Batch", "Data", "Piece", "Weight", "batches", "not_finite", "pieces", "split"]

Array = NDArray[Any]

# Sequences of similar length come into one batch: so many batches are drawn together, and their
# sequences are sorted by length.
SORTED = 8


class Piece(NamedTuple):
    """The places of the samples of a batch, and the steps of x that are read of them."""

    rows: Array | slice
    start: int = 0
    stop: int | None = None  # None: all that are real in one of the sequences


class Weight(NamedTuple):
    """The weight of a batch in the means over batches."""

    loss: float
    metrics: float

    def of(self, name: str) -> float:
        """Return the weight of a value by its name."""
        return self.loss if name == "loss" else self.metrics


class Batch(NamedTuple):
    """A call of a model on a piece of the samples, and what it is to give."""

    inputs: dict[str, Any]
    targets: Array
    lengths: Array | None  # of the targets, if there is one for each step
    counted: int  # the number of real steps, or of samples
    weights: Array | None  # of the samples in the loss

    @property
    def weight(self) -> Weight:
        """Its weight in the means over batches."""
        if self.weights is None:
            return Weight(self.counted, self.counted)
        steps = self.counted / len(self.weights) if self.lengths is None else self.lengths
        return Weight(float((self.weights * steps).sum()), self.counted)


class Data(NamedTuple):
    """Samples along the first axis of each array."""

    x: Array
    y: Array | None
    lengths: Array | None  # of x
    ends: Array | None = None  # the lengths of y, if it has other steps than x
    weights: Array | None = None  # of the samples in the loss

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

    def real(self) -> Array:
        """Return x with 0 in place of padding; x is ids, (N, T) or (N,)."""
        if self.lengths is None:
            return self.x
        return np.where(np.arange(self.x.shape[1]) < self.lengths[:, None], self.x, 0)

    def steps_of(self, rows: Array | slice) -> int:
        """Return the number of steps that are real in one of these sequences, at least 1."""
        steps: int = self.x.shape[1]
        if self.lengths is None:
            return steps
        return min(max(1, int(self.lengths[rows].max(initial=0))), steps)

    def taken(self, piece: Piece, cut: bool = False) -> Data:
        """Return some samples, or some steps of them; `cut`: the targets have the steps of x.

        Steps that are real in none of the sequences are left out.
        """
        rows, y, ends = piece.rows, self.y, None
        if y is not None and self.ends is not None:
            ends = self.ends[rows]
            y = y[:, : max(1, int(ends.max(initial=0)))]
        weights = None if self.weights is None else self.weights[rows]
        if piece.stop is None and self.lengths is None:
            return Data(self.x[rows], None if y is None else y[rows], None, ends, weights)
        stop = self.steps_of(rows) if piece.stop is None else piece.stop
        steps = slice(piece.start, stop)
        if y is not None:
            y = y[rows, steps] if cut else y[rows]
        real = None
        if self.lengths is not None:
            real = np.clip(self.lengths[rows] - piece.start, 0, stop - piece.start)
        return Data(self.x[rows, steps], y, real, ends, weights)

    def by_length(self, rows: Array) -> Array:
        """Return these places with sequences of similar length next to each other."""
        sizes = [of[rows] for of in (self.ends, self.lengths) if of is not None]
        return rows[np.lexsort(sizes)] if sizes else rows


def not_finite(batch: Batch) -> str:
    """Say which of x and y has a number that is not finite, and where; "" if none has.

    What is padding is not looked at, nor are targets of weight 0.
    """
    x, lengths = batch.inputs["x"], batch.inputs["lengths"]
    for name, a, real in (("x", x, lengths), ("y", batch.targets, batch.lengths)):
        if a.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(a)
        if real is not None:
            wrong[np.arange(a.shape[1]) >= real[:, None]] = False
        if name == "y" and batch.weights is not None:
            wrong[batch.weights == 0] = False
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0].tolist())
            return f"{name}: expected finite numbers, got {float(a[at])} at {at}"
    return ""


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
    similar = rng is not None and not (data.lengths is None and data.ends is None)
    if similar:
        for start in range(0, len(order), SORTED * size):
            part = order[start : start + SORTED * size]
            part[:] = data.by_length(part)
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    if similar:
        assert rng is not None
        cut = [cut[k] for k in rng.permutation(len(cut))]
    return cut


def pieces(data: Data, parts: list[Array], steps: int | None) -> list[Piece]:
    """Divide the sequences of each batch into pieces of so many steps; None: take them whole."""
    found = []
    for rows in parts:
        longest = 0 if steps is None else data.steps_of(rows)
        if steps is None or steps >= longest:
            found.append(Piece(rows))
            continue
        starts = range(0, longest, steps)
        found += [Piece(rows, start, min(start + steps, longest)) for start in starts]
    return found
