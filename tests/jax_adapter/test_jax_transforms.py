"""vmap, scan, checkpoint, forward-mode and higher derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fusedrnn.jax as fj
from fusedrnn import core
from fusedrnn.jax import _kernels
from jax_adapter.same import CASES, B, Case, Given, T, call, counted, equal, given, gradients_in
from jax_adapter.test_jax_scan import close, oracle

N = 3  # size of the mapped axis


def run_of(case: Case, of: Given, batch_first: bool = False) -> Any:
    return lambda x, sides, states: call(case, of, x, sides, states, batch_first)


def loss_of(case: Case, of: Given) -> Any:
    """A sum of products, so that XLA has nothing to round in the gradients of the outputs."""
    run = run_of(case, of)
    d = gradients_in(of, jax.eval_shape(run, of.x, of.sides, of.states))

    def loss(x: Any, sides: Any, states: Any) -> Any:
        outputs = run(x, sides, states)
        return sum((a * b).sum() for a, b in zip(outputs, d, strict=True))

    return loss


def varied(tree: Any) -> Any:
    """N different copies of each array, along a new first axis."""
    return jax.tree.map(lambda a: jnp.stack([a * (1 + 0.1 * k) for k in range(N)]), tree)


def member(tree: Any, k: int) -> Any:
    return jax.tree.map(lambda a: a[k], tree)


# --- vmap over sequences --------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["plain", "lengths", "mask, reset and noise"])
@pytest.mark.parametrize("name", ["rnn", "lstm projection", "gru before"])
def test_vmap_over_sequences_is_one_call(name: str, kind: str, batch_first: bool) -> None:
    case = CASES[name]
    of = given(case, kind, 2)
    run = run_of(case, of, batch_first)
    xs, states = varied(of.x), varied(of.states)
    mapped = jax.jit(jax.vmap(run, in_axes=(0, None, 0)))
    with counted() as calls:
        found = jax.block_until_ready(mapped(xs, of.sides, states))
    assert calls == [1]
    for k in range(N):
        for a, b in zip(found, run(xs[k], of.sides, member(states, k)), strict=True):
            equal(a[k], np.asarray(b))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_over_any_axis(axis: int) -> None:
    of = given(CASES["lstm"], "plain")
    xs = varied(of.x)
    moved = jnp.moveaxis(xs, 0, axis)
    found, _ = jax.vmap(fj.lstm, in_axes=(axis, None), out_axes=axis)(moved, of.sides[0])
    right = jnp.stack([fj.lstm(x, of.sides[0])[0] for x in xs])
    equal(jnp.moveaxis(found, axis, 0), np.asarray(right))


def test_vmap_of_lengths_and_masks_alone() -> None:
    """What is not mapped is the same for each."""
    of = given(CASES["gru"], "plain")
    lengths = np.array([[7, 3, 0, 5, 1], [1, 2, 3, 4, 5]])
    f = lambda n: fj.gru(of.x, of.sides[0], lengths=n)  # noqa: E731
    y, h = jax.vmap(f)(lengths)
    masks = np.arange(T)[:, None] < lengths[:, None]
    masked, _ = jax.vmap(lambda m: fj.gru(of.x, of.sides[0], mask=m))(masks)
    for k in range(2):
        equal(y[k], np.asarray(f(lengths[k])[0]))
        equal(h[k], np.asarray(f(lengths[k])[1]))
    equal(masked, np.asarray(y))


def test_grad_of_vmap_is_one_call_each_way() -> None:
    """The gradient of weights that all share is one sum, in the order of one larger batch."""
    case = CASES["lstm"]
    of = given(case, "mask")
    (w,) = of.sides
    xs = varied(of.x)
    masks = np.stack([of.more["mask"]] * N)

    def total(w: Any) -> Any:
        y, _ = jax.vmap(lambda x, m: fj.lstm(x, w, mask=m))(xs, masks)
        return (y**2).sum()

    def whole(w: Any) -> Any:
        x, m = (jnp.moveaxis(a, 0, 1).reshape(T, N * B, *a.shape[3:]) for a in (xs, masks))
        return (fj.lstm(x, w, mask=m)[0] ** 2).sum()

    with counted() as calls:
        found = jax.block_until_ready(jax.jit(jax.grad(total))(w))
    assert calls == [2]
    right = jax.grad(whole)(w)
    for name, a in found.items():
        equal(a, np.asarray(right[name]), name)


@pytest.mark.parametrize("name", ["lstm projection", "gru norm"])
def test_vmap_of_grad_gives_each_its_own(name: str) -> None:
    case = CASES[name]
    of = given(case, "mask and reset", 2)
    gradient = jax.grad(loss_of(case, of), argnums=(0, 1, 2))
    xs, states = varied(of.x), varied(of.states)
    found = jax.jit(jax.vmap(gradient, in_axes=(0, None, 0)))(xs, of.sides, states)
    for k in range(N):
        right = gradient(xs[k], of.sides, member(states, k))
        for a, b in zip(jax.tree.leaves(member(found, k)), jax.tree.leaves(right), strict=True):
            equal(a, np.asarray(b))


def test_vmap_of_grad_without_weights_is_one_call_each_way() -> None:
    case = CASES["gru"]
    of = given(case, "states")
    gradient = jax.grad(loss_of(case, of), argnums=(0, 2))
    xs = varied(of.x)
    with counted() as calls:
        found = jax.jit(jax.vmap(gradient, in_axes=(0, None, None)))(xs, of.sides, of.states)
        jax.block_until_ready(found)
    assert calls == [2]
    for k in range(N):
        right = gradient(xs[k], of.sides, of.states)
        equal(found[0][k], np.asarray(right[0]))
        equal(found[1][0][k], np.asarray(right[1][0]))


# --- vmap over weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(None, 0, None), (0, 0, 0), (0, 0, None)])
@pytest.mark.parametrize("name", ["rnn", "lstm projection", "gru before"])
def test_an_ensemble(name: str, axes: Any) -> None:
    case = CASES[name]
    of = given(case, "mask and reset")
    arguments = [
        a if axis is None else varied(a)
        for a, axis in zip((of.x, of.sides, of.states), axes, strict=True)
    ]
    both = jax.grad(loss_of(case, of), argnums=(0, 1, 2))
    with counted() as calls:
        found = jax.jit(jax.vmap(both, in_axes=axes))(*arguments)
        jax.block_until_ready(found)
    assert calls == [2]
    for k in range(N):
        own = [a if axis is None else member(a, k) for a, axis in zip(arguments, axes, strict=True)]
        right = both(*own)
        for a, b in zip(jax.tree.leaves(member(found, k)), jax.tree.leaves(right), strict=True):
            equal(a, np.asarray(b))


@pytest.mark.parametrize("batch_first", [False, True])
def test_members_with_lengths_of_their_own(batch_first: bool) -> None:
    """Each walks other steps, so that each is a call."""
    of = given(CASES["gru"], "plain")
    x = of.x.swapaxes(0, 1) if batch_first else of.x
    weights = varied(of.sides[0])
    lengths = jnp.stack([jnp.full(B, T - k, jnp.int32) for k in range(N)])

    def loss(w: Any, lengths: Any) -> Any:
        y, h = fj.gru(x, w, lengths=lengths, batch_first=batch_first)
        return (y * y).sum() + h.sum()

    with counted() as calls:
        found = jax.block_until_ready(jax.jit(jax.vmap(jax.grad(loss)))(weights, lengths))
    assert calls == [2 * N]
    for k in range(N):
        right = jax.jit(jax.grad(loss))(member(weights, k), lengths[k])
        for name, a in right.items():
            equal(found[name][k], np.asarray(a), name)


def test_an_ensemble_of_single_steps_reads_large_weights_where_they_lie() -> None:
    size = 160  # 3 * 160 * 320 floats are more than _kernels.LARGE
    weights = {
        "w_ih": jnp.asarray(
            np.random.default_rng(0).normal(0, 0.1, (N, 3 * size, size)), "float32"
        ),
        "w_hh": jnp.asarray(
            np.random.default_rng(1).normal(0, 0.1, (N, 3 * size, size)), "float32"
        ),
    }
    assert sum(a[0].nbytes for a in weights.values()) > _kernels.LARGE
    x = jnp.ones((1, 2, size), jnp.float32)
    held = len(_kernels.PACKS)
    y, _ = jax.jit(jax.vmap(fj.gru, in_axes=(None, 0)))(x, weights)
    assert len(_kernels.PACKS) == held
    for k in range(N):
        equal(y[k], np.asarray(fj.gru(x, member(weights, k))[0]))


def test_an_ensemble_that_shares_some_weights() -> None:
    """The gradient of a shared weight is the sum over the members."""
    of = given(CASES["lstm"], "plain", dtype=np.float64)
    shared = {k: v for k, v in of.sides[0].items() if k != "w_hh"}
    own = jnp.stack([of.sides[0]["w_hh"] * k for k in (0.5, 1.0, 1.5)])

    def one(w_hh: Any, shared: Any) -> Any:
        return (fj.lstm(of.x, {**shared, "w_hh": w_hh})[0] ** 2).sum()

    def total(own: Any, shared: Any) -> Any:
        return jax.vmap(one, in_axes=(0, None))(own, shared).sum()

    found = jax.grad(total, argnums=(0, 1))(own, shared)
    parts = [jax.grad(one, argnums=(0, 1))(w, shared) for w in own]
    right = (
        jnp.stack([p[0] for p in parts]),
        jax.tree.map(lambda *a: sum(a), *[p[1] for p in parts]),
    )
    close(found, right, 1e-13)


@pytest.mark.parametrize("order", ["weights then rows", "rows then weights", "weights twice"])
def test_nested_vmap(order: str) -> None:
    case = CASES["gru"]
    of = given(case, "states")
    both = jax.grad(loss_of(case, of), argnums=(0, 1, 2))
    sides, xs = varied(of.sides), varied(of.x)
    rows, weights = (0, None, None), (None, 0, None)
    inner, outer = {
        "weights then rows": (rows, weights),
        "rows then weights": (weights, rows),
        "weights twice": (weights, (None, 0, None)),
    }[order]
    if order == "weights twice":
        sides, xs = varied(sides), of.x
    found = jax.vmap(jax.vmap(both, in_axes=inner), in_axes=outer)(xs, sides, of.states)
    for j in range(N):
        for k in range(N):
            if order == "weights twice":
                right = both(xs, member(member(sides, j), k), of.states)
            else:
                row, side = (k, j) if order == "weights then rows" else (j, k)
                right = both(xs[row], member(sides, side), of.states)
            got = jax.tree.leaves(member(member(found, j), k))
            for a, b in zip(got, jax.tree.leaves(right), strict=True):
                equal(a, np.asarray(b))


# --- scan, checkpoint, cond -----------------------------------------------------------------------


def test_scan_over_layers_and_over_chunks() -> None:
    """A scan that carries the state through chunks has the bits of one call."""
    of = given(CASES["lstm"], "states")
    (w,) = of.sides
    x = np.concatenate([of.x] * 4)

    def chunks(w: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            y, state = fj.lstm(x, w, state)
            return state, y

        state, y = jax.lax.scan(step, (jnp.zeros((B, 20), jnp.float32),) * 2, x.reshape(4, T, B, 3))
        return y.reshape(x.shape[0], B, 20), state

    y, (h, c) = jax.jit(chunks)(w)
    right = core.forward(core.pack("lstm", w), x)
    equal(y, right.y)
    equal(h, right.states[0][0])
    equal(c, right.states[1][0])
    found = jax.grad(lambda w: (chunks(w)[0] ** 2).sum())(w)
    whole = jax.grad(lambda w: (fj.lstm(x, w)[0] ** 2).sum())(w)
    close(found, whole, 2e-5)


def test_grad_of_vmap_of_scan() -> None:
    of = given(CASES["gru"], "plain")
    xs = varied(of.x).reshape(N, 1, T, B, 3)

    def f(w: Any, x: Any) -> Any:
        step = lambda h, x: (fj.gru(x, w, h)[1], ())  # noqa: E731
        return (jax.lax.scan(step, jnp.ones((B, 20), jnp.float32), x)[0] ** 2).sum()

    (w,) = of.sides
    found = jax.grad(lambda w: jax.vmap(partial(f, w))(xs).sum())(w)
    each = jax.vmap(jax.grad(f), in_axes=(None, 0))(w, xs)
    close(found, jax.tree.map(lambda a: a.sum(axis=0), each), 2e-5)
    right = [jax.grad(f)(w, x) for x in xs]
    close(each, jax.tree.map(lambda *a: jnp.stack(a), *right), 1e-7)


def test_checkpoint_computes_the_forward_call_again() -> None:
    case = CASES["lstm"]
    of = given(case, "mask")
    loss = loss_of(case, of)
    right = jax.grad(loss)(of.x, of.sides, of.states)
    with counted() as calls:
        found = jax.jit(jax.grad(jax.checkpoint(loss)))(of.x, of.sides, of.states)
        jax.block_until_ready(found)
    equal(found, np.asarray(right))
    assert calls[0] in (2, 3)  # XLA may see that it is the same call


def test_cond() -> None:
    of = given(CASES["gru"], "plain")
    f = jax.jit(
        lambda p, x: jax.lax.cond(p, lambda x: fj.gru(x, of.sides[0])[0], jnp.zeros_like, x)
    )
    x = np.concatenate([of.x] * 7, axis=2)[..., :20]
    w = {**of.sides[0], "w_ih": np.concatenate([of.sides[0]["w_ih"]] * 7, axis=1)[:, :20]}
    f = jax.jit(lambda p, x: jax.lax.cond(p, lambda x: fj.gru(x, w)[0], jnp.zeros_like, x))
    equal(f(True, x), np.asarray(fj.gru(x, w)[0]))
    assert not np.any(f(False, x))


# --- only what is needed --------------------------------------------------------------------------


def test_only_the_gradients_that_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[Any] = []
    real = core.backward

    def spy(*arguments: Any, **options: Any) -> Any:
        wanted.append((options["want"], options["dy"] is None, options["dstates"]))
        return real(*arguments, **options)

    monkeypatch.setattr(core, "backward", spy)
    of = given(CASES["lstm"], "states")
    (w,) = of.sides
    state = tuple(s[0] for s in of.states or ())
    jax.grad(lambda x: (fj.lstm(x, w, state)[0] ** 2).sum())(of.x).block_until_ready()
    assert wanted[-1] == ({"x"}, False, None)
    frozen = {k: v for k, v in w.items() if k != "w_hh"}
    f = lambda r: (fj.lstm(of.x, {**frozen, "w_hh": r}, state)[1][1] ** 2).sum()  # noqa: E731
    jax.grad(f)(w["w_hh"]).block_until_ready()
    want, no_dy, (dh, dc) = wanted[-1]
    assert (want, no_dy, dh is None, dc is None) == ({"w_hh"}, True, True, False)
    jax.grad(lambda h: (fj.lstm(of.x, w, (h, state[1]))[0] ** 2).sum())(
        state[0]
    ).block_until_ready()
    assert wanted[-1][0] == {"states"}


def test_a_call_without_a_derivative_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    real = core.forward

    def spy(*arguments: Any, **options: Any) -> Any:
        saved.append(options["saved"] is not False)
        return real(*arguments, **options)

    monkeypatch.setattr(core, "forward", spy)
    of = given(CASES["gru"], "plain")
    f = lambda x: fj.gru(x, of.sides[0])[0]  # noqa: E731
    jax.jit(f)(of.x).block_until_ready()
    jax.grad(lambda x: f(x).sum())(of.x).block_until_ready()
    assert saved == [False, True]


def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packs: list[Any] = []
    from fusedrnn.core import _cache

    real = _cache.pack
    monkeypatch.setattr(_cache, "pack", lambda *a, **k: packs.append(a) or real(*a, **k))
    _kernels.PACKS.clear()
    of = given(CASES["lstm"], "plain")
    w = jax.block_until_ready(jax.tree.map(jnp.array, of.sides[0]))
    x = jnp.array(of.x)
    f = jax.jit(lambda w, x: (fj.lstm(x, w)[0] ** 2).sum())
    both = jax.jit(jax.value_and_grad(f))
    for _ in range(3):
        jax.block_until_ready((f(w, x), both(w, x)))
    assert len(packs) == 1
    other = jax.block_until_ready(jax.tree.map(lambda a: a * 2, w))
    first = f(w, x)
    assert float(f(other, x)) != float(first)
    assert float(f(w, x)) == float(first)


def test_a_single_step_reads_large_weights_where_they_lie() -> None:
    rng = np.random.default_rng(0)
    w = {"w_ih": rng.standard_normal((600, 3)), "w_hh": rng.standard_normal((600, 200))}
    x, h0 = rng.standard_normal((1, 2, 3)), np.ones((2, 200))
    _kernels.PACKS.clear()
    f = jax.jit(lambda x: fj.gru(x, w, h0))
    y, h = f(x)
    assert len(_kernels.PACKS) == 0
    right = core.forward(core.pack("gru", w), x, states=(h0[None],))
    equal(y, right.y)
    equal(h, right.states[0][0])
    for _ in range(3):
        equal(f(x)[0], right.y)
    jax.block_until_ready(jax.jit(lambda x: fj.gru(x, w))(np.ones((2, 2, 3))))
    assert len(_kernels.PACKS) == 1


def test_a_training_loop_keeps_few_packs() -> None:
    """Each step has new weights in new memory; the cache must not grow with the steps."""
    _kernels.PACKS.clear()
    of = given(CASES["lstm"], "plain")
    w = jax.tree.map(jnp.array, of.sides[0])

    @partial(jax.jit, donate_argnums=0)
    def step(w: Any) -> Any:
        g = jax.grad(lambda w: (fj.lstm(of.x, w)[0] ** 2).mean())(w)
        return jax.tree.map(lambda a, d: a - 0.01 * d, w, g)

    plain = core.pack("lstm", of.sides[0])
    for _ in range(50):
        w = step(w)
    jax.block_until_ready(w)
    assert np.all(np.isfinite(w["w_hh"]))
    assert _kernels.PACKS.nbytes <= _kernels.PACKS.limit
    assert plain.nbytes


# --- other derivatives ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_forward_mode_and_second_derivatives(name: str) -> None:
    """They are those of the plain equations."""
    case = CASES[name]
    of = given(case, "states", dtype=np.float64)
    assert of.states is not None
    state = tuple(s[0] for s in of.states)

    def ours(x: Any, w: Any, s: Any) -> Any:
        y, last = case.function(x, w, s if len(s) > 1 else s[0])
        return (y**2).sum() + sum(jnp.sin(a).sum() for a in jax.tree.leaves(last))

    def theirs(x: Any, w: Any, s: Any) -> Any:
        y, *last = oracle(name, x, w, s)
        return (y**2).sum() + sum(jnp.sin(a).sum() for a in last)

    arguments = (of.x, of.sides[0], state)
    tangents = jax.tree.map(lambda a: np.cos(a), arguments)

    def derivatives(f: Any) -> Any:
        gradient = jax.grad(f, argnums=(0, 1, 2))
        along = lambda x: jax.jvp(f, (x, *arguments[1:]), tangents)[1]  # noqa: E731
        return {
            "jvp": jax.jvp(f, arguments, tangents),
            "forward over reverse": jax.jvp(gradient, arguments, tangents)[1],
            "reverse over reverse": jax.grad(
                lambda *a: sum((g**2).sum() for g in jax.tree.leaves(gradient(*a)))
            )(*arguments),
            "reverse over forward": jax.grad(along)(of.x),
        }

    found, right = (jax.jit(lambda f=f: derivatives(f))() for f in (ours, theirs))
    for key, value in found.items():
        close(value, right[key], 1e-11)


def test_jacobians_and_hessian() -> None:
    of = given(CASES["rnn"], "mask", dtype=np.float64)
    (w,) = of.sides
    mask = of.more["mask"]
    x = np.where(mask[..., None], of.x, 0)

    def f(h: Any) -> Any:
        return fj.rnn(x, w, h, mask=mask)[1]

    h0 = np.ones((B, 20)) * 0.1
    close(jax.jacrev(f)(h0), jax.jacfwd(f)(h0), 1e-12)
    small = lambda v: (f(jnp.broadcast_to(v, (B, 20))) ** 2).sum()  # noqa: E731
    v = np.linspace(-0.2, 0.2, 20)
    h = jax.hessian(small)(v)
    step = 1e-6
    for k in range(2):
        e = np.zeros(20)
        e[k] = step
        numeric = (jax.grad(small)(v + e) - jax.grad(small)(v - e)) / (2 * step)
        np.testing.assert_allclose(h[k], numeric, rtol=1e-6, atol=1e-8)


def test_gradients_by_central_differences() -> None:
    from jax.test_util import check_grads

    of = given(CASES["gru before"], "mask and reset", dtype=np.float64)
    mask, reset = of.more["mask"], of.more["reset"]
    x = np.where(mask[..., None], of.x, 0)

    def f(x: Any, w: Any, h: Any) -> Any:
        return fj.gru(x, w, h, mask=mask, reset=reset, reset_after=False)

    assert of.states is not None
    check_grads(f, (x, of.sides[0], of.states[0][0]), order=1, modes=("rev", "fwd"), eps=1e-5)


def test_gradients_that_the_kernels_do_not_have() -> None:
    """Those of `initial` and of factors of dropout come from the scan."""
    case = CASES["gru"]
    of = given(case, "mask, reset and noise", dtype=np.float64)
    more = of.more
    x = np.where(more["mask"][..., None], of.x, 0)

    def f(initial: Any, drop: Any, w: Any) -> Any:
        options = {k: more[k] for k in ("mask", "reset")}
        y, h = fj.gru(
            x, w, reset=options["reset"], mask=options["mask"], initial=initial, drop=drop
        )
        return (y**2).sum() + h.sum()

    from jax.test_util import check_grads

    arguments = (more["initial"][0][0], more["drop"][0], of.sides[0])
    check_grads(f, arguments, order=1, modes=("rev",), eps=1e-5)
    with counted() as calls:
        jax.block_until_ready(jax.grad(f)(*arguments))
    assert calls == [0]
