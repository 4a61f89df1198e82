"""The parser of a command, and argument types with plain messages."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = [
    "Command",
    "add_json",
    "add_quiet",
    "count",
    "natural",
    "non_negative",
    "positive",
    "separator",
    "share",
    "thread_count",
]

# The limit of `fusedrnn.set_num_threads`.
MOST_THREADS = 1024


class Command(argparse.ArgumentParser):
    """A parser that reports errors in its arguments with its own usage.

    Abbreviated names of options are refused, because a new option could change what an old script
    means.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown arguments here; the caller would show the usage of another command."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self._unknown(rest)
        return found, rest

    def _unknown(self, arguments: list[str]) -> NoReturn:
        known = [name for action in self._actions for name in action.option_strings]
        name = arguments[0].partition("=")[0]
        near = [option for option in known if option.startswith(name)]
        near = near or difflib.get_close_matches(name, known, 1, 0.75)
        hint = f" (did you mean {near[0]}?)" if near else ""
        self.error(f"unrecognized arguments: {' '.join(arguments)}{hint}")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet."""
    parser.add_argument("--quiet", action="store_true", help="write nothing but errors")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json."""
    parser.add_argument(
        "--json", action="store_true", help=f"write {what} to standard output as one JSON object"
    )


def natural(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole(text, 1)


def count(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _whole(text, 0)


def thread_count(text: str) -> int:
    """Parse a number of threads."""
    number = _whole(text, 1)
    if number > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_THREADS}, got {_short(text)}")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of {least} or more, got {_short(text)!r}"
        ) from None
    if number < least:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of {least} or more, got {_short(text)}"
        )
    return number


def non_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    number = _number(text, "a number of 0 or more")
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {_short(text)}")
    return number


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    number = _number(text, "a number above 0")
    if number <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {_short(text)}")
    return number


def share(text: str) -> float:
    """Parse a number above 0 and below 1."""
    number = _number(text, "a number above 0 and below 1")
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0 and below 1, got {_short(text)}"
        )
    return number


def separator(text: str) -> str:
    """Parse the character between the fields of a table."""
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1 or text in '"\r\n\0' or text.isalnum():
        raise argparse.ArgumentTypeError(
            f"expected tab, or one sign that is no letter, digit or quote, got {_short(text)!r}"
        )
    return text


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {_short(text)!r}") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {_short(text)}")
    return number


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:27]}..."
