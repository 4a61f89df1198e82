"""Without JAX these tests are skipped; tests/nightly.sh runs them where it is installed."""

from __future__ import annotations

import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")


@pytest.fixture(autouse=True)
def _both_dtypes() -> object:
    """Let JAX have float64; a test of float32 alone says so."""
    with jax.enable_x64(True):
        yield
