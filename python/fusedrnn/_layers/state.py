"""States of a layer: as the caller has them, like torch's, and as the calls of its stack do."""

from __future__ import annotations

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
