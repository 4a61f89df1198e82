"""The rounding order of docs/conventions.md, one operation at a time; all cells in one file.

It has no slots, panels, threads or lengths: it computes all rows of one direction, step by step. A
NumPy operation on two arrays rounds once, and so does `fma`, which is the C library's. sigmoid and
tanh are those of the kernels, because other tests judge them. The results must have the kernels'
bits.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from floor import Inputs, Weights
from fusedrnn import _core
from fusedrnn._cells import Array

# Gates in the order of the chains of dx and of dh, as (name, row block of the weights). In the GRU
# with reset after, n has two pre-activations: n over x, and m over h. The late gate multiplies R
# with r*h.
LSTM = (("i", 0), ("f", 1), ("g", 2), ("o", 3))
X_GATES = {
    "lstm": LSTM,
    "lstm_peephole": LSTM,
    "gru": (("n", 2), ("r", 0), ("z", 1)),
    "gru_reset_before": (("r", 0), ("z", 1), ("n", 2)),
}
H_GATES = {
    "lstm": LSTM,
    "lstm_peephole": LSTM,
    "gru": (("r", 0), ("z", 1), ("m", 2)),
    "gru_reset_before": (("r", 0), ("z", 1)),
    "dense": (),
}
# The row block of a late gate, which is called n.
LATE = {"gru_reset_before": 2}
ONLY = (("a", 0),)
Values = dict[str, Array]


PIECE = 128  # products are sums of pieces of this many K indices


class Law:
    """One call in one direction: y, states, and every gradient."""

    def __init__(self, weights: Weights, inputs: Inputs, isa: str) -> None:
        self.w, self.inputs, self.isa, self.cell = weights, inputs, isa, weights.spec.name
        self.dtype, self.size = weights.dtype, weights.hidden_size
        single = self.dtype == np.float32
        number = ctypes.c_float if single else ctypes.c_double
        library = ctypes.CDLL(ctypes.util.find_library("m"))
        function = library.fmaf if single else library.fma
        function.restype, function.argtypes = number, (number, number, number)
        self._fma = np.frompyfunc(function, 3, 1)
        self.x_gates = X_GATES.get(self.cell, ONLY)
        self.h_gates = H_GATES.get(self.cell, ONLY)
        self.steps: list[Values] = []

    def fma(self, a: Any, b: Any, c: Any) -> Array:
        return np.asarray(self._fma(a, b, c)).astype(self.dtype)

    def function(self, name: str, a: Array) -> Array:
        mapped: Array = getattr(_core, name)(self.isa, np.ascontiguousarray(a.reshape(-1)))
        return mapped.reshape(a.shape)

    def sigmoid(self, a: Array) -> Array:
        return self.function("sigmoid", a)

    def tanh(self, a: Array) -> Array:
        return self.function("tanh", a)

    def rows(self, w: Array | None, block: int) -> Array:
        assert w is not None
        return w[block * self.size : (block + 1) * self.size]

    def chain(self, a: Array, u: Array, w: Array) -> Array:
        """a (B, N) += u (B, K) w^T (N, K), in pieces of K in rising order. [R1]"""
        for first in range(0, u.shape[1], PIECE):
            of = slice(first, first + PIECE)
            a = a + self.piece(np.zeros_like(a), u[:, of], w[:, of])
        return a

    def piece(self, a: Array, u: Array, w: Array) -> Array:
        """a (B, N) += u (B, K) w^T (N, K), one fma at a time with rising K. [R1]"""
        for k in range(u.shape[1]):
            a = self.fma(u[:, k, None], w[None, :, k], a)
        return a

    def bias(self, block: int, which: str = "both") -> Array:
        """The sum of both biases, rounded once, or one of them; tiled to (B, H)."""
        parts = {"x": (self.w.b_ih,), "h": (self.w.b_hh,), "both": (self.w.b_ih, self.w.b_hh)}
        total = np.zeros(self.size, self.dtype)
        for b in parts[which]:
            if b is not None:
                total = total + self.rows(b, block)
        batch = len(self.x(0))
        return np.tile(total, (batch, 1))

    def x(self, t: int) -> Array:
        assert self.inputs.x is not None
        return self.inputs.x[t]

    def pre(self, block: int, x: Array, u: Array) -> Array:
        a = self.chain(self.bias(block), x, self.rows(self.w.w_ih, block))
        return a if self.w.w_hh is None else self.chain(a, u, self.rows(self.w.w_hh, block))

    # --- forward -----------------------------------------------------------------------------

    def forward(self) -> Values:
        steps, batch = self.x(slice(None)).shape[:2]  # type: ignore[arg-type]
        zeros = np.zeros((batch, self.size), self.dtype)
        given = self.inputs.states
        h, c = zeros, zeros
        if given is not None:
            h, c = given[0][0], given[-1][0]
        for t in range(steps):
            v = {"h": h, "c": c, "x": self.x(t)}
            self.step(v)
            self.steps.append(v)
            h, c = v["h'"], v.get("c'", c)
        out = {"y": np.stack([v["h'"] for v in self.steps]), "state 0": h[None]}
        return out | ({"state 1": c[None]} if self.w.spec.states > 1 else {})

    def step(self, v: Values) -> None:
        x, h, c, p = v["x"], v["h"], v["c"], self.w.p
        if self.cell in ("lstm", "lstm_peephole"):  # [R3]
            a = {name: self.pre(block, x, h) for name, block in LSTM}
            if p is not None:
                a["i"], a["f"] = self.fma(p[0], c, a["i"]), self.fma(p[1], c, a["f"])
            v["i"], v["f"], v["g"] = (f(a[k]) for f, k in zip(self.gates(), "ifg", strict=True))
            v["c'"] = self.fma(v["f"], c, v["i"] * v["g"])
            v["o"] = self.sigmoid(a["o"] if p is None else self.fma(p[2], v["c'"], a["o"]))
            v["h'"] = v["o"] * self.tanh(v["c'"])
        elif self.cell in ("gru", "gru_reset_before"):  # [R2] [R4]
            v["r"], v["z"] = self.sigmoid(self.pre(0, x, h)), self.sigmoid(self.pre(1, x, h))
            if self.cell == "gru":
                nx = self.chain(self.bias(2, "x"), x, self.rows(self.w.w_ih, 2))
                v["m"] = self.chain(self.bias(2, "h"), h, self.rows(self.w.w_hh, 2))
                v["n"] = self.tanh(self.fma(v["r"], v["m"], nx))
            else:
                v["u"] = v["r"] * h
                v["n"] = self.tanh(self.pre(2, x, v["u"]))
            v["h'"] = self.fma(v["z"], h - v["n"], v["n"])
        else:
            f = {"rnn_tanh": self.tanh, "rnn_sigmoid": self.sigmoid}.get(self.cell, lambda a: a)
            a = f(self.pre(0, x, h))
            v["h'"] = np.where(a > 0, a, self.dtype.type(0)) if self.cell == "rnn_relu" else a

    def gates(self) -> tuple[Any, Any, Any]:
        return self.sigmoid, self.sigmoid, self.tanh

    # --- backward ----------------------------------------------------------------------------

    def d_sigmoid(self, s: Array) -> Array:
        return s * (1 - s)

    def d_tanh(self, t: Array) -> Array:
        return self.fma(-t, t, self.dtype.type(1))

    def backward(self, dy: Array, dstates: tuple[Array, ...]) -> Values:
        dh, dc = dstates[0][0], dstates[-1][0]
        dx = np.zeros_like(self.x(slice(None)))  # type: ignore[arg-type]
        for t in reversed(range(len(self.steps))):
            v = self.steps[t]
            start, dc = self.step_back(v, dh + dy[t], dc)  # [G1]
            dh = self.chain_back(np.zeros_like(dh), v, self.h_gates, self.w.w_hh) + start
            dx[t] = self.chain_back(np.zeros_like(dx[t]), v, self.x_gates, self.w.w_ih)
        out = {"dx": dx} | self.weight_gradients()
        for k, dstate in enumerate((dh, dc)[: self.w.spec.states]):
            # No call here has a reset, so `initial` is used nowhere.
            out |= {f"dstate {k}": dstate[None], f"dinitial {k}": np.zeros_like(dstate[None])}
        return out

    def step_back(self, v: Values, dh: Array, dc: Array) -> tuple[Array, Array]:
        """Pre-activation gradients to v["da_..."]; returns the pointwise part of dh, and dc."""
        p, none = self.w.p, np.zeros_like(dh)
        if self.cell in ("lstm", "lstm_peephole"):  # [G3]
            i, f, g, o, t = v["i"], v["f"], v["g"], v["o"], self.tanh(v["c'"])
            v["da_o"] = dh * t * self.d_sigmoid(o)
            dc = self.fma(dh * o, self.d_tanh(t), dc)
            if p is not None:
                dc = self.fma(v["da_o"], p[2], dc)
            v["da_i"] = dc * g * self.d_sigmoid(i)
            v["da_f"] = dc * v["c"] * self.d_sigmoid(f)
            v["da_g"] = dc * i * self.d_tanh(g)
            dc = dc * f
            if p is not None:
                dc = self.fma(v["da_i"], p[0], self.fma(v["da_f"], p[1], dc))
            return none, dc
        if self.cell in ("gru", "gru_reset_before"):  # [G4] [G5]
            r, z, n = v["r"], v["z"], v["n"]
            v["da_n"] = (dh - dh * z) * self.d_tanh(n)
            v["da_z"] = dh * (v["h"] - n) * self.d_sigmoid(z)
            if self.cell == "gru":
                v["da_r"] = v["da_n"] * v["m"] * self.d_sigmoid(r)
                v["da_m"] = v["da_n"] * r
                return dh * z, dc
            du = self.chain_back(none, v, (("n", 2),), self.w.w_hh)
            v["da_r"] = du * v["h"] * self.d_sigmoid(r)
            return self.fma(du, r, dh * z), dc
        y, one = v["h'"], self.dtype.type(1)  # [G2]
        slopes = {"rnn_tanh": self.d_tanh, "rnn_sigmoid": self.d_sigmoid}
        if self.cell == "rnn_relu":
            v["da_a"] = dh * np.where(y > 0, one, self.dtype.type(0))
        else:
            v["da_a"] = dh * slopes[self.cell](y) if self.cell in slopes else dh
        return none, dc

    def chain_back(
        self, a: Array, v: Values, gates: tuple[tuple[str, int], ...], w: Array | None
    ) -> Array:
        """a += da w, by blocks of 64 bytes of units, gates in a block, units in a gate. [G6]

        A piece is as many whole blocks as fit in 128 indices; a last, shorter block is a piece of
        its own.
        """
        block = 64 // self.dtype.itemsize
        full = self.size // block
        most = max(1, PIECE // (max(1, len(gates)) * block))
        blocks = [(k, min(k + most, full)) for k in range(0, full, most)]
        for k, end in [*blocks, *([(full, full + 1)] if self.size % block else [])]:
            piece = np.zeros_like(a)
            for first in range(k * block, min(end * block, self.size), block):
                units = slice(first, min(first + block, self.size))
                for name, rows in gates:
                    weights = self.rows(w, rows)[units].T
                    piece = self.piece(piece, v[f"da_{name}"][:, units], weights)
            a = a + piece
        return a

    def pieces(self) -> Iterator[list[tuple[int, int]]]:
        """The (step, row) pairs of each partial sum. [G7]"""
        batch = len(self.x(0))
        step, end = max(1, 512 // batch), len(self.steps)
        while end > 0:
            begin = max(0, end - step)
            pairs = [(t, b) for t in reversed(range(begin, end)) for b in range(batch)]
            yield from (pairs[k : k + 512] for k in range(0, len(pairs), 512))
            end = begin

    def sums(self, left: str, right: str | None) -> Array:
        """The sum over rows of left right^T, or of left if `right` is None."""
        columns = () if right is None else self.steps[0][right].shape[1:]
        total = np.zeros((self.size, *columns), self.dtype)
        for pairs in self.pieces():
            part = np.zeros_like(total)
            if right is None:
                for t, b in pairs:
                    part = part + self.steps[t][left][b]
            for first in range(0, 0 if right is None else len(pairs), PIECE):
                piece = np.zeros_like(total)
                for t, b in pairs[first : first + PIECE]:
                    a = self.steps[t][left][b]
                    piece = self.fma(a[:, None], self.steps[t][right][b][None], piece)
                part = part + piece
            total = total + part
        return total

    def weight_gradients(self) -> Values:
        def stack(gates: Any, right: Any) -> Array:
            parts = sorted(gates, key=lambda gate: gate[1])
            return np.concatenate([self.sums(f"da_{name}", right(name)) for name, _ in parts])

        recurrent = self.h_gates
        if self.cell in LATE:
            recurrent = (*recurrent, ("n", LATE[self.cell]))
        out = {
            "dw_ih 0": stack(self.x_gates, lambda _: "x"),
            "db_ih 0": stack(self.x_gates, lambda _: None),
        }
        if recurrent:
            late = "u" if self.cell in LATE else "h"
            out["dw_hh 0"] = stack(recurrent, lambda name: late if name == "n" else "h")
            out["db_hh 0"] = stack(recurrent, lambda _: None)
        if self.w.p is not None:
            terms = (("da_i", "c"), ("da_f", "c"), ("da_o", "c'"))
            out["dp 0"] = np.stack([self.products(*names) for names in terms])
        return out

    def products(self, left: str, right: str) -> Array:
        """The sum over rows of left * right."""
        total = np.zeros(self.size, self.dtype)
        for pairs in self.pieces():
            part = np.zeros_like(total)
            for t, b in pairs:
                part = self.fma(self.steps[t][left][b], self.steps[t][right][b], part)
            total = total + part
        return total
