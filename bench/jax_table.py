"""fusedrnn.jax beside lax.scan and flax: calls and gradients under jit.

    python bench/jax_table.py

The three take turns on weights of the same sizes; a row is the best of several rounds, in which
each call is waited for. Run it on an idle machine. Needs what the extra `jax` installs, and flax.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

import fusedrnn.jax as fj

Array = Any
SIZES = ((1, 1, 64, 64), (20, 32, 256, 256), (100, 1, 64, 64), (100, 32, 128, 128))
ROUNDS = 7


def by_scan(x: Array, w: dict[str, Array]) -> Array:
    """An LSTM as the tutorials write it."""

    def step(state: tuple[Array, Array], ax: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        i, f, g, o = jnp.split(ax + h @ w["w_hh"].T, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], w["w_hh"].shape[1]), x.dtype)
    return jax.lax.scan(step, (zeros, zeros), x @ w["w_ih"].T + w["b_ih"])[1]


def candidates(size: tuple[int, int, int, int]) -> dict[str, Callable[[], Any]]:
    """Calls and gradients of the weights, as functions without arguments."""
    steps, batch, inputs, hidden = size
    rng = np.random.default_rng(0)
    shapes = {"w_ih": (4 * hidden, inputs), "w_hh": (4 * hidden, hidden), "b_ih": (4 * hidden,)}
    w = {k: jnp.asarray(rng.standard_normal(s) / hidden**0.5, "float32") for k, s in shapes.items()}
    x = jnp.asarray(rng.standard_normal((steps, batch, inputs)), "float32")
    module = linen.RNN(linen.OptimizedLSTMCell(hidden), time_major=True)
    tree = module.init(jax.random.key(0), x)
    found: dict[str, Callable[[], Any]] = {}
    runs: dict[str, tuple[Any, Any]] = {
        "fusedrnn": (lambda w, x: fj.lstm(x, w)[0], w),
        "scan": (lambda w, x: by_scan(x, w), w),
        "flax": (module.apply, tree),
    }
    for name, (run, params) in runs.items():
        call = jax.jit(run)
        gradient = jax.jit(jax.grad(lambda p, x, run=run: (run(p, x) ** 2).sum()))
        found[f"{name} call"] = partial(call, params, x)
        found[f"{name} gradient"] = partial(gradient, params, x)
    return found


def best(run: Callable[[], Any], seconds: float = 0.2) -> float:
    """Microseconds of the fastest call in this time."""
    found, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(run())
        found = min(found, time.perf_counter() - start)
    return found * 1e6


def main() -> None:
    """Print the table."""
    print(f"JAX {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| LSTM | fusedrnn, us | lax.scan, us | flax, us | |\n|---|---:|---:|---:|---:|")
    for size in SIZES:
        runs = candidates(size)
        for run in runs.values():
            jax.block_until_ready(run())
        times = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, run in runs.items():
                times[name] = min(times[name], best(run))
        for kind in ("call", "gradient"):
            ours, scan, flax = (times[f"{name} {kind}"] for name in ("fusedrnn", "scan", "flax"))
            label = f"{kind} T{size[0]} B{size[1]} I{size[2]} H{size[3]}"
            print(f"| {label} | {ours:,.0f} | {scan:,.0f} | {flax:,.0f} | {scan / ours:.2f}x |")


if __name__ == "__main__":
    main()
