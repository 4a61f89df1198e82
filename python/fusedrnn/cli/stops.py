"""Signals that ask a program to end, as exceptions: SIGTERM and SIGHUP like Ctrl-C."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from .._interrupts import ENDING, uninterrupted

__all__ = ["Stopped", "stop_code", "stop_name", "stops_raise"]


class Stopped(BaseException):
    """A signal other than Ctrl-C's asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_code(stop: BaseException) -> int:
    """Return the exit code that a shell reports for a program that the signal ended."""
    return 128 + _number(stop)


def stop_name(stop: BaseException) -> str:
    """Return the usual name of the signal."""
    return "Ctrl-C" if _number(stop) == signal.SIGINT else signal.Signals(_number(stop)).name


def _number(stop: BaseException) -> int:
    return stop.number if isinstance(stop, Stopped) else int(signal.SIGINT)


@contextlib.contextmanager
def stops_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `Stopped` in the body of the `with`, as Ctrl-C raises an error.

    Only the first signal does: later ones would interrupt the saving that the first one started,
    and a terminal that closes sends several. A signal that this process was started to ignore
    (SIGHUP under nohup) stays ignored, and a signal with another handler keeps it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # NumPy loads this module at its first use, and the module drops what is raised meanwhile.
    with uninterrupted():
        importlib.import_module("numpy.random")
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in ENDING}
    taken = {number: handler for number, handler in before.items() if handler in usual}
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            return
        stopped = True
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
