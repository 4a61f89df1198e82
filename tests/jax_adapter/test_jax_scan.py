"""The kernels against ``lax.scan``: an oracle of the tests, and the package's own scan."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fusedrnn.jax as fj
from fusedrnn import core
from fusedrnn.jax import _operations, _scan
from jax_adapter.same import CASES, SEQUENCES, call, counted, given, gradients_in


def oracle(name: str, x: Any, w: dict[str, Any], s: tuple[Any, ...]) -> tuple[Any, ...]:
    """The plain equations, as anybody would write them with lax.scan."""

    def rnn(s: Any, ax: Any) -> Any:
        return (jnp.tanh(ax + s[0] @ w["w_hh"].T + w["b_hh"]),)

    def lstm(s: Any, ax: Any) -> Any:
        i, f, g, o = jnp.split(ax + s[0] @ w["w_hh"].T + w["b_hh"], 4, axis=1)
        c = jax.nn.sigmoid(f) * s[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def gru(s: Any, ax: Any) -> Any:
        (h,) = s
        xr, xz, xn = jnp.split(ax, 3, axis=1)
        hr, hz, hn = jnp.split(h @ w["w_hh"].T + w["b_hh"], 3, axis=1)
        r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
        return ((1 - z) * jnp.tanh(xn + r * hn) + z * h,)

    def step(s: Any, ax: Any) -> Any:
        s = {"rnn": rnn, "lstm": lstm, "gru": gru}[name](s, ax)
        return s, s[0]

    s, y = jax.lax.scan(step, s, x @ w["w_ih"].T + w["b_ih"])
    return (y, *s)


def close(found: Any, right: Any, bound: float) -> None:
    """Every array within `bound` of the other, in units of its largest element."""
    found, right = jax.tree.leaves(found), jax.tree.leaves(right)
    assert len(found) == len(right) > 0
    for a, b in zip(found, right, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.all(np.isfinite(a))
        if a.size:
            worst = float(jnp.abs(a - b).max())
            assert worst <= bound * max(1.0, float(jnp.abs(b).max())), worst


# Our error and that of JAX are each about 100 roundings of half an ULP.
BOUND = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_values_and_gradients_of_a_plain_scan(name: str, dtype: Any) -> None:
    case = CASES[name]
    of = given(case, "states", dtype=dtype)
    d: Any = None

    def ours(x: Any, w: Any, s: Any) -> Any:
        y, last = case.function(x, w, s if name == "lstm" else s[0])
        return (y, *(last if name == "lstm" else (last,)))

    assert of.states is not None
    arguments = (of.x, of.sides[0], tuple(s[0] for s in of.states))
    results = []
    for run in (ours, partial(oracle, name)):
        out, pull = jax.vjp(run, *arguments)
        d = d or tuple(gradients_in(of, out))
        results.append((out, pull(d)))
    close(results[0], results[1], BOUND[dtype])


def everything(run: Any, *arguments: Any, d: Any) -> Any:
    return jax.jit(partial(_everything, run))(*arguments, d=d)


def _everything(run: Any, *arguments: Any, d: Any) -> Any:
    out, pull = jax.vjp(run, *arguments)
    return out, pull(tuple(d))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the operations what they are on other platforms than the CPU."""

    def bind(operation: Any, run: Any) -> None:
        monkeypatch.setattr(operation, "bind", lambda *a, **k: run(*a, **k))

    bind(_operations.forward_p, _scan.forward)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize(
    ("name", "kind", "directions"),
    [
        *((name, "mask, reset and noise", 1) for name in CASES),
        *(("gru before", kind, 2) for kind in SEQUENCES),
    ],
)
def test_the_scan_of_every_cell(name: str, kind: str, directions: int, request: Any) -> None:
    case = CASES[name]
    of = given(case, kind, directions, np.float64)

    def run(x: Any, sides: Any, states: Any) -> Any:
        return call(case, of, x, sides, states)

    arguments = (of.x, of.sides, of.states)
    d = gradients_in(of, jax.eval_shape(run, *arguments))
    with counted() as calls:
        kernels = everything(run, *arguments, d=d)
    assert calls == [2]
    request.getfixturevalue("no_kernels")
    with counted() as calls:
        scan = everything(run, *arguments, d=d)
    assert calls == [0]
    close(scan, kernels, 1e-11)


@pytest.mark.parametrize(("name", "platform"), [("rnn", "tpu"), ("lstm projection", "cuda")])
def test_what_is_compiled_for_other_platforms(name: str, platform: str) -> None:
    """On a machine without one the program cannot run, but it can be made."""
    case = CASES[name]
    of = given(case, "mask", 2)

    def loss(x: Any, sides: Any) -> Any:
        return sum((a**2).sum() for a in call(case, of, x, sides, of.states))

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(of.x, of.sides)
    theirs = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "fusedrnn" not in theirs
    assert "stablehlo.while" in theirs
    ours = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert ours.count("stablehlo.custom_call @fusedrnn") == 2
    assert "stablehlo.while" not in ours


@pytest.mark.parametrize(("name", "ensemble"), [("lstm projection", False), ("gru", True)])
def test_the_operations_off_the_cpu(name: str, ensemble: bool) -> None:
    """The functions that are compiled elsewhere have the results of the kernels' operations."""
    case = CASES[name]
    of = given(case, "mask and reset", 2, np.float64)
    run = partial(call, case, of)
    if ensemble:
        more = jax.tree.map(lambda a: jnp.stack([a, a + 0.1]), of.sides)
        run, of = jax.vmap(run, in_axes=(None, 0, None)), of._replace(sides=more)
    d = gradients_in(of, jax.eval_shape(run, of.x, of.sides, of.states))
    whole = partial(_everything, run, d=d)
    right = jax.jit(whole)(of.x, of.sides, of.states)
    closed = jax.make_jaxpr(whole)(of.x, of.sides, of.states)
    slow = {"fusedrnn_forward": _scan.forward, "fusedrnn_backward": _scan.backward}
    seen = []

    def evaluate(jaxpr: Any, constants: Any, arguments: Any) -> Any:
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values |= dict(zip(jaxpr.invars, arguments, strict=True))

        def read(v: Any) -> Any:
            return v.val if hasattr(v, "val") else values[v]

        for eqn in jaxpr.eqns:
            ins = [read(v) for v in eqn.invars]
            if eqn.primitive.name in slow:
                seen.append(eqn.primitive.name)
                outs = slow[eqn.primitive.name](*ins, **eqn.params)
            elif eqn.primitive.name in ("jit", "pjit"):
                inner = eqn.params["jaxpr"]
                outs = evaluate(inner.jaxpr, inner.consts, ins)
            else:
                outs = eqn.primitive.bind(*ins, **eqn.params)
                outs = outs if eqn.primitive.multiple_results else [outs]
            values |= dict(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    with counted() as calls:
        found = jax.jit(partial(evaluate, closed.jaxpr, closed.consts))(
            jax.tree.leaves((of.x, of.sides, of.states))
        )
    assert calls == [0]
    assert sorted(seen) == sorted(slow)
    close(found, right, 1e-11)


def test_every_activation_is_that_of_the_kernels() -> None:
    from fusedrnn._activations import NAMES

    assert sorted(_scan.ACTIVATIONS) == sorted(NAMES)
    # 0 and the corners of the activations are among the points.
    x = np.concatenate((np.linspace(-4, 4, 33), [-1.0, 1.0, 2.5, -2.5]))
    w = {"w_ih": np.eye(len(x)), "w_hh": np.zeros((len(x), len(x)))}
    for name in NAMES:
        for clip in (np.inf, 1.75):
            of = core.activation(name, "nonlinearity")
            found, slope = jax.jvp(
                _scan._function(of, clip), (jnp.asarray(x),), (jnp.ones(len(x)),)
            )
            bound = None if clip == np.inf else clip
            run = partial(fj.rnn, weights=w, nonlinearity=name, clip=bound)
            y, pull = jax.vjp(lambda x, run=run: run(x)[0], jnp.asarray(x)[None])
            np.testing.assert_allclose(found, y[0], atol=1e-13, err_msg=name)
            (dx,) = pull(jnp.ones((1, len(x))))
            np.testing.assert_allclose(slope, dx[0], atol=1e-13, err_msg=f"{name} {clip}")


def test_every_cell_has_a_scan() -> None:
    from fusedrnn._cells import CELLS as KERNELS

    assert sorted(_scan.CELLS) == sorted(set(KERNELS) - {"dense"})
    for name, cell in _scan.CELLS.items():
        assert cell.gates == KERNELS[name].x_gates
        assert (cell.by is None) == name.endswith("_chosen")
