"""sigmoid and tanh of the kernels against wider arithmetic; tests/cpp/ulp.cpp sweeps all inputs."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import Chosen
from fusedrnn._cells import Array


def sample(dtype: str) -> Array:
    """Every exponent with many mantissas and both signs, dense where the formulas change."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp, info.maxexp, dtype=np.float64)
    scale = np.ldexp(1.0, np.repeat(exponents.astype(int), 200 if dtype == "float32" else 30))
    wide = scale * rng.uniform(1, 2, len(scale))
    dense = rng.uniform(0, 100 if dtype == "float32" else 750, 200_000)
    x = np.concatenate((wide, dense)).astype(dtype)
    return np.concatenate((x, -x))


def ulps(found: Array, exact: Array) -> float:
    """Largest error in ulps if the exact result is a normal number; otherwise 0 is allowed too."""
    tiny = np.finfo(found.dtype).tiny
    normal = np.abs(exact) >= tiny
    unit = np.spacing(np.abs(exact).astype(found.dtype))
    error = np.abs(found.astype(exact.dtype) - exact) / unit
    small = found[~normal]
    assert np.all((small == 0) | (np.abs(small) <= 2 * tiny))
    return float(error[normal].max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_ulps(native: Chosen, name: str, dtype: str) -> None:
    """[N3.1] Errors are at most 2 ULP, without fma at most 4."""
    from fusedrnn import _core

    x = sample(dtype)
    wide = x.astype(np.longdouble if dtype == "float64" else np.float64)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    found = getattr(_core, name)(native.isa, x)
    assert ulps(found, exact) <= (2 if native.isa != "baseline" else 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(native: Chosen, dtype: str) -> None:
    from fusedrnn import _core

    x = np.array([0, -0.0, np.inf, -np.inf, np.nan], dtype)
    assert np.array_equal(_core.sigmoid(native.isa, x), [0.5, 0.5, 1, 0, np.nan], equal_nan=True)
    tanh = _core.tanh(native.isa, x)
    assert np.array_equal(tanh, [0, 0, 1, -1, np.nan], equal_nan=True)
    assert np.signbit(tanh[:2]).tolist() == [False, True]
