"""The compiled backend: hands arrays to `_core`, keeps packed weights, notes what ran."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._activations import core_options
from ._backend import (
    DirectionGradients,
    Forward,
    Gradients,
    Inputs,
    Saved,
    Weights,
    chosen_isa,
    chosen_threads,
    record,
)
from ._spec import Array
from ._walk import plan


def _default_isa() -> str:
    """What FUSEDRNN_ISA says, else the best of this machine."""
    name = os.environ.get("FUSEDRNN_ISA", "")
    runs = [isa for isa, supported, _ in _core.isas() if supported]
    if name and name not in runs:
        raise ValueError(
            f"FUSEDRNN_ISA: expected one that this machine runs ({', '.join(runs)}), got {name!r}"
        )
    return _core.default_isa()


DEFAULT_ISA = _default_isa()


def isa() -> str:
    """The instruction set of the next call in this context."""
    return chosen_isa.get() or DEFAULT_ISA


def _pack(w: Weights, isa: str, backward: bool = False) -> Array:
    """The weights as the kernels of an instruction set read them, made once."""
    pack: Array | None = w.cache.get((isa, backward))
    if pack is None:
        h = w.held()
        # A normalised cell's gates are made again on the way back.
        b_ih, b_hh = (None, None) if backward and not h.spec.norm else (h.b_ih, h.b_hh)
        pack = _core.pack(
            isa, h.spec.name, h.w_ih, h.w_hh, b_ih, b_hh, _vectors(h), h.w_hr, backward
        )
        w.cache[isa, backward] = pack
    return pack


def _vectors(w: Weights) -> Array | None:
    """The per-unit vectors (vectors, H); those of layer normalisation are its gains, and bc."""
    if not w.spec.norm:
        return w.p
    given = (w.norm_ih, w.norm_hh, w.norm_c, w.norm_c_bias)
    p = np.zeros((w.spec.vectors, w.hidden_size), w.dtype)
    rows = np.concatenate([a for a in given if a is not None]).reshape(-1, w.hidden_size)
    p[: len(rows)] = rows
    return p


def _gradients(w: Weights, arrays: tuple[Any, ...]) -> DirectionGradients:
    """Of one direction, from what the kernels give."""
    g = DirectionGradients(*arrays)
    if not w.spec.norm:
        return g
    assert g.dp is not None
    n = w.spec.x_gates
    dc, dc_bias = g.dp[2 * n :] if w.spec.states > 1 else (None, None)
    return g._replace(
        dp=None,
        dnorm_ih=g.dp[:n].reshape(-1),
        dnorm_hh=g.dp[n : 2 * n].reshape(-1),
        dnorm_c=dc,
        dnorm_c_bias=dc_bias,
    )


def _core_inputs(inputs: Inputs, directions: int) -> tuple[object, ...]:
    """The fields in the order of csrc/bind/job.hpp."""
    i = inputs
    lengths, times, cut = i.lengths, None, None
    if i.mask is not None or i.reset is not None:
        sequence = i.tokens if i.x is None else i.x
        assert sequence is not None
        steps, batch = sequence.shape[:2]
        lengths, times, cut = plan(steps, batch, directions, lengths, i.mask, i.reset)
    return (
        i.x, i.tokens, i.states, lengths, times, cut, i.initial, i.drop, i.keep, i.zoneout,
        i.batch_first,
    )  # fmt: skip


class _Fixed(NamedTuple):
    """What is the same for every call of a layer."""

    cell: str
    kernel: str  # as last_path() has it
    sizes: tuple[int, int, int, bool]
    options: tuple[object, ...] | None


def _fixed(w: Weights) -> _Fixed:
    cache = w.cache
    found: _Fixed | None = cache.get("fixed")
    if found is None:
        sizes = w.input_size, w.hidden_size, w.output_size, w.w_hr is not None
        found = _Fixed(w.spec.name, f"{w.spec.name} {w.dtype}", sizes, core_options(w.options))
        cache["fixed"] = found
    return found


class NativeSteps:
    """See `_backend.Steps`."""

    def __init__(self, stepper: _core.Stepper, isa: str, kernel: str) -> None:
        self._step, self._isa, self._kernel = stepper.step, isa, kernel
        self.undo, self.states, self.load = stepper.undo, stepper.states, stepper.load

    def step(self, x: Array, y: Array) -> bool:
        """Read x, write y, go on."""
        threads = self._step(x, y)
        if threads == 0:
            return False
        record("native", self._isa, self._kernel, threads)
        return True


class NativeBackend:
    """SIMD and OpenMP kernels; see `_backend.Backend` for what the functions take and give."""

    name = "native"

    def forward(
        self, weights: tuple[Weights, ...], inputs: Inputs, *, save: bool, num_threads: int | None
    ) -> Forward:
        """Run the sequences; with `save`, keep what `backward` needs."""
        fixed = _fixed(weights[0])
        target = chosen_isa.get() or DEFAULT_ISA
        y, states, data, threads = _core.forward(
            target,
            fixed.cell,
            [_pack(w, target) for w in weights],
            fixed.sizes,
            fixed.options,
            _core_inputs(inputs, len(weights)),
            save,
            chosen_threads.get() if num_threads is None else num_threads,
        )
        record(self.name, target, fixed.kernel, threads)
        if not save:
            return Forward(y, states, None)
        y.flags.writeable = False
        return Forward(y, states, Saved(weights, inputs, y, (data,), self.name, target))

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
        first, inputs = saved.weights[0], saved.inputs
        fixed = _fixed(first)
        target = chosen_isa.get() or DEFAULT_ISA
        dx, directions, states, threads = _core.backward(
            target,
            fixed.cell,
            [_pack(w, target, True) for w in saved.weights],
            fixed.sizes,
            fixed.options,
            _core_inputs(inputs, len(saved.weights)),
            saved.y,
            saved.data[0],
            dy,
            dstates,
            dcells,
            dgates,
            want_dx,
            chosen_threads.get() if num_threads is None else num_threads,
        )
        record(self.name, target, fixed.kernel, threads)
        return Gradients(dx, tuple(_gradients(first, d) for d in directions), states)

    def stepper(self, weights: Weights, inputs: Inputs, num_threads: int | None) -> NativeSteps:
        """One layer made ready for many calls of one step."""
        fixed, target = _fixed(weights), chosen_isa.get() or DEFAULT_ISA
        stepper = _core.stepper(
            target,
            fixed.cell,
            [_pack(weights, target)],
            fixed.sizes,
            fixed.options,
            _core_inputs(inputs, 1),
            chosen_threads.get() if num_threads is None else num_threads,
        )
        return NativeSteps(stepper, target, fixed.kernel)

    def slots(self, saved: Saved) -> tuple[Array, Array | None]:
        """Every slot, and every c, from their 64-byte blocks."""
        spec, hidden = saved.weights[0].spec, saved.weights[0].hidden_size
        blocks = saved.data[0]  # (D, T, B, H/block, slot, block)
        *of_rows, count, slots, block = blocks.shape
        units = blocks.swapaxes(3, 4).reshape(*of_rows, slots, count * block)[..., :hidden]
        return units[..., : spec.gates, :], units[..., -1, :] if spec.states > 1 else None
