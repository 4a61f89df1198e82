"""Windows over the spatial axes of an array, without a copy, for pools and convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ._layers import Array


class Windows(NamedTuple):
    """The positions of windows in x, as one number for each spatial axis."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    counts: list[int]
    pads: list[tuple[int, int]]
    excess: list[int]  # how far the last window of ceil_mode reaches beyond the padding

    def over(self, x: Array, fill: Any, excess: Any) -> Array:
        """Return the windows (N, C, windows ..., elements); around x are `fill` and `excess`."""
        view = self.view(x, fill, excess)
        return np.reshape(view, (*view.shape[: len(self.kernel) + 2], -1))

    def view(self, x: Array, fill: Any, excess: Any) -> Array:
        """Return the windows as `over` does, with an axis for each axis of a window."""
        padded = x
        if any(map(any, self.pads)) or any(self.excess):
            sides = list(zip(x.shape[2:], self.pads, self.excess, strict=True))
            shape = [size + sum(pad) + e for size, pad, e in sides]
            padded = np.full((*x.shape[:2], *shape), excess, x.dtype)
            if excess != fill:
                padded[spatial(*(slice(size + sum(pad)) for size, pad, _ in sides))] = fill
            padded[spatial(*(slice(pad[0], pad[0] + size) for size, pad, _ in sides))] = x
        # `windows_of` has made sure that the last window ends inside `padded`.
        units = padded.strides[2:]
        steps = [unit * s for unit, s in zip(units, self.strides, strict=True)]
        inner = [unit * d for unit, d in zip(units, self.dilations, strict=True)]
        sizes = (*x.shape[:2], *self.counts, *self.kernel)
        strides = (*padded.strides[:2], *steps, *inner)
        return as_strided(padded, sizes, strides, writeable=False)


def spatial(*index: Any) -> tuple[Any, ...]:
    """Return an index of the spatial axes, with all of the two axes before them."""
    return (slice(None), slice(None), *index)


def windows_of(attributes: Mapping[str, Any], kernel: Sequence[int], x: Array) -> Windows:
    """Return the windows of a pool or a convolution with these attributes, for an x (N, C, ...)."""
    n = len(kernel)
    if x.ndim != n + 2:
        raise ValueError(f"expected {n + 2} axes, got {x.ndim}")
    strides = attributes.get("strides") or [1] * n
    dilations = attributes.get("dilations") or [1] * n
    given = attributes.get("pads") or [0] * (2 * n)
    for name, numbers in (("strides", strides), ("dilations", dilations)):
        if len(numbers) != n or min(numbers) < 1:
            raise ValueError(f"{name}: expected {n} numbers, at least 1 each, got {numbers}")
    if len(given) != 2 * n or min(given) < 0:
        raise ValueError(f"pads: expected {2 * n} numbers, at least 0 each, got {given}")
    auto = attributes.get("auto_pad", "NOTSET")
    if isinstance(auto, bytes):
        auto = auto.decode()
    rounds = -1 if attributes.get("ceil_mode", 0) else 1
    pads, counts, excess = [], [], []
    for k, size in enumerate(x.shape[2:]):
        stride, reach = strides[k], (kernel[k] - 1) * dilations[k] + 1
        begin, end = (given[k], given[n + k]) if auto == "NOTSET" else (0, 0)
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end = total - begin
        count = rounds * ((rounds * (size + begin + end - reach)) // stride) + 1
        if rounds < 0 and (count - 1) * stride >= size + begin:
            count -= 1  # a window must begin inside x or the padding before it
        if count < 1 or reach < 1:
            raise ValueError(f"no window of {reach} fits into {size}")
        pads.append((begin, end))
        counts.append(count)
        excess.append(max((count - 1) * stride + reach - size - begin - end, 0))
    return Windows(list(kernel), list(strides), list(dilations), counts, pads, excess)
