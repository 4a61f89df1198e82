"""Calls that read weights without packing them have the bits of calls that read a pack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fusedrnn as fr
from cases import CELL_NAMES, DTYPES, RECURRENT, Case, call, same_bits
from conftest import Chosen
from floor import Inputs, Weights
from fusedrnn import core
from fusedrnn._cells import CELLS, Array

_core = pytest.importorskip("fusedrnn._core")
pytestmark = pytest.mark.skipif(not fr.supported_isas(), reason="no compiled kernels")

# Hidden sizes around the vectors and panels of every instruction set, and more than one piece of
# 128 K indices. Threads divide the long batch by rows; they divide the wide layer by units if the
# call is worth two threads.
SHAPES = [(1, 3), (2, 1), (3, 129), (5, 16), (8, 70), (16, 15), (17, 5), (31, 0), (64, 40)]
SHAPES += [(65, 7), (130, 33)]
CASES = [Case(1, 1, i, h) for h, i in SHAPES] + [Case(2, 1, 9, 21), Case(2, 7, 70, 33)]
CASES += [
    Case(1, 61, 18, 17),
    Case(2, 33, 5, 20),
    Case(1, 2, 5, 20, states=False, bias=False),
    Case(2, 3, 11, 19, directions=2),
    Case(1, 5, 11, 35, tokens=True),
    Case(2, 3, 23, 18, tokens=True, directions=2, bias=False),
    Case(2, 4, 7, 18, lengths=(2, 0, 1, 2)),
    Case(2, 4, 7, 18, lengths=(2, 1, 0, 2), directions=2),
    Case(2, 5, 7, 18, reset=True, initial=True),
    Case(0, 3, 2, 5),
    Case(2, 0, 2, 5),
]


def both_ways(
    native: Chosen, weights: tuple[Weights, ...], inputs: Inputs, save: bool, threads: int
) -> None:
    """Compare the first call of a pack with the second: outputs, states, and what is saved."""
    packed = native.run.pack(weights)
    copied = packed.nbytes
    found, right = (
        core.forward(
            packed,
            inputs.x,
            **inputs.fixed(packed.spec),
            lengths=inputs.lengths,
            mask=inputs.mask,
            reset=inputs.reset,
            saved=save,
            threads=threads,
        )
        for _ in range(2)
    )
    assert same_bits(found.y, right.y), "y"
    assert all(map(same_bits, found.states, right.states)), "states"
    if found.saved is not None and right.saved is not None and inputs.lengths is None:
        real = [units(saved, packed.hidden_size) for saved in (found.saved, right.saved)]
        assert same_bits(*real), "saved"
    # Only the second call made panels.
    again = native.run.pack(weights)
    core.forward(again, inputs.x, **inputs.fixed(packed.spec), reset=inputs.reset)
    steps, batch = (inputs.x if inputs.tokens is None else inputs.tokens).shape[:2]  # type: ignore[union-attr]
    short = steps <= 2 and steps * batch <= 32
    assert (again.nbytes == copied) == short
    assert packed.nbytes > copied


def units(saved: Array, hidden: int) -> Array:
    """The slots of the real units (D, T, B, slots, H), taken out of their blocks."""
    *rows, count, slots, block = saved.shape
    return saved.swapaxes(3, 4).reshape(*rows, slots, count * block)[..., :hidden]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_bits_of_packed_weights(native: Chosen, cell: str, dtype: str) -> None:
    """[N1.1] Calls of one and two steps, in inference and training."""
    for case in CASES:
        if cell == "dense" and (case.lengths or case.reset or case.tokens or case.directions > 1):
            continue
        weights, inputs = call(cell, case, dtype)
        for save in (False, True):
            both_ways(native, weights, inputs, save, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_teams(native: Chosen, cell: str, dtype: str) -> None:
    """[N1.2] Teams that divide rows, units or directions."""
    gates = CELLS[cell].gates
    wide = Case(2, 3, 150, 190 if gates > 1 else 400, directions=2 if cell != "dense" else 1)
    for case in (replace(wide, directions=1), Case(2, 90, 80, 70), wide):
        weights, inputs = call(cell, case, dtype)
        for threads in (2, 3):
            both_ways(native, weights, inputs, True, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "cell", [c for c in RECURRENT if CELLS[c].states > 1 and not CELLS[c].norm]
)
def test_projections(native: Chosen, cell: str, dtype: str) -> None:
    rng = np.random.default_rng(5)
    for case, size in ((Case(2, 3, 7, 40), 5), (Case(1, 1, 30, 150), 70), (Case(2, 2, 3, 17), 17)):
        weights, inputs = call(cell, replace(case, states=False), dtype)
        projected = []
        for w in weights:
            rows = w.w_ih.shape[0]
            w_hh = (rng.standard_normal((rows, size)) / 8).astype(dtype)
            w_hr = (rng.standard_normal((size, case.hidden_size)) / 8).astype(dtype)
            projected.append(replace(w, w_hh=w_hh, w_hr=w_hr))
        for threads in (1, 2):
            both_ways(native, tuple(projected), inputs, True, threads)


@pytest.mark.parametrize("cell", RECURRENT)
def test_noise(native: Chosen, cell: str) -> None:
    """Recurrent dropout and zoneout, whose masks are read beside the weights."""
    case = Case(2, 3, 9, 21)
    weights, inputs = call(cell, case, "float32")
    rng = np.random.default_rng(6)
    drop = (rng.random((1, 3, 21)) < 0.5).astype("float32") * 2
    keep = tuple(
        (rng.random((1, 2, 3, 21)) < 0.3).astype("float32") for _ in weights[0].spec.state_names
    )
    noisy = inputs._replace(drop=drop, zoneout=(0.3, 0.3), keep=keep)
    both_ways(native, weights, noisy, True, 1)
    both_ways(native, weights, inputs._replace(zoneout=(0.2, 0.1)), False, 1)


def test_nan_stays_in_its_column(native: Chosen) -> None:
    """Beyond the last K index of a row of W lies the next row, which must not be multiplied."""
    weights, inputs = call("gru", Case(1, 2, 5, 21), "float32")
    w_ih = weights[0].w_ih.copy()
    w_ih[3, 0] = np.nan
    both_ways(native, (replace(weights[0], w_ih=w_ih),), inputs, False, 1)


def test_when_it_pays() -> None:
    """Only calls of one or two steps of few rows read weights unpacked."""
    pays = [(t, b) for t in (1, 2, 3) for b in (1, 16, 17, 32, 33) if _core.unpacked_pays(t, b)]
    assert pays == [(1, 1), (1, 16), (1, 17), (1, 32), (2, 1), (2, 16)]


def test_the_binding_verifies_weights(native: Chosen) -> None:
    weights, _ = call("lstm_peephole", Case(1, 2, 5, 7), "float32")
    w = weights[0]
    good = (w.w_ih, w.w_hh, w.b_ih, w.b_hh, w.p, None)

    def made(*arrays: Array | None) -> object:
        return _core.PackedWeights(native.isa, w.spec.name, arrays, None)

    made(*good)
    for i, name in enumerate(("w_ih", "w_hh", "b_ih", "b_hh", "p")):
        wrong = good[i]
        assert wrong is not None
        # The dtype of the call is that of w_ih, so w_ih itself cannot have a wrong one.
        for other in (wrong[1:], wrong[::-1], *([wrong.astype("float64")] if i > 0 else ())):
            with pytest.raises(ValueError, match=f"^{name}: "):
                made(*good[:i], other, *good[i + 1 :])
    for i in (0, 1, 4):
        with pytest.raises(ValueError, match=r"w_ih|weights"):
            made(*good[:i], None, *good[i + 1 :])
