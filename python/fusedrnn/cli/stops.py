"""Signals that ask a program to end, as exceptions: Ctrl-C's way for SIGTERM and SIGHUP too."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Stopped", "stop_code", "stop_name", "stops_raise"]

# What container managers, `kill` and `timeout` send, and what a closing terminal sends.
OTHERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """A signal other than Ctrl-C's asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_code(stop: BaseException) -> int:
    """What a shell reports for a program that the signal ended."""
    return 128 + _number(stop)


def stop_name(stop: BaseException) -> str:
    """The signal, as people know it."""
    return "Ctrl-C" if _number(stop) == signal.SIGINT else signal.Signals(_number(stop)).name


def _number(stop: BaseException) -> int:
    return stop.number if isinstance(stop, Stopped) else int(signal.SIGINT)


@contextlib.contextmanager
def stops_raise() -> Iterator[None]:
    """For the body of the `with`, SIGTERM and SIGHUP raise `Stopped` where they come.

    A signal that this process was told to ignore (SIGHUP under nohup) stays ignored, and one that
    somebody else handles stays his.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in OTHERS if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
