"""Forecasts without a network: naive, seasonal naive, and a linear autoregression."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Autoregression", "autoregression", "naive", "seasonal_naive"]

Array = NDArray[Any]

# Weight of the squared coefficients beside the squared errors. It changes no digit that is printed,
# and keeps the coefficients finite if lags are linearly dependent, as in a series without noise.
RIDGE = 1e-8


def naive(values: Array, horizon: int) -> Array:
    """Repeat the last value of a series.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series.
    horizon : int
        The number of steps.

    Returns
    -------
    ndarray, shape (horizon,)

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.naive(np.array([4, 7, 5]), horizon=2)
    array([5, 5])
    """
    return seasonal_naive(values, horizon, 1)


def seasonal_naive(values: Array, horizon: int, season: int) -> Array:
    """Repeat the last season of a series.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series, with at least `season` values.
    horizon, season : int
        The number of steps, and of steps in a season.

    Returns
    -------
    ndarray, shape (horizon,)

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.seasonal_naive(np.array([9, 1, 2, 3]), horizon=5, season=3)
    array([1, 2, 3, 1, 2])
    """
    return values[len(values) - season + np.arange(horizon) % season]


class Autoregression(NamedTuple):
    """A linear autoregression: ``z[t] = constant + sum(coefficients[k] * z[t - 1 - k])``.

    Attributes
    ----------
    constant : float
    coefficients : ndarray of float64, shape (p,)
        The first is that of the step before.
    deviation : float
        Root of the mean squared error, one step ahead, of the values that it was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> half = forecasting.Autoregression(1.0, np.array([0.5]), deviation=0.0)
    >>> half.forecast(np.array([6.0]), horizon=3)
    array([4. , 3. , 2.5])
    """

    constant: float
    coefficients: Array
    deviation: float

    def forecast(self, values: Array, horizon: int) -> Array:
        """Continue a series; each step reads the forecasts of the steps before it.

        Parameters
        ----------
        values : ndarray, shape (n,)
            The series, with at least p values.
        horizon : int
            The number of steps.

        Returns
        -------
        ndarray of float64, shape (horizon,)
        """
        order = len(self.coefficients)
        series = np.zeros(order + horizon)
        series[:order] = values[len(values) - order :]
        with np.errstate(over="ignore", invalid="ignore"):  # an explosive one
            for t in range(order, order + horizon):
                before = series[t - order : t][::-1]
                series[t] = self.constant + np.sum(self.coefficients * before)
        return series[order:]


def autoregression(values: Array, longest: int) -> Autoregression:
    """Fit linear autoregressions by least squares, and choose their order.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series, on a scale of about 1.
    longest : int
        The largest order, from 0 on; with fewer than 2 * longest + 3 values it is less.

    Returns
    -------
    Autoregression
        Of the order with the least AICc (Hurvich and Tsai, "Regression and time series model
        selection in small samples", Biometrika, 1989). All orders are compared on the same steps;
        the chosen one is then fitted to all steps that have its lags.

    Notes
    -----
    One QR decomposition by reflections (Householder, 1958) gives the least squares of every order,
    because the columns of the smaller orders come first. It is written with sums of fixed order:
    numpy.linalg gives other bits for other numbers of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> z = [1.0]
    >>> for noise in np.random.default_rng(0).normal(size=500):
    ...     z.append(0.8 * z[-1] + noise)
    >>> forecasting.autoregression(np.array(z), longest=3).coefficients.round(1)
    array([0.8])
    """
    z = np.asarray(values, np.float64)
    largest = max(0, min(longest, (len(z) - 3) // 2))
    rows = len(z) - largest
    _, _, squares = _reduced(z, largest)
    # Squared errors of rounding are 0 for this purpose.
    least = max(1e-20 * float(np.sum(z * z)), 1e-300)
    order = min(
        range(largest + 1), key=lambda p: _aicc(max(float(squares[p + 1]), least), rows, p + 2)
    )
    r, c, squares = _reduced(z, order)
    b = _solved(r, c)
    error = math.sqrt(max(0.0, float(squares[-1])) / (len(z) - order))
    return Autoregression(float(b[0]), b[1:], error)


def _aicc(squares: float, rows: int, count: int) -> float:
    """Return AICc for a sum of squared errors; `count` parameters, with the variance."""
    if rows - count - 1 <= 0:
        return math.inf
    return rows * math.log(squares / rows) + 2 * count * rows / (rows - count - 1)


def _reduced(z: Array, order: int) -> tuple[Array, Array, Array]:
    """Return R and c of the least squares R b = c, and for j columns the sum of squared errors.

    The columns are 1 and the lags from 1 to `order`; the rows are all steps that have these lags.
    """
    count = order + 1
    lags = [z[order - k : len(z) - k] for k in range(1, count)]
    a = np.stack([np.ones(len(z) - order), *lags, z[order:]], axis=1)
    a = np.concatenate([a, math.sqrt(RIDGE * len(a)) * np.eye(count, count + 1)])
    for j in range(count):
        v = a[j:, j].copy()
        v[0] += math.copysign(math.sqrt(np.sum(v * v)), v[0])
        products = np.sum(v[:, None] * a[j:, j:], axis=0)
        a[j:, j:] -= (2 / np.sum(v * v)) * v[:, None] * products
    squares = np.array([np.sum(a[j:, count] ** 2) for j in range(count + 1)])
    return a[:count, :count], a[:count, count], squares


def _solved(r: Array, c: Array) -> Array:
    """Solve the upper triangular system r b = c."""
    b = np.zeros(len(c))
    for j in reversed(range(len(c))):
        b[j] = (c[j] - np.sum(r[j, j + 1 :] * b[j + 1 :])) / r[j, j]
    return b
