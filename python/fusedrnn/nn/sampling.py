"""The choice of classes by their logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from . import _checks, _rows

__all__ = ["sample"]

Array = NDArray[Any]


def sample(
    logits: ArrayLike,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: np.random.Generator | None = None,
) -> Array:
    """Choose a class for each row of logits, at random by the odds that they stand for.

    Class k has the probability ``exp(logits[k] / temperature) / sum_j exp(logits[j] /
    temperature)``, or 0 if it is not among the `top_k` largest.

    Parameters
    ----------
    logits : array_like, shape (..., V), float32 or float64
        Scores of V classes, V at least 1. A class of -inf is never chosen.
    temperature : float
        At least 0 and finite. Below 1 likely classes become likelier, above 1 all become more
        alike. At 0 the most likely class is chosen, the first of equals.
    top_k : int, optional
        Choose among so many of the most likely classes, at least 1; of equals the smaller ones.
        V or more leave all.
    rng : numpy.random.Generator, optional
        One number is drawn for each row, in their order; by default from a new generator. Nothing
        is drawn at temperature 0.

    Returns
    -------
    ndarray of int64, shape (...)
        In [0, V). One row of logits, (V,), gives an array without axes, which ``int`` reads. Rows
        (B, V) give ids (B,), as ``stream.step(tokens=...)`` takes them.

    Raises
    ------
    TypeError
        An argument is of another type.
    ValueError
        `logits` has another shape; `temperature` or `top_k` is out of range.
    FloatingPointError
        A logit is NaN or infinity, or all of a row are -inf, as a model gives them whose training
        diverged.

    Notes
    -----
    The draw inverts the distribution function at a uniform number, in float64. Source of `top_k`:
    Fan, Lewis and Dauphin, "Hierarchical neural story generation", ACL 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> logits, rng = np.log([0.5, 0.3, 0.2]), np.random.default_rng(0)
    >>> drawn = nn.sample(np.tile(logits, (1000, 1)), rng=rng)
    >>> np.bincount(drawn) / 1000
    array([0.473, 0.315, 0.212])
    >>> sharp = nn.sample(np.tile(logits, (1000, 1)), temperature=0.5, top_k=2, rng=rng)
    >>> np.bincount(sharp, minlength=3) / 1000  # 0.25 to 0.09
    array([0.746, 0.254, 0.   ])
    >>> int(nn.sample(logits, temperature=0))
    0
    """
    odds = _rows.prediction(logits, "logits").astype(np.float64)
    if odds.ndim == 0 or odds.shape[-1] == 0:
        raise ValueError(f"logits: expected shape (..., V) with V of at least 1, got {odds.shape}")
    heat = _checks.not_negative(temperature, "temperature")
    most = None if top_k is None else _check.integer(top_k, "top_k", 1)
    generator = _check_options.rng(rng, heat > 0)
    best = odds.max(axis=-1, keepdims=True)  # NaN if there is one
    if not np.isfinite(best).all():
        raise FloatingPointError(
            "logits: the model gives odds that are not finite numbers; its training has diverged"
        )
    if generator is None:
        return np.asarray(odds.argmax(axis=-1), np.int64)
    with np.errstate(over="ignore", under="ignore"):  # for temperatures close to 0
        p = np.exp((odds - best) / heat)
    if most is not None and most < odds.shape[-1]:
        p[~_largest(odds, most)] = 0
    # Invert the distribution function at one uniform number for each row. The number is at most
    # 1 - 2^-53, so its product with the whole sum is rounded to less than that sum.
    sums = np.cumsum(p, axis=-1)
    at = generator.random(odds.shape[:-1])[..., None] * sums[..., -1:]
    return np.asarray(np.count_nonzero(sums <= at, axis=-1), np.int64)


def _largest(a: Array, count: int) -> Array:
    """Return which elements along the last axis are its largest, of equals the first ones."""
    edge = np.partition(a, -count, axis=-1)[..., -count, None]
    above, equal = a > edge, a == edge
    room = count - np.count_nonzero(above, axis=-1, keepdims=True)
    largest: Array = above | (equal & (np.cumsum(equal, axis=-1) <= room))
    return largest
