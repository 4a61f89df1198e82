"""The equations again, for one sequence and one step at a time, forward only.

Written from docs/conventions.md and the papers named there, without looking at the reference: no
slots, no batch, no masks. `real` may be np.longdouble, to judge float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from floor import Inputs, Weights
from fusedrnn._activations import Activation, Options
from fusedrnn._cells import Array


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


# For each name the function of (a, alpha, beta), from ONNX's operators RNN, GRU and LSTM.
ONNX: dict[str, Any] = {
    "relu": lambda a, alpha, beta: np.where(a > 0, a, 0),
    "tanh": lambda a, alpha, beta: np.tanh(a),
    "sigmoid": lambda a, alpha, beta: sigmoid(a),
    "affine": lambda a, alpha, beta: alpha * a + beta,
    "leaky_relu": lambda a, alpha, beta: np.where(a >= 0, a, alpha * a),
    "thresholded_relu": lambda a, alpha, beta: np.where(a >= alpha, a, 0),
    "scaled_tanh": lambda a, alpha, beta: alpha * np.tanh(beta * a),
    "hard_sigmoid": lambda a, alpha, beta: np.clip(alpha * a + beta, 0, 1),
    "elu": lambda a, alpha, beta: np.where(a >= 0, a, alpha * (np.exp(np.minimum(a, 0)) - 1)),
    "softsign": lambda a, alpha, beta: a / (1 + abs(a)),
    "softplus": lambda a, alpha, beta: np.log(1 + np.exp(a)),
}


def activation(by: Options | None, which: str) -> Any:
    """f, g or h of the options; without options sigmoid and tanh."""
    if by is None:
        return sigmoid if which == "f" else np.tanh
    one: Activation = getattr(by, which)

    def apply(a: Array) -> Array:
        result: Array = ONNX[one.name](np.clip(a, -by.clip, by.clip), one.alpha, one.beta)
        return result

    return apply


def step(
    cell: str, w: dict[str, Array], x: Array, h: Array, c: Array, by: Options | None
) -> tuple[Array, Array]:
    """(h', c') from (h, c)."""
    if cell.endswith("_norm"):
        return norm_step(cell, w, x, h, c)
    cell = cell.removesuffix("_chosen")
    f, g = activation(by, "f"), activation(by, "g")
    n_rows = {"lstm": 4, "lstm_peephole": 4, "gru": 3, "gru_reset_before": 3}.get(cell, 1)
    W, R, b, d = (np.split(w[name], n_rows) for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    if cell == "dense":
        return W[0] @ x + b[0], c
    if cell in ("lstm", "lstm_peephole"):
        a_i, a_f, a_g, a_o = (W[k] @ x + b[k] + R[k] @ h + d[k] for k in range(4))
        if "p" in w:
            a_i, a_f = a_i + w["p"][0] * c, a_f + w["p"][1] * c
        i = f(a_i)
        new_c = (1 - i if by is not None and by.coupled else f(a_f)) * c + i * g(a_g)
        if "p" in w:
            a_o = a_o + w["p"][2] * new_c
        return f(a_o) * activation(by, "h")(new_c), new_c
    if cell in ("gru", "gru_reset_before"):
        r = f(W[0] @ x + b[0] + R[0] @ h + d[0])
        z = f(W[1] @ x + b[1] + R[1] @ h + d[1])
        if cell == "gru":
            n = g(W[2] @ x + b[2] + r * (R[2] @ h + d[2]))
        else:
            n = g(W[2] @ x + b[2] + R[2] @ (r * h) + d[2])
        return (1 - z) * n + z * h, c
    f = {
        "rnn": f,
        "rnn_tanh": np.tanh,
        "rnn_relu": lambda a: np.where(a > 0, a, 0),
        "rnn_sigmoid": sigmoid,
        "rnn_identity": lambda a: a,
    }[cell]
    return f(W[0] @ x + b[0] + R[0] @ h + d[0]), c


def layer_norm(v: Array) -> Array:
    """LN(v) = (v - mean) / sqrt(var + 1e-5), var biased."""
    centred = v - v.sum() / len(v)
    return centred / np.sqrt((centred**2).sum() / len(v) + v.dtype.type("1e-5"))


def norm_step(cell: str, w: dict[str, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """(h', c') of the LSTM and the GRU (reset after) with layer normalisation."""
    n_rows = 4 if cell == "lstm_norm" else 3
    names = ("w_ih", "w_hh", "b_ih", "b_hh", "norm_ih", "norm_hh")
    W, R, b, d, gx, gh = (np.split(w[name], n_rows) for name in names)
    from_x = [gx[k] * layer_norm(W[k] @ x) + b[k] for k in range(n_rows)]
    from_h = [gh[k] * layer_norm(R[k] @ h) + d[k] for k in range(n_rows)]
    if cell == "gru_norm":
        r, z = (sigmoid(from_x[k] + from_h[k]) for k in range(2))
        n = np.tanh(from_x[2] + r * from_h[2])
        return (1 - z) * n + z * h, c
    i, f, o = (sigmoid(from_x[k] + from_h[k]) for k in (0, 1, 3))
    new_c = f * c + i * np.tanh(from_x[2] + from_h[2])
    return o * np.tanh(w["norm_c"] * layer_norm(new_c) + w["norm_c_bias"]), new_c


def run_sequence(
    cell: str,
    w: dict[str, Array],
    xs: list[Array],
    cut: list[bool],
    start: tuple[Array, Array],
    after_cut: tuple[Array, Array],
    by: Options | None,
) -> tuple[list[Array], tuple[Array, Array]]:
    """All h of one sequence in the order of the walk, and the last (h, c)."""
    h, c = start
    hs = []
    for x, is_cut in zip(xs, cut, strict=True):
        if is_cut:
            h, c = after_cut
        h, c = step(cell, w, x, h, c, by)
        hs.append(h)
    return hs, (h, c)


def forward(
    weights: tuple[Weights, ...], inputs: Inputs, real: Any = np.float64
) -> tuple[Array, tuple[Array, ...]]:
    """y (T, B, D*H) and final states (D, B, H) of a call, computed in `real` precision."""
    spec, size = weights[0].spec, weights[0].hidden_size
    sequence = inputs.tokens if inputs.x is None else inputs.x
    assert sequence is not None
    steps, batch = sequence.shape[:2]
    y = np.zeros((steps, batch, len(weights) * size), real)
    finals = np.zeros((2, len(weights), batch, size), real)
    zeros = (np.zeros(size, real), np.zeros(size, real))
    one_hot = np.eye(weights[0].input_size, dtype=real)

    def pair(states: tuple[Array, ...] | None, d: int, b: int) -> tuple[Array, Array]:
        if states is None:
            return zeros
        parts = [state[d, b].astype(real) for state in states]
        return parts[0], parts[1] if len(parts) > 1 else zeros[1]

    for d, weight in enumerate(weights):
        rows = weight.w_ih.shape[0]
        arrays = {
            "w_ih": weight.w_ih,
            "w_hh": np.zeros((rows, size)) if weight.w_hh is None else weight.w_hh,
            "b_ih": np.zeros(rows) if weight.b_ih is None else weight.b_ih,
            "b_hh": np.zeros(rows) if weight.b_hh is None else weight.b_hh,
        }
        if weight.norm_c is not None:
            arrays["norm_c_bias"] = np.zeros(size)
        for name in ("p", "norm_ih", "norm_hh", "norm_c", "norm_c_bias"):
            given = getattr(weight, name)
            if given is not None:
                arrays[name] = given
        arrays = {name: a.astype(real) for name, a in arrays.items()}
        for b in range(batch):
            length = steps if inputs.lengths is None else int(inputs.lengths[b])
            if inputs.x is not None:
                xs = [inputs.x[t, b].astype(real) for t in range(length)]
            else:
                xs = [one_hot[sequence[t, b]] for t in range(length)]
            cut = [inputs.reset is not None and bool(inputs.reset[t, b]) for t in range(length)]
            times = list(range(length))
            if d == 1:  # reset[t] cuts the link t-1, t: backwards, entering t-1
                xs.reverse()
                times.reverse()
                cut = ([False, *reversed(cut[1:])])[:length]
            start, after_cut = pair(inputs.states, d, b), pair(inputs.initial, d, b)
            hs, last = run_sequence(spec.name, arrays, xs, cut, start, after_cut, weight.options)
            for t, h in zip(times, hs, strict=True):
                y[t, b, d * size : (d + 1) * size] = h
            finals[0, d, b], finals[1, d, b] = last
    return y, tuple(finals[: spec.states])
