"""Calls that torch's own layer makes faster, as measured by bench/torch_table.py.

Keys are (mode, kind, whether T > 1, class of B, class of H). `kind` is "training", "guarded" or
"frozen". The class of B is half the number of its bits (1; 2 to 7; 8 to 31; ...), the class of H
the number of its bits. The rows are in _slower.py, which the script writes.
"""

from __future__ import annotations

from typing import Any

import torch

from ._slower import SLOWER

__all__ = ["SLOWER", "key", "loses"]


def key(
    mode: str, kind: str, steps: int, batch: int, hidden: int
) -> tuple[str, str, bool, int, int]:
    """Return the key of a call in the table."""
    return mode, kind, steps > 1, batch.bit_length() // 2, hidden.bit_length()


def loses(mode: str, hidden_size: int, data: Any, batch_first: bool, frozen: bool) -> bool:
    """Whether a call on `data` is one that torch's own layer makes faster."""
    if data.dim() != 3:
        return False
    steps, batch = data.shape[1::-1] if batch_first else data.shape[:2]
    kind = "training" if torch.is_grad_enabled() else "frozen" if frozen else "guarded"
    return key(mode, kind, steps, batch, hidden_size) in SLOWER
