"""The texts of what this package refuses: what was expected, what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from .._check import describe
from .._spec import Array

LISTED = 40  # names of a whole model's state dict are cut off here


def listed(parts: Iterable[str]) -> str:
    """Names in an error text."""
    parts = list(parts)
    more = f" and {len(parts) - LISTED} more" if len(parts) > LISTED else ""
    return (", ".join(parts[:LISTED]) or "nothing") + more


def found(given: Mapping[str, Any]) -> str:
    """What came: names, with dtypes and shapes."""
    parts = []
    for name, value in given.items():
        shape = getattr(value, "shape", None)
        kind = getattr(value, "dtype", "") if shape is not None else type(value).__name__
        parts.append(f"{name} {kind} {'' if shape is None else tuple(shape)}".strip())
    return listed(parts)


def differs(what: str, expected: str, came: str) -> NoReturn:
    """Names, shapes, numbers of arrays or sizes that do not fit."""
    raise ValueError(f"{what}: expected {expected}; found {came}")


def wrong_type(what: str, expected: str, value: object) -> NoReturn:
    """A container or an array of the wrong kind."""
    raise TypeError(f"{what}: expected {expected}, got {describe(value)}")


def mapping(what: str, value: object) -> Mapping[str, Any]:
    """A mapping of names to arrays."""
    if not isinstance(value, Mapping) or any(not isinstance(name, str) for name in value):
        wrong_type(what, "a mapping of names to arrays", value)
    return value


def floats(what: str, name: str, value: object) -> Array:
    """An array of floating point, of whatever system NumPy can read."""
    try:
        a = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises RuntimeError
        raise TypeError(f"{what}: {name}: NumPy cannot read it: {error}") from None
    if a.dtype.kind != "f" or isinstance(value, np.ma.MaskedArray):
        wrong_type(what, f"{name} as an array of floating point", value if a.ndim == 0 else a)
    return a.astype(a.dtype.newbyteorder("="), copy=False)


def not_installed(extra: str, package: str, error: ImportError) -> NoReturn:
    """A file format whose package is an extra."""
    text = f"this file format needs the package {package}: pip install 'fusedrnn[{extra}]'"
    raise ImportError(text) from error
