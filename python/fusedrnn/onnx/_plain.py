"""Other standard operators: onnx.reference computes them, one node at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .. import _protos
from . import _errors, _mended
from ._layers import Value, named
from ._report import LARGE, Ledger

OLDEST = 7  # before it, operators broadcast by attributes, which onnx.reference does not read
# These move numbers or count axes, at NumPy's speed: they never warn about large arrays.
MOVES = frozenset(
    {
        "Cast",
        "CastLike",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
# Classes of onnx.reference whose `run` only checks what `_run` reads and returns. The binary ones
# demand one dtype of both inputs, and the numeric ones the dtype of the inputs in the result.
CHECKS = ("OpRun", "OpRunUnary", "OpRunUnaryNum", "OpRunBinary", "OpRunBinaryNum")


class Plain:
    """One node of a standard operator; `opsets` are those of its graph."""

    def __init__(
        self,
        where: str,
        proto: Any,
        opsets: Mapping[str, int],
        ledger: Ledger | None = None,
    ) -> None:
        self.where = where
        self.inputs = tuple(dict.fromkeys(filter(None, proto.input)))
        self.outputs = tuple(proto.output)
        self.folds = proto.op_type not in _protos.RANDOM
        self._ledger = None if proto.op_type in MOVES else ledger
        for a in proto.attribute:
            local(where, f"attribute {a.name}", a.t)
        self._arguments = tuple(proto.input)
        function = None
        if not proto.domain:
            function = _mended.own(proto, opsets[""])
            proto, opset = _mended.renewed(where, proto, opsets[""])
            opsets = {**opsets, "": opset}
        try:
            if function is not None:
                values = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
                self._compute: Callable[..., Any] = partial(function, values)
            else:
                self._compute = referee(proto, opsets)
        except Exception as error:  # errors of any class for wrong attributes
            _errors.failed(where, error)

    def run(self, values: Mapping[str, Value], num_threads: int | None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        found = self.compute(values)
        if self._ledger is not None:
            for a in (*map(values.__getitem__, self.inputs), *found.values()):
                if isinstance(a, np.ndarray) and a.size > LARGE:
                    self._ledger.warn_once(self.where, a.size)
        return found

    def compute(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Compute as `run` does, without a warning about large arrays.

        The caller ignores NumPy's floating point errors, once for all nodes.
        """
        arguments = [values[name] if name else None for name in self._arguments]
        try:
            found = self._compute(*arguments)
        except MemoryError:
            raise
        except Exception as error:  # NumPy's errors for wrong shapes
            _errors.failed(self.where, error)
        return named(self.where, self.outputs, found)


def referee(proto: Any, opsets: Mapping[str, int]) -> Callable[..., Any]:
    """Return the implementation of one node in onnx.reference: inputs to a tuple of outputs."""
    # Inputs are not declared: operators that depend on their types then look at the actual inputs.
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "node", [], outputs)
    imports = [onnx.helper.make_opsetid(*each) for each in opsets.items()]
    evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports))
    (node,) = evaluator.rt_nodes_
    compute = quick(node)
    return partial(_mended.reduced, compute) if proto.op_type.startswith("Reduce") else compute


def quick(node: Any) -> Callable[..., Any]:
    """Return what `node.run` computes, with most of its checks left out.

    With small inputs, onnx.reference spends most of a node's time around `_run`: it reads the
    attributes in each call, checks each result several times and calls an empty log. Here the
    attributes are read once. `node.run` still computes sequences, optional values and whatever it
    has to refuse.
    """
    run: Callable[..., Any] = node.run
    kind = next(cls.__name__ for cls in type(node).__mro__ if "run" in vars(cls))
    if kind not in CHECKS or node.has_linked_attribute or node.has_subgraph:
        return run
    names = node.attributes_names_ if kind == "OpRun" else ()
    compute = partial(node._run, **{name: getattr(node, name) for name in names})
    binary, numeric = kind.startswith("OpRunBinary"), kind.endswith("Num")

    def checked(*arguments: Value) -> Any:
        if binary and len({getattr(a, "dtype", None) for a in arguments}) != 1:
            return run(*arguments)
        found = compute(*arguments)
        for a in found:
            if not isinstance(a, (np.ndarray, np.generic)):
                return run(*arguments)
        if numeric and found[0].dtype != arguments[0].dtype:
            return run(*arguments)
        return [np.asarray(a) for a in found]

    return checked


def local(where: str, what: str, tensor: Any) -> None:
    """Refuse a tensor whose numbers are in another file; ``onnx.load`` should have read them."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        expected = "its numbers in the model, as onnx.load(path) reads them"
        _errors.differs(where, what, expected, "a tensor whose numbers are in another file")


def array(where: str, tensor: Any) -> Value:
    """Return the numbers of an initializer."""
    what = f"initializer {tensor.name!r}"
    local(where, what, tensor)
    try:
        a = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # NumPy's errors for wrong sizes and types
        _errors.unreadable(f"{where}: {what}", error)
    a.flags.writeable = False
    return a
