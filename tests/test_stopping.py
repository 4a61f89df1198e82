"""Early stopping: when it stops, and that it keeps and restores the best parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.nn import EarlyStopping

Array = np.ndarray[Any, np.dtype[Any]]


def fill(layer: Any, value: float) -> None:
    with layer.writable() as params:
        for p in params.values():
            p[...] = value


def stops(early: EarlyStopping, values: list[float]) -> list[bool]:
    return [early.update(value) for value in values]


def test_when_it_stops() -> None:
    early = EarlyStopping(patience=2)
    assert (early.best, early.best_step, early.waited, early.should_stop) == (None, None, 0, False)
    assert stops(early, [3, 2, 2, 1, 5, 1, 4]) == [False] * 5 + [True] * 2
    assert (early.best, early.best_step, early.waited) == (1.0, 3, 3)
    assert not early.update(0.5)  # better after all
    assert (early.best_step, early.waited, early.should_stop) == (7, 0, False)


def test_what_is_better() -> None:
    assert stops(EarlyStopping(1, mode="max"), [1, 2, 3, 3]) == [False, False, False, True]
    early = EarlyStopping(1, min_delta=0.5)
    assert stops(early, [3, 2.4, 1.9]) == [False, False, True]  # 0.5 is not more than 0.5
    assert early.best == 2.4
    early = EarlyStopping(1, min_delta=0.5, mode="max")
    assert stops(early, [1, 2, 2.25]) == [False, False, True]
    assert early.best == 2


def test_values_that_are_not_finite_are_never_best() -> None:
    for mode in ("min", "max"):
        early = EarlyStopping(3, mode=mode)
        bad = [math.nan, math.inf, -math.inf]
        assert stops(early, bad) == [False, False, True]
        assert (early.best, early.waited) == (None, 3)
        assert not early.update(np.float32(1.5))
        assert early.best == 1.5
        assert stops(early, bad) == [False, False, True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_best_parameters_come_back(dtype: str) -> None:
    layer, early = fr.GRU(3, 4, seed=0, dtype=dtype), EarlyStopping(2)
    for epoch, value in enumerate([3.0, 1.0, 2.0, 4.0]):
        fill(layer, epoch)
        early.update(value, layer)
    kept = layer.params["weight_ih_l0"]
    early.restore(layer)
    for p in layer.params.values():
        assert p.dtype == dtype
        np.testing.assert_array_equal(p, 1)
    np.testing.assert_array_equal(kept, 3)
    fill(layer, 9)  # what was kept is a copy, before and after it was restored
    early.restore(layer)
    np.testing.assert_array_equal(layer.params["bias_ih_l0"], 1)
    other = fr.GRU(3, 4, seed=1, dtype=dtype)
    early.restore(other)
    np.testing.assert_array_equal(other.params["bias_ih_l0"], 1)
    with pytest.raises(ValueError, match="cell"):  # the cell is kept with the parameters
        early.restore(fr.GRU(3, 4, reset_after=False, bias=True, dtype=dtype))


def test_several_layers_are_restored_together() -> None:
    layers = {"gru": fr.GRU(3, 4, seed=0), "head": nn.Dense(4, 2, seed=1)}
    early = EarlyStopping(2)
    for epoch, value in enumerate([1.0, 2.0]):
        for layer in layers.values():
            fill(layer, epoch)
        early.update(value, layers)
    early.restore(dict(reversed(layers.items())))
    for layer in layers.values():
        for p in layer.params.values():
            np.testing.assert_array_equal(p, 0)


def test_a_restore_is_complete_or_has_no_effect() -> None:
    layers = {"gru": fr.GRU(3, 4, seed=0), "head": nn.Dense(4, 2, seed=1)}
    early = EarlyStopping()
    early.update(1.0, layers)
    wrong = {"gru": fr.GRU(3, 4, seed=2), "head": nn.Dense(4, 3, seed=1)}
    before = wrong["gru"].state_dict()
    with pytest.raises(ValueError, match="weight: expected shape"):
        early.restore(wrong)
    for name, p in wrong["gru"].state_dict().items():
        np.testing.assert_array_equal(p, before[name])


class Own:
    """A model whose state_dict gives its own arrays."""

    def __init__(self) -> None:
        self.w = np.zeros(2)

    def state_dict(self) -> dict[str, Array]:
        return {"w": self.w}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        self.w[...] = state["w"]


def test_a_model_that_shares_its_arrays_is_copied() -> None:
    model, early = Own(), EarlyStopping()
    early.update(1.0, model)
    model.w += 1
    early.restore(model)
    np.testing.assert_array_equal(model.w, 0)


def test_what_is_kept_is_of_the_best_value() -> None:
    layer, early = nn.Dense(2, 1, seed=0), EarlyStopping()
    with pytest.raises(RuntimeError, match=r"restore: no parameters were kept; call update\(value"):
        early.restore(layer)
    early.update(2.0, layer)
    early.update(1.0)  # the best value, and nobody gave its parameters
    with pytest.raises(RuntimeError, match="no parameters were kept"):
        early.restore(layer)
    # A copy that fails takes nothing.
    with layer.writable(), pytest.raises(RuntimeError, match="open"):
        early.update(0.5, layer)
    assert (early.best, early.best_step, early.waited) == (1.0, 1, 0)


def test_what_does_not_fit_is_refused_by_name() -> None:
    layer, early = nn.Dense(2, 1, seed=0), EarlyStopping()
    early.update(1.0, {"a": layer})
    for target, kind, text in (
        (layer, ValueError, "target: expected a mapping of a, as it was kept, got one layer or"),
        ({"b": layer}, ValueError, "target: expected a mapping of a, .*, got a mapping of b"),
        (3, TypeError, r"target: expected a layer or model \(with state_dict\(\).*, got int"),
        (nn.Dense, TypeError, "target: expected a layer or model .*, got the class Dense"),
        ({"a": layer.params}, TypeError, r"target\['a'\]: expected a layer or model .*, got Param"),
        ({}, TypeError, "target: expected at least one layer or model, got an empty mapping"),
    ):
        with pytest.raises(kind, match=text):
            early.restore(target)
        if kind is TypeError:
            with pytest.raises(kind, match=text):
                early.update(0.5, target)
    assert (early.best, early.waited) == (1.0, 0)
    with pytest.raises(TypeError, match="value: expected a number, got Loss"):
        early.update(nn.mse([0.5], [0.0]))  # type: ignore[arg-type]
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"patience": 0}, ValueError, "patience: expected at least 1, got 0"),
        ({"patience": 1.5}, TypeError, "patience: expected a whole number"),
        ({"min_delta": -1}, ValueError, "min_delta: expected a finite number of at least 0"),
        ({"mode": "auto"}, ValueError, "mode: expected one of 'min', 'max', got 'auto'"),
    ]
    for options, error, text in wrong:
        with pytest.raises(error, match=text):
            EarlyStopping(**options)
