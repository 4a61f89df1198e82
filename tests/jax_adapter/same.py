"""What the tests of the adapter share: every kind of call, made through `core` and through JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import fusedrnn.jax as fj
from fusedrnn import core

T, B, I, H = 7, 5, 3, 20  # noqa: E741
P = 6


class Case(NamedTuple):
    """A kind of layer: the function with its options, and `core`'s cell."""

    function: Callable[..., Any]
    cell: str
    arguments: dict[str, Any] = {}  # noqa: RUF012
    extra: tuple[str, ...] = ("b_ih", "b_hh")
    options: core.Options | None = None


def _options(*names: Any, clip: float = np.inf, coupled: bool = False) -> core.Options:
    chosen = [core.activation(name, "activations") for name in names]
    f, g, h = (*chosen, chosen[-1], chosen[-1])[:3]
    return core.Options(f, g, h, clip, coupled)


_BIASES = ("b_ih", "b_hh")
_HARD = ("hard_sigmoid", "softsign", ("scaled_tanh", 1.5, 0.5))
CASES: dict[str, Case] = {
    "rnn": Case(fj.rnn, "rnn_tanh"),
    "rnn no bias": Case(fj.rnn, "rnn_tanh", extra=()),
    "rnn relu": Case(fj.rnn, "rnn_relu", {"nonlinearity": "relu"}),
    "rnn sigmoid": Case(fj.rnn, "rnn_sigmoid", {"nonlinearity": "sigmoid"}, ("b_hh",)),
    "rnn identity": Case(fj.rnn, "rnn_identity", {"nonlinearity": "identity"}),
    "rnn leaky": Case(
        fj.rnn,
        "rnn_chosen",
        {"nonlinearity": ("leaky_relu", 0.1), "clip": 0.5},
        options=_options(("leaky_relu", 0.1), clip=0.5),
    ),
    "lstm": Case(fj.lstm, "lstm"),
    "lstm one bias": Case(fj.lstm, "lstm", extra=("b_ih",)),
    "lstm peepholes": Case(fj.lstm, "lstm_peephole", extra=(*_BIASES, "p")),
    "lstm projection": Case(fj.lstm, "lstm", extra=(*_BIASES, "w_hr")),
    "lstm norm": Case(
        fj.lstm, "lstm_norm", extra=(*_BIASES, "norm_ih", "norm_hh", "norm_c", "norm_c_bias")
    ),
    "lstm chosen": Case(
        fj.lstm,
        "lstm_chosen",
        {"activations": _HARD, "clip": 2.0},
        (*_BIASES, "p", "w_hr"),
        _options(*_HARD, clip=2.0),
    ),
    "lstm coupled": Case(
        fj.lstm,
        "lstm_chosen",
        {"coupled": True},
        options=_options("sigmoid", "tanh", "tanh", coupled=True),
    ),
    "gru": Case(fj.gru, "gru"),
    "gru before": Case(fj.gru, "gru_reset_before", {"reset_after": False}),
    "gru before no bias": Case(fj.gru, "gru_reset_before", {"reset_after": False}, ()),
    "gru norm": Case(fj.gru, "gru_norm", extra=(*_BIASES, "norm_ih", "norm_hh")),
    "gru chosen": Case(
        fj.gru,
        "gru_chosen",
        {"activations": ("hard_sigmoid", "elu")},
        options=_options("hard_sigmoid", "elu"),
    ),
    "gru before chosen": Case(
        fj.gru,
        "gru_reset_before_chosen",
        {"activations": ("sigmoid", "softplus"), "reset_after": False},
        options=_options("sigmoid", "softplus"),
    ),
}


class Given(NamedTuple):
    """The arrays of a call in the form of `core`: time-major, states with an axis of directions."""

    x: Any
    sides: list[dict[str, Any]]
    states: tuple[Any, ...] | None
    more: dict[str, Any]


def states_of(case: Case, rng: np.random.Generator, dtype: Any, n: int) -> tuple[Any, ...]:
    widths = [P if "w_hr" in case.extra else H, H][: 1 + (case.function is fj.lstm)]
    return tuple(rng.standard_normal((n, B, width)).astype(dtype) for width in widths)


def weights_of(case: Case, rng: np.random.Generator, dtype: Any) -> dict[str, Any]:
    n = {fj.rnn: 1, fj.lstm: 4, fj.gru: 3}[case.function]
    h = P if "w_hr" in case.extra else H
    shapes = {"w_ih": (n * H, I), "w_hh": (n * H, h), "b_ih": (n * H,), "b_hh": (n * H,)}
    shapes |= {"p": (3, H), "w_hr": (P, H), "norm_ih": (n * H,), "norm_hh": (n * H,)}
    shapes |= {"norm_c": (H,), "norm_c_bias": (H,)}
    names = ("w_ih", "w_hh", *case.extra)
    return {name: (rng.standard_normal(shapes[name]) / 2).astype(dtype) for name in names}


# What a call may have besides x and the weights. NaN in padding must not reach any result.
SEQUENCES = (
    "plain",
    "states",
    "lengths",
    "mask",
    "reset",
    "mask and reset",
    "noise",
    "mask, reset and noise",
)


def given(case: Case, kind: str, directions: int = 1, dtype: Any = np.float32) -> Given:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    sides = [weights_of(case, rng, dtype) for _ in range(directions)]
    states = None if kind == "plain" else states_of(case, rng, dtype, directions)
    more: dict[str, Any] = {}
    if kind == "lengths":
        more["lengths"] = np.array([7, 3, 0, 5, 1])
        x[np.arange(T)[:, None] >= more["lengths"]] = np.nan
    if "mask" in kind:
        more["mask"] = rng.random((T, B)) < 0.6
        x[~more["mask"]] = np.nan
    if "reset" in kind:
        more["reset"] = rng.random((T, B)) < 0.3
        more["initial"] = states_of(case, rng, dtype, directions)
    if "noise" in kind:
        h, *c = states_of(case, rng, dtype, directions)
        more["drop"] = (rng.random(h.shape) < 0.7).astype(dtype) / dtype(0.7)
        widths = [h.shape[2], *(part.shape[2] for part in c)]
        more["zoneout"] = (0.3, 0.2 if c else 0.0)
        more["keep"] = tuple(
            (rng.random((directions, T, B, width)) < 0.3).astype(dtype) for width in widths
        )
    return Given(x, sides, states, more)


def packed(case: Case, of: Given) -> core.Packed:
    return core.pack(
        case.cell, of.sides[0] if len(of.sides) == 1 else of.sides, options=case.options
    )


def _one(case: Case, parts: tuple[Any, ...] | None, n: int) -> Any:
    """States as the functions take them."""
    if parts is None:
        return None
    own = tuple(part if n > 1 else part[0] for part in parts)
    return own if case.function is fj.lstm else own[0]


def call(case: Case, of: Given, x: Any, sides: Any, states: Any, batch_first: bool = False) -> Any:
    """The outputs of the function, in the form of `core`: y, then states (D, B, n)."""
    n = len(of.sides)
    more = dict(of.more)
    if "initial" in more:
        more["initial"] = _one(case, more["initial"], n)
    if "drop" in more:
        more["drop"] = more["drop"] if n > 1 else more["drop"][0]
        keep = tuple(part if n > 1 else part[0] for part in more["keep"])
        more["keep"] = keep if case.function is fj.lstm else keep[0]
    if batch_first:
        x = jnp.swapaxes(x, 0, 1)
        more |= {k: more[k].T for k in ("mask", "reset") if k in more}
        if "keep" in more:
            axis = int(n > 1)
            keep = more["keep"]
            parts = keep if isinstance(keep, tuple) else (keep,)
            parts = tuple(np.swapaxes(part, axis, axis + 1) for part in parts)
            more["keep"] = parts if isinstance(keep, tuple) else parts[0]
    y, last = case.function(
        x,
        sides if n > 1 else sides[0],
        _one(case, states, n),
        batch_first=batch_first,
        **case.arguments,
        **more,
    )
    if batch_first:
        y = jnp.swapaxes(y, 0, 1)
    last = last if isinstance(last, tuple) else (last,)
    return (y, *(part if n > 1 else part[None] for part in last))


def gradients_in(of: Given, outputs: Any) -> list[Any]:
    """Random gradients of the outputs."""
    rng = np.random.default_rng(5)
    return [rng.standard_normal(a.shape).astype(of.x.dtype) for a in outputs]


def equal(found: Any, right: Any, text: str = "") -> None:
    """Assert the same bits, apart from the sign of zero."""
    np.testing.assert_array_equal(np.asarray(found), right, err_msg=text, strict=True)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the kernel calls of all threads; the number stands in the list at the end."""
    before, count = sum(core.path_counts().values()), [0]
    yield count
    count[0] = sum(core.path_counts().values()) - before
