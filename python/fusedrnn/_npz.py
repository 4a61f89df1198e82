"""Arrays by name in a .npz file, which numpy.load reads; equal arrays give equal bytes.

A .npz is a zip archive of .npy files. It is written without compression or dates, and always in
little-endian byte order. Nothing that is read is trusted: sizes are compared with the file before
memory is allocated, and an array's checksum is verified before the array is used. Nothing is
unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NoReturn

import numpy as np

from ._cells import Array

__all__ = ["Archive", "checked_names", "opened", "write"]

# A zip archive has two bytes for the length of a name, which includes ".npy".
LONGEST_NAME = 60_000
# Deflate makes at most this many bytes of one.
LARGEST_GAIN = 1032
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def checked_names(names: Iterable[str]) -> None:
    """Refuse names that a .npz file cannot hold side by side.

    Raises
    ------
    ValueError
        The text names the one that is wrong.
    """
    names = list(names)
    for name in names:
        if "\0" in name:
            raise ValueError(f"the name {name!r} has a NUL, where zip archives end names")
        try:
            length = len(name.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"the name {name!r} is no text of Unicode: {error.reason}") from None
        if length > LONGEST_NAME:
            raise ValueError(f"the name {name[:40]!r}... is {length} bytes long")
    both = {f"{name}.npy" for name in names} & set(names)
    for name in both:
        # numpy.load takes "a.npy" as the name of the file of the array "a".
        raise ValueError(f"the names {name.removesuffix('.npy')!r} and {name!r} are one to NumPy")


def write(file: BinaryIO, arrays: Mapping[str, Array], comment: bytes = b"") -> None:
    """Write arrays by name, in their order.

    Parameters
    ----------
    file : binary file
        Open for writing.
    arrays : mapping of str to ndarray
        Of any dtype but object; the names have passed `checked_names`.
    comment : bytes
        Comment of the archive; other programs ignore it.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980 by default: equal bytes every time
            info.create_system = 3
            info.external_attr = 0o600 << 16
            little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, little, allow_pickle=False)


class Archive:
    """An open .npz file: the names are read first, an array when it is asked for.

    Attributes
    ----------
    names : list of str
        The arrays, in the order of the file.
    comment : bytes
        Comment of the archive.
    """

    def __init__(self, path: str, archive: zipfile.ZipFile, size: int) -> None:
        self._path, self._archive, self._size = path, archive, size
        self.comment = archive.comment
        members = [info.filename for info in archive.infolist()]
        self.names = [name.removesuffix(".npy") for name in members]
        strange = [name for name in members if not name.endswith(".npy")]
        if strange:
            raise ValueError(f"{path}: expected .npy files in a .npz, found {strange[0]!r}")
        twice = [name for name, count in Counter(members).items() if count > 1]
        if twice:
            raise ValueError(f"{path}: damaged: {twice[0]!r} is there twice")

    def __getitem__(self, name: str) -> Array:
        """Read one array; it is writable, in native byte order, and shares memory with nothing.

        Raises
        ------
        ValueError
            It is damaged, or holds Python objects.
        """
        info = self._archive.getinfo(f"{name}.npy")
        # No number in a file can ask for more memory than the file can fill.
        stored = info.compress_type == zipfile.ZIP_STORED
        possible = info.compress_size * (1 if stored else LARGEST_GAIN)
        if info.compress_size > self._size or info.file_size > possible:
            raise ValueError(f"{self._path}: damaged: {name!r} is longer than the file")
        with _damage(self._path, repr(name)):
            return _array(self._archive.read(info))


def _array(data: bytes) -> Array:
    """Return the array of a whole .npy file."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of .npy is not read here")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    start, count = file.tell(), math.prod(shape)
    if len(data) - start != count * dtype.itemsize:
        raise ValueError(f"{len(data) - start} bytes cannot be {dtype} {shape}")
    flat = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return np.array(array, dtype.newbyteorder("="), order="C")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open a .npz for reading.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is damaged, or not a .npz file.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        with _damage(name):
            archive = zipfile.ZipFile(file)
        with archive:
            yield Archive(name, archive, os.fstat(file.fileno()).st_size)


@contextlib.contextmanager
def _damage(path: str, part: str = "") -> Iterator[None]:
    """Put the name of the file into any error that its bytes cause."""
    try:
        yield
    except OSError as error:
        # In a damaged archive an offset can point before the start of the file.
        if error.errno not in (None, errno.EINVAL):
            raise
        _refuse(path, part, error)
    except Exception as error:
        # zipfile, zlib and numpy.lib.format raise errors of many classes for damaged bytes.
        _refuse(path, part, error)


def _refuse(path: str, part: str, error: Exception) -> NoReturn:
    what = f"{part}: " if part else "no .npz, or damaged: "
    raise ValueError(f"{path}: {what}{error}") from error
