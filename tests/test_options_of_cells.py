"""Options that choose a cell, in one file: activations, clip, coupling, forget bias, biases."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn._activations import NAMES, defaults
from layer_cases import (
    arguments,
    arrays_of,
    check_differences,
    given_of,
    kernel,
    like,
    named,
    same,
    same_states,
    weighted,
)
from layer_oracle import DEFAULTS, run

# Each activation by name, with alpha, and with both parameters; these differ from the defaults.
ACTIVATIONS: tuple[Any, ...] = (
    *NAMES,
    ("affine", 0.7),
    ("affine", 0.7, -0.2),
    ("leaky_relu", 0.3),
    ("thresholded_relu", 0.2),
    ("scaled_tanh", 1.3, 0.6),
    ("hard_sigmoid", 1 / 6, 0.5),
    ("elu", 0.4),
)
SMOOTH = (
    "tanh",
    "sigmoid",
    ("scaled_tanh", 1.2, 0.8),
    "softsign",
    "softplus",
    ("affine", 0.9, 0.1),
)
OPTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn: clip": (fr.RNN, {"clip": 0.5}),
    "rnn: identity, clip": (fr.RNN, {"nonlinearity": "identity", "clip": 0.5}),
    "rnn: relu, clip": (fr.RNN, {"nonlinearity": "relu", "clip": 0.5}),
    "lstm: clip": (fr.LSTM, {"clip": 0.3}),
    "lstm: coupled": (fr.LSTM, {"coupled": True}),
    "lstm: coupled, peepholes": (fr.LSTM, {"coupled": True, "peepholes": True}),
    "lstm: coupled, peepholes, clip": (
        fr.LSTM,
        {"coupled": True, "peepholes": True, "clip": 0.4, "proj_size": 3},
    ),
    "lstm: all": (
        fr.LSTM,
        {
            "activations": ["hard_sigmoid", ("elu", 0.5), "softsign"],
            "coupled": True,
            "peepholes": True,
            "clip": 0.6,
            "proj_size": 2,
        },
    ),
    "gru: clip": (fr.GRU, {"clip": 0.3}),
    "gru: reset before, clip": (fr.GRU, {"clip": 0.3, "reset_after": False}),
    "gru: all": (fr.GRU, {"activations": ("hard_sigmoid", "leaky_relu"), "clip": 0.5}),
}
T, B = 5, 3


def agree(backend: Chosen, layer: Any, bound: float = 1e-13) -> None:
    """Assert that outputs and states are the oracle's within `bound`; x is large enough to clip."""
    g = given_of(layer, T, B, np.random.default_rng(1), rows="lengths", reset=True)
    g.x *= 2
    y, last = layer(**arguments(layer, g))
    backend.ran(kernel(layer))
    right = run(layer, g)
    bound *= max(1.0, float(np.abs(right.y).max()))
    assert np.abs(y - right.y).max() <= bound
    states = [a for one in right.states for a in one]
    for a, b in zip(arrays_of(last), states, strict=True):
        assert np.abs(a - b).max() <= bound


@pytest.mark.parametrize("bias", [True, False, "input", "hidden"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options(backend: Chosen, option: str, bias: Any) -> None:
    """[E1] [E3] [E5] [E7] [E8] [E9] [W6] The equations hold with each option."""
    kind, options = OPTIONS[option]
    layer = kind(3, 6, dtype=np.float64, seed=2, bidirectional=True, bias=bias, **options)
    agree(backend, layer)
    ends = [name.partition("_l0")[0] for name in layer.params]
    assert ("bias_ih" in ends) == (bias in (True, "input"))
    assert ("bias_hh" in ends) == (bias in (True, "hidden"))


@pytest.mark.parametrize("f", ACTIVATIONS, ids=str)
def test_activations(backend: Chosen, f: Any) -> None:
    """[E8] Each of the eleven activations in each gate group, with and without its parameters."""
    for kind, options in (
        (fr.RNN, {"nonlinearity": f}),
        (fr.LSTM, {"activations": (f, "tanh", "tanh"), "clip": 1.5}),
        (fr.LSTM, {"activations": ("sigmoid", f, "tanh")}),
        (fr.LSTM, {"activations": ("sigmoid", "tanh", f)}),
        (fr.GRU, {"activations": (f, "tanh"), "clip": 1.5}),
        (fr.GRU, {"activations": ("sigmoid", f), "reset_after": False}),
    ):
        agree(backend, kind(3, 6, dtype=np.float64, seed=3, **options))


def test_defaults() -> None:
    """[E8] If alpha and beta are not given, they are ONNX's."""
    assert {name: defaults(name) for name in NAMES} == {
        name: DEFAULTS.get(name, (0.0, 0.0)) for name in NAMES
    }
    full = fr.LSTM(3, 4, seed=0, activations=(("hard_sigmoid", 0.2, 0.5), ("elu", 1), "tanh"))
    short = fr.LSTM(3, 4, seed=0, activations=("hard_sigmoid", "elu", "tanh"))
    half = fr.LSTM(3, 4, seed=0, activations=(("hard_sigmoid", 0.2), ["elu"], "tanh"))
    x = np.random.default_rng(0).standard_normal((T, B, 3))
    assert same(full(x)[0], short(x)[0])
    assert same(half(x)[0], short(x)[0])


@pytest.mark.parametrize("option", OPTIONS)
def test_gradients(backend: Chosen, option: str) -> None:
    """[E9] [G10] Clipped values have gradient 0; the gradient of coupled gates goes to i."""
    kind, options = OPTIONS[option]
    layer = kind(3, 4, 2, dtype=np.float64, seed=2, **options)
    rng = np.random.default_rng(4)
    g = given_of(layer, T, B, rng)
    call = arguments(layer, g)
    y, last, saved = layer.forward(**call)
    dy, dlast = like(y, rng), like(last, rng)
    gradients = named(layer.backward(saved, dy, dlast))
    backend.ran(kernel(layer))

    def loss() -> float:
        y, last = layer(**call)
        return weighted([y, *arrays_of(last)], [dy, *arrays_of(dlast)])

    arrays = {"x": call["x"]}
    arrays |= {f"state {k}": a for k, a in enumerate(arrays_of(g.state))}
    check_differences(layer, loss, arrays, gradients, elements=6)


def test_all_is_clipped(backend: Chosen) -> None:
    """[E9] Far beyond the clip nothing depends on x, and every gradient through it is 0."""
    for kind in (fr.RNN, fr.LSTM, fr.GRU):
        layer = kind(3, 4, dtype=np.float64, seed=0, clip=0.01)
        layer.params["bias_ih_l0"] = np.full(layer.params["bias_ih_l0"].shape, 9.0)
        x = np.random.default_rng(0).standard_normal((1, B, 3))
        y, _, saved = layer.forward(x)
        assert same(y, layer(x + 0.1)[0])
        dx, _, dparams = layer.backward(saved, np.ones_like(y))
        backend.ran(kernel(layer))
        assert not dx.any()
        assert not dparams["weight_ih_l0"].any()


@pytest.mark.parametrize(
    ("layer", "cell"),
    [
        (lambda: fr.LSTM(3, 4, activations=("sigmoid", "tanh", "tanh")), "lstm"),
        (lambda: fr.LSTM(3, 4, activations=["sigmoid", ("tanh",), "tanh"]), "lstm"),
        (lambda: fr.LSTM(3, 4, activations=("sigmoid", "tanh", "tanh"), peepholes=True),
         "lstm_peephole"),
        (lambda: fr.LSTM(3, 4, clip=None, coupled=False), "lstm"),
        (lambda: fr.LSTM(3, 4, coupled=True), "lstm_chosen"),
        (lambda: fr.LSTM(3, 4, clip=9), "lstm_chosen"),
        (lambda: fr.LSTM(3, 4, activations=("sigmoid", "tanh", "relu")), "lstm_chosen"),
        (lambda: fr.LSTM(3, 4, proj_size=2, forget_bias=1), "lstm"),
        (lambda: fr.GRU(3, 4, activations=("sigmoid", "tanh")), "gru"),
        (lambda: fr.GRU(3, 4, activations=("sigmoid", "tanh"), reset_after=False),
         "gru_reset_before"),
        (lambda: fr.GRU(3, 4, clip=1.0, reset_after=False), "gru_reset_before_chosen"),
        (lambda: fr.GRU(3, 4, activations=("tanh", "tanh")), "gru_chosen"),
        (lambda: fr.RNN(3, 4), "rnn_tanh"),
        (lambda: fr.RNN(3, 4, nonlinearity="identity"), "rnn_identity"),
        (lambda: fr.RNN(3, 4, nonlinearity="softsign"), "rnn_chosen"),
        (lambda: fr.RNN(3, 4, clip=1), "rnn_chosen"),
    ],
)  # fmt: skip
def test_the_usual_keeps_its_kernel(backend: Chosen, layer: Any, cell: str) -> None:
    """[E8] [P1] Only options that the plain cells lack run on the cell with chosen activations."""
    layer()(np.zeros((T, B, 3)))
    backend.ran(f"{cell} float32")


@pytest.mark.parametrize("bias", [True, "input", "hidden"])
def test_forget_bias(bias: Any) -> None:
    """[W7] The sum of the forget gate's biases starts at this value; all else is as without it."""
    more: dict[str, Any] = {"bidirectional": True, "bias": bias, "seed": 0}
    layer, plain = fr.LSTM(3, [4, 5], forget_bias=1.5, **more), fr.LSTM(3, [4, 5], **more)
    for k, size in enumerate((4, 5)):
        for end in ("", "_reverse"):
            total = np.zeros(4 * size, np.float32)
            forget = slice(size, 2 * size)
            for name in (f"bias_ih_l{k}{end}", f"bias_hh_l{k}{end}"):
                if name in layer.params:
                    total += layer.params[name]
                    rest = np.delete(layer.params[name], forget)
                    assert same(rest, np.delete(plain.params[name], forget))
            assert (total[forget] == 1.5).all()
    for name, a in plain.params.items():
        assert "bias" in name or same(layer.params[name], a)


EVERY = [
    *(OPTIONS[name] for name in OPTIONS),
    (fr.RNN, {"nonlinearity": ("leaky_relu", 0.2), "zoneout": 0.1}),
    (fr.LSTM, {"forget_bias": 1.0, "zoneout": (0.1, 0.2), "dropout": 0.5, "bias": "input"}),
    (fr.GRU, {"input_dropout": 0.1, "recurrent_dropout": 0.2, "drop_connect": 0.3, "bias": False}),
]


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_copies_and_text(backend: Chosen, kind: Any, options: dict[str, Any]) -> None:
    """[W8] Pickle, deepcopy, repr and state_dict keep every option."""
    for hidden in (4, [4, 6]):
        layer = kind(3, hidden, 2, seed=0, bidirectional=True, batch_first=True, **options)
        g = given_of(layer, T, B, np.random.default_rng(0))
        y, last = layer(**arguments(layer, g))
        backend.ran(kernel(layer))
        noisy = layer.forward(**arguments(layer, g), rng=np.random.default_rng(1))[0]
        told = eval(repr(layer), {kind.__name__: kind})
        told.load_state_dict(layer.state_dict())
        copies = (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), copy.copy(layer), told)
        for other in copies:
            assert repr(other) == repr(layer)
            found, other_last = other(**arguments(layer, g))
            assert same(found, y)
            assert same_states(other_last, last)
            again = other.forward(**arguments(layer, g), rng=np.random.default_rng(1))[0]
            assert same(again, noisy)


def test_repr() -> None:
    assert repr(fr.LSTM(3, 4, 2, bias="input", coupled=True, clip=2, zoneout=0.1, dropout=0.2)) == (
        "LSTM(3, 4, num_layers=2, bias='input', coupled=True, clip=2.0, dropout=0.2, zoneout=0.1)"
    )
    assert repr(fr.RNN(3, [4, 5], bidirectional=True, nonlinearity=("elu", 2))) == (
        "RNN(3, (4, 5), num_layers=2, bidirectional=True, nonlinearity=('elu', 2))"
    )


def test_given_options_are_not_shared() -> None:
    """If the caller changes a list that was given as an option, no layer changes."""
    chosen: list[Any] = ["sigmoid", ["elu", 0.5], "tanh"]
    layer = fr.LSTM(3, 4, seed=0, activations=chosen)
    text, (y, _) = repr(layer), layer(np.ones((T, B, 3)))
    chosen[1][1] = 3.0
    chosen[0] = "relu"
    assert repr(layer) == text
    assert same(copy.deepcopy(layer)(np.ones((T, B, 3)))[0], y)
