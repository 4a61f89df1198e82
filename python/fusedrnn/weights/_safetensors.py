""".safetensors in and out, without a package: a header in JSON, then the numbers.

The format: eight bytes that count those of the header; the header, by name dtype, shape and where
the numbers begin and end; the numbers, little-endian and row-major, without holes.
Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

import numpy as np

from .._spec import Array

# NumPy has no bfloat16: the upper half of a float32.
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
# The format's own limit.
LARGEST_HEADER = 100_000_000


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """All arrays of a file, bfloat16 as float32, and its metadata.

    Raises
    ------
    ValueError
        The file is damaged, or has a type that NumPy lacks.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        fields, start = _header(path, file, size)
        metadata = fields.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(
            isinstance(text, str) for text in metadata.values()
        ):
            _damaged(path, f"metadata {metadata!r}")
        begin, places = 0, {}
        for name, (dtype, shape, first, last) in sorted(
            ((name, _entry(path, name, fields[name])) for name in fields),
            key=lambda entry: entry[1][2:],
        ):
            if first != begin or last - first != math.prod(shape) * dtype.itemsize:
                _damaged(path, f"{name!r} is {shape} and lies from {first} to {last}")
            begin = last
            places[name] = first
        if begin != size - start:
            _damaged(path, f"{begin} bytes of numbers in {size - start}")
        arrays = {}
        for name in fields:
            dtype, shape, *_ = _entry(path, name, fields[name])
            file.seek(start + places[name])
            array = np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
            if fields[name]["dtype"] == BFLOAT16:
                array = (array.astype(np.uint32) << 16).view(np.float32)
            arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return arrays, metadata


def _header(path: str | os.PathLike[str], file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the numbers begin."""
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
    """A JSON object, in which no name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _entry(
    path: str | os.PathLike[str], name: str, entry: Any
) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Dtype, shape, begin and end of an array."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _damaged(path, f"{name!r} is {entry!r}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
    if len(offsets) != 2 or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        _damaged(path, f"{name!r} is {entry!r}")
    if entry["dtype"] not in DTYPES:
        raise ValueError(
            f"{os.fspath(path)}: {name!r} is of type {entry['dtype']!r}; read here are "
            f"{', '.join(DTYPES)}"
        )
    return np.dtype(DTYPES[entry["dtype"]]), tuple(shape), *offsets


def _damaged(path: str | os.PathLike[str], reason: str) -> NoReturn:
    raise ValueError(f"{os.fspath(path)}: no .safetensors, or damaged: {reason}")


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays by name; `checked_names` has passed the names.

    Raises
    ------
    ValueError
        A name is the format's own, or it has no such type.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    little, begin = {}, 0
    # Wide types first, so that each array lies where its type may lie.
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
