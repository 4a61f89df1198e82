"""Schedules: by hand, beside torch's, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusedrnn import nn
from fusedrnn.nn.schedules import Constant, Cosine, Exponential, ReduceOnPlateau, StepDecay


def rates(schedule: Callable[[int], float], steps: int) -> list[float]:
    return [schedule(step) for step in range(steps)]


def test_schedules_by_hand() -> None:
    assert rates(Constant(0.5), 3) == [0.5] * 3
    assert rates(StepDecay(8.0, 3, 0.5), 7) == [8, 8, 8, 4, 4, 4, 2]
    assert StepDecay(1.0, 1)(1) == 0.1
    assert rates(Exponential(8.0, 0.5), 4) == [8, 4, 2, 1]
    cosine = Cosine(4.0, 8, warmup=4, final=2.0)
    assert rates(cosine, 4) == [1, 2, 3, 4]
    expected = [4, 3 + math.sqrt(0.5), 3, 3 - math.sqrt(0.5), 2, 2, 2]
    np.testing.assert_allclose(rates(cosine, 11)[4:], expected, rtol=1e-14)
    assert rates(Cosine(1.0, 1), 3) == [1, 0, 0]


def test_a_schedule_has_no_state() -> None:
    """A run that is continued needs only its step."""
    cosine = Cosine(1.0, 100, warmup=10)
    whole = rates(cosine, 100)
    for step in (99, 3, 50, 3):
        assert cosine(step) == whole[step]
    for twin in (copy.copy(cosine), pickle.loads(pickle.dumps(cosine)), eval(repr(cosine))):
        assert twin == cosine
        assert rates(twin, 100) == whole
    with pytest.raises(AttributeError):
        cosine.lr = 2.0  # type: ignore[misc]


def test_an_optimiser_follows_a_schedule() -> None:
    p, sgd = {"w": np.zeros(1)}, nn.SGD()
    schedule = StepDecay(1.0, 2, 0.25)
    for step in range(4):
        sgd.lr = schedule(step)
        sgd.step(p, {"w": np.ones(1)})
    assert p["w"] == -2.5


def of_torch(make: Callable[[Any, Any], Any], steps: int, lr: float) -> list[float]:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # of SequentialLR itself
@pytest.mark.parametrize("lr", [0.3, 1e-4])
def test_schedules_are_torchs(lr: float) -> None:
    """torch multiplies step by step, so it rounds in every step."""
    cases: list[tuple[Callable[[int], float], Callable[[Any, Any], Any]]] = [
        (Constant(lr), lambda of, o: of.LambdaLR(o, lambda _: 1.0)),
        (StepDecay(lr, 7), lambda of, o: of.StepLR(o, 7)),
        (StepDecay(lr, 3, 0.7), lambda of, o: of.StepLR(o, 3, 0.7)),
        (Exponential(lr, 0.9), lambda of, o: of.ExponentialLR(o, 0.9)),
        (
            Cosine(lr, 40, warmup=10, final=0.1 * lr),
            lambda of, o: of.SequentialLR(
                o,
                [
                    of.LinearLR(o, 1 / 10, total_iters=9),
                    of.CosineAnnealingLR(o, 30, 0.1 * lr),
                ],
                [10],
            ),
        ),
        (Cosine(lr, 40), lambda of, o: of.CosineAnnealingLR(o, 40)),
    ]
    for ours, theirs in cases:
        expected = of_torch(theirs, 40, lr)
        np.testing.assert_allclose(rates(ours, 40), expected, rtol=1e-12, atol=1e-15 * lr)


# --- on a plateau ---------------------------------------------------------------------------------


def test_the_rate_falls_on_a_plateau() -> None:
    schedule = ReduceOnPlateau(8.0, factor=0.5, patience=1, cooldown=1, min_lr=1.5)
    assert schedule.best is None
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    expected = [8, 8, 8, 4, 4, 4, 2, 2, 2, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert [schedule(v) for v in values] == expected
    assert (schedule.best, schedule.lr) == (1.0, 1.5)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor": 0.5, "patience": 2},
        {"factor": 0.5, "patience": 0, "cooldown": 3},
        {"factor": 0.3, "patience": 1, "threshold": 0.1, "min_lr": 1e-3},
    ],
    ids=str,
)
def test_plateaus_are_torchs(options: dict[str, Any], mode: str) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, **options)
    ours = ReduceOnPlateau(0.5, mode=mode, **options)
    rng = np.random.default_rng(0)
    values = 1 + rng.random(80) * np.linspace(1, 0.2, 80)
    values[[5, 30]] = math.nan
    found = []
    for value in values.tolist():
        theirs.step(value)
        found.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose([ours(v) for v in values.tolist()], found, rtol=1e-12)
    assert len(set(found)) > 2
    assert ours.best == theirs.best


def test_a_share_of_a_negative_value() -> None:
    """By torch's rule -0.95 would be better than -1, because -1 * (1 - 0.1) is -0.9."""
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, threshold=0.1)
    assert [schedule(v) for v in (-1.0, -0.95, -1.05, -1.2)] == [1, 0.5, 0.25, 0.25]
    assert schedule.best == -1.2


# --- what is refused ------------------------------------------------------------------------------

REFUSED: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (ValueError, "lr: expected a finite number of at least 0, got -1", lambda: Constant(-1)),
    (TypeError, "lr: expected .* got str", lambda: Cosine("0.1", 5)),  # type: ignore[arg-type]
    (ValueError, "every: expected at least 1, got 0", lambda: StepDecay(1.0, 0)),
    (ValueError, r"factor: expected a number in \[0, 1\], got 2", lambda: StepDecay(1.0, 1, 2)),
    (ValueError, r"factor: expected a number in \[0, 1\]", lambda: Exponential(1.0, -0.1)),
    (TypeError, "steps: expected a whole number", lambda: Cosine(1.0, 10.0)),  # type: ignore[arg-type]
    (
        ValueError,
        "warmup: expected less than steps=5, got 5",
        lambda: Cosine(1.0, 5, warmup=5),
    ),
    (ValueError, "final: expected a finite number of at l", lambda: Cosine(1.0, 5, final=-1)),
    (ValueError, "step: expected at least 0, got -1", lambda: Constant(1.0)(-1)),
    (TypeError, "step: expected a whole number", lambda: Constant(1.0)(0.5)),  # type: ignore[arg-type]
    (
        ValueError,
        "mode: expected one of 'min', 'max', got 'best'",
        lambda: ReduceOnPlateau(1.0, mode="best"),
    ),
    (ValueError, r"factor: expected .* in \[0, 1\), got 1", lambda: ReduceOnPlateau(1, factor=1)),
    (ValueError, "patience: expected at least 0", lambda: ReduceOnPlateau(1, patience=-1)),
    (ValueError, "threshold: expected a finite", lambda: ReduceOnPlateau(1, threshold=-1)),
    (ValueError, "cooldown: expected at least 0", lambda: ReduceOnPlateau(1, cooldown=-1)),
    (ValueError, "min_lr: expected a finite", lambda: ReduceOnPlateau(1, min_lr=-1)),
    (
        TypeError,
        "value: expected a number, got Loss",
        lambda: ReduceOnPlateau(1)(nn.mse([0.5], [0.0])),  # type: ignore[arg-type]
    ),
]


@pytest.mark.parametrize(("kind", "text", "call"), REFUSED, ids=[text for _, text, _ in REFUSED])
def test_what_does_not_fit_is_refused_by_name(
    kind: type[Exception], text: str, call: Callable[[], object]
) -> None:
    with pytest.raises(kind, match=text):
        call()
