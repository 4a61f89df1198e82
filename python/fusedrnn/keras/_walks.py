"""A layer's walk over time on NumPy arrays laid out as Keras has them, forward and backward.

Sizes: B sequences, T steps, I inputs, H units, n gates. Every array is batch-major, (B, T, ...).
Keras keeps kernels as (I, n*H) and (H, n*H), and biases as (n*H,), or (2, n*H) for the GRU with the
reset gate after the product.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from .. import core
from ._job import Job

Array = np.ndarray[Any, np.dtype[Any]]


class Arrays(NamedTuple):
    """The inputs of a walk; None: not given."""

    x: Array  # (B, T, I)
    states: tuple[Array, ...]  # (B, H) each
    kernel: Array
    recurrent: Array
    bias: Array | None
    mask: Array | None  # (B, T) bool, True at real steps
    drop: Array | None  # (B, H) factors on what the recurrent kernel multiplies


class Outputs(NamedTuple):
    """The outputs of a walk, and what `backward` reads again."""

    y: Array  # (B, T, H); at masked steps as the job says
    states: tuple[Array, ...]
    plain_y: Array  # (B, T, H), zeros at masked steps
    saved: Array | None


def _rows(a: Array, job: Job) -> Array:
    """Return a kernel (K, n*H) as rows (n*H, K) in the order of `core`'s gates."""
    return np.ascontiguousarray(_swapped(a.T, job))


def _swapped(a: Array, job: Job) -> Array:
    """Exchange the first two of three gates along the first axis; this is its own inverse."""
    if not job.swap:
        return a
    z, r, n = np.split(a, 3)
    return np.concatenate([r, z, n])


def _weights(job: Job, kernel: Array, recurrent: Array, bias: Array | None) -> dict[str, Array]:
    found = {"w_ih": _rows(kernel, job), "w_hh": _rows(recurrent, job)}
    if bias is not None and bias.ndim == 2:
        found |= {"b_ih": _swapped(bias[0], job), "b_hh": _swapped(bias[1], job)}
    elif bias is not None:
        found["b_ih"] = _swapped(bias, job)
    return found


class _Packs:
    """The packs of the last weights, found again by value; at most `MOST` of them."""

    MOST = 32

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[Job, tuple[Array | None, ...], core.Packed]]
        self._kept = OrderedDict()
        self._next = 0

    def of(self, job: Job, *arrays: Array | None) -> core.Packed:
        """Return the pack of a job's weights, made if there is none of these values."""
        with self._lock:
            kept = list(self._kept.items())
        for key, (of, copies, packed) in reversed(kept):
            if of == job and all(map(_equal, copies, arrays)):
                with self._lock:
                    if key in self._kept:
                        self._kept.move_to_end(key)
                found: core.Packed = packed
                return found
        made = core.pack(job.cell, _weights(job, *arrays), options=job.options)  # type: ignore[arg-type]
        copies = tuple(None if a is None else a.copy() for a in arrays)
        with self._lock:
            self._kept[self._next] = (job, copies, made)
            self._next += 1
            while len(self._kept) > self.MOST:
                self._kept.popitem(last=False)
        return made


def _equal(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    # One row first, because weights that were trained differ almost everywhere.
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and bool(np.array_equal(a[:1], b[:1]))
        and bool(np.array_equal(a, b))
    )


_packs = _Packs()


def _time_major(a: Array | None) -> Array | None:
    return None if a is None else a.swapaxes(0, 1)


def _shared(packed: core.Packed, given: Arrays) -> dict[str, Any]:
    """Return the arguments that forward and backward share."""
    return {
        "states": [np.ascontiguousarray(state)[None] for state in given.states],
        "drop": None if given.drop is None else np.ascontiguousarray(given.drop)[None],
    }


def _mask(given: Arrays) -> Array | None:
    return None if given.mask is None else np.ascontiguousarray(given.mask.T)


def forward(job: Job, given: Arrays, save: bool) -> Outputs:
    """Run the sequences in the order in which their steps are given."""
    packed = _packs.of(job, given.kernel, given.recurrent, given.bias)
    batch, steps = given.x.shape[:2]
    y = np.empty((batch, steps, packed.output_size), given.x.dtype)
    out = core.forward(
        packed,
        given.x.swapaxes(0, 1),
        mask=_mask(given),
        y=y.swapaxes(0, 1),
        saved=save,
        **_shared(packed, given),
    )
    shown = y
    if given.mask is not None and job.repeat:
        shown = _repeated(y, given.mask)
    return Outputs(shown, tuple(state[0] for state in out.states), y, out.saved)


def _repeated(y: Array, mask: Array) -> Array:
    """Return y with the last real output at masked steps; zeros before the first."""
    steps = np.arange(y.shape[1])
    last = np.maximum.accumulate(np.where(mask, steps, -1), axis=1)
    found = np.take_along_axis(y, np.maximum(last, 0)[..., None], axis=1)
    found[last < 0] = 0
    return found


def _repeated_back(dy: Array, mask: Array) -> Array:
    """Give the gradients of masked steps to the real step that they show."""
    found, carried = np.zeros_like(dy), np.zeros_like(dy[:, 0])
    for t in reversed(range(dy.shape[1])):
        carried = carried + dy[:, t]
        real = mask[:, t]
        found[real, t] = carried[real]
        carried[real] = 0
    return found


class Gradients(NamedTuple):
    """The gradients of the arrays of the same names."""

    x: Array
    states: tuple[Array, ...]
    kernel: Array
    recurrent: Array
    bias: Array | None


def backward(
    job: Job, given: Arrays, plain_y: Array, saved: Array, dy: Array, dstates: tuple[Array, ...]
) -> Gradients:
    """Backpropagate through `forward`, from what it was given and what it returned."""
    packed = _packs.of(job, given.kernel, given.recurrent, given.bias)
    batch, steps = given.x.shape[:2]
    mask = _mask(given)
    if given.mask is not None and job.repeat and steps:
        dy = _repeated_back(dy, given.mask)
    dx = np.empty(given.x.shape, given.x.dtype)
    found = core.backward(
        packed,
        core.plan_of(packed, steps, batch, mask=mask),
        given.x.swapaxes(0, 1),
        y=plain_y.swapaxes(0, 1),
        saved=saved,
        dy=dy.swapaxes(0, 1),
        dstates=[np.ascontiguousarray(d)[None] for d in dstates],
        dx=dx.swapaxes(0, 1),
        **_shared(packed, given),
    )
    (of,) = found.dweights
    bias = None
    if given.bias is not None:
        bias = _swapped(of["b_ih"], job)
        if given.bias.ndim == 2:
            bias = np.stack([bias, _swapped(of["b_hh"], job)])
    assert found.dstates is not None
    return Gradients(
        dx,
        tuple(state[0] for state in found.dstates),
        np.ascontiguousarray(_swapped(of["w_ih"], job).T),
        np.ascontiguousarray(_swapped(of["w_hh"], job).T),
        bias,
    )
