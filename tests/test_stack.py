"""Stacks and directions: torch's numbers, and the bits of calls with one layer and direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PATHS, Chosen, choose
from layer_cases import (
    CELLS,
    arguments,
    arrays_of,
    given_of,
    kernel,
    layer_state,
    like,
    make,
    named,
    one_layer,
    same,
    same_states,
    state_of,
)
from layer_oracle import parts

T, B, I = 7, 6, 4  # noqa: E741


@pytest.mark.parametrize("hidden", [(5, 5), (6, 3, 4)], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_chained_by_hand(
    backend: Chosen, cell: str, bidirectional: bool, hidden: tuple[int, ...]
) -> None:
    """[S8] [S9] A stack has the bits of its layers called one after the other, backward too."""
    size: Any = 5 if len(set(hidden)) == 1 else list(hidden)
    proj = {"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}
    layer = make(cell, size, len(hidden), bidirectional=bidirectional, dtype=np.float32, **proj)
    rng = np.random.default_rng(0)
    g = given_of(layer, T, B, rng, rows="lengths", reset=True, initial=True)
    extra = {"lengths": g.lengths, "reset": g.reset}
    y, state, saved = layer.forward(**arguments(layer, g))
    backend.ran(kernel(layer))
    dy, dstate = like(y, rng), like(state, rng)
    found = named(layer.backward(saved, dy, dstate))
    singles = [one_layer(layer, k) for k in range(len(hidden))]
    x, kept, lasts = g.x, [], []
    for k, one in enumerate(singles):
        first, cut = (layer_state(layer, a, k) for a in (g.state, g.initial))
        x, last, one_saved = one.forward(x, first, initial=cut, **extra)
        kept.append(one_saved)
        lasts.append(last)
    assert same(x, y)
    for k, last in enumerate(lasts):
        assert same_states(last, layer_state(layer, state, k))
    down = dy
    for k in reversed(range(len(singles))):
        down, dfirst, dparams = singles[k].backward(kept[k], down, layer_state(layer, dstate, k))
        dstates = layer.backward(saved, dy, dstate)[1]
        assert same_states(dfirst, layer_state(layer, dstates, k))
        for name, a in dparams.items():
            assert same(found.pop(name.replace("_l0", f"_l{k}")), a), name
    assert same(found.pop("x"), down)
    assert all(name.startswith("state") for name in found)


@pytest.mark.parametrize("cell", CELLS)
def test_two_directions(backend: Chosen, cell: str) -> None:
    """[S9] Two directions equal a forward and a flipped run; dx is their sum, by one addition."""
    layer = make(cell, bidirectional=True, dtype=np.float32)
    rng = np.random.default_rng(1)
    g = given_of(layer, T, B, rng)
    y, state, saved = layer.forward(**arguments(layer, g))
    backend.ran(kernel(layer))
    dy, dstate = like(y, rng), like(state, rng)
    dx, dfirst, dparams = layer.backward(saved, dy, dstate)
    width, sums = y.shape[2] // 2, []
    for d, end in enumerate(("", "_reverse")):
        one = one_layer(layer, 0, (end,))
        turn = slice(None, None, -1 if d else 1)
        pick = [tuple(p[d : d + 1] for p in parts(s)) for s in (g.state, state, dstate, dfirst)]
        first, last, dlast, dpart = ((p if len(p) > 1 else p[0]) for p in pick)
        half = slice(d * width, (d + 1) * width)
        y_one, last_one, saved_one = one.forward(g.x[turn], first)
        assert same(y_one[turn], y[..., half])
        assert same_states(last_one, last)
        if d:  # the last state of the reverse direction is its half of y[0]
            assert same(parts(state)[0][1], y[0, :, half])
        dx_one, dfirst_one, dparams_one = one.backward(saved_one, dy[turn, :, half], dlast)
        sums.append(dx_one[turn])
        assert same_states(dfirst_one, dpart)
        for name, a in dparams_one.items():
            assert same(dparams[name + end], a), name
    assert same(dx, sums[0] + sums[1])


def test_state_layout(backend: Chosen) -> None:
    """[S8] The index is layer * D + direction; c has size H; different sizes give lists."""
    layer = make("lstm_projected", 5, 3, bidirectional=True)
    y, (h, c) = layer(np.ones((T, B, 3)))
    assert (y.shape, h.shape, c.shape) == ((T, B, 6), (6, B, 3), (6, B, 5))
    assert same(h[4], y[-1, :, :3])
    assert same(h[5], y[0, :, 3:])
    wide = make("lstm_projected", [5, 4, 7], bidirectional=True)
    y, (h, c) = wide(np.ones((T, B, 3)))
    assert wide.num_layers == 3
    assert [a.shape for a in h] == [(2, B, 3)] * 3
    assert [a.shape for a in c] == [(2, B, 5), (2, B, 4), (2, B, 7)]
    assert same(h[2][1], y[0, :, 3:])
    flat, (h, c) = wide(np.ones((T, 3)))
    assert (flat.shape, h[1].shape, c[1].shape) == ((T, 6), (2, 3), (2, 4))
    single = make("gru", [5])
    assert isinstance(single(np.ones((T, 3)))[1], list)


@pytest.mark.parametrize("cell", CELLS)
def test_metamorphic_bits(native: Chosen, cell: str) -> None:
    """[N1.1] [N1.4] The bits do not depend on the batch, on the place in it, or on saving."""
    for dtype, bidirectional in ((np.float32, True), (np.float64, False)):
        layer = make(cell, 18, 2, bidirectional=bidirectional, dtype=dtype, inputs=I)
        rng = np.random.default_rng(2)
        g = given_of(layer, T, 9, rng)
        y, state, saved = layer.forward(**arguments(layer, g))
        native.ran(kernel(layer))
        dy, dstate = like(y, rng), like(state, rng)
        right = named(layer.backward(saved, dy, dstate))
        plain, last = layer(**arguments(layer, g))
        assert same(plain, y)
        assert same_states(last, state)
        order = rng.permutation(9)
        for rows in (order, [3], np.arange(4, 9)):
            part = lambda s, rows=rows: tuple(p[:, rows] for p in parts(s))  # noqa: E731
            one = lambda s: s if len(s) > 1 else s[0]  # noqa: E731
            y_rows, last, kept = layer.forward(g.x[:, rows], one(part(g.state)))
            assert same(y_rows, y[:, rows])
            assert same_states(last, one(part(state)))
            dx, dfirst, _ = layer.backward(kept, dy[:, rows], one(part(dstate)))
            assert same(dx, right["x"][:, rows])
            for k, a in enumerate(arrays_of(dfirst)):
                assert same(a, right[f"state {k}"][:, rows])


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_chosen", "gru_before_chosen"])
def test_threads(native: Chosen, cell: str) -> None:
    """[N1.2] Two layers, two directions, a mask and noise, with enough work for seven threads."""
    noise = {"dropout": 0.2, "input_dropout": 0.2, "recurrent_dropout": 0.2, "zoneout": 0.1}
    layer = make(cell, 65, 2, inputs=40, bidirectional=True, dtype=np.float32, **noise)
    g = given_of(layer, 30 if cell == "rnn_tanh" else 12, 45, np.random.default_rng(9))
    g.mask = np.random.default_rng(8).random(g.x.shape[:2]) < 0.9
    found: dict[int, Any] = {}
    for threads in (1, 2, 3, 4, 7):
        rng = np.random.default_rng(7)
        y, last, saved = layer.forward(**arguments(layer, g), rng=rng, num_threads=threads)
        native.ran(kernel(layer), threads)
        dy, dlast = like(y, rng), like(last, rng)
        back = named(layer.backward(saved, dy, dlast, num_threads=threads))
        native.ran(kernel(layer), threads)
        back |= {"y": y} | {f"last {k}": a for k, a in enumerate(arrays_of(last))}
        found[threads] = back
    for threads, one in found.items():
        assert all(same(a, found[1][name]) for name, a in one.items()), threads


@pytest.mark.parametrize("hidden", [5, [6, 3, 4]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_prefixes_and_streams(backend: Chosen, cell: str, hidden: Any) -> None:
    """[N1.3] Chunks with carried state, and chunks and steps of a stream, have one call's bits."""
    proj = {"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}
    layer = make(cell, hidden, 3, dtype=np.float32, zoneout=0.2, **proj)
    g = given_of(layer, T, B, np.random.default_rng(3))
    y, state = layer(g.x, g.state)
    first, between = layer(g.x[:3], g.state)
    rest, last = layer(g.x[3:], between)
    assert same(np.concatenate([first, rest]), y)
    assert same_states(last, state)
    stream = layer.stream(B)
    stream.state = g.state
    for t in range(4):
        assert same(stream.step(g.x[t], num_threads=1), y[t])
        backend.ran(kernel(layer))
    assert same(stream(g.x[4:]), y[4:])
    assert same_states(stream.state, state)
    stream.reset([0, 2])
    for a, b in zip(arrays_of(stream.state), arrays_of(state), strict=True):
        assert not a[:, [0, 2]].any()
        assert same(a[:, [1, 3]], b[:, [1, 3]])


@settings(max_examples=40)
@given(data=st.data())
def test_layouts(data: st.DataObject) -> None:
    """[S1] [S8] batch_first and a missing batch axis change the layout, never the numbers."""
    name, isa = data.draw(st.sampled_from(PATHS), "path")
    steps, batch = data.draw(st.integers(0, 4), "T"), data.draw(st.integers(0, 4), "B")
    cell, layers = data.draw(st.sampled_from(list(CELLS)), "cell"), data.draw(st.integers(1, 3))
    both = data.draw(st.booleans(), "bidirectional")
    for chosen in choose(name, isa):
        layer = make(cell, 5, layers, bidirectional=both)
        turned = make(cell, 5, layers, bidirectional=both, batch_first=True)
        rng = np.random.default_rng(4)
        x, first = rng.standard_normal((steps, batch, 3)), state_of(layer, batch, rng)
        y, last, saved = layer.forward(x, first)
        chosen.ran(kernel(layer))
        dy, dlast = like(y, rng), like(last, rng)
        right = named(layer.backward(saved, dy, dlast))

        y2, last2, saved2 = turned.forward(x.swapaxes(0, 1), first)
        found = named(turned.backward(saved2, dy.swapaxes(0, 1), dlast))
        assert y2.shape == (batch, steps, y.shape[2])
        assert same(y2.swapaxes(0, 1), y)
        assert same_states(last2, last)
        found["x"] = found["x"].swapaxes(0, 1)
        assert found.keys() == right.keys()
        for key, a in right.items():
            assert same(found[key], a), key
        if batch == 1:
            flat = lambda s: tuple(p[:, 0] for p in parts(s))  # noqa: E731
            one = lambda s: s if len(s) > 1 else s[0]  # noqa: E731
            for other in (layer, turned):
                y3, last3, saved3 = other.forward(x[:, 0], one(flat(first)))
                assert same(y3, y[:, 0])
                assert same_states(last3, one(flat(last)))
                dx, dfirst, dparams = other.backward(saved3, dy[:, 0], one(flat(dlast)))
                assert same(dx, right["x"][:, 0])
                for k, a in enumerate(arrays_of(dfirst)):
                    assert same(a, right[f"state {k}"][:, 0])
                assert all(same(a, right[key]) for key, a in dparams.items())
