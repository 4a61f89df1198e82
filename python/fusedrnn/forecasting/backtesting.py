"""Back-tests on rolling origins, measures of errors, and intervals from errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import nn

__all__ = [
    "Errors",
    "backtest",
    "conformal_widths",
    "fewest_origins",
    "following",
    "measure",
    "naive_scale",
    "rolling_origins",
]

Array = NDArray[Any]


class Errors(NamedTuple):
    """How far forecasts were from what came.

    Attributes
    ----------
    mae : float
        Mean absolute error.
    rmse : float
        Root of the mean squared error.
    mase : float
        Mean absolute scaled error: `mae` divided by that of seasonal naive forecasts, one season
        ahead, of the values before the first origin; NaN if those have no error.

    Examples
    --------
    >>> from fusedrnn import forecasting
    >>> forecasting.Errors(mae=2.0, rmse=2.5, mase=0.8).mase < 1  # better than seasonal naive
    True
    """

    mae: float
    rmse: float
    mase: float


def rolling_origins(first: int, last: int, count: int) -> Array:
    """Spread origins evenly.

    Parameters
    ----------
    first, last : int
        The first and the last origin; an origin is the number of values that a forecast knows.
    count : int
        How many, at least 1; fewer if there are not so many whole numbers between. One is the last.

    Returns
    -------
    ndarray of int64, rising

    Examples
    --------
    >>> from fusedrnn import forecasting
    >>> forecasting.rolling_origins(72, 120, 4)
    array([ 72,  88, 104, 120])
    """
    count = min(count, last - first + 1)
    steps = np.arange(count) * (last - first) // max(count - 1, 1)
    return last - steps[::-1]


def following(values: Array, origins: Array, horizon: int) -> Array:
    """Return what came after each origin, shape (K, horizon).

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.following(np.arange(9), np.array([3, 6]), horizon=2)
    array([[3, 4],
           [6, 7]])
    """
    return values[origins[:, None] + np.arange(horizon)]


def backtest(values: Array, origins: Array, method: Callable[[Array], Array]) -> Array:
    """Forecast from each origin, with the values before it alone.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series.
    origins : ndarray of int, shape (K,)
        Numbers of values; `method` gets so many of the first.
    method : callable
        Maps the values so far to a forecast, shape (H,).

    Returns
    -------
    ndarray of float64, shape (K, H)

    Notes
    -----
    Source: Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of
    Forecasting, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.backtest(np.arange(9.0), np.array([3, 6]), lambda y: forecasting.naive(y, 2))
    array([[2., 2.],
           [5., 5.]])
    """
    return np.stack([np.asarray(method(values[:origin]), np.float64) for origin in origins])


def naive_scale(values: Array, season: int) -> float:
    """Return the mean absolute error of seasonal naive forecasts, which MASE is relative to.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series before the first origin, longer than a season.
    season : int
        The steps of a season; 1 if there is none.

    Returns
    -------
    float
        That of `fusedrnn.nn.metrics.naive_scale`.

    Raises
    ------
    TypeError, ValueError
        As `fusedrnn.nn.metrics.naive_scale`.

    Notes
    -----
    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.naive_scale(np.array([1.0, 5.0, 2.0, 7.0]), season=2)
    1.5
    """
    return float(nn.metrics.naive_scale(values, season))


def measure(actual: Array, forecasts: Array, scale: float) -> Errors:
    """Measure forecasts.

    Parameters
    ----------
    actual, forecasts : ndarray, shape (K, H)
        What came, and what was forecast.
    scale : float
        From `naive_scale`.

    Returns
    -------
    Errors

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> actual, forecasts = np.array([[1.0, 3.0]]), np.array([[2.0, 6.0]])
    >>> forecasting.measure(actual, forecasts, scale=4.0).mase
    0.5
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an explosive autoregression
        apart = np.abs(np.asarray(actual, np.float64) - forecasts)
        mae, rmse = float(np.mean(apart)), float(np.sqrt(np.mean(apart * apart)))
    return Errors(mae, rmse, mae / scale if scale > 0 else math.nan)


def fewest_origins(coverage: float) -> int:
    """Return how many origins intervals of this coverage need.

    Examples
    --------
    >>> from fusedrnn.forecasting import backtesting
    >>> backtesting.fewest_origins(0.8), backtesting.fewest_origins(0.95)
    (4, 19)
    """
    return max(1, math.ceil(coverage / (1 - coverage) - 1e-9))


def conformal_widths(residuals: Array, coverage: float) -> Array:
    """Return half the widths of intervals, from the errors of a back-test.

    Parameters
    ----------
    residuals : ndarray, shape (K, H)
        Errors from K origins, for each number of steps ahead.
    coverage : float
        The share of values that an interval shall hold, in (0, 1).

    Returns
    -------
    ndarray of float64, shape (H,)
        For each number of steps ahead the k-th smallest absolute error, where k is (K + 1) *
        coverage, rounded up.

    Raises
    ------
    ValueError
        There are fewer than ``coverage / (1 - coverage)`` origins.

    Notes
    -----
    This is split-conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a
    Random World", 2005; Lei et al., "Distribution-free predictive inference for regression",
    Journal of the American Statistical Association, 2018), for each number of steps ahead alone, as
    Stankeviciute, Alaa and van der Schaar do ("Conformal time-series forecasting", NeurIPS 2021).
    The coverage is guaranteed if errors are exchangeable. Errors of one series from neighbouring
    origins are not quite that, so it holds only about.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.conformal_widths(np.array([[1.0], [-3.0], [2.0], [0.5]]), 0.8)
    array([3.])
    """
    count = len(residuals)
    fewest = fewest_origins(coverage)
    if count < fewest:
        raise ValueError(
            f"coverage: {coverage:g} needs the errors from at least {fewest} origins, got {count}"
        )
    rank = min(count, math.ceil((count + 1) * coverage - 1e-9))
    widths: Array = np.sort(np.abs(residuals), axis=0)[rank - 1]
    return widths
