"""Losses against plain NumPy, arithmetic by hand, and torch; padding and extreme numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.nn import Loss, binary_cross_entropy, mae, mse, softmax_cross_entropy

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")
T, B, V = 5, 3, 4
LENGTHS = np.array([5, 2, 0])
REAL = np.arange(T)[:, None] < LENGTHS  # (T, B)


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def classes(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, V, shape)


def slope(f: Callable[[], float], x: Array, step: float = 1e-6) -> Array:
    """The gradient of a scalar function by central differences."""
    g = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        old = x[place]
        x[place] = old + step
        above = f()
        x[place] = old - step
        g[place] = (above - f()) / (2 * step)
        x[place] = old
    return g


def same(one: Loss, other: Loss) -> None:
    assert one.value == other.value
    assert one.gradient.dtype == other.gradient.dtype
    np.testing.assert_array_equal(one.gradient, other.gradient)


def padded(seed: int = 0, dtype: str = "float64") -> tuple[Array, Array]:
    """Logits and targets whose padding holds NaN, infinities and wrong classes."""
    logits, targets = numbers(T, B, V, seed=seed, dtype=dtype), classes(T, B, seed=seed)
    rubbish = np.resize([np.nan, np.inf, -np.inf, 1e30], (~REAL).sum())
    logits[~REAL] = rubbish[:, None]
    targets[~REAL] = np.resize([-100, -1, V, 10**6], (~REAL).sum())
    return logits, targets


# --- cross-entropy --------------------------------------------------------------------------------


def test_cross_entropy_and_its_gradient() -> None:
    logits, targets = numbers(4, 3, 5), np.arange(12).reshape(4, 3) % 5
    loss = softmax_cross_entropy(logits, targets)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = np.take_along_axis(p, targets[..., None], axis=-1)
    assert loss.value == pytest.approx(-np.log(right).mean(), rel=1e-14)
    expected = slope(lambda: softmax_cross_entropy(logits, targets).value, logits)
    np.testing.assert_allclose(loss.gradient, expected, rtol=0, atol=1e-9)


def test_cross_entropy_counts_no_padding() -> None:
    """The mean is over the real rows; a mean over all rows gave 1.088 instead of 1.179 here."""
    logits = np.zeros((2, 2, 2))
    logits[0, 0], logits[1, 0], logits[0, 1] = [0, 1], [2, 0], [0, 0]
    logits[1, 1] = [0, 9]  # padding that is predicted well
    targets = np.array([[0, 1], [1, 1]])
    losses = [math.log(1 + math.e), math.log(1 + math.e**2), math.log(2)]
    loss = softmax_cross_entropy(logits, targets, lengths=[2, 1])
    assert loss.value == pytest.approx(sum(losses) / 3, rel=1e-14)
    everything = softmax_cross_entropy(logits, targets)
    assert everything.value == pytest.approx(
        (sum(losses) + math.log1p(math.exp(-9))) / 4, rel=1e-14
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_bit_depends_on_what_is_in_the_padding(dtype: str) -> None:
    """Value and gradient are those of the real rows alone; the gradient of padding is exactly 0."""
    logits, targets = padded(dtype=dtype)
    alone = softmax_cross_entropy(logits[REAL], targets[REAL])
    assert math.isfinite(alone.value)
    whole = np.zeros_like(logits)
    whole[REAL] = alone.gradient
    expected = Loss(alone.value, whole)
    ignored = np.where(REAL, targets, -100)
    same(softmax_cross_entropy(logits, targets, lengths=LENGTHS), expected)
    same(softmax_cross_entropy(logits, targets, mask=REAL), expected)
    same(softmax_cross_entropy(logits, ignored, ignore_index=-100), expected)
    same(softmax_cross_entropy(logits, ignored, ignore_index=-100, mask=REAL), expected)
    same(softmax_cross_entropy(logits, ignored, ignore_index=-100, lengths=[5, 5, 5]), expected)
    assert not np.signbit(expected.gradient[~REAL]).any()
    both = softmax_cross_entropy(logits, targets, lengths=LENGTHS, ignore_index=targets[0, 0])
    same(both, softmax_cross_entropy(logits, targets, mask=REAL & (targets != targets[0, 0])))
    assert both.value != expected.value

    # batch_first has the same rows in another order, so the sum may round differently.
    other = softmax_cross_entropy(
        logits.swapaxes(0, 1), targets.T, lengths=LENGTHS, batch_first=True
    )
    assert other.value == pytest.approx(alone.value, rel=1e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_array_equal(other.gradient.swapaxes(0, 1), expected.gradient)
    same(
        softmax_cross_entropy(logits.swapaxes(0, 1), targets.T, mask=REAL.T, batch_first=True),
        other,
    )
    # The same without a batch axis.
    one = softmax_cross_entropy(logits[:, 1], targets[:, 1], lengths=2)
    same(one, softmax_cross_entropy(logits[:, 1], targets[:, 1], mask=REAL[:, 1]))
    assert one.value == softmax_cross_entropy(logits[:2, 1], targets[:2, 1]).value
    assert not one.gradient[2:].any()


def test_the_head_does_not_learn_from_padding() -> None:
    """y is 0 at padding, so logits are the bias there; a loss that counts them trains the bias."""
    gru, head = fr.GRU(2, 6, seed=0, dtype="float64"), nn.Dense(6, V, seed=1, dtype="float64")
    x, targets = numbers(T, 1, 2), classes(T, 1)

    def of(steps: int) -> tuple[float, dict[str, Array]]:
        """Loss and gradients of one sequence of two steps, padded to `steps`."""
        y, _, saved = gru.forward(x[:steps], lengths=[2])
        logits, of_head = head.forward(y)
        loss = softmax_cross_entropy(logits, targets[:steps], lengths=[2])
        dy, dense = head.backward(of_head, loss.gradient)
        return loss.value, {**dense, **gru.backward(saved, dy)[2]}

    value, gradients = of(2)
    with_padding, others = of(T)
    assert with_padding == value
    for name, g in gradients.items():
        np.testing.assert_allclose(others[name], g, rtol=0, atol=1e-15)


@pytest.mark.parametrize("given", ["lengths", "mask", "ignore_index"])
def test_masked_cross_entropy_by_differences(given: str) -> None:
    logits, targets = numbers(T, B, V), classes(T, B)
    options: dict[str, Any] = {"lengths": LENGTHS, "mask": REAL, "ignore_index": 2}
    options = {given: options[given]}
    gradient = softmax_cross_entropy(logits, targets, **options).gradient
    expected = slope(lambda: softmax_cross_entropy(logits, targets, **options).value, logits)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)
    assert np.abs(gradient).max() > 0.01
    out = targets == 2 if given == "ignore_index" else ~REAL
    assert not gradient[out].any()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ignore", [-100, 1])
def test_cross_entropy_is_torchs(ignore: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = numbers(T, B, V, dtype=dtype), classes(T, B)
    targets[~REAL] = ignore
    given = torch.from_numpy(logits.copy()).requires_grad_()
    theirs = torch.nn.functional.cross_entropy(
        given.flatten(0, 1), torch.from_numpy(targets).flatten(), ignore_index=ignore
    )
    theirs.backward()
    loss = softmax_cross_entropy(logits, targets, ignore_index=ignore)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert loss.value == pytest.approx(theirs.item(), rel=tolerance)
    np.testing.assert_allclose(loss.gradient, given.grad.numpy(), rtol=0, atol=tolerance)
    if ignore == -100:
        same(softmax_cross_entropy(logits, targets, lengths=LENGTHS), loss)


@pytest.mark.parametrize("dtype", FLOATS)
def test_without_a_row_that_counts_the_loss_is_zero(dtype: str) -> None:
    logits, targets = np.full((T, B, V), np.nan, dtype), np.full((T, B), -100)
    expected = Loss(0.0, np.zeros((T, B, V), dtype))
    same(softmax_cross_entropy(logits, targets, ignore_index=-100), expected)
    same(softmax_cross_entropy(logits, targets, lengths=[0, 0, 0]), expected)
    same(softmax_cross_entropy(logits, targets, mask=np.zeros((T, B), bool)), expected)
    same(softmax_cross_entropy(logits[:0], targets[:0]), Loss(0.0, expected.gradient[:0]))
    same(softmax_cross_entropy(logits[:0, 0], []), Loss(0.0, expected.gradient[:0, 0]))
    same(mse(logits, logits, lengths=[0, 0, 0]), expected)
    same(mse(logits[:0], targets[:0, :, None] + np.zeros(V)), Loss(0.0, expected.gradient[:0]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_cross_entropy_of_any_size_is_finite(dtype: str) -> None:
    big = np.finfo(dtype).max / 4
    logits = np.array([[big, -big, 0.0], [-big, -big, -big]], dtype)
    loss = softmax_cross_entropy(logits, [0, 2])
    assert loss.value == pytest.approx(math.log(3) / 2, rel=1e-6)
    assert loss.gradient.dtype == dtype
    np.testing.assert_allclose(loss.gradient.sum(axis=-1), 0, atol=1e-7)


def test_the_largest_logits_have_their_value() -> None:
    """[[3e38, -3e38]] with target 1 in float32 once gave inf and a RuntimeWarning."""
    logits = np.array([[3e38, -3e38]], np.float32)
    loss = softmax_cross_entropy(logits, [1])
    assert loss.value == float(logits[0, 0]) - float(logits[0, 1]) > 5.9e38
    np.testing.assert_array_equal(loss.gradient, [[1, -1]])
    largest = np.finfo(np.float64).max
    # The sum of the rows exceeds the largest float64, but their mean does not.
    rows = softmax_cross_entropy(np.full((4, 2), [largest / 2, -largest / 4]), [1, 1, 1, 1])
    assert rows.value == pytest.approx(0.75 * largest, rel=1e-12)
    # This loss itself exceeds it.
    assert softmax_cross_entropy([[largest, -largest]], [1]).value == math.inf


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_logits_give_what_arithmetic_gives(dtype: str) -> None:
    inf, nan = math.inf, math.nan
    logits = np.array([[-inf, 0.0], [0.0, 1.0]], dtype)
    loss = softmax_cross_entropy(logits, [1, 1])  # class 0 has probability 0
    assert loss.value == pytest.approx(math.log1p(math.exp(-1)) / 2, rel=1e-6)
    np.testing.assert_array_equal(loss.gradient[0], [0, 0])
    assert softmax_cross_entropy(logits, [0, 1]).value == inf  # it was the target
    with np.errstate(all="raise"):  # a strict setting of the caller
        for row in ([nan, 0], [inf, 0], [inf, inf], [-inf, -inf]):
            logits[0] = row
            loss = softmax_cross_entropy(logits, [0, 1])
            assert math.isnan(loss.value)
            assert np.isnan(loss.gradient[0]).any()
            assert np.isfinite(loss.gradient[1]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_bit_depends_on_how_the_logits_lie_in_memory(dtype: str) -> None:
    logits, targets = numbers(T, B, 67, dtype=dtype), classes(T, B)
    expected = softmax_cross_entropy(logits, targets)
    same(softmax_cross_entropy(np.asfortranarray(logits), targets), expected)
    same(softmax_cross_entropy(logits.astype(logits.dtype.newbyteorder()), targets), expected)


def test_lists_are_taken() -> None:
    logits = [[0.5, -1.0], [2.0, 0.0]]
    same(softmax_cross_entropy(logits, (1, 0)), softmax_cross_entropy(np.array(logits), [1, 0]))
    same(mse(logits, [[0, 1], [1, 0]]), mse(np.array(logits), np.eye(2)[::-1]))
    loss = mse(0.5, 2)
    assert (loss.value, loss.gradient.shape, loss.gradient[()]) == (2.25, (), -3.0)


X = np.zeros((4, 3))
REFUSED: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (
        ValueError,
        r"targets: .* class of each row, \(4,\), got \(4, 2\); .* their argmax\(axis=-1\)",
        lambda: softmax_cross_entropy(numbers(4, 2), np.eye(2)[[0, 1, 1, 0]]),
    ),
    (
        ValueError,
        r"targets: expected the shape of logits without its last axis, \(4,\), got \(3,\)",
        lambda: softmax_cross_entropy(X, [0, 1, 2]),
    ),
    (
        ValueError,
        r"targets: expected classes in \[0, 3\), got 3 at \(3,\)$",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 3]),
    ),
    (
        ValueError,
        r"got -100 at \(1,\); rows to leave out: ignore_index=-100, lengths= or mask=",
        lambda: softmax_cross_entropy(X, [0, -100, 2, 2]),
    ),
    (
        ValueError,
        r"got -100 at \(2,\)",
        lambda: softmax_cross_entropy(X, [0, 1, -100, -100], lengths=3),
    ),
    (
        TypeError,
        r"targets: expected integers, got ndarray float64 \(4,\)",
        lambda: softmax_cross_entropy(X, np.zeros(4)),
    ),
    (
        TypeError,
        "targets: expected integers, got a masked array; pass targets.filled",
        lambda: softmax_cross_entropy(X, np.ma.masked_array([0, 1, 2, 0], [0, 0, 0, 1])),
    ),
    (
        TypeError,
        r"logits: expected an array of floating point, got ndarray int64 \(4, 3\)",
        lambda: softmax_cross_entropy(X.astype(np.int64), [0, 1, 2, 0]),
    ),
    (
        TypeError,
        "logits: expected float32 or float64, got float16",
        lambda: softmax_cross_entropy(X.astype(np.float16), [0, 1, 2, 0]),
    ),
    (
        TypeError,
        r"logits: expected an array, got a tuple; a layer's forward\(\) returns y first",
        lambda: softmax_cross_entropy(nn.Dense(3, 3).forward(X), [0, 1, 2, 0]),  # type: ignore[arg-type]
    ),
    (
        TypeError,
        "ignore_index: expected a whole number, got str",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], ignore_index="pad"),  # type: ignore[arg-type]
    ),
    (
        ValueError,
        "expected lengths or mask, got both",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], lengths=3, mask=[True] * 4),
    ),
    (
        ValueError,
        r"logits: expected shape \(B, T, V\) or \(T, V\) with lengths or mask, got \(1, 2, 2, 3\)",
        lambda: softmax_cross_entropy(
            X.reshape(1, 2, 2, 3), np.zeros((1, 2, 2), int), mask=[True], batch_first=True
        ),
    ),
    (
        ValueError,
        r"lengths: expected shape \(2,\), got \(3,\)",
        lambda: softmax_cross_entropy(X.reshape(2, 2, 3), np.zeros((2, 2), int), lengths=[1, 2, 2]),
    ),
    (
        ValueError,
        r"lengths: expected numbers in \[0, 4\], got 5",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], lengths=5),
    ),
    (
        TypeError,
        "mask: expected an array of bool",
        lambda: mse(X, X, mask=[1, 1, 0, 0]),
    ),
    (
        TypeError,
        "batch_first: expected True or False",
        lambda: mse(X, X, batch_first=1),  # type: ignore[arg-type]
    ),
    (
        ValueError,
        r"mask: expected shape \(4, 3\), got \(3, 4\)",
        lambda: mse(X, X, mask=np.ones((3, 4), bool)),
    ),
    (
        ValueError,
        r"targets: expected the shape of prediction, \(4, 3\), got \(4,\)",
        lambda: mse(X, X[:, 0]),
    ),
    (
        TypeError,
        r"targets: expected real numbers, got ndarray complex128 \(4, 3\)",
        lambda: mse(X, X + 0j),
    ),
    (
        TypeError,
        "targets: expected real numbers, got ndarray <U3",
        lambda: mse([0.5], ["0.5"]),
    ),
    (
        TypeError,
        "targets: expected real numbers, got a masked array",
        lambda: mse(X, np.ma.masked_array(X, X == 0)),
    ),
    (
        TypeError,
        "prediction: expected an array of floating point, got int",
        lambda: mse(1, 1.0),
    ),
    (
        ValueError,
        "prediction: expected a first axis of steps with lengths or mask",
        lambda: mse(1.0, 1.0, lengths=1),
    ),
]


@pytest.mark.parametrize(("kind", "text", "call"), REFUSED, ids=[text for _, text, _ in REFUSED])
def test_what_does_not_fit_is_refused_by_name(
    kind: type[Exception], text: str, call: Callable[[], object]
) -> None:
    with pytest.raises(kind, match=text):
        call()


# --- mean squared error ---------------------------------------------------------------------------


def test_mse_and_its_gradient() -> None:
    prediction, targets = numbers(4, 3), numbers(4, 3, seed=1)
    loss = mse(prediction, targets)
    assert loss.value == pytest.approx(((prediction - targets) ** 2).mean(), rel=1e-14)
    expected = slope(lambda: mse(prediction, targets).value, prediction)
    np.testing.assert_allclose(loss.gradient, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(T, B), (T, B, 2), (T, B, 2, 3)], ids=str)
def test_mse_counts_no_padding(shape: tuple[int, ...], dtype: str) -> None:
    prediction, targets = numbers(*shape, dtype=dtype), numbers(*shape, seed=1)
    alone = mse(prediction[REAL], targets[REAL])
    prediction[~REAL], targets[~REAL] = np.nan, np.inf
    whole = np.zeros_like(prediction)
    whole[REAL] = alone.gradient
    expected = Loss(alone.value, whole)
    same(mse(prediction, targets, lengths=LENGTHS), expected)
    same(mse(prediction, targets, mask=REAL), expected)
    turned = mse(prediction.swapaxes(0, 1), targets.swapaxes(0, 1), mask=REAL.T, batch_first=True)
    assert turned.value == pytest.approx(expected.value, rel=1e-14)
    np.testing.assert_array_equal(turned.gradient.swapaxes(0, 1), expected.gradient)
    same(
        mse(prediction.swapaxes(0, 1), targets.swapaxes(0, 1), lengths=LENGTHS, batch_first=True),
        turned,
    )


def test_mse_without_a_batch_axis() -> None:
    prediction, targets = numbers(T, 2), numbers(T, 2, seed=1)
    expected = mse(prediction[:3], targets[:3])
    for options in ({"lengths": 3}, {"lengths": [3]}, {"mask": np.arange(T) < 3}):
        loss = mse(prediction, targets, **options)  # type: ignore[arg-type]
        assert loss.value == expected.value
        np.testing.assert_array_equal(loss.gradient[:3], expected.gradient)
        assert not loss.gradient[3:].any()
    assert mse(prediction[:, 0], targets[:, 0], lengths=3).value == pytest.approx(
        ((prediction - targets)[:3, 0] ** 2).mean(), rel=1e-14
    )


def test_masked_mse_by_differences() -> None:
    prediction, targets = numbers(T, B, 2), numbers(T, B, 2, seed=1)
    gradient = mse(prediction, targets, mask=REAL).gradient
    expected = slope(lambda: mse(prediction, targets, mask=REAL).value, prediction)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)
    assert not gradient[~REAL].any()


def test_mse_of_any_size() -> None:
    """Squares above float32's range stay finite; NaN shows in the value, without a warning."""
    loss = mse(np.array([3e38, 0.0], np.float32), [-3e38, 0.0])
    assert loss.value == pytest.approx(36e76 / 2, rel=1e-6)
    assert loss.gradient.dtype == np.float32
    assert loss.gradient[0] == np.inf  # 6e38 does not fit float32
    assert mse(np.full(4, 1e150), np.zeros(4)).value == pytest.approx(1e300)
    assert mse(np.full(4, 1.2e154), np.zeros(4)).value == pytest.approx(1.44e308)
    with np.errstate(all="raise"):
        assert math.isnan(mse([np.nan, 1.0], [0.0, 0.0]).value)
        assert mse([1e200], [0.0]).value == math.inf


# --- class weights --------------------------------------------------------------------------------

WEIGHTS = [0.5, 2.0, 1.0, 4.0]


def test_class_weights_by_hand() -> None:
    """The mean is divided by the sum of weights: log 4 stays log 4, whatever the weights."""
    loss = softmax_cross_entropy(np.zeros((3, 4)), [0, 1, 3], class_weights=WEIGHTS)
    assert loss.value == pytest.approx(math.log(4), rel=1e-14)
    logits = np.array([[0.0, math.log(3), 0, 0], [0, 0, 0, 0]])
    loss = softmax_cross_entropy(logits, [1, 0], class_weights=WEIGHTS)
    assert loss.value == pytest.approx((2 * math.log(2) + 0.5 * math.log(4)) / 2.5, rel=1e-14)
    p = np.array([[1 / 6, 1 / 2, 1 / 6, 1 / 6], [1 / 4] * 4]) - [[0, 1, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_allclose(loss.gradient, p * [[0.8], [0.2]], rtol=1e-13)


@pytest.mark.parametrize("given", ["lengths", "mask", "ignore_index"])
def test_weighted_cross_entropy_by_differences(given: str) -> None:
    logits, targets = numbers(T, B, V), classes(T, B)
    options: dict[str, Any] = {"lengths": LENGTHS, "mask": REAL, "ignore_index": 2}
    options = {given: options[given], "class_weights": WEIGHTS}
    gradient = softmax_cross_entropy(logits, targets, **options).gradient
    expected = slope(lambda: softmax_cross_entropy(logits, targets, **options).value, logits)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)
    out = targets == 2 if given == "ignore_index" else ~REAL
    assert not gradient[out].any()
    assert gradient[~out].all()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weights", [WEIGHTS, [0.0, 1.0, 3.0, 0.5], [1e-6, 1.0, 1.0, 1e3]], ids=str)
def test_weighted_cross_entropy_is_torchs(weights: list[float], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = numbers(T, B, V, dtype=dtype), classes(T, B)
    targets[~REAL] = -100
    given = torch.from_numpy(logits.copy()).requires_grad_()
    theirs = torch.nn.functional.cross_entropy(
        given.flatten(0, 1),
        torch.from_numpy(targets).flatten(),
        weight=torch.tensor(weights, dtype=given.dtype),
    )
    theirs.backward()
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for options in ({"ignore_index": -100}, {"lengths": LENGTHS}):
        loss = softmax_cross_entropy(logits, targets, class_weights=weights, **options)  # type: ignore[arg-type]
        assert loss.value == pytest.approx(theirs.item(), rel=tolerance)
        np.testing.assert_allclose(loss.gradient, given.grad.numpy(), rtol=0, atol=tolerance)
        assert loss.gradient.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
def test_weighted_padding_counts_for_nothing(dtype: str) -> None:
    logits, targets = padded(dtype=dtype)
    alone = softmax_cross_entropy(logits[REAL], targets[REAL], class_weights=WEIGHTS)
    whole = np.zeros_like(logits)
    whole[REAL] = alone.gradient
    expected = Loss(alone.value, whole)
    same(softmax_cross_entropy(logits, targets, lengths=LENGTHS, class_weights=WEIGHTS), expected)
    same(softmax_cross_entropy(logits, targets, mask=REAL, class_weights=WEIGHTS), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_of_weight_zero_do_not_count(dtype: str) -> None:
    logits, targets = numbers(6, V, dtype=dtype), np.array([0, 1, 2, 3, 0, 1])
    logits[targets == 0] = np.nan
    loss = softmax_cross_entropy(logits, targets, class_weights=[0, 1, 1, 1])
    same(softmax_cross_entropy(logits, targets, class_weights=[0, 1, 1, 1], mask=targets > 0), loss)
    assert math.isfinite(loss.value)
    assert not loss.gradient[targets == 0].any()
    assert loss.value == pytest.approx(
        softmax_cross_entropy(logits, targets, ignore_index=0).value, rel=1e-6
    )
    none = softmax_cross_entropy(logits, targets, class_weights=np.zeros(V))
    same(none, Loss(0.0, np.zeros_like(logits)))


def test_class_weights_of_any_size() -> None:
    logits, targets = numbers(3, V), [0, 1, 2]
    usual = softmax_cross_entropy(logits, targets, class_weights=WEIGHTS)
    for factor in (2.0**1000, 2.0**-1000):
        same(
            softmax_cross_entropy(logits, targets, class_weights=np.multiply(WEIGHTS, factor)),
            usual,
        )
    largest = np.full(V, np.finfo(np.float64).max)
    loss = softmax_cross_entropy(logits, targets, class_weights=largest)
    assert loss.value == pytest.approx(softmax_cross_entropy(logits, targets).value, rel=1e-14)
    huge = np.array([[3e38, -3e38]], np.float32)
    assert softmax_cross_entropy(huge, [1], class_weights=[1, 5]).value > 5.9e38


# --- weights of rows ------------------------------------------------------------------------------

KINDS: dict[str, Callable[..., Loss]] = {
    "softmax": softmax_cross_entropy,
    "softmax with classes": functools.partial(softmax_cross_entropy, class_weights=WEIGHTS),
    "mse": mse,
    "mae": mae,
    "binary": binary_cross_entropy,
    "binary with pos_weight": functools.partial(binary_cross_entropy, pos_weight=[3, 1, 0, 2]),
}


def given(kind: str) -> tuple[Array, Array]:
    """A prediction (T, B, V), and its targets."""
    if kind.startswith("softmax"):
        return numbers(T, B, V), classes(T, B)
    return numbers(T, B, V), np.random.default_rng(1).random((T, B, V))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}, {"mask": REAL}], ids=list)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_weighted_losses_by_differences(kind: str, options: dict[str, Any], axes: int) -> None:
    prediction, targets = given(kind)
    weights = np.random.default_rng(2).random(prediction.shape[: min(axes, targets.ndim)])
    weights[1] = 0

    def of() -> Loss:
        return KINDS[kind](prediction, targets, weights=weights, **options)

    gradient = of().gradient
    np.testing.assert_allclose(gradient, slope(lambda: of().value, prediction), rtol=0, atol=1e-9)
    counted = np.broadcast_to((np.arange(T) != 1)[:, None] & (REAL if options else True), (T, B))
    assert not gradient[~counted].any()
    assert gradient[counted].any(axis=-1).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repeated_rows(kind: str, dtype: str) -> None:
    """A row of weight 3 is three rows; a weight of several rows is that of each."""
    prediction, targets = given(kind)
    prediction, times = prediction.astype(dtype), np.array([2, 0, 1, 3, 1])
    tolerance = {"rtol": 1e-12 if dtype == "float64" else 1e-5, "atol": 1e-12}
    repeated = KINDS[kind](np.repeat(prediction, times, axis=0), np.repeat(targets, times, axis=0))
    prediction[1] = np.nan
    if not kind.startswith("softmax"):
        targets[1] = np.nan
    for weights in (times, 0.1 * times, np.repeat(times[:, None], B, axis=1)):
        loss = KINDS[kind](prediction, targets, weights=weights)
        np.testing.assert_allclose(loss.value, repeated.value, **tolerance)
        assert loss.gradient.dtype == dtype
        once = np.stack([part.sum(axis=0) for part in np.split(repeated.gradient, [2, 2, 3, 6])])
        np.testing.assert_allclose(loss.gradient, once, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_weight_does_not_count(kind: str) -> None:
    """Neither its prediction nor its target is read, and no bit depends on them."""
    prediction, targets = given(kind)
    weights = np.where(REAL, 1.0, 0.0)
    expected = KINDS[kind](prediction, targets, weights=weights)
    prediction[~REAL], targets[~REAL] = np.nan, -1
    same(KINDS[kind](prediction, targets, weights=weights), expected)
    masked = KINDS[kind](prediction, targets, mask=REAL)
    assert expected.value == pytest.approx(masked.value, rel=1e-14)
    np.testing.assert_allclose(expected.gradient, masked.gradient, rtol=1e-14, atol=0)
    nothing = KINDS[kind](prediction, targets, weights=np.zeros(T))
    same(nothing, Loss(0.0, np.zeros_like(prediction)))
    turned = KINDS[kind](
        prediction.swapaxes(0, 1), targets.swapaxes(0, 1), weights=[2, 1, 9], lengths=LENGTHS,
        batch_first=True,
    )  # fmt: skip
    by_steps = np.broadcast_to([2, 1, 9], (T, B))
    loss = KINDS[kind](prediction, targets, weights=by_steps, mask=REAL)
    assert turned.value == pytest.approx(loss.value, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_any_size(kind: str) -> None:
    prediction, targets = given(kind)
    usual = KINDS[kind](prediction, targets)
    for weight in (1.0, 1e-300, np.finfo(np.float64).max):
        loss = KINDS[kind](prediction, targets, weights=np.full(T, weight))
        assert loss.value == pytest.approx(usual.value, rel=1e-13)
        np.testing.assert_allclose(loss.gradient, usual.gradient, rtol=1e-13)
    for weights, error, text in (
        (np.ones(B), ValueError, r"shape \(5,\) or \(5, 3\)(| or \(5, 3, 4\)), got \(3,\)"),
        (1.0, ValueError, r"shape \(5,\) or .*, got \(\)"),
        ([1, 1, 1, -2, 1], ValueError, r"finite numbers of at least 0, got -2.0 at \(3,\)"),
        ([1, 1, 1, np.nan, 1], ValueError, r"finite numbers of at least 0, got nan at \(3,\)"),
        (["1"] * T, TypeError, r"real numbers, got ndarray <U1 \(5,\)"),
    ):
        with pytest.raises(error, match=f"^weights: expected {text}"):
            KINDS[kind](prediction, targets, weights=weights)
    loss = mse(0.5, 2, weights=3)
    assert (loss.value, loss.gradient.shape, loss.gradient[()]) == (2.25, (), -3.0)


# --- mean absolute error --------------------------------------------------------------------------


def test_mae_and_its_gradient() -> None:
    prediction, targets = numbers(4, 3), numbers(4, 3, seed=1)
    loss = mae(prediction, targets)
    assert loss.value == pytest.approx(np.abs(prediction - targets).mean(), rel=1e-14)
    expected = slope(lambda: mae(prediction, targets).value, prediction)
    np.testing.assert_allclose(loss.gradient, expected, rtol=0, atol=1e-9)
    assert not mae(prediction, prediction).gradient.any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(T, B), (T, B, 2)], ids=str)
@pytest.mark.parametrize("kind", [mae, binary_cross_entropy])
def test_losses_of_elements_count_no_padding(
    kind: Callable[..., Loss], shape: tuple[int, ...], dtype: str
) -> None:
    prediction = numbers(*shape, dtype=dtype)
    targets = np.random.default_rng(1).random(shape)
    alone = kind(prediction[REAL], targets[REAL])
    prediction[~REAL] = np.nan
    targets[~REAL] = np.resize([np.inf, np.nan, -1], targets[~REAL].shape)
    whole = np.zeros_like(prediction)
    whole[REAL] = alone.gradient
    expected = Loss(alone.value, whole)
    same(kind(prediction, targets, lengths=LENGTHS), expected)
    same(kind(prediction, targets, mask=REAL), expected)
    turned = kind(prediction.swapaxes(0, 1), targets.swapaxes(0, 1), mask=REAL.T, batch_first=True)
    assert turned.value == pytest.approx(expected.value, rel=1e-14)
    np.testing.assert_array_equal(turned.gradient.swapaxes(0, 1), expected.gradient)
    nothing = kind(prediction, targets, lengths=[0, 0, 0])
    same(nothing, Loss(0.0, np.zeros_like(prediction)))
    same(kind(prediction[:0], targets[:0]), Loss(0.0, whole[:0]))
    one = kind(prediction[:, 0], targets[:, 0], lengths=3)
    assert one.value == kind(prediction[:3, 0], targets[:3, 0]).value
    assert not one.gradient[3:].any()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
def test_mae_is_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    prediction, targets = numbers(T, B, dtype=dtype), numbers(T, B, seed=1, dtype=dtype)
    prediction[0] = targets[0]
    given = torch.from_numpy(prediction.copy()).requires_grad_()
    theirs = torch.nn.functional.l1_loss(given, torch.from_numpy(targets))
    theirs.backward()
    loss = mae(prediction, targets)
    assert loss.value == pytest.approx(theirs.item(), rel=1e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_allclose(loss.gradient, given.grad.numpy(), rtol=1e-7)


# --- binary cross-entropy -------------------------------------------------------------------------


def test_binary_cross_entropy_by_hand() -> None:
    """sigmoid(log 3) is 3/4."""
    x = math.log(3)
    loss = binary_cross_entropy(np.array([x, x, -x]), [True, False, False])
    losses = [math.log(4 / 3), math.log(4), math.log(4 / 3)]
    assert loss.value == pytest.approx(sum(losses) / 3, rel=1e-14)
    np.testing.assert_allclose(loss.gradient, [-1 / 12, 3 / 12, 1 / 12], rtol=1e-14)
    loss = binary_cross_entropy(np.array([x, x, -x]), [1, 0, 0], pos_weight=5)
    losses[0] *= 5
    assert loss.value == pytest.approx(sum(losses) / 3, rel=1e-14)
    np.testing.assert_allclose(loss.gradient, [-5 / 12, 3 / 12, 1 / 12], rtol=1e-14)


@pytest.mark.parametrize("pos_weight", [None, 3.0, [0.5, 4.0]])
@pytest.mark.parametrize("soft", [False, True])
def test_binary_cross_entropy_by_differences(soft: bool, pos_weight: Any) -> None:
    logits, targets = 3 * numbers(T, B, 2), np.random.default_rng(1).random((T, B, 2))
    targets = targets if soft else np.round(targets)

    def of() -> Loss:
        return binary_cross_entropy(logits, targets, pos_weight=pos_weight, lengths=LENGTHS)

    gradient = of().gradient
    np.testing.assert_allclose(gradient, slope(lambda: of().value, logits), rtol=0, atol=1e-9)
    assert gradient[REAL].all()
    assert not gradient[~REAL].any()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("pos_weight", [None, 0.25, [0.5, 4.0]])
def test_binary_cross_entropy_is_torchs(pos_weight: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    logits = 4 * numbers(T, B, 2, dtype=dtype)
    logits[0, 0] = [80, -80]
    targets = np.random.default_rng(1).random((T, B, 2)).astype(dtype)
    targets[::2] = np.round(targets[::2])
    given = torch.from_numpy(logits.copy()).requires_grad_()
    weight = None if pos_weight is None else torch.tensor(pos_weight, dtype=given.dtype)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        given, torch.from_numpy(targets), pos_weight=weight
    )
    theirs.backward()
    loss = binary_cross_entropy(logits, targets, pos_weight=pos_weight)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert loss.value == pytest.approx(theirs.item(), rel=tolerance)
    np.testing.assert_allclose(loss.gradient, given.grad.numpy(), rtol=0, atol=tolerance)
    assert loss.gradient.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
def test_logits_of_any_size_have_a_binary_cross_entropy(dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    logits = np.array([largest, -largest, largest, -largest], dtype)
    with np.errstate(all="raise"):
        loss = binary_cross_entropy(logits, [1, 0, 0, 1])
        assert loss.value == pytest.approx(largest / 2, rel=1e-6)
        np.testing.assert_array_equal(loss.gradient, [0, 0, 0.25, -0.25])
        right = binary_cross_entropy(np.array([np.inf, -np.inf], dtype), [1, 0], pos_weight=2)
        same(right, Loss(0.0, np.zeros(2, dtype)))
        wrong = binary_cross_entropy(np.array([np.inf, 0], dtype), [0, 0])
        assert wrong.value == math.inf
        spoilt = binary_cross_entropy(np.array([np.nan, 0], dtype), [1, 0])
    assert math.isnan(spoilt.value)
    assert math.isnan(spoilt.gradient[0])
    assert spoilt.gradient[1] == 0.25
    # Where the probability rounds to 1 the loss is still exact, and so is the gradient.
    tiny = binary_cross_entropy(np.array([-50.0], dtype), [0])
    assert tiny.value == pytest.approx(math.exp(-50), rel=1e-6)
    assert tiny.gradient[0] == pytest.approx(math.exp(-50), rel=1e-6)


OF_WEIGHTS: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (
        ValueError,
        r"class_weights: expected shape \(3,\), got \(2,\)",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], class_weights=[1, 2]),
    ),
    (
        ValueError,
        r"class_weights: expected finite numbers of at least 0, got -1\.0 at \(1,\)",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], class_weights=[1, -1, 1]),
    ),
    (
        ValueError,
        r"class_weights: expected finite numbers of at least 0, got nan at \(2,\)",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], class_weights=[1, 1, math.nan]),
    ),
    (
        TypeError,
        r"class_weights: expected real numbers, got ndarray <U1 \(3,\)",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 0], class_weights=["a", "b", "c"]),  # type: ignore[arg-type]
    ),
    (
        ValueError,
        r"targets: expected classes in \[0, 3\), got 3",
        lambda: softmax_cross_entropy(X, [0, 1, 2, 3], class_weights=[1, 1, 1]),
    ),
    (
        ValueError,
        r"logits: expected shape \(\.\.\., V\), got \(\)",
        lambda: softmax_cross_entropy(0.5, 0),
    ),
    (
        ValueError,
        r"pos_weight: expected shape \(\) or \(3,\), got \(4,\)",
        lambda: binary_cross_entropy(X, X, pos_weight=np.ones(4)),
    ),
    (
        ValueError,
        "pos_weight: expected finite numbers of at least 0, got inf$",
        lambda: binary_cross_entropy(X, X, pos_weight=math.inf),
    ),
    (
        TypeError,
        "pos_weight: expected real numbers",
        lambda: binary_cross_entropy(X, X, pos_weight=True),
    ),
    (
        ValueError,
        r"targets: expected numbers in \[0, 1\], got -1\.0 at \(0, 0\); steps to leave out: leng",
        lambda: binary_cross_entropy(X, X - 1),
    ),
    (
        ValueError,
        r"targets: expected numbers in \[0, 1\], got nan at \(0, 0\)$",
        lambda: binary_cross_entropy(X, X + math.nan),
    ),
    (
        ValueError,
        r"targets: expected numbers in \[0, 1\], got 2$",
        lambda: binary_cross_entropy(0.5, 2),
    ),
    (
        ValueError,
        r"targets: expected the shape of logits, \(4, 3\), got \(4,\)",
        lambda: binary_cross_entropy(X, X[:, 0]),
    ),
    (
        TypeError,
        r"logits: expected an array, got a tuple; a layer's forward\(\) returns y first",
        lambda: binary_cross_entropy(nn.Dense(3, 3).forward(X), X),  # type: ignore[arg-type]
    ),
    (
        ValueError,
        r"targets: expected the shape of prediction, \(4, 3\), got \(4,\)",
        lambda: mae(X, X[:, 0]),
    ),
    (TypeError, "mask: expected an array of bool", lambda: mae(X, X, mask=[1, 1, 0, 0])),
    (
        ValueError,
        "expected lengths or mask, got both",
        lambda: binary_cross_entropy(X, X, lengths=3, mask=[True] * 4),
    ),
]


@pytest.mark.parametrize(
    ("kind", "text", "call"), OF_WEIGHTS, ids=[text for _, text, _ in OF_WEIGHTS]
)
def test_weights_and_targets_that_do_not_fit_are_refused_by_name(
    kind: type[Exception], text: str, call: Callable[[], object]
) -> None:
    with pytest.raises(kind, match=text):
        call()
