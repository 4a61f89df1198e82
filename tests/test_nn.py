"""The pieces of nn, each against plain NumPy, arithmetic by hand, or torch."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

from conftest import Chosen
from fusedrnn.nn import Adam, Dense, clip_global_norm, mse, softmax_cross_entropy

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def slope(f: Any, x: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function."""
    g = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        old = x[place]
        x[place] = old + step
        above = f()
        x[place] = old - step
        g[place] = (above - f()) / (2 * step)
        x[place] = old
    return g


# --- Dense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outer", [(), (0,), (7,), (2, 3), (5, 0, 2)])
def test_dense_is_a_product(
    backend: Chosen, outer: tuple[int, ...], bias: bool, dtype: str
) -> None:
    layer = Dense(19, 37, bias=bias, dtype=dtype, seed=1)
    x, dy = numbers(*outer, 19, dtype=dtype), numbers(*outer, 37, seed=1, dtype=dtype)
    w = layer.params["weight"]
    b = layer.params["bias"] if bias else np.zeros(37, dtype)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == "float32" else 1e-13}

    y, saved = layer.forward(x)
    backend.ran(f"dense {dtype}")
    dx, grads = layer.backward(saved, dy)
    backend.ran(f"dense {dtype}")

    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_allclose(y, x @ w.T + b, **tolerance)
    np.testing.assert_allclose(dx, dy @ w, **tolerance)
    rows, drows = x.reshape(-1, 19), dy.reshape(-1, 37)
    np.testing.assert_allclose(grads["weight"], drows.T @ rows, **tolerance)
    if bias:
        np.testing.assert_allclose(grads["bias"], drows.sum(axis=0), **tolerance)
    assert list(grads) == list(layer.params) == (["weight", "bias"] if bias else ["weight"])


def test_dense_refuses_what_does_not_fit() -> None:
    layer = Dense(3, 2)
    with pytest.raises(ValueError, match=r"x: expected shape \(..., 3\), got \(4, 2\)"):
        layer(np.zeros((4, 2)))
    with pytest.raises(TypeError, match="x: expected floating point"):
        layer(np.zeros((4, 3), int))
    with pytest.raises(ValueError, match="out_features: expected at least 1, got 0"):
        Dense(3, 0)
    y, saved = layer.forward(np.zeros((4, 3)))
    assert saved.nbytes >= 0
    with pytest.raises(ValueError, match="dy: expected shape"):
        layer.backward(saved, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="another layer"):
        Dense(3, 2).backward(saved, y)
    with layer.writable() as p:
        p["weight"] *= 2
        with pytest.raises(RuntimeError, match="open for writing"):
            layer(np.zeros((4, 3)))
    with pytest.raises(RuntimeError, match="changed"):
        layer.backward(saved, y)


def test_dense_parameters_are_its_own() -> None:
    layer = Dense(3, 2, seed=4)
    assert np.abs(layer.params["weight"]).max() <= 1 / math.sqrt(3)
    x = numbers(4, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x), layer(x))
    before = layer(x)
    state = layer.state_dict()
    state["bias"] += 1  # a copy
    np.testing.assert_array_equal(layer(x), before)
    layer.load_state_dict(state)
    np.testing.assert_allclose(layer(x), before + 1, rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        layer.params["bias"][0] = 1
    assert repr(layer) == "Dense(3, 2)"


# --- losses ---------------------------------------------------------------------------------------


def test_cross_entropy_and_its_gradient() -> None:
    logits, targets = numbers(4, 3, 5), np.arange(12).reshape(4, 3) % 5
    loss = softmax_cross_entropy(logits, targets)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = np.take_along_axis(p, targets[..., None], axis=-1)
    assert loss.value == pytest.approx(-np.log(right).mean(), rel=1e-14)
    expected = slope(lambda: softmax_cross_entropy(logits, targets).value, logits)
    np.testing.assert_allclose(loss.gradient, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", FLOATS)
def test_cross_entropy_of_any_size_is_finite(dtype: str) -> None:
    big = np.finfo(dtype).max / 4
    logits = np.array([[big, -big, 0.0], [-big, -big, -big]], dtype)
    loss = softmax_cross_entropy(logits, [0, 2])
    assert loss.value == pytest.approx(math.log(3) / 2, rel=1e-6)
    assert loss.gradient.dtype == dtype
    np.testing.assert_allclose(loss.gradient.sum(axis=-1), 0, atol=1e-7)


def test_cross_entropy_refuses_what_does_not_fit() -> None:
    logits = numbers(4, 3)
    assert softmax_cross_entropy(logits[:0], np.zeros(0, int)).value == 0
    with pytest.raises(ValueError, match=r"targets: expected the shape .* \(4,\), got \(3,\)"):
        softmax_cross_entropy(logits, [0, 1, 2])
    with pytest.raises(ValueError, match=r"targets: expected classes in \[0, 3\), got 3 at \(3,\)"):
        softmax_cross_entropy(logits, [0, 1, 2, 3])
    with pytest.raises(TypeError, match="targets: expected integers, got ndarray float64"):
        softmax_cross_entropy(logits, np.zeros(4))
    with pytest.raises(
        TypeError, match="logits: expected an array of floating point, got ndarray int64"
    ):
        softmax_cross_entropy(np.zeros((4, 3), np.int64), [0, 1, 2, 0])


def test_mse_and_its_gradient() -> None:
    prediction, targets = numbers(4, 3), numbers(4, 3, seed=1)
    loss = mse(prediction, targets)
    assert loss.value == pytest.approx(((prediction - targets) ** 2).mean(), rel=1e-14)
    expected = slope(lambda: mse(prediction, targets).value, prediction)
    np.testing.assert_allclose(loss.gradient, expected, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="targets: expected the shape of prediction"):
        mse(prediction, targets[:1])


# --- optimisation ---------------------------------------------------------------------------------


def test_adam_by_hand() -> None:
    p = {"a": np.array([1.0, -2.0]), "still": np.ones(1)}
    adam = Adam(0.1, betas=(0.8, 0.9), eps=1e-3)
    m = v = np.zeros(2)
    wanted = p["a"].copy()
    for t in range(1, 5):
        g = np.array([t, -0.5 * t])
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        wanted = wanted - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        adam.step(p, {"a": g})
    np.testing.assert_allclose(p["a"], wanted, rtol=1e-14)
    assert p["still"] == 1
    with pytest.raises(ValueError, match=r"grads\['a'\]: expected shape \(2,\), got \(3,\)"):
        adam.step(p, {"a": np.zeros(3)})
    assert adam.state_dict(p)["steps.a"] == 4
    assert adam.state_dict(p)["steps.still"] == 0


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
def test_adam_and_clipping_are_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    shapes = {"w": (13, 7), "b": (13,)}
    ours = {name: numbers(*shape, dtype=dtype) for name, shape in shapes.items()}
    theirs = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in ours.values()]
    adam, rival = Adam(3e-3), torch.optim.Adam(theirs, lr=3e-3)
    for t in range(20):
        grads = {n: numbers(*s, seed=t, dtype=dtype) / (1 + t) for n, s in shapes.items()}
        for p, g in zip(theirs, grads.values(), strict=True):
            p.grad = torch.from_numpy(g.copy())
        norm = clip_global_norm(grads, max_norm=2.0)
        assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 2.0)), rel=1e-6)
        adam.step(ours, grads)
        rival.step()
    tolerance = 2e-7 if dtype == "float32" else 1e-15
    for p, q in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_clipping() -> None:
    grads = {"a": np.full(9, 1e30, np.float32), "b": np.full(7, -1e30, np.float32)}
    assert clip_global_norm(grads, max_norm=1.0) == pytest.approx(4e30, rel=1e-6)
    assert clip_global_norm(grads, max_norm=1.0) == pytest.approx(1.0, rel=1e-5)
    before = grads["a"].copy()
    assert clip_global_norm(grads, max_norm=2.0) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_array_equal(grads["a"], before)
    grads["a"][0] = np.nan
    assert math.isnan(clip_global_norm(grads, max_norm=0.1))
    np.testing.assert_array_equal(grads["a"][1:], before[1:])
    with pytest.raises(ValueError, match="max_norm: expected a number above 0"):
        clip_global_norm(grads, max_norm=0.0)
