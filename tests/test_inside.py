"""Cell states and gates as outputs of a call, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn._cells import Array
from layer_cases import (
    CELLS,
    arguments,
    arrays_of,
    check_differences,
    given_of,
    kernel,
    like,
    make,
    named,
    same,
    turned,
    weighted,
)
from layer_oracle import parts, run, valid_steps

T, B = 5, 4
MORE: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm_clipped": (fr.LSTM, {"clip": 0.4, "coupled": True, "proj_size": 2}),
    "gru_clipped": (fr.GRU, {"clip": 0.4, "activations": ("hard_sigmoid", "leaky_relu")}),
    "rnn_clipped": (fr.RNN, {"clip": 0.4}),
}
ALL = [*CELLS, *MORE]
SMOOTH = [name for name in CELLS if name != "rnn_relu"]
NOISE = {"dropout": 0.3, "input_dropout": 0.2, "recurrent_dropout": 0.3, "drop_connect": 0.2}


def layer_of(cell: str, hidden: Any = 4, layers: int = 2, **options: Any) -> Any:
    if cell in CELLS:
        own = {"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}
        return make(cell, hidden, layers, **(own | options))
    kind, own = MORE[cell]
    return kind(3, hidden, layers, dtype=np.float64, seed=0, **(own | options))


@pytest.mark.parametrize("rows", ["whole", "lengths", "mask"])
@pytest.mark.parametrize("cell", ALL)
def test_values(backend: Chosen, cell: str, rows: str) -> None:
    """[O1] [O2] Every c and gate of every layer is right within 1e-13, and 0 at steps not real."""
    for options in (
        {"batch_first": True, "zoneout": 0.2},
        {"bidirectional": True, "hidden": [4, 9, 3], "layers": 3, **NOISE},
    ):
        layer = layer_of(cell, **options)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        g = given_of(layer, T, B, rng, rows=rows, reset=True, initial=True)
        saved = layer.forward(**arguments(layer, g), rng=np.random.default_rng(1))[2]
        backend.ran(kernel(layer))
        masks = [kept.drawn for kept in saved._kept]
        right = run(layer, g, masks=None if masks[0] is None else masks)
        assert len(saved.cells) == len(saved.gates) == layer.num_layers
        for found, expected in zip(saved.cells, right.cells, strict=True):
            assert (found is None) == (expected is None)
            if found is not None:
                check_values(turned(layer, found), expected, valid_steps(g))
        for gates, expected_gates in zip(saved.gates, right.gates, strict=True):
            assert list(gates) == list(expected_gates)
            for name, a in gates.items():
                check_values(turned(layer, a), expected_gates[name], valid_steps(g))


def check_values(found: Array, right: Array, valid: Array) -> None:
    assert found.shape == right.shape
    assert np.abs(found - right).max() <= 1e-13
    assert not found[~valid].any()


@pytest.mark.parametrize("cell", ALL)
def test_without_a_batch_axis(backend: Chosen, cell: str) -> None:
    """[O1] Cells and gates, and their gradients, then have no batch axis either."""
    layer = layer_of(cell, bidirectional=True, batch_first=True)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((T, 3))
    wide, flat = layer.forward(x[None])[2], layer.forward(x)[2]
    backend.ran(kernel(layer))
    dgates = [{name: like(a, rng) for name, a in gates.items()} for gates in flat.gates]
    dcells = [None if a is None else like(a, rng) for a in flat.cells]
    for a, b in zip(inside(flat), inside(wide), strict=True):
        assert same(a, b[0])
    dcells = dcells if dcells[0] is not None else None
    found = named(layer.backward(flat, dcells=dcells, dgates=dgates))
    right = named(
        layer.backward(
            wide,
            dcells=None if dcells is None else [a[None] for a in dcells],
            dgates=[{name: a[None] for name, a in gates.items()} for gates in dgates],
        )
    )
    assert same(found.pop("x"), right.pop("x")[0])
    for name, a in found.items():
        assert same(a, right[name][:, 0] if name.startswith("state") else right[name]), name


def inside(saved: Any) -> list[Array]:
    """Cells and gates in one list."""
    found = [a for a in saved.cells if a is not None]
    return found + [a for gates in saved.gates for a in gates.values()]


@pytest.mark.parametrize("cell", [name for name in CELLS if name.startswith(("lstm", "gru"))])
def test_recomposition(backend: Chosen, cell: str) -> None:
    """[O1] The outputs follow from cells and gates: h' = o*h(c'), c' = f*c + i*g, (1-z)*n + z*h."""
    layer = layer_of(cell, layers=1)
    g = given_of(layer, T, B, np.random.default_rng(3))
    y, _, saved = layer.forward(**arguments(layer, g))
    backend.ran(kernel(layer))
    gates, before = saved.gates[0], np.concatenate([parts(g.state)[0], y[:-1]])
    if cell.startswith("gru"):
        expected = (1 - gates["z"]) * gates["n"] + gates["z"] * before
        assert np.abs(expected - y).max() <= 1e-15
        return
    c = saved.cells[0]
    old = np.concatenate([parts(g.state)[1], c[:-1]])
    assert np.abs(gates["f"] * old + gates["i"] * gates["g"] - c).max() <= 1e-15
    if layer.coupled:
        assert np.abs(gates["f"] - (1 - gates["i"])).max() <= 1e-16
    if layer.layer_norm:
        centred = c - c.mean(axis=2, keepdims=True)
        seen = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
        seen = layer.params["weight_norm_c_l0"] * seen + layer.params["bias_norm_c_l0"]
    else:
        seen = c
    top = 1.1 * np.tanh(0.9 * seen) if cell == "lstm_chosen" else np.tanh(seen)
    h = gates["o"] * top
    h = h @ layer.params["weight_hr_l0"].T if layer.proj_size else h
    assert np.abs(h - y).max() <= (2e-14 if layer.layer_norm else 1e-15)


@pytest.mark.parametrize("rows", ["whole", "mask"])
@pytest.mark.parametrize("cell", SMOOTH)
def test_gradients(backend: Chosen, cell: str, rows: str) -> None:
    """[O3] The loss reads cells and gates of both layers, y and the last state, with noise."""
    noise: dict[str, Any] = NOISE | {"zoneout": 0.2} if rows == "mask" else {}
    layer = layer_of(cell, 3, bidirectional=True, batch_first=rows == "mask", **noise)
    draw = np.random.default_rng(4)
    g = given_of(layer, 4, 3, draw, rows=rows, reset=True, initial=True)
    call = arguments(layer, g)

    def forward() -> Any:
        return layer.forward(**call, rng=np.random.default_rng(1))

    y, last, saved = forward()
    dy, dlast = like(y, draw), like(last, draw)
    some = set(list(saved.gates[1])[:2])  # the gradients of the others are absent
    dgates = [
        {name: like(a, draw) for name, a in gates.items() if k == 0 or name in some}
        for k, gates in enumerate(saved.gates)
    ]
    dcells = None if saved.cells[0] is None else [like(a, draw) for a in saved.cells]
    gradients = named(layer.backward(saved, dy, dlast, dcells=dcells, dgates=dgates))
    backend.ran(kernel(layer))

    def loss() -> float:
        y, last, saved = forward()
        total = weighted([y, *arrays_of(last)], [dy, *arrays_of(dlast)])
        if dcells is not None:
            total += weighted(saved.cells, dcells)
        for gates, d in zip(saved.gates, dgates, strict=True):
            total += weighted([gates[name] for name in d], list(d.values()))
        return total

    arrays = {"x": call["x"]}
    arrays |= {f"state {k}": a for k, a in enumerate(arrays_of(g.state))}
    check_differences(layer, loss, arrays, gradients, elements=3)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_coupled", "gru_before_chosen"])
def test_absent_gradients_are_zeros(backend: Chosen, cell: str) -> None:
    """[O3] A gradient is absent if it is None for a layer, if a gate is left out, or altogether."""
    layer = layer_of(cell, bidirectional=True)
    g = given_of(layer, T, B, np.random.default_rng(5))
    y, _, saved = layer.forward(**arguments(layer, g))
    right = named(layer.backward(saved, y))
    backend.ran(kernel(layer))
    zeros = [{name: np.zeros_like(a) for name, a in gates.items()} for gates in saved.gates]
    options: list[dict[str, Any]] = [{"dgates": zeros}, {"dgates": [None, {}]}, {"dgates": None}]
    if saved.cells[0] is not None:
        options += [{"dcells": [None, np.zeros_like(saved.cells[1])]}, {"dcells": [None, None]}]
    for option in options:
        found = named(layer.backward(saved, y, **option))
        assert all(same(a, right[name]) for name, a in found.items())
    poisoned = [{name: a + 1 for name, a in gates.items()} for gates in zeros]
    assert not same(layer.backward(saved, y, dgates=poisoned)[0], right["x"])


def test_what_is_shown_is_the_callers(backend: Chosen) -> None:
    """[G9] Cells and gates are copies: writing to them changes no gradient."""
    for cell in ("lstm", "gru", "rnn_chosen"):
        layer = layer_of(cell, layers=1)
        g = given_of(layer, T, B, np.random.default_rng(6))
        # Without a batch axis nothing is laid out anew, so only an explicit copy helps.
        x = g.x[:, 0] if cell == "lstm" else None
        y, _, saved = layer.forward(x) if x is not None else layer.forward(**arguments(layer, g))
        right = named(layer.backward(saved, y))
        backend.ran(kernel(layer))
        for a in inside(saved):
            a[...] = np.nan
        found = named(layer.backward(saved, y))
        assert all(same(a, right[name]) for name, a in found.items())
