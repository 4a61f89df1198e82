"""Graphs on fusedrnn.onnx; long, because the text for each kind of bad model is here.

The file covers what exporters write (PyTorch's own, Keras's by hand), the nodes between recurrent
nodes, the use of a prepared model, and errors.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import THREADS
from fusedrnn import weights
from test_onnx import plain, runtime
from test_weights import keras_module, of_keras

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper  # noqa: E402

import fusedrnn.onnx as backend  # noqa: E402
import onnx_oracle as oracle  # noqa: E402
from fusedrnn.onnx import Backend, _node  # noqa: E402
from onnx_oracle import Chosen, H, graph_of  # noqa: E402

RNG = np.random.default_rng(4)
X = RNG.standard_normal((7, 3, 2)).astype("float32")


def close(a: Any, b: Any, bound: float = 2e-6) -> None:
    assert a.shape == b.shape
    assert (abs(a - b) <= bound * np.maximum(1, abs(b))).all(), abs(a - b).max()


# --- exporters --------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True}),
        ("LSTM", {"batch_first": True, "bias": False}),
        ("GRU", {"num_layers": 2, "batch_first": True}),
        ("GRU", {"bidirectional": True}),
        ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
    ],
)
def test_exported_by_torch(name: str, more: dict[str, Any], dynamic: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, name)(2, H, **more).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter warns
        torch.onnx.export(
            module,
            (torch.from_numpy(X),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["X"],
            dynamic_axes={"X": {0: "first", 1: "second"}} if dynamic else None,
        )
    rep = Backend.prepare(onnx.load_from_string(file.getvalue()))
    for x in (X, X[:4, :2]) if dynamic else (X,):
        with torch.no_grad():
            y, state = module(torch.from_numpy(np.ascontiguousarray(x)))
        wanted = [y, *(state if isinstance(state, tuple) else (state,))]
        found = rep.run([x])
        assert fr.last_path().kernel.startswith(name.lower())
        for a, b in zip(found, wanted, strict=True):
            close(a, b.numpy())


@pytest.mark.torch
def test_exported_by_torch_with_a_state() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(2, H).eval()
    state = tuple(torch.randn(1, 3, H) for _ in range(2))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ["X", "h", "c"]
        torch.onnx.export(
            module, (torch.from_numpy(X), state), file, dynamo=False, input_names=names
        )
    found = Backend.run_model(
        onnx.load_from_string(file.getvalue()),
        {"X": X, "h": state[0].numpy(), "c": state[1].numpy()},
    )
    with torch.no_grad():
        y, last = module(torch.from_numpy(X), state)
    for a, b in zip(found, (y, *last), strict=True):
        close(a, b.numpy())


def squeeze(name: str, output: str, axis: int, opset: int) -> list[Any]:
    """A Squeeze node; before opset 13 its axes are an attribute."""
    if opset < 13:
        return [helper.make_node("Squeeze", [name], [output], axes=[axis])]
    axes = numpy_helper.from_array(np.array([axis]), f"axes of {output}")
    return [
        helper.make_node("Constant", [], [f"axes of {output}"], value=axes),
        helper.make_node("Squeeze", [name, f"axes of {output}"], [output]),
    ]


@of_keras
@pytest.mark.parametrize("opset", [7, 11, 17])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_as_tf2onnx_writes_keras(name: str, bidirectional: bool, opset: int) -> None:
    """x (B, T, I) is transposed for a node of layout 0; directions are concatenated or squeezed."""
    layers = keras_module().layers
    layer = getattr(layers, name)(H, return_sequences=True)
    layer = layers.Bidirectional(layer) if bidirectional else layer
    layer.build((None, None, 2))
    cell = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn_tanh"}[name]
    arrays = weights.to_onnx(weights.from_keras(layer.get_weights(), cell), cell)
    more: dict[str, Any] = {"direction": "bidirectional"} if bidirectional else {}
    more |= {"linear_before_reset": 1} if name == "GRU" else {}
    operator = "RNN" if name == "SimpleRNN" else name
    nodes = [
        helper.make_node("Transpose", ["X"], ["x"], perm=[1, 0, 2]),
        helper.make_node(operator, ["x", *arrays], ["y", "h"], hidden_size=H, **more),
    ]
    if bidirectional:  # (T, D, B, H) to (B, T, D*H)
        shape = numpy_helper.from_array(np.array([0, 0, -1]), "shape")
        nodes += [
            helper.make_node("Transpose", ["y"], ["batch first"], perm=[2, 0, 1, 3]),
            helper.make_node("Constant", [], ["shape"], value=shape),
            helper.make_node("Reshape", ["batch first", "shape"], ["Y"]),
        ]
    else:
        nodes += squeeze("y", "one", 1, opset)
        nodes += [helper.make_node("Transpose", ["one"], ["Y"], perm=[1, 0, 2])]
    x = X.swapaxes(0, 1)
    model, given = graph_of(nodes, {"X": x}, arrays, opset)
    (y,) = Backend.run_model(model, given)
    close(y, np.asarray(keras_module().ops.convert_to_numpy(layer(x))))


# --- the nodes between recurrent nodes --------------------------------------------------------


# The operators that the first version took between recurrent nodes; now every standard operator is.
BETWEEN = {
    "Cast",
    "Concat",
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
}


def test_every_node_between() -> None:
    for opset in (11, 13, 22):
        every_node_between(opset)


def every_node_between(opset: int) -> None:
    """A stack whose shapes and first state are computed in the graph."""
    first, second = (fr.GRU(inputs, H, reset_after=False, seed=inputs) for inputs in (2, H))
    constants: dict[str, Any] = {
        f"{name}{at}": a
        for at, layer in enumerate((first, second))
        for name, a in weights.to_onnx(layer.params, layer.cell).items()
    }
    lists = {"axis": [0], "d": [1], "size": [H], "last": [-1], "end": [2**31 - 1]}
    lists |= {"parts": [H - 1, 1], "twice": [2, 1, H + 1], "flat": [2, -1], "along": [1]}
    constants |= {name: np.array(values) for name, values in lists.items()}
    constants["at"] = np.array(1)
    node, old = helper.make_node, opset < 13
    nodes = [
        node("Shape", ["X"], ["sizes"]),
        node("Gather", ["sizes", "at"], ["batch"], axis=0),
        node("Unsqueeze", ["batch"], ["batch1"], axes=[0])
        if old
        else node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        node("Concat", ["d", "batch1", "size"], ["state sizes"], axis=0),
        node("ConstantOfShape", ["state sizes"], ["h0"]),
        node("GRU", ["X", "W0", "R0", "B0", "", "h0"], ["y0"], "first", hidden_size=H),
        *squeeze("y0", "x1", 1, opset),
        node("Identity", ["x1"], ["x2"]),
        node("Cast", ["x2"], ["x3"], to=onnx.TensorProto.FLOAT),
        node("GRU", ["x3", "W1", "R1", "B1"], ["", "state"], hidden_size=H),
        node("Transpose", ["state"], ["bdh"], perm=[1, 0, 2]),
        node("Flatten", ["bdh"], ["bh"], axis=1),
        node("Slice", ["bh", "last", "end", "along"], ["unit"]),
        node("Split", ["bh"], ["left", "right"], axis=1, split=[H - 1, 1])
        if old
        else node("Split", ["bh", "parts"], ["left", "right"], axis=1),
        node("Concat", ["unit", "right", "left"], ["wide"], axis=1),
        node("Expand", ["wide", "twice"], ["expanded"]),
        node("Reshape", ["expanded", "flat"], ["Y"]),
    ]
    model, given = graph_of(nodes, {"X": X}, constants, opset, rank=2)
    assert {n.op_type for n in nodes} - {"Constant"} == {"GRU", *BETWEEN}
    (y,) = Backend.run_model(model, given)
    last = second(first(X)[0])[1][0]
    wide = np.concatenate([last[:, -1:], last[:, -1:], last[:, :-1]], axis=1)
    np.testing.assert_array_equal(y, np.broadcast_to(wide, (2, *wide.shape)).reshape(2, -1))


# --- a prepared model -------------------------------------------------------------------------


def small(**more: Any) -> tuple[Any, dict[str, Any]]:
    """A model of one LSTM node whose weights are constants."""
    case = plain("LSTM", **more)
    return oracle.model(case, oracle.draw(case, 1))


def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    pack = _node.pack
    monkeypatch.setattr(_node, "pack", lambda *args: packed.append(1) or pack(*args))
    model, given = small()
    rep = Backend.prepare(model)
    first = rep.run(given)
    for again in (rep.run(list(given.values())), rep.run(tuple(given.values()))):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(packed) == 1
    assert rep.input_names == ("X", "initial_h", "initial_c")
    assert rep.output_names == ("Y", "Y_h", "Y_c")


def test_weights_folded_from_constants_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    pack = _node.pack
    monkeypatch.setattr(_node, "pack", lambda *args: packed.append(1) or pack(*args))
    lstm = fr.LSTM(2, H, seed=0)
    arrays = weights.to_onnx(lstm.params, lstm.cell)
    arrays["turned"] = np.ascontiguousarray(arrays.pop("W").swapaxes(1, 2))
    nodes = [
        helper.make_node("Transpose", ["turned"], ["same"], perm=[0, 2, 1]),
        helper.make_node("Identity", ["same"], ["W"]),
        helper.make_node("LSTM", ["X", "W", "R", "B"], ["", "Y_h"], hidden_size=H),
    ]
    model, _ = graph_of(nodes, {"X": X}, arrays)
    rep = Backend.prepare(model)
    for _ in range(2):
        np.testing.assert_array_equal(rep.run([X])[0], lstm(X)[1][0])
    assert len(packed) == 1
    # A value that depends on an initializer which a run can replace is not computed in prepare.
    turned = arrays["turned"]
    kind = onnx.TensorProto.FLOAT
    model.graph.input.append(helper.make_tensor_value_info("turned", kind, turned.shape))
    rep = Backend.prepare(model)
    np.testing.assert_array_equal(rep.run([X])[0], lstm(X)[1][0])
    lstm.params["weight_ih_l0"] = -lstm.params["weight_ih_l0"]
    found = rep.run({"X": X, "turned": -turned})[0]
    np.testing.assert_array_equal(found, lstm(X)[1][0])


def test_weights_that_are_inputs_are_read_each_time() -> None:
    model, given = small(weights_are_inputs=True)
    rep = Backend.prepare(model)
    first = rep.run(given)[0]
    given["W"][...] = -given["W"]  # the same array, other numbers
    second = rep.run(given)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(second, rep.run({k: a.copy() for k, a in given.items()})[0])


def test_an_initializer_that_is_an_input_can_be_replaced() -> None:
    model, given = small()
    w = numpy_helper.to_array(model.graph.initializer[0])
    assert model.graph.initializer[0].name == "W"
    model.graph.input.append(helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, w.shape))
    rep = Backend.prepare(model)
    assert "W" not in rep.input_names
    first = rep.run(given)[0]
    assert (rep.run(given | {"W": -w})[0] != first).any()
    np.testing.assert_array_equal(rep.run(given | {"W": w.copy()})[0], first)
    np.testing.assert_array_equal(rep.run([*given.values(), w])[0], first)
    np.testing.assert_array_equal(rep.run(given)[0], first)


def test_threads_of_a_run() -> None:
    x = RNG.standard_normal((40, 64, 32)).astype("float32")
    lstm = fr.LSTM(32, 64, seed=0)
    arrays = weights.to_onnx(lstm.params, lstm.cell)
    node = helper.make_node("LSTM", ["X", *arrays], ["Y"], hidden_size=64)
    model, given = graph_of([node], {"X": x}, arrays, rank=4)
    rep = Backend.prepare(model, num_threads=1)
    one = rep.run(given)[0]
    assert fr.last_path().threads == 1
    two = rep.run(given, num_threads=2)[0]
    assert fr.last_path().threads == (2 if THREADS else 1)
    np.testing.assert_array_equal(one, two)
    (run,) = Backend.run_model(model, given, num_threads=2)
    np.testing.assert_array_equal(one, run)


def test_many_threads_share_a_rep() -> None:
    model, given = small()
    rep = Backend.prepare(model)
    wanted = rep.run(given)
    found: list[Any] = []
    workers = [
        threading.Thread(target=lambda: found.extend(rep.run(given) for _ in range(20)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    for outputs in found:
        for a, b in zip(outputs, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_padding_is_never_read_and_inputs_are_never_written(direction: str, layout: int) -> None:
    different = oracle.activation_sets("LSTM", 2)[2] if direction == "bidirectional" else Chosen()
    case = plain("LSTM", direction=direction, layout=layout, lengths=(2, 0, 4), chosen=different)
    arrays = oracle.draw(case, 2)
    model, given = oracle.model(case, arrays)
    wanted = Backend.run_model(model, given)
    x = given["X"].swapaxes(0, 1) if layout else given["X"]
    x[2:, 0] = np.nan
    x[:, 1] = np.inf
    before = {name: a.copy() for name, a in given.items()}
    for a in given.values():
        a.flags.writeable = False
    found = Backend.run_model(model, given)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.flags.c_contiguous
        assert a.flags.writeable
    for name, a in given.items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("sizes", [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_empty_sequences(direction: str, sizes: tuple[int, int], lengths: bool) -> None:
    different = oracle.activation_sets("LSTM", 2)[2] if direction == "bidirectional" else Chosen()
    case = plain("LSTM", direction=direction, chosen=different, lengths=(4, 4, 4))
    arrays = oracle.draw(case, 2)
    arrays["X"] = np.zeros((*sizes, 2), "float32")
    arrays["initial_h"], arrays["initial_c"] = (
        arrays[name][:, : sizes[1]] for name in ("initial_h", "initial_c")
    )
    arrays["sequence_lens"] = np.zeros(sizes[1], "int32")
    if not lengths:
        del arrays["sequence_lens"]
    y, h, c = Backend.run_model(*oracle.model(case, arrays))
    assert y.shape == (sizes[0], case.directions, sizes[1], H)
    if sizes[0] == 0:
        np.testing.assert_array_equal(h, arrays["initial_h"])
        np.testing.assert_array_equal(c, arrays["initial_c"])
    else:
        assert h.shape == c.shape == (case.directions, 0, H)


def test_inputs_of_any_layout_in_memory() -> None:
    model, given = small()
    wanted = Backend.run_model(model, given)
    odd = {name: np.asfortranarray(a) for name, a in given.items()}
    odd["X"] = given["X"].astype(">f4")
    for a, b in zip(Backend.run_model(model, odd), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    listed = {name: a.tolist() if name != "X" else a for name, a in given.items()}
    with pytest.raises(TypeError, match="input initial_h: expected float32, got float64"):
        Backend.run_model(model, listed)


def test_a_constant_as_output_cannot_be_written() -> None:
    node = helper.make_node("Identity", ["K"], ["Y"])
    model, given = graph_of([node], {"X": X}, {"K": X})
    (y,) = Backend.run_model(model, given)
    np.testing.assert_array_equal(y, X)
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1


def test_run_node() -> None:
    lstm = fr.LSTM(2, H, seed=0)
    arrays = weights.to_onnx(lstm.params, lstm.cell)
    h0 = RNG.standard_normal((1, 3, H)).astype("float32")
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "h0"], ["", "Y_h"], hidden_size=H)
    (h,) = Backend.run_node(node, [X, *arrays.values(), h0])
    np.testing.assert_array_equal(h, lstm(X, (h0, 0 * h0))[1][0])
    (named,) = Backend.run_node(
        node, {"X": X, "h0": h0} | arrays, "CPU", opset_version=11, num_threads=1
    )
    np.testing.assert_array_equal(h, named)
    old = helper.make_node("Squeeze", ["X"], ["Y"], axes=[0])  # an attribute before opset 13
    np.testing.assert_array_equal(Backend.run_node(old, [X[:1]], opset_version=11)[0], X[0])
    with pytest.raises((ValueError, onnx.checker.ValidationError)):
        Backend.run_node(old, [X[:1]])
    (turned,) = Backend.run_node(helper.make_node("Transpose", ["X"], ["Y"]), [X])
    np.testing.assert_array_equal(turned, X.T)


def test_the_module_is_a_backend_too() -> None:
    model, given = small()
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(model)
    assert not backend.is_compatible(model, "CUDA:0")
    rep = backend.prepare(model)
    assert isinstance(rep, backend.BackendRep)
    assert isinstance(rep, onnx.backend.base.BackendRep)
    assert issubclass(backend.Backend, onnx.backend.base.Backend)
    for a, b in zip(rep.run(given), backend.run_model(model, given), strict=True):
        np.testing.assert_array_equal(a, b)


# --- errors -----------------------------------------------------------------------------------


def changed(operator: str = "LSTM", opset: int = 22, **attributes: Any) -> Any:
    """A small model whose node has other attributes; None removes an attribute."""
    case = plain(operator, opset=opset)
    model, given = oracle.model(case, oracle.draw(case, 1))
    (node,) = model.graph.node
    for name, value in attributes.items():
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
    return model, given


def other_arrays(operator: str = "LSTM", **arrays: Any) -> Any:
    """A small model with other arrays (None for none); weights are constants."""
    case = plain(operator)
    drawn = oracle.draw(case, 1) | arrays
    return oracle.model(case, {name: a for name, a in drawn.items() if a is not None})


def zeros(*shape: int, dtype: str = "float32") -> Any:
    return np.zeros(shape, dtype)


def with_node(node: Any) -> Any:
    return graph_of([node], {"X": X}, {})


def inputs_of(model_and_given: Any, given: Any) -> Any:
    return model_and_given[0], given


def through_cast(kind: str) -> Any:
    """A model whose node Cast declares the type of X."""
    model, given = small()
    cast = helper.make_node("Cast", ["X"], ["cast"], to=getattr(onnx.TensorProto, kind))
    node = model.graph.node[0]
    node.input[0] = "cast"
    del model.graph.node[:]
    model.graph.node.extend([cast, node])
    return model, given


def sparse() -> Any:
    model, given = small()
    model.graph.sparse_initializer.add()
    return model, given


def no_opset() -> Any:
    model, given = small()
    del model.opset_import[:]
    return model, given


def nodes_inputs(*names: str, outputs: tuple[str, ...] = ("Y",), operator: str = "LSTM") -> Any:
    model, given = small()
    node = helper.make_node(operator, names, outputs, name="the node", hidden_size=H)
    model.graph.node[0].CopyFrom(node)
    return model, given


NODE = "onnx: node 'the node' (LSTM): "
GRAPH = "onnx: graph 'the graph': "
LENGTHS = np.array([4, 4, 4], "int32")
# A function that makes the model and its inputs, the error, and a part of its text.
FAULTS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # attributes
    (lambda: changed(foo=1), ValueError, NODE + "attributes: expected activation_alpha, "),
    (lambda: changed(foo=1), ValueError, "in version 22, got 'foo'"),
    (lambda: changed(layout=1, opset=13), ValueError, "in version 7, got 'layout'"),
    (
        lambda: changed(linear_before_reset=1),
        ValueError,
        "hidden_size, input_forget, layout in version 22, got 'linear_before_reset'",
    ),
    (lambda: changed(clip=1), ValueError, NODE + "attribute clip: expected FLOAT, got INT"),
    (lambda: changed(clip=0.0), ValueError, "attribute clip: expected a positive number, got 0.0"),
    (lambda: changed(clip=-1.0), ValueError, "attribute clip: expected a positive number"),
    (lambda: changed(clip=float("nan")), ValueError, "expected a positive number, got nan"),
    (
        lambda: changed(direction="back"),
        ValueError,
        NODE + "attribute direction: expected one of 'forward', 'reverse', 'bidirectional', "
        "got 'back'",
    ),
    (lambda: changed(layout=2), ValueError, "attribute layout: expected one of 0, 1, got 2"),
    (lambda: changed(input_forget=3), ValueError, "attribute input_forget: expected one of 0, 1"),
    (lambda: changed(hidden_size=0), ValueError, "attribute hidden_size: expected at least 1"),
    (
        lambda: changed(hidden_size=H + 1),
        ValueError,
        NODE + "attribute hidden_size: expected the 3 of input R, whose shape is (1, 12, 3), got 4",
    ),
    (
        lambda: changed(activations=["Sigmoid", "Tanh", "Swish"]),
        ValueError,
        NODE + "attribute activations: expected names of Relu, Tanh, Sigmoid, Affine, LeakyRelu, "
        "ThresholdedRelu, ScaledTanh, HardSigmoid, Elu, Softsign, Softplus, got 'Swish'",
    ),
    (
        lambda: changed(activations=["Sigmoid", "Tanh"]),
        ValueError,
        "attribute activations: expected 3 names, 3 for each of 1 direction(s), got 2: Sigmoid, T",
    ),
    (
        lambda: changed(activation_alpha=[1.0]),
        ValueError,
        "attribute activation_alpha: expected at most 0 values, for the activations that have one, "
        "or 3, got 1",
    ),
    (
        lambda: changed(activations=["Elu", "Tanh", "Tanh"], activation_alpha=[1.0, 2.0]),
        ValueError,
        "expected at most 1 values, for the activations that have one, or 3, got 2",
    ),
    (lambda: changed(direction="bidirectional"), ValueError, "= (2, 12, 2), got (1, 12, 2)"),
    (
        lambda: changed(opset=6),
        ValueError,
        NODE + "operator: expected opset 7 or later, with version 7, 14, 22 of the operator, got "
        "opset 6, with version 1",
    ),
    # weights
    (
        lambda: other_arrays(W=zeros(1, 11, 2)),
        ValueError,
        NODE + "input W: expected shape (D, 4*H, I) = (1, 12, 2), got (1, 11, 2)",
    ),
    (
        lambda: other_arrays("GRU", W=zeros(2, 9, 2)),
        ValueError,
        "onnx: node 'the node' (GRU): input W: expected shape (D, 3*H, I) = (1, 9, 2), got (2, 9",
    ),
    (lambda: other_arrays(R=zeros(1, 10, 3)), ValueError, "input R: expected shape (D, 4*H, H) = "),
    (lambda: other_arrays(R=zeros(12, 3)), ValueError, "input R: expected 3 axes, (1, 4*H, H), go"),
    (lambda: other_arrays(W=zeros(12)), ValueError, "input W: expected 3 axes, (1, 4*H, I), got ("),
    (lambda: other_arrays(R=zeros(1, 0, 0)), ValueError, "input R: expected (D, 4*H, H) with H >="),
    (lambda: other_arrays(B=zeros(1, 12)), ValueError, "input B: expected shape (D, 8*H) = (1, 24"),
    (lambda: other_arrays(P=zeros(1, 3)), ValueError, "input P: expected shape (D, 3*H) = (1, 9),"),
    (
        lambda: other_arrays(R=zeros(1, 12, 3, dtype="float64")),
        TypeError,
        NODE + "input R: expected float32, as W is, got float64 (1, 12, 3)",
    ),
    (
        lambda: other_arrays(W=zeros(1, 12, 2, dtype="float16")),
        TypeError,
        NODE + "input R: expected float16, as W is, got float32 (1, 12, 3)",
    ),
    (lambda: through_cast("FLOAT16"), TypeError, "input X: expected float32, as W is, got float16"),
    # sequences
    (
        lambda: other_arrays(X=zeros(4, 3, 5)),
        ValueError,
        NODE + "input X: expected shape (T, B, I) with I = 2, as W has it, got (4, 3, 5)",
    ),
    (lambda: other_arrays(X=zeros(4, 2)), ValueError, "input X: expected shape (T, B, I) with I"),
    (
        lambda: other_arrays(X=zeros(4, 3, 2, dtype="float64")),
        TypeError,
        NODE + "input X: expected float32, as W is, got float64 (4, 3, 2)",
    ),
    (
        lambda: other_arrays(initial_h=zeros(1, 3, 4)),
        ValueError,
        NODE + "input initial_h: expected shape (D, B, H) = (1, 3, 3), got (1, 3, 4)",
    ),
    (
        lambda: other_arrays(initial_c=zeros(3, 1, 3)),
        ValueError,
        NODE + "input initial_c: expected shape (D, B, H) = (1, 3, 3), got (3, 1, 3)",
    ),
    (
        lambda: other_arrays(sequence_lens=LENGTHS[:2]),
        ValueError,
        NODE + "input sequence_lens: expected shape (B,) = (3,), got (2,)",
    ),
    (
        lambda: other_arrays(sequence_lens=LENGTHS + 1),
        ValueError,
        NODE + "input sequence_lens: expected lengths from 0 to T = 4, got [5, 5, 5]",
    ),
    (lambda: other_arrays(sequence_lens=-LENGTHS), ValueError, "to T = 4, got [-4, -4, -4]"),
    (
        lambda: other_arrays(sequence_lens=LENGTHS.astype("float32")),
        TypeError,
        NODE + "input sequence_lens: expected an array of integers, got float32 (3,)",
    ),
    # graphs
    (lambda: nodes_inputs("X", "W", ""), ValueError, NODE + "input R: expected a name, got none"),
    (lambda: nodes_inputs("", "W", "R"), ValueError, NODE + "input X: expected a name, got none"),
    (
        lambda: nodes_inputs(*"XWR", *"BBBBWR"),
        ValueError,
        NODE + "inputs: expected at most 8: X, W",
    ),
    (
        lambda: nodes_inputs(*"XWR", outputs=("Y", "a", "b", "c")),
        ValueError,
        NODE + "outputs: expected at most 3: Y, Y_h, Y_c, got 4",
    ),
    (
        lambda: with_node(helper.make_node("Swirl", ["X", "X"], ["Y"], "first layer")),
        ValueError,
        "onnx: node 'first layer' (Swirl): operator: expected an operator of ONNX in version 22 or "
        "a function of the model, got Swirl",
    ),
    (
        lambda: with_node(helper.make_node("LSTM", ["X"], ["Y"], domain="com.microsoft")),
        ValueError,
        "onnx: node 'Y' (LSTM): operator: expected an operator of ONNX or a function of the model, "
        "got com.microsoft.LSTM",
    ),
    (
        lambda: with_node(helper.make_node("Transpose", ["X"], ["Y"], "turn", perm=[0, 5, 1])),
        ValueError,
        "onnx: node 'turn' (Transpose): cannot be computed from these inputs: ",
    ),
    (lambda: with_node(helper.make_node("Constant", [], ["Y"])), ValueError, "(Constant): cannot"),
    (sparse, ValueError, GRAPH + "initializers: expected dense ones, got sparse ones"),
    (
        no_opset,
        ValueError,
        NODE + "opset_import: expected the version of ONNX's own operators, got",
    ),
    # inputs of a run
    (
        lambda: inputs_of(small(), {"X": X}),
        ValueError,
        GRAPH + "inputs: expected X, initial_h, initial_c, got X",
    ),
    (lambda: inputs_of(small(), [X]), ValueError, GRAPH + "inputs: expected 3: X, initial_h, init"),
    (lambda: inputs_of(small(), X), TypeError, GRAPH + "inputs: expected a list, a tuple or a map"),
    (
        lambda: inputs_of(small(), small()[1] | {"Z": X}),
        ValueError,
        GRAPH + "inputs: expected X, initial_h, initial_c, got X, initial_h, initial_c, Z",
    ),
    (
        lambda: inputs_of(small(), small()[1] | {"X": X.astype("float64")}),
        TypeError,
        GRAPH + "input X: expected float32, got float64 (7, 3, 2)",
    ),
]


@pytest.mark.parametrize("at", range(len(FAULTS)))
def test_faults(at: int) -> None:
    make, error, text = FAULTS[at]
    model, given = make()
    with pytest.raises(error, match=re.escape(text)):
        Backend.run_model(model, given)
    try:
        Backend.prepare(model)
    except error:
        assert not Backend.is_compatible(model)


def test_faults_of_calls() -> None:
    model, given = small()
    with pytest.raises(TypeError, match=r"onnx: model: expected onnx.ModelProto or .*, got bytes"):
        Backend.prepare(b"model")
    with pytest.raises(TypeError, match=r"onnx: node: expected onnx.NodeProto, got ModelProto"):
        Backend.run_node(model, given)
    with pytest.raises(ValueError, match="onnx: device: expected 'CPU', got 'CUDA'"):
        Backend.prepare(model, "CUDA")
    with pytest.raises(TypeError, match="onnx: options: expected num_threads alone, got threads"):
        Backend.prepare(model, threads=2)
    rep = Backend.prepare(model)
    with pytest.raises(TypeError, match="run: expected num_threads alone, got threads"):
        rep.run(given, threads=2)
    with pytest.raises(ValueError, match="num_threads: expected at least 1, got 0"):
        rep.run(given, num_threads=0)


def test_what_only_the_checker_finds() -> None:
    model, _ = small()
    model.ClearField("ir_version")
    with pytest.raises(onnx.checker.ValidationError, match="ir_version"):
        Backend.prepare(model)
    assert not Backend.is_compatible(model)


def test_values_of_unknown_rank(tmp_path: Path) -> None:
    """Values without a shape, which exporters write if they cannot tell the rank, are run."""
    model, given = small()
    wanted = Backend.run_model(model, given)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    before = model.SerializeToString()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    for found in (Backend.run_model(model, given), Backend.run_model(path, given)):
        for a, b, c in zip(found, wanted, runtime(model, given), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)
    assert model.SerializeToString() == before
    model.graph.output[0].ClearField("type")
    with pytest.raises(onnx.checker.ValidationError, match="type"):
        Backend.prepare(model)


def test_without_the_package() -> None:
    code = "import sys; sys.modules['onnx'] = None; import fusedrnn.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    text = "ImportError: fusedrnn.onnx needs the package onnx: pip install fusedrnn[onnx]"
    assert text in done.stderr


# --- the page of the docs ---------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parent.parent / "docs/onnx.md").read_text()


def test_the_page_names_everything() -> None:
    for name in (*oracle.ACTIVATIONS, *oracle.GATES):
        assert re.search(rf"\b{name}\b", PAGE), name
