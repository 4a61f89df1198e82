"""What the commands write to, and how: a lost reader, a full disk and a closed stream are no crash.

Nothing here writes an escape code, on a terminal or elsewhere, so NO_COLOR is respected without
being asked for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import sys
import textwrap
import unicodedata
from typing import Any, TextIO

__all__ = [
    "OutputLost",
    "fitted",
    "in_words",
    "labelled",
    "note",
    "ready",
    "say",
    "say_json",
    "settle",
    "shell",
    "shown",
    "visible",
    "width",
]

# What text is laid out for where nobody says how wide the terminal is, and at most.
COLUMNS = 80


class OutputLost(Exception):
    """What was written to standard output did not arrive."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"standard output: {cause.strerror or cause}")
        self.cause = cause

    @property
    def code(self) -> int:
        """The exit code: where the reader left, that of a program that SIGPIPE ended."""
        return 128 + 13 if self.cause.errno == errno.EPIPE else 1

    @property
    def reader_left(self) -> bool:
        """Whether a pipe was closed, as `head` does when it has enough."""
        return self.cause.errno == errno.EPIPE


def ready() -> None:
    """Make the standard streams fit to be written to, whatever this process was started with."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # Closed by `>&-`. Left free, the number would be given to the next file that is
            # opened, and what is meant for the stream would end up in it.
            _fill(number)
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a substitute, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def say(text: str, end: str = "\n") -> None:
    """Write to standard output at once.

    Raises
    ------
    OutputLost
        It cannot be written.
    """
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except OSError as error:
        _silence(sys.stdout)
        raise OutputLost(error) from error


def say_json(value: dict[str, Any]) -> None:
    """Write one JSON object to standard output; numbers that are not finite become null."""
    say(json.dumps(_finite(value), indent=2, allow_nan=False))


def note(text: str) -> None:
    """Write a line to standard error, if somebody can read it."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def settle() -> None:
    """Write what is still on its way to standard output, so that nothing is left to fail at exit.

    Raises
    ------
    OutputLost
        It cannot be written.
    """
    say("", end="")


def in_words(error: OSError) -> str:
    """A system error with its file in front, without its number."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{shown(error.filename)}: {what}"


def shown(path: object) -> str:
    """A file name as text: as it is, or quoted where it has characters that cannot be seen."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    return text if text.isprintable() else ascii(text)


def shell(path: object) -> str:
    """A file name or text as the shell reads it back."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    if text.isprintable():
        return shlex.quote(text)
    raw = "".join(
        chr(byte)
        if (chr(byte).isalnum() and byte < 128) or chr(byte) in " ./_-"
        else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{raw}'"


def visible(text: str) -> str:
    """A text for a terminal: tabs become blanks, and what would move the cursor a code."""
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c == "\t" else ascii(c)[1:-1] for c in text
    )


def width(stream: TextIO) -> int:
    """Columns of a stream's terminal: what COLUMNS says, else the terminal, else 80."""
    columns = 0
    with contextlib.suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
    if columns <= 0:
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(stream.fileno()).columns
    return columns if columns > 0 else COLUMNS


def labelled(label: str, text: str, indent: int) -> str:
    """A label and what it is about, in as many lines of 80 columns as it takes.

    A word that is longer than a line, such as a file name, is not broken.
    """
    lines = textwrap.wrap(
        text,
        COLUMNS - indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(
        f"{label if number == 0 else '':<{indent}}{line}"
        for number, line in enumerate(lines or [""])
    )


def fitted(text: str, columns: int) -> list[str]:
    """The lines of a text, each cut into pieces that fit so many columns."""
    pieces = []
    for line in text.split("\n"):
        piece, used = "", 0
        for character in line:
            wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if used + wide > columns:
                pieces.append(piece)
                piece, used = "", 0
            piece, used = piece + character, used + wide
        pieces.append(piece)
    return pieces


def _fill(number: int) -> None:
    """Open /dev/null under a number that is free."""
    with contextlib.suppress(OSError):
        os.fstat(number)
        return  # open all the same, and only Python has no use for it
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _silence(stream: TextIO) -> None:
    """Lead a stream into nothing: what its buffer still holds would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
