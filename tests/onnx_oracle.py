"""ONNX's RNN, GRU and LSTM in float64, and models of them; long, as it uses nothing of fusedrnn.

It is written from the equations of the specification, one step at a time, with the specification's
names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = Any
T, B, INPUTS, H = 4, 3, 2, 3
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ROLES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

ACTIVATIONS: dict[str, Any] = {
    "Relu": lambda x, alpha, beta: np.maximum(0, x),
    "Tanh": lambda x, alpha, beta: np.tanh(x),
    "Sigmoid": lambda x, alpha, beta: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "LeakyRelu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha, beta: np.where(x >= alpha, x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "HardSigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "Elu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * (np.exp(x) - 1)),
    "Softsign": lambda x, alpha, beta: x / (1 + abs(x)),
    "Softplus": lambda x, alpha, beta: np.log(1 + np.exp(x)),
}


@dataclass(frozen=True)
class Chosen:
    """The lists of a node, and the (name, alpha, beta) of each activation that they stand for."""

    names: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()
    meant: tuple[tuple[str, float, float], ...] = ()


# The activations f, g, h of one direction, and other ones for the second direction;
# fusedrnn.onnx._activations states the rule.
SAME = {
    "RNN": Chosen(("ScaledTanh",), (1.25,), (0.75,), (("ScaledTanh", 1.25, 0.75),)),
    "GRU": Chosen(
        ("HardSigmoid", "LeakyRelu"),
        (0.25, 0.125),
        (0.375,),
        (("HardSigmoid", 0.25, 0.375), ("LeakyRelu", 0.125, 0)),
    ),
    "LSTM": Chosen(
        ("HardSigmoid", "Softsign", "ScaledTanh"),
        (0.25, 1.25),
        (0.375, 0.75),
        (("HardSigmoid", 0.25, 0.375), ("Softsign", 0, 0), ("ScaledTanh", 1.25, 0.75)),
    ),
}
OTHER = {
    "RNN": Chosen(("Affine",), (0.5,), (0.25,), (("Affine", 0.5, 0.25),)),
    "GRU": Chosen(("Sigmoid", "Elu"), (0.75,), (), (("Sigmoid", 0, 0), ("Elu", 0.75, 0))),
    "LSTM": Chosen(
        ("Sigmoid", "Elu", "Affine"),
        (0.75, 0.5),
        (0.25,),
        (("Sigmoid", 0, 0), ("Elu", 0.75, 0), ("Affine", 0.5, 0.25)),
    ),
}
DEFAULT = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


def joined(first: Chosen, second: Chosen) -> Chosen:
    """The lists of both directions, joined."""
    return Chosen(
        first.names + second.names,
        first.alphas + second.alphas,
        first.betas + second.betas,
        first.meant + second.meant,
    )


def activation_sets(operator: str, directions: int) -> list[Chosen]:
    """Activations: the default ones, the same in both directions, different ones."""
    default = tuple((name, 0.0, 0.0) for name in DEFAULT[operator] * directions)
    same, other = SAME[operator], OTHER[operator]
    if directions == 1:
        return [Chosen(meant=default), same, other]
    return [Chosen(meant=default), joined(same, same), joined(same, other)]


@dataclass(frozen=True)
class Case:
    """One node: its attributes, and which optional inputs and outputs it has."""

    operator: str
    direction: str
    layout: int
    lengths: tuple[int, ...] | None
    initial: str  # "", "h", "c" or "hc"
    peepholes: bool
    clip: float | None
    chosen: Chosen
    input_forget: bool
    linear_before_reset: bool
    bias: bool
    dtype: str = "float32"
    opset: int = 22
    outputs: tuple[str, ...] = ("Y", "Y_h")
    weights_are_inputs: bool = False

    @property
    def directions(self) -> int:
        """The number of directions."""
        return 2 if self.direction == "bidirectional" else 1


OPSETS = {0: (7, 13, 14, 22), 1: (14, 22)}
OUTPUTS = {
    "RNN": (("Y", "Y_h"), ("Y",), ("", "Y_h")),
    "LSTM": (("Y", "Y_h", "Y_c"), ("Y", "", "Y_c"), ("", "Y_h"), ("Y",), ("", "", "Y_c")),
}
OUTPUTS["GRU"] = OUTPUTS["RNN"]


def grid(operator: str, direction: str, layout: int) -> Iterator[Case]:
    """Every combination of the other attributes; opset, outputs and origin of weights alternate."""
    lstm, both = operator == "LSTM", (False, True)
    axes = (
        (None, (4, 2, 3), (0, 4, 1)),
        ("", "h", "c", "hc") if lstm else ("", "h"),
        both if lstm else (False,),
        (None, 0.375),
        activation_sets(operator, 2 if direction == "bidirectional" else 1),
        both if lstm else (False,),
        both if operator == "GRU" else (False,),
        both,
        ("float32", "float64"),
    )
    for turn, values in enumerate(product(*axes)):
        yield Case(
            operator,
            direction,
            layout,
            *values,
            opset=OPSETS[layout][turn % len(OPSETS[layout])],
            outputs=OUTPUTS[operator][turn % len(OUTPUTS[operator])],
            weights_are_inputs=turn % 7 == 0,
        )


def draw(case: Case, seed: int) -> dict[str, Array]:
    """Draw the node's inputs, by their roles."""
    rng = np.random.default_rng(seed)
    gates, d = GATES[case.operator], case.directions
    shapes = {"X": (T, B, INPUTS), "W": (d, gates * H, INPUTS), "R": (d, gates * H, H)}
    shapes |= {"B": (d, 2 * gates * H)} if case.bias else {}
    shapes |= {"P": (d, 3 * H)} if case.peepholes else {}
    shapes |= {f"initial_{part}": (d, B, H) for part in case.initial}
    arrays = {name: rng.uniform(-1, 1, shape).astype(case.dtype) for name, shape in shapes.items()}
    if "initial_c" in arrays:
        arrays["initial_c"] *= 2  # so that clip acts on h's input
    if case.layout:
        for name in ("X", "initial_h", "initial_c"):
            if name in arrays:
                arrays[name] = np.ascontiguousarray(arrays[name].swapaxes(0, 1))
    if case.lengths is not None:
        arrays["sequence_lens"] = np.array(case.lengths, np.int32)
    return arrays


def model(case: Case, arrays: dict[str, Array]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The case as a graph of one node, and the inputs of the graph."""
    operator = case.operator
    lists = {
        "activations": case.chosen.names,
        "activation_alpha": case.chosen.alphas,
        "activation_beta": case.chosen.betas,
    }
    attributes: dict[str, Any] = {name: list(values) for name, values in lists.items() if values}
    attributes |= {"clip": case.clip} if case.clip is not None else {}
    attributes |= {"direction": case.direction} if case.direction != "forward" else {}
    attributes |= {"layout": 1} if case.layout else {}
    attributes |= {"input_forget": 1} if case.input_forget else {}
    attributes |= {"linear_before_reset": 1} if case.linear_before_reset else {}
    roles = [role if role in arrays else "" for role in ROLES[: 8 if operator == "LSTM" else 6]]
    while not roles[-1]:
        roles.pop()
    node = helper.make_node(
        operator, roles, case.outputs, name="the node", hidden_size=H, **attributes
    )
    constant = () if case.weights_are_inputs else ("W", "R", "B", "P")
    given = {name: a for name, a in arrays.items() if name not in constant}
    constants = {k: a for k, a in arrays.items() if k not in given}
    made, given = graph_of([node], given, constants, case.opset)
    for value in made.graph.output:
        if value.name == "Y":
            value.type.tensor_type.shape.dim.add()  # Y has rank 4
    return made, given


def graph_of(
    nodes: list[onnx.NodeProto],
    given: dict[str, Array],
    constants: dict[str, Array],
    opset: int = 22,
    rank: int = 3,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of the nodes, and its inputs; its outputs are the last node's, all of one rank."""
    kind = helper.np_dtype_to_tensor_dtype(given["X"].dtype)
    graph = helper.make_graph(
        nodes,
        "the graph",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for k, a in given.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, (None,) * rank)
            for name in nodes[-1].output
            if name
        ],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), given


# --- the equations ----------------------------------------------------------------------------


def expected(case: Case, arrays: dict[str, Array]) -> dict[str, Array]:
    """Y, Y_h and Y_c by these names."""
    a = {name: value.astype(np.float64) for name, value in arrays.items()}
    if case.layout:
        a |= {k: a[k].swapaxes(0, 1) for k in ("X", "initial_h", "initial_c") if k in a}
    steps, batch = a["X"].shape[:2]
    d, gates = case.directions, GATES[case.operator]
    zeros = np.zeros((d, batch, H))
    biases = a.get("B", np.zeros((d, 2 * gates * H)))
    peepholes = a.get("P", np.zeros((d, 3 * H)))
    y = np.zeros((steps, d, batch, H))
    y_h, y_c = a.get("initial_h", zeros).copy(), a.get("initial_c", zeros).copy()
    for k in range(d):
        each = len(case.chosen.meant) // d
        functions = [activation(case, *one) for one in case.chosen.meant[k * each : (k + 1) * each]]
        weights = (
            np.split(a["W"][k], gates),
            np.split(a["R"][k], gates),
            *(np.split(part, gates) for part in np.split(biases[k], 2)),
            np.split(peepholes[k], 3),
        )
        lengths = np.array([steps] * batch if case.lengths is None else case.lengths)
        for n in range(steps):
            rows = np.flatnonzero(n < lengths)
            t = np.full(len(rows), n)
            if k == 1 or case.direction == "reverse":
                t = lengths[rows] - 1 - n
            y_h[k, rows], y_c[k, rows] = STEPS[case.operator](
                case, functions, weights, a["X"][t, rows], y_h[k, rows], y_c[k, rows]
            )
            y[t, k, rows] = y_h[k, rows]
    if case.layout:
        y, y_h, y_c = y.transpose(2, 0, 1, 3), y_h.swapaxes(0, 1), y_c.swapaxes(0, 1)
    return {"Y": y, "Y_h": y_h, "Y_c": y_c}


def activation(case: Case, name: str, alpha: float, beta: float) -> Any:
    """One activation function with its input clipped."""

    def apply(v: Array) -> Array:
        if case.clip is not None:
            v = np.minimum(np.maximum(v, -case.clip), case.clip)
        return ACTIVATIONS[name](v, alpha, beta)

    return apply


def rnn(case: Case, by: Any, weights: Any, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    (Wi,), (Ri,), (Wbi,), (Rbi,), _ = weights
    return by[0](x @ Wi.T + h @ Ri.T + Wbi + Rbi), c


def gru(case: Case, by: Any, weights: Any, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    (Wz, Wr, Wh), (Rz, Rr, Rh), (Wbz, Wbr, Wbh), (Rbz, Rbr, Rbh), _ = weights
    f, g = by
    z = f(x @ Wz.T + h @ Rz.T + Wbz + Rbz)
    r = f(x @ Wr.T + h @ Rr.T + Wbr + Rbr)
    if case.linear_before_reset:
        new = g(x @ Wh.T + r * (h @ Rh.T + Rbh) + Wbh)
    else:
        new = g(x @ Wh.T + (r * h) @ Rh.T + Rbh + Wbh)
    return (1 - z) * new + z * h, c


def lstm(case: Case, by: Any, weights: Any, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    (Wi, Wo, Wf, Wc), (Ri, Ro, Rf, Rc), (Wbi, Wbo, Wbf, Wbc), (Rbi, Rbo, Rbf, Rbc), P = weights
    Pi, Po, Pf = P
    f, g, last = by
    i = f(x @ Wi.T + h @ Ri.T + Pi * c + Wbi + Rbi)
    forget = 1 - i if case.input_forget else f(x @ Wf.T + h @ Rf.T + Pf * c + Wbf + Rbf)
    new = forget * c + i * g(x @ Wc.T + h @ Rc.T + Wbc + Rbc)
    o = f(x @ Wo.T + h @ Ro.T + Po * new + Wbo + Rbo)
    return o * last(new), new


STEPS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
