"""The best of the values that a training run reports, for schedules and early stopping."""

from __future__ import annotations

import math

from .._checks import arguments as _check
from .._checks.options import number

__all__ = ["Best"]


class Best:
    """The best value so far.

    Parameters
    ----------
    mode : "min" or "max"
        Whether small values are good, or large ones.
    margin : float
        A value is better only if it passes the best one by more than this.
    relative : bool
        Whether the margin is a share of the best value's size.
    """

    def __init__(self, mode: object, margin: float, *, relative: bool = False) -> None:
        self.value: float | None = None
        self._sign = {"min": -1.0, "max": 1.0}[_check.choice(mode, "mode", ("min", "max"))]
        self._margin = margin
        self._relative = relative

    def beaten_by(self, value: object) -> bool:
        """Return whether a value is better than all that were taken.

        A value that is not finite is never better.
        """
        real = number(value, "value", "a number", lambda _: True)
        if self.value is None or not math.isfinite(real):
            return math.isfinite(real)
        margin = self._margin * (abs(self.value) if self._relative else 1.0)
        return self._sign * real > self._sign * self.value + margin

    def take(self, value: float) -> bool:
        """Remember a value if it is better than all that were taken; return whether it is."""
        better = self.beaten_by(value)
        if better:
            self.value = float(value)
        return better
