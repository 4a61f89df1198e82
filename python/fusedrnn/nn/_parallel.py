"""Training by several processes, each with samples of its own, through any sum over processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import arguments as _check
from ._batches import Weight
from ._objective import Means
from ._stops import Stops

__all__ = ["AllReduce", "Processes"]

Array = NDArray[Any]
# Takes an array, which it may change, and returns its sum over all processes; or it leaves the sum
# in the array and returns None.
AllReduce: TypeAlias = Callable[[Array], Any]

OTHER = "another process"
HALF = 2**16


class Processes:
    """The processes that train one model together; without a function it is one process alone.

    All processes must take part in every sum, so whatever decides what comes next is summed too:
    whether the loss is finite, what early stopping watches, and whether a signal came.
    """

    def __init__(self, all_reduce: object) -> None:
        if all_reduce is not None and not callable(all_reduce):
            raise TypeError(
                "all_reduce: expected a function that returns the sum of an array over all "
                f"processes, got {_check.describe(all_reduce)}"
            )
        self._reduce: AllReduce | None = all_reduce
        self._stop = False

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self._reduce is None

    def stopped(self, stops: Stops) -> str | None:
        """Return what ends the run: a signal that all processes know of."""
        if self.alone:
            return stops.name
        return (stops.name or OTHER) if self._stop else None

    def agree(self, numbers: Mapping[str, int]) -> None:
        """Refuse whole numbers that are not the same in all processes."""
        if self.alone:
            return
        parts = {
            name: [float(part) for part in (n % HALF, n // HALF % HALF)]
            for name, n in numbers.items()
        }
        own = np.array([part for both in parts.values() for part in both])
        # All numbers are equal if and only if count * sum(n^2) = sum(n)^2, in every process.
        found = self._summed(np.concatenate([[1.0], own, own**2]))
        count, first, second = found[0], found[1 : 1 + len(own)], found[1 + len(own) :]
        differ = count * second != first**2
        for k, name in enumerate(numbers):
            if differ[2 * k : 2 * k + 2].any():
                raise ValueError(f"all_reduce: the processes differ in {name}")

    def same_start(self, model: Any, epochs: int, more: int, held_out: bool) -> None:
        """Refuse processes that could not train together."""
        if self.alone:
            return
        self._stop, digest = False, 0
        for name, a in model.params.items():
            digest = zlib.crc32(a.tobytes(), zlib.crc32(name.encode(), digest))
        self.agree(
            {
                "their parameters; give the layers seeds, or load one file": digest,
                "the epochs that they have done": epochs,
                "epochs": more,
                "whether they have validation data": int(held_out),
            }
        )

    def shared(
        self, values: dict[str, float], weight: Weight, counts: Array, stops: Stops
    ) -> tuple[dict[str, float], Weight, Array]:
        """Return the means of a batch over all processes, the whole weight, and all counts."""
        if self.alone:
            return values, weight, counts
        own = [v * weight.of(name) if weight.of(name) else 0.0 for name, v in values.items()]
        head = np.array([*weight, stops.name is not None, *own], np.float64)
        found = self._summed(np.concatenate([head, counts.reshape(-1)]))
        found, whole_counts = found[: len(head)], found[len(head) :].reshape(counts.shape)
        whole, self._stop = Weight(float(found[0]), float(found[1])), bool(found[2] > 0)
        sums = dict(zip(values, found[3:].tolist(), strict=True))
        means = {name: total / (whole.of(name) or 1.0) for name, total in sums.items()}
        return means, whole, whole_counts

    def joined(self, means: Means, names: list[str]) -> Means:
        """Return means over the batches of all processes."""
        if self.alone:
            return means
        own = [*means.weight, *(means.sums.get(name, 0.0) for name in names)]
        found = self._summed(np.array([*own, *means.counts.reshape(-1)], np.float64))
        sums, counts = found[2 : len(own)].tolist(), found[len(own) :].reshape(means.counts.shape)
        weight = Weight(float(found[0]), float(found[1]))
        return Means(dict(zip(names, sums, strict=True)), weight, counts)

    def gradients(
        self, gradients: dict[str, Array], weight: Weight, whole: Weight
    ) -> dict[str, Array]:
        """Return the gradients of the mean over the batches of all processes."""
        if self.alone:
            return gradients
        share = weight.loss / whole.loss if whole.loss else 0.0
        flat = np.concatenate([g.reshape(-1) for g in gradients.values()])
        found = self._summed(flat * flat.dtype.type(share))
        ends = np.cumsum([g.size for g in gradients.values()])[:-1]
        parts = np.split(found, ends)
        return {
            name: part.reshape(g.shape)
            for (name, g), part in zip(gradients.items(), parts, strict=True)
        }

    def _summed(self, a: Array) -> Array:
        assert self._reduce is not None
        returned = self._reduce(a)
        found = a if returned is None else np.asarray(returned)
        if found.shape != a.shape or found.dtype != a.dtype:
            raise TypeError(
                f"all_reduce: expected the sum of {_check.describe(a)} over all processes, got "
                f"{_check.describe(returned)}"
            )
        return found
