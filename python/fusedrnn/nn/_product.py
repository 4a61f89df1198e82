"""Matrix products whose bits depend neither on the number of threads nor on other rows.

NumPy's ``@`` computes with BLAS, which divides its work in another way for each number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import core

__all__ = ["of_weights", "summed", "times"]

Array = NDArray[Any]


def times(a: Array, w: Array | core.Packed, threads: int | None) -> Array:
    """Return ``a @ w.T`` for a (N, K) and w (M, K), computed by the kernels."""
    if not isinstance(w, core.Packed):
        if 0 in (*a.shape, len(w)):
            return np.zeros((len(a), len(w)), a.dtype)
        w = core.pack("dense", {"w_ih": np.ascontiguousarray(w)}, copy=False)
    product: Array = core.forward(w, np.ascontiguousarray(a)[None], threads=threads).y[0]
    return product


def summed(a: Array, b: Array, threads: int | None) -> Array:
    """Return the sum over r of ``a[r, s]`` times ``b[r, s]`` for each sequence s, (B, M, K).

    `a` is (R, B, M) and `b` (R, B, K), of any strides but with contiguous last axes. This is the
    gradient of a dense layer's weights, for each sequence by itself, in one call for all of them;
    as many calls of `times`, which packs, take 1.6 to 6 times as long at the sizes of a decoder.
    The bits of a sequence do not depend on the others, on the other columns, or on rows of zeros
    after its own. That is why the rows are reversed: the kernels count the rows of their partial
    sums from the last one.
    """
    # Each sequence is a group of its own.
    return _of_weights(a[::-1], b[::-1], 1, threads)


def of_weights(dy: Array, x: Array, threads: int | None) -> Array:
    """Return ``dy.T @ x`` for dy (N, M) and x (N, K), the gradient of a dense layer's weights."""
    return _of_weights(dy[None], x[None], None, threads)


def _of_weights(dy: Array, x: Array, group: int | None, threads: int | None) -> Array:
    steps, batch, m = dy.shape
    shape = m, x.shape[2]
    if 0 in (steps, batch, *shape):
        return np.zeros(shape if group is None else (batch, *shape), dy.dtype)
    dense = core.pack("dense", {"w_ih": np.zeros(shape, dy.dtype)}, copy=False)
    found = core.backward(
        dense,
        core.plan_of(dense, steps, batch),
        x,
        y=dy,
        saved=np.empty(core.saved_shape(dense, steps, batch), dy.dtype),
        dy=dy,
        want=("w_ih",),
        group=group,
        threads=threads,
    )
    return found.dweights[0]["w_ih"]
