"""A plot of a forecast, with matplotlib.

It writes no file and opens no window, and does not use pyplot, so it needs no display.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._forecast import Forecast

__all__ = ["forecast"]

Array = NDArray[Any]

# Steps of the history that are drawn for each step of the forecast, and at least.
HISTORY, LEAST = 6, 60


def forecast(series: ArrayLike, found: Forecast, *, name: str = "", ax: Any = None) -> Any:
    """Draw the end of a series, its forecast, and the interval.

    Parameters
    ----------
    series : array_like, shape (n,)
        The series that `found` continues.
    found : Forecast
        From `fusedrnn.forecasting.forecast`.
    name : str
        What the values are, for the vertical axis.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib Figure
        With a legend. The horizontal axis counts the values, from 1 on.

    Raises
    ------
    ImportError
        There is no matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> y = np.sin(np.arange(60) * 0.7)
    >>> found = forecasting.forecast(y, 3, members=1, origins=4)
    >>> figure = forecasting.plot.forecast(y, found)
    >>> figure.savefig("forecast.png")
    """
    y = np.asarray(series)
    if ax is None:
        ax = _axes()
    n, ahead = len(y), len(found.mean)
    begin = max(0, n - max(HISTORY * ahead, LEAST))
    after = np.arange(n + 1, n + ahead + 1)
    joined = np.r_[n, after]  # the forecast begins at the last value
    ax.plot(np.arange(begin + 1, n + 1), y[begin:], color="black", linewidth=1.2, label="series")
    ax.plot(joined, np.r_[y[-1], found.mean], color="tab:blue", linewidth=1.5, label="forecast")
    ax.fill_between(
        joined,
        np.r_[y[-1], found.lower],
        np.r_[y[-1], found.upper],
        color="tab:blue",
        alpha=0.25,
        linewidth=0,
        label=f"{found.coverage:.0%} interval",
    )
    ax.set_xlabel("number of the value")
    # A dollar sign would begin a formula.
    ax.set_ylabel(name.replace("$", r"\$"))
    ax.legend(loc="upper left")
    return ax.figure


def _axes() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"fusedrnn.forecasting.plot needs matplotlib: pip install 'fusedrnn[plot]' ({error})"
        ) from error
    return Figure(figsize=(9, 4.5), layout="constrained").subplots()
