"""The NumPy backend in one file, because its two walks mirror each other, for every cell.

Written to be read beside docs/conventions.md. The rows of a step are handled together, padding is
never touched, and the results differ from the compiled kernels' by rounding alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _reference_cells, _reference_chosen, _reference_norm
from ._backend import (
    DirectionGradients,
    Forward,
    Gradients,
    Inputs,
    Saved,
    Weights,
    record,
)
from ._reference_call import Call, Slots, calls, zeros
from ._reference_cells import Step
from ._spec import Array

CELLS = _reference_cells.CELLS | _reference_chosen.CELLS | _reference_norm.CELLS


class ReferenceBackend:
    """NumPy; see `_backend.Backend`."""

    name = "reference"

    def forward(
        self, weights: tuple[Weights, ...], inputs: Inputs, *, save: bool, num_threads: int | None
    ) -> Forward:
        """Run the sequences."""
        directions = calls(tuple(w.held() for w in weights), inputs)
        first, out = directions[0], weights[0].output_size
        spec, dtype = weights[0].spec, weights[0].dtype
        record(self.name, "numpy", f"{spec.name} {dtype}", 1)
        shape = (first.batch, first.steps) if inputs.batch_first else (first.steps, first.batch)
        result = np.zeros((*shape, len(weights) * out), dtype)
        y = inputs.time_major(result)
        final = zeros(first, len(weights))
        for k, state in enumerate(inputs.states or ()):
            final[k][:] = state
        data: list[Array] = []
        with np.errstate(over="ignore", invalid="ignore"):
            for call in directions:
                d = call.direction
                states = [state[d] for state in final]
                data += self._walk(call, states, y[:, :, d * out : (d + 1) * out], save)
        saved = None
        if save:
            result.flags.writeable = False
            saved = Saved(weights, inputs, result, tuple(data), self.name, "numpy")
        return Forward(result, tuple(final), saved)

    def _walk(self, call: Call, states: list[Array], y: Array, save: bool) -> list[Array]:
        """One direction: leaves the last states in `states`; gives what its way back reads."""
        w, cell, slots = call.weights, CELLS[call.weights.spec.name], Slots(call.weights)
        norm = _reference_norm.parameters(w)
        kept = call.steps if save else 0
        data = [np.zeros((kept, call.batch, w.spec.gates, w.hidden_size), w.dtype)]
        for _ in range(2):  # the states that entered each step, and the fresh ones
            data += [np.zeros((kept, *state.shape), w.dtype) for state in states]
        if w.w_hr is not None:
            data.append(np.zeros((kept, call.batch, w.hidden_size), w.dtype))  # m, before it
        for s, rows, t in call.each_step():
            old = [state[rows] for state in states]
            call.replace_cut(old, call.cut(s, rows), rows)
            u = call.dropped(old[0], rows)
            a = slots.pre_activations(call.inputs, t, rows, u)
            step = Step(w.p, u, slots.late_product, w.options, norm)
            a, (m, *rest) = cell.forward(a, tuple(old), step)
            fresh = [m if w.w_hr is None else m @ w.w_hr.T, *rest]
            for k, state in enumerate(states):
                state[rows] = call.zoned(k, t, rows, fresh[k], old[k])
            y[t, rows] = states[0][rows]
            if save:
                values = [a.swapaxes(0, 1), *old, *fresh, *([] if w.w_hr is None else [m])]
                for array, value in zip(data, values, strict=True):
                    array[t, rows] = value
        everyone = np.arange(call.batch)
        call.replace_cut(states, call.cut(call.lengths, everyone), everyone)
        return data

    def backward(
        self,
        saved: Saved,
        dy: Array | None,
        dstates: tuple[Array, ...] | None,
        *,
        num_threads: int | None,
        dcells: Array | None = None,
        dgates: Array | None = None,
        want_dx: bool = True,
    ) -> Gradients:
        """Walk back through the saved call."""
        weights, inputs = tuple(w.held() for w in saved.weights), saved.inputs
        parts = calls(weights, inputs)
        spec, dtype, out = weights[0].spec, weights[0].dtype, weights[0].output_size
        record(self.name, "numpy", f"{spec.name} {dtype}", 1)
        result = None
        if want_dx and inputs.x is not None:
            result = np.zeros((*saved.y.shape[:2], inputs.x.shape[2]), dtype)
        carry = zeros(parts[0], len(weights))
        for k, dstate in enumerate(dstates or ()):
            carry[k][:] = dstate
        each = len(saved.data) // len(weights)
        directions = []
        with np.errstate(over="ignore", invalid="ignore"):
            for call in parts:
                d = call.direction
                back = _Back(
                    call,
                    saved.data[d * each : (d + 1) * each],
                    dy=None if dy is None else inputs.time_major(dy)[..., d * out : (d + 1) * out],
                    dcells=None if dcells is None else dcells[d],
                    dgates=None if dgates is None else dgates[d],
                    dx=None if result is None else inputs.time_major(result),
                )
                directions.append(back.walk([state[d] for state in carry]))
        return Gradients(result, tuple(directions), tuple(carry))

    def stepper(self, weights: Weights, inputs: Inputs, num_threads: int | None) -> None:
        """NumPy has no faster way."""
        return

    def slots(self, saved: Saved) -> tuple[Array, Array | None]:
        """As each direction's walk kept them; c after zoneout."""
        parts = calls(saved.weights, saved.inputs)
        each = len(saved.data) // len(parts)
        kept = [saved.data[d * each : (d + 1) * each] for d in range(len(parts))]
        slots = np.stack([data[0] for data in kept])
        if saved.weights[0].spec.states < 2:
            return slots, None
        steps, rows = np.arange(slots.shape[1])[:, None], np.arange(slots.shape[2])
        cells = [
            call.zoned(1, steps, rows, fresh=data[4], old=data[2])
            for call, data in zip(parts, kept, strict=True)
        ]
        return slots, np.stack(cells)


class _Back:
    """One direction's way back."""

    def __init__(
        self,
        call: Call,
        data: tuple[Array, ...],
        dy: Array | None,
        dcells: Array | None,
        dgates: Array | None,
        dx: Array | None,
    ) -> None:
        w = call.weights
        self.call, self.dy, self.dcells, self.dgates, self.dx = call, dy, dcells, dgates, dx
        n = w.spec.states
        self.gates, self.entered, self.fresh = data[0], data[1 : 1 + n], data[1 + n : 1 + 2 * n]
        self.m = data[-1]  # where projected
        self.slots = Slots(w)
        self.dw, self.dr = np.zeros_like(self.slots.w), np.zeros_like(self.slots.r)
        self.db = np.zeros((w.spec.gates, w.hidden_size), w.dtype)
        self.dp = np.zeros((w.spec.vectors, w.hidden_size), w.dtype)
        self.dw_hr = None if w.w_hr is None else np.zeros_like(w.w_hr)
        self.norm = _reference_norm.parameters(w)

    def walk(self, carry: list[Array]) -> DirectionGradients:
        """From the gradients of the last states in `carry` to those of the first, left there."""
        call = self.call
        everyone = np.arange(call.batch)
        left = call.cut(call.lengths, everyone)
        for dstate in carry:
            dstate[left] = 0
        for s, rows, t in reversed(list(call.each_step())):
            ds = self.step(t, rows, [dstate[rows] for dstate in carry])
            for dstate, value in zip(carry, ds, strict=True):
                value[call.cut(s, rows)] = 0
                dstate[rows] = value
        return self.direction()

    def step(self, t: Array, rows: Array, ds: list[Array]) -> list[Array]:
        """Gradients of the states that entered, from those of the states that left."""
        call, slots, w = self.call, self.slots, self.call.weights
        spec, cell = w.spec, CELLS[w.spec.name]
        if self.dy is not None:
            ds[0] = ds[0] + self.dy[t, rows]
        if self.dcells is not None:
            ds[1] = ds[1] + self.dcells[t, rows]
        split = [call.zoned_back(k, t, rows, d) for k, d in enumerate(ds)]
        fresh, kept = [new for new, _ in split], [old for _, old in split]
        if w.w_hr is not None and self.dw_hr is not None:
            self.dw_hr += fresh[0].T @ self.m[t, rows]
            fresh[0] = fresh[0] @ w.w_hr
        a = self.gates[t, rows].swapaxes(0, 1)
        s, s_next = tuple(e[t, rows] for e in self.entered), tuple(f[t, rows] for f in self.fresh)
        u = call.dropped(s[0], rows)
        incoming = np.zeros((spec.x_gates, *a.shape[1:]), a.dtype)
        if self.dgates is not None:
            incoming[:] = self.dgates[t, rows].swapaxes(0, 1)
        step = Step(w.p, u, slots.late_product_back, w.options, self.norm)
        da, before, du = cell.backward(a, s, s_next, tuple(fresh), incoming, step)

        da_h = da[spec.h_first :]
        du = du + (da_h[: slots.late] @ slots.r[: slots.late]).sum(axis=0)
        after = [kept[0] + call.dropped(du, rows), *kept[1:]]
        if w.w_hr is None:
            after[0] = after[0] + before[0]
        for k in range(1, spec.states):
            after[k] = after[k] + before[k]
        self.reduce(t, rows, da, u, a)
        if cell.vector_terms is not None:
            self.dp += cell.vector_terms(da, s, s_next).sum(axis=1)
        return after

    def reduce(self, t: Array, rows: Array, da: Array, u: Array, a: Array) -> None:
        """What this step adds to dx and to the weight gradients."""
        inputs, slots, spec = self.call.inputs, self.slots, self.call.weights.spec
        da_x, da_h = da[: spec.x_gates], da[spec.h_first :]
        if self.dx is not None:
            self.dx[t, rows] += (da_x @ slots.w).sum(axis=0)
        if inputs.x is not None:
            self.dw += da_x.transpose(0, 2, 1) @ inputs.x[t, rows]
        elif inputs.tokens is not None:
            columns: Any = (slice(None), slice(None), inputs.tokens[t, rows])
            np.add.at(self.dw, columns, da_x.transpose(0, 2, 1))
        da_ht = da_h.transpose(0, 2, 1)
        self.dr[: slots.late] += da_ht[: slots.late] @ u
        if spec.late:
            by = self.call.weights.options
            gate = a[0] if by is None else _reference_chosen.gate(a[0], by)
            self.dr[slots.late :] += da_ht[slots.late :] @ (gate * u)
        self.db += da.sum(axis=1)

    def direction(self) -> DirectionGradients:
        """From slots back to the row blocks of the weights."""
        slots, spec, size = self.slots, self.call.weights.spec, self.dw.shape[1]
        x_slots, h_slots = np.argsort(slots.x_blocks), np.argsort(slots.h_blocks)
        result = DirectionGradients(
            dw_ih=self.dw[x_slots].reshape(spec.x_gates * size, -1),
            dw_hh=self.dr[h_slots].reshape(-1, self.dr.shape[2]) if spec.h_gates else None,
            db_ih=self.db[: spec.x_gates][x_slots].reshape(-1),
            db_hh=self.db[spec.h_first :][h_slots].reshape(-1) if spec.h_gates else None,
            dp=self.dp if spec.vectors and not spec.norm else None,
            dw_hr=self.dw_hr,
        )
        if self.norm is None:
            return result
        sums = {f"d{name}": total.reshape(-1) for name, total in self.norm.sums.items()}
        return result._replace(**sums)
