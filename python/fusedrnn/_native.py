"""The compiled backend: hands arrays to `_core`, keeps packed weights, notes what ran."""

from __future__ import annotations

import numpy as np

from . import _core
from ._backend import (
    DirectionGradients,
    Forward,
    Gradients,
    Inputs,
    Path,
    Saved,
    Weights,
    chosen_isa,
    chosen_threads,
    record,
)
from ._spec import Array

DEFAULT_ISA = _core.default_isa()


def isa() -> str:
    """The instruction set of the next call in this context."""
    return chosen_isa.get() or DEFAULT_ISA


def _pack(weights: Weights, isa: str) -> Array:
    cache = weights.cache
    pack: Array | None = cache.get(isa)
    if pack is None:
        w = weights
        pack = cache[isa] = _core.pack(isa, w.spec.name, w.w_ih, w.w_hh, w.b_ih, w.b_hh, w.p)
    return pack


def _pack_backward(weights: Weights, isa: str) -> Array:
    cache = weights.cache
    pack: Array | None = cache.get((isa, "backward"))
    if pack is None:
        w = weights
        pack = _core.pack_backward(isa, w.spec.name, w.w_ih, w.w_hh, w.p)
        cache[isa, "backward"] = pack
    return pack


def _flags(reset: Array | None) -> Array | None:
    return None if reset is None else reset.view(np.uint8)


class NativeBackend:
    """SIMD and OpenMP kernels; see `_backend.Backend` for what the functions take and give."""

    name = "native"

    def forward(
        self, weights: tuple[Weights, ...], inputs: Inputs, *, save: bool, num_threads: int | None
    ) -> Forward:
        """Run the sequences; with `save`, keep what `backward` needs."""
        first = weights[0]
        target = chosen_isa.get() or DEFAULT_ISA
        y, states, data, threads = _core.forward(
            target,
            first.spec.name,
            [_pack(w, target) for w in weights],
            first.input_size,
            first.hidden_size,
            inputs.x,
            inputs.tokens,
            inputs.states,
            inputs.lengths,
            _flags(inputs.reset),
            inputs.initial,
            save,
            chosen_threads.get() if num_threads is None else num_threads,
        )
        record(Path(self.name, target, f"{first.spec.name} {y.dtype}", threads))
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
    ) -> Gradients:
        """Gradients from those of y, (T, B, D*H), and of the final states, (D, B, H)."""
        first, inputs = saved.weights[0], saved.inputs
        target = chosen_isa.get() or DEFAULT_ISA
        dx, directions, states, threads = _core.backward(
            target,
            first.spec.name,
            [_pack_backward(w, target) for w in saved.weights],
            first.input_size,
            first.hidden_size,
            inputs.x,
            inputs.tokens,
            saved.y,
            inputs.states,
            saved.data[0],
            dy,
            dstates,
            inputs.lengths,
            _flags(inputs.reset),
            inputs.initial,
            True,
            chosen_threads.get() if num_threads is None else num_threads,
        )
        record(Path(self.name, target, f"{first.spec.name} {saved.y.dtype}", threads))
        return Gradients(dx, tuple(DirectionGradients(*d) for d in directions), states)
