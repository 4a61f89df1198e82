"""The one function that writes files: a file is written completely, or not at all.

Everything that is saved (layers, models, weights, plots of a report) goes through `replacing`. This
module handles bytes and file names; its callers know the contents.
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

    The bytes go to a file beside the target and are flushed to the disk, and the file is renamed
    over the target. If an exception, a full disk, a kill or a power cut stops this, `path` holds
    either its old content or all of the new. A symbolic link stays a link: the file that it points
    to is replaced. Permissions of an existing file are kept. If a killed process left a file beside
    the target, the next process that saves there removes it.

    Parameters
    ----------
    path : path
        The file to write; its folder must exist. Something other than a regular file (a pipe,
        /dev/null) is written to, not replaced.

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
                # The file stays open, and so locked, until it is renamed: no other process takes it
                # for a leftover.
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _flush_folder(target.parent)
    except OSError as error:
        # The error of a full disk names no file, and the name of the temporary file would mean
        # nothing to the user.
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is something that a file must not replace: a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # there is nothing, or opening it raises a better error
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return not stat.S_ISREG(mode)


# --- files beside the target --------------------------------------------------------------------

# The process that writes a temporary file holds a lock on it until the file is renamed. The system
# drops the lock when the process ends, however it ends, so a file that can be locked is a leftover.


def _stem(target: Path) -> str:
    """First part of the names of temporary files: short enough for any file system."""
    return f".{target.name[:40]}."


def _beside(target: Path) -> tuple[Path, BinaryIO]:
    """Create a new file in the target's folder, and lock it."""
    while True:
        name = f"{_stem(target)}{os.getpid()}-{os.urandom(4).hex()}.tmp"
        temporary = target.with_name(name)
        file = open(temporary, "xb")  # noqa: SIM115, closed by the caller
        # Between open and lock another process may have removed it as a leftover.
        if _lock(file.fileno()) is not False and temporary.exists():
            return temporary, file
        file.close()


def _remove_leftovers(target: Path) -> None:
    """Remove what processes that have ended left beside the target."""
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
    """Lock an open file; False: another process has the lock, None: the system has no locks."""
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
    """Make the rename survive a power cut, on systems on which a folder can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
