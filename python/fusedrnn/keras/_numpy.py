"""The walk on Keras's NumPy backend, which has no gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import Call, Packs, run


def fits(tensors: list[Any], mask: Any) -> bool:
    """Whether the kernels can read these arrays."""
    first = tensors[0]
    return (
        all(isinstance(t, np.ndarray) and t.dtype == first.dtype for t in tensors)
        and 0 not in first.shape
        and (mask is None or mask.ndim == 2)
    )


def walk(
    packs: Packs, call: Call, x: Any, states: list[Any], weights: list[Any], mask: Any
) -> tuple[Any, list[Any]]:
    """Return the outputs (B, T, H) and the last states (B, H)."""
    outputs, last, _ = run(packs, call, x, states, weights, mask, saved=False)
    return outputs, last
