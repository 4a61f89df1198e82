"""A layer as plain loops in float64, in one file: one sequence, direction and step at a time.

Written only from the sentences of docs/conventions.md. It reads a layer's options and, by torch's
names, its parameters, and uses nothing of how the package computes. Arrays are time-major with a
batch axis. `masks` are those of a training call, one `Drawn` for each layer; None is a plain call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn._cells import Array
from oracle import ONNX, sigmoid

# The alpha and beta that ONNX documents. ONNX leaves those of Affine and ScaledTanh open; with the
# values here they are the identity and tanh.
DEFAULTS: dict[str, tuple[float, float]] = {
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}


@dataclass
class Given:
    """A call's arguments."""

    x: Array
    state: Any = None
    lengths: Array | None = None
    mask: Array | None = None
    reset: Array | None = None
    initial: Any = None


@dataclass
class Outcome:
    """The results of a call; `states` holds for each layer its parts (h, and c)."""

    y: Array
    states: list[list[Array]]  # for each layer its parts, (D, B, width)
    cells: list[Array | None] = field(default_factory=list)
    gates: list[dict[str, Array]] = field(default_factory=list)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def activation(chosen: Any, clip: float | None) -> Any:
    """A function from a name or from (name, alpha, beta); its input is clipped."""
    name, *given = (chosen,) if isinstance(chosen, str) else chosen
    name = "affine" if name == "identity" else name
    alpha, beta = (*given, *DEFAULTS.get(name, (0.0, 0.0))[len(given) :])
    bound = np.inf if clip is None else clip
    return lambda a: ONNX[name](np.clip(a, -bound, bound), alpha, beta)


def states_of(layer: Any, state: Any, k: int, d: int, b: int, widths: tuple[int, ...]) -> list[Any]:
    """h (and c) of one layer, direction and sequence; zeros if no state is given."""
    if state is None:
        return [np.zeros(width) for width in widths]
    n = 2 if layer.bidirectional else 1
    found = []
    for part in parts(state):
        a = part[k][d, b] if isinstance(part, list) else part[k * n + d, b]
        found.append(np.asarray(a, np.float64))
    return found


def normalised(v: Array) -> Array:
    """LN(v) without gain and bias. [Y1]"""
    d = v - v.mean()
    return np.asarray(d / np.sqrt((d * d).mean() + 1e-5))


class Direction:
    """One direction of one layer: its weights, and what a step computes."""

    def __init__(self, layer: Any, k: int, d: int, connect: Array | None) -> None:
        end = f"_l{k}" + ("_reverse" if d else "")
        p = {name: np.asarray(a, np.float64) for name, a in layer.params.items()}
        self.layer, self.w, self.r = layer, p[f"weight_ih{end}"], p[f"weight_hh{end}"]
        if connect is not None:
            self.r = self.r * connect
        zero = np.zeros(len(self.w))
        self.b, self.e = p.get(f"bias_ih{end}", zero), p.get(f"bias_hh{end}", zero)
        self.p, self.w_hr = p.get(f"weight_p{end}"), p.get(f"weight_hr{end}")
        self.norm = p.get(f"weight_norm_ih{end}"), p.get(f"weight_norm_hh{end}")
        self.norm_c = p.get(f"weight_norm_c{end}"), p.get(f"bias_norm_c{end}", 0.0)
        self.size = len(self.w) // {fr.LSTM: 4, fr.GRU: 3, fr.RNN: 1}[type(layer)]
        self.out = self.r.shape[1]

    def rows(self, k: int) -> slice:
        return slice(k * self.size, (k + 1) * self.size)

    def both(self, k: int, x: Array, u: Array) -> tuple[Array, Array]:
        """W x + b and R u + e of gate k; with layer normalisation the products are normalised."""
        g, (gx, gh) = self.rows(k), self.norm
        wx, ru = self.w[g] @ x, self.r[g] @ u
        if gx is not None and gh is not None:
            wx, ru = gx[g] * normalised(wx), gh[g] * normalised(ru)
        return wx + self.b[g], ru + self.e[g]

    def sum(self, k: int, x: Array, u: Array) -> Array:
        """The whole pre-activation of gate k."""
        wx, ru = self.both(k, x, u)
        return wx + ru

    def step(self, x: Array, old: list[Array], u: Array) -> tuple[list[Array], dict[str, Array]]:
        """The new states and the gates; R multiplies u, which is h under recurrent dropout."""
        layer = self.layer
        clip = layer.clip
        if type(layer) is fr.RNN:
            h = activation(layer.nonlinearity, clip)(self.sum(0, x, u))
            return [h], {"a": h}
        if type(layer) is fr.LSTM:
            f, g, top = (
                activation(one, clip) for one in layer.activations or ("sigmoid", "tanh", "tanh")
            )
            p = np.zeros((3, self.size)) if self.p is None else self.p
            c = old[1]
            i = f(self.sum(0, x, u) + p[0] * c)
            forget = 1 - i if layer.coupled else f(self.sum(1, x, u) + p[1] * c)
            new = g(self.sum(2, x, u))
            c = forget * c + i * new
            o = f(self.sum(3, x, u) + p[2] * c)
            gc, bc = self.norm_c
            h = o * top(c if gc is None else gc * normalised(c) + bc)
            h = h if self.w_hr is None else self.w_hr @ h
            return [h, c], {"i": i, "f": forget, "g": new, "o": o}
        f, g = (activation(one, clip) for one in layer.activations or ("sigmoid", "tanh"))
        r, z = f(self.sum(0, x, u)), f(self.sum(1, x, u))
        if layer.reset_after:
            wx, ru = self.both(2, x, u)
            n = g(wx + r * ru)
        else:
            n = g(self.sum(2, x, r * u))
        return [(1 - z) * n + z * old[0]], {"r": r, "z": z, "n": n}


def run(
    layer: Any,
    given: Given,
    *,
    masks: Any = None,
    masked_output: str = "zero",
    padding_value: float = 0.0,
) -> Outcome:
    """Run the whole call."""
    steps, batch = given.x.shape[:2]
    n = 2 if layer.bidirectional else 1
    x = given.x.astype(np.float64)
    outcome = Outcome(x, [])
    for k in range(layer.num_layers):
        drawn = None if masks is None else masks[k]
        if drawn is not None and drawn.input is not None:
            x = x * drawn.input
        last = k == layer.num_layers - 1
        fill = masked_output if last else "zero"
        halves, finals, gates, cells = [], [], [], []
        for d in range(n):
            connect = None if drawn is None or drawn.connect is None else drawn.connect[d]
            of = Direction(layer, k, d, connect)
            walks = [walk(of, given, x, k, d, b, drawn, fill) for b in range(batch)]
            halves.append(gather([w[0] for w in walks], steps, of.out))
            finals.append([w[1] for w in walks])
            gates.append({g: gather([w[2][g] for w in walks], steps, of.size) for g in names(of)})
            cells.append(gather([w[3] for w in walks], steps, of.size))
        states = len(names_of_states(layer))
        widths = (of.out, of.size)[:states]
        outcome.states.append(
            [
                np.array([[w[part] for w in row] for row in finals]).reshape(n, batch, width)
                for part, width in enumerate(widths)
            ]
        )
        outcome.gates.append({g: np.concatenate([half[g] for half in gates], 2) for g in gates[0]})
        outcome.cells.append(np.concatenate(cells, 2) if states > 1 else None)
        x = np.concatenate(halves, axis=2)
        if last:
            valid = valid_steps(given)
            other = ~valid if masked_output == "zero" or given.mask is None else valid & False
            x = np.where(other[..., None], padding_value, x)
        elif drawn is not None and drawn.output is not None:
            x = x * drawn.output
    outcome.y = x
    return outcome


def names(of: Direction) -> tuple[str, ...]:
    return {fr.LSTM: ("i", "f", "g", "o"), fr.GRU: ("r", "z", "n"), fr.RNN: ("a",)}[type(of.layer)]


def names_of_states(layer: Any) -> tuple[str, ...]:
    return ("h", "c") if type(layer) is fr.LSTM else ("h",)


def gather(rows: list[Any], steps: int, width: int) -> Array:
    """(T, B, width) from B lists of T rows."""
    return np.array(rows, np.float64).reshape(len(rows), steps, width).swapaxes(0, 1)


def valid_steps(given: Given) -> Array:
    """(T, B) bool, True at real steps."""
    steps, batch = given.x.shape[:2]
    if given.mask is not None:
        return given.mask
    n = np.full(batch, steps) if given.lengths is None else given.lengths
    return np.asarray(np.arange(steps)[:, None] < n)


def walk(
    of: Direction, given: Given, x: Array, k: int, d: int, b: int, drawn: Any, fill: str
) -> tuple[list[Array], list[Array], dict[str, list[Array]], list[Array]]:
    """Run one sequence: y at every time, the last states, the gates and c at every time."""
    layer, steps = of.layer, len(x)
    widths = (of.out, of.size)[: len(names_of_states(layer))]
    states = states_of(layer, given.state, k, d, b, widths)
    fresh = states_of(layer, given.initial, k, d, b, widths)
    end = steps if given.lengths is None else int(given.lengths[b])
    ys: list[Array] = [np.zeros(of.out)] * steps
    cs: list[Array] = [np.zeros(of.size)] * steps
    gates: dict[str, list[Array]] = {g: [np.zeros(of.size)] * steps for g in names(of)}
    output = np.zeros(of.out)
    for t in range(end) if d == 0 else reversed(range(end)):
        link = t if d == 0 else t + 1  # reset[t] cuts the link between steps t - 1 and t
        inside = link < end or d == 0
        if given.reset is not None and inside and given.reset[link, b]:
            states = fresh
        if given.mask is not None and not given.mask[t, b]:
            ys[t] = output if fill == "repeat" else ys[t]
            continue
        drop = 1.0 if drawn is None or drawn.drop is None else drawn.drop[d, b]
        new, found = of.step(x[t, b], states, states[0] * drop)
        states = [
            zoned(layer, drawn, part, (d, t, b), a, old)
            for part, (a, old) in enumerate(zip(new, states, strict=True))
        ]
        ys[t] = output = states[0]
        cs[t] = states[-1] if len(states) > 1 else cs[t]
        for g, a in found.items():
            gates[g][t] = a
    return ys, states, gates, cs


def zoned(layer: Any, drawn: Any, part: int, at: Any, new: Array, old: Array) -> Array:
    """Zoneout: units that were drawn keep their old value; a plain call takes the expectation."""
    rate = layer.zoneout[part]
    keep = rate if drawn is None else (0.0 if drawn.keep is None else drawn.keep[part][at])
    return np.asarray(keep * old + (1 - keep) * new, np.float64)


__all__ = ["Given", "Outcome", "parts", "run", "sigmoid", "valid_steps"]
