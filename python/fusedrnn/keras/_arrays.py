"""A layer's call on NumPy arrays in Keras's layout: the weights, the walk, and its gradients.

Every backend of Keras comes here with arrays (B, T, I), and differs only in how it obtains them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import core
from ..weights import from_keras, to_keras

Array = np.ndarray[Any, Any]

_NAMES = {
    "w_ih": "weight_ih_l0",
    "w_hh": "weight_hh_l0",
    "b_ih": "bias_ih_l0",
    "b_hh": "bias_hh_l0",
}


class Call(NamedTuple):
    """What a layer asks for, whatever the arrays."""

    cell: str
    go_backwards: bool
    zero_masked: bool  # outputs of masked steps are 0; else they repeat the step before
    from_state: bool  # masked steps before any output show the first h, as in Keras's NumPy; else 0


class Kept(NamedTuple):
    """What `gradients` needs of a call."""

    call: Call
    packed: core.Packed
    plan: core.Plan
    x: Array  # (T, B, I) in the order of the walk
    states: tuple[Array, ...]
    y: Array
    saved: Array
    mask: Array | None


class Packs:
    """The packed weights of one layer; made anew if the weights have other bits.

    A pack is never changed: a backward call needs the one of its forward call, which may have come
    before a change of the weights.
    """

    def __init__(self) -> None:
        self._held: tuple[str, list[Array], core.Packed] | None = None

    def get(self, cell: str, weights: list[Array]) -> core.Packed:
        """Return the pack of these weights, each as ``layer.get_weights()`` has it."""
        held = self._held  # read once: another thread may replace it
        if held is not None and held[0] == cell and _same(held[1], weights):
            return held[2]
        copies = [np.array(a) for a in weights]
        ours = from_keras(copies, cell)
        there = {name: np.ascontiguousarray(ours[n]) for name, n in _NAMES.items() if n in ours}
        packed = core.pack(cell, there, copy=False)
        self._held = cell, copies, packed
        return packed


def _same(some: list[Array], others: list[Array]) -> bool:
    return len(some) == len(others) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(some, others, strict=True)
    )


def run(
    packs: Packs,
    call: Call,
    x: Array,
    states: list[Array],
    weights: list[Array],
    mask: Array | None,
    saved: bool,
) -> tuple[Array, list[Array], Kept | None]:
    """Return the outputs (B, T, H), the last states (B, H), and what `gradients` needs."""
    packed = packs.get(call.cell, weights)
    steps, first, walked = _walked(call, x, states, mask)
    found = core.forward(packed, steps, states=first, mask=walked, saved=saved)
    y = found.y
    if walked is not None and not call.zero_masked:
        y = _repeated(y, walked, first[0][0] if call.from_state else None)
    kept = None
    if found.saved is not None:
        kept = Kept(call, packed, found.plan, steps, first, found.y, found.saved, walked)
    return np.ascontiguousarray(y.swapaxes(0, 1)), [s[0] for s in found.states], kept


def _walked(
    call: Call, x: Array, states: list[Array], mask: Array | None
) -> tuple[Array, tuple[Array, ...], Array | None]:
    """Return x, the states and the mask as the kernels take them, in the order of the walk."""
    steps = x.swapaxes(0, 1)
    walked = None if mask is None else mask.swapaxes(0, 1).astype(bool)
    if call.go_backwards:
        steps = steps[::-1]
        walked = None if walked is None else walked[::-1]
    if walked is not None:
        walked = np.ascontiguousarray(walked)
    return np.ascontiguousarray(steps), tuple(np.ascontiguousarray(s)[None] for s in states), walked


def _repeated(y: Array, mask: Array, first: Array | None) -> Array:
    """Give masked steps the output before them, and those before any output `first`, or 0."""
    y = y.copy()
    for t in range(len(y)):
        before = y[t - 1] if t else 0 if first is None else first
        np.copyto(y[t], before, where=~mask[t][:, None])
    return y


def gradients(
    kept: Kept, dy: Array | None, dstates: list[Array | None]
) -> tuple[Array, list[Array], list[Array]]:
    """Return the gradients of x, of the first states and of the weights, in Keras's layout."""
    call, packed = kept.call, kept.packed
    carried: Array | None = None
    if dy is not None:
        dy = dy.swapaxes(0, 1)
        if kept.mask is not None:
            dy = dy.copy()
            if not call.zero_masked:
                carried = _collected(dy, kept.mask)
        dy = np.ascontiguousarray(dy)
    last = [None if d is None else np.ascontiguousarray(d)[None] for d in dstates]
    g = core.backward(
        packed,
        kept.plan,
        kept.x,
        y=kept.y,
        saved=kept.saved,
        states=kept.states,
        dy=dy,
        dstates=last,
    )
    assert g.dx is not None
    assert g.dstates is not None
    dx = g.dx[::-1] if call.go_backwards else g.dx
    dfirst = [d[0] for d in g.dstates]
    if carried is not None and call.from_state:
        dfirst[0] = dfirst[0] + carried
    ours = {_NAMES[name]: d for name, d in g.dweights[0].items()}
    return np.ascontiguousarray(dx.swapaxes(0, 1)), dfirst, _weights(ours, call.cell)


def _collected(dy: Array, mask: Array) -> Array:
    """Move gradients of repeated outputs to the outputs that they repeat; return the first's."""
    masked = ~mask[:, :, None]
    for t in range(len(dy) - 1, 0, -1):
        dy[t - 1] += np.where(masked[t], dy[t], 0)
        np.copyto(dy[t], 0, where=masked[t])
    first: Array = np.where(masked[0], dy[0], 0).astype(dy.dtype)
    np.copyto(dy[0], 0, where=masked[0])
    return first


def _weights(ours: dict[str, Array], cell: str) -> list[Array]:
    """Return weight gradients as Keras has weights."""
    found = to_keras(ours, cell)
    if len(found) == 3 and found[2].ndim == 1:  # one bias: the sum of two equal gradients
        found[2] = found[2] / 2
    return found


def again(
    packs: Packs,
    call: Call,
    x: Array,
    states: list[Array],
    weights: list[Array],
    mask: Array | None,
    *,
    y: Array,
    saved: Array,
) -> Kept:
    """Return what `run` kept, from the arrays y and saved of it: for graphs that hold only arrays.

    The weights are those of the forward call; their pack may be another one.
    """
    packed = packs.get(call.cell, weights)
    steps, first, walked = _walked(call, x, states, mask)
    plan = core.plan_of(packed, *steps.shape[:2], mask=walked)
    plan = plan._replace(generation=packed.generation)
    return Kept(call, packed, plan, steps, first, y, saved, walked)
