"""The cells in NumPy, each a pair of functions: the equations and their derivatives.

Arrays are slot-major: `a` is (gates, N, H) for the N rows of one time step, `s` and `s_next` are
the previous and next states, each (N, H).

forward(a, s, step) takes pre-activations and returns (what backward reads of them, next states).
What backward reads is activated slots, or pre-activations if activations are chosen at run time.
backward(a, s, s_next, ds_next, dgates, step) takes those and the gradients of the next states and
of the gate activations. It returns (gradients of the pre-activations, pointwise part of the
gradients of the previous states, gradient of step.u through the late slots only).
vector_terms(da, s, s_next) returns what each row adds to the gradient of `p`, (vectors, N, H).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ..._activations import Options, relu, sigmoid
from ..._cells import Array
from .call import Weights

States: TypeAlias = tuple[Array, ...]
Backward: TypeAlias = tuple[Array, States, Array | float]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation's parameters by name, (n, H) or (H,), and the sums of their gradients.

    The biases are among them. `backward` adds the contributions of its rows to `sums`.
    """

    of: dict[str, Array]
    sums: dict[str, Array]


@dataclass(frozen=True)
class Step:
    """The arguments of a cell besides slots and states."""

    p: Array | None  # per-unit vectors (vectors, H)
    u: Array  # (N, H): h as R sees it, under recurrent dropout
    late: Callable[[Array], Array]  # product with R of the late slot: R u, or R^T da in backward
    by: Options | None
    norm: Norm | None = None


def first_slots(a: Array, weights: Weights) -> Array:
    """Return the gates of a cell whose `a` holds them activated."""
    return a[: weights.spec.x_gates]


class Cell(NamedTuple):
    """The functions of a cell."""

    forward: Callable[[Array, States, Step], tuple[Array, States]]
    backward: Callable[[Array, States, States, States, Array, Step], Backward]
    vector_terms: Callable[[Array, States, States], Array] | None = None
    # Activated gates, in the order of the x slots, from what forward returned as `a`.
    gates: Callable[[Array, Weights], Array] = first_slots


def identity(x: Array) -> Array:
    """Return x."""
    return x


# Derivatives of activations, from the activated value y.


def d_sigmoid(y: Array) -> Array:
    """Derivative of sigmoid at x, if y = sigmoid(x)."""
    slope: Array = y * (1 - y)
    return slope


def d_tanh(y: Array) -> Array:
    """Derivative of tanh at x, if y = tanh(x)."""
    slope: Array = 1 - y * y
    return slope


def d_relu(y: Array) -> Array:
    """Derivative of relu at x, if y = relu(x); 0 at 0."""
    return (y > 0).astype(y.dtype)


def d_identity(y: Array) -> Array:
    """Derivative of identity: ones."""
    return np.ones_like(y)


def elman(f: Callable[[Array], Array], d_f: Callable[[Array], Array]) -> Cell:
    """Make the cell h' = f(a)."""

    def forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
        h = f(a[0])
        return h[None], (h,)

    def backward(
        a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
    ) -> Backward:
        da = (dgates[0] + ds_next[0]) * d_f(a[0])
        return da[None], (np.zeros_like(da),), 0.0

    return Cell(forward, backward)


def lstm_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Gates i f g o: c' = f c + i g;  h' = o tanh(c'). Peepholes: i, f see c and o sees c'."""
    (_, c), p = s, step.p
    a_i, a_f, a_g, a_o = a
    if p is not None:
        a_i = a_i + p[0] * c
        a_f = a_f + p[1] * c
    i, f, g = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g)
    c = f * c + i * g
    if p is not None:
        a_o = a_o + p[2] * c
    o = sigmoid(a_o)
    return np.stack((i, f, g, o)), (o * np.tanh(c), c)


def lstm_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of the four gates and of c, from dh' and dc'; dh comes through R only."""
    i, f, g, o = a
    (_, c), (_, c_next), (dh, dc), p = s, s_next, ds_next, step.p
    t = np.tanh(c_next)
    da_o = (dgates[3] + dh * t) * d_sigmoid(o)
    dc = dc + dh * o * d_tanh(t)
    if p is not None:
        dc = dc + da_o * p[2]
    da_i = (dgates[0] + dc * g) * d_sigmoid(i)
    da_f = (dgates[1] + dc * c) * d_sigmoid(f)
    da_g = (dgates[2] + dc * i) * d_tanh(g)
    dc = dc * f
    if p is not None:
        dc = dc + da_i * p[0] + da_f * p[1]
    return np.stack((da_i, da_f, da_g, da_o)), (np.zeros_like(dh), dc), 0.0


def peephole_terms(da: Array, s: States, s_next: States) -> Array:
    """Contributions to dp: p_i and p_f multiply c, p_o multiplies c'."""
    c, c_next = s[1], s_next[1]
    return np.stack((da[0] * c, da[1] * c, da[3] * c_next))


def gru_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Slots nx r z nh: n = tanh(nx + r nh);  h' = (1 - z) n + z h = z (h - n) + n."""
    (h,) = s
    nx, a_r, a_z, nh = a
    r, z = sigmoid(a_r), sigmoid(a_z)
    n = np.tanh(nx + r * nh)
    return np.stack((n, r, z, nh)), (z * (h - n) + n,)


def gru_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of nx r z nh, and of h through z, from dh'."""
    n, r, z, nh = a
    (h,), (dh,) = s, ds_next
    dn = (dgates[2] + dh * (1 - z)) * d_tanh(n)
    dr = (dgates[0] + dn * nh) * d_sigmoid(r)
    dz = (dgates[1] + dh * (h - n)) * d_sigmoid(z)
    return np.stack((dn, dr, dz, dn * r)), (dh * z,), 0.0


def gru_before_forward(a: Array, s: States, step: Step) -> tuple[Array, States]:
    """Slots r z n: n = tanh(W x + b + R (r u));  h' = z (h - n) + n."""
    (h,) = s
    r, z = sigmoid(a[0]), sigmoid(a[1])
    n = np.tanh(a[2] + step.late(r * step.u))
    return np.stack((r, z, n)), (z * (h - n) + n,)


def gru_before_backward(
    a: Array, s: States, s_next: States, ds_next: States, dgates: Array, step: Step
) -> Backward:
    """Gradients of r z n, of h through z, and of u through r, from dh'."""
    r, z, n = a
    (h,), (dh,) = s, ds_next
    dn = (dgates[2] + dh * (1 - z)) * d_tanh(n)
    dz = (dgates[1] + dh * (h - n)) * d_sigmoid(z)
    du = step.late(dn)
    dr = (dgates[0] + du * step.u) * d_sigmoid(r)
    return np.stack((dr, dz, dn)), (dh * z,), du * r


CELLS: dict[str, Cell] = {
    "rnn_tanh": elman(np.tanh, d_tanh),
    "rnn_relu": elman(relu, d_relu),
    "rnn_sigmoid": elman(sigmoid, d_sigmoid),
    "rnn_identity": elman(identity, d_identity),
    "lstm": Cell(lstm_forward, lstm_backward),
    "lstm_peephole": Cell(lstm_forward, lstm_backward, peephole_terms),
    "gru": Cell(gru_forward, gru_backward),
    "gru_reset_before": Cell(gru_before_forward, gru_before_backward),
    "dense": elman(identity, d_identity),
}
