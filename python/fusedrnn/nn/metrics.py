"""Metrics: numbers that say how good a prediction is, without a gradient.

Each is a plain function of arrays. Lengths, masks and ignored classes mean the same as in the
losses.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks.options import number
from . import _rows
from .losses import Loss

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "bits_per_character",
    "confusion_matrix",
    "mase",
    "naive_scale",
    "perplexity",
    "r2",
]

Array = NDArray[Any]


# --- classes ----------------------------------------------------------------------------------


def accuracy(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    batch_first: bool = False,
) -> float:
    """Share of the rows that count whose class is predicted.

    Parameters
    ----------
    prediction : array_like, shape (..., V), float32 or float64; or shape (...) of int or bool
        Logits or probabilities, of which the largest is the predicted class (the first of equal
        ones); or the predicted classes, where True is class 1, as in ``logits > 0`` of a binary
        loss. With `lengths` or `mask` the shape is (T, B, V), (T, V), (T, B) or (T,).
    targets : array_like of int or bool, shape (...)
        The class of each row; otherwise as in `softmax_cross_entropy`.
    lengths, mask, ignore_index, batch_first
        As in `softmax_cross_entropy`.

    Returns
    -------
    float
        In [0, 1]; NaN if no row counts. A row with a NaN in it is wrong.

    Raises
    ------
    TypeError, ValueError
        As `softmax_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.nn import metrics
    >>> metrics.accuracy(np.array([[0.5, 2.0], [1.0, -1.0], [3.0, 0.0]]), [1, 1, 0])
    0.6666666666666666
    >>> metrics.accuracy([1, 0, 0], [1, 1, -1], ignore_index=-1)
    0.5
    """
    found, wanted, _ = _classes(
        prediction,
        targets,
        lengths=lengths,
        mask=mask,
        ignore_index=ignore_index,
        batch_first=batch_first,
    )
    return int(np.count_nonzero(found == wanted)) / found.size if found.size else math.nan


def balanced_accuracy(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    batch_first: bool = False,
) -> float:
    """Mean over the classes of the share of their rows that are predicted right.

    A model that always predicts the most frequent of V classes has 1/V, however frequent it is.

    Parameters
    ----------
    prediction, targets, lengths, mask, ignore_index, batch_first
        As in `accuracy`.

    Returns
    -------
    float
        In [0, 1]; NaN if no row counts. Classes that no target has are left out, as in
        sklearn.metrics.balanced_accuracy_score. A row with a NaN in it is wrong.

    Raises
    ------
    TypeError, ValueError
        As `accuracy`.

    Notes
    -----
    Source: Brodersen, Ong, Stephan and Buhmann, "The balanced accuracy and its posterior
    distribution", International Conference on Pattern Recognition, 2010.

    Examples
    --------
    >>> from fusedrnn.nn import metrics
    >>> metrics.balanced_accuracy([0, 0, 0, 0], [0, 0, 0, 1])
    0.5
    """
    found, wanted, _ = _classes(
        prediction,
        targets,
        lengths=lengths,
        mask=mask,
        ignore_index=ignore_index,
        batch_first=batch_first,
    )
    _, places, rows = np.unique(wanted, return_inverse=True, return_counts=True)
    right = np.bincount(places.ravel(), weights=(found == wanted).ravel(), minlength=len(rows))
    return balanced(np.array([right, rows]))


def counts_of_classes(
    prediction: ArrayLike, targets: ArrayLike, *, classes: int, **options: Any
) -> Array:
    """Return how many rows of each class are predicted right, and how many it has; shape (2, V).

    Unlike balanced accuracies, such counts can be added over batches; `balanced` reads their sum.
    """
    options = {"lengths": None, "mask": None, "ignore_index": None, "batch_first": False} | options
    found, wanted, _ = _classes(prediction, targets, **options)
    right = wanted[found == wanted]
    return np.array([np.bincount(of, minlength=classes) for of in (right, wanted)], np.float64)


def balanced(counts: Array) -> float:
    """Return the balanced accuracy of such counts; NaN without rows."""
    right, rows = counts[:, counts[1] > 0]
    return float((right / rows).mean()) if rows.size else math.nan


def confusion_matrix(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    classes: int | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    ignore_index: int | None = None,
    batch_first: bool = False,
) -> Array:
    """Count how often each class was predicted as each class.

    Parameters
    ----------
    prediction, targets, lengths, mask, ignore_index, batch_first
        As in `accuracy`.
    classes : int, optional
        Number of classes V, if `prediction` is classes; the default is the largest class there is,
        plus one. If `prediction` is logits, their last axis says it.

    Returns
    -------
    ndarray of int64, shape (V, V)
        Row i, column j: the number of rows that count whose class is i and whose prediction is j,
        as in sklearn.metrics.confusion_matrix.

    Raises
    ------
    TypeError
        As `accuracy`; also if `classes` is not a whole number.
    ValueError
        As `accuracy`; also if a class is not below `classes`, or a row that counts has a NaN.

    Examples
    --------
    >>> from fusedrnn.nn import metrics
    >>> metrics.confusion_matrix([0, 1, 1, 1], [0, 1, 1, 0])
    array([[1, 1],
           [0, 2]])
    """
    found, wanted, size = _classes(
        prediction,
        targets,
        lengths=lengths,
        mask=mask,
        ignore_index=ignore_index,
        batch_first=batch_first,
    )
    if size is not None:
        if classes is not None and _check.integer(classes, "classes", 1) != size:
            raise ValueError(
                f"classes: expected {size}, the last axis of prediction, or None, got {classes}"
            )
        if (found < 0).any():
            raise ValueError("prediction: a row that counts has a NaN, and so no class")
    else:
        largest = int(max(found.max(initial=-1), wanted.max(initial=-1)))
        size = largest + 1 if classes is None else _check.integer(classes, "classes", 1)
        if largest >= size:
            raise ValueError(f"classes: expected at least {largest + 1}, got {size}")
    places = wanted * size + found
    return np.bincount(places, minlength=size * size).astype(np.int64).reshape(size, size)


def _classes(
    prediction: ArrayLike, targets: ArrayLike, **options: Any
) -> tuple[Array, Array, int | None]:
    """Return predicted and right class of each row that counts, and V if logits say it.

    The predicted class of logits with a NaN is -1.
    """
    prediction, targets = _answers(prediction, "prediction"), _answers(targets, "targets")
    if np.asarray(prediction).dtype.kind in "iu":
        found, size = _rows.integers(prediction, "prediction"), None
        wanted, counted = _rows.class_targets(targets, found.shape, None, "prediction", **options)
        found = _rows.chosen(found, counted).reshape(-1)
        _rows.in_range(found, None, None, "prediction")
    else:
        a = _rows.prediction(prediction, "prediction")
        if a.ndim < 1 or a.shape[-1] < 1:
            raise ValueError(
                f"prediction: expected shape (..., V) with V of at least 1, got {a.shape}"
            )
        size = a.shape[-1]
        wanted, counted = _rows.class_targets(targets, a.shape[:-1], size, "prediction", **options)
        rows = _rows.chosen(a, counted).reshape(-1, size)
        found = np.where(np.isnan(rows).any(axis=1), -1, rows.argmax(axis=1))
    right = _rows.chosen(wanted, counted).reshape(-1)
    return found.astype(np.int64), right.astype(np.int64), size


def _answers(value: ArrayLike, name: str) -> ArrayLike:
    """Return answers yes and no as the classes 1 and 0; other values as they are."""
    a = _check.read(value, name)
    masked = isinstance(value, np.ma.MaskedArray)
    return a.astype(np.int8) if a.dtype.kind == "b" and not masked else value


# --- from a loss ------------------------------------------------------------------------------


def perplexity(loss: Loss | float) -> float:
    """Return exp(loss): among how many equally likely classes the model is in doubt.

    Parameters
    ----------
    loss : Loss or float
        A mean cross-entropy in nats, as `softmax_cross_entropy` returns it.

    Returns
    -------
    float
        Infinity if it exceeds the largest float64.

    Raises
    ------
    TypeError
        `loss` is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> loss = nn.softmax_cross_entropy(np.zeros((3, 4)), [0, 1, 2])
    >>> round(nn.metrics.perplexity(loss), 6)
    4.0
    """
    try:
        return math.exp(_nats(loss))
    except OverflowError:
        return math.inf


def bits_per_character(loss: Loss | float) -> float:
    """Return loss / log 2, in bits: for each character, if each row predicts a character.

    Parameters
    ----------
    loss : Loss or float
        A mean cross-entropy in nats, as `softmax_cross_entropy` returns it.

    Returns
    -------
    float
        The same in bits.

    Raises
    ------
    TypeError
        `loss` is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> loss = nn.softmax_cross_entropy(np.zeros((3, 4)), [0, 1, 2])
    >>> round(nn.metrics.bits_per_character(loss), 6)
    2.0
    """
    return _nats(loss) / math.log(2)


def _nats(loss: object) -> float:
    value = loss.value if isinstance(loss, Loss) else loss
    return number(value, "loss", "a Loss or a number", lambda _: True)


# --- forecasts --------------------------------------------------------------------------------


def r2(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> float:
    """Coefficient of determination, over all elements that count.

    1 - sum (target - prediction)^2 / sum (target - mean target)^2. It is 1 for a perfect forecast
    and 0 for one as good as the targets' mean, and has no lower bound.

    Parameters
    ----------
    prediction, targets, lengths, mask, batch_first
        As in `mse`. All elements are one sample: for the coefficient of one column, pass that
        column.

    Returns
    -------
    float
        At most 1; NaN if the targets that count do not vary, because it is not defined then.

    Raises
    ------
    TypeError, ValueError
        As `mse`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.nn import metrics
    >>> metrics.r2(np.array([1.0, 2.0, 4.0]), [1, 2, 3])
    0.5
    """
    a = _rows.prediction(prediction, "prediction")
    wanted, counted = _rows.number_targets(
        targets, a, "prediction", lengths=lengths, mask=mask, batch_first=batch_first
    )
    found = _rows.chosen(a, counted).astype(np.float64).reshape(-1)
    right = _rows.chosen(wanted, counted).astype(np.float64).reshape(-1)
    if (right == right[:1]).all():  # also if there is none
        return math.nan
    with np.errstate(all="ignore"):
        missed = np.square(right - found).sum()
        return float(1.0 - missed / np.square(right - right.mean()).sum())


def mase(
    prediction: ArrayLike,
    targets: ArrayLike,
    history: ArrayLike,
    *,
    season: int = 1,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> float:
    """Mean absolute scaled error: below 1 if better than the seasonal naive forecast.

    The mean of |target - prediction| over all elements that count, each divided by the scale of
    its series, which is the mean of |history[t] - history[t - season]|.

    Parameters
    ----------
    prediction, targets, lengths, mask, batch_first
        As in `mse`.
    history : array_like, shape (N,) or (N, F), real numbers
        The series before the forecast (the training part), or F of them. With F the last axis of
        `prediction` has F columns, and each has a scale of its own.
    season : int
        Number of steps after which the series is expected to repeat itself, at least 1 and below N.

    Returns
    -------
    float
        At least 0; NaN if no element counts.

    Raises
    ------
    TypeError
        As `mse`; also if `history` is not of real numbers or `season` not a whole number.
    ValueError
        As `mse`; also if `history` has another shape, is too short for `season`, is not finite, or
        repeats itself exactly, so that its scale is 0.

    Notes
    -----
    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting 22, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.nn import metrics
    >>> metrics.mase(np.array([5.0, 6.0]), [4, 8], history=[1, 3, 2, 4, 3])
    1.0
    """
    a = _rows.prediction(prediction, "prediction")
    wanted, counted = _rows.number_targets(
        targets, a, "prediction", lengths=lengths, mask=mask, batch_first=batch_first
    )
    scales = np.broadcast_to(_scale(history, season, a.shape[-1:]), a.shape)
    with np.errstate(all="ignore"):
        missed = np.abs(np.subtract(a, wanted, dtype=np.float64)) / scales
    of_counted = _rows.chosen(missed, counted)
    return float(of_counted.mean()) if of_counted.size else math.nan


def naive_scale(history: ArrayLike, season: int = 1) -> Array:
    """Mean absolute error of seasonal naive forecasts, which `mase` is relative to.

    Parameters
    ----------
    history : array_like, shape (N,) or (N, F), real numbers
        A series, or F of them.
    season : int
        As in `mase`.

    Returns
    -------
    ndarray of float64, shape () or (F,)
        The mean of |history[t] - history[t - season]|; 0 if a series repeats itself exactly.

    Raises
    ------
    TypeError
        `history` is not of real numbers, or `season` is not a whole number.
    ValueError
        `history` has another shape, is too short for `season`, or is not finite.

    Notes
    -----
    Source: as of `mase`.

    Examples
    --------
    >>> from fusedrnn.nn import metrics
    >>> float(metrics.naive_scale([1.0, 5.0, 2.0, 7.0], season=2))
    1.5
    """
    a = _check.read(history, "history")
    if isinstance(history, np.ma.MaskedArray) or a.dtype.kind not in "fiu":
        raise TypeError(f"history: expected real numbers, got {_check.describe(a)}")
    if a.ndim not in (1, 2):
        raise ValueError(f"history: expected shape (N,) or (N, F), got {a.shape}")
    step = _check.integer(season, "season", 1)
    if len(a) <= step:
        raise ValueError(f"history: expected more than season={step} steps, got {len(a)}")
    if not np.isfinite(a).all():
        raise ValueError("history: expected finite numbers")
    a = a.astype(np.float64)
    return np.asarray(np.abs(a[step:] - a[:-step]).mean(axis=0))


def _scale(history: ArrayLike, season: int, last: tuple[int, ...]) -> Array:
    """Return the scale of a series, or of each column of a prediction; it is not 0."""
    shape = _check.read(history, "history").shape
    if len(shape) != 1 and not (len(shape) == 2 and shape[1:] == last):
        columns = f" or (N, {last[0]})" if last else ""
        raise ValueError(f"history: expected shape (N,){columns}, got {shape}")
    scale = naive_scale(history, season)
    if not scale.all():
        place = f"column {int(np.argmin(scale))}" if scale.ndim else "the series"
        raise ValueError(
            f"history: {place} is the same after season={season} steps, so its scale is 0, and the "
            "error has no scaled value"
        )
    return scale
