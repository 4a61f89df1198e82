"""How a layer describes itself: `repr` can be evaluated, and `config` makes the layer again."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen

KINDS: dict[str, Any] = {"RNN": fr.RNN, "LSTM": fr.LSTM, "GRU": fr.GRU}
X = np.random.default_rng(0).standard_normal((6, 2, 3), dtype=np.float32)

# Every option of every class, with values that are not its default.
SHARED: list[dict[str, Any]] = [
    {},
    {"hidden_size": [4, 3]},
    {"hidden_size": (4, 3), "bidirectional": True},
    {"num_layers": 2, "dropout": 0.25},
    {"bias": False},
    {"bias": "input"},
    {"bias": "hidden"},
    {"batch_first": True},
    {"dtype": np.float64},
    {"dtype": ">f4"},
    {"clip": 3},
    {"clip": np.float32(0.1)},
    {"clip": np.inf},
    {"input_dropout": 0.1, "recurrent_dropout": np.float64(0.2), "drop_connect": 0.3},
    {"zoneout": 0.1},
    {"learn_initial_state": True},
    {"seed": 3},
]
OWN: dict[str, list[dict[str, Any]]] = {
    "RNN": [
        {"nonlinearity": "relu"},
        {"nonlinearity": np.str_("sigmoid")},
        {"nonlinearity": "identity", "clip": 2.0},
        {"nonlinearity": ("scaled_tanh", 1.2, np.float32(0.1))},
        {"nonlinearity": ["elu", np.int64(2)]},
    ],
    "LSTM": [
        {"proj_size": 2},
        {"peepholes": True},
        {"coupled": True},
        {"forget_bias": 1.0},
        {"layer_norm": True},
        {"zoneout": (0.1, 0.05)},
        {"zoneout": [0.0, 0.05]},
        {"activations": ["sigmoid", ("leaky_relu", 0.02), ["hard_sigmoid", 0.3, 0.4]]},
        {"activations": ("sigmoid", "tanh", "identity"), "peepholes": True, "clip": 1.5},
    ],
    "GRU": [
        {"reset_after": False},
        {"layer_norm": True},
        {"activations": ("hard_sigmoid", ("elu", 0.5))},
        {"activations": ("sigmoid", "softsign"), "reset_after": False, "clip": 1},
    ],
}
CASES = [(kind, options) for kind in KINDS for options in (*SHARED, *OWN[kind])]


def made(kind: str, options: dict[str, Any]) -> Any:
    given = {"hidden_size": 4, "seed": 0} | options
    return KINDS[kind](3, **given)


def numbers(layer: Any) -> list[Any]:
    """Everything that calls compute: y, states and gradients, in plain and in training calls."""
    y, state = layer(X)
    trained, _, saved = layer.forward(X, rng=np.random.default_rng(1))
    dx, dstate, gradients = layer.backward(saved, np.ones_like(trained))
    return [y, state, trained, dx, dstate, list(gradients.values())]


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    else:
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_layer_says_all_of_itself(kind: str, options: dict[str, Any]) -> None:
    """repr is evaluated and config goes through JSON; both give the same layer, bit for bit."""
    layer = made(kind, options)
    told = eval(repr(layer), dict(KINDS))
    config = json.loads(json.dumps(layer.config(), allow_nan=False))
    again = type(layer).from_config(config, layer.state_dict())
    assert repr(told) == repr(again) == repr(layer)
    assert told.config() == again.config() == layer.config() == config
    told.load_state_dict(layer.state_dict())
    for other in (told, again):
        assert_same(numbers(other), numbers(layer))


def test_every_option_of_the_constructors_is_in_the_config() -> None:
    """An option that is new must not be forgotten in `config`."""
    for kind in KINDS:
        taken = set(inspect.signature(KINDS[kind].__init__).parameters) - {"self", "seed"}
        assert set(made(kind, {}).config()) == taken | {"kind"}
        # Each option has a value other than its default somewhere above.
        varied = {name for one in (*SHARED, *OWN[kind]) for name in one} - {"seed"}
        assert taken <= varied | {"input_size"}


def test_what_config_looks_like() -> None:
    layer = fr.LSTM(3, (4, 3), zoneout=(0.1, 0.2), activations=("sigmoid", "tanh", ("elu", 0.5)))
    config = layer.config()
    assert config["kind"] == "LSTM"
    assert config["dtype"] == "float32"
    assert config["hidden_size"] == [4, 3]
    assert config["zoneout"] == [0.1, 0.2]
    assert config["activations"] == ["sigmoid", "tanh", ["elu", 0.5]]
    config["hidden_size"].append(9)  # the list belongs to the caller
    assert layer.config()["hidden_size"] == [4, 3]


def test_a_config_that_does_not_fit_is_refused() -> None:
    layer = fr.GRU(3, 4, seed=0)
    config, state = layer.config(), layer.state_dict()
    for wrong, kind, text in (
        (None, TypeError, r"config: expected what GRU.config\(\) returned, got NoneType"),
        ([], TypeError, r"config: expected what GRU.config\(\) returned, got list"),
        ({}, ValueError, "config: expected that of a layer of kind 'GRU', got None"),
        (fr.LSTM(3, 4).config(), ValueError, "of kind 'GRU', got 'LSTM'"),
        (config | {"attention": True}, ValueError, "options of GRU; unknown option 'attention'"),
        (config | {"seed": 0}, ValueError, "unknown option 'seed'"),
        ({"kind": "GRU", "hidden_size": 4}, ValueError, "missing 'input_size'"),
        (config | {"hidden_size": "4"}, TypeError, "hidden_size: expected a whole number"),
        (config | {"dtype": "int8"}, TypeError, "dtype: expected float32 or float64"),
    ):
        with pytest.raises(kind, match=text):
            fr.GRU.from_config(wrong, state)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing 'weight_hh_l0'"):
        fr.GRU.from_config(config, {})
    # A config of an older version lacks newer options, which then have their defaults.
    assert repr(fr.GRU.from_config({"kind": "GRU", "input_size": 3, "hidden_size": 4}, state)) == (
        "GRU(3, 4)"
    )


def test_the_warning_about_dropout_names_the_callers_line() -> None:
    with pytest.warns(UserWarning, match="dropout acts between layers") as caught:
        layer = fr.GRU(3, 4, dropout=0.5)
    with pytest.warns(UserWarning, match="dropout acts between layers") as again:
        fr.GRU.from_config(layer.config(), layer.state_dict())
    assert caught[0].filename == again[0].filename == __file__


# --- a state_dict knows its cell ---------------------------------------------------------------

TWINS = [  # cells with equal names and shapes that compute other numbers
    (fr.GRU(3, 5, seed=0, reset_after=False), fr.GRU(3, 5, seed=0), "gru_reset_before", "gru"),
    (fr.RNN(3, 5, seed=0, nonlinearity="relu"), fr.RNN(3, 5, seed=0), "rnn_relu", "rnn_tanh"),
    (
        fr.LSTM(3, 5, seed=0, clip=2.0, coupled=True),
        fr.LSTM(3, 5, seed=0),
        "lstm_chosen(sigmoid, tanh, tanh, clip 2.0, coupled)",
        "lstm",
    ),
    (
        fr.GRU(3, 5, seed=0, activations=("hard_sigmoid", "tanh")),
        fr.GRU(3, 5, seed=0, activations=(("hard_sigmoid", 1 / 6), "tanh")),
        "gru_chosen(hard_sigmoid(0.2, 0.5), tanh, tanh)",
        f"gru_chosen(hard_sigmoid({1 / 6}, 0.5), tanh, tanh)",
    ),
]


@pytest.mark.parametrize(("one", "other", "cell", "own"), TWINS, ids=lambda a: str(a)[:24])
def test_weights_of_another_cell_are_refused(
    backend: Chosen, one: Any, other: Any, cell: str, own: str
) -> None:
    """[W12] GRU() once took the weights of GRU(reset_after=False) and gave other numbers."""
    state = one.state_dict()
    assert (state.cell, other.state_dict().cell) == (cell, own)
    y, before = one(X)[0], other(X)[0]
    with pytest.raises(ValueError) as error:
        other.load_state_dict(state)
    assert str(error.value).startswith(
        f"load_state_dict changed nothing: weights of a {cell} cell; this layer's cell is {own}."
    )
    assert np.array_equal(other(X)[0], before)
    assert not np.array_equal(before, y)
    other.load_state_dict(other.state_dict())  # a layer takes its own weights
    twin = type(other)(**{k: v for k, v in other.config().items() if k != "kind"}, seed=0)
    twin.load_state_dict(dict(state))  # a plain dict has no cell
    assert np.array_equal(twin.params["weight_hh_l0"], one.params["weight_hh_l0"])


def test_a_state_dict_is_a_dict() -> None:
    layer = fr.GRU(3, 5, seed=0)
    state = layer.state_dict()
    assert isinstance(state, dict)
    assert list(state) == list(layer.params)
    for twin in (pickle.loads(pickle.dumps(state)), copy.copy(state), copy.deepcopy(state)):
        assert twin.cell == "gru"
        assert_same(list(twin.values()), list(state.values()))
        assert list(twin) == list(state)
    assert not hasattr(dict(state), "cell")
