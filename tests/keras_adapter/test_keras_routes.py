"""What takes Keras' own loop: each row of the table in docs/keras.md, counted, and its results."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import fusedrnn.keras as fk

from .same import BACKEND, IDS, MASK, TARGETS, X, calls, model_of, pair, same

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keras.md"
Run = Callable[[Any], Any]


def plain(layer: Any) -> Any:
    return layer(X)


def in_training(layer: Any) -> Any:
    return layer(X, training=True)


def with_mask(layer: Any) -> Any:
    return layer(X, mask=MASK)


def on_meta(layer: Any) -> Any:
    """As Keras calls a layer for the shapes of its outputs."""
    from keras.src.backend import compute_output_spec

    found = compute_output_spec(layer.call, keras.KerasTensor(X.shape))
    assert found.shape == (3, 5)
    return []


def tensor() -> Any:
    return keras.ops.convert_to_tensor(X)


def in_transform(layer: Any) -> Any:
    import torch

    return torch.func.grad(lambda x: (layer(x) ** 2).sum())(tensor())


def by_torch_compile(layer: Any) -> Any:
    import torch

    torch._dynamo.reset()
    return torch.compile(layer, backend="eager")(tensor()).detach()


def by_torch_export(layer: Any) -> Any:
    import torch

    with torch.no_grad():
        return torch.export.export(layer, (tensor(),), strict=False).module()(tensor())


def by_torch_trace(layer: Any) -> Any:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: it is deprecated, and what it does not record
        return torch.jit.trace(layer, tensor(), check_trace=False)(tensor())


def by_xla(layer: Any) -> Any:
    import tensorflow as tf

    return tf.function(layer, jit_compile=True)(X)


def for_a_saved_model(layer: Any) -> Any:
    import tensorflow as tf
    from tensorflow.python.saved_model import save_context

    with save_context.save_context(tf.saved_model.SaveOptions()):
        return tf.function(layer)(X)


LOW = {"recurrent_initializer": "glorot_uniform"}  # PyTorch has no QR of bfloat16
# The row's beginning, the backend that it is about, options of the layers, and the call.
CASES: list[tuple[str, str, dict[str, Any], Run]] = [
    ("activations other than", "", {"activation": "gelu"}, plain),
    ("activations other than", "", {"activation": keras.ops.arctan}, plain),
    ("activations other than", "", {"recurrent_activation": "silu"}, plain),
    ("float16, bfloat16", "", {"dtype": "bfloat16", **LOW}, plain),
    ("float16, bfloat16", "", {"dtype": "mixed_bfloat16", **LOW}, plain),
    ("a mask of dropout", "", {"recurrent_dropout": 0.5, "seed": 0}, in_training),
    ("a mask of dropout", "", {"dropout": 0.5, "implementation": 1, "seed": 0}, in_training),
    ("`unroll=True`", "", {"unroll": True}, with_mask),
    ("tensors that are not on a CPU", "torch", {}, on_meta),
    ("tensors that are not on a CPU", "torch", {}, in_transform),
    ("tensors that are not on a CPU", "torch", {}, by_torch_compile),
    ("tensors that are not on a CPU", "torch", {}, by_torch_export),
    ("tensors that are not on a CPU", "torch", {}, by_torch_trace),
    ("`export`", "tensorflow", {}, by_xla),
    ("`export`", "tensorflow", {}, for_a_saved_model),
    ("other backends", "openvino", {}, plain),
    ("other backends", "openvino", {"return_sequences": True}, with_mask),
]


def rows() -> list[str]:
    table = PAGE.read_text().split("| What | When |\n|---|---|\n")[1].split("\n\n")[0]
    return [re.split(r" \| ", line.removeprefix("| "))[0] for line in table.splitlines()]


def test_every_row_has_a_case() -> None:
    assert all(any(row.startswith(case[0]) for case in CASES) for row in rows())
    assert all(any(row.startswith(case[0]) for row in rows()) for case in CASES)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    ("options", "run"),
    [
        pytest.param(options, run, id=f"{run.__name__}-{','.join(options)}")
        for _, backend, options, run in CASES
        if backend in ("", BACKEND)
    ],
)
def test_keras_own_loop(options: dict[str, Any], run: Run) -> None:
    if BACKEND == "numpy" and "bfloat16" in str(options.get("dtype")):
        pytest.skip("NumPy alone does not compute in bfloat16")
    # Without cuDNN's function, which Keras has on torch, so that both layers take the same loop.
    theirs, ours = pair("LSTM", use_cudnn=False, **options)
    before = calls()
    found = run(ours)
    assert calls() == before
    same(found, run(theirs))


@pytest.mark.skipif(BACKEND in ("numpy", "openvino"), reason="Keras has no fit there")
def test_the_first_calls_of_fit_have_no_values() -> None:
    """Keras asks for shapes with tensors on meta or symbolic ones; then the kernels compute."""
    model = model_of(fk)
    before = calls()
    model.build((None, 7))
    symbolic = keras.Input((7, 4))
    for layer in (fk.SimpleRNN(3), fk.LSTM(3), fk.GRU(3)):
        assert layer(symbolic).shape == (None, 3)
    assert calls() == before
    model.compile("adam", "mse")
    model.train_on_batch(IDS, TARGETS)
    assert calls() == before + 2 * 4  # forward and backward of four layers


def test_a_backend_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report and the call of a layer on a backend that is not in the table of walks."""
    theirs, ours = pair("GRU")
    if BACKEND != "openvino":
        monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    (line,) = fk.report(ours)
    assert line.why == "Keras runs on openvino"
    before = calls()
    same(ours(X), theirs(X))
    assert calls() == before
    assert np.isfinite(keras.ops.convert_to_numpy(ours(X))).all()
