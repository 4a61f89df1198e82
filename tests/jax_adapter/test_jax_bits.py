"""The functions have the bits of `core`: outputs, states and every gradient."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import fusedrnn as fr
import fusedrnn.jax as fj
from fusedrnn import core
from jax_adapter.conftest import enable_x64
from jax_adapter.same import CASES, SEQUENCES, Given, call, counted, equal, given, gradients_in
from jax_adapter.same import packed as packed_of


def same_as_core(case: Any, of: Given, batch_first: bool = False) -> None:
    packed = packed_of(case, of)
    right = core.forward(packed, of.x, states=of.states, saved=True, **of.more)
    outputs = (right.y, *right.states)
    d = gradients_in(of, outputs)
    assert right.saved is not None
    backward = {k: v for k, v in of.more.items() if k not in ("lengths", "mask", "reset")}
    g = core.backward(
        packed,
        right.plan,
        of.x,
        y=right.y,
        saved=right.saved,
        states=of.states,
        dy=d[0],
        dstates=d[1:],
        **backward,
    )

    def run(x: Any, sides: Any, states: Any) -> Any:
        return call(case, of, x, sides, states, batch_first)

    @jax.jit
    def both(x: Any, sides: Any, states: Any, d: Any) -> Any:
        found, pull = jax.vjp(run, x, sides, states)
        return found, pull(tuple(d))

    with counted() as calls:
        found, (dx, dsides, dstates) = both(of.x, of.sides, of.states, d)
        jax.block_until_ready(dx)
    assert calls == [2]
    for a, b in zip(found, outputs, strict=True):
        equal(a, b)
    equal(dx, g.dx, "dx")
    for mine, theirs in zip(dsides, g.dweights, strict=True):
        assert mine.keys() == theirs.keys()
        for name, a in mine.items():
            equal(a, theirs[name], name)
    if of.states is not None:
        for a, b in zip(dstates, g.dstates or (), strict=True):
            equal(a, b, "dstates")


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("name", CASES)
def test_every_cell_and_kind_of_sequence(name: str, kind: str) -> None:
    case = CASES[name]
    same_as_core(case, given(case, kind))


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["rnn", "lstm projection", "gru"])
def test_both_directions_and_layouts(name: str, batch_first: bool, kind: str) -> None:
    case = CASES[name]
    same_as_core(case, given(case, kind, 2), batch_first)


@pytest.mark.parametrize("name", ["rnn relu", "lstm", "gru before", "lstm chosen", "gru norm"])
def test_float64(name: str) -> None:
    case = CASES[name]
    same_as_core(case, given(case, "mask and reset", 2, np.float64))


@pytest.mark.parametrize("name", ["lstm", "gru before"])
def test_the_reference_backend(name: str) -> None:
    case = CASES[name]
    before = fr.path_counts()
    scope = fr.use_backend("reference")  # for the process: XLA computes in threads of its own
    try:
        jax.clear_caches()
        same_as_core(case, given(case, "mask", 2))
    finally:
        fr.use_backend("native" if fr.supported_isas() else "reference")
        jax.clear_caches()
    assert scope is not None
    new = {path.backend for path, n in fr.path_counts().items() if n > before.get(path, 0)}
    assert new == {"reference"}


def test_zoneout_without_masks_uses_the_expectation() -> None:
    case = CASES["lstm"]
    of = given(case, "states")._replace(more={"zoneout": (0.3, 0.1)})
    same_as_core(case, of)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)])
def test_empty_calls(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    w = {"w_ih": rng.standard_normal((8, shape[2])), "w_hh": rng.standard_normal((8, 2))}
    x, h0, c0 = np.ones(shape), np.ones((shape[1], 2)), np.ones((shape[1], 2))

    def total(w: Any, h0: Any) -> Any:
        y, (h, _) = fj.lstm(x, w, (h0, c0))
        return y.sum() + h.sum(), (y, h)

    (_, (y, h)), (dw, dh) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(w, h0)
    assert y.shape == (*shape[:2], 2)
    assert dw["w_ih"].shape == (8, shape[2])
    if shape[0] == 0:
        equal(h, h0)
        equal(dh, np.ones_like(h0))
        assert not np.any(dw["w_hh"])
    if shape[2] == 0 and shape[0]:
        right = core.forward(core.pack("lstm", w), x, states=(h0[None], c0[None]))
        equal(y, right.y)


def test_one_sequence_without_a_batch() -> None:
    case = CASES["lstm"]
    of = given(case, "states")
    (w,), (h0, c0) = of.sides, of.states or ()
    y, (h, c) = fj.lstm(of.x[:, 1], w, (h0[0, 1], c0[0, 1]), lengths=4)
    right = core.forward(
        packed_of(case, of), of.x, states=of.states, lengths=np.array([7, 4, 7, 7, 7])
    )
    equal(y, right.y[:, 1])
    equal(h, right.states[0][0, 1])
    equal(c, right.states[1][0, 1])


def test_one_sequence_without_a_batch_in_both_directions() -> None:
    case = CASES["gru"]
    of = given(case, "mask", 2)
    assert of.states is not None
    mask = of.more["mask"]
    y, h = fj.gru(of.x[:, 2], of.sides, of.states[0][:, 2], mask=mask[:, 2])
    right = core.forward(packed_of(case, of), of.x, states=of.states, mask=mask)
    equal(y, right.y[:, 2])
    equal(h, right.states[0][:, 2])


def test_float32_alone() -> None:
    """JAX as it starts has no float64 and no int64; the plan of a call has int64."""
    case = CASES["gru"]
    with enable_x64(False):
        same_as_core(case, given(case, "mask and reset", 2))


def test_numbers_of_python_and_numpy_become_the_dtype_of_jax() -> None:
    with enable_x64(False):
        y, _ = fj.rnn([[1.0], [2.0]], {"w_ih": np.ones((1, 1)), "w_hh": [[1.0]]})
        assert y.dtype == np.float32
    y, _ = fj.rnn([[1.0], [2.0]], {"w_ih": np.ones((1, 1)), "w_hh": [[1.0]]})
    assert y.dtype == np.float64


def test_weights_in_another_order_and_absent_ones() -> None:
    case = CASES["gru"]
    of = given(case, "plain")
    (w,) = of.sides
    y, _ = fj.gru(of.x, w)
    other = {name: w[name] for name in reversed(w)} | {"norm_ih": None}
    equal(fj.gru(of.x, other)[0], np.asarray(y))
