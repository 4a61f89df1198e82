"""The one way this package writes a file: whole, or not at all.

Everything that is saved (layers, models, weights, plots of a report) goes through `replacing`. The
module knows bytes and names of files; what is in them is the business of its callers.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` if the body of the `with` succeeds.

    The bytes go to a file beside the target, are flushed to the disk, and the file is renamed over
    the target. Whatever stops this (an exception, a full disk, a kill, a power cut), `path` holds
    either what it held before or the whole of what was written. A symbolic link stays a link: the
    file that it points to is replaced. Permissions of an existing file are kept.

    Parameters
    ----------
    path : path
        The file to be written; its folder must exist.

    Yields
    ------
    binary file
        Open for writing, empty, seekable.

    Raises
    ------
    OSError
        The file cannot be written; ``error.filename`` is `path`. The old file is as it was.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(temporary, target.stat().st_mode & 0o7777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _flush_folder(target.parent)
    except OSError as error:
        # A write to a full disk names no file, and the name beside the target means nothing to
        # the user.
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, on systems where a folder can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
