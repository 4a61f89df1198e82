"""Signals that ask a training run to end, noticed between updates."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from .._interrupts import ENDING

__all__ = ["Stops"]


class Stops:
    """Take the first Ctrl-C, SIGTERM or SIGHUP in the body of a `with`; later ones act as usual.

    A signal with a handler of its own keeps it, and one that the process ignores stays ignored.
    Outside the main thread this does nothing, because Python runs signal handlers in the main
    thread only.

    Attributes
    ----------
    name : str or None
        The usual name of the signal that came.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stops:  # noqa: PYI034
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = handler
                    signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.name is None:
            self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            return
        signal.signal(number, self._before[number])
        signal.raise_signal(number)
