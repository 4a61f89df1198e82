"""onnx's own evaluator, which is slow but an independent judge of the outputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx.reference import ReferenceEvaluator

from bench.cases import Array, Case
from bench.rivals import Prepared, onnx_graph

SLOW = 2e9


def versions() -> dict[str, str]:
    return {"onnx": onnx.__version__}


def refuses(case: Case) -> str:
    if case.data == "lengths" or ("GRU" in case.cell and case.mode == "step"):
        return "not in its evaluator"
    if case.flops() > SLOW:
        return "too slow to wait for"
    return onnx_graph.refuses(case)


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    session = ReferenceEvaluator(onnx.load_from_string(onnx_graph.model(case, weights)))
    return onnx_graph.prepared(case, lambda feeds: session.run(None, feeds))
