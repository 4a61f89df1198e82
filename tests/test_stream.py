"""Streams: single steps and chunks give the bits of one call."""

from __future__ import annotations

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from test_layers import LAYERS, X, parts

IDS = np.array([[0, 2], [1, 1], [2, 2], [0, 1]])


def same(a: object, b: object) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(parts(a), parts(b), strict=True))


@pytest.mark.parametrize("cell", LAYERS)
def test_steps_and_chunks(backend: Chosen, cell: str) -> None:
    """[N1.3] Steps and chunks have the bits of one call."""
    layer = LAYERS[cell](seed=0)
    y, last = layer(X)
    stream = layer.stream(2)
    for t in range(4):
        h = stream.step(X[t])
        backend.ran(f"{cell} float32")
        assert np.array_equal(h, y[t])
    assert same(stream.state, last)
    stream.reset()
    assert not any(part.any() for part in parts(stream.state))
    out = np.empty((2, 5), np.float32)
    assert stream.step(X[0], out) is out
    assert np.array_equal(out, y[0])
    assert np.array_equal(stream(X[1:]), y[1:])
    assert same(stream.state, last)


@pytest.mark.parametrize("cell", LAYERS)
def test_tokens(backend: Chosen, cell: str) -> None:
    layer = LAYERS[cell](seed=0)
    y, last = layer(tokens=IDS)
    stream = layer.stream(2)
    assert np.array_equal(stream.step(tokens=IDS[0]), y[0])
    assert np.array_equal(stream(tokens=IDS[1:]), y[1:])
    assert same(stream.state, last)


def test_one_sequence(backend: Chosen) -> None:
    """With a batch size of 1 the batch axis may be left out, also of the outputs."""
    layer = fr.GRU(3, 5, seed=0)
    y, _ = layer(X[:, 0])
    stream = layer.stream()
    assert np.array_equal(stream.step(X[0, 0]), y[0])
    assert np.array_equal(stream.step(X[1, :1]), y[1:2])
    assert np.array_equal(stream(X[2:3, 0]), y[2:3])
    assert np.array_equal(stream(X[3:, :1]), y[3:, None])
    stream.reset()
    first = stream.step(tokens=1)
    stream.reset()
    assert np.array_equal(stream.step(tokens=[1]), first[None])


def test_state(backend: Chosen) -> None:
    """The state is copied on reading and on assignment; None means zeros."""
    layer = fr.LSTM(3, 5, seed=0)
    stream = layer.stream(2)
    stream(X[:2])
    h, c = stream.state
    right = stream(X[2:])
    stream.state = (h, c)
    h[...] = np.nan
    assert np.array_equal(stream(X[2:]), right)
    stream.state = None  # type: ignore[assignment]
    assert not any(part.any() for part in stream.state)
    with pytest.raises(ValueError, match=r"c0: expected shape \(1, 2, 5\), got \(2, 5\)"):
        stream.state = (c, c[0])
    assert not any(part.any() for part in stream.state)


@pytest.mark.parametrize("rows", [1, [1], [False, True], np.array([1], np.uint8)])
def test_reset_of_rows(backend: Chosen, rows: object) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    stream = layer.stream(2)
    stream(X)
    before = stream.state
    stream.reset(rows)
    for part, old in zip(stream.state, before, strict=True):
        assert np.array_equal(part[:, 0], old[:, 0])
        assert not part[:, 1].any()
    stream.reset([])
    assert stream.state[0].any()


def test_it_follows_the_parameters(backend: Chosen) -> None:
    layer = fr.RNN(3, 5, seed=0)
    stream = layer.stream()
    h = stream.step(X[0, 0])
    stream.reset()
    layer.params["bias_ih_l0"] = np.ones(5)
    assert not np.array_equal(stream.step(X[0, 0]), h)
    assert repr(stream) == "RNN(3, 5).stream(batch_size=1)"


def test_an_empty_chunk(backend: Chosen) -> None:
    stream = fr.GRU(3, 5, seed=0).stream(2)
    stream(X)
    before = stream.state
    assert stream(X[:0]).shape == (0, 2, 5)
    assert np.array_equal(stream.state, before)
