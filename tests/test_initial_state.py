"""Layers that learn the state before a sequence's first step."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn import nn
from layer_oracle import parts
from test_gradients import FIVE_POINTS, STEP

Array = np.ndarray[Any, np.dtype[Any]]
T, B, INPUTS, H, P = 5, 4, 3, 5, 2
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (fr.RNN, {}),
    "lstm": (fr.LSTM, {}),
    "lstm projected": (fr.LSTM, {"proj_size": P}),
    "lstm normalised": (fr.LSTM, {"layer_norm": True}),
    "gru": (fr.GRU, {}),
    "gru reset before": (fr.GRU, {"reset_after": False}),
}


def layer_of(kind: str, **more: Any) -> Any:
    """A bidirectional stack in float64 whose first states are drawn."""
    make, options = KINDS[kind]
    usual = {"bidirectional": True, "dtype": "float64", "seed": 1, "learn_initial_state": True}
    layer = make(INPUTS, H, 2, **options, **(usual | more))
    rng = np.random.default_rng(2)
    with layer.writable() as params:
        for name, a in params.items():
            if name.startswith("initial_"):
                a[:] = rng.normal(0, 0.5, a.shape)
    return layer


def learned(layer: Any) -> list[str]:
    return [name for name in layer.params if name.startswith("initial_")]


def plain_of(layer: Any) -> Any:
    """The same layer without the option."""
    config = layer.config() | {"learn_initial_state": False}
    state = {name: a for name, a in layer.state_dict().items() if not name.startswith("initial_")}
    return type(layer).from_config(config, state)


def expanded(layer: Any, batch: int = B) -> Any:
    """The learned state as a state of `batch` sequences."""
    ends = ("", "_reverse")[: 1 + layer.bidirectional]
    found = []
    for part in "hc"[: 2 if isinstance(layer, fr.LSTM) else 1]:
        names = [f"initial_{part}_l{k}{end}" for k in range(layer.num_layers) for end in ends]
        found.append(np.stack([np.tile(layer.params[name], (batch, 1)) for name in names]))
    return tuple(found) if len(found) > 1 else found[0]


def calls() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    x, reset = rng.standard_normal((T, B, INPUTS)), rng.random((T, B)) < 0.4
    return [
        {"x": x},
        {"x": x, "lengths": [5, 0, 2, 4]},
        {"x": x, "reset": reset},
        {"x": x, "reset": reset, "mask": rng.random((T, B)) < 0.7},
    ]


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_state_of_every_sequence(backend: Chosen, kind: str, call: int) -> None:
    """[L9] The bits of a call that is given the parameters as its state and as `initial`."""
    layer, given = layer_of(kind), calls()[call]
    plain, start = plain_of(layer), expanded(layer)
    more = {"initial": start} if "reset" in given else {}
    for found, right in (
        (layer(**given), plain(**given, state=start, **more)),
        (layer.forward(**given)[:2], plain.forward(**given, state=start, **more)[:2]),
        (layer(**given, state=None), plain(**given, state=start, **more)),
    ):
        assert np.array_equal(found[0], right[0])
        for a, b in zip(parts(found[1]), parts(right[1]), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(backend: Chosen, kind: str, call: int) -> None:
    """[L9] Central differences, and each sequence's own; the other gradients do not change."""
    layer, given = layer_of(kind), calls()[call]
    y, _, saved = layer.forward(**given)
    dy = np.random.default_rng(4).standard_normal(y.shape)
    dx, _, gradients = layer.backward(saved, dy)
    each = layer.backward(saved, dy, per_sample=True)[2]
    for name in learned(layer):
        assert gradients[name].shape == layer.params[name].shape
        assert each[name].shape == (B, *layer.params[name].shape)
        assert np.allclose(each[name].sum(axis=0), gradients[name], rtol=0, atol=1e-14)
        for k in range(len(gradients[name])):
            central = 0.0
            for steps, weight in FIVE_POINTS:
                moved = copy.deepcopy(layer)
                with moved.writable() as params:
                    params[name][k] += steps * STEP
                central += weight * float((moved(**given)[0] * dy).sum()) / STEP
            assert abs(gradients[name][k] - central) < 1e-8, (name, k)
    more = {"initial": expanded(layer)} if "reset" in given else {}
    plain = plain_of(layer)
    right = plain.backward(plain.forward(**given, state=expanded(layer), **more)[2], dy)
    assert np.array_equal(dx, right[0])
    for name, a in right[2].items():
        assert np.array_equal(gradients[name], a), name


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_a_state_that_is_given_is_used(backend: Chosen, kind: str) -> None:
    """[L9] Then the parameters have no gradient from the start, and with `initial` none at all."""
    layer, given = layer_of(kind), calls()[2]
    plain, state = plain_of(layer), expanded(layer_of(kind, seed=9))
    other = expanded(layer, B) if kind == "rnn" else tuple(2 * a for a in expanded(layer, B))
    y, _, saved = layer.forward(**given, state=state, initial=other)
    assert np.array_equal(y, plain(**given, state=state, initial=other)[0])
    gradients = layer.backward(saved, np.ones_like(y))[2]
    assert not any(gradients[name].any() for name in learned(layer))
    _, _, saved = layer.forward(given["x"], state)  # no reset, so nothing was a parameter
    gradients = layer.backward(saved, np.ones_like(y))[2]
    assert not any(gradients[name].any() for name in learned(layer))
    _, _, saved = layer.forward(**given, state=state)  # resets take the parameters
    gradients = layer.backward(saved, np.ones_like(y))[2]
    assert all(gradients[name].any() for name in learned(layer))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "lstm projected", "gru"])
def test_streams_begin_with_it(backend: Chosen, kind: str) -> None:
    """[L9] [N1.3] Step by step, in pieces, and again after reset(); also a single sequence."""
    layer = layer_of(kind, bidirectional=False, dtype="float32")
    x = np.random.default_rng(5).standard_normal((T, 1, INPUTS)).astype(np.float32)
    whole = layer(x)[0]
    stream = layer.stream()
    for _ in range(2):
        assert np.array_equal(np.stack([stream.step(x[t, 0]) for t in range(T)]), whole[:, 0])
        stream.reset()
        assert np.array_equal(stream(x), whole)
        stream.reset()
    assert np.array_equal(layer(x[:, 0])[0], whole[:, 0])
    cut = stream.step(x[0, 0])
    assert np.array_equal(stream.step(x[0, 0], reset=[True]), cut)


def test_names_shapes_and_files(tmp_path: Path) -> None:
    """[L9] They come last, begin as zeros, and go wherever the other parameters go."""
    layer = fr.LSTM(
        INPUTS, (4, 6), proj_size=P, bidirectional=True, learn_initial_state=True, seed=0
    )
    names = learned(layer)
    assert names == list(layer.params)[-8:]
    assert names[:4] == [f"initial_{s}_l0{e}" for e in ("", "_reverse") for s in "hc"]
    assert [layer.params[name].shape for name in names[:2]] == [(P,), (4,)]
    assert not any(layer.params[name].any() for name in names)
    assert "learn_initial_state=True" in repr(layer)
    without = fr.LSTM(INPUTS, (4, 6), proj_size=P, bidirectional=True, seed=0)
    assert all(np.array_equal(layer.params[n], a) for n, a in without.params.items())
    layer = layer_of("gru")
    x = calls()[0]["x"]
    fr.save(tmp_path / "layer.npz", layer)
    for again in (fr.load(tmp_path / "layer.npz"), pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(again(x)[0], layer(x)[0])
    other = type(layer).from_config(layer.config(), layer.state_dict())
    assert np.array_equal(other(x)[0], layer(x)[0])


def test_a_model_learns_it(backend: Chosen) -> None:
    """A task that only the first state can solve: a constant from inputs of zeros."""
    rnn = fr.RNN(1, 3, learn_initial_state=True, seed=0)
    model = nn.Sequential([rnn, nn.Last(), nn.Dense(3, 1, seed=1)]).compile(nn.Adam(0.05), "mse")
    x, target = np.zeros((2, 8, 1), np.float32), np.full((8, 1), 0.7, np.float32)
    model.fit(x.swapaxes(0, 1), target, epochs=60, verbose=False)
    assert rnn.params["initial_h_l0"].any()


def test_bad_options() -> None:
    with pytest.raises(TypeError, match="learn_initial_state: expected True or False, got int"):
        fr.GRU(2, 3, learn_initial_state=1)  # type: ignore[arg-type]


def test_what_has_no_place_for_it_says_so() -> None:
    """Other libraries' weights would lose the parameters."""
    layer = fr.GRU(2, 3, learn_initial_state=True)
    with pytest.raises(ValueError, match="initial_h_l0"):
        fr.weights.to_torch(layer.params, layer.cell)
    with pytest.raises(ValueError, match="initial_h_l0"):
        fr.weights.to_keras(layer.params, layer.cell)


def test_onnx_has_no_place_for_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    layer = fr.GRU(2, 3, learn_initial_state=True)
    with pytest.raises(ValueError, match="learn_initial_state"):
        fr.onnx.export(layer, tmp_path / "layer.onnx")


def test_an_older_checkpoint_lacks_the_option(tmp_path: Path) -> None:
    """A file without it is of a model without it; one with another value is refused."""
    x, y, path = np.zeros((4, 3, 2), np.float32), np.zeros((4, 1), np.float32), tmp_path / "run.npz"

    def model(**options: Any) -> nn.Sequential:
        layers = [fr.GRU(2, 3, seed=0, **options), nn.Last(), nn.Dense(3, 1, seed=0)]
        return nn.Sequential(layers).compile("sgd")

    first = model()
    first.fit(x, y, 1, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    del header["model"]["layers"][0]["learn_initial_state"]
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))
    again = model()
    again.load_checkpoint(path)
    assert again.epochs == 1
    with pytest.raises(ValueError, match="model: the file is of other layers"):
        model(learn_initial_state=True).load_checkpoint(path)
