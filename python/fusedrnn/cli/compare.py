"""fusedrnn train --compare: the same updates on compiled kernels and on the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._backends.choice import native, not_built
from ..runtime import use_backend
from .console import labelled

if TYPE_CHECKING:
    from ..charlm import Trainer

__all__ = ["measure"]

# A backend is measured for this many seconds, with this many updates at least and at most.
SECONDS = 3.0
UPDATES = (2, 50)


def measure(build: Callable[[], Trainer]) -> str:
    """Make a few updates of the same run on both backends, from the same start.

    Parameters
    ----------
    build : callable
        Makes a new trainer at that start.

    Returns
    -------
    str
        Characters a second of both, their ratio, and how far their losses differ.
    """
    names = ["reference"] if native() is None else ["native", "reference"]
    speeds: dict[str, float] = {}
    losses: dict[str, list[float]] = {}
    for name in names:
        with use_backend(name):
            trainer = build()
            trainer.update(0.0)  # packs weights, fills caches
            first, characters, seconds = trainer.updates, trainer.characters, trainer.seconds
            for made in range(UPDATES[1]):
                if made >= UPDATES[0] and trainer.seconds - seconds > SECONDS:
                    break
                trainer.update(0.0)
        speeds[name] = (trainer.characters - characters) / (trainer.seconds - seconds)
        losses[name] = trainer.losses[first - 1 :]
    text = ", ".join(f"{name} {speeds[name]:,.0f} characters/s" for name in names)
    if len(names) < 2:
        return labelled("Speed:", f"{text} (no compiled kernels: {not_built()})", 7)
    pairs = list(zip(losses["native"], losses["reference"], strict=False))
    # Divided by 1 if the loss is 0, as it is with an alphabet of one character.
    apart = max(abs(a - b) / (abs(b) or 1.0) for a, b in pairs)
    ratio = f"{speeds['native'] / speeds['reference']:.1f} times"
    agree = f"the first {len(pairs)} losses agree within {apart:.1e}"
    return labelled("Speed:", f"{text}: {ratio}; {agree}", 7)
