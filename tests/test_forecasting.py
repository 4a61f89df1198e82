"""`fusedrnn.forecasting`: each function against a direct computation, and whole forecasts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import forecasting, nn
from fusedrnn.forecasting import Scaling, networks

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FUSEDRNN_DATA", ROOT.parent / "shared" / "data"))
QUICK: dict[str, Any] = {"members": 1, "origins": 4, "hidden_size": 4}


def real(name: str) -> np.ndarray[Any, Any]:
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"forecasting: no {path}; FUSEDRNN_DATA names the folder")
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and wait for it on a busy machine."""
    with fr.set_num_threads(1):
        yield


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that are hardly trained, for tests of what is done with them."""
    monkeypatch.setattr(networks, "UPDATES", 10)


def noise(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(n)


def seasonal(n: int, season: int = 7, seed: int = 0) -> np.ndarray[Any, Any]:
    t = np.arange(n)
    return 50 + 0.3 * t + 8 * np.sin(2 * np.pi * t / season) + noise(n, seed)


# --- seasons and windows -------------------------------------------------------------------------


def test_autocorrelation() -> None:
    y = noise(50).cumsum()
    z = y - y.mean()
    for k, r in enumerate(forecasting.autocorrelation(y, 20)):
        direct = sum(z[t] * z[t + k] for t in range(50 - k)) / sum(z * z)
        assert r == pytest.approx(direct, abs=1e-12)
    assert not forecasting.autocorrelation(np.ones(5), 2).any()


@pytest.mark.parametrize("season", [2, 4, 7, 12, 24])
def test_a_season_is_found(season: int) -> None:
    rng = np.random.default_rng(season)
    pattern = rng.permutation(season) * 4.0
    for growth in (0.0, 0.5):
        t = np.arange(season * 6 + 12)
        y = 100 + growth * t + pattern[t % season] + rng.normal(size=len(t))
        assert forecasting.detect_season(y) == season
        assert forecasting.detect_season(y - 200) == season  # without logarithms


@pytest.mark.parametrize("season", [4, 7])
def test_a_multiple_of_the_season_is_not_taken_for_it(season: int) -> None:
    """In half of these series the highest peak is at two or more seasons."""
    t = np.arange(300)
    found = [
        forecasting.detect_season(10 + 3 * np.sin(2 * np.pi * t / season) + noise(300, seed))
        for seed in range(20)
    ]
    assert found == [season] * 20


def test_no_season_is_found_where_there_is_none() -> None:
    assert forecasting.detect_season(np.exp(0.1 * np.arange(50))) == 1
    assert forecasting.detect_season(np.ones(30)) == 1
    assert forecasting.detect_season(np.array([1.0, 2.0, 1.0])) == 1
    assert forecasting.detect_season(np.array([])) == 1
    found = [forecasting.detect_season(noise(200, seed).cumsum()) for seed in range(20)]
    # The highest of many peaks passes a limit for one lag more often than one time in twenty, but
    # a limit that was always passed would be no limit.
    assert found.count(1) >= 6


def test_the_limit_is_bartletts() -> None:
    """The peak that decides is above the limit in one series and below it in the other."""
    for strength in (0.05, 2.0):
        t = np.arange(60)
        y = -100 + strength * np.sin(2 * np.pi * t / 6) + noise(60, 3)
        r = forecasting.autocorrelation(np.diff(y), 21)
        peaks = {k: r[k] for k in range(2, 21) if r[k] > r[k - 1] and r[k] >= r[k + 1]}
        best = min(k for k in peaks if peaks[k] >= 0.8 * max(peaks.values()))
        limit = 1.645 * math.sqrt((1 + 2 * sum(r[k] ** 2 for k in range(1, best))) / 59)
        assert forecasting.detect_season(y) == (best if r[best] > limit else 1)
        assert (r[best] > limit) == (strength == 2.0)


def kpss(y: np.ndarray[Any, Any]) -> float:
    """The statistic from its definition; 80 values have two lags in the long-run variance."""
    z = y - y.mean()
    assert int(3 * math.sqrt(len(z)) / 13) == 2
    variance = sum(z * z) / len(z)
    for k in (1, 2):
        variance += 2 * (1 - k / 3) * sum(z[k:] * z[:-k]) / len(z)
    return float(sum(np.cumsum(z) ** 2) / len(z) ** 2 / variance)


def test_trends() -> None:
    y = np.convolve(noise(82, 5), np.ones(3), "valid")  # neighbours are alike
    assert not forecasting.has_trend(y)
    assert not forecasting.has_trend(np.sin(np.arange(80)))
    for other in (y.cumsum(), y + 0.1 * np.arange(80), 100 - 0.1 * np.arange(80)):
        assert forecasting.has_trend(other)
        shares = np.linspace(0, 1, 200)
        mixed = [y + share * (other - y) for share in shares]
        expected = [kpss(one) > 0.463 for one in mixed]
        assert 5 < sum(expected) < 195
        assert [forecasting.has_trend(one) for one in mixed] == expected


def test_windows() -> None:
    y = np.arange(10.0)
    x, after = forecasting.windows(y, 3, 2)
    assert x.shape == (6, 3)
    for k in range(6):
        assert x[k].tolist() == y[k : k + 3].tolist()
        assert after[k].tolist() == y[k + 3 : k + 5].tolist()
    x, after = forecasting.windows(y, 8, 3)
    assert (x.shape, after.shape) == ((0, 8), (0, 3))


# --- scalings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_scaling_is_undone(log: bool, lag: int) -> None:
    """What is undone from the scaled future is the future, however long."""
    y = np.exp(0.1 * noise(40).cumsum()) + 2
    past, future = y[:30], y[30:]
    z, centre, spread = Scaling(log, lag).apply(past)
    assert len(z) == 30 - lag
    assert np.mean(z) == pytest.approx(0, abs=1e-12)
    assert np.std(z) == pytest.approx(1)
    levels = np.log(y) if log else y
    changed = np.array([levels[t] - (levels[t - lag] if lag else 0) for t in range(lag, 40)])
    np.testing.assert_allclose(z, (changed[: 30 - lag] - centre) / spread, rtol=1e-12)
    scaled = (changed[30 - lag :] - centre) / spread
    for ahead in (1, 3, 4, 10):
        found = Scaling(log, lag).undo(past, scaled[:ahead], centre, spread)
        np.testing.assert_allclose(found, future[:ahead], rtol=1e-12)


def test_scalings_of_a_line_and_of_growth_are_zeros() -> None:
    """Rounding is not blown up to a standard deviation of 1."""
    t = np.arange(30)
    for scaling, y in ((Scaling(False, 1), 0.1 * t + 7), (Scaling(True, 5), 1.1**t)):
        z, centre, spread = scaling.apply(y)
        assert not z.any()
        assert spread == 0
        found = scaling.undo(y, np.ones(7), centre, spread)
        expected = [0.1 * k + 7 if scaling.lag == 1 else 1.1**k for k in range(30, 37)]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_scalings_have_names() -> None:
    names = [str(Scaling(log, lag)) for log in (False, True) for lag in (0, 1, 12)]
    assert names == [
        "values",
        "differences of values",
        "differences at lag 12 of values",
        "logarithms",
        "differences of logarithms",
        "differences at lag 12 of logarithms",
    ]


def test_scalings_are_chosen() -> None:
    t = np.arange(72)
    shape = np.sin(2 * np.pi * t / 12)
    growing = np.exp(0.02 * t + 0.3 * shape + 0.02 * noise(72))
    assert forecasting.choose_scalings(growing, 12, 12, 12)[0].log
    adding = 100 + t + 20 * shape + noise(72)
    assert not forecasting.choose_scalings(adding, 12, 12, 12)[0].log
    for y in (growing, adding):
        found = forecasting.choose_scalings(y, 12, 12, 12)
        assert [one.lag for one in found] in ([12, 1], [1, 12])  # there is a trend
    walk = noise(80, 1).cumsum()
    assert forecasting.choose_scalings(walk, 5, 1, 8) == [Scaling(False, 1)]
    stationary = 5 + noise(80)
    assert forecasting.choose_scalings(stationary, 5, 1, 8) == [Scaling(False, 0)]
    # Values that are not positive have no logarithms.
    assert not forecasting.choose_scalings(growing - growing.min(), 12, 12, 12)[0].log


# --- baselines -----------------------------------------------------------------------------------


def test_naive_methods() -> None:
    y = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    assert forecasting.naive(y, 3).tolist() == [9, 9, 9]
    assert forecasting.seasonal_naive(y, 5, 4).tolist() == [4, 1, 5, 9, 4]
    assert forecasting.seasonal_naive(y, 2, 1).tolist() == [9, 9]
    assert forecasting.seasonal_naive(y, 2, 6).tolist() == [3, 1]


def least_squares(z: np.ndarray[Any, Any], p: int, skipped: int) -> tuple[Any, float]:
    """Coefficients, constant first, and the sum of squared errors, by numpy.linalg."""
    design = np.array([[1, *(z[t - k] for k in range(1, p + 1))] for t in range(skipped, len(z))])
    b = np.linalg.lstsq(design, z[skipped:], rcond=None)[0]
    return b, float(np.sum((z[skipped:] - design @ b) ** 2))


@pytest.mark.parametrize("seed", range(6))
def test_autoregression_is_least_squares_of_the_order_with_the_least_aicc(seed: int) -> None:
    z = [0.0, 0.0, 0.0]
    for e in noise(21 + 10 * seed, seed):
        z.append(0.9 * z[-1] - 0.5 * z[-3] + 0.2 + e)
    y = np.array(z)
    rows = len(y) - 8
    aicc = []
    for p in range(9):
        squares = least_squares(y, p, 8)[1]
        k = p + 2  # with the constant and the variance
        aicc.append(rows * math.log(squares / rows) + 2 * k + 2 * k * (k + 1) / (rows - k - 1))
    order = int(np.argmin(aicc))
    b, squares = least_squares(y, order, order)
    found = forecasting.autoregression(y, 8)
    assert len(found.coefficients) == order
    np.testing.assert_allclose([found.constant, *found.coefficients], b, atol=1e-5)
    assert found.deviation == pytest.approx(math.sqrt(squares / (len(y) - order)), rel=1e-5)


def test_an_autoregression_reads_its_own_forecasts() -> None:
    found = forecasting.Autoregression(1.0, np.array([0.5, 0.25]), 0.0)
    assert found.forecast(np.array([9.0, 4.0, 8.0]), 3).tolist() == [6.0, 6.0, 5.5]
    assert forecasting.Autoregression(2.0, np.array([]), 0.0).forecast(np.ones(3), 2).tolist() == [
        2,
        2,
    ]


def test_an_autoregression_of_a_series_without_noise_is_exact() -> None:
    """Lags are linearly dependent then."""
    y = np.sin(2 * np.pi * np.arange(60) / 6)
    found = forecasting.autoregression(y, 12).forecast(y, 12)
    np.testing.assert_allclose(found, y[:12], atol=1e-4)
    zeros = forecasting.autoregression(np.zeros(20), 5)
    assert not zeros.forecast(np.zeros(20), 3).any()
    for n in (1, 2, 3, 4, 6):
        assert np.isfinite(forecasting.autoregression(noise(n), 5).forecast(noise(n), 2)).all()


# --- back-tests and intervals --------------------------------------------------------------------


def test_rolling_origins() -> None:
    for first, last, count in ((72, 120, 10), (5, 9, 5), (5, 7, 10), (4, 4, 3), (10, 20, 1)):
        found = forecasting.rolling_origins(first, last, count).tolist()
        assert len(found) == min(count, last - first + 1) == len(set(found))
        assert found == sorted(found)
        assert found[-1] == last
        if count > 1:
            assert found[0] == first
        steps = np.diff(found)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_a_back_test_sees_the_past_alone() -> None:
    y = noise(20)
    seen = []

    def method(past: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(past.copy())
        return past[-2:]

    found = forecasting.backtest(y, np.array([5, 9]), method)
    assert [one.tolist() for one in seen] == [y[:5].tolist(), y[:9].tolist()]
    assert found.tolist() == [y[3:5].tolist(), y[7:9].tolist()]
    actual = forecasting.following(y, np.array([5, 9]), 2)
    assert actual.tolist() == [y[5:7].tolist(), y[9:11].tolist()]


def test_errors() -> None:
    actual, found = noise(12).reshape(3, 4), noise(12, 1).reshape(3, 4)
    apart = [float(a - b) for a, b in zip(actual.ravel(), found.ravel(), strict=True)]
    mae = sum(map(abs, apart)) / 12
    errors = forecasting.measure(actual, found, 0.5)
    assert errors.mae == pytest.approx(mae)
    assert errors.rmse == pytest.approx(math.sqrt(sum(a * a for a in apart) / 12))
    assert errors.mase == pytest.approx(mae / 0.5)
    assert math.isnan(forecasting.measure(actual, found, 0.0).mase)
    y = noise(15)
    direct = np.mean([abs(y[t] - y[t - 4]) for t in range(4, 15)])
    assert forecasting.naive_scale(y, 4) == pytest.approx(direct)


def test_conformal_widths_are_ranks() -> None:
    residuals = np.array([[3.0, 1], [-5, 2], [1, -9], [2, 4]])
    assert forecasting.conformal_widths(residuals, 0.8).tolist() == [5, 9]  # the fourth of four
    assert forecasting.conformal_widths(residuals, 0.6).tolist() == [3, 4]  # 5 * 0.6 = 3
    assert forecasting.conformal_widths(residuals, 0.61).tolist() == [5, 9]
    assert forecasting.conformal_widths(residuals, 0.2).tolist() == [1, 1]
    with pytest.raises(
        ValueError, match=r"coverage: 0\.81 needs the errors from at least 5 origins"
    ):
        forecasting.conformal_widths(residuals, 0.81)
    with pytest.raises(ValueError, match="at least 19 origins, got 18"):
        forecasting.conformal_widths(np.ones((18, 1)), 0.95)
    forecasting.conformal_widths(np.ones((19, 1)), 0.95)


def test_conformal_intervals_hold_what_they_promise() -> None:
    """Of exchangeable errors, 0.8 or a little more: (K + 1) * 0.8 rounded up, over K + 1."""
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((11, 4000))
    widths = forecasting.conformal_widths(errors[:10], 0.8)
    assert np.mean(np.abs(errors[10]) <= widths) == pytest.approx(9 / 11, abs=0.02)


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_a_network_learns_what_follows(cell: str) -> None:
    z = math.sqrt(2) * np.sin(2 * np.pi * np.arange(60) / 9)
    found = forecasting.network(z, 6, window=9, cell=cell, members=2)
    expected = math.sqrt(2) * np.sin(2 * np.pi * np.arange(60, 66) / 9)
    np.testing.assert_allclose(found, expected, atol=0.25)


@pytest.mark.usefixtures("hasty")
def test_networks_are_averaged() -> None:
    z = noise(40)
    x, y = forecasting.windows(z, 6, 3)
    models = [
        forecasting.train(x, y, cell="gru", hidden_size=4, seed=(5, member)) for member in range(3)
    ]
    assert isinstance(models[0], nn.Sequential)
    assert type(models[0].layers[0]) is fr.GRU
    last = z[-6:].astype(np.float32)[None, :, None]
    each = [model(last)[0] for model in models]
    assert not np.array_equal(each[0], each[1])
    called: list[None] = []
    found = forecasting.network(
        z, 3, window=6, hidden_size=4, members=3, seed=5, progress=lambda: called.append(None)
    )
    np.testing.assert_allclose(found, np.mean(np.array(each, np.float64), axis=0), rtol=1e-12)
    assert len(called) == 3


def test_a_long_series_is_learned_in_batches() -> None:
    z = np.sin(np.arange(3000) * 2 * np.pi / 11) * math.sqrt(2)
    found = forecasting.network(z, 2, window=11, members=1)
    expected = np.sin(np.arange(3000, 3002) * 2 * np.pi / 11) * math.sqrt(2)
    np.testing.assert_allclose(found, expected, atol=0.2)


# --- whole forecasts -----------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_a_forecast_is_what_its_parts_give() -> None:
    y = seasonal(90)
    shares: list[float] = []
    found = forecasting.forecast(y, 5, **QUICK, seed=3, progress=shares.append)
    assert found.season == 7
    assert found.window == 14
    assert found.origins.tolist() == [45, 59, 72, 85]
    assert list(found.scalings) == forecasting.choose_scalings(y[:45], 5, 7, 14)
    assert len(found.scalings) == 2

    def direct(past: np.ndarray[Any, Any]) -> Any:
        each = []
        for one in found.scalings:
            z, centre, spread = one.apply(past)
            steps = forecasting.network(z, 5, window=14, hidden_size=4, members=1, seed=3)
            each.append(one.undo(past, steps, centre, spread))
        return np.mean(each, axis=0)

    def linear(past: np.ndarray[Any, Any]) -> Any:
        each = []
        for one in found.scalings:
            z, centre, spread = one.apply(past)
            steps = forecasting.autoregression(z, 14).forecast(z, 5)
            each.append(one.undo(past, steps, centre, spread))
        return np.mean(each, axis=0)

    np.testing.assert_array_equal(found.mean, direct(y))
    for k, origin in enumerate([45, 59, 72, 85]):
        past = y[:origin]
        np.testing.assert_array_equal(found.actual[k], y[origin : origin + 5])
        tests = {name: one[k] for name, one in found.backtests.items()}
        np.testing.assert_array_equal(tests["network"], direct(past))
        np.testing.assert_array_equal(tests["linear AR"], linear(past))
        np.testing.assert_array_equal(tests["seasonal naive"], past[-7:][:5])
        np.testing.assert_array_equal(tests["naive"], np.full(5, past[-1]))
    scale = np.mean(np.abs(y[7:45] - y[:38]))
    for name, errors in found.errors.items():
        apart = np.abs(found.actual - found.backtests[name])
        assert errors.mae == pytest.approx(apart.mean())
        assert errors.mase == pytest.approx(apart.mean() / scale)
    levels = np.log if found.scalings[0].log else np.asarray
    widths = np.abs(levels(found.actual) - levels(found.backtests["network"])).max(axis=0)
    np.testing.assert_allclose(levels(found.upper), levels(found.mean) + widths)
    np.testing.assert_allclose(levels(found.lower), levels(found.mean) - widths)
    assert shares == pytest.approx([k / 10 for k in range(11)])
    ours = found.errors["network"].mae
    better = {name: e.mae for name, e in found.errors.items() if e.mae < ours}
    assert found.better == sorted(better, key=lambda name: better[name])


@pytest.mark.usefixtures("hasty")
def test_the_back_test_does_not_see_what_comes_later() -> None:
    """Values after an origin change no forecast from it or before, if the season is given."""
    y = seasonal(70)
    changed = y.copy()
    changed[64:] += 100 * noise(6)
    a, b = (forecasting.forecast(one, 6, season=7, **QUICK) for one in (y, changed))
    assert a.origins.tolist() == b.origins.tolist()
    assert a.origins[-1] == 64
    for name, tests in a.backtests.items():
        np.testing.assert_array_equal(tests, b.backtests[name])
    assert a.scalings == b.scalings
    assert not np.array_equal(a.mean, b.mean)


@pytest.mark.usefixtures("hasty")
def test_intervals_of_logarithms_are_positive() -> None:
    y = np.exp(noise(60) + 1)
    found = forecasting.forecast(y, 3, season=1, **QUICK)
    assert found.scalings[0].log
    widths = np.abs(np.log(found.actual) - np.log(found.backtests["network"])).max(axis=0)
    np.testing.assert_allclose(found.upper, found.mean * np.exp(widths))
    np.testing.assert_allclose(found.lower, found.mean / np.exp(widths))
    assert (found.lower > 0).all()
    assert (found.lower < found.mean).all()
    assert (found.mean < found.upper).all()


@pytest.mark.usefixtures("hasty")
def test_the_seed_and_the_options_count() -> None:
    y = seasonal(60)
    first = forecasting.forecast(y, 3, **QUICK)
    np.testing.assert_array_equal(first.mean, forecasting.forecast(y, 3, **QUICK).mean)
    for other in ({"seed": 1}, {"cell": "lstm"}, {"members": 2}, {"window": 5}, {"season": 1}):
        found = forecasting.forecast(y, 3, **{**QUICK, **other})
        assert not np.array_equal(first.mean, found.mean), other
    wide = forecasting.forecast(y, 3, **{**QUICK, "origins": 9, "coverage": 0.9})
    narrow = forecasting.forecast(y, 3, **{**QUICK, "origins": 9, "coverage": 0.5})
    assert (wide.upper - wide.lower > narrow.upper - narrow.lower).all()


@pytest.mark.usefixtures("hasty")
def test_no_bit_depends_on_threads() -> None:
    y = seasonal(400)
    found, trained = [], []
    for number in (1, 2, 3):
        with fr.set_num_threads(number):
            found.append(forecasting.forecast(y, 4, **QUICK))
            x = np.tile(y[:24] / 50, (200, 1))
            model = forecasting.train(x, x[:, :2], cell="lstm", hidden_size=64, seed=(0,))
            if fr.build_config().get("openmp"):
                assert fr.last_path().threads == number
            trained.append(model.state_dict())
    for one in found[1:]:
        np.testing.assert_array_equal(one.mean, found[0].mean)
        np.testing.assert_array_equal(one.upper, found[0].upper)
        assert one.errors == found[0].errors
    for name, weights in trained[0].items():
        for other in trained[1:]:
            np.testing.assert_array_equal(weights, other[name])


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("horizon", "options", "needed", "words"),
    [
        (24, {"season": 12}, 76, " 24 steps ahead with season 12"),
        (1, {"season": 1}, 19, " 1 step ahead"),
        (6, {"season": 4, "window": 9}, 37, " 6 steps ahead with window 9 and season 4"),
        (6, {"season": 1, "coverage": 0.5}, 26, " 6 steps ahead"),
    ],
)
def test_a_series_that_is_too_short_says_how_many_values_are_needed(
    horizon: int, options: dict[str, Any], needed: int, words: str
) -> None:
    """So many are enough, and one less is not."""
    long = seasonal(200, options["season"] if options["season"] > 1 else 5)
    with pytest.raises(ValueError, match="series: 3 values are too few") as caught:
        forecasting.forecast(long[:3], horizon, **{**QUICK, **options})
    text = str(caught.value)
    assert f"{words}: at least {needed} are needed" in text
    with pytest.raises(ValueError, match=f"{needed - 1} values are too few .* {needed} are needed"):
        forecasting.forecast(long[: needed - 1], horizon, **{**QUICK, **options})
    found = forecasting.forecast(long[:needed], horizon, **{**QUICK, **options})
    assert np.isfinite(found.mean).all()
    if options["season"] > 1:
        other = int(text.split(", or ")[1].split()[0])
        plain = {**QUICK, **options, "season": 1}
        assert np.isfinite(forecasting.forecast(long[:other], horizon, **plain).mean).all()
        with pytest.raises(ValueError, match=f"at least {other} are needed$"):
            forecasting.forecast(long[: other - 1], horizon, **plain)


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.ones(50), {}, ValueError, "series: all 50 values are 1; a constant series teaches nothing"),
    ([1.0, np.nan] * 30, {}, ValueError, "got nan at index 1 and 29 more"),
    ([*range(40), np.inf], {}, ValueError, "expected finite numbers, got inf at index 40$"),
    (np.ones((30, 2)), {}, ValueError, r"series: expected shape \(n,\), got \(30, 2\)"),
    (["a", "b"], {}, TypeError, "series: expected numbers"),
    ([True, False] * 30, {}, TypeError, "series: expected numbers"),
    ([1e200, 1.0] * 30, {}, ValueError, "series: expected values up to 1e"),
    ([1e-200, 1e-201] * 30, {}, ValueError, "series: expected values that differ"),
    ([], {}, ValueError, "series: 0 values are too few"),
    (np.arange(50.0), {"horizon": 0}, ValueError, "horizon: expected at least 1, got 0"),
    (np.arange(50.0), {"horizon": 1.5}, TypeError, "horizon: expected a whole number"),
    (np.arange(50.0), {"season": 0}, ValueError, "season: expected at least 1, got 0"),
    (np.arange(50.0), {"window": 0}, ValueError, "window: expected at least 1, got 0"),
    (np.arange(50.0), {"cell": "tcn"}, ValueError, "cell: expected one of 'gru', 'lstm', 'rnn'"),
    (np.arange(50.0), {"members": 0}, ValueError, "members: expected at least 1, got 0"),
    (np.arange(50.0), {"hidden_size": 0}, ValueError, "hidden_size: expected at least 1"),
    (np.arange(50.0), {"origins": 3}, ValueError, "origins: .* hold 0.8 .* at least 4, got 3"),
    (np.arange(50.0), {"coverage": 1.0}, ValueError, "coverage: expected a share above 0"),
    (np.arange(50.0), {"coverage": "x"}, TypeError, "coverage: expected a number"),
    (np.arange(50.0), {"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
]


@pytest.mark.parametrize(("series", "options", "kind", "message"), WRONG, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_said(
    series: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        forecasting.forecast(series, **{"horizon": 2, **options})


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "y",
    [
        np.arange(40.0),
        1.2 ** np.arange(40),
        np.tile([1.0, 5.0, 2.0, 2.0], 12),
        np.repeat([0.0, 1.0], 20),
        np.r_[np.zeros(30), 1, 0, 0, 2, 0, 0, 0, 0, 3, 0.0],
        -np.arange(1, 41) * 1e50,
        np.arange(40) * 1e-50,
        1e9 + np.arange(40) % 3,
        noise(40).astype(np.float32),
        np.arange(40, dtype=np.uint8)[::-1],
    ],
    ids=range(10),
)
def test_odd_series_are_no_error(y: Any) -> None:
    """Lines, growth, seasons without noise, steps, counts with many zeros, extremes."""
    found = forecasting.forecast(y, 2, **QUICK)
    assert np.isfinite(found.mean).all()
    assert (found.lower <= found.upper).all()


def test_a_line_and_a_season_go_on() -> None:
    found = forecasting.forecast(np.arange(40.0), 3, **QUICK)
    np.testing.assert_allclose(found.mean, [40, 41, 42], rtol=1e-6)
    found = forecasting.forecast(np.tile([1.0, 5.0, 2.0, 2.0], 12), 5, **QUICK)
    assert found.season == 4
    np.testing.assert_allclose(found.mean, [1, 5, 2, 2, 1], atol=0.3)


# --- real series ---------------------------------------------------------------------------------


def test_the_seasons_of_real_series() -> None:
    assert forecasting.detect_season(real("Airline")) == 12
    assert forecasting.detect_season(real("Lynx")) == 10


def test_the_last_two_years_of_airline() -> None:
    """Held out: the network is far better than seasonal naive, and as good as the linear AR."""
    y = real("Airline")
    known, later = y[:120], y[120:]
    found = forecasting.forecast(known, 24, origins=4)
    assert [one.log for one in found.scalings] == [True, True]
    assert [one.lag for one in found.scalings] == [12, 1]

    def mae(steps: Any) -> float:
        return float(np.mean(np.abs(later - steps)))

    assert mae(forecasting.seasonal_naive(known, 24, 12)) == pytest.approx(71.25)
    assert mae(found.mean) < 20
    inside = (found.lower <= later) & (later <= found.upper)
    assert inside.mean() >= 0.7


def test_lynx() -> None:
    """Logarithms of a cycle without a fixed length; the network beats the naive methods."""
    y = real("Lynx")
    found = forecasting.forecast(y, 10, members=2, origins=6)
    assert found.scalings == (Scaling(True, 0),)
    errors = {name: one.mae for name, one in found.errors.items()}
    assert errors["network"] < errors["seasonal naive"] < errors["naive"]
