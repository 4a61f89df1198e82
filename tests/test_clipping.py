"""Clipping by value; clipping by global norm is tested with Adam, in test_optim.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fusedrnn.nn import clip_value, mse

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_each_element_is_moved_to_the_bound(dtype: str) -> None:
    g = np.array([[-3, -1, 0.5], [math.inf, -math.inf, 1.5]], dtype)
    others = {"b": np.array(-7.0, dtype), "none": np.zeros((0, 3), dtype)}
    assert clip_value({"a": g}, others, max_value=1.0) == 5
    np.testing.assert_array_equal(g, np.array([[-1, -1, 0.5], [1, -1, 1]], dtype))
    assert others["b"] == -1
    assert clip_value({"a": g}, others) == 0  # what is at the bound is inside


def test_a_bound_that_float32_rounds() -> None:
    g = {"a": np.array([0.1, 1.0], np.float32)}
    assert clip_value(g, max_value=0.1) == 1
    np.testing.assert_array_equal(g["a"], np.float32(0.1))
    assert clip_value(g, max_value=1e300) == 0


def test_nan_stays() -> None:
    g = {"a": np.array([math.nan, 5.0, -0.0])}
    with np.errstate(all="raise"):
        assert clip_value(g, max_value=2) == 1
    np.testing.assert_array_equal(g["a"], [math.nan, 2, -0.0])
    assert clip_value({"a": np.array([1e300, math.inf])}, max_value=math.inf) == 0


def test_views_are_clipped_alone() -> None:
    whole = np.full((4, 4), -2.0)
    assert clip_value({"a": whole[::2, 1]}, {"b": whole.T[3]}, max_value=0.5) == 6
    assert (whole == -2).sum() == 10
    assert (whole == -0.5).sum() == 6


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_by_value_is_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    g = np.random.default_rng(0).standard_normal((40, 30)).astype(dtype)
    p = torch.zeros(40, 30, dtype=getattr(torch, dtype)).requires_grad_()
    p.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_value_([p], 0.3)
    wanted = int((np.abs(g) > g.dtype.type(0.3)).sum())
    assert clip_value({"g": g}, max_value=0.3) == wanted > 500
    np.testing.assert_array_equal(g, p.grad.numpy())


def wrong() -> list[tuple[tuple[object, ...], dict[str, object], type[Exception], str]]:
    g = {"w": np.full(4, 2.0)}
    frozen = {"w": np.full(4, 2.0)}
    frozen["w"].flags.writeable = False
    return [
        ((), {}, TypeError, "clip_value: expected at least one mapping of names to arrays"),
        ((g, 0.5), {}, TypeError, r"gradients\[1\]: .* got 0\.5; write max_value=0\.5"),
        (([g],), {}, TypeError, r"gradients\[0\]: .* got list; pass the mappings one after"),
        ((mse([0.5], [0.0]),), {}, TypeError, r"gradients\[0\]: .* a Loss; give loss\.gradient"),
        ((g, {"w": np.ones(3, int)}), {}, TypeError, r"gradients\[1\]\['w'\]: .* floating"),
        ((g, g), {}, ValueError, r"gradients\[0\]\['w'\] and gradients\[1\]\['w'\] share memory"),
        ((g, frozen), {}, ValueError, r"gradients\[1\]\['w'\]: is read-only"),
        ((g,), {"max_value": 0}, ValueError, r"max_value: expected a number above 0, got 0\.0"),
        ((g,), {"max_value": math.nan}, ValueError, "max_value: expected a number above 0"),
        ((g,), {"max_value": "1"}, TypeError, "max_value: expected a number above 0, got str"),
    ]


@pytest.mark.parametrize("case", range(len(wrong())))
def test_clipping_refuses_before_anything_is_changed(case: int) -> None:
    given, options, kind, text = wrong()[case]
    with pytest.raises(kind, match=text):
        clip_value(*given, **{"max_value": 0.5, **options})  # type: ignore[arg-type]
    for mapping in given:
        if isinstance(mapping, dict):
            assert mapping["w"].max() in (1, 2)
