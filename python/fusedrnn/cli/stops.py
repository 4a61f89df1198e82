"""Signals that ask a program to end, as exceptions: Ctrl-C's way for SIGTERM and SIGHUP too."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Stopped", "stop_code", "stop_name", "stops_raise"]

# Ctrl-C; what container managers, `kill` and `timeout` send; what a closing terminal sends.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


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
    """For the body of the `with`, SIGTERM and SIGHUP raise `Stopped` as Ctrl-C raises its error.

    Only the first signal does: whatever comes after it would interrupt the saving that the first
    one began, and closing a terminal sends several. A signal that this process was told to ignore
    (SIGHUP under nohup) stays ignored, and one that somebody else handles stays his.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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
