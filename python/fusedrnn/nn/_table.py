"""The table that `summary` of a model returns."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def table(heads: tuple[str, str, str], rows: Sequence[tuple[str, str, int]]) -> str:
    """Return rows of a part, its output and its number of parameters as text, with the sum."""
    total = sum(count for *_, count in rows)
    lines = [heads, *((a, b, f"{n:,}") for a, b, n in rows), ("total", "", f"{total:,}")]
    first, second, third = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(f"{a:<{first}}  {b:<{second}}  {c:>{third}}" for a, b, c in lines)
