"""Adam and clipping: by hand, beside torch, and everything that could mix or lose their state."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn.nn import Adam, Dense, _checks, clip_global_norm

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gradients_of(layer: Any, seed: int = 0) -> dict[str, Array]:
    """Gradients with the names, shapes and dtypes of a layer."""
    return {
        name: numbers(*p.shape, seed=1000 * seed + k, dtype=p.dtype.name)
        for k, (name, p) in enumerate(layer.params.items())
    }


def assert_equal(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> None:
    assert list(ours) == list(theirs)
    for name, a in ours.items():
        np.testing.assert_array_equal(a, theirs[name], err_msg=name, strict=True)


class Model:
    """A model: layers under prefixes, and an array of its own."""

    def __init__(self, **layers: Any) -> None:
        self.layers = layers
        self.own = np.ones(2)

    def _names(self, params: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        return {f"{of}.{name}": a for of, ps in params.items() for name, a in ps.items()}

    @property
    def params(self) -> dict[str, Array]:
        return {
            **self._names({k: layer.params for k, layer in self.layers.items()}),
            "own": self.own,
        }

    @contextmanager
    def writable(self) -> Iterator[dict[str, Array]]:
        with ExitStack() as stack:
            opened = {k: stack.enter_context(v.writable()) for k, v in self.layers.items()}
            yield {**self._names(opened), "own": self.own}


class Wrapper:
    """Has `params` and `writable` of its layer, and nothing else."""

    def __init__(self, layer: Any) -> None:
        self.params, self.writable = layer.params, layer.writable


# --- the formula ----------------------------------------------------------------------------------


def test_adam_by_hand() -> None:
    p = {"a": np.array([1.0, -2.0]), "still": np.ones(1)}
    adam = Adam(0.1, betas=(0.8, 0.9), eps=1e-3)
    m = v = np.zeros(2)
    wanted = p["a"].copy()
    for t in range(1, 5):
        g = np.array([t, -0.5 * t])
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        wanted = wanted - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        adam.step(p, {"a": g})
    np.testing.assert_allclose(p["a"], wanted, rtol=1e-14)
    assert p["still"] == 1
    state = adam.state_dict(p)
    assert (state["steps.a"], state["steps.still"]) == (4, 0)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_adam_over_two_modules_is_torchs(dtype: str) -> None:
    """Two GRUs of equal names: one norm over both, one optimiser, some steps without the second."""
    torch = pytest.importorskip("torch")
    ours = [fr.GRU(3, 5, seed=seed, dtype=dtype) for seed in (0, 1)]
    modules = [torch.nn.GRU(3, 5, dtype=getattr(torch, dtype)) for _ in ours]
    for layer, module in zip(ours, modules, strict=True):
        module.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    theirs = [p for module in modules for p in module.parameters()]
    adam, rival = Adam(3e-3), torch.optim.Adam(theirs, lr=3e-3)
    for t in range(20):
        used = ours if t % 3 != 1 else ours[:1]
        given = [gradients_of(layer, seed=2 * t + k) for k, layer in enumerate(used)]
        rival.zero_grad(set_to_none=True)
        for module, gradients in zip(modules, given, strict=False):
            for name, g in gradients.items():
                getattr(module, name).grad = torch.from_numpy(g.copy())
        norm = clip_global_norm(*given, max_norm=2.0)
        expected = float(torch.nn.utils.clip_grad_norm_(theirs, 2.0))
        assert norm == pytest.approx(expected, rel=1e-6)
        for layer, gradients in zip(used, given, strict=True):
            adam.step(layer, gradients)
        rival.step()
    tolerance = 2e-7 if dtype == "float32" else 1e-15
    for layer, module in zip(ours, modules, strict=True):
        for name, p in layer.params.items():
            q = getattr(module, name).detach().numpy()
            np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)
    assert adam.state_dict(ours[0])["steps.bias_hh_l0"] == 20
    assert adam.state_dict(ours[1])["steps.bias_hh_l0"] == 13


def test_a_parameter_counts_its_own_steps() -> None:
    """Bias correction counts steps per parameter: a late first step also has the size of lr."""
    p, adam = {"early": np.zeros(1), "late": np.zeros(1)}, Adam(0.1)
    for _ in range(9):
        adam.step(p, {"early": np.ones(1)})
    adam.step(p, {"early": np.ones(1), "late": np.ones(1)})
    assert p["late"] == pytest.approx(-0.1, rel=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_any_layout_of_memory_gives_the_same_bits(dtype: str) -> None:
    plain, whole = numbers(4, 6, dtype=dtype), numbers(8, 6, seed=1, dtype=dtype)
    others = {
        "fortran": np.asfortranarray(plain),
        "view": whole[::2],
        "swapped": plain.astype(plain.dtype.newbyteorder()),
    }
    others["view"][...] = plain
    scalar = {"p": np.array(2.0, dtype), "one": np.array([2.0], dtype)}
    adam = Adam(0.01)
    for t in range(3):
        g = numbers(4, 6, seed=t + 2, dtype=dtype)
        adam.step({"w": plain}, {"w": g})
        adam.step(others, {name: g.astype(p.dtype) for name, p in others.items()})
        of_scalar = np.array(t - 0.5, dtype)
        adam.step(scalar, {"p": of_scalar, "one": of_scalar.reshape(1)})
    for p in others.values():
        np.testing.assert_array_equal(p, plain)
    np.testing.assert_array_equal(whole[1::2], numbers(8, 6, seed=1, dtype=dtype)[1::2])
    assert scalar["p"] == scalar["one"][0] != 2


# --- who owns the moments -------------------------------------------------------------------------


def test_equal_names_of_two_mappings_never_meet() -> None:
    """With moments by name, a step of a second mapping moved its "w" by 0.0053 instead of 0.1."""
    p1, p2, adam = np.zeros(1), np.zeros(1), Adam(0.1)
    adam.step({"w": p1}, {"w": np.array([1.0])})
    adam.step({"w": p2}, {"w": np.array([-1.0])})
    assert p1 == pytest.approx(-0.1, rel=1e-6)
    assert p2 == pytest.approx(0.1, rel=1e-6)


def test_two_layers_of_equal_names_never_share_moments() -> None:
    pair, alone = [fr.GRU(3, 4, seed=k) for k in (0, 1)], [fr.GRU(3, 4, seed=k) for k in (0, 1)]
    one, each = Adam(0.01), [Adam(0.01), Adam(0.01)]
    for t in range(4):
        for k in (0, 1):
            gradients = gradients_of(pair[k], seed=2 * t + k)
            one.step(pair[k], gradients)
            each[k].step(alone[k], gradients)
    for k in (0, 1):
        assert_equal(pair[k].state_dict(), alone[k].state_dict())
        assert_equal(one.state_dict(pair[k]), each[k].state_dict(alone[k]))


def test_every_way_to_a_layer_leads_to_one_state() -> None:
    """A layer, what writable() yields, a dict of it, and models with it all share one state."""
    layer, head = fr.GRU(3, 4, seed=0), Dense(4, 2, seed=1)
    expected, other = fr.GRU(3, 4, seed=0), Dense(4, 2, seed=1)
    adam, plain = Adam(0.01), Adam(0.01)

    def itself(g: dict[str, Array], h: dict[str, Array]) -> None:
        adam.step(layer, g)
        adam.step(head, h)

    def opened(g: dict[str, Array], h: dict[str, Array]) -> None:
        with layer.writable() as params:
            adam.step(params, g)
        with head.writable() as params:
            adam.step(params, h)

    def merged(g: dict[str, Array], h: dict[str, Array]) -> None:
        with layer.writable() as p, head.writable() as q:
            adam.step({**p, **q}, {**g, **h})

    def model(g: dict[str, Array], h: dict[str, Array]) -> None:
        adam.step(Model(a=layer, b=head), Model()._names({"a": g, "b": h}))

    def opened_model(g: dict[str, Array], h: dict[str, Array]) -> None:
        with Model(b=head, a=layer).writable() as params:
            adam.step(params, Model()._names({"a": g, "b": h}))

    def wrapped(g: dict[str, Array], h: dict[str, Array]) -> None:
        adam.step(Wrapper(layer), g)
        adam.step(Wrapper(head), h)

    ways = [itself, opened, merged, model, opened_model, wrapped, merged, itself]
    for t, way in enumerate(ways):
        g, h = gradients_of(layer, seed=2 * t), gradients_of(head, seed=2 * t + 1)
        way(g, h)
        plain.step(expected, g)
        plain.step(other, h)
        gc.collect()
        assert_equal(layer.state_dict(), expected.state_dict())
        assert_equal(head.state_dict(), other.state_dict())
        assert_equal(adam.state_dict(layer), plain.state_dict(expected))
        of_model = adam.state_dict(Model(b=head))
        assert (
            of_model["steps.b.bias"] == adam.state_dict(layer.params)["steps.bias_hh_l0"] == t + 1
        )
        assert_equal(
            {k.replace(".b.", "."): a for k, a in of_model.items() if not k.endswith(".own")},
            plain.state_dict(other),
        )


def test_what_is_of_no_layer_is_the_models() -> None:
    model, adam = Model(head=Dense(2, 1, seed=0)), Adam(0.1)
    for _ in range(3):
        adam.step(model, {"own": np.ones(2)})
    np.testing.assert_allclose(model.own, 0.7, rtol=1e-6)
    assert adam.state_dict(model)["steps.own"] == 3
    assert adam.state_dict(Model(head=model.layers["head"]))["steps.own"] == 0


def test_a_model_must_show_the_arrays_that_it_opens() -> None:
    """If `params` were copies, moments would be the layer's in one call, the model's in another."""

    class Copies(Model):
        @property
        def params(self) -> dict[str, Array]:
            return {name: p.copy() for name, p in super().params.items()}

    model, adam = Copies(head=Dense(2, 1, seed=0)), Adam(0.1)
    before = model.params
    with pytest.raises(
        ValueError, match=r"'head\.weight'\]: params has another array than the layer's"
    ):
        adam.step(model, gradients_of(model))
    assert_equal(model.params, before)


def test_a_part_of_a_layers_parameter_is_refused() -> None:
    layer, adam = Dense(3, 2, seed=0), Adam(0.1)
    before = layer.state_dict()
    with layer.writable() as p:
        for part in (p["weight"][:1], p["weight"].reshape(3, 2), p["weight"].T):
            with pytest.raises(
                ValueError, match=r"target\['w'\]: is a part or another shape of 'weight'"
            ):
                adam.step({"w": part}, {"w": np.ones_like(part)})
    assert_equal(layer.state_dict(), before)


def test_views_made_anew_for_each_step_share_the_moments() -> None:
    """The moments belong to the memory of a flat vector, not to the view that a step is given."""
    flat, whole = np.zeros(6), {"a": np.zeros((2, 2)), "b": np.zeros(2)}
    adam = Adam(0.1)
    for t in range(5):
        g = {"a": numbers(2, 2, seed=t), "b": numbers(2, seed=t + 9)}
        adam.step({"a": flat[:4].reshape(2, 2), "b": flat[4:]}, g)
        adam.step(whole, g)
        gc.collect()
    np.testing.assert_array_equal(flat, np.concatenate([whole["a"].ravel(), whole["b"]]))


def test_moments_go_with_their_layer() -> None:
    adam = Adam(0.1)
    layer = fr.GRU(3, 4, seed=0)
    adam.step(layer, gradients_of(layer))
    (moments,) = {
        id(m): m for m in adam._kept.of(layer).values() if m.mean.shape == (12, 3)
    }.values()
    watch = weakref.ref(moments)
    del moments
    gc.collect()
    assert watch() is not None
    del layer
    gc.collect()
    assert watch() is None
    assert not list(adam._kept.owners())
    assert not adam._kept._entries


def test_a_reused_id_is_no_layer_of_old() -> None:
    adam, seen, reused = Adam(0.1), set(), 0
    for _ in range(50):
        p = np.zeros(3)
        reused += id(p) in seen
        seen.add(id(p))
        assert adam.state_dict({"w": p})["steps.w"] == 0
        adam.step({"w": p}, {"w": np.ones(3)})
        np.testing.assert_allclose(p, -0.1, rtol=1e-6)
        del p
    assert reused  # otherwise nothing was shown
    # An owner whose id is used again before the weak reference reports that the owner is gone.
    kept: Any = adam._kept
    old, new = np.zeros(3), np.zeros(3)
    kept.put(old, "w", 1)
    kept._entries[id(new)] = kept._entries.pop(id(old))
    assert kept.of(new) == {}
    kept.put(new, "w", 2)
    del old
    gc.collect()
    assert kept.of(new) == {"w": 2}


def test_a_layer_keeps_its_arrays_in_a_step() -> None:
    """A layer copies arrays that somebody holds when a block begins or ends; a step holds none."""
    layer, model = fr.GRU(3, 4, seed=0), Model(gru=fr.GRU(3, 4, seed=0), head=Dense(4, 2, seed=0))
    adam = Adam(0.1)

    def places(target: Any) -> list[int]:
        return [p.__array_interface__["data"][0] for p in target.params.values()]

    for target in (layer, model):
        before = places(target)
        for t in range(3):
            adam.step(target, gradients_of(target, seed=t))
            assert places(target) == before


# --- a step changes all parameters or none --------------------------------------------------------


def wrong_gradients(g: dict[str, Array]) -> list[tuple[object, type[Exception], str]]:
    per_sample = np.zeros((5, *g["bias"].shape), g["bias"].dtype)
    return [
        (
            {**g, "b": g["bias"]},
            ValueError,
            r"grads\['b'\]: the target has no parameter of this name; it has weight, bias",
        ),
        (
            {**g, "bias": np.zeros(3, "f4")},
            ValueError,
            r"grads\['bias'\]: expected shape \(2,\), got \(3,\)$",
        ),
        (
            {**g, "bias": per_sample},
            ValueError,
            r"got \(5, 2\); sum or average per-sample gradients",
        ),
        (
            {**g, "bias": np.zeros(2)},
            TypeError,
            r"grads\['bias'\]: expected float32, as its parameter is, got float64",
        ),
        (
            {**g, "bias": np.zeros(2, int)},
            TypeError,
            r"grads\['bias'\]: expected an array of floating point, got ndarray int64",
        ),
        (
            {**g, "bias": [0.0, 0.0]},
            TypeError,
            r"grads\['bias'\]: expected an array of floating point, got list",
        ),
        (
            {**g, "bias": None},
            TypeError,
            r"got NoneType; leave out a parameter that has no gradient",
        ),
        (
            {**g, "bias": np.ma.zeros(2, "f4")},
            TypeError,
            r"grads\['bias'\]: expected .* got MaskedArray",
        ),
        ({"head": g}, TypeError, r"grads\['head'\]: .* got dict; pass each mapping by itself"),
        (
            list(g.values()),
            TypeError,
            r'grads: expected a mapping of names to arrays, got list; write {"name"',
        ),
        (
            (np.zeros(3), g),
            TypeError,
            r"got tuple; backward\(\) returns the gradients by name last",
        ),
        (
            g["bias"],
            TypeError,
            r"grads: expected a mapping of names to arrays, got ndarray float32 \(2,\); write",
        ),
        (
            nn.mse([0.5], [0.0]),
            TypeError,
            r"got a Loss; give loss\.gradient to the last layer's backward\(\)",
        ),
        (
            Dense(3, 2),
            TypeError,
            r"got Dense; pass the gradients by name that its backward\(\) returned",
        ),
        (None, TypeError, r"grads: expected a mapping of names to arrays, got NoneType$"),
    ]


@pytest.mark.parametrize("case", range(len(wrong_gradients(gradients_of(Dense(3, 2))))))
def test_a_refused_step_changes_nothing(case: int) -> None:
    layer, adam = Dense(3, 2, seed=0), Adam(0.1)
    g = gradients_of(layer)
    adam.step(layer, g)
    before, moments = layer.state_dict(), adam.state_dict(layer)
    y, saved = layer.forward(numbers(4, 3))
    wrong, kind, text = wrong_gradients(g)[case]
    with pytest.raises(kind, match=text):
        adam.step(layer, wrong)  # type: ignore[arg-type]
    assert_equal(layer.state_dict(), before)
    assert_equal(adam.state_dict(layer), moments)
    layer.backward(saved, y)  # the parameters were not opened, so this works


class Slots:
    __slots__ = ("params",)

    def __init__(self) -> None:
        self.params = {"w": np.zeros(2)}

    @contextmanager
    def writable(self) -> Iterator[dict[str, Array]]:
        yield self.params


def test_targets_that_are_none_are_refused() -> None:
    adam, g = Adam(0.1), {"w": np.ones(2)}
    shared = np.zeros(4)
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    targets: list[tuple[object, type[Exception], str]] = [
        ([np.zeros(2)], TypeError, "target: expected a layer or model .*, got list"),
        (
            np.zeros(2),
            TypeError,
            r"target: expected a layer or model .*, got ndarray float64 \(2,\)",
        ),
        (
            {"w": Dense(2, 2)},
            TypeError,
            r"target\['w'\]: expected an array, got Dense; step each layer",
        ),
        (
            {"w": [0.0, 0.0]},
            TypeError,
            r"target\['w'\]: expected an array of floating point, got list",
        ),
        ({"w": np.zeros(2, int)}, TypeError, r"target\['w'\]: expected .* got ndarray int64"),
        ({1: np.zeros(2)}, TypeError, "target: expected names of type str, got 1"),
        ({"w": frozen}, ValueError, r"target\['w'\]: is read-only; pass the layer itself"),
        (
            {"w": shared[:2], "v": shared[1:3]},
            ValueError,
            r"target\['w'\] and target\['v'\] share memory",
        ),
        (
            {"w": frozen.T, "v": frozen},
            ValueError,
            "share memory; pass each array once, and the sum",
        ),
        ({"w": np.frombuffer(bytearray(16))}, TypeError, r"target\['w'\]: belongs to a bytearray"),
        (Slots(), TypeError, r"target\['w'\]: belongs to a Slots, .* allows no weak references"),
        (Dense(2, 1).params, ValueError, "the target has no parameter of this name; it has weight"),
    ]
    for target, kind, text in targets:
        with pytest.raises(kind, match=text):
            adam.step(target, g)  # type: ignore[arg-type]
    layer = Dense(2, 1, seed=0)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="is read-only; pass the layer itself"):
        adam.step(layer.params, gradients_of(layer))
    with layer.writable() as kept:
        pass
    with pytest.raises((ValueError, RuntimeError)):
        adam.step(kept, gradients_of(layer))
    with layer.writable(), pytest.raises(RuntimeError, match="open"):
        adam.step(layer, {"weight": np.ones((1, 2), "f4")})
    assert_equal(layer.state_dict(), before)
    assert adam.state_dict(layer)["steps.weight"] == 0


def test_ctrl_c_waits_for_the_end_of_a_step() -> None:
    class Interrupted(Model):
        @contextmanager
        def writable(self) -> Iterator[dict[str, Array]]:
            signal.raise_signal(signal.SIGINT)
            with super().writable() as params:
                signal.raise_signal(signal.SIGINT)
                yield params
            signal.raise_signal(signal.SIGINT)

    model, adam = Interrupted(head=Dense(3, 2, seed=0)), Adam(0.1)
    expected, plain = Model(head=Dense(3, 2, seed=0)), Adam(0.1)
    g = gradients_of(model)
    plain.step(expected, g)
    with pytest.raises(KeyboardInterrupt):
        adam.step(model, g)
    assert_equal(model.params, expected.params)
    assert_equal(adam.state_dict(model), plain.state_dict(expected))


def test_what_fails_before_the_write_changes_nothing() -> None:
    """Opening fails with an error or Ctrl-C, or opens other arrays than those of params."""

    class Failing(Model):
        fault: Callable[[dict[str, Array]], dict[str, Array]]

        @contextmanager
        def writable(self) -> Iterator[dict[str, Array]]:
            with super().writable() as params:
                yield self.fault(params)

    def interrupted(_: dict[str, Array]) -> dict[str, Array]:
        raise KeyboardInterrupt

    model, adam = Failing(head=Dense(3, 2, seed=0)), Adam(0.1)
    g = gradients_of(model)
    before = {name: p.copy() for name, p in model.params.items()}
    faults: list[tuple[Any, type[BaseException], str]] = [
        (interrupted, KeyboardInterrupt, "^$"),
        (
            lambda p: {k: a for k, a in p.items() if k != "own"},
            ValueError,
            "writable.. gives has not",
        ),
        (
            lambda p: {**p, "own": np.ones(3)},
            ValueError,
            r"\['own'\]: params has float64 \(2,\), and writable\(\) gives ndarray",
        ),
        (lambda p: {**p, "own": p["own"].astype("f4")}, ValueError, r"writable\(\) gives"),
    ]
    for fault, kind, text in faults:
        model.fault = fault
        with pytest.raises(kind, match=text):
            adam.step(model, g)
        assert_equal(model.params, before)
        assert not any(adam.state_dict(model)[f"steps.{name}"] for name in before)


def test_gradients_of_any_size_are_taken_in_silence() -> None:
    """A warning would be an error here, and an error during the write would leave half a step."""
    for setting in ({}, {"all": "raise"}):
        with np.errstate(**setting):  # type: ignore[arg-type]
            p, adam = {"big": np.ones(2, "f4"), "small": np.ones(2), "nan": np.ones(2)}, Adam(0.1)
            adam.step(
                p,
                {
                    "big": np.full(2, 1e30, "f4"),
                    "small": np.full(2, 1e-200),
                    "nan": np.array([np.nan, 1.0]),
                },
            )
        np.testing.assert_array_equal(p["big"], 1)  # the square exceeds float32
        assert math.isnan(p["nan"][0])
        assert p["nan"][1] == pytest.approx(0.9)


def test_steps_of_several_threads_are_all_counted() -> None:
    """One thread steps, the others get the error that says so; first steps lose no moments."""
    for _ in range(10):
        layer, adam = Dense(3, 2, seed=0), Adam(0.1)
        g, start = gradients_of(layer), threading.Barrier(4)

        def work(layer: Any = layer, adam: Adam = adam, g: Any = g, start: Any = start) -> None:
            start.wait()
            done = 0
            while done < 5:
                with suppress(RuntimeError):
                    adam.step(layer, g)
                    done += 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected, plain = Dense(3, 2, seed=0), Adam(0.1)
        for _ in range(20):
            plain.step(expected, g)
        assert_equal(adam.state_dict(layer), plain.state_dict(expected))
        assert_equal(layer.state_dict(), expected.state_dict())


# --- hyperparameters ------------------------------------------------------------------------------

HYPERPARAMETERS: list[tuple[str, object, type[Exception], str]] = [
    ("lr", -1, ValueError, r"lr: expected a finite number of at least 0, got -1\.0"),
    ("lr", math.nan, ValueError, "lr: expected a finite number"),
    ("lr", math.inf, ValueError, "lr: expected a finite number"),
    ("lr", "x", TypeError, "lr: expected a finite number of at least 0, got str"),
    ("lr", True, TypeError, "lr: expected a finite number of at least 0, got bool"),
    ("lr", None, TypeError, "lr: .* got NoneType"),
    ("lr", np.zeros(1), TypeError, "lr: .* got ndarray"),
    ("betas", (1.5, 0.9), ValueError, r"betas\[0\]: expected a number in \[0, 1\), got 1\.5"),
    ("betas", (0.9, 1.0), ValueError, r"betas\[1\]: expected a number in \[0, 1\), got 1\.0"),
    ("betas", (0.9, -0.1), ValueError, r"betas\[1\]"),
    ("betas", (math.nan, 0.9), ValueError, r"betas\[0\]"),
    ("betas", (0.9, "x"), TypeError, r"betas\[1\]: .* got str"),
    ("betas", (True, 0.9), TypeError, r"betas\[0\]: .* got bool"),
    ("betas", 0.9, TypeError, r"betas: expected two numbers in \[0, 1\), got float"),
    ("betas", (0.9,), TypeError, r"betas: expected two numbers in \[0, 1\), got 1 items"),
    ("eps", 0, ValueError, r"eps: expected a finite number above 0, got 0\.0"),
    ("eps", -1e-8, ValueError, "eps: expected a finite number above 0"),
    ("eps", math.nan, ValueError, "eps: expected a finite number above 0"),
    ("eps", math.inf, ValueError, "eps: expected a finite number above 0"),
    ("eps", "x", TypeError, "eps: .* got str"),
    ("eps", False, TypeError, "eps: .* got bool"),
]


@pytest.mark.parametrize(("name", "value", "kind", "text"), HYPERPARAMETERS, ids=str)
def test_hyperparameters_are_checked(
    name: str, value: Any, kind: type[Exception], text: str
) -> None:
    """They are checked at construction and on assignment; a refused value changes nothing."""
    with pytest.raises(kind, match=text):
        Adam(**{name: value})
    adam = Adam(0.5, betas=(0.25, 0.5), eps=0.125)
    with pytest.raises(kind, match=text):
        setattr(adam, name, value)
    assert repr(adam) == "Adam(lr=0.5, betas=(0.25, 0.5), eps=0.125)"


def test_hyperparameters_become_plain_numbers() -> None:
    """A NumPy float64 would make float32 arithmetic round differently."""
    adam = Adam(np.float64(0.01), betas=[np.float32(0.5), 0], eps=np.float64(1e-8))  # type: ignore[arg-type]
    assert repr(adam) == "Adam(lr=0.01, betas=(0.5, 0.0), eps=1e-08)"
    assert {type(v) for v in (adam.lr, *adam.betas, adam.eps)} == {float}
    adam.lr = 0
    p = np.ones(2)
    adam.step({"w": p}, {"w": np.ones(2)})
    np.testing.assert_array_equal(p, 1)
    told = eval(repr(adam), {"Adam": Adam})
    assert repr(told) == repr(adam)


def test_checks_for_the_trainer() -> None:
    assert _checks.learning_rate(0, "lr") == 0
    assert _checks.positive(math.inf, "max_norm") == math.inf
    assert [_checks.share(v, "final_lr") for v in (0, 0.25, 1)] == [0, 0.25, 1]
    for value in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"final_lr: expected a number in \[0, 1\], got"):
            _checks.share(value, "final_lr")
    with pytest.raises(TypeError, match=r"final_lr: .* got str"):
        _checks.share("1", "final_lr")


def test_adam_takes_no_parameters() -> None:
    """The error for torch's Adam(model.parameters()) says where parameters are passed."""
    for habit in (Dense(3, 2).params, iter(()), Dense(3, 2)):
        with pytest.raises(
            TypeError, match=r"lr: .*; the parameters are given to step\(target, grads\)"
        ):
            Adam(habit)  # type: ignore[arg-type]


# --- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_loaded_state_goes_on_with_the_same_bits(dtype: str) -> None:
    def run(layer: Any, adam: Adam, steps: range) -> None:
        for t in steps:
            adam.step(layer, gradients_of(layer, seed=t))

    whole, adam = fr.LSTM(3, 4, seed=0, dtype=dtype), Adam(0.01)
    run(whole, adam, range(6))
    first = fr.LSTM(3, 4, seed=0, dtype=dtype)
    before = Adam(0.01)
    run(first, before, range(3))
    second, after = fr.LSTM(3, 4, dtype=dtype), Adam(0.01)
    second.load_state_dict(first.state_dict())
    state = before.state_dict(first)
    after.load_state_dict(second, state)
    for a in state.values():
        a[...] = 7  # these are copies
    run(second, after, range(3, 6))
    assert_equal(second.state_dict(), whole.state_dict())
    assert_equal(after.state_dict(second), adam.state_dict(whole))


def test_what_a_state_looks_like() -> None:
    layer, adam = Dense(3, 2, seed=0), Adam(0.1)
    g = gradients_of(layer)
    fresh = adam.state_dict(layer)
    assert list(fresh) == [
        *("steps.weight", "mean.weight", "square.weight"),
        *("steps.bias", "mean.bias", "square.bias"),
    ]
    assert not any(a.any() for a in fresh.values())
    adam.step(layer, {"bias": g["bias"]})
    state = adam.state_dict(layer)
    assert (state["steps.bias"], state["steps.weight"]) == (1, 0)
    assert (state["steps.bias"].dtype, state["steps.bias"].shape) == (np.int64, ())
    np.testing.assert_allclose(state["mean.bias"], 0.1 * g["bias"], rtol=1e-6)
    np.testing.assert_allclose(state["square.bias"], 0.001 * g["bias"] ** 2, rtol=1e-6)
    # Loading a state replaces the present one.
    adam.load_state_dict(layer, fresh)
    assert_equal(adam.state_dict(layer), fresh)


def test_a_state_that_does_not_fit_is_refused_and_listed() -> None:
    layer, adam = Dense(3, 2, seed=0), Adam(0.1)
    adam.step(layer, gradients_of(layer))
    state = adam.state_dict(layer)
    without = {k: a for k, a in state.items() if k != "mean.weight"}
    wrong: list[tuple[object, type[Exception], str]] = [
        (without, ValueError, r"load_state_dict changed nothing: missing 'mean\.weight'$"),
        ({}, ValueError, r"missing 'steps\.weight'; .*missing 'square\.bias'"),
        ({**state, "steps": np.array(3)}, ValueError, "unexpected 'steps'"),
        (
            {**state, "steps.bias": np.array(-1)},
            ValueError,
            r"steps\.bias: expected a whole number of at least 0, got -1",
        ),
        (
            {**state, "steps.bias": np.array(1.0)},
            ValueError,
            r"steps\.bias: expected a whole number",
        ),
        (
            {**state, "steps.bias": np.array(True)},
            ValueError,
            r"steps\.bias: expected a whole number",
        ),
        (
            {**state, "steps.bias": np.ones(2, int)},
            ValueError,
            r"steps\.bias: .* got ndarray int64 \(2,\)",
        ),
        (
            {**state, "mean.bias": np.zeros(3, "f4")},
            ValueError,
            r"mean\.bias: expected float32 \(2,\), got ndarray float32 \(3,\)",
        ),
        (
            {**state, "square.bias": np.zeros(2)},
            ValueError,
            r"square\.bias: expected float32 \(2,\), got ndarray float64",
        ),
        (
            {**state, "square.bias": [0.0, 0.0]},
            ValueError,
            r"square\.bias: expected float32 \(2,\), got list",
        ),
        (
            {**state, "square.bias": -state["square.bias"]},
            ValueError,
            r"square\.bias: expected no negative numbers",
        ),
        (
            {**without, "steps.bias": np.array(-1)},
            ValueError,
            r"missing 'mean\.weight'; steps\.bias: expected",
        ),
        (Adam(0.1).state_dict(Dense(4, 2)), ValueError, r"mean\.weight: expected float32 \(2, 3\)"),
        (
            list(state.values()),
            TypeError,
            r"state: expected what state_dict\(target\) returned, got list",
        ),
    ]
    for bad, kind, text in wrong:
        with pytest.raises(kind, match=text):
            adam.load_state_dict(layer, bad)  # type: ignore[arg-type]
        assert_equal(adam.state_dict(layer), state)


def test_a_parameter_that_was_replaced_is_told() -> None:
    model, adam = Model(), Adam(0.1)
    adam.step(model, {"own": np.ones(2)})
    model.own = np.zeros(3)
    for call in (lambda: adam.step(model, {"own": np.ones(3)}), lambda: adam.state_dict(model)):
        with pytest.raises(
            ValueError, match=r"target\['own'\]: is float64 \(3,\), and its moments are"
        ):
            call()


def test_a_deep_copy_of_model_and_optimiser_goes_on_as_both_would() -> None:
    class Owner:
        """Has its optimiser as an attribute, set before its layer."""

        def __init__(self) -> None:
            self.adam = Adam(0.01, betas=(0.5, 0.75), eps=1e-4)
            self.layer = fr.GRU(3, 4, seed=0)

    owner = Owner()
    layer, adam = owner.layer, owner.adam
    adam.step(layer, gradients_of(layer))
    first, second = copy.deepcopy((layer, adam)), copy.deepcopy([adam, layer])
    third = copy.deepcopy(owner)
    pairs = [first, (second[1], second[0]), (third.layer, third.adam), (layer, copy.deepcopy(adam))]
    gc.collect()
    after = gradients_of(layer, seed=1)
    # The last pair has the layer itself and a copy of its optimiser, so it must be compared last.
    moments = [twin.state_dict(other) for other, twin in pairs]
    adam_of_old = copy.deepcopy((layer, adam))
    adam_of_old[1].step(adam_of_old[0], after)
    for (other, twin), state in zip(pairs, moments, strict=True):
        assert_equal(state, adam.state_dict(layer))
        assert repr(twin) == repr(adam)
        twin.step(other, after)
        assert_equal(other.state_dict(), adam_of_old[0].state_dict())
        assert_equal(twin.state_dict(other), adam_of_old[1].state_dict(adam_of_old[0]))
    assert adam.state_dict(layer)["steps.bias_hh_l0"] == 1


def test_copies_that_would_lose_the_state_are_refused() -> None:
    adam, p = Adam(0.1), {"w": np.zeros(2)}
    for attempt in (lambda: pickle.dumps(adam), lambda: copy.copy(adam)):
        with pytest.raises(
            TypeError, match=r"fusedrnn\.save\(path, model, optimizer=adam\) writes both"
        ):
            attempt()
    adam.step(p, {"w": np.ones(2)})
    with pytest.raises(TypeError, match=r"copy them with state_dict\(target\)"):
        copy.deepcopy((p, adam))


# --- clipping -------------------------------------------------------------------------------------


def test_clipping() -> None:
    grads = {"a": np.full(9, 1e30, np.float32), "b": np.full(7, -1e30, np.float32)}
    assert clip_global_norm(grads, max_norm=1.0) == pytest.approx(4e30, rel=1e-6)
    assert clip_global_norm(grads, max_norm=1.0) == pytest.approx(1.0, rel=1e-5)
    before = grads["a"].copy()
    assert clip_global_norm(grads, max_norm=2.0) == pytest.approx(1.0, rel=1e-5)
    assert clip_global_norm(grads) == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_array_equal(grads["a"], before)
    grads["a"][0] = np.nan
    assert math.isnan(clip_global_norm(grads, max_norm=0.1))
    np.testing.assert_array_equal(grads["a"][1:], before[1:])


def test_two_layers_of_equal_names_are_clipped_together() -> None:
    """{**of_first, **of_second} loses the first gradients: their norm stayed 123."""
    layers = [fr.GRU(3, 5, seed=k) for k in (0, 1)]
    given = [gradients_of(layer, seed=k) for k, layer in enumerate(layers)]

    def norm(gradients: dict[str, Array]) -> float:
        return math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in gradients.values()))

    for gradients, wanted in zip(given, (123.0, 45.0), strict=True):
        factor = wanted / norm(gradients)
        for g in gradients.values():
            g *= factor
    before = [{name: g.copy() for name, g in gradients.items()} for gradients in given]
    joint = math.hypot(123.0, 45.0)
    assert clip_global_norm(*given, max_norm=1.0) == pytest.approx(joint, rel=1e-6)
    assert math.hypot(*map(norm, given)) == pytest.approx(1.0, rel=1e-5)
    for old, new in zip(before, given, strict=True):
        for name in new:
            np.testing.assert_allclose(new[name], old[name] / joint, rtol=1e-5)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_norms_past_the_squares_of_float64(size: float) -> None:
    given = [{"a": np.full(9, size), "none": np.zeros((0, 3))}, {"a": np.full(7, -size)}]
    assert clip_global_norm(*given, max_norm=1.0) == pytest.approx(4 * size, rel=1e-12)
    if size > 1:
        assert clip_global_norm(*given, max_norm=1.0) == pytest.approx(1.0, rel=1e-9)


def test_norms_that_are_not_finite_scale_nothing() -> None:
    with np.errstate(all="raise"):
        for value in (math.inf, -math.inf, math.nan):
            for where in (0, 1):
                given = [{"a": np.ones(2)}, {"a": np.array([2e300, 1.0])}]
                given[where]["a"][1] = value
                norm = clip_global_norm(*given, max_norm=0.1)
                assert not math.isfinite(norm)
                assert math.isnan(norm) == math.isnan(value)
                assert (given[0]["a"][0], given[1]["a"][0]) == (1.0, 2e300)
    assert clip_global_norm({}, max_norm=1.0) == 0.0
    assert clip_global_norm({"a": np.zeros(3)}, max_norm=1.0) == 0.0
    assert clip_global_norm({"a": np.full(4, 2.0)}, max_norm=math.inf) == 4.0


def clips() -> list[tuple[tuple[object, ...], dict[str, object], type[Exception], str]]:
    g = {"w": np.full(4, 2.0)}
    frozen = {"w": np.full(4, 2.0)}
    frozen["w"].flags.writeable = False
    flat = np.full(6, 2.0)
    of_names = r"expected a mapping of names to arrays, got "
    return [
        ((g, 1.0), {}, TypeError, rf"gradients\[1\]: {of_names}1\.0; write max_norm=1\.0"),
        (
            (g, np.float32(0.5)),
            {},
            TypeError,
            rf"gradients\[1\]: {of_names}0\.5; write max_norm=0\.5",
        ),
        ((), {}, TypeError, "clip_global_norm: expected at least one mapping"),
        (([g, g],), {}, TypeError, rf"gradients\[0\]: {of_names}list; pass the mappings one after"),
        (([np.ones(3)],), {}, TypeError, rf'gradients\[0\]: {of_names}list; write {{"name": array'),
        (
            (g, np.ones(3)),
            {},
            TypeError,
            rf'gradients\[1\]: {of_names}ndarray .*; write {{"name": array}}',
        ),
        (
            (nn.mse([0.5], [0.0]),),
            {},
            TypeError,
            rf"gradients\[0\]: {of_names}a Loss; give loss\.gradient",
        ),
        (
            ((np.ones(3), g),),
            {},
            TypeError,
            "returns the gradients by name last: pass that part alone",
        ),
        ((Dense(3, 2),), {}, TypeError, rf"{of_names}Dense; pass the gradients by name"),
        (
            ({"gru": g},),
            {},
            TypeError,
            r"gradients\[0\]\['gru'\]: .* got dict; pass each mapping by itself",
        ),
        ((g, {"w": None}), {}, TypeError, r"gradients\[1\]\['w'\]: .* got NoneType; leave out"),
        (
            (g, {"w": np.ones(3, int)}),
            {},
            TypeError,
            r"gradients\[1\]\['w'\]: expected an array of floating",
        ),
        ((g, g), {}, ValueError, r"gradients\[0\]\['w'\] and gradients\[1\]\['w'\] share memory"),
        (
            (g, {"v": g["w"][1:2]}),
            {},
            ValueError,
            r"gradients\[0\]\['w'\] and gradients\[1\]\['v'\] share",
        ),
        (
            ({"a": flat[:4], "b": flat[3:]}, g),
            {},
            ValueError,
            r"\['a'\] and gradients\[0\]\['b'\] share",
        ),
        (
            (g, frozen),
            {},
            ValueError,
            r"gradients\[1\]\['w'\]: is read-only, and clipping scales in place",
        ),
        ((g,), {"max_norm": 0.0}, ValueError, r"max_norm: expected a number above 0, got 0\.0"),
        ((g,), {"max_norm": -1}, ValueError, "max_norm: expected a number above 0"),
        ((g,), {"max_norm": math.nan}, ValueError, "max_norm: expected a number above 0"),
        ((g,), {"max_norm": "1"}, TypeError, "max_norm: expected a number above 0, got str"),
        ((g,), {"max_norm": True}, TypeError, "max_norm: expected a number above 0, got bool"),
    ]


@pytest.mark.parametrize("case", range(len(clips())))
def test_clipping_refuses_before_anything_is_scaled(case: int) -> None:
    given, options, kind, text = clips()[case]
    with pytest.raises(kind, match=text):
        clip_global_norm(*given, **options)  # type: ignore[arg-type]
    for mapping in given:
        if isinstance(mapping, dict) and isinstance(mapping.get("w"), np.ndarray):
            assert mapping["w"].max() in (1, 2)


def test_parts_of_one_vector_are_clipped_once_each() -> None:
    flat = np.full(16, 2.0)
    assert clip_global_norm({"a": flat[:4]}, {"a": flat[4:].reshape(3, 4)}, max_norm=1.0) == 8.0
    np.testing.assert_allclose(flat, 0.25, rtol=1e-6)


def test_columns_of_one_matrix_share_no_memory() -> None:
    matrix = np.full((4, 4), 2.0)
    columns = [{"w": matrix[:, k]} for k in range(3)] + [{"w": matrix[::-1, 3]}]
    assert clip_global_norm(*columns, max_norm=1.0) == 8.0
    np.testing.assert_allclose(matrix, 0.25, rtol=1e-6)
    with pytest.raises(ValueError, match="share memory"):
        clip_global_norm(*columns, {"w": matrix[2, ::-2]}, max_norm=1.0)
