"""The cells with layer normalisation, in NumPy; `cells` describes the functions.

`a` is the raw products, W x in the first n slots and R h in the others, in the order of the gates.
LN, gain and bias are applied here, over the H units of each slot; backward goes back through them.
"""

from __future__ import annotations

import numpy as np

from ..._activations import sigmoid
from ..._cells import Array
from .call import Weights
from .cells import Backward, Cell, Norm, States, Step, d_sigmoid, d_tanh

EPSILON = 1e-5


def parameters(w: Weights) -> Norm | None:
    """Return the parameters of a normalised cell, absent biases as zeros; None for other cells."""
    if not w.spec.norm:
        return None
    of = {}
    for name in ("norm_ih", "norm_hh", "b_ih", "b_hh", "norm_c", "norm_c_bias"):
        shape = w.spec.shapes(w.input_size, w.hidden_size).get(name)
        if shape is None:
            continue
        given = getattr(w, name)
        value = np.zeros(shape, w.dtype) if given is None else given
        of[name] = value if name.startswith("norm_c") else value.reshape(-1, w.hidden_size)
    return Norm(of, {name: np.zeros_like(value) for name, value in of.items()})


def normalise(v: Array) -> tuple[Array, Array]:
    """Return LN(v) over the last axis, and 1 / sqrt(var + eps)."""
    d = v - v.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((d * d).mean(axis=-1, keepdims=True) + EPSILON)
    return d * scale, scale


def normalise_back(d: Array, value: Array, scale: Array) -> Array:
    """Return the gradient of v from d, that of LN(v); `value` is LN(v), `scale` its factor."""
    mean, slope = (e.mean(axis=-1, keepdims=True) for e in (d, d * value))
    result: Array = (d - mean - value * slope) * scale
    return result


class _Normed:
    """ax and ah of each gate: W x and R h with LN, gain and bias (docs/conventions.md, Y2)."""

    def __init__(self, a: Array, step: Step) -> None:
        assert step.norm is not None
        self.norm, n = step.norm, len(a) // 2
        self.value, self.scale = normalise(a)
        of = self.norm.of
        self.gain = np.concatenate((of["norm_ih"], of["norm_hh"]))[:, None]
        bias = np.concatenate((of["b_ih"], of["b_hh"]))[:, None]
        summed = self.gain * self.value + bias
        self.x, self.h = summed[:n], summed[n:]

    def back(self, dx: Array, dh: Array) -> Array:
        """Return the gradients of the raw products from those of ax and ah; sum the parameters'."""
        d, n = np.concatenate((dx, dh)), len(dx)
        gain, bias, sums = (d * self.value).sum(axis=1), d.sum(axis=1), self.norm.sums
        sums["norm_ih"] += gain[:n]
        sums["norm_hh"] += gain[n:]
        sums["b_ih"] += bias[:n]
        sums["b_hh"] += bias[n:]
        return normalise_back(d * self.gain, self.value, self.scale)


def _lstm_gates(normed: _Normed) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = normed.x + normed.h
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def lstm_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Gates i f g o: c' = f c + i g;  h' = o tanh(gc LN(c') + bc)."""
    normed = _Normed(a, step)
    i, f, g, o = _lstm_gates(normed)
    c = f * s[1] + i * g
    of = normed.norm.of
    return a, (o * np.tanh(of["norm_c"] * normalise(c)[0] + of["norm_c_bias"]), c)


def lstm_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of the eight raw products and of c, from dh' and dc'."""
    normed = _Normed(a, step)
    (_, c), (_, c_next), (dh, dc) = s, s_next, ds_next
    i, f, g, o = _lstm_gates(normed)
    of, sums = normed.norm.of, normed.norm.sums
    value, scale = normalise(c_next)
    t = np.tanh(of["norm_c"] * value + of["norm_c_bias"])
    da_o = (dgates[3] + dh * t) * d_sigmoid(o)
    dm = dh * o * d_tanh(t)
    sums["norm_c"] += (dm * value).sum(axis=0)
    sums["norm_c_bias"] += dm.sum(axis=0)
    dc = dc + normalise_back(dm * of["norm_c"], value, scale)
    da_i = (dgates[0] + dc * g) * d_sigmoid(i)
    da_f = (dgates[1] + dc * c) * d_sigmoid(f)
    da_g = (dgates[2] + dc * i) * d_tanh(g)
    d = np.stack((da_i, da_f, da_g, da_o))
    return normed.back(d, d), (np.zeros_like(dh), dc * f), 0.0


def _gru_gates(normed: _Normed) -> tuple[Array, Array, Array]:
    x, h = normed.x, normed.h
    r, z = sigmoid(x[0] + h[0]), sigmoid(x[1] + h[1])
    return r, z, np.tanh(x[2] + r * h[2])


def gru_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Gates r z n, reset after: h' = (1 - z) n + z h = z (h - n) + n."""
    _, z, n = _gru_gates(_Normed(a, step))
    return a, (z * (s[0] - n) + n,)


def gru_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of the six raw products, and of h through z, from dh'."""
    normed = _Normed(a, step)
    (h,), (dh,) = s, ds_next
    r, z, n = _gru_gates(normed)
    dn = (dgates[2] + dh * (1 - z)) * d_tanh(n)
    dr = (dgates[0] + dn * normed.h[2]) * d_sigmoid(r)
    dz = (dgates[1] + dh * (h - n)) * d_sigmoid(z)
    return normed.back(np.stack((dr, dz, dn)), np.stack((dr, dz, dn * r))), (dh * z,), 0.0


def _read(a: Array, weights: Weights) -> _Normed:
    step = Step(None, a[0], lambda u: u, None, parameters(weights))
    return _Normed(a, step)


def lstm_gates(a: Array, weights: Weights) -> Array:
    """Return i f g o."""
    return np.stack(_lstm_gates(_read(a, weights)))


def gru_gates(a: Array, weights: Weights) -> Array:
    """Return r z n."""
    return np.stack(_gru_gates(_read(a, weights)))


CELLS: dict[str, Cell] = {
    "lstm_norm": Cell(lstm_forward, lstm_backward, gates=lstm_gates),
    "gru_norm": Cell(gru_forward, gru_backward, gates=gru_gates),
}
