"""What a process holds, for what a rival keeps in places that it does not show."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes that are in memory now; where the system does not say, the most that ever were."""
    # What was freed goes back first: later arrays would hide in it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
