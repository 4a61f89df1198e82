"""Output of the commands, which survives a reader that left, a full disk and a closed stream.

Nothing here writes escape codes, on a terminal or elsewhere, so NO_COLOR needs no check.
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

# Columns for which text is laid out, and the width of a terminal that does not give one.
COLUMNS = 80


class OutputLost(Exception):
    """Output to standard output was lost."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"standard output: {cause.strerror or cause}")
        self.cause = cause

    @property
    def code(self) -> int:
        """The exit code; if the reader left, that of a program ended by SIGPIPE."""
        return 128 + 13 if self.cause.errno == errno.EPIPE else 1

    @property
    def reader_left(self) -> bool:
        """Whether the reader closed the pipe, as `head` does."""
        return self.cause.errno == errno.EPIPE


def ready() -> None:
    """Make the standard streams usable, however this process was started."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            # The shell closed it (`>&-`). If its number stayed free, the next file that is opened
            # would get it, and output for the stream would go to that file.
            _fill(number)
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a substitute, not a traceback.
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
    """Write a line to standard error, if it can be written."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def settle() -> None:
    """Flush standard output, so that nothing can fail at exit.

    Raises
    ------
    OutputLost
        It cannot be written.
    """
    say("", end="")


def in_words(error: OSError) -> str:
    """Return the text of a system error with its file before it, without its number."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{shown(error.filename)}: {what}"


def shown(path: object) -> str:
    """Return a file name as text; quoted if it has characters that cannot be printed."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    return text if text.isprintable() else ascii(text)


def shell(path: object) -> str:
    """Return a file name or text quoted for the shell."""
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
    """Return a text for a terminal: tabs as blanks, other unprintable characters as codes."""
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c == "\t" else ascii(c)[1:-1] for c in text
    )


def width(stream: TextIO) -> int:
    """Return the columns of a stream's terminal: $COLUMNS, else the terminal's own, else 80."""
    columns = 0
    with contextlib.suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
    if columns <= 0:
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(stream.fileno()).columns
    return columns if columns > 0 else COLUMNS


def labelled(label: str, text: str, indent: int) -> str:
    """Return a label and a text after it, wrapped into lines of 80 columns.

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
    """Return the lines of a text, each cut into pieces that fit into `columns`."""
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
    """Open /dev/null under a file descriptor that is free."""
    with contextlib.suppress(OSError):
        os.fstat(number)
        return  # it is open; Python only made no stream of it
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _silence(stream: TextIO) -> None:
    """Redirect a stream to /dev/null: what its buffer holds would fail again at exit."""
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
