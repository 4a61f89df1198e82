"""A stack of layers: one call of a backend for each, with the noise of the call between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from .._backends.choice import by_name, current
from .._backends.types import Given, Inputs, Threads, Wanted
from .._cells import Array
from ..core._packed import Packed
from .noise import Drawn, Rates, connected, connected_back, draw, dropped_input, masked
from .state import States


@dataclass(frozen=True, eq=False)
class Noise:
    """The rates of a training call's masks, and the generator that they are drawn from."""

    rates: Rates
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class Kept:
    """What a saved call keeps of one layer; arrays are time-major."""

    packed: Packed
    inputs: Inputs
    y: Array
    saved: Array
    backend: str
    drawn: Drawn | None

    @property
    def nbytes(self) -> int:
        """Bytes of what the backend saved, of the masks, and of R under DropConnect."""
        total, drawn = self.saved.nbytes, self.drawn
        if drawn is None:
            return total
        masks = [drawn.input, drawn.output, drawn.drop, *(drawn.keep or ())]
        total += sum(mask.nbytes for mask in masks if mask is not None)
        return total + 2 * sum(mask.nbytes for mask in drawn.connect or ())


def nbytes(layers: Sequence[Kept]) -> int:
    """Bytes that a call keeps besides its x and y: outputs between layers, inputs under masks."""
    total = sum(one.nbytes for one in layers) + sum(one.y.nbytes for one in layers[:-1])
    before: Array | None = None  # the output mask of the layer before
    for one in layers:
        x, drawn = one.inputs.x, one.drawn
        if x is not None and drawn is not None:
            total += x.nbytes if before is not None or drawn.input is not None else 0
            before = drawn.output
    return total


def forward(
    layers: Sequence[Packed],
    inputs: Inputs,
    states: Sequence[States] | None,
    initial: Sequence[States] | None,
    *,
    save: bool,
    threads: Threads,
    noise: Noise | None = None,
    y: Array | None = None,
) -> tuple[Array, list[States], list[Kept]]:
    """Run `inputs`, all fields but the states, through every layer; `y` receives the result."""
    run = current()
    finals: list[States] = []
    kept: list[Kept] = []
    out: Array | None = None
    for k, packed in enumerate(layers):
        last, call = k == len(layers) - 1, inputs
        if states is not None:
            call = call._replace(states=states[k])
        if initial is not None:
            call = call._replace(initial=initial[k])
        if out is not None:
            call = call._replace(x=out, tokens=None)
        drawn = None
        if noise is not None:
            drawn, packed, call = _noisy(noise, packed, call, last)
        out, final, saved = run.forward(
            packed, call, y=y if last else None, saved=save, threads=threads
        )
        finals.append(final)
        if saved is not None:
            kept.append(Kept(packed, call, out, saved, run.name, drawn))
        if drawn is not None and drawn.output is not None:
            out = masked(out, drawn.output)
    return cast("Array", out), finals, kept


def _noisy(noise: Noise, packed: Packed, call: Inputs, last: bool) -> tuple[Drawn, Packed, Inputs]:
    """Draw one layer's masks; return them, and the weights and inputs under them."""
    steps, batch = call.sequence.shape[:2]
    drawn = draw(noise.rng, noise.rates, packed, steps, batch, last)
    if drawn.input is not None:
        call = call._replace(x=dropped_input(call.x, call.tokens, drawn.input), tokens=None)
    return drawn, connected(packed, drawn), call._replace(drop=drawn.drop, keep=drawn.keep)


@dataclass(frozen=True, eq=False)
class Incoming:
    """Gradients of one layer's outputs except y; None: zeros."""

    states: States | None = None
    cells: Array | None = None  # (D, T, B, H)
    gates: Array | None = None  # (D, T, B, n, H)


def backward(
    kept: Sequence[Kept],
    dy: Array | None,
    incoming: Sequence[Incoming],
    *,
    per_sample: bool,
    threads: Threads,
    dx: Array | None = None,
) -> tuple[Array | None, list[States], list[tuple[dict[str, Array], ...]], list[States] | None]:
    """Walk back through every layer; return dx, and by layers dstates, dweights and dinitial.

    dinitial is None if there was no reset.
    """
    dstates: list[States] = []
    dinitial: list[States] = []
    dweights: list[tuple[dict[str, Array], ...]] = []
    for k, one, given in zip(
        reversed(range(len(kept))), reversed(kept), reversed(incoming), strict=True
    ):
        drawn = one.drawn
        if dy is not None and drawn is not None and drawn.output is not None:
            dy = masked(dy, drawn.output)
        run, arrived = by_name(one.backend), Given(dy, given.states, given.cells, given.gates)
        target: bool | Array = dx if k == 0 and dx is not None else True
        names = dict.fromkeys(_names(one.packed), True)
        cut = one.inputs.cut is not None
        wanted = Wanted(target, (names,) * one.packed.directions, True, cut, group=int(per_sample))
        found = run.backward(
            one.packed, one.inputs, one.y, one.saved, arrived, wanted, threads=threads
        )
        dy, directions = found.dx, found.dweights
        if drawn is not None:
            directions = connected_back(directions, drawn)
            if drawn.input is not None and dy is not None:
                dy = masked(dy, drawn.input[None])
        dstates.append(cast("States", found.dstates))
        if found.dinitial is not None:
            dinitial.append(found.dinitial)
        dweights.append(directions)
    return dy, dstates[::-1], dweights[::-1], dinitial[::-1] or None


def _names(packed: Packed) -> tuple[str, ...]:
    """Every weight that the cell can have in this layer, given or not."""
    return tuple(packed.spec.shapes(1, 1, 1 if packed.projects else 0))
