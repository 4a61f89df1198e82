"""nn.Dense against plain NumPy; losses and optimiser have test files of their own."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from conftest import Chosen
from fusedrnn.nn import Dense, mse

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


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
    for integers in (np.zeros((4, 3), int), [[1, 2, 3]], np.zeros((4, 3), bool)):
        # Dense takes no tokens, so the error must not advise them.
        with pytest.raises(
            TypeError, match=r"^x: expected floating point, got (int64|bool); Dense"
        ) as e:
            layer(integers)
        assert "tokens" not in str(e.value)
        assert "x.astype(np.float32)" in str(e.value)
    with pytest.raises(TypeError, match=r"x: expected sequences of one length, got .* from 1 to 2"):
        layer([[1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="out_features: expected at least 1, got 0"):
        Dense(3, 0)
    y, saved = layer.forward(np.zeros((4, 3)))
    assert saved.nbytes >= 0
    with pytest.raises(ValueError, match="dy: expected shape"):
        layer.backward(saved, np.zeros((4, 3)))
    with pytest.raises(TypeError, match=r"^dy: got a Loss; pass loss\.gradient$"):
        layer.backward(saved, mse(y, y))  # type: ignore[arg-type]
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
    state["bias"] += 1  # state_dict returns copies
    np.testing.assert_array_equal(layer(x), before)
    layer.load_state_dict(state)
    np.testing.assert_allclose(layer(x), before + 1, rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        layer.params["bias"][0] = 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bias", [True, False])
def test_dense_says_all_of_itself(bias: bool, dtype: str) -> None:
    """repr is evaluated and config goes through JSON; both give the layer again."""
    layer = Dense(3, 2, bias=bias, dtype=dtype, seed=4)
    config = json.loads(json.dumps(layer.config()))
    again = Dense.from_config(config, layer.state_dict())
    told = eval(repr(layer), {"Dense": Dense})
    told.load_state_dict(layer.state_dict())
    x = numbers(4, 3)
    for other in (again, told):
        assert other.config() == layer.config() == config
        assert repr(other) == repr(layer)
        assert other(x).dtype == dtype
        np.testing.assert_array_equal(other(x), layer(x))


def test_what_dense_says() -> None:
    assert repr(Dense(3, 2)) == "Dense(3, 2)"
    layer = Dense(3, 2, bias=False, dtype=">f8")
    assert repr(layer) == "Dense(3, 2, bias=False, dtype='float64')"
    assert layer.config() == {
        "kind": "nn.Dense",
        "in_features": 3,
        "out_features": 2,
        "bias": False,
        "dtype": "float64",
    }


def test_a_config_that_does_not_fit_is_refused() -> None:
    layer = Dense(3, 2, seed=0)
    config, state = layer.config(), layer.state_dict()
    for wrong, kind, text in (
        (None, TypeError, r"config: expected what Dense.config\(\) returned, got NoneType"),
        ({}, ValueError, "config: expected that of a layer of kind 'nn.Dense', got None"),
        (config | {"kind": "GRU"}, ValueError, "got 'GRU'"),
        (config | {"seed": 0}, ValueError, "config: expected the options of Dense; unknown 'seed'"),
        ({"kind": "nn.Dense", "in_features": 3}, ValueError, "missing 'out_features'"),
        (config | {"in_features": "3"}, TypeError, "in_features: expected a whole number"),
        (config | {"dtype": "int8"}, TypeError, "dtype: expected float32 or float64"),
        (config | {"in_features": 4}, ValueError, "weight: expected shape"),
    ):
        with pytest.raises(kind, match=text):
            Dense.from_config(wrong, state)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing 'bias'"):
        Dense.from_config(config, {"weight": state["weight"]})
    # A config of an older version lacks newer options, which then have their defaults.
    sizes = {"kind": "nn.Dense", "in_features": 3, "out_features": 2}
    assert repr(Dense.from_config(sizes, state)) == "Dense(3, 2)"
