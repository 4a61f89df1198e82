"""Sizes at which torch's own layer was faster: written by bench/torch_table.py, not by hand.

Keys are (mode, training, bits of T, of B, of H): the places of the highest bit, so that one row
stands for sizes between two powers of two.
"""

from __future__ import annotations

from typing import Any

import torch

SLOWER: frozenset[tuple[str, bool, int, int, int]] = frozenset()


def loses(mode: str, hidden_size: int, data: Any, batch_first: bool) -> bool:
    """Whether a call on `data` is one that torch's own layer makes faster."""
    if data.dim() != 3:
        return False
    steps, batch = data.shape[1::-1] if batch_first else data.shape[:2]
    sizes = map(int.bit_length, (steps, batch, hidden_size))
    return (mode, torch.is_grad_enabled(), *sizes) in SLOWER
