"""The NumPy backend: one walk forward, one walk back, every cell through the same lines.

Written to be read beside docs/conventions.md. The rows of a step are handled together, padding is
never touched, and the results differ from the compiled kernels' by rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._backend import (
    DirectionGradients,
    Forward,
    Gradients,
    Inputs,
    Path,
    Saved,
    Weights,
    record,
)
from ._reference_cells import CELLS
from ._spec import Array


class _Slots:
    """The weights of one direction by slot: products for every slot in one expression."""

    def __init__(self, weights: Weights) -> None:
        spec, size = weights.spec, weights.hidden_size
        self.spec = spec
        self.late = spec.h_gates - spec.late  # first late slot, counted from h_first
        self.x_blocks = [spec.block(slot) for slot in range(spec.x_gates)]
        self.h_blocks = [spec.block(slot) for slot in range(spec.h_first, spec.gates)]
        self.w = weights.w_ih.reshape(spec.x_gates, size, -1)[self.x_blocks]
        recurrent = weights.w_hh
        if recurrent is None:
            recurrent = np.empty((0, size), weights.dtype)
        self.r = recurrent.reshape(-1, size, size)[self.h_blocks]
        self.bias = np.zeros((spec.gates, 1, size), weights.dtype)
        if weights.b_ih is not None:
            self.bias[: spec.x_gates, 0] += weights.b_ih.reshape(-1, size)[self.x_blocks]
        if weights.b_hh is not None:
            self.bias[spec.h_first :, 0] += weights.b_hh.reshape(-1, size)[self.h_blocks]

    def pre_activations(self, inputs: Inputs, t: int, rows: Array, h: Array) -> Array:
        """(gates, N, H): bias, plus W x, plus R h for all but the late slots."""
        a = np.repeat(self.bias, len(rows), axis=1)
        if inputs.x is not None:
            a[: self.spec.x_gates] += inputs.x[t, rows] @ self.w.transpose(0, 2, 1)
        elif inputs.tokens is not None:  # W times a one-hot x is a column of W
            a[: self.spec.x_gates] += self.w[:, :, inputs.tokens[t, rows]].transpose(0, 2, 1)
        end = self.spec.gates - self.spec.late
        a[self.spec.h_first : end] += h @ self.r[: self.late].transpose(0, 2, 1)
        return a

    def late_product(self, u: Array) -> Array:
        """R u of the late slot."""
        product: Array = u @ self.r[-1].T
        return product

    def late_product_back(self, da: Array) -> Array:
        """R^T da of the late slot."""
        product: Array = da @ self.r[-1]
        return product


def _steps(
    inputs: Inputs, steps: int, batch: int, direction: int
) -> Iterator[tuple[int, Array, Array]]:
    """Time step, its live rows, and which of these enter it after a cut, in walking order."""
    lengths = np.full(batch, steps) if inputs.lengths is None else inputs.lengths
    times = range(steps if batch else 0)
    for t in reversed(times) if direction else times:
        rows = np.flatnonzero(lengths > t)
        cut = np.zeros(len(rows), bool)
        if inputs.reset is not None and not direction:
            cut = inputs.reset[t, rows]
        elif inputs.reset is not None and t + 1 < steps:  # the link between t+1 and t
            cut = inputs.reset[t + 1, rows] & (lengths[rows] > t + 1)
        yield t, rows, cut


class ReferenceBackend:
    """NumPy; see `_backend.Backend`."""

    name = "reference"

    def forward(
        self,
        weights: tuple[Weights, ...],
        inputs: Inputs,
        *,
        save: bool,
        num_threads: int | None,
    ) -> Forward:
        """Run the sequences."""
        spec, size, dtype = weights[0].spec, weights[0].hidden_size, weights[0].dtype
        sequence = inputs.tokens if inputs.x is None else inputs.x
        assert sequence is not None
        steps, batch = sequence.shape[:2]
        record(Path(self.name, "numpy", f"{spec.name} {dtype}", 1))
        cell, kept = CELLS[spec.name], steps if save else 0
        y = np.zeros((steps, batch, len(weights) * size), dtype)
        final = np.zeros((spec.states, len(weights), batch, size), dtype)
        if inputs.states is not None:
            final[:] = inputs.states
        data: list[Array] = []
        for d, w in enumerate(weights):
            states = final[:, d]
            gates = np.zeros((kept, spec.gates, batch, size), dtype)
            entered = np.zeros((kept, spec.states, batch, size), dtype)
            left = np.zeros((kept, spec.states, batch, size), dtype)
            slots = _Slots(w)
            with np.errstate(over="ignore", invalid="ignore"):
                for t, rows, cut in _steps(inputs, steps, batch, d):
                    s = states[:, rows]
                    if cut.any():
                        s[:, cut] = 0
                        if inputs.initial is not None:
                            s[:, cut] = [first[d, rows[cut]] for first in inputs.initial]
                    a = slots.pre_activations(inputs, t, rows, s[0])
                    a, s_next = cell.forward(a, tuple(s), w.p, slots.late_product)
                    states[:, rows] = s_next
                    y[t, rows, d * size : (d + 1) * size] = s_next[0]
                    if save:
                        gates[t][:, rows], entered[t][:, rows], left[t][:, rows] = a, s, s_next
            data += [gates, entered, left]
        saved = None
        if save:
            y.flags.writeable = False
            saved = Saved(weights, inputs, y, tuple(data), self.name, "numpy")
        return Forward(y, tuple(final), saved)

    def backward(
        self,
        saved: Saved,
        dy: Array | None,
        dstates: tuple[Array, ...] | None,
        *,
        num_threads: int | None,
    ) -> Gradients:
        """Walk back through the saved call."""
        weights, inputs = saved.weights, saved.inputs
        spec, size, dtype = weights[0].spec, weights[0].hidden_size, weights[0].dtype
        steps, batch = saved.y.shape[:2]
        record(Path(self.name, "numpy", f"{spec.name} {dtype}", 1))
        cell = CELLS[spec.name]
        dx = None if inputs.x is None else np.zeros_like(inputs.x)
        carry = np.zeros((spec.states, len(weights), batch, size), dtype)
        if dstates is not None:
            carry[:] = dstates
        directions = []
        for d, w in enumerate(weights):
            gates, entered, left = saved.data[3 * d : 3 * d + 3]
            dstate = carry[:, d]
            slots = _Slots(w)
            dw, dr = np.zeros_like(slots.w), np.zeros_like(slots.r)
            db = np.zeros((spec.gates, size), dtype)
            dp = np.zeros((spec.vectors, size), dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                for t, rows, cut in reversed(list(_steps(inputs, steps, batch, d))):
                    ds = dstate[:, rows]
                    if dy is not None:
                        ds[0] += dy[t, rows, d * size : (d + 1) * size]
                    a, s, s_next = gates[t][:, rows], entered[t][:, rows], left[t][:, rows]
                    da, ds_before = cell.backward(
                        a, tuple(s), tuple(s_next), tuple(ds), w.p, slots.late_product_back
                    )
                    da_x, da_h = da[: spec.x_gates], da[spec.h_first :]
                    ds[:] = ds_before
                    ds[0] += (da_h[: slots.late] @ slots.r[: slots.late]).sum(axis=0)
                    ds[:, cut] = 0
                    dstate[:, rows] = ds

                    if inputs.x is not None and dx is not None:
                        dx[t, rows] += (da_x @ slots.w).sum(axis=0)
                        dw += da_x.transpose(0, 2, 1) @ inputs.x[t, rows]
                    elif inputs.tokens is not None:
                        columns: Any = (slice(None), slice(None), inputs.tokens[t, rows])
                        np.add.at(dw, columns, da_x.transpose(0, 2, 1))
                    da_ht = da_h.transpose(0, 2, 1)
                    dr[: slots.late] += da_ht[: slots.late] @ s[0]
                    dr[slots.late :] += da_ht[slots.late :] @ (a[0] * s[0])
                    db += da.sum(axis=1)
                    if cell.vector_terms is not None:
                        dp += cell.vector_terms(da, tuple(s), tuple(s_next)).sum(axis=1)
            directions.append(_direction_gradients(slots, dw, dr, db, dp))
        return Gradients(dx, tuple(directions), tuple(carry))


def _direction_gradients(
    slots: _Slots, dw: Array, dr: Array, db: Array, dp: Array
) -> DirectionGradients:
    """From slots back to the row blocks of the weights."""
    spec, size = slots.spec, dw.shape[1]
    x_slots, h_slots = np.argsort(slots.x_blocks), np.argsort(slots.h_blocks)
    return DirectionGradients(
        dw_ih=dw[x_slots].reshape(spec.x_gates * size, -1),
        dw_hh=dr[h_slots].reshape(-1, size) if spec.h_gates else None,
        db_ih=db[: spec.x_gates][x_slots].reshape(-1),
        db_hh=db[spec.h_first :][h_slots].reshape(-1) if spec.h_gates else None,
        dp=dp if spec.vectors else None,
    )
