"""The checked arguments of a training run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import arguments as _check
from . import _checks
from ._batches import Data, split
from ._parallel import Processes
from ._progress import Line
from .stopping import EarlyStopping

__all__ = ["Plan", "planned"]


@dataclass(frozen=True)
class Plan:
    """The checked arguments of a call of `fit`."""

    data: Data
    held_out: Data | None
    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    early_stopping: EarlyStopping | None
    monitor: str
    schedule: Callable[[Any], float] | None
    clip_norm: float | None
    truncate: int | None  # the steps of a piece
    processes: Processes
    checkpoint: str | os.PathLike[str] | None
    line: Line


def planned(
    names: list[str],
    data: Data,
    *,
    read: Callable[..., Data],
    validation_data: object,
    validation_split: object,
    epochs: object,
    batch_size: object,
    shuffle: object,
    seed: object,
    early_stopping: object,
    monitor: object,
    schedule: object,
    clip_norm: object,
    truncate: int | None,
    all_reduce: object,
    checkpoint: str | os.PathLike[str] | None,
    verbose: object,
) -> Plan:
    """Check the arguments of `fit`.

    `names` are those of what is measured; `read` and `truncate` are of the model.
    """
    share = _checks.decay(validation_split, "validation_split")
    held_out = None
    if validation_data is not None:
        if share:
            raise ValueError("expected validation_data or validation_split, got both")
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise TypeError(
                "validation_data: expected (x, y) or (x, y, lengths), got "
                f"{_check.describe(validation_data)}"
            )
        x, y, lengths = (*validation_data, None)[:3]
        held_out = read(x, y, lengths, where="validation ")
    elif share:
        data, held_out = split(data, share)
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(
            f"early_stopping: expected an EarlyStopping, got {_check.describe(early_stopping)}; "
            "write nn.EarlyStopping(patience)"
        )
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"schedule: expected a function of the update, got {_check.describe(schedule)}"
        )
    watchable = [*names, *(f"val_{name}" for name in names if held_out is not None)]
    watched = "loss" if held_out is None else "val_loss"
    if monitor is not None:
        watched = _check.choice(monitor, "monitor", tuple(watchable))
    if checkpoint is not None:
        _check.path(checkpoint, "checkpoint")
        folder = os.path.dirname(os.path.abspath(checkpoint))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"checkpoint: there is no folder {folder}")
    return Plan(
        data=data,
        held_out=held_out,
        epochs=_check.integer(epochs, "epochs", 1),
        batch_size=_check.integer(batch_size, "batch_size", 1),
        shuffle=_check.flag(shuffle, "shuffle"),
        seed=_check.integer(seed, "seed", 0),
        early_stopping=early_stopping,
        monitor=watched,
        schedule=schedule,
        clip_norm=None if clip_norm is None else _checks.positive(clip_norm, "clip_norm"),
        truncate=truncate,
        processes=Processes(all_reduce),
        checkpoint=checkpoint,
        line=Line(_shown(verbose)),
    )


def _shown(verbose: object) -> bool | None:
    """Check `verbose`, which may be a number as in Keras."""
    if verbose is None:
        return None
    expected = "verbose: expected True or False, or 0, 1 or 2"
    if not isinstance(verbose, (bool, np.bool_, int, np.integer)):
        raise TypeError(f"{expected}, got {_check.describe(verbose)}")
    if verbose not in (0, 1, 2):
        raise ValueError(f"{expected}, got {verbose}")
    return bool(verbose)
