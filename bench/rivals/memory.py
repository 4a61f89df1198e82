"""What a process holds, for what a rival keeps in places that it does not show. Linux."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SELF = Path("/proc/self")


class Growth(NamedTuple):
    """Bytes that a call added: kept with its result, and at the highest point meanwhile."""

    kept: float
    peak: float


def growth(call: Callable[[], Any]) -> Growth:
    """Run a call and see how the process grows."""
    before = resident()
    with contextlib.suppress(OSError):
        (SELF / "clear_refs").write_text("5")  # the peak starts anew
    result = call()
    peak = field("VmHWM") - before
    found = Growth(resident() - before, peak)
    del result
    return found


def resident() -> float:
    """Bytes in memory now; what was freed goes back first, or later arrays would hide in it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return field("VmRSS")


def field(name: str) -> float:
    """A size of /proc/self/status; where there is none, the process's peak."""
    if (SELF / "status").exists():
        for line in (SELF / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
