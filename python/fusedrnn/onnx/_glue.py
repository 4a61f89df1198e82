"""The plain nodes that exporters put around recurrent ones; onnx.reference computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from . import _errors
from ._layers import Array

# They move numbers, count axes or convert types; none of them computes.
OPERATORS = (
    "Cast",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Shape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


class Glue:
    """One node of OPERATORS."""

    def __init__(self, proto: Any, opset: int) -> None:
        self.where = _errors.place(proto)
        self.inputs = tuple(dict.fromkeys(filter(None, proto.input)))
        self.outputs = tuple(filter(None, proto.output))
        graph = onnx.helper.make_graph(
            [proto], "glue", _untyped(self.inputs), _untyped(self.outputs)
        )
        opsets = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        try:
            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:  # whatever a node with wrong attributes leads to
            _errors.failed(self.where, error)

    def run(self, values: Mapping[str, Array], num_threads: int | None = None) -> dict[str, Array]:
        """Outputs by their names, from the values of the graph so far."""
        try:
            found = self._evaluator.run(None, {name: values[name] for name in self.inputs})
        except Exception as error:  # whatever NumPy says to wrong shapes
            _errors.failed(self.where, error)
        return {name: np.asarray(a) for name, a in zip(self.outputs, found, strict=True)}


def _untyped(names: tuple[str, ...]) -> list[Any]:
    kind = onnx.TensorProto.UNDEFINED
    return [onnx.helper.make_tensor_value_info(name, kind, None) for name in names]
