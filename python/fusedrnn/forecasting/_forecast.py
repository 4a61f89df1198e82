"""The whole forecast of a series: scalings, a back-test of all methods, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .backtesting import (
    Errors,
    backtest,
    conformal_widths,
    fewest_origins,
    following,
    measure,
    naive_scale,
    rolling_origins,
)
from .baselines import autoregression, naive, seasonal_naive
from .networks import CELLS, network
from .scaling import Scaling
from .series import detect_season, has_trend

__all__ = ["Forecast", "choose_scalings", "forecast"]

Array = NDArray[Any]

# The network and the autoregression average their forecasts over so many scalings, at most.
SCALINGS = 2
# Windows that a network learns from, at least.
FEWEST_WINDOWS = 10
SHORTEST_WINDOW, LONGEST_WINDOW = 4, 48
WINDOW_WITHOUT_SEASON = 12
# Squares of larger values, and of their reciprocals, are no longer numbers.
LARGEST = 1e100
NETWORK, LINEAR, SEASONAL, NAIVE = "network", "linear AR", "seasonal naive", "naive"


@dataclass(frozen=True, eq=False)
class Forecast:
    """What `forecast` found.

    Attributes
    ----------
    mean, lower, upper : ndarray of float64, shape (H,)
        The forecast of the network, and the interval of each step.
    coverage : float
        The share of values that the intervals shall hold.
    season, window : int
        The steps of a season (1: there is none), and those that the network reads.
    scalings : tuple of Scaling
        What the network and the autoregression were given, in the order of the choice.
    origins : ndarray of int, shape (K,)
        Of the back-test: how many values each forecast knew.
    actual : ndarray of float64, shape (K, H)
        What came after each origin.
    backtests : dict of str to ndarray of float64, shape (K, H)
        The forecasts of each method: "network", "linear AR", "seasonal naive" and "naive".
    errors : dict of str to Errors
        Of each method.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> found = forecasting.forecast(np.sin(np.arange(60) * 0.7), 3, members=1, origins=4)
    >>> bool(np.all(found.lower <= found.mean) and np.all(found.mean <= found.upper))
    True
    >>> found.actual.shape, "naive" in found.better
    ((4, 3), False)
    """

    mean: Array
    lower: Array
    upper: Array
    coverage: float
    season: int
    window: int
    scalings: tuple[Scaling, ...]
    origins: Array
    actual: Array
    backtests: dict[str, Array]
    errors: dict[str, Errors]

    @property
    def better(self) -> list[str]:
        """The methods with a smaller mean absolute error than the network, the best one first."""
        ours = self.errors[NETWORK].mae
        names = [name for name, errors in self.errors.items() if errors.mae < ours]
        return sorted(names, key=lambda name: self.errors[name].mae)


def forecast(
    series: ArrayLike,
    horizon: int,
    *,
    season: int | None = None,
    window: int | None = None,
    cell: str = "gru",
    hidden_size: int = 16,
    members: int = 3,
    origins: int = 10,
    coverage: float = 0.8,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Forecast:
    """Forecast a series with small recurrent networks, and measure how good that is.

    Parameters
    ----------
    series : array_like of float or int, shape (n,)
        Values at equal distances in time, the latest one last.
    horizon : int
        The number of steps H to forecast, at least 1.
    season : int, optional
        The steps of a season, 1 for none; by default `detect_season` finds it.
    window : int, optional
        The steps that the network reads, at least 1; by default two seasons, at most 48, or 12 if
        there is no season, and less if the series is short.
    cell : {"gru", "lstm", "rnn"}
        Kind of recurrent layer.
    hidden_size : int
        Size of its state, at least 1.
    members : int
        The number of networks for each scaling, whose forecasts are averaged, at least 1.
    origins : int
        The number of forecasts K of the back-test; each one trains its own networks. There are
        fewer if the series is short.
    coverage : float
        The share of values that the intervals shall hold, in (0, 1). It needs ``coverage / (1 -
        coverage)`` origins.
    seed : int
        The same seed gives the same bits, for any number of threads.
    progress : callable, optional
        Called with the share of the work that is done, in [0, 1].

    Returns
    -------
    Forecast

    Raises
    ------
    TypeError
        An argument is of another type.
    ValueError
        The series is constant, not finite or too short (the text says how many values are needed),
        or an argument is out of range.

    Notes
    -----
    - **Scaling.** `choose_scalings` tries logarithms and differences on the values before the first
      origin. If the two best ones both take differences, both are used, because the best one is not
      known for certain: the network and the autoregression forecast with both, and the mean of both
      is their forecast (Bates and Granger, "The combination of forecasts", Operational Research
      Quarterly, 1969).
    - **Back-test.** From each of the origins, spread over the second half of the series as far as
      there is room, every method forecasts H steps with the values before the origin alone. The
      season is that of the whole series.
    - **Intervals.** They are split-conformal (`conformal_widths`), from the errors of the network
      in the back-test; of logarithms, if the first scaling takes logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> t = np.arange(60)
    >>> y = 20 + t / 4 + 5 * np.sin(t * np.pi / 2) + np.random.default_rng(0).normal(size=60)
    >>> found = forecasting.forecast(y, 3, members=1, origins=4)
    >>> found.season, found.mean.shape, list(found.errors)
    (4, (3,), ['network', 'linear AR', 'seasonal naive', 'naive'])
    """
    y = _series(series)
    horizon = _check.integer(horizon, "horizon", 1)
    cell = _check.choice(cell, "cell", tuple(CELLS))
    hidden_size = _check.integer(hidden_size, "hidden_size", 1)
    members = _check.integer(members, "members", 1)
    count = _check.integer(origins, "origins", 1)
    coverage = _coverage(coverage, count)
    seed = _check.integer(seed, "seed", 0)
    chosen = detect_season(y) if season is None else _check.integer(season, "season", 1)
    width, first = _layout(y, horizon, chosen, window, fewest_origins(coverage))
    places = rolling_origins(first, len(y) - horizon, count)
    scalings = choose_scalings(y[:first], horizon, chosen, width)
    steps, done = (len(places) + 1) * members * len(scalings), 0

    def trained() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done / steps)

    def ours(values: Array) -> Array:
        return _combined(
            values,
            scalings,
            lambda z: network(
                z,
                horizon,
                window=width,
                cell=cell,
                hidden_size=hidden_size,
                members=members,
                seed=seed,
                progress=trained,
            ),
        )

    methods: dict[str, Callable[[Array], Array]] = {
        NETWORK: ours,
        LINEAR: lambda values: _combined(
            values, scalings, lambda z: autoregression(z, width).forecast(z, horizon)
        ),
        SEASONAL: lambda values: seasonal_naive(values, horizon, chosen),
        NAIVE: lambda values: naive(values, horizon),
    }
    if progress is not None:
        progress(0.0)
    actual = following(y, places, horizon)
    found = {name: backtest(y, places, method) for name, method in methods.items()}
    scale = naive_scale(y[:first], chosen)
    mean = ours(y)
    alike = scalings[0]
    residuals = alike.to_errors(actual) - alike.to_errors(found[NETWORK])
    widths = conformal_widths(residuals, coverage)
    return Forecast(
        mean=mean,
        lower=alike.from_errors(alike.to_errors(mean) - widths),
        upper=alike.from_errors(alike.to_errors(mean) + widths),
        coverage=coverage,
        season=chosen,
        window=width,
        scalings=tuple(scalings),
        origins=places,
        actual=actual,
        backtests=found,
        errors={name: measure(actual, one, scale) for name, one in found.items()},
    )


def choose_scalings(values: Array, horizon: int, season: int, longest: int) -> list[Scaling]:
    """Choose two scalings, with linear autoregressions, which are fitted in no time.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The series before the first origin of the back-test, which the choice must not see.
    horizon, season : int
        Steps to forecast (at most n / 4 are tried), and steps of a season.
    longest : int
        The largest order of the autoregressions.

    Returns
    -------
    list of Scaling
        One or two with different lags, the best one first.

    Notes
    -----
    Logarithms are taken if all values are positive and the likelihood is larger with them: with s
    for the standard deviation of the autoregression's errors, if ``s(log y) * exp(mean(log y)) <
    s(y)`` (Box and Cox, "An analysis of transformations", Journal of the Royal Statistical Society
    B, 1964). Differences to the step before and to the same step of the last season are compared by
    the mean absolute errors of a back-test; and no differences too, if the series has no trend
    (`has_trend`): a network knows nothing about values above all that it has seen. If no
    differences are best, they are the only choice; differences of such a series add noise.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> y = np.exp(np.cumsum(np.random.default_rng(1).normal(0.05, 0.02, size=60)))
    >>> [str(one) for one in forecasting.choose_scalings(y, horizon=6, season=1, longest=4)]
    ['differences of logarithms']
    """
    n = len(values)
    log = bool(np.all(values > 0)) and _deviation(values, True, season, longest) < _deviation(
        values, False, season, longest
    )
    ahead = min(horizon, max(1, n // 4))
    origins = rolling_origins(n // 2, n - ahead, 10)
    actual = following(values, origins, ahead)
    lags = {1, season} if has_trend(np.log(values) if log else values) else {0, 1, season}
    # With a season as long as the first part, an autoregression would have nothing to learn from.
    lags = {lag for lag in lags if lag <= 1 or origins[0] - lag > SHORTEST_WINDOW}
    found: dict[Scaling, float] = {}
    for one in (Scaling(log, lag) for lag in sorted(lags)):

        def method(y: Array, one: Scaling = one) -> Array:
            return _combined(
                y,
                [one],
                lambda z: autoregression(z, min(longest, len(z) // 3)).forecast(z, ahead),
            )

        mae = measure(actual, backtest(values, origins, method), 1.0).mae
        found[one] = mae if np.isfinite(mae) else np.inf
    # Of scalings that make no error, the longest differences leave the network the least to learn.
    none = 1e-3 * float(np.std(values))
    ranked = sorted(found, key=lambda one: (max(found[one], none), -one.lag))
    return ranked[: SCALINGS if ranked[0].lag and found[ranked[0]] > none else 1]


def _deviation(values: Array, log: bool, lag: int, longest: int) -> float:
    """Return the standard deviation of an autoregression's errors, in the unit of the values."""
    z, _, spread = Scaling(log, lag).apply(values)
    unit = float(np.exp(np.mean(np.log(values)))) if log else 1.0
    return unit * spread * autoregression(z, min(longest, len(z) // 3)).deviation


def _combined(
    values: Array, scalings: Sequence[Scaling], method: Callable[[Array], Array]
) -> Array:
    """Return the mean of the forecasts of a method with several scalings."""
    found = []
    for one in scalings:
        z, centre, spread = one.apply(values)
        found.append(one.undo(values, method(z), centre, spread))
    mean: Array = np.mean(found, axis=0)
    return mean


def _series(value: object) -> Array:
    """Return the series as float64, or say what is wrong with it."""
    a = _check.read(value, "series")
    if a.dtype.kind not in "fiu":
        raise TypeError(f"series: expected numbers, got {_check.describe(value)}")
    if a.ndim != 1:
        raise ValueError(f"series: expected shape (n,), got {a.shape}")
    y = a.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(y))
    if len(wrong):
        raise ValueError(
            f"series: expected finite numbers, got {y[wrong[0]]} at index {wrong[0]}"
            + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        )
    if len(y) and np.ptp(y) == 0:
        raise ValueError(
            f"series: all {len(y)} values are {y[0]:g}; a constant series teaches nothing"
        )
    if len(y) and np.max(np.abs(y)) > LARGEST:
        raise ValueError(f"series: expected values up to {LARGEST:g}, got {np.max(np.abs(y)):g}")
    if len(y) and np.ptp(y) < 1 / LARGEST:
        raise ValueError(f"series: expected values that differ by more than {1 / LARGEST:g}")
    return y


def _coverage(value: object, origins: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"coverage: expected a number, got {_check.describe(value)}")
    number = float(value)
    if not 0 < number < 1:
        raise ValueError(f"coverage: expected a share above 0 and below 1, got {value}")
    fewest = fewest_origins(number)
    if origins < fewest:
        raise ValueError(
            f"origins: intervals that hold {number:g} of the values need at least {fewest}, got "
            f"{origins}"
        )
    return number


def _layout(
    y: Array, horizon: int, season: int, window: int | None, fewest: int
) -> tuple[int, int]:
    """Return the window, and the first origin: half of the series, or more if that is needed."""
    # The differences, the steps after each window, and the windows to learn from.
    beside = season + horizon + FEWEST_WINDOWS - 1
    tested = horizon + fewest - 1
    room = len(y) - beside - tested
    if window is None:
        usual = min(2 * season, LONGEST_WINDOW) if season > 1 else WINDOW_WITHOUT_SEASON
        width, least = min(usual, max(room, SHORTEST_WINDOW)), SHORTEST_WINDOW
    else:
        width = least = _check.integer(window, "window", 1)
    if width > room:
        of = f" with window {width}" if window is not None else ""
        of += f" and season {season}" if season > 1 and of else ""
        of = of or (f" with season {season}" if season > 1 else "")
        needed = beside + tested + least
        fewer = f", or {needed - season + 1} with season 1" if season > 1 else ""
        raise ValueError(
            f"series: {len(y)} values are too few to forecast {horizon} "
            f"step{'s' * (horizon > 1)} ahead{of}: at least {needed} are needed{fewer}"
        )
    return width, max(beside + width, min(len(y) // 2, len(y) - tested))
