"""rnn, lstm and gru as functions of inputs and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .. import core
from . import _operands
from ._call import Call
from ._mesh import same_axes
from ._operations import forward_p

Array = Any  # the type checker does not read jax
Weights = Mapping[str, Array] | Sequence[Mapping[str, Array]]
ActivationLike = Any  # a name, (name, alpha) or (name, alpha, beta)

# Nonlinearities of an RNN that have a kernel of their own.
_OWN = ("tanh", "relu", "sigmoid", "identity")


def _call(
    cell: str,
    options: core.Options | None,
    x: Array,
    weights: Weights,
    state: Any,
    lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
    initial: Any,
    drop: Array | None,
    keep: Any,
    zoneout: tuple[float, float] | None,
    batch_first: bool,
) -> tuple[Array, Any]:
    of = _operands.rows(x, batch_first)
    arrays, packed = _operands.weights(weights, cell, options, of)
    roles, operands = ["x", *["weight"] * len(arrays)], [of.x, *arrays]

    def add(role: str, *more: Array) -> None:
        roles.extend([role] * len(more))
        operands.extend(more)

    if lengths is not None and mask is not None:
        raise ValueError("expected lengths or mask, got both")
    if initial is not None and reset is None:
        raise ValueError("initial: expected None where reset is not given")
    if keep is not None and zoneout is None:
        raise ValueError("keep: what zoneout drew needs zoneout, its rates")
    if state is not None:
        add("states", *_operands.state(state, "state", packed, of))
    if lengths is not None:
        add("lengths", _operands.lengths(lengths, packed, of))
    if mask is not None:
        add("mask", of.flags(mask, "mask"))
    if reset is not None:
        add("reset", of.flags(reset, "reset"))
    if initial is not None:
        add("initial", *_operands.state(initial, "initial", packed, of))
    if drop is not None:
        add("drop", _operands.factors(drop, packed, of))
    if keep is not None:
        add("keep", *_operands.keep(keep, packed, of))
    call = Call(
        cell,
        options,
        packed.names,
        packed.directions,
        of.batch_first,
        None if zoneout is None else _operands.rates(zoneout, packed),
        tuple(roles),
    )
    y, *last = forward_p.bind(*same_axes(operands), call=call, save=False)
    if not of.batched:
        y, last = y[0], [a[:, 0] for a in last]
    if packed.directions == 1:
        last = [a[0] for a in last]
    return y, tuple(last) if len(last) > 1 else last[0]


def _clip(value: Any) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"clip: expected None or a number above 0, got {_operands.describe(value)}")
    if not value > 0:
        raise ValueError(f"clip: expected None or a number above 0, got {value}")
    return float(value)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {_operands.describe(value)}")
    return value


def _has(weights: Any, name: str) -> bool:
    """Whether the weights of every direction have this name; other faults are found later."""
    sides = [weights] if isinstance(weights, Mapping) else weights
    return isinstance(sides, Sequence) and any(
        isinstance(one, Mapping) and one.get(name) is not None for one in sides
    )


def _gated(
    cell: str,
    weights: Any,
    activations: Sequence[ActivationLike] | None,
    usual: tuple[str, ...],
    clip: float | None,
    coupled: bool = False,
) -> tuple[str, core.Options | None]:
    """Return the cell of an LSTM or GRU, and its options if it takes any."""
    given = usual if activations is None else activations
    if not isinstance(given, tuple | list) or len(given) != len(usual):
        came = len(given) if isinstance(given, tuple | list) else _operands.describe(given)
        raise TypeError(
            f"activations: expected {len(usual)} activations, as {usual} by default, got {came}"
        )
    chosen = tuple(core.activation(one, "activations") for one in given)
    bound = _clip(clip)
    plain = chosen == tuple(core.activation(one, "activations") for one in usual)
    plain = plain and bound == math.inf and not coupled
    if _has(weights, "norm_ih"):
        if not plain or cell.endswith("before"):
            raise ValueError(
                "weights: layer normalisation (norm_ih) cannot be combined with activations, "
                "clip, coupled or reset_after=False"
            )
        return f"{cell}_norm", None
    if plain:
        return cell, None
    f, g, h = (*chosen, chosen[-1])[:3]
    return f"{cell}_chosen", core.Options(f, g, h, bound, coupled)


def rnn(
    x: Array,
    weights: Weights,
    state: Array | None = None,
    *,
    nonlinearity: ActivationLike = "tanh",
    clip: float | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: Array | None = None,
    drop: Array | None = None,
    keep: Array | None = None,
    zoneout: tuple[float, float] | None = None,
    batch_first: bool = False,
) -> tuple[Array, Array]:
    """Run an Elman RNN, h' = f(W_ih x + b_ih + W_hh h + b_hh), on fused kernels.

    A function of arrays for jit, grad, vmap, scan and shard_map. Sizes: T steps, B sequences, I
    inputs, H units. All arrays of numbers are float32, or all float64.

    Parameters
    ----------
    x : array, shape (T, B, I)
        Input; (B, T, I) with `batch_first`, or (T, I) for one sequence.
    weights : mapping of str to array, or a pair of them
        "w_ih" (H, I), "w_hh" (H, H) and, each optional, "b_ih" and "b_hh" (H,). A pair is the
        forward and the reverse direction of a bidirectional layer.
    state : array, shape (B, H), optional
        First h; (2, B, H) for two directions, without B if x has none. Zeros if not given.
    nonlinearity : str or tuple
        "tanh", "relu", "sigmoid", "identity", or another activation that ``fusedrnn.RNN`` takes: a
        name, (name, alpha) or (name, alpha, beta).
    clip : float, optional
        Clips the input of the activation to [-clip, clip].
    lengths : array of int, shape (B,), optional
        Real steps of each sequence; the others are not executed, and y is 0 there.
    mask : array of bool, shape as x without its last axis, optional
        True at real steps; a masked step passes the state through, and y is 0 there.
    reset : array of bool, shape as `mask`, optional
        True at t cuts the link between the steps t-1 and t.
    initial : as `state`, optional
        The state after a cut link; zeros if not given. Needs `reset`.
    drop : array, shape of a state, optional
        Recurrent dropout: factors on what w_hh multiplies, the same at all steps.
    keep : array, shape of y with one direction, (2, ...) for two, optional
        The masks of zoneout, 1 to keep the old value; without it a call uses the expectation.
    zoneout : (float, float), optional
        Rates at which units of h, and of c, keep their old value.
    batch_first : bool
        Whether B is the first axis of x, y, mask, reset and keep.

    Returns
    -------
    y : array, shape (T, B, D*H)
        h after each step, the directions side by side; in the layout of x.
    h_n : array
        The last h, of the shape of `state`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; the text names it. What depends on values that are not known
        while JAX traces is raised when the call runs, by JAX, with the same text.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fusedrnn.jax import rnn
    >>> weights = {"w_ih": jnp.eye(2), "w_hh": jnp.eye(2)}
    >>> y, h_n = rnn(jnp.ones((3, 2)), weights, nonlinearity="identity")
    >>> y[:, 0].tolist(), h_n.tolist()
    ([1.0, 2.0, 3.0], [3.0, 3.0])
    """
    bound = _clip(clip)
    if bound == math.inf and isinstance(nonlinearity, str) and nonlinearity in _OWN:
        cell, options = f"rnn_{nonlinearity}", None
    else:
        f = core.activation(nonlinearity, "nonlinearity")
        cell, options = "rnn_chosen", core.Options(f, f, f, bound)
    return _call(
        cell,
        options,
        x,
        weights,
        state,
        lengths,
        mask,
        reset,
        initial,
        drop,
        keep,
        zoneout,
        batch_first,
    )


def lstm(
    x: Array,
    weights: Weights,
    state: tuple[Array, Array] | None = None,
    *,
    activations: Sequence[ActivationLike] | None = None,
    clip: float | None = None,
    coupled: bool = False,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: tuple[Array, Array] | None = None,
    drop: Array | None = None,
    keep: tuple[Array, Array] | None = None,
    zoneout: tuple[float, float] | None = None,
    batch_first: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """Run an LSTM on fused kernels.

    A function of arrays for jit, grad, vmap, scan and shard_map. Sizes: T steps, B sequences, I
    inputs, H units, P outputs (H without a projection). All arrays of numbers are float32, or all
    float64.

    Parameters
    ----------
    x : array, shape (T, B, I)
        Input; (B, T, I) with `batch_first`, or (T, I) for one sequence.
    weights : mapping of str to array, or a pair of them
        "w_ih" (4*H, I), "w_hh" (4*H, P) and, each optional, "b_ih" and "b_hh" (4*H,), rows
        gate-major, gates i f g o. "p" (3, H) adds peepholes of i, f and o. "w_hr" (P, H) adds a
        projection. "norm_ih" and "norm_hh" (4*H,), "norm_c" and, optional, "norm_c_bias" (H,) add
        layer normalisation. A pair is the forward and the reverse direction.
    state : pair of arrays, shapes (B, P) and (B, H), optional
        First h and c; (2, B, ...) for two directions, without B if x has none. Zeros if not given.
    activations : sequence of three, optional
        Those of the gates, of g, and of c' on the output path; as for ``fusedrnn.LSTM``.
    clip : float, optional
        Clips the input of every activation to [-clip, clip].
    coupled : bool
        Whether the forget gate is 1 - i.
    lengths, mask, reset, initial, drop, keep, zoneout, batch_first
        As for `rnn`; `initial` and `keep` are pairs.

    Returns
    -------
    y : array, shape (T, B, D*P)
        h after each step, the directions side by side; in the layout of x.
    (h_n, c_n) : pair of arrays
        The last states, of the shapes of `state`.

    Raises
    ------
    TypeError, ValueError
        As for `rnn`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from fusedrnn.jax import lstm
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> x = jax.random.normal(keys[0], (5, 2, 3))
    >>> weights = {
    ...     "w_ih": jax.random.normal(keys[1], (16, 3)),
    ...     "w_hh": jax.random.normal(keys[2], (16, 4)),
    ... }
    >>> def loss(weights):
    ...     y, (h_n, c_n) = lstm(x, weights)
    ...     return (y**2).sum()
    >>> gradients = jax.jit(jax.grad(loss))(weights)
    >>> gradients["w_hh"].shape
    (16, 4)
    """
    usual = ("sigmoid", "tanh", "tanh")
    cell, options = _gated("lstm", weights, activations, usual, clip, _flag(coupled, "coupled"))
    if options is None and _has(weights, "p"):
        cell = "lstm_peephole"
    return _call(
        cell,
        options,
        x,
        weights,
        state,
        lengths,
        mask,
        reset,
        initial,
        drop,
        keep,
        zoneout,
        batch_first,
    )


def gru(
    x: Array,
    weights: Weights,
    state: Array | None = None,
    *,
    reset_after: bool = True,
    activations: Sequence[ActivationLike] | None = None,
    clip: float | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: Array | None = None,
    drop: Array | None = None,
    keep: Array | None = None,
    zoneout: tuple[float, float] | None = None,
    batch_first: bool = False,
) -> tuple[Array, Array]:
    """Run a GRU on fused kernels.

    A function of arrays for jit, grad, vmap, scan and shard_map. Sizes: T steps, B sequences, I
    inputs, H units. All arrays of numbers are float32, or all float64.

    Parameters
    ----------
    x : array, shape (T, B, I)
        Input; (B, T, I) with `batch_first`, or (T, I) for one sequence.
    weights : mapping of str to array, or a pair of them
        "w_ih" (3*H, I), "w_hh" (3*H, H) and, each optional, "b_ih" and "b_hh" (3*H,), rows
        gate-major, gates r z n. "norm_ih" and "norm_hh" (3*H,) add layer normalisation. A pair is
        the forward and the reverse direction.
    state : array, shape (B, H), optional
        First h; (2, B, H) for two directions, without B if x has none. Zeros if not given.
    reset_after : bool
        Whether r multiplies W_hn h + b_hn, as in PyTorch, or h before the product.
    activations : sequence of two, optional
        Those of the gates and of n; as for ``fusedrnn.GRU``.
    clip : float, optional
        Clips the input of every activation to [-clip, clip].
    lengths, mask, reset, initial, drop, keep, zoneout, batch_first
        As for `rnn`.

    Returns
    -------
    y : array, shape (T, B, D*H)
        h after each step, the directions side by side; in the layout of x.
    h_n : array
        The last h, of the shape of `state`.

    Raises
    ------
    TypeError, ValueError
        As for `rnn`.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from fusedrnn.jax import gru
    >>> weights = {"w_ih": jnp.ones((12, 3)), "w_hh": jnp.ones((12, 4))}
    >>> x = jnp.ones((6, 5, 3))  # six sequences, each of five steps
    >>> y, h_n = jax.vmap(gru, in_axes=(0, None))(x, weights)  # one call of the kernels
    >>> y.shape, h_n.shape
    ((6, 5, 4), (6, 4))
    """
    name = "gru" if _flag(reset_after, "reset_after") else "gru_reset_before"
    cell, options = _gated(name, weights, activations, ("sigmoid", "tanh"), clip)
    return _call(
        cell,
        options,
        x,
        weights,
        state,
        lengths,
        mask,
        reset,
        initial,
        drop,
        keep,
        zoneout,
        batch_first,
    )
