"""The rounding order of the normalised cells, as law.py has it for the other cells."""

from __future__ import annotations

import numpy as np

from floor import Inputs, Weights
from fusedrnn._cells import Array
from law import Law, Values

GATES = {"lstm_norm": "ifgo", "gru_norm": "rzn"}


class NormLaw(Law):
    """Values x? and h? are the raw products of gate ?; da_x? and da_h? are their gradients."""

    def __init__(self, weights: Weights, inputs: Inputs, isa: str) -> None:
        super().__init__(weights, inputs, isa)
        self.names = GATES[self.cell]
        self.x_gates = tuple((f"x{name}", k) for k, name in enumerate(self.names))
        self.h_gates = tuple((f"h{name}", k) for k, name in enumerate(self.names))

    def row_sum(self, v: Array) -> Array:
        """The sum of a row: 64 bytes of partial sums over rising units, then folded in halves.

        [Y5]
        """
        lanes = 64 // self.dtype.itemsize
        part = np.zeros((len(v), lanes), self.dtype)
        for first in range(0, self.size, lanes):
            piece = v[:, first : first + lanes]
            part[:, : piece.shape[1]] += piece
        while lanes > 1:
            lanes //= 2
            part = part[:, :lanes] + part[:, lanes:]
        return part

    def moments(self, v: Array) -> tuple[Array, Array]:
        """LN(v) and 1 / sqrt(var + eps). [Y5]"""
        size, one, eps = (self.dtype.type(number) for number in (self.size, 1, 1e-5))
        d = v - self.row_sum(v) / size
        scale = one / np.sqrt(self.row_sum(d * d) / size + eps)
        return d * scale, scale

    def back(self, d: Array, value: Array, scale: Array) -> Array:
        """The gradient of v from the gradient of LN(v). [Y7]"""
        size = self.dtype.type(self.size)
        mean, slope = self.row_sum(d) / size, self.row_sum(d * value) / size
        return self.fma(value, -slope, d - mean) * scale

    def gain(self, side: str, block: int) -> Array:
        return self.rows(self.w.norm_ih if side == "x" else self.w.norm_hh, block)

    def step(self, v: Values) -> None:
        zeros = np.zeros((len(v["x"]), self.size), self.dtype)
        for side, u, w in (("x", v["x"], self.w.w_ih), ("h", v["h"], self.w.w_hh)):
            for k, name in enumerate(self.names):
                raw = self.chain(zeros, u, self.rows(w, k))
                v[f"LN {side}{name}"], v[f"scale {side}{name}"] = self.moments(raw)

        def pre(k: int, sides: str, which: str) -> Array:
            a = self.bias(k, which)
            for side in sides:
                a = self.fma(self.gain(side, k), v[f"LN {side}{self.names[k]}"], a)
            return a

        if self.cell == "gru_norm":
            v["r"], v["z"] = (self.sigmoid(pre(k, "xh", "both")) for k in (0, 1))
            v["m"] = pre(2, "h", "h")
            v["n"] = self.tanh(self.fma(v["r"], v["m"], pre(2, "x", "x")))
            v["h'"] = self.fma(v["z"], v["h"] - v["n"], v["n"])
            return
        i, f, g, o = (pre(k, "xh", "both") for k in range(4))
        v["i"], v["f"], v["g"] = self.sigmoid(i), self.sigmoid(f), self.tanh(g)
        v["o"] = self.sigmoid(o)
        v["c'"] = self.fma(v["f"], v["c"], v["i"] * v["g"])
        v["LN c'"], v["scale c'"] = self.moments(v["c'"])
        bias = zeros if self.w.norm_c_bias is None else self.w.norm_c_bias
        v["t"] = self.tanh(self.fma(self.w.norm_c, v["LN c'"], bias))
        v["h'"] = v["o"] * v["t"]

    def step_back(self, v: Values, dh: Array, dc: Array) -> tuple[Array, Array]:
        none = np.zeros_like(dh)
        if self.cell == "gru_norm":
            r, z, n = v["r"], v["z"], v["n"]
            dn = (dh - dh * z) * self.d_tanh(n)
            dz = dh * (v["h"] - n) * self.d_sigmoid(z)
            dr = dn * v["m"] * self.d_sigmoid(r)
            self.spread(v, "x", (dr, dz, dn))
            self.spread(v, "h", (dr, dz, dn * r))
            return dh * z, dc
        i, f, g, o, t = v["i"], v["f"], v["g"], v["o"], v["t"]
        da_o = dh * t * self.d_sigmoid(o)
        dm = dh * o * self.d_tanh(t)
        v["dc gain"], v["dc bias"] = dm * v["LN c'"], dm
        dc = dc + self.back(dm * self.w.norm_c, v["LN c'"], v["scale c'"])
        da_i = dc * g * self.d_sigmoid(i)
        da_f = dc * v["c"] * self.d_sigmoid(f)
        da_g = dc * i * self.d_tanh(g)
        for side in "xh":
            self.spread(v, side, (da_i, da_f, da_g, da_o))
        return none, dc * f

    def spread(self, v: Values, side: str, gradients: tuple[Array, ...]) -> None:
        """Gradients of the raw products, and terms of those of gains and biases. [Y7] [Y8]"""
        for k, d in enumerate(gradients):
            name = side + self.names[k]
            value = v[f"LN {name}"]
            v[f"gain {name}"], v[f"bias {name}"] = d * value, d
            v[f"da_{name}"] = self.back(d * self.gain(side, k), value, v[f"scale {name}"])

    def weight_gradients(self) -> Values:
        out = super().weight_gradients()
        for side in "xh":
            names = [side + name for name in self.names]
            for what, field in (("gain", "norm_ih"), ("bias", "b_ih")):
                sums = [self.sums(f"{what} {name}", None) for name in names]
                out[f"d{field} 0".replace("_ih", "_hh" if side == "h" else "_ih")] = np.concatenate(
                    sums
                )
        if self.cell == "lstm_norm":
            out["dnorm_c 0"] = self.sums("dc gain", None)
            out["dnorm_c_bias 0"] = self.sums("dc bias", None)
        return out
