"""Matrix products whose bits depend neither on the number of threads nor on other rows.

NumPy's ``@`` computes with BLAS, which divides its work in another way for each number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import core

__all__ = ["times"]

Array = NDArray[Any]


def times(a: Array, w: Array | core.Packed, threads: int | None) -> Array:
    """Return ``a @ w.T`` for a (N, K) and w (M, K), computed by the kernels."""
    if not isinstance(w, core.Packed):
        if 0 in (*a.shape, len(w)):
            return np.zeros((len(a), len(w)), a.dtype)
        w = core.pack("dense", {"w_ih": np.ascontiguousarray(w)}, copy=False)
    product: Array = core.forward(w, np.ascontiguousarray(a)[None], threads=threads).y[0]
    return product
