"""What only the reference promises; test_forward tests its results together with the kernels'."""

from __future__ import annotations

import numpy as np
import pytest

from cases import CELL_NAMES, RECURRENT, Case, call, converted, out_gradients
from conftest import Chosen
from fusedrnn._activations import sigmoid
from fusedrnn._backends.reference.walks import CELLS
from fusedrnn._cells import CELLS as SPECS


def test_every_cell_is_there() -> None:
    assert CELLS.keys() == SPECS.keys()


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_float32_stays_float32(reference: Chosen, cell: str) -> None:
    """No step computes in float64, so that its errors are those of plain float32 NumPy."""
    weights, inputs = call(cell, Case(directions=2, reset=True, initial=True), "float32")
    dy, dstates = out_gradients(weights, inputs)
    y, states, saved = reference.run.forward(weights, inputs, save=True, num_threads=None)
    reference.ran(f"{cell} float32", threads=1)
    assert saved is not None
    g = reference.run.backward(saved, dy, dstates, num_threads=7)
    reference.ran(f"{cell} float32", threads=1)
    arrays = [y, *states, *saved.data, g.dx, *g.states]
    arrays += [a for d in g.directions for a in d]
    assert {a.dtype for a in arrays if a is not None} == {np.dtype(np.float32)}
    wide, _, _ = reference.run.forward(
        *converted(weights, inputs, "float64"), save=False, num_threads=None
    )
    assert wide.dtype == np.float64
    assert not np.array_equal(wide, y)


def test_sigmoid_everywhere() -> None:
    """The sigmoid has no overflow, no warning and monotone ends, and keeps NaN."""
    for dtype in (np.float32, np.float64):
        x = np.array([-np.inf, -1e4, -1, 0, 1, 1e4, np.inf, np.nan], dtype)
        y = sigmoid(x)
        assert y.dtype == dtype
        assert y[[0, 3, 6]].tolist() == [0, 0.5, 1]
        assert np.isnan(y[-1])
        assert np.allclose(y[[2, 4]], [0.2689414213699951, 0.7310585786300049], rtol=1e-6)


@pytest.mark.parametrize("cell", RECURRENT)
def test_saved_says_its_size(reference: Chosen, cell: str) -> None:
    weights, inputs = call(cell, Case(4, 3, 2, 5), "float32")
    spec = weights[0].spec
    saved = reference.run.forward(weights, inputs, save=True, num_threads=None).saved
    assert saved is not None
    assert saved.nbytes == 4 * 4 * 3 * 5 * (spec.gates + 2 * spec.states)
