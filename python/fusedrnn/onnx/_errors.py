"""Every error of the ONNX backend: where it is, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np


def not_installed(error: ImportError) -> NoReturn:
    """The extra is missing."""
    text = "fusedrnn.onnx needs the package onnx: pip install fusedrnn[onnx]"
    raise ImportError(text) from error


def place(node: Any) -> str:
    """A node in an error text: its name, or else its first output's, and its operator."""
    name = node.name or next(filter(None, node.output), "")
    return f"onnx: node {name!r} ({node.op_type})"


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
    """A node between the recurrent ones that NumPy cannot compute."""
    raise ValueError(f"{where}: cannot be computed from these inputs: {error}") from error
