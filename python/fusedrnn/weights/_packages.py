"""Packages that some file formats need, imported when such a file is read or written."""

from __future__ import annotations

import importlib
from typing import Any

from .._checks import arguments as _check


def package(name: str, extra: str, advice: str = "") -> Any:
    """Import a package that one of fusedrnn's extras installs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _check.weights_package(extra, name.split(".")[0], error, advice)
