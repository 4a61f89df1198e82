"""Layers and models in files, long because what is written and its checks stand side by side.

A file is a .npz of plain arrays, which ``numpy.load`` reads too:

- ``header``: a JSON text, see `Header`;
- ``params/NAME``: the parameters, or ``params/LAYER/NAME`` where several layers were saved;
- ``optimizer/NAME`` and ``optimizer/LAYER/NAME``: the optimiser's state.

What can be saved has ``config()``, ``state_dict()`` and the class method ``from_config(config,
state)``. Which class a file may ask for is a fixed list, so that a file can make nothing else.
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
from ._checks.arguments import describe
from ._storage import replacing
from ._version import __version__

__all__ = ["load", "load_notes", "save"]

HEADER = "header"
FORMAT = "fusedrnn"
FORMAT_VERSION = 1
MAPPING = "mapping"  # the kind of a file that holds several layers
PARAMETERS, OPTIMIZER = "params", "optimizer"
# No layer has more units or layers than parameters, but for the smallest.
ALWAYS_POSSIBLE = 2**16
# "LSTM" is a class of `layers`; "nn.Dense" is one of the room `nn`.
KIND = re.compile(r"(?:(nn|charlm)\.)?([A-Za-z]\w*)")


class Saveable(Protocol):
    """A layer or model."""

    def config(self) -> dict[str, Any]:
        """All that is needed to make it again but the parameters, as JSON can hold it."""

    def state_dict(self) -> Mapping[str, Array]:
        """The parameters by name."""


# --- saving -------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str],
    what: Saveable | Mapping[str, Saveable],
    *,
    optimizer: Any = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a layer, a model or several of them to a file, from which `load` makes them again.

    The file is written whole or not at all: if this is stopped, by an error, a full disk or a kill,
    `path` holds what it held before. Equal content gives equal bytes, on every machine.

    Parameters
    ----------
    path : str or path
        The file; its folder must exist. An old file is replaced.
    what : RNN, LSTM, GRU, nn.Dense, charlm.CharLM, or a mapping of names to these
        Cell, options and parameters are written, not the seed.
    optimizer : Adam, optional
        Its state for `what` is written too; not its hyperparameters, such as the learning rate.
    notes : mapping, optional
        What else is to be known later, as JSON holds it (``load_notes`` returns it): names of type
        str; None, True, False, numbers, text, lists and mappings of these. Tuples become lists, and
        NumPy's numbers Python's.

    Raises
    ------
    TypeError
        `what` cannot be saved, `optimizer` has no ``state_dict``, or something in `notes` is
        nothing for JSON.
    ValueError
        A name cannot be kept in a file; a layer is there twice, and would come back as two; its
        class is not the one that `load` would make.
    OSError
        The file cannot be written.

    See Also
    --------
    load, load_notes
    fusedrnn.weights.save : arrays alone, for other programs.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.save("model.npz", fr.GRU(3, 5), notes={"epoch": 7})  # doctest: +SKIP
    >>> fr.load("model.npz")  # doctest: +SKIP
    GRU(3, 5)
    """
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
    """The entries of a mapping of layers, each of them once."""
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
    """The config of something that `load` can make again."""
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
    """The class that a kind stands for: a public name of a few modules, or None."""
    match = KIND.fullmatch(kind) if isinstance(kind, str) else None
    if match is None:
        return None
    module = importlib.import_module(f".{match[1] or 'layers'}", __package__)
    return getattr(module, match[2]) if match[2] in module.__all__ else None


def _placed(place: str, group: str, part: str, state: object) -> dict[str, Array]:
    """Arrays of one part by their names in the file."""
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
    """Where an array is in the file; `part` is a name that a user chose, and escaped."""
    if not part:
        return f"{group}/{name}"
    folder = quote(part, safe=" ", errors="surrogatepass")
    if set(folder) <= {"."}:  # a folder of this name would be another one
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
    """A copy of `value`, all of it such that JSON gives it back; tuples become lists."""
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
    """What a file says of itself, each field checked."""

    kind: str  # of the layer or model; "mapping" if there are several
    configs: dict[str, dict[str, Any]]  # by name; by "" if there is one
    optimizer: str | None  # the class of the optimiser whose state is there
    notes: dict[str, Any] | None

    @property
    def several(self) -> bool:
        """Whether the file holds a mapping."""
        return self.kind == MAPPING


def load(path: str | os.PathLike[str], *, optimizer: Any = None) -> Any:
    """Make what `save` wrote again: equal in every option and every bit it computes.

    Parameters
    ----------
    path : str or path
        Written by `save`, here or on another machine.
    optimizer : Adam, optional
        Takes the optimiser's state from the file, for what is returned.

    Returns
    -------
    layer, model, or dict of str to these
        What was saved.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is damaged, of a later version, none of `save`'s, or holds no state of such an optimiser.
        The text begins with the path.
    TypeError
        `optimizer` has no ``load_state_dict``.

    Notes
    -----
    Everything is checked before it is used, and nothing in a file is run, so that files of
    strangers can be read.

    Examples
    --------
    >>> model = fr.load("model.npz")  # doctest: +SKIP
    """
    wanted = None if optimizer is None else _optimizer_kind(optimizer)
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
    """Read the notes of a file that `save` wrote; parameters are not looked at.

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
    """
    with _npz.opened(path) as archive:
        return _header(os.fspath(path), archive).notes or {}


def _header(path: str, archive: _npz.Archive) -> Header:
    """The header, every field of it checked."""
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
        raise ValueError(f"{path}: expected a file of fusedrnn.save, found format {found!r}")
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
    """The arrays of each part: its parameters, and what the optimiser keeps of it."""
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
    """A layer or model, all of whose parameters are those of the file."""
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
    """All whole numbers in a config."""
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
