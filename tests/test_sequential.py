"""nn.Sequential and nn.Last: the same as their layers by hand, gradients, files and errors."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen, fastest
from fusedrnn import nn
from layer_cases import check_differences, same

Array = np.ndarray[Any, np.dtype[Any]]
LENGTHS = [5, 3, 0, 1]


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def ids(*shape: int, count: int = 7, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, count, shape)


def mixed(dtype: str = "float64", batch_first: bool = False) -> nn.Sequential:
    """A model of most kinds of layers: many ids to many numbers, of another length."""
    return nn.Sequential(
        [
            nn.Embedding(7, 4, dtype=dtype, seed=0),
            fr.LSTM(4, 3, bidirectional=True, batch_first=batch_first, dtype=dtype, seed=1),
            nn.LayerNorm(6, dtype=dtype),
            nn.Dropout(0.3, dtype=dtype),
            nn.Last(bidirectional=True, batch_first=batch_first, dtype=dtype),
            nn.RepeatVector(3, batch_first=batch_first, dtype=dtype),
            fr.GRU(6, 2, batch_first=batch_first, dropout=0.2, num_layers=2, dtype=dtype, seed=2),
            nn.Activation("tanh", dtype=dtype),
            nn.Dense(2, 5, dtype=dtype, seed=3),
        ]
    )


def labelling(dtype: str = "float64") -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Embedding(7, 4, padding_idx=0, dtype=dtype, seed=0),
            fr.LSTM(4, 3, bidirectional=True, dtype=dtype, seed=1),
            nn.LayerNorm(6, dtype=dtype),
            nn.Dropout(0.3, dtype=dtype),
            nn.Dense(6, 2, dtype=dtype, seed=3),
        ]
    )


def states(model: Any) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in model.state_dict().items()}


# --- Last -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_is_the_state_of_the_layer(
    bidirectional: bool, batch_first: bool, backend: Chosen
) -> None:
    both: Any = {"batch_first": batch_first, "dtype": "float64"}
    layer = fr.GRU(3, 4, bidirectional=bidirectional, seed=0, **both)
    last = nn.Last(bidirectional=bidirectional, **both)
    x = numbers(4, 5, 3) if batch_first else numbers(5, 4, 3)
    for lengths in (None, LENGTHS):
        y, h_n = layer(x, lengths=lengths)
        expected = np.concatenate(list(h_n), axis=-1)
        assert same(last(y, lengths=lengths), expected)
        found, saved = last.forward(y, lengths=lengths)
        assert same(found, expected)
        with pytest.raises(ValueError, match="read-only"):
            found[...] = 0
        dx, gradients = last.backward(saved, numbers(*found.shape))
        assert gradients == {}
        assert np.isclose((dx * y).sum(), (numbers(*found.shape) * found).sum())
        assert np.count_nonzero(dx) == found.size - 4 * (1 + bidirectional) * (lengths is not None)


def test_last_says_all_of_itself(tmp_path: Path) -> None:
    layer = nn.Last(bidirectional=True, batch_first=True, dtype="float64")
    fr.save(tmp_path / "last.npz", layer)
    for other in (
        eval(repr(layer), vars(nn)),
        fr.load(tmp_path / "last.npz"),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
    ):
        assert other.config() == json.loads(json.dumps(layer.config()))
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, I\), got \(2, 3\)"):
        layer(numbers(2, 3))
    with pytest.raises(ValueError, match="even number of units"):
        layer(numbers(2, 3, 5))
    with pytest.raises(ValueError, match=r"lengths: expected numbers in \[0, 3\], got 4 at 1"):
        layer(numbers(2, 3, 4), lengths=[0, 4])
    _, saved = layer.forward(numbers(2, 3, 4))
    with pytest.raises(ValueError, match=r"dy: expected shape \(2, 4\)"):
        layer.backward(saved, numbers(2, 3, 4))


# --- calls ----------------------------------------------------------------------------------------


def test_a_model_is_its_layers_by_hand(backend: Chosen) -> None:
    model, x, dy = mixed(), ids(4, 5), numbers(4, 3, 5, seed=9)
    table, lstm, norm, drop, last, repeat, gru, tanh, dense = model.layers
    a = norm(lstm(table(x.T), lengths=LENGTHS)[0])
    a = repeat(last(drop(a), lengths=LENGTHS))
    assert same(model(x, LENGTHS), dense(tanh(gru(a)[0])).swapaxes(0, 1))

    rng = np.random.default_rng(5)
    a, saved_table = table.forward(x.T)
    a, _, saved_lstm = lstm.forward(a, lengths=LENGTHS)
    a, saved_norm = norm.forward(a)
    a, saved_drop = drop.forward(a, rng=rng)
    a, saved_last = last.forward(a, lengths=LENGTHS)
    a, saved_repeat = repeat.forward(a)
    a, _, saved_gru = gru.forward(a, rng=rng)
    a, saved_tanh = tanh.forward(a)
    a, saved_dense = dense.forward(a)
    d, of_dense = dense.backward(saved_dense, dy.swapaxes(0, 1))
    d, _ = tanh.backward(saved_tanh, d)
    d, _, of_gru = gru.backward(saved_gru, d)
    d, _ = repeat.backward(saved_repeat, d)
    d, _ = last.backward(saved_last, d)
    d, _ = drop.backward(saved_drop, d)
    d, of_norm = norm.backward(saved_norm, d)
    d, _, of_lstm = lstm.backward(saved_lstm, d)
    _, of_table = table.backward(saved_table, d)
    by_hand = {0: of_table, 1: of_lstm, 2: of_norm, 6: of_gru, 8: of_dense}
    expected = {f"{k}.{name}": g for k, of in by_hand.items() for name, g in of.items()}

    y, saved = model.forward(x, LENGTHS, rng=np.random.default_rng(5))
    dx, gradients = model.backward(saved, dy)
    assert same(y, a.swapaxes(0, 1))
    assert dx is None
    assert list(gradients) == list(expected) == list(model.params)
    assert all(same(gradients[name], g) for name, g in expected.items())
    assert saved.nbytes > saved_lstm.nbytes
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    quiet, _ = model.forward(x, LENGTHS, noise=False)
    assert same(quiet, model(x, LENGTHS))


def test_batch_first_layers_give_the_same() -> None:
    found = []
    for model in (mixed(), mixed(batch_first=True)):
        y, saved = model.forward(ids(4, 5), LENGTHS, noise=False)
        found.append([y, model(ids(4, 5)), *model.backward(saved, np.ones(y.shape))[1].values()])
    assert all(same(a, b) for a, b in zip(*found, strict=True))


def test_gradients_are_central_differences() -> None:
    for model, shape in ((mixed(), (4, 3, 5)), (labelling(), (4, 5, 2))):
        x, weights = 1 + ids(4, 5, count=6), numbers(*shape, seed=9)  # without padding

        def loss(model: Any = model, x: Array = x, weights: Array = weights) -> float:
            y, _ = model.forward(x, LENGTHS, rng=np.random.default_rng(3))
            return float((y * weights).sum())

        with fastest():
            _, saved = model.forward(x, LENGTHS, rng=np.random.default_rng(3))
            _, gradients = model.backward(saved, weights)
        check_differences(model, loss, {}, gradients, elements=5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_pooled_model_reads_real_steps(batch_first: bool) -> None:
    pool = nn.Pool("mean", batch_first=batch_first, dtype="float64")
    layers = [fr.GRU(3, 2, dtype="float64", seed=0), pool, nn.Dense(2, 2, dtype="float64", seed=1)]
    model, x, weights = nn.Sequential(layers), numbers(4, 5, 3), numbers(4, 2, seed=9)
    y, saved = model.forward(x, LENGTHS)
    for row, n in enumerate(LENGTHS):
        assert np.allclose(model(x[row : row + 1, : max(n, 1)], [n]), y[row], atol=1e-15)
    _, gradients = model.backward(saved, weights)

    def loss() -> float:
        return float((model.forward(x, LENGTHS)[0] * weights).sum())

    check_differences(model, loss, {}, gradients, elements=5)


def test_the_layers_by_their_places() -> None:
    model = mixed()
    assert len(model) == 9
    assert tuple(model) == model.layers
    assert model[0] is model.layers[0]
    assert model[np.int64(8)] is model[-1] is model.layers[-1]
    assert model[-9] is model[0]
    for place in (9, -10):
        with pytest.raises(
            IndexError, match=rf"^index: expected a number in \[-9, 9\), got {place}$"
        ):
            model[place]
    for wrong in (slice(2), "0", 1.0, True):
        with pytest.raises(TypeError, match=r"^index: expected a whole number, got"):
            model[wrong]  # type: ignore[index]


def test_arrays_pass_without_copies() -> None:
    x = numbers(4, 5, 3, dtype="float32")
    _, saved = nn.Sequential([fr.GRU(3, 4, batch_first=True)]).forward(x)
    assert np.shares_memory(saved._parts[0]._kept[0].inputs.x, x)
    _, saved = nn.Sequential([fr.GRU(3, 4), nn.Dense(4, 2)]).forward(x)
    assert np.shares_memory(saved._parts[1]._inputs.x, saved._parts[0]._kept[0].y)


SHAPES: dict[str, tuple[list[Any], Array, str]] = {
    "one to one": ([nn.Dense(3, 2)], numbers(4, 3), "(B, ..., 2)"),
    "one to many": ([nn.RepeatVector(6), fr.RNN(3, 2)], numbers(4, 3), "(B, 6, 2)"),
    "many to one": ([fr.RNN(3, 2), nn.Last()], numbers(4, 5, 3), "(B, 2)"),
    "many to one, of all steps": (
        [fr.GRU(3, 2, bidirectional=True), nn.Pool("mean", batch_first=True), nn.Dense(4, 2)],
        numbers(4, 5, 3),
        "(B, 2)",
    ),
    "many to many": (
        [fr.RNN(3, 2), nn.Last(), nn.RepeatVector(6), fr.LSTM(2, 4, proj_size=2)],
        numbers(4, 5, 3),
        "(B, 6, 2)",
    ),
    "frame labelling": ([fr.RNN(3, [5, 6], 2), nn.Dense(6, 2)], numbers(4, 5, 3), "(B, T, 2)"),
    "ids into a recurrent layer": ([fr.RNN(7, 2)], ids(4, 5), "(B, T, 2)"),
    "one id of each sample": ([nn.Embedding(7, 2)], ids(4), "(B, ..., 2)"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_shapes_of_sequences(kind: str) -> None:
    layers, x, shown = SHAPES[kind]
    model = nn.Sequential(copy.deepcopy(layers))
    y, saved = model.forward(x)
    assert model.summary().splitlines()[-2].count(shown) == 1
    known = shown.replace("B", "4").replace("T", "5").replace(", ...", "")
    assert str(y.shape) == known
    dx, gradients = model.backward(saved, np.ones(y.shape))
    assert dx is None if x.dtype.kind == "i" else dx is not None and dx.shape == x.shape
    assert list(gradients) == list(model.params)


def test_ids_are_one_hot_rows() -> None:
    model = nn.Sequential([fr.GRU(7, 3, seed=0), nn.Last(), nn.Dense(3, 2, seed=1)])
    x = ids(4, 5)
    np.testing.assert_allclose(model(x), model(np.eye(7, dtype=np.float32)[x]), atol=1e-6)


# --- parameters and files -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_says_all_of_itself(dtype: str, tmp_path: Path) -> None:
    model = mixed(dtype)
    adam = nn.Adam(0.1)
    y, saved = model.forward(ids(4, 5), noise=False)
    adam.step(model, model.backward(saved, y)[1])
    config = json.loads(json.dumps(model.config()))
    fr.save(tmp_path / "one.npz", model, optimizer=adam)
    fr.save(tmp_path / "two.npz", {"a": model, "b": fr.GRU(2, 2, seed=0)})
    told = eval(repr(model), {**vars(nn), "LSTM": fr.LSTM, "GRU": fr.GRU})
    told.load_state_dict(model.state_dict())
    for other in (
        told,
        nn.Sequential.from_config(config, model.state_dict()),
        nn.Sequential.from_config(config, dict(model.state_dict())),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        fr.load(tmp_path / "one.npz"),
        fr.load(tmp_path / "two.npz")["a"],
    ):
        assert type(other) is nn.Sequential
        assert other.config() == config
        assert states(other) == states(model)
        assert same(other(ids(4, 5)), model(ids(4, 5)))
    again = nn.Adam(0.1)
    other = fr.load(tmp_path / "one.npz", optimizer=again)
    y, saved = model.forward(ids(4, 5), noise=False)
    gradients = model.backward(saved, y)[1]
    adam.step(model, gradients)
    again.step(other, gradients)
    assert states(other) == states(model)


def test_moments_belong_to_each_layer() -> None:
    model = nn.Sequential([fr.GRU(2, 2, seed=0), fr.GRU(2, 2, seed=1), nn.Dense(2, 1, seed=2)])
    apart, one, two = copy.deepcopy(model), nn.Adam(0.1), nn.Adam(0.1)
    for k in range(3):
        y, saved = model.forward(numbers(3, 4, 2, seed=k).astype(np.float32))
        _, gradients = model.backward(saved, y)
        one.step(model, gradients)
        for place, layer in enumerate(apart.layers):
            start = f"{place}."
            two.step(layer, {n[2:]: g for n, g in gradients.items() if n.startswith(start)})
    assert states(model) == states(apart)
    assert list(one.state_dict(model))[:2] == ["steps.0.weight_ih_l0", "mean.0.weight_ih_l0"]
    assert same(
        one.state_dict(model.layers[1])["mean.bias_hh_l0"],
        one.state_dict(model)["mean.1.bias_hh_l0"],
    )


@pytest.mark.torch
def test_a_torch_sequential_is_loaded() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    model = nn.Sequential([nn.Dense(3, 4), nn.Activation("tanh"), nn.Dense(4, 2)])
    model.load_state_dict(theirs.state_dict())
    x = numbers(5, 3, dtype="float32")
    np.testing.assert_allclose(model(x), theirs(torch.tensor(x)).detach(), atol=1e-6)


# --- errors ---------------------------------------------------------------------------------------


def test_layers_that_do_not_fit_are_named() -> None:
    dense = nn.Dense(3, 3)
    for layers, error, text in (
        ("abc", TypeError, "layers: expected a list of layers, got str"),
        ([], ValueError, "layers: expected at least one layer, got an empty list"),
        ([dense, nn.Dense], TypeError, r"layers\[1\]: expected a layer .*, got the class Dense"),
        ([nn.Attention("dot")], TypeError, r"layers\[0\]: expected a layer .*, got Attention"),
        ([nn.Sequential([dense])], TypeError, r"layers\[0\]: .*, got Sequential"),
        ([dense, dense], ValueError, r"layers\[1\]: is layers\[0\] once more"),
        (
            [dense, nn.Dropout(0.1, dtype="float64")],
            TypeError,
            r"layers\[1\]: is of float64, and layers\[0\] of float32; give all layers the same",
        ),
        (
            [fr.GRU(2, 5, bidirectional=True), nn.Dense(5, 1)],
            ValueError,
            r"layers\[1\]: Dense reads 5 numbers, and the layer before it gives 10",
        ),
        ([nn.Dropout(0.1), nn.LayerNorm(3), fr.RNN(4, 2)], ValueError, r"layers\[2\]: RNN reads 4"),
        ([dense, nn.Embedding(3, 3)], ValueError, r"layers\[1\]: Embedding reads ids, so it can"),
        (
            [fr.GRU(2, 5), nn.Last(), fr.GRU(5, 2)],
            ValueError,
            r"layers\[2\]: GRU reads sequences, .*; put nn.RepeatVector\(n\) before it",
        ),
        (
            [fr.GRU(2, 5), nn.RepeatVector(3)],
            ValueError,
            r"layers\[1\]: RepeatVector reads one vector .*; put nn.Last\(\) before it",
        ),
        (
            [fr.GRU(2, 5, bidirectional=True), nn.Dropout(0.1), nn.Last()],
            ValueError,
            r"layers\[2\]: Last follows a bidirectional .*; write nn.Last\(bidirectional=True\)",
        ),
        (
            [fr.GRU(2, 6), nn.Last(bidirectional=True)],
            ValueError,
            r"layers\[1\]: Last follows no bidirectional layer; write nn.Last\(\)",
        ),
    ):
        with pytest.raises(error, match=f"^{text}"):
            nn.Sequential(layers)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_are_named() -> None:
    many = nn.Sequential([fr.GRU(3, 2), nn.Last()])
    words = nn.Sequential([nn.Embedding(7, 3), nn.Dense(3, 1)])
    for model, x, lengths, error, text in (
        (many, numbers(4, 3), None, ValueError, r"x: expected shape \(B, T, 3\), got \(4, 3\)"),
        (many, numbers(4, 5, 2), None, ValueError, r"x: expected shape \(B, T, 3\), got \(4, 5, 2"),
        (many, ids(4, 5), None, ValueError, r"x: expected ids in \[0, 3\), got \d at"),
        (many, ids(4), None, ValueError, r"x: expected .*"),
        (many, ids(4, 5, 3), None, TypeError, r"x: expected floating point, got int64"),
        (many, numbers(4, 5, 3), [6, 1, 1, 1], ValueError, r"lengths: expected numbers in \[0, 5"),
        (many, numbers(4, 5, 3), [1] * 5, ValueError, r"lengths: expected shape \(4,\), got"),
        (words, numbers(4, 5), None, TypeError, "x: expected integers, got"),
        (words, ids(4, 5, 2), None, ValueError, r"x: expected shape \(B, T\) or \(B,\), got"),
        (words, ids(4), [1] * 4, ValueError, "lengths: expected None for x without steps"),
        (words, None, None, TypeError, "x: expected integers"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model(x, lengths)
        with pytest.raises(error, match=f"^{text}"):
            model.forward(x, lengths)
    with pytest.raises(TypeError, match=r"rng: expected a numpy.random.Generator"):
        many.forward(numbers(4, 5, 3), rng=0)  # type: ignore[arg-type]
    y, saved = many.forward(numbers(4, 5, 3))
    with pytest.raises(ValueError, match=r"dy: expected shape \(4, 2\), got \(4, 3\)"):
        many.backward(saved, numbers(4, 3))
    with pytest.raises(TypeError, match=r"dy: got a Loss; pass loss.gradient"):
        many.backward(saved, nn.mse(y, y))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"saved: expected what forward\(\) returned"):
        many.backward(y, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="saved: expected what this layer's forward"):
        copy.deepcopy(many).backward(saved, y)
    with many.writable() as params:
        params["0.bias_ih_l0"][:] = 1
        with pytest.raises(RuntimeError, match="open for writing"):
            many(numbers(4, 5, 3))
    assert (many.params["0.bias_ih_l0"] == 1).all()
    with pytest.raises(RuntimeError, match="parameters have changed"):
        many.backward(saved, y)


def test_a_state_or_config_that_does_not_fit_is_refused() -> None:
    model = nn.Sequential([fr.GRU(3, 2), nn.Dense(2, 1)])
    before, state, config = states(model), model.state_dict(), model.config()
    with pytest.raises(ValueError, match=r"weights of a nn.Sequential\(gru_reset_before, dense\)"):
        model.load_state_dict(
            nn.Sequential([fr.GRU(3, 2, reset_after=False), nn.Dense(2, 1)]).state_dict()
        )
    wrong = {**{n: a + 1 for n, a in state.items()}, "1.bias": numbers(2)}
    with pytest.raises(ValueError, match=r"changed nothing: 1.bias: expected shape \(1,\)"):
        model.load_state_dict(wrong)
    assert states(model) == before
    layers = config["layers"]
    for changed, given, error, text in (
        (config | {"kind": "GRU"}, state, ValueError, "of kind 'nn.Sequential', got 'GRU'"),
        ({"kind": "nn.Sequential"}, state, ValueError, "missing 'layers'"),
        (config | {"layers": 3}, state, TypeError, "expected a list of layers"),
        (config | {"layers": [*layers, {"kind": "nn.Adam"}]}, state, ValueError, r"layers\[2\]: "),
        (config | {"layers": [3, 4]}, state, ValueError, r"layers\[0\]: expected a kind"),
        (config, state | {"1.other": numbers(1)}, ValueError, r"layers\[1\]: .*unexpected 'other'"),
        (config, state | {"2.bias": numbers(1)}, ValueError, "state: unexpected '2.bias'"),
        (config, {"0.bias": numbers(1)}, ValueError, r"layers\[0\]: .*missing"),
    ):
        with pytest.raises(error, match=text):
            nn.Sequential.from_config(changed, given)
