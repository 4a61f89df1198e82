"""Packed sequences as padded ones with lengths, and back; each row of data is moved once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ._packs import Array

Tensor = Any


class Layout(NamedTuple):
    """Where the rows of a packed sequence's data are in a padded one."""

    steps: int
    batch: int
    rows: Tensor | None  # indices of the valid rows in (T*B), in the order of the data; None: all
    lengths: Array | None  # (B,), falling; None: all of them are T


def layout(batch_sizes: Tensor) -> Layout:
    """Return the layout for the batch sizes (T,) of a packed sequence."""
    sizes = batch_sizes.numpy()
    steps, batch = len(sizes), int(sizes[0])
    if int(sizes[-1]) == batch:
        return Layout(steps, batch, None, None)
    there = np.arange(batch) < sizes[:, None]
    rows = torch.from_numpy(np.flatnonzero(there))
    return Layout(steps, batch, rows, there.sum(axis=0, dtype=np.int64))


class _Pad(torch.autograd.Function):
    """(N, W) to (T*B, W), with zeros in the other rows."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, rows: Tensor, size: int) -> Tensor:
        ctx.rows = rows
        return data.new_zeros(size, data.shape[1]).index_copy_(0, rows, data)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return _Unpad.apply(given, ctx.rows), None, None


class _Unpad(torch.autograd.Function):
    """(T*B, W) to (N, W)."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.size = rows, len(padded)
        return padded.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return _Pad.apply(given, ctx.rows, ctx.size), None


def padded(data: Tensor, how: Layout) -> Tensor:
    """Return (T, B, W) from the data of a packed sequence."""
    if how.rows is None:
        return data.reshape(how.steps, how.batch, -1)
    whole = _Pad.apply(data, how.rows, how.steps * how.batch)
    return whole.view(how.steps, how.batch, data.shape[1])


def unpadded(y: Tensor, how: Layout) -> Tensor:
    """Return the data of a packed sequence from (T, B, W)."""
    flat = y.reshape(how.steps * how.batch, y.shape[2])
    return flat if how.rows is None else _Unpad.apply(flat, how.rows)
