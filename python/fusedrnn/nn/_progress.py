"""The line on which a training run shows its progress."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping

__all__ = ["Line", "shown"]

# Seconds between two updates of the line on a terminal.
PERIOD = 0.2


def shown(values: Mapping[str, float]) -> str:
    """Return values by name as text."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class Line:
    """One line on standard error: rewritten on a terminal; elsewhere a new one for each epoch.

    Parameters
    ----------
    verbose : bool or None
        Whether to show it; None: only on a terminal.
    """

    def __init__(self, verbose: bool | None) -> None:
        self._stream = sys.stderr
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._on = self._live if verbose is None else verbose
        self._last = 0.0
        self._length = 0  # of the text on the terminal

    def update(self, text: Callable[[], str]) -> None:
        """Show what changes with each batch, now and then and on a terminal only."""
        if self._on and self._live and time.perf_counter() - self._last > PERIOD:
            self._last = time.perf_counter()
            self._rewrite(text())

    def epoch(self, text: str) -> None:
        """Show the end of an epoch."""
        if not self._on:
            return
        if self._live:
            self._rewrite(text)
        else:
            self._write(f"{text}\n")

    def close(self, text: str = "") -> None:
        """End the line; if there is a text, it has a line of its own."""
        if self._length:
            self._write("\n")
            self._length = 0
        if self._on and text:
            self._write(f"{text}\n")

    def _rewrite(self, text: str) -> None:
        text = text[: shutil.get_terminal_size().columns - 1]
        before, self._length = self._length, len(text)
        self._write(f"\r{text:<{before}}")  # blanks overwrite the rest of the last text

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; the run continues
            self._on = False
