"""Saving layers and models to files, and loading them.

A file is a .npz of plain arrays, which ``numpy.load`` reads too:

- ``header``: a JSON text, see `Header`;
- ``params/NAME``: the parameters, or ``params/LAYER/NAME`` if several layers were saved;
- ``optimizer/NAME`` and ``optimizer/LAYER/NAME``: the optimiser's state.

An object can be saved if it has ``config()``, ``state_dict()`` and the class method
``from_config(config, state)``. The classes that a file may name are public names of a few modules
(`KIND`), so a file cannot make any other object.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote

import numpy as np

from . import _npz
from ._cells import Array
from ._checks import arguments as _check
from ._checks.arguments import describe
from ._storage import replacing
from ._version import __version__

__all__ = ["load", "load_notes", "save"]

HEADER = "header"
FORMAT = "fusedrnn"
FORMAT_VERSION = 1
# What reads the other archives of this package.
OTHER_FORMATS = {
    "fusedrnn run": "fusedrnn generate or fusedrnn train --resume",
    "fusedrnn fit": "load_checkpoint of the model",
}
MAPPING = "mapping"  # the kind of a file that holds several layers
PARAMETERS, OPTIMIZER = "params", "optimizer"
# Sizes up to this are accepted; a larger one must not exceed the number of parameters in the file.
ALWAYS_POSSIBLE = 2**16
# "LSTM" is a class of `layers`, "nn.Dense" one of the package `nn`.
KIND = re.compile(r"(?:(nn|charlm)\.)?([A-Za-z]\w*)")


class Saveable(Protocol):
    """A layer or model."""

    def config(self) -> dict[str, Any]:
        """Return all that is needed to make it again except the parameters, as JSON can hold it."""

    def state_dict(self) -> Mapping[str, Array]:
        """Return the parameters by name."""


# --- saving -------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str],
    what: Saveable | Mapping[str, Saveable],
    *,
    optimizer: Any = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a layer, a model or several of them to a file that `load` reads.

    The file is written completely or not at all: if an error, a full disk or a kill stops this,
    `path` holds what it held before. Equal content gives equal bytes, on every machine.

    Parameters
    ----------
    path : str or path
        The file; its folder must exist. An old file is replaced.
    what : RNN, LSTM, GRU, a layer of nn, charlm.CharLM, or a mapping of names to these
        Its cell, options and parameters are written, but not its seed.
    optimizer : SGD, Adam, AdamW or RMSprop, optional
        Its state for `what` is written too, but not its hyperparameters, such as the learning rate.
    notes : mapping, optional
        Other data to keep, which ``load_notes`` returns, as JSON holds it: names of type str; None,
        True, False, numbers, text, lists and mappings of these. Tuples become lists, and NumPy's
        numbers become Python's.

    Raises
    ------
    TypeError
        `path` is no path, `what` cannot be saved, `optimizer` has no ``state_dict``, or JSON cannot
        hold something in `notes`.
    ValueError
        A name cannot be kept in a file; a layer is in `what` twice, and would be loaded as two; or
        `load` would make another class.
    OSError
        The file cannot be written.

    See Also
    --------
    load, load_notes
    fusedrnn.weights.save : writes arrays only, for other programs.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.save("model.npz", fr.GRU(3, 5), notes={"epoch": 7})
    >>> fr.load("model.npz")
    GRU(3, 5)
    """
    _check.path(path)
    several = isinstance(what, Mapping)
    parts: dict[str, Saveable] = dict(_named(what)) if isinstance(what, Mapping) else {"": what}
    configs: dict[str, dict[str, Any]] = {}
    arrays: dict[str, Array] = {}
    for name, part in parts.items():
        place = f"what[{name!r}]" if several else "what"
        configs[name] = _config(place, part)
        arrays |= _placed(place, PARAMETERS, name, part.state_dict())
    kept = None
    if optimizer is not None:
        kept = {"kind": _optimizer_kind(optimizer)}
        for name, part in parts.items():
            arrays |= _placed("optimizer", OPTIMIZER, name, optimizer.state_dict(part))
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fusedrnn": __version__,
        "kind": MAPPING if several else configs[""]["kind"],
        "config": configs if several else configs[""],
        "optimizer": kept,
        "notes": None if notes is None else _jsonable("notes", notes, Mapping),
    }
    whole = {HEADER: np.array(json.dumps(header)), **arrays}
    _npz.checked_names(whole)
    with replacing(path) as file:
        _npz.write(file, whole)


def _named(what: Mapping[str, Saveable]) -> Iterator[tuple[str, Saveable]]:
    """Yield the entries of a mapping of layers; refuse a layer that is in it twice."""
    if not what:
        raise ValueError("what: expected at least one layer, got an empty mapping")
    seen: dict[int, str] = {}
    for name, part in what.items():
        if not isinstance(name, str):
            raise TypeError(f"what: expected names of type str, got {name!r}")
        if not name:
            raise ValueError("what: expected names that are not empty")
        first = seen.setdefault(id(part), name)
        if first != name:
            raise ValueError(
                f"what: {first!r} and {name!r} are one layer, which would come back as two; save "
                "it once"
            )
        yield name, part


def _config(place: str, part: Any) -> dict[str, Any]:
    """Return the config of an object; refuse one that `load` cannot make again."""
    methods = ("config", "state_dict", "from_config")
    if isinstance(part, type) or not all(callable(getattr(part, name, None)) for name in methods):
        advice = "; weights.save writes arrays" if isinstance(part, np.ndarray) else ""
        raise TypeError(
            f"{place}: expected a layer or model (with config(), state_dict() and from_config), "
            f"got {describe(part)}{advice}"
        )
    config: dict[str, Any] = _jsonable(f"{place}.config()", part.config(), Mapping)
    kind = config.get("kind")
    made = _class_of(kind)
    if made is not type(part):
        comes = "nothing" if made is None else f"a {made.__name__}"
        raise ValueError(
            f"{place}: a {type(part).__qualname__}, whose config() says kind {kind!r}, would come "
            f"back as {comes}; save the layers in it as a mapping, {{name: layer}}"
        )
    return config


def _class_of(kind: object) -> Any:
    """Return the class of a kind, a public name of a few modules; None if there is none."""
    match = KIND.fullmatch(kind) if isinstance(kind, str) else None
    if match is None:
        return None
    module = importlib.import_module(f".{match[1] or 'layers'}", __package__)
    return getattr(module, match[2]) if match[2] in module.__all__ else None


def _placed(place: str, group: str, part: str, state: object) -> dict[str, Array]:
    """Return the arrays of one part by their names in the file."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{place}: expected a state_dict of arrays by name, got {describe(state)}")
    placed = {}
    for name, value in state.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype.kind not in "fiu":
            raise TypeError(
                f"{place}: expected arrays of numbers by name, got {name!r}: {describe(value)}"
            )
        placed[_file_name(group, part, name)] = array
    return placed


def _file_name(group: str, part: str, name: str) -> str:
    """Return the name of an array in the file; `part` is a user's name, and gets escaped."""
    if not part:
        return f"{group}/{name}"
    folder = quote(part, safe=" ", errors="surrogatepass")
    if set(folder) <= {"."}:  # "." and ".." would name other folders
        folder = folder.replace(".", "%2E")
    return f"{group}/{folder}/{name}"


def _optimizer_kind(optimizer: Any) -> str:
    methods = (getattr(optimizer, name, None) for name in ("state_dict", "load_state_dict"))
    if isinstance(optimizer, type) or not all(map(callable, methods)):
        raise TypeError(
            "optimizer: expected an optimiser (with state_dict(target) and load_state_dict(target, "
            f"state)), got {describe(optimizer)}"
        )
    return type(optimizer).__name__


def _jsonable(place: str, value: Any, kind: type | None = None) -> Any:
    """Return a copy of `value` that JSON can hold; tuples become lists."""
    if kind is not None and not isinstance(value, kind):
        raise TypeError(f"{place}: expected a mapping, got {describe(value)}")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place}: expected names of type str, got {key!r}")
        return {key: _jsonable(f"{place}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(f"{place}[{k}]", one) for k, one in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{place}: expected what JSON holds (None, True, False, numbers, text, lists and mappings "
        f"of these), got {describe(value)}"
    )


# --- loading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """The header of a file, each field checked."""

    kind: str  # of the layer or model; "mapping" if there are several
    configs: dict[str, dict[str, Any]]  # by name; by "" if there is one
    optimizer: str | None  # the class of the optimiser whose state is there
    notes: dict[str, Any] | None

    @property
    def several(self) -> bool:
        """Whether the file holds a mapping."""
        return self.kind == MAPPING


def load(path: str | os.PathLike[str], *, optimizer: Any = None) -> Any:
    """Read a file of `save`: the result has the same options, and computes the same bits.

    Parameters
    ----------
    path : str or path
        A file that `save` wrote, on this machine or another one.
    optimizer : SGD, Adam, AdamW or RMSprop, optional
        Receives the optimiser's state in the file, for what is returned.

    Returns
    -------
    layer, model, or dict of str to these
        What was saved.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is damaged, of a later version, not from `save`, or without a state of such an optimiser.
        The text begins with the path.
    TypeError
        `path` is no path, or `optimizer` has no ``load_state_dict``.

    Notes
    -----
    Everything is checked before it is used, and no code in a file is run, so files of unknown
    origin can be loaded.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> encoder, decoder = fr.GRU(3, 5), fr.GRU(5, 3)
    >>> fr.save("model.npz", {"encoder": encoder, "decoder": decoder})
    >>> fr.load("model.npz")["decoder"]
    GRU(5, 3)
    """
    wanted = None if optimizer is None else _optimizer_kind(optimizer)
    _check.path(path)
    name = os.fspath(path)
    with _npz.opened(path) as archive:
        header = _header(name, archive)
        params, moments = _sorted(name, header, archive)
    made = {key: _made(name, key, header.configs[key], params[key]) for key in header.configs}
    if wanted is not None:
        if header.optimizer != wanted:
            held = f"that of {header.optimizer}" if header.optimizer else "no optimiser's"
            raise ValueError(f"{name}: optimizer: expected the state of {wanted}, found {held}")
        for key, part in made.items():
            try:
                optimizer.load_state_dict(part, moments[key])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: optimizer: {error}") from error
    return made if header.several else made[""]


def load_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the notes of a file that `save` wrote, without reading the parameters.

    Parameters
    ----------
    path : str or path
        Written by `save`.

    Returns
    -------
    dict
        The `notes`; empty if there were none.

    Raises
    ------
    OSError, ValueError
        As `load`.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.save("model.npz", fr.GRU(3, 5), notes={"epoch": 7})
    >>> fr.load_notes("model.npz")
    {'epoch': 7}
    """
    _check.path(path)
    with _npz.opened(path) as archive:
        return _header(os.fspath(path), archive).notes or {}


def _header(path: str, archive: _npz.Archive) -> Header:
    """Return the header, with every field checked."""
    if HEADER not in archive.names:
        raise ValueError(
            f"{path}: expected a file of fusedrnn.save, found arrays alone, which "
            f"fusedrnn.weights.load reads: {_few(archive.names)}"
        )
    text = archive[HEADER]
    if text.dtype.kind != "U" or text.shape != ():
        raise ValueError(f"{path}: header: expected a JSON text, found {describe(text)}")
    try:
        fields = json.loads(str(text[()]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: header: no JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else fields
        reader = OTHER_FORMATS.get(found) if isinstance(found, str) else None
        raise ValueError(
            f"{path}: expected a file of fusedrnn.save, found format {found!r}"
            + (f", which {reader} reads" if reader else "")
        )
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{path}: format_version: expected a whole number, found {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: written by a later fusedrnn ({fields.get('fusedrnn')!r}, format version "
            f"{version}; this one is {__version__} and reads up to {FORMAT_VERSION})"
        )
    expected: dict[str, type | tuple[type, ...]] = {
        "format": str,
        "format_version": int,
        "fusedrnn": str,
        "kind": str,
        "config": dict,
        "optimizer": (dict, type(None)),
        "notes": (dict, type(None)),
    }
    for field, kinds in expected.items():
        if field not in fields:
            raise ValueError(f"{path}: header: missing {field!r}")
        if not isinstance(fields[field], kinds):
            raise ValueError(f"{path}: header: {field}: unexpected {fields[field]!r}")
    for field in fields.keys() - expected:
        raise ValueError(f"{path}: header: unexpected {field!r}")
    kind, config, kept = fields["kind"], fields["config"], fields["optimizer"]
    configs = config if kind == MAPPING else {"": config}
    for name, one in configs.items():
        if not isinstance(one, dict) or (kind == MAPPING) != bool(name):
            raise ValueError(f"{path}: header: config: unexpected {name!r}: {one!r}")
    if not configs or (kind != MAPPING and config.get("kind") != kind):
        raise ValueError(f"{path}: header: kind {kind!r} with config {config!r}")
    if kept is not None and (list(kept) != ["kind"] or not isinstance(kept["kind"], str)):
        raise ValueError(f"{path}: header: optimizer: unexpected {kept!r}")
    return Header(kind, configs, None if kept is None else kept["kind"], fields["notes"])


def _sorted(
    path: str, header: Header, archive: _npz.Archive
) -> tuple[dict[str, dict[str, Array]], dict[str, dict[str, Array]]]:
    """Return the arrays of each part: its parameters, and the optimiser's state for it."""
    found: dict[str, dict[str, dict[str, Array]]] = {
        group: {part: {} for part in header.configs} for group in (PARAMETERS, OPTIMIZER)
    }
    for place in archive.names:
        group, *rest = place.split("/", 2 if header.several else 1)
        several = header.several and len(rest) == 2
        part = unquote(rest[0], errors="surrogatepass") if several else ""
        parts = found.get(group, {})
        if rest and part in parts and _file_name(group, part, rest[-1]) == place:
            parts[part][rest[-1]] = archive[place]
        elif place != HEADER:
            raise ValueError(f"{path}: unexpected array {place!r}")
    if header.optimizer is None and any(found[OPTIMIZER].values()):
        raise ValueError(f"{path}: holds an optimiser's state, of which the header says nothing")
    return found[PARAMETERS], found[OPTIMIZER]


def _made(path: str, name: str, config: dict[str, Any], state: dict[str, Array]) -> Any:
    """Make a layer or model with the parameters of the file, and only with those."""
    place = f"{path}: {name!r}" if name else path
    kind = _class_of(config.get("kind"))
    if kind is None or not callable(getattr(kind, "from_config", None)):
        raise ValueError(f"{place}: nothing is known of the kind {config.get('kind')!r}")
    numbers = sum(array.size for array in state.values())
    for size in _integers(config):
        if size > max(numbers, ALWAYS_POSSIBLE):
            raise ValueError(f"{place}: a size of {size} with {numbers} numbers in the file")
    try:
        made = kind.from_config(config, state)
    except (TypeError, ValueError, KeyError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"{place}: {str(error) or type(error).__name__}") from error
    for key, array in made.state_dict().items():
        if array.dtype != state[key].dtype:
            raise ValueError(f"{place}: {key}: expected {array.dtype}, found {state[key].dtype}")
    return made


def _integers(config: Any) -> Iterator[int]:
    """Yield all whole numbers in a config."""
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        for one in config:
            yield from _integers(one)
    elif type(config) is int:
        yield config


def _few(names: list[str]) -> str:
    more = ", ..." if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else "none"
