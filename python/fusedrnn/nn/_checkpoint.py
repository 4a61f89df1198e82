"""The file of a training run: a .npz of plain arrays and a JSON header, without pickle."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _npz
from .._checks import arguments as _check
from .._storage import replacing
from ._optimizer import Optimizer

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["Position", "load", "save"]

Array = NDArray[Any]

FORMAT = "fusedrnn fit"
FORMAT_VERSION = 1
HEADER = "header"
GROUPS = ("params", "optimizer", "best")


@dataclass(frozen=True)
class Position:
    """How far a run was, each part checked."""

    params: dict[str, Array]
    best: dict[str, Array]  # the parameters of the best epoch; empty if it is the last one
    best_epoch: int | None
    epochs: int
    updates: int
    history: dict[str, list[float]]


def save(
    path: str | os.PathLike[str],
    model: Model,
    optimizer: Optimizer[Any],
    position: Mapping[str, Any],
    best: Mapping[str, Array] | None,
) -> None:
    """Write a run in place of the old file, completely or not at all."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": model.config(),
        "optimizer": type(optimizer).__name__,
        **position,
    }
    groups = (model.state_dict(), optimizer.state_dict(model), best or {})
    arrays = {HEADER: np.array(json.dumps(header))}
    for group, values in zip(GROUPS, groups, strict=True):
        arrays |= {f"{group}/{name}": a for name, a in values.items()}
    with replacing(path) as file:
        _npz.write(file, arrays)


def _describes(old: object, new: object) -> bool:
    """Whether a config of a file, perhaps of an older version, is that of a model.

    The file may lack options that came later; what they did before is what False does now.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return not set(old) - set(new) and all(
            _describes(old[k], v) if k in old else v is False for k, v in new.items()
        )
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(map(_describes, old, new))
    return old == new


def load(path: str | os.PathLike[str], model: Model, optimizer: Optimizer[Any]) -> Position:
    """Give a model and its optimiser what a file holds; a ValueError changes nothing."""
    _check.path(path)
    name = os.fspath(path)
    with _npz.opened(path) as archive:
        header = _header(name, archive)
        groups: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
        for place in archive.names:
            group, _, rest = place.partition("/")
            if group in groups:
                groups[group][rest] = archive[place]
    try:
        position = _position(header, groups)
        if not _describes(header.get("model"), model.config()):
            raise ValueError("model: the file is of other layers, or of other options of them")
        if header.get("optimizer") != type(optimizer).__name__:
            raise ValueError(
                f"optimizer: expected {type(optimizer).__name__}, found {header.get('optimizer')!r}"
            )
        trial = copy.deepcopy(model)
        for state in (position.params, position.best):
            if state is position.params or state:
                trial.load_state_dict(state)
        optimizer.load_state_dict(model, groups["optimizer"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    model.load_state_dict(position.params)
    return position


def _header(path: str, archive: _npz.Archive) -> dict[str, Any]:
    try:
        header = json.loads(str(archive[HEADER][()])) if HEADER in archive.names else None
    except RecursionError as error:
        raise ValueError(f"{path}: header: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a checkpoint of fit, found something else")
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version: this fusedrnn reads {FORMAT_VERSION}, found "
            f"{header.get('format_version')!r}"
        )
    return header


def _position(header: Mapping[str, Any], groups: Mapping[str, dict[str, Array]]) -> Position:
    """Return where a run was, with each field checked."""
    epochs, updates = _count(header, "epochs"), _count(header, "updates")
    best = header.get("best_epoch")
    if best is not None and (type(best) is not int or not 1 <= best <= epochs):
        raise ValueError(f"best_epoch: expected a number in [1, {epochs}], found {best!r}")
    if (best not in (None, epochs)) != bool(groups["best"]):
        raise ValueError("best: expected parameters if the best epoch is not the last one")
    history = header.get("history")
    right = isinstance(history, dict) and all(
        isinstance(of, list)
        and len(of) == epochs
        and all(type(number) in (int, float) for number in of)
        for of in history.values()
    )
    if not right:
        raise ValueError(f"history: expected lists of {epochs} numbers")
    assert isinstance(history, dict)
    values = {name: [float(number) for number in of] for name, of in history.items()}
    return Position(groups["params"], groups["best"], best, epochs, updates, values)


def _count(header: Mapping[str, Any], name: str) -> int:
    number = header.get(name)
    if type(number) is not int or number < 0:
        raise ValueError(f"{name}: expected a whole number, found {number!r}")
    return number
