"""Reads broken ONNX files, in a process of its own: `python onnx_fuzz.py SEED COUNT`.

Prints the first exception that a reader must not raise, and exits with 1. The parent process limits
time and memory, and sees a crash as another exit code.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusedrnn import weights
from fusedrnn.onnx import Backend

ALLOWED = (ValueError, TypeError, OSError, MemoryError, onnx.checker.ValidationError)
MEMORY = 6 << 30  # a tensor that claims 2**40 elements fails instead of swapping

TEXT = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
model (float[T, B, 3] X, bool flag, int64 n) => (float[T, D, B, 4] Y, float[k, m] Z) {
    half = Constant<value_float = 0.5>()
    w2 = Mul(W, half)
    w = Concat<axis = 1>(first, rest)
    first = Slice(w2, zero, eight, one)
    rest = Slice(w2, eight, end, one)
    Y = If(flag) <
        then_branch = a () => (P) { P, h, c = LSTM<hidden_size = 4, clip = 3.0>(X, w, R, B) },
        else_branch = b () => (Q) { Q = local.Encoder<size = 4>(X, w, R, B) }
    >
    last = Gather(Y, minus)
    Z = Loop(n, , half) <body = l (int64 i, bool on, float v) => (bool more, float u, float s) {
        more = Identity(on)  u = Mul(v, half)  s = Add(u, half)
    }>
}
<domain: "local", opset_import: ["" : 17]>
Encoder<size, way: string = "forward">(x, w, r, b) => (y) {
    y, h, c = LSTM<hidden_size: int = @size, direction: string = @way,
        activations = ["Sigmoid", "LeakyRelu", "Tanh"], activation_alpha = [0.1]>(x, w, r, b)
}"""


def seeds() -> list[Any]:
    """Models with every kind of content that the readers look at."""
    text = TEXT.replace("    w = Concat<axis = 1>(first, rest)\n", "").replace(
        "    Y = If", "    w = Concat<axis = 1>(first, rest)\n    Y = If"
    )
    text = text.replace("float[k, m] Z", "float z, float[k] Z").replace("    Z = L", "    z, Z = L")
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    arrays = {
        "W": rng.standard_normal((1, 16, 3)).astype("float32"),
        "R": rng.standard_normal((1, 16, 4)).astype("float32"),
        "B": rng.standard_normal((1, 32)).astype("float32"),
        "zero": np.array([0]),
        "eight": np.array([8]),
        "one": np.array([1]),
        "end": np.array([2**62]),
        "minus": np.array(-1),
    }
    model.graph.initializer.extend(numpy_helper.from_array(a, k) for k, a in arrays.items())
    onnx.checker.check_model(model)
    Backend.prepare(model)
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y", "h"], hidden_size=4, layout=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["X", "K"], ["c"], pads=[1, 1]),
            helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2]),
            helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
            helper.make_node("GRU", ["t", *node.input[1:]], node.output, hidden_size=4, layout=1),
            helper.make_node("Gemm", ["h2", "G"], ["Z"], alpha=0.5),
            helper.make_node("Flatten", ["h"], ["h2"]),
        ],
        "plain",
        [value("X", TensorProto.FLOAT, [None, 3, None])],
        [value("Y", TensorProto.FLOAT, [None] * 4)],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype("float32"), name)
            for name, shape in {
                "K": (3, 3, 3),
                "W": (1, 12, 3),
                "R": (1, 12, 4),
                "G": (4, 2),
            }.items()
        ],
    )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[:4], nodes[5], nodes[4]])
    imports = [helper.make_opsetid("", 22)]
    second = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.checker.check_model(second)
    Backend.prepare(second)
    return [model, second]


def bytes_broken(pick: random.Random, data: bytes) -> bytes:
    """The bytes with some of them changed, cut out or inserted, or with the end cut off."""
    broken = bytearray(data)
    for _ in range(pick.choice([1, 1, 2, 5, 20])):
        at = pick.randrange(len(broken))
        kind = pick.random()
        if kind < 0.6:
            broken[at] = pick.randrange(256)
        elif kind < 0.75:
            del broken[at : at + pick.randint(1, 9)]
        elif kind < 0.9:
            broken[at:at] = bytes(pick.randrange(256) for _ in range(pick.randint(1, 9)))
        else:
            del broken[at:]
        if not broken:
            break
    return bytes(broken)


NUMBERS = (0, -1, 1, 2, 3, 7, 12, 2**31 - 1, 2**40, -(2**63), 2**63 - 1)
NAMES = ("", "X", "W", "R", "Y", "nowhere", "flag", "LSTM", "If", "local", "ai.onnx", "\u2603")


def fields(message: Any) -> list[tuple[Any, Any]]:
    """Every (message, descriptor) of a set field in a tree of protos."""
    found = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is not None:
            repeated = not hasattr(value, "ListFields")
            for part in value if repeated else [value]:
                found += fields(part)
    return found


def field_broken(pick: random.Random, model: Any) -> None:
    """Change one field of the tree: another value, no value, one part less or one part more."""
    message, field = pick.choice(fields(model))
    value = getattr(message, field.name)
    if pick.random() < 0.15:
        message.ClearField(field.name)
    elif hasattr(value, "append") or hasattr(value, "add"):  # a repeated field
        if len(value) and pick.random() < 0.5:
            del value[pick.randrange(len(value))]
        elif field.message_type is not None:
            value.add().CopyFrom(pick.choice(value))
        else:
            value.append(value[0])
            value[pick.randrange(len(value))] = other(pick, value[0])
    elif field.message_type is None:
        try:
            setattr(message, field.name, other(pick, value))
        except ValueError:  # outside the field's range
            message.ClearField(field.name)
    else:
        message.ClearField(field.name)


def other(pick: random.Random, value: Any) -> Any:
    if isinstance(value, str):
        return pick.choice(NAMES)
    if isinstance(value, bytes):
        return pick.choice([b"", b"\xff\xfe", b"Tanh", value[:-1], value + b"\0"])
    if isinstance(value, float):
        return pick.choice([0.0, -1.0, float("nan"), float("inf"), 1e30])
    number = pick.choice(NUMBERS)
    return number if -(2**31) <= number < 2**31 or pick.random() < 0.5 else 2**31 - 1


def run(pick: random.Random, path: Path) -> None:
    """Prepare a model and run it; a loop may have become endless, which is allowed."""
    rep = Backend.prepare(path)
    given: dict[str, Any] = {"X": np.ones((3, 3, 8), "float32")}
    if "flag" in rep.input_names:
        given = {"X": np.ones((5, 2, 3), "float32"), "n": np.array(3)}
        given["flag"] = np.array(pick.random() < 0.5)
    signal.alarm(2)
    try:
        rep.run(given)
    except Endless:
        pass
    finally:
        signal.alarm(0)


class Endless(Exception):
    """Raised when the time is up."""


def time_is_up(number: int, frame: Any) -> None:
    raise Endless


def main(seed: int, count: int) -> int:
    """Break and read `count` files; returns 0 if each was read or gave an allowed error."""
    signal.signal(signal.SIGALRM, time_is_up)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    pick = random.Random(seed)
    models = seeds()
    path = Path(tempfile.mkdtemp()) / "broken.onnx"
    ends = {"read": 0, "refused": 0}
    for number in range(count):
        model = pick.choice(models)
        if pick.random() < 0.4:
            data = bytes_broken(pick, model.SerializeToString())
        else:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            for _ in range(pick.choice([1, 1, 2, 3])):
                field_broken(pick, copy)
            data = copy.SerializeToString()
        path.write_bytes(data)
        for read in (partial(run, pick), weights.onnx_layers, weights.load):
            try:
                read(path)
            except ALLOWED:
                ends["refused"] += 1
            except BaseException:
                print(f"file {number} of seed {seed}: {read}")
                traceback.print_exc()
                print(model.graph.name, len(data))
                return 1
            else:
                ends["read"] += 1
    print(ends)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
