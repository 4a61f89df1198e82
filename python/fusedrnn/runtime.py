"""Which instruction set and how many threads the kernels use, and what was built.

A choice made by a call holds for the whole process, including threads that a framework starts. As a
context manager it holds for the body of the `with`, in this thread or asyncio task only. The
environment sets the initial choice: FUSEDRNN_ISA, FUSEDRNN_NUM_THREADS, FUSEDRNN_BACKEND.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from ._backends import choice, settings
from ._backends.choice import use_backend
from ._backends.settings import Scope, last_path, path_counts
from ._checks import arguments as _check
from ._version import __version__

__all__ = [
    "build_config",
    "isa",
    "last_path",
    "num_threads",
    "path_counts",
    "set_num_threads",
    "supported_isas",
    "use_backend",
    "use_isa",
]


def supported_isas() -> tuple[str, ...]:
    """Return the instruction sets that this machine runs and this installation has kernels for.

    Returns
    -------
    tuple of str
        Best first, for example ``("avx512", "avx2", "baseline")``; empty in an installation
        without compiled kernels.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> isas = fr.supported_isas()
    >>> set(isas) <= {"avx512", "avx2", "baseline", "neon"}
    True
    """
    if choice.native() is None:
        return ()
    from . import _core

    return tuple(name for name, supported, _ in _core.isas() if supported)


def isa() -> str:
    """Return the instruction set of the compiled kernels' next call.

    Returns
    -------
    str
        What `use_isa` chose, else what FUSEDRNN_ISA says, else the best of `supported_isas`;
        "numpy" in an installation without compiled kernels.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.isa() in (*fr.supported_isas(), "numpy")
    True
    """
    if choice.native() is None:
        return "numpy"
    from . import _core

    return settings.chosen_isa.get() or _core.default_isa()


def use_isa(name: str) -> Scope[str | None]:
    """Choose the instruction set of the compiled kernels.

    The choice holds at once and for the whole process; ``with use_isa(name):`` makes it for the
    body of the `with` only, in this thread or task.

    Parameters
    ----------
    name : str
        One of `supported_isas`.

    Raises
    ------
    ValueError
        This machine or this installation does not have it.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> for name in fr.supported_isas():
    ...     with fr.use_isa(name):
    ...         assert fr.isa() == name
    """
    _check.choice(name, "isa", supported_isas(), _why_not(_check.text(name, "isa")))
    return settings.chosen_isa.set(name)


def _why_not(name: str) -> str:
    reason = choice.not_built()
    if reason is not None:
        return f"; this installation has no compiled kernels ({reason})"
    from . import _core

    built = [known for known, _, _ in _core.isas()]
    return ", which this machine does not support" if name in built else ""


def num_threads() -> int:
    """Return the largest number of threads that a call uses.

    Returns
    -------
    int
        What `set_num_threads` chose, else FUSEDRNN_NUM_THREADS, else the smallest of OpenMP's
        own maximum, the affinity mask and the cgroup quota. 1 without compiled kernels.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.num_threads() >= 1
    True
    """
    if choice.native() is None:
        return 1
    from . import _core

    return settings.chosen_threads.get() or _core.default_threads()


def set_num_threads(n: int | None) -> Scope[int]:
    """Choose the number of threads of a call; no result depends on it.

    The choice holds at once and for the whole process; ``with set_num_threads(n):`` makes it for
    the body of the `with` only, in this thread or task.

    Parameters
    ----------
    n : int or None
        Used even if it is above the number of cores; None returns to the default.

    Raises
    ------
    TypeError, ValueError
        Not a whole number from 1 to 1024.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru, x = fr.GRU(3, 8, seed=0), np.ones((5, 2, 3), np.float32)
    >>> with fr.set_num_threads(1):
    ...     y, h_n = gru(x)
    >>> fr.last_path().threads
    1
    >>> np.array_equal(y, gru(x)[0])  # the same bits on any number of threads
    True
    """
    return settings.chosen_threads.set(0 if n is None else _check.num_threads(n))


def build_config() -> dict[str, Any]:
    """Return a description of this installation.

    Returns
    -------
    dict
        "version", "python", "numpy", "machine" and "native" (whether there are compiled kernels).
        With kernels also "isas" (all that were built, best first) and what the build recorded
        ("compiler", "compiler_version", "openmp", ...); without, "reason".

    Examples
    --------
    >>> import fusedrnn as fr
    >>> config = fr.build_config()
    >>> config["version"] == fr.__version__, config["native"] == bool(fr.supported_isas())
    (True, True)
    """
    config: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "native": choice.native() is not None,
    }
    if config["native"]:
        from . import _core

        config["isas"] = [name for name, _, _ in _core.isas()]
        config.update(_core.build())
    else:
        config["reason"] = choice.not_built()
    return config
