"""Packed weights, number by number, against the layout of csrc/inner/pack.hpp written in NumPy.

cells/cell.hpp and cells/slots.hpp define the layout. A pack is written to memory that holds NaN, so
that a place which is never written is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import fusedrnn as fr
from cases import DTYPES, same_bits
from fusedrnn._cells import CELLS, Array

_core = pytest.importorskip("fusedrnn._core")
CHOSEN = None  # chosen activations change no pack
LANE_BYTES = {name: size for name, supported, size in _core.isas() if supported}
# Hidden sizes around the vectors and panels of every instruction set, each with an input size.
SIZES = [(1, 0), (2, 1), (3, 17), (5, 3), (7, 16), (9, 8), (15, 70), (16, 15), (17, 33), (31, 4)]
SIZES += [(33, 130), (64, 65), (70, 1), (130, 2)]


def up(n: int, to: int) -> int:
    return (n + to - 1) // to * to


@dataclass
class Layout:
    """The layout of one layer: `hidden` and `output` units, vectors of `lanes`."""

    cell: dict[str, int]
    hidden: int
    lanes: int
    block: int
    dtype: str

    def api_rows(self, slot: int) -> int:
        """The first row of the weight matrix that a slot takes."""
        first = self.cell["h_first"] if self.cell["h_first"] < self.cell["gates"] else 0
        return (slot - first) % self.cell["x_gates"] * self.hidden

    def pitch(self, vector: int) -> int:
        """Lanes from a slot to the next; fewer than a vector if the last units share vectors."""
        c, left = self.cell, self.hidden - vector * self.lanes
        shares = c["gates"] >= 3 and c["x_gates"] == c["gates"] and c["h_first"] == 0
        shares = shares and c["late"] == 0 and not c["norm"]
        return left if shares and left < self.lanes else self.lanes

    def places(self, v0: int, count: int, slots: range) -> Iterator[tuple[int, int, int]]:
        """(slot, unit, place) of `count` vectors of units from v0, for one K index of a panel."""
        for v in range(v0, v0 + count):
            for i, slot in enumerate(slots):
                for unit in range(v * self.lanes, min((v + 1) * self.lanes, self.hidden)):
                    place = ((v - v0) * len(slots) + i) * self.pitch(v) + unit % self.lanes
                    yield slot, unit, place

    def region(self, size: int, parts: list[Array]) -> Array:
        """Parts one after the other, followed by zeros up to a multiple of 64 bytes."""
        out = np.zeros(up(size, self.block), self.dtype)
        flat = np.concatenate([np.zeros(0, self.dtype), *(part.reshape(-1) for part in parts)])
        out[: len(flat)] = flat
        return out

    def bias(self, b_ih: Array | None, b_hh: Array | None) -> Array:
        c, parts = self.cell, []
        for v in range(-(-self.hidden // self.lanes)):
            part = np.zeros(c["gates"] * self.lanes, self.dtype)
            for slot, unit, place in self.places(v, 1, range(c["gates"])):
                row = self.api_rows(slot) + unit
                x = b_ih[row] if b_ih is not None and slot < c["x_gates"] else part.dtype.type(0)
                h = b_hh[row] if b_hh is not None and slot >= c["h_first"] else part.dtype.type(0)
                part[place] = x + h
            parts.append(part)
        return self.region(up(self.hidden, self.block) * c["gates"], parts)

    def vectors(self, p: Array | None) -> Array:
        count, padded = self.cell["vectors"], up(self.hidden, self.block)
        out = np.zeros((count, padded), self.dtype)
        if p is not None:
            out[:, : self.hidden] = p
        return out.reshape(-1)

    def rows(self, w: Array, slots: range) -> Array:
        """Forward panels: a lane for each row of the matrix."""
        parts, k = [], w.shape[1]
        c = self.cell
        whole = c["x_gates"] == c["gates"] and c["late"] == 0 and c["h_first"] in (0, c["gates"])
        units = 4 // c["gates"] if whole and c["gates"] < 3 else 1
        vectors = -(-self.hidden // self.lanes)
        for v0 in range(0, vectors, units):
            count = min(units, vectors - v0)
            stride = up(count * len(slots) * self.pitch(v0), self.lanes)
            panel = np.zeros((k, stride), self.dtype)
            for slot, unit, place in self.places(v0, count, slots):
                panel[:, place] = w[self.api_rows(slot) + unit]
            parts.append(panel)
        return self.region(up(self.hidden, self.block) * len(slots) * k, parts)

    def columns(self, w: Array, slots: range) -> Array:
        """Backward panels: a lane for each column; K runs over the slots of a block of units."""
        order = [
            self.api_rows(slot) + unit
            for u0 in range(0, self.hidden, self.block)
            for slot in slots
            for unit in range(u0, min(u0 + self.block, self.hidden))
        ]
        parts, wide = [], 4 * self.lanes
        for c0 in range(0, w.shape[1], wide):
            n = min(wide, w.shape[1] - c0)
            panel = np.zeros((len(order), up(n, self.lanes)), self.dtype)
            panel[:, :n] = w[order, c0 : c0 + n]
            parts.append(panel)
        return self.region(up(w.shape[1], self.block) * len(order), parts)


def expected(
    layout: Layout,
    arrays: tuple[Array | None, ...],
    backward: bool,
) -> Array:
    """The pack's regions in the order of csrc/outer/layout.cpp."""
    w_ih, w_hh, b_ih, b_hh, p, w_hr = arrays
    c = layout.cell
    assert w_ih is not None
    early = c["gates"] - c["late"]
    of_x, of_h, of_late = range(c["x_gates"]), range(c["h_first"], early), range(early, c["gates"])
    found = [layout.bias(b_ih, b_hh)] if not backward or c["norm"] else []
    found.append(layout.vectors(p))
    panels = layout.columns if backward else layout.rows
    recurrent = [] if w_hh is None else [panels(w_hh, of_h), panels(w_hh, of_late)]
    found += [*recurrent, panels(w_ih, of_x)] if backward else [panels(w_ih, of_x), *recurrent]
    if w_hr is not None:
        one = dict.fromkeys(c, 0) | {"gates": 1, "x_gates": 1, "h_first": 1}
        of_outputs = Layout(one, len(w_hr), layout.lanes, layout.block, layout.dtype)
        project = of_outputs.columns if backward else of_outputs.rows
        found.append(project(w_hr, range(1)))
    return np.concatenate(found)


def dirty(items: int, dtype: str) -> None:
    """Fill memory of about this size with NaN and free it, so that the next array gets it."""
    for extra in range(4):
        np.full(items + 16 * extra, np.nan, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", fr.supported_isas())
@pytest.mark.parametrize("cell", CELLS)
def test_every_number_has_its_place(cell: str, isa: str, dtype: str) -> None:
    """Both packs of a layer hold its weights where the layout says, and zeros everywhere else."""
    info = _core.cells()[cell]
    item = np.dtype(dtype).itemsize
    rng = np.random.default_rng(3)

    def random(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    for hidden, inputs in SIZES:
        layout = Layout(info, hidden, LANE_BYTES[isa] // item, 64 // item, dtype)
        project = CELLS[cell].states > 1 and not CELLS[cell].norm
        for output in (None, max(1, hidden - 3)) if project else (None,):
            rows, recurrent = info["x_gates"] * hidden, info["h_first"] < info["gates"]
            arrays = (
                random(rows, inputs),
                random(rows, output or hidden) if recurrent else None,
                random(rows) if hidden % 3 else None,
                random(rows) if recurrent and hidden % 2 else None,
                random(info["vectors"], hidden) if info["vectors"] else None,
                random(output, hidden) if output else None,
            )
            for backward in (False, True):
                right = expected(layout, arrays, backward)
                dirty(len(right), dtype)
                weights = _core.PackedWeights(isa, cell, arrays, CHOSEN)
                found = weights.panels(backward)
                assert same_bits(found, right), (hidden, inputs, output, backward)
