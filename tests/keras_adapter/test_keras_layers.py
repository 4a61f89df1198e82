"""Keras' layers on the kernels against Keras' own: outputs, gradients, training, files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import fusedrnn.keras as fk
from fusedrnn import core
from fusedrnn.keras import _walks

from .same import (
    BACKEND,
    IDS,
    KINDS,
    MASK,
    RIGHT_PADDED,
    TARGETS,
    Array,
    X,
    calls,
    model_of,
    numbers,
    pair,
    same,
    shown,
)

trains = pytest.mark.skipif(BACKEND == "numpy", reason="Keras has no fit on NumPy")


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "backwards": {"go_backwards": True},
    "no bias": {"use_bias": False},
    "relu": {"activation": "relu"},
    "linear": {"activation": None},
    "softsign": {"activation": "softsign"},
    "leaky": {"activation": "leaky_relu"},
    "unrolled": {"unroll": True},
    "float64": {"dtype": "float64"},
    "first": {"implementation": 1},
}
GATED = {
    "hard gates": {"recurrent_activation": "hard_sigmoid"},
    "elu gates": {"recurrent_activation": "elu", "activation": "softplus"},
}


def cases() -> list[Any]:
    found = []
    for kind in KINDS:
        own = OPTIONS | (GATED if kind != "SimpleRNN" else {})
        own |= {"reset before": {"reset_after": False}} if kind == "GRU" else {}
        for name, options in own.items():
            if kind == "SimpleRNN" and "implementation" in options:
                continue
            found.append(pytest.param(kind, options, id=f"{kind}-{name}"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_do_not_fit_are_named_as_the_caller_has_them(kind: str) -> None:
    layer, x = getattr(fk, kind)(4), np.ones((2, 5, 3), "float32")
    with pytest.raises(ValueError, match=r"mask: expected shape \(2, 5\), got \(2, 4\)"):
        layer(x, mask=np.ones((2, 4), bool))
    states = [np.ones((2, n), "float32") for n in ((4, 3) if kind == "LSTM" else (3,))]
    last = len(states) - 1
    with pytest.raises(
        ValueError, match=rf"initial_state\[{last}\]: expected shape \(2, 4\), got \(2, 3\)"
    ):
        layer(x, initial_state=states)


@pytest.mark.parametrize("mask", [None, MASK, RIGHT_PADDED], ids=["whole", "gaps", "padded"])
@pytest.mark.parametrize(("kind", "options"), cases())
def test_outputs(kind: str, options: dict[str, Any], mask: Array | None) -> None:
    if BACKEND == "jax" and options.get("dtype") == "float64":
        pytest.skip("JAX computes in float32 unless it is told otherwise")
    for more in ({}, {"return_sequences": True, "return_state": True}):
        theirs, ours = pair(kind, **options, **more)
        x = X.astype(options.get("dtype", "float32"))
        right, before = theirs(x, mask=mask), calls()
        same(ours(x, mask=mask), right)  # JAX computes when the values are asked for
        assert calls() == before + (mask is None or not ours.unroll)
    for layer in (theirs, ours):
        layer.zero_output_for_mask = True
    same(ours(x, mask=mask), theirs(x, mask=mask))


@pytest.mark.parametrize("kind", KINDS)
def test_states_go_in_and_on(kind: str) -> None:
    theirs, ours = pair(kind, return_state=True)
    states = [numbers(3, 5, seed=k) for k in range(2 if kind == "LSTM" else 1)]
    same(ours(X, initial_state=states), theirs(X, initial_state=states))
    theirs, ours = pair(kind, stateful=True)
    for _ in range(3):
        same(ours(X), theirs(X))
    ours.reset_state()
    theirs.reset_state()
    same(ours(X), theirs(X))


@pytest.mark.parametrize("mode", ["concat", "sum"])
@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional(kind: str, mode: str) -> None:
    both = [
        keras.layers.Bidirectional(getattr(place, kind)(5, return_sequences=True), merge_mode=mode)
        for place in (keras.layers, fk)
    ]
    for layer in both:
        layer.build(X.shape)
    both[1].set_weights(both[0].get_weights())
    right, before = shown(both[0](X, mask=MASK)), calls()
    same(both[1](X, mask=MASK), right)
    assert calls() == before + 2


@trains
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *((kind, more) for kind in KINDS for more in ({}, {"go_backwards": True})),
        ("GRU", {"reset_after": False}),
    ],
)
def test_gradients(kind: str, more: dict[str, Any]) -> None:
    """One step of plain SGD moves every weight, and x, by its gradient, with gaps in the mask."""
    x = X * MASK[..., None]  # Dense has no bias yet, so these steps are 0 before Masking
    moved = []
    for place in (keras.layers, fk):
        keras.utils.set_random_seed(5)
        inputs = keras.Input((7, 4))
        masked = keras.layers.Masking()(keras.layers.Dense(4)(inputs))
        y, *states = getattr(place, kind)(5, return_sequences=True, return_state=True, **more)(
            masked
        )
        total = keras.layers.Concatenate()([keras.layers.Flatten()(y), *states])
        model = keras.Model(inputs, keras.layers.Dense(2)(total))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        before = model.get_weights()
        model.fit(x, numbers(3, 2, seed=4), epochs=1, batch_size=3, verbose=0)
        moved.append([b - a for a, b in zip(before, model.get_weights(), strict=True)])
    for found, right in zip(moved[1], moved[0], strict=True):
        assert np.abs(right).max() > 0
        assert np.abs(found - right).max() <= 2e-6


@trains
def test_a_model_is_trained_alike() -> None:
    """Embedding with masks, Bidirectional, GRU, SimpleRNN; Adam, several epochs."""
    found = []
    for place in (keras.layers, fk):
        keras.utils.set_random_seed(7)
        model = model_of(place)
        model.compile("adam", "mse")
        before = calls()
        history = model.fit(IDS, TARGETS, epochs=3, batch_size=4, shuffle=False, verbose=0)
        assert (calls() > before) == (place is fk)
        found.append([*history.history["loss"], *model.predict(IDS, verbose=0).reshape(-1)])
    assert np.abs(np.subtract(*found)).max() <= 2e-5


@trains
@pytest.mark.parametrize("kind", KINDS)
def test_a_stateful_layer_is_trained(kind: str) -> None:
    """Keras writes the states in place before backward; on torch its own LSTM and GRU fail then."""
    fails = BACKEND == "torch" and kind != "SimpleRNN"
    found = []
    for place in [fk] if fails else [keras.layers, fk]:
        keras.utils.set_random_seed(0)
        inputs = keras.Input(batch_shape=(3, 7, 4))
        y = getattr(place, kind)(5, stateful=True)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(y))
        model.compile("sgd", "mse")
        fitted = model.fit(X, np.ones((3, 1), "float32"), batch_size=3, epochs=3, verbose=0)
        found.append(fitted.history["loss"])
    assert found[-1][-1] < found[-1][0]
    assert np.abs(np.subtract(found[0], found[-1])).max() <= 2e-6


@trains
def test_dropout_draws_masks_of_the_sequence() -> None:
    """dropout, and recurrent_dropout of SimpleRNN, run on the kernels and change with each call."""
    for kind, options in (
        ("LSTM", {"dropout": 0.5}),
        ("GRU", {"dropout": 0.5}),
        ("SimpleRNN", {"dropout": 0.3, "recurrent_dropout": 0.5}),
    ):
        _, ours = pair(kind, **options)
        before = calls()
        first, second = shown(ours(X, training=True)), shown(ours(X, training=True))
        assert calls() == before + 2
        assert np.abs(first[0] - second[0]).max() > 1e-3
        same(ours(X), pair(kind)[0](X))


@trains
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_masks_as_keras(kind: str) -> None:
    theirs, ours = pair(kind, dropout=0.4, seed=3)
    same(ours(X, training=True), theirs(X, training=True))


@pytest.mark.parametrize(
    ("options", "training", "why"),
    [
        ({"activation": "gelu"}, False, "the kernels do not have the activation gelu"),
        ({"dtype": "bfloat16"}, False, "it computes in bfloat16 with weights in bfloat16"),
        ({"dtype": "mixed_bfloat16"}, False, "it computes in bfloat16 with weights in float32"),
        ({"recurrent_dropout": 0.5}, True, "a mask of dropout for each gate"),
        ({"dropout": 0.5, "implementation": 1}, True, "a mask of dropout for each gate"),
        ({"recurrent_dropout": 0.5}, False, ""),
        ({}, True, ""),
    ],
    ids=str,
)
def test_what_takes_keras_own_loop(options: dict[str, Any], training: bool, why: str) -> None:
    """The report says the reason, and the call takes the path that the report says."""
    layer = fk.LSTM(5, recurrent_initializer="glorot_uniform", **options)
    layer.build(X.shape)
    (line,) = fk.report(layer, training)
    assert line.why.startswith(why)
    assert line.fused == (why == "")
    if BACKEND == "numpy" and "float16" in str(options):
        return  # NumPy alone does not compute in bfloat16
    before = calls()
    layer(X.astype("float32"), training=training)
    assert (calls() > before) == line.fused


def test_accelerate_and_restore() -> None:
    model = model_of(keras.layers)
    before = model.predict(IDS, verbose=0)
    assert [line.fused for line in fk.report(model)] == [False] * 4
    assert fk.accelerate(model) is model
    lines = fk.report(model)
    assert [line.fused for line in lines] == [True] * 4
    assert [line.kind for line in lines] == ["LSTM", "LSTM", "GRU", "SimpleRNN"]
    counted = calls()
    assert np.abs(model.predict(IDS, verbose=0) - before).max() <= 2e-6
    assert calls() > counted
    assert fk.restore(model) is model
    assert not any(line.fused for line in fk.report(model))
    counted = calls()
    assert np.abs(model.predict(IDS, verbose=0) - before).max() <= 2e-6
    assert calls() == counted
    with pytest.raises(TypeError, match="model: expected a model or layer of Keras, got int"):
        fk.accelerate(3)


@trains
@pytest.mark.skipif(BACKEND == "jax", reason="XLA of JAX knows the kernels")
def test_compile_with_jit_goes_on_without() -> None:
    """Keras warns and does not compile, so the kernels compute, as the report says."""
    without = "Proceeding with `jit_compile=False`"
    made, accelerated = model_of(fk), model_of(keras.layers)
    with pytest.warns(UserWarning, match=without):
        made.compile("adam", "mse", jit_compile=True)
    accelerated.compile("adam", "mse", jit_compile=True)
    with pytest.warns(UserWarning, match=without):
        fk.accelerate(accelerated)
    for model in (made, accelerated):
        assert not model.jit_compile
        assert all(line.fused for line in fk.report(model, training=True))
        before = calls()
        model.train_on_batch(IDS, TARGETS)
        assert calls() > before
    assert fk.restore(accelerated).jit_compile
    assert not fk.restore(made).jit_compile


@pytest.mark.parametrize("place", [0, 1, 2], ids=["kernel", "recurrent", "bias"])
def test_weights_that_differ_in_one_number(place: int) -> None:
    """The pack of the first weights is not taken for the second."""
    if BACKEND == "jax":
        pytest.skip("fusedrnn.jax has packs of its own")
    theirs, ours = pair("LSTM")
    ours(X)
    weights = ours.get_weights()
    weights[place][(-1,) * weights[place].ndim] += 1
    for layer in (theirs, ours):
        layer.set_weights(weights)
    same(ours(X), theirs(X))


def test_packs_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call after no change packs nothing; what is kept has a number of bytes, keys included."""
    if BACKEND == "jax":
        pytest.skip("fusedrnn.jax has packs of its own")
    packed = []
    pack = core.pack
    monkeypatch.setattr(core, "pack", lambda *a, **k: packed.append(1) or pack(*a, **k))
    _, ours = pair("GRU")
    one = core.PackCache()
    monkeypatch.setattr(_walks, "PACKS", one)
    for _ in range(3):
        ours(X)
    assert len(packed) == len(one) == 1
    weights = ours.get_weights()
    monkeypatch.setattr(_walks, "PACKS", core.PackCache(limit=3 * one.nbytes))
    for k in range(5):
        ours.set_weights([w + k for w in weights])
        ours(X)
    assert len(packed) == 6
    assert len(_walks.PACKS) == 3
    assert one.nbytes > sum(w.nbytes for w in weights)


def test_a_class_of_ones_own_is_left_alone() -> None:
    class Mine(keras.layers.LSTM):
        pass

    layer = Mine(3)
    assert fk.report(fk.accelerate(layer))[0].why == "it is of another class"


@pytest.mark.parametrize("restored", [False, True])
def test_a_saved_model_is_loaded_elsewhere(tmp_path: Path, restored: bool) -> None:
    """A new process imports fusedrnn.keras first; for a restored model it needs no fusedrnn."""
    model = model_of(fk)
    right = model.predict(IDS, verbose=0)
    if restored:
        fk.restore(model)
    model.save(tmp_path / "model.keras")
    first = 'import sys; sys.modules["fusedrnn"] = None' if restored else "import fusedrnn.keras"
    code = f"""
{first}
import json, keras, numpy as np
model = keras.models.load_model({str(tmp_path / "model.keras")!r})
print(json.dumps(model.predict(np.array({IDS.tolist()}), verbose=0).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.abs(json.loads(done.stdout.splitlines()[-1]) - right).max() <= 2e-6
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [line.fused for line in fk.report(again)] == [not restored] * 4
    config = fk.GRU(5, reset_after=False, return_sequences=True).get_config()
    assert fk.GRU.from_config(config).get_config() == config


def test_no_sequence() -> None:
    _, ours = pair("GRU", return_sequences=True)
    assert shown(ours(np.zeros((0, 7, 4), "float32")))[0].shape == (0, 7, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_are_promoted_as_by_keras(kind: str) -> None:
    theirs, ours = pair(kind, return_sequences=True, return_state=True)
    whole, before = np.arange(84).reshape(3, 7, 4) % 5, calls()
    states = [np.ones((3, 5), "int32")] * (2 if kind == "LSTM" else 1)
    for x in (whole, whole.astype("uint8"), whole > 2):
        same(ours(x, initial_state=states), theirs(x, initial_state=states))
    assert calls() > before
