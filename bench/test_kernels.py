"""Each cell on every instruction set, the reference and torch: forward, and forward with BPTT.

``pytest bench --benchmark-only``; one thread everywhere, so that figures compare. GFLOP/s and per
cent of the FMA peak measured in the same run are in ``extra_info``. Timings are no tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from cases import CASES, Case

RUNS = [(isa, isa) for isa in fr.supported_isas()] + [("reference", "numpy")]


def ours(case: Case, training: bool) -> Callable[[], Any]:
    """One call of our layer."""
    layer, x = case.layer(), case.x()
    if not training:
        return lambda: layer(x, num_threads=1)
    dy = np.ones((case.steps, case.batch, case.hidden_size), np.float32)

    def train() -> Any:
        saved = layer.forward(x, num_threads=1)[-1]
        return layer.backward(saved, dy, num_threads=1)

    return train


def note(benchmark: Any, case: Case, training: bool, peak: float | None) -> None:
    """Rates of the best round."""
    rate = case.flops(training) / benchmark.stats.stats.min * 1e-9
    benchmark.extra_info["GFLOP/s"] = round(rate, 1)
    if peak is not None:
        benchmark.extra_info["% of peak"] = round(100 * rate / peak, 1)


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("isa", [isa for isa, _ in RUNS])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cell)
def test_ours(
    benchmark: Any, case: Case, isa: str, training: bool, peaks: dict[str, float]
) -> None:
    """Our layer."""
    benchmark.group = f"{case.cell} {'training' if training else 'forward'}"
    native = isa != "reference"
    backend = "native" if native else "reference"
    with fr.use_backend(backend), fr.use_isa(isa if native else fr.supported_isas()[0]):
        rounds = 3 if native else 1
        benchmark.pedantic(ours(case, training), rounds=rounds, warmup_rounds=int(native))
        assert fr.last_path().backend == backend
    note(benchmark, case, training, peaks.get(isa))


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("case", [c for c in CASES if c.cell in ("RNN", "LSTM", "GRU")])
def test_torch(benchmark: Any, case: Case, training: bool, peaks: dict[str, float]) -> None:
    """torch's layer of the same name, where torch is installed."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    benchmark.group = f"{case.cell} {'training' if training else 'forward'}"
    layer = getattr(torch.nn, case.cell)(case.input_size, case.hidden_size)
    x = torch.from_numpy(case.x()).requires_grad_(training)
    dy = torch.ones(case.steps, case.batch, case.hidden_size)

    def call() -> None:
        if training:
            layer(x)[0].backward(dy)
        else:
            with torch.inference_mode():
                layer(x)

    benchmark.pedantic(call, rounds=3, warmup_rounds=1)
    note(benchmark, case, training, peaks[fr.supported_isas()[0]])
