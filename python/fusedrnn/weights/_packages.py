"""Packages that only some functions need, imported when first wanted."""

from __future__ import annotations

import importlib
from typing import Any

from .. import _check


def package(name: str, extra: str) -> Any:
    """A module; where it is absent, an error that names the extra which installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _check.weights_package(extra, name.split(".")[0], error)
