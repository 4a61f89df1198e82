"""Errors name the argument, what came and what was expected: while JAX traces if they can."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fusedrnn.jax as fj
from fusedrnn import core
from fusedrnn.jax import _foreign_call, _kernels

X = np.ones((4, 2, 3), np.float32)
W = {"w_ih": np.ones((8, 3), np.float32), "w_hh": np.ones((8, 2), np.float32)}
R = {"w_ih": np.ones((2, 3), np.float32), "w_hh": np.ones((2, 2), np.float32)}
S = (np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
FLAGS = np.ones((4, 2), bool)


def lstm(x: Any = X, w: Any = W, *arguments: Any, **options: Any) -> Any:
    return lambda: fj.lstm(x, w, *arguments, **options)


def rnn(*arguments: Any, x: Any = X, w: Any = R, **options: Any) -> Any:
    return lambda: fj.rnn(x, w, *arguments, **options)


def half(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(np.float16), tree)


V = W["w_ih"][:, 0]
CASES: dict[str, tuple[Any, Any]] = {
    # x
    "x: expected float32 or float64, got an array bool (4, 2, 3)": (lstm(X > 0), TypeError),
    "x: expected float32 or float64, got an array float16 (4, 2, 3)": (lstm(half(X)), TypeError),
    "x: JAX cannot read it: ": (lstm("x"), TypeError),
    "x: expected shape (T, B, I) or (T, I), got (3,)": (lstm(X[0, 0]), ValueError),
    "x: expected shape (B, T, I) or (T, I), got (3,)": (
        lstm(X[0, 0], batch_first=True),
        ValueError,
    ),
    "x: expected 3 inputs, the columns of w_ih, in its last axis; got shape (4, 2, 2)": (
        lstm(X[..., :2]),
        ValueError,
    ),
    "in its last axis; got shape (4, 2)": (lstm(X[:, 0, :2]), ValueError),
    "batch_first: expected True or False, got int": (lstm(batch_first=1), TypeError),
    # weights
    "weights: expected a mapping of names to arrays, or a pair of them for two directions, "
    "got list": (lstm(X, [W]), TypeError),
    "for two directions, got an array float32 (4, 2, 3)": (lstm(X, X), TypeError),
    "weights: lstm has w_ih, w_hh, b_ih, b_hh; got b": (lstm(X, {**W, "b": X}), ValueError),
    "weights['w_hh']: expected an array (8, 2), got NoneType": (
        lstm(X, {"w_ih": W["w_ih"]}),
        TypeError,
    ),
    "weights['w_hh']: expected shape (8, 2), got (2, 3)": (
        lstm(X, {**W, "w_hh": X[0]}),
        ValueError,
    ),
    "weights[1]['w_hh']: expected shape (8, 2), got (2, 3)": (
        lstm(X, (W, {**W, "w_hh": X[0]})),
        ValueError,
    ),
    "weights: both directions must have the same names": (
        lstm(X, (W, {**W, "b_ih": V})),
        ValueError,
    ),
    "weights['w_hh']: expected float32, as x is, got an array float16 (8, 2)": (
        lstm(X, {**W, "w_hh": half(W["w_hh"])}),
        TypeError,
    ),
    "weights['w_ih']: expected an array (3*H, I), got ndarray float32 (2, 3)": (
        lambda: fj.gru(X, R),
        ValueError,
    ),
    # states
    "state: expected a pair (h, c), got an array float32 (2, 2)": (lstm(X, W, S[0]), TypeError),
    "state[1]: expected shape (2, 2), got (4, 2, 3)": (lstm(X, W, (S[0], X)), ValueError),
    "state[0]: expected shape (2, 2, 2), got (2, 2)": (lstm(X, (W, W), S), ValueError),
    "state[0]: expected float32, as x is, got an array float16 (2, 2)": (
        lstm(X, W, half(S)),
        TypeError,
    ),
    "state: expected shape (2, 2), got (4, 2, 3)": (rnn(X), ValueError),
    # sequences
    "lengths: expected shape (), got (1,)": (rnn(x=X[:, 0], lengths=[4]), ValueError),
    "lengths: expected numbers in [0, 4], got 5 at 1": (lstm(lengths=[4, 5]), ValueError),
    "lengths: expected shape (2,), got (1,)": (lstm(lengths=[4]), ValueError),
    "lengths: expected integers, got an array float": (lstm(lengths=[4.0, 2.0]), TypeError),
    "expected lengths or mask, got both": (lstm(lengths=[4, 2], mask=FLAGS), ValueError),
    "mask: expected shape (4, 2), got (2, 4)": (lstm(mask=FLAGS.T), ValueError),
    "mask: expected shape (4, 2), got (2,)": (lstm(mask=FLAGS[0], batch_first=True), ValueError),
    "mask: expected an array of bool, got an array float32 (4, 2)": (
        lstm(mask=X[..., 0]),
        TypeError,
    ),
    "reset: expected shape (4, 2), got (2,)": (lstm(reset=FLAGS[0]), ValueError),
    "initial: expected None where reset is not given": (lstm(initial=S), ValueError),
    "initial: expected a pair (h, c), got tuple": (lstm(initial=S[:1], reset=FLAGS), TypeError),
    # noise
    "drop: expected shape (2, 2), got (2,)": (lstm(drop=S[0][0]), ValueError),
    "keep: what zoneout drew needs zoneout, its rates": (lstm(keep=S), ValueError),
    "keep[0]: expected shape (4, 2, 2), got (2, 2)": (lstm(keep=S, zoneout=(0.1, 0.1)), ValueError),
    "keep: expected a pair (of h, of c), got an array": (lstm(keep=X, zoneout=(0.1, 0)), TypeError),
    "zoneout: expected the rates of h and c, got float": (lstm(zoneout=0.1), TypeError),
    "zoneout: expected a number in [0, 1), got 1.0": (lstm(zoneout=(0.1, 1.0)), ValueError),
    "zoneout: expected a number in [0, 1), got str": (lstm(zoneout=(0.1, "a")), TypeError),
    "zoneout: rnn_tanh has no c; expected 0 as its rate, got 0.1": (
        rnn(zoneout=(0.1, 0.1)),
        ValueError,
    ),
    # options
    "nonlinearity: expected one of": (rnn(nonlinearity="swish"), ValueError),
    "clip: expected None or a number above 0, got 0": (rnn(clip=0), ValueError),
    "clip: expected None or a number above 0, got str": (rnn(clip="a"), TypeError),
    "expected 3 activations, as ('sigmoid', 'tanh', 'tanh') by default, got 1": (
        lstm(activations=("tanh",)),
        TypeError,
    ),
    "activations, as ('sigmoid', 'tanh', 'tanh') by default, got str": (
        lstm(activations="tanh"),
        TypeError,
    ),
    "coupled: expected True or False, got int": (lstm(coupled=1), TypeError),
    "reset_after: expected True or False, got int": (
        lambda: fj.gru(X, R, reset_after=0),
        TypeError,
    ),
    "weights: layer normalisation (norm_ih) cannot be combined with": (
        lstm(X, {**W, "norm_ih": V}, coupled=True),
        ValueError,
    ),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("text", CASES)
def test_wrong_arguments(text: str, traced: bool) -> None:
    run, error = CASES[text]
    with pytest.raises(error, match=re.escape(text)):
        jax.jit(run)() if traced else run()


# JAX raises a ValueError or an error of its own, depending on whether it waits for the call.
RAISED = (jax.errors.JaxRuntimeError, ValueError)


def test_values_that_are_known_only_when_the_call_runs() -> None:
    f = jax.jit(lambda n: fj.lstm(X, W, lengths=n)[0])
    assert f(np.array([4, 2])).shape == (4, 2, 2)
    with pytest.raises(RAISED, match=r"ValueError: lengths: expected .*\[0, 4\], got 5 at 1"):
        f(np.array([4, 5])).block_until_ready()
    assert f(np.array([4, 2])).shape == (4, 2, 2)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError, "INVALID_ARGUMENT"), (MemoryError, "RESOURCE_EXHAUSTED"), (KeyError, "INTERNAL")],
)
def test_errors_of_a_call_reach_the_caller(
    error: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error("ünusual words")

    f = jax.jit(lambda x: fj.lstm(x, W)[0])
    monkeypatch.setattr(core, "forward", fail)
    with pytest.raises(RAISED, match=f"{code}: {error.__name__}: .*ünusual"):
        f(X).block_until_ready()
    monkeypatch.undo()
    assert np.all(np.isfinite(f(X)))
    assert _kernels._running == 0


def test_lengths_of_every_integer_type() -> None:
    right = fj.lstm(X, W, lengths=np.array([4, 2]))[0]
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        f = jax.jit(lambda n: fj.lstm(X, W, lengths=n)[0])
        assert np.array_equal(f(jnp.asarray([4, 2], dtype)), right), dtype


def test_another_version_of_the_interface(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    major, minor = _foreign_call.api_version()
    assert (major, minor >= 0) == (0, True)
    header = tmp_path / "xla/ffi/api/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define XLA_FFI_API_MAJOR 1\n#define XLA_FFI_API_MINOR 7\n")
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    with pytest.raises(ImportError, match=r"version 0 .* jaxlib \S+ has 1\.7"):
        _foreign_call.api_version()


def test_inputs_are_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = core.forward

    def spy(packed: Any, x: Any, **options: Any) -> Any:
        seen.append((x.flags.writeable, options["y"].flags.writeable))
        return real(packed, x, **options)

    monkeypatch.setattr(core, "forward", spy)
    fj.lstm(X, W)[0].block_until_ready()
    assert seen == [(False, True)]
