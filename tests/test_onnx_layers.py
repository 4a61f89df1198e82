"""weights.onnx_layers on graphs as exporters write them: computed weights, bodies, functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _protos, weights

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper  # noqa: E402

H, INPUTS = 4, 3
LSTM = fr.LSTM(INPUTS, H, seed=0)
WEIGHTS = weights.to_onnx(LSTM.params, LSTM.cell)


def saved(path: Path, text: str, arrays: dict[str, Any], opset: int = 17) -> Path:
    """Save a model from its text; returns the path."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "local" : 1]>\n'
    model = onnx.parser.parse_model(head + text)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), k) for k, a in arrays.items()
    )
    onnx.save(model, path)
    return path


def same(layer: weights.OnnxLayer, scale: float = 1) -> None:
    """Assert that these are the weights of LSTM, to the bit."""
    for name, a in weights.from_onnx(layer.arrays, layer.cell).items():
        factor = scale if name == "weight_ih_l0" else 1
        np.testing.assert_array_equal(a, factor * LSTM.params[name])


COMPUTED = {
    "Slice": "W = Slice(longer, zero, sixteen, one)",
    "Concat": "W = Concat<axis = 1>(first, last)",
    "Unsqueeze": "W = Unsqueeze(flat, zero)",
    "Transpose": "W = Transpose<perm = [0, 2, 1]>(turned)",
    "Cast": "W = Cast<to = 1>(double)",
    "Reshape": "W = Reshape(flat, shape)",
    "Mul": "W = Mul(half, two)",
    "a chain": "a = Mul(half, two)  b = Unsqueeze(a, zero)  d = Squeeze(b, zero)  W = Identity(d)",
    # torch's exporter reorders the gates in this way from 64 units on.
    "gates": "i = Slice(torch, zero, four, zero)  f = Slice(torch, four, eight, zero)  "
    "g = Slice(torch, eight, twelve, zero)  o = Slice(torch, twelve, sixteen, zero)  "
    "whole = Concat<axis = 0>(i, o, f, g)  W = Unsqueeze(whole, zero)",
}
W = WEIGHTS["W"]
PARTS = {
    "longer": np.concatenate([W, W], axis=1),
    "first": W[:, :5],
    "last": W[:, 5:],
    "flat": W[0],
    "torch": LSTM.params["weight_ih_l0"],
    "turned": W.swapaxes(1, 2),
    "double": W.astype("float64"),
    "half": W / 2,
    "two": np.float32(2),
    "shape": np.array([1, 4 * H, INPUTS]),
    **{name: np.array([n]) for n, name in ((0, "zero"), (1, "one"), (4, "four"), (8, "eight"))},
    **{name: np.array([n]) for n, name in ((12, "twelve"), (16, "sixteen"))},
}


@pytest.mark.parametrize("way", COMPUTED)
def test_computed_weights(way: str, tmp_path: Path) -> None:
    """Nodes of the graph compute the weights from initializers."""
    text = f"""model (float[T, B, 3] X) => (float[T, D, B, 4] Y) {{
        {COMPUTED[way]}
        Y, h, c = LSTM<hidden_size = 4>(X, W, R, B)
    }}"""
    arrays = PARTS | {"R": WEIGHTS["R"], "B": WEIGHTS["B"]}
    (layer,) = weights.onnx_layers(saved(tmp_path / "m.onnx", text, arrays)).values()
    same(layer)


def test_long_chains_are_no_recursion(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", [f"w{k}"], [f"w{k + 1}"]) for k in range(3000)]
    nodes.append(helper.make_node("LSTM", ["X", "w3000", "R", "B"], ["Y"], hidden_size=H))
    arrays = {"w0": W, "R": WEIGHTS["R"], "B": WEIGHTS["B"]}
    tensors = [numpy_helper.from_array(a, k) for k, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    (layer,) = weights.onnx_layers(tmp_path / "m.onnx").values()
    same(layer)


PLACES = """model (float[T, B, 3] X, bool flag, int64 n)
    => (float[T, D, B, 4] Y, float[n, T, D, B, 4] Z) {
    doubled = Mul(W, two)
    Y = If(flag) <
        then_branch = a () => (P) { P, h, c = LSTM<hidden_size = 4>(X, W, R, B) },
        else_branch = b () => (Q) {
            Q = If(flag) <
                then_branch = c () => (S) { S, h1, c1 = LSTM<hidden_size = 4>(X, doubled, R, B) },
                else_branch = d () => (V) { V = local.Encoder<size = 4>(X, W, R, B) }
            >
        }
    >
    Z = Loop(n, flag) <body = l (int64 i, bool on) => (bool more, float[T, D, B, 4] U) {
        more = Identity(on)
        w = Mul(half, two)
        U, h2, c2 = LSTM<hidden_size = 4>(X, w, R, B)
    }>
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Encoder<size>(x, w, r, b) => (y) {
    two = Constant<value_float = 2.0>()
    wide = Mul(w, two)
    y = local.Inner<size: int = @size, way = "reverse">(x, wide, r, b)
}
<domain: "local", opset_import: ["" : 17]>
Inner<size, way: string = "forward">(x, w, r, b) => (y) {
    y, h, c = LSTM<hidden_size: int = @size, direction: string = @way>(x, w, r, b)
}"""


def test_nodes_inside_others_have_a_path(tmp_path: Path) -> None:
    """Bodies of If and Loop and functions have a path, and see the names around them."""
    arrays = WEIGHTS | {"two": np.float32(2), "half": W / 2}
    found = weights.onnx_layers(saved(tmp_path / "m.onnx", PLACES, arrays))
    assert list(found) == [
        "Y/then_branch/P",
        "Y/else_branch/Q/then_branch/S",
        "Y/else_branch/Q/else_branch/V/y/y",
        "Z/body/U",
    ]
    for (name, layer), scale in zip(found.items(), (1, 2, 2, 1), strict=True):
        same(layer, scale)
        assert layer.attributes["hidden_size"] == H
        assert layer.attributes.get("direction") == ("reverse" if "/V/" in name else None)


def test_nodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Nodes may share a name in ONNX; all of them are found."""
    nodes = [
        helper.make_node("LSTM", ["X", "W", "R", "B"], [f"Y{k}"], "rnn", hidden_size=H)
        for k in range(3)
    ]
    tensors = [numpy_helper.from_array(a, k) for k, a in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    assert list(weights.onnx_layers(tmp_path / "m.onnx")) == ["rnn", "rnn (Y1)", "rnn (Y2)"]


def test_operators_of_other_domains_are_not_ours(tmp_path: Path) -> None:
    """Microsoft's quantised LSTM and a GRU of another domain are skipped; the rest is found."""
    text = """model (float[T, B, 3] X) => (float[T, D, B, 4] Y) {
        G = com.example.GRU(X, W, R)
        S = com.example.Swirl(X)
        Y, h, c = LSTM<hidden_size = 4>(S, W, R, B)
    }"""
    assert list(weights.onnx_layers(saved(tmp_path / "m.onnx", text, WEIGHTS))) == ["Y"]


LOOP = """W = Loop(two, , half) <body = l (int64 i, bool on, float[1, 16, 3] v)
    => (bool more, float[1, 16, 3] w) { more = Identity(on)  w = Add(v, v) }>"""


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("W = Mul(w, X)", "found W = W, which depends on X"),
        ("a = Add(X, X)  b = Mul(w, a)  W = Neg(b)", "found W = W, which depends on X"),
        ("W = Mul(w, nowhere)", "found W = W, which depends on nowhere"),
        ("W = RandomNormalLike(w)", "found W = W, which RandomNormalLike 'W' computes in each run"),
        ("W = com.example.Swirl(w)", "found W = W, which Swirl 'W' computes in each run"),
        (LOOP, "found W = W, which Loop 'W' computes in each run"),
        ("W = Neg(a)  a = Neg(W)", "found W = W, which depends on itself through W"),
        ("W = Reshape(w, seven)", "weights computed by: cannot be computed from these inputs"),
    ],
)
def test_weights_that_no_file_holds(nodes: str, says: str, tmp_path: Path) -> None:
    text = f"""model (float[T, B, 3] X) => (float[T, D, B, 4] Y) {{
        {nodes}
        Y, h, c = LSTM<hidden_size = 4>(X, W, R, B)
    }}"""
    arrays = {"w": W, "R": WEIGHTS["R"], "B": WEIGHTS["B"], "two": np.array(2), "half": W / 2}
    path = saved(tmp_path / "m.onnx", text, arrays | {"seven": np.array([7])})
    with pytest.raises(ValueError) as caught:
        weights.onnx_layers(path)
    assert "onnx_layers: node 'Y'" in str(caught.value)
    assert says in str(caught.value)


def test_without_a_version(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["w"], ["W"]),
        helper.make_node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=H),
    ]
    tensors = [numpy_helper.from_array(a, k) for k, a in (("w", W), ("R", WEIGHTS["R"]))]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))
    del model.opset_import[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="expected opset_import with the version of ONNX's own"):
        weights.onnx_layers(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        (
            helper.make_attribute("activations", 3),
            "attribute activations, a list of names; found 3",
        ),
        (onnx.AttributeProto(name="clip", ref_attr_name="outer"), "a value of attribute 'clip'"),
    ],
)
def test_wrong_attributes(attribute: Any, says: str, tmp_path: Path) -> None:
    node = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=H)
    node.attribute.append(attribute)
    tensors = [numpy_helper.from_array(a, k) for k, a in WEIGHTS.items()]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", [], [], tensors)), tmp_path / "m.onnx"
    )
    with pytest.raises(ValueError) as caught:
        weights.onnx_layers(tmp_path / "m.onnx")
    assert says in str(caught.value)


def test_functions_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """model (float[2] x) => (float[2] y) { y = local.f(x) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]>
    f (a) => (b) { b = local.f(a) }"""
    with pytest.raises(ValueError, match="functions at most 100 inside one another; found more"):
        weights.onnx_layers(saved(tmp_path / "m.onnx", text, {}))
    text = "model (float[2] x) => (float[2] y) { y = local.f0(x) }"
    for k in range(40):
        text += f"""
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f{k} (a) => (c) {{ b = local.f{k + 1}(a)  c = local.f{k + 1}(b) }}"""
    text += '\n<domain: "local", opset_import: ["" : 17]>\nf40 (a) => (b) { b = Neg(a) }'
    monkeypatch.setattr(_protos, "MAX_NODES", 1000)
    with pytest.raises(ValueError, match="at most 1000 nodes, those of called functions included"):
        weights.onnx_layers(saved(tmp_path / "m.onnx", text, {}))
