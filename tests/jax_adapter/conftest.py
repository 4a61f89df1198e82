"""Without JAX these tests are skipped; tests/nightly.sh runs them where it is installed."""

from __future__ import annotations

import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # before JAX 0.8
    from jax.experimental import enable_x64


@pytest.fixture(autouse=True)
def _both_dtypes() -> object:
    """Let JAX have float64; a test of float32 alone says so."""
    with enable_x64(True):
        yield
