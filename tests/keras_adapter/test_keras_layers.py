"""Outputs, gradients, trained weights and files of the layers, against Keras's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import keras

import fusedrnn.keras as fk  # isort: skip

Counted = Callable[[Callable[[], Any]], tuple[Any, int]]
BACKEND = keras.backend.backend()
needs_fit = pytest.mark.skipif(BACKEND == "numpy", reason="Keras on NumPy has no fit")
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu"}),
    ("SimpleRNN", {"activation": "linear", "use_bias": False}),
    ("SimpleRNN", {"activation": "sigmoid"}),
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"use_bias": False}),
]
kinds = pytest.mark.parametrize(("kind", "options"), KINDS)
X = np.random.default_rng(1).standard_normal((4, 7, 3)).astype("float32")
RIGHT = np.arange(7) < np.array([7, 3, 1, 5])[:, None]
ANY = np.random.default_rng(2).random((4, 7)) < 0.5
ANY[0, 0] = False


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    """Return a layer of Keras and ours with the same weights, which are not those at the start."""
    theirs, own = (getattr(m, kind)(5, **options) for m in (keras.layers, fk))
    rng = np.random.default_rng(3)
    for layer in (theirs, own):
        layer.build((4, 7, 3))
    theirs.set_weights([rng.standard_normal(w.shape) / 2 for w in theirs.get_weights()])
    own.set_weights(theirs.get_weights())
    return theirs, own


def arrays(result: Any) -> list[Any]:
    several = result if isinstance(result, list | tuple) else [result]
    return [keras.ops.convert_to_numpy(a) for a in several]


def same(some: Any, others: Any, tolerance: float = 2e-6) -> None:
    for a, b in zip(arrays(some), arrays(others), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@kinds
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("mask", [None, RIGHT, ANY], ids=["whole", "right", "any"])
def test_outputs_and_states(
    kind: str,
    options: dict[str, Any],
    sequences: bool,
    backwards: bool,
    zero: bool,
    mask: Any,
    ours: Counted,
) -> None:
    theirs, own = pair(
        kind,
        return_sequences=sequences,
        return_state=True,
        go_backwards=backwards,
        zero_output_for_mask=zero,
        **options,
    )
    rng = np.random.default_rng(4)
    count = 2 if kind == "LSTM" else 1
    states = [rng.standard_normal((4, 5)).astype("float32") for _ in range(count)]
    told = None if mask is None else keras.ops.convert_to_tensor(mask)
    for first in (None, [keras.ops.convert_to_tensor(s) for s in states]):
        expected = theirs(X, initial_state=first, mask=told)
        found, calls = ours(lambda first=first: own(X, initial_state=first, mask=told))
        same(found, expected)
        assert calls == 1


@kinds
def test_stateful(kind: str, options: dict[str, Any]) -> None:
    theirs, own = pair(kind, stateful=True, **options)
    for _ in range(3):
        same(own(X), theirs(X))
    own.reset_state()
    theirs.reset_state()
    same(own(X), theirs(X))


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mode", ["concat", "sum", None])
def test_bidirectional(kind: str, mode: Any, ours: Counted) -> None:
    models = []
    for module in (keras.layers, fk):
        layer = getattr(module, kind)(5, return_sequences=True)
        models.append(keras.layers.Bidirectional(layer, merge_mode=mode))
        models[-1].build((4, 7, 3))
    theirs, own = models
    own.set_weights(theirs.get_weights())
    mask = keras.ops.convert_to_tensor(RIGHT)
    found, calls = ours(lambda: own(X, mask=mask))
    same(found, theirs(X, mask=mask))
    assert calls == 2


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_embedding_masks(kind: str, ours: Counted) -> None:
    ids = np.array([[3, 1, 0, 0], [0, 2, 2, 1], [0, 0, 0, 0]])
    models = [
        keras.Sequential([keras.layers.Embedding(5, 3, mask_zero=True), getattr(module, kind)(4)])
        for module in (keras.layers, fk)
    ]
    expected = models[0](ids)
    models[1](ids)
    models[1].set_weights(models[0].get_weights())
    found, calls = ours(lambda: models[1](ids))
    same(found, expected)
    assert calls == 1


@needs_fit
@kinds
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_fit_trains_the_same_weights(
    kind: str, options: dict[str, Any], mask: bool, backwards: bool, ours: Counted
) -> None:
    x = np.where(ANY[:, :, None], X, 0).astype("float32") if mask else X
    target = np.random.default_rng(5).standard_normal((4, 7, 2)).astype("float32")
    trained = []
    for module in (keras.layers, fk):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((7, 3)), *([keras.layers.Masking()] if mask else [])]
        layers += [
            getattr(module, kind)(5, return_sequences=True, go_backwards=backwards, **options),
            getattr(module, kind)(4, return_sequences=True, **options),
            keras.layers.Dense(2),
        ]
        model = keras.Sequential(layers)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
        _, calls = ours(lambda m=model: m.fit(x, target, epochs=5, batch_size=2, verbose=0))
        assert calls == (40 if module is fk else 0)
        trained.append(model.get_weights())
    same(trained[1], trained[0], 2e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="a test of torch's autograd")
@kinds
def test_gradients_of_everything(kind: str, options: dict[str, Any]) -> None:
    found = []
    for layer in pair(kind, return_state=True, return_sequences=True, **options):
        x = keras.ops.convert_to_tensor(X).requires_grad_()
        count = 2 if kind == "LSTM" else 1
        states = [keras.ops.ones((4, 5)).requires_grad_() for _ in range(count)]
        mask = keras.ops.convert_to_tensor(ANY)
        results = layer(x, initial_state=states, mask=mask)
        sum((k + 1) * (r**2).sum() for k, r in enumerate(results)).backward()
        parameters = [v.value.grad for v in layer.trainable_variables]
        found.append([x.grad, *(s.grad for s in states), *parameters])
    same(found[1], found[0], 3e-5)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_files_and_restore(kind: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((7, 3)), getattr(fk, kind)(5, name="core")])
    expected = arrays(model(X))
    model.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    assert type(again.layers[0]) is getattr(fk, kind)
    same(again(X), expected)
    fk.restore(model).save(tmp_path / "theirs.keras")
    again = keras.models.load_model(tmp_path / "theirs.keras")
    assert type(again.layers[0]) is getattr(keras.layers, kind)
    same(again(X), expected)


def test_accelerate_reaches_wrapped_layers(ours: Counted) -> None:
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True)),
            keras.layers.GRU(4),
        ]
    )
    expected = arrays(model(X))
    assert [line.why for line in fk.report(model)] == ["not accelerated"] * 3
    assert fk.accelerate(model) is model
    assert all(line.fused for line in fk.report(model))
    found, calls = ours(lambda: model(X))
    assert calls == 3
    same(found, expected)
    _, calls = ours(lambda: fk.restore(model)(X))
    assert calls == 0
    with pytest.raises(TypeError, match="expected a Keras layer or model, got int"):
        fk.accelerate(3)


# Rows of the table in docs/keras.md.
SLOWER: list[tuple[str, dict[str, Any], bool, str]] = [
    ("LSTM", {"activation": "relu"}, False, "activations"),
    ("GRU", {"recurrent_activation": "hard_sigmoid"}, False, "activations"),
    ("SimpleRNN", {"activation": "elu"}, False, "activations"),
    ("LSTM", {"unroll": True}, False, "unroll=True"),
    (
        "LSTM",
        {"dtype": "bfloat16", "recurrent_initializer": "glorot_uniform"},
        False,
        "dtype bfloat16",
    ),
    ("LSTM", {"dtype": "mixed_bfloat16"}, False, "dtype bfloat16"),
    ("LSTM", {"recurrent_dropout": 0.5}, True, "recurrent_dropout"),
    ("GRU", {"dropout": 0.5, "implementation": 1}, True, "a mask for each gate"),
]


@pytest.mark.parametrize(("kind", "options", "training", "why"), SLOWER)
def test_the_parent_makes_other_calls(
    kind: str, options: dict[str, Any], training: bool, why: str, ours: Counted
) -> None:
    if BACKEND == "numpy" and "bfloat16" in str(options):
        options = {**options, "dtype": options["dtype"].replace("bfloat16", "float16")}
        why = why.replace("bfloat16", "float16")
    if kind != "SimpleRNN":  # Keras's other way on torch rounds differently, and fails with dropout
        options = {**options, "use_cudnn": False}
    theirs, own = pair(kind, seed=7, **options)
    found, calls = ours(lambda: own(X, training=training))
    assert calls == 0
    same(keras.ops.cast(found, "float32"), keras.ops.cast(theirs(X, training=training), "float32"))
    (line,) = fk.report(own)
    assert why in line.why
    assert line.fused is training  # the kernels still make the calls outside training


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_dropout_of_inputs_draws_the_same_mask(kind: str, ours: Counted) -> None:
    theirs, own = pair(kind, dropout=0.5, seed=7)
    for training in (True, False, True):
        found, calls = ours(lambda training=training: own(X, training=training))
        assert calls == 1
        same(found, theirs(X, training=training))
