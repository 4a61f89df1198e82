"""Models on disk: one .npz of plain arrays and a JSON text, never pickle."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["load", "prefixed", "recognised", "save", "without_prefix"]

# The array that holds the JSON text; its "format" tells our files from others.
CONFIG = "config"
FORMAT = "fusedrnn model"
FORMAT_VERSION = 1


def save(
    path: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a model file; the old one stays whole until the new one is.

    Parameters
    ----------
    path : path
        Where; replaced at once (a temporary file beside it, then os.replace).
    config : mapping
        What JSON can hold.
    arrays : mapping of str to ndarray
        Plain arrays by name; the name "config" is taken.

    Raises
    ------
    OSError
        If the file cannot be written. Then the old one is as it was.
    TypeError
        If `config` is not JSON, or an array holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"arrays[{name!r}]: Python objects would need pickle")
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, **config}
    named: dict[str, Any] = {CONFIG: np.array(json.dumps(header)), **arrays}
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **named)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a model file.

    Parameters
    ----------
    path : path
        Written by `save`.

    Returns
    -------
    (dict, dict of str to ndarray)
        The configuration and the arrays.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a model file of this project, or one of a later version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        config: dict[str, Any] = json.loads(str(arrays.pop(CONFIG)[()]))
        ours = config["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a fusedrnn model file ({error})") from error
    if not ours:
        raise ValueError(f"{path}: not a fusedrnn model file (format {config['format']!r})")
    if config["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path}: written by a later fusedrnn (format version {config['format_version']}; "
            f"this one reads up to {FORMAT_VERSION})"
        )
    return config, arrays


def recognised(path: str | os.PathLike[str]) -> bool:
    """Whether a file looks like one that `save` wrote; reads only its table of contents."""
    try:
        with zipfile.ZipFile(path) as file:
            return f"{CONFIG}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the mapping with a prefix before every name."""
    return {prefix + name: array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the entries whose names begin with the prefix, without it."""
    return {k[len(prefix) :]: array for k, array in arrays.items() if k.startswith(prefix)}
