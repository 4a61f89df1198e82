"""What both walks of the NumPy backend ask of a call: weights by slot, rows, cuts, zoneout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._activations import Options
from ..._cells import Array, CellSpec
from ..types import CHANGED, Inputs, Sources

if TYPE_CHECKING:
    from ...core._packed import Packed


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one direction, by the names of `CellSpec.shapes`; None: not given."""

    spec: CellSpec
    w_ih: Array
    w_hh: Array | None = None
    b_ih: Array | None = None
    b_hh: Array | None = None
    p: Array | None = None
    w_hr: Array | None = None
    norm_ih: Array | None = None
    norm_hh: Array | None = None
    norm_c: Array | None = None
    norm_c_bias: Array | None = None
    options: Options | None = None

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.w_ih.shape[0]) // self.spec.x_gates

    @property
    def output_size(self) -> int:
        """P: the size of h and y."""
        return self.hidden_size if self.w_hr is None else int(self.w_hr.shape[0])

    @property
    def input_size(self) -> int:
        """I."""
        return int(self.w_ih.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.w_ih.dtype


class ReferenceForm:
    """Copies of one direction's weights, made when a call first needs them: see `types.Form`.

    A call computes with the copies, so it never reads an array that is being written. There is no
    lock: after copying, `weights` checks that the arrays are still those it began with.
    """

    def __init__(self, packed: Packed, direction: int) -> None:
        self._packed, self._direction = packed, direction
        self._copied: tuple[int, Weights] | None = None  # with the generation of the copies
        self._closed = False

    @property
    def nbytes(self) -> int:
        """Bytes of the copies."""
        if self._copied is None:
            return 0
        values = vars(self._copied[1]).values()
        return sum(a.nbytes for a in values if isinstance(a, np.ndarray))

    def close(self, wait: bool) -> None:
        """Refuse to make copies until `open`."""
        if self._closed and not wait:
            raise RuntimeError("weights: another thread is changing them")
        self._closed = True

    def open(self, sources: Sources, changed: bool) -> None:
        """Allow copies again; if the arrays have changed, drop the old ones."""
        self._closed = False
        if changed:
            self._copied = None

    def heir(self, sources: Sources) -> None:
        """Return None: the next form makes its own copies."""

    def weights(self) -> Weights:
        """Return the copies, made now if they are missing or out of date."""
        packed, copied = self._packed, self._copied
        generation = packed.generation
        if copied is None or copied[0] != generation:
            copies = {k: a.copy() for k, a in packed.held()[self._direction].items()}
            p = None if packed.spec.norm else packed.vectors(copies)  # zeros without peepholes
            if p is not None:
                copies["p"] = p
            copied = generation, Weights(packed.spec, **copies, options=packed.options)
        if self._closed or packed.generation != generation:
            raise RuntimeError(CHANGED)
        self._copied = copied
        return copied[1]


class Slots:
    """The weights of one direction by slot: products for every slot in one expression."""

    def __init__(self, weights: Weights) -> None:
        spec, size, out = weights.spec, weights.hidden_size, weights.output_size
        self.spec = spec
        self.late = spec.h_gates - spec.late  # first late slot, counted from h_first
        self.x_blocks = [spec.block(slot) for slot in range(spec.x_gates)]
        self.h_blocks = [spec.block(slot) for slot in range(spec.h_first, spec.gates)]
        self.w = weights.w_ih.reshape(spec.x_gates, size, -1)[self.x_blocks]
        recurrent = weights.w_hh
        if recurrent is None:
            recurrent = np.empty((0, out), weights.dtype)
        self.r = recurrent.reshape(-1, size, out)[self.h_blocks]
        # Layer normalisation comes between a product and its bias, so the cell adds the bias.
        self.bias = np.zeros((spec.gates, 1, size), weights.dtype)
        if spec.norm:
            return
        if weights.b_ih is not None:
            self.bias[: spec.x_gates, 0] += weights.b_ih.reshape(-1, size)[self.x_blocks]
        if weights.b_hh is not None:
            self.bias[spec.h_first :, 0] += weights.b_hh.reshape(-1, size)[self.h_blocks]

    def pre_activations(self, inputs: Inputs, t: Array, rows: Array, u: Array) -> Array:
        """Return b + W x + R u of every slot, (gates, N, H); without R u of the late slots."""
        a = np.repeat(self.bias, len(rows), axis=1)
        if inputs.x is not None:
            a[: self.spec.x_gates] += inputs.x[t, rows] @ self.w.transpose(0, 2, 1)
        elif inputs.tokens is not None:  # W times a one-hot x is a column of W
            a[: self.spec.x_gates] += self.w[:, :, inputs.tokens[t, rows]].transpose(0, 2, 1)
        end = self.spec.gates - self.spec.late
        a[self.spec.h_first : end] += u @ self.r[: self.late].transpose(0, 2, 1)
        return a

    def late_product(self, u: Array) -> Array:
        """Return R u of the late slot."""
        product: Array = u @ self.r[-1].T
        return product

    def late_product_back(self, da: Array) -> Array:
        """Return R^T da of the late slot."""
        product: Array = da @ self.r[-1]
        return product


@dataclass
class Call:
    """One direction of a call, for both walks: rows, times, cuts, recurrent dropout, zoneout."""

    weights: Weights
    inputs: Inputs
    direction: int
    steps: int
    batch: int

    def __post_init__(self) -> None:
        lengths = self.inputs.lengths
        self.lengths = np.full(self.batch, self.steps) if lengths is None else lengths

    def cut(self, s: int | Array, rows: Array) -> Array:
        """Whether `initial` replaces the state that enters step s (after the last: leaves)."""
        if self.inputs.cut is None:
            return np.zeros(len(rows), bool)
        return np.asarray(self.inputs.cut[self.direction, s, rows] != 0)

    def each_step(self) -> Iterator[tuple[int, Array, Array]]:
        """Yield each walk step, its live rows, and their times."""
        for s in range(int(self.lengths.max(initial=0))):
            rows = np.flatnonzero(self.lengths > s)
            if self.inputs.times is not None:
                t = self.inputs.times[self.direction, rows, s]
            else:
                t = self.lengths[rows] - 1 - s if self.direction else np.full(len(rows), s)
            yield s, rows, t

    def replace_cut(self, states: list[Array], cut: Array, rows: Array) -> None:
        """Replace the states by `initial` in the rows whose link was cut."""
        for k, state in enumerate(states):
            first = self.inputs.initial
            state[cut] = 0 if first is None else first[k][self.direction, rows[cut]]

    def dropped(self, h: Array, rows: Array) -> Array:
        """Return h under recurrent dropout, as R sees it."""
        drop = self.inputs.drop
        return h if drop is None else h * drop[self.direction, rows]

    def kept(self, k: int, t: Array, rows: Array) -> Array | float | None:
        """Return what zoneout keeps of the old state k: flags, its rate, or None."""
        rates, keep = self.inputs.zoneout, self.inputs.keep
        if rates is None or rates[k] == 0:
            return None
        return rates[k] if keep is None else keep[k][self.direction, t, rows]

    def zoned(self, k: int, t: Array, rows: Array, fresh: Array, old: Array) -> Array:
        """Return state k after zoneout."""
        keep = self.kept(k, t, rows)
        if keep is None:
            return fresh
        if isinstance(keep, np.ndarray):
            return np.asarray(np.where(keep > 0, old, fresh))
        return np.asarray(fresh + fresh.dtype.type(keep) * (old - fresh))

    def zoned_back(self, k: int, t: Array, rows: Array, d: Array) -> tuple[Array, Array]:
        """Split the gradient of state k between the new state and the old one."""
        keep = self.kept(k, t, rows)
        if keep is None:
            return d, np.zeros_like(d)
        if isinstance(keep, np.ndarray):
            return np.where(keep > 0, 0, d).astype(d.dtype), np.where(keep > 0, d, 0).astype(
                d.dtype
            )
        old = d.dtype.type(keep) * d
        return d - old, old


def calls(weights: tuple[Weights, ...], inputs: Inputs) -> list[Call]:
    """Return the directions of a call."""
    steps, batch = inputs.sequence.shape[:2]
    return [Call(w, inputs, d, steps, batch) for d, w in enumerate(weights)]


def zeros(call: Call, directions: int) -> list[Array]:
    """Return zero states: (D, B, P) and, for a second state, (D, B, H)."""
    w = call.weights
    widths = (w.output_size, w.hidden_size)[: w.spec.states]
    return [np.zeros((directions, call.batch, width), w.dtype) for width in widths]
