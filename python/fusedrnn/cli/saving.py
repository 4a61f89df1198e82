"""The file in which a run is saved, without losing the run or what was in the file before."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..charlm import runfile
from .console import in_words, note, shell, shown
from .memory import readable

__all__ = ["Destination", "NotSaved"]

Writer = Callable[[Path], None]


class NotSaved(Exception):
    """A run could not be saved anywhere."""


class Destination:
    """The file of a run.

    Parameters
    ----------
    path : path
        The file in which to save the run.
    replace : bool
        Whether a run that is already in the file may be replaced.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self.path = path
        self.wanted = path
        self._folder = Path(os.path.realpath(path)).parent  # absolute, in spite of a later chdir
        self._seen = self._check(replace)

    @property
    def elsewhere(self) -> bool:
        """Whether the run was saved in another file than the requested one."""
        return self.path != self.wanted

    def check_room(self, size: int) -> None:
        """Refuse a disk without room for this many bytes in addition to the old file."""
        free = shutil.disk_usage(os.path.realpath(self.path.parent)).free
        if free < size:
            raise ValueError(
                f"{shown(self.path)}: the disk has {readable(free)} left, and the run takes "
                f"{readable(size)}; --out names another place"
            )

    def write(self, save: Writer) -> None:
        """Save; if another program has written the file meanwhile, use a new name beside it.

        Raises
        ------
        OSError
            It cannot be saved; the error names the file, and nothing has changed.
        """
        try:
            self._write(save)
        except OSError as error:
            if error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _write(self, save: Writer) -> None:
        now = _identity(self.path)
        if now is not None and now != self._seen:
            taken, self.path = self.path, next(_free_names(self.path.parent, self.path))
            note(
                f"{shown(taken)} was written by another program while this run trained, and stays "
                f"as it is. This run is saved as {shown(self.path)}"
            )
        save(self.path)
        self._seen = _identity(self.path)

    def write_somewhere(self, save: Writer) -> None:
        """Save; if that fails, save in another folder, and print a note.

        Raises
        ------
        NotSaved
            It cannot be saved anywhere; the text says why.
        """
        try:
            self.write(save)
            return
        except OSError as error:
            failure = error
        failures = [in_words(failure)]
        for folder in _other_folders(self._folder):
            for place in _free_names(folder, self.path):
                try:
                    save(place)
                except OSError as error:
                    failures.append(in_words(error))
                    break
                stays = (
                    ", and what was there before is as it was" if os.path.exists(self.path) else ""
                )
                note(
                    f"{failures[0]}{stays}. Saved {shown(place)} instead; to go on where it was to "
                    f"be: fusedrnn train --resume {shell(place)} --out {shell(self.wanted)}"
                )
                self.path, self._seen = place, _identity(place)
                return
        raise NotSaved("; ".join(failures))

    def _check(self, replace: bool) -> tuple[int, ...] | None:
        """Refuse, before the work is done, a place where nothing can be saved."""
        name, path = shown(self.path), Path(os.path.realpath(self.path))
        folder = path.parent
        if not folder.is_dir():
            raise ValueError(f"{name}: the folder {shown(folder)} does not exist")
        if path.is_dir():
            raise ValueError(f"{name}: is a folder; --out names a file in it")
        if path.exists():
            self._check_old(path, name, replace)
        try:  # the only reliable test of whether a file can be made is to make one
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} in its folder", str(self.path)) from error
        return _identity(self.path)

    def _check_old(self, path: Path, name: str, replace: bool) -> None:
        if not path.is_file():
            raise ValueError(f"{name}: is not a regular file; --out names another")
        if path.stat().st_size and not runfile.recognised(path):
            raise ValueError(
                f"{name}: exists and is not a fusedrnn model file; it is not replaced, --out names "
                "another"
            )
        if not os.access(path, os.W_OK):
            raise ValueError(f"{name}: is protected against writing; --out names another")
        if path.stat().st_size and not replace:
            quoted = shell(self.path)
            raise ValueError(
                f"{name}: exists; --resume {quoted} goes on with it, --force replaces it, --out "
                "names another file"
            )


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what distinguishes a file from an earlier one of its name; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _free_names(folder: Path, like: Path) -> Iterator[Path]:
    """Yield names in a folder that no file has."""
    number = 1
    while True:
        tail = f"-{number}" if number > 1 else ""
        path = folder / f"{like.stem}{tail}{like.suffix}"
        if not os.path.lexists(path):
            yield path
        number += 1


def _other_folders(folder: Path) -> Iterator[Path]:
    """Yield other folders that may have room for a run."""
    found = [folder]
    candidates = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    candidates += ["/tmp", "/var/tmp", os.path.expanduser("~"), "."]
    for candidate in candidates:
        with contextlib.suppress(OSError):  # the current folder itself may be gone
            path = Path(candidate).resolve(strict=True)
            if candidate and path.is_dir() and path not in found:
                found.append(path)
                yield path
