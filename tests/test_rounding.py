"""The rounding order to the bit: the kernels against law.py, which does one operation at a time.

[R1] [R2] [R3] [R4] [R5] [G1] [G2] [G3] [G4] [G5] [G6] [G7] [Y5] [Y6] [Y7] [Y8]
"""

from __future__ import annotations

from functools import cache

import pytest

from cases import CELL_NAMES, DTYPES, Case, assert_same_bits, call, out_gradients, outcome
from conftest import FMA_ISAS, Chosen, choose
from fusedrnn._cells import Array

pytestmark = pytest.mark.skipif(not FMA_ISAS, reason="no instruction set with fma here")

CASES = (
    Case(3, 2, 5, 21),  # units beyond a 64-byte block, with a tail
    Case(2, 1, 260, 70),  # several pieces of x, of h and of da
    Case(2, 3, 19, 8, bias=False, states=False),
    Case(5, 200, 2, 3),  # partial sums of two steps, the first of one
    Case(2, 520, 1, 2),  # a step of more than 512 rows
)


@cache
def lawful(cell: str, dtype: str, case: Case) -> dict[str, Array]:
    from law import Law
    from law_norm import NormLaw

    (weights,), inputs = call(cell, case, dtype)
    kind = NormLaw if weights.spec.norm else Law
    law = kind(weights, inputs, FMA_ISAS[0])
    found = law.forward()
    return found | law.backward(*out_gradients((weights,), inputs))


@pytest.mark.parametrize("isa", FMA_ISAS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [name for name in CELL_NAMES if not name.endswith("_chosen")])
def test_every_rounding(cell: str, dtype: str, case: Case, isa: str) -> None:
    weights, inputs = call(cell, case, dtype)
    chosen: Chosen
    for chosen in choose("native", isa):
        found = outcome(chosen.run, weights, inputs, *out_gradients(weights, inputs), threads=1)
        chosen.ran(f"{cell} {dtype}", 1)
    right = lawful(cell, dtype, case)
    if cell == "dense":  # it has no state
        found = {k: a for k, a in found.items() if "state" not in k}
        right = {k: a for k, a in right.items() if "state" not in k}
    assert_same_bits(found, right)
