"""float32 errors of whole calls, compared with those of plain float32 NumPy. [N3.3]"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cases import RECURRENT, Case, call, converted, out_gradients
from conftest import Chosen
from floor import Backend, Inputs, Weights, reference
from fusedrnn._cells import Array

SIZES = Case(16, 6, 150, 133)
SEEDS = range(8)
# The largest of a few hundred errors depends on chance, so it is taken over several calls.


def results(
    run: Backend, weights: tuple[Weights, ...], inputs: Inputs, dtype: str
) -> dict[str, Array]:
    """Outputs and gradients by name. The incoming gradients have the same values in any dtype."""
    dy, dstates = out_gradients(weights, inputs)
    weights, inputs = converted(weights, inputs, dtype)
    y, states, saved = run.forward(weights, inputs, save=True, num_threads=None)
    assert saved is not None
    last = tuple(d.astype(dtype) for d in dstates)
    g = run.backward(saved, dy.astype(dtype), last, num_threads=None)
    assert g.dx is not None
    named = {"y": y, "dx": g.dx}
    named |= {f"state {k}": state for k, state in enumerate(states)}
    named |= {f"dstate {k}": state for k, state in enumerate(g.states)}
    return named | {k: a for k, a in g.directions[0]._asdict().items() if a is not None}


@cache
def oracles(cell: str, seed: int) -> tuple[dict[str, Array], dict[str, float]]:
    """The float64 results, which test_gradients checks, and the largest float32 errors of NumPy."""
    weights, inputs = call(cell, SIZES, "float32", seed)
    right = results(reference(), weights, inputs, "float64")
    plain = results(reference(), weights, inputs, "float32")
    return right, {name: float(np.abs(plain[name] - right[name]).max()) for name in right}


@pytest.mark.parametrize("cell", RECURRENT)
def test_errors_are_those_of_numpy(native: Chosen, cell: str) -> None:
    found: dict[str, float] = {}
    plain: dict[str, float] = {}
    for seed in SEEDS:
        right, errors = oracles(cell, seed)
        weights, inputs = call(cell, SIZES, "float32", seed)
        ours = results(native.run, weights, inputs, "float32")
        native.ran(f"{cell} float32")
        for name, r in right.items():
            found[name] = max(found.get(name, 0), float(np.abs(ours[name] - r).max()))
            plain[name] = max(plain.get(name, 0), errors[name])
    ratios = {name: round(found[name] / plain[name], 2) for name in found}
    # Without fma each product is rounded separately, so the baseline has a larger bound.
    assert max(ratios.values()) <= (4 if native.fma else 6), ratios
