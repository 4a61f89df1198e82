"""The cells whose activations are chosen at run time, in NumPy; `cells` describes the functions.

`a` stays pre-activations, peepholes included. The options' f, g and h replace sigmoid and tanh of
the other cells. Each acts on clipped input, and derivatives are computed from that input.
"""

from __future__ import annotations

import numpy as np

from ..._activations import Activation, Options, activate, slope
from ..._cells import Array
from .call import Weights
from .cells import Backward, Cell, States, Step, peephole_terms


class _Chosen:
    """The activations of a call's options, as functions."""

    def __init__(self, by: Options | None) -> None:
        assert by is not None
        self.by = by

    def f(self, x: Array) -> Array:
        return activate(x, self.by.f, self.by.clip)

    def g(self, x: Array) -> Array:
        return activate(x, self.by.g, self.by.clip)

    def h(self, x: Array) -> Array:
        return activate(x, self.by.h, self.by.clip)

    def slope(self, x: Array, of: Activation) -> Array:
        return slope(x, of, self.by.clip)


def gate(a: Array, by: Options) -> Array:
    """Activate a gate."""
    return activate(a, by.f, by.clip)


def rnn_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """h' = f(a)."""
    return a, (_Chosen(step.by).f(a[0]),)


def rnn_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradient of a, from dh'."""
    by = _Chosen(step.by)
    da = (dgates[0] + ds_next[0]) * by.slope(a[0], by.by.f)
    return da[None], (np.zeros_like(da),), 0.0


def lstm_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """i f g o: c' = f c + i g;  h' = o h(c'); f = 1 - i if coupled."""
    (_, c), by, p = s, _Chosen(step.by), step.p
    assert p is not None
    a_i, a_f, a_g = a[0] + p[0] * c, a[1] + p[1] * c, a[2]
    i = by.f(a_i)
    c = (1 - i if by.by.coupled else by.f(a_f)) * c + i * by.g(a_g)
    a_o = a[3] + p[2] * c
    return np.stack((a_i, a_f, a_g, a_o)), (by.f(a_o) * by.h(c), c)


def lstm_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of the four gates and of c, from dh' and dc'."""
    by, p = _Chosen(step.by), step.p
    assert p is not None
    (_, c), (_, c_next), (dh, dc) = s, s_next, ds_next
    i, g, o = by.f(a[0]), by.g(a[2]), by.f(a[3])
    f = 1 - i if by.by.coupled else by.f(a[1])
    da_o = (dgates[3] + dh * by.h(c_next)) * by.slope(a[3], by.by.f)
    dc = dc + dh * o * by.slope(c_next, by.by.h) + da_o * p[2]
    di, df = dgates[0] + dc * g, dgates[1] + dc * c
    if by.by.coupled:
        di, df = di - df, np.zeros_like(df)
    da_i, da_f = di * by.slope(a[0], by.by.f), df * by.slope(a[1], by.by.f)
    da_g = (dgates[2] + dc * i) * by.slope(a[2], by.by.g)
    dc = dc * f + da_i * p[0] + da_f * p[1]
    return np.stack((da_i, da_f, da_g, da_o)), (np.zeros_like(dh), dc), 0.0


def gru_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Slots nx r z nh: n = g(nx + r nh);  h' = z (h - n) + n."""
    (h,), by = s, _Chosen(step.by)
    z, n = by.f(a[2]), by.g(a[0] + by.f(a[1]) * a[3])
    return a, (z * (h - n) + n,)


def gru_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of nx r z nh, and of h through z, from dh'."""
    (h,), (dh,), by = s, ds_next, _Chosen(step.by)
    r, z = by.f(a[1]), by.f(a[2])
    pre = a[0] + r * a[3]
    n = by.g(pre)
    dn = (dgates[2] + dh * (1 - z)) * by.slope(pre, by.by.g)
    dr = (dgates[0] + dn * a[3]) * by.slope(a[1], by.by.f)
    dz = (dgates[1] + dh * (h - n)) * by.slope(a[2], by.by.f)
    return np.stack((dn, dr, dz, dn * r)), (dh * z,), 0.0


def gru_before_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Slots r z n: n = g(W x + b + R (r u));  h' = z (h - n) + n."""
    (h,), by = s, _Chosen(step.by)
    a_n = a[2] + step.late(by.f(a[0]) * step.u)
    z, n = by.f(a[1]), by.g(a_n)
    return np.stack((a[0], a[1], a_n)), (z * (h - n) + n,)


def gru_before_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of r z n, of h through z, and of u through r, from dh'."""
    (h,), (dh,), by = s, ds_next, _Chosen(step.by)
    r, z, n = by.f(a[0]), by.f(a[1]), by.g(a[2])
    dn = (dgates[2] + dh * (1 - z)) * by.slope(a[2], by.by.g)
    dz = (dgates[1] + dh * (h - n)) * by.slope(a[1], by.by.f)
    du = step.late(dn)
    dr = (dgates[0] + du * step.u) * by.slope(a[0], by.by.f)
    return np.stack((dr, dz, dn)), (dh * z,), du * r


def rnn_gates(a: Array, weights: Weights) -> Array:
    """Return f(a), which is h."""
    return _Chosen(weights.options).f(a)


def lstm_gates(a: Array, weights: Weights) -> Array:
    """Return i f g o."""
    by = _Chosen(weights.options)
    i = by.f(a[0])
    return np.stack((i, 1 - i if by.by.coupled else by.f(a[1]), by.g(a[2]), by.f(a[3])))


def gru_gates(a: Array, weights: Weights) -> Array:
    """Return n r z, in the order of the slots."""
    by = _Chosen(weights.options)
    r = by.f(a[1])
    return np.stack((by.g(a[0] + r * a[3]), r, by.f(a[2])))


def gru_before_gates(a: Array, weights: Weights) -> Array:
    """Return r z n."""
    by = _Chosen(weights.options)
    return np.stack((by.f(a[0]), by.f(a[1]), by.g(a[2])))


CELLS: dict[str, Cell] = {
    "rnn_chosen": Cell(rnn_forward, rnn_backward, gates=rnn_gates),
    "lstm_chosen": Cell(lstm_forward, lstm_backward, peephole_terms, lstm_gates),
    "gru_chosen": Cell(gru_forward, gru_backward, gates=gru_gates),
    "gru_reset_before_chosen": Cell(
        gru_before_forward, gru_before_backward, gates=gru_before_gates
    ),
}
