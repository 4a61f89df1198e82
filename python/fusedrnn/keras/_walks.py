"""A layer's walk over time on NumPy arrays laid out as Keras has them, forward and backward.

Sizes: B sequences, T steps, I inputs, H units, n gates. Every array is batch-major, (B, T, ...).
Keras keeps kernels as (I, n*H) and (H, n*H), and biases as (n*H,), or (2, n*H) for the GRU with the
reset gate after the product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import core
from ._job import Job, Weights

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


def swapped(a: Any, job: Job, xp: Any = np) -> Any:
    """Exchange the first two of three gates along the first axis; this is its own inverse.

    `xp` is the module of the array, NumPy or jax.numpy.
    """
    if not job.swap:
        return a
    z, r, n = xp.split(a, 3)
    return xp.concatenate([r, z, n])


def core_weights(
    job: Job, kernel: Any, recurrent: Any, bias: Any | None, xp: Any = np
) -> dict[str, Any]:
    """Return a layer's weights by the names, and in the order of rows, of `core`."""
    found = {"w_ih": kernel.T, "w_hh": recurrent.T}
    if bias is not None and bias.ndim == 2:
        found |= {"b_ih": bias[0], "b_hh": bias[1]}
    elif bias is not None:
        found["b_ih"] = bias
    return {name: swapped(a, job, xp) for name, a in found.items()}


class _Values:
    """The key of a pack: a job, and the values of the weights, laid out as Keras has them.

    The values, because the backends of Keras differ in whether they write a variable in place. The
    hash takes the first few, because weights that were trained differ almost everywhere.
    """

    def __init__(self, job: Job, arrays: tuple[Array | None, ...]) -> None:
        self.job, self.arrays = job, arrays
        some = [None if a is None else (a.shape, a.dtype, a.flat[:16].tobytes()) for a in arrays]
        self._hash = hash((job, *some))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Values):
            return NotImplemented
        return self.job == other.job and all(map(_equal, self.arrays, other.arrays))

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays if a is not None)

    def copied(self) -> _Values:
        """Return a key that does not change if the arrays do."""
        return _Values(self.job, tuple(None if a is None else a.copy() for a in self.arrays))


def _equal(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and bool(np.array_equal(a, b))


# In training each step has other weights, so the number of packs is bounded too.
PACKS = core.PackCache(most=32)


def _pack(job: Job, *arrays: Array | None) -> core.Packed:
    """Return the pack of a job's weights, made if there is none of these values."""
    key = _Values(job, arrays)
    packed = PACKS.find(key)
    if packed is None:
        weights = core_weights(job, *arrays)
        packed = core.pack(
            job.cell, {k: np.ascontiguousarray(a) for k, a in weights.items()}, options=job.options
        )
        PACKS.keep(key.copied(), packed)
    return packed


def _shared(given: Arrays) -> dict[str, Any]:
    """Return the arguments that forward and backward share."""
    return {
        "states": [np.ascontiguousarray(state)[None] for state in given.states],
        "drop": None if given.drop is None else np.ascontiguousarray(given.drop)[None],
    }


def _mask(given: Arrays) -> Array | None:
    return None if given.mask is None else np.ascontiguousarray(given.mask.T)


def forward(job: Job, given: Arrays, save: bool) -> Outputs:
    """Run the sequences in the order in which their steps are given."""
    packed = _pack(job, given.kernel, given.recurrent, given.bias)
    batch, steps = given.x.shape[:2]
    y = np.empty((batch, steps, packed.output_size), given.x.dtype)
    out = core.forward(
        packed,
        given.x.swapaxes(0, 1),
        mask=_mask(given),
        y=y.swapaxes(0, 1),
        saved=save,
        **_shared(given),
    )
    shown = y
    if given.mask is not None and job.repeat:
        shown = repeated(y, given.mask)
    return Outputs(shown, tuple(state[0] for state in out.states), y, out.saved)


def repeated(y: Any, mask: Any, xp: Any = np) -> Any:
    """Return y with the last real output at masked steps; zeros before the first."""
    last = xp.maximum.accumulate(xp.where(mask, xp.arange(y.shape[1]), -1), axis=1)[..., None]
    return xp.where(last >= 0, xp.take_along_axis(y, xp.maximum(last, 0), axis=1), 0)


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
    packed = _pack(job, given.kernel, given.recurrent, given.bias)
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
        **_shared(given),
    )
    (of,) = found.dweights
    bias = None
    if given.bias is not None:
        bias = swapped(of["b_ih"], job)
        if given.bias.ndim == 2:
            bias = np.stack([bias, swapped(of["b_hh"], job)])
    assert found.dstates is not None
    return Gradients(
        dx,
        tuple(state[0] for state in found.dstates),
        np.ascontiguousarray(swapped(of["w_ih"], job).T),
        np.ascontiguousarray(swapped(of["w_hh"], job).T),
        bias,
    )


def walk(
    job: Job,
    x: Array,
    states: list[Array],
    weights: Weights,
    mask: Array | None,
    drop: Array | None,
) -> tuple[Array, list[Array]]:
    """Return y (B, T, H) and the last states (B, H), for Keras on NumPy, which does not train."""
    out = forward(job, Arrays(x, tuple(states), *weights, mask, drop), save=False)
    return out.y, list(out.states)
