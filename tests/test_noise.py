"""Dropout, variational dropout, zoneout and DropConnect in one file, because one method judges all.

The masks that a call drew are read from what it saved. Their statistics are judged, and the loops
of layer_oracle.py must give the same outputs with these masks.
"""

from __future__ import annotations

import warnings
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
    same_states,
    turned,
    weighted,
)
from layer_oracle import parts, run

NOISES: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.4},
    "input_dropout": {"input_dropout": 0.3},
    "recurrent_dropout": {"recurrent_dropout": 0.35},
    "zoneout": {"zoneout": 0.25},
    "drop_connect": {"drop_connect": 0.3},
}
NOISES["all"] = {name: rate for noise in NOISES.values() for name, rate in noise.items()}
SMOOTH = [name for name in CELLS if name != "rnn_relu"]
T, B = 6, 4


def noisy(cell: str, noise: str, **options: Any) -> Any:
    own = NOISES[noise]
    if noise in ("zoneout", "all") and CELLS[cell][0] is fr.LSTM:
        own = own | {"zoneout": (0.25, 0.15)}
    return make(cell, 4, 2, bidirectional=True, **own, **options)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("rows", ["whole", "mask"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cell", CELLS)
def test_forward(backend: Chosen, cell: str, noise: str, rows: str) -> None:
    """[D1] [D2] [D3] [D4] [D5] Outputs follow the equations with the masks drawn, within 1e-13."""
    layer = noisy(cell, noise, batch_first=rows == "mask")
    g = given_of(layer, T, B, rng(0), rows=rows, reset=True, initial=True)
    y, last, saved = layer.forward(**arguments(layer, g), rng=rng())
    backend.ran(kernel(layer))
    masks = [kept.drawn for kept in saved._kept]
    right = run(layer, g, masks=masks)
    y = turned(layer, y)
    assert np.abs(y - right.y).max() <= 1e-13
    for k, part in enumerate(parts(last)):
        for j, states in enumerate(right.states):
            assert np.abs(part[2 * j : 2 * j + 2] - states[k]).max() <= 1e-13
    plain = turned(layer, layer(**arguments(layer, g))[0])
    assert np.abs(plain - run(layer, g).y).max() <= 1e-13  # no noise; zoneout's expectation
    assert np.abs(plain - y).max() > 1e-3
    assert [m.output is not None for m in masks] == [noise in ("dropout", "all"), False]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cell", SMOOTH)
def test_gradients(backend: Chosen, cell: str, noise: str) -> None:
    """[D6] Gradients are exact for the masks drawn; differences draw them again from the seed."""
    layer = noisy(cell, noise, batch_first=noise == "all")
    draw = rng(0)
    g = given_of(layer, 4, 3, draw, rows="mask" if noise == "all" else "whole")
    call = arguments(layer, g)
    y, last, saved = layer.forward(**call, rng=rng())
    dy, dlast = like(y, draw), like(last, draw)
    gradients = named(layer.backward(saved, dy, dlast))
    backend.ran(kernel(layer))
    again = named(layer.backward(saved, dy, dlast))  # [G9]
    assert all(same(a, again[name]) for name, a in gradients.items())

    def loss() -> float:
        y, last, _ = layer.forward(**call, rng=rng())
        return weighted([y, *arrays_of(last)], [dy, *arrays_of(dlast)])

    arrays = {"x": call["x"]}
    arrays |= {f"state {k}": a for k, a in enumerate(arrays_of(g.state))}
    check_differences(layer, loss, arrays, gradients, elements=3)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_projected", "gru", "gru_norm"])
def test_training_without_noise(backend: Chosen, cell: str, noise: str) -> None:
    """[D9] The bits are a plain call's, with zoneout's expectation, and nothing is drawn."""
    layer = noisy(cell, noise)
    draw = rng(0)
    g = given_of(layer, 4, 3, draw)
    call, generator = arguments(layer, g), rng()
    before = generator.bit_generator.state
    y, last, saved = layer.forward(**call, rng=generator, noise=False)
    backend.ran(kernel(layer))
    assert generator.bit_generator.state == before
    plain, plain_last = layer(**call)
    assert same(y, plain)
    assert same_states(last, plain_last)
    assert not same(layer.forward(**call, rng=generator)[0], y)
    assert saved.nbytes < layer.forward(**call, rng=generator)[2].nbytes
    dy, dlast = like(y, draw), like(last, draw)
    gradients = named(layer.backward(saved, dy, dlast))

    def loss() -> float:
        y, last = layer(**call)
        return weighted([y, *arrays_of(last)], [dy, *arrays_of(dlast)])

    arrays = {"x": call["x"]}
    arrays |= {f"state {k}": a for k, a in enumerate(arrays_of(g.state))}
    check_differences(layer, loss, arrays, gradients, elements=3)
    with pytest.raises(TypeError, match="noise: expected True or False, got NoneType"):
        layer.forward(**call, noise=None)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_projected", "gru"])
def test_a_seed_decides(backend: Chosen, cell: str, noise: str) -> None:
    """[D7] A seed gives the same bits for any threads, the same masks for any dtype and layout."""
    layer, single = noisy(cell, noise), noisy(cell, noise, dtype=np.float32)
    first = noisy(cell, noise, batch_first=True)
    g = given_of(layer, T, B, rng(0))
    y, last, saved = layer.forward(**arguments(layer, g), rng=rng(), num_threads=1)
    for threads in (2, 3, 7):
        other, other_last, _ = layer.forward(**arguments(layer, g), rng=rng(), num_threads=threads)
        backend.ran(kernel(layer))
        assert same(other, y)
        assert same_states(other_last, last)
    assert not same(layer.forward(**arguments(layer, g), rng=rng(2))[0], y)
    assert not same(layer.forward(**arguments(layer, g))[0], y)
    turn = first.forward(**arguments(first, g), rng=rng())
    assert same(turn[0].swapaxes(0, 1), y)
    g32 = given_of(single, T, B, rng(0))
    others = (turn[2], single.forward(**arguments(single, g32), rng=rng())[2])
    for other_saved in others:
        for a, b in zip(drawn(saved), drawn(other_saved), strict=True):
            assert np.array_equal(a != 0, b != 0)


def drawn(saved: Any) -> list[Array]:
    """Every mask of a call, in the order in which the masks are drawn."""
    found: list[Array] = []
    for kept in saved._kept:
        m = kept.drawn
        for one in (m.input, m.drop, *(m.keep or ()), *(m.connect or ()), m.output):
            found += [] if one is None else [one]
    return found


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm_projected", "gru_reset_before"])
def test_no_rate_no_noise(backend: Chosen, cell: str) -> None:
    """[D7] Rates of 0 give the plain call's bits and draw nothing from the generator."""
    rates = dict.fromkeys(("dropout", "input_dropout", "recurrent_dropout", "zoneout"), 0.0)
    layer = make(cell, 4, 2, bidirectional=True, drop_connect=0.0, **rates)
    g = given_of(layer, T, B, rng(0))
    generator = rng()
    y, last, saved = layer.forward(**arguments(layer, g), rng=generator)
    plain, plain_last = layer(**arguments(layer, g))
    backend.ran(kernel(layer))
    assert same(y, plain)
    assert same_states(last, plain_last)
    assert not any(kept.drawn for kept in saved._kept)
    assert generator.random() == rng().random()


def within(masks: list[Array], kept: float, value: float) -> None:
    """Assert that elements are 0 or `value`, the latter at rate `kept` within six sigma."""
    a = np.concatenate([mask.ravel() for mask in masks])
    assert set(np.unique(a)) == {0.0, value}
    sigma = np.sqrt(kept * (1 - kept) / a.size)
    assert abs((a != 0).mean() - kept) <= 6 * sigma


def test_statistics() -> None:
    """[D1] [D2] [D3] [D4] [D5] Each mask has its rate, scale and shape."""
    rates: dict[str, Any] = {
        "dropout": 0.4,
        "input_dropout": 0.3,
        "recurrent_dropout": 0.2,
        "drop_connect": 0.1,
    }
    layer = make(
        "lstm_projected", 40, 3, inputs=30, bidirectional=True, zoneout=(0.25, 0.5), **rates
    )
    x = np.ones((20, 30, 30))
    masks = [kept.drawn for kept in layer.forward(x, rng=rng())[2]._kept]
    assert [m.input.shape for m in masks] == [(30, 30), (30, 6), (30, 6)]
    assert all(m.drop.shape == (2, 30, 3) for m in masks)
    assert [[a.shape for a in m.keep] for m in masks] == [[(2, 20, 30, 3), (2, 20, 30, 40)]] * 3
    assert [[a.shape for a in m.connect] for m in masks] == [[(160, 3)] * 2] * 3
    assert [m.output if m.output is None else m.output.shape for m in masks] == [
        (20, 30, 6),
        (20, 30, 6),
        None,
    ]
    within([m.input for m in masks], 0.7, 1 / 0.7)
    within([m.drop for m in masks], 0.8, 1 / 0.8)
    within([m.keep[0] for m in masks], 0.25, 1)
    within([m.keep[1] for m in masks], 0.5, 1)
    within([a for m in masks for a in m.connect], 0.9, 1 / 0.9)
    within([m.output for m in masks[:2]], 0.6, 1 / 0.6)
    arrays = [a for m in masks for a in (m.drop[0], m.drop[1])]
    assert len({a.tobytes() for a in arrays}) == len(arrays)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru_reset_before"])
def test_drop_connect_masks_its_gradient(backend: Chosen, cell: str) -> None:
    """[D5] [D6] dR is 0 where R was dropped, also in per-sample gradients."""
    layer = noisy(cell, "drop_connect")
    g = given_of(layer, T, B, rng(0))
    y, _, saved = layer.forward(**arguments(layer, g), rng=rng())
    for per_sample in (False, True):
        dparams = layer.backward(saved, y, per_sample=per_sample)[2]
        backend.ran(kernel(layer))
        for k, kept in enumerate(saved._kept):
            for end, mask in zip(("", "_reverse"), kept.drawn.connect, strict=True):
                d = dparams[f"weight_hh_l{k}{end}"]
                assert not d[..., mask == 0].any()
                assert d[..., mask != 0].all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_tokens(backend: Chosen, batch_first: bool) -> None:
    """[D2] [S4] Input dropout on tokens gives the bits of one-hot rows, and no dx."""
    layer = noisy("lstm", "all", batch_first=batch_first)
    ids = np.random.default_rng(0).integers(0, 3, (B, T))
    y, last, saved = layer.forward(tokens=ids, rng=rng())
    right, right_last, right_saved = layer.forward(np.eye(3)[ids], rng=rng())
    backend.ran(kernel(layer))
    assert same(y, right)
    assert same_states(last, right_last)
    dx, _, dparams = layer.backward(saved, y)
    assert dx is None
    _, _, right_dparams = layer.backward(right_saved, y)
    for name, a in right_dparams.items():
        assert same(dparams[name], a), name


def test_what_is_kept_is_counted(backend: Chosen) -> None:
    """[D8] saved.nbytes counts masks, the inputs that they changed, and outputs between layers."""
    x = np.ones((T, B, 3))
    plain = make("gru", 4, 2).forward(x)[2].nbytes
    single = make("gru", 4).forward(x)[2].nbytes
    assert plain == single + make("gru", 4, inputs=4).forward(np.ones((T, B, 4)))[2].nbytes + (
        T * B * 4 * 8
    )
    sizes = {
        "dropout": 2 * T * B * 4,  # the mask, and the second layer's input
        "input_dropout": B * (3 + 4) + T * B * (3 + 4),
        "recurrent_dropout": 2 * B * 4,
        "zoneout": 2 * T * B * 4,
        "drop_connect": 2 * 2 * 12 * 4,  # with the dropped copy of R
    }
    for noise, size in sizes.items():
        layer = make("gru", 4, 2, **NOISES[noise])
        assert layer.forward(x, rng=rng())[2].nbytes == plain + 8 * size, noise


def test_warning() -> None:
    """[D1] Dropout acts between layers, so with one layer it does nothing; a warning says so."""
    with pytest.warns(UserWarning, match="dropout acts between layers") as caught:
        layer = fr.GRU(3, 4, dropout=0.5)
    assert caught[0].filename == __file__
    y, _, saved = layer.forward(np.ones((2, 3)), rng=rng())
    assert same(y, layer(np.ones((2, 3)))[0])
    assert saved._kept[0].drawn.output is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fr.GRU(3, 4, 2, dropout=0.5)
        fr.GRU(3, [4, 5], dropout=0.5)
        fr.GRU(3, 4, recurrent_dropout=0.5)
