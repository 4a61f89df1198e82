"""States of a layer: as the caller has them, like torch's, and as the calls of its stack do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._cells import Array
from .._checks import arguments as _check

States = tuple[Array, ...]  # of one layer: (D, B, P) and, with a second state, (D, B, H)


@dataclass(frozen=True)
class StateForm:
    """The shape of a layer's state.

    To the caller each part (h, or h and c) is one array (L*D, B, width), index layer * D +
    direction; if the layers have sizes of their own, it is a list of L arrays (D, B, width).
    Without a batch axis, B is missing.
    """

    names: tuple[str, ...]
    widths: tuple[tuple[int, ...], ...]  # by layer and part
    directions: int
    listed: bool
    dtype: np.dtype[Any]

    def zeros(self, batch: int) -> list[States]:
        """Return the state to use if none is given."""
        return [
            tuple(np.zeros((self.directions, batch, width), self.dtype) for width in widths)
            for widths in self.widths
        ]

    def _parameter_names(self) -> list[list[list[str]]]:
        """Return the names of the parameters of a learned state by layer, part and direction."""
        ends = ("", "_reverse")[: self.directions]
        return [
            [[f"initial_{part}_l{k}{end}" for end in ends] for part in self.names]
            for k in range(len(self.widths))
        ]

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters of a learned state."""
        found: dict[str, tuple[int, ...]] = {}
        for parts, widths in zip(self._parameter_names(), self.widths, strict=True):
            for ends in zip(*parts, strict=True):  # the parts of a direction stay together
                found |= {name: (width,) for name, width in zip(ends, widths, strict=True)}
        return found

    def from_parameters(self, params: Mapping[str, Array], batch: int) -> list[States]:
        """Return a learned state for `batch` sequences."""
        return [
            tuple(np.stack([np.tile(params[name], (batch, 1)) for name in ends]) for ends in parts)
            for parts in self._parameter_names()
        ]

    def parameter_gradients(
        self, used: Sequence[list[States]], batch: int, per_sample: bool
    ) -> dict[str, Array]:
        """Return the gradients of the parameters from those of the states in their place.

        For each sequence those of `used` are added; then, unless `per_sample`, those of all
        sequences.
        """
        found = {}
        for k, parts in enumerate(self._parameter_names()):
            for i, ends in enumerate(parts):
                for d, name in enumerate(ends):
                    each = np.zeros((batch, self.widths[k][i]), self.dtype)
                    for states in used:
                        each += states[k][i][d]
                    total = np.zeros(self.widths[k][i], self.dtype)
                    for row in each:  # one after the other; `sum` would choose another order
                        total += row
                    found[name] = each if per_sample else total
        return found

    def inside(
        self, value: object, what: str, batch: int | None, *, copy: bool = False
    ) -> list[States] | None:
        """Check `value` and return it by layers; None stays None.

        `batch` is None if there is no batch axis. `what` names the argument: "state" has the parts
        h0 and c0, "dstate" the parts dh_n and dc_n. Of several parts some may be None: zeros.
        """
        if value is None:
            return None
        named = {"state": "{}0", "dstate": "d{}_n"}.get(what, what + " of {}")
        names = tuple(named.format(name) for name in self.names)
        given = _check.parts(value, what, names)
        if all(part is None for part in given):
            return None
        lead = () if batch is None else (batch,)
        columns = [
            self._column(part, name, k, lead, copy)
            for k, (part, name) in enumerate(zip(given, names, strict=True))
        ]
        return list(zip(*columns, strict=True))

    def _column(
        self, part: Any, name: str, k: int, lead: tuple[int, ...], copy: bool
    ) -> list[Array]:
        """Return part k of every layer."""
        layers, n = len(self.widths), self.directions
        widths = [widths[k] for widths in self.widths]
        if part is None:
            found = [np.zeros((n, *lead, width), self.dtype) for width in widths]
        elif self.listed:
            arrays = _check.layer_list(part, name, layers)
            found = [
                self._array(a, f"{name}[{i}]", (n, *lead, width), copy)
                for i, (a, width) in enumerate(zip(arrays, widths, strict=True))
            ]
        else:
            whole = self._array(part, name, (layers * n, *lead, widths[0]), copy)
            found = [whole[i * n : (i + 1) * n] for i in range(layers)]
        return found if lead else [a[:, None] for a in found]

    def _array(self, value: Any, name: str, shape: tuple[int, ...], copy: bool) -> Array:
        a = _check.floating(value, name)
        return _check.contiguous(_check.shaped(a, name, shape), self.dtype, copy=copy)

    def outside(self, states: list[States], batched: bool) -> Any:
        """Return the state in the caller's form."""
        if len(states) == 1 and batched and not self.listed:
            return states[0] if len(states[0]) > 1 else states[0][0]
        parts: list[Any] = []
        for column in zip(*states, strict=True):
            arrays = column if batched else [a[:, 0] for a in column]
            if self.listed:
                parts.append(list(arrays))
            else:
                parts.append(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        return tuple(parts) if len(parts) > 1 else parts[0]
