"""Written by bench/torch_table.py; see _table.py.

Rows of guarded, slower by more than 1.3; the load was 6.
"""

SLOWER: frozenset[tuple[str, str, bool, int, int]] = frozenset(
    {
        ("GRU", "guarded", False, 0, 6),
        ("GRU", "guarded", False, 0, 8),
        ("GRU", "guarded", False, 0, 9),
        ("GRU", "guarded", False, 0, 10),
        ("GRU", "guarded", False, 1, 8),
        ("GRU", "guarded", False, 1, 9),
        ("GRU", "guarded", False, 1, 10),
        ("GRU", "guarded", False, 2, 7),
        ("GRU", "guarded", False, 2, 10),
        ("GRU", "guarded", False, 3, 7),
        ("RNN_TANH", "guarded", False, 0, 5),
        ("RNN_TANH", "guarded", False, 0, 8),
        ("RNN_TANH", "guarded", False, 0, 9),
        ("RNN_TANH", "guarded", False, 0, 10),
        ("RNN_TANH", "guarded", False, 1, 5),
        ("RNN_TANH", "guarded", False, 1, 6),
        ("RNN_TANH", "guarded", False, 1, 8),
        ("RNN_TANH", "guarded", False, 1, 9),
        ("RNN_TANH", "guarded", False, 1, 10),
        ("RNN_TANH", "guarded", False, 2, 7),
        ("RNN_TANH", "guarded", False, 2, 8),
        ("RNN_TANH", "guarded", False, 2, 9),
        ("RNN_TANH", "guarded", False, 2, 10),
    }
)
