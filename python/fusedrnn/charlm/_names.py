"""Mappings whose names begin with a part of the model, such as "dense.weight"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

__all__ = ["prefixed", "without_prefix"]

V = TypeVar("V")


def prefixed(prefix: str, values: Mapping[str, V]) -> dict[str, V]:
    """Put a prefix before every name of a mapping."""
    return {prefix + name: value for name, value in values.items()}


def without_prefix(prefix: str, values: Mapping[str, V]) -> dict[str, V]:
    """Return the entries whose names begin with the prefix, without it."""
    return {k[len(prefix) :]: value for k, value in values.items() if k.startswith(prefix)}
