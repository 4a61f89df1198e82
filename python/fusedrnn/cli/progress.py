"""One line of progress: rewritten in place on a terminal, a new one every tenth elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Progress", "clock"]

# Seconds between two pictures on a terminal.
PERIOD = 0.2
BAR = 20


class Progress:
    """Show how far a run is.

    Parameters
    ----------
    stream : text file
        Standard error, as a rule. A terminal (isatty) gets one line, rewritten.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began = time.perf_counter()
        self._last = -PERIOD
        self._first_share: float | None = None
        self._tenth = -1
        self._open = False

    def update(self, share: float, text: Callable[[], str]) -> None:
        """Show a share of the run, in [0, 1], and a text, asked for only when it is shown."""
        elapsed = time.perf_counter() - self._began
        if self._first_share is None:
            # The rate is measured from the first call: a resumed run begins in the middle.
            self._first_share = share
            self._began += elapsed
            elapsed = 0.0
        tenth = int(share * 10 + 1e-9)
        if self._live:
            if share < 1.0 and elapsed - self._last < PERIOD:
                return
        elif tenth == self._tenth:
            return
        self._last, self._tenth = elapsed, tenth
        gained = share - self._first_share
        left = clock(elapsed / gained * (1.0 - share)) if gained > 0 else "--:--"
        line = f"{share:4.0%}  {text()}  {left} left"
        if self._live:
            filled = int(share * BAR)
            line = f"[{'#' * filled}{'.' * (BAR - filled)}] {line}"
            width = shutil.get_terminal_size().columns - 1
            # Erase to the end of the line: the last picture may have been longer.
            self._stream.write(f"\r{line[:width]}\x1b[K")
            self._open = True
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line, so that what follows begins a new one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


def clock(seconds: float) -> str:
    """Return minutes:seconds, or hours:minutes:seconds."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text
