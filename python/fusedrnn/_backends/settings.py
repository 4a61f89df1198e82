"""Settings (backend, instruction set, threads), and the record of what ran.

A choice made by calling a function (``fr.set_num_threads(2)``) holds for the whole process, so that
it reaches threads that a framework starts. The same call as a context manager
(``with fr.set_num_threads(2):``) holds for the body of the `with`, in this thread or task only.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from .._checks import arguments as _check

Value = TypeVar("Value")


class Path(NamedTuple):
    """What a call ran on.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> path = fr.core.Path("native", "avx2", "gru float32", 2)
    >>> path.isa, path.threads
    ('avx2', 2)
    """

    backend: str
    isa: str
    kernel: str
    threads: int


# Means that this context has no choice of its own.
_UNSET: Any = object()


class Setting(Generic[Value]):
    """One choice: that of this context if it has one, else that of the process."""

    def __init__(self, name: str, default: Value) -> None:
        self.of_process = default
        self.of_context: ContextVar[Value] = ContextVar(f"fusedrnn_{name}", default=_UNSET)

    def get(self) -> Value:
        """The choice in force here."""
        value = self.of_context.get()
        return self.of_process if value is _UNSET else value

    def set(self, value: Value) -> Scope[Value]:
        """Choose for the process; if the result is used in a `with`, only for its body."""
        scope = Scope(self, value, self.of_process)
        self.of_process = value
        return scope


class Scope(Generic[Value]):
    """Returned by a setter; as a context manager it limits the choice to the `with`."""

    def __init__(self, setting: Setting[Value], value: Value, before: Value) -> None:
        self._setting, self._value, self._before = setting, value, before
        self._token: Token[Value] | None = None

    def __enter__(self) -> None:
        """Restore the choice of the process and make this one the context's."""
        self._setting.of_process = self._before
        self._token = self._setting.of_context.set(self._value)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            self._setting.of_context.reset(self._token)
            self._token = None


# What is wrong with the variables FUSEDRNN_... The first call that would use them raises it, not
# the import: the command line and other programs could not catch an error of the import.
_environment_errors: list[str] = []


def from_environment(read: Callable[[], Value], otherwise: Value) -> Value:
    """Return what `read` makes of a variable; if it raises, keep the error for a later call."""
    try:
        return read()
    except ValueError as error:
        _environment_errors.append(str(error))
        return otherwise


def refuse_environment() -> None:
    """Raise a ValueError if a variable FUSEDRNN_... has a wrong value; the text names it."""
    if _environment_errors:
        raise ValueError(_environment_errors[0])


# The choices that runtime.py sets, for the compiled backend. None: FUSEDRNN_ISA or the default.
chosen_isa: Setting[str | None] = Setting("isa", None)
# 0: the default number, from the machine, its quota and OpenMP.
chosen_threads: Setting[int] = Setting(
    "num_threads",
    from_environment(
        lambda: _check.environment_threads(os.environ.get("FUSEDRNN_NUM_THREADS", "")), 0
    ),
)

# --- what ran -------------------------------------------------------------------------------------

_Key = tuple[str, str, str, int]


_lock = threading.RLock()  # reentrant: a finalizer may run in the thread that holds it
_living: dict[int, dict[_Key, int]] = {}
_of_the_dead: dict[_Key, int] = {}


class _Life:
    """An object of each thread, whose finalizer runs when the thread ends."""


def _add(counts: dict[_Key, int], total: dict[_Key, int]) -> None:
    for key, n in counts.items():
        total[key] = total.get(key, 0) + n


def _bury(number: int) -> None:
    with _lock:
        _add(_living.pop(number, {}), _of_the_dead)


class _Record(threading.local):
    """The last path and the counts of one thread.

    Each thread has counts of its own, so that no count is lost and no call waits for a lock; the
    counts of the process are their sum.
    """

    def __init__(self) -> None:
        self.path: _Key = ("", "", "", 0)
        self.counts: dict[_Key, int] = {}
        self.life = _Life()
        with _lock:
            _living[id(self.life)] = self.counts
        weakref.finalize(self.life, _bury, id(self.life)).atexit = False


_here = _Record()


def record(backend: str, isa: str, kernel: str, threads: int) -> None:
    """Note what this thread's call ran on; a plain tuple, as this is a cost of every call."""
    here = _here
    key = here.path = backend, isa, kernel, threads
    counts = here.counts
    counts[key] = counts.get(key, 0) + 1


def last_path() -> Path:
    """Return what this thread's last call ran on.

    Returns
    -------
    Path
        Named tuple (backend, isa, kernel, threads): for example
        ``("native", "avx2", "lstm float32", 2)``, or for the reference
        ``("reference", "numpy", "lstm float32", 1)``. Before the first call: empty strings, 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> y, state = fr.LSTM(3, 8)(np.ones((5, 2, 3), np.float32))
    >>> fr.last_path().kernel
    'lstm float32'
    """
    return Path(*_here.path)


def path_counts() -> dict[Path, int]:
    """Return how many calls ran on each path, in all threads of the process, since it began.

    Frameworks call from threads of their own, whose `last_path` cannot be read from outside. To
    count the calls of a piece of code, subtract the counts before it from those after it.

    Returns
    -------
    dict of Path to int
        Forward and backward calls, one each for every layer of a stack.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> before = fr.path_counts()
    >>> y, h_n = fr.GRU(3, 8, num_layers=2)(np.ones((5, 2, 3), np.float32))
    >>> after = fr.path_counts()
    >>> sum(n - before.get(path, 0) for path, n in after.items() if path.kernel == "gru float32")
    2
    """
    with _lock:
        total = dict(_of_the_dead)
        for counts in list(_living.values()):
            _add(counts.copy(), total)
    return {Path(*key): n for key, n in total.items()}


def _after_fork() -> None:
    """Start counting from zero in a forked child, which has none of the other threads."""
    global _lock
    _lock = threading.RLock()
    _of_the_dead.clear()
    _living.clear()
    _here.counts.clear()
    _living[id(_here.life)] = _here.counts


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
