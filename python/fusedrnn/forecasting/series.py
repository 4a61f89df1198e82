"""Autocorrelation, the season of a series, and its windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["autocorrelation", "detect_season", "has_trend", "windows"]

Array = NDArray[Any]

# The longest season that is looked for: a year of days.
LONGEST_SEASON = 400
# Critical value of the KPSS test about a mean at 5%, table 1 of its paper.
LIMIT_OF_KPSS = 0.463
# A season must repeat this often in the series.
REPEATS = 3
# A series repeats itself after two seasons too, and noise may lift that peak above the first one.
# The shortest lag is taken whose peak is at least this share of the highest.
NEARLY_HIGHEST = 0.8


def autocorrelation(values: Array, lags: int) -> Array:
    """Return the autocorrelations of a series.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series.
    lags : int
        The largest lag, below n.

    Returns
    -------
    ndarray of float64, shape (lags + 1,)
        For each lag k from 0 on, ``sum((y[t] - mean) * (y[t + k] - mean)) / sum((y - mean)**2)``;
        all 0 for a constant series.

    Notes
    -----
    Source: Box, Jenkins, Reinsel and Ljung, "Time Series Analysis", section 2.1.5. The sums are of
    fixed order, so that no bit depends on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), 2)
    array([ 1.  , -0.75,  0.5 ])
    """
    centred = np.asarray(values, np.float64) - np.mean(values)
    power = np.sum(centred * centred)
    if power == 0:
        return np.zeros(lags + 1)
    n = len(centred)
    return np.array([np.sum(centred[k:] * centred[: n - k]) / power for k in range(lags + 1)])


def detect_season(values: Array) -> int:
    """Find the season of a series in the autocorrelations of its differences.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series.

    Returns
    -------
    int
        The number of steps of a season; 1 if there is none.

    Notes
    -----
    Differences are taken because a trend hides the season. If all values are positive, they are
    differences of logarithms. Of the peaks of the autocorrelations at lags from 2 to n / 3 (a
    season is seen three times) and at most 400, those count that have at least 0.8 of the highest;
    the season is the shortest of their lags, because the others may be its multiples. There is a
    season if its peak passes the limit of 1.645 standard errors of Bartlett's formula,
    ``sqrt((1 + 2 * sum of the squares of the shorter lags) / n)``; this is the test for seasons of
    the M4 competition (Makridakis, Spiliotis and Assimakopoulos, International Journal of
    Forecasting, 2020), which knows the season and only asks whether it matters.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> forecasting.detect_season(10 + np.sin(np.arange(40) * 2 * np.pi / 7))
    7
    >>> forecasting.detect_season(np.arange(40.0))
    1
    """
    y = np.asarray(values, np.float64)
    changes = np.diff(np.log(y) if np.all(y > 0) else y)
    lags = min(len(y) // REPEATS, LONGEST_SEASON, len(changes) - 2)
    if lags < 2 or np.ptp(changes) <= 1e-9 * np.max(np.abs(changes)):
        return 1
    r = autocorrelation(changes, lags + 1)
    shorter = np.concatenate([[0.0, 0.0], np.cumsum(r[1:-1] ** 2)])  # of the lags below each lag
    limits = 1.645 * np.sqrt((1 + 2 * shorter) / len(changes))
    peaks = [k for k in range(2, lags + 1) if r[k] > r[k - 1] and r[k] >= r[k + 1]]
    highest = max([r[k] for k in peaks], default=0.0)
    best = next((k for k in peaks if r[k] >= NEARLY_HIGHEST * highest > 0), 0)
    return best if best and r[best] > limits[best] else 1


def has_trend(values: Array) -> bool:
    """Test whether a series leaves its mean for good: a trend, or a random walk.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series, at least 3 values.

    Returns
    -------
    bool
        Whether the KPSS test rejects, at 5%, that the series varies about a fixed mean.

    Notes
    -----
    Source: Kwiatkowski, Phillips, Schmidt and Shin, "Testing the null hypothesis of stationarity
    against the alternative of a unit root", Journal of Econometrics, 1992; with 3 sqrt(n) / 13 lags
    in the long-run variance, as Hyndman and Khandakar choose differences (Journal of Statistical
    Software, 2008).

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> noise = np.random.default_rng(0).normal(size=100)
    >>> forecasting.has_trend(noise), forecasting.has_trend(np.cumsum(noise))
    (False, True)
    """
    centred = np.asarray(values, np.float64) - np.mean(values)
    n = len(centred)
    lags = int(3 * math.sqrt(n) / 13)
    products = [np.sum(centred[k:] * centred[: n - k]) for k in range(lags + 1)]
    variance = products[0] + 2 * sum((1 - k / (lags + 1)) * products[k] for k in range(1, lags + 1))
    return bool(np.sum(np.cumsum(centred) ** 2) > LIMIT_OF_KPSS * n * variance)


def windows(values: Array, window: int, horizon: int) -> tuple[Array, Array]:
    """Cut a series into windows and what follows each of them.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series.
    window, horizon : int
        Steps of a window, and steps after it.

    Returns
    -------
    x : ndarray, shape (n - window - horizon + 1, window)
        Windows, each one step after the one before it; none if the series is too short.
    y : ndarray, shape (n - window - horizon + 1, horizon)
        The steps after each window. Both are read-only views of `values`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> x, y = forecasting.windows(np.arange(5), window=2, horizon=2)
    >>> x.tolist(), y.tolist()
    ([[0, 1], [1, 2]], [[2, 3], [3, 4]])
    """
    if len(values) < window + horizon:
        return values[:0].reshape(0, window), values[:0].reshape(0, horizon)
    whole = np.lib.stride_tricks.sliding_window_view(values, window + horizon)
    return whole[:, :window], whole[:, window:]
