"""Which backend computes: what was built, the environment, and the caller's choice."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache
from pathlib import Path as FilePath

from .._checks import arguments as _check
from .settings import Scope, Setting, from_environment, refuse_environment
from .types import Backend


class ReferenceBackendWarning(UserWarning):
    """The slow NumPy reference runs because this installation has no compiled kernels.

    Examples
    --------
    >>> import warnings
    >>> import fusedrnn as fr
    >>> with warnings.catch_warnings():  # for a program that knows that it has no kernels
    ...     warnings.simplefilter("ignore", fr.ReferenceBackendWarning)
    ...     y, h_n = fr.RNN(1, 1)([[1.0]])
    """


def not_built() -> str | None:
    """Why this installation has no compiled kernels; None if it has them, even broken ones."""
    folder = FilePath(__file__).parent.parent
    if any(folder.glob("_core*.so")) or any(folder.glob("_core*.pyd")):
        return None
    try:
        from .. import _build
    except ImportError:  # a source tree that was not built
        return "there is no compiled module in its folder"
    return None if _build.NATIVE else _build.REASON


def native() -> Backend | None:
    """Return the compiled backend; None if it was not built.

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
        from .. import _core  # noqa: F401
    except ImportError as error:
        if not_built() is not None:
            return None
        raise ImportError(
            f"fusedrnn: the compiled kernels were built but cannot be loaded: {error}. Install "
            "fusedrnn again for this Python, or set FUSEDRNN_BACKEND=reference to run the slow "
            "NumPy reference instead"
        ) from error
    from .native import NativeBackend

    return NativeBackend()


@cache
def reference() -> Backend:
    """Return the NumPy backend."""
    from .reference import ReferenceBackend

    return ReferenceBackend()


def by_name(name: str, asked_by: str = "backend") -> Backend:
    """Return the backend called `name`; a ValueError lists the choices."""
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
    """The backend if none was chosen; warns, once, if it is the reference."""
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
    """Return the stacklevel, for the function that warns, of the first frame outside fusedrnn."""
    level, frame = 1, sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


def _chosen_by_environment() -> Backend | None:
    refuse_environment()  # FUSEDRNN_NUM_THREADS is read by now, on the import of settings
    name = os.environ.get("FUSEDRNN_BACKEND", "")
    return by_name(name, "FUSEDRNN_BACKEND") if name else native()


def current() -> Backend:
    """Return the backend of the next call."""
    return _backend.get() or _by_default()


def use_backend(name: str) -> Scope[Backend | None]:
    """Choose what computes: the compiled kernels or the NumPy reference.

    The choice holds at once and for the whole process; ``with use_backend(name):`` makes it for the
    body of the `with` only, in this thread or task. FUSEDRNN_BACKEND sets it from the start.

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

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru, x = fr.GRU(3, 8, seed=0), np.ones((5, 2, 3), np.float32)
    >>> with fr.use_backend("reference"):
    ...     y, h_n = gru(x)
    >>> fr.last_path().backend
    'reference'
    >>> np.allclose(gru(x)[0], y, atol=1e-6)
    True
    """
    return _backend.set(by_name(name))


# None: no backend was chosen, and there are no compiled kernels.
_backend: Setting[Backend | None] = Setting(
    "backend", from_environment(_chosen_by_environment, None)
)
