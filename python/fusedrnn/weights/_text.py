"""Names and shapes for error texts; the errors themselves are in `_checks.arguments`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LISTED = 40  # names shown at most, because a state dict of a whole model has many


def listed(parts: Iterable[str]) -> str:
    """Join names for an error text."""
    parts = list(parts)
    more = f" and {len(parts) - LISTED} more" if len(parts) > LISTED else ""
    return (", ".join(parts[:LISTED]) or "nothing") + more


def found(given: Mapping[str, Any]) -> str:
    """Return what was found, for an error text: names, dtypes and shapes."""
    parts = []
    for name, value in given.items():
        shape = getattr(value, "shape", None)
        kind = getattr(value, "dtype", "") if shape is not None else type(value).__name__
        parts.append(f"{name} {kind} {'' if shape is None else tuple(shape)}".strip())
    return listed(parts)
