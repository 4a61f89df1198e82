"""What a backend takes and returns: plain data, and the protocol that both backends implement.

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

# The arrays of one direction in the order in which the compiled module takes them; `p` is the
# per-unit vectors of a cell: peepholes, or the gains of layer normalisation.
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh", "p", "w_hr")


# NumPy takes microseconds to name a dtype.
FLOAT_NAMES = {4: "float32", 8: "float64"}


class Inputs(NamedTuple):
    """The sequences of one call; exactly one of `x` and `tokens` is given.

    The compiled module takes this tuple as it is: `Field` in csrc/bind/job.hpp indexes its fields.
    """

    x: Array | None  # (T, B, I), contiguous in its last axis, any strides in the others
    tokens: Array | None = None  # (T, B) int64 in [0, I): x is one-hot
    states: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H); None: zeros
    lengths: Array | None = None  # (B,) int64: steps that each row walks; None: T
    times: Array | None = None  # (D, B, T) int64: time of each walk step; None: in order
    cut: Array | None = None  # (D, T + 1, B) uint8: 1 if `initial` replaces the carried state
    initial: tuple[Array, ...] | None = None  # as states; None: zeros
    drop: Array | None = None  # (D, B, P): factors on what w_hh multiplies
    # (D, T, B, P), (D, T, B, H): 1 keeps the old state; None: the expectation of zoneout
    keep: tuple[Array, ...] | None = None
    zoneout: tuple[float, float] | None = None  # rates of h and c

    @property
    def sequence(self) -> Array:
        """The one of x and tokens that is given; its first axes are T and B."""
        given = self.tokens if self.x is None else self.x
        assert given is not None
        return given


class Outcome(NamedTuple):
    """The results of a forward call."""

    y: Array  # (T, B, D*P)
    states: tuple[Array, ...]  # (D, B, P), (D, B, H)
    saved: Array | None


class Gradients(NamedTuple):
    """The results of a backward call; what was not wanted is None, or missing in a mapping.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("dense", {"w_ih": np.array([[3.0, 4.0]])})
    >>> x = np.array([[[1.0, 2.0]]])
    >>> y, states, saved, plan = core.forward(packed, x, saved=True)
    >>> found = core.backward(packed, plan, x, y=y, saved=saved, dy=np.ones_like(y))
    >>> found.dx, found.dweights[0]["w_ih"]  # one dict for each direction
    (array([[[3., 4.]]]), array([[1., 2.]]))
    """

    dx: Array | None  # (T, B, I)
    dweights: tuple[dict[str, Array], ...]  # by direction, by the names of the weights
    dstates: tuple[Array, ...] | None  # (D, B, P), (D, B, H)
    # The same shapes: gradients of `initial`, sums over the cuts of each row; None without cuts.
    dinitial: tuple[Array, ...] | None = None


class Given(NamedTuple):
    """Gradients of everything that a forward call returned; None: zeros."""

    dy: Array | None  # (T, B, D*P), contiguous in its last axis
    dstates: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H)
    dcells: Array | None = None  # (D, T, B, H), of every cell state
    dgates: Array | None = None  # (D, T, B, n, H), of every gate, in the order of the weights' rows


class Wanted(NamedTuple):
    """Which gradients to compute: False, True for a new array, or the array that receives it."""

    dx: bool | Array = True
    dweights: tuple[Mapping[str, bool | Array], ...] = ()  # by direction; a missing name is False
    dstates: bool | tuple[Array, ...] = True
    dinitial: bool = False
    add: bool = False  # add to the given arrays of weight gradients
    # Rows that share a weight gradient, a divisor of B: the arrays have a first axis of B / group,
    # one gradient for each group of consecutive rows. 0: all rows share one, and there is no axis.
    group: int = 0


class ForwardMember(NamedTuple):
    """One member of a forward call with several sets of weights, and where its results go."""

    packed: Packed
    inputs: Inputs
    y: Array
    final: tuple[Array, ...]
    saved: Array | None  # None: the call does not save


class BackwardMember(NamedTuple):
    """One member of a backward call; `add` and `dinitial` of `wanted` are the same for all."""

    packed: Packed
    inputs: Inputs
    y: Array
    saved: Array
    given: Given
    wanted: Wanted


class Threads(NamedTuple):
    """The number of threads asked for: exactly or at most so many; 0: not given."""

    exactly: int = 0
    at_most: int = 0


# The arrays of one direction in the order of WEIGHTS.
Sources: TypeAlias = tuple[Array | None, ...]


ANY_NUMBER = Threads()


class Form(Protocol):
    """The weights of one direction as a backend reads them, derived when a call first needs them.

    `Packed` closes its forms before the arrays change and opens them afterwards.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of what was derived."""

    def close(self, wait: bool) -> None:
        """Let go of the arrays; calls cannot begin to read the weights until `open`.

        RuntimeError if a call reads them or if the form is closed already. With `wait`, waits for
        calls that read the arrays themselves; calls that read what was derived go on.
        """

    def open(self, sources: Sources, changed: bool) -> None:
        """Take the arrays; calls may begin again. If `changed`, derive again."""

    def heir(self, sources: Sources) -> Form | None:
        """Return the form of the next weights; None if there is nothing to take over."""


class Steps(Protocol):
    """A layer with a state, for calls of one step."""

    def step(self, x: Array, y: Array, real: object, cut: object) -> bool:
        """Read x (B, I) or ids (B,), write y (B, P), advance the state.

        `real` and `cut`: None, or (B,) bool. Rows that are not real keep their state, and their y
        is 0; rows that are cut start from the `initial` of the inputs. False: an array does not
        suit, and nothing was done.
        """

    def undo(self) -> None:
        """Go back to the state before the last step; only once for each step."""

    def states(self) -> tuple[Array, ...]:
        """Return copies, (1, B, P) and (1, B, H)."""

    def load(self, states: tuple[Array, ...]) -> None:
        """Set the state."""


class Backend(Protocol):
    """The functions of a backend. The callers check the inputs; a backend trusts them."""

    name: str
    # Whether `forward` and `backward` verify every array and raise a ValueError, before anything is
    # written, if one does not fit. Their callers then need no checks of their own to be safe.
    verifies: bool

    def form(self, packed: Packed, direction: int, sources: Sources) -> Form:
        """Make a form of the weights of one direction, whose arrays are `sources`."""

    def form_key(self, packed: Packed) -> str:
        """Return the key of the form of `packed` that a call reads now."""

    def saved_shape(self, packed: Packed, steps: int, batch: int) -> tuple[int, ...]:
        """Return the shape of what a forward call saves."""

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
        """Run the sequences; y, the final states and `saved` go to the arrays given for them."""

    def forward_plain(
        self,
        cell: str,
        x: object,
        weights: tuple[object, ...],
        states: tuple[object, ...],
        threads: Threads,
    ) -> tuple[Array, tuple[Array, ...]] | None:
        """Return y and the last states of one direction, from arrays as a caller gave them.

        The weights are in the order of WEIGHTS; the first and the last states are (B, P) and
        (B, H). None, and nothing was done, if an argument must be checked or converted first, or if
        there is no faster way than `forward`.
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
        """Compute the gradients that `wanted` names, from the gradients of the outputs."""

    def forward_ensemble(self, members: Sequence[ForwardMember], threads: Threads) -> None:
        """Run every member, to the arrays that it has for its results."""

    def backward_ensemble(
        self, members: Sequence[BackwardMember], threads: Threads
    ) -> list[Gradients]:
        """Compute the gradients of every member."""

    def stepper(self, packed: Packed, inputs: Inputs, threads: Threads) -> Steps | None:
        """Prepare one layer for many calls of one step like `inputs`; None: not supported."""

    def slots(self, packed: Packed, inputs: Inputs, saved: Array) -> tuple[Array, Array | None]:
        """Return what the forward call saved: slots (D, T, B, gates, H) and c (D, T, B, H).

        Views or copies; undefined at steps that were not executed.
        """


CHANGED = "parameters changed while this call read them: it computed nothing; repeat it"


def stacked_gains(arrays: dict[str, Array], shape: tuple[int, int]) -> Array:
    """Gains of layer normalisation and the bias of LN(c'), stacked as a cell's (vectors, H)."""
    p = np.zeros(shape, arrays["w_ih"].dtype)
    given = (arrays.get(name) for name in ("norm_ih", "norm_hh", "norm_c", "norm_c_bias"))
    rows = np.concatenate([a for a in given if a is not None]).reshape(-1, shape[1])
    p[: len(rows)] = rows
    return p


def delivered(gradient: Array, target: Array, add: bool) -> Array:
    """Write a gradient to the caller's array, or add it if `add`; return the array."""
    if add:
        target += gradient
    else:
        target[...] = gradient
    return target


def named(values: Sequence[Any]) -> dict[str, Any]:
    """Values in the order of WEIGHTS, by name, without those that are None."""
    return {name: value for name, value in zip(WEIGHTS, values, strict=True) if value is not None}
