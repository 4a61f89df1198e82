"""What layers refuse of their options; long, because every error text about them is here in full.

[X1] [X2]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn._cells import Array
from layer_cases import same

RNN, LSTM, GRU = fr.RNN, fr.LSTM, fr.GRU
T, B = 2, 4


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


X, FLAGS = zeros(T, B, 3), zeros(T, B, dtype=bool)


def gru(**options: Any) -> fr.GRU:
    return GRU(3, 5, seed=0, **options)


def lstm(**options: Any) -> fr.LSTM:
    return LSTM(3, 5, seed=0, **options)


def back(layer: Any, **options: Any) -> Any:
    y, _, saved = layer.forward(X.swapaxes(0, 1) if layer.batch_first else X)
    return layer.backward(saved, y, **options)


Fault = tuple[Callable[[], object], type[Exception], str]
OF_LAYERS: list[Fault] = [
    # sizes
    (lambda: gru(num_layers=0), ValueError, "num_layers: expected at least 1, got 0"),
    (lambda: gru(num_layers=1.5), TypeError, "num_layers: expected a whole number, got float"),
    (lambda: GRU(3, [4, 0]), ValueError, "hidden_size: expected at least 1, got 0"),
    (lambda: GRU(3, (4, "5")), TypeError, "hidden_size: expected a whole number, got str"),
    (
        lambda: GRU(3, [4, 5, 6], 2),
        ValueError,
        "hidden_size: expected one size for each of num_layers=2 layers, got 3",
    ),
    (
        lambda: GRU(3, []),
        ValueError,
        "hidden_size: expected one size for each of num_layers=1 layers, got 0",
    ),
    (lambda: lstm(proj_size=-1), ValueError, "proj_size: expected at least 0, got -1"),
    (
        lambda: lstm(proj_size=5),
        ValueError,
        "proj_size: expected less than hidden_size=5, got 5",
    ),
    (
        lambda: LSTM(3, [6, 4], proj_size=4),
        ValueError,
        "proj_size: expected less than hidden_size=(6, 4), got 4",
    ),
    (
        lambda: GRU(3, [4, 2**40]),
        ValueError,
        "sizes: (input_size, hidden_size) = (4, 1099511627776) is too large: an array of the call "
        "would pass 576460752303423488 bytes",
    ),
    # flags and kinds
    (
        lambda: gru(bidirectional=1),
        TypeError,
        "bidirectional: expected True or False, got int",
    ),
    (lambda: gru(batch_first="B"), TypeError, "batch_first: expected True or False, got str"),
    (lambda: lstm(coupled=None), TypeError, "coupled: expected True or False, got NoneType"),
    (
        lambda: gru(bias="both"),
        ValueError,
        "bias: expected True, False, 'input' or 'hidden', got 'both'",
    ),
    (
        lambda: gru(bias=None),
        TypeError,
        "bias: expected True, False, 'input' or 'hidden', got NoneType",
    ),
    (
        lambda: gru(num_layers=10**9),
        ValueError,
        "num_layers: expected at most 65536, got 1000000000",
    ),
    (
        lambda: lstm(forget_bias=1e39),
        ValueError,
        "forget_bias: expected None or a finite number that fits float32, got 1e+39",
    ),
    # what config() gave
    (
        lambda: fr.GRU.from_config([], {}),  # type: ignore[arg-type]
        TypeError,
        "config: expected what GRU.config() returned, got list",
    ),
    (
        lambda: fr.GRU.from_config(lstm().config(), {}),
        ValueError,
        "config: expected that of a layer of kind 'GRU', got 'LSTM'",
    ),
    (
        lambda: fr.GRU.from_config({"kind": "GRU", "input_size": 3, "units": 5}, {}),
        ValueError,
        "config: expected the options of GRU; unknown option 'units', missing 'hidden_size'",
    ),
    # rates
    (
        lambda: gru(dropout=10**400),
        ValueError,
        "dropout: expected a number in [0, 1), got inf",
    ),
    (lambda: gru(dropout=1), ValueError, "dropout: expected a number in [0, 1), got 1.0"),
    (
        lambda: gru(input_dropout=-0.1),
        ValueError,
        "input_dropout: expected a number in [0, 1), got -0.1",
    ),
    (
        lambda: gru(recurrent_dropout="0.5"),
        TypeError,
        "recurrent_dropout: expected a number in [0, 1), got str",
    ),
    (
        lambda: gru(drop_connect=True),
        TypeError,
        "drop_connect: expected a number in [0, 1), got bool",
    ),
    (
        lambda: gru(zoneout=float("nan")),
        ValueError,
        "zoneout: expected a number in [0, 1), got nan",
    ),
    (
        lambda: gru(zoneout=(0.1, 0.2)),
        TypeError,
        "zoneout: expected a number in [0, 1), got tuple",
    ),
    (
        lambda: lstm(zoneout=(0.1,)),
        ValueError,
        "zoneout: expected a number or 2 of them, got 1",
    ),
    (
        lambda: lstm(zoneout=[0.1, 2]),
        ValueError,
        "zoneout: expected a number in [0, 1), got 2.0",
    ),
    # clip, forget bias, activations
    (lambda: gru(clip=0), ValueError, "clip: expected None or a number above 0, got 0.0"),
    (lambda: RNN(3, 5, clip="1"), TypeError, "clip: expected None or a number above 0, got str"),
    (
        lambda: lstm(forget_bias=float("inf")),
        ValueError,
        "forget_bias: expected None or a finite number that fits float32, got inf",
    ),
    (
        lambda: lstm(forget_bias="1"),
        TypeError,
        "forget_bias: expected None or a finite number that fits float32, got str",
    ),
    (
        lambda: lstm(forget_bias=1, coupled=True),
        ValueError,
        "forget_bias: expected None where coupled=True, got 1.0",
    ),
    (
        lambda: lstm(layer_norm=True, peepholes=True, proj_size=2, clip=1.0),
        ValueError,
        "layer_norm: cannot be combined with peepholes, proj_size, activations, clip or coupled",
    ),
    (
        lambda: fr.GRU(3, 4, layer_norm=True, reset_after=False),
        ValueError,
        "layer_norm: cannot be combined with reset_after=False",
    ),
    (
        lambda: lstm(forget_bias=1, bias=False),
        ValueError,
        "forget_bias: expected None where bias=False, got 1.0",
    ),
    (
        lambda: lstm(activations=("sigmoid", "tanh")),
        TypeError,
        "activations: expected 3 activations, as ('sigmoid', 'tanh', 'tanh') by default, got 2",
    ),
    (
        lambda: gru(activations="tanh"),
        TypeError,
        "activations: expected 2 activations, as ('sigmoid', 'tanh') by default, got str",
    ),
    (
        lambda: gru(activations=("sigmoid", "Tanh")),
        ValueError,
        "activations: expected one of 'relu', 'tanh', 'sigmoid', 'affine', 'leaky_relu', "
        "'thresholded_relu', 'scaled_tanh', 'hard_sigmoid', 'elu', 'softsign', 'softplus', "
        "'identity', got 'Tanh'",
    ),
    (
        lambda: gru(activations=("sigmoid", np.tanh)),
        TypeError,
        "activations: expected a name, (name, alpha) or (name, alpha, beta), got ufunc",
    ),
    (
        lambda: gru(activations=("sigmoid", ())),
        TypeError,
        "activations: expected a name, (name, alpha) or (name, alpha, beta), got tuple",
    ),
    (
        lambda: gru(activations=("sigmoid", (1, "elu"))),
        TypeError,
        "activations: expected a name, got int",
    ),
    (
        lambda: RNN(3, 5, nonlinearity=("elu", "1")),
        TypeError,
        "nonlinearity: elu: expected a finite alpha or beta, got str",
    ),
    (
        lambda: RNN(3, 5, nonlinearity=("affine", 1, float("nan"))),
        ValueError,
        "nonlinearity: affine: expected a finite alpha or beta, got nan",
    ),
    (
        lambda: RNN(3, 5, nonlinearity=("elu", 1, 2, 3)),
        TypeError,
        "nonlinearity: expected a name, (name, alpha) or (name, alpha, beta), got tuple",
    ),
]
CELLS_TEXT = "expected shape (2, 4, 5), got (4, 2, 5)"
OF_CALLS: list[Fault] = [
    # lengths, mask, reset
    (
        lambda: gru()(X, lengths=[1.0, 2.0, 1.0, 0.0]),
        TypeError,
        "lengths: expected integers, got ndarray float64 (4,)",
    ),
    (
        lambda: gru()(X, lengths=[True] * 4),
        TypeError,
        "lengths: expected integers, got ndarray bool (4,)",
    ),
    (lambda: gru()(X, lengths=[1, 2]), ValueError, "lengths: expected shape (4,), got (2,)"),
    (lambda: gru()(X, lengths=2), ValueError, "lengths: expected shape (4,), got ()"),
    (lambda: gru()(X[:, 0], lengths=[1, 1]), ValueError, "lengths: expected shape (), got (2,)"),
    (
        lambda: gru()(X, lengths=[0, 1, 3, -1]),
        ValueError,
        "lengths: expected numbers in [0, 2], got 3 at 2",
    ),
    (
        lambda: gru()(X, lengths=[0, -1, 2, 2]),
        ValueError,
        "lengths: expected numbers in [0, 2], got -1 at 1",
    ),
    (
        lambda: gru()(X, lengths=np.array([2**64 - 1, 0, 0, 0], np.uint64)),
        ValueError,
        "lengths: expected numbers in [0, 2], got 18446744073709551615 at 0",
    ),
    (
        lambda: gru()(X, mask=zeros(T, B, dtype=int)),
        TypeError,
        "mask: expected an array of bool, got ndarray int64 (2, 4)",
    ),
    (lambda: gru()(X, mask=FLAGS.T), ValueError, "mask: expected shape (2, 4), got (4, 2)"),
    (
        lambda: gru(batch_first=True)(X.swapaxes(0, 1), mask=FLAGS),
        ValueError,
        "mask: expected shape (4, 2), got (2, 4)",
    ),
    (lambda: gru()(X[:, 0], mask=FLAGS), ValueError, "mask: expected shape (2,), got (2, 4)"),
    (
        lambda: gru()(X, mask=np.ma.masked_array(FLAGS)),
        TypeError,
        "mask: expected an array of bool, got a masked array",
    ),
    (
        lambda: gru()(X, lengths=np.ma.masked_array([1] * B)),
        TypeError,
        "lengths: expected integers, got a masked array",
    ),
    (
        lambda: gru()(X, reset=zeros(T, B)),
        TypeError,
        "reset: expected an array of bool, got ndarray float32 (2, 4)",
    ),
    (lambda: gru()(X, reset=FLAGS[0]), ValueError, "reset: expected shape (2, 4), got (4,)"),
    (
        lambda: gru()(X, lengths=[2] * 4, mask=FLAGS),
        ValueError,
        "expected lengths or mask, got both",
    ),
    # initial, state
    (
        lambda: gru()(X, initial=zeros(1, B, 5)),
        ValueError,
        "initial: expected None where reset is not given",
    ),
    (
        lambda: gru()(X, reset=FLAGS, initial=zeros(B, 5)),
        ValueError,
        "initial of h: expected shape (1, 4, 5), got (4, 5)",
    ),
    (
        lambda: lstm()(X, reset=FLAGS, initial=zeros(1, B, 5)),
        TypeError,
        "initial: expected a tuple (initial of h, initial of c), got ndarray float32 (1, 4, 5)",
    ),
    (
        lambda: gru(num_layers=2, bidirectional=True)(X, zeros(2, B, 5)),
        ValueError,
        "h0: expected shape (4, 4, 5), got (2, 4, 5)",
    ),
    (
        lambda: GRU(3, [4, 5])(X, zeros(2, B, 5)),
        TypeError,
        "h0: expected a list of 2 arrays, one for each layer, got ndarray float32 (2, 4, 5)",
    ),
    (
        lambda: GRU(3, [4, 5])(X, [zeros(1, B, 4)]),
        TypeError,
        "h0: expected a list of 2 arrays, one for each layer, got 1 items",
    ),
    (
        lambda: GRU(3, [4, 5])(X, [zeros(1, B, 4), zeros(1, B, 4)]),
        ValueError,
        "h0[1]: expected shape (1, 4, 5), got (1, 4, 4)",
    ),
    # what y holds, where noise comes from
    (
        lambda: gru()(X, masked_output="last"),
        ValueError,
        "masked_output: expected one of 'zero', 'repeat', got 'last'",
    ),
    (
        lambda: gru().forward(X, masked_output=None),  # type: ignore[arg-type]
        TypeError,
        "masked_output: expected a name, got NoneType",
    ),
    (
        lambda: gru()(X, padding_value="0"),  # type: ignore[arg-type]
        TypeError,
        "padding_value: expected a number that fits float32, got str",
    ),
    (
        lambda: gru().forward(X, rng=7),  # type: ignore[arg-type]
        TypeError,
        "rng: expected a numpy.random.Generator or None, got int",
    ),
    # gradients of cell states and gates
    (
        lambda: back(gru(), per_sample=1),
        TypeError,
        "per_sample: expected True or False, got int",
    ),
    (
        lambda: back(lstm(), dcells=zeros(T, B, 5)),
        TypeError,
        "dcells: expected a list with one entry for each of 1 layers, got ndarray float32 "
        "(2, 4, 5)",
    ),
    (
        lambda: back(lstm(), dcells=[None, None]),
        TypeError,
        "dcells: expected a list with one entry for each of 1 layers, got 2",
    ),
    (lambda: back(lstm(), dcells=[zeros(B, T, 5)]), ValueError, f"dcells[0]: {CELLS_TEXT}"),
    (
        lambda: back(gru(), dcells=[zeros(T, B, 5)]),
        ValueError,
        "dcells: expected None: gru has no cell state",
    ),
    (
        lambda: back(lstm(num_layers=2), dgates=[{}, {"i": zeros(B, T, 5)}]),
        ValueError,
        f"dgates[1]['i']: {CELLS_TEXT}",
    ),
    (
        lambda: back(lstm(), dgates=[{"x": zeros(T, B, 5)}]),
        ValueError,
        "dgates[0]: expected a dict with keys of ('i', 'f', 'g', 'o'), got ['x']",
    ),
    (
        lambda: back(gru(), dgates=[zeros(T, B, 5)]),
        ValueError,
        "dgates[0]: expected a dict with keys of ('r', 'z', 'n'), got ndarray float32 (2, 4, 5)",
    ),
    (
        lambda: back(gru(), dgates=[{"r": zeros(T, B, 5, dtype=int)}]),
        TypeError,
        "dgates[0]['r']: expected an array of floating point, got ndarray int64 (2, 4, 5)",
    ),
    # streams
    (
        lambda: gru(bidirectional=True).stream(),
        ValueError,
        "stream: a bidirectional layer cannot run step by step: its reverse direction starts at "
        "the end of the sequence",
    ),
    (
        lambda: gru().stream(4).step(X[0], mask=[1, 0, 1, 1]),
        TypeError,
        "mask: expected an array of bool, got ndarray int64 (4,)",
    ),
    (
        lambda: gru().stream(4).step(X[0], reset=FLAGS),
        ValueError,
        "reset: expected shape (4,), got (2, 4)",
    ),
    (
        lambda: gru().stream(4).step(X[0], reset=True),
        ValueError,
        "reset: expected shape (4,), got ()",
    ),
    (
        lambda: gru().stream(4).step(X[0], initial=zeros(1, B, 5)),
        ValueError,
        "initial: expected None where reset is not given",
    ),
    (
        lambda: gru().stream(4)(X, mask=FLAGS, lengths=[1] * 4),
        ValueError,
        "expected lengths or mask, got both",
    ),
]
OF_CONFIGS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: fr.GRU.from_config(3, {}),
        TypeError,
        "config: expected what GRU.config() returned, got int",
    ),  # type: ignore[arg-type]
    (
        lambda: fr.GRU.from_config({"kind": "RNN"}, {}),
        ValueError,
        "config: expected that of a layer of kind 'GRU', got 'RNN'",
    ),
    (
        lambda: fr.GRU.from_config({"kind": "GRU"}, {}),
        ValueError,
        "config: expected the options of GRU; missing 'input_size', missing 'hidden_size'",
    ),
]
FAULTS = OF_LAYERS + OF_CALLS + OF_CONFIGS


@pytest.mark.parametrize(
    ("call", "error", "text"),
    FAULTS,
    ids=[re.sub(r"[^\w.]+", "-", text)[:60] for _, _, text in FAULTS],
)
def test_texts(
    backend: Chosen, call: Callable[[], object], error: type[Exception], text: str
) -> None:
    """The text names the argument, what was expected and what came, the same on every backend."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value.args[0]) == text


def test_nothing_changed(backend: Chosen) -> None:
    """[X2] A refused call changes no stream, no `out`, no saved call and no parameter."""
    layer = lstm(num_layers=2)
    stream = layer.stream(B)
    stream.step(X[0] + 1)
    before, values, out = stream.state, layer.state_dict(), np.full((B, 5), 7, np.float32)
    y, _, saved = layer.forward(X + 1)
    right = layer.backward(saved, y)[2]
    bad: dict[str, Any]
    for bad in ({"mask": [1]}, {"reset": [True]}, {"initial": before}):
        with pytest.raises((TypeError, ValueError)):
            stream.step(X[0], out, **bad)
    for bad in ({"lengths": [9] * B}, {"mask": FLAGS.T}, {"reset": FLAGS, "initial": (1, 2)}):
        with pytest.raises((TypeError, ValueError)):
            stream(X, **bad)
        with pytest.raises((TypeError, ValueError)):
            layer.forward(X, **bad)
    for bad in ({"dcells": [1]}, {"dgates": [{}, {"q": y}]}, {"per_sample": None}):
        with pytest.raises((TypeError, ValueError)):
            layer.backward(saved, y, **bad)
    assert (out == 7).all()
    assert all(map(same, stream.state, before))
    assert all(same(layer.params[name], a) for name, a in values.items())
    assert all(same(a, right[name]) for name, a in layer.backward(saved, y)[2].items())


def test_every_text_is_here() -> None:
    """One of the faults above reaches each `raise` of _checks/options.py."""
    from fusedrnn._checks import options as _check_options

    met: set[int] = set()
    for call, error, _ in FAULTS:
        with pytest.raises(error) as caught:
            call()
        last = caught.traceback[-1]
        if last.path.name == "options.py":
            met.add(last.lineno)
    source = Path(_check_options.__file__).read_text().split("\n")
    raising = {k for k, line in enumerate(source) if line.strip().startswith("raise ")}
    unmet = {k for k in raising if not any(k <= line <= k + 4 for line in met)}
    assert not [source[k].strip() for k in sorted(unmet)]
