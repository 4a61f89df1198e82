"""A cache of packs, for callers that hold no object: a registered operator, XLA."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

from .._activations import Options
from .._checks import arguments as _check
from . import _checks
from ._packed import Packed, Weights, pack

LIMIT = 256 * 2**20


class PackCache:
    """Packed weights, found again by the addresses of their arrays.

    For `get` the key of a pack is the addresses, shapes and dtypes of its weights. A pack is
    returned only if it `matches` what the arrays hold now, because the arrays may have been written
    to, or other arrays may have been allocated at the same addresses. If arrays move between calls,
    `find` and `keep` take a key of the caller's own. Thread-safe; a forked child begins with an
    empty cache.

    Parameters
    ----------
    limit : int
        Largest number of bytes of all packs together; the least recently used packs are dropped. A
        single pack above the limit is made but not kept.
    most : int, optional
        Largest number of packs.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> cache = core.PackCache()
    >>> weights = {"w_ih": np.ones((4, 2), np.float32), "w_hh": np.ones((4, 4), np.float32)}
    >>> first = cache.get("rnn_tanh", weights)
    >>> cache.get("rnn_tanh", weights) is first
    True
    """

    def __init__(self, limit: int = LIMIT, most: int | None = None) -> None:
        self.limit = _check.integer(limit, "limit", 0)
        self.most = None if most is None else _check.integer(most, "most", 0)
        self._lock = threading.Lock()
        self._packs: OrderedDict[Hashable, Packed] = OrderedDict()
        _all.add(self)

    def get(
        self,
        cell: str,
        weights: Weights | Sequence[Weights],
        *,
        options: Options | None = None,
        isa: str | None = None,
    ) -> Packed:
        """Return a pack with the bits of `weights`; parameters and errors are those of `pack`."""
        key = _key(cell, weights, options, isa)
        found = self.find(key)
        if found is not None and found.matches(weights):
            return found
        if found is not None:
            try:
                found.update(weights)
            except RuntimeError:  # another thread computes with it: leave it, and pack anew
                pass
            else:
                return found
        made = pack(cell, weights, options=options, isa=isa)
        self.keep(key, made)
        return made

    def find(self, key: Hashable) -> Packed | None:
        """Return the pack that was kept under a key; None if there is none.

        It is not compared with anything: if the key does not hold the values of the weights, call
        `matches`.
        """
        with self._lock:
            found = self._packs.get(key)
            if found is not None:
                self._packs.move_to_end(key)
        return found

    def keep(self, key: Hashable, packed: Packed) -> None:
        """Keep a pack under a key, whose attribute `nbytes`, if it has one, counts too."""
        with self._lock:
            self._packs[key] = packed
            self._packs.move_to_end(key)
            self._shrink()

    @property
    def nbytes(self) -> int:
        """Bytes of all packs and keys in the cache."""
        with self._lock:
            return sum(itertools.starmap(_bytes, self._packs.items()))

    def __len__(self) -> int:
        return len(self._packs)

    def clear(self) -> None:
        """Drop all packs."""
        with self._lock:
            self._packs.clear()

    def _shrink(self) -> None:
        """Drop packs until `limit` and `most` hold; the caller holds the lock."""
        total = sum(itertools.starmap(_bytes, self._packs.items()))
        most = len(self._packs) if self.most is None else self.most
        while self._packs and (total > self.limit or len(self._packs) > most):
            total -= _bytes(*self._packs.popitem(last=False))

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held the old lock
        self._packs.clear()


def _bytes(key: Hashable, packed: Packed) -> int:
    return packed.nbytes + int(getattr(key, "nbytes", 0))


def _key(cell: str, weights: object, options: object, isa: object) -> tuple[Any, ...]:
    arrays = []
    for one in _checks.directions_of(weights):
        for name, a in sorted(one.items()):
            place = getattr(a, "__array_interface__", None)
            arrays.append((name, place and (place["data"][0], place["shape"], place["typestr"])))
    return (cell, options, isa, tuple(arrays))


_all: weakref.WeakSet[PackCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_all):
        cache._forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
