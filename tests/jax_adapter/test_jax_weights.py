"""Weights of fusedrnn's layers and of flax's, in the functions."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fusedrnn as fr
import fusedrnn.jax as fj
from fusedrnn import weights as fw
from jax_adapter.same import equal

X = np.random.default_rng(4).standard_normal((7, 2, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("layer", "run"),
    [
        (fr.RNN(3, 8, seed=0, nonlinearity="relu"), lambda x, w: fj.rnn(x, w, nonlinearity="relu")),
        (fr.LSTM(3, 8, seed=0, peepholes=True, proj_size=4, bidirectional=True), fj.lstm),
        (fr.LSTM(3, 8, seed=0, layer_norm=True), fj.lstm),
        (fr.GRU(3, 8, seed=0, bias="hidden", bidirectional=True), fj.gru),
        (fr.GRU(3, 8, seed=0, reset_after=False), lambda x, w: fj.gru(x, w, reset_after=False)),
    ],
)
def test_a_layer_of_the_package(layer: Any, run: Any) -> None:
    w = fj.weights_of(layer.params)
    y, last = run(X, w)
    right, state = layer(X)
    equal(y, right)
    flat = [
        np.asarray(a).reshape(b.shape)
        for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(state), strict=True)
    ]
    for a, b in zip(flat, jax.tree.leaves(state), strict=True):
        equal(a, b)
    back = fj.params_of(w)
    assert back.keys() == layer.params.keys()
    for name, a in back.items():
        equal(a, layer.params[name])


def test_a_stack_and_its_gradients() -> None:
    stack = fr.GRU(3, 8, num_layers=2, seed=0)

    def run(params: Any) -> Any:
        y = X
        for k in range(2):
            y, _ = fj.gru(y, fj.weights_of(params, k))
        return y

    params = {name: jnp.asarray(a) for name, a in stack.params.items()}
    equal(run(params), stack(X)[0])
    y, _, saved = stack.forward(X)
    d = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    right = stack.backward(saved, dy=d)[2]
    found = jax.jit(jax.grad(lambda p: (run(p) * d).sum()))(params)
    assert found.keys() == right.keys()
    for name, a in found.items():
        equal(a, right[name], name)
    stack.load_state_dict({name: np.asarray(a) for name, a in found.items()})


def test_params_of_each_layer_are_joined() -> None:
    stack = fr.LSTM(3, 8, num_layers=2, bidirectional=True, seed=0)
    both = [fj.params_of(fj.weights_of(stack.params, k), k) for k in range(2)]
    assert (both[0] | both[1]).keys() == stack.params.keys()


CELLS = ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")


@pytest.mark.parametrize("interface", ["linen", "nnx"])
@pytest.mark.parametrize("name", CELLS)
def test_the_layers_of_flax(interface: str, name: str) -> None:
    """flax's RNN around a cell, and the function with its weights: values and gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("flax", reason="flax is not installed")
        from flax import linen, nnx
    cell = {"S": "rnn_tanh", "L": "lstm", "O": "lstm", "G": "gru"}[name[0]]
    function = {"S": fj.rnn, "L": fj.lstm, "O": fj.lstm, "G": fj.gru}[name[0]]
    x = jnp.asarray(X.swapaxes(0, 1))  # flax is batch-first

    if interface == "linen":
        module = linen.RNN(getattr(linen, name)(8))
        state = module.init(jax.random.key(0), x)["params"]
        theirs = lambda state: module.apply({"params": state}, x)  # noqa: E731
        cell_of = lambda state: state["cell"]  # noqa: E731
        form = "linen"
    else:
        layer = nnx.RNN(getattr(nnx, name)(3, 8, rngs=nnx.Rngs(0)))
        graph, state, rest = nnx.split(layer, nnx.Param, ...)
        zero = jnp.zeros((2, 8), jnp.float32)
        zeros = (zero,) * 2 if cell == "lstm" else zero
        theirs = lambda s: nnx.merge(graph, s, rest)(x, initial_carry=zeros)  # noqa: E731
        cell_of = lambda state: nnx.to_pure_dict(state)["cell"]  # noqa: E731
        form = "nnx_optimized" if name[0] == "O" else "nnx"
    state = jax.tree.map(lambda a: a + 0.05, state)
    w = jax.tree.map(jnp.asarray, fj.weights_of(fw.from_flax(cell_of(state), cell)))
    ours = lambda w: function(x, w, batch_first=True)[0]  # noqa: E731
    np.testing.assert_allclose(ours(w), theirs(state), rtol=2e-5, atol=2e-6)

    found = jax.grad(lambda w: (ours(w) ** 3).sum())(w)
    gradient = cell_of(jax.grad(lambda s: (theirs(s) ** 3).sum())(state))
    right = fj.weights_of(fw.from_flax(gradient, cell))
    for key, a in right.items():
        theirs_too = np.asarray(a) != 0  # zeros stand for a bias that flax does not have
        np.testing.assert_allclose(
            np.asarray(found[key])[theirs_too], a[theirs_too], rtol=2e-4, atol=1e-5, err_msg=key
        )
    back = fw.to_flax(fj.params_of(w), cell, form)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(cell_of(state)), strict=True):
        equal(a, np.asarray(b))


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: fj.weights_of([1]), TypeError, "params: expected a mapping .* got list"),
        (lambda: fj.weights_of({"weight_xx_l0": X}), ValueError, "got 'weight_xx_l0'"),
        (lambda: fj.weights_of({"w_ih": X}), ValueError, "got 'w_ih'"),
        (lambda: fj.weights_of({"weight_ih_l2": X}, 1), ValueError, r"one of \[2\], got 1"),
        (lambda: fj.params_of(X), TypeError, "weights: expected a mapping .* or a pair"),
        (lambda: fj.params_of({"w": X}), ValueError, "names among w_ih, .*; got 'w'"),
    ],
)
def test_what_cannot_be_renamed(run: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        run()
