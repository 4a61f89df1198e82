"""Calls that torch's own layer makes faster, as measured by bench/torch_table.py.

Keys are (mode, kind, whether T > 1, class of B, class of H). `mode` is that of a layer ("LSTM",
"GRU", "RNN_TANH", "RNN_RELU"), or the name of a cell's class. `kind` is "training", "guarded" or
"frozen". The class of B is half the number of its bits (1; 2 to 7; 8 to 31; ...), the class of H
the number of its bits. The rows are in _slower.py, which the script writes.
"""

from __future__ import annotations

import torch

from ._slower import SLOWER

__all__ = ["SLOWER", "key", "kind_of", "loses"]


def key(
    mode: str, kind: str, steps: int, batch: int, hidden: int
) -> tuple[str, str, bool, int, int]:
    """Return the key of a call in the table."""
    return mode, kind, steps > 1, batch.bit_length() // 2, hidden.bit_length()


def loses(mode: str, kind: str, steps: int, batch: int, hidden_size: int) -> bool:
    """Whether torch's own layer makes this call faster."""
    return key(mode, kind, steps, batch, hidden_size) in SLOWER


def kind_of(frozen: bool) -> str:
    """Return the kind of a call that is made now."""
    return "training" if torch.is_grad_enabled() else "frozen" if frozen else "guarded"
