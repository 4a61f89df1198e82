"""Metrics: by hand, with padding, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusedrnn import nn
from fusedrnn.nn import metrics

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")
T, B, V = 5, 3, 4
LENGTHS = np.array([5, 2, 0])
REAL = np.arange(T)[:, None] < LENGTHS  # (T, B)


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def classes(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, V, shape)


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_accuracy(dtype: str) -> None:
    logits, targets = numbers(40, V, dtype=dtype), classes(40)
    found = logits.argmax(axis=1)
    expected = float((found == targets).mean())
    assert 0 < expected < 1
    assert metrics.accuracy(logits, targets) == expected
    assert metrics.accuracy(found, targets) == expected
    assert metrics.accuracy(found.reshape(5, 2, 4), targets.reshape(5, 2, 4)) == expected
    assert metrics.accuracy([0, 1], [0, 1]) == 1.0


@pytest.mark.parametrize("dtype", FLOATS)
def test_balanced_accuracy_is_the_mean_over_the_classes_that_occur(dtype: str) -> None:
    logits, targets = numbers(40, V, dtype=dtype), classes(40)
    targets[targets == 1] = 0
    targets[:20] = 0
    found = logits.argmax(axis=1)
    shares = [float((found[targets == k] == k).mean()) for k in sorted(set(targets.tolist()))]
    assert 1 < len(shares) < V
    expected = sum(shares) / len(shares)
    assert expected != pytest.approx(metrics.accuracy(logits, targets))
    assert metrics.balanced_accuracy(logits, targets) == pytest.approx(expected, abs=1e-15)
    assert metrics.balanced_accuracy(found.reshape(8, 5), targets.reshape(8, 5)) == pytest.approx(
        expected, abs=1e-15
    )


def test_balanced_accuracy_leaves_padding_and_ignored_rows_out() -> None:
    found, targets = np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0, 1], [0, 0], [1, -1]])
    options = {"lengths": [3, 1], "ignore_index": -1}
    assert metrics.balanced_accuracy(found, targets, **options) == 0.75
    assert math.isnan(metrics.balanced_accuracy([1], [-1], ignore_index=-1))


@pytest.mark.parametrize("dtype", FLOATS)
def test_padding_has_no_accuracy(dtype: str) -> None:
    logits, targets = numbers(T, B, V, dtype=dtype), classes(T, B)
    alone = metrics.accuracy(logits[REAL], targets[REAL])
    counts = metrics.confusion_matrix(logits[REAL], targets[REAL])
    assert counts.sum() == REAL.sum()
    found = logits.argmax(axis=-1)
    logits[~REAL], found[~REAL], targets[~REAL] = np.nan, -7, -100
    ways: list[tuple[Array, Array, dict[str, Any]]] = [
        (logits, targets, {"lengths": LENGTHS}),
        (logits, targets, {"mask": REAL}),
        (logits, targets, {"ignore_index": -100}),
        (found, targets, {"lengths": LENGTHS}),
        (found, targets, {"ignore_index": -100}),
        (logits.swapaxes(0, 1), targets.T, {"lengths": LENGTHS, "batch_first": True}),
        (found.T, targets.T, {"mask": REAL.T, "batch_first": True}),
    ]
    for given, right, options in ways:
        assert metrics.accuracy(given, right, **options) == alone
        more: dict[str, Any] = {"classes": V} if given.dtype.kind == "i" else {}
        np.testing.assert_array_equal(
            metrics.confusion_matrix(given, right, **options, **more), counts
        )
    one = metrics.accuracy(found[:, 1], targets[:, 1], lengths=2)
    assert one == metrics.accuracy(found[:2, 1], targets[:2, 1])
    assert math.isnan(metrics.accuracy(logits, targets, lengths=[0, 0, 0]))
    assert math.isnan(metrics.accuracy(np.zeros((0, V)), []))
    assert not metrics.confusion_matrix(logits, targets, lengths=[0, 0, 0]).any()


def test_answers_of_yes_and_no() -> None:
    logits, yes = np.array([3.0, -1.0, 2.0, -2.0]), np.array([True, True, False, False])
    assert metrics.accuracy(logits > 0, yes) == metrics.accuracy(logits > 0, [1, 1, 0, 0]) == 0.5
    np.testing.assert_array_equal(metrics.confusion_matrix(logits > 0, yes), [[1, 1], [1, 1]])
    none = np.zeros(0, int)
    assert math.isnan(metrics.accuracy(none, none))
    assert metrics.confusion_matrix(none, none).shape == (0, 0)


def test_a_row_with_nan_is_wrong() -> None:
    logits = np.array([[math.nan, 0.0], [0.0, 1.0]])
    assert metrics.accuracy(logits, [0, 1]) == 0.5
    with pytest.raises(ValueError, match="prediction: a row that counts has a NaN"):
        metrics.confusion_matrix(logits, [0, 1])


def test_confusion() -> None:
    """The rows are the targets, the columns the predictions, as in scikit-learn."""
    found, targets = [0, 2, 2, 1, 2], [0, 0, 2, 1, 0]
    expected = [[1, 0, 2], [0, 1, 0], [0, 0, 1]]
    counts = metrics.confusion_matrix(found, targets)
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(metrics.confusion_matrix(np.eye(3)[found], targets), expected)
    wide = metrics.confusion_matrix(np.array(found, np.uint8), targets, classes=4)
    np.testing.assert_array_equal(wide, np.pad(expected, (0, 1)))
    many = metrics.confusion_matrix(np.array([200], np.uint8), np.array([100], np.int8))
    assert many.shape == (201, 201)
    assert (many[100, 200], many.sum()) == (1, 1)
    # A class that is only in the targets has a row too.
    assert metrics.confusion_matrix([0, 0], [0, 3]).shape == (4, 4)


# --- from a loss ----------------------------------------------------------------------------------


def test_perplexity_and_bits() -> None:
    loss = nn.softmax_cross_entropy(np.zeros((5, 8), np.float32), [0, 1, 2, 3, 4])
    for given in (loss, loss.value, np.float64(loss.value)):
        assert metrics.perplexity(given) == pytest.approx(8, rel=1e-6)
        assert metrics.bits_per_character(given) == pytest.approx(3, rel=1e-6)
    assert metrics.perplexity(0) == 1
    assert metrics.perplexity(1e4) == math.inf
    assert math.isnan(metrics.perplexity(math.nan))
    for call in (metrics.perplexity, metrics.bits_per_character):
        with pytest.raises(TypeError, match="loss: expected a Loss or a number, got ndarray"):
            call(loss.gradient)  # type: ignore[arg-type]


# --- forecasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_r2_by_hand(dtype: str) -> None:
    targets = np.array([1.0, 2.0, 3.0, 6.0])
    assert metrics.r2(targets.astype(dtype), targets) == 1
    assert metrics.r2(np.full(4, 3, dtype), targets) == 0  # the mean
    assert metrics.r2(np.array([1, 2, 3, 4], dtype), targets) == pytest.approx(1 - 4 / 14)
    assert metrics.r2(np.array([6, 3, 2, 1], dtype), targets) < -1
    far = np.array([1, 2, 3, 4], dtype) + 2**20  # a mean of squares would lose all digits
    assert metrics.r2(far, targets + 2**20) == pytest.approx(1 - 4 / 14, rel=1e-6)


def test_r2_is_not_defined_for_targets_that_do_not_vary() -> None:
    for targets in ([0.1, 0.1, 0.1], [2, 2, 2]):
        assert math.isnan(metrics.r2(np.array([0.1, 0.2, 0.3]), targets))
    assert math.isnan(metrics.r2(np.zeros((2, 2)), np.eye(2), lengths=[0, 0]))
    assert math.isnan(metrics.r2(np.array([math.nan, 1]), [1, 2]))


def test_mase_by_hand() -> None:
    history = [1.0, 5.0, 2.0, 7.0]
    prediction, targets = np.array([3.0, 6.0]), [2.0, 9.0]
    # Naive: |4|, |3|, |5| is 4 on average; with a season of two |1|, |2| is 1.5.
    assert metrics.mase(prediction, targets, history) == pytest.approx(2 / 4)
    assert metrics.mase(prediction, targets, history, season=2) == pytest.approx(2 / 1.5)
    both = np.stack([history, 10 * np.array(history)], axis=1)  # each column has its own scale
    columns = metrics.mase(
        np.stack([prediction, 10 * prediction], axis=1), np.outer(targets, [1, 10]), both
    )
    assert columns == pytest.approx(2 / 4)
    uneven = metrics.mase(np.array([[1.0, 1.0]]), np.zeros((1, 2)), both)
    assert uneven == pytest.approx((1 / 4 + 1 / 40) / 2)


def test_the_scale_of_a_series() -> None:
    history = np.array([[1, 7], [3, 7], [2, 7], [6, 7]], np.float32)
    for season, expected in ((1, 7 / 3), (2, 2.0), (3, 5.0)):
        assert metrics.naive_scale(history[:, 0], season) == pytest.approx(expected)
        np.testing.assert_allclose(metrics.naive_scale(history, season), [expected, 0])
    for wrong, season, error, text in (
        (np.zeros((3, 2, 2)), 1, ValueError, r"history: expected shape \(N,\) or \(N, F\), got"),
        ([1.0, 2.0], 2, ValueError, "history: expected more than season=2 steps, got 2"),
        ([1.0, math.nan], 1, ValueError, "history: expected finite numbers"),
        (["a", "b"], 1, TypeError, "history: expected real numbers"),
        ([1.0, 2.0], 0, ValueError, "season: expected at least 1, got 0"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            metrics.naive_scale(wrong, season)


@pytest.mark.parametrize("dtype", FLOATS)
def test_forecasts_are_not_judged_by_padding(dtype: str) -> None:
    prediction, targets = numbers(T, B, dtype=dtype), numbers(T, B, seed=1)
    history = numbers(20, seed=2)
    r2 = metrics.r2(prediction[REAL], targets[REAL])
    mase = metrics.mase(prediction[REAL], targets[REAL], history)
    prediction[~REAL], targets[~REAL] = np.nan, np.inf
    for options in ({"lengths": LENGTHS}, {"mask": REAL}):
        assert metrics.r2(prediction, targets, **options) == r2  # type: ignore[arg-type]
        assert metrics.mase(prediction, targets, history, **options) == mase  # type: ignore[arg-type]
    turned = metrics.r2(prediction.T, targets.T, mask=REAL.T, batch_first=True)
    assert turned == pytest.approx(r2, rel=1e-12)
    assert math.isnan(metrics.mase(prediction, targets, history, lengths=[0, 0, 0]))


# --- what is refused ------------------------------------------------------------------------------

X, Y = np.zeros((4, 3)), [0, 1, 2, 0]
REFUSED: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (
        ValueError,
        r"targets: expected the shape of prediction without its last axis, \(4,\), got \(3,\)",
        lambda: metrics.accuracy(X, [0, 1, 2]),
    ),
    (
        ValueError,
        r"targets: expected the shape of prediction, \(4,\), got \(3,\)",
        lambda: metrics.accuracy(Y, [0, 1, 2]),
    ),
    (
        ValueError,
        r"targets: expected classes in \[0, 3\), got 3 at \(3,\)",
        lambda: metrics.accuracy(X, [0, 1, 2, 3]),
    ),
    (
        ValueError,
        r"targets: expected classes of at least 0, got -1 at \(0,\); rows to leave out: ignore",
        lambda: metrics.accuracy(Y, [-1, 1, 2, 3]),
    ),
    (
        ValueError,
        r"prediction: expected classes of at least 0, got -1",
        lambda: metrics.confusion_matrix([-1, 1, 2, 3], Y),
    ),
    (
        TypeError,
        r"targets: expected integers, got ndarray float64 \(4,\)",
        lambda: metrics.accuracy(X, np.zeros(4)),
    ),
    (
        TypeError,
        "targets: expected integers, got a masked array; pass targets.filled",
        lambda: metrics.accuracy(Y, np.ma.masked_array(Y, [0, 0, 0, 1])),
    ),
    (
        TypeError,
        "prediction: expected integers, got a masked array; pass prediction.filled",
        lambda: metrics.accuracy(np.ma.masked_array(Y, [0, 0, 0, 1]), Y),
    ),
    (
        TypeError,
        "prediction: expected float32 or float64, got float16",
        lambda: metrics.accuracy(X.astype(np.float16), Y),
    ),
    (
        ValueError,
        r"prediction: expected shape \(T, B\) or \(T,\) with lengths or mask, got \(2, 2, 2\)",
        lambda: metrics.accuracy(np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), lengths=[1]),
    ),
    (
        ValueError,
        r"prediction: expected shape \(\.\.\., V\) with V of at least 1, got \(4, 0\)",
        lambda: metrics.accuracy(X[:, :0], Y),
    ),
    (
        ValueError,
        "classes: expected at least 3, got 2",
        lambda: metrics.confusion_matrix(Y, Y, classes=2),
    ),
    (
        ValueError,
        "classes: expected 3, the last axis of prediction, or None, got 4",
        lambda: metrics.confusion_matrix(X, Y, classes=4),
    ),
    (
        TypeError,
        "classes: expected a whole number",
        lambda: metrics.confusion_matrix(Y, Y, classes=2.0),  # type: ignore[arg-type]
    ),
    (
        ValueError,
        r"targets: expected the shape of prediction, \(4, 3\), got \(4,\)",
        lambda: metrics.r2(X, Y),
    ),
    (
        ValueError,
        r"history: expected shape \(N,\) or \(N, 3\), got \(9, 2\)",
        lambda: metrics.mase(X, X, np.ones((9, 2))),
    ),
    (
        ValueError,
        "history: expected more than season=4 steps, got 4",
        lambda: metrics.mase(X, X, np.arange(4), season=4),
    ),
    (
        ValueError,
        "season: expected at least 1, got 0",
        lambda: metrics.mase(X, X, np.arange(4), season=0),
    ),
    (
        ValueError,
        "history: the series is the same after season=2 steps, so its scale is 0",
        lambda: metrics.mase(X, X, [0, 1, 0, 1, 0], season=2),
    ),
    (
        ValueError,
        "history: column 1 is the same after season=1 steps",
        lambda: metrics.mase(X, X, np.outer(np.arange(4), [1, 0, 1])),
    ),
    (
        ValueError,
        "history: expected finite numbers",
        lambda: metrics.mase(X, X, [0, 1, math.nan]),
    ),
    (
        TypeError,
        "history: expected real numbers, got ndarray <U1",
        lambda: metrics.mase(X, X, ["a", "b"]),  # type: ignore[arg-type]
    ),
]


@pytest.mark.parametrize(("kind", "text", "call"), REFUSED, ids=[text for _, text, _ in REFUSED])
def test_what_does_not_fit_is_refused_by_name(
    kind: type[Exception], text: str, call: Callable[[], object]
) -> None:
    with pytest.raises(kind, match=text):
        call()
