"""If, Loop, Scan and functions of the model on fusedrnn.onnx, compared with ONNX Runtime.

Models are in ONNX's text form. The file also tests what a prepared model reports: where its nodes
run, and that some are slow.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _protos, weights
from test_onnx import runtime

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper  # noqa: E402

from fusedrnn.onnx import Backend, SlowNodeWarning, _control, _rep, _report  # noqa: E402

RNG = np.random.default_rng(8)
H, INPUTS = 4, 3
X = RNG.standard_normal((5, 2, INPUTS)).astype("float32")
LSTM = fr.LSTM(INPUTS, H, seed=0)
WEIGHTS = weights.to_onnx(LSTM.params, LSTM.cell)


def parsed(text: str, arrays: dict[str, Any] | None = None, opset: int = 17) -> Any:
    """A model from the text of its graph and functions, with these initializers."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "local" : 1]>\n'
    model = onnx.parser.parse_model(head + text)
    tensors = [numpy_helper.from_array(np.asarray(a), k) for k, a in (arrays or {}).items()]
    model.graph.initializer.extend(tensors)
    return model


def agree(model: Any, given: dict[str, Any], bound: float = 2e-6) -> tuple[Any, ...]:
    """Our outputs; asserts that ONNX Runtime's have the same shapes, types and numbers."""
    found = Backend.run_model(model, given)
    for a, b in zip(found, runtime(model, given), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)
    return found


# --- If ---------------------------------------------------------------------------------------

BRANCHES = """
model (float[T, B, 3] X, bool flag) => (float[T, D, B, 4] Y) {
    Y = If(flag) <
        then_branch = kept () => (Z) { Z, h, c = LSTM<hidden_size = 4>(X, W, R, B) },
        else_branch = turned () => (Z) {
            shifted = Add(X, one)
            Z, h = LSTM<hidden_size = 4>(shifted, W, R, B)
        }
    >
}"""


def test_recurrent_nodes_in_branches() -> None:
    """Nodes in bodies of If are found and run on the kernels."""
    model = parsed(BRANCHES, WEIGHTS | {"one": np.float32(1)})
    for flag in (True, False):
        for given in (np.array(flag), np.array(flag)):
            (y,) = agree(model, {"X": X, "flag": given})
            assert fr.last_path().kernel == "lstm float32"
            wanted, _ = LSTM(X if flag else X + np.float32(1))
            np.testing.assert_array_equal(y[:, 0], wanted)
    rep = Backend.prepare(model)
    assert [tuple(p) for p in rep.report()] == [
        ("Y", "If", "control"),
        ("Y/else_branch/shifted", "Add", "reference"),
        ("Y/else_branch/Z", "LSTM", "kernel"),
        ("Y/then_branch/Z", "LSTM", "kernel"),
    ] or [tuple(p) for p in rep.report()] == [
        ("Y", "If", "control"),
        ("Y/then_branch/Z", "LSTM", "kernel"),
        ("Y/else_branch/shifted", "Add", "reference"),
        ("Y/else_branch/Z", "LSTM", "kernel"),
    ]


def test_a_branch_that_never_runs_may_be_wrong() -> None:
    """What only a run can find is no error while the branch is not taken."""
    text = """model (float[3] X, bool flag) => (float[n] Y) {
        Y = If(flag) <
            then_branch = a () => (Z) { Z = Identity(X) },
            else_branch = b () => (Z) { Z = Reshape(six, four) }
        >
    }"""
    model = parsed(text, {"six": np.zeros(6, "float32"), "four": np.array([4], "int64")})
    rep = Backend.prepare(model)
    x = np.arange(3, dtype="float32")
    np.testing.assert_array_equal(rep.run({"X": x, "flag": np.array(True)})[0], x)
    with pytest.raises(ValueError, match=r"node 'Y/else_branch/Z' .Reshape.: cannot be computed"):
        rep.run({"X": x, "flag": np.array(False)})


# --- Loop -------------------------------------------------------------------------------------


def test_a_loop_over_a_recurrent_node() -> None:
    """States are carried, weights and inputs captured, outputs stacked along a new axis."""
    text = """model (float[T, B, 3] X, int64 n, float[1, B, 4] h0, float[1, B, 4] c0)
        => (float[1, B, 4] h, float[1, B, 4] c, float[n, T, D, B, 4] Ys) {
        h, c, Ys = Loop(n, yes, h0, c0) <body = again (int64 i, bool on, float[1, B, 4] hi,
            float[1, B, 4] ci) => (bool still, float[1, B, 4] ho, float[1, B, 4] co,
            float[T, D, B, 4] Y) {
            still = Identity(on)
            Y, ho, co = LSTM<hidden_size = 4>(X, W, R, B, , hi, ci)
        }>
    }"""
    model = parsed(text, WEIGHTS | {"yes": np.array(True)})
    h0, c0 = (RNG.standard_normal((1, 2, H)).astype("float32") for _ in range(2))
    for n in (3, 1):
        h, c, ys = agree(model, {"X": X, "n": np.array(n, "int64"), "h0": h0, "c0": c0})
        state = h0, c0
        for k in range(n):
            y, state = LSTM(X, state)
            np.testing.assert_array_equal(ys[k][:, 0], y)
        np.testing.assert_array_equal(h, state[0])
        np.testing.assert_array_equal(c, state[1])


LOOP = """model (int64 n, bool go, float[2] x) => (float[2] last, float[k] sums, int64[m, 2] is) {
    last, sums, is = Loop(n, go, x) <body = b (int64 i, bool on, float[2] v)
        => (bool more, float[2] w, float s, int64[2] pair) {
        w = Add(v, x)
        s = ReduceSum<keepdims = 0>(w)
        more = Less(s, most)
        one = Constant<value_ints = [1]>()
        i1 = Reshape(i, one)
        pair = Concat<axis = 0>(i1, i1)
    }>
}"""


@pytest.mark.parametrize("count", [0, 1, 2, 9])
@pytest.mark.parametrize("go", [True, False])
def test_loops_that_stop(count: int, go: bool) -> None:
    """A loop ends by its count, by its condition, or before the first step."""
    model = parsed(LOOP, {"most": np.float32(20)})
    x = np.array([1, 2], "float32")
    last, sums, _ = agree(model, {"n": np.array(count), "go": np.array(go), "x": x})
    steps = min(count, 6) if go else 0
    np.testing.assert_array_equal(last, x * (steps + 1))
    np.testing.assert_array_equal(sums, 3 * np.arange(2, steps + 2, dtype="float32"))


def test_loops_without_a_count_or_a_condition() -> None:
    for inputs in ("n, , x", ", go, x"):
        model = parsed(LOOP.replace("n, go, x)", f"{inputs})", 1), {"most": np.float32(20)})
        x = np.array([1, 2], "float32")
        agree(model, {"n": np.array(4), "go": np.array(True), "x": x})


def test_a_captured_name_is_not_the_body_s_input() -> None:
    """onnx.reference 1.23 reads the outer value if a body's input has the same name."""
    text = """model (float[2] x) => (float[2] y) {
        y = Loop(n, , x) <body = b (int64 i, bool on, float[2] v)
            => (bool more, float[2] w) { more = Identity(on)  w = Mul(v, x) }>
    }"""
    model = parsed(text, {"n": np.array(3)})
    (y,) = agree(model, {"x": np.array([2, 3], "float32")})
    np.testing.assert_array_equal(y, [16, 81])


def test_a_name_may_be_used_again_inside() -> None:
    """ONNX forbids it, but files have it: a name means its nearest value."""
    text = """model (float[2] x) => (float[2] y) {
        k = Constant<value_floats = [1.0, 2.0]>()
        y = Loop(n, , x) <body = b (int64 i, bool on, float[2] v)
            => (bool more, float[2] w) { more = Identity(on)  k = Add(v, v)  w = Neg(k) }>
    }"""
    model = parsed(text, {"n": np.array(1)})
    rep = _rep.BackendRep(model, None)  # not checked: the checker refuses it
    np.testing.assert_array_equal(rep.run([np.array([3, 4], "float32")])[0], [-6, -8])


# --- Scan -------------------------------------------------------------------------------------

SCAN = """model (float[3] s, float[a, b] u, float[c, d] v) => (float[3] t, float[e, f] ys,
    float[g, h] zs) {
    t, ys, zs = Scan<num_scan_inputs = 2, %s body = one (float[3] si, float[n] ui, float[n] vi)
        => (float[3] so, float[3] y, float[n] z) {
        z = Mul(ui, vi)
        m = ReduceSum(z)
        so = Add(si, m)
        y = Mul(so, si)
    }>(s, u, v)
}"""


@pytest.mark.parametrize(
    ("more", "u", "v"),
    [
        ("", (4, 2), (4, 2)),
        ("scan_input_directions = [1, 0],", (4, 2), (4, 2)),
        ("scan_input_axes = [0, 1],", (4, 2), (2, 4)),
        ("scan_input_axes = [-1, 1], scan_input_directions = [0, 1],", (2, 4), (2, 4)),
        ("scan_output_directions = [1, 0],", (4, 2), (4, 2)),
        ("scan_output_axes = [1, 0], scan_output_directions = [1, 1],", (4, 2), (4, 2)),
        ("scan_output_axes = [-1, -2],", (4, 2), (4, 2)),
    ],
)
def test_scans(more: str, u: tuple[int, int], v: tuple[int, int]) -> None:
    """onnx.reference 1.23 has neither axes nor directions of a Scan."""
    rng = np.random.default_rng(1)
    given = {"s": rng.standard_normal(3), "u": rng.standard_normal(u), "v": rng.standard_normal(v)}
    agree(parsed(SCAN % more), {k: a.astype("float32") for k, a in given.items()})


def test_a_scan_of_a_recurrent_node() -> None:
    text = """model (float[1, 2, 4] h, float[1, 2, 4] c, float[T, 2, 3] X)
        => (float[1, 2, 4] h_n, float[1, 2, 4] c_n, float[T, 2, 4] ys) {
        axis = Constant<value_ints = [0]>()
        h_n, c_n, ys = Scan<num_scan_inputs = 1, body = one
            (float[1, 2, 4] hi, float[1, 2, 4] ci, float[2, 3] x)
            => (float[1, 2, 4] ho, float[1, 2, 4] co, float[2, 4] y) {
            x3 = Unsqueeze(x, axis)
            Y, ho, co = LSTM<hidden_size = 4>(x3, W, R, B, , hi, ci)
            y = Squeeze(ho, axis)
        }>(h, c, X)
    }"""
    zeros = np.zeros((1, 2, H), "float32")
    h, c, ys = agree(parsed(text, WEIGHTS), {"h": zeros, "c": zeros, "X": X})
    y, state = LSTM(X)
    for a, b in zip((ys, h, c), (y, *state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scan_of_opset_8_has_a_batch_axis() -> None:
    """It also has lengths; what lies past the end of a sequence is zeros."""
    text = """model (float[B, 2] s, float[B, T, 2] u) => (float[B, 2] t, float[B, T, 2] ys) {
        t, ys = Scan<num_scan_inputs = 1, %s body = one (float[2] si, float[2] ui)
            => (float[2] so, float[2] y) { so = Add(si, ui)  y = Mul(so, ui) }>(%s s, u)
    }"""
    rng = np.random.default_rng(2)
    given = {"s": rng.standard_normal((3, 2)), "u": rng.standard_normal((3, 5, 2))}
    given = {name: a.astype("float32") for name, a in given.items()}
    for more in ("", "directions = [1],"):
        agree(parsed(text % (more, ","), opset=8), given)
    lengths = {"lengths": np.array([5, 1, 3], "int64")}
    (t, ys) = Backend.run_model(parsed(text % ("", "lengths,"), lengths, opset=8), given)
    for b, n in enumerate(lengths["lengths"]):
        sums = given["s"][b] + np.cumsum(given["u"][b], axis=0)
        np.testing.assert_allclose(t[b], sums[n - 1], rtol=1e-6)
        np.testing.assert_allclose(ys[b, :n], (sums * given["u"][b])[:n], rtol=1e-6)
        assert not ys[b, n:].any()


def test_no_steps() -> None:
    """A scan or loop without steps gives empty arrays of the shape that the body declares."""
    text = """model (float[3] s, float[0, 2] u) => (float[3] t, float[0, 2] z) {
        t, z = Scan<num_scan_inputs = 1, body = one (float[3] si, float[2] ui)
            => (float[3] so, float[2] y) { so = Identity(si)  y = Neg(ui) }>(s, u)
    }"""
    given = {"s": np.ones(3, "float32"), "u": np.zeros((0, 2), "float32")}
    t, z = Backend.run_model(parsed(text), given)
    np.testing.assert_array_equal(t, given["s"])
    assert (z.shape, z.dtype) == ((0, 2), np.dtype("float32"))


# --- sequences --------------------------------------------------------------------------------


def test_sequences() -> None:
    """Lists of arrays come from an input or a node, and go through the graph and through a body."""
    text = """model (seq(float[T, B, 3]) Xs, float[n, 2] rest)
        => (seq(float[1, B, 4]) hs, float[k] one)
    {
        hs = SequenceMap(Xs) <body = each (float[T, B, 3] X) => (float[1, B, 4] h) {
            Y, h, c = LSTM<hidden_size = 4>(X, W, R, B)
        }>
        parts = SplitToSequence<axis = 1, keepdims = 0>(rest)
        one = SequenceAt(parts, last)
    }"""
    model = parsed(text, WEIGHTS | {"last": np.array(-1)})
    rest = np.arange(6, dtype="float32").reshape(3, 2)
    hs, one = Backend.run_model(model, {"Xs": [X, X[:2]], "rest": rest})
    for h, x in zip(hs, (X, X[:2]), strict=True):
        np.testing.assert_array_equal(h, LSTM(x)[1][0])
    np.testing.assert_array_equal(one, rest[:, 1])
    theirs = runtime(model, {"Xs": [X, X[:2]], "rest": rest})
    np.testing.assert_allclose(hs[1], theirs[0][1], atol=2e-6)
    with pytest.raises(ValueError, match="sequences of one length, and arrays, got float32"):
        Backend.run_model(model, {"Xs": X, "rest": rest})


# --- functions --------------------------------------------------------------------------------

FUNCTIONS = """model (float[T, B, 3] X, bool flag) => (float[T, D, B, 4] Y, float[T, D, B, 4] Z) {
    Y = local.Encoder<size = 4>(X, W, R, B)
    Z = local.Twice(X, W, R, flag)
}
<domain: "local", opset_import: ["" : 17]>
Encoder<size, way: string = "forward">(x, w, r, b, lengths) => (y) {
    y, h, c = LSTM<hidden_size: int = @size, direction: string = @way>(x, w, r, b, lengths)
}
<domain: "local", opset_import: ["" : 16, "local" : 1]>
Twice(x, w, r, choice) => (y) {
    two = Constant<value_float = 2.0>()
    scaled = Mul(w, two)
    y = If(choice) <
        then_branch = a () => (z) { z = local.Encoder<size = 4>(x, scaled, r) },
        else_branch = b () => (z) { z = local.Encoder<size = 4, way = "reverse">(x, scaled, r) }
    >
}"""


def test_functions_of_the_model() -> None:
    """Functions have attributes, defaults, absent inputs, an opset and functions of their own."""
    model = parsed(FUNCTIONS, WEIGHTS)
    for flag in (True, False):
        y, z = agree(model, {"X": X, "flag": np.array(flag)})
        np.testing.assert_array_equal(y[:, 0], LSTM(X)[0])
        twice = fr.LSTM(INPUTS, H, bias=False, seed=0)
        w = {name: a for name, a in LSTM.params.items() if "weight" in name}
        twice.load_state_dict(w | {"weight_ih_l0": 2 * w["weight_ih_l0"]})
        wanted = twice(X if flag else X[::-1])[0]
        np.testing.assert_array_equal(z[:, 0], wanted if flag else wanted[::-1])
    places = {p.path: p.runs_on for p in Backend.prepare(model).report()}
    assert places["Y"] == "control"
    assert places["Y/y"] == "kernel"
    assert places["Z/scaled"] == "constant"
    assert places["Z/y/else_branch/z/y"] == "kernel"


def test_functions_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that calls itself, or forty that double the nodes, are named errors at once."""
    text = """model (float[2] x) => (float[2] y) { y = local.f(x) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]>
    f (a) => (b) { b = local.f(a) }"""
    with pytest.raises(ValueError, match="at most 100 inside one another, got more"):
        Backend.prepare(parsed(text))
    text = "model (float[2] x) => (float[2] y) { y = local.f0(x) }"
    for k in range(40):
        text += f"""
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        f{k} (a) => (c) {{ b = local.f{k + 1}(a)  c = local.f{k + 1}(b) }}"""
    text += '\n<domain: "local", opset_import: ["" : 17]>\nf40 (a) => (b) { b = Neg(a) }'
    assert _protos.MAX_NODES == 50_000  # that many take seconds
    monkeypatch.setattr(_protos, "MAX_NODES", 1000)
    with pytest.raises(ValueError, match="nodes of the model: expected at most 1000"):
        Backend.prepare(parsed(text))


# --- errors in them ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "model (bool f) => (float y) { y = If(f) <then_branch = a () => (z) "
            "{ z = Constant<value_float = 1.0>() }> }",
            "attribute else_branch: expected a graph, got none",
        ),
        (
            "model (bool f) => (float y, float w) { y, w = If(f) <then_branch = a () => (z) "
            "{ z = Constant<value_float = 1.0>() }, else_branch = b () => (z) "
            "{ z = Constant<value_float = 1.0>() }> }",
            "branches: expected 0 inputs and 2 outputs, got 0 and 1",
        ),
        (
            "model (float[2] x) => (float[2] y) { y = Loop(, , x) <body = b (int64 i) => (bool c) "
            "{ c = Constant<value_int = 0>() }> }",
            "body: expected 3 inputs and 2 outputs, got 1 and 1",
        ),
        (
            "model (float[2] x) => (float[2] y) { y = Scan<num_scan_inputs = 2, body = b (float u) "
            "=> (float v) { v = Neg(u) }>(x) }",
            "attribute num_scan_inputs: expected from 1 to 1, its inputs, got 2",
        ),
        (
            "model (float[2] x) => (float[2] y) { y = Scan<num_scan_inputs = 1, "
            "scan_input_directions = [2], body = b (float u) => (float v) { v = Neg(u) }>(x) }",
            "attribute scan_input_directions: expected 1 numbers, each 0 or 1, got [2]",
        ),
        (
            "model (bool f, float[2] x) => (float y) { y = If(f) <then_branch = a () => (z) "
            "{ z = Neg(nowhere) }, else_branch = b () => (z) { z = Neg(x) }> }",
            "node 'y/then_branch/z' (Neg): inputs: expected names of inputs, initializers or",
        ),
        (
            "model (bool f, float[2] x) => (float y) { y = If(f) <then_branch = a () => (q) "
            "{ z = Neg(x) }, else_branch = b () => (z) { z = Neg(x) }> }",
            "outputs of y/then_branch/: names: expected names of inputs, initializers or outputs",
        ),
        (
            "model (float[2] x) => (float[2] y) { y = com.example.Swirl(x) }",
            "expected an operator of ONNX or a function of the model, got com.example.Swirl",
        ),
        (
            "model (float[2] x) => (float[2] y) { y = local.Swirl(x) }",
            "expected an operator of ONNX or a function of the model, got local.Swirl",
        ),
    ],
)
def test_wrong_bodies(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        Backend.prepare(parsed(text))
    assert says in str(caught.value)


def test_wrong_values() -> None:
    model = parsed(BRANCHES, WEIGHTS | {"one": np.float32(1)})
    model.graph.input[1].type.tensor_type.shape.dim.add()
    with pytest.raises(ValueError, match=r"node 'Y' .If.: input cond: expected one element, got b"):
        Backend.run_model(model, {"X": X, "flag": np.array([True, False])})
    text = """model (float[3] s, float[4, 2] u, float[5, 2] v) => (float[3] t) {
        t = Scan<num_scan_inputs = 2, body = one (float[3] si, float[2] a, float[2] b)
            => (float[3] so) { so = Identity(si) }>(s, u, v)
    }"""
    given = {"s": np.zeros(3), "u": np.zeros((4, 2)), "v": np.zeros((5, 2))}
    given = {name: a.astype("float32") for name, a in given.items()}
    with pytest.raises(ValueError, match=r"inputs: expected as many slices of each, got \[4, 5\]"):
        Backend.run_model(parsed(text), given)


def test_the_bodies_are_these() -> None:
    """The list has every operator of ONNX with a graph as an attribute, except attention."""
    kind = onnx.defs.OpSchema.AttrType.GRAPH
    names = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if any(a.type == kind for a in schema.attributes.values())
    }
    assert {*_control.CONTROL, "FlexAttention"} >= names


# --- what a prepared model reports ------------------------------------------------------------


def test_report() -> None:
    text = """model (float[T, B, 3] X) => (float[T, B, 2] Y) {
        y, h = LSTM<hidden_size = 4>(X, W, R, B)
        s = Squeeze(y, one)
        m = MatMul(s, M)
        two = Add(one, one)
        Y = Softmax(m)
    }"""
    arrays = {"one": np.array([1], "int64"), "M": RNG.standard_normal((H, 2)).astype("float32")}
    report = Backend.prepare(parsed(text, WEIGHTS | arrays)).report()
    assert [(p.operator, p.runs_on) for p in report] == [
        ("LSTM", "kernel"),
        ("Squeeze", "reference"),
        ("MatMul", "kernel"),
        ("Add", "constant"),
        ("Softmax", "reference"),
    ]
    assert str(report).splitlines()[2] == "kernel     MatMul   m"
    assert repr(report[0]) == "Placement(path='y', operator='LSTM', runs_on='kernel')"


def test_large_arrays_on_the_slow_road_warn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusedrnn.onnx._plain.LARGE", 20)
    text = """model (float[n, 3] x) => (float[n, 3] y) {
        a = Reshape(x, shape)
        b = Sigmoid(a)
        c = Sigmoid(b)
        y = Transpose<perm = [1, 0]>(c)
    }"""
    rep = Backend.prepare(parsed(text, {"shape": np.array([3, -1], "int64")}))
    assert _report.LARGE == 1 << 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rep.run([np.zeros((6, 3), "float32")])  # 18 elements
    with pytest.warns(
        SlowNodeWarning, match=r"node 'b' .Sigmoid.: an array of 21 elements"
    ) as all_:
        rep.run([np.zeros((7, 3), "float32")])
    assert len(all_) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rep.run([np.zeros((7, 3), "float32")])


def test_random_nodes_are_not_constants() -> None:
    """Random nodes have constant inputs at most, yet each run draws anew, or by a seed."""
    text = """model () => (float[4] a, float[4] b, float[4] c) {
        a = RandomUniform<shape = [4]>()
        b = RandomNormalLike(k)
        c = Dropout(k)
    }"""
    rep = Backend.prepare(parsed(text, {"k": np.ones(4, "float32")}))
    assert {place.runs_on for place in rep.report()} == {"reference"}
    (a, b, c), (d, e, f) = rep.run([]), rep.run([])
    assert (a != d).any()
    assert (b != e).any()
    np.testing.assert_array_equal(c, f)


# --- numbers of 16 bits -----------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_models_of_16_bits_are_widened(kind: str, operator: str) -> None:
    """Nodes compute in float32 and round at their end; the types of the graph stay."""
    code = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[kind]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    layer = {"LSTM": fr.LSTM, "GRU": fr.GRU, "RNN": fr.RNN}[operator](INPUTS, H, seed=1)
    arrays = {k: a.astype(dtype) for k, a in weights.to_onnx(layer.params, layer.cell).items()}
    arrays["M"] = RNG.standard_normal((H, 2)).astype(dtype)
    more = {"linear_before_reset": 1} if operator == "GRU" else {}
    nodes = [
        helper.make_node(operator, ["X", "W", "R", "B"], ["y", "h"], hidden_size=H, **more),
        helper.make_node("MatMul", ["h", "M"], ["z"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "halves",
        [value("X", code, [None, None, INPUTS])],
        [value("y", code, [None] * 4), value("z", code, [None] * 3)],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    x = X.astype(dtype)
    y, z = Backend.run_model(model, [x])
    wide = {k: a.astype("float32") for k, a in arrays.items()}
    layer.load_state_dict(weights.from_onnx({k: wide[k] for k in "WRB"}, layer.cell))
    wanted = layer(x.astype("float32"))[0]
    assert y.dtype == z.dtype == dtype
    np.testing.assert_array_equal(y[:, 0], wanted.astype(dtype))
    last = wanted[-1].astype(dtype).astype("float32") @ wide["M"]
    np.testing.assert_allclose(z[0].astype("float32"), last, rtol=2**-8, atol=2**-8)
    if kind == "float16":  # ONNX Runtime has no bfloat16 on the CPU
        model.opset_import[0].version = 17
        for a, b in zip((y, z), runtime(model, {"X": x}), strict=True):
            assert b.dtype == dtype
            np.testing.assert_allclose(a.astype("f4"), b.astype("f4"), rtol=0, atol=2e-3)


def test_states_and_lengths_of_16_bits() -> None:
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B", "n", "h", "c"], ["Y", "Y_h", "Y_c"], hidden_size=H
    )
    half = {k: a.astype("float16") for k, a in WEIGHTS.items()}
    h, c = (RNG.standard_normal((1, 2, H)).astype("float16") for _ in range(2))
    lengths = np.array([5, 2], "int32")
    given = {"X": X.astype("float16"), **half, "n": lengths, "h": h, "c": c}
    found = Backend.run_node(node, given)
    single = {k: a if k == "n" else a.astype("float32") for k, a in given.items()}
    for a, b in zip(found, Backend.run_node(node, single), strict=True):
        assert a.dtype == np.dtype("float16")
        np.testing.assert_array_equal(a, b.astype("float16"))


# --- files ------------------------------------------------------------------------------------


def test_numbers_in_another_file(tmp_path: Path) -> None:
    """The numbers are read with the model; a model loaded without them is refused by name."""
    model = parsed(BRANCHES, WEIGHTS | {"one": np.float32(1)})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="numbers.bin", size_threshold=16)
    assert (tmp_path / "numbers.bin").stat().st_size >= WEIGHTS["W"].nbytes
    given = {"X": X, "flag": np.array(True)}
    wanted = LSTM(X)[0]
    for form in (path, str(path), onnx.load(path)):
        np.testing.assert_array_equal(Backend.run_model(form, given)[0][:, 0], wanted)
        assert Backend.is_compatible(form)
    without = onnx.load(path, load_external_data=False)
    with pytest.raises(ValueError, match=r"initializer '\w': expected its numbers in the model"):
        Backend.prepare(without)
    assert set(weights.onnx_layers(path)) == {"Y/then_branch/Z", "Y/else_branch/Z"}
    (tmp_path / "numbers.bin").unlink()
    with pytest.raises((OSError, ValueError), match=r"numbers\.bin"):
        Backend.prepare(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(FileNotFoundError):
        Backend.prepare(path)
    path.write_bytes(b"\x08\x08garbage")
    with pytest.raises(ValueError, match=r"onnx: file '.*model.onnx': cannot be read"):
        Backend.prepare(path)
    assert not Backend.is_compatible(path)
    with pytest.raises(
        ValueError, match=r"onnx_layers: expected an ONNX model; found .*model\.onnx"
    ):
        weights.onnx_layers(path)
    with pytest.raises(ValueError, match=r"model\.onnx: no \.onnx, or damaged"):
        weights.load(path)
