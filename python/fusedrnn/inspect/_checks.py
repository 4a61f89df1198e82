"""Checks of the arguments of inspect; calls of layers check theirs themselves.

An error text names the argument, what was expected and what was given.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import GRU, LSTM, RNN

Array = NDArray[Any]


def layer(value: object) -> None:
    """Refuse what is not a recurrent layer."""
    if not isinstance(value, (RNN, LSTM, GRU)):
        raise TypeError(f"layer: expected fr.RNN, fr.LSTM or fr.GRU, got {type(value).__name__}")


def some_gradient(dy: object, dstate: object) -> None:
    """Refuse a loss of which no gradient is given."""
    if dy is None and dstate is None:
        raise ValueError(
            "dy: expected the gradient of y or a function of y that returns it, or dstate; "
            "got neither"
        )


def returned_gradient(dy: object, dstate: object) -> None:
    """Refuse a function that returns nothing: without its `return` all norms would be 0."""
    if dy is None and dstate is None:
        raise TypeError(
            "dy: expected a function that returns the gradient of y, got one that returns None"
        )


def peepholes(layer: Any) -> None:
    """Refuse gates whose slope does not follow from their value."""
    if layer.peepholes and (
        layer.clip is not None or (layer.activations or ("sigmoid",))[0] != "sigmoid"
    ):
        raise ValueError(
            "layer: gradient_norms cannot see through peepholes under clip or under other gate "
            f"activations than sigmoid; got {layer!r}"
        )


def bounded(
    gate: str, activation: object, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """Refuse to look for saturation where an activation has no two bounds."""
    if bounds is None:
        raise ValueError(
            f"layer: gate {gate!r} has the activation {activation}, which does not lie between two "
            "bounds, so it has no saturation"
        )
    return bounds


def whole(value: object, name: str, low: int, high: int | None = None) -> int:
    """Check a whole number of at least `low` and, if given, at most `high`."""
    expected = f"a whole number of at least {low}"
    if high is not None:
        expected = f"a whole number in [{low}, {high}]"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}") from None
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}: expected {expected}, got {number}")
    return number


def share(value: object, name: str) -> float:
    """Check a number above 0 and below 0.5."""
    expected = "a number above 0 and below 0.5"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    if not 0 < value < 0.5:
        raise ValueError(f"{name}: expected {expected}, got {value}")
    return float(value)


def numbers(value: object, name: str, axes: str, ndim: tuple[int, ...]) -> Array:
    """Return finite real numbers as a float64 array with one of these numbers of axes."""
    try:
        a = np.asarray(value)
        real = a.dtype.kind in "fiu"
    except (TypeError, ValueError):
        real = False
    if not real or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array {axes}, got {type(value).__name__}")
    if a.ndim not in ndim:
        raise ValueError(f"{name}: expected shape {axes}, got {a.shape}")
    return a.astype(np.float64)


def finite(a: Array, name: str) -> Array:
    """Refuse NaN and infinity."""
    if not np.isfinite(a).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return a


def real_steps(lengths: object, steps: int, batch: int) -> Array:
    """Return which steps are real, (T, B) bool."""
    if lengths is None:
        return np.ones((steps, batch), bool)
    a = np.asarray(lengths)
    if a.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {a.dtype}")
    if a.shape != (batch,):
        raise ValueError(f"lengths: expected shape ({batch},), got {a.shape}")
    if a.size and (a.min() < 0 or a.max() > steps):
        raise ValueError(f"lengths: expected numbers in [0, {steps}], got {a.tolist()}")
    return np.asarray(np.arange(steps)[:, None] < a)


# --- plots ------------------------------------------------------------------------------------


def mapping(value: object, name: str, of: str) -> Mapping[str, Any]:
    """Check a mapping that is not empty."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping of names to {of}, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name}: expected a mapping of names to {of}, got an empty one")
    return value


def as_many(value: Any, name: str, count: int, of: str) -> list[Any]:
    """Check a sequence with one item for each of something."""
    try:
        items = list(value)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence, got {type(value).__name__}") from None
    if len(items) != count:
        raise ValueError(f"{name}: expected {count}, one for each {of}, got {len(items)}")
    return items
