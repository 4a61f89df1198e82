"""fusedrnn.inspect against central differences of plain loops, and against torch's autograd."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn import inspect
from layer_cases import CELLS, make, state_of
from layer_oracle import Direction, names_of_states, states_of, zoned

Array = np.ndarray[Any, np.dtype[Any]]
ROOT = Path(__file__).resolve().parents[1]
KINDS = (fr.RNN, fr.LSTM, fr.GRU)
KINKED = ("rnn_relu",)  # central differences are not of use at a kink
SMOOTH = [name for name in CELLS if name not in KINKED]
STEP = 1e-4  # of central differences of fourth order


def walk_of(of: Direction, x: Array, first: list[Array], rows: range, inject: Any = None) -> Any:
    """Run one sequence; return h and, after each step, all states. `inject` is (t, part, array)."""
    states, after = first, {}
    for t in rows:
        new, _ = of.step(x[t], states, states[0])
        states = [
            zoned(of.layer, None, part, None, a, old)
            for part, (a, old) in enumerate(zip(new, states, strict=True))
        ]
        if inject is not None and inject[0] == t:
            states[inject[1]] = states[inject[1]] + inject[2]
        after[t] = states
    return after, states


def loss_of(layer: Any, x: Array, state: Any, end: int, b: int, weights: Any, inject: Any) -> float:
    """A loss of y and of the last states of sequence b, by plain loops.

    `inject` is (layer, direction, (t, part, array)) that is added to a state; or None.
    """
    n, total = 2 if layer.bidirectional else 1, 0.0
    dy, dstate = weights
    for k in range(layer.num_layers):
        halves = []
        for d in range(n):
            of = Direction(layer, k, d, None)
            widths = (of.out, of.size)[: len(names_of_states(layer))]
            first = states_of(layer, state, k, d, b, widths)
            rows = range(end) if d == 0 else range(end - 1, -1, -1)
            here = inject[2] if inject is not None and inject[:2] == (k, d) else None
            after, last = walk_of(of, x, first, rows, here)
            halves.append(np.array([after[t][0] for t in range(end)]).reshape(end, of.out))
            for part, a in enumerate(states_of(layer, dstate, k, d, b, widths)):
                total += float(a @ last[part])
        x = np.concatenate(halves, axis=1)
    return total + float((dy[:end, b] * x).sum())


@pytest.mark.parametrize("cell", SMOOTH)
def test_gradients_of_h_are_central_differences(backend: Chosen, cell: str) -> None:
    """A stack with two directions, sizes of its own, a state, lengths, zoneout, two losses."""
    own = {"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}
    zoneout: Any = (0.2, 0.1) if cell.startswith("lstm") else 0.2
    layer = make(cell, [3, 4], 2, bidirectional=True, zoneout=zoneout, **own)
    rng = np.random.default_rng(0)
    steps, batch, lengths = 4, 3, np.array([4, 0, 3])
    x, state = rng.standard_normal((steps, batch, 3)), state_of(layer, batch, rng)
    width = layer(x)[0].shape[2]
    dy, dstate = rng.standard_normal((steps, batch, width)), state_of(layer, batch, rng)
    x[lengths[2] :, 2] = dy[lengths[2] :, 2] = np.nan  # padding
    found = inspect.gradient_norms(layer, x, dy, dstate=dstate, state=state, lengths=lengths)
    assert fr.last_path().backend == backend.name
    assert found.h.shape == (4, steps, batch)
    real = np.arange(steps)[:, None] < lengths
    assert np.array_equal(np.isnan(found.h), np.broadcast_to(~real, found.h.shape))
    for k, d, t, b in ((1, 1, 0, 0), (1, 0, 2, 0), (0, 0, 0, 2), (0, 1, 1, 2), (0, 0, 3, 0)):
        size, gradient = Direction(layer, k, d, None).out, []
        for unit in range(size):
            values = [
                loss_of(
                    layer,
                    x[:, b],
                    state,
                    int(lengths[b]),
                    b,
                    (dy, dstate),
                    (k, d, (t, 0, s * STEP * np.eye(size)[unit])),
                )
                for s in (-2, -1, 1, 2)
            ]
            gradient.append((values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * STEP))
        right = float(np.linalg.norm(gradient))
        assert abs(found.h[k * 2 + d, t, b] - right) <= 1e-8 * max(1.0, right), (k, d, t, b)


# --- torch ----------------------------------------------------------------------------------------


def torch_step(torch: Any, layer: Any, k: int, x: Any, h: Any, c: Any) -> list[Any]:
    """Layer k's new h, and c of an LSTM; c is made before h reads it."""
    p = {name: torch.tensor(np.array(a, np.float64)) for name, a in layer.params.items()}
    p = {name.removesuffix(f"_l{k}"): a for name, a in p.items() if name.endswith(f"_l{k}")}
    size = layer.hidden_size

    def normalised(a: Any, gain: Any) -> Any:
        rows = a.reshape(len(a), -1, size)
        return torch.nn.functional.layer_norm(rows, (size,)).reshape(a.shape) * gain

    wx, ru = x @ p["weight_ih"].T, h @ p["weight_hh"].T
    if getattr(layer, "layer_norm", False):
        wx, ru = normalised(wx, p["weight_norm_ih"]), normalised(ru, p["weight_norm_hh"])
    wx, ru = (wx + p["bias_ih"]).split(size, 1), (ru + p["bias_hh"]).split(size, 1)
    both = [a + b for a, b in zip(wx, ru, strict=True)]
    if isinstance(layer, fr.RNN):
        return [torch.tanh(both[0])]
    if isinstance(layer, fr.GRU):
        r, z = torch.sigmoid(both[0]), torch.sigmoid(both[1])
        return [(1 - z) * torch.tanh(wx[2] + r * ru[2]) + z * h]
    peep = p.get("weight_p", torch.zeros(3, size, dtype=torch.float64))
    i, f = torch.sigmoid(both[0] + peep[0] * c), torch.sigmoid(both[1] + peep[1] * c)
    c = f * c + i * torch.tanh(both[2])
    o = torch.sigmoid(both[3] + peep[2] * c)
    seen = c
    if layer.layer_norm:
        seen = normalised(c, p["weight_norm_c"]) + p["bias_norm_c"]
    m = o * torch.tanh(seen)
    return [m @ p["weight_hr"].T if layer.proj_size else m, c]


def torch_norms(layer: Any, x: Array, dy: Array, lengths: Array) -> list[Array]:
    """Norms (L, T, B) of the gradients of h, and of c, by autograd in a plain loop over steps."""
    torch = pytest.importorskip("torch")
    real = torch.tensor(np.arange(len(x))[:, None] < lengths)[..., None]
    rows: list[Any] = list(torch.tensor(x.astype(np.float64)).requires_grad_())
    kept: list[list[list[Any]]] = []
    for k in range(layer.num_layers):
        widths = layer.params[f"weight_hh_l{k}"].shape[1], layer.hidden_size
        h, c = (torch.zeros(x.shape[1], width, dtype=torch.float64) for width in widths)
        kept.append([])
        for t, row in enumerate(rows):
            new = torch_step(torch, layer, k, row, h, c)
            for a in new:
                a.retain_grad()
            kept[-1].append(new)
            h, c = (torch.where(real[t], a, old) for a, old in zip([*new, c], (h, c), strict=False))
        rows = [torch.where(real[t], new[0], 0.0) for t, new in enumerate(kept[-1])]
    weights = torch.tensor(dy.astype(np.float64))
    sum((a * weights[t]).sum() for t, a in enumerate(rows)).backward()
    return [
        np.array([[new[part].grad.norm(dim=1).numpy() for new in steps] for steps in kept])
        for part in range(len(kept[0][0]))
    ]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "cell", ["rnn_tanh", "lstm", "lstm_peephole", "lstm_projected", "lstm_norm", "gru", "gru_norm"]
)
def test_gradients_are_those_of_autograd(backend: Chosen, cell: str, dtype: str) -> None:
    """Of h in every layer of a stack, and of c of every kind of LSTM, which counts the way by h."""
    layer = make(cell, 5, 2, dtype=dtype, batch_first=True)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, 3, 3)).astype(dtype)
    lengths = np.array([7, 2, 5])
    dy = rng.standard_normal((7, 3, layer.params["weight_hh_l1"].shape[1])).astype(dtype)
    found = inspect.gradient_norms(layer, x.swapaxes(0, 1), dy.swapaxes(0, 1), lengths=lengths)
    assert fr.last_path().backend == backend.name
    expected = torch_norms(layer, x, dy, lengths)
    real = np.broadcast_to(np.arange(7)[:, None] < lengths, found.h.shape)
    bound = 1e-5 if dtype == "float32" else 1e-12
    assert (found.c is None) == (len(expected) == 1)
    for norms, right in zip(found, expected, strict=False):
        assert norms is not None
        np.testing.assert_allclose(norms[real], right[real], rtol=bound)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {}),
        ("lstm", {"zoneout": (0.3, 0.2)}),
        ("lstm_projected", {"zoneout": (0.3, 0.2)}),
        ("lstm_peephole", {"zoneout": (0.0, 0.2)}),
        ("lstm_coupled", {}),
        ("lstm_chosen", {}),
        ("lstm_chosen", {"clip": 1.0, "zoneout": 0.1}),
    ],
)
def test_gradients_of_c_follow_from_those_of_x(
    backend: Chosen, cell: str, options: dict[str, Any]
) -> None:
    """With W = 1 the gradient of x is that of the pre-activations, and da_g = dc * i * g'(a_g)."""
    hidden = 4
    layer = make(cell, hidden, inputs=4 * hidden, bidirectional=True, **options)
    with layer.writable() as p:
        for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
            p[name][:] = np.eye(4 * hidden)
    rng = np.random.default_rng(2)
    x, lengths = rng.standard_normal((6, 2, 4 * hidden)) / 2, np.array([6, 4])
    y, _, saved = layer.forward(x, lengths=lengths, noise=False)
    dy = rng.standard_normal(y.shape)
    half = y.shape[2] // 2
    found = inspect.gradient_norms(layer, x, dy, lengths=lengths).c
    assert fr.last_path().backend == backend.name
    assert found is not None
    for d in range(2):  # the gradient of x is the sum of both directions'
        own = dy.copy()
        own[..., half * (1 - d) : half * (2 - d)] = 0
        da = layer.backward(saved, own)[0][..., 2 * hidden : 3 * hidden]
        part = slice(d * hidden, (d + 1) * hidden)
        i, g = (saved.gates[0][name][..., part] for name in "ig")
        slope = (1 - np.abs(g)) ** 2 if cell == "lstm_chosen" else 1 - g**2
        for b, end in enumerate(lengths):
            usable = (slice(end), b)
            dc = da[usable] / (i[usable] * slope[usable])
            alive = (da[usable] != 0).all(axis=1)  # the gradient of a clipped value is 0
            assert alive.any()
            right = np.linalg.norm(dc, axis=1)
            np.testing.assert_allclose(found[d][usable][alive], right[alive], rtol=1e-9)


# --- gradient_norms: the rest -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_forms_of_a_loss(kind: Any) -> None:
    """An array, a function, a function that returns a Loss, and the last state: the same norms."""
    layer = kind(3, 4, 2, seed=0, dtype="float64", dropout=0.5)  # dropout is off
    x = np.random.default_rng(3).standard_normal((6, 2, 3))
    y = layer(x)[0]
    target = np.ones_like(y)
    loss = fr.nn.mse(y, target)
    right = inspect.gradient_norms(layer, x, loss.gradient)
    for dy in (loss, lambda y: fr.nn.mse(y, target), lambda y: fr.nn.mse(y, target).gradient):
        found = inspect.gradient_norms(layer, x, dy)
        assert all(np.array_equal(a, b) for a, b in zip(found, right, strict=True) if a is not None)

    last = np.zeros_like(y)
    last[-1] = 1
    dh = np.zeros((2, 2, 4))
    dh[1] = 1
    by_state = inspect.gradient_norms(layer, x, dstate=(dh, None) if kind is fr.LSTM else dh)
    np.testing.assert_allclose(by_state.h, inspect.gradient_norms(layer, x, last).h, rtol=1e-14)

    flat = inspect.gradient_norms(layer, x[:, 0], loss.gradient[:, 0])
    assert np.array_equal(flat.h, right.h[..., 0])
    assert (flat.c is None) == (kind is not fr.LSTM)


def test_tokens_and_empty_calls() -> None:
    layer = fr.GRU(5, 4, 2, bidirectional=True, seed=0)
    ids = np.array([[0, 4], [3, 1], [2, 2]])
    rows = np.eye(5, dtype=np.float32)[ids]

    def loss(y: Array) -> Array:
        return 2 * y

    for options in ({}, {"lengths": [3, 1]}):
        found = inspect.gradient_norms(layer, None, loss, tokens=ids, **options)
        right = inspect.gradient_norms(layer, rows, loss, **options)
        assert np.array_equal(found.h, right.h, equal_nan=True)
        products = inspect.jacobian_products(layer, tokens=ids, **options)
        right_products = inspect.jacobian_products(layer, rows, **options)
        assert np.array_equal(products, right_products, equal_nan=True)
    assert inspect.gradient_norms(layer, rows[:0], loss).h.shape == (4, 0, 2)
    assert inspect.gradient_norms(layer, rows[:, :0], loss).h.shape == (4, 3, 0)
    assert inspect.jacobian_products(layer, rows[:0]).shape == (4, 0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_full_lengths_are_no_lengths(kind: Any) -> None:
    """A reverse direction without lengths starts at the last step, in both layers of a stack."""
    layer = kind(3, 4, 2, bidirectional=True, seed=0)
    rng = np.random.default_rng(15)
    x, dy = rng.standard_normal((6, 2, 3)), rng.standard_normal((6, 2, 8))
    found, right = (
        [
            *inspect.gradient_norms(layer, x, dy, **options),
            inspect.jacobian_products(layer, x, **options),
            *inspect.states(layer, x, **options).h,
            *inspect.gate_trace(layer, x, **options).values(),
        ]
        for options in ({}, {"lengths": [6, 6]})
    )
    for a, b in zip(found, right, strict=True):
        assert a is b is None or np.array_equal(a, b)


def test_extreme_gradients_have_norms() -> None:
    """Squares of small float64 numbers would underflow; infinite gradients stay infinite."""
    layer = fr.RNN(1, 2, dtype="float64", nonlinearity="identity", seed=0)
    for scale, steps in ((1e-10, 25), (1e10, 40)):
        layer.params["weight_hh_l0"] = scale * np.eye(2)
        norms = inspect.gradient_norms(layer, np.zeros((steps, 1)), dstate=[[3.0, 4.0]]).h[0]
        expected = np.minimum(scale ** np.arange(min(steps, 30) - 1.0, -1, -1), np.inf) * 5
        np.testing.assert_allclose(norms[-len(expected) :], expected, rtol=1e-12)
    assert not np.isfinite(norms[0])


# --- Jacobians ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", SMOOTH)
def test_products_are_central_differences(backend: Chosen, cell: str) -> None:
    """Of the last state with respect to the state after a step, h and c together."""
    zoneout: Any = (0.2, 0.1) if cell.startswith("lstm") else 0.2
    layer = make(cell, bidirectional=True, zoneout=zoneout)
    rng = np.random.default_rng(4)
    x, lengths = rng.standard_normal((4, 2, 3)), np.array([3, 4])
    state = state_of(layer, 2, rng)
    found = inspect.jacobian_products(layer, x, state=state, lengths=lengths)
    assert fr.last_path().backend == backend.name
    assert found.shape == (2, 4, 2)
    assert np.isnan(found[:, 3, 0]).all()
    assert not np.isnan(found[:, 3, 1]).any()
    for d in range(2):
        of = Direction(layer, 0, d, None)
        widths = (of.out, of.size)[: len(names_of_states(layer))]
        for b, end in enumerate(lengths):
            rows = range(end) if d == 0 else range(end - 1, -1, -1)
            first = states_of(layer, state, 0, d, b, widths)
            for t in (0, 1, int(end) - 1):
                columns = []
                for part, width in enumerate(widths):
                    for unit in np.eye(width):
                        v = [
                            np.concatenate(
                                walk_of(of, x[:, b], first, rows, (t, part, s * STEP * unit))[1]
                            )
                            for s in (-2, -1, 1, 2)
                        ]
                        columns.append((v[0] - v[3] + 8 * (v[2] - v[1])) / (12 * STEP))
                right = np.linalg.norm(np.array(columns).T, 2)
                assert abs(found[d, t, b] - right) <= 1e-8 * max(1.0, right), (d, t, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_an_rnn_are_the_formula(dtype: str) -> None:
    """J_t = diag(1 - h_t^2) R (Pascanu et al. 2013); in a stack each layer has its own."""
    layer = fr.RNN(3, 5, 2, dtype=dtype, seed=1)
    x = np.random.default_rng(5).standard_normal((9, 3)).astype(dtype)
    found = inspect.jacobian_products(layer, x)
    h = inspect.states(layer, x).h
    for k in range(2):
        r, product = layer.params[f"weight_hh_l{k}"].astype(np.float64), np.eye(5)
        for t in range(8, -1, -1):
            bound = 1e-5 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(found[k, t], np.linalg.norm(product, 2), rtol=bound)
            product = product @ ((1 - h[k][t].astype(np.float64)[:, None] ** 2) * r)


@pytest.mark.parametrize("kind", KINDS)
def test_products_bound_gradients(kind: Any) -> None:
    """The gradient at step s is at most the norm of the product times the gradient at the end."""
    layer = kind(3, 5, dtype="float64", seed=2)
    x = np.random.default_rng(6).standard_normal((12, 2, 3))
    dstate: Any = np.random.default_rng(7).standard_normal((1, 2, 5))
    norms = inspect.gradient_norms(layer, x, dstate=(dstate, None) if kind is fr.LSTM else dstate)
    products = inspect.jacobian_products(layer, x)
    assert (norms.h[0] <= products[0] * np.linalg.norm(dstate[0], axis=1) * (1 + 1e-12)).all()
    assert (products[0, -1] == 1).all()


def test_infinite_products() -> None:
    layer = fr.RNN(1, 2, nonlinearity="identity", dtype="float64")
    layer.params["weight_hh_l0"] = 1e200 * np.eye(2)
    found = inspect.jacobian_products(layer, np.zeros((4, 1)))[0]
    assert found[2:].tolist() == [1e200, 1.0]
    assert not np.isfinite(found[:2]).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spectral_radius(dtype: str) -> None:
    """Of each gate, layer and direction; a rotation by 1/2 has complex eigenvalues."""
    lstm = fr.LSTM(3, 2, 2, bidirectional=True, dtype=dtype, seed=0)
    turn = np.array([[0.0, -0.5], [0.5, 0.0]])
    lstm.params["weight_hh_l1_reverse"] = np.concatenate([turn, 2 * turn, 3 * turn, 4 * turn])
    found = inspect.spectral_radius(lstm)
    names = [name for name in lstm.params if name.startswith("weight_hh")]
    assert list(found) == names
    np.testing.assert_allclose(list(found[names[-1]].values()), [0.5, 1, 1.5, 2], rtol=1e-6)
    assert list(found[names[0]]) == ["i", "f", "g", "o"]

    for kind in KINDS:
        layer = kind(3, [5, 4], 2, dtype=dtype, seed=0)
        for name, gates in inspect.spectral_radius(layer).items():
            blocks = np.split(layer.params[name].astype(np.float64), len(gates))
            for block, radius in zip(blocks, gates.values(), strict=True):
                right = max(abs(np.linalg.eigvals(block)))
                assert np.isclose(radius, right, rtol=1e-12)


def test_spectral_radius_with_a_projection() -> None:
    """The matrix from m = o tanh(c) to the gate has the eigenvalues of W_hr R, besides zeros."""
    lstm = fr.LSTM(3, 5, proj_size=2, seed=0, dtype="float64")
    found = inspect.spectral_radius(lstm)["weight_hh_l0"]
    for block, radius in zip(np.split(lstm.params["weight_hh_l0"], 4), found.values(), strict=True):
        right = max(abs(np.linalg.eigvals(lstm.params["weight_hr_l0"] @ block)))
        assert np.isclose(radius, right, rtol=1e-12)


# --- gates and states -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_layers(kind: Any, batch_first: bool) -> None:
    """The last layer's h is y; h and c at the ends are the state; inner layers' too."""
    layer = kind(3, [4, 5], 2, bidirectional=True, batch_first=batch_first, seed=0)
    rng = np.random.default_rng(8)
    x, lengths = rng.standard_normal((6, 3, 3)), np.array([6, 0, 4])
    state = state_of(layer, 3, rng)
    given = x.swapaxes(0, 1) if batch_first else x
    y, last, saved = layer.forward(given, state, lengths=lengths)
    y = y.swapaxes(0, 1) if batch_first else y
    h, c = inspect.states(layer, given, state=state, lengths=lengths)
    assert np.array_equal(np.concatenate(h[2:], axis=2), y)
    assert [a.shape for a in h] == [(6, 3, 4)] * 2 + [(6, 3, 5)] * 2
    parts = [h] if c is None else [h, c]
    for part, a in zip(parts, last if isinstance(last, tuple) else (last,), strict=True):
        for k in range(2):
            assert np.array_equal(part[2 * k][[5, 3], [0, 2]], a[k][0][[0, 2]])
            assert np.array_equal(part[2 * k + 1][0, [0, 2]], a[k][1][[0, 2]])
    for at in range(4):
        k, d = divmod(at, 2)
        size = (4, 5)[k]
        trace = inspect.gate_trace(layer, given, state=state, lengths=lengths, index=at - 4)
        assert np.array_equal(trace.pop("h"), h[at])
        right = {} if kind is fr.RNN else dict(saved.gates[k])
        if c is not None:
            assert np.array_equal(trace["c"], c[at])
            right["c"] = saved.cells[k]
        assert list(trace) == list(right)
        for name, a in right.items():
            a = a.swapaxes(0, 1) if batch_first else a
            assert np.array_equal(trace[name], a[..., d * size : (d + 1) * size]), name


def test_trace_of_a_text() -> None:
    lstm = fr.LSTM(128, 6, 2, seed=0)
    trace = inspect.gate_trace(lstm, tokens=list(b"the text"), index=0)
    assert {name: a.shape for name, a in trace.items()} == dict.fromkeys("ifgoch", (8, 6))
    assert np.allclose(trace["h"], trace["o"] * np.tanh(trace["c"]), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_saturation_counts(kind: Any) -> None:
    """Shares and histograms by plain counting, over real steps only, in both directions."""
    layer = kind(3, 5, 2, bidirectional=True, seed=0)
    with layer.writable() as p:
        for name in p:
            p[name] *= 4
    x, lengths = 2 * np.random.default_rng(9).standard_normal((8, 3, 3)), np.array([8, 1, 5])
    found = inspect.saturation(layer, x, lengths=lengths, near=0.05, bins=7)
    saved = layer.forward(x, lengths=lengths)[2]
    real = np.arange(8)[:, None] < lengths
    assert len(found) == 4
    for at, gates in enumerate(found):
        k, d = divmod(at, 2)
        assert list(gates) == list(saved.gates[k])
        for name, s in gates.items():
            values = saved.gates[k][name][..., 5 * d : 5 * d + 5][real].astype(np.float64)
            low, margin = (-1.0, 0.1) if name in "gna" else (0.0, 0.05)
            values = values.ravel()
            assert s.low == np.mean(values < low + margin)
            assert s.high == np.mean(values > 1 - margin)
            assert s.counts.sum() == values.size == 14 * 5
            assert (s.edges[0], s.edges[-1], len(s.edges)) == (low, 1.0, 8)
            inside = (values[:, None] >= s.edges[:-1]) & (values[:, None] < s.edges[1:])
            inside[:, -1] |= values == 1
            assert np.array_equal(inside.sum(axis=0), s.counts)
    assert any(s.low > 0 for s in found[0].values())
    assert any(s.high > 0 for s in found[0].values())
    nothing = inspect.saturation(layer, x, lengths=[0, 0, 0])[0]
    assert all(np.isnan(s.low) and not s.counts.any() for s in nothing.values())


def test_saturation_knows_the_range_of_an_activation() -> None:
    x = np.zeros((3, 2))
    lstm = fr.LSTM(2, 3, activations=("hard_sigmoid", ("scaled_tanh", 1.7, 0.6), "tanh"))
    ends = {name: tuple(s.edges[[0, -1]]) for name, s in inspect.saturation(lstm, x)[0].items()}
    assert ends == {"i": (0, 1), "f": (0, 1), "g": (-1.7, 1.7), "o": (0, 1)}
    gru = fr.GRU(2, 3, activations=("sigmoid", "softsign"))
    assert inspect.saturation(gru, x)[0]["n"].edges[0] == -1
    with pytest.raises(ValueError, match="layer: gate 'a' has the activation relu, which does not"):
        inspect.saturation(fr.RNN(2, 3, nonlinearity="relu"), x)
    with pytest.raises(ValueError, match="layer: gate 'n' has the activation softplus"):
        inspect.saturation(fr.GRU(2, 3, activations=("sigmoid", "softplus")), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_project(dtype: str) -> None:
    """The directions are eigenvectors of the covariance matrix, with a sign by rule."""
    rng = np.random.default_rng(10)
    a = (rng.standard_normal((9, 4, 6)) * [5, 1, 3, 0.1, 2, 0.5] + 7).astype(dtype)
    lengths = np.array([9, 0, 3, 5])
    real = np.arange(9)[:, None] < lengths
    a[~real] = np.nan  # padding is not read
    found = inspect.project(a, 3, lengths=lengths)
    rows = a[real].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    values, vectors = values[::-1], vectors[:, ::-1].T[:3]
    for component, right in zip(found.components, vectors, strict=True):
        assert np.isclose(abs(component @ right), 1, rtol=1e-10)
        assert component[np.abs(component).argmax()] > 0
    np.testing.assert_allclose(found.explained, values[:3] / values.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0))
    np.testing.assert_allclose(
        found.points[real], (rows - rows.mean(axis=0)) @ found.components.T, atol=1e-12
    )
    assert np.isnan(found.points[~real]).all()
    assert found.points.shape == (9, 4, 3)

    flat = inspect.project(rows)
    assert flat.points.shape == (17, 2)
    mirrored = inspect.project(-rows)  # the same directions
    np.testing.assert_allclose(mirrored.components, flat.components, atol=1e-12)
    equal = inspect.project(np.ones((4, 3)))
    assert not equal.points.any()
    assert equal.explained.tolist() == [0, 0]


# --- what is refused ------------------------------------------------------------------------------


def test_errors_name_the_argument() -> None:
    gru, x = fr.GRU(3, 4, seed=0), np.zeros((5, 2, 3))
    peep = fr.LSTM(3, 4, peepholes=True, clip=1.0)
    hard = fr.LSTM(3, 4, peepholes=True, activations=("hard_sigmoid", "tanh", "tanh"))
    dense: Any = fr.nn.Dense(3, 2)
    y = np.zeros((5, 2, 4))
    calls: tuple[tuple[Any, type[Exception], str], ...] = (
        (lambda: inspect.gradient_norms(dense, x, y), TypeError, "layer: expected fr.RNN.*Dense"),
        (lambda: inspect.spectral_radius(dense), TypeError, "layer: expected fr.RNN"),
        (lambda: inspect.jacobian_products(dense, x), TypeError, "layer: expected fr.RNN"),
        (lambda: inspect.states(dense, x), TypeError, "layer: expected fr.RNN"),
        (lambda: inspect.gate_trace(dense, x), TypeError, "layer: expected fr.RNN"),
        (lambda: inspect.saturation(dense, x), TypeError, "layer: expected fr.RNN"),
        (lambda: inspect.gradient_norms(gru, x), ValueError, "dy: expected the gradient.*neither"),
        (lambda: inspect.gradient_norms(gru, x, y[1:]), ValueError, r"dy: expected shape \(5, 2"),
        (lambda: inspect.gradient_norms(gru, x, lambda y: y[-1]), ValueError, "dy: expected shape"),
        (lambda: inspect.gradient_norms(gru, x, lambda y: None), TypeError, "dy: .* returns None"),
        (lambda: inspect.gradient_norms(gru, x, "mse"), TypeError, "dy: expected an array"),
        (lambda: inspect.gradient_norms(gru, x, dstate=y), ValueError, "dh_n: expected shape"),
        (lambda: inspect.gradient_norms(gru, x[..., 1:], y), ValueError, "x: expected shape"),
        (lambda: inspect.gradient_norms(peep, x, y), ValueError, "layer: .*peepholes under clip"),
        (lambda: inspect.gradient_norms(hard, x, y), ValueError, "layer: .*peepholes under clip"),
        (lambda: inspect.gradient_norms(gru, x, y, lengths=[6, 1]), ValueError, "lengths: "),
        (lambda: inspect.states(gru, x, state=y), ValueError, "h0: expected shape"),
        (lambda: inspect.states(gru), TypeError, "x"),
        (lambda: inspect.states(gru, tokens=[[3]]), ValueError, "tokens: "),
        (lambda: inspect.gate_trace(gru, x, index=1), ValueError, r"index: .* \[-1, 0\], got 1"),
        (lambda: inspect.gate_trace(gru, x, index=0.0), TypeError, "index: expected a whole"),  # type: ignore[arg-type]
        (lambda: inspect.saturation(gru, x, near=0.5), ValueError, "near: .* below 0.5, got 0.5"),
        (lambda: inspect.saturation(gru, x, near="1"), TypeError, "near: .* got str"),  # type: ignore[arg-type]
        (lambda: inspect.saturation(gru, x, bins=0), ValueError, "bins: .* at least 1, got 0"),
        (lambda: inspect.project("x"), TypeError, "states: expected an array"),
        (lambda: inspect.project(y[0, 0]), ValueError, r"states: expected shape .* \(4,\)"),
        (lambda: inspect.project(y, 5), ValueError, r"k: .* in \[1, 4\], got 5"),
        (lambda: inspect.project(y, True), TypeError, "k: .* got bool"),
        (lambda: inspect.project(np.full((3, 2), np.nan)), ValueError, "states: expected finite"),
        (lambda: inspect.project(y, lengths=[1]), ValueError, r"lengths: expected shape \(2,\)"),
        (lambda: inspect.project(y, lengths=[1, 6]), ValueError, r"lengths: .* \[0, 5\]"),
        (lambda: inspect.project(y, lengths=[1.0, 2.0]), TypeError, "lengths: expected integers"),
        (lambda: inspect.project(y, lengths=[1, 0]), ValueError, r"k: .* in \[1, 1\]"),
    )
    for call, kind, text in calls:
        with pytest.raises(kind, match=text):
            call()


def test_nothing_of_the_layer_changes() -> None:
    layer = fr.LSTM(3, 4, 2, bidirectional=True, seed=0)
    x = np.random.default_rng(11).standard_normal((5, 2, 3))
    before, y = layer.state_dict(), layer(x)[0]
    inspect.gradient_norms(layer, x, lambda y: y)
    inspect.jacobian_products(layer, x)
    inspect.saturation(layer, x)
    assert all(np.array_equal(a, layer.params[name]) for name, a in before.items())
    assert np.array_equal(layer(x)[0], y)


# --- plots ----------------------------------------------------------------------------------------


@pytest.fixture
def plt() -> Any:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


def legend_of(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks_of(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(figure: Any) -> Any:
    """The figure after it was really drawn, with no warning about its layout or fonts."""
    figure.canvas.draw()
    return figure


def test_plot_of_gradient_norms(plt: Any) -> None:
    x = np.random.default_rng(12).standard_normal((9, 2, 3))
    lstm = fr.LSTM(3, 4, 2, seed=0)
    norms = inspect.gradient_norms(lstm, x, lambda y: y, lengths=[9, 4])
    (ax,) = drawn(inspect.plot.gradient_norms(norms)).axes
    assert ax.get_yscale() == "log"
    assert legend_of(ax) == ["layer 0", "layer 1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "time step t",
        r"norm of $\partial L/\partial h_t$",
    )
    for k, line in enumerate(ax.get_lines()):
        mean = np.array([*norms.h[k, :4].mean(axis=1), *norms.h[k, 4:, 0]])  # of those that go on
        np.testing.assert_allclose(line.get_ydata(), mean)
        assert line.get_xdata().tolist() == list(range(9))

    (ax,) = drawn(inspect.plot.gradient_norms(norms, cells=True)).axes
    assert ax.get_ylabel() == r"norm of $\partial L/\partial c_t$"
    assert np.isclose(ax.get_lines()[1].get_ydata()[-1], norms.c[1, -1, 0])  # type: ignore[index]

    single = inspect.gradient_norms(fr.RNN(3, 4, seed=0), x[:, 0], lambda y: y)
    products = inspect.jacobian_products(lstm, x)
    own = plt.figure().add_subplot()
    named = {"RNN": single, "LSTM": norms, "products": products, "curve": [1.0, 0.0, np.inf]}
    figure = inspect.plot.gradient_norms(named, ax=own)
    assert figure is own.figure
    assert drawn(figure).axes == [own]
    names = ["RNN", "LSTM 0", "LSTM 1", "products 0", "products 1", "curve"]
    assert legend_of(own) == names
    assert np.isnan(own.get_lines()[-1].get_ydata()).tolist() == [False, True, True]
    (ax,) = inspect.plot.gradient_norms({"RNN": products[0]}).axes
    assert ax.get_ylabel() == "norm"


def test_plot_of_gates(plt: Any) -> None:
    lstm = fr.LSTM(128, 6, seed=0)
    text = "a cat$\n"
    trace = inspect.gate_trace(lstm, tokens=list(text.encode()))
    figure = drawn(inspect.plot.gates(trace, text))
    axes = [ax for ax in figure.axes if ax.get_images()]
    assert len(figure.axes) == 2 * len(axes) == 12  # each has a colour bar
    titles = ["input gate i", "forget gate f", "candidate g", "output gate o"]
    titles += ["cell state c", "hidden state h"]
    assert [ax.get_title(loc="left") for ax in axes] == titles
    for ax, (name, a) in zip(axes, trace.items(), strict=True):
        (image,) = ax.get_images()
        assert np.array_equal(image.get_array(), a.T.astype(np.float64))
        top = 1.0 if name in "ifo" else float(np.abs(a).max())
        assert image.get_clim() == (0.0 if name in "ifo" else -top, top)
    assert ticks_of(axes[-1].xaxis) == ["a", "␣", "c", "a", "t", r"\$", "\\n"]

    zeros = np.zeros((100, 3))
    years = [str(1900 + t) for t in range(100)]
    own = plt.figure().subplots(2)
    figure = drawn(inspect.plot.gates({"z": zeros, "h": zeros}, years, ax=own))
    assert figure is own[0].figure
    assert ticks_of(own[1].xaxis) == years[::2]
    (ax, _) = drawn(inspect.plot.gates({"z": zeros})).axes
    assert ax.get_xlabel() == "time step t"


def test_plot_of_saturation(plt: Any) -> None:
    layer = fr.GRU(3, 4, seed=0)
    found = inspect.saturation(layer, np.ones((30, 3)), bins=8)[0]
    figure = drawn(inspect.plot.saturation(found))
    assert len(figure.axes) == 3
    for ax, (name, s) in zip(figure.axes, found.items(), strict=True):
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, 100 * s.counts / s.counts.sum())
        assert ax.get_xlim() == (s.edges[0], 1)
        ends = f"{s.low:.0%} near {'-1' if name == 'n' else '0'}, {s.high:.0%} near 1"
        assert ax.get_title(loc="left").endswith(ends)
    own = plt.figure().add_subplot()
    one = {"z": inspect.saturation(layer, np.ones((0, 3)))[0]["z"]}  # no values
    assert inspect.plot.saturation(one, ax=own) is own.figure


def test_plot_of_a_projection(plt: Any) -> None:
    h = inspect.states(fr.GRU(3, 4, seed=0), np.random.default_rng(13).random((7, 2, 3))).h[0]
    found = inspect.project(h)
    ax, bar = drawn(inspect.plot.projection(found, line=True)).axes
    points = ax.collections[0]
    assert np.array_equal(points.get_offsets(), found.points.reshape(14, 2))
    assert points.get_array().tolist() == np.repeat(np.arange(7), 2).tolist()
    assert bar.get_ylabel() == "time step t"
    assert [line.get_xydata().tolist() for line in ax.get_lines()] == [
        found.points[:, b].tolist() for b in range(2)
    ]
    assert ax.get_xlabel() == f"first component ({found.explained[0]:.0%} of the variance)"
    assert ax.get_ylabel().startswith("second component (")

    flat, names = found.points[:, 0], ["up", "down", "up", "$", "$", "up", "up"]
    own = plt.figure().add_subplot()
    assert drawn(inspect.plot.projection(flat, names, line=True, ax=own)) is own.figure
    assert legend_of(own) == ["up", "down", r"\$"]
    assert [len(one.get_offsets()) for one in own.collections] == [4, 1, 2]
    assert len(own.get_lines()) == 1
    assert own.get_xlabel() == "first component"


def test_plot_of_losses_and_of_attention(plt: Any) -> None:
    (ax,) = drawn(inspect.plot.losses({"train": [3.0, 2.0, 1.0], "test": [2.5]}, log=True)).axes
    assert legend_of(ax) == ["train", "test"]
    assert [line.get_xdata().tolist() for line in ax.get_lines()] == [[1, 2, 3], [1]]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "log")
    own = plt.figure().add_subplot()
    assert inspect.plot.losses({"a": [1.0]}, unit="update", ax=own) is own.figure
    assert own.get_xlabel() == "update"

    look = fr.nn.Attention("dot")
    rng = np.random.default_rng(14)
    _, weights = look(rng.random((2, 3, 4)), keys := rng.random((5, 3, 4)), keys)
    ax, bar = drawn(inspect.plot.attention(weights[:, 1], "ab", "1 345")).axes
    (image,) = ax.get_images()
    assert np.array_equal(image.get_array(), weights[:, 1])
    assert image.get_clim() == (0, 1)
    assert ticks_of(ax.yaxis) == ["a", "b"]
    assert ticks_of(ax.xaxis) == ["1", "␣", "3", "4", "5"]
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("key", "query", "weight")


def test_plots_refuse_by_name(plt: Any) -> None:
    plot: Any = inspect.plot
    norms = inspect.gradient_norms(fr.GRU(2, 3, seed=0), np.zeros((4, 2)), lambda y: y)
    gates = {"z": np.zeros((4, 3))}
    calls: tuple[tuple[Any, type[Exception], str], ...] = (
        (lambda: plot.gradient_norms({}), ValueError, "norms: .* got an empty one"),
        (lambda: plot.gradient_norms(norms.h), TypeError, "norms: .* got ndarray"),
        (lambda: plot.gradient_norms(norms, cells=True), ValueError, "norms: has no cell states"),
        (lambda: plot.gradient_norms({"a": 3}), ValueError, r"norms\['a'\]: expected shape"),
        (lambda: plot.gates([]), TypeError, "trace: .* got list"),
        (lambda: plot.gates({"z": np.zeros(3)}), ValueError, r"trace\['z'\]: expected shape"),
        (
            lambda: plot.gates(gates | {"r": np.zeros((5, 3))}),
            ValueError,
            r"trace\['r'\]: expected 4 steps, got 5",
        ),
        (lambda: plot.gates(gates, "abc"), ValueError, "labels: expected 4, .* got 3"),
        (lambda: plot.gates(gates, 4), TypeError, "labels: expected a sequence, got int"),
        (lambda: plot.gates(gates, ax=[1, 2]), ValueError, "ax: expected 1, .* got 2"),
        (lambda: plot.saturation({"z": 1}), TypeError, r"found\['z'\]: .* got int"),
        (lambda: plot.projection(np.zeros((3, 1))), ValueError, r"points: .* got \(3, 1\)"),
        (lambda: plot.projection(np.zeros((3, 2)), [1]), ValueError, r"colours: .* \(3,\), got"),
        (lambda: plot.losses({"a": ["x"]}), TypeError, r"curves\['a'\]: expected an array"),
        (lambda: plot.losses([1.0]), TypeError, "curves: .* got list"),
        (lambda: plot.attention(np.zeros((2, 3, 4))), ValueError, "weights: .* of one sequence"),
        (lambda: plot.attention(np.eye(2), keys="abc"), ValueError, "keys: expected 2, .* got 3"),
        (lambda: plot.attention(np.eye(2), "abc"), ValueError, "queries: expected 2, .* got 3"),
    )
    for call, kind, text in calls:
        with pytest.raises(kind, match=text):
            call()
    assert not plt.get_fignums()  # nothing was opened


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; the arrays do not need it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    inspect.states(fr.GRU(2, 3, seed=0), np.zeros((4, 2)))
    with pytest.raises(ImportError, match=r"pip install 'fusedrnn\[plot\]'"):
        inspect.plot.losses({"a": [1.0]})
    extras = (ROOT / "pyproject.toml").read_text()
    assert '\nplot = ["matplotlib>=' in extras
