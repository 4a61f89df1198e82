"""Per-sample weight gradients: those of every sequence separately."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import Chosen
from layer_cases import CELLS, arguments, arrays_of, given_of, kernel, like, make, same
from layer_oracle import parts
from test_inside import ALL, NOISE, layer_of

T, B = 5, 4


@pytest.mark.parametrize("rows", ["whole", "lengths", "mask"])
@pytest.mark.parametrize("cell", ALL)
def test_per_sample(backend: Chosen, cell: str, rows: str) -> None:
    """[O4] Each is the gradient of a call on that sequence within 1e-13; the sum is the whole."""
    layer = layer_of(cell, bidirectional=True)
    draw = np.random.default_rng(7)
    g = given_of(layer, T, B, draw, rows=rows, reset=True, initial=True)
    how = {"masked_output": "repeat" if rows == "mask" else "zero"}
    y, last, saved = layer.forward(**arguments(layer, g), **how)
    dy, dlast = like(y, draw), like(last, draw)
    inner = saved.cells[0] is not None
    dcells = [like(a, draw) for a in saved.cells] if inner else None
    dgates = [{name: like(a, draw) for name, a in gates.items()} for gates in saved.gates]
    more = {"dcells": dcells, "dgates": dgates}
    dx, dfirst, each = layer.backward(saved, dy, dlast, per_sample=True, **more)
    backend.ran(kernel(layer))
    right = layer.backward(saved, dy, dlast, **more)
    assert same(dx, right[0])
    assert all(map(same, arrays_of(dfirst), arrays_of(right[1])))
    for name, a in right[2].items():
        assert each[name].shape == (B, *a.shape)
        bound = 1e-13 * max(1.0, float(np.abs(a).max()))
        assert np.abs(each[name].sum(axis=0) - a).max() <= bound, name
    for b in range(B):
        at = slice(b, b + 1)
        alone = {
            "x": g.x[:, at],
            "state": cut(g.state, at),
            "lengths": None if g.lengths is None else g.lengths[at],
            "mask": None if g.mask is None else g.mask[:, at],
            "reset": None if g.reset is None else g.reset[:, at],
            "initial": cut(g.initial, at),
        }
        _, _, saved_b = layer.forward(**alone, **how)
        dcells_b = None if dcells is None else [a[:, at] for a in dcells]
        dgates_b = [{name: a[:, at] for name, a in gates.items()} for gates in dgates]
        one = layer.backward(saved_b, dy[:, at], cut(dlast, at), dcells=dcells_b, dgates=dgates_b)[
            2
        ]
        for name, a in one.items():
            bound = 1e-13 * max(1.0, float(np.abs(a).max()))
            assert np.abs(each[name][b] - a).max() <= bound, (name, b)


def cut(state: Any, at: slice) -> Any:
    found = tuple(part[:, at] for part in parts(state))
    return found if len(found) > 1 else found[0]


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_projected", "gru"])
def test_per_sample_with_noise(backend: Chosen, cell: str) -> None:
    """[O4] [D5] They add up under every noise too, with tokens, and without any sequence."""
    layer = layer_of(cell, bidirectional=True, zoneout=0.2, batch_first=True, **NOISE)
    ids = np.random.default_rng(8).integers(0, 3, (B, T))
    for call in (
        {"tokens": ids},
        {"x": np.eye(3)[ids]},
        {"tokens": ids[:0]},
        {"tokens": ids[:, :0]},
    ):
        y, _, saved = layer.forward(**call, rng=np.random.default_rng(1))
        each, whole = (layer.backward(saved, y + 1, per_sample=p)[2] for p in (True, False))
        backend.ran(kernel(layer))
        assert list(each) == list(whole)
        for name, a in whole.items():
            assert each[name].shape == (len(y), *a.shape)
            assert each[name].dtype == a.dtype
            bound = 1e-13 * max(1.0, float(np.abs(a).max()))
            assert np.abs(each[name].sum(axis=0) - a).max() <= bound, name


def test_per_sample_bits(native: Chosen) -> None:
    """[O4] [O5] A sequence's gradient has the bits of a call on it alone."""
    for cell in CELLS:
        layer = make(cell, 18, dtype=np.float32, bidirectional=True)
        g = given_of(layer, 9, 5, np.random.default_rng(9), rows="lengths")
        y, _, saved = layer.forward(**arguments(layer, g))
        each = layer.backward(saved, y, per_sample=True)[2]
        native.ran(kernel(layer))
        for b in range(5):
            n = g.lengths[b]
            y_b, _, saved_b = layer.forward(g.x[:n, b : b + 1], cut(g.state, slice(b, b + 1)))
            for name, a in layer.backward(saved_b, y_b)[2].items():
                assert same(each[name][b], a), (cell, name, b)
