"""Masks, lengths and resets in chunks, streams and single sequences give the bits of one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from layer_cases import (
    CELLS,
    agree,
    arguments,
    arrays_of,
    given_of,
    kernel,
    make,
    same,
    same_states,
    state_of,
    turned,
)
from layer_oracle import parts

T, B = 8, 4


def case(cell: str, batch_first: bool = False, **rows: Any) -> tuple[Any, Any]:
    """A stack with one direction (only such a stack can run in chunks), and a call with resets."""
    layer = make(cell, 6, 2, dtype=np.float32, batch_first=batch_first, zoneout=0.1)
    g = given_of(layer, T, B, np.random.default_rng(3), reset=True, initial=True, **rows)
    assert g.reset is not None
    g.reset[3] = [True, False, True, False]  # a reset at the first step of a chunk
    return layer, g


@pytest.mark.parametrize("rows", ["whole", "lengths", "mask"])
@pytest.mark.parametrize("cell", CELLS)
def test_chunks(backend: Chosen, cell: str, rows: str) -> None:
    """[N1.3] [L3] A reset at the border of two chunks cuts the carried state, masked or not."""
    layer, g = case(cell, rows=rows)
    y, last = layer(**arguments(layer, g))
    backend.ran(kernel(layer))
    state, found = g.state, []
    for begin, end in ((0, 3), (3, 4), (4, 4), (4, T)):
        at = slice(begin, end)
        y_part, state = layer(
            g.x[at],
            state,
            lengths=None if g.lengths is None else np.clip(g.lengths - begin, 0, end - begin),
            mask=None if g.mask is None else g.mask[at],
            reset=g.reset[at],
            initial=g.initial,
        )
        found.append(y_part)
    assert agree(np.concatenate(found), y)
    assert agree(state, last)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_streams(backend: Chosen, cell: str, batch_first: bool) -> None:
    """[N1.3] [L3] [L6] step() and chunks of a stream take a mask, a reset and `initial`."""
    layer, g = case(cell, batch_first, rows="mask")
    y, last = layer(**arguments(layer, g))
    y = turned(layer, y)
    assert g.mask is not None
    assert g.reset is not None
    stream = layer.stream(B)
    stream.state = g.state
    for t in range(3):
        h = stream.step(g.x[t], mask=g.mask[t], reset=g.reset[t], initial=g.initial)
        backend.ran(kernel(layer))
        assert agree(h, y[t])
    for begin, end in ((3, 4), (4, T)):
        part = {"x": g.x[begin:end], "mask": g.mask[begin:end], "reset": g.reset[begin:end]}
        part = {name: turned(layer, a) for name, a in part.items()}
        y_part = turned(layer, stream(**part, initial=g.initial))
        assert agree(y_part, y[begin:end])
    assert agree(stream.state, last)


def test_a_streams_step_without_initial(backend: Chosen) -> None:
    """[L3] Without `initial` a reset starts from zeros.

    A masked step ignores even NaN, and sets `out` to 0.
    """
    layer = make("lstm", dtype=np.float32)
    stream = layer.stream(2)
    x = np.ones((2, 3), np.float32)
    first = stream.step(x)
    out = np.full((2, 5), 7, np.float32)
    x[1] = np.nan
    before = stream.state
    stream.step(x, out, mask=[True, False], reset=np.array([True, False]))
    assert same(out[0], first[0])
    assert not out[1].any()
    for a, b in zip(stream.state, before, strict=True):
        assert same(a[:, 1], b[:, 1])
    single = layer.stream()
    assert same(single.step(x[0], mask=True, reset=False), first[0])
    kept = single.state
    single.step(x[0], mask=np.False_)
    assert same_states(single.state, kept)
    ids = layer.stream(2)
    ids.step(tokens=[1, 2], mask=[False, False])
    assert not any(a.any() for a in ids.state)


@pytest.mark.parametrize("cell", ["lstm_projected", "gru"])
def test_without_a_batch_axis(backend: Chosen, cell: str) -> None:
    """[S1] [S10] Without a batch axis lengths is a number, and mask and reset are (T,)."""
    for batch_first in (False, True):
        layer = make(cell, 4, 2, bidirectional=True, batch_first=batch_first)
        rng = np.random.default_rng(4)
        x, first, cut = (
            rng.standard_normal((T, 3)),
            state_of(layer, 1, rng),
            state_of(layer, 1, rng),
        )
        reset, mask = rng.random(T) < 0.4, rng.random(T) < 0.6
        time_major = make(cell, 4, 2, bidirectional=True)
        forms: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"lengths": 5}, {"lengths": [5]}),
            ({"lengths": np.array([5])}, {"lengths": [5]}),
            ({"mask": mask}, {"mask": mask[:, None]}),
            ({"mask": mask, "masked_output": "repeat"}, {"mask": mask[:, None]}),
        ]
        for some, wide in forms:
            wide |= {k: v for k, v in some.items() if k == "masked_output"}
            y, last = layer(x, squeezed(first), reset=reset, initial=squeezed(cut), **some)
            right, right_last = time_major(
                x[:, None], first, reset=reset[:, None], initial=cut, **wide
            )
            backend.ran(kernel(layer))
            assert same(y, right[:, 0])
            assert same_states(last, squeezed(right_last))


def squeezed(state: Any) -> Any:
    """A state without its batch axis."""
    arrays = tuple(part[:, 0] for part in parts(state))
    return arrays if len(arrays) > 1 else arrays[0]


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_to_do(backend: Chosen, cell: str) -> None:
    """[S6] [L4] If no step is real, T = 0 or B = 0, the state and its gradient pass through."""
    layer = make(cell, 4, 2, bidirectional=True)
    rng = np.random.default_rng(5)
    state = state_of(layer, 3, rng)
    dlast = state_of(layer, 3, rng)
    x = rng.standard_normal((T, 3, 3))
    for call in (
        {"x": x, "lengths": [0, 0, 0]},
        {"x": x, "mask": np.zeros((T, 3), bool)},
        {"x": x, "mask": np.zeros((T, 3), bool), "masked_output": "repeat"},
        {"x": x[:0]},
        {"x": x[:0], "lengths": [0, 0, 0], "reset": np.ones((0, 3), bool)},
        {"x": x[:0], "mask": np.ones((0, 3), bool), "masked_output": "repeat"},
    ):
        y, last, saved = layer.forward(state=state, **call)
        backend.ran(kernel(layer))
        assert not y.any()
        assert same_states(last, state)
        dx, dfirst, dparams = layer.backward(saved, np.ones_like(y), dlast)
        assert not dx.any()
        assert same_states(dfirst, dlast)
        assert not any(a.any() for a in dparams.values())
    # A reset among masked steps still cuts, and the cut reaches the final state.
    cut, reset = state_of(layer, 3, rng), np.zeros((T, 3), bool)
    reset[2, 1] = True
    y, last, saved = layer.forward(x, state, mask=np.zeros((T, 3), bool), reset=reset, initial=cut)
    dfirst = layer.backward(saved, None, dlast)[1]
    for a, b, c, d, e in zip(*map(arrays_of, (last, state, cut, dfirst, dlast)), strict=True):
        assert same(a[:, [0, 2]], b[:, [0, 2]])
        assert same(a[:, 1], c[:, 1])
        assert same(d[:, [0, 2]], e[:, [0, 2]])
        assert not d[:, 1].any()
    empty = state_of(layer, 0, rng)
    for more in ({}, {"lengths": []}, {"mask": np.ones((T, 0), bool)}):
        y, last, saved = layer.forward(x[:, :0], empty, **more)
        assert y.shape == (T, 0, 2 * (layer.proj_size or 4))
        dparams = layer.backward(saved, np.ones_like(y), last)[2]
        assert not any(a.any() for a in dparams.values())


def test_inputs_are_not_written(backend: Chosen) -> None:
    """[X3] [X4] Arguments may be strided, read-only, other integers or lists; none is written."""
    layer = make("gru", 4, 2, bidirectional=True, batch_first=True)
    g = given_of(layer, T, B, np.random.default_rng(6), rows="mask", reset=True, initial=True)
    call = arguments(layer, g)
    right, last = layer(**call)
    frozen = {name: np.array(a, order="F") for name, a in call.items() if a is not None}
    for a in frozen.values():
        a.flags.writeable = False
    y, state, saved = layer.forward(**frozen)
    backend.ran(kernel(layer))
    assert same(y, right)
    assert same_states(state, last)
    dparams = layer.backward(saved, y)[2]
    for a in frozen.values():  # forward keeps copies of all of them but x
        if a is not frozen["x"]:
            a.flags.writeable = True
            a[...] = np.ones((), a.dtype)
    again = layer.backward(saved, y)[2]
    assert all(same(a, again[name]) for name, a in dparams.items())
    ends = [3, 0, 8, 5]
    right, _ = layer(call["x"], lengths=ends)
    for form in (np.array(ends, np.uint8), np.array(ends, ">i4"), np.repeat(ends, 2)[::2]):
        assert same(layer(call["x"], lengths=form)[0], right)
    assert fr.last_path().backend == backend.name


@pytest.mark.parametrize("rows", ["lengths", "mask"])
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_projected", "gru"])
def test_what_forward_was_given_may_change(backend: Chosen, cell: str, rows: str) -> None:
    """[G9] A saved call has copies of states, lengths, masks, resets; callers may change them."""
    layer = make(cell, 4, 2, bidirectional=True)
    g = given_of(layer, T, B, np.random.default_rng(8), rows=rows, reset=True, initial=True)
    call = arguments(layer, g)
    how = "repeat" if rows == "mask" else "zero"  # then backward reads the mask itself
    y, _, saved = layer.forward(**call, masked_output=how)
    backend.ran(kernel(layer))
    right = layer.backward(saved, y)
    for name in ("state", "initial", "lengths", "mask", "reset"):
        for a in arrays_of(call[name]) if call[name] is not None else ():
            assert a.flags.c_contiguous  # contiguous, so only an explicit copy helps
            a[...] = np.nan if a.dtype.kind == "f" else np.ones((), a.dtype)
    dx, dfirst, dparams = layer.backward(saved, y)
    assert same(dx, right[0])
    assert same_states(dfirst, right[1])
    assert all(same(a, right[2][name]) for name, a in dparams.items())
