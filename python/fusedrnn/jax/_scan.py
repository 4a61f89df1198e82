"""The operations as ``lax.scan``: for other platforms than the CPU, and for higher derivatives.

Every cell and option of the kernels, from the equations of docs/conventions.md; results differ from
the kernels' by rounding only. Each function has the operands and results of an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .. import core
from . import _call
from ._call import Call
from ._mesh import same_axes

Array = Any  # the type checker does not read jax

# --- activations ----------------------------------------------------------------------------------

# By the names of `core.Activation`: functions of x, alpha and beta. Their slopes at corners are
# those of the kernels.
ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "relu": lambda x, a, b: jax.nn.relu(x),
    "tanh": lambda x, a, b: jnp.tanh(x),
    "sigmoid": lambda x, a, b: jax.nn.sigmoid(x),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: jnp.where(x > 0, x, a * x),
    "thresholded_relu": lambda x, a, b: jnp.where(x < a, 0.0, x),
    "scaled_tanh": lambda x, a, b: a * jnp.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: jnp.where(
        a * x + b <= 0, 0.0, jnp.where(a * x + b >= 1, 1.0, a * x + b)
    ),
    "elu": lambda x, a, b: jnp.where(x < 0, a * jnp.expm1(jnp.minimum(x, 0.0)), x),
    "softsign": lambda x, a, b: x / (1 + jnp.abs(x)),
    "softplus": lambda x, a, b: jax.nn.softplus(x),
}


def _function(of: core.Activation, clip: float) -> Callable[[Array], Array]:
    apply = ACTIVATIONS[of.name]

    def activate(x: Array) -> Array:
        if clip != float("inf"):  # the slope at the bound itself is 1; that of jnp.clip is 0.5
            x = jnp.where(x > clip, clip, jnp.where(x < -clip, -clip, x))
        return apply(x, of.alpha, of.beta).astype(x.dtype)

    return activate


class _By(NamedTuple):
    """The activations of gates, of the candidate, and of c' on the output path."""

    f: Callable[[Array], Array]
    g: Callable[[Array], Array]
    h: Callable[[Array], Array]
    coupled: bool = False


def _by(options: core.Options) -> _By:
    f, g, h = (_function(of, options.clip) for of in (options.f, options.g, options.h))
    return _By(f, g, h, options.coupled)


def _fixed(f: str, g: str = "tanh") -> _By:
    gate, candidate = (core.activation(name, "activations") for name in (f, g))
    return _by(core.Options(gate, candidate, candidate))


# --- cells ----------------------------------------------------------------------------------------

Weights = dict[str, Array]
States = tuple[Array, ...]
EPSILON = 1e-5


def _normalised(a: Array) -> Array:
    d = a - a.mean(axis=-1, keepdims=True)
    return d * lax.rsqrt((d * d).mean(axis=-1, keepdims=True) + EPSILON)


def _pre(w: Weights, side: str, v: Array, gates: int) -> Array:
    """Return W x + b, or R h + b, by gate: (..., n, H); normalised if the cell is."""
    a = v @ w[f"w_{side}"].T
    a = a.reshape(*a.shape[:-1], gates, -1)
    if f"norm_{side}" in w:
        a = w[f"norm_{side}"].reshape(gates, -1) * _normalised(a)
    bias = w.get(f"b_{side}")
    return a if bias is None else a + bias.reshape(gates, -1)


def _rnn(w: Weights, by: _By, ax: Array, u: Array, s: States) -> States:
    return (by.f(ax + _pre(w, "hh", u, 1))[:, 0],)


def _lstm(w: Weights, by: _By, ax: Array, u: Array, s: States) -> States:
    a, c, p = ax + _pre(w, "hh", u, 4), s[1], w.get("p")
    a_i, a_f, a_g, a_o = (a[:, k] for k in range(4))
    if p is not None:
        a_i, a_f = a_i + p[0] * c, a_f + p[1] * c
    i = by.f(a_i)
    c = (1 - i if by.coupled else by.f(a_f)) * c + i * by.g(a_g)
    o = by.f(a_o if p is None else a_o + p[2] * c)
    if "norm_c" in w:
        return o * by.h(w["norm_c"] * _normalised(c) + w.get("norm_c_bias", 0)), c
    return o * by.h(c), c


def _gru(w: Weights, by: _By, ax: Array, u: Array, s: States) -> States:
    ah = _pre(w, "hh", u, 3)
    r, z = by.f(ax[:, 0] + ah[:, 0]), by.f(ax[:, 1] + ah[:, 1])
    n = by.g(ax[:, 2] + r * ah[:, 2])
    return (z * (s[0] - n) + n,)


def _gru_before(w: Weights, by: _By, ax: Array, u: Array, s: States) -> States:
    size = w["w_hh"].shape[1]
    first = {name: a[: 2 * size] for name, a in w.items() if name.endswith("hh")}
    late = {name: a[2 * size :] for name, a in w.items() if name.endswith("hh")}
    ah = _pre(first, "hh", u, 2)
    r, z = by.f(ax[:, 0] + ah[:, 0]), by.f(ax[:, 1] + ah[:, 1])
    n = by.g(ax[:, 2] + _pre(late, "hh", r * u, 1)[:, 0])
    return (z * (s[0] - n) + n,)


class _Cell(NamedTuple):
    step: Callable[[Weights, _By, Array, Array, States], States]
    gates: int
    by: _By | None = None  # None: chosen by options


_GATED = _fixed("sigmoid")
CELLS: dict[str, _Cell] = {
    "rnn_tanh": _Cell(_rnn, 1, _fixed("tanh")),
    "rnn_relu": _Cell(_rnn, 1, _fixed("relu")),
    "rnn_sigmoid": _Cell(_rnn, 1, _fixed("sigmoid")),
    "rnn_identity": _Cell(_rnn, 1, _fixed("identity")),
    "rnn_chosen": _Cell(_rnn, 1),
    "lstm": _Cell(_lstm, 4, _GATED),
    "lstm_peephole": _Cell(_lstm, 4, _GATED),
    "lstm_norm": _Cell(_lstm, 4, _GATED),
    "lstm_chosen": _Cell(_lstm, 4),
    "gru": _Cell(_gru, 3, _GATED),
    "gru_norm": _Cell(_gru, 3, _GATED),
    "gru_chosen": _Cell(_gru, 3),
    "gru_reset_before": _Cell(_gru_before, 3, _GATED),
    "gru_reset_before_chosen": _Cell(_gru_before, 3),
}


# --- a layer --------------------------------------------------------------------------------------


class _Given:
    """The operands of a call by role, time-major."""

    def __init__(self, call: Call, operands: Sequence[Array]) -> None:
        self._call, self._operands = call, operands

    def several(self, role: str) -> list[Array]:
        return [self._operands[k] for k in self._call.at(role)]

    def one(self, role: str) -> Array | None:
        found = self.several(role)
        return found[0] if found else None

    def by_time(self, role: str) -> Array:
        a = self.one(role)
        return a if a is None or not self._call.batch_first else a.swapaxes(0, 1)


def _direction(call: Call, given: _Given, w: Weights, d: int) -> tuple[Array, States]:
    x = given.by_time("x")
    steps, batch = x.shape[:2]
    times = jnp.arange(steps)[:, None]
    lengths, valid, cut = given.one("lengths"), given.by_time("mask"), given.by_time("reset")
    if lengths is not None:
        valid = times < lengths
        cut = None if cut is None else cut & valid
    if valid is not None:
        x = jnp.where(valid[..., None], x, 0)  # padding may be NaN
    if cut is not None and d:  # the link from t to t - 1 leads into t - 1
        cut = jnp.concatenate((cut[1:], jnp.zeros_like(cut[:1])))
    cell = CELLS[call.cell]
    by = cell.by
    if by is None:
        assert call.options is not None
        by = _by(call.options)
    hidden = w["w_ih"].shape[0] // cell.gates
    widths = (w["w_hh"].shape[1], hidden)[: 1 + (cell.step is _lstm)]
    _, *zeros = same_axes([x, *(jnp.zeros((batch, width), x.dtype) for width in widths)])
    first = tuple(a[d] for a in given.several("states")) or tuple(zeros)
    initial = tuple(a[d] for a in given.several("initial")) or tuple(zeros)
    drop, keep = given.one("drop"), given.several("keep")

    def step(s: States, now: tuple[Array, ...]) -> tuple[States, Array]:
        ax, live, fresh_start, kept = now
        if fresh_start is not None:
            s = tuple(
                jnp.where(fresh_start[:, None], new, old)
                for new, old in zip(initial, s, strict=True)
            )
        u = s[0] if drop is None else s[0] * drop[d]
        m, *rest = cell.step(w, by, ax, u, s)
        after = (m @ w["w_hr"].T if "w_hr" in w else m, *rest)
        if call.zoneout is not None:
            after = tuple(
                _zoned(call.zoneout[k], kept[k] if kept else None, new, old)
                for k, (new, old) in enumerate(zip(after, s, strict=True))
            )
        y = after[0]
        if live is not None:
            after = tuple(
                jnp.where(live[:, None], new, old) for new, old in zip(after, s, strict=True)
            )
            y = jnp.where(live[:, None], y, 0)
        return after, y

    over = (_pre(w, "ih", x, cell.gates), valid, cut, tuple(a[d] for a in keep))
    last, y = lax.scan(step, first, over, reverse=bool(d))
    return y, last


def _zoned(rate: float, keep: Array | None, fresh: Array, old: Array) -> Array:
    if rate == 0:
        return fresh
    return fresh + rate * (old - fresh) if keep is None else jnp.where(keep > 0, old, fresh)


def _run(operands: Sequence[Array], call: Call) -> list[Array]:
    """Return y and the last states."""
    given, n = _Given(call, operands), len(call.names)
    weights = given.several("weight")
    sides = [
        _direction(call, given, dict(zip(call.names, weights[d * n : d * n + n], strict=True)), d)
        for d in range(call.directions)
    ]
    y = jnp.concatenate([y for y, _ in sides], axis=-1)
    states = [jnp.stack(parts) for parts in zip(*(last for _, last in sides), strict=True)]
    return [y.swapaxes(0, 1) if call.batch_first else y, *states]


# --- the operations -------------------------------------------------------------------------------


def _for_each_member(
    run: Callable[..., list[Array]], call: Call, operands: Sequence[Array], extra: Sequence[int]
) -> list[Array]:
    """Map `run` over the members; the operands after those of `call` belong to those in `extra`."""
    axes = [0 if call.mapped[k] else None for k in (*range(len(call.roles)), *extra)]
    alone = partial(run, call=call._replace(members=None, mapped=()))
    return list(jax.vmap(alone, in_axes=axes, axis_size=call.members)(*operands))


def moving(
    run: Callable[[list[Array]], list[Array]], operands: Sequence[Array], places: Sequence[int]
) -> Callable[..., list[Array]]:
    """Return `run` as a function of the operands at these places, the others being fixed."""

    def of_moving(*values: Array) -> list[Array]:
        every = list(operands)
        for k, value in zip(places, values, strict=True):
            every[k] = value
        return run(every)

    return of_moving


def _without_results(call: Call, operands: Sequence[Array]) -> tuple[Call, list[Array]]:
    """Return what the forward call was given, without what it returned."""
    derived = ("y", *_call.residual_roles(call), "dy", "dstate 0", "dstate 1")
    kept = [k for k, role in enumerate(call.roles) if role not in derived]
    return call._replace(roles=tuple(call.roles[k] for k in kept)), [operands[k] for k in kept]


def forward(*operands: Array, call: Call, save: bool) -> list[Array]:
    """Return y and the last states; what the kernels would save is zeros, and nobody reads it."""
    if call.members is not None:
        return _for_each_member(partial(forward, save=save), call, operands, ())
    found = _run(operands, call)
    if save:
        found += [jnp.zeros(one.shape, one.dtype) for one in _call.residuals(call, operands)]
    return found


def tangent(*operands: Array, call: Call, wrt: tuple[int, ...]) -> list[Array]:
    """Return the tangents of y and of the last states, from those of the operands `wrt`."""
    if call.members is not None:
        return _for_each_member(partial(tangent, wrt=wrt), call, operands, wrt)
    own, given = _without_results(call, operands[: len(call.roles)])
    of_moving = moving(partial(_run, call=own), given, wrt)
    return list(jax.jvp(of_moving, tuple(given[k] for k in wrt), operands[len(call.roles) :])[1])


def backward(*operands: Array, call: Call, wrt: tuple[int, ...]) -> list[Array]:
    """Return the gradients of the operands `wrt`, from those of y and of the last states."""
    if call.members is not None:
        return _for_each_member(partial(backward, wrt=wrt), call, operands, ())
    own, given = _without_results(call, operands)
    of_moving = moving(partial(_run, call=own), given, wrt)
    results, pull = jax.vjp(of_moving, *(given[k] for k in wrt))
    arrived = _Given(call, operands)
    roles = ("dy", *(f"dstate {k}" for k in range(len(results) - 1)))
    return list(
        pull(
            [
                jnp.zeros_like(a) if (d := arrived.one(role)) is None else d
                for role, a in zip(roles, results, strict=True)
            ]
        )
    )
