"""The plain-array functions: results, gradients, and what a saved call keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
import oracle
from cases import DTYPES, Case, call, out_gradients, same_bits
from conftest import Chosen
from floor import Inputs
from fusedrnn._backends import choice
from fusedrnn._cells import CELLS, Array

FUNCTIONS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "rnn_tanh": (fr.rnn_forward, fr.rnn_backward, {}),
    "rnn_relu": (fr.rnn_forward, fr.rnn_backward, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (fr.rnn_forward, fr.rnn_backward, {"nonlinearity": "sigmoid"}),
    "rnn_identity": (fr.rnn_forward, fr.rnn_backward, {"nonlinearity": "identity"}),
    "lstm": (fr.lstm_forward, fr.lstm_backward, {}),
    "lstm_peephole": (fr.lstm_forward, fr.lstm_backward, {}),
    "gru": (fr.gru_forward, fr.gru_backward, {}),
    "gru_reset_before": (fr.gru_forward, fr.gru_backward, {"reset_after": False}),
}


def arguments(cell: str, case: Case, dtype: str) -> tuple[dict[str, Any], Any, Any]:
    """Keyword arguments of a forward function, and the same call as a backend takes it."""
    weights, inputs = call(cell, case, dtype)
    w = weights[0]
    given = {"x": inputs.x, "w_ih": w.w_ih, "w_hh": w.w_hh, "b_ih": w.b_ih, "b_hh": w.b_hh}
    for name, state in zip(("h0", "c0"), inputs.states or (), strict=False):
        given[name] = state[0]
    if w.p is not None:
        given["peepholes"] = w.p
    return given | FUNCTIONS[cell][2], weights, inputs


def otherwise_laid_out(a: Array) -> list[Array]:
    """The numbers of `a` in arrays that the kernels cannot read without a conversion."""
    apart = np.zeros((*a.shape, 2), a.dtype)
    apart[..., 0] = a
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    return [apart[..., 0], unaligned, a.astype(a.dtype.newbyteorder())]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", FUNCTIONS)
def test_arguments_that_need_no_conversion_take_a_shorter_way(
    native: Chosen, cell: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits are the same, and any argument that needs a conversion is noticed."""
    given, _, _ = arguments(cell, Case(2, 3, 4, 9), dtype)
    short_ways: list[bool] = []
    forward_plain = choice.current().forward_plain

    def spy(*args: Any) -> Any:
        found = forward_plain(*args)
        short_ways.append(found is not None)
        return found

    monkeypatch.setattr(type(choice.current()), "forward_plain", staticmethod(spy))
    right = FUNCTIONS[cell][0](**given)
    assert short_ways == [True]
    native.ran(f"{cell} {dtype}")
    for name, value in given.items():
        for other in otherwise_laid_out(value) if isinstance(value, np.ndarray) else ():
            found = FUNCTIONS[cell][0](**given | {name: other})
            assert short_ways.pop() is False, name
            assert all(map(same_bits, found[:-1], right[:-1])), name
    for name, state in {k: v for k, v in given.items() if k in ("h0", "c0")}.items():
        found = FUNCTIONS[cell][0](**given | {name: None})
        zeros = FUNCTIONS[cell][0](**given | {name: np.zeros_like(state)})
        assert all(map(same_bits, found[:-1], zeros[:-1])), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", FUNCTIONS)
def test_forward_and_backward(backend: Chosen, cell: str, dtype: str) -> None:
    """[S3] States have no axis of layers, and the bits are those that the backend gives."""
    given, weights, inputs = arguments(cell, Case(5, 3, 4, 9), dtype)
    forward, backward, _ = FUNCTIONS[cell]
    y, *states, nothing = forward(**given)
    backend.ran(f"{cell} {dtype}")
    assert nothing is None
    right_y, right_states = oracle.forward(weights, inputs)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    assert np.allclose(y, right_y, atol=tolerance)
    for state, right in zip(states, right_states, strict=True):
        assert state.shape == (3, 9)
        assert np.allclose(state, right[0], atol=tolerance)

    y2, *_, saved = forward(**given, save=True)
    assert np.array_equal(y, y2)
    assert not y2.flags.writeable
    assert saved.nbytes > 0
    dy, dstates = out_gradients(weights, inputs)
    gradients = backward(saved, dy, *(d[0] for d in dstates))
    backend.ran(f"{cell} {dtype}")
    kept = backend.run.forward(weights, inputs, save=True).saved
    right = backend.run.backward(kept, dy, dstates)
    named = gradients._asdict()
    assert np.array_equal(named.pop("dx"), right.dx)
    for name, d in zip(("dh0", "dc0"), right.states, strict=False):
        assert np.array_equal(named.pop(name), d[0])
    peepholes = named.pop("dpeepholes", None)
    assert (peepholes is None) == (right.directions[0].dp is None)
    if peepholes is not None:
        assert np.array_equal(peepholes, right.directions[0].dp)
    assert named.pop("dw_hr", None) is None
    assert list(named) == ["dw_ih", "dw_hh", "db_ih", "db_hh"]
    for name, d in named.items():
        assert np.array_equal(d, getattr(right.directions[0], name))
        assert d.shape == given[name[1:]].shape


def test_absent_arguments_are_zeros(backend: Chosen) -> None:
    """[S5] Absent biases, states and incoming gradients give the same bits as zeros."""
    given, weights, inputs = arguments("lstm", Case(4, 2, 3, 5), "float32")
    for name in ("b_ih", "b_hh", "h0", "c0"):
        given.pop(name)
    zero = {name: np.zeros(20, np.float32) for name in ("b_ih", "b_hh")}
    zero |= {name: np.zeros((2, 5), np.float32) for name in ("h0", "c0")}
    dy, (dh, dc) = out_gradients(weights, inputs)
    outcomes = []
    for more in ({}, zero, {"h0": zero["h0"]}, {"c0": zero["c0"], "b_hh": zero["b_hh"]}):
        *outputs, saved = fr.lstm_forward(**given, **more, save=True)
        for last in ({}, {"dc_n": zero["c0"]}, {"dh_n": zero["h0"], "dc_n": zero["c0"]}):
            outcomes.append([*outputs, *fr.lstm_backward(saved, dy, **last)[:7]])
        part = fr.lstm_backward(saved, dh_n=dh[0])
        whole = fr.lstm_backward(saved, np.zeros_like(dy), dh[0], np.zeros_like(dc[0]))
        assert all(np.array_equal(a, b) for a, b in zip(part[:7], whole[:7], strict=True))
    for other in outcomes[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(outcomes[0], other, strict=True))


def test_weights_are_kept_by_copy(backend: Chosen) -> None:
    """backward uses copies of the weights; x and the read-only y are shared."""
    given, weights, inputs = arguments("lstm_peephole", Case(4, 2, 3, 5), "float32")
    dy, _ = out_gradients(weights, inputs)
    *_, saved = fr.lstm_forward(**given, save=True)
    right = fr.lstm_backward(saved, dy)
    for name, a in given.items():
        if name != "x":
            a[...] = np.nan
    found = fr.lstm_backward(saved, dy)
    assert all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))
    assert saved._inputs.x is given["x"]


def test_backward_runs_where_forward_ran(reference: Chosen) -> None:
    """backward runs on the backend that `saved` names, even if another one was chosen since."""
    given, weights, inputs = arguments("gru", Case(), "float64")
    *_, saved = fr.gru_forward(**given, save=True)
    if fr.supported_isas():
        with fr.use_backend("native"):
            fr.gru_backward(saved, out_gradients(weights, inputs)[0])
            reference.ran("gru float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense(backend: Chosen, dtype: str) -> None:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    x, w, b, dy = random(7, 5), random(9, 5), random(9), random(7, 9)
    y, saved = fr.dense_forward(x, w, b, save=True)
    backend.ran(f"dense {dtype}")
    dx, dw, db = fr.dense_backward(saved, dy)
    backend.ran(f"dense {dtype}")
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    assert np.allclose(y, x @ w.T + b, atol=tolerance)
    assert np.allclose(dx, dy @ w, atol=tolerance)
    assert np.allclose(dw, dy.T @ x, atol=tolerance)
    assert np.allclose(db, dy.sum(axis=0), atol=tolerance)
    y, nothing = fr.dense_forward(x, w)
    assert nothing is None
    assert np.allclose(y, x @ w.T, atol=tolerance)
    empty, saved = fr.dense_forward(x[:0], w, b, save=True)
    assert empty.shape == (0, 9)
    assert not fr.dense_backward(saved, empty).dw.any()


def test_spec_shapes() -> None:
    """[W1] [W2] [W3] The shapes of the weights by their names."""
    assert CELLS["lstm_peephole"].shapes(3, 5) == {
        "w_ih": (20, 3),
        "w_hh": (20, 5),
        "b_ih": (20,),
        "b_hh": (20,),
        "p": (3, 5),
    }
    assert CELLS["gru"].gate_names == ("r", "z", "n")
    assert CELLS["lstm"].gate_names == ("i", "f", "g", "o")
    assert CELLS["dense"].shapes(3, 5) == {"w_ih": (5, 3), "b_ih": (5,)}
    assert [CELLS["gru"].block(slot) for slot in range(4)] == [2, 0, 1, 2]


@pytest.mark.parametrize("cell", FUNCTIONS)
def test_lengths_masks_and_resets(backend: Chosen, cell: str) -> None:
    """[L1] [L3] [L6] The plain functions give the bits of a layer with the same weights."""
    given, weights, _ = arguments(cell, Case(5, 3, 4, 9), "float64")
    forward, backward, _ = FUNCTIONS[cell]
    rng = np.random.default_rng(0)
    n = weights[0].spec.states
    initial = tuple(rng.standard_normal((3, 9)) for _ in range(n))
    options = (
        {"lengths": np.array([5, 0, 3])},
        {"mask": rng.random((5, 3)) < 0.6, "reset": rng.random((5, 3)) < 0.4},
        {"reset": rng.random((5, 3)) < 0.4, "initial": initial if n > 1 else initial[0]},
    )
    first = tuple(given[name][None] for name in ("h0", "c0")[:n])
    for chosen in options:
        y, *states, saved = forward(**given, **chosen, save=True)
        inputs = Inputs(given["x"], states=first, **chosen)
        if "initial" in chosen:
            inputs = inputs._replace(initial=tuple(part[None] for part in initial))
        right = backend.run.forward(weights, inputs, save=True, num_threads=None)
        assert np.array_equal(y, right.y)
        for state, other in zip(states, right.states, strict=True):
            assert np.array_equal(state, other[0])
        assert right.saved is not None
        gradients = backend.run.backward(right.saved, y, None, num_threads=None)
        assert np.array_equal(backward(saved, y).dx, gradients.dx)


def test_projection(backend: Chosen) -> None:
    """[S8] h, y and their gradients have size P; c has size H."""
    rng = np.random.default_rng(0)
    x, w_ih, w_hh = (rng.standard_normal(s) / 3 for s in ((4, 2, 3), (20, 3), (20, 2)))
    w_hr, h0, c0 = (rng.standard_normal(s) for s in ((2, 5), (2, 2), (2, 5)))
    y, h, c, saved = fr.lstm_forward(x, w_ih, w_hh, h0=h0, c0=c0, w_hr=w_hr, save=True)
    backend.ran("lstm float64")
    assert (y.shape, h.shape, c.shape) == ((4, 2, 2), (2, 2), (2, 5))
    layer = fr.LSTM(3, 5, proj_size=2, bias=False, dtype="float64")
    layer.load_state_dict({"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "weight_hr_l0": w_hr})
    assert np.array_equal(layer(x, (h0[None], c0[None]))[0], y)
    g = fr.lstm_backward(saved, y, h, c)
    assert (g.dh0.shape, g.dc0.shape) == ((2, 2), (2, 5))
    assert g.dw_hr is not None
    assert g.dw_hr.shape == w_hr.shape

    def loss(by: float) -> float:
        z, hn, cn, _ = fr.lstm_forward(x, w_ih, w_hh, h0=h0, c0=c0, w_hr=w_hr + by * d)
        return float((z * y).sum() + (hn * h).sum() + (cn * c).sum())

    d = rng.standard_normal(w_hr.shape)
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert abs(slope - (g.dw_hr * d).sum()) <= 1e-7 * max(1.0, abs(slope))
