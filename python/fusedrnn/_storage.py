"""The one way this package writes a file: whole, or not at all.

Everything that is saved (layers, models, weights, plots of a report) goes through `replacing`. The
module knows bytes and names of files; what is in them is the business of its callers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` if the body of the `with` succeeds.

    The bytes go to a file beside the target, are flushed to the disk, and the file is renamed over
    the target. Whatever stops this (an exception, a full disk, a kill, a power cut), `path` holds
    either what it held before or the whole of what was written. A symbolic link stays a link: the
    file that it points to is replaced. Permissions of an existing file are kept. What a killed
    process left beside the target is removed by the next one that saves there.

    Parameters
    ----------
    path : path
        The file to be written; its folder must exist. What is no regular file (a pipe, /dev/null)
        is not replaced but written to.

    Yields
    ------
    binary file
        Open for writing, empty; seekable, unless `path` is a pipe.

    Raises
    ------
    OSError
        The file cannot be written; ``error.filename`` is `path`. The old file is as it was.
    """
    try:
        if _is_special(path):
            with open(path, "wb") as stream:
                yield stream
            return
        target = Path(os.path.realpath(os.fsdecode(path)))
        _remove_leftovers(target)
        temporary, file = _beside(target)
        try:
            with file:
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(temporary, target.stat().st_mode & 0o7777)
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # an open file cannot be renamed there
                    file.close()
                # An open file is locked, and no other process takes it for a leftover.
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


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Whether something is there that must not be replaced by a file: a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # nothing is there, or opening will say what is wrong
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return not stat.S_ISREG(mode)


# --- files beside the target --------------------------------------------------------------------

# Who writes a temporary file holds a lock on it until it is renamed; the system takes the lock
# away when the process ends, however it ends. So a file that can be locked belongs to nobody.


def _stem(target: Path) -> str:
    """What the names of its temporary files begin with: short enough for any file system."""
    return f".{target.name[:40]}."


def _beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new file in the target's folder, locked."""
    while True:
        name = f"{_stem(target)}{os.getpid()}-{os.urandom(4).hex()}.tmp"
        temporary = target.with_name(name)
        file = open(temporary, "xb")  # noqa: SIM115, closed by the caller
        # Between open and lock another process may have taken it for a leftover.
        if _lock(file.fileno()) is not False and temporary.exists():
            return temporary, file
        file.close()


def _remove_leftovers(target: Path) -> None:
    """Remove what processes that are gone left beside the target."""
    pattern = re.compile(re.escape(_stem(target)) + r"\d+-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):
        found = [name for name in os.listdir(target.parent) if pattern.fullmatch(name)]
        for name in found:
            with contextlib.suppress(OSError):
                _remove_leftover(target.with_name(name))


def _remove_leftover(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _lock(handle):
            temporary.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Lock an open file; None: this file system has no locks, False: another has it."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, on systems where a folder can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
