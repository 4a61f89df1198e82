"""MatMul and Gemm with a constant right operand: one `Dense`, packed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from fusedrnn.nn import Dense

from . import _errors
from ._layers import FLOATS, HALVES, Array, Value, computed_in, native

OPERATORS = ("MatMul", "Gemm")


def fits(proto: Any, opset: int, constants: Mapping[str, Value]) -> bool:
    """Whether the right operand is a constant matrix of floating point numbers."""
    if proto.op_type not in OPERATORS or opset < 7 or len(proto.input) < 2:
        return False
    b = constants.get(proto.input[1])
    return isinstance(b, np.ndarray) and b.ndim == 2 and b.size > 0 and b.dtype in FLOATS + HALVES


class Product:
    """One node for which `fits` is true: alpha * A B + beta * C."""

    def __init__(self, where: str, proto: Any, constants: Mapping[str, Value]) -> None:
        self.where = where
        self.outputs = tuple(proto.output)
        names = [*proto.input, ""][:3]
        self._a, self._c = names[0], names[2]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        self._gemm = proto.op_type == "Gemm"
        self._alpha = attributes.get("alpha", 1.0)
        self._beta = attributes.get("beta", 1.0)
        self._turned = bool(attributes.get("transA", 0))
        b: Array = constants[names[1]]
        self._dtype = native(b.dtype)
        weight = b if attributes.get("transB", 0) else b.T  # Dense has (O, I)
        bias = self._as_bias(constants.get(self._c), len(weight))
        if bias is not None:
            self._c = ""
        self.inputs = tuple(dict.fromkeys(filter(None, (self._a, self._c))))
        computed = computed_in(self._dtype)
        self._dense = Dense(
            weight.shape[1], weight.shape[0], bias=bias is not None, dtype=computed, seed=0
        )
        parameters = {"weight": weight} | ({"bias": bias} if bias is not None else {})
        self._dense.load_state_dict({k: a.astype(computed) for k, a in parameters.items()})

    def _as_bias(self, c: Value, width: int) -> Array | None:
        """C where it is a constant row that nothing scales."""
        if not isinstance(c, np.ndarray) or (self._alpha, self._beta) != (1.0, 1.0):
            return None
        if c.dtype != self._dtype or c.shape not in ((width,), (1, width)):
            return None
        return c.reshape(width)

    def run(self, values: Mapping[str, Value], num_threads: int | None = None) -> dict[str, Value]:
        """Outputs by their names, from the values of the graph so far."""
        a = values[self._a]
        if not isinstance(a, np.ndarray) or a.dtype != self._dtype:
            expected = f"{self._dtype}, as the right operand"
            _errors.wrong_type(self.where, "input A", expected, _errors.describe(a))
        axis = 0 if self._turned else -1
        size = self._dense.in_features
        if a.ndim < 1 or (self._gemm and a.ndim != 2) or a.shape[axis] != size:
            expected = f"{'2 axes' if self._gemm else 'at least 1 axis'}, axis {axis} {size} long"
            _errors.differs(self.where, "input A", expected, a.shape)
        y = self._dense(a.T if self._turned else a, num_threads=num_threads)
        if self._alpha != 1.0:
            y *= y.dtype.type(self._alpha)
        if self._c:
            try:
                y += y.dtype.type(self._beta) * values[self._c]
            except (TypeError, ValueError) as error:
                _errors.failed(self.where, error)
        return {name: y.astype(self._dtype, copy=False) for name in self.outputs if name}
