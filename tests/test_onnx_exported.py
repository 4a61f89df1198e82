"""Models as exporters write them, on fusedrnn.onnx, compared with ONNX Runtime and their origin.

The exporters are PyTorch's present one (dynamo) and the one before, Keras through tf2onnx, and
skl2onnx. The suite takes a part of each grid, `-m exhaustive` the whole.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fusedrnn import weights
from test_onnx import runtime

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from fusedrnn.onnx import Backend  # noqa: E402

BOUND = 3e-6
INPUTS = 5


def agree(model: Any, xs: list[Any], wanted: list[Any]) -> Any:
    """Assert that our, ONNX Runtime's and the origin's results agree; returns the model."""
    rep = Backend.prepare(model)
    for x, y in zip(xs, wanted, strict=True):
        (name,) = rep.input_names
        found, theirs = rep.run({name: x}), runtime(model, {name: x})
        for a, b in zip(found, theirs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=BOUND, atol=BOUND)
        np.testing.assert_allclose(found[0], y, rtol=BOUND, atol=BOUND)
    return rep


# --- PyTorch ----------------------------------------------------------------------------------


class Shape(NamedTuple):
    """A model: recurrent layers of torch, with or without a Linear on the last step."""

    operator: str
    hidden: int
    layers: int
    both: bool
    head: bool
    dynamic: str  # "batch" or "time"
    dropout: float = 0.0


def grid(dynamics: tuple[str, ...]) -> Iterator[Shape]:
    """Every combination; every other stack of two layers has dropout."""
    axes = (("LSTM", "GRU", "RNN"), (16, 96), (1, 2), (False, True), (False, True), dynamics)
    for turn, values in enumerate(product(*axes)):
        yield Shape(*values, dropout=0.3 if values[2] == 2 and turn % 2 else 0.0)


def of_torch(shape: Shape, dynamo: bool) -> tuple[Any, list[Any], list[Any]]:
    """The exported model, inputs of two sizes, and torch's results for them."""
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(torch.nn, shape.operator)(
                INPUTS,
                shape.hidden,
                shape.layers,
                bidirectional=shape.both,
                batch_first=True,
                dropout=shape.dropout,
            )
            width = shape.hidden * (2 if shape.both else 1)
            self.head = torch.nn.Linear(width, 3) if shape.head else None

        def forward(self, x: Any) -> Any:
            y, _ = self.layer(x)
            return y if self.head is None else self.head(y[:, -1])

    torch.manual_seed(0)
    model = Model().eval()
    x = torch.randn(3, 7, INPUTS)
    axis = ["batch", "time"].index(shape.dynamic)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # the exporter's progress messages
        try:
            if dynamo:
                sizes: Any = ({axis: torch.export.Dim.DYNAMIC},)
                torch.onnx.export(
                    model, (x,), file, dynamo=True, dynamic_shapes=sizes, verbose=False
                )
            else:
                named = {"x": {axis: shape.dynamic}}
                torch.onnx.export(
                    model, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=named
                )
        finally:
            logging.disable(logging.NOTSET)
        other = torch.randn(5, 7, INPUTS) if axis == 0 else torch.randn(3, 4, INPUTS)
        xs = [x, other]
        with torch.no_grad():
            wanted = [model(one).numpy() for one in xs]
    return onnx.load_from_string(file.getvalue()), [one.numpy() for one in xs], wanted


def check_torch(shape: Shape, dynamo: bool, tmp_path: Path) -> None:
    model, xs, wanted = of_torch(shape, dynamo)
    rep = agree(model, xs, wanted)
    placed = [p for p in rep.report() if p.operator == shape.operator]
    if shape.operator == "RNN" and dynamo:
        assert not placed  # this exporter unrolls the steps
        return
    assert [p.runs_on for p in placed] == ["kernel"] * shape.layers
    if shape.head:
        assert ("Gemm", "kernel") in {(p.operator, p.runs_on) for p in rep.report()}
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    found = weights.onnx_layers(path)
    assert list(found) == [p.path for p in placed]
    for layer in found.values():
        params = weights.from_onnx(layer.arrays, layer.cell)
        assert params["weight_hh_l0"].shape[1] == shape.hidden


OLD_GRID = list(grid(("batch", "time")))


@pytest.mark.torch
def test_torch_exporter_before_dynamo(tmp_path: Path) -> None:
    """A part of the grid in which every value of every axis occurs."""
    part = OLD_GRID[::9]
    for values in zip(*part, strict=True):
        assert len(set(values)) > 1
    for shape in part:
        check_torch(shape, False, tmp_path)


@pytest.mark.torch
@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", OLD_GRID, ids=str)
def test_torch_exporter_before_dynamo_whole(shape: Shape, tmp_path: Path) -> None:
    check_torch(shape, False, tmp_path)


@pytest.mark.torch
def test_torch_exporter(tmp_path: Path) -> None:
    """torch's default exporter: dynamic batch axis, two directions, a stack, the last step, a head.

    At 96 units the weights are slices and concatenations of initializers.
    """
    pytest.importorskip("onnxscript")
    shape = Shape("LSTM", 96, 2, both=True, head=True, dynamic="batch")
    model, xs, wanted = of_torch(shape, dynamo=True)
    names = {node.op_type for node in model.graph.node}
    assert names >= {"Mul", "Slice", "Concat", "Unsqueeze"}
    initializers = {tensor.name for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "LSTM"]
    assert len(layers) == 2
    for node in layers:
        assert set(node.input[1:4]) - initializers
    agree(model, xs, wanted)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert len(weights.onnx_layers(path)) == 2


# The time axis cannot be dynamic here, because torch.export unrolls a recurrent layer.
@pytest.mark.torch
@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", list(grid(("batch",))), ids=str)
def test_torch_exporter_whole(shape: Shape, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    check_torch(shape, True, tmp_path)


# --- Keras ------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_keras_export(name: str, both: bool, tmp_path: Path) -> None:
    """Keras's own export, on PyTorch: steps written one by one, so no recurrent node is left."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    if os.environ["KERAS_BACKEND"] != "torch":
        pytest.skip("KERAS_BACKEND is not torch")
    pytest.importorskip("onnxscript")
    keras = pytest.importorskip("keras")
    path = tmp_path / "model.onnx"
    x = np.random.default_rng(0).standard_normal((4, 6, INPUTS)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = getattr(keras.layers, name)(16)
        layer = keras.layers.Bidirectional(layer) if both else layer
        model = keras.Sequential([keras.Input((6, INPUTS)), layer, keras.layers.Dense(3)])
        wanted = [model(a).detach().numpy() for a in (x, x[:1])]
        logging.disable(logging.CRITICAL)  # the exporter's progress
        try:
            model.export(path, format="onnx", verbose=False)
        finally:
            logging.disable(logging.NOTSET)
    if (name, both) == ("SimpleRNN", True):  # ONNX Runtime refuses to reduce a size over axis 0
        rep = Backend.prepare(path)
        for a, y in zip((x, x[:1]), wanted, strict=True):
            np.testing.assert_allclose(rep.run([a])[0], y, rtol=BOUND, atol=BOUND)
    else:
        rep = agree(onnx.load(path), [x, x[:1]], wanted)
    assert ("MatMul", "kernel") in {(p.operator, p.runs_on) for p in rep.report()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_tf2onnx(name: str, both: bool, sequences: bool, mask: bool) -> None:
    """Keras on TensorFlow (KERAS_BACKEND=tensorflow) exports LSTM nodes or TensorArray loops."""
    if os.environ.get("KERAS_BACKEND") != "tensorflow":
        pytest.skip("KERAS_BACKEND is not tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = pytest.importorskip("tensorflow")
        keras = pytest.importorskip("keras")
        tf2onnx = pytest.importorskip("tf2onnx")

        def layer(**more: Any) -> Any:
            one = getattr(keras.layers, name)(16, **more)
            return keras.layers.Bidirectional(one) if both else one

        start = keras.Input((None, INPUTS))
        x = keras.layers.Masking()(start) if mask else start
        x = layer(return_sequences=sequences)(layer(return_sequences=True)(x))
        model = keras.Model(start, keras.layers.Dense(3)(x))
        signature = [tf.TensorSpec((None, None, INPUTS), tf.float32, name="x")]
        function = tf.function(lambda x: model(x), input_signature=signature)
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
        xs = [np.random.default_rng(n).standard_normal((3, n, INPUTS)) for n in (7, 4)]
        xs = [a.astype("float32") for a in xs]
        for a in xs:
            a[1, 3:] = 0  # steps that the model masks
        wanted = [model(a).numpy() for a in xs]
    agree(proto, xs, wanted)


# --- scikit-learn -----------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_skl2onnx() -> None:
    """Operators of ai.onnx.ml, an ONNX domain too, and a perceptron that runs on our product."""
    sklearn = pytest.importorskip("sklearn")
    skl2onnx = pytest.importorskip("skl2onnx")
    assert sklearn
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, INPUTS)).astype("float32")
    labels = (x.sum(axis=1) > 0).astype("int64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=0))
        model.fit(x, labels)
        proto = skl2onnx.to_onnx(model, x[:1], options={"zipmap": False})
    found = Backend.prepare(proto).run([x])
    for a, b in zip(found, runtime(proto, {proto.graph.input[0].name: x}), strict=True):
        np.testing.assert_allclose(a, b, rtol=BOUND, atol=BOUND)
    np.testing.assert_allclose(found[1], model.predict_proba(x), rtol=1e-4, atol=1e-5)
