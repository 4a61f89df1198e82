"""Written by bench/torch_table.py; see _table.py."""

SLOWER: frozenset[tuple[str, str, bool, int, int]] = frozenset()
