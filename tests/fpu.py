"""The floating-point control word of the calling thread, read by the C library's fegetenv."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import struct

import numpy as np

# For each machine: the size of fenv_t in bytes, the offset of the control word in it, and a mask of
# the bits that control arithmetic: all of FPCR, and MXCSR without its six sticky flags.
LAYOUTS = {"x86_64": (32, 28, 0xFFC0), "aarch64": (8, 0, 0xFFFFFFFF)}


def control() -> int:
    """Rounding mode, exception masks and flush-to-zero; -1 if this C library cannot be asked."""
    name = ctypes.util.find_library("m")
    if name is None or platform.machine() not in LAYOUTS or platform.libc_ver()[0] != "glibc":
        return -1
    size, at, mask = LAYOUTS[platform.machine()]
    state = ctypes.create_string_buffer(size)
    assert ctypes.CDLL(name).fegetenv(state) == 0
    word: int = struct.unpack_from("<I", state, at)[0]
    return word & mask


def denormals_live() -> bool:
    """Whether this thread computes with denormal numbers, in both dtypes."""
    with np.errstate(under="ignore"):
        single = np.full(9, 2.0**-120, np.float32) * np.float32(2.0**-20)
        double = np.full(9, 2.0**-1000) * 2.0**-60
        again = single * np.float32(2.0**20)
    return bool(single.all() and double.all() and (again == np.float32(2.0**-120)).all())
