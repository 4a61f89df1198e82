"""Random graphs on fusedrnn.onnx, compared with ONNX Runtime, and broken files.

The graphs are such as people write by hand: recurrent nodes, shapes computed from shapes, weights
computed from other weights, branches. Every value is used, so that a wrong one reaches the output.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_onnx import runtime

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fusedrnn.onnx import Backend  # noqa: E402

STEPS, BATCH, INPUTS = 4, 3, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
Shape = tuple[int, ...]


class Graph:
    """A chain of nodes; `name` and `shape` are those of its last value."""

    def __init__(self, data: st.DataObject, opset: int, prefix: str = "") -> None:
        self.data, self.opset, self.prefix = data, opset, prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.name = "X"
        self.shape: Shape = (STEPS, BATCH, INPUTS)
        self.rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))

    def draw(self, *choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def new(self) -> str:
        return f"{self.prefix}v{len(self.nodes)}"

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns the name of its first output."""
        name = self.new()
        names = [name, *(f"{name}_{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return name

    def constant(self, a: Any) -> str:
        """An initializer, or the output of a Constant node, for the array."""
        a = np.asarray(a)
        if self.draw(True, False):
            return self.node("Constant", value=numpy_helper.from_array(a))
        name = f"{self.prefix}k{len(self.constants)}"
        self.constants[name] = a
        return name

    def floats(self, *shape: int) -> Any:
        return self.rng.uniform(-0.9, 0.9, shape).astype("float32")

    def into(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, tuple(shape)

    # --- pieces

    def size(self, axis: int) -> str:
        """The size of an axis, (1,) int64, computed in the graph."""
        shape = self.node("Shape", self.name)
        if self.draw(True, False):
            return self.node("Gather", shape, self.constant([axis]), axis=0)
        begin, end = self.constant([axis]), self.constant([axis + 1])
        return self.node("Slice", shape, begin, end)

    def weight(self, a: Any) -> str:
        """A weight as an initializer, or computed from initializers."""
        way = self.draw("plain", "sliced", "joined", "turned", "cast", "scaled")
        if way == "sliced":
            padded = np.concatenate([a, a[:, :1]], axis=1)
            begin, end, axes = (self.constant([v]) for v in (0, a.shape[1], 1))
            return self.node("Slice", self.constant(padded), begin, end, axes)
        if way == "joined":
            parts = [self.constant(part) for part in np.array_split(a, 2, axis=1)]
            return self.node("Concat", *parts, axis=1)
        if way == "turned":
            order = [0, *range(1, a.ndim)][::-1]
            return self.node("Transpose", self.constant(a.transpose(order)), perm=order)
        if way == "cast":
            wide = self.constant(a.astype("float64"))
            return self.node("Cast", wide, to=TensorProto.FLOAT)
        if way == "scaled":
            return self.node("Mul", self.constant(a * 2), self.constant(np.float32(0.5)))
        return self.constant(a)

    def three_axes(self) -> None:
        if len(self.shape) == 3:
            return
        if len(self.shape) < 3:
            axes = self.constant(list(range(3 - len(self.shape))))
            shape = (*[1] * (3 - len(self.shape)), *self.shape)
            self.into(self.node("Unsqueeze", self.name, axes), shape)
            return
        first, last = self.size(0), self.size(len(self.shape) - 1)
        shape = self.node("Concat", first, self.constant([-1]), last, axis=0)
        middle = int(np.prod(self.shape[1:-1]))
        self.into(self.node("Reshape", self.name, shape), (self.shape[0], middle, self.shape[-1]))

    # --- steps

    def recurrent(self) -> None:
        self.three_axes()
        operator = self.draw("RNN", "GRU", "LSTM")
        direction = self.draw("forward", "reverse", "bidirectional")
        d, hidden = 1 + (direction == "bidirectional"), self.draw(1, 3)
        steps, batch, inputs = self.shape
        rows = GATES[operator] * hidden
        names = [self.name]
        names += [self.weight(self.floats(d, rows, n)) for n in (inputs, hidden)]
        names.append(self.weight(self.floats(d, 2 * rows)) if self.draw(True, False) else "")
        lengths = self.rng.integers(1, steps + 1, batch).astype("int32")
        names.append(self.constant(lengths) if self.draw(True, False) else "")
        if self.draw(True, False):
            sizes = [self.constant([d]), self.size(1), self.constant([hidden])]
            shape = self.node("Concat", *sizes, axis=0)
            value = numpy_helper.from_array(np.array([0.25], "float32"))
            names += [self.node("ConstantOfShape", shape, value=value)] * (
                2 if operator == "LSTM" else 1
            )
        more: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
        if operator == "GRU":
            more["linear_before_reset"] = self.draw(0, 1)
            more |= {"clip": 0.5} if self.draw(True, False) else {}
        if operator == "LSTM":
            more["input_forget"] = self.draw(0, 1)
        while not names[-1]:
            names.pop()
        whole = self.draw(True, False)
        outputs = 2 if operator != "LSTM" else 3
        y = self.node(operator, *names, outputs=outputs, **more)
        if not whole:
            self.into(f"{y}_1", (d, batch, hidden))
            return
        turned = self.node("Transpose", y, perm=[0, 2, 1, 3])  # (T, B, D, H)
        sizes = [self.size(0), self.size(1), self.constant([-1])]
        shape = self.node("Concat", *sizes, axis=0)
        self.into(self.node("Reshape", turned, shape), (steps, batch, d * hidden))

    def unary(self) -> None:
        self.into(
            self.node(self.draw("Tanh", "Sigmoid", "Relu", "Abs", "Neg"), self.name), self.shape
        )

    def binary(self) -> None:
        row = self.floats(*self.shape[self.draw(*range(len(self.shape))) :])
        operator = self.draw("Add", "Sub", "Mul", "Max", "Min", "Where")
        other = self.constant(row)
        if operator == "Where":
            condition = self.node("Greater", self.name, other)
            self.into(self.node("Where", condition, self.name, other), self.shape)
        else:
            self.into(self.node(operator, self.name, other), self.shape)

    def transpose(self) -> None:
        order = self.data.draw(st.permutations(range(len(self.shape))))
        shape = tuple(self.shape[k] for k in order)
        self.into(self.node("Transpose", self.name, perm=order), shape)

    def slice(self) -> None:
        axis = self.draw(*range(len(self.shape)))
        size = self.shape[axis]
        step = self.draw(1, 2, -1)
        begin, end = (0, 2**62) if step > 0 else (-1, -(2**62))
        parts = [self.constant([v]) for v in (begin, end, axis, step)]
        shape = list(self.shape)
        shape[axis] = -(-size // abs(step))
        self.into(self.node("Slice", self.name, *parts), tuple(shape))

    def flatten(self) -> None:
        """Flatten to two axes, with sizes computed in the graph."""
        if len(self.shape) < 2:
            return
        rows = self.size(0)
        for axis in range(1, len(self.shape) - 1):
            rows = self.node("Mul", rows, self.size(axis))
        columns = self.node("Div", self.node("Mul", self.size(len(self.shape) - 1), rows), rows)
        shape = self.node("Concat", rows, columns, axis=0)
        whole = int(np.prod(self.shape[:-1]))
        self.into(self.node("Reshape", self.name, shape), (whole, self.shape[-1]))

    def concat(self) -> None:
        axis = self.draw(*range(len(self.shape)))
        other = self.node("Neg", self.name)
        shape = list(self.shape)
        shape[axis] *= 2
        self.into(self.node("Concat", self.name, other, axis=axis), tuple(shape))

    def reduce(self) -> None:
        if len(self.shape) < 2:
            return
        axis = self.draw(*range(len(self.shape)))
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        axes = self.constant([axis])
        self.into(self.node("ReduceSum", self.name, axes, keepdims=0), shape)

    def softmax(self) -> None:
        axis = self.draw(*range(-len(self.shape), len(self.shape)))
        self.into(self.node("Softmax", self.name, axis=axis), self.shape)

    def product(self) -> None:
        width = self.draw(1, 3)
        matrix = self.weight(self.floats(self.shape[-1], width))
        self.into(self.node("MatMul", self.name, matrix), (*self.shape[:-1], width))

    def gemm(self) -> None:
        self.flatten()
        if len(self.shape) != 2:
            return
        matrix = self.constant(self.floats(3, self.shape[1]))
        bias = self.constant(self.floats(*self.draw((3,), (1,), (self.shape[0], 3))))
        more = {"alpha": self.draw(1.0, 0.5), "beta": self.draw(1.0, 0.5)}
        self.into(self.node("Gemm", self.name, matrix, bias, transB=1, **more), (self.shape[0], 3))

    def split(self) -> None:
        axis = self.draw(*range(len(self.shape)))
        if self.shape[axis] < 2:
            return
        sizes = self.constant([1, self.shape[axis] - 1])
        first = self.node("Split", self.name, sizes, outputs=2, axis=axis)
        self.into(self.node("Concat", f"{first}_1", first, axis=axis), self.shape)

    def expand(self) -> None:
        if len(self.shape) > 3:
            return
        one = self.node("Unsqueeze", self.name, self.constant([0]))
        sizes = [self.constant([2]), *(self.size(k) for k in range(len(self.shape)))]
        shape = self.node("Concat", *sizes, axis=0)
        self.into(self.node("Expand", one, shape), (2, *self.shape))

    def branch(self) -> None:
        """Both branches run the same steps, one of them negated; weights are captured or inside."""
        condition = self.constant(np.array(self.draw(True, False)))
        if self.draw(True, False):
            last = self.node("ReduceMax", self.name, keepdims=0)
            condition = self.node("Greater", last, self.constant(np.float32(0.1)))
        inner = Graph(self.data, self.opset, f"{self.new()}in")
        inner.into(self.name, self.shape)
        inner.step(depth=1)
        if inner.name == self.name:
            inner.unary()
        value = helper.make_tensor_value_info
        shape = [None] * len(inner.shape)
        bodies = {}
        for name, operator in (("then_branch", "Identity"), ("else_branch", "Neg")):
            end = f"{inner.prefix}{name}"
            last = helper.make_node(operator, [inner.name], [end])
            tensors = [numpy_helper.from_array(a, k) for k, a in inner.constants.items()]
            bodies[name] = helper.make_graph(
                [*inner.nodes, last], name, [], [value(end, TensorProto.FLOAT, shape)], tensors
            )
        self.into(self.node("If", condition, **bodies), inner.shape)

    def step(self, depth: int = 0) -> None:
        choices = [
            *(self.recurrent, self.recurrent, self.unary, self.binary, self.transpose, self.slice),
            *(self.flatten, self.concat, self.reduce, self.softmax, self.product, self.gemm),
            *(self.split, self.expand),
        ]
        self.draw(*choices, *([self.branch] if depth == 0 else []))()


@given(data=st.data(), opset=st.sampled_from([13, 14, 17, 21]), steps=st.integers(1, 6))
def test_random_graphs(data: st.DataObject, opset: int, steps: int) -> None:
    graph = Graph(data, opset)
    for _ in range(steps):
        graph.step()
    last = graph.node("Identity", graph.name)
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        graph.nodes,
        "random",
        [value("X", TensorProto.FLOAT, ["T", "B", INPUTS])],
        [value(last, TensorProto.FLOAT, [None] * len(graph.shape))],
        [numpy_helper.from_array(a, name) for name, a in graph.constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(made, opset_imports=imports, ir_version=8 if opset < 19 else 10)
    onnx.checker.check_model(model)
    x = np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS)).astype("float32")
    (found,), (wanted,) = Backend.run_model(model, [x]), runtime(model, {"X": x})
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape == graph.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 600), pytest.param(1, 10_000, marks=pytest.mark.exhaustive)]
)
def test_broken_files(seed: int, count: int) -> None:
    """Each broken file is read or refused by a named error, without a crash or a hang."""
    pytest.importorskip("resource")
    program = Path(__file__).with_name("onnx_fuzz.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), str(seed), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + count // 5,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    read, refused = map(int, re.findall(r"\d+", done.stdout))
    assert min(read, refused) > count / 4
