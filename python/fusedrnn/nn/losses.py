"""Losses: a scalar and its gradient in one call, without padded steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options

__all__ = ["Loss", "mse", "softmax_cross_entropy"]

Array = NDArray[Any]


class Loss(NamedTuple):
    """A mean loss and its gradient with respect to the prediction.

    Attributes
    ----------
    value : float
        The mean, in nats for the cross-entropy.
    gradient : ndarray
        d value / d prediction, with the shape and dtype of the prediction: the ``dy`` of the last
        layer's ``backward``.
    """

    value: float
    gradient: Array


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    batch_first: bool = False,
) -> Loss:
    """Mean of -log softmax(logits)[target] over the rows that count, and its gradient.

    Parameters
    ----------
    logits : array_like, shape (..., V), float32 or float64
        Unnormalised log-probabilities. With `lengths` or `mask` the shape is that of a layer's y:
        (T, B, V), or (T, V) without a batch axis.
    targets : array_like of int, shape (...)
        The class of each row, 0 <= target < V if the row counts; otherwise any integer.
    lengths : array_like of int, shape (B,)
        Number of steps of each sequence that count; a single number without a batch axis.
    mask : array_like of bool, shape (T, B) or (T,)
        True at the rows that count. Not with `lengths`.
    ignore_index : int, optional
        Rows with this target do not count. torch's default is -100; here there is none.
    batch_first : bool
        Whether the arrays are (B, T, ...), as those of a layer with ``batch_first``.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = (softmax(logits) - onehot(targets)) / (rows that count),
        and exactly 0 in the other rows, even if their logits are NaN. If no row counts, value and
        gradient are 0.

    Raises
    ------
    TypeError
        `logits` is not float32 or float64, `targets` or `lengths` are not integers, `mask` is not
        bool.
    ValueError
        The shapes disagree, a target or a length is out of range, or both `lengths` and `mask` are
        given.

    Notes
    -----
    Each row's maximum is subtracted before the exponential, and the losses of the rows and their
    mean are computed in float64. So the value is finite for all finite float32 logits, and for
    float64 ones unless it is larger than the largest float64. Infinite and NaN logits in a row that
    counts give what arithmetic gives, without a warning; -inf is an impossible class. Rows are
    summed in the order of the arrays, so no bit depends on the number of threads or on padding.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> logits = np.zeros((3, 2, 4), np.float32)  # (T, B, V)
    >>> targets = np.array([[1, 2], [3, -1], [0, -1]])  # the second sequence is one step long
    >>> loss = nn.softmax_cross_entropy(logits, targets, lengths=[3, 1])
    >>> bool(np.isclose(loss.value, np.log(4)))
    True
    >>> loss.gradient[1, 1]
    array([0., 0., 0., 0.], dtype=float32)
    """
    a = _prediction(logits, "logits")
    wanted = np.asarray(targets)
    if isinstance(targets, np.ma.MaskedArray) or (wanted.size and wanted.dtype.kind not in "iu"):
        raise TypeError(f"targets: expected integers, got {_came(targets)}")
    if a.ndim < 1 or wanted.shape != a.shape[:-1]:
        raise ValueError(
            f"targets: expected the shape of logits without its last axis, {a.shape[:-1]}, "
            f"got {wanted.shape}"
        )
    if (lengths is not None or mask is not None) and a.ndim not in (2, 3):
        axes = "B, T" if batch_first else "T, B"
        raise ValueError(
            f"logits: expected shape ({axes}, V) or (T, V) with lengths or mask, got {a.shape}"
        )
    counted = _counted(a.shape[:-1], a.ndim == 3, lengths, mask, batch_first)
    if ignore_index is not None:
        unlike = wanted != _check.integer(ignore_index, "ignore_index", -(2**63))
        counted = unlike if counted is None else counted & unlike
    _classes(wanted, counted, a.shape[-1])
    if counted is None:
        value, gradient = _cross_entropy(a.reshape(-1, a.shape[-1]), wanted.reshape(-1))
    else:
        value, gradient = _cross_entropy(a[counted], wanted[counted])
    return Loss(value, _spread(gradient, a.shape, counted))


def mse(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> Loss:
    """Mean of (prediction - target)^2 over all elements that count, and its gradient.

    Parameters
    ----------
    prediction : array_like, any shape, float32 or float64
        The model's output. With `lengths` or `mask` the shape is (T, B, ...), or (T, ...) without a
        batch axis.
    targets : array_like, the same shape
        The right values; any value (also NaN) in elements that do not count.
    lengths : array_like of int, shape (B,)
        Number of steps of each sequence that count; a single number without a batch axis.
    mask : array_like of bool, shape (T, B) or (T,)
        True at the steps that count. Not with `lengths`.
    batch_first : bool
        Whether the arrays are (B, T, ...), as those of a layer with ``batch_first``.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = 2 (prediction - targets) / (elements that count), and
        exactly 0 in the other elements, even if they are NaN. If no element counts, value and
        gradient are 0.

    Raises
    ------
    TypeError
        `prediction` is not float32 or float64, `targets` are not real numbers, `lengths` are not
        integers, `mask` is not of bool.
    ValueError
        The shapes differ (nothing is broadcast), a length is out of range, or both `lengths` and
        `mask` are given.

    Notes
    -----
    Differences, squares and the mean are computed in float64. Values that are not finite give what
    arithmetic gives, without a warning.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> prediction = np.array([[1.0, 2.0], [3.0, np.nan]])  # (T, B)
    >>> loss = nn.mse(prediction, np.zeros((2, 2)), lengths=[2, 1])
    >>> round(loss.value, 6)  # (1 + 4 + 9) / 3
    4.666667
    >>> float(loss.gradient[1, 1])
    0.0
    """
    a = _prediction(prediction, "prediction")
    wanted = np.asarray(targets)
    if isinstance(targets, np.ma.MaskedArray) or wanted.dtype.kind not in "fiub":
        raise TypeError(f"targets: expected real numbers, got {_came(targets)}")
    if wanted.shape != a.shape:
        raise ValueError(
            f"targets: expected the shape of prediction, {a.shape}, got {wanted.shape}"
        )
    batched = a.ndim > 2
    if a.ndim == 2:  # (T, B) or (T, features): the shape of mask or lengths decides
        sequences = a.shape[0 if batch_first else 1]
        batched = np.asarray(mask).ndim == 2 or np.asarray(lengths).shape == (sequences,)
    elif a.ndim == 0 and not (lengths is None and mask is None):
        raise ValueError("prediction: expected a first axis of steps with lengths or mask, got ()")
    counted = _counted(a.shape[: 1 + batched], batched, lengths, mask, batch_first)
    rows, right = (a, wanted) if counted is None else (a[counted], wanted[counted])
    value, gradient = _squares(rows, right)
    return Loss(value, _spread(gradient, a.shape, counted))


# --- what counts ------------------------------------------------------------------------------


def _counted(
    outer: tuple[int, ...],
    batched: bool,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    batch_first: bool,
) -> Array | None:
    """Return which steps of which sequences count, bool of shape `outer`; None: all."""
    first = _check.flag(batch_first, "batch_first") and batched
    if lengths is None and mask is None:
        return None
    _check_options.one_kind_of_padding(lengths, mask)
    steps = outer[1 if first else 0]
    batch = outer[0 if first else 1] if batched else 1
    rows = _check_options.Rows(steps, batch, batched, first)
    counted = _check_options.flags(mask, "mask", rows, copy=False)
    real = _check_options.lengths(lengths, rows, copy=False)
    if counted is None:
        assert real is not None
        counted = np.arange(steps)[:, None] < real
    return counted.T if first else counted.reshape(outer)


def _spread(gradient: Array, shape: tuple[int, ...], counted: Array | None) -> Array:
    """Put the gradient of the rows that count into an array of zeros."""
    if counted is None:
        return gradient.reshape(shape)
    whole = np.zeros(shape, gradient.dtype)
    whole[counted] = gradient
    return whole


# --- arguments --------------------------------------------------------------------------------


def _prediction(value: object, name: str) -> Array:
    """Return a contiguous array of float32 or float64."""
    if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
        raise TypeError(
            f"{name}: expected an array, got a tuple; a layer's forward() returns y first: pass y"
        )
    a = _check.floating(value, name)
    dtype = a.dtype.newbyteorder("=")
    if dtype not in _check.FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {a.dtype}")
    return _check.contiguous(a, dtype)


def _came(targets: object) -> str:
    if isinstance(targets, np.ma.MaskedArray):
        return "a masked array; pass targets.filled(0) and mask=~targets.mask"
    return _check.describe(np.asarray(targets))


def _classes(targets: Array, counted: Array | None, classes: int) -> None:
    """Refuse targets that count and are not a class."""
    wrong = (targets < 0) | (targets >= classes)
    if counted is not None:
        wrong &= counted
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        found = int(targets[at])
        hint = f"; rows to leave out: ignore_index={found}, lengths= or mask=" if found < 0 else ""
        raise ValueError(f"targets: expected classes in [0, {classes}), got {found} at {at}{hint}")


# --- arithmetic -------------------------------------------------------------------------------


def _cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean and the gradient over all rows."""
    count = len(logits)
    if count == 0:
        return 0.0, np.zeros_like(logits)
    rows = np.arange(count)
    with np.errstate(all="ignore"):
        top = logits.max(axis=1, keepdims=True)
        # In float64 the difference of two float32 numbers is finite.
        right = logits[rows, targets].astype(np.float64) - top[:, 0]
        gradient = logits - top
        np.exp(gradient, out=gradient)
        total = gradient.sum(axis=1)
        value = _mean(np.log(total, dtype=np.float64) - right)
        # One factor divides by the row's total and by the number of rows in the mean.
        gradient *= (1.0 / (total * count))[:, None].astype(logits.dtype, copy=False)
        gradient[rows, targets] -= logits.dtype.type(1.0 / count)
    return value, gradient


def _squares(prediction: Array, targets: Array) -> tuple[float, Array]:
    """Return the mean and the gradient over all elements."""
    if prediction.size == 0:
        return 0.0, np.zeros_like(prediction)
    with np.errstate(all="ignore"):
        difference = np.subtract(prediction, targets, dtype=np.float64)
        value = _mean(np.square(difference))
        gradient = (difference * (2.0 / prediction.size)).astype(prediction.dtype)
    return value, np.asarray(gradient)


def _mean(values: Array) -> float:
    """Return the mean of float64 numbers: finite if they are, even if their sum is not."""
    total = float(np.sum(values))
    if np.isinf(total) and np.isfinite(values).all():
        return float(np.sum(values / values.size))
    return total / values.size
