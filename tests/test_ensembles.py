"""Several sets of weights in one call, `core.forward_ensemble` and `core.backward_ensemble`.

Nothing private of the package is imported here. The oracle of every number is a call of each member
alone, with which an ensemble must agree bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import THREADS, Chosen
from fusedrnn import core

Array = np.ndarray[Any, np.dtype[Any]]

MEMBERS, STEPS, BATCH, INPUTS, HIDDEN = 5, 7, 6, 3, 9
ROWS = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn_tanh": 1, "lstm_norm": 4, "lstm_proj": 4}


def normal(*shape: int, seed: int = 1, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")


def weights_of(kind: str, seed: int) -> dict[str, Array]:
    rows, out = ROWS[kind] * HIDDEN, 4 if kind == "lstm_proj" else HIDDEN
    shapes: dict[str, tuple[int, ...]] = {
        "w_ih": (rows, INPUTS),
        "w_hh": (rows, out),
        "b_ih": (rows,),
    }
    if kind == "lstm_norm":
        shapes |= {"norm_ih": (rows,), "norm_hh": (rows,), "norm_c": (HIDDEN,)}
    if kind == "lstm_proj":
        shapes["w_hr"] = (out, HIDDEN)
    return {
        name: normal(*shape, seed=100 * seed + k, scale=0.4)
        for k, (name, shape) in enumerate(shapes.items())
    }


def ensemble(kind: str, directions: int = 1, members: int = MEMBERS) -> list[core.Packed]:
    cell = "lstm" if kind == "lstm_proj" else kind
    return [
        core.pack(cell, [weights_of(kind, 2 * e + d) for d in range(directions)])
        for e in range(members)
    ]


@dataclass
class Call:
    """The arguments of a call: what all members share, and what each has for itself."""

    kind: str = "lstm"
    directions: int = 1
    shared: dict[str, Any] = field(default_factory=dict)
    each: dict[str, Any] = field(default_factory=dict)
    walk: dict[str, Any] = field(default_factory=dict)  # lengths, mask, reset
    group: int | None = None

    def alone(self, e: int) -> dict[str, Any]:
        """What the call of member e alone is given."""

        def part(value: Any) -> Any:
            return [a[e] for a in value] if isinstance(value, list) else value[e]

        return self.shared | {name: part(value) for name, value in self.each.items()}


def states(*first: int, seed: int = 3, out: int = HIDDEN) -> list[Array]:
    return [normal(*first, out, seed=seed), normal(*first, HIDDEN, seed=seed + 1)]


TOKENS = np.random.default_rng(0).integers(0, INPUTS, (MEMBERS, STEPS, BATCH))
MASK = np.random.default_rng(1).random((STEPS, BATCH)) < 0.6
RESET = np.random.default_rng(2).random((STEPS, BATCH)) < 0.3
LENGTHS = np.array([7, 3, 0, 5, 1, 7])
X, OWN_X = normal(STEPS, BATCH, INPUTS), normal(MEMBERS, STEPS, BATCH, INPUTS)
FLAGS = (np.random.default_rng(4).random((1, STEPS, BATCH, HIDDEN)) < 0.5).astype("float32")
CALLS = {
    "shared x": Call(shared={"x": X}),
    "x of each": Call("gru", each={"x": OWN_X}),
    "both directions, lengths": Call("lstm", 2, {"x": X}, walk={"lengths": LENGTHS}),
    "reset before, mask": Call("gru_reset_before", 1, {"x": X}, walk={"mask": MASK}),
    "tokens of each": Call("rnn_tanh", each={"tokens": TOKENS}),
    "shared tokens, groups": Call("lstm", shared={"tokens": TOKENS[0]}, group=2),
    "layer normalisation": Call("lstm_norm", shared={"x": X}, walk={"lengths": LENGTHS}),
    "projection, states of each": Call(
        "lstm_proj", 1, {"x": X}, {"states": states(MEMBERS, 1, BATCH, out=4)}
    ),
    "resets": Call(
        "lstm",
        2,
        {"x": X, "states": states(2, BATCH)},
        {"initial": states(MEMBERS, 2, BATCH, seed=7)},
        {"reset": RESET},
        group=3,
    ),
    "noise": Call(
        "lstm",
        shared={"x": X, "zoneout": (0.3, 0.2), "keep": [FLAGS, 1 - FLAGS]},
        each={"drop": normal(MEMBERS, 1, BATCH, HIDDEN)},
    ),
}


def forward_of(packs: list[core.Packed], call: Call, **options: Any) -> core.Forward:
    return core.forward_ensemble(packs, **call.shared, **call.each, **call.walk, **options)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("name", CALLS)
def test_each_member_has_the_bits_of_its_own_call(backend: Chosen, name: str, threads: int) -> None:
    """[O6] Forward and backward, whether threads divide the members or work on one at a time."""
    call = CALLS[name]
    packs = ensemble(call.kind, call.directions)
    found = forward_of(packs, call, saved=True, threads=threads)
    dy, dstates = normal(*found.y.shape), [normal(*part.shape) for part in found.states]
    g = core.backward_ensemble(
        packs,
        found.plan,
        **call.shared,
        **call.each,
        y=found.y,
        saved=found.saved,
        dy=dy,
        dstates=dstates,
        group=call.group,
        threads=threads,
    )
    dx = []
    for e, packed in enumerate(packs):
        given = call.alone(e)
        alone = core.forward(packed, **given, **call.walk, saved=True)
        np.testing.assert_array_equal(found.y[e], alone.y)
        for ours, theirs in zip(found.states, alone.states, strict=True):
            np.testing.assert_array_equal(ours[e], theirs)
        right = core.backward(
            packed,
            alone.plan,
            **given,
            y=alone.y,
            saved=alone.saved,
            dy=dy[e],
            dstates=[part[e] for part in dstates],
            group=call.group,
        )
        for ours, theirs in zip(g.dweights, right.dweights, strict=True):
            assert ours.keys() == theirs.keys()
            for weight, a in theirs.items():
                np.testing.assert_array_equal(ours[weight][e], a, weight)
        for kind in ("dstates", "dinitial"):
            ours, theirs = getattr(g, kind), getattr(right, kind)
            assert (ours is None) == (theirs is None)
            for a, b in zip(ours or (), theirs or (), strict=True):
                np.testing.assert_array_equal(a[e], b, kind)
        dx.append(right.dx)
    if dx[0] is None:
        assert g.dx is None
    elif "x" in call.each:
        np.testing.assert_array_equal(g.dx, np.stack(dx))
    else:
        total = dx[0]
        for one in dx[1:]:
            total = total + one
        np.testing.assert_array_equal(g.dx, total)


@pytest.mark.skipif(not fr.supported_isas(), reason="needs the compiled kernels")
def test_threads_divide_the_members() -> None:
    """One call of the kernels, whatever the number of members."""
    packs = ensemble("lstm", members=8)
    x = normal(200, 6, INPUTS)
    for threads, used in ((1, 1), (2, 2), (4, 4)):
        before = sum(core.path_counts().values())
        core.forward_ensemble(packs, x, threads=threads)
        assert core.last_path().threads == (used if THREADS else 1)
        assert core.last_path().backend == "native"
        assert sum(core.path_counts().values()) == before + 1


def test_a_member_of_many_partial_sums(native: Chosen) -> None:
    """[O6] A backward call of several blocks of steps."""
    packs, x = ensemble("gru"), normal(200, BATCH, INPUTS)
    y, _, saved, plan = core.forward_ensemble(packs, x, saved=True)
    assert saved is not None
    dy = normal(*y.shape)
    g = core.backward_ensemble(packs, plan, x, y=y, saved=saved, dy=dy, threads=2)
    for e, packed in enumerate(packs):
        own = plan._replace(generation=packed.generation)
        right = core.backward(packed, own, x, y=y[e], saved=saved[e], dy=dy[e])
        for name, a in right.dweights[0].items():
            np.testing.assert_array_equal(g.dweights[0][name][e], a, name)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "lstm_norm"])
def test_results_go_to_the_arrays_of_the_caller(backend: Chosen, cell: str, threads: int) -> None:
    """Each has a first axis of members; dx of a shared x is then not summed."""
    packs = ensemble(cell, 2)
    right = core.forward_ensemble(packs, X, lengths=LENGTHS, saved=True)
    assert right.saved is not None
    # The batch is the first axis of a member's y.
    y = normal(MEMBERS, BATCH, STEPS, 2 * HIDDEN).swapaxes(1, 2)
    final = tuple(normal(*part.shape) for part in right.states)
    saved = normal(*right.saved.shape)
    found = core.forward_ensemble(
        packs, X, lengths=LENGTHS, y=y, final=final, saved=saved, threads=threads
    )
    assert found.y is y
    assert found.saved is saved
    assert all(a is b for a, b in zip(found.states, final, strict=True))
    np.testing.assert_array_equal(y, right.y)
    for a, b in zip(final, right.states, strict=True):
        np.testing.assert_array_equal(a, b)

    dy = normal(*y.shape)
    whole = core.backward_ensemble(packs, right.plan, X, y=right.y, saved=right.saved, dy=dy)
    dx, dfirst = normal(MEMBERS, STEPS, BATCH, INPUTS), tuple(normal(*a.shape) for a in final)
    some = [{"w_hh": normal(*of["w_hh"].shape)} for of in whole.dweights]
    g = core.backward_ensemble(
        packs,
        found.plan,
        X,
        y=y,
        saved=saved,
        dy=dy,
        dx=dx,
        dfirst=dfirst,
        dweights=some,
        threads=threads,
    )
    assert g.dx is dx
    np.testing.assert_array_equal(sum(dx[1:], start=dx[0].copy()), whole.dx)
    for e, packed in enumerate(packs):
        own = found.plan._replace(generation=packed.generation)
        alone = core.backward(packed, own, X, y=y[e], saved=saved[e], dy=dy[e])
        np.testing.assert_array_equal(dx[e], alone.dx)
    assert whole.dstates is not None
    for a, b in zip(dfirst, whole.dstates, strict=True):
        np.testing.assert_array_equal(a, b)
    for target, ours, theirs in zip(some, g.dweights, whole.dweights, strict=True):
        assert ours["w_hh"] is target["w_hh"]
        assert ours.keys() == theirs.keys()
        for name, a in theirs.items():
            np.testing.assert_array_equal(ours[name], a, name)


def test_an_output_that_another_member_reads_is_refused(backend: Chosen) -> None:
    """Not only the arrays of one member must be apart."""
    packs = ensemble("rnn_tanh")
    memory = normal(MEMBERS + 1, STEPS, BATCH, HIDDEN)
    before = memory.copy()
    h0, y = memory[1:, 0:1], memory[:-1]  # y of each member and the first h of the one before
    with pytest.raises(ValueError, match=r"^y: shares memory with another array of the call"):
        core.forward_ensemble(packs, X, states=(h0,), y=y)
    np.testing.assert_array_equal(memory, before)

    memory = normal(MEMBERS + 1, STEPS, BATCH, INPUTS)
    before, x, dx = memory.copy(), memory[1:], memory[:-1]
    y, _, saved, plan = core.forward_ensemble(packs, x, saved=True)
    assert saved is not None
    with pytest.raises(ValueError, match=r"^dx: shares memory with another array of the call"):
        core.backward_ensemble(packs, plan, x, y=y, saved=saved, dy=y, dx=dx)
    np.testing.assert_array_equal(memory, before)


def test_only_what_is_wanted_is_computed(backend: Chosen) -> None:
    packs = ensemble("gru")
    y, _, saved, plan = core.forward_ensemble(packs, X, saved=True)
    g = core.backward_ensemble(
        packs, plan, X, y=y, saved=saved, dy=normal(*y.shape), want=("w_hh",)
    )
    assert [g.dx, g.dstates, g.dinitial] == [None, None, None]
    assert list(g.dweights[0]) == ["w_hh"]
    assert g.dweights[0]["w_hh"].shape == (MEMBERS, 3 * HIDDEN, HIDDEN)


def test_no_steps_and_no_rows(backend: Chosen) -> None:
    packs = ensemble("gru")
    for steps, batch in ((0, 4), (3, 0)):
        x = np.empty((steps, batch, INPUTS), np.float32)
        y, (h,), saved, plan = core.forward_ensemble(packs, x, saved=True)
        assert y.shape == (MEMBERS, steps, batch, HIDDEN)
        np.testing.assert_array_equal(h, 0)
        g = core.backward_ensemble(packs, plan, x, y=y, saved=saved)
        np.testing.assert_array_equal(g.dweights[0]["w_ih"], 0)


def test_weights_that_changed_are_refused(backend: Chosen) -> None:
    packs = ensemble("gru")
    y, _, saved, plan = core.forward_ensemble(packs, X, saved=True)
    packs[3].update(weights_of("gru", 77))
    with pytest.raises(RuntimeError, match=r"^plan: the forward call had other weights"):
        core.backward_ensemble(packs, plan, X, y=y, saved=saved)
    with pytest.raises(RuntimeError, match=r"^plan: the forward call had other weights"):
        core.backward(packs[0], plan, X, y=y[0], saved=saved[0])


def backward_of_tokens(packs: list[core.Packed]) -> None:
    y, _, saved, plan = core.forward_ensemble(packs, tokens=TOKENS, saved=True)
    assert saved is not None
    core.backward_ensemble(packs, plan, tokens=TOKENS, y=y, saved=saved, dx=OWN_X)


WRONG: dict[str, tuple[Any, str]] = {
    "no sequence": (lambda p: core.forward_ensemble(p[0], X), "packs: expected a sequence of"),
    "nothing": (lambda p: core.forward_ensemble([], X), "packs: expected a sequence of packed"),
    "no pack": (lambda p: core.forward_ensemble([p[0], 3], X), r"packs\[1\]: expected packed"),
    "another cell": (
        lambda p: core.forward_ensemble([p[0], *ensemble("lstm")], X),
        r"packs\[1\]: expected the cell of the first member, gru; got lstm",
    ),
    "other names": (
        lambda p: core.forward_ensemble(
            [p[0], core.pack("gru", {k: weights_of("gru", 0)[k] for k in ("w_ih", "w_hh")})], X
        ),
        r"packs\[1\]: expected weights as those of the first",
    ),
    "two of five": (
        lambda p: core.forward_ensemble(p, OWN_X[:2]),
        r"x: expected a first axis of 5, the members, got \(2, 7, 6, 3\)",
    ),
    "other inputs": (
        lambda p: core.forward_ensemble(p, OWN_X[..., :2]),
        r"x: expected shape \(T, B, 3\), got \(7, 6, 2\)",
    ),
    "a state too many": (
        lambda p: core.forward_ensemble(p, X, states=states(MEMBERS, 1, BATCH)),
        "states: expected a sequence of 1 array",
    ),
    "saved": (lambda p: core.forward_ensemble(p, X, saved=np.empty(3)), "saved: expected"),
    "saved for one": (
        lambda p: core.forward_ensemble(
            p, X, saved=np.empty(core.saved_shape(p[0], STEPS, BATCH), np.float32)
        ),
        r"saved: expected shape \(5, ",
    ),
    "dx of tokens": (backward_of_tokens, "dx: tokens have no gradient"),
    "dx of tokens, one pack": (
        lambda p: core.backward(
            p[0],
            core.plan_of(p[0], STEPS, BATCH),
            tokens=TOKENS[0],
            y=normal(STEPS, BATCH, HIDDEN),
            saved=np.empty(core.saved_shape(p[0], STEPS, BATCH), np.float32),
            dx=normal(STEPS, BATCH, INPUTS),
        ),
        "dx: tokens have no gradient",
    ),
    "y of one": (
        lambda p: core.forward_ensemble(p, X, y=normal(STEPS, BATCH, HIDDEN)),
        r"y: expected shape \(5, 7, 6, 9\), got \(7, 6, 9\)",
    ),
    "last states of one": (
        lambda p: core.forward_ensemble(p, X, final=(normal(1, BATCH, HIDDEN),)),
        r"final\[0\]: expected shape \(5, 1, 6, 9\), got \(1, 6, 9\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(backend: Chosen, name: str) -> None:
    wrong, text = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=f"^{text}"):
        wrong(ensemble("gru"))
