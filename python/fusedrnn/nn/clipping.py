"""Clipping of gradients, by value and by global norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._interrupts import uninterrupted
from . import _checks

__all__ = ["clip_global_norm", "clip_value"]

Array = NDArray[Any]

# What torch.nn.utils.clip_grad_norm_ adds to the norm before dividing.
NORM_EPSILON = 1e-6
# A sum of squares between these lost nothing to overflow or underflow in float64.
SMALLEST_SUM, LARGEST_SUM = 1e-280, math.inf


def clip_global_norm(*gradients: Mapping[str, Array], max_norm: float = 1.0) -> float:
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    *gradients : mapping of str to ndarray
        One mapping for each layer or model, as `backward` returned it. Names may be equal in
        several mappings. Do not merge the mappings into one dict: of equal names only the last
        would remain.
    max_norm : float
        The bound, above 0; with infinity the norm is measured and nothing is scaled.

    Returns
    -------
    float
        The norm of all gradients together before clipping, accumulated in float64. If it is not
        finite (the gradients exploded), nothing was scaled.

    Raises
    ------
    TypeError
        There is no mapping, an argument is not one, or `max_norm` is not a number.
    ValueError
        `max_norm` is not positive, an array is read-only, or two share memory (a mapping given
        twice), which would scale it twice; nothing was scaled.

    Notes
    -----
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013; factor max_norm / (norm + 1e-6) as torch.nn.utils.clip_grad_norm_.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> first, second = {"w": np.full(4, 1.5)}, {"w": np.full(4, 2.0)}
    >>> nn.clip_global_norm(first, second, max_norm=1.0)
    5.0
    >>> bool(np.isclose(np.linalg.norm(first["w"]), 0.6))
    True
    """
    bound = _checks.positive(max_norm, "max_norm")
    arrays = _arrays(gradients, "clip_global_norm", "max_norm")
    norm = _norm([g for _, g in arrays])
    factor = bound / (norm + NORM_EPSILON)
    if math.isfinite(norm) and factor < 1.0:
        with uninterrupted(), np.errstate(all="ignore"):
            for _, g in arrays:
                g *= factor
    return norm


def clip_value(*gradients: Mapping[str, Array], max_value: float = 1.0) -> int:
    """Move each element of all gradients, in place, into [-max_value, max_value].

    Clipping by global norm keeps the direction of the gradient; this does not, but one exploding
    element leaves the others as they are.

    Parameters
    ----------
    *gradients : mapping of str to ndarray
        One mapping for each layer or model, as `clip_global_norm` takes them.
    max_value : float
        The bound, above 0; with infinity nothing is changed.

    Returns
    -------
    int
        The number of elements that were outside and were moved to the bound. Infinities are; NaN
        stays NaN and is not counted.

    Raises
    ------
    TypeError
        There is no mapping, an argument is not one, or `max_value` is not a number.
    ValueError
        `max_value` is not positive, an array is read-only, or two share memory; nothing was
        changed.

    Notes
    -----
    Source: Mikolov, "Statistical language models based on neural networks", PhD thesis, Brno 2012,
    and torch.nn.utils.clip_grad_value_. The bound is rounded to the dtype of each array.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> gradients = {"w": np.array([0.5, -3.0, 7.0])}
    >>> nn.clip_value(gradients, max_value=2.0)
    2
    >>> gradients["w"]
    array([ 0.5, -2. ,  2. ])
    """
    bound = _checks.positive(max_value, "max_value")
    arrays = _arrays(gradients, "clip_value", "max_value")
    clipped = 0
    with np.errstate(all="ignore"):
        outside = [np.abs(g) > g.dtype.type(bound) for _, g in arrays]
        with uninterrupted():
            for (_, g), beyond in zip(arrays, outside, strict=True):
                limit = g.dtype.type(bound)
                clipped += int(np.count_nonzero(beyond))
                np.copysign(limit, g, out=g, where=beyond)
    return clipped


def _arrays(
    gradients: Sequence[Mapping[str, Array]], function: str, keyword: str
) -> list[tuple[str, Array]]:
    """Return all arrays of the mappings with their names in error texts, each to be changed."""
    if not gradients:
        raise TypeError(f"{function}: expected at least one mapping of names to arrays")
    arrays: list[tuple[str, Array]] = []
    for k, mapping in enumerate(gradients):
        if isinstance(mapping, (int, float, np.number)):
            raise TypeError(
                f"gradients[{k}]: expected a mapping of names to arrays, got {mapping}; "
                f"write {keyword}={mapping}"
            )
        named = _checks.gradients(mapping, f"gradients[{k}]")
        arrays += [(f"gradients[{k}][{name!r}]", g) for name, g in named.items()]
    for name, g in arrays:
        if not g.flags.writeable:
            raise ValueError(f"{name}: is read-only, and clipping scales in place; pass a copy")
    _checks.distinct(arrays)
    return arrays


def _norm(arrays: list[Array]) -> float:
    """Return the Euclidean norm of all numbers; its order of summation is always the same."""
    # Squares in float64: float32 gradients of 1e20 have a finite norm. np.dot is not used, because
    # its order of summation depends on the number of BLAS threads.
    with np.errstate(all="ignore"):
        total = sum(float(np.square(g, dtype=np.float64).sum()) for g in arrays)
        if SMALLEST_SUM < total < LARGEST_SUM:
            return math.sqrt(total)
        if math.isnan(total):
            return math.nan
        largest = max((float(np.abs(g).max()) for g in arrays if g.size), default=0.0)
        if largest in (0.0, math.inf):
            return largest
        scaled = (np.divide(g, largest, dtype=np.float64) for g in arrays)
        return largest * math.sqrt(sum(float(np.square(g).sum()) for g in scaled))
