"""What a process holds, for rivals that keep memory where it does not show. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SELF = Path("/proc/self")


class Growth(NamedTuple):
    """Bytes that a call added: kept with its result, and at the peak during the call."""

    kept: float
    peak: float


def growth(call: Callable[[], Any]) -> Growth:
    """Run a call and measure how the process grows."""
    before = resident()
    with contextlib.suppress(OSError):
        (SELF / "clear_refs").write_text("5")  # restarts the peak
    result = call()
    peak = field("VmHWM") - before
    found = Growth(resident() - before, peak)
    del result
    return found


def resident() -> float:
    """Bytes in memory now. Freed memory is returned first, or later arrays reuse it unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return field("VmRSS")


def field(name: str) -> float:
    """A size of /proc/self/status; without that file, the peak of the process."""
    if (SELF / "status").exists():
        for line in (SELF / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
