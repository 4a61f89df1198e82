"""fusedrnn, on the instruction set that FUSEDRNN_ISA names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import fusedrnn as fr
from bench.cases import RATE, Array, Case
from bench.rivals import Prepared
from bench.rivals.memory import growth

PROBES = 3
PROBED = 4096
KINDS: Mapping[str, Any] = {
    "RNN": fr.RNN,
    "LSTM": fr.LSTM,
    "LSTM peepholes": lambda *sizes, **options: fr.LSTM(*sizes, peepholes=True, **options),
    "GRU": fr.GRU,
    "GRU reset before": lambda *sizes, **options: fr.GRU(*sizes, reset_after=False, **options),
}


def versions() -> dict[str, str]:
    config = fr.build_config()
    compiler = " ".join(str(config.get(key, "")) for key in ("compiler", "compiler_version"))
    return {"fusedrnn": fr.__version__, "instruction set": fr.isa(), "compiler": compiler}


def refuses(case: Case) -> str:
    return ""


def layer(case: Case, weights: Mapping[str, Array]) -> Any:
    made = KINDS[case.cell](case.input_size, case.hidden_size, dtype=case.dtype, seed=0)
    made.load_state_dict(weights)
    return made


def states(state: Any) -> dict[str, Array]:
    parts = state if isinstance(state, tuple) else (state,)
    return {name: part[0] for name, part in zip("hc", parts, strict=False)}


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    return MODES[case.mode](case, layer(case, weights))


def _forward(case: Case, made: Any) -> Prepared:
    x, lengths = case.x(), case.lengths()
    return Prepared(
        lambda: made(x, lengths=lengths),
        lambda result: {"y": result[0], **states(result[1])},
    )


def _step(case: Case, made: Any) -> Prepared:
    stream, x = made.stream(case.batch), case.x()[0]
    return Prepared(lambda: stream.step(x), lambda h: {"y": h[None]})


def _training(case: Case, made: Any) -> Prepared:
    x, dy, lengths = case.x(), case.dy(), case.lengths()

    def call() -> Any:
        y, state, saved = made.forward(x, lengths=lengths)
        gradients = made.backward(saved, dy)
        with made.writable() as params:
            for name, gradient in gradients[2].items():
                params[name] -= RATE * gradient
        return y, state, gradients

    def read(result: Any) -> dict[str, Array]:
        y, state, (dx, _, dparams) = result
        weights = {f"d{name}": a for name, a in dparams.items() if name.startswith("weight_")}
        return {"y": y, "dx": dx, **states(state), **weights}

    return Prepared(call, read)


def _changed(case: Case, made: Any) -> Prepared:
    x, name = case.x(), "bias_ih_l0"

    def call() -> Any:
        with made.writable() as params:
            params[name][0] += RATE
        return made(x)

    return Prepared(call, lambda result: {"y": result[0], **states(result[1])})


def _function(case: Case, made: Any) -> Prepared:
    functions: dict[str, Any] = {"GRU": fr.gru_forward, "LSTM": fr.lstm_forward}
    run = functions[case.cell]
    x, weights = case.x(), list(made.state_dict().values())
    return Prepared(lambda: run(x, *weights), lambda result: {"y": result[0], "h": result[1]})


MODES = {
    "forward": _forward,
    "step": _step,
    "training": _training,
    "changed": _changed,
    "function": _function,
}


def probe(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Limits of one thread: FMA peaks in GFLOP/s, read bandwidth in GB/s, activations in ns.

    The bandwidth is that of reading arrays of these sizes.
    """
    from fusedrnn import _core

    isa = fr.isa()
    return {
        "activations": {
            dtype: tuple(_nanoseconds(f, isa, dtype) for f in (_core.sigmoid, _core.tanh))
            for dtype in ("float32", "float64")
        },
        "peak": {
            "float32": max(_core.peak_gflops(isa, False) for _ in range(PROBES)),
            "float64": max(_core.peak_gflops(isa, True) for _ in range(PROBES)),
        },
        "bandwidth": {
            name: max(_core.read_bandwidth(isa, size) for _ in range(PROBES))
            for name, size in sizes.items()
        },
    }


def _nanoseconds(function: Callable[[str, Array], Array], isa: str, dtype: str) -> float:
    """Nanoseconds per element of many elements, without the cost of an empty call."""
    rng, seconds = np.random.default_rng(0), []
    for n in (0, PROBED):
        x = rng.standard_normal(n).astype(dtype)
        timed = []
        for _ in range(PROBES * 100):
            start = time.perf_counter()
            function(isa, x)
            timed.append(time.perf_counter() - start)
        seconds.append(min(timed))
    return (seconds[1] - seconds[0]) / PROBED * 1e9


def kept(case: Case, weights: Mapping[str, Array]) -> dict[str, float]:
    """Bytes that a training forward call keeps beyond x and y, and its peak."""
    made, x = layer(case, weights), case.x()
    kept = made.forward(x, num_threads=case.threads)[-1].nbytes
    grown = growth(lambda: made.forward(x, num_threads=case.threads))
    return {"kept": float(kept), "peak": grown.peak}
