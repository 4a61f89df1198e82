"""The gradient of a loss with respect to the state at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import activation
from ..layers import LSTM, RNN
from . import _checks
from ._pieces import Walk, Walked, as_state, first_state, turned, walk

Array = NDArray[Any]
NORM_EPSILON = 1e-5  # of layer normalisation (docs/conventions.md, Y1)


class GradientNorms(NamedTuple):
    """Norms of the gradient of a loss with respect to the states of a call.

    Attributes
    ----------
    h : ndarray of float64, shape (L*D, T, B)
        The Euclidean norm, over the units, of dL/dh_t; NaN at steps that are not real.
    c : ndarray of float64, shape (L*D, T, B), or None
        That of dL/dc_t for an LSTM.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> lstm, x = fr.LSTM(2, 8, seed=0), np.ones((30, 4, 2), np.float32)
    >>> norms = fr.inspect.gradient_norms(lstm, x, dy=np.ones((30, 4, 8)))
    >>> norms.h.shape, norms.c.shape
    ((1, 30, 4), (1, 30, 4))
    """

    h: Array
    c: Array | None


def gradient_norms(
    layer: Any,
    x: ArrayLike | None = None,
    dy: Any = None,
    *,
    dstate: Any = None,
    tokens: ArrayLike | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
) -> GradientNorms:
    """Measure the gradient of a loss with respect to the state after every step.

    If the norms fall from the last step to the first, the gradient vanishes and the layer cannot
    learn from its early inputs; if they rise on that way, it explodes. They are total derivatives:
    they count every way from h_t, or c_t, to the loss, through later steps and through the layers
    above. Dropout and other noise are off.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Any stack, with one direction or two.
    x : array_like, shape (T, B, I) or (T, I)
        Input, as the layer takes it ((B, T, I) with ``batch_first``).
    dy : array_like, or function
        The gradient of the loss with respect to y, shaped as y, or a `Loss` of `fusedrnn.nn` over
        the whole y; or a function of y that returns one of these.
    dstate : shaped as the state, optional
        The gradient of the last state: of a loss that reads h_n.
    tokens, state, lengths : optional
        As the layer takes them.

    Returns
    -------
    GradientNorms
        Named tuple (h, c) of arrays (L*D, T, B), or (L*D, T) without a batch axis. In a reverse
        direction, whose last step is step 0, the gradient vanishes towards step T-1.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; or `layer` has peepholes together with clip or with gate
        activations other than sigmoid, where dL/dc_t does not follow from public values.

    Notes
    -----
    Every piece of the stack goes back one step at a time through its own `backward`, which carries
    the gradient of the state. dL/dh_t is this carried gradient plus that of y at step t. dL/dc_t
    adds what h_t = o tanh(c_t) passes on: dL/dh_t o (1 - tanh(c_t)^2). With zoneout, c_t is the
    cell state before the mean with the old one.

    Sources: S. Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, diploma thesis, TU
    Munich 1991; R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent
    neural networks, ICML 2013, equations 3 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rnn = fr.RNN(2, 8, seed=0)
    >>> x = np.random.default_rng(0).standard_normal((30, 2))
    >>> norms = fr.inspect.gradient_norms(rnn, x, dstate=np.ones((1, 8)))  # loss: sum of h_n
    >>> norms.h.shape
    (1, 30)
    >>> bool(norms.h[0, 0] < 1e-3 * norms.h[0, -1])  # the gradient vanishes
    True
    """
    _checks.layer(layer)
    if isinstance(layer, LSTM):
        _checks.peepholes(layer)
    _checks.some_gradient(dy, dstate)
    run = walk(layer, x, tokens=tokens, state=state, lengths=lengths)
    if callable(dy):
        dy = dy(run.y)
        _checks.returned_gradient(dy, dstate)
    dy = getattr(dy, "gradient", dy) if hasattr(dy, "value") else dy
    layer.backward(run.saved, dy, dstate)  # checks both
    of_h, of_c = _norms(layer, run, _time_major(layer, run, dy), dstate)
    return GradientNorms(run.stacked(of_h), run.stacked(of_c) if of_c else None)


def _time_major(layer: Any, run: Walked, dy: Any) -> Array:
    """Return the gradient of y as (T, B, D*P); zeros if not given."""
    if dy is None:
        dy = np.zeros(run.y.shape, layer.dtype)
    a = np.asarray(dy, layer.dtype)
    if not run.batched:
        return a[:, None]
    return a.swapaxes(0, 1) if layer.batch_first else a


def _norms(layer: Any, run: Walked, dy: Array, dstate: Any) -> tuple[list[Array], list[Array]]:
    """Go back through all pieces, from the last layer; return the norms of each walk."""
    n = 2 if layer.bidirectional else 1
    of_h: list[Array] = []
    of_c: list[Array] = []
    for k in reversed(range(layer.num_layers)):
        below: Array | None = None
        for d in reversed(range(n)):
            one = run.walks[k * n + d]
            width = one.y.shape[2]
            last = first_state(layer, one.piece, dstate, k, d, one.y.shape[1])
            dx, h, c = _back(one, one.over_time(dy[..., d * width : (d + 1) * width]), last)
            of_h.insert(0, h)
            of_c[:0] = [] if c is None else [c]
            if dx is not None:
                dx = dx if d == 0 else turned(dx, one.lengths)
                below = dx if below is None else below + dx
        if k:
            assert below is not None
            dy = below
    return of_h, of_c


def _back(
    one: Walk, dy: Array, last: tuple[Array, ...]
) -> tuple[Array | None, Array, Array | None]:
    """Go back through one piece; return dx in its order, and the norms over time."""
    steps, batch = dy.shape[:2]
    real, carried, found = one.real, last, []
    norms = np.full((len(last), steps, batch), np.nan)
    through = _through_output(one) if len(last) > 1 else None
    for t in reversed(range(steps)):
        at = real[t][:, None]
        with np.errstate(all="ignore"):  # gradients may explode
            dh = carried[0][0] + np.where(at, dy[t], dy.dtype.type(0))
            norms[0, t] = np.where(real[t], norm(dh), np.nan)
            if through is not None:
                norms[1, t] = np.where(real[t], norm(through(t, dh, carried[1][0])), np.nan)
        # Adding dh in one place, the state, gives the same sums as giving dy beside it.
        gradients = (dh[None], *carried[1:])
        dx, dstate, _ = one.piece.backward(one.step(t)[1], None, as_state(gradients))
        carried = dstate if isinstance(dstate, tuple) else (dstate,)
        if dx is not None:
            found.append(dx[0])
    dx = None
    if one.x is not None:
        dx = np.stack(found[::-1]) if found else np.zeros_like(one.x)
    over_time = [one.over_time(a) for a in norms]
    return dx, over_time[0], over_time[1] if len(norms) > 1 else None


def norm(a: Array) -> Array:
    """Return the Euclidean norm over the last axis in float64, without overflow or underflow."""
    a = np.abs(a.astype(np.float64))
    largest = a.max(axis=-1, keepdims=True)
    usable = np.isfinite(largest) & (largest > 0)
    scaled = np.sqrt(np.square(a / np.where(usable, largest, 1)).sum(axis=-1))
    return np.asarray(np.where(usable[..., 0], largest[..., 0] * scaled, largest[..., 0]))


def _through_output(one: Walk) -> Callable[[int, Array, Array], Array]:
    """Return a function (t, dL/dh_t, carried gradient of c_t) -> dL/dc_t."""
    piece, gates = one.piece, one.saved.gates[0]
    o = gates["o"]
    c = gates["f"] * one.before[1] + gates["i"] * gates["g"]  # before zoneout
    rate_h, rate_c = piece.zoneout
    usual = piece.activations or ("sigmoid", "tanh", "tanh")
    params = piece.params
    seen, back = _normalised(params, c) if piece.layer_norm else (c, None)
    top, slope = _activated(usual[2], piece.clip, seen)

    def through(t: int, dh: Array, carried: Array) -> Array:
        dm = (1 - rate_h) * dh
        dm = dm @ params["weight_hr_l0"] if piece.proj_size else dm
        dc = dm * o[t] * slope[t]
        dc = dc if back is None else back(t, dc)
        if piece.peepholes:
            dc = dc + dm * top[t] * (o[t] * (1 - o[t])) * params["weight_p_l0"][2]
        return np.asarray(dc + (1 - rate_c) * carried)

    return through


def _activated(kind: Any, clip: float | None, c: Array) -> tuple[Array, Array]:
    """Return the activation of every element and its slope, from a layer of one unit."""
    by = activation(kind, "activations")
    unit = RNN(1, 1, bias=False, dtype=c.dtype, nonlinearity=tuple(by), clip=clip)
    with unit.writable() as params:
        params["weight_ih_l0"][:], params["weight_hh_l0"][:] = 1, 0
    y, _, saved = unit.forward(c.reshape(1, -1, 1))
    slope, _, _ = unit.backward(saved, np.ones_like(y))
    return y.reshape(c.shape), slope.reshape(c.shape)


def _normalised(params: Any, c: Array) -> tuple[Array, Callable[[int, Array], Array]]:
    """Return gc LN(c) + bc, and how a gradient of it at step t goes back to c."""
    mean = c.mean(axis=2, keepdims=True)
    scale = 1 / np.sqrt(c.var(axis=2, keepdims=True) + NORM_EPSILON)
    seen = (c - mean) * scale
    gain, bias = params["weight_norm_c_l0"], params.get("bias_norm_c_l0", 0)

    def back(t: int, d: Array) -> Array:
        d, ln = d * gain, seen[t]
        slope = (d * ln).mean(axis=1, keepdims=True)
        return np.asarray((d - d.mean(axis=1, keepdims=True) - ln * slope) * scale[t])

    return np.asarray(gain * seen + bias), back
