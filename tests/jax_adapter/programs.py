"""Programs that the tests run in processes of their own: python programs.py NAME."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fusedrnn as fr
import fusedrnn.jax as fj
from fusedrnn import core


def weights_of(n: int, size: int, inputs: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"w_ih": (n * size, inputs), "w_hh": (n * size, size), "b_ih": (n * size,)}
    return {k: jnp.asarray(rng.standard_normal(s), "float32") / 8 for k, s in shapes.items()}


def shard_map(f: Any, **options: Any) -> Any:
    if hasattr(jax, "shard_map"):
        return jax.shard_map(f, **options)
    from jax.experimental.shard_map import shard_map as theirs

    if "check_vma" in options:
        options["check_rep"] = options.pop("check_vma")
    return theirs(f, **options)


def devices(calls: str) -> None:
    """Gradients of two devices' rows, summed by JAX, many times; they are those of one device."""
    assert jax.local_device_count() == 2, jax.local_device_count()
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    w = weights_of(4, 32)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((20, 8, 8)), "float32")

    def loss(w: Any, x: Any) -> Any:
        y, (h, c) = fj.lstm(x, w)
        return (y**2).sum() + (h * c).sum()

    whole = jax.block_until_ready(jax.jit(jax.value_and_grad(loss))(w, x))
    P = PartitionSpec

    @jax.jit
    @partial(shard_map, mesh=mesh, in_specs=(P(), P(None, "rows")), out_specs=(P(), P()))
    def step(w: Any, x: Any) -> Any:
        total = lambda w: jax.lax.psum(loss(w, x), "rows")  # noqa: E731
        return jax.value_and_grad(total)(w)

    before = sum(core.path_counts().values())
    for k in range(int(calls)):
        found = step(w, x)
        if k % 10 == 0:
            found = jax.block_until_ready(found)
    jax.block_until_ready(found)
    made = sum(core.path_counts().values()) - before
    assert made == 4 * int(calls), made
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    elsewhere = step.trace(w, x).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.while" in elsewhere
    assert "fusedrnn" not in elsewhere
    again = step(w, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)
    print("done")


def meshes() -> None:
    """What else a program does with shard_map, with and without the check of varying axes."""
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    w, lengths = weights_of(3, 16), jnp.array([6, 5, 4, 3, 2, 1, 6, 0])
    x = jnp.asarray(np.random.default_rng(1).standard_normal((6, 8, 8)), "float32")
    P = PartitionSpec
    rows = P(None, "rows")

    def f(w: Any, x: Any, n: Any) -> Any:
        return fj.gru(x, w, lengths=n)[0]

    def close(found: Any, right: Any) -> None:
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    right = f(w, x, lengths)
    for check in (True, False):
        over = partial(shard_map, mesh=mesh, check_vma=check)
        split = over(f, in_specs=(P(), rows, P("rows")), out_specs=rows)
        assert np.array_equal(jax.jit(split)(w, x, lengths), right)
        alike = over(f, in_specs=(P(), P(), P()), out_specs=P())
        assert np.array_equal(jax.jit(alike)(w, x, lengths), right)
        outside = jax.jit(jax.grad(lambda w: (split(w, x, lengths) ** 2).sum()))  # noqa: B023
        close(outside(w), jax.grad(lambda w: (f(w, x, lengths) ** 2).sum())(w))
        along = lambda w, x: jax.jvp(lambda x: fj.gru(x, w)[0], (x,), (x,))[1]  # noqa: E731
        inside = over(along, in_specs=(P(), rows), out_specs=rows)
        close(jax.jit(inside)(w, x), along(w, x))
    spread = jax.device_put(x, NamedSharding(mesh, rows))  # XLA gathers what a device lacks
    assert np.array_equal(jax.jit(f)(w, spread, lengths), right)
    print("done")


def threads() -> None:
    """Several threads of Python with functions of their own, while the main thread waits."""
    wrong: list[Any] = []

    def work(seed: int) -> None:
        w = weights_of(3, 16 + seed)
        x = jnp.asarray(np.random.default_rng(seed).standard_normal((9, 4, 8)), "float32")
        f = jax.jit(jax.value_and_grad(lambda w: (fj.gru(x, w)[0] ** 2).sum()))
        first = f(w)
        for _ in range(60):
            for a, b in zip(jax.tree.leaves(f(w)), jax.tree.leaves(first), strict=True):
                if not np.array_equal(a, b):
                    wrong.append(seed)

    running = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    assert not wrong, wrong
    print("done")


def _long(steps: int = 40_000) -> Any:
    w = weights_of(4, 128)
    return jax.jit(lambda x: fj.lstm(x, w)[0]), jnp.ones((steps, 4, 8))


def leave() -> None:
    """Ends while a call is running in a thread of XLA, without waiting for it.

    XLA computes in the calling thread unless the program has products.
    """
    f, x = _long()
    a = jnp.ones((1000, 1000))
    slow = jax.jit(lambda a, x: f(x + (a @ a)[0, 0] * 0))
    slow(a, x[:3]).block_until_ready()
    slow.lower(a, x).compile()
    start = time.monotonic()
    y = slow(a, x)
    assert time.monotonic() - start < 0.5
    time.sleep(0.2)
    if sys.argv[2:] == ["dropped"]:
        del y
    print("started", flush=True)


def interrupt() -> None:
    """Waits for a call until Ctrl-C; then the next call works."""
    f, x = _long(400_000)
    small = f(x[:3]).block_until_ready()
    print("started", flush=True)
    start = time.monotonic()
    try:
        f(x).block_until_ready()
    except BaseException as error:
        print(type(error).__name__, time.monotonic() - start, flush=True)
    assert np.array_equal(f(x[:3]), small)
    print("done", flush=True)


def save(path: str) -> None:
    """Writes a compiled function to a file."""
    from jax import export

    w = weights_of(3, 16)
    f = jax.jit(lambda x: fj.gru(x, w)[0])
    x = jnp.ones((5, 2, 8))
    checks = [export.DisabledSafetyCheck.custom_call("fusedrnn_forward")]
    Path(path).write_bytes(export.export(f, disabled_checks=checks)(x).serialize())
    print(np.asarray(f(x)).tobytes().hex())


def load(path: str) -> None:
    """Runs the function of the file."""
    from jax import export

    f = export.deserialize(bytearray(Path(path).read_bytes())).call
    print(np.asarray(f(jnp.ones((5, 2, 8)))).tobytes().hex())


def cached() -> None:
    """A program whose compiled form JAX keeps in a folder for the next process."""
    w = weights_of(3, 16)
    f = jax.jit(jax.grad(lambda w, x: (fj.gru(x, w)[0] ** 2).sum()))
    print(np.asarray(f(w, jnp.ones((5, 2, 8)))["w_hh"]).tobytes().hex())


def uncompiled() -> None:
    """A program of an installation without compiled kernels."""
    assert not fr.supported_isas()
    w, x = weights_of(3, 16), jnp.ones((5, 2, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = jax.jit(jax.grad(lambda w: (fj.gru(x, w)[0] ** 2).sum()))(w)
        found = np.asarray(found["w_hh"])
    assert fr.ReferenceBackendWarning in {one.category for one in caught}
    assert not core.path_counts()  # XLA computes, and not NumPy
    print(found.tobytes().hex())


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*(() if name == "leave" else arguments))
