"""Ctrl-C and its kin kept out of a change that must happen whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["uninterrupted"]

# Signals by which people and systems end a program; a Python handler of them may raise anywhere.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back until the end of the block, where they come.

    A signal that Python does not handle (SIGTERM by default) acts at once, as ever. Python runs
    handlers in the main thread alone, so elsewhere there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    held: dict[int, FrameType | None] = {}
    over = False

    def hold(number: int, frame: FrameType | None) -> None:
        if over:  # a handler that raised while the others were put back left this one in place
            handlers[number](number, frame)
        else:
            held[number] = frame

    try:
        for number in handlers:
            signal.signal(number, hold)
        yield
    finally:
        over = True
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        finally:
            for number, frame in held.items():
                handlers[number](number, frame)
