"""JAX: a compiled lax.scan, with the product with x before it as one product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.cases import RATE, Array, Case
from bench.rivals import Prepared

State = tuple[Any, ...]


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def refuses(case: Case) -> str:
    if case.mode in ("changed", "function"):
        return "its weights are arguments of every call"
    return "no lengths" if case.data == "lengths" else ""


def _rnn(xw: Any, state: State, w: Mapping[str, Any]) -> State:
    return (jnp.tanh(xw + state[0] @ w["weight_hh_l0"].T + w["bias_hh_l0"]),)


def _lstm(xw: Any, state: State, w: Mapping[str, Any]) -> State:
    h, c = state
    i, f, g, o = jnp.split(xw + h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _lstm_peepholes(xw: Any, state: State, w: Mapping[str, Any]) -> State:
    h, c = state
    i, f, g, o = jnp.split(xw + h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 4, axis=-1)
    p = w["weight_p_l0"]
    new = jax.nn.sigmoid(f + p[1] * c) * c + jax.nn.sigmoid(i + p[0] * c) * jnp.tanh(g)
    return jax.nn.sigmoid(o + p[2] * new) * jnp.tanh(new), new


def _gru(xw: Any, state: State, w: Mapping[str, Any]) -> State:
    (h,) = state
    xr, xz, xn = jnp.split(xw, 3, axis=-1)
    hr, hz, hn = jnp.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=-1)
    z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
    return ((1 - z) * n + z * h,)


def _gru_reset_before(xw: Any, state: State, w: Mapping[str, Any]) -> State:
    (h,) = state
    size = h.shape[-1]
    xr, xz, xn = jnp.split(xw, 3, axis=-1)
    gates = h @ w["weight_hh_l0"][: 2 * size].T + w["bias_hh_l0"][: 2 * size]
    hr, hz = jnp.split(gates, 2, axis=-1)
    late = (jax.nn.sigmoid(xr + hr) * h) @ w["weight_hh_l0"][2 * size :].T
    z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + late + w["bias_hh_l0"][2 * size :])
    return ((1 - z) * n + z * h,)


CELLS: dict[str, Callable[[Any, State, Mapping[str, Any]], State]] = {
    "RNN": _rnn,
    "LSTM": _lstm,
    "LSTM peepholes": _lstm_peepholes,
    "GRU": _gru,
    "GRU reset before": _gru_reset_before,
}


def _layer(case: Case) -> Callable[[Any, Any, State], Any]:
    cell = CELLS[case.cell]

    def run(weights: Any, x: Any, state: State) -> Any:
        def step(carry: State, xw: Any) -> Any:
            new = cell(xw, carry, weights)
            return new, new[0]

        state, y = jax.lax.scan(step, state, x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"])
        return y, state

    return run


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    jax.clear_caches()
    here = {name: jnp.asarray(a) for name, a in weights.items()}
    zeros = jnp.zeros((case.batch, case.hidden_size), case.dtype)
    state = (zeros, zeros) if case.cell.startswith("LSTM") else (zeros,)
    return MODES[case.mode](case, here, state)


def _read(result: Any) -> dict[str, Array]:
    y, states = result[:2]
    return {"y": np.asarray(y), **dict(zip("hc", map(np.asarray, states), strict=False))}


def _forward(case: Case, weights: Any, state: State) -> Prepared:
    run, x = jax.jit(_layer(case)), jnp.asarray(case.x())
    return Prepared(lambda: jax.block_until_ready(run(weights, x, state)), _read)


def _step(case: Case, weights: Any, state: State) -> Prepared:
    run, x = jax.jit(_layer(case)), jnp.asarray(case.x())

    def call() -> Any:
        nonlocal state
        y, state = jax.block_until_ready(run(weights, x, state))
        return y, state

    return Prepared(call, _read)


def _training(case: Case, weights: Any, state: State) -> Prepared:
    layer, x, dy = _layer(case), jnp.asarray(case.x()), jnp.asarray(case.dy())

    def run(weights: Any, x: Any, dy: Any) -> Any:
        y, back, states = jax.vjp(lambda w, x: layer(w, x, state), weights, x, has_aux=True)
        dweights, dx = back(dy)
        updated = {name: w - RATE * dweights[name] for name, w in weights.items()}
        return y, states, dweights, dx, updated

    compiled = jax.jit(run)

    def call() -> Any:
        nonlocal weights
        *result, weights = jax.block_until_ready(compiled(weights, x, dy))
        return result

    def read(result: Any) -> dict[str, Array]:
        dweights = {f"d{name}": np.asarray(a) for name, a in result[2].items() if "weight" in name}
        return {**_read(result), "dx": np.asarray(result[3]), **dweights}

    return Prepared(call, read)


MODES = {"forward": _forward, "step": _step, "training": _training}
