"""Forecasts of a series of numbers; `fusedrnn forecast` uses it.

What belongs here: seasons, scalings, windows, small networks, baselines, back-tests and intervals,
as functions of arrays, and `plot`. This room uses the public names of `fusedrnn` and `fusedrnn.nn`,
and the checks of arguments. It reads and writes no files. Only `plot` imports matplotlib, when it
first draws; the extra ``plot`` installs it.

No bit of a result depends on the number of threads: the networks run on the kernels, and everything
else is sums of fixed order.
"""

from . import plot
from ._forecast import Forecast, choose_scalings, forecast
from .backtesting import (
    Errors,
    backtest,
    conformal_widths,
    following,
    measure,
    naive_scale,
    rolling_origins,
)
from .baselines import Autoregression, autoregression, naive, seasonal_naive
from .networks import network, train
from .scaling import Scaling
from .series import autocorrelation, detect_season, has_trend, windows

__all__ = [
    "Autoregression",
    "Errors",
    "Forecast",
    "Scaling",
    "autocorrelation",
    "autoregression",
    "backtest",
    "choose_scalings",
    "conformal_widths",
    "detect_season",
    "following",
    "forecast",
    "has_trend",
    "measure",
    "naive",
    "naive_scale",
    "network",
    "plot",
    "rolling_origins",
    "seasonal_naive",
    "train",
    "windows",
]
