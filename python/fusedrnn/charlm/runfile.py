"""The file of a run: one .npz of plain arrays and a JSON header, never pickle.

What is read may be any file at all. Whatever is wrong with it, a ValueError names the file and says
what is missing or not as it should be.
"""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .._storage import replacing
from ._names import prefixed, without_prefix
from .lm import CharLM
from .train import Trainer

__all__ = ["RunFile", "load", "recognised", "save"]

Array = NDArray[Any]

FORMAT = "fusedrnn run"
# Raised when files of an older version could be misread.
FORMAT_VERSION = 1
# The name of the JSON text among the arrays.
HEADER = "header"

# What error texts call the types of JSON.
KINDS = {str: "a text", int: "a whole number", float: "a number", dict: "an object"}


@dataclass(frozen=True)
class RunFile:
    """What a file holds: a header and arrays, of which nothing is believed before it is asked for.

    Attributes
    ----------
    path : str
        The file, for error texts.
    header : dict
        JSON: the configurations of model and trainer, and what the command line put beside them.
    arrays : dict of str to ndarray
        Those of the model after "model.", those of the trainer after "trainer.".
    """

    path: str
    header: dict[str, Any]
    arrays: dict[str, Array]

    def field(self, name: str, *kinds: type) -> Any:
        """An entry of the header, of one of these types; dots lead into objects.

        Raises
        ------
        ValueError
            It is missing or of another type.
        """
        value: Any = self.header
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ValueError(f"{self.path}: {name} is missing in its header")
            value = value[part]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join("nothing" if k is type(None) else KINDS[k] for k in kinds)
            raise ValueError(f"{self.path}: {name}: expected {expected}, got {_short(value)}")
        return value

    def model(self) -> CharLM:
        """Make the model.

        Raises
        ------
        ValueError
            What describes it is not whole, or its parameters are not finite.
        """
        config = self.field("model", dict)
        try:
            model = CharLM.from_config(config, without_prefix("model.", self.arrays))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: model: {error}") from error
        spoiled = [name for name, a in model.params.items() if not np.isfinite(a).all()]
        if spoiled:
            raise ValueError(
                f"{self.path}: the model's parameters are not finite numbers ({spoiled[0]}), "
                "because its training diverged"
            )
        return model

    def trainer(self, tokens: Array) -> Trainer:
        """Make the model and its trainer, at the place in the text where it was saved.

        Raises
        ------
        ValueError
            What describes them is not whole.
        """
        model = self.model()
        config = self.field("trainer", dict)
        known = ("batch", "chunk", "lr", "final_lr", "max_norm")
        for name in known:
            self.field(f"trainer.{name}", int, *(() if name in known[:2] else (float,)))
        try:
            trainer = Trainer(model, tokens, **{name: config[name] for name in known})
            trainer.load_state_dict(without_prefix("trainer.", self.arrays))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: trainer: {error}") from error
        return trainer


def save(path: str | os.PathLike[str], trainer: Trainer, about: Mapping[str, Any]) -> None:
    """Write a run, in the place of the old file, whole or not at all.

    Parameters
    ----------
    path : path
        The file.
    trainer : Trainer
        With its model.
    about : mapping
        What else belongs into the header, as JSON can hold it.

    Raises
    ------
    OSError
        The file cannot be written. The old one is as it was.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": trainer.model.config(),
        "trainer": trainer.config(),
        **about,
    }
    arrays = {
        HEADER: np.array(json.dumps(header)),
        **prefixed("model.", trainer.model.state_dict()),
        **prefixed("trainer.", trainer.state_dict()),
    }
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str | os.PathLike[str]) -> RunFile:
    """Read a run.

    Parameters
    ----------
    path : path
        Written by `save`.

    Returns
    -------
    RunFile

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not the file of a run, is damaged, or of another version.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        header = _header(file, name)
        with zipfile.ZipFile(file) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist()]
            arrays = {n: _array(archive, n, name) for n in names if n != HEADER}
    return RunFile(name, header, arrays)


def recognised(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save` wrote; reads its header alone.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with open(path, "rb") as file:
        try:
            _header(file, os.fspath(path), any_version=True)
        except ValueError:
            return False
    return True


def _header(file: BinaryIO, name: str, any_version: bool = False) -> dict[str, Any]:
    """The header of a file that is ours; ValueError otherwise."""
    start = file.read(4)
    file.seek(0)
    if not start.startswith(b"PK"):
        raise ValueError(f"{name}: not a fusedrnn model file{_what_it_is(start)}")
    try:
        with zipfile.ZipFile(file) as archive:
            ours = f"{HEADER}.npy" in archive.namelist()
            text = str(_array(archive, HEADER, name)[()]) if ours else ""
            header: Any = json.loads(text) if ours else None
    except Exception as error:
        if _of_the_disk(error):
            raise
        raise ValueError(
            f"{name}: not a whole fusedrnn model file: damaged or cut short"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{name}: not a fusedrnn model file (an archive of something else)")
    version = header.get("format_version")
    if not any_version and version != FORMAT_VERSION:
        raise ValueError(
            f"{name}: format_version: this fusedrnn reads {FORMAT_VERSION}, got {_short(version)}"
        )
    return header


def _array(archive: zipfile.ZipFile, name: str, path: str) -> Array:
    """One array, believed only if the checksum of its bytes is right."""
    try:
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:  # `save` never does; sizes would be unbounded
            raise ValueError("compressed")
        data = io.BytesIO(archive.read(entry))
        array: Array = np.lib.format.read_array(data, allow_pickle=False)
    except Exception as error:
        if _of_the_disk(error):
            raise
        raise ValueError(
            f"{path}: not a whole fusedrnn model file: {_short(name)} is damaged"
        ) from error
    return array


def _of_the_disk(error: Exception) -> bool:
    """Whether an error is not the file's fault. A damaged archive makes its readers raise anything.

    Even OSError, if it leads to a place that cannot be.
    """
    return isinstance(error, OSError) and error.errno != errno.EINVAL


def _what_it_is(start: bytes) -> str:
    if not start:
        return " (empty)"
    return " (a single NumPy array)" if start == b"\x93NUM" else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
