"""These tests run on the backend that KERAS_BACKEND names; torch if it names none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from fusedrnn import core

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="keras is not installed")
if keras.backend.backend() == "torch":
    pytest.importorskip("torch", reason="torch is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore warnings of Keras itself: its variables have the __array__ of NumPy 1."""
    for item in items:
        if "keras_adapter" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation"))


@pytest.fixture(autouse=True)
def same_seed() -> None:
    """Give every test the same random numbers."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def ours() -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    """Runs a function; returns its result, and how many kernel calls it made in all threads."""

    def counted(run: Callable[[], Any]) -> tuple[Any, int]:
        before = sum(core.path_counts().values())
        result = run()
        return result, sum(core.path_counts().values()) - before

    return counted
