"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from bench.cases import Array, Case
from bench.rivals import Prepared, onnx_graph
from bench.rivals.onnx_graph import refuses

__all__ = ["prepare", "refuses", "versions"]


def versions() -> dict[str, str]:
    return {"onnxruntime": onnxruntime.__version__}


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = case.threads, 1
    session = onnxruntime.InferenceSession(
        onnx_graph.model(case, weights), options, providers=["CPUExecutionProvider"]
    )
    return onnx_graph.prepared(case, lambda feeds: session.run(None, feeds))
