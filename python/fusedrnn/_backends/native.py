"""The compiled backend: hands arrays to `_core` and notes what ran."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _core
from .._activations import core_options
from .._cells import Array
from .settings import chosen_isa, chosen_threads, record
from .types import (
    ANY_NUMBER,
    FLOAT_NAMES,
    WEIGHTS,
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
    named,
)

if TYPE_CHECKING:
    from ..core._packed import Packed


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
BLOCK_BYTES = 64


def isa() -> str:
    """The instruction set of the next call here."""
    return chosen_isa.get() or DEFAULT_ISA


def _resolved(threads: Threads) -> tuple[int, int]:
    """The call's own wish, else the setting in force."""
    return (chosen_threads.get(), 0) if threads == ANY_NUMBER else threads


class NativeSteps:
    """See `types.Steps`."""

    def __init__(self, stepper: _core.Stepper, isa: str, kernel: str) -> None:
        self._step, self._isa, self._kernel = stepper.step, isa, kernel
        self.undo, self.states, self.load = stepper.undo, stepper.states, stepper.load

    def step(self, x: Array, y: Array, real: object, cut: object) -> bool:
        """Read x, write y, go on."""
        threads = self._step(x, y, real, cut)
        if threads == 0:
            return False
        record("native", self._isa, self._kernel, threads)
        return True


class NativeBackend:
    """SIMD and OpenMP kernels; see `types.Backend` for what the functions take and give."""

    name = "native"
    verifies = True

    def form_key(self, packed: Packed) -> str:
        """The instruction set: panels of different ones differ."""
        return packed.isa or chosen_isa.get() or DEFAULT_ISA

    def form(self, packed: Packed, direction: int, sources: Sources) -> _core.PackedWeights:
        """Packed panels of one direction; they are made when a call first needs them."""
        return _core.PackedWeights(
            self.form_key(packed), packed.cell, sources, core_options(packed.options)
        )

    def saved_shape(self, packed: Packed, steps: int, batch: int) -> tuple[int, ...]:
        """(D, T, B, blocks of H, slots, 64 bytes of units): the gates, and c if the cell has it."""
        block = BLOCK_BYTES // packed.dtype.itemsize
        spec = packed.spec
        blocks, slots = -(-packed.hidden_size // block), spec.gates + spec.states - 1
        return (packed.directions, steps, batch, blocks, slots, block)

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
        forms = packed.forms(self)
        out, states, kept, used = _core.forward(
            forms, inputs, y, final, None if saved is False else saved, *_resolved(threads)
        )
        record("native", forms[0].isa, packed.kernel, used)
        return Outcome(out, states, kept)

    def forward_plain(
        self,
        cell: str,
        x: object,
        weights: tuple[object, ...],
        states: tuple[object, ...],
        threads: Threads,
    ) -> tuple[Array, tuple[Array, ...]] | None:
        """Run the sequences if every argument is what the kernels read."""
        isa = chosen_isa.get() or DEFAULT_ISA
        found = _core.forward_plain(isa, cell, x, weights, states, *_resolved(threads))
        if found is None:
            return None
        y, last, used = found
        record("native", isa, f"{cell} {FLOAT_NAMES[y.itemsize]}", used)
        return y, last

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
        """Walk back through the saved call."""
        forms = packed.forms(self)
        dx, dfirst, targets = _all_asked(packed, wanted)
        *found, used = _core.backward(
            forms,
            inputs,
            y,
            saved,
            *given,
            dx,
            dfirst,
            wanted.dinitial,
            targets,
            wanted.add,
            wanted.group,
            *_resolved(threads),
        )
        record("native", forms[0].isa, packed.kernel, used)
        return _all_given_back(packed, wanted, *found)

    def forward_ensemble(self, members: Sequence[ForwardMember], threads: Threads) -> None:
        """Run every member in one call."""
        forms = [one.packed.forms(self) for one in members]
        given = [(form, *one[1:]) for form, one in zip(forms, members, strict=True)]
        saves = members[0].saved is not None
        found = _core.forward_ensemble(given, saves, *_resolved(threads))
        record("native", forms[0][0].isa, members[0].packed.kernel, found[0][-1])

    def backward_ensemble(
        self, members: Sequence[BackwardMember], threads: Threads
    ) -> list[Gradients]:
        """Walk every member back in one call."""
        forms = [one.packed.forms(self) for one in members]
        given = [
            (form, one.inputs, one.y, one.saved, *one.given, *_all_asked(one.packed, one.wanted))
            for form, one in zip(forms, members, strict=True)
        ]
        wanted = members[0].wanted
        found = _core.backward_ensemble(
            given, wanted.dinitial, wanted.add, wanted.group, *_resolved(threads)
        )
        record("native", forms[0][0].isa, members[0].packed.kernel, found[0][-1])
        return [
            _all_given_back(one.packed, one.wanted, *values)
            for one, (*values, _) in zip(members, found, strict=True)
        ]

    def stepper(self, packed: Packed, inputs: Inputs, threads: Threads) -> NativeSteps:
        """One layer made ready for many calls of one step."""
        (form,) = packed.forms(self)
        stepper = _core.stepper(form, inputs, *_resolved(threads))
        return NativeSteps(stepper, form.isa, packed.kernel)

    def slots(self, packed: Packed, inputs: Inputs, saved: Array) -> tuple[Array, Array | None]:
        """Every slot, and every c, from their 64-byte blocks."""
        *of_rows, count, slots, block = saved.shape
        units = saved.swapaxes(3, 4).reshape(*of_rows, slots, count * block)
        units, spec = units[..., : packed.hidden_size], packed.spec
        return units[..., : spec.gates, :], units[..., -1, :] if spec.states > 1 else None


def _asked(packed: Packed, wanted: Mapping[str, bool | Array]) -> tuple[object, ...]:
    """What `_core` is told of each array of WEIGHTS: None, True, or where it goes."""
    if packed.spec.norm:
        # The gains' gradients are rows of one array there, and are taken apart afterwards.
        asked = {name: value for name, value in wanted.items() if value is not False}
        gains = [name for name in asked if name.startswith("norm_")]
        wanted = {name: value for name, value in asked.items() if name not in gains}
        wanted["p"] = bool(gains)
    return tuple([None if (to := wanted.get(name, False)) is False else to for name in WEIGHTS])


def _all_asked(packed: Packed, wanted: Wanted) -> tuple[Any, Any, list[tuple[object, ...]]]:
    """What `_core` is told of dx, of the gradients of the first states, and of the weights."""
    return (
        None if wanted.dx is False else wanted.dx,
        None if wanted.dstates is False else wanted.dstates,
        [_asked(packed, of) for of in wanted.dweights],
    )


def _all_given_back(
    packed: Packed, wanted: Wanted, dx: Any, dweights: Any, dstates: Any, dinitial: Any
) -> Gradients:
    """What `_core` returned."""
    found = tuple(
        _given_back(packed, of, values, wanted.add)
        for of, values in zip(wanted.dweights, dweights, strict=True)
    )
    return Gradients(dx, found, dstates, dinitial)


def _given_back(
    packed: Packed, wanted: Mapping[str, bool | Array], values: tuple[Any, ...], add: bool
) -> dict[str, Array]:
    """The gradients of one direction by name."""
    found = named(values)
    if not packed.spec.norm or "p" not in found:
        return found
    p, n = found.pop("p"), packed.spec.x_gates
    of_gates = (*p.shape[:-2], n * packed.hidden_size)
    parts = {
        "norm_ih": p[..., :n, :].reshape(of_gates),
        "norm_hh": p[..., n : 2 * n, :].reshape(of_gates),
    }
    if packed.spec.states > 1:
        parts["norm_c"], parts["norm_c_bias"] = p[..., 2 * n, :], p[..., 2 * n + 1, :]
    for name, part in parts.items():
        target = wanted.get(name, False)
        if target is not False:
            found[name] = part if target is True else delivered(part, target, add)
    return found
