"""Every gradient against central differences in float64, for every cell, backend and option.

[G1] [G2] [G3] [G4] [G5] [G8] [G9] [N3.4] [S6] [L3] [L4]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cases import ARRAYS, CELL_NAMES, OPTIONS, RECURRENT, Case, call, out_gradients
from conftest import Chosen, fastest
from floor import Gradients, Inputs, Weights, by_name
from fusedrnn._cells import Array

SHAPES = (
    Case(),
    Case(1, 1, 1, 1),
    Case(2, 5, 4, 9),
    Case(3, 2, 0, 4),
    Case(0, 2, 3, 4),
    Case(2, 0, 3, 4),
)
STEP = 1e-5
# Central differences as (steps from the point, weight). Five points are for normalised cells,
# because normalising small sums makes the loss strongly curved.
THREE_POINTS = ((1, 1 / 2), (-1, -1 / 2))
FIVE_POINTS = ((2, -1 / 12), (1, 8 / 12), (-1, -8 / 12), (-2, 1 / 12))
ELEMENTS = 24  # tested in each array


def pairs(
    weights: tuple[Weights, ...], inputs: Inputs, gradients: Gradients
) -> Iterator[tuple[str, Array, Array]]:
    """Yields each array of the call with its gradient."""
    if inputs.x is not None:
        assert gradients.dx is not None
        yield "x", inputs.x, gradients.dx
    for k, (state, d) in enumerate(zip(inputs.states or (), gradients.states, strict=False)):
        yield f"state {k}", state, d
    for k, (state, d) in enumerate(zip(inputs.initial or (), gradients.initial, strict=False)):
        yield f"initial {k}", state, d
    for n, (w, g) in enumerate(zip(weights, gradients.directions, strict=True)):
        for name, d in zip(ARRAYS, g, strict=True):
            array = getattr(w, name)
            if array is not None:
                assert d is not None
                yield f"{name} {n}", array, d


def check(backend: Chosen, cell: str, case: Case, given: tuple[bool, bool] = (True, True)) -> None:
    weights, inputs = call(cell, case)
    dy, dstates = out_gradients(weights, inputs)
    used_dy, used_dstates = dy if given[0] else None, dstates if given[1] else None

    def loss() -> float:
        with fastest() as name:
            y, states, _ = by_name(name).forward(weights, inputs, save=False, num_threads=1)
        total = float((y * dy).sum()) if given[0] else 0.0
        if given[1]:
            total += sum(float((s * d).sum()) for s, d in zip(states, dstates, strict=True))
        return total

    _, _, saved = backend.run.forward(weights, inputs, save=True, num_threads=1)
    assert saved is not None
    gradients = backend.run.backward(saved, used_dy, used_dstates, num_threads=1)
    backend.ran(f"{cell} float64")
    rng = np.random.default_rng(3)
    for name, array, d in pairs(weights, inputs, gradients):
        assert d.shape == array.shape
        assert d.dtype == array.dtype
        flat = array.reshape(-1)
        for k in rng.permutation(array.size)[:ELEMENTS]:
            old = flat[k]
            central = 0.0
            for steps, weight in FIVE_POINTS if weights[0].spec.norm else THREE_POINTS:
                flat[k] = old + steps * STEP
                central += weight * loss() / STEP
            flat[k] = old
            assert abs(d.reshape(-1)[k] - central) <= 1e-8, (name, k, d.reshape(-1)[k], central)


@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_shapes(backend: Chosen, cell: str, case: Case) -> None:
    # What the dense cell returns as its state is none, so no gradient of it is asked for.
    check(backend, cell, case, (True, cell != "dense"))


@pytest.mark.parametrize("case", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", RECURRENT)
def test_options(backend: Chosen, cell: str, case: Case) -> None:
    check(backend, cell, case)


@pytest.mark.parametrize("given", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("cell", RECURRENT)
def test_absent_gradients_are_zeros(backend: Chosen, cell: str, given: tuple[bool, bool]) -> None:
    check(backend, cell, Case(directions=2, lengths=(4, 1, 0)), given)


def outcome(gradients: Gradients) -> list[Array]:
    arrays = [] if gradients.dx is None else [gradients.dx]
    arrays += [*gradients.states, *gradients.initial]
    return arrays + [a for d in gradients.directions for a in d if a is not None]


@pytest.mark.parametrize("cell", RECURRENT)
def test_backward_may_run_twice(backend: Chosen, cell: str) -> None:
    """[G9] [X4] backward writes nothing that was saved, and neither dy nor dstates."""
    weights, inputs = call(cell, Case(directions=2, lengths=(4, 2, 0)), "float32")
    dy, dstates = out_gradients(weights, inputs)
    _, _, saved = backend.run.forward(weights, inputs, save=True, num_threads=None)
    assert saved is not None
    kept = [a.copy() for a in (*saved.data, saved.y, dy, *dstates)]
    first = outcome(backend.run.backward(saved, dy, dstates, num_threads=None))
    second = outcome(backend.run.backward(saved, dy, dstates, num_threads=None))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(kept, (*saved.data, saved.y, dy, *dstates), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("cell", RECURRENT)
def test_bias_gradients(backend: Chosen, cell: str) -> None:
    """[G8] db_ih is db_hh, but not in n of the GRU with reset after; also for absent biases."""
    weights, inputs = call(cell, Case(bias=False))
    dy, dstates = out_gradients(weights, inputs)
    _, _, saved = backend.run.forward(weights, inputs, save=True, num_threads=None)
    assert saved is not None
    g = backend.run.backward(saved, dy, dstates, num_threads=None).directions[0]
    assert g.db_hh is not None
    same = np.ones(g.db_ih.shape, bool)
    if cell in ("gru", "gru_chosen", "gru_norm"):
        same[-5:] = False
    assert np.array_equal(g.db_ih == g.db_hh, same)


@pytest.mark.parametrize("cell", RECURRENT)
def test_saving_changes_no_output(backend: Chosen, cell: str) -> None:
    """[N1.4] Outputs and states have the same bits whether or not the call saves."""
    weights, inputs = call(cell, Case(5, 3, 6, 19, directions=2), "float32")
    y, states, _ = backend.run.forward(weights, inputs, save=False, num_threads=None)
    y2, states2, saved = backend.run.forward(weights, inputs, save=True, num_threads=None)
    assert saved is not None
    assert np.array_equal(y, y2)
    assert all(np.array_equal(a, b) for a, b in zip(states, states2, strict=True))
    assert not y2.flags.writeable
    assert y.flags.writeable
