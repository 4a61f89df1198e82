"""Dropout, zoneout and DropConnect as arrays, drawn once for a call and kept with what it saved.

The masks of one layer are drawn after those of the layer before, in the order of `Drawn`, and
time-major for every layout of the call. They are drawn as float32, so that both dtypes drop the
same elements.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._cells import Array
from ..core._packed import Packed


class Rates(NamedTuple):
    """Probabilities of dropping, each in [0, 1)."""

    dropout: float = 0.0  # y between layers, each element by itself
    input: float = 0.0  # x of every layer, one mask for a sequence
    recurrent: float = 0.0  # h as R sees it, one mask for a sequence and direction
    zoneout: tuple[float, ...] = (0.0,)  # of keeping the old h (and c), each element by itself
    connect: float = 0.0  # elements of R


class Drawn(NamedTuple):
    """The masks of one layer's call: 0, or 1 / (1 - rate); None if the rate is 0."""

    input: Array | None  # (B, I)
    drop: Array | None  # (D, B, P)
    keep: tuple[Array, ...] | None  # (D, T, B, P), (D, T, B, H): 1 keeps the old state
    connect: tuple[Array, ...] | None  # for each direction (n*H, P)
    output: Array | None  # (T, B, D*P)


def draw(
    rng: np.random.Generator,
    rates: Rates,
    packed: Packed,
    steps: int,
    batch: int,
    last: bool,
) -> Drawn:
    """Draw one layer's masks; the last layer has no dropout after it."""
    n, dtype = packed.directions, packed.dtype
    widths = (packed.output_size, packed.hidden_size)[: packed.spec.states]

    def factors(rate: float, *shape: int) -> Array | None:
        if rate == 0:
            return None
        kept: Array = rng.random(shape, dtype=np.float32) >= np.float32(rate)
        return np.asarray(kept.astype(dtype) / dtype.type(1 - rate))

    def flags(rate: float, *shape: int) -> Array:
        if rate == 0:
            return np.zeros(shape, dtype)
        return np.asarray(rng.random(shape, dtype=np.float32) < np.float32(rate), dtype)

    inputs = factors(rates.input, batch, packed.input_size)
    drop = factors(rates.recurrent, n, batch, packed.output_size)
    keep = None
    if any(rates.zoneout):
        shapes = [(n, steps, batch, width) for width in widths]
        keep = tuple(flags(p, *shape) for p, shape in zip(rates.zoneout, shapes, strict=True))
    connect: Any = None
    if rates.connect:
        rows = packed.spec.x_gates * packed.hidden_size
        connect = tuple(factors(rates.connect, rows, packed.output_size) for _ in range(n))
    output = None if last else factors(rates.dropout, steps, batch, n * packed.output_size)
    return Drawn(inputs, drop, keep, connect, output)


def connected(packed: Packed, drawn: Drawn) -> Packed:
    """Return the weights with R under DropConnect, for one call."""
    if drawn.connect is None:
        return packed
    arrays = [
        {**one, "w_hh": one["w_hh"] * mask}
        for one, mask in zip(packed.held(), drawn.connect, strict=True)
    ]
    return Packed(packed.cell, arrays, packed.options, packed.isa, False)


def connected_back(
    directions: tuple[dict[str, Array], ...], drawn: Drawn
) -> tuple[dict[str, Array], ...]:
    """Return the gradients of the weights from those of what `connected` returned."""
    if drawn.connect is None:
        return directions
    return tuple(
        {**of, "w_hh": of["w_hh"] * mask}
        for of, mask in zip(directions, drawn.connect, strict=True)
    )


def masked(a: Array, mask: Array) -> Array:
    """Return `a` times a mask, without warnings about values in padding."""
    with np.errstate(over="ignore", invalid="ignore"):
        product: Array = a * mask
    return product


def dropped_input(x: Array | None, tokens: Array | None, mask: Array) -> Array:
    """Return x (T, B, I) under one mask (B, I) for all steps; tokens become one-hot rows."""
    if x is not None:
        return masked(x, mask)
    assert tokens is not None
    rows = np.zeros((*tokens.shape, mask.shape[1]), mask.dtype)
    b = np.arange(tokens.shape[1])
    rows[np.arange(len(tokens))[:, None], b, tokens] = mask[b, tokens]
    return rows
