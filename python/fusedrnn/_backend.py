"""The fork in the road in one file: what a backend takes and gives, and which one runs.

A backend is two functions, forward and backward, on plain data. Its inputs were checked in
`_check`; it trusts them.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from . import _check
from ._activations import Options
from ._spec import Array, CellSpec

Value = TypeVar("Value")


class ReferenceBackendWarning(UserWarning):
    """The slow NumPy reference runs because this installation has no compiled kernels."""


class Path(NamedTuple):
    """What a call ran on."""

    backend: str
    isa: str
    kernel: str
    threads: int


@lru_cache(256)
def _shape_alone(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of that shape without memory to speak of, which reads as NaN."""
    return np.broadcast_to(dtype.type(np.nan), shape)


@dataclass(eq=False)
class Weights:
    """The weights of one layer and direction, C-contiguous arrays of one dtype.

    Shapes: `w_ih` (n*H, I), `w_hh` (n*H, P), `b_ih` and `b_hh` (n*H,), `p` (vectors, H), `w_hr`
    (P, H), with rows gate-major, n = ``spec.x_gates`` and P = H without `w_hr`. What a cell or
    layer does not have is None. `options` go with the cells whose activations are chosen. Layer
    normalisation has the gains `norm_ih` and `norm_hh` (n*H,), of LN(W x) and LN(R h) in the order
    of the rows, and with a cell state `norm_c` (H,), the gain of LN(c'), and `norm_c_bias` (H,);
    the biases may be None.
    """

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
    # What a backend derived from the arrays. The arrays of a layer do not change while they are
    # here: a change closes these weights, and is followed by new ones.
    cache: dict[object, Any] = field(default_factory=dict, repr=False)
    closed: bool = field(default=False, repr=False)

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

    def held(self) -> Weights:
        """The same arrays for a call that reads them, and must not see them change.

        Whoever opens a layer's parameters for writing while they are held leaves them alone and
        writes copies.

        Raises
        ------
        RuntimeError
            They were opened since the call began.
        """
        copy = Weights.__new__(Weights)
        copy.__dict__.update(self.__dict__)
        if self.closed:  # asked when the arrays are held
            _check.parameters_changed()
        return copy

    def close(self) -> None:
        """Let go of the arrays, which somebody is going to change; their shapes stay."""
        self.closed = True
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, _shape_alone(value.shape, value.dtype))


class Inputs(NamedTuple):
    """One call's sequences, C-contiguous; exactly one of `x` and `tokens` is given.

    `x` may be strided in its first two axes. With `batch_first`, y, dy and dx lie in memory, and
    are given, as (B, T, ...); everything else, x too, is (T, B, ...).
    """

    x: Array | None  # (T, B, I)
    tokens: Array | None = None  # (T, B) int64 in [0, I): x is one-hot
    states: tuple[Array, ...] | None = None  # (D, B, P), (D, B, H); None: zeros
    lengths: Array | None = None  # (B,) int64 in [0, T]; None: T everywhere
    reset: Array | None = None  # (T, B) bool: cuts the link between steps t-1 and t
    initial: tuple[Array, ...] | None = None  # as states: the state after a cut; None: zeros
    mask: Array | None = None  # (T, B) bool, True: a real step; never with lengths
    drop: Array | None = None  # (D, B, P): recurrent dropout's factors on the operand of R
    zoneout: tuple[float, float] | None = None  # rates of h and c
    keep: tuple[Array, ...] | None = None  # (D, T, B, P), (D, T, B, H): 1 keeps the old state;
    # None: zoneout's expectation
    batch_first: bool = False

    def time_major(self, a: Array) -> Array:
        """A view (T, B, ...) of an array that lies as y does; and the other way round."""
        return a.swapaxes(0, 1) if self.batch_first else a


@dataclass(frozen=True, eq=False)
class Saved:
    """What backpropagation through time needs of a forward call."""

    weights: tuple[Weights, ...]
    inputs: Inputs
    y: Array  # read-only
    data: tuple[Array, ...] = field(repr=False)  # private to the backend
    backend: str
    isa: str

    @property
    def nbytes(self) -> int:
        """Bytes kept beyond x and y."""
        return sum(array.nbytes for array in self.data)


class Forward(NamedTuple):
    """Outcome of a forward call."""

    y: Array  # (T, B, D*P)
    states: tuple[Array, ...]  # (D, B, P), (D, B, H)
    saved: Saved | None


class DirectionGradients(NamedTuple):
    """Weight gradients of one direction, those of absent biases included."""

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
    """Outcome of a backward call."""

    dx: Array | None  # (T, B, I); None for token input
    directions: tuple[DirectionGradients, ...]
    states: tuple[Array, ...]  # (D, B, P), (D, B, H)


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
    """Two functions on plain data. The number of directions is ``len(weights)``: 1 or 2.

    Direction 1 walks time backwards, each row from its own last valid step.
    """

    name: str

    def forward(
        self,
        weights: tuple[Weights, ...],
        inputs: Inputs,
        *,
        save: bool,
        num_threads: int | None,
    ) -> Forward:
        """Run the sequences; with `save`, keep what `backward` needs."""

    def backward(
        self,
        saved: Saved,
        dy: Array | None,
        dstates: tuple[Array, ...] | None,
        *,
        num_threads: int | None,
        dcells: Array | None = None,
        dgates: Array | None = None,
        want_dx: bool = True,
    ) -> Gradients:
        """Gradients from those of y and of the final states; None: zeros.

        `dcells` (D, T, B, H) are those of every cell state, `dgates` (D, T, B, n, H) of every
        gate activation, gates in the order of the weights' rows.
        """

    def stepper(self, weights: Weights, inputs: Inputs, num_threads: int | None) -> Steps | None:
        """One layer made ready for many calls of one step like `inputs`; None: no faster way."""

    def slots(self, saved: Saved) -> tuple[Array, Array | None]:
        """What the forward call kept: slots (D, T, B, gates, H), and every c (D, T, B, H).

        Views or copies; undefined at steps that were not executed.
        """


class Setting(Generic[Value]):
    """One choice per context (thread or task): made by a call, undone at the end of a `with`."""

    def __init__(self, name: str, default: Value) -> None:
        self._variable: ContextVar[Value] = ContextVar(f"fusedrnn_{name}", default=default)
        self.get = self._variable.get

    def set(self, value: Value) -> Scope[Value]:
        """Choose `value` from here on, or for the body of a `with`."""
        return Scope(self._variable, self._variable.set(value))


class Scope(Generic[Value]):
    """Returned by a setter; as a context manager it restores the previous choice on exit."""

    def __init__(self, variable: ContextVar[Value], token: Token[Value]) -> None:
        self._variable = variable
        self._token = token

    def __enter__(self) -> None:
        """The choice is already in force."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._variable.reset(self._token)


# The choices of runtime.py, for the compiled backend. None: what FUSEDRNN_ISA or the machine says.
chosen_isa: Setting[str | None] = Setting("isa", None)
# What is wrong with the variables FUSEDRNN_...: said by the first call that would obey them and not
# by the import, which the command line and other programs could not catch.
_environment_errors: list[str] = []


def _from_environment(read: Callable[[], Value], otherwise: Value) -> Value:
    """What a variable says; `otherwise` where it says something wrong, which is kept."""
    try:
        return read()
    except ValueError as error:
        _environment_errors.append(str(error))
        return otherwise


def refuse_environment() -> None:
    """Raise a ValueError if a variable FUSEDRNN_... has a wrong value; it names the variable."""
    if _environment_errors:
        raise ValueError(_environment_errors[0])


# 0: as many as the machine, its quota and OpenMP grant.
chosen_threads: Setting[int] = Setting(
    "num_threads",
    _from_environment(
        lambda: _check.environment_threads(os.environ.get("FUSEDRNN_NUM_THREADS", "")), 0
    ),
)

_last = threading.local()


def record(backend: str, isa: str, kernel: str, threads: int) -> None:
    """Note what this thread's call runs on; a plain tuple, because every call pays for it."""
    _last.path = backend, isa, kernel, threads


def last_path() -> Path:
    """What this thread's last call ran on.

    Returns
    -------
    Path
        Named tuple (backend, isa, kernel, threads): for example
        ``("native", "avx2", "lstm float32", 2)``, or for the reference
        ``("reference", "numpy", "lstm float32", 1)``. Before the first call: empty strings, 0.
    """
    return Path(*getattr(_last, "path", ("", "", "", 0)))


def not_built() -> str | None:
    """Why this installation has no compiled kernels; None where it has them, even broken ones."""
    folder = FilePath(__file__).parent
    if any(folder.glob("_core*.so")) or any(folder.glob("_core*.pyd")):
        return None
    try:
        from . import _build
    except ImportError:  # a source tree that nobody built
        return "there is no compiled module in its folder"
    return None if _build.NATIVE else _build.REASON


def native() -> Backend | None:
    """The compiled backend; None where it was not built.

    Raises
    ------
    ImportError
        It was built but cannot be loaded.
    ValueError
        A variable FUSEDRNN_... has a wrong value.
    """
    refuse_environment()
    return _load_native()


@cache
def _load_native() -> Backend | None:
    try:
        from . import _core  # noqa: F401
    except ImportError as error:
        if not_built() is not None:
            return None
        raise ImportError(
            f"fusedrnn: the compiled kernels were built but cannot be loaded: {error}. Install "
            "fusedrnn again for this Python, or set FUSEDRNN_BACKEND=reference to run the slow "
            "NumPy reference instead"
        ) from error
    from ._native import NativeBackend

    return NativeBackend()


@cache
def reference() -> Backend:
    """The NumPy backend."""
    from ._reference import ReferenceBackend

    return ReferenceBackend()


def by_name(name: str, asked_by: str = "backend") -> Backend:
    """The backend called `name`; ValueError with the choices otherwise."""
    _check.text(name, asked_by)
    if name == "reference":
        return reference()
    if name != "native":
        raise ValueError(f"{asked_by}: expected 'native' or 'reference', got {name!r}")
    backend = native()
    if backend is None:
        raise ValueError(
            f"{asked_by}: 'native' is not in this installation ({not_built()}); "
            "only 'reference' can be chosen"
        )
    return backend


@cache
def _by_default() -> Backend:
    """The backend where nobody chose one; says so, once, where that is the slow one."""
    backend = native()
    if backend is not None:
        return backend
    warnings.warn(
        "fusedrnn runs on its NumPy reference, which is slow: this installation has no compiled "
        f"kernels ({not_built()}). Install g++ 11 or clang++ 14 or newer (Debian, Ubuntu: "
        "apt-get install g++) and install fusedrnn again; or set FUSEDRNN_BACKEND=reference to "
        "choose the reference and silence this warning",
        ReferenceBackendWarning,
        stacklevel=caller_level(),
    )
    return reference()


def caller_level() -> int:
    """The stacklevel, seen from the function that warns, of the first frame outside the package."""
    level, frame = 1, sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


def _chosen_by_environment() -> Backend | None:
    if _environment_errors:
        return None  # the first call asks for a backend, and is refused
    name = os.environ.get("FUSEDRNN_BACKEND", "")
    return by_name(name, "FUSEDRNN_BACKEND") if name else native()


def current() -> Backend:
    """The backend of the next call."""
    return _backend.get() or _by_default()


def use_backend(name: str) -> Scope[Backend | None]:
    """Choose what computes: the compiled kernels or the NumPy reference.

    In force at once for this context (thread or task); ``with use_backend(name):`` restores the
    previous choice at its end. FUSEDRNN_BACKEND chooses for every thread from the start.

    Parameters
    ----------
    name : str
        "native" or "reference".

    Raises
    ------
    ValueError
        Another name, or "native" in an installation without compiled kernels.
    ImportError
        The compiled kernels cannot be loaded.
    """
    return _backend.set(by_name(name))


# Last, because loading the compiled backend imports this module. None: nobody chose, and there are
# no compiled kernels.
_backend: Setting[Backend | None] = Setting(
    "backend", _from_environment(_chosen_by_environment, None)
)
