"""Argument types with plain messages."""

from __future__ import annotations

import argparse
import math

__all__ = ["count", "natural", "non_negative", "positive"]


def natural(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = count(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def count(text: str) -> int:
    """Parse a whole number of at least 0."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return number


def non_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"expected a finite number of 0 or more, got {text}")
    return number


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    number = non_negative(text)
    if number == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
