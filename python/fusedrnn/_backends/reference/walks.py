"""The walks of the NumPy backend over the steps of a call, forward and backward, for every cell.

All live rows of a step are computed together, and padding is never read. Results differ from the
compiled kernels' by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._cells import Array
from ..._checks import arguments as _check
from ..settings import record
from ..types import (
    ANY_NUMBER,
    BackwardMember,
    ForwardMember,
    Given,
    Gradients,
    Inputs,
    Outcome,
    Sources,
    Threads,
    Wanted,
    delivered,
)
from . import cells as _cells
from . import chosen, norm
from .call import Call, ReferenceForm, Slots, Weights, calls, zeros
from .cells import Step

if TYPE_CHECKING:
    from ...core._packed import Packed

CELLS = _cells.CELLS | chosen.CELLS | norm.CELLS


def _widths(w: Weights) -> tuple[int, ...]:
    """Widths of the parts of a row of `saved`.

    The parts are the slots, the states that entered the step, the new states before zoneout, and,
    with a projection, m.
    """
    states = (w.output_size, w.hidden_size)[: w.spec.states]
    projected = () if w.w_hr is None else (w.hidden_size,)
    return (w.spec.gates * w.hidden_size, *states, *states, *projected)


def _parts(w: Weights, saved: Array) -> list[Array]:
    """Views of one direction's `saved` (T, B, K): (T, B, gates, H) and (T, B, width) each."""
    edges = np.cumsum(_widths(w))[:-1]
    first, *rest = np.split(saved, edges, axis=2)
    return [first.reshape(*first.shape[:2], w.spec.gates, w.hidden_size), *rest]


class ReferenceBackend:
    """The backend in NumPy; see `types.Backend`."""

    name = "reference"
    verifies = False

    def form_key(self, packed: Packed) -> str:
        """Return one key: there is one form."""
        return "numpy"

    def form(self, packed: Packed, direction: int, sources: Sources) -> ReferenceForm:
        """Make copies of one direction's weights when they are needed."""
        return ReferenceForm(packed, direction)

    def _weights(self, packed: Packed) -> tuple[Weights, ...]:
        return tuple(form.weights() for form in packed.forms(self))

    def saved_shape(self, packed: Packed, steps: int, batch: int) -> tuple[int, ...]:
        """Return (D, T, B, K), K numbers for each row and step."""
        return (packed.directions, steps, batch, sum(_widths(self._weights(packed)[0])))

    def forward(
        self,
        packed: Packed,
        inputs: Inputs,
        *,
        y: Array | None = None,
        final: tuple[Array, ...] | None = None,
        saved: bool | Array = False,
        threads: Threads = ANY_NUMBER,
    ) -> Outcome:
        """Run the sequences."""
        weights = self._weights(packed)
        _check.keep_apart([("y", y), ("final", final), ("saved", saved)], [inputs, *packed.sources])
        directions = calls(weights, inputs)
        first, out = directions[0], weights[0].output_size
        record(self.name, "numpy", packed.kernel, 1)
        if y is None:
            y = np.empty((first.steps, first.batch, len(weights) * out), packed.dtype)
        y[...] = 0
        states = zeros(first, len(weights)) if final is None else list(final)
        for k, state in enumerate(states):
            state[:] = 0 if inputs.states is None else inputs.states[k]
        kept: Array | None = None
        if saved is not False:
            shape = self.saved_shape(packed, first.steps, first.batch)
            kept = np.zeros(shape, packed.dtype) if saved is True else saved
        with np.errstate(over="ignore", invalid="ignore"):
            for call in directions:
                d = call.direction
                self._walk(
                    call,
                    [state[d] for state in states],
                    y[:, :, d * out : (d + 1) * out],
                    None if kept is None else _parts(weights[d], kept[d]),
                )
        return Outcome(y, tuple(states), kept)

    def _walk(self, call: Call, states: list[Array], y: Array, kept: list[Array] | None) -> None:
        """Walk one direction: leaves the last states in `states`, fills `kept` for backward."""
        w, cell, slots = call.weights, CELLS[call.weights.spec.name], Slots(call.weights)
        normed = norm.parameters(w)
        for s, rows, t in call.each_step():
            old = [state[rows] for state in states]
            call.replace_cut(old, call.cut(s, rows), rows)
            u = call.dropped(old[0], rows)
            a = slots.pre_activations(call.inputs, t, rows, u)
            step = Step(w.p, u, slots.late_product, w.options, normed)
            a, (m, *rest) = cell.forward(a, tuple(old), step)
            fresh = [m if w.w_hr is None else m @ w.w_hr.T, *rest]
            for k, state in enumerate(states):
                state[rows] = call.zoned(k, t, rows, fresh[k], old[k])
            y[t, rows] = states[0][rows]
            if kept is not None:
                values = [a.swapaxes(0, 1), *old, *fresh, *([] if w.w_hr is None else [m])]
                for array, value in zip(kept, values, strict=True):
                    array[t, rows] = value
        everyone = np.arange(call.batch)
        call.replace_cut(states, call.cut(call.lengths, everyone), everyone)

    def backward(
        self,
        packed: Packed,
        inputs: Inputs,
        y: Array,
        saved: Array,
        given: Given,
        wanted: Wanted,
        *,
        threads: Threads = ANY_NUMBER,
    ) -> Gradients:
        """Walk back through the saved call; computes all weight gradients, returns the wanted."""
        weights = self._weights(packed)
        outputs = [("dstates", wanted.dstates), ("dx", wanted.dx)]
        outputs += [("weights", to) for of in wanted.dweights for to in of.values()]
        _check.keep_apart(outputs, [inputs, y, saved, given, *packed.sources])
        if wanted.group:
            return self._by_groups(packed, inputs, y, saved, given, wanted)
        parts = calls(weights, inputs)
        out = weights[0].output_size
        record(self.name, "numpy", packed.kernel, 1)
        dx: Array | None = None
        if wanted.dx is not False and inputs.x is not None:
            dx = np.zeros(inputs.x.shape, packed.dtype) if wanted.dx is True else wanted.dx
            dx[...] = 0
        carry, dinitial = zeros(parts[0], len(weights)), zeros(parts[0], len(weights))
        for k, dstate in enumerate(given.dstates or ()):
            carry[k][:] = dstate
        dweights = []
        with np.errstate(over="ignore", invalid="ignore"):
            for call, targets in zip(parts, wanted.dweights, strict=True):
                d = call.direction
                back = _Back(
                    call,
                    _parts(weights[d], saved[d]),
                    dy=None if given.dy is None else given.dy[..., d * out : (d + 1) * out],
                    dcells=None if given.dcells is None else given.dcells[d],
                    dgates=None if given.dgates is None else given.dgates[d],
                    dx=dx,
                    dinitial=[state[d] for state in dinitial],
                )
                found = back.walk([state[d] for state in carry])
                dweights.append(
                    {
                        name: g if to is True else delivered(g, to, wanted.add)
                        for name, g in found.items()
                        if (to := targets.get(name, False)) is not False
                    }
                )
        if isinstance(wanted.dstates, tuple):
            for target, dstate in zip(wanted.dstates, carry, strict=True):
                target[...] = dstate
            carry = list(wanted.dstates)
        return Gradients(
            dx,
            tuple(dweights),
            None if wanted.dstates is False else tuple(carry),
            tuple(dinitial) if wanted.dinitial else None,
        )

    def _by_groups(
        self,
        packed: Packed,
        inputs: Inputs,
        y: Array,
        saved: Array,
        given: Given,
        wanted: Wanted,
    ) -> Gradients:
        """Take each group's gradients from a walk in which all other rows have length 0."""
        none: tuple[dict[str, bool | Array], ...] = ({},) * len(wanted.dweights)
        whole = wanted._replace(dweights=none, add=False, group=0)
        found = self.backward(packed, inputs, y, saved, given, whole)
        steps, batch = inputs.sequence.shape[:2]
        lengths = np.full(batch, steps) if inputs.lengths is None else inputs.lengths
        asked = [[name for name, to in of.items() if to is not False] for of in wanted.dweights]
        names = tuple(dict.fromkeys(of, True) for of in asked)
        # One group more, of no rows, so that the shapes are known if there is none.
        groups = np.arange(batch) // wanted.group
        each = [
            self.backward(
                packed,
                inputs._replace(lengths=np.where(groups == k, lengths, 0)),
                y,
                saved,
                given,
                Wanted(False, names, False),
            ).dweights
            for k in range(batch // wanted.group + 1)
        ]
        dweights: list[dict[str, Array]] = [{} for _ in wanted.dweights]
        for d, targets in enumerate(wanted.dweights):
            for name in each[0][d]:
                g, to = np.stack([of[d][name] for of in each])[:-1], targets[name]
                if isinstance(to, np.ndarray):
                    g = delivered(g, to, wanted.add)
                dweights[d][name] = g
        return found._replace(dweights=tuple(dweights))

    def forward_ensemble(self, members: Sequence[ForwardMember], threads: Threads) -> None:
        """Run one member after the other."""
        for packed, inputs, y, final, saved in members:
            kept = False if saved is None else saved
            self.forward(packed, inputs, y=y, final=final, saved=kept, threads=threads)

    def backward_ensemble(
        self, members: Sequence[BackwardMember], threads: Threads
    ) -> list[Gradients]:
        """Walk one member back after the other."""
        return [self.backward(*one, threads=threads) for one in members]

    def forward_plain(
        self,
        cell: str,
        x: object,
        weights: tuple[object, ...],
        states: tuple[object, ...],
        threads: Threads,
    ) -> None:
        """Return None: NumPy has no faster way."""
        return

    def stepper(self, packed: Packed, inputs: Inputs, threads: Threads) -> None:
        """Return None: NumPy has no faster way."""
        return

    def slots(self, packed: Packed, inputs: Inputs, saved: Array) -> tuple[Array, Array | None]:
        """Return the slots as the walk saved them, and c after zoneout."""
        weights = self._weights(packed)
        parts = calls(weights, inputs)
        kept = [_parts(w, saved[d]) for d, w in enumerate(weights)]
        slots = np.stack([data[0] for data in kept])
        if packed.spec.states < 2:
            return slots, None
        steps, rows = np.arange(slots.shape[1])[:, None], np.arange(slots.shape[2])
        cells = [
            call.zoned(1, steps, rows, fresh=data[4], old=data[2])
            for call, data in zip(parts, kept, strict=True)
        ]
        return slots, np.stack(cells)


class _Back:
    """The backward walk of one direction."""

    def __init__(
        self,
        call: Call,
        data: list[Array],
        dy: Array | None,
        dcells: Array | None,
        dgates: Array | None,
        dx: Array | None,
        dinitial: list[Array],
    ) -> None:
        w = call.weights
        self.call, self.dy, self.dcells, self.dgates, self.dx = call, dy, dcells, dgates, dx
        self.dinitial = dinitial
        n = w.spec.states
        self.gates, self.entered, self.fresh = data[0], data[1 : 1 + n], data[1 + n : 1 + 2 * n]
        self.m = data[-1]  # only with a projection
        self.slots = Slots(w)
        self.dw, self.dr = np.zeros_like(self.slots.w), np.zeros_like(self.slots.r)
        self.db = np.zeros((w.spec.gates, w.hidden_size), w.dtype)
        self.dp = np.zeros((w.spec.vectors, w.hidden_size), w.dtype)
        self.dw_hr = None if w.w_hr is None else np.zeros_like(w.w_hr)
        self.norm = norm.parameters(w)

    def walk(self, carry: list[Array]) -> dict[str, Array]:
        """Turn `carry`, gradients of the last states, into those of the first; return dweights."""
        call = self.call
        everyone = np.arange(call.batch)
        self.across(call.cut(call.lengths, everyone), everyone, carry)
        for s, rows, t in reversed(list(call.each_step())):
            ds = self.step(t, rows, [dstate[rows] for dstate in carry])
            self.across(call.cut(s, rows), rows, ds)
            for dstate, value in zip(carry, ds, strict=True):
                dstate[rows] = value
        return self.direction()

    def across(self, cut: Array, rows: Array, ds: list[Array]) -> None:
        """Hand the gradients of states after a cut to `initial`: the states before get none."""
        for dstate, initial in zip(ds, self.dinitial, strict=True):
            initial[rows[cut]] += dstate[cut]
            dstate[cut] = 0

    def step(self, t: Array, rows: Array, ds: list[Array]) -> list[Array]:
        """Return the gradients of the states that entered, from those of the states that left."""
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
        """Add this step's part to dx and to the weight gradients."""
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
            gate = a[0] if by is None else chosen.gate(a[0], by)
            self.dr[slots.late :] += da_ht[slots.late :] @ (gate * u)
        self.db += da.sum(axis=1)

    def direction(self) -> dict[str, Array]:
        """Return the weight gradients, put from slots into the row blocks of the weights."""
        slots, spec, size = self.slots, self.call.weights.spec, self.dw.shape[1]
        x_slots, h_slots = np.argsort(slots.x_blocks), np.argsort(slots.h_blocks)
        found: dict[str, Array] = {
            "w_ih": self.dw[x_slots].reshape(spec.x_gates * size, -1),
            "b_ih": self.db[: spec.x_gates][x_slots].reshape(-1),
        }
        if spec.h_gates:
            found["w_hh"] = self.dr[h_slots].reshape(-1, self.dr.shape[2])
            found["b_hh"] = self.db[spec.h_first :][h_slots].reshape(-1)
        if spec.vectors and not spec.norm:
            found["p"] = self.dp
        if self.dw_hr is not None:
            found["w_hr"] = self.dw_hr
        if self.norm is not None:
            found |= {name: total.reshape(-1) for name, total in self.norm.sums.items()}
        return found
