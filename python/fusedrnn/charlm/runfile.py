"""The file of a run: one .npz of plain arrays and a JSON header, without pickle.

Any file may be given to read. If something is wrong with it, a ValueError names the file and what
is missing or wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _npz
from .._storage import replacing
from ._names import prefixed, without_prefix
from .lm import CharLM
from .train import Trainer

__all__ = ["RunFile", "load", "recognised", "save"]

Array = NDArray[Any]

FORMAT = "fusedrnn run"
SAVED = "fusedrnn"  # the format of fusedrnn.save
# Increased when this code would misread files of the version before.
FORMAT_VERSION = 1
# The name of the JSON text among the arrays.
HEADER = "header"

# Names of JSON types in error texts.
KINDS = {str: "a text", int: "a whole number", float: "a number", dict: "an object"}


@dataclass(frozen=True)
class RunFile:
    """The contents of a file: a header and arrays, of which each part is checked when it is used.

    Attributes
    ----------
    path : str
        The file, for error texts.
    header : dict
        JSON: the configurations of model and trainer, and what the command line added.
    arrays : dict of str to ndarray
        The model's names begin with "model.", the trainer's with "trainer.".

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> from fusedrnn.charlm import runfile
    >>> text = "to be or not to be " * 10
    >>> model = charlm.CharLM(charlm.Alphabet(text), 8, seed=0)
    >>> trainer = charlm.Trainer(model, model.alphabet.encode(text), batch=2, chunk=8)
    >>> runfile.save("model.npz", trainer, {"text": "lines.txt"})
    >>> found = runfile.load("model.npz")
    >>> found.header["text"], found.model().hidden_size
    ('lines.txt', 8)
    """

    path: str
    header: dict[str, Any]
    arrays: dict[str, Array]

    def field(self, name: str, *kinds: type) -> Any:
        """Return an entry of the header of one of these types; dots in `name` lead into objects.

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
            Its description is incomplete or wrong, or its parameters are not finite.
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
        """Make the model and its trainer, at the position in the text at which it was saved.

        Raises
        ------
        ValueError
            Their description is incomplete or wrong.
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
    """Write a run in place of the old file, completely or not at all.

    Parameters
    ----------
    path : path
        The file.
    trainer : Trainer
        The trainer, with its model.
    about : mapping
        Other entries of the header, as JSON can hold it.

    Raises
    ------
    OSError
        The file cannot be written; the old one is unchanged.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> from fusedrnn.charlm import runfile
    >>> text = "to be or not to be " * 10
    >>> model = charlm.CharLM(charlm.Alphabet(text), 8, seed=0)
    >>> trainer = charlm.Trainer(model, model.alphabet.encode(text), batch=2, chunk=8)
    >>> runfile.save("model.npz", trainer, {"text": "lines.txt"})
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
    with replacing(path) as file:
        _npz.write(file, arrays)


def load(path: str | os.PathLike[str]) -> RunFile:
    """Read a run.

    Parameters
    ----------
    path : path
        A file that `save` wrote.

    Returns
    -------
    RunFile

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not the file of a run, is damaged, or of another version.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> from fusedrnn.charlm import runfile
    >>> text = "to be or not to be " * 10
    >>> model = charlm.CharLM(charlm.Alphabet(text), 8, seed=0)
    >>> tokens = model.alphabet.encode(text)
    >>> runfile.save("model.npz", charlm.Trainer(model, tokens, batch=2, chunk=8), {})
    >>> trainer = runfile.load("model.npz").trainer(tokens)  # goes on where the saved one was
    """
    with _opened(path) as archive:
        header = _header(archive)
        arrays = {name: archive[name] for name in archive.names if name != HEADER}
    found = RunFile(os.fspath(path), _ours(header, path), arrays)
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{found.path}: format_version: this fusedrnn reads {FORMAT_VERSION}, "
            f"got {_short(version)}"
        )
    return found


def recognised(path: str | os.PathLike[str]) -> bool:
    """Whether `save` wrote this file; reads only its header.

    Raises
    ------
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from fusedrnn.charlm import runfile
    >>> _ = Path("notes.txt").write_text("to be")
    >>> runfile.recognised("notes.txt")
    False
    """
    try:
        with _opened(path) as archive:
            header = _header(archive)
        _ours(header, path)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_npz.Archive]:
    """Open the file of a run; a ValueError in the body becomes one that says it is damaged."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if not start.startswith(b"PK"):
        raise ValueError(f"{name}: not a fusedrnn model file{_what_it_is(start)}")
    try:
        with _npz.opened(path) as archive:
            yield archive
    except (ValueError, RecursionError) as error:
        what = str(error).removeprefix(f"{name}: ")
        raise ValueError(f"{name}: not a whole fusedrnn model file: {what}") from error


def _header(archive: _npz.Archive) -> Any:
    """Return the header, whatever it is; None if there is none."""
    return json.loads(str(archive[HEADER][()])) if HEADER in archive.names else None


def _ours(header: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        name = os.fspath(path)
        if isinstance(header, dict) and header.get("format") == SAVED:
            raise ValueError(
                f"{name}: not a model of fusedrnn train, but a file of fusedrnn.save, which "
                "fusedrnn.load reads"
            )
        raise ValueError(f"{name}: not a fusedrnn model file (an archive of something else)")
    return header


def _what_it_is(start: bytes) -> str:
    if not start:
        return " (empty)"
    return " (a single NumPy array)" if start == b"\x93NUM" else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
