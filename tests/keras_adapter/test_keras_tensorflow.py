"""What only TensorFlow has: SavedModels, XLA, tapes, and `tensorflow.keras`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fusedrnn.keras as fk
from fusedrnn.keras import _walks

from .same import IDS, KINDS, MASK, TARGETS, Array, X, calls, model_of, numbers, pair, same, shown

TOKENS = tf.constant(IDS, tf.float32)


def by_export(model: Any, path: Path) -> None:
    model.export(path, verbose=False)


def by_save(model: Any, path: Path) -> None:
    tf.saved_model.save(model, path)


def by_module(model: Any, path: Path) -> None:
    """A tf.function that ran on the kernels before it is saved."""
    module = tf.Module()
    module.model = model
    module.serve = tf.function(lambda ids: model(ids))
    before = calls()
    module.serve(TOKENS)
    assert calls() > before
    tf.saved_model.save(module, path)


WAYS: dict[str, Callable[[Any, Path], None]] = {
    "export": by_export,
    "save": by_save,
    "module": by_module,
}


@pytest.mark.parametrize("importable", [True, False])
def test_a_saved_model_is_loaded_in_a_new_process(tmp_path: Path, importable: bool) -> None:
    """Without `restore`: TensorFlow traces the model for the file, and that takes Keras' loop."""
    model = model_of(fk)
    model.compile("adam", "mse")
    model.fit(IDS, TARGETS, epochs=1, verbose=0)
    right = model.predict(IDS, verbose=0)
    for name, save in WAYS.items():
        save(model, tmp_path / name)
    before = calls()
    assert np.abs(model.predict(IDS, verbose=0) - right).max() <= 2e-6
    assert calls() > before  # the model itself is as it was
    first = "import fusedrnn.keras" if importable else "sys.modules['fusedrnn'] = None"
    code = f"""
import json, sys
{first}
import numpy as np, tensorflow as tf
ids = tf.constant(np.array({IDS.tolist()}), tf.float32)
for name in {sorted(WAYS)}:
    model = tf.saved_model.load({str(tmp_path)!r} + "/" + name)
    call = getattr(model, "serve", None)
    y = call(ids) if call else next(iter(model.signatures["serving_default"](ids).values()))
    print(json.dumps([name, y.numpy().tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(json.loads(line) for line in done.stdout.splitlines()[-3:])
    assert found.keys() == WAYS.keys()
    for name, y in found.items():
        assert np.abs(y - right).max() <= 2e-6, name


def test_a_function_that_was_traced_before_is_not_saved(tmp_path: Path) -> None:
    """A ConcreteFunction is saved as it is, so it would fail where it is loaded."""
    model = model_of(fk)
    traced = tf.function(lambda ids: model(ids)).get_concrete_function(TOKENS)
    module = tf.Module()
    module.model = model
    with pytest.raises(AssertionError, match=r"call fusedrnn\.keras\.restore\(model\)"):
        tf.saved_model.save(module, tmp_path / "saved", signatures=traced)
    assert traced(TOKENS).shape == (12, 1)
    fk.restore(model)
    traced = tf.function(lambda ids: model(ids)).get_concrete_function(TOKENS)
    tf.saved_model.save(module, tmp_path / "saved", signatures=traced)


@pytest.mark.parametrize("kind", KINDS)
def test_xla_compiles_keras_own_loop(kind: str) -> None:
    theirs, ours = pair(kind, return_sequences=True)
    before = calls()
    found = tf.function(ours, jit_compile=True)(X)
    assert calls() == before
    same(found, theirs(X))
    same(ours(X), theirs(X))
    assert calls() == before + 1


def test_xla_around_a_function_that_was_traced_before() -> None:
    _, ours = pair("LSTM")
    inner = tf.function(lambda x: ours(x))
    inner(tf.constant(X))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"fusedrnn\.keras\.restore"):
        tf.function(lambda x: inner(x), jit_compile=True)(tf.constant(X))


def differentiated(layer: Any, how: str) -> list[Array]:
    """The gradients of x and of the weights."""
    x, mask = tf.constant(X), tf.constant(MASK)

    def loss(x: Any) -> Any:
        return tf.reduce_sum(layer(x, mask=mask) ** 2)

    def gradients(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = traced(x) if how == "outside" else loss(x)
        return tape.gradient(total, [x, *layer.trainable_variables])

    traced = tf.function(loss)
    if how == "outside":
        traced(x)
    run = tf.function(gradients) if how == "inside" else gradients
    return shown(run(x))


@pytest.mark.parametrize("how", ["eager", "inside", "outside"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_call_under_a_tape_saves(
    kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that was traced before without a tape runs forward again in backward."""
    saves = []
    forward = _walks.forward

    def spied(job: Any, given: Any, save: bool) -> Any:
        saves.append(save)
        return forward(job, given, save)

    monkeypatch.setattr(_walks, "forward", spied)
    theirs, ours = pair(kind, return_sequences=True, dropout=0.0)
    for found, right in zip(differentiated(ours, how), differentiated(theirs, how), strict=True):
        assert np.abs(right).max() > 0
        assert np.abs(found - right).max() <= 1e-5
    assert saves == ([False, False, True] if how == "outside" else [True])
    saves.clear()
    ours(X)
    tf.function(ours)(X)
    model = keras.Sequential([keras.Input((7, 4)), ours])
    model.predict(X, verbose=0)
    assert saves == [False] * 3
    model.compile("sgd", "mse")
    model.fit(X, numbers(3, 7, 5), verbose=0)
    assert saves == [False] * 3 + [True]


def test_a_second_derivative_is_an_error() -> None:
    """A penalty on a gradient would otherwise be left out of a sum, silently."""
    layer, x = fk.LSTM(4), tf.constant(X)
    layer.build(X.shape)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = tf.reduce_sum(layer(x) ** 2)
        penalty = tf.reduce_sum(inner.gradient(total, x) ** 2) + tf.reduce_sum(layer(x))
    with pytest.raises(NotImplementedError, match=r"fusedrnn\.keras\.restore"):
        outer.gradient(penalty, layer.trainable_variables)


def test_a_forward_derivative_is_an_error() -> None:
    layer, x = fk.GRU(4), tf.constant(X)
    layer.build(X.shape)
    message = re.escape("fusedrnn.keras.restore(model)")
    with (
        tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)),
        pytest.raises(NotImplementedError, match=message),
    ):
        layer(x)
