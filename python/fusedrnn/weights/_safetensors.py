"""Reading and writing .safetensors files without a package.

The format: eight bytes with the size of the header; the header, which is JSON and gives the dtype,
shape and data offsets of each array by name; the data, little-endian and row-major, without gaps.
Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from .._cells import Array

# NumPy has no bfloat16, which is the upper half of a float32.
BFLOAT16 = "BF16"
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    BFLOAT16: "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
NAMES = {np.dtype(text): name for name, text in DTYPES.items() if name != BFLOAT16}
METADATA = "__metadata__"
# The limit of the format.
LARGEST_HEADER = 100_000_000
MOST_AXES = 32  # the limit of NumPy 1


class Place(NamedTuple):
    """The header's entry for an array."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return all arrays of a file, bfloat16 as float32, and its metadata.

    Raises
    ------
    ValueError
        The file is damaged, or has a type that NumPy does not have.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        fields, start = _header(path, file, size)
        metadata = fields.pop(METADATA, {})
        texts = metadata.values() if isinstance(metadata, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            _damaged(path, f"metadata {metadata!r}")
        places = {name: _place(path, name, entry) for name, entry in fields.items()}
        at = 0
        for place in sorted(places.values(), key=lambda place: place[2:]):
            if place.begin != at:
                _damaged(path, f"numbers from {place.begin} on are not where the others end, {at}")
            at = place.end
        if at != size - start:
            _damaged(path, f"{at} bytes of numbers in {size - start}")
        return {name: _array(file, start, place) for name, place in places.items()}, metadata


def _array(file: BinaryIO, start: int, place: Place) -> Array:
    file.seek(start + place.begin)
    array = np.fromfile(file, DTYPES[place.code], math.prod(place.shape)).reshape(place.shape)
    if place.code == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _header(path: str | os.PathLike[str], file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the header, and the position at which the data begin."""
    first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= length <= min(size - 8, LARGEST_HEADER):
        _damaged(path, f"{length} bytes of header in {size}")
    try:
        fields = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        _damaged(path, str(error))
    if not isinstance(fields, dict):
        _damaged(path, "the header is no mapping")
    return fields, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; refuse names that are in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _place(path: str | os.PathLike[str], name: str, entry: Any) -> Place:
    """Return an entry of the header, with every field checked."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _damaged(path, f"{name!r} is {entry!r}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(
            f"{os.fspath(path)}: {name!r} is of type {code!r}; read here are {', '.join(DTYPES)}"
        )
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
    if not all(type(n) is int and 0 <= n < 2**60 for n in numbers):
        _damaged(path, f"{name!r} is {entry!r}")
    # The shape without its zeros must also be one that NumPy can make.
    if len(shape) > MOST_AXES or math.prod(n or 1 for n in shape) >= 2**60 or len(offsets) != 2:
        _damaged(path, f"{name!r} is {entry!r}")
    place = Place(code, tuple(shape), *offsets)
    if place.end - place.begin != math.prod(shape) * np.dtype(DTYPES[code]).itemsize:
        _damaged(path, f"{name!r} is {entry!r}")
    return place


def _damaged(path: str | os.PathLike[str], reason: str) -> NoReturn:
    raise ValueError(f"{os.fspath(path)}: no .safetensors, or damaged: {reason}")


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays by name; the names have passed `checked_names`.

    Raises
    ------
    ValueError
        A name is reserved by the format, or the format has no such type.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    little, begin = {}, 0
    # Wide types first, so that every array is aligned for its type.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NAMES or name == METADATA:
            raise ValueError(f"a .safetensors cannot hold {name!r}, {array.dtype}")
        little[name] = array.astype(dtype, copy=False)
        end = begin + array.nbytes
        header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    order = [name for name in (METADATA, *arrays) if name in header]
    text = json.dumps({name: header[name] for name in order}, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for array in little.values():
        file.write(array.tobytes())
