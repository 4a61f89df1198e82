"""Predictions beside their targets: their checks, and which of their rows or elements count.

Losses and metrics share this, so that lengths, masks and ignored classes mean the same in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options

__all__ = [
    "chosen",
    "class_targets",
    "classes_of_rows",
    "in_range",
    "in_unit",
    "integers",
    "number_targets",
    "numbers_like",
    "positive_weights",
    "prediction",
    "shares",
    "spread",
    "under",
    "weights",
    "weights_of_classes",
    "weights_of_rows",
]

Array = NDArray[Any]


# --- predictions ------------------------------------------------------------------------------


def prediction(value: object, name: str) -> Array:
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


def integers(value: ArrayLike, name: str) -> Array:
    """Return an array of integers."""
    a = _check.read(value, name)
    if isinstance(value, np.ma.MaskedArray) or (a.size and a.dtype.kind not in "iu"):
        raise TypeError(f"{name}: expected integers, got {_came(value, name)}")
    return a


def _came(value: object, name: str) -> str:
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array; pass {name}.filled(0) and mask=~{name}.mask"
    return _check.describe(np.asarray(value))


# --- targets ----------------------------------------------------------------------------------


def class_targets(
    targets: ArrayLike,
    outer: tuple[int, ...],
    classes: int | None,
    name: str,
    *,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    ignore_index: int | None,
    batch_first: bool,
    weights: Array | None = None,
) -> tuple[Array, Array | None]:
    """Return the class of each row, and which rows count (None: all); those are in [0, classes).

    `outer` is the shape of the rows, and of their `weights`. `classes` is None if the prediction
    `name` is classes too: any class of at least 0 is right then.
    """
    wanted = classes_of_rows(targets, outer, classes, name)
    if (lengths is not None or mask is not None) and len(outer) not in (1, 2):
        axes, row = "B, T" if batch_first else "T, B", "" if classes is None else ", V"
        came = outer if classes is None else (*outer, classes)
        raise ValueError(
            f"{name}: expected shape ({axes}{row}) or (T{row or ','}) with lengths or mask, "
            f"got {came}"
        )
    counted = _counted(outer, len(outer) == 2, lengths, mask, batch_first)
    if ignore_index is not None:
        unlike = wanted != _check.integer(ignore_index, "ignore_index", -(2**63))
        counted = unlike if counted is None else counted & unlike
    if weights is not None:
        counted = weights > 0 if counted is None else counted & (weights > 0)
    in_range(wanted, counted, classes, "targets")
    return wanted, counted


def classes_of_rows(
    targets: ArrayLike,
    outer: tuple[int, ...],
    classes: int | None,
    like: str,
    name: str = "targets",
) -> Array:
    """Return whole numbers, one for each row of what error texts call `like`."""
    given = _check.read(targets, name).shape
    if classes not in (None, 1) and given == (*outer, classes):
        raise ValueError(
            f"{name}: expected the class of each row, {outer}, got {given}; if these are one-hot "
            "rows, pass their argmax(axis=-1)"
        )
    wanted = integers(targets, name)
    last = "" if classes is None else " without its last axis"
    if wanted.shape != outer:
        raise ValueError(f"{name}: expected the shape of {like}{last}, {outer}, got {wanted.shape}")
    return wanted


def in_range(given: Array, counted: Array | None, classes: int | None, name: str) -> None:
    """Refuse rows that count and are not a class."""
    wrong = given < 0 if classes is None else (given < 0) | (given >= classes)
    if counted is not None:
        wrong &= counted
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        found = int(given[at])
        hint = f"; rows to leave out: ignore_index={found}, lengths= or mask=" if found < 0 else ""
        expected = "classes of at least 0" if classes is None else f"classes in [0, {classes})"
        raise ValueError(f"{name}: expected {expected}, got {found} at {at}{hint}")


def number_targets(
    targets: ArrayLike,
    a: Array,
    name: str,
    *,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    batch_first: bool,
) -> tuple[Array, Array | None]:
    """Return the right value of each element of the prediction `a`, and which steps count."""
    wanted = numbers_like(targets, a.shape, name)
    batched = a.ndim > 2
    if a.ndim == 2:  # (T, B) or (T, features): the shape of mask or lengths decides
        sequences = a.shape[0 if batch_first else 1]
        batched = np.asarray(mask).ndim == 2 or np.asarray(lengths).shape == (sequences,)
    elif a.ndim == 0 and not (lengths is None and mask is None):
        raise ValueError(f"{name}: expected a first axis of steps with lengths or mask, got ()")
    return wanted, _counted(a.shape[: 1 + batched], batched, lengths, mask, batch_first)


def numbers_like(
    targets: ArrayLike, shape: tuple[int, ...], like: str, name: str = "targets"
) -> Array:
    """Return real numbers of the shape of what error texts call `like`."""
    wanted = _check.read(targets, name)
    if isinstance(targets, np.ma.MaskedArray) or wanted.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {_came(targets, name)}")
    if wanted.shape != shape:
        raise ValueError(f"{name}: expected the shape of {like}, {shape}, got {wanted.shape}")
    return wanted


def in_unit(targets: Array, counted: Array | None, name: str = "targets") -> None:
    """Refuse targets that count and are not in [0, 1]."""
    wrong = ~((targets >= 0) & (targets <= 1))
    if counted is not None:
        wrong[~counted] = False
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        found = targets[at].item()
        place = f" at {at}" if at else ""
        hint = "; steps to leave out: lengths= or mask=" if found < 0 else ""
        raise ValueError(f"{name}: expected numbers in [0, 1], got {found}{place}{hint}")


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


def chosen(a: Array, counted: Array | None) -> Array:
    """Return what counts of an array."""
    return a if counted is None else a[counted]


def spread(gradient: Array, shape: tuple[int, ...], counted: Array | None) -> Array:
    """Put the gradient of the rows that count into an array of zeros."""
    if counted is None:
        return gradient.reshape(shape)
    whole = np.zeros(shape, gradient.dtype)
    whole[counted] = gradient
    return whole


# --- weights ----------------------------------------------------------------------------------


def weights_of_classes(
    value: ArrayLike, classes: int, targets: Array, counted: Array | None
) -> Array:
    """Return the weight of each row by its class; 0 in rows that do not count."""
    of_classes = weights(value, "class_weights", ((classes,),))
    of_rows = np.zeros(targets.shape)
    where = np.ones(targets.shape, bool) if counted is None else counted
    of_rows[where] = of_classes[targets[where]]
    return of_rows


def weights_of_rows(value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the weights of what lies under the first axes of an array of this shape."""
    least = min(1, len(shape))
    return weights(value, "weights", tuple(shape[:k] for k in range(least, len(shape) + 1)))


def shares(of_rows: Array, counted: Array | None) -> tuple[Array, Array]:
    """Return each counted row's share in the weighted mean, and which rows count.

    Weights and `counted` have the shape of the first axes of one array. Rows of weight 0 do not
    count.
    """
    if counted is not None:
        shape = max(of_rows.shape, counted.shape, key=len)
        of_rows = np.where(under(counted, shape), under(of_rows, shape), 0.0)
    counted = np.asarray(of_rows > 0)
    found = of_rows[counted]
    if found.size:
        found = found / found.max()  # so that no sum of finite weights is infinite
        found /= found.sum()
    return found, counted


def under(a: Array, shape: tuple[int, ...]) -> Array:
    """Return an array whose shape is the first axes of `shape`, repeated along the other axes."""
    return np.broadcast_to(a.reshape(a.shape + (1,) * (len(shape) - a.ndim)), shape)


def positive_weights(value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return a weight for each element of a prediction, from one number or one for each column."""
    return np.broadcast_to(weights(value, "pos_weight", ((), shape[-1:])), shape)


def weights(value: ArrayLike, name: str, shapes: tuple[tuple[int, ...], ...]) -> Array:
    """Return finite numbers of at least 0, of one of these shapes."""
    a = _check.read(value, name)
    if isinstance(value, np.ma.MaskedArray) or a.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {_check.describe(a)}")
    if a.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(f"{name}: expected shape {expected}, got {a.shape}")
    a = a.astype(np.float64)
    wrong = ~((a >= 0) & np.isfinite(a))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(
            f"{name}: expected finite numbers of at least 0, got {float(a[at])}"
            f"{f' at {at}' if at else ''}"
        )
    return a
