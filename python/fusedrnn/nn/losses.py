"""Losses: a scalar and its gradient in one call, without padded steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _rows

__all__ = ["Loss", "binary_cross_entropy", "mae", "mse", "softmax_cross_entropy"]

Array = NDArray[Any]


class Loss(NamedTuple):
    """A mean loss and its gradient with respect to the prediction.

    Attributes
    ----------
    value : float
        The mean, in nats for the cross-entropies.
    gradient : ndarray
        d value / d prediction, with the shape and dtype of the prediction: the ``dy`` of the last
        layer's ``backward``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> loss = nn.mse(np.array([1.0, 3.0]), np.zeros(2))
    >>> loss.value, loss.gradient
    (5.0, array([1., 3.]))
    """

    value: float
    gradient: Array


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
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
    weights : array_like, shape (...) or its first axes, optional
        A finite number of at least 0 for each row, or for all rows at a place of the first axes:
        with ``batch_first`` (B,) are weights of sequences. The mean is then the sum of weight times
        -log softmax, divided by the sum of the weights of the rows that count. Rows of weight 0 do
        not count.
    class_weights : array_like, shape (V,), optional
        The same by the class of each row's target. With both, the weight of a row is their product.
        torch calls it `weight`.
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
        or, with weights w of the rows, the difference times w / (sum of w over these rows); and
        exactly 0 in the other rows, even if their logits are NaN. If no row counts, value and
        gradient are 0.

    Raises
    ------
    TypeError
        `logits` is not float32 or float64, `targets` or `lengths` are not integers, `mask` is not
        bool, `weights` or `class_weights` are not real numbers.
    ValueError
        The shapes disagree, a target, a weight or a length is out of range, or both `lengths` and
        `mask` are given.

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
    a = _rows.prediction(logits, "logits")
    if a.ndim < 1:
        raise ValueError("logits: expected shape (..., V), got ()")
    outer, of_rows = a.shape[:-1], None
    if weights is not None:
        of_rows = _rows.under(_rows.weights_of_rows(weights, outer), outer)
    wanted, counted = _rows.class_targets(
        targets,
        outer,
        a.shape[-1],
        "logits",
        lengths=lengths,
        mask=mask,
        ignore_index=ignore_index,
        batch_first=batch_first,
        weights=of_rows,
    )
    if class_weights is not None:
        of_classes = _rows.weights_of_classes(class_weights, a.shape[-1], wanted, counted)
        if of_rows is not None:  # divided, so that no product of finite weights is infinite
            of_classes *= of_rows / max(of_rows.max(initial=0.0), 1.0)
        of_rows = of_classes
    shares = None
    if of_rows is not None:
        shares, counted = _rows.shares(of_rows, counted)
    if counted is None:
        value, gradient = _cross_entropy(a.reshape(-1, a.shape[-1]), wanted.reshape(-1))
    else:
        value, gradient = _cross_entropy(a[counted], wanted[counted], shares)
    return Loss(value, _rows.spread(gradient, a.shape, counted))


def mse(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
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
    weights : array_like, the same shape or its first axes, optional
        A finite number of at least 0 for each element, or for all elements at a place of the first
        axes: (B,) are weights of the rows of (B, F) or, with ``batch_first``, of sequences. The
        mean is then the sum of weight times square, divided by the sum of the weights of the
        elements that count. Elements of weight 0 do not count.
    lengths : array_like of int, shape (B,)
        Number of steps of each sequence that count; a single number without a batch axis.
    mask : array_like of bool, shape (T, B) or (T,)
        True at the steps that count. Not with `lengths`.
    batch_first : bool
        Whether the arrays are (B, T, ...), as those of a layer with ``batch_first``.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = 2 (prediction - targets) / (elements that count), or, with
        weights w of the elements, the difference times 2 w / (sum of w over these elements); and
        exactly 0 in the other elements, even if they are NaN. If no element counts, value and
        gradient are 0.

    Raises
    ------
    TypeError
        `prediction` is not float32 or float64, `targets` or `weights` are not real numbers,
        `lengths` are not integers, `mask` is not of bool.
    ValueError
        The shapes differ (nothing is broadcast), a weight or a length is out of range, or both
        `lengths` and `mask` are given.

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
    a = _rows.prediction(prediction, "prediction")
    wanted, counted = _rows.number_targets(
        targets, a, "prediction", lengths=lengths, mask=mask, batch_first=batch_first
    )
    shares, counted = _shares(weights, a.shape, counted)
    value, gradient = _squares(_rows.chosen(a, counted), _rows.chosen(wanted, counted), shares)
    return Loss(value, _rows.spread(gradient, a.shape, counted))


def mae(
    prediction: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> Loss:
    """Mean of |prediction - target| over all elements that count, and its gradient.

    Parameters
    ----------
    prediction, targets, weights, lengths, mask, batch_first
        As in `mse`.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = sign(prediction - targets) / (elements that count), with
        sign(0) = 0 as in torch.nn.functional.l1_loss, and exactly 0 in the other elements; weights
        as in `mse`. If no element counts, value and gradient are 0.

    Raises
    ------
    TypeError, ValueError
        As `mse`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> nn.mae(np.array([1.0, -3.0]), np.zeros(2))
    Loss(value=2.0, gradient=array([ 0.5, -0.5]))
    """
    a = _rows.prediction(prediction, "prediction")
    wanted, counted = _rows.number_targets(
        targets, a, "prediction", lengths=lengths, mask=mask, batch_first=batch_first
    )
    shares, counted = _shares(weights, a.shape, counted)
    value, gradient = _distances(_rows.chosen(a, counted), _rows.chosen(wanted, counted), shares)
    return Loss(value, _rows.spread(gradient, a.shape, counted))


def binary_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> Loss:
    """Mean of -(w t log s + (1 - t) log(1 - s)) over all elements that count, and its gradient.

    Here s = sigmoid(logit), t is the target and w is `pos_weight`. Each element is a question of
    its own: yes or no.

    Parameters
    ----------
    logits : array_like, any shape, float32 or float64
        log(p / (1 - p)) of each answer "yes": what a Dense layer gives, without a sigmoid. With
        `lengths` or `mask` the shape is (T, B, ...), or (T, ...) without a batch axis.
    targets : array_like, the same shape
        The right answers, 0 or 1 (also of bool), or probabilities between them; any value (also
        NaN) in elements that do not count.
    pos_weight : array_like, optional
        Weight of the answer "yes", a finite number of at least 0; or one for each column of the
        last axis. As in torch, the mean is divided by the number of elements, or by the sum of
        their `weights`, not by the sum of these.
    weights, lengths, mask, batch_first
        As in `mse`.

    Returns
    -------
    Loss
        ``(value, gradient)``; gradient = ((1 - t) s - w t (1 - s)) / (elements that count), and
        exactly 0 in the other elements, even if they are NaN; `weights` as in `mse`. If no element
        counts, value and gradient are 0.

    Raises
    ------
    TypeError
        `logits` is not float32 or float64, `targets`, `weights` or `pos_weight` are not real
        numbers, `lengths` are not integers, `mask` is not of bool.
    ValueError
        The shapes differ, a target that counts, a weight or a length is out of range, or both
        `lengths` and `mask` are given.

    Notes
    -----
    As torch.nn.functional.binary_cross_entropy_with_logits. Computed in float64 from log(1 - s) =
    -max(x, 0) - log(1 + exp(-|x|)), so it is finite for all finite float32 logits, and exact where
    s rounds to 0 or 1. An infinite logit of the right answer costs 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> loss = nn.binary_cross_entropy(np.array([0.0, 1000.0]), [1, 0])
    >>> round(loss.value, 6)  # (log 2 + 1000) / 2
    500.346574
    >>> loss.gradient
    array([-0.25,  0.5 ])
    """
    a = _rows.prediction(logits, "logits")
    wanted, counted = _rows.number_targets(
        targets, a, "logits", lengths=lengths, mask=mask, batch_first=batch_first
    )
    shares, counted = _shares(weights, a.shape, counted)
    _rows.in_unit(wanted, counted)
    of_yes = None
    if pos_weight is not None:
        of_yes = _rows.chosen(_rows.positive_weights(pos_weight, a.shape), counted)
    chosen, right = _rows.chosen(a, counted), _rows.chosen(wanted, counted)
    value, gradient = _binary(chosen, right, of_yes, shares)
    return Loss(value, _rows.spread(gradient, a.shape, counted))


def _shares(
    weights: ArrayLike | None, shape: tuple[int, ...], counted: Array | None
) -> tuple[Array | None, Array | None]:
    """Return the shares of what counts in a weighted mean, None if all are equal; what counts."""
    if weights is None:
        return None, counted
    return _rows.shares(_rows.weights_of_rows(weights, shape), counted)


# --- arithmetic -------------------------------------------------------------------------------


def _cross_entropy(
    logits: Array, targets: Array, shares: Array | None = None
) -> tuple[float, Array]:
    """Return the mean and the gradient over all rows; `shares` of a weighted mean have sum 1."""
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
        losses = np.log(total, dtype=np.float64) - right
        # One factor divides by the row's total and multiplies by the row's share in the mean.
        if shares is None:
            value, share = _mean(losses), logits.dtype.type(1.0 / count)
            factor = 1.0 / (total * count)
        else:
            value, share = float(np.sum(losses * shares)), shares.astype(logits.dtype)
            factor = shares / total
        gradient *= factor[:, None].astype(logits.dtype, copy=False)
        gradient[rows, targets] -= share
    return value, gradient


def _squares(prediction: Array, targets: Array, shares: Array | None) -> tuple[float, Array]:
    """Return the mean and the gradient over all elements."""
    if prediction.size == 0:
        return 0.0, np.zeros_like(prediction)
    with np.errstate(all="ignore"):
        difference = np.subtract(prediction, targets, dtype=np.float64)
        value = _mean(np.square(difference), shares)
        gradient = (difference * (2.0 * _parts(difference, shares))).astype(prediction.dtype)
    return value, np.asarray(gradient)


def _distances(prediction: Array, targets: Array, shares: Array | None) -> tuple[float, Array]:
    """Return the mean and the gradient over all elements."""
    if prediction.size == 0:
        return 0.0, np.zeros_like(prediction)
    with np.errstate(all="ignore"):
        difference = np.subtract(prediction, targets, dtype=np.float64)
        value = _mean(np.abs(difference), shares)
        gradient = (np.sign(difference) * _parts(difference, shares)).astype(prediction.dtype)
    return value, np.asarray(gradient)


def _binary(
    logits: Array, targets: Array, of_yes: Array | None, shares: Array | None
) -> tuple[float, Array]:
    """Return the mean and the gradient over all elements; `of_yes` are weights of targets of 1."""
    if logits.size == 0:
        return 0.0, np.zeros_like(logits)
    with np.errstate(all="ignore"):
        x = logits.astype(np.float64)
        yes = targets.astype(np.float64)
        no = 1.0 - yes
        if of_yes is not None:
            yes = yes * of_yes
        small = np.exp(-np.abs(x))  # at most 1
        # sigmoid(x) and sigmoid(-x): the larger one and the smaller one, each without cancellation.
        larger, smaller = 1.0 / (1.0 + small), small / (1.0 + small)
        gradient = no * np.where(x >= 0, larger, smaller) - yes * np.where(x >= 0, smaller, larger)
        gradient = (gradient * _parts(gradient, shares)).astype(logits.dtype)
        tail = np.log1p(small)
        # -log(1 - sigmoid(x)) of the answer "no", and -log(sigmoid(x)) of "yes". An answer of
        # weight 0 has no part in the sum, even if its logarithm is infinite.
        losses = np.where(no > 0, no * (np.maximum(x, 0) + tail), 0.0)
        losses = losses + np.where(yes > 0, yes * (np.maximum(-x, 0) + tail), 0.0)
        value = _mean(losses, shares)
    return value, np.asarray(gradient)


def _parts(values: Array, shares: Array | None) -> Any:
    """Return the part of each element in the mean; `shares` are those along the first axis."""
    if shares is None:
        return 1.0 / values.size
    return _rows.under(shares / (values.size // len(shares)), values.shape)


def _mean(values: Array, shares: Array | None = None) -> float:
    """Return the mean of float64 numbers: finite if they are, even if their sum is not."""
    if shares is not None:
        return float(np.sum(values * _parts(values, shares)))
    total = float(np.sum(values))
    if np.isinf(total) and np.isfinite(values).all():
        return float(np.sum(values / values.size))
    return total / values.size
