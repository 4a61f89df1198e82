"""How the tests of the kernels call `fusedrnn.core`.

A test describes a call once, as `Weights` and `Inputs`, and passes the description to a backend, to
an oracle in float64, or to another library. `Inputs` holds the mask, lengths and resets too, so
that a hypothesis strategy can draw all of a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import fusedrnn as fr
from fusedrnn import core
from fusedrnn._cells import CellSpec

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(eq=False)
class Weights:
    """The weights of one direction, by the names of `CellSpec.shapes`."""

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
    options: core.Options | None = None

    @property
    def hidden_size(self) -> int:
        return int(self.w_ih.shape[0]) // self.spec.x_gates

    @property
    def output_size(self) -> int:
        return self.hidden_size if self.w_hr is None else int(self.w_hr.shape[0])

    @property
    def input_size(self) -> int:
        return int(self.w_ih.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.w_ih.dtype

    def arrays(self) -> dict[str, Array]:
        """The arrays that are not None."""
        given = vars(self)
        return {name: a for name, a in given.items() if isinstance(a, np.ndarray)}


class Inputs(NamedTuple):
    """The sequences of one call; exactly one of `x` and `tokens` is given.

    With `batch_first`, y, dy and dx are (B, T, ...); all other arrays, x included, are (T, B, ...).
    """

    x: Array | None  # (T, B, I)
    tokens: Array | None = None  # (T, B)
    states: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H)
    lengths: Array | None = None  # (B,)
    reset: Array | None = None  # (T, B) bool
    initial: tuple[Array, ...] | None = None
    mask: Array | None = None  # (T, B) bool
    drop: Array | None = None  # (D, B, P)
    zoneout: tuple[float, float] | None = None
    keep: tuple[Array, ...] | None = None
    batch_first: bool = False

    def time_major(self, a: Array) -> Array:
        return a.swapaxes(0, 1) if self.batch_first else a

    def fixed(self, spec: CellSpec) -> dict[str, Any]:
        """The arguments that forward and backward both take."""
        names = ("tokens", "states", "drop", "zoneout", "keep")
        given = {name: getattr(self, name) for name in names}
        if self.zoneout is not None and spec.states < 2:
            given["zoneout"] = (self.zoneout[0], 0.0)
        return given | {"initial": None if self.reset is None else self.initial}


@dataclass(frozen=True, eq=False)
class Saved:
    weights: tuple[Weights, ...]
    inputs: Inputs
    y: Array
    data: tuple[Array, ...]
    packed: core.Packed
    plan: core.Plan

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.data)


class Forward(NamedTuple):
    y: Array
    states: tuple[Array, ...]
    saved: Saved | None


class DirectionGradients(NamedTuple):
    dw_ih: Array
    dw_hh: Array | None
    db_ih: Array
    db_hh: Array | None
    dp: Array | None
    dw_hr: Array | None = None
    dnorm_ih: Array | None = None
    dnorm_hh: Array | None = None
    dnorm_c: Array | None = None
    dnorm_c_bias: Array | None = None


class Gradients(NamedTuple):
    dx: Array | None
    directions: tuple[DirectionGradients, ...]
    states: tuple[Array, ...]
    initial: tuple[Array, ...]


class Backend:
    """One of the two backends; its calls run on it whichever backend is in force."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pack(self, weights: tuple[Weights, ...]) -> core.Packed:
        """Pack the weights, with zeros for absent ones, because the tests ask for all gradients."""
        return core.pack(
            weights[0].spec.name, [complete(w) for w in weights], options=weights[0].options
        )

    def forward(
        self,
        weights: tuple[Weights, ...],
        inputs: Inputs,
        *,
        save: bool,
        num_threads: int | None = None,
    ) -> Forward:
        """Pack the weights and run one forward call."""
        packed = self.pack(weights)
        with fr.use_backend(self.name):
            y: Array | None = None
            if inputs.batch_first:
                steps, batch = (inputs.tokens if inputs.x is None else inputs.x).shape[:2]  # type: ignore[union-attr]
                width = len(weights) * weights[0].output_size
                y = np.empty((batch, steps, width), weights[0].dtype).swapaxes(0, 1)
            out = core.forward(
                packed,
                inputs.x,
                **inputs.fixed(packed.spec),
                lengths=inputs.lengths,
                mask=inputs.mask,
                reset=inputs.reset,
                y=y,
                saved=save,
                threads=num_threads,
            )
        shown = inputs.time_major(out.y)
        if out.saved is None:
            return Forward(shown, out.states, None)
        shown.flags.writeable = False
        saved = Saved(weights, inputs, shown, (out.saved,), packed, out.plan)
        return Forward(shown, out.states, saved)

    def backward(
        self,
        saved: Saved,
        dy: Array | None,
        dstates: tuple[Array, ...] | None,
        *,
        num_threads: int | None = None,
        dcells: Array | None = None,
        dgates: Array | None = None,
        want_dx: bool = True,
        group: int | None = None,
    ) -> Gradients:
        """Compute every gradient."""
        inputs = saved.inputs
        dx: Array | None = None
        if inputs.batch_first and want_dx and inputs.x is not None:
            steps, batch, width = inputs.x.shape
            dx = np.empty((batch, steps, width), inputs.x.dtype).swapaxes(0, 1)
        names = {"states", "initial", *saved.packed.names} | ({"x"} if want_dx else set())
        with fr.use_backend(self.name):
            g = core.backward(
                saved.packed,
                saved.plan,
                inputs.x,
                **inputs.fixed(saved.packed.spec),
                y=inputs.time_major(saved.y),
                saved=saved.data[0],
                dy=None if dy is None else inputs.time_major(dy),
                dstates=dstates,
                dcells=dcells,
                dgates=dgates,
                dx=dx,
                want=names,
                group=group,
                threads=num_threads,
            )
        assert g.dstates is not None
        assert g.dinitial is not None
        directions = tuple(
            DirectionGradients(*(of.get(name[1:]) for name in DirectionGradients._fields))  # type: ignore[arg-type]
            for of in g.dweights
        )
        dx = None if g.dx is None else inputs.time_major(g.dx)
        return Gradients(dx, directions, g.dstates, g.dinitial)


def complete(w: Weights) -> dict[str, Array]:
    """The arrays by name, with zeros for those that are absent."""
    shapes = w.spec.shapes(w.input_size, w.hidden_size, 0 if w.w_hr is None else w.output_size)
    given = w.arrays()
    return {
        name: given[name] if name in given else np.zeros(shape, w.dtype)
        for name, shape in shapes.items()
    }


def by_name(name: str) -> Backend:
    return Backend(name)


def reference() -> Backend:
    return Backend("reference")


def current() -> Backend:
    """The compiled backend, or the reference if there are no compiled kernels."""
    return Backend("native" if fr.isa() != "numpy" else "reference")
