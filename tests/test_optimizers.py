"""SGD, AdamW and RMSprop: by hand, beside torch, and what every optimiser does as Adam does."""

from __future__ import annotations

import copy
import gc
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.nn import SGD, Adam, AdamW, RMSprop

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")
ALL = (SGD, Adam, AdamW, RMSprop)
# Each with every option that it has.
FULL: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}),
    (AdamW, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}),
    (RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "weight_decay": 0.1}),
]


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gradients_of(layer: Any, seed: int = 0) -> dict[str, Array]:
    return {
        name: numbers(*p.shape, seed=1000 * seed + k, dtype=p.dtype.name)
        for k, (name, p) in enumerate(layer.params.items())
    }


def assert_equal(ours: Any, theirs: Any) -> None:
    assert list(ours) == list(theirs)
    for name, a in ours.items():
        np.testing.assert_array_equal(a, theirs[name], err_msg=name, strict=True)


# --- the formulas ---------------------------------------------------------------------------------


def descend(optimizer: Any, steps: int = 4) -> Array:
    """Steps along gradients that vary, from [1, -2]."""
    p = {"w": np.array([1.0, -2.0])}
    for t in range(1, steps + 1):
        optimizer.step(p, {"w": np.array([t, -0.5 * t])})
    return p["w"]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_sgd_by_hand(decay: float, nesterov: bool) -> None:
    w, v = np.array([1.0, -2.0]), np.zeros(2)
    for t in range(1, 5):
        g = np.array([t, -0.5 * t]) + decay * w
        v = 0.5 * v + g
        w = w - 0.1 * (g + 0.5 * v if nesterov else v)
    ours = descend(SGD(0.1, momentum=0.5, nesterov=nesterov, weight_decay=decay))
    np.testing.assert_allclose(ours, w, rtol=1e-14)


def test_sgd_without_momentum_by_hand() -> None:
    np.testing.assert_allclose(descend(SGD(0.1)), [0, -1.5], rtol=0, atol=1e-15)


def test_adamw_by_hand() -> None:
    w, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 5):
        g = np.array([t, -0.5 * t])
        w = w * (1 - 0.1 * 0.25)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        w = w - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
    ours = descend(AdamW(0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.25))
    np.testing.assert_allclose(ours, w, rtol=1e-14)
    # Without decay it is Adam in every bit.
    same = descend(AdamW(0.1, weight_decay=0)), descend(Adam(0.1))
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_rmsprop_by_hand(decay: float, momentum: float) -> None:
    w, s, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 5):
        g = np.array([t, -0.5 * t]) + decay * w
        s = 0.9 * s + 0.1 * g * g
        v = momentum * v + g / (np.sqrt(s) + 1e-3)
        w = w - 0.1 * v
    ours = descend(RMSprop(0.1, alpha=0.9, eps=1e-3, momentum=momentum, weight_decay=decay))
    np.testing.assert_allclose(ours, w, rtol=1e-14)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SGD, {}),
        (SGD, {"lr": 0.05, "weight_decay": 0.01}),
        (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
        (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (Adam, {}),
        (AdamW, {}),
        (AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3}),
        (RMSprop, {}),
        (RMSprop, {"lr": 3e-3, "alpha": 0.9, "weight_decay": 0.01}),
        (RMSprop, {"lr": 3e-3, "alpha": 0.9, "eps": 1e-6, "momentum": 0.9}),
    ],
    ids=str,
)
def test_fifty_steps_are_torchs(kind: Any, options: dict[str, Any], dtype: str) -> None:
    """Within 8 units in the last place of the largest parameter (or of 1); the worst seen is 2.

    Gradients follow the parameters, so an error would be carried on. The rate changes in between.
    """
    torch = pytest.importorskip("torch")
    ours = {"a": numbers(4, 5, dtype=dtype), "b": numbers(3, seed=1, dtype=dtype)}
    theirs = {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in ours.items()}
    optimizer = kind(**options)
    rival = getattr(torch.optim, kind.__name__)(list(theirs.values()), **options)
    start = {name: p.copy() for name, p in ours.items()}
    for t in range(50):
        rate = optimizer.lr * 0.99
        optimizer.lr = rival.param_groups[0]["lr"] = rate
        used = ["a", "b"] if t % 3 else ["a"]  # b has no gradient in every third step
        for name, p in theirs.items():
            noise = numbers(*p.shape, seed=t + 7, dtype=dtype)
            p.grad = p.detach() + torch.from_numpy(noise) if name in used else None
        noises = {name: numbers(*ours[name].shape, seed=t + 7, dtype=dtype) for name in used}
        optimizer.step(ours, {name: ours[name] + noises[name] for name in used})
        rival.step()
    for name, p in ours.items():
        bound = 8 * np.finfo(dtype).eps * max(1.0, float(np.abs(p).max()))
        np.testing.assert_allclose(p, theirs[name].detach().numpy(), rtol=0, atol=bound)
        assert np.abs(p - start[name]).max() > 1000 * bound


@pytest.mark.torch
@pytest.mark.parametrize("kind", ALL)
def test_the_defaults_are_torchs(kind: Any) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1)]).defaults
    ours = kind()._settings
    assert ours == {name: theirs[name] for name in ours}
    ours = set(ours) | {"dampening", "centered", "amsgrad", "decoupled_weight_decay"}
    ours |= {"maximize", "foreach", "differentiable", "fused", "capturable", "weight_decay"}
    assert set(theirs) <= ours


# --- as Adam does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("kind", "options"), FULL)
def test_any_layout_of_memory_gives_the_same_bits(
    kind: Any, options: dict[str, Any], dtype: str
) -> None:
    plain, whole = numbers(4, 6, dtype=dtype), np.zeros((8, 6), dtype)
    others = {
        "fortran": np.asfortranarray(plain),
        "view": whole[::2],
        "swapped": plain.astype(plain.dtype.newbyteorder()),
    }
    others["view"][...] = plain
    scalar = {"p": np.array(2.0, dtype), "one": np.array([2.0], dtype), "none": np.zeros(0, dtype)}
    optimizer = kind(**options)
    for t in range(3):
        g = numbers(4, 6, seed=t + 2, dtype=dtype)
        before = g.copy()
        optimizer.step({"w": plain}, {"w": g})
        np.testing.assert_array_equal(g, before)  # the gradient is the caller's
        optimizer.step(others, {name: g.astype(p.dtype) for name, p in others.items()})
        one = np.array([t - 0.5], dtype)
        optimizer.step(scalar, {"p": one.reshape(()), "one": one, "none": scalar["none"]})
    for p in others.values():
        np.testing.assert_array_equal(p, plain)
    assert not whole[1::2].any()
    assert scalar["p"] == scalar["one"][0] != 2


@pytest.mark.parametrize(("kind", "options"), FULL)
def test_moments_are_saved_with_the_layer(
    kind: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    """Training continues from a file with the same bits; no other optimiser takes its state."""
    path = tmp_path / "training.npz"
    layer, optimizer = fr.GRU(3, 4, seed=0), kind(**options)
    for t in range(3):
        optimizer.step(layer, gradients_of(layer, seed=t))
    fr.save(path, {"gru": layer}, optimizer=optimizer)
    again = kind(**options)
    restored = fr.load(path, optimizer=again)["gru"]
    assert_equal(again.state_dict(restored), optimizer.state_dict(layer))
    for which, of in ((optimizer, layer), (again, restored)):
        which.step(of, gradients_of(layer, seed=3))
    assert_equal(restored.state_dict(), layer.state_dict())
    assert optimizer.state_dict(layer)["steps.bias_ih_l0"] == 4
    for other in set(ALL) - {kind}:
        with pytest.raises(
            ValueError, match=f"expected the state of {other.__name__}, found that of"
        ):
            fr.load(path, optimizer=other())


@pytest.mark.parametrize(("kind", "options"), FULL)
def test_a_deep_copy_goes_on_as_the_original(kind: Any, options: dict[str, Any]) -> None:
    layer, optimizer = fr.GRU(3, 4, seed=0), kind(**options)
    optimizer.step(layer, gradients_of(layer))
    other, twin = copy.deepcopy((layer, optimizer))
    gc.collect()
    assert type(twin) is kind
    assert repr(twin) == repr(optimizer)
    for which, of in ((optimizer, layer), (twin, other)):
        which.step(of, gradients_of(layer, seed=1))
    assert_equal(other.state_dict(), layer.state_dict())
    assert_equal(twin.state_dict(other), optimizer.state_dict(layer))
    twin.lr = 0.5
    assert optimizer.lr == options["lr"]
    name = kind.__name__
    with pytest.raises(TypeError, match=rf"{name}: .*optimizer={name.lower()}\) writes both"):
        copy.copy(optimizer)


def test_a_copy_of_ones_own_optimiser_is_of_its_class() -> None:
    class Counting(SGD):
        def __init__(self, label: str) -> None:
            super().__init__(0.1)
            self.label = [label]

    own = Counting("a")
    twin = copy.deepcopy(own)
    assert type(twin) is Counting
    assert twin.label == ["a"]
    assert twin.label is not own.label
    assert (
        repr(twin)
        == repr(own)
        == "Counting(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"
    )


def test_what_a_state_looks_like() -> None:
    names = {
        SGD: ("steps", "velocity"),
        AdamW: ("steps", "mean", "square"),
        RMSprop: ("steps", "square", "velocity"),
    }
    for kind, parts in names.items():
        layer, optimizer = nn.Dense(3, 2, seed=0), kind()
        fresh = optimizer.state_dict(layer)
        assert list(fresh) == [f"{part}.{of}" for of in ("weight", "bias") for part in parts]
        assert not any(a.any() for a in fresh.values())
        optimizer.step(layer, gradients_of(layer))
        state = optimizer.state_dict(layer)
        assert state["steps.bias"] == 1
        optimizer.load_state_dict(layer, fresh)
        assert_equal(optimizer.state_dict(layer), fresh)
        with pytest.raises(ValueError, match=r"nothing: missing 'steps\.weight'; .*unexpected 'x'"):
            optimizer.load_state_dict(layer, {"x": np.zeros(2)})
    negative = {**RMSprop().state_dict(layer), "velocity.bias": -np.ones(2, "f4")}
    RMSprop().load_state_dict(layer, negative)
    with pytest.raises(ValueError, match=r"square\.bias: expected no negative numbers"):
        RMSprop().load_state_dict(layer, {**negative, "square.bias": -np.ones(2, "f4")})


def test_momentum_that_is_turned_off_leaves_the_velocity() -> None:
    p, sgd = {"w": np.zeros(1)}, SGD(1.0, momentum=0.5)
    one = {"w": np.ones(1)}
    sgd.step(p, one)
    sgd.momentum = 0
    sgd.step(p, one)
    assert (p["w"], sgd.state_dict(p)["velocity.w"]) == (-2, 1)
    sgd.momentum = 0.5
    sgd.step(p, one)
    assert (p["w"], sgd.state_dict(p)["velocity.w"]) == (-3.5, 1.5)


@pytest.mark.parametrize(("kind", "options"), FULL)
def test_a_step_is_complete_or_has_no_effect(kind: Any, options: dict[str, Any]) -> None:
    layer, optimizer = nn.Dense(3, 2, seed=0), kind(**options)
    optimizer.step(layer, gradients_of(layer))
    before, moments = layer.state_dict(), optimizer.state_dict(layer)
    with pytest.raises(ValueError, match=r"grads\['bias'\]: expected shape \(2,\), got \(3,\)"):
        optimizer.step(layer, {**gradients_of(layer), "bias": np.zeros(3, "f4")})
    assert_equal(layer.state_dict(), before)
    assert_equal(optimizer.state_dict(layer), moments)
    with np.errstate(all="raise"):  # huge gradients are taken in silence
        optimizer.step(layer, {"bias": np.full(2, 1e30, "f4")})


WRONG: list[tuple[Any, str, object, type[Exception], str]] = [
    *((kind, "lr", -1, ValueError, "lr: expected a finite number of at least 0") for kind in ALL),
    *(
        (kind, "lr", [1], TypeError, r"lr: .*the parameters are given to step\(target, grads\)")
        for kind in ALL
    ),
    *(
        (kind, "weight_decay", value, ValueError, "weight_decay: expected a finite number of at")
        for kind in (SGD, AdamW, RMSprop)
        for value in (-0.1, math.inf, math.nan)
    ),
    *(
        (kind, "momentum", value, ValueError, r"momentum: expected a number in \[0, 1\), got")
        for kind in (SGD, RMSprop)
        for value in (-0.1, 1, math.nan)
    ),
    (SGD, "momentum", "x", TypeError, r"momentum: expected a number in \[0, 1\), got str"),
    (SGD, "nesterov", 1, TypeError, "nesterov: expected True or False, got int"),
    (SGD, "nesterov", True, ValueError, "nesterov: expected a momentum above 0"),
    (AdamW, "betas", (0.9, 1.0), ValueError, r"betas\[1\]: expected a number in \[0, 1\)"),
    (AdamW, "eps", 0, ValueError, "eps: expected a finite number above 0"),
    (RMSprop, "eps", 0, ValueError, "eps: expected a finite number above 0"),
    (RMSprop, "alpha", 1.0, ValueError, r"alpha: expected a number in \[0, 1\), got 1\.0"),
    (RMSprop, "alpha", True, TypeError, r"alpha: expected a number in \[0, 1\), got bool"),
]


@pytest.mark.parametrize(("kind", "name", "value", "error", "text"), WRONG)
def test_hyperparameters_are_checked(
    kind: Any, name: str, value: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        kind(**{name: value})
    optimizer = kind()
    before = repr(optimizer)
    with pytest.raises(error, match=text):
        setattr(optimizer, name, value)
    assert repr(optimizer) == before


def test_nesterov_keeps_its_momentum() -> None:
    sgd = SGD(momentum=0.9, nesterov=True)
    with pytest.raises(ValueError, match=r"nesterov: .* got momentum=0"):
        sgd.momentum = 0
    sgd.momentum = 0.5
    assert sgd.momentum == 0.5


@pytest.mark.parametrize(("kind", "options"), FULL)
def test_what_an_optimiser_says_can_be_evaluated(kind: Any, options: dict[str, Any]) -> None:
    text = repr(kind(**options))
    assert repr(eval(text, {kind.__name__: kind})) == text
    for name, value in options.items():
        assert f"{name}={value}" in text
        assert getattr(kind, name).__doc__


PROGRAM = """
import hashlib
import numpy as np
from fusedrnn import nn
rng, found = np.random.default_rng(0), hashlib.sha256()
logits, classes = rng.standard_normal((40, 50, 90), dtype=np.float32), rng.integers(0, 90, (40, 50))
weights, lengths = rng.random(90), rng.integers(1, 41, 50)
losses = [
    nn.softmax_cross_entropy(logits, classes, class_weights=weights, lengths=lengths),
    nn.binary_cross_entropy(logits, logits > 0, pos_weight=weights, lengths=lengths),
    nn.mae(logits, logits[::-1], lengths=lengths),
]
for loss in losses:
    found.update(np.float64(loss.value).tobytes() + loss.gradient.tobytes())
found.update(np.float64(nn.metrics.r2(logits, logits[::-1])).tobytes())
layer = nn.Dense(300, 200, seed=0)
for optimizer in (nn.SGD(0.1, momentum=0.9), nn.AdamW(), nn.RMSprop(momentum=0.5)):
    g = {k: rng.standard_normal(p.shape, dtype=np.float32) for k, p in layer.params.items()}
    nn.clip_value(g, max_value=2.0)
    optimizer.step(layer, g)
for p in layer.params.values():
    found.update(p.tobytes())
print(found.hexdigest())
"""


def test_no_bit_depends_on_the_number_of_threads() -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FUSEDRNN_NUM_THREADS")
    found = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **dict.fromkeys(names, threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert found[0] == found[1] != ""
