"""A stack as its pieces: one layer and one direction each, run in their order.

A piece is a layer of its own with the same options and parameters, so everything that is asked of
it goes through public calls, and no equation of a cell is written a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..layers import GRU, LSTM, RNN
from . import _checks

Array = NDArray[Any]

KINDS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
# Options of a whole stack, and noise that acts only in training.
ALONE = {
    "num_layers": 1,
    "bidirectional": False,
    "batch_first": False,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "recurrent_dropout": 0.0,
    "drop_connect": 0.0,
}


@dataclass(frozen=True, eq=False)
class Walk:
    """One piece and what it read, saved and returned; steps are in the order of the piece.

    Attributes
    ----------
    piece : RNN, LSTM or GRU
        One layer, one direction, time-major.
    layer, direction : int
        Its place in the stack.
    x, tokens : ndarray or None
        What it read, (T, B, I) or (T, B).
    before : tuple of ndarray
        h, and c for an LSTM, before each step: (T, B, P) and (T, B, H).
    y : ndarray
        h after each step.
    saved : SavedCall
        Its cells and gates.
    lengths : ndarray or None
        (B,).
    """

    piece: Any
    layer: int
    direction: int
    x: Array | None
    tokens: Array | None
    before: tuple[Array, ...]
    y: Array
    saved: Any
    lengths: Array | None

    @property
    def real(self) -> Array:
        """Which steps are real, (T, B) bool; the same for both directions."""
        steps, batch = self.y.shape[:2]
        if self.lengths is None:
            return np.ones((steps, batch), bool)
        return np.asarray(np.arange(steps)[:, None] < self.lengths)

    def over_time(self, a: Array) -> Array:
        """Bring an array (T, B, ...) between the order of the piece and that of time."""
        return a if self.direction == 0 else turned(a, self.lengths)

    def gates(self) -> dict[str, Array]:
        """Every gate (T, B, H) by name, over time."""
        gates: Mapping[str, Array] = self.saved.gates[0]
        return {name: self.over_time(a) for name, a in gates.items()}

    def step(self, t: int, copies: int = 1) -> tuple[Any, Any]:
        """Run step t alone, each sequence `copies` times; return the last state and `saved`."""

        def again(a: Array | None) -> Array | None:
            return None if a is None else np.repeat(a[t : t + 1], copies, axis=1)

        state = tuple(np.repeat(a[t], copies, axis=0)[None] for a in self.before)
        given = {"tokens": again(self.tokens), "lengths": None}
        if self.lengths is not None:
            given["lengths"] = np.repeat(self.real[t].astype(np.int64), copies)
        found = self.piece.forward(again(self.x), as_state(state), noise=False, **given)
        return found[1], found[2]


def as_state(parts: tuple[Array, ...]) -> Any:
    """Return parts of a state as a layer takes them: (h, c), or h alone."""
    return parts if len(parts) > 1 else parts[0]


def turned(a: Array, lengths: Array | None) -> Array:
    """Reverse the real steps of each sequence of (T, B, ...); this is its own inverse."""
    if lengths is None:
        return a[::-1]
    steps = np.arange(a.shape[0])[:, None]
    at = np.where(steps < lengths, lengths - 1 - steps, steps)
    return np.take_along_axis(a, at.reshape(*at.shape, *[1] * (a.ndim - 2)), axis=0)


def pieces_of(layer: Any) -> list[list[Any]]:
    """Return each layer's directions as layers of their own."""
    _checks.layer(layer)
    config, params = layer.config(), dict(layer.params.items())
    found = []
    for k in range(layer.num_layers):
        directions = []
        for end in (f"_l{k}", f"_l{k}_reverse")[: 2 if layer.bidirectional else 1]:
            own = {
                f"{name.removesuffix(end)}_l0": a
                for name, a in params.items()
                if name.endswith(end)
            }
            sizes = layer.hidden_size
            changed = ALONE | {
                "input_size": own["weight_ih_l0"].shape[1],
                "hidden_size": sizes if isinstance(sizes, int) else sizes[k],
            }
            directions.append(KINDS[config["kind"]].from_config(config | changed, own))
        found.append(directions)
    return found


@dataclass(frozen=True, eq=False)
class Walked:
    """A whole call: the walks of all pieces, and the call of the layer itself.

    Attributes
    ----------
    walks : list of Walk
        Index layer * D + direction.
    batched : bool
        Whether x has a batch axis.
    y, saved
        What the layer's own forward call returned.
    """

    walks: list[Walk]
    batched: bool
    y: Array
    saved: Any

    def shown(self, a: Array) -> Array:
        """Return (T, B, ...) without the batch axis if x has none."""
        return a if self.batched else a[:, 0]

    def stacked(self, arrays: list[Array]) -> Array:
        """Return an array (T, B) for each walk as one, (L*D, T, B)."""
        return np.stack([self.shown(a) for a in arrays])


def walk(
    layer: Any,
    x: ArrayLike | None,
    *,
    tokens: ArrayLike | None,
    state: Any,
    lengths: ArrayLike | None,
) -> Walked:
    """Run every piece of a stack on a sequence; the layer's own call checks the arguments."""
    pieces = pieces_of(layer)
    y, _, saved = layer.forward(x, state, tokens=tokens, lengths=lengths, noise=False)
    batched = y.ndim == 3
    given = np.asarray(x, layer.dtype) if tokens is None else np.asarray(tokens)
    if not batched:
        given = given[:, None]
    elif layer.batch_first:
        given = given.swapaxes(0, 1)
    batch = given.shape[1]
    ends = None if lengths is None else np.asarray(lengths).reshape(batch)
    dense, ids = (given, None) if tokens is None else (None, given)
    walks: list[Walk] = []
    for k, directions in enumerate(pieces):
        outputs = []
        for d, piece in enumerate(directions):
            of_x, of_ids = (a if a is None or d == 0 else turned(a, ends) for a in (dense, ids))
            first = first_state(layer, piece, state, k, d, batch)
            h, _, kept = piece.forward(
                of_x, as_state(first), tokens=of_ids, lengths=ends, noise=False
            )
            after = (h,) if len(first) == 1 else (h, kept.cells[0])
            before = tuple(
                np.concatenate([one, a])[: a.shape[0]] for one, a in zip(first, after, strict=True)
            )
            walks.append(Walk(piece, k, d, of_x, of_ids, before, h, kept, ends))
            outputs.append(walks[-1].over_time(h))
        dense, ids = np.concatenate(outputs, axis=2), None
    return Walked(walks, batched, y, saved)


def first_state(
    layer: Any, piece: Any, state: Any, k: int, d: int, batch: int
) -> tuple[Array, ...]:
    """Return a piece's part of a state of the stack, (1, B, width) each; zeros if not given."""
    n = 2 if layer.bidirectional else 1
    widths = [getattr(piece, "proj_size", 0) or piece.hidden_size]
    parts = [state]
    if isinstance(piece, LSTM):
        widths.append(piece.hidden_size)
        parts = [None, None] if state is None else list(state)
    found = []
    for part, width in zip(parts, widths, strict=True):
        if part is None:
            found.append(np.zeros((1, batch, width), piece.dtype))
            continue
        # If layers have sizes of their own, a part is a list of arrays, one for each layer.
        by_layers = not isinstance(layer.hidden_size, int)
        own = np.asarray(part[k])[d] if by_layers else np.asarray(part)[k * n + d]
        found.append(np.asarray(own, piece.dtype).reshape(1, batch, width))
    return tuple(found)
