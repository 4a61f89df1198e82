"""How much memory a run needs, and how much there is, so that it can be refused at the start."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

__all__ = ["available", "binary", "needed", "readable"]

CGROUPS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
# Copies of every parameter: itself, its gradient, Adam's two moments, and the packed weights for
# forward and for backward calls.
COPIES = 6
# Numbers that a step of one sequence keeps for each unit: gates, c if there is one, y and dy.
KEPT = {"lstm": 7, "gru": 6, "rnn_tanh": 3}
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}
# Copies of each logit: itself, its gradient, and a temporary of the loss.
LOGITS = 3


def needed(
    *, cell: str, characters: int, hidden_size: int, num_layers: int, itemsize: int, places: int
) -> tuple[int, int]:
    """Return the least that a run needs.

    Parameters
    ----------
    cell : str
        A cell of `CharLM`.
    characters : int
        Size of the alphabet.
    hidden_size, num_layers, itemsize : int
        Sizes of the model, and bytes of a number.
    places : int
        Characters of one update, over all sequences.

    Returns
    -------
    (int, int)
        Number of parameters, and bytes.
    """
    h = hidden_size
    inputs = characters + (num_layers - 1) * h  # over all layers
    parameters = GATES[cell] * h * (inputs + num_layers * (h + 2)) + characters * (h + 1)
    kept = places * (KEPT[cell] * h * num_layers + LOGITS * characters)
    return parameters, itemsize * (COPIES * parameters + kept)


def available() -> int | None:
    """Return the most bytes that this process can have, with swap; None if that is not known."""
    limits = [limit for limit in (_machine(), _group(), _process()) if limit is not None]
    return min(limits, default=None)


def readable(size: int) -> str:
    """Return a number of bytes with a unit."""
    if size >= 10**18:
        return "over 1000 PB"
    scaled, units = float(size), ["bytes", "KB", "MB", "GB", "TB", "PB"]
    while scaled >= 999.5 and len(units) > 1:
        scaled, units = scaled / 1000, units[1:]
    return f"{scaled:.3g} {units[0]}"


def binary(size: int) -> str:
    """Return the size of a cache in binary units, as processors are described."""
    return f"{size >> 20} MiB" if size >= 1 << 20 and not size % (1 << 20) else f"{size >> 10} KiB"


def _machine() -> int | None:
    with contextlib.suppress(OSError):
        text = Path("/proc/meminfo").read_text()
        kilobytes = re.findall(r"^(?:MemTotal|SwapTotal): +(\d+) kB", text, re.M)
        if kilobytes:
            return 1024 * sum(map(int, kilobytes))
    return None


def _group() -> int | None:
    for path in CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            return int(Path(path).read_text())  # "max" is a ValueError: there is no limit
    return None


def _process() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
