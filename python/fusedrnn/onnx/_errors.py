"""The errors of the ONNX backend: their place, what was expected and what was given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from .. import _protos


def not_installed(error: ImportError) -> NoReturn:
    """Raise an ImportError that names the missing extra."""
    text = "fusedrnn.onnx needs the package onnx: pip install fusedrnn[onnx]"
    raise ImportError(text) from error


def place(node: Any, path: str = "") -> str:
    """Name a node in an error text: its path or label, and its operator."""
    return f"onnx: node {path or _protos.label(node)!r} ({node.op_type})"


def listed(names: Iterable[object]) -> str:
    """Join names for an error text."""
    return ", ".join(map(str, names)) or "nothing"


def describe(value: object) -> str:
    """Describe a value for an error text: arrays by dtype and shape, other values by type."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return "nothing" if value is None else type(value).__name__


def differs(where: str, what: str, expected: str, got: object) -> NoReturn:
    """Refuse an attribute, name, shape or number that does not fit."""
    raise ValueError(f"{where}: {what}: expected {expected}, got {got}")


def wrong_type(where: str, what: str, expected: str, got: object) -> NoReturn:
    """Refuse a dtype, or an object of the wrong kind."""
    raise TypeError(f"{where}: {what}: expected {expected}, got {got}")


def failed(where: str, error: Exception) -> NoReturn:
    """Refuse a node that cannot be computed."""
    raise ValueError(f"{where}: cannot be computed from these inputs: {error}") from error


def unreadable(where: str, error: Exception) -> NoReturn:
    """Refuse a file, a tensor or an attribute whose bytes are invalid."""
    raise ValueError(f"{where}: cannot be read: {error}") from error
