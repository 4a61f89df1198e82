"""Every error of the ONNX backend: where it is, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from .. import _protos


def not_installed(error: ImportError) -> NoReturn:
    """The extra is missing."""
    text = "fusedrnn.onnx needs the package onnx: pip install fusedrnn[onnx]"
    raise ImportError(text) from error


def place(node: Any, path: str = "") -> str:
    """A node in an error text: its path, or else its label, and its operator."""
    return f"onnx: node {path or _protos.label(node)!r} ({node.op_type})"


def listed(names: Iterable[object]) -> str:
    """Names in an error text."""
    return ", ".join(map(str, names)) or "nothing"


def describe(value: object) -> str:
    """A value in an error text: arrays by dtype and shape, others by type."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return "nothing" if value is None else type(value).__name__


def differs(where: str, what: str, expected: str, got: object) -> NoReturn:
    """An attribute, name, shape or number that does not fit."""
    raise ValueError(f"{where}: {what}: expected {expected}, got {got}")


def wrong_type(where: str, what: str, expected: str, got: object) -> NoReturn:
    """A dtype or an object of the wrong kind."""
    raise TypeError(f"{where}: {what}: expected {expected}, got {got}")


def failed(where: str, error: Exception) -> NoReturn:
    """A node that NumPy cannot compute."""
    raise ValueError(f"{where}: cannot be computed from these inputs: {error}") from error


def unreadable(where: str, error: Exception) -> NoReturn:
    """A file, a tensor or an attribute with bytes in it that mean nothing."""
    raise ValueError(f"{where}: cannot be read: {error}") from error
