"""What calls refuse, and which layouts they copy; long, as every error text is here in full.

[X1] [X2] [X3] [X4] [X5] [X6] [S6] [S7]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn import nn
from fusedrnn._cells import Array

F32, F64 = np.float32, np.float64


def zeros(*shape: int, dtype: Any = F32) -> Array:
    return np.zeros(shape, dtype)


def lstm(**options: Any) -> fr.LSTM:
    return fr.LSTM(3, 5, seed=0, **options)


W, R, B = zeros(20, 3), zeros(20, 5), zeros(20)
X = zeros(2, 4, 3)
H = zeros(4, 5)
LOSS: Any = nn.mse(X, X)


def saved() -> Any:
    return fr.lstm_forward(X, W, R, save=True)[3]


def trained() -> Any:
    layer = lstm()
    return layer, layer.forward(X)[2]


def back(dy: Any = None, dstate: Any = None, **options: Any) -> Any:
    layer, call = trained()
    return layer.backward(call, dy, dstate, **options)


def read_only(a: Array) -> Array:
    a.flags.writeable = False
    return a


def wide(*shape: int) -> Array:
    """An array of an absurd shape that takes no memory, to test checks of sizes."""
    return np.broadcast_to(F32(0), shape)


LAYER_FAULTS: list[tuple[Callable[[], object], type[Exception], str]] = [
    # sizes and options
    (lambda: fr.LSTM(3, 0), ValueError, "hidden_size: expected at least 1, got 0"),
    (lambda: fr.LSTM(3, -2), ValueError, "hidden_size: expected at least 1, got -2"),
    (lambda: fr.GRU(-1, 4), ValueError, "input_size: expected at least 0, got -1"),
    (lambda: fr.RNN(3.0, 4), TypeError, "input_size: expected a whole number, got float"),  # type: ignore[arg-type]
    (lambda: fr.RNN(3, True), TypeError, "hidden_size: expected a whole number, got bool"),
    (
        lambda: fr.LSTM(2**40, 2**40),
        ValueError,
        "sizes: (input_size, hidden_size) = (1099511627776, 1099511627776) is too large: an array "
        "of the call would pass 576460752303423488 bytes",
    ),
    (
        lambda: fr.LSTM(3, 4, bias=1),
        TypeError,
        "bias: expected True, False, 'input' or 'hidden', got int",
    ),  # type: ignore[arg-type]
    (
        lambda: fr.LSTM(3, 4, peepholes="yes"),  # type: ignore[arg-type]
        TypeError,
        "peepholes: expected True or False, got str",
    ),
    (
        lambda: fr.GRU(3, 4, reset_after=None),  # type: ignore[arg-type]
        TypeError,
        "reset_after: expected True or False, got NoneType",
    ),
    (
        lambda: fr.RNN(3, 4, nonlinearity="gelu"),
        ValueError,
        "nonlinearity: expected one of 'relu', 'tanh', 'sigmoid', 'affine', 'leaky_relu', "
        "'thresholded_relu', 'scaled_tanh', 'hard_sigmoid', 'elu', 'softsign', 'softplus', "
        "'identity', got 'gelu'",
    ),
    (
        lambda: fr.RNN(3, 4, nonlinearity=np.tanh),  # type: ignore[arg-type]
        TypeError,
        "nonlinearity: expected a name, (name, alpha) or (name, alpha, beta), got ufunc",
    ),
    (
        lambda: fr.RNN(3, 4, dtype=np.int32),
        TypeError,
        "dtype: expected float32 or float64, got <class 'numpy.int32'>",
    ),
    (
        lambda: fr.RNN(3, 4, dtype="half"),
        TypeError,
        "dtype: expected float32 or float64, got 'half'",
    ),
    (
        lambda: fr.RNN(3, 4, dtype="float31"),
        TypeError,
        "dtype: expected float32 or float64, got 'float31'",
    ),
    (
        lambda: fr.RNN(3, 4, dtype=None),
        TypeError,
        "dtype: expected float32 or float64, got None",
    ),
    (
        lambda: fr.RNN(3, 4, seed=-1),
        ValueError,
        "seed: expected what numpy.random.default_rng takes (None, a non-negative integer or "
        "several, a SeedSequence, BitGenerator or Generator), got -1",
    ),
    (
        lambda: fr.RNN(3, 4, seed="one"),
        TypeError,
        "seed: expected what numpy.random.default_rng takes (None, a non-negative integer or "
        "several, a SeedSequence, BitGenerator or Generator), got 'one'",
    ),
    # x
    (
        lambda: lstm()(zeros(2, 4, 3, dtype=np.int64)),
        TypeError,
        "x: expected floating point, got int64. Pass integer ids as layer(tokens=ids), or numbers "
        "as x.astype(np.float32)",
    ),
    (
        lambda: lstm()([[1, 2, 3]]),
        TypeError,
        "x: expected floating point, got int64. Pass integer ids as layer(tokens=ids), or numbers "
        "as x.astype(np.float32)",
    ),
    (
        lambda: lstm()(zeros(2, 4, 3, dtype=complex)),
        TypeError,
        "x: expected an array of floating point, got ndarray complex128 (2, 4, 3)",
    ),
    (
        lambda: lstm()([["a", "b", "c"]]),
        TypeError,
        "x: expected an array of floating point, got ndarray <U1 (1, 3)",
    ),
    (
        lambda: lstm()(np.ma.masked_array(X)),
        TypeError,
        "x: expected an array of floating point, got a masked array",
    ),
    (lambda: lstm()(), TypeError, "expected either x or tokens, got neither"),
    (
        lambda: lstm()(X, tokens=[[0]]),
        TypeError,
        "expected either x or tokens, got both",
    ),
    (
        lambda: lstm()(zeros(2, 4, 4)),
        ValueError,
        "x: expected shape (T, B, 3) or (T, 3), got (2, 4, 4)",
    ),
    (
        lambda: lstm()(zeros(2, 1, 4, 3)),
        ValueError,
        "x: expected shape (T, B, 3) or (T, 3), got (2, 1, 4, 3)",
    ),
    (lambda: lstm()(zeros(3)), ValueError, "x: expected shape (T, B, 3) or (T, 3), got (3,)"),
    (lambda: lstm()(F32(1)), ValueError, "x: expected shape (T, B, 3) or (T, 3), got ()"),
    (
        lambda: fr.RNN(0, 5)(wide(2**40, 2**20, 0)),
        ValueError,
        "x: (1099511627776, 1048576, 0) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: lstm()(wide(2**39, 2**19, 3)),
        ValueError,
        "x: (549755813888, 524288, 3) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: lstm()(wide(2**59, 3)),
        ValueError,
        "x: (576460752303423488, 1, 3) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    # tokens
    (
        lambda: lstm()(tokens=wide(2**40, 2**20).view(np.int32)),
        ValueError,
        "tokens: (1099511627776, 1048576) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: lstm()(tokens=np.ma.masked_array([0, 1])),
        TypeError,
        "tokens: expected an array of integers, got a masked array",
    ),
    (
        lambda: lstm()(tokens=zeros(2, 4)),
        TypeError,
        "tokens: expected an array of integers, got ndarray float32 (2, 4)",
    ),
    (
        lambda: lstm()(tokens=[[True]]),
        TypeError,
        "tokens: expected an array of integers, got ndarray bool (1, 1)",
    ),
    (
        lambda: lstm()(tokens=zeros(2, 4, 3, dtype=int)),
        ValueError,
        "tokens: expected shape (T, B) or (T,), got (2, 4, 3)",
    ),
    (
        lambda: lstm()(tokens=[[0, 1], [2, 3]]),
        ValueError,
        "tokens: expected ids in [0, 3), got 3 at (1, 1)",
    ),
    (
        lambda: lstm()(tokens=[0, -1]),
        ValueError,
        "tokens: expected ids in [0, 3), got -1 at (1,)",
    ),
    (
        lambda: lstm()(tokens=np.array([2**64 - 1], np.uint64)),
        ValueError,
        "tokens: expected ids in [0, 3), got 18446744073709551615 at (0,)",
    ),
    # states
    (
        lambda: lstm()(X, zeros(1, 4, 5)),  # type: ignore[arg-type]
        TypeError,
        "state: expected a tuple (h0, c0), got ndarray float32 (1, 4, 5)",
    ),
    (
        lambda: lstm()(X, (zeros(1, 4, 5),)),  # type: ignore[arg-type]
        TypeError,
        "state: expected a tuple (h0, c0), got 1 parts",
    ),
    (
        lambda: lstm()(X, (zeros(1, 4, 5), zeros(4, 5))),
        ValueError,
        "c0: expected shape (1, 4, 5), got (4, 5)",
    ),
    (
        lambda: lstm()(zeros(2, 3), (zeros(1, 1, 5), zeros(1, 1, 5))),
        ValueError,
        "h0: expected shape (1, 5), got (1, 1, 5)",
    ),
    (
        lambda: fr.GRU(3, 5)(X, zeros(1, 4, 5, dtype=int)),
        TypeError,
        "h0: expected an array of floating point, got ndarray int64 (1, 4, 5)",
    ),
    # threads
    (
        lambda: lstm()(X, num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    (
        lambda: lstm()(X, num_threads=5000),
        ValueError,
        "num_threads: expected at most 1024, got 5000",
    ),
    (
        lambda: lstm()(X, num_threads=2.0),  # type: ignore[arg-type]
        TypeError,
        "num_threads: expected a whole number, got float",
    ),
    (
        lambda: lstm().forward(X, num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    (
        lambda: back(num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    (
        lambda: lstm().stream().step(zeros(3), num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    (
        lambda: lstm().stream()(zeros(2, 3), num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    # backward
    (
        lambda: back(zeros(2, 4, 6)),
        ValueError,
        "dy: expected shape (2, 4, 5), got (2, 4, 6)",
    ),
    (
        lambda: back(zeros(2, 4, 5, dtype=int)),
        TypeError,
        "dy: expected an array of floating point, got ndarray int64 (2, 4, 5)",
    ),
    (
        lambda: back(None, (zeros(1, 4, 5), zeros(1, 4, 6))),
        ValueError,
        "dc_n: expected shape (1, 4, 5), got (1, 4, 6)",
    ),
    (
        lambda: lstm().backward(None),  # type: ignore[arg-type]
        TypeError,
        "saved: expected what forward() returned, got NoneType",
    ),
    (
        lambda: lstm().backward(trained()[1]),
        ValueError,
        "saved: expected what this layer's forward() returned, got another layer's",
    ),
    # parameters
    (
        lambda: lstm().params["weight"],
        KeyError,
        "no parameter 'weight'; this layer has weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0",
    ),
    (
        lambda: lstm().params.__setitem__("bias_hh_l0", zeros(5)),
        ValueError,
        "bias_hh_l0: expected shape (20,), got (5,)",
    ),
    (
        lambda: lstm().params.__setitem__("bias_hh_l0", "no"),
        TypeError,
        "bias_hh_l0: expected an array of floating point, got str",
    ),
    # streams
    (
        lambda: lstm().stream(0),
        ValueError,
        "batch_size: expected at least 1, got 0",
    ),
    (
        lambda: lstm().stream(2**60),
        ValueError,
        "batch_size: 1152921504606846976 is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: lstm().stream().step(zeros(2, 3)),
        ValueError,
        "x: expected shape (1, 3) or (3,), got (2, 3)",
    ),
    (
        lambda: lstm().stream(2).step(zeros(3)),
        ValueError,
        "x: expected shape (2, 3), got (3,)",
    ),
    (
        lambda: lstm().stream().step(zeros(1, 3, dtype=int)),
        TypeError,
        "x: expected floating point, got int64. Pass integer ids as layer(tokens=ids), or numbers "
        "as x.astype(np.float32)",
    ),
    (
        lambda: lstm().stream(2).step(tokens=1),
        ValueError,
        "tokens: expected shape (2,), got ()",
    ),
    (
        lambda: lstm().stream().step(tokens=3),
        ValueError,
        "tokens: expected ids in [0, 3), got 3 at ()",
    ),
    (
        lambda: lstm().stream().step(),
        TypeError,
        "expected either x or tokens, got neither",
    ),
    (
        lambda: lstm().stream(2)(X),
        ValueError,
        "stream: expected chunks of 2 sequences, got 4",
    ),
    (
        lambda: lstm().stream(2).reset([2]),
        ValueError,
        "rows: expected indices in [0, 2), got [2]",
    ),
    (
        lambda: lstm().stream(2).reset([True]),
        ValueError,
        "rows: expected 2 flags, got shape (1,)",
    ),
    (
        lambda: lstm().stream(2).reset(0.5),
        TypeError,
        "rows: expected indices or flags, got ndarray float64 ()",
    ),
    (
        lambda: lstm().stream().step(zeros(3), out=zeros(5, dtype=F64)),
        TypeError,
        "out: expected a NumPy array of float32, got ndarray float64 (5,)",
    ),
    (
        lambda: lstm().stream().step(zeros(3), out=[0.0] * 5),  # type: ignore[arg-type]
        TypeError,
        "out: expected a NumPy array of float32, got list",
    ),
    (
        lambda: lstm().stream().step(zeros(3), out=zeros(1, 5)),
        ValueError,
        "out: expected shape (5,), got (1, 5)",
    ),
    (
        lambda: lstm().stream().step(zeros(3), out=read_only(zeros(5))),
        ValueError,
        "out: expected a writable, C-contiguous, aligned array, got one that is read-only",
    ),
    (
        lambda: lstm().stream().step(zeros(3), out=zeros(10)[::2]),
        ValueError,
        "out: expected a writable, C-contiguous, aligned array, got one that is not C-contiguous",
    ),
    # habits from other libraries
    (
        lambda: lstm().load_state_dict([W, R, B]),  # type: ignore[arg-type]
        TypeError,
        "state_dict: expected a mapping of names to arrays, got list; a list of arrays, as Keras "
        "has it, is for fusedrnn.weights.from_keras",
    ),
    (
        lambda: lstm().load_state_dict(None),  # type: ignore[arg-type]
        TypeError,
        "state_dict: expected a mapping of names to arrays, got NoneType",
    ),
    (
        lambda: lstm().load_state_dict({0: W}),  # type: ignore[dict-item]
        TypeError,
        "state_dict: expected names of type str, got 0",
    ),
    (
        lambda: lstm().load_state_dict({}, None),  # type: ignore[arg-type]
        TypeError,
        "prefix: expected a text, got NoneType",
    ),
    (
        lambda: lstm().load_state_dict({f"rnn.{k}": v for k, v in lstm().params.items()}),
        ValueError,
        "load_state_dict changed nothing: expected weight_ih_l0, weight_hh_l0, bias_ih_l0, "
        'bias_hh_l0, got these names behind a prefix; pass prefix="rnn."',
    ),
    (
        lambda: back(LOSS),
        TypeError,
        "dy: got a Loss; pass loss.gradient",
    ),
    (
        lambda: back(None, LOSS),
        TypeError,
        "dstate: got a Loss; pass loss.gradient",
    ),
    (
        lambda: back(None, (LOSS, None)),
        TypeError,
        "dh_n: got a Loss; pass loss.gradient",
    ),
    (
        lambda: back(dcells=[LOSS]),
        TypeError,
        "dcells[0]: got a Loss; pass loss.gradient",
    ),
    (
        lambda: fr.lstm_backward(saved(), LOSS),  # type: ignore[arg-type]
        TypeError,
        "lstm_backward: dy: got a Loss; pass loss.gradient",
    ),
    (
        lambda: setattr(lstm(), "dropout", 0),
        AttributeError,
        "dropout: a layer's options are fixed when it is made; forward(noise=False) trains "
        "without noise; else make another layer",
    ),
    (
        lambda: setattr(lstm(), "hidden_size", 6),
        AttributeError,
        "hidden_size: a layer's options are fixed when it is made; make another layer",
    ),
    (
        lambda: lstm().params["weight"],
        KeyError,
        "no parameter 'weight'; this layer has weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0",
    ),
    (
        lambda: lstm().params[[0]],  # type: ignore[index]
        KeyError,
        "no parameter of type list; this layer has weight_ih_l0, weight_hh_l0, bias_ih_l0, "
        "bias_hh_l0",
    ),
    (
        lambda: lstm()(X, mask=np.ones((2, 4), int)),
        TypeError,
        "mask: expected an array of bool, got ndarray int64 (2, 4)",
    ),
    (
        lambda: lstm()(X, lengths=[[1], [2, 3]]),
        TypeError,
        "lengths: NumPy cannot read it: setting an array element with a sequence. The requested "
        "array has an inhomogeneous shape after 1 dimensions. The detected shape was (2,) + "
        "inhomogeneous part.",
    ),
    (lambda: fr.use_isa(X), TypeError, "isa: expected a name, got ndarray float32 (2, 4, 3)"),  # type: ignore[arg-type]
    (
        lambda: fr.use_backend(X),  # type: ignore[arg-type]
        TypeError,
        "backend: expected a name, got ndarray float32 (2, 4, 3)",
    ),
]

OPS_FAULTS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: fr.lstm_forward([[[0.0]]], W, R),  # type: ignore[arg-type]
        TypeError,
        "lstm_forward: x: expected a NumPy array of float32 or float64, got list",
    ),
    (
        lambda: fr.lstm_forward(zeros(2, 4, 3, dtype=int), W, R),
        TypeError,
        "lstm_forward: x: expected float32 or float64, got ndarray int64 (2, 4, 3)",
    ),
    (
        lambda: fr.gru_forward(zeros(2, 4, 3, dtype=np.float16), W, R),
        TypeError,
        "gru_forward: x: expected float32 or float64, got ndarray float16 (2, 4, 3)",
    ),
    (
        lambda: fr.lstm_forward(np.ma.masked_array(X), W, R),
        TypeError,
        "lstm_forward: x: expected a NumPy array of float32 or float64, got MaskedArray float32 "
        "(2, 4, 3)",
    ),
    (
        lambda: fr.lstm_forward(X, W.astype(F64), R),
        TypeError,
        "lstm_forward: w_ih: expected float32, as x is, got ndarray float64 (20, 3); all arrays of "
        "a call have one dtype",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, B.tolist()),  # type: ignore[arg-type]
        TypeError,
        "lstm_forward: b_ih: expected a NumPy array of float32 or float64, got list",
    ),
    (
        lambda: fr.lstm_forward(X, None, R),  # type: ignore[arg-type]
        TypeError,
        "lstm_forward: w_ih: expected a NumPy array of float32 or float64, got NoneType",
    ),
    (
        lambda: fr.lstm_forward(X, W, None),  # type: ignore[arg-type]
        TypeError,
        "lstm_forward: w_hh: expected a NumPy array of float32 or float64, got NoneType",
    ),
    (
        lambda: fr.lstm_forward(X[0], W, R),
        ValueError,
        "lstm_forward: x: expected shape (T, B, I), got (4, 3)",
    ),
    (
        lambda: fr.lstm_forward(X, W, zeros(15, 5)),
        ValueError,
        "lstm_forward: w_hh: expected shape (4*H, H) with H >= 1, got (15, 5)",
    ),
    (
        lambda: fr.gru_forward(X, zeros(0, 3), zeros(0, 0)),
        ValueError,
        "gru_forward: w_hh: expected shape (3*H, H) with H >= 1, got (0, 0)",
    ),
    (
        lambda: fr.rnn_forward(X, zeros(5, 3), zeros(5)),
        ValueError,
        "rnn_forward: w_hh: expected shape (H, H) with H >= 1, got (5,)",
    ),
    (
        lambda: fr.lstm_forward(X, zeros(20, 4), R),
        ValueError,
        "lstm_forward: w_ih: expected shape (20, 3), got (20, 4)",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, b_hh=zeros(4, 5)),
        ValueError,
        "lstm_forward: b_hh: expected shape (20,), got (4, 5)",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, h0=zeros(1, 4, 5)),
        ValueError,
        "lstm_forward: h0: expected shape (4, 5), got (1, 4, 5)",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, c0=zeros(4, 6)),
        ValueError,
        "lstm_forward: c0: expected shape (4, 5), got (4, 6)",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, peepholes=zeros(15)),
        ValueError,
        "lstm_forward: peepholes: expected shape (3, 5), got (15,)",
    ),
    (
        lambda: fr.rnn_forward(X, zeros(5, 3), zeros(5, 5), nonlinearity="Tanh"),
        ValueError,
        "nonlinearity: expected one of 'tanh', 'relu', 'sigmoid', 'identity', got 'Tanh'",
    ),
    (
        lambda: fr.gru_forward(X, zeros(15, 3), zeros(15, 5), reset_after=0),  # type: ignore[arg-type]
        TypeError,
        "reset_after: expected True or False, got int",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, save="yes"),  # type: ignore[arg-type]
        TypeError,
        "save: expected True or False, got str",
    ),
    (
        lambda: fr.lstm_forward(X, W, R, num_threads=-1),
        ValueError,
        "num_threads: expected at least 1, got -1",
    ),
    (
        lambda: fr.rnn_forward(wide(2**39, 2**19, 3), zeros(5, 3), zeros(5, 5)),
        ValueError,
        "rnn_forward: x: (549755813888, 524288, 3) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: fr.rnn_forward(wide(2**40, 2**20, 0), zeros(5, 0), zeros(5, 5)),
        ValueError,
        "rnn_forward: x: (1099511627776, 1048576, 0) is too large: an array of the call would pass "
        "576460752303423488 bytes",
    ),
    (
        lambda: fr.lstm_backward(None),
        TypeError,
        "saved: expected what lstm_forward(..., save=True) returned, got NoneType",
    ),
    (
        lambda: fr.gru_backward(saved()),
        ValueError,
        "gru_backward: saved: expected what gru_forward(..., save=True) returned, got that of a "
        "lstm call",
    ),
    (
        lambda: fr.lstm_backward(saved(), zeros(2, 4, 5, dtype=F64)),
        TypeError,
        "lstm_backward: dy: expected float32, as x is, got ndarray float64 (2, 4, 5); all arrays "
        "of a call have one dtype",
    ),
    (
        lambda: fr.lstm_backward(saved(), zeros(4, 5)),
        ValueError,
        "lstm_backward: dy: expected shape (2, 4, 5), got (4, 5)",
    ),
    (
        lambda: fr.lstm_backward(saved(), dc_n=zeros(5)),
        ValueError,
        "lstm_backward: dc_n: expected shape (4, 5), got (5,)",
    ),
    (
        lambda: fr.dense_forward(X, zeros(5, 3)),
        ValueError,
        "dense_forward: x: expected shape (N, I), got (2, 4, 3)",
    ),
    (
        lambda: fr.dense_forward(X[0], zeros(5, 4)),
        ValueError,
        "dense_forward: w: expected shape (5, 3), got (5, 4)",
    ),
    (
        lambda: fr.dense_forward(X[0], zeros(3)),
        ValueError,
        "dense_forward: w: expected shape (H, I) with H >= 1, got (3,)",
    ),
    (
        lambda: fr.dense_forward(X[0], zeros(5, 3), zeros(4)),
        ValueError,
        "dense_forward: b: expected shape (5,), got (4,)",
    ),
    (
        lambda: fr.dense_backward(fr.dense_forward(X[0], zeros(5, 3), save=True)[1], zeros(4, 3)),
        ValueError,
        "dense_backward: dy: expected shape (4, 5), got (4, 3)",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    LAYER_FAULTS + OPS_FAULTS,
    ids=[re.sub(r"[^\w.]+", "-", text)[:60] for _, _, text in LAYER_FAULTS + OPS_FAULTS],
)
def test_texts(
    backend: Chosen, call: Callable[[], object], error: type[Exception], text: str
) -> None:
    """[X1] The whole text is compared; it is the same on every backend."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value.args[0]) == text


def test_all_that_is_wrong_with_a_state_dict(backend: Chosen) -> None:
    """[X1] [X2] One text lists everything that is wrong, and no parameter has changed."""
    layer = lstm()
    before = layer.state_dict()
    bad = layer.state_dict()
    bad["bias_ih_l0"] += 1
    bad["bias_ih_l1"] = bad.pop("bias_hh_l0")
    bad["weight_ih_l0"] = zeros(20, 4)
    bad["weight_hh_l0"] = zeros(20, 5, dtype=int)
    with pytest.raises(ValueError) as caught:
        layer.load_state_dict({f"rnn.{key}": value for key, value in bad.items()}, "rnn.")
    assert str(caught.value) == (
        "load_state_dict changed nothing: missing 'rnn.bias_hh_l0'; unexpected 'rnn.bias_ih_l1'; "
        "rnn.weight_ih_l0: expected shape (20, 3), got (20, 4); rnn.weight_hh_l0: expected an "
        "array of floating point, got ndarray int64 (20, 5)"
    )
    for name, value in before.items():
        assert np.array_equal(layer.params[name], value)


def test_nothing_is_written_after_an_error(backend: Chosen) -> None:
    """[X2] A stream keeps its state, and `out` keeps its values."""
    stream = lstm().stream(2)
    stream.step(np.ones((2, 3)))
    before = stream.state
    out = np.full((2, 5), 7, F32)
    for x in (zeros(2, 4), zeros(2, 3, dtype=int)):
        with pytest.raises((ValueError, TypeError)):
            stream.step(x, out=out)
    assert (out == 7).all()
    assert all(np.array_equal(a, b) for a, b in zip(before, stream.state, strict=True))


def odd_forms(a: Array) -> dict[str, Array]:
    """The same values in every layout that NumPy has."""
    strided = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    strided[..., ::2] = a
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    unaligned[...] = a
    assert not unaligned.flags.aligned
    return {
        "strided": strided[..., ::2],
        "negative stride": a[..., ::-1].copy()[..., ::-1],
        "Fortran order": np.asfortranarray(a),
        "unaligned": unaligned,
        "read-only": read_only(a.copy()),
        "big-endian": a.astype(a.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize("dtype", [F32, F64])
def test_every_layout_works_by_copy(backend: Chosen, dtype: Any) -> None:
    """[X3] [X4] Every array argument gives the same bits in every layout; none is written."""
    rng = np.random.default_rng(0)
    shapes = {
        "x": (4, 3, 6),
        "w_ih": (20, 6),
        "w_hh": (20, 5),
        "b_ih": (20,),
        "b_hh": (20,),
        "h0": (3, 5),
        "c0": (3, 5),
        "peepholes": (3, 5),
    }
    plain = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    later = {
        "dy": rng.standard_normal((4, 3, 5)).astype(dtype),
        "dh_n": rng.standard_normal((3, 5)).astype(dtype),
        "dc_n": rng.standard_normal((3, 5)).astype(dtype),
    }

    def outcome(arrays: dict[str, Array], gradients: dict[str, Array]) -> list[Array]:
        *outputs, saved = fr.lstm_forward(**arrays, save=True)  # type: ignore[arg-type]
        backend.ran(f"lstm_peephole {np.dtype(dtype)}")
        return [*outputs, *fr.lstm_backward(saved, **gradients)]  # type: ignore[list-item, arg-type]

    right = outcome(plain, later)
    for form in odd_forms(plain["x"]):
        odd = {name: odd_forms(a)[form] for name, a in plain.items()}
        odd_later = {name: odd_forms(a)[form] for name, a in later.items()}
        for found, expected in zip(outcome(odd, odd_later), right, strict=True):
            assert np.array_equal(found, expected), form
        for name, a in (odd | odd_later).items():
            assert np.array_equal(a, (plain | later)[name]), form


def test_layers_take_every_layout_too(backend: Chosen) -> None:
    """[X3] [S7] Layers also take every floating-point dtype, and lists."""
    layer = lstm(dtype=F64)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float16).astype(F64)
    right, _ = layer(x)
    for form, odd in odd_forms(x).items():
        assert np.array_equal(layer(odd)[0], right), form
    for same in (x.tolist(), x.astype(F32), x.astype(np.float16), x.astype(np.longdouble)):
        y, (h, c) = layer(same)
        assert np.array_equal(y, right)
        assert y.dtype == h.dtype == c.dtype == F64
    tokens = np.array([[0, 2], [1, 1]])
    right, _ = layer(tokens=tokens)
    strided = np.repeat(tokens, 2, axis=1)[:, ::2]
    for ids in (tokens.tolist(), tokens.astype(np.uint8), tokens.astype(">i2"), strided):
        assert np.array_equal(layer(tokens=ids)[0], right)
