"""Checks of the arguments of nn: hyperparameters, and mappings of names to arrays.

An error text names the argument, what was expected and what was given. For common mistakes it says
what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .._checks import arguments as _check
from .._checks.arguments import flag
from .._checks.options import number
from .losses import Loss

__all__ = [
    "betas",
    "decay",
    "distinct",
    "epsilon",
    "flag",
    "gradients",
    "ids",
    "inputs",
    "last_axis",
    "learning_rate",
    "matrix",
    "memory_of",
    "not_negative",
    "positive",
    "row",
    "share",
]

Array = NDArray[Any]


# --- hyperparameters --------------------------------------------------------------------------


def learning_rate(value: object, name: str = "lr") -> float:
    """Check a finite number that is at least 0."""
    if hasattr(value, "params") or (isinstance(value, Iterable) and not isinstance(value, str)):
        raise TypeError(
            f"{name}: expected a finite number of at least 0, got {_check.describe(value)}; the "
            "parameters are given to step(target, grads)"
        )
    return not_negative(value, name)


def positive(value: object, name: str) -> float:
    """Check a number above 0, which may be infinity."""
    return number(value, name, "a number above 0", lambda v: v > 0)


def not_negative(value: object, name: str) -> float:
    """Check a finite number that is at least 0."""
    return number(value, name, "a finite number of at least 0", lambda v: 0 <= v < math.inf)


def epsilon(value: object, name: str) -> float:
    """Check a finite number above 0."""
    return number(value, name, "a finite number above 0", lambda v: 0 < v < math.inf)


def decay(value: object, name: str) -> float:
    """Check a number in [0, 1)."""
    return number(value, name, "a number in [0, 1)", lambda v: 0 <= v < 1)


def share(value: object, name: str) -> float:
    """Check a number in [0, 1]."""
    return number(value, name, "a number in [0, 1]", lambda v: 0 <= v <= 1)


def betas(value: object, name: str) -> tuple[float, float]:
    """Check two numbers in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        came = f"{len(value)} items" if isinstance(value, (tuple, list)) else _check.describe(value)
        raise TypeError(f"{name}: expected two numbers in [0, 1), got {came}")
    first, second = (decay(one, f"{name}[{k}]") for k, one in enumerate(value))
    return first, second


# --- mappings of names to arrays --------------------------------------------------------------


def _is_array(value: object) -> TypeGuard[Array]:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind == "f"
        and not isinstance(value, np.ma.MaskedArray)
    )


def gradients(value: object, name: str) -> dict[str, Array]:
    """Check a mapping of names to floating-point arrays; return a dict of the same arrays."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name}: expected a mapping of names to arrays, got {_came(value)}{_advice(value)}"
        )
    arrays = dict(value)
    for key, array in arrays.items():
        if not _is_array(array):
            raise TypeError(
                f"{name}[{key!r}]: expected an array of floating point, got {_came(array)}"
                f"{_advice_inside(array)}"
            )
    return arrays


def _came(value: object) -> str:
    return "a Loss" if isinstance(value, Loss) else _check.describe(value)


def _advice(value: object) -> str:
    """Return what to write in place of something that is not a mapping."""
    if isinstance(value, Loss):
        return (
            "; give loss.gradient to the last layer's backward(), and pass the gradients by name "
            "that backward() returns"
        )
    if isinstance(value, (tuple, list)):
        if any(isinstance(part, Mapping) for part in value):
            if isinstance(value, tuple):
                return "; backward() returns the gradients by name last: pass that part alone"
            return "; pass the mappings one after another"
        return '; write {"name": array, ...}'
    if isinstance(value, np.ndarray):
        return '; write {"name": array}'
    if hasattr(value, "backward"):
        return "; pass the gradients by name that its backward() returned"
    return ""


def _advice_inside(value: object) -> str:
    """Return what to write in place of an entry that is not an array."""
    if isinstance(value, Mapping):
        return "; pass each mapping by itself"
    if value is None:
        return "; leave out a parameter that has no gradient"
    return ""


def memory_of(array: Array) -> object:
    """Return the object that owns the memory of an array: itself, or the base of a view."""
    owner: object = array
    while True:
        if isinstance(owner, np.ndarray):
            base: object = owner.base
        elif isinstance(owner, memoryview):
            base = owner.obj
        else:
            return owner
        if base is None:
            return owner
        owner = base


def distinct(arrays: Iterable[tuple[str, Array]]) -> None:
    """Refuse arrays that share memory, because the shared part would be changed twice."""
    of_one_owner: dict[int, list[tuple[int, int, str, Array]]] = {}
    for name, array in arrays:
        if array.size:
            place = (*_bounds(array), name, array)
            of_one_owner.setdefault(id(memory_of(array)), []).append(place)
    for places in of_one_owner.values():
        reaching: list[tuple[int, int, str, Array]] = []
        for place in sorted(places, key=lambda place: place[0]):
            start, _, name, array = place
            reaching = [other for other in reaching if other[1] > start]
            for _, _, other, there in reaching:
                if np.shares_memory(array, there):
                    raise ValueError(
                        f"{other} and {name} share memory; pass each array once, and the sum of "
                        "the gradients if one parameter serves twice"
                    )
            reaching.append(place)


def _bounds(array: Array) -> tuple[int, int]:
    """Return the address of the first byte of an array, and of the first byte after it."""
    first: int = array.__array_interface__["data"][0]
    last = first + array.itemsize
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            first += (length - 1) * stride
        else:
            last += (length - 1) * stride
    return first, last


# --- arguments of layers ----------------------------------------------------------------------


def matrix(dtype: np.dtype[Any], **sizes: int) -> None:
    """Refuse a matrix that is too large for the kernels, by the names of its two sizes."""
    first, second = sizes.values()
    if 2 * (first + 64) * (second + 64) * dtype.itemsize > _check.MAX_BYTES:
        _check.too_large(", ".join(sizes), (first, second))


def inputs(value: object, dtype: np.dtype[Any], name: str) -> Array:
    """Return floating-point numbers in the layer's dtype, contiguous."""
    if not isinstance(value, np.ma.MaskedArray):
        value = _check.read(value, name)
        if value.dtype.kind in "iub":
            raise TypeError(
                f"{name}: expected floating point, got {value.dtype}; pass "
                f"{name}.astype(np.float32)"
            )
    return _check.as_float(value, dtype, name)


def last_axis(a: Array, name: str, size: int) -> Array:
    """Check the length of the last axis."""
    if a.ndim == 0 or a.shape[-1] != size:
        raise ValueError(f"{name}: expected shape (..., {size}), got {a.shape}")
    return a


def ids(value: object, count: int, name: str = "ids") -> Array:
    """Return ids in [0, count), of any shape, as a new array of int64."""
    a, hidden = _check.read(value, name), isinstance(value, np.ma.MaskedArray)
    if hidden or (a.size and a.dtype.kind not in "iu"):  # NumPy makes [] an array of float64
        came = "a masked array" if hidden else _check.describe(a if a.ndim else value)
        raise TypeError(f"{name}: expected integers, got {came}")
    wrong = (a < 0) | (a >= count)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(f"{name}: expected ids in [0, {count}), got {a[at]} at {at}")
    return a.astype(np.int64)


def row(value: object, name: str, count: int, low: int = 0) -> int:
    """Check one whole number in [low, count)."""
    number = _check.integer(value, name, low)
    if number >= count:
        raise ValueError(f"{name}: expected a number in [{low}, {count}), got {number}")
    return number
