"""MatMul, Gemm and Conv with constant weights, as one `Dense` that is packed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from fusedrnn.nn import Dense

from . import _errors
from ._attributes import value_of
from ._layers import FLOATS, HALVES, Array, Step, Value, computed_in, named, native
from ._windows import Windows, windows_of


def product(where: str, proto: Any, opset: int, constants: Mapping[str, Value]) -> Step | None:
    """Return a step that runs a node on `Dense`; None if the node or its weights do not suit."""
    if proto.op_type not in ("MatMul", "Gemm", "Conv") or opset < 7:
        return None
    if len(proto.input) < 2 or not proto.input[0]:
        return None
    weights = constants.get(proto.input[1])
    if not isinstance(weights, np.ndarray) or weights.dtype not in FLOATS + HALVES:
        return None
    schema = onnx.defs.get_schema(proto.op_type, opset, "")
    attributes = {a.name: value_of(where, a, schema) for a in proto.attribute}
    if proto.op_type != "Conv":
        if weights.ndim != 2 or not weights.size:
            return None
        return Product(where, proto, attributes, constants)
    bias = proto.input[2] if len(proto.input) > 2 else ""
    if weights.ndim < 3 or not weights.size or attributes.get("group", 1) != 1:
        return None
    if bias and bias not in constants:
        return None
    return Convolution(where, proto, attributes, constants)


def dense(where: str, weight: Array, bias: Array | None) -> Dense:
    """Make a layer with these weights, (O, I) and (O,)."""
    computed = computed_in(native(weight.dtype))
    layer = Dense(*weight.shape[::-1], bias=bias is not None, dtype=computed, seed=0)
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    try:
        layer.load_state_dict({k: a.astype(computed) for k, a in parameters.items()})
    except (TypeError, ValueError) as error:  # the bias has another shape
        _errors.failed(where, error)
    return layer


class Product:
    """Runs MatMul or Gemm: alpha * A B + beta * C."""

    def __init__(
        self, where: str, proto: Any, attributes: Mapping[str, Any], constants: Mapping[str, Value]
    ) -> None:
        self.where = where
        self.outputs = tuple(proto.output)
        names = [*proto.input, ""][:3]
        self._a, self._c = names[0], names[2]
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
        self._dense = dense(where, weight, bias)

    def _as_bias(self, c: Value, width: int) -> Array | None:
        """Return C as a bias if it is a constant row and nothing is scaled."""
        if not isinstance(c, np.ndarray) or (self._alpha, self._beta) != (1.0, 1.0):
            return None
        if c.dtype != self._dtype or c.shape not in ((width,), (1, width)):
            return None
        return c.reshape(width)

    def run(self, values: Mapping[str, Value], num_threads: int | None = None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        a = values[self._a]
        if not isinstance(a, np.ndarray) or a.dtype != self._dtype:
            expected = f"{self._dtype}, as the right operand"
            _errors.wrong_type(self.where, "input A", expected, _errors.describe(a))
        axis = 0 if self._turned else -1
        size = self._dense.in_features
        if a.ndim < 1 or (self._gemm and a.ndim != 2) or a.shape[axis] != size:
            expected = f"{'2 axes' if self._gemm else 'at least 1 axis'}, axis {axis} {size} long"
            _errors.differs(self.where, "input A", expected, a.shape)
        wide = a.astype(self._dense.dtype, copy=False)
        y = self._dense(wide.T if self._turned else wide, num_threads=num_threads)
        if self._alpha != 1.0:
            y *= y.dtype.type(self._alpha)
        if self._c:
            try:
                y += y.dtype.type(self._beta) * values[self._c]
            except (TypeError, ValueError) as error:
                _errors.failed(self.where, error)
        return named(self.where, self.outputs, [y.astype(self._dtype, copy=False)])


class Convolution:
    """Runs Conv of one group with constant weights and bias: a product with a row per window."""

    def __init__(
        self, where: str, proto: Any, attributes: Mapping[str, Any], constants: Mapping[str, Value]
    ) -> None:
        self.where = where
        self.inputs: tuple[str, ...] = (proto.input[0],)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        w: Array = constants[proto.input[1]]
        self._dtype, self._channels, self._kernel = native(w.dtype), w.shape[1], w.shape[2:]
        self._attributes = attributes
        if tuple(attributes.get("kernel_shape") or self._kernel) != self._kernel:
            expected = f"the {self._kernel} of W"
            _errors.differs(where, "attribute kernel_shape", expected, attributes["kernel_shape"])
        bias = constants[proto.input[2]] if len(proto.input) > 2 and proto.input[2] else None
        self._dense = dense(where, w.reshape(len(w), -1), bias)
        n = len(self._kernel)
        # Axes of the windows as rows of the product: (N, windows ..., C, window ...), and of its
        # results: (N, O, windows ...).
        self._as_rows = (0, *range(2, n + 2), 1, *range(n + 2, 2 * n + 2))
        self._as_images = (0, n + 1, *range(1, n + 1))
        self._last: tuple[tuple[int, ...], Windows] | None = None

    def _windows(self, x: Array) -> Windows:
        """Return the windows over x; those of the last shape are kept."""
        last = self._last
        if last is None or last[0] != x.shape:
            last = self._last = x.shape, windows_of(self._attributes, self._kernel, x)
        return last[1]

    def run(self, values: Mapping[str, Value], num_threads: int | None = None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        x = values[self.inputs[0]]
        if not isinstance(x, np.ndarray) or x.dtype != self._dtype:
            expected = f"{self._dtype}, as the weights"
            _errors.wrong_type(self.where, "input X", expected, _errors.describe(x))
        n = len(self._kernel)
        if x.ndim != n + 2 or x.shape[1] != self._channels:
            expected = f"{n + 2} axes with {self._channels} channels"
            _errors.differs(self.where, "input X", expected, x.shape)
        try:
            wide = x.astype(self._dense.dtype, copy=False)
            rows = self._windows(wide).view(wide, 0, 0).transpose(self._as_rows)
        except MemoryError:
            raise
        except Exception as error:  # no window fits, or the attributes are not valid
            _errors.failed(self.where, error)
        rows = rows.reshape(*rows.shape[: n + 1], self._dense.in_features)
        y = self._dense(rows, num_threads=num_threads)
        y = np.ascontiguousarray(y.transpose(self._as_images), self._dtype)
        return named(self.where, self.outputs, [y])
