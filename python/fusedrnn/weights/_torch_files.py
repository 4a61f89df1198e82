"""PyTorch's own files, .pt and .pth, which PyTorch itself must read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import _foreign
from .._cells import Array
from .._checks import arguments as _check
from . import _text
from ._packages import package

ADVICE = (
    "; or, where PyTorch is, save what needs none: "
    "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
)


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the tensors of a state dict or checkpoint; names of nested ones are joined by "/"."""
    torch = package("torch", "torch", ADVICE)
    with open(path, "rb"):  # a missing file is an OSError, not an error of the package
        pass
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{os.fspath(path)}: expected tensors by name alone, because no code of a file is run. "
            "If a whole module was saved: torch.save(model.state_dict(), path) saves its tensors"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # of the zip archive, the pickle or the tensors
        reason = [type(error).__name__, *str(error).splitlines()][:2]
        raise ValueError(
            f"{os.fspath(path)}: no file of PyTorch, or damaged: {': '.join(reason)}"
        ) from error
    if not isinstance(found, Mapping):
        _check.weights_differ("load", f"tensors by name in {path}", type(found).__name__)
    arrays: dict[str, Array] = {}
    for name, tensor in _tensors(torch, found, ""):
        if name in arrays:
            _check.weights_differ("load", f"one {name!r} in {path}", "two")
        # Copied, because tied tensors share memory.
        arrays[name] = np.array(_foreign.as_array(tensor))
    if not arrays:
        _check.weights_differ("load", f"tensors by name in {path}", _text.found(found))
    return arrays


def _tensors(torch: Any, tree: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _tensors(torch, value, f"{before}{name}/")
        elif isinstance(value, torch.Tensor):
            yield f"{before}{name}", value
