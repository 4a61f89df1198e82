"""A case as an ONNX model of one node, which ONNX Runtime, OpenVINO and onnx itself run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.cases import KEYS, Array, Case
from bench.rivals import Prepared
from fusedrnn import weights as formats

OPSET, IR = 17, 9
Feeds = dict[str, Array]


def refuses(case: Case) -> str:
    if case.training or case.mode in ("changed", "function"):
        return "inference of a fixed graph only"
    return "" if case.dtype == "float32" else "float32 only"


def model(case: Case, weights: Mapping[str, Array]) -> bytes:
    """The model; for single steps the state is an input, h and c."""
    arrays = formats.to_onnx(weights, KEYS[case.cell])
    lengths = case.lengths()
    if lengths is not None:
        arrays["lens"] = lengths.astype(np.int32)
    states = ["h", "c"] if case.cell.startswith("LSTM") else ["h"]
    carried = states if case.mode == "step" else []
    lens = "lens" if lengths is not None else ""
    inputs = ["x", "W", "R", "B", lens, *carried]
    if "P" in arrays:
        inputs += [""] * (7 - len(inputs)) + ["P"]
    attributes: dict[str, Any] = {"hidden_size": case.hidden_size}
    if case.cell.startswith("GRU"):
        attributes["linear_before_reset"] = int(case.cell == "GRU")
    outputs = ["y", *(f"{name}_n" for name in states)]
    node = helper.make_node(case.cell.split()[0], inputs, outputs, **attributes)

    def value(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    t, b, h = case.steps, case.batch, case.hidden_size
    graph = helper.make_graph(
        [node],
        "layer",
        [value("x", [t, b, case.input_size]), *(value(name, [1, b, h]) for name in carried)],
        [value("y", [t, 1, b, h]), *(value(f"{name}_n", [1, b, h]) for name in states)],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = IR
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def prepared(case: Case, run: Callable[[Feeds], Any]) -> Prepared:
    """A call of `run`, which takes inputs by name and returns y, h_n, c_n."""
    feeds: Feeds = {"x": case.x()}
    names = ("h", "c") if case.cell.startswith("LSTM") else ("h",)
    if case.mode == "step":
        feeds |= dict.fromkeys(names, np.zeros((1, case.batch, case.hidden_size), np.float32))

    def step() -> Any:
        result = run(feeds)
        for name, part in zip(names, result[1:], strict=True):
            feeds[name] = part
        return result

    def read(result: Any) -> dict[str, Array]:
        states = {name: part[0] for name, part in zip(names, result[1:], strict=True)}
        return {"y": result[0][:, 0], **states}

    return Prepared(step if case.mode == "step" else lambda: run(feeds), read)
