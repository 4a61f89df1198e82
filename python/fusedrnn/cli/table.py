"""A column of numbers from a CSV file."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..charlm import decoded
from .console import shown

__all__ = ["Column", "read_column"]

SEPARATORS = (",", ";", "\t", "|")
# Rows from which the separator is found.
SNIFFED = 50
# float() also reads 1_000, "nan" and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Row = tuple[int, list[str]]  # the number of its line, and its cells


class Column(NamedTuple):
    """A column.

    Attributes
    ----------
    name : str
        From the header.
    values : ndarray of float64, shape (n,)
        Finite.
    """

    name: str
    values: NDArray[np.float64]


def read_column(data: bytes, file: str, column: str | None, separator: str | None) -> Column:
    """Read one column of a CSV file with a header.

    Parameters
    ----------
    data : bytes
        UTF-8, with or without a byte-order mark, with any line endings; fields may be quoted.
    file : str
        Its name, for errors.
    column : str or None
        The name of the column; None: the only one with numbers. Columns whose numbers rise by the
        same step in each row count time and are not meant.
    separator : str or None
        The character between fields; None: found in the first rows.

    Returns
    -------
    Column

    Raises
    ------
    ValueError
        The file is no CSV with a header, there is no such column, or a cell of the column is empty
        or no finite number. The text has the number of the line.
    """
    file = shown(file)
    text = decoded(data, file)
    if "\0" in text:
        raise ValueError(f"{file}: a binary file, not CSV")
    if not text.strip():
        raise ValueError(f"{file}: is empty; expected a header and rows of numbers")
    rows = _rows(text, file, separator or _separator(text))
    names = [name.strip() for name in next(rows)[1]]
    if column is None and all(map(NUMBER.fullmatch, names)):
        raise ValueError(
            f"{file}: line 1 has numbers and no names; the first line must be a header"
        )
    table = list(rows)
    for line, cells in table:
        if not any(cell.strip() for cell in cells):
            raise ValueError(f"{file}: line {line} is empty")
        if len(cells) != len(names):
            raise ValueError(
                f"{file}: line {line}: expected {_fields(len(names))} as in the header, got "
                f"{len(cells)}"
            )
    place = _only(table, names, file) if column is None else _named(column, names, file)
    found = [_number(cells[place], names[place], line, file) for line, cells in table]
    return Column(names[place], np.array(found, np.float64))


def _separator(text: str) -> str:
    """Return the separator that divides the first rows into the most fields, as many in each."""
    best, most = SEPARATORS[0], 1
    for separator in SEPARATORS:
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        try:
            counts = {len(row) for row in itertools.islice(reader, SNIFFED) if row}
        except csv.Error:
            continue
        if len(counts) == 1 and (count := counts.pop()) > most:
            best, most = separator, count
    return best


def _rows(text: str, file: str, separator: str) -> Iterator[Row]:
    """Yield the rows; empty lines at the end are none."""
    reader = csv.reader(io.StringIO(text.rstrip("\n") + "\n"), delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{file}: line {reader.line_num}: not CSV: {error}") from error
        yield reader.line_num, row


def _named(column: str, names: list[str], file: str) -> int:
    """Return the place of a column."""
    if names.count(column) > 1:
        raise ValueError(f"{file}: {names.count(column)} columns are named {column!r}")
    if column not in names:
        near = difflib.get_close_matches(column, names, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{file}: no column {column!r}{hint}; there are {_listed(names)}")
    return names.index(column)


def _only(table: list[Row], names: list[str], file: str) -> int:
    """Return the place of the only column with numbers, besides those that count time."""
    columns = list(range(len(names)))
    numeric = [k for k in columns if any(NUMBER.fullmatch(cells[k].strip()) for _, cells in table)]
    # A column of dates that are years has numbers too. A column with a few words among its numbers
    # is meant all the same, and its words are told with their lines.
    found = [k for k in numeric if len(numeric) == 1 or not _counts(table, k)]
    if len(found) == 1:
        return found[0]
    if not found:
        what = "no column has numbers" if not numeric else "no column but those that count rows"
        raise ValueError(f"{file}: {what}; there are {_listed(names)}")
    raise ValueError(
        f"{file}: several columns have numbers: {_listed([names[k] for k in found])}; --column "
        "names one"
    )


def _counts(table: list[Row], place: int) -> bool:
    """Whether the numbers of a column are whole and each is the one before it and the same step."""
    cells = [cells[place].strip() for _, cells in table]
    if len(cells) < 2 or not all(re.fullmatch(r"-?\d{1,15}", cell, re.ASCII) for cell in cells):
        return False
    numbers = list(map(int, cells))
    step = numbers[1] - numbers[0]
    return step > 0 and all(b - a == step for a, b in itertools.pairwise(numbers))


def _number(cell: str, column: str, line: int, file: str) -> float:
    """Return the number in a cell."""
    text, where = cell.strip(), f"{file}: line {line}: column {column!r}"
    if not text:
        raise ValueError(f"{where} has no value; a series must not have gaps")
    if not NUMBER.fullmatch(text):
        short = text if len(text) <= 30 else f"{text[:27]}..."
        hint = "; numbers have a decimal point" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(f"{where}: expected a number, got {short!r}{hint}")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{where}: {text} is too large for a number")
    return number


def _listed(names: list[Any]) -> str:
    some = ", ".join(repr(name) for name in names[:10])
    return f"{some} and {len(names) - 10} more" if len(names) > 10 else some


def _fields(count: int) -> str:
    return f"{count} field{'s' * (count != 1)}"
