"""Layers one after the other: each is one backend call, with the call's noise between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ._backend import Backend, DirectionGradients, Inputs, Saved, Weights, by_name, current
from ._noise import Drawn, Rates, connected, connected_back, draw, dropped_input, masked
from ._spec import Array
from ._state import States


@dataclass(frozen=True, eq=False)
class Noise:
    """Where a training call takes its masks from."""

    rates: Rates
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class Kept:
    """One layer of a saved call."""

    saved: Saved
    drawn: Drawn | None

    @property
    def nbytes(self) -> int:
        """Bytes of what the backend kept, of the masks, and of the R that DropConnect left."""
        total, drawn = self.saved.nbytes, self.drawn
        if drawn is None:
            return total
        masks = [drawn.input, drawn.output, drawn.drop, *(drawn.keep or ())]
        total += sum(mask.nbytes for mask in masks if mask is not None)
        return total + 2 * sum(mask.nbytes for mask in drawn.connect or ())


def nbytes(layers: Sequence[Kept]) -> int:
    """Bytes that a call keeps beyond its x and y: outputs between layers, inputs under masks."""
    total = sum(one.nbytes for one in layers) + sum(one.saved.y.nbytes for one in layers[:-1])
    before: Array | None = None  # the mask on the outputs of the layer before
    for one in layers:
        x, drawn = one.saved.inputs.x, one.drawn
        if x is not None and drawn is not None:
            total += x.nbytes if before is not None or drawn.input is not None else 0
            before = drawn.output
    return total


def forward(
    layers: Sequence[tuple[Weights, ...]],
    inputs: Inputs,
    states: Sequence[States] | None,
    initial: Sequence[States] | None,
    *,
    save: bool,
    num_threads: int | None,
    noise: Noise | None = None,
) -> tuple[Array, list[States], list[Kept]]:
    """Run `inputs`, which say all but the states, through every layer; y is the last one's."""
    run = current()
    finals: list[States] = []
    kept: list[Kept] = []
    y: Array | None = None
    for k, weights in enumerate(layers):
        call = inputs
        if states is not None:
            call = call._replace(states=states[k])
        if initial is not None:
            call = call._replace(initial=initial[k])
        if y is not None:
            call = call._replace(x=inputs.time_major(y), tokens=None)
        drawn = None
        if noise is not None:
            drawn, weights, call = _noisy(noise, weights, call, k == len(layers) - 1)
        y, final, saved = run.forward(weights, call, save=save, num_threads=num_threads)
        finals.append(final)
        if saved is not None:
            kept.append(Kept(saved, drawn))
        if drawn is not None and drawn.output is not None:
            y = masked(y, inputs.time_major(drawn.output))
    return cast("Array", y), finals, kept


def _noisy(
    noise: Noise, weights: tuple[Weights, ...], call: Inputs, last: bool
) -> tuple[Drawn, tuple[Weights, ...], Inputs]:
    """One layer's masks, and its weights and inputs under them."""
    sequence = cast("Array", call.tokens if call.x is None else call.x)
    steps, batch = sequence.shape[:2]
    drawn = draw(noise.rng, noise.rates, weights, steps, batch, last)
    if drawn.input is not None:
        call = call._replace(x=dropped_input(call.x, call.tokens, drawn.input), tokens=None)
    return drawn, connected(weights, drawn), call._replace(drop=drawn.drop, keep=drawn.keep)


@dataclass(frozen=True, eq=False)
class Incoming:
    """Gradients of one layer's outputs but y; None: zeros."""

    states: States | None = None
    cells: Array | None = None  # (D, T, B, H)
    gates: Array | None = None  # (D, T, B, n, H)


def backward(
    kept: Sequence[Kept],
    dy: Array | None,
    incoming: Sequence[Incoming],
    *,
    per_sample: bool,
    num_threads: int | None,
) -> tuple[Array | None, list[States], list[tuple[DirectionGradients, ...]]]:
    """Walk back through every layer: dx, the first states' gradients, the weights'."""
    dstates: list[States] = []
    dweights: list[tuple[DirectionGradients, ...]] = []
    for one, given in zip(reversed(kept), reversed(incoming), strict=True):
        saved, drawn = one.saved, one.drawn
        if dy is not None and drawn is not None and drawn.output is not None:
            dy = masked(dy, saved.inputs.time_major(drawn.output))
        run = by_name(saved.backend)
        found = run.backward(
            saved, dy, given.states, num_threads=num_threads, dcells=given.cells, dgates=given.gates
        )
        directions = found.directions
        if per_sample:
            directions = _each_sample(run, saved, dy, given, num_threads)
        dy = found.dx
        if drawn is not None:
            directions = connected_back(directions, drawn)
            if drawn.input is not None and dy is not None:
                dy = masked(dy, saved.inputs.time_major(drawn.input[None]))
        dstates.append(found.states)
        dweights.append(directions)
    return dy, dstates[::-1], dweights[::-1]


def _each_sample(
    run: Backend, saved: Saved, dy: Array | None, given: Incoming, num_threads: int | None
) -> tuple[DirectionGradients, ...]:
    """Weight gradients of every sequence by itself, along a new first axis.

    Each is a walk in which the other sequences have length 0: what they would add is never formed.
    """
    inputs = saved.inputs
    steps, batch = cast("Array", inputs.tokens if inputs.x is None else inputs.x).shape[:2]
    lengths = np.full(batch, steps) if inputs.lengths is None else inputs.lengths
    samples = []
    for b in range(batch):
        alone = np.arange(batch) == b
        if inputs.mask is not None:
            only = inputs._replace(mask=inputs.mask & alone)
        else:
            only = inputs._replace(lengths=np.where(alone, lengths, 0))
        found = run.backward(
            replace(saved, inputs=only),
            dy,
            given.states,
            num_threads=num_threads,
            dcells=given.cells,
            dgates=given.gates,
            want_dx=False,
        )
        samples.append(found.directions)
    return tuple(
        _stacked(saved.weights, [s[d] for s in samples]) for d in range(len(saved.weights))
    )


def _stacked(weights: tuple[Weights, ...], samples: list[DirectionGradients]) -> DirectionGradients:
    """One direction's gradients, each (B, ...)."""
    if not samples:
        w = weights[0]
        proj = 0 if w.w_hr is None else w.output_size
        shapes = w.spec.shapes(w.input_size, w.hidden_size, proj)
        empty = {f"d{name}": np.zeros((0, *shape), w.dtype) for name, shape in shapes.items()}
        return DirectionGradients(
            **{name: empty.get(name) for name in DirectionGradients._fields}  # type: ignore[arg-type]
        )
    return DirectionGradients(
        *(None if part[0] is None else np.stack(part) for part in zip(*samples, strict=True))  # type: ignore[arg-type]
    )
