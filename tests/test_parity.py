"""The kernels against the NumPy reference: every cell, instruction set, shape and option.

[N3.2] [N3.3] [S4] [S5] [S6] [L1] [L2] [L3] [L4]
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedrnn as fr
from cases import CELL_NAMES, DTYPES, SIZES, Case, any_case, call, converted, out_gradients, outcome
from conftest import ISAS
from floor import by_name, reference
from fusedrnn._cells import Array

pytestmark = pytest.mark.skipif(not ISAS, reason="this installation has no compiled kernels")
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def assert_within(found: dict[str, Array], right: dict[str, Array], bound: float) -> None:
    """Assert that errors are at most `bound` times the larger of 1 and the largest element."""
    assert found.keys() == right.keys()
    for name, exact in right.items():
        assert found[name].shape == exact.shape, name
        assert np.isfinite(found[name]).all(), name
        scale = max(1.0, float(np.abs(exact).max(initial=0)))
        error = float(np.abs(found[name] - exact).max(initial=0))
        assert error <= bound * scale, f"{name} is off by {error / scale / bound:.2f} bounds"


@given(st.data())
def test_any_call(data: st.DataObject) -> None:
    """Forward and backward calls on one to three threads differ only by rounding.

    A sum of K terms of order 1 is off by at most (8 + sqrt(K)) half-ulps (N3.2). The terms are
    those of a pre-activation, of dx (all gates) or of a weight gradient (all rows). The recurrence
    of these cases hardly enlarges errors: among thousands of calls the worst was off by 1.7 of
    these bounds, and 4 are allowed. Normalisation enlarges them more, the closer the sums of a row
    are to each other: by 20 at worst, and 40 are allowed.
    """
    cell, case, seed = data.draw(any_case(measured=True), "call")
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    weights, inputs = call(cell, case, dtype, seed)
    dy, dstates = out_gradients(weights, inputs, seed)
    given_dy = dy if data.draw(st.booleans(), "dy") else None
    given_dstates = dstates if data.draw(st.booleans(), "dstates") else None
    threads = data.draw(st.integers(1, 3), "threads")
    wide_weights, wide_inputs = converted(weights, inputs, "float64")
    right = outcome(
        reference(),
        wide_weights,
        wide_inputs,
        None if given_dy is None else given_dy.astype(float),
        None if given_dstates is None else tuple(d.astype(float) for d in given_dstates),
    )
    terms = max(
        weights[0].spec.gates * (case.input_size + case.hidden_size), case.steps * case.batch
    )
    for isa in ISAS:
        with fr.use_isa(isa):
            run = by_name("native")
            found = outcome(run, weights, inputs, given_dy, given_dstates, threads=threads)
            assert fr.last_path()[:3] == ("native", isa, f"{cell} {dtype}")
        if cell == "rnn_relu" and not np.array_equal(found["y"] > 0, right["y"] > 0):
            continue  # a pre-activation crossed relu's kink, where gradients jump
        times = 40 if weights[0].spec.norm else 4
        assert_within(found, right, times * (8 + np.sqrt(terms)) * UNIT[dtype])


@pytest.mark.parametrize("cell", ["rnn_identity", "dense"])
@given(st.data())
def test_pre_activation_bound(cell: str, data: st.DataObject) -> None:
    """[N3.2] These cells return the pre-activation; columns have all magnitudes and any size."""
    case = Case(
        steps=1,
        batch=data.draw(SIZES, "B"),
        input_size=data.draw(st.integers(0, 2048), "I"),
        hidden_size=data.draw(SIZES, "H"),
    )
    weights, inputs = call(cell, case, "float32", data.draw(st.integers(0, 2**32), "seed"))
    assert inputs.x is not None
    rng = np.random.default_rng(4)
    magnitude = data.draw(st.integers(0, 20), "binary orders of magnitude")
    inputs.x[:] *= 2.0 ** rng.uniform(-magnitude, magnitude, case.input_size)
    (w,), (wide,) = weights, converted(weights, inputs, "float64")[0]
    assert wide.b_ih is not None
    x = inputs.x[0].astype(float)
    terms = [(x, wide.w_ih)]
    exact, size = wide.b_ih.copy(), np.abs(wide.b_ih)
    if w.w_hh is not None and w.b_hh is not None and inputs.states is not None:
        exact += w.b_hh
        size = size + np.abs(w.b_hh)
        terms.append((inputs.states[0][0].astype(float), w.w_hh.astype(float)))
    for left, right in terms:
        exact = exact + left @ right.T
        size = size + np.abs(left) @ np.abs(right).T
    count = sum(left.shape[1] for left, _ in terms)
    for isa in ISAS:
        with fr.use_isa(isa):
            y = by_name("native").forward(weights, inputs, save=False, num_threads=1).y[0]
            assert fr.last_path() == ("native", isa, f"{cell} float32", 1)
        assert np.all(np.abs(y - exact) <= (8 + np.sqrt(count)) * UNIT["float32"] * size)


# The largest of some errors depends on chance, all the more if they are few: NumPy's may be 0. It
# therefore counts as at least FLOOR half-ulps of the array's largest element.
FLOOR = 3
END_TO_END = (
    Case(1, 1, 40, 64),
    Case(40, 1, 16, 48),
    Case(20, 12, 200, 100),
    Case(3, 300, 16, 24),
    Case(4, 2, 512, 512),
    Case(2, 7, 1024, 1024),
)


@lru_cache(maxsize=1)
def yardstick(cell: str, case: Case) -> tuple[Any, dict[str, Array], dict[str, float]]:
    """A call, its float64 results, and 4 times the errors of plain float32 NumPy."""
    weights, inputs = call(cell, case, "float32")
    dy, dstates = out_gradients(weights, inputs)
    plain = outcome(reference(), weights, inputs, dy, dstates)
    right = outcome(
        reference(),
        *converted(weights, inputs, "float64"),
        dy.astype(float),
        tuple(d.astype(float) for d in dstates),
    )
    allowed = {}
    for name, exact in right.items():
        least = FLOOR * UNIT["float32"] * np.abs(exact).max()
        allowed[name] = float(4 * max(np.abs(plain[name] - exact).max(), least))
    return (weights, inputs, dy, dstates), right, allowed


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("case", END_TO_END, ids=str)
def test_end_to_end_error(cell: str, case: Case) -> None:
    """[N3.3] The largest errors are at most 4 times NumPy's, for I + H up to 2048."""
    arguments, right, allowed = yardstick(cell, case)
    for isa in ISAS:
        with fr.use_isa(isa):
            found = outcome(by_name("native"), *arguments)
            assert fr.last_path()[:3] == ("native", isa, f"{cell} float32")
        over = {}
        for name, exact in right.items():
            error = float(np.abs(found[name] - exact).max())
            if error > allowed[name]:
                over[name] = round(error / allowed[name], 2)
        assert not over, f"{isa}: times the allowed error: {over}"
