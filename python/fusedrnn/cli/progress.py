"""One line of progress: rewritten in place on a terminal; elsewhere a new line for every tenth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from .console import width

__all__ = ["Progress", "clock"]

# Seconds between two updates of the line on a terminal.
PERIOD = 0.2
BARS = (20, 10)


class Progress:
    """Shows how much of a run is done.

    Parameters
    ----------
    stream : text file
        Usually standard error. A terminal (isatty, and not TERM=dumb) gets one line, rewritten.
    quiet : bool
        Whether to show nothing.
    """

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self._stream: TextIO | None = None if quiet else stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.perf_counter()
        self._last = -PERIOD
        self._first_share: float | None = None
        self._tenth = -1
        self._length = 0  # of the line on the terminal

    def update(self, share: float, text: Callable[[], Sequence[str]]) -> None:
        """Show a share of the run, in [0, 1], and texts; `text` is called only if they are shown.

        The first text is the most important one. If the line is too narrow for all, the last ones
        are left out; the share and the time left are always shown.
        """
        elapsed = time.perf_counter() - self._began
        if self._first_share is None:
            # The rate is measured from the first call, because a resumed run starts in the middle.
            self._first_share = share
            self._began += elapsed
            elapsed = 0.0
        tenth = int(share * 10 + 1e-9)
        if self._live:
            if share < 1.0 and elapsed - self._last < PERIOD:
                return
        elif tenth == self._tenth:
            return
        if self._stream is None:
            return
        self._last, self._tenth = elapsed, tenth
        gained = share - self._first_share
        left = f"{clock(elapsed / gained * (1.0 - share)) if gained > 0 else '--:--'} left"
        room = width(self._stream) - 1
        line = _line(f"{share:4.0%}", text(), left, room)
        if self._live:
            line = _bar(share, room - len(line)) + line
            # Blanks overwrite the rest of the last line. Ctrl-C may come while this is written.
            before, self._length = self._length, len(line)
            self._write(f"\r{line:<{min(before, room)}}")
        else:
            self._write(line + "\n")

    def close(self) -> None:
        """End the line, so that later output starts on a new one."""
        if self._length:
            self._write("\n")
            self._length = 0

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal is gone; the run continues without a progress line
            self._stream = None


def _bar(share: float, room: int) -> str:
    """Return the longest bar that fits, or ""."""
    for length in BARS:
        filled = int(share * length)
        bar = f"[{'#' * filled}{'.' * (length - filled)}] "
        if len(bar) <= room:
            return bar
    return ""


def _line(share: str, texts: Sequence[str], left: str, room: int) -> str:
    """Return a line of the parts that fit, in their order."""
    for count in range(len(texts), -1, -1):
        line = "  ".join([share, *texts[:count], left])
        if len(line) <= room:
            return line
    return f"{share}  {left}"[:room]


def clock(seconds: float) -> str:
    """Return minutes:seconds or hours:minutes:seconds; "--:--" from 1000 hours on."""
    if not seconds < 3.6e6:
        return "--:--"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text
