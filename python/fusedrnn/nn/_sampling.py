"""The choice of one of several classes by their logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["chosen"]

Array = NDArray[Any]


def chosen(logits: Array, temperature: float, rng: np.random.Generator | None) -> int:
    """Return a class, drawn by the softmax of its logits (V,) over the temperature.

    At temperature 0, for which no generator is needed, it is the most likely one, the first of
    equals. Otherwise one number is drawn.

    Raises
    ------
    FloatingPointError
        A logit is not finite.
    """
    odds = logits.astype(np.float64)
    if not np.isfinite(odds).all():
        raise FloatingPointError(
            "the model gives odds that are not finite numbers; its training has diverged"
        )
    if temperature == 0.0:
        return int(np.argmax(odds))
    assert rng is not None
    with np.errstate(over="ignore", under="ignore"):  # for temperatures close to 0
        p = np.exp((odds - odds.max()) / temperature)
    # Invert the distribution function at one uniform number.
    drawn = np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right")
    return min(int(drawn), len(p) - 1)
