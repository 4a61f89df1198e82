"""What optimisers keep of a parameter (its moments), in memory and as plain arrays by name.

Moments are the number of steps that a parameter has taken, and arrays of the parameter's shape and
dtype: running means of its gradients. Every array is zero before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._checks.arguments import describe
from ._targets import Parameter

__all__ = ["MeanAndSquare", "Moments", "SquareAndVelocity", "Velocity", "named", "read"]

Array = NDArray[Any]
M = TypeVar("M", bound="Moments")  # typing.Self came with Python 3.11

# Running means of what is never negative.
SQUARES = frozenset({"square"})


@dataclass(eq=False)
class Moments:
    """The moments of one parameter; the fields after `steps` are its arrays."""

    steps: int

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        """Return the names of the arrays."""
        return tuple(field.name for field in fields(cls) if field.name != "steps")

    @classmethod
    def of(cls: type[M], shape: tuple[int, ...], dtype: np.dtype[Any]) -> M:  # noqa: PYI019
        """Return the moments of a parameter that was never stepped."""
        return cls(0, *(np.zeros(shape, dtype) for _ in cls.names()))

    @property
    def first(self) -> Array:
        """One of the arrays, which all have the same shape and dtype."""
        array: Array = getattr(self, self.names()[0])
        return array

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays, by name."""
        return {name: getattr(self, name) for name in self.names()}

    def copy(self: M) -> M:  # noqa: PYI019
        """Return a copy, in memory of its own."""
        return type(self)(self.steps, *(array.copy() for array in self.arrays.values()))


@dataclass(eq=False)
class MeanAndSquare(Moments):
    """Moments of Adam and AdamW."""

    mean: Array  # of g
    square: Array  # of g^2


@dataclass(eq=False)
class Velocity(Moments):
    """Moments of SGD."""

    velocity: Array  # the sum of all g so far, each decayed by the momentum in every later step


@dataclass(eq=False)
class SquareAndVelocity(Moments):
    """Moments of RMSprop."""

    square: Array  # of g^2
    velocity: Array  # the sum of all scaled g so far, decayed as in `Velocity`


def named(name: str, moments: Moments) -> dict[str, Array]:
    """Return the moments of one parameter as entries of a state, which share their memory."""
    return {
        f"steps.{name}": np.array(moments.steps, dtype=np.int64),
        **{f"{of}.{name}": array for of, array in moments.arrays.items()},
    }


def read(state: object, parameters: Mapping[str, Parameter], kind: type[M]) -> dict[str, M]:
    """Return copies of the moments of all parameters; one ValueError lists all faults."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected what state_dict(target) returned, got {describe(state)}")
    parts = ("steps", *kind.names())
    expected = {name: {part: f"{part}.{name}" for part in parts} for name in parameters}
    known = [key for keys in expected.values() for key in keys.values()]
    wrong = [f"missing {key!r}" for key in known if key not in state]
    wrong += [f"unexpected {key!r}" for key in state if key not in known]
    for name, p in parameters.items():
        for part, key in expected[name].items():
            if key not in state:
                continue
            if part == "steps":
                wrong += _wrong_steps(key, state[key])
            else:
                wrong += _wrong_moment(key, state[key], p, negative=part not in SQUARES)
    if wrong:
        raise ValueError("load_state_dict changed nothing: " + "; ".join(wrong))
    return {
        name: kind(int(state[keys["steps"]]), *(state[keys[of]] for of in kind.names())).copy()
        for name, keys in expected.items()
    }


def _wrong_steps(key: str, value: object) -> list[str]:
    a = np.asarray(value)
    if a.dtype.kind in "iu" and a.shape == () and a >= 0:
        return []
    came = f"{a}" if a.shape == () else describe(a)
    return [f"{key}: expected a whole number of at least 0, got {came}"]


def _wrong_moment(key: str, value: object, like: Parameter, *, negative: bool) -> list[str]:
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        return [f"{key}: expected {like.dtype} {like.shape}, got {describe(value)}"]
    return [] if negative or not (value < 0).any() else [f"{key}: expected no negative numbers"]
