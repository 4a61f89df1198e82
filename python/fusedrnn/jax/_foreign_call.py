"""The functions that XLA calls, and what tells XLA about them.

The C functions are in csrc/bind/xla.hpp. They hand the buffers of a call to the functions of this
module as NumPy arrays, which must not be used after the call.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
from numpy.typing import NDArray

from .. import runtime
from ._call import Call, decoded
from ._kernels import OPERATIONS

Array = NDArray[Any]

# XLA_FFI_Error_Code
_INVALID, _EXHAUSTED, _INTERNAL = 3, 8, 13


def api_version() -> tuple[int, int]:
    """Return the version of XLA's foreign function interface in the installed jaxlib.

    Raises
    ------
    ImportError
        The version is one whose structs may differ from those of csrc/bind/xla.hpp.
    """
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    text = header.read_text()
    found = [re.search(rf"define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    version = tuple(int(one[1]) for one in found if one is not None)
    if len(version) != 2 or version[0] != 0:
        raise ImportError(
            "fusedrnn.jax needs version 0 of XLA's foreign function interface; "
            f"jaxlib {jax.lib.__version__} has {'.'.join(map(str, version)) or 'none'}"
        )
    return version[0], version[1]


def _code(error: Exception) -> int:
    if isinstance(error, ValueError | TypeError):
        return _INVALID
    return _EXHAUSTED if isinstance(error, MemoryError) else _INTERNAL


def _target(make: Callable[[Call, Any], Any]) -> Callable[..., tuple[int, str] | None]:
    """Return the function behind a target: it returns an error as XLA's code and a text."""

    @lru_cache(maxsize=4096)
    def operation(text: bytes) -> Any:
        call, (extra,) = decoded(text)
        return make(call, extra)

    def run(text: bytes, operands: list[Array], results: list[Array]) -> tuple[int, str] | None:
        try:
            operation(text)(operands, results)
        except Exception as error:
            return _code(error), f"{type(error).__name__}: {error}"
        return None

    return run


def register() -> bool:
    """Make the functions known to XLA, once in a process; a program may have been compiled before.

    Returns
    -------
    bool
        False in an installation without compiled kernels: nothing was registered.

    Raises
    ------
    ImportError
        As `api_version`.
    """
    if not runtime.supported_isas():
        return False
    from .. import _core

    for k, (name, make) in enumerate(OPERATIONS.items()):
        capsule = _core.xla_target(k, _target(make), *api_version())
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    # Runs before what JAX does at exit, because JAX was imported before.
    atexit.register(_core.xla_close, os.getpid())
    return True
