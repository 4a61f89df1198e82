"""Our NumPy reference, to show what a plain, readable implementation costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import fusedrnn as fr
from bench.cases import Array, Case
from bench.rivals import Prepared, ours

SLOW = 2e9  # operations; more would take several tenths of a second


def versions() -> dict[str, str]:
    return {"numpy": np.__version__}


def refuses(case: Case) -> str:
    return "too slow to wait for" if case.flops() > SLOW else ""


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    fr.use_backend("reference")
    return ours.prepare(case, weights)
