"""Layer normalisation: what the grids of the other tests do not check for these cells.

[Y1] [Y2] [Y3] [Y4] (test_forward checks them with the oracle, test_gradients with central
differences, test_options with every option drawn, test_rounding to the bit.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fusedrnn as fr
import oracle
from cases import DTYPES, EDGES, Case, assert_same_bits, call, out_gradients, outcome, same_bits
from conftest import FMA_ISAS, Chosen
from floor import Inputs, Weights, by_name, reference
from fusedrnn._cells import CELLS, Array

NORMED = [name for name, spec in CELLS.items() if spec.norm]
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def with_noise(cell: str, case: Case, dtype: str) -> tuple[tuple[Weights, ...], Inputs]:
    """A call with recurrent dropout and drawn zoneout."""
    weights, inputs = call(cell, case, dtype)
    rng = np.random.default_rng(8)
    size = (case.directions, case.batch, case.hidden_size)

    def flags(*shape: int) -> Array:
        return (rng.random(shape) < 0.6).astype(dtype)

    keep = tuple(flags(size[0], case.steps, *size[1:]) for _ in range(weights[0].spec.states))
    return weights, inputs._replace(drop=1.5 * flags(*size), zoneout=(0.6, 0.6), keep=keep)


@pytest.mark.parametrize("hidden", [h for h in EDGES if h < 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NORMED)
def test_sizes_around_the_vectors(backend: Chosen, cell: str, dtype: str, hidden: int) -> None:
    """[Y1] Lanes past the last unit do not count, for any width of vectors."""
    weights, inputs = call(cell, Case(2, 3, 5, hidden), dtype)
    y, states, _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    backend.ran(f"{cell} {dtype}")
    right, right_states = oracle.forward(weights, inputs, np.longdouble)
    for found, exact in zip((y, *states), (right, *right_states), strict=True):
        # In a row of small deviations LN enlarges errors by up to 1 / sqrt(1e-5).
        assert np.abs(found - exact).max() <= 400 * UNIT[dtype] * (8 + np.sqrt(hidden))


@pytest.mark.parametrize("cell", NORMED)
def test_one_unit_is_its_biases(backend: Chosen, cell: str) -> None:
    """[Y1] With H = 1, LN is 0, so weights and gains have no effect."""
    weights, inputs = call(cell, Case(3, 2, 4, 1), "float32")
    first = outcome(backend.run, weights, inputs, *out_gradients(weights, inputs))
    other, gains = 3 * weights[0].w_ih, {"norm_ih": -weights[0].w_ih[:, 0]}
    changed = (replace(weights[0], w_ih=np.ascontiguousarray(other), **gains),)
    second = outcome(backend.run, changed, inputs, *out_gradients(weights, inputs))
    assert same_bits(first["y"], second["y"])
    for name in ("dx", "dw_ih 0", "dw_hh 0", "dnorm_ih 0", "dnorm_hh 0"):
        assert not first[name].any(), name
    assert first["db_ih 0"].any()


@pytest.mark.parametrize("cell", NORMED)
def test_a_row_of_equal_sums(backend: Chosen, cell: str) -> None:
    """[Y1] If the sums of all units are equal, LN is 0, and no gradient is infinite."""
    weights, inputs = call(cell, Case(3, 2, 4, 17, states=False), "float64")
    weights[0].w_ih[:] = weights[0].w_ih[:1]
    found = outcome(backend.run, weights, inputs, *out_gradients(weights, inputs))
    assert not np.abs(found["dnorm_ih 0"]).max() > 1e-11
    assert all(np.isfinite(a).all() for a in found.values())
    assert np.abs(found["dw_ih 0"]).max() > 1


@pytest.mark.parametrize("cell", NORMED)
def test_what_normalisation_takes_out(backend: Chosen, cell: str) -> None:
    """[Y1] [Y2] Adding a number to all units of one gate changes nothing."""
    weights, inputs = call(cell, Case(4, 3, 6, 21), "float64")
    y = backend.run.forward(weights, inputs, save=False, num_threads=None).y
    for name in ("w_ih", "w_hh"):
        w = getattr(weights[0], name)
        shift = np.random.default_rng(4).standard_normal((weights[0].spec.x_gates, 1, w.shape[1]))
        moved = (w.reshape(-1, 21, w.shape[1]) + shift).reshape(w.shape)
        other = (replace(weights[0], **{name: moved}),)
        found = backend.run.forward(other, inputs, save=False, num_threads=None).y
        assert np.abs(found - y).max() <= 1e-12, name


def test_the_cell_state_is_not_normalised(backend: Chosen) -> None:
    """[Y3] c is the sum of f c and i g; without recurrence gc and bc change h but not c."""
    weights, inputs = call("lstm_norm", Case(4, 3, 6, 21), "float64")
    assert weights[0].w_hh is not None
    weights[0].w_hh[:] = 0
    _, (h, c), _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    assert np.abs(c - oracle.forward(weights, inputs)[1][1]).max() <= 1e-13
    for name in ("norm_c", "norm_c_bias"):
        other = (replace(weights[0], **{name: getattr(weights[0], name) + 1}),)
        _, (h2, c2), _ = backend.run.forward(other, inputs, save=False, num_threads=None)
        assert same_bits(c, c2)
        assert np.abs(h - h2).max() > 0.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NORMED)
def test_absent_biases_are_zeros(backend: Chosen, cell: str, dtype: str) -> None:
    """[Y2] [S5] Absent biases give the bits of biases that are zeros."""
    weights, inputs = call(cell, Case(4, 3, 6, 21, bias=False), dtype)
    (w,) = weights
    shapes = w.spec.shapes(6, 21)
    zeros = {name: np.zeros(shapes[name], dtype) for name in shapes if getattr(w, name) is None}
    assert {"b_ih", "b_hh"} <= set(zeros)
    gradient = out_gradients(weights, inputs)
    right = outcome(backend.run, weights, inputs, *gradient)
    other = (replace(w, **zeros),)
    assert_same_bits(outcome(backend.run, other, inputs, *gradient), right)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NORMED)
def test_threads_with_noise(native: Chosen, cell: str, dtype: str, lengths: bool) -> None:
    """[N1.2] Gradients of gains and biases are compared too, over several partial sums."""
    given = tuple(1 + b * 12 // 45 for b in range(45)) if lengths else None
    case = Case(12, 45, 40, 65, directions=2, lengths=given, reset=lengths)
    weights, inputs = with_noise(cell, case, dtype)
    gradient = out_gradients(weights, inputs)
    serial = outcome(native.run, weights, inputs, *gradient, threads=1)
    native.ran(f"{cell} {dtype}", 1)
    for threads in (2, 3, 4, 7):
        found = outcome(native.run, weights, inputs, *gradient, threads=threads)
        native.ran(f"{cell} {dtype}", threads)
        assert_same_bits(found, serial)


@pytest.mark.parametrize("cell", NORMED)
def test_few_rows_are_not_divided(native: Chosen, cell: str) -> None:
    """[N1.2] Threads never share a normalised row, so few rows use few threads."""
    weights, inputs = call(cell, Case(4, 11, 24, 181), "float32")
    gradient = out_gradients(weights, inputs)
    serial = outcome(native.run, weights, inputs, *gradient, threads=1)
    assert_same_bits(outcome(native.run, weights, inputs, *gradient, threads=7), serial)
    native.ran(f"{cell} float32", 1)


@pytest.mark.skipif(len(FMA_ISAS) < 2, reason="one instruction set with fma here")
@pytest.mark.parametrize("hidden", EDGES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", NORMED)
def test_instruction_sets_with_noise(cell: str, dtype: str, hidden: int) -> None:
    """[N2.1] If one instruction set saves and another walks back, the bits are the same."""
    weights, inputs = with_noise(cell, Case(3, 4, 5, hidden, reset=True, initial=True), dtype)
    dy, dstates = out_gradients(weights, inputs)
    found = []
    for isa in FMA_ISAS:
        with fr.use_isa(isa):
            saved = by_name("native").forward(weights, inputs, save=True, num_threads=1).saved
            found.append(outcome(by_name("native"), weights, inputs, dy, dstates))
        assert saved is not None
        with fr.use_isa(FMA_ISAS[0]):
            g = by_name("native").backward(saved, dy, dstates, num_threads=1)
        assert same_bits(g.directions[0].dw_ih, found[0]["dw_ih 0"])
        assert_same_bits(found[-1], found[0])


@pytest.mark.parametrize("cell", NORMED)
def test_a_long_call_is_the_reference(native: Chosen, cell: str) -> None:
    """Several partial sums of weight gradients, rows in many groups, and every parameter."""
    weights, inputs = with_noise(cell, Case(7, 130, 9, 70, directions=2), "float64")
    gradient = out_gradients(weights, inputs)
    found = outcome(native.run, weights, inputs, *gradient)
    native.ran(f"{cell} float64")
    right = outcome(reference(), weights, inputs, *gradient)
    assert found.keys() == right.keys()
    for name, exact in right.items():
        scale = max(1.0, float(np.abs(exact).max()))
        assert np.abs(found[name] - exact).max() <= 1e-11 * scale, name


def test_there_is_no_projection(native: Chosen) -> None:
    weights, inputs = call("lstm_norm", Case(2, 3, 4, 5), "float32")
    projected = (replace(weights[0], w_hr=np.ones((5, 5), np.float32)),)
    with pytest.raises(ValueError, match="does not project"):
        native.run.forward(projected, inputs, save=False, num_threads=None)
