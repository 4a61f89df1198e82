"""Outputs and final states against the equations, for every cell, backend, shape and option.

[E1] [E2] [E3] [E4] [E5] [E6] [S2] [S4] [S5] [S6] [W1] [W2] [W3] [L1] [L2] [L3] [L4] [N3.2]
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedrnn as fr
import oracle
from cases import CELL_NAMES, DTYPES, OPTIONS, RECURRENT, SHAPES, Case, call, hidden_sizes
from conftest import Chosen
from floor import Inputs, by_name
from fusedrnn._cells import Array

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def assert_close(found: Array, right: Array, dtype: str, terms: int) -> None:
    """Assert an error bound for every element: 4 times that of a pre-activation (N3.2).

    That bound is (8 + sqrt(K)) half-ulps of 1, with K terms in a pre-activation. States and outputs
    are of order 1, and over the few steps of these cases the recurrence enlarges errors by less
    than 4.
    """
    bound = 4 * (8 + np.sqrt(terms)) * UNIT[dtype] * (1 + np.abs(right))
    error = np.abs(found.astype(right.dtype) - right)
    worst = np.max(error / bound, initial=0)
    assert worst <= 1, f"an element is off by {worst:.2f} times the bound"


def check(backend: Chosen, cell: str, case: Case, dtype: str) -> None:
    weights, inputs = call(cell, case, dtype)
    y, states, saved = backend.run.forward(weights, inputs, save=False, num_threads=None)
    backend.ran(f"{cell} {dtype}")
    assert saved is None
    real = np.longdouble if dtype == "float64" else np.float64
    right_y, right_states = oracle.forward(weights, inputs, real)
    assert y.dtype == dtype
    assert y.shape == right_y.shape
    assert len(states) == weights[0].spec.states
    terms = case.input_size + case.hidden_size + 2
    assert_close(y, right_y, dtype, terms)
    for state, right in zip(states, right_states, strict=True):
        assert state.dtype == dtype
        assert state.shape == right.shape
        if cell != "dense":  # the dense cell has no state
            assert_close(state, right, dtype, terms)


@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_shapes(backend: Chosen, cell: str, dtype: str, case: Case) -> None:
    check(backend, cell, case, dtype)


@pytest.mark.parametrize("case", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", RECURRENT)
def test_options(backend: Chosen, cell: str, dtype: str, case: Case) -> None:
    check(backend, cell, case, dtype)


@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    steps, batch = data.draw(st.integers(0, 5), "T"), data.draw(st.integers(0, 9), "B")
    tokens = data.draw(st.booleans(), "tokens")
    cell = data.draw(st.sampled_from(RECURRENT), "cell")
    case = Case(
        steps=steps,
        batch=batch,
        input_size=data.draw(st.integers(1 if tokens else 0, 40), "I"),
        hidden_size=data.draw(hidden_sizes(cell), "H"),
        directions=data.draw(st.integers(1, 2), "D"),
        bias=data.draw(st.booleans(), "bias"),
        states=data.draw(st.booleans(), "states"),
        tokens=tokens,
        lengths=data.draw(st.none() | st.tuples(*[st.integers(0, steps)] * batch), "lengths"),
        reset=data.draw(st.booleans(), "reset"),
        initial=data.draw(st.booleans(), "initial"),
    )
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    isa = data.draw(st.sampled_from(("numpy", *fr.supported_isas())), "isa")
    name = "reference" if isa == "numpy" else "native"
    if name == "native":
        with fr.use_isa(isa):
            check(Chosen(name, isa, by_name(name)), cell, case, dtype)
    else:
        check(Chosen(name, isa, by_name(name)), cell, case, dtype)


@pytest.mark.parametrize("terms", [3, 100, 2048])
@pytest.mark.parametrize("cell", ["rnn_identity", "dense"])
def test_pre_activations_are_accurate(backend: Chosen, cell: str, terms: int) -> None:
    """[N3.2] These cells return their pre-activations; half of each sum cancels the other half."""
    weights, inputs = call(cell, Case(1, 2, terms, 16), "float32")
    w, x = weights[0].w_ih, inputs.x
    assert x is not None
    half = terms // 2
    w[:, half : 2 * half], x[..., half : 2 * half] = -w[:, :half], x[..., :half]
    y, _, _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    backend.ran(f"{cell} float32")
    right, _ = oracle.forward(weights, inputs)
    size = np.abs(x.astype(np.float64)) @ np.abs(w.T.astype(np.float64))
    count = terms
    for bias in (weights[0].b_ih, weights[0].b_hh):
        if bias is not None:
            size += np.abs(bias.astype(np.float64))
    if weights[0].w_hh is not None and inputs.states is not None:
        h, r = inputs.states[0][0].astype(np.float64), weights[0].w_hh.astype(np.float64)
        size += np.abs(h) @ np.abs(r.T)
        count += 16
    assert np.all(np.abs(y - right) <= (8 + np.sqrt(count)) * 2.0**-24 * size)


def test_update_gate_keeps_the_old_state(backend: Chosen) -> None:
    """[E6] With z = 1 the new state is the old one, in both GRUs."""
    for cell in ("gru", "gru_reset_before"):
        weights, inputs = call(cell, Case(3, 2, 4, 6))
        assert weights[0].b_ih is not None
        weights[0].b_ih[6:12] = 1000
        _, (h,), _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
        assert inputs.states is not None
        assert np.allclose(h, inputs.states[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", RECURRENT)
def test_padding_is_never_read(backend: Chosen, cell: str) -> None:
    """[L5] NaN, Inf and resets past the lengths change no bit of y or of a gradient."""
    case = Case(steps=6, lengths=(3, 0, 5), reset=True, initial=True, directions=2)
    weights, inputs = call(cell, case, "float32")
    assert inputs.x is not None
    assert inputs.reset is not None
    assert inputs.lengths is not None
    padding = np.arange(6)[:, None] >= inputs.lengths
    dirty = inputs._replace(x=inputs.x.copy(), reset=inputs.reset | padding)
    assert dirty.x is not None
    dirty.x[padding] = [np.nan, np.inf, -np.inf]
    rng = np.random.default_rng(2)
    dy = rng.standard_normal((6, 3, 10)).astype(np.float32)
    dirty_dy = dy.copy()
    dirty_dy[padding] = np.nan

    def outcome(call: Inputs, dy: Array) -> list[Array]:
        y, states, saved = backend.run.forward(weights, call, save=True, num_threads=None)
        assert saved is not None
        backend.ran(f"{cell} float32")
        g = backend.run.backward(saved, dy, None, num_threads=None)
        assert g.dx is not None
        assert not g.dx[padding].any()
        arrays = [y, *states, g.dx, *g.states]
        return arrays + [a for d in g.directions for a in d if a is not None]

    for clean, other in zip(outcome(inputs, dy), outcome(dirty, dirty_dy), strict=True):
        assert np.array_equal(clean, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("cell", RECURRENT)
def test_nan_stays_in_its_sequence(backend: Chosen, cell: str, bad: float) -> None:
    """[N5] NaN stays in its row, from its step on, and gives no warning."""
    weights, inputs = call(cell, Case(5, 7, 3, 18), "float32")
    clean, _, _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    assert inputs.x is not None
    inputs.x[2, 4, 1] = bad
    y, states, _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    backend.ran(f"{cell} float32")
    if np.isnan(bad):
        assert np.isnan(y[2:, 4]).all()
        assert all(np.isnan(state[0, 4]).all() for state in states)
    others = np.arange(7) != 4
    assert np.array_equal(y[:, others], clean[:, others])
    assert np.array_equal(y[:2], clean[:2])


def test_a_selected_state_is_not_multiplied(backend: Chosen) -> None:
    """[L3] A reset drops a state even if it is NaN, and its gradient is exactly 0."""
    weights, inputs = call("lstm", Case(3, 2, 3, 5), "float32")
    reset = np.zeros((3, 2), bool)
    reset[0] = True
    bad = tuple(np.full_like(state, np.nan) for state in inputs.states or ())
    inputs = inputs._replace(reset=reset, states=bad)
    y, _, saved = backend.run.forward(weights, inputs, save=True, num_threads=None)
    assert saved is not None
    assert np.isfinite(y).all()
    g = backend.run.backward(saved, np.ones_like(y), None, num_threads=None)
    assert not any(part.any() for part in g.states)
    assert all(np.isfinite(a).all() for a in g.directions[0] if a is not None)
