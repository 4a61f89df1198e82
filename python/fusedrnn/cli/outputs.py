"""New files of a command, which take the place of no other file unless that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .._storage import replacing
from .console import shown

__all__ = ["Output"]


class Output:
    """A file to write at the end of the work, checked at its start.

    Parameters
    ----------
    path : str
        The file.
    option : str
        The option that names it, for errors.
    replace : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    ValueError
        There is such a file, or no such folder.
    """

    def __init__(self, path: str, option: str, *, replace: bool) -> None:
        self.path, self._option, self._replace = path, option, replace
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise ValueError(f"{shown(path)}: the folder {shown(folder)} does not exist")
        if os.path.isdir(path) or not path:
            raise ValueError(f"{shown(path)}: is a folder; {option} names a file in it")
        self._refuse_old()

    def write(self, content: Callable[[BinaryIO], None]) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        OSError, ValueError
            It cannot be written, or somebody else wrote it meanwhile.
        """
        self._refuse_old()
        with replacing(self.path) as stream:
            content(stream)

    def _refuse_old(self) -> None:
        # An empty file, such as mktemp makes, has nothing to lose, and a pipe or device no content.
        if not self._replace and os.path.isfile(self.path) and os.path.getsize(self.path):
            raise ValueError(
                f"{shown(self.path)}: exists; --force replaces it, {self._option} names another "
                "file"
            )
