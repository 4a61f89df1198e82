"""Holding back Ctrl-C and other signals during a change that must be complete or not happen."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ENDING", "uninterrupted"]

# Signals that end a program: sent by Ctrl-C; by container managers, `kill` and `timeout`; by a
# terminal that closes. A Python handler for one of them may raise at any line.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back until the end of the block, then handle them.

    A signal that Python does not handle (SIGTERM by default) still acts at once. Outside the main
    thread this does nothing, because Python runs signal handlers in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    held: dict[int, FrameType | None] = {}
    over = False

    def hold(number: int, frame: FrameType | None) -> None:
        if over:  # a handler raised while the handlers were restored: this one is still installed
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
