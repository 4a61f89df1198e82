"""The handlers that XLA calls: its C structs of a call, read by ctypes, as NumPy arrays.

XLA's foreign functions get addresses of buffers. Nothing is copied, and no compiler is needed. The
structs are those of ``xla/ffi/api/c_api.h``, which jaxlib brings; XLA keeps their layout within a
major version, and adds fields at the ends only.
"""

from __future__ import annotations

import ctypes
import re
import signal
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from . import _kernels
from ._call import decoded

FORWARD, BACKWARD = "fusedrnn_forward", "fusedrnn_backward"

Array = NDArray[Any]
_WORD = ctypes.c_uint64  # every field that is read here is 8 bytes, or fills them with padding

# XLA_FFI_CallFrame in words: struct_size, extension_start, api, ctx, stage; then args, rets and
# attrs, each with struct_size, extension_start, size, types first.
_FRAME_WORDS = 21
_EXTENSION, _API, _STAGE = 1, 2, 4
_ARG_COUNT, _ARGS = 7, 9
_RET_COUNT, _RETS = 12, 14
_ATTRS = 20
_EXECUTE = 3  # XLA_FFI_ExecutionStage_EXECUTE
# XLA_FFI_Buffer in words: struct_size, extension_start, dtype, data, rank, dims.
_BUFFER_WORDS = 6
# XLA_FFI_Api in bytes: struct_size, extension_start, api_version (24 bytes), internal_api; then the
# functions, of which this is the first.
_ERROR_CREATE = 48
_METADATA = 1  # XLA_FFI_Extension_Metadata

# XLA_FFI_DataType
_DTYPES = {
    1: np.dtype(np.bool_),
    4: np.dtype(np.int32),
    5: np.dtype(np.int64),
    6: np.dtype(np.uint8),
    11: np.dtype(np.float32),
    12: np.dtype(np.float64),
    # Lengths may come in every type of integers.
    2: np.dtype(np.int8),
    3: np.dtype(np.int16),
    7: np.dtype(np.uint16),
    8: np.dtype(np.uint32),
    9: np.dtype(np.uint64),
}
# XLA_FFI_Error_Code
_CANCELLED, _INVALID, _EXHAUSTED, _INTERNAL = 1, 3, 8, 13


class _ErrorArguments(ctypes.Structure):
    """XLA_FFI_Error_Create_Args."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("code", ctypes.c_int),
    )


class _Version(ctypes.Structure):
    """XLA_FFI_Api_Version."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.c_void_p),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
    )


class _Metadata(ctypes.Structure):
    """XLA_FFI_Metadata, up to the fields that every version has."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("version", _Version),
        ("traits", ctypes.c_uint32),
    )


class _Extension(ctypes.Structure):
    """XLA_FFI_Metadata_Extension; an extension of another type ends before `metadata`."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    )


@lru_cache(maxsize=1)
def api_version() -> tuple[int, int]:
    """Return the version of XLA's foreign function interface in the installed jaxlib.

    Raises
    ------
    ImportError
        The version is one whose structs may differ from those that are read here.
    """
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    text = header.read_text()
    found = [re.search(rf"define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    version = tuple(int(one[1]) for one in found if one is not None)
    if len(version) != 2 or version[0] != 0:
        raise ImportError(
            "fusedrnn.jax reads the structs of XLA's foreign function interface of version 0; "
            f"jaxlib {jax.lib.__version__} has {version}"
        )
    return version[0], version[1]


def _answered(extension: int) -> bool:
    """Whether a call only asked for which version of the interface the handlers were written."""
    asked = False
    while extension:
        given = _Extension.from_address(extension)
        if given.type == _METADATA:
            metadata = given.metadata.contents
            metadata.version.major, metadata.version.minor = api_version()
            metadata.traits = 0
            asked = True
        extension = given.next or 0
    return asked


@lru_cache(maxsize=4096)
def _bytes_of(size: int) -> Any:
    return ctypes.c_char * size


@lru_cache(maxsize=1024)
def _words(count: int) -> Any:
    return _WORD * count


def _array(address: int) -> Array:
    """Return an array on XLA's memory."""
    _, _, code, data, rank, dims = _words(_BUFFER_WORDS).from_address(address)[:]
    dtype = _DTYPES[code & 0xFFFFFFFF]
    shape = _words(rank).from_address(dims)[:] if rank else []
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size == 0:
        return np.empty(shape, dtype)
    found: Array = np.ndarray(shape, dtype, _bytes_of(size).from_address(data))
    return found


def _arrays(count: int, address: int) -> list[Array]:
    if count == 0:
        return []
    return [_array(one) for one in _words(count).from_address(address)[:]]


_decoded = lru_cache(maxsize=4096)(decoded)


def _text(attributes: int) -> str:
    """Return the only attribute of a call, which is a string."""
    (span,) = _words(1).from_address(attributes)[:]
    data, size = _words(2).from_address(span)[:]
    return ctypes.string_at(data, size).decode()


def _error(api: int, code: int, message: str) -> int:
    """Make an error that XLA owns; the text reaches the user."""
    (create,) = _words(1).from_address(api + _ERROR_CREATE)[:]
    given = _ErrorArguments(ctypes.sizeof(_ErrorArguments), None, message.encode(), code)
    made = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(create)(ctypes.addressof(given))
    return int(made)


def _code(error: BaseException) -> int:
    if isinstance(error, ValueError | TypeError):
        return _INVALID
    return _EXHAUSTED if isinstance(error, MemoryError) else _INTERNAL


Function = Callable[[Any, Any, Sequence[Array], Sequence[Array]], None]


def _handler(run: Function) -> Any:
    """Return a C function that XLA can call; whoever gets it must keep it."""

    def handle(address: int) -> int:
        frame = _words(_FRAME_WORDS).from_address(address)[:]
        try:
            if frame[_EXTENSION] and _answered(frame[_EXTENSION]):
                return 0
            if frame[_STAGE] & 0xFFFFFFFF != _EXECUTE:
                return 0
            call, (extra,) = _decoded(_text(frame[_ATTRS]))
            operands = _arrays(frame[_ARG_COUNT], frame[_ARGS])
            run(call, extra, operands, _arrays(frame[_RET_COUNT], frame[_RETS]))
        except KeyboardInterrupt:
            # An exception cannot pass through XLA, so the signal is sent again, to be raised where
            # XLA returns to Python.
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)
            return _error(frame[_API], _CANCELLED, "fusedrnn.jax: interrupted")
        except BaseException as error:  # nothing may pass through XLA
            return _error(frame[_API], _code(error), f"{type(error).__name__}: {error}")
        return 0

    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(handle)


_handlers: list[Any] = []


@lru_cache(maxsize=1)
def register() -> None:
    """Make the handlers known to XLA, once in a process."""
    api_version()
    runs: dict[str, Function] = {FORWARD: _kernels.forward, BACKWARD: _kernels.backward}
    for name, run in runs.items():
        handler = _handler(run)
        _handlers.append(handler)
        address = ctypes.cast(handler, ctypes.c_void_p)
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
