"""Embedding, Dropout, LayerNorm, RepeatVector and Activation against their equations and torch.

What all layers of `fusedrnn.nn` have in common is tested here for attention too.
"""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn import nn
from fusedrnn.nn import _product
from layer_cases import check_differences, same

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")
ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity", "softmax")
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(found: Array, expected: Array, dtype: str, scale: float = 1.0) -> None:
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def differences(layer: Any, x: Array, **options: Any) -> None:
    """Compare the gradients of a layer at x with central differences."""
    y, saved = layer.forward(x, **options)
    weights = numbers(*y.shape, seed=9)
    dx, gradients = layer.backward(saved, weights)

    def loss() -> float:
        again = {name: copy.deepcopy(value) for name, value in options.items()}
        return float((layer.forward(x, **again)[0] * weights).sum())

    check_differences(layer, loss, {"x": x}, {"x": dx, **gradients}, elements=20)


# --- Embedding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4), (2, 0), (2, 3, 2)])
def test_embedding_looks_rows_up(shape: tuple[int, ...], dtype: str) -> None:
    layer = nn.Embedding(6, 3, dtype=dtype, seed=0)
    ids = np.random.default_rng(1).integers(0, 6, shape)
    y, saved = layer.forward(ids.tolist() if shape else ids)
    dy = numbers(*shape, 3, seed=2, dtype=dtype)
    dx, gradients = layer.backward(saved, dy)
    expected = np.zeros((6, 3))
    for place in np.ndindex(*shape):
        expected[ids[place]] += dy[place]
    assert same(y, layer.params["weight"][ids])
    assert same(layer(ids.astype(np.uint8)), y)
    assert dx is None
    assert list(gradients) == ["weight"]
    close(gradients["weight"], expected, dtype)
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    assert saved.nbytes == 8 * ids.size


def test_embedding_keeps_its_own_ids() -> None:
    layer, ids = nn.Embedding(4, 2, seed=0), np.array([0, 1])
    _, saved = layer.forward(ids)
    ids[:] = 3
    _, gradients = layer.backward(saved, np.ones((2, 2)))
    assert gradients["weight"].any(axis=1).tolist() == [True, True, False, False]


def test_embedding_gradient_is_a_central_difference() -> None:
    layer = nn.Embedding(5, 3, dtype="float64", seed=0)
    ids, weights = np.array([[4, 1], [1, 0], [1, 4]]), numbers(3, 2, 3)
    _, saved = layer.forward(ids)
    _, gradients = layer.backward(saved, weights)
    check_differences(
        layer, lambda: float((layer(ids) * weights).sum()), {}, gradients, elements=15
    )


def test_the_sum_of_an_id_does_not_depend_on_other_ids() -> None:
    layer = nn.Embedding(5, 4, seed=0)
    ids, dy = np.random.default_rng(0).integers(0, 5, 300), numbers(300, 4, dtype="float32")
    _, saved = layer.forward(ids)
    whole = layer.backward(saved, dy)[1]["weight"]
    for k in range(5):
        _, saved = layer.forward(ids[ids == k])
        assert same(layer.backward(saved, dy[ids == k])[1]["weight"][k], whole[k])


@pytest.mark.parametrize("padding", [None, 3])
def test_gradients_by_rows_are_those_of_the_table(padding: int | None) -> None:
    layer = nn.Embedding(9, 5, padding_idx=padding, seed=0)
    _, saved = layer.forward([[3, 7, 1], [7, 7, 3]])
    dy = numbers(2, 3, 5, dtype="float32")
    ids, rows = layer.row_gradients(saved, dy)
    assert ids.tolist() == ([1, 3, 7] if padding is None else [1, 7])
    whole = np.zeros((9, 5), np.float32)
    whole[ids] = rows
    assert same(layer.backward(saved, dy)[1]["weight"], whole)
    only = nn.Embedding(2, 5, padding_idx=0, seed=0)
    _, saved = only.forward([0, 0])
    ids, rows = only.row_gradients(saved, np.ones((2, 5)))
    assert (ids.shape, rows.shape, rows.dtype) == ((0,), (0, 5), np.float32)


def test_embedding_begins_as_torchs() -> None:
    layer = nn.Embedding(200, 50, padding_idx=-1, seed=0)
    weight = layer.params["weight"]
    assert layer.padding_idx == 199
    assert not weight[199].any()
    assert abs(weight[:199].mean()) < 0.03
    assert abs(weight[:199].std() - 1) < 0.03
    wide = nn.Embedding(200, 50, padding_idx=199, dtype="float64", seed=0)
    np.testing.assert_array_equal(wide.params["weight"].astype(np.float32), weight)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("padding", [None, 0, -2])
def test_embedding_is_torchs(padding: int | None, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Embedding(8, 3, padding_idx=padding, dtype=getattr(torch, dtype))
    layer = nn.Embedding(8, 3, padding_idx=padding, dtype=dtype)
    layer.load_state_dict(theirs.state_dict())
    ids = np.random.default_rng(0).integers(0, 8, (6, 4))
    dy = numbers(6, 4, 3, seed=1, dtype=dtype)
    y, saved = layer.forward(ids)
    _, gradients = layer.backward(saved, dy)
    given = theirs(torch.from_numpy(ids))
    given.backward(torch.from_numpy(dy))
    assert same(y, given.detach().numpy())
    close(gradients["weight"], theirs.weight.grad.numpy(), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_similarity_is_the_cosine(backend: Chosen, dtype: str) -> None:
    layer = nn.Embedding(40, 19, padding_idx=0, dtype=dtype, seed=0)
    weight = layer.params["weight"].astype(np.float64)
    ids, vectors = np.array([[3, 0], [39, 3]]), numbers(2, 19, seed=1, dtype=dtype)
    of_ids, of_vectors = layer.similarity(ids), layer.similarity(vectors)
    backend.ran(f"dense {dtype}")
    assert of_ids.shape == (2, 2, 40)
    assert same(layer.similarity(ids, num_threads=1), of_ids)

    def cosine(u: Array, w: Array) -> float:
        lengths = math.sqrt(u @ u) * math.sqrt(w @ w)
        return 0.0 if lengths == 0 else (u @ w) / lengths

    close(of_vectors, np.array([[cosine(u, w) for w in weight] for u in vectors]), dtype)
    close(of_ids[1, 1], np.array([cosine(weight[3], w) for w in weight]), dtype)
    assert not of_ids[0, 1].any()  # the padding row is zero
    assert np.abs(of_ids).max() <= 1


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_similarity_does_not_depend_on_length(size: float) -> None:
    layer = nn.Embedding(2, 2, seed=0)
    layer.params["weight"] = np.array([[1.0, 0.0], [3.0, 4.0]])
    found = layer.similarity(np.array([size, 0.0], np.float32))
    np.testing.assert_allclose(found, [1.0, 0.6], rtol=1e-6)


def test_nearest_are_the_most_alike() -> None:
    layer = nn.Embedding(30, 4, padding_idx=2, seed=0)
    for index in (0, 2, 29):
        found = layer.nearest(index, 5)
        alike = layer.similarity(index)
        others = [i for i in range(30) if i not in (index, 2)]
        assert found.ids.tolist() == sorted(others, key=lambda i: (-alike[i], i))[:5]
        assert same(found.similarities, alike[found.ids])
    equal = nn.Embedding(4, 2, seed=0)
    equal.params["weight"] = np.ones((4, 2))
    assert equal.nearest(2, 3).ids.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="k: expected at most 3, the number of others, got 4"):
        equal.nearest(2, 4)
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        equal.nearest(2, 0)
    with pytest.raises(ValueError, match=r"index: expected a number in \[0, 4\), got 4"):
        equal.nearest(4)
    with pytest.raises(TypeError, match="index: expected a whole number, got str"):
        equal.nearest("cat")  # type: ignore[arg-type]


def test_ids_that_do_not_fit_are_refused() -> None:
    layer = nn.Embedding(5, 3)
    for call in (layer, layer.forward):
        with pytest.raises(ValueError, match=r"^ids: expected ids in \[0, 5\), got 7 at \(1, 0\)$"):
            call([[0, 1], [7, -1]])
        with pytest.raises(ValueError, match=r"got -1 at \(2,\)"):
            call(np.array([0, 1, -1], np.int8))
        with pytest.raises(ValueError, match=r"got 5 at \(\)"):
            call(5)
        for wrong in (np.zeros(3), [True], 0.5, [[1], [1, 2]], np.ma.masked_array([1, 2]), "a"):
            with pytest.raises(TypeError, match=r"^ids: "):
                call(wrong)
    with pytest.raises(ValueError, match=r"^of: expected ids in \[0, 5\), got 9 at \(\)"):
        layer.similarity(9)
    with pytest.raises(ValueError, match=r"^of: expected shape \(..., 3\), got \(4,\)"):
        layer.similarity(np.zeros(4))
    with pytest.raises(TypeError, match=r"^of: expected an array of floating point"):
        layer.similarity("cat")
    with pytest.raises(ValueError, match=r"padding_idx: expected a number in \[-5, 5\), got 5"):
        nn.Embedding(5, 3, padding_idx=5)
    with pytest.raises(ValueError, match="padding_idx: expected at least -5, got -6"):
        nn.Embedding(5, 3, padding_idx=-6)
    with pytest.raises(ValueError, match="embedding_dim: expected at least 1, got 0"):
        nn.Embedding(5, 0)
    with pytest.raises(ValueError, match=r"num_embeddings, embedding_dim: \(\d+, 3\) is too large"):
        nn.Embedding(2**60, 3)


# --- Dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout_drops_and_scales(dtype: str) -> None:
    layer, x = nn.Dropout(0.3, dtype=dtype), numbers(200, 50, dtype=dtype)
    y, saved = layer.forward(x, rng=np.random.default_rng(1))
    # The rule by which the recurrent layers draw their masks.
    kept = np.random.default_rng(1).random(x.shape, dtype=np.float32) >= np.float32(0.3)
    close(y, np.where(kept, x / 0.7, 0), dtype, 10)
    assert abs(kept.mean() - 0.7) < 0.02
    dy = numbers(200, 50, seed=2, dtype=dtype)
    dx, gradients = layer.backward(saved, dy)
    close(dx, np.where(kept, dy / 0.7, 0), dtype, 10)
    assert gradients == {}
    assert saved.nbytes == x.nbytes


def test_dropout_without_noise_is_the_identity() -> None:
    x, rng = numbers(3, 4, dtype="float32"), np.random.default_rng(0)
    before = copy.deepcopy(rng.bit_generator.state)
    for layer, noise in ((nn.Dropout(0.5), False), (nn.Dropout(0.0), True)):
        y, saved = layer.forward(x, rng=rng, noise=noise)
        assert same(y, x)
        assert same(layer(x), x)
        assert same(layer.backward(saved, x)[0], x)
        assert saved.nbytes == 0
    assert rng.bit_generator.state == before
    found = nn.Dropout(0.5)(x)
    found += 1  # the result is no view of x
    assert same(x, numbers(3, 4, dtype="float32"))


def test_dropout_gradient_is_a_central_difference() -> None:
    layer = nn.Dropout(0.4, dtype="float64")
    x = numbers(4, 5)
    y, saved = layer.forward(x, rng=np.random.default_rng(3))
    dx, _ = layer.backward(saved, 2 * y)

    def loss() -> float:
        return float((layer.forward(x, rng=np.random.default_rng(3))[0] ** 2).sum())

    check_differences(layer, loss, {"x": x}, {"x": dx}, elements=20)


def test_dropout_refuses_what_does_not_fit() -> None:
    for p in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"p: expected a number in \[0, 1\), got"):
            nn.Dropout(p)
    layer = nn.Dropout(0.5)
    with pytest.raises(TypeError, match="rng: expected a numpy"):
        layer.forward(np.zeros(3), rng=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="noise: expected True or False"):
        layer.forward(np.zeros(3), noise=1)  # type: ignore[arg-type]


# --- LayerNorm ------------------------------------------------------------------------------------


def normalised(bias: bool = True, n: int = 7, dtype: str = "float64") -> nn.LayerNorm:
    """A layer whose parameters are not their start values."""
    layer = nn.LayerNorm(n, 1e-3, bias=bias, dtype=dtype)
    for k, name in enumerate(layer.params):
        layer.params[name] = numbers(n, seed=10 + k)
    return layer


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outer", [(), (0,), (5,), (2, 3)])
def test_layer_norm_is_its_equation(outer: tuple[int, ...], bias: bool, dtype: str) -> None:
    layer, x = normalised(bias, dtype=dtype), numbers(*outer, 7, dtype=dtype)
    y, _ = layer.forward(x)
    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(axis=-1, keepdims=True) + 1e-3)
    expected = (wide - wide.mean(axis=-1, keepdims=True)) / deviation * layer.params["weight"]
    close(y, expected + (layer.params["bias"] if bias else 0), dtype)
    assert same(layer(x), y)
    assert list(layer.params) == (["weight", "bias"] if bias else ["weight"])


def test_layer_norm_begins_as_ones_and_zeros() -> None:
    layer = nn.LayerNorm(3)
    assert same(layer.params["weight"], np.ones(3, np.float32))
    assert same(layer.params["bias"], np.zeros(3, np.float32))
    assert layer.eps == 1e-5


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_gradients_are_central_differences(bias: bool) -> None:
    differences(normalised(bias), numbers(3, 2, 7))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_norm_is_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer, x = normalised(n=33, dtype=dtype), numbers(6, 4, 33, dtype=dtype)
    dy = numbers(6, 4, 33, seed=1, dtype=dtype)
    y, saved = layer.forward(x)
    dx, gradients = layer.backward(saved, dy)
    given = torch.from_numpy(x.copy()).requires_grad_()
    parameters = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in layer.params.items()}
    theirs = torch.nn.functional.layer_norm(given, (33,), **parameters, eps=1e-3)
    theirs.backward(torch.from_numpy(dy))
    close(y, theirs.detach().numpy(), dtype, 4)
    close(dx, given.grad.numpy(), dtype, 4)
    for name, tensor in parameters.items():
        close(gradients[name], tensor.grad.numpy(), dtype, 10)


@pytest.mark.parametrize("n", [1, 19, 300])
def test_the_bits_of_a_row_do_not_depend_on_other_rows(n: int) -> None:
    layer, x, dy = normalised(n=n, dtype="float32"), numbers(100, n), numbers(100, n, seed=1)
    y, saved = layer.forward(x)
    dx, _ = layer.backward(saved, dy)
    for row in (0, 57, 99):
        alone, saved = layer.forward(x[row])
        assert same(alone, y[row])
        assert same(layer.backward(saved, dy[row])[0], dx[row])


def test_layer_norm_loses_no_digits_to_a_large_mean() -> None:
    layer = nn.LayerNorm(4)
    x = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    np.testing.assert_allclose(layer(x + np.float32(2**20)), layer(x), atol=1e-6)
    far = numbers(50, 19, dtype="float32") + np.float32(4096)
    wide = far.astype(np.float64)
    deviation = np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    close(nn.LayerNorm(19)(far), (wide - wide.mean(axis=1, keepdims=True)) / deviation, "float32")
    assert np.isfinite(layer(x * np.float32(1e30))).all()
    assert not layer(np.full(4, 7.0)).any()


# --- RepeatVector ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_vector_becomes_a_sequence(batch_first: bool, n: int, dtype: str) -> None:
    layer = nn.RepeatVector(n, batch_first=batch_first, dtype=dtype)
    x = numbers(3, 2, dtype=dtype)
    y, saved = layer.forward(x)
    assert y.shape == ((3, n, 2) if batch_first else (n, 3, 2))
    steps = y.swapaxes(0, 1) if batch_first else y
    assert all(same(step, x) for step in steps)
    dy = numbers(*y.shape, seed=1, dtype=dtype)
    dx, gradients = layer.backward(saved, dy)
    close(dx, dy.sum(axis=1 if batch_first else 0), dtype)
    assert gradients == {}
    alone, saved = layer.forward(x[0])
    assert alone.shape == (n, 2)
    mine = dy[0] if batch_first else dy[:, 0]
    assert same(layer.backward(saved, mine)[0], dx[0])
    with pytest.raises(ValueError, match=r"x: expected shape \(B, I\) or \(I,\), got \(1, 3, 2\)"):
        layer(x[None])


def test_repeated_gradients_are_central_differences() -> None:
    differences(nn.RepeatVector(4, batch_first=True, dtype="float64"), numbers(3, 2))
    with pytest.raises(ValueError, match="n: expected at most 65536, got 65537"):
        nn.RepeatVector(65537)


# --- Pool -----------------------------------------------------------------------------------------

POOLED = [5, 2, 0, 1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", ["mean", "max"])
def test_pooling_is_of_real_steps(mode: str, batch_first: bool, dtype: str) -> None:
    """Padding is never read, and a sequence has the bits that it has alone."""
    layer = nn.Pool(mode, batch_first=batch_first, dtype=dtype)
    x = numbers(5, 4, 3, dtype=dtype)  # (T, B, I)
    expected = np.zeros((4, 3))
    for row, n in enumerate(POOLED):
        x[n:, row] = np.nan
        if n:
            expected[row] = getattr(np, mode)(x[:n, row].astype(np.float64), axis=0)
    given = x.swapaxes(0, 1) if batch_first else x
    y, saved = layer.forward(given, lengths=POOLED)
    close(y, expected, dtype)
    assert same(layer(given, lengths=POOLED), y)
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    dx, gradients = layer.backward(saved, y)
    dx = dx.swapaxes(0, 1) if batch_first else dx
    assert gradients == {}
    for row, n in enumerate(POOLED):
        alone = x[:n, row, None]
        alone = alone.swapaxes(0, 1) if batch_first else alone
        mine, saved = layer.forward(alone)
        assert same(mine[0], y[row])
        found = layer.backward(saved, mine)[0]
        assert same(dx[:n, row], (found[0] if batch_first else found[:, 0]))
        assert not dx[n:, row].any()


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_pooled_gradients_are_central_differences(mode: str) -> None:
    for lengths in (None, POOLED):
        differences(nn.Pool(mode, dtype="float64"), numbers(5, 4, 3), lengths=lengths)
    differences(nn.Pool(mode, batch_first=True, dtype="float64"), numbers(4, 5, 3), lengths=POOLED)


def test_the_first_of_equal_maxima_has_the_gradient() -> None:
    layer, x = nn.Pool("max"), np.array([[[1.0, -np.inf]], [[1.0, -np.inf]], [[9.0, 9.0]]])
    y, saved = layer.forward(x, lengths=[2])
    assert y.tolist() == [[1.0, -np.inf]]
    assert layer.backward(saved, np.ones((1, 2)))[0][:, 0].tolist() == [[1, 1], [0, 0], [0, 0]]
    x[1, 0, 0] = np.nan
    assert np.isnan(layer(x)[0, 0])
    assert nn.Pool("mean")(np.zeros((0, 2, 3))).tolist() == [[0.0] * 3] * 2


def test_a_mean_of_many_steps_loses_no_digits() -> None:
    x = np.full((30_000, 1, 1), 0.1, np.float32)
    assert nn.Pool("mean")(x) == np.float32(0.1)


def test_what_pool_refuses() -> None:
    with pytest.raises(ValueError, match="mode: expected one of 'mean', 'max', got 'sum'"):
        nn.Pool("sum")
    layer = nn.Pool("max", batch_first=True)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, I\), got \(2, 3\)"):
        layer(numbers(2, 3))
    with pytest.raises(ValueError, match=r"lengths: expected numbers in \[0, 3\], got 4 at 1"):
        layer(numbers(2, 3, 4), lengths=[0, 4])


# --- Activation -----------------------------------------------------------------------------------


def exact(name: str, x: float) -> tuple[float, float]:
    """An activation and its slope, without loss of digits."""
    e = math.exp(-abs(x))
    if name == "sigmoid":
        return (1 if x >= 0 else e) / (1 + e), e / (1 + e) ** 2
    if name == "tanh":
        return math.tanh(x), 1 / math.cosh(x) ** 2
    return (max(x, 0.0), float(x > 0)) if name == "relu" else (x, 1.0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACTIVATIONS[:-1])
def test_activations_are_their_equations(name: str, dtype: str) -> None:
    layer = nn.Activation(name, dtype=dtype)
    x = np.array([-80.0, -20.0, -1.0, -1e-5, 0.0, 1e-5, 0.3, 3.0, 12.0, 20.0], dtype)
    y, saved = layer.forward(x)
    dx, gradients = layer.backward(saved, np.full(10, 3.0))
    value, slope = zip(*(exact(name, float(v)) for v in x), strict=True)
    tolerance = 8e-7 if dtype == "float32" else 2e-15
    np.testing.assert_allclose(y, value, rtol=tolerance)
    # Relative: the slopes keep their digits where y is close to 1.
    np.testing.assert_allclose(dx, 3 * np.array(slope), rtol=40 * tolerance, atol=1e-37)
    assert y.dtype == dx.dtype == dtype
    assert gradients == {}
    assert same(layer(x), y)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_extreme_numbers_warn_of_nothing(name: str, dtype: str) -> None:
    layer, top = nn.Activation(name, dtype=dtype), float(np.finfo(dtype).max)
    y, saved = layer.forward(np.array([-top, 0.0, top], dtype))
    ends = {"tanh": (-1, 1), "sigmoid": (0, 1), "relu": (0, top), "softmax": (0, 1)}
    assert (y[0], y[2]) == ends.get(name, (-top, top))
    assert np.isfinite(layer.backward(saved, np.ones(3))[0]).all()
    layer.forward(np.array([np.nan, np.inf, -np.inf]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients_are_central_differences(name: str) -> None:
    differences(nn.Activation(name, dtype="float64"), numbers(3, 2, 4))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "softmax"])
def test_activations_are_torchs(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer, x = nn.Activation(name, dtype=dtype), numbers(5, 3, 6, dtype=dtype)
    dy = numbers(5, 3, 6, seed=1, dtype=dtype)
    y, saved = layer.forward(x)
    given = torch.from_numpy(x.copy()).requires_grad_()
    theirs = torch.softmax(given, -1) if name == "softmax" else getattr(torch, name)(given)
    theirs.backward(torch.from_numpy(dy))
    close(y, theirs.detach().numpy(), dtype)
    close(layer.backward(saved, dy)[0], given.grad.numpy(), dtype)


def test_a_softmax_needs_something_to_choose_from() -> None:
    layer = nn.Activation("softmax")
    close(layer(np.log([[1.0, 3.0]])), np.array([[0.25, 0.75]]), "float32")
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match=r"x: expected shape \(..., n\) with n of at least 1"):
            layer(np.zeros(shape))
    with pytest.raises(ValueError, match=r"name: expected one of 'tanh', 'sigmoid', .* got 'gelu'"):
        nn.Activation("gelu")


# --- what all layers have -------------------------------------------------------------------------

LAYERS: dict[str, Callable[[str], Any]] = {
    "Embedding(5, 3, dtype='float64')": lambda d: nn.Embedding(5, 3, dtype=d, seed=0),
    "Embedding(5, 3, padding_idx=1, dtype='float64')": (
        lambda d: nn.Embedding(5, 3, padding_idx=1, dtype=d, seed=0)
    ),
    "Dropout(0.25, dtype='float64')": lambda d: nn.Dropout(0.25, dtype=d),
    "LayerNorm(3, dtype='float64')": lambda d: nn.LayerNorm(3, dtype=d),
    "LayerNorm(3, eps=0.5, bias=False, dtype='float64')": (
        lambda d: nn.LayerNorm(3, 0.5, bias=False, dtype=d)
    ),
    "RepeatVector(2, dtype='float64')": lambda d: nn.RepeatVector(2, dtype=d),
    "RepeatVector(2, batch_first=True, dtype='float64')": (
        lambda d: nn.RepeatVector(2, batch_first=True, dtype=d)
    ),
    "Pool('max', batch_first=True, dtype='float64')": (
        lambda d: nn.Pool("max", batch_first=True, dtype=d)
    ),
    "Activation('softmax', dtype='float64')": lambda d: nn.Activation("softmax", dtype=d),
    "Attention('dot', dtype='float64')": lambda d: nn.Attention("dot", dtype=d),
    "Attention('general', query_size=3, key_size=3, dtype='float64')": (
        lambda d: nn.Attention("general", 3, 3, dtype=d, seed=0)
    ),
    "Attention('additive', query_size=3, key_size=3, hidden_size=4, batch_first=True, "
    "dtype='float64')": (
        lambda d: nn.Attention("additive", 3, 3, 4, batch_first=True, dtype=d, seed=0)
    ),
}
ALL = pytest.mark.parametrize("made", LAYERS)


def outputs(layer: Any) -> Array:
    """What a layer computes, as one array."""
    if isinstance(layer, nn.Embedding):
        return np.asarray(layer([0, 1, 4]))
    if isinstance(layer, nn.Attention):
        x = numbers(2, 2, 3, seed=1)
        return np.concatenate(layer(x, x, x), axis=-1)
    if isinstance(layer, nn.Pool):
        return np.asarray(layer(numbers(4, 2, 3)))
    return np.asarray(layer(numbers(4, 3)))


def called(layer: Any) -> tuple[Any, Array]:
    """What a forward call saved, and a gradient of its y."""
    if isinstance(layer, nn.Embedding):
        y, saved = layer.forward([0, 1, 4])
        return saved, y
    if isinstance(layer, nn.Attention):
        x = numbers(2, 2, 3, seed=1)
        context, _, saved = layer.forward(x, x, x)
        return saved, context
    y, saved = layer.forward(numbers(*((4, 2, 3) if isinstance(layer, nn.Pool) else (4, 3))))
    return saved, y


@ALL
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_layer_says_all_of_itself(made: str, dtype: str, tmp_path: Path) -> None:
    """repr, config, pickle, copy and file: all give the layer again."""
    layer = LAYERS[made](dtype)
    for k, name in enumerate(layer.params):
        layer.params[name] = numbers(*layer.params[name].shape, seed=k)
    shown = made if dtype == "float64" else made.replace(", dtype='float64'", "")
    assert repr(layer) == shown
    config = json.loads(json.dumps(layer.config()))
    assert config["kind"] == f"nn.{type(layer).__name__}"
    assert config["dtype"] == dtype
    told = eval(repr(layer), vars(nn))
    told.load_state_dict(layer.state_dict())
    fr.save(tmp_path / "one.npz", layer)
    fr.save(tmp_path / "two.npz", {"a": layer, "b": fr.GRU(2, 2, seed=0)})
    for other in (
        told,
        type(layer).from_config(config, layer.state_dict()),
        type(layer).from_config(config, dict(layer.state_dict())),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
        fr.load(tmp_path / "one.npz"),
        fr.load(tmp_path / "two.npz")["a"],
    ):
        assert type(other) is type(layer)
        assert other.config() == layer.config() == config
        assert repr(other) == shown
        assert same(outputs(other), outputs(layer))
        assert outputs(other).dtype == dtype
        assert {n: a.tobytes() for n, a in other.params.items()} == {
            n: a.tobytes() for n, a in layer.params.items()
        }


@ALL
def test_what_a_layer_refuses(made: str) -> None:
    layer, twin = LAYERS[made]("float32"), LAYERS[made]("float32")
    saved, y = called(layer)
    with pytest.raises(TypeError, match=r"saved: expected what forward\(\) returned, got ndarray"):
        layer.backward(y, y)
    with pytest.raises(ValueError, match="saved: expected what this layer's forward"):
        twin.backward(saved, y)
    with pytest.raises(ValueError, match=r"d\w+: expected shape \(.*\), got \(7, 1\)"):
        layer.backward(saved, np.zeros((7, 1)))
    with pytest.raises(TypeError, match=r"^d\w+: got a Loss; pass loss.gradient$"):
        layer.backward(saved, nn.mse(y, y))
    with pytest.raises(TypeError, match=r"^d\w+: expected an array of floating point"):
        layer.backward(saved, np.ones(y.shape, int))
    layer.backward(saved, y)
    with layer.writable():
        with pytest.raises(RuntimeError, match="open for writing"):
            layer.backward(saved, y)
        with pytest.raises(RuntimeError, match="open for writing"):
            called(layer)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        layer.backward(saved, y)
    with pytest.raises(AttributeError, match="a layer's options are fixed"):
        layer.dtype = np.float64
    if not isinstance(layer, nn.Embedding):
        name = "queries" if isinstance(layer, nn.Attention) else "x"
        more = (y, y) if isinstance(layer, nn.Attention) else ()
        for wrong in (np.ones((4, 3), int), [[True]]):
            with pytest.raises(
                TypeError, match=f"^{name}: expected floating point, got .*pass {name}"
            ):
                layer(wrong, *more)
        for wrong in ("a", None, np.ma.masked_array(np.ones(3)), [[1.0], [1.0, 2.0]]):
            with pytest.raises(TypeError, match=f"^{name}: "):
                layer(wrong, *more)


@ALL
def test_a_config_that_does_not_fit_is_refused(made: str) -> None:
    layer = LAYERS[made]("float32")
    config, state = layer.config(), layer.state_dict()
    kind = f"nn.{type(layer).__name__}"
    first = next(name for name in config if name != "kind")
    less = {name: value for name, value in config.items() if name != first}
    for wrong, error, text in (
        (None, TypeError, rf"config: expected what {kind}.config\(\) returned, got NoneType"),
        (config | {"kind": "GRU"}, ValueError, f"of a layer of kind '{kind}', got 'GRU'"),
        (config | {"seed": 0}, ValueError, f"options of {kind}; unknown option 'seed'"),
        (less, ValueError, f"missing '{first}'"),
        (config | {"dtype": "int8"}, TypeError, "dtype: expected float32 or float64"),
    ):
        with pytest.raises(error, match=text):
            type(layer).from_config(wrong, state)
    with pytest.raises(ValueError, match="unexpected 'other'"):
        type(layer).from_config(config, {**state, "other": np.zeros(3)})
    with pytest.raises(ValueError, match=f"weights of a gru cell; this layer's cell is {kind}"):
        layer.load_state_dict(fr.GRU(3, 4).state_dict())
    if state:
        with pytest.raises(ValueError, match="missing '"):
            type(layer).from_config(config, {})


def test_a_config_cannot_ask_for_more_memory_than_its_parameters_fill() -> None:
    """Sizes are compared with the parameters before memory is allocated."""
    layer = nn.Embedding(5, 3)
    sizes = layer.config() | {"num_embeddings": 10**6, "embedding_dim": 8}
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError, match=r"weight: expected shape \(1000000, 8\), got \(5, 3\)"
        ):
            nn.Embedding.from_config(sizes, layer.state_dict())
        assert tracemalloc.get_traced_memory()[1] < 10**7, "an array of 32 MB"
    finally:
        tracemalloc.stop()


@ALL
def test_an_optimiser_steps_the_layer(made: str) -> None:
    layer, adam = LAYERS[made]("float64"), nn.Adam(0.1)
    saved, y = called(layer)
    gradients = layer.backward(saved, y)[-1]
    before = layer.state_dict()
    adam.step(layer, gradients)
    for name, g in gradients.items():
        moved = before[name] - layer.params[name]
        assert (np.sign(moved) == np.sign(g)).all()


MODULES = ("activation", "attention", "dropout", "embedding", "layer_norm", "repeat_vector")


SCRIPT = """
import hashlib
import sys
import numpy as np
import fusedrnn as fr
from fusedrnn import nn

rng, bits = np.random.default_rng(0), hashlib.sha256()
threads = int(sys.argv[1])
fr.set_num_threads(threads)

def see(*found):
    for a in found:
        for one in a.values() if isinstance(a, dict) else [a]:
            bits.update(np.ascontiguousarray(one).tobytes())

def numbers(*shape):
    return rng.standard_normal(shape, dtype=np.float32)

table = nn.Embedding(300, 64, seed=0)
y, saved = table.forward(rng.integers(0, 300, (50, 40)))
see(table.backward(saved, numbers(50, 40, 64))[1], table.similarity(numbers(20, 64)))
for layer in (nn.LayerNorm(64), nn.Activation("softmax"), nn.Dropout(0.5)):
    noise = {"rng": np.random.default_rng(0)} if isinstance(layer, nn.Dropout) else {}
    y, saved = layer.forward(numbers(50, 40, 64), **noise)
    see(y, *layer.backward(saved, numbers(50, 40, 64)))
repeat = nn.RepeatVector(30)
y, saved = repeat.forward(numbers(40, 64))
see(y, repeat.backward(saved, numbers(30, 40, 64))[0])
for sizes in (("dot",), ("scaled_dot",), ("general", 64, 64), ("additive", 64, 64, 48)):
    layer = nn.Attention(*sizes, seed=0)
    # Of so many keys: in shorter sums OpenBLAS gives the same bits at one and two threads.
    q, k, v = numbers(70, 4, 64), numbers(750, 4, 64), numbers(750, 4, 33)
    context, weights, saved = layer.forward(q, k, v, lengths=[750, 333, 0, 7])
    see(context, weights, *layer.backward(saved, numbers(70, 4, 33)))
path = fr.last_path()
assert path.backend == "native", path
assert path.threads == (threads if fr.build_config()["openmp"] else 1), path
print(bits.hexdigest())
"""


def test_a_row_of_a_product_does_not_depend_on_the_others() -> None:
    """BLAS adds up one row in another order than it adds up many."""
    if not fr.supported_isas():
        pytest.skip("the reference computes with NumPy's BLAS")
    a, w = numbers(17, 515, dtype="float32"), numbers(33, 515, dtype="float32")
    with fr.use_backend("native"):
        together = _product.times(a, w, None)
        for rows in (slice(0, 1), slice(3, 5), slice(4, 17)):
            assert (_product.times(a[rows], w, None) == together[rows]).all()


def test_no_bit_depends_on_the_number_of_threads() -> None:
    """At one and two threads of the kernels, and of NumPy's BLAS."""
    if not fr.supported_isas():
        pytest.skip("the reference computes with NumPy's BLAS")
    found = set()
    for own, blas in (("1", "1"), ("2", "1"), ("1", "2"), ("2", "2")):
        environment = {
            **os.environ,
            "FUSEDRNN_BACKEND": "native",
            "OMP_NUM_THREADS": blas,
            "OPENBLAS_NUM_THREADS": blas,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, own], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
