"""OpenVINO on the CPU, told to compute in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino

from bench.cases import Array, Case
from bench.rivals import Prepared, onnx_graph

CORE = openvino.Core()


def versions() -> dict[str, str]:
    return {"openvino": openvino.__version__}


def refuses(case: Case) -> str:
    return "no such cell" if case.cell == "LSTM peepholes" else onnx_graph.refuses(case)


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": case.threads,
        "NUM_STREAMS": 1,
    }
    model = CORE.read_model(onnx_graph.model(case, weights))
    request = CORE.compile_model(model, "CPU", options).create_infer_request()

    def run(feeds: onnx_graph.Feeds) -> list[Array]:
        outputs = request.infer(feeds, share_inputs=True, share_outputs=True)
        y, *states = (outputs[i] for i in range(len(outputs)))
        # The state goes in again as a copy, because the next call overwrites its memory.
        return [y, *(state.copy() for state in states)]

    return onnx_graph.prepared(case, run)
