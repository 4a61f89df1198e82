"""Tests of fusedrnn.keras on the backend of Keras that KERAS_BACKEND names."""

from __future__ import annotations

import importlib
import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
BACKEND = os.environ["KERAS_BACKEND"]
NEEDS = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow",),
    "jax": ("jax",),
    "numpy": ("jax",),
    "openvino": ("openvino",),
}

for _name in (*NEEDS.get(BACKEND, ()), "keras"):
    pytest.importorskip(_name, reason=f"{_name} is not installed", exc_type=ImportError)
importlib.import_module("keras")
collect_ignore = [] if BACKEND == "tensorflow" else ["test_keras_tensorflow.py"]
if BACKEND == "openvino":  # Keras' loop computes there, and nothing trains
    collect_ignore += ["test_keras_layers.py", "test_keras_programs.py"]

# What Keras, TensorFlow and JAX warn of inside themselves, whichever classes the layers have.
THEIRS = (
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:Layer 'flatten:UserWarning",
    "ignore::DeprecationWarning:(tensorflow|keras|jax|tree|h5py).*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every other warning is an error, as in all tests."""
    for item in items:
        if "keras_adapter" in str(item.path):
            for one in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(one))
