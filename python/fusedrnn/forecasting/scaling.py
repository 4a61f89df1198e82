"""Changes of a series that make it easier to learn, and their way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scaling"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Scaling:
    """Logarithms, differences, and a standard scale, all of which can be undone.

    Logarithms turn growth in per cent, and seasons that grow with the level, into a line and equal
    seasons. Differences to the step before remove a trend; differences to the same step of the last
    season remove the season too.

    Parameters
    ----------
    log : bool
        Whether to take logarithms; all values must then be positive.
    lag : int
        The step to take differences to: 1 for the step before, the season for the same step of the
        last season, 0 for no differences.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> scaling = forecasting.Scaling(log=True, lag=1)
    >>> y = np.array([1.0, 2.0, 8.0])
    >>> z, centre, spread = scaling.apply(y)
    >>> z
    array([-1.,  1.])
    >>> scaling.undo(y, np.array([-1.0, 1.0]), centre, spread).round(6)
    array([16., 64.])
    """

    log: bool = False
    lag: int = 0

    def __str__(self) -> str:
        what = {0: "", 1: "differences of ", -1: f"differences at lag {self.lag} of "}
        return what[min(self.lag, 1) if self.lag < 2 else -1] + (
            "logarithms" if self.log else "values"
        )

    def apply(self, values: Array) -> tuple[Array, float, float]:
        """Change a series.

        Parameters
        ----------
        values : ndarray, shape (n,)
            The series, longer than `lag`.

        Returns
        -------
        z : ndarray of float64, shape (n - lag,)
            With mean 0 and standard deviation 1; zeros if the changed series is constant.
        centre, spread : float
            The mean and the standard deviation before, for `undo`; 0 for a constant.
        """
        z = self._levels(values)
        if self.lag:
            z = z[self.lag :] - z[: -self.lag]
        centre, spread = float(np.mean(z)), float(np.std(z))
        # Rounding alone makes the differences of a straight line differ.
        if spread <= 1e-12 * float(np.max(np.abs(self._levels(values)))):
            return np.zeros_like(z), centre, 0.0
        return (z - centre) / spread, centre, spread

    def undo(self, values: Array, forecast: Array, centre: float, spread: float) -> Array:
        """Turn a forecast of the changed series into one of the series.

        Parameters
        ----------
        values : ndarray, shape (n,)
            The series that the forecast continues.
        forecast : ndarray, shape (H,)
            The next steps of z.
        centre, spread : float
            From `apply`.

        Returns
        -------
        ndarray of float64, shape (H,)
        """
        steps = np.asarray(forecast, np.float64) * spread + centre
        if self.lag:
            past = self._levels(values[len(values) - self.lag :])
            rows = -(-len(steps) // self.lag)
            padded = np.zeros(rows * self.lag)
            padded[: len(steps)] = steps
            # Each step is the one `lag` steps before it and its difference.
            steps = (past + np.cumsum(padded.reshape(rows, self.lag), axis=0)).ravel()[: len(steps)]
        return self.from_errors(steps)

    def to_errors(self, values: Array) -> Array:
        """Return values on the scale on which errors are alike: logarithms, or the values."""
        return self._levels(values)

    def from_errors(self, values: Array) -> Array:
        """Undo `to_errors`."""
        if not self.log:
            return values
        with np.errstate(over="ignore", under="ignore"):  # an explosive autoregression
            powers: Array = np.exp(values)
        return powers

    def _levels(self, values: Array) -> Array:
        y = np.asarray(values, np.float64)
        return np.log(y) if self.log else y
