"""Each cell on every instruction set, the reference and torch: forward, and forward with BPTT.

Run ``pytest bench --benchmark-only``. One thread everywhere, so that figures compare.
``extra_info`` has GFLOP/s and per cent of the FMA peak measured in the same run. No time fails a
test. ``python bench/run.py`` measures against all rivals and the project's targets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import fusedrnn as fr
from bench.cases import CELLS, Case
from bench.rivals import missing, ours

RUNS = [(isa, isa) for isa in fr.supported_isas()] + [("reference", "numpy")]
CASES = [replace(case, mode=mode) for case in CELLS for mode in ("forward", "training")]
TORCH = [case for case in CASES if case.cell in ("RNN", "LSTM", "GRU")]


def note(benchmark: Any, case: Case, peak: float | None) -> None:
    """Note the rates of the best round."""
    rate = case.flops() / benchmark.stats.stats.min * 1e-9
    benchmark.extra_info["GFLOP/s"] = round(rate, 1)
    if peak is not None:
        benchmark.extra_info["% of peak"] = round(100 * rate / peak, 1)


@pytest.mark.parametrize("isa", [isa for isa, _ in RUNS])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cell} {case.mode}")
def test_ours(benchmark: Any, case: Case, isa: str, peaks: dict[str, float]) -> None:
    """Our layer."""
    benchmark.group = f"{case.cell} {case.mode}"
    native = isa != "reference"
    backend = "native" if native else "reference"
    with fr.use_backend(backend), fr.use_isa(isa if native else fr.supported_isas()[0]):
        rounds = 3 if native else 1
        call = ours.prepare(case, case.weights()).call
        benchmark.pedantic(call, rounds=rounds, warmup_rounds=int(native))
        assert fr.last_path().backend == backend
    note(benchmark, case, peaks.get(isa))


@pytest.mark.parametrize("case", TORCH, ids=lambda case: f"{case.cell} {case.mode}")
def test_torch(benchmark: Any, case: Case, peaks: dict[str, float]) -> None:
    """torch's layer of the same name, where torch is installed."""
    if missing("torch"):
        pytest.skip("torch is not installed")
    from bench.rivals import pytorch

    benchmark.group = f"{case.cell} {case.mode}"
    call = pytorch.prepare(case, case.weights()).call
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)
    note(benchmark, case, peaks[fr.supported_isas()[0]])
