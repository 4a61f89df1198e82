"""Calls that torch's own layer makes faster: what bench/torch_table.py measured.

Keys are (mode, kind, bits of T, of B, of H): `kind` is "training", "guarded" or "frozen", and a
size stands in as the place of its highest bit, so that one row covers sizes between two powers of
two. The rows are in _slower.py, which the script writes.
"""

from __future__ import annotations

from typing import Any

import torch

from ._slower import SLOWER

__all__ = ["SLOWER", "loses"]


def loses(mode: str, hidden_size: int, data: Any, batch_first: bool, frozen: bool) -> bool:
    """Whether a call on `data` is one that torch's own layer makes faster."""
    if data.dim() != 3:
        return False
    steps, batch = data.shape[1::-1] if batch_first else data.shape[:2]
    kind = "training" if torch.is_grad_enabled() else "frozen" if frozen else "guarded"
    sizes = map(int.bit_length, (steps, batch, hidden_size))
    return (mode, kind, *sizes) in SLOWER
