"""What a backend takes and gives: plain data, and the protocol that both backends implement.

Sizes: T steps, B sequences, I inputs, H units, P outputs (H without a projection), D directions.
Direction 1 walks time backwards, each row from its own last valid step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._cells import Array

if TYPE_CHECKING:
    from ..core._packed import Packed

# The arrays of one direction in the order in which the compiled module takes them; `p` stands for
# the per-unit vectors of a cell: peepholes, or the gains of layer normalisation.
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh", "p", "w_hr")


# NumPy takes microseconds to name a dtype.
FLOAT_NAMES = {4: "float32", 8: "float64"}


class Inputs(NamedTuple):
    """One call's sequences; exactly one of `x` and `tokens` is given.

    The compiled module takes this tuple as it is: its fields are those of csrc/bind/job.hpp.
    """

    x: Array | None  # (T, B, I), contiguous in its last axis, any strides in the others
    tokens: Array | None = None  # (T, B) int64 in [0, I): x is one-hot
    states: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H); None: zeros
    lengths: Array | None = None  # (B,) int64: how many steps each row walks; None: T
    times: Array | None = None  # (D, B, T) int64: walk step -> t; None: in order
    cut: Array | None = None  # (D, T + 1, B) uint8: where `initial` replaces the carried state
    initial: tuple[Array, ...] | None = None  # as states; None: zeros
    drop: Array | None = None  # (D, B, P): factors on what w_hh multiplies
    keep: tuple[Array, ...] | None = None  # (D, T, B, P), (D, T, B, H): 1 keeps the old state;
    # None: zoneout's expectation
    zoneout: tuple[float, float] | None = None  # rates of h and c

    @property
    def sequence(self) -> Array:
        """x or tokens, whichever is given: its first axes are T and B."""
        given = self.tokens if self.x is None else self.x
        assert given is not None
        return given


class Outcome(NamedTuple):
    """What a forward call gives."""

    y: Array  # (T, B, D*P)
    states: tuple[Array, ...]  # (D, B, P), (D, B, H)
    saved: Array | None


class Gradients(NamedTuple):
    """What a backward call gives; None, or missing in a mapping, is what was not wanted."""

    dx: Array | None  # (T, B, I)
    dweights: tuple[dict[str, Array], ...]  # by direction, by the names of the weights
    dstates: tuple[Array, ...] | None  # (D, B, P), (D, B, H)


class Given(NamedTuple):
    """Gradients of everything that a forward call gave; None: zeros."""

    dy: Array | None  # (T, B, D*P), contiguous in its last axis
    dstates: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H)
    dcells: Array | None = None  # (D, T, B, H), of every cell state
    dgates: Array | None = None  # (D, T, B, n, H), of every gate, in the order of the weights' rows


class Wanted(NamedTuple):
    """Which gradients to compute, and where they go: False, True for a new array, or an array."""

    dx: bool | Array = True
    dweights: tuple[Mapping[str, bool | Array], ...] = ()  # by direction; missing is False
    dstates: bool | tuple[Array, ...] = True
    add: bool = False  # add to the weight gradients that were brought


class Threads(NamedTuple):
    """How many threads: exactly so many, or at most so many; 0: not said."""

    exactly: int = 0
    at_most: int = 0


# The arrays of one direction in the order of WEIGHTS.
Sources: TypeAlias = tuple[Array | None, ...]


ANY_NUMBER = Threads()


class Form(Protocol):
    """The weights of one direction as a backend reads them, derived when first needed.

    `Packed` closes its forms before the arrays change and opens them afterwards.
    """

    @property
    def nbytes(self) -> int:
        """Bytes that were derived."""

    def close(self, wait: bool) -> None:
        """Let go of the arrays; no call begins to read the weights from here on.

        RuntimeError if a call reads them or if it is closed; with `wait`, waits for calls that
        read the arrays themselves, and the others go on with what was derived.
        """

    def open(self, sources: Sources, changed: bool) -> None:
        """Take the arrays; calls may begin again. `changed`: derive anew."""

    def heir(self, sources: Sources) -> Form | None:
        """The form of the weights that come after these; None if there is nothing to take over."""


class Steps(Protocol):
    """A layer and the state that it has reached."""

    def step(self, x: Array, y: Array) -> bool:
        """Read x (B, I), write y (B, P), go on; False: nothing was done, because of the arrays."""

    def undo(self) -> None:
        """Go back to the state before the last step; not twice."""

    def states(self) -> tuple[Array, ...]:
        """Copies, (1, B, P), (1, B, H)."""

    def load(self, states: tuple[Array, ...]) -> None:
        """Set the state."""


class Backend(Protocol):
    """What computes. Inputs were checked by the callers; a backend trusts them."""

    name: str

    def form(self, packed: Packed, direction: int, sources: Sources) -> Form:
        """A new form of the weights of one direction, whose arrays are `sources`."""

    def form_key(self, packed: Packed) -> str:
        """Which of the forms of `packed` a call reads now."""

    def saved_shape(self, packed: Packed, steps: int, batch: int) -> tuple[int, ...]:
        """Shape of what a forward call saves."""

    def forward(
        self,
        packed: Packed,
        inputs: Inputs,
        *,
        y: Array | None = None,
        final: tuple[Array, ...] | None = None,
        saved: bool | Array = False,
        threads: Threads = ANY_NUMBER,
    ) -> Outcome:
        """Run the sequences; y, the final states and `saved` go to the arrays that are given."""

    def forward_plain(
        self,
        cell: str,
        x: object,
        weights: tuple[object, ...],
        states: tuple[object, ...],
        threads: Threads,
    ) -> tuple[Array, tuple[Array, ...]] | None:
        """Return y and the last states of one direction, from arrays as a caller gave them.

        The weights come in the order of WEIGHTS.
        None, and nothing was done, if an argument has to be checked or converted first, or if
        there is no faster way than `forward`. States, first and last, are (B, P) and (B, H).
        """

    def backward(
        self,
        packed: Packed,
        inputs: Inputs,
        y: Array,
        saved: Array,
        given: Given,
        wanted: Wanted,
        *,
        threads: Threads = ANY_NUMBER,
    ) -> Gradients:
        """Gradients of what `wanted` names, from those of the outputs."""

    def stepper(self, packed: Packed, inputs: Inputs, threads: Threads) -> Steps | None:
        """One layer made ready for many calls of one step like `inputs`; None: no faster way."""

    def slots(self, packed: Packed, inputs: Inputs, saved: Array) -> tuple[Array, Array | None]:
        """What the forward call kept: slots (D, T, B, gates, H), and every c (D, T, B, H).

        Views or copies; undefined at steps that were not executed.
        """


CHANGED = "parameters changed while this call read them: it computed nothing; repeat it"


def stacked_gains(arrays: dict[str, Array], shape: tuple[int, int]) -> Array:
    """Gains of layer normalisation, and the bias of LN(c'), as a cell's vectors (vectors, H)."""
    p = np.zeros(shape, arrays["w_ih"].dtype)
    given = (arrays.get(name) for name in ("norm_ih", "norm_hh", "norm_c", "norm_c_bias"))
    rows = np.concatenate([a for a in given if a is not None]).reshape(-1, shape[1])
    p[: len(rows)] = rows
    return p


def delivered(gradient: Array, target: Array, add: bool) -> Array:
    """A gradient in the array that the caller brought, added to what that holds if `add`."""
    if add:
        target += gradient
    else:
        target[...] = gradient
    return target


def named(values: Sequence[Any]) -> dict[str, Any]:
    """Values in the order of WEIGHTS by their names, without those that are None."""
    return {name: value for name, value in zip(WEIGHTS, values, strict=True) if value is not None}
