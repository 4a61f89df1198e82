"""Adam's state for a parameter, in memory and as plain arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks.arguments import describe
from ._targets import Parameter

__all__ = ["Moments", "named", "read"]

Array = NDArray[Any]


@dataclass(eq=False)
class Moments:
    """The running means of the gradient and of its square, for one parameter."""

    steps: int
    mean: Array  # of g
    square: Array  # of g^2

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Moments:
        """Return the moments of a parameter that was never stepped."""
        return cls(0, np.zeros(shape, dtype), np.zeros(shape, dtype))

    def copy(self) -> Moments:
        """Return a copy, in memory of its own."""
        return Moments(self.steps, self.mean.copy(), self.square.copy())


def named(name: str, moments: Moments) -> dict[str, Array]:
    """Return the moments of one parameter as entries of a state, which share their memory."""
    return {
        f"steps.{name}": np.array(moments.steps, dtype=np.int64),
        f"mean.{name}": moments.mean,
        f"square.{name}": moments.square,
    }


def read(state: object, parameters: Mapping[str, Parameter]) -> dict[str, Moments]:
    """Return copies of the moments of all parameters; one ValueError lists all faults."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected what state_dict(target) returned, got {describe(state)}")
    expected = {name: [f"steps.{name}", f"mean.{name}", f"square.{name}"] for name in parameters}
    known = {key for keys in expected.values() for key in keys}
    wrong = [f"missing {key!r}" for keys in expected.values() for key in keys if key not in state]
    wrong += [f"unexpected {key!r}" for key in state if key not in known]
    for name, p in parameters.items():
        steps, mean, square = expected[name]
        wrong += _wrong_steps(steps, state)
        wrong += _wrong_moment(mean, state, p)
        wrong += _wrong_moment(square, state, p, negative=False)
    if wrong:
        raise ValueError("load_state_dict changed nothing: " + "; ".join(wrong))
    return {
        name: Moments(int(state[steps]), state[mean], state[square]).copy()
        for name, (steps, mean, square) in expected.items()
    }


def _wrong_steps(key: str, state: Mapping[str, Any]) -> list[str]:
    if key not in state:
        return []
    a = np.asarray(state[key])
    if a.dtype.kind in "iu" and a.shape == () and a >= 0:
        return []
    came = f"{a}" if a.shape == () else describe(a)
    return [f"{key}: expected a whole number of at least 0, got {came}"]


def _wrong_moment(
    key: str, state: Mapping[str, Any], like: Parameter, *, negative: bool = True
) -> list[str]:
    if key not in state:
        return []
    value = state[key]
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        return [f"{key}: expected {like.dtype} {like.shape}, got {describe(value)}"]
    return [] if negative or not (value < 0).any() else [f"{key}: expected no negative numbers"]
