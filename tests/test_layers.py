"""RNN, LSTM and GRU as objects, in one file: calls, parameters, state_dict, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen

LAYERS: dict[str, Any] = {
    "rnn_tanh": lambda **k: fr.RNN(3, 5, **k),
    "rnn_relu": lambda **k: fr.RNN(3, 5, nonlinearity="relu", **k),
    "lstm": lambda **k: fr.LSTM(3, 5, **k),
    "lstm_peephole": lambda **k: fr.LSTM(3, 5, peepholes=True, **k),
    "gru": lambda **k: fr.GRU(3, 5, **k),
    "gru_reset_before": lambda **k: fr.GRU(3, 5, reset_after=False, **k),
}
X = np.random.default_rng(0).standard_normal((4, 2, 3), dtype=np.float32)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def state_of(cell: str, *shape: int, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    names = 2 if cell.startswith("lstm") else 1
    found = tuple(rng.standard_normal(shape, dtype=np.float32) for _ in range(names))
    return found if names == 2 else found[0]


@pytest.mark.parametrize("cell", LAYERS)
def test_call(backend: Chosen, cell: str) -> None:
    """[S2] [S3] y[-1] is h_n; chunks with carried state give the same bits as one call."""
    layer = LAYERS[cell](seed=0)
    y, state = layer(X, state_of(cell, 1, 2, 5))
    backend.ran(f"{cell} float32")
    assert y.shape == (4, 2, 5)
    assert all(part.shape == (1, 2, 5) for part in parts(state))
    assert np.array_equal(parts(state)[0][0], y[-1])
    first, between = layer(X[:1], state_of(cell, 1, 2, 5))
    rest, last = layer(X[1:], between)
    assert np.array_equal(np.concatenate([first, rest]), y)
    assert all(np.array_equal(a, b) for a, b in zip(parts(last), parts(state), strict=True))


@pytest.mark.parametrize("cell", LAYERS)
def test_unbatched(backend: Chosen, cell: str) -> None:
    """[S1] Without a batch axis the numbers are the same, and the results have no batch axis."""
    layer = LAYERS[cell](seed=0)
    state = state_of(cell, 1, 1, 5)
    y, last, saved = layer.forward(X[:, :1], state)
    flat_state = tuple(part[:, 0] for part in parts(state))
    flat_state = flat_state if len(flat_state) == 2 else flat_state[0]
    flat_y, flat_last, flat_saved = layer.forward(X[:, 0], flat_state)
    assert np.array_equal(flat_y, y[:, 0])
    for a, b in zip(parts(flat_last), parts(last), strict=True):
        assert np.array_equal(a, b[:, 0])
    assert np.array_equal(layer(X[:, 0], flat_state)[0], flat_y)
    dx, dstate, dparams = layer.backward(saved, y, last)
    flat_dx, flat_dstate, flat_dparams = layer.backward(flat_saved, flat_y, flat_last)
    assert np.array_equal(flat_dx, dx[:, 0])
    for a, b in zip(parts(flat_dstate), parts(dstate), strict=True):
        assert np.array_equal(a, b[:, 0])
    for name in dparams:
        assert np.array_equal(flat_dparams[name], dparams[name])


@pytest.mark.parametrize("cell", LAYERS)
def test_tokens(backend: Chosen, cell: str) -> None:
    """[S4] Tokens give what one-hot rows give, but no dx."""
    layer = LAYERS[cell](seed=0, dtype=np.float64)
    ids = np.array([[0, 2], [1, 1], [2, 2], [0, 1]])
    y, state, saved = layer.forward(np.eye(3)[ids])
    y2, state2, saved2 = layer.forward(tokens=ids)
    assert np.allclose(y, y2, rtol=0, atol=1e-15)
    _, _, dparams = layer.backward(saved, y, state)
    dx, _, dparams2 = layer.backward(saved2, y2, state2)
    assert dx is None
    for name, d in dparams.items():
        assert np.allclose(d, dparams2[name], rtol=0, atol=1e-13)
    assert np.array_equal(layer(tokens=ids[:, 0])[0], layer(tokens=ids[:, :1])[0][:, 0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", LAYERS)
def test_training_step(backend: Chosen, cell: str, bias: bool) -> None:
    """Gradients have the parameters' names and shapes, and a step against them lowers the loss."""
    layer = LAYERS[cell](seed=0, bias=bias)

    def loss() -> float:
        return float((layer(X)[0] ** 2).sum())

    y, _, saved = layer.forward(X)
    assert saved.nbytes > 0
    dx, dstate, dparams = layer.backward(saved, 2 * y)
    backend.ran(f"{cell} float32")
    assert dx.shape == X.shape
    assert all(part.shape == (1, 2, 5) for part in parts(dstate))
    assert list(dparams) == list(layer.params)
    assert ("bias_ih_l0" in dparams) == bias
    before = loss()
    with layer.writable() as p:
        for name, d in dparams.items():
            assert d.shape == p[name].shape
            p[name] -= 1e-3 * d
    assert loss() < before


def test_parameters_are_torchs() -> None:
    """[W1] [W4] Parameters have torch's names, order and shapes."""
    layer = fr.LSTM(3, 5, peepholes=True)
    assert {name: a.shape for name, a in layer.params.items()} == {
        "weight_ih_l0": (20, 3),
        "weight_hh_l0": (20, 5),
        "bias_ih_l0": (20,),
        "bias_hh_l0": (20,),
        "weight_p_l0": (3, 5),
    }
    assert list(fr.GRU(3, 5, bias=False).params) == ["weight_ih_l0", "weight_hh_l0"]
    assert fr.GRU(3, 5).params["weight_hh_l0"].shape == (15, 5)
    assert len(fr.RNN(0, 5).params) == 4
    assert repr(fr.RNN(0, 1).params).startswith("{'weight_ih_l0': float32(1, 0), ")


def test_initialisation() -> None:
    """[W5] Parameters are uniform, from default_rng(seed), in their order."""
    layer = fr.LSTM(3, 16, seed=7, dtype=np.float64)
    rng = np.random.default_rng(7)
    for a in layer.params.values():
        assert np.array_equal(a, rng.uniform(-0.25, 0.25, a.shape))
    again = fr.LSTM(3, 16, seed=np.random.default_rng(7))
    assert np.array_equal(again.params["bias_hh_l0"], layer.params["bias_hh_l0"].astype(np.float32))
    other = fr.LSTM(3, 16)
    assert not np.array_equal(other.params["bias_hh_l0"], again.params["bias_hh_l0"])


def test_parameters_are_read_only(backend: Chosen) -> None:
    layer = fr.GRU(3, 5, seed=0)
    held = layer.params["weight_ih_l0"]
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        layer.params["weight_ih_l0"] -= 1  # type: ignore[misc]
    with pytest.raises(ValueError):
        held.flags.writeable = True
    with layer.writable() as p:
        leaked = p["weight_ih_l0"]
    with pytest.raises(ValueError, match="read-only"):
        leaked[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        p["weight_ih_l0"] = held + 1  # type: ignore[index]


@pytest.mark.parametrize("cell", LAYERS)
def test_changed_parameters_are_used(backend: Chosen, cell: str) -> None:
    """Each way to change parameters renews the packed copies."""
    layer = LAYERS[cell](seed=0)
    seen = [layer(X)[0]]
    layer.params["weight_hh_l0"] = np.zeros(layer.params["weight_hh_l0"].shape)
    seen.append(layer(X)[0])
    with layer.writable() as p:
        p["weight_ih_l0"][...] *= 2
    seen.append(layer(X)[0])
    with layer.writable() as p:
        p["bias_ih_l0"] = p["bias_ih_l0"] + 1
    seen.append(layer(X)[0])
    layer.load_state_dict(LAYERS[cell](seed=0).state_dict())
    seen.append(layer(X)[0])
    assert np.array_equal(seen[0], seen[4])
    for k in range(4):
        for other in seen[k + 1 : 4]:
            assert not np.array_equal(seen[k], other)


def test_assignment_copies_in() -> None:
    layer = fr.RNN(3, 5, seed=0)
    value = np.arange(5.0)
    layer.params["bias_ih_l0"] = value
    value[:] = 9
    assert layer.params["bias_ih_l0"].tolist() == [0, 1, 2, 3, 4]
    assert layer.params["bias_ih_l0"].dtype == np.float32


def test_backward_wants_the_parameters_of_the_forward(backend: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    y, _, saved = layer.forward(X)
    with pytest.raises(ValueError, match="shape"):  # a refused change changes nothing
        layer.params["bias_ih_l0"] = np.zeros(3)
    layer.backward(saved, y)
    layer.params["bias_ih_l0"] = np.zeros(20)
    with pytest.raises(RuntimeError, match="parameters have changed since this forward"):
        layer.backward(saved, y)


def test_no_calls_while_parameters_are_open(backend: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    stream = layer.stream()
    _, _, saved = layer.forward(X)
    before = stream.state
    with layer.writable():
        for refused in (
            lambda: layer(X),
            lambda: layer.forward(X),
            lambda: layer.backward(saved),
            lambda: stream.step(X[0, 0]),
            lambda: stream(X[:, 0]),
            lambda: layer.params.__setitem__("bias_ih_l0", np.zeros(20)),
            lambda: layer.load_state_dict(layer.state_dict()),
            lambda: layer.writable().__enter__(),
        ):
            with pytest.raises(RuntimeError, match="open for writing"):
                refused()
    assert all(np.array_equal(a, b) for a, b in zip(stream.state, before, strict=True))
    layer(X)


def test_an_error_inside_closes_the_parameters(backend: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    y, _ = layer(X)

    def fail() -> None:
        with layer.writable() as p:
            p["bias_ih_l0"][:] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not any(a.flags.writeable for a in layer._arrays.values())
    assert not np.array_equal(layer(X)[0], y)


def test_state_dict() -> None:
    layer = fr.GRU(3, 5, seed=0)
    values = layer.state_dict()
    values["bias_ih_l0"][:] = 0
    assert layer.params["bias_ih_l0"].any()
    other = fr.GRU(3, 5, seed=1, dtype=np.float64)
    given = {f"encoder.{name}": a.tolist() for name, a in values.items()}
    other.load_state_dict(given | {"decoder.bias": 1}, prefix="encoder.")
    for name, a in values.items():
        assert np.array_equal(other.params[name], a)
        assert other.params[name].dtype == np.float64


@pytest.mark.parametrize("cell", LAYERS)
def test_copies(backend: Chosen, cell: str) -> None:
    """Pickle and deepcopy keep options and numbers; parameters are not shared."""
    layer = LAYERS[cell](seed=0, bias=cell != "gru", dtype=np.float64)
    y, _ = layer(X)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), copy.copy(layer)):
        assert repr(other) == repr(layer)
        assert type(other) is type(layer)
        assert np.array_equal(other(X)[0], y)
        backend.ran(f"{cell} float64")
        assert not other.params["weight_ih_l0"].flags.writeable
        other.params["weight_ih_l0"] = np.zeros(layer.params["weight_ih_l0"].shape)
        assert np.array_equal(layer(X)[0], y)
        _, _, saved = layer.forward(X)
        with pytest.raises(ValueError, match="another layer's"):
            other.backward(saved)


def test_repr() -> None:
    """repr shows the options that are not defaults; tests/test_config.py evaluates it."""
    assert repr(fr.LSTM(3, 5)) == "LSTM(3, 5)"
    assert repr(fr.GRU(3, 5, bias=False, reset_after=False)) == (
        "GRU(3, 5, bias=False, reset_after=False)"
    )
    assert repr(fr.RNN(3, 5, dtype=">f8")) == "RNN(3, 5, dtype='float64')"


def test_dstate_parts_may_be_absent(backend: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    _, (h, c), saved = layer.forward(X)
    zero = np.zeros_like(h)
    for given, same in (((h, None), (h, zero)), ((None, c), (zero, c)), ((None, None), None)):
        a = layer.backward(saved, None, given)  # type: ignore[arg-type]
        b = layer.backward(saved, None, same)
        assert np.array_equal(a[0], b[0])  # type: ignore[arg-type]
        for name, d in a[2].items():
            assert np.array_equal(d, b[2][name])


def test_the_given_state_may_change_after_forward(backend: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    state = state_of("lstm", 1, 2, 5)
    y, _, saved = layer.forward(X, state)
    right = layer.backward(saved, y)[2]
    for part in state:
        part[...] = np.nan
    found = layer.backward(saved, y)[2]
    assert all(np.array_equal(a, found[name]) for name, a in right.items())


@pytest.mark.parametrize("cell", LAYERS)
def test_empty_calls(backend: Chosen, cell: str) -> None:
    """[S6] Calls with T = 0, B = 0 or I = 0 work."""
    layer = LAYERS[cell](seed=0)
    state = state_of(cell, 1, 2, 5)
    y, last, saved = layer.forward(X[:0], state)
    assert y.shape == (0, 2, 5)
    dx, dfirst, dparams = layer.backward(saved, y, state)
    assert dx.shape == (0, 2, 3)
    for k, part in enumerate(parts(state)):
        assert np.array_equal(parts(last)[k], part)
        assert np.array_equal(parts(dfirst)[k], part)
    assert not any(d.any() for d in dparams.values())
    y, last, saved = layer.forward(X[:, :0])
    assert y.shape == (4, 0, 5)
    assert parts(last)[0].shape == (1, 0, 5)
    assert not any(d.any() for d in layer.backward(saved, y)[2].values())
    y, _ = layer(X[:0, 0])
    assert y.shape == (0, 5)
    nothing = fr.RNN(0, 5, seed=0)
    y, _, saved = nothing.forward(np.zeros((4, 2, 0)))
    assert np.array_equal(y[:, 0], y[:, 1])
    assert nothing.backward(saved, y)[0].shape == (4, 2, 0)  # type: ignore[union-attr]


def test_options_are_fixed() -> None:
    """Assigning an option is refused, because it would be shown but not computed."""
    layer = fr.LSTM(3, 5, 2, dropout=0.5)
    for name in ("dropout", "hidden_size", "dtype", "bidirectional", "zoneout"):
        with pytest.raises(AttributeError, match=f"{name}: a layer's options are fixed"):
            setattr(layer, name, getattr(layer, name))


def test_a_copy_is_as_old_as_its_saved_calls() -> None:
    layer = fr.GRU(3, 5, seed=0)
    y, _, saved = layer.forward(X)
    with layer.writable() as p:
        p["weight_hh_l0"] *= 3
    for twin, kept in (copy.deepcopy((layer, saved)), pickle.loads(pickle.dumps((layer, saved)))):
        with pytest.raises(RuntimeError, match="parameters have changed"):
            twin.backward(kept, y)


def test_a_change_during_a_forward_call_shows(backend: Chosen) -> None:
    """A saved call has the parameters that it read, and their version."""
    layer = fr.GRU(3, 5, seed=0)

    class Changes:
        """Changes the parameters when it is read as x, as another thread might."""

        def __array__(self, dtype: object = None, copy: object = None) -> Any:
            layer.params["bias_ih_l0"] = np.ones(15)
            return X

    y, _, saved = layer.forward(Changes())  # type: ignore[arg-type]
    assert np.array_equal(y, layer(X)[0])
    layer.backward(saved, y)
    layer.params["bias_ih_l0"] = np.zeros(15)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        layer.backward(saved, y)


def test_what_a_saved_call_keeps_is_its_own(backend: Chosen) -> None:
    """A saved call keeps a copy of the tokens, and its y stays read-only."""
    layer = fr.GRU(6, 5, seed=0)
    ids = np.array([[0, 1], [2, 3], [4, 5]])
    y, _, saved = layer.forward(tokens=ids)
    before = layer.backward(saved, np.ones_like(y))[2]["weight_ih_l0"]
    ids[:] = 0
    assert np.array_equal(layer.backward(saved, np.ones_like(y))[2]["weight_ih_l0"], before)
    with pytest.raises(ValueError, match="WRITEABLE"):
        y.flags.writeable = True


def test_parts_of_a_state_may_be_absent(backend: Chosen) -> None:
    """[S5] A part of a state that is None is zeros, as in the plain functions."""
    layer = fr.LSTM(3, 5, seed=0)
    c = np.ones((1, 2, 5), np.float32)
    assert np.array_equal(layer(X, (None, c))[0], layer(X, (np.zeros_like(c), c))[0])  # type: ignore[arg-type]
    assert np.array_equal(layer(X, (None, None))[0], layer(X)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [fr.LSTM, fr.GRU])
def test_normalised_gates_are_of_the_call(backend: Chosen, kind: Any) -> None:
    """[O1] Gates need the gains of the call; if these have changed, reading gates is an error."""
    layer = kind(3, 5, seed=0, layer_norm=True)
    _, _, seen = layer.forward(X)
    _, _, unseen = layer.forward(X)
    gates = seen.gates[0]
    with layer.writable() as p:
        p["weight_norm_ih_l0"] *= 2
    assert seen.gates[0] is gates
    with pytest.raises(RuntimeError, match="parameters have changed"):
        unseen.gates  # noqa: B018
