"""Losses: a scalar and its gradient, in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Loss", "mse", "softmax_cross_entropy"]


class Loss(NamedTuple):
    """A mean loss and its gradient with respect to the prediction.

    Attributes
    ----------
    value : float
        The mean, in nats for the cross-entropy.
    gradient : ndarray
        d value / d prediction, with the shape and dtype of the prediction.
    """

    value: float
    gradient: NDArray[Any]


def softmax_cross_entropy(logits: NDArray[Any], targets: ArrayLike) -> Loss:
    """Mean of -log softmax(logits)[target], and its gradient.

    Parameters
    ----------
    logits : ndarray, shape (..., V), float32 or float64
        Unnormalised log-probabilities.
    targets : array_like of int, shape (...)
        The class of each row, 0 <= target < V.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = (softmax(logits) - onehot(targets)) / rows.
        Without rows, the value is 0.

    Raises
    ------
    TypeError
        If `logits` is not floating or `targets` not integer.
    ValueError
        If the shapes disagree or a target is out of range.

    Notes
    -----
    The row's maximum is subtracted first (log-sum-exp), so logits of any size give a finite loss.
    The mean is accumulated in float64 for both dtypes.
    """
    wanted = np.asarray(targets)
    if not np.issubdtype(logits.dtype, np.floating):
        raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
    if not np.issubdtype(wanted.dtype, np.integer):
        raise TypeError(f"targets: expected an integer dtype, got {wanted.dtype}")
    if logits.ndim < 1 or wanted.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets: expected the shape of logits without its last axis, "
            f"{logits.shape[:-1]}, got {wanted.shape}"
        )
    classes = logits.shape[-1]
    if wanted.size == 0:
        return Loss(0.0, np.zeros_like(logits))
    if wanted.min() < 0 or wanted.max() >= classes:
        raise ValueError(
            f"targets: expected classes in [0, {classes}), got {wanted.min()} to {wanted.max()}"
        )

    rows = np.arange(wanted.size)
    columns = wanted.reshape(-1)
    shifted = logits.reshape(-1, classes)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    right = shifted[rows, columns]
    gradient = np.exp(shifted, out=shifted)
    total = gradient.sum(axis=1)
    value = float(np.mean(np.log(total) - right, dtype=np.float64))
    # One pass divides by the row's total and by the number of rows of the mean.
    gradient *= (1.0 / (total * wanted.size))[:, None].astype(logits.dtype, copy=False)
    gradient[rows, columns] -= logits.dtype.type(1.0 / wanted.size)
    return Loss(value, gradient.reshape(logits.shape))


def mse(prediction: NDArray[Any], targets: ArrayLike) -> Loss:
    """Mean of (prediction - target)^2 over all elements, and its gradient.

    Parameters
    ----------
    prediction : ndarray, any shape, float32 or float64
        What the model says.
    targets : array_like, the same shape
        What is right; converted to the dtype of `prediction`.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = 2 (prediction - targets) / size. 0 where empty.

    Raises
    ------
    TypeError
        If `prediction` is not floating.
    ValueError
        If the shapes differ (nothing is broadcast).
    """
    if not np.issubdtype(prediction.dtype, np.floating):
        raise TypeError(f"prediction: expected a floating dtype, got {prediction.dtype}")
    wanted = np.asarray(targets, dtype=prediction.dtype)
    if wanted.shape != prediction.shape:
        raise ValueError(
            f"targets: expected the shape of prediction, {prediction.shape}, got {wanted.shape}"
        )
    if prediction.size == 0:
        return Loss(0.0, np.zeros_like(prediction))
    difference = prediction - wanted
    value = float(np.mean(np.square(difference), dtype=np.float64))
    difference *= prediction.dtype.type(2.0 / prediction.size)
    return Loss(value, difference)
