"""The public API `fusedrnn.core`; nothing private is imported here."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import core

Array = np.ndarray[Any, np.dtype[Any]]

BACKENDS = ["reference", *(["native"] if fr.supported_isas() else [])]
ROWS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "gru_reset_before": 3, "lstm_peephole": 4}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with fr.use_backend(request.param):
        yield request.param


def weights_of(
    cell: str, inputs: int, hidden: int, seed: int = 0, dtype: type = np.float32
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    rows = ROWS[cell] * hidden
    shapes = {"w_ih": (rows, inputs), "w_hh": (rows, hidden), "b_ih": (rows,), "b_hh": (rows,)}
    if cell == "lstm_peephole":
        shapes["p"] = (3, hidden)
    return {name: rng.normal(0, 0.3, shape).astype(dtype) for name, shape in shapes.items()}


def normal(shape: tuple[int, ...], seed: int = 1, dtype: type = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b)


# --- a training step, as an adapter would write it ------------------------------------------------


def test_a_training_step_with_the_callers_buffers(backend: str) -> None:
    """Both directions, lengths, the caller's arrays for every output, gradients added twice."""
    steps, batch, inputs, hidden = 6, 4, 3, 5
    pair = [weights_of("lstm", inputs, hidden, seed) for seed in (0, 1)]
    packed = core.pack("lstm", pair)
    # Batch-major data, passed as views.
    x, y = normal((batch, steps, inputs)), np.full((batch, steps, 2 * hidden), 7, np.float32)
    states = [normal((2, batch, hidden), seed) for seed in (2, 3)]
    final = [np.empty((2, batch, hidden), np.float32) for _ in range(2)]
    saved = np.empty(core.saved_shape(packed, steps, batch), np.float32)
    lengths = np.array([6, 0, 2, 5])
    out = core.forward(
        packed,
        x.swapaxes(0, 1),
        states=states,
        lengths=lengths,
        y=y.swapaxes(0, 1),
        final=final,
        saved=saved,
    )
    assert out.saved is not None
    assert np.shares_memory(out.y, y)
    assert np.shares_memory(out.saved, saved)
    assert all(a is b for a, b in zip(out.states, final, strict=True))
    assert core.last_path().backend == backend

    # A layer, which allocates its own arrays, computes the same.
    layer = fr.LSTM(inputs, hidden, bidirectional=True)
    names = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0"}
    names["b_hh"] = "bias_hh_l0"
    for of, end in zip(pair, ("", "_reverse"), strict=True):
        for name, array in of.items():
            layer.params[names[name] + end] = array
    ly, lstate, lsaved = layer.forward(x.swapaxes(0, 1), tuple(states), lengths=lengths)
    same(ly, y.swapaxes(0, 1))
    for mine, theirs in zip(lstate, final, strict=True):
        same(mine, theirs)

    dy, dstates = normal((steps, batch, 2 * hidden), 4), [normal((2, batch, hidden), 5), None]
    ldx, ldstate, ldparams = layer.backward(lsaved, dy, (dstates[0], None))
    old = [{name: normal(a.shape, 6) for name, a in of.items()} for of in pair]
    into = [{name: a.copy() for name, a in of.items()} for of in old]
    dx = np.empty((batch, steps, inputs), np.float32).swapaxes(0, 1)
    dfirst = [np.empty((2, batch, hidden), np.float32) for _ in range(2)]
    arguments: dict[str, Any] = {"y": out.y, "saved": saved, "states": states}
    for _ in range(2):  # backward needs only arrays, and may run twice
        g = core.backward(
            packed,
            out.plan,
            x.swapaxes(0, 1),
            **arguments,
            dy=dy,
            dstates=dstates,
            dx=dx,
            dfirst=dfirst,
            dweights=into,
            add=True,
        )
    same(dx, ldx)
    assert g.dstates is not None
    for mine, theirs in zip(g.dstates, ldstate, strict=True):
        same(mine, theirs)
    for d, end in enumerate(("", "_reverse")):
        for name, array in into[d].items():
            assert g.dweights[d][name] is array
            gradient = ldparams[names[name] + end]
            same(array, (old[d][name] + gradient) + gradient)


@pytest.mark.parametrize("lengths", [None, [2], [0]], ids=["whole", "short", "empty"])
@pytest.mark.parametrize("cell", ROWS)
def test_nothing_of_the_callers_gradients_is_read(
    backend: str, cell: str, lengths: list[int] | None
) -> None:
    """Three partial sums, of which the padding may leave two or none, and two threads."""
    steps, batch = 3, 300
    packed, x = core.pack(cell, weights_of(cell, 18, 40)), normal((steps, batch, 18))
    out = core.forward(
        packed, x, saved=True, lengths=None if lengths is None else np.array(lengths * batch)
    )
    given: dict[str, Any] = {"y": out.y, "saved": out.saved, "dy": normal(out.y.shape)}
    right = core.backward(packed, out.plan, x, **given).dweights[0]
    brought = {name: np.full_like(a, np.nan) for name, a in right.items()}
    core.backward(packed, out.plan, x, **given, dweights=brought, threads=2)
    for name, a in right.items():
        same(brought[name], a)
        assert np.any(a != 0) == (lengths != [0])


def test_a_frozen_matrix_and_tokens(backend: str) -> None:
    packed = core.pack("gru", weights_of("gru", 7, 5))
    tokens = np.array([[0, 6], [3, 3], [6, 1]])
    one_hot = np.eye(7, dtype=np.float32)[tokens]
    out = core.forward(packed, tokens=tokens, saved=True)
    dense = core.forward(packed, one_hot, saved=True)
    if backend == "native":
        same(out.y, dense.y)
    np.testing.assert_allclose(out.y, dense.y, atol=1e-6)
    assert out.saved is not None
    dy = normal(out.y.shape)
    kept: dict[str, Any] = {"y": out.y, "saved": out.saved, "tokens": tokens, "dy": dy}
    g = core.backward(packed, out.plan, **kept)
    frozen = core.backward(packed, out.plan, **kept, want=("w_ih", "b_ih", "b_hh"))
    assert g.dx is frozen.dx is frozen.dstates is None
    assert set(frozen.dweights[0]) == {"w_ih", "b_ih", "b_hh"}
    for name, gradient in frozen.dweights[0].items():
        same(gradient, g.dweights[0][name])


@pytest.mark.parametrize("want", [("x",), ("states",), ("w_hh",), ("b_ih",), (), ("x", "w_ih")])
@pytest.mark.parametrize("cell", ROWS)
def test_what_is_wanted_has_the_bits_of_the_whole(
    backend: str, cell: str, want: tuple[str, ...]
) -> None:
    packed = core.pack(cell, weights_of(cell, 3, 21))
    x = normal((9, 3, 3))
    out = core.forward(packed, x, saved=True)
    assert out.saved is not None
    kept: dict[str, Any] = {"y": out.y, "saved": out.saved, "dy": normal(out.y.shape, 2)}
    whole = core.backward(packed, out.plan, x, **kept)
    part = core.backward(packed, out.plan, x, **kept, want=want)
    assert (part.dx is not None) == ("x" in want)
    assert (part.dstates is not None) == ("states" in want)
    assert set(part.dweights[0]) == {name for name in want if name.startswith(("w", "b"))}
    if part.dx is not None:
        same(part.dx, whole.dx)
    for mine, theirs in zip(part.dstates or (), whole.dstates or (), strict=False):
        same(mine, theirs)
    for name, gradient in part.dweights[0].items():
        same(gradient, whole.dweights[0][name])


def test_strides_of_every_kind(backend: str) -> None:
    packed = core.pack("gru", weights_of("gru", 3, 5))
    x = normal((6, 4, 3))
    y, _, saved, plan = core.forward(packed, x, saved=True)
    assert saved is not None
    kept: dict[str, Any] = {"y": y, "saved": saved}
    dy = normal(y.shape)
    wide = np.zeros((6, 4, 9), np.float32)
    wide[..., 2:5] = x
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    for given in (
        np.ascontiguousarray(x[::-1])[::-1],
        np.asfortranarray(x),
        wide[..., 2:5],
        x.astype(">f4"),
        unaligned,
        np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    ):
        same(core.forward(packed, given).y, y)
    one = np.ones(5, np.float32)
    spread = np.broadcast_to(one, dy.shape)  # the gradient of a sum often has strides 0
    same(
        core.backward(packed, plan, x, **kept, dy=spread).dx,
        core.backward(packed, plan, x, **kept, dy=np.ascontiguousarray(spread)).dx,
    )


# --- packs ----------------------------------------------------------------------------------------


def test_a_pack_holds_the_values_of_its_making(backend: str) -> None:
    weights = weights_of("lstm", 3, 5)
    packed, before = core.pack("lstm", weights), {k: a.copy() for k, a in weights.items()}
    x = normal((4, 2, 3))
    out = core.forward(packed, x, saved=True)
    for a in weights.values():
        a[...] = np.nan
    assert out.saved is not None
    # The backward panels are derived only now, long after the arrays were overwritten.
    g = core.backward(packed, out.plan, x, y=out.y, saved=out.saved, dy=out.y)
    fresh = core.pack("lstm", before)
    again = core.forward(fresh, x, saved=True)
    assert again.saved is not None
    expected = core.backward(fresh, again.plan, x, y=again.y, saved=again.saved, dy=again.y)
    same(g.dx, expected.dx)
    assert packed.matches(before)
    assert not packed.matches(weights)


def test_update_renews_in_place(backend: str) -> None:
    first, second = weights_of("gru", 3, 5), weights_of("gru", 3, 5, seed=9)
    packed, x = core.pack("gru", first), normal((4, 2, 3))
    out = core.forward(packed, x, saved=True)
    assert out.saved is not None
    core.backward(packed, out.plan, x, y=out.y, saved=out.saved, dy=out.y)
    size, generation = packed.nbytes, packed.generation
    packed.update(second)
    assert packed.matches(second)
    assert packed.generation != generation
    now = core.forward(packed, x, saved=True)
    same(now.y, core.forward(core.pack("gru", second), x).y)
    assert packed.nbytes <= size  # the panels are renewed in place
    with pytest.raises(RuntimeError, match="plan: the forward call had other weights"):
        core.backward(packed, out.plan, x, y=out.y, saved=out.saved, dy=out.y)
    for wrong, error in (
        ({**second, "b_ih": second["b_ih"][:-1]}, ValueError),
        ({**second, "b_ih": second["b_ih"].astype(np.float64)}, TypeError),
        ({k: v for k, v in second.items() if k != "b_ih"}, ValueError),
        ([second, second], ValueError),
    ):
        with pytest.raises(error):
            packed.update(wrong)  # type: ignore[arg-type]
    assert packed.matches(second)


@pytest.mark.skipif("native" not in BACKENDS, reason="the NumPy-only package")
def test_update_while_another_thread_computes_is_refused() -> None:
    """Each output is of the old weights or of the new ones; a refused update changes nothing."""
    both = [weights_of("lstm", 16, 64, seed) for seed in (0, 1)]
    x = normal((400, 8, 16))
    right = [core.forward(core.pack("lstm", w), x).y for w in both]
    packed = core.pack("lstm", both[0])
    wrong: list[str] = []
    stop, refused, done = threading.Event(), 0, 0

    def compute() -> None:
        while not stop.is_set():
            try:
                y = core.forward(packed, x, threads=1).y
            except RuntimeError as error:
                if "it computed nothing" not in str(error):
                    wrong.append(str(error))
                continue
            if not any(np.array_equal(y, r) for r in right):
                wrong.append("torn")

    workers = [threading.Thread(target=compute) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        # It depends on the machine's load how soon an update meets a call, and one that does not.
        end = time.monotonic() + 60
        while refused + done < 400 or (0 in (refused, done) and time.monotonic() < end):
            try:
                packed.update(both[(refused + done + 1) % 2])
                done += 1
            except RuntimeError as error:
                refused += "a call in another thread reads them" in str(error)
            # NumPy gives the lock away only while it copies, which is when no call can begin. A
            # thread that updates without a pause may so keep all calls out.
            time.sleep(1e-4)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not wrong
    assert refused > 0
    assert done > 0
    packed.update(both[1])
    same(core.forward(packed, x).y, right[1])


def test_packs_of_equal_size_are_not_mixed_up(backend: str) -> None:
    """The GRUs with the reset before and after the product have matrices of equal shapes."""
    weights = weights_of("gru", 3, 5)
    after, before = core.pack("gru", weights), core.pack("gru_reset_before", weights)
    x = normal((4, 2, 3))
    out = core.forward(after, x, saved=True)
    assert out.saved is not None
    assert not np.array_equal(out.y, core.forward(before, x).y)
    with pytest.raises(RuntimeError, match="other weights"):
        core.backward(before, out.plan, x, y=out.y, saved=out.saved, dy=out.y)


@pytest.mark.skipif(len(fr.supported_isas()) < 2, reason="one instruction set")
def test_a_pinned_pack_stays_on_its_instruction_set() -> None:
    weights, x = weights_of("gru", 3, 5), normal((4, 2, 3))
    first, second = fr.supported_isas()[:2]
    pinned, free = core.pack("gru", weights, isa=second), core.pack("gru", weights)
    with fr.use_backend("native"):
        core.forward(pinned, x)
        assert core.last_path().isa == second
        with fr.use_isa(first):
            core.forward(pinned, x)
            assert core.last_path().isa == second
            core.forward(free, x)
            assert core.last_path().isa == first
        with fr.use_isa(second):
            core.forward(free, x)
            assert core.last_path().isa == second


def test_matches_compares_bits(backend: str) -> None:
    weights = weights_of("gru", 3, 5)
    weights["b_ih"][0] = np.nan
    packed = core.pack("gru", weights)
    assert packed.matches(weights)  # equal bits match, also if they are NaN
    assert packed.matches({k: np.asfortranarray(a) for k, a in weights.items()})
    for name, a in weights.items():
        changed = {**weights, name: a.copy()}
        changed[name].flat[-1] = np.nextafter(changed[name].flat[-1], np.float32(9))
        assert not packed.matches(changed), name
    assert not packed.matches({k: a.astype(np.float64) for k, a in weights.items()})
    assert not packed.matches({k: a for k, a in weights.items() if k != "b_hh"})
    assert not packed.matches([weights, weights])


def test_packs_travel(backend: str) -> None:
    packed = core.pack("lstm_peephole", weights_of("lstm_peephole", 3, 5))
    copy = pickle.loads(pickle.dumps(packed))
    x = normal((4, 2, 3))
    same(core.forward(copy, x).y, core.forward(packed, x).y)
    assert "lstm_peephole" in repr(copy)


def test_plans_and_saved_go_into_files(backend: str, tmp_path: Path) -> None:
    """A saved call is plain arrays, so the backward call can be made in another process."""
    weights, x = weights_of("gru", 3, 5), normal((6, 3, 3))
    packed = core.pack("gru", weights)
    mask = np.random.default_rng(0).random((6, 3)) > 0.3
    reset = np.random.default_rng(1).random((6, 3)) > 0.6
    out = core.forward(packed, x, mask=mask, reset=reset, saved=True)
    assert out.saved is not None
    kept: dict[str, Any] = {"y": out.y, "saved": out.saved}
    expected = core.backward(packed, out.plan, x, **kept, dy=out.y)
    same(core.plan_of(packed, 6, 3, mask=mask, reset=reset).cut, out.plan.cut)
    plan = {name: a for name, a in out.plan._asdict().items() if a is not None}
    np.savez(tmp_path / "residual.npz", y=out.y, saved=out.saved, **plan)
    with np.load(tmp_path / "residual.npz") as file:
        found = {name: file[name] for name in file.files}
    again = core.pack("gru", weights)
    restored = core.Plan(
        int(found["steps"]),
        int(found["batch"]),
        found.get("lengths"),
        found.get("times"),
        found.get("cut"),
        again.generation,
    )
    y, saved = found["y"], found["saved"]
    g = core.backward(again, restored, x, y=y, saved=saved, dy=y)
    same(g.dx, expected.dx)
    for name, gradient in g.dweights[0].items():
        same(gradient, expected.dweights[0][name])


# --- cell states and gates ----------------------------------------------------------------------


@pytest.mark.parametrize("cell", ROWS)
def test_cells_and_gates_of_a_saved_call(backend: str, cell: str) -> None:
    """With two directions and a mask, states and gates fit together, and are 0 at masked steps."""
    packed = core.pack(cell, [weights_of(cell, 3, 5, seed) for seed in (0, 1)])
    mask = np.random.default_rng(0).random((6, 3)) > 0.3
    out = core.forward(packed, normal((6, 3, 3)), mask=mask, saved=True)
    assert out.saved is not None
    gates = core.gates_of(packed, out.plan, out.saved)
    cells = core.cells_of(packed, out.plan, out.saved)
    names = packed.spec.gate_names
    assert gates.shape == (2, 6, 3, len(names), 5)
    assert np.all(gates[:, ~mask] == 0)
    halves = np.stack(np.split(out.y, 2, axis=2))
    at = {name: gates[..., k, :] for k, name in enumerate(names)}
    if cells is not None:
        assert cells.shape == halves.shape
        np.testing.assert_allclose(halves, at["o"] * np.tanh(cells), atol=1e-6)
    elif len(names) == 1:
        np.testing.assert_allclose(halves, at["a"], atol=1e-6)
    else:  # from zeros, the first step gives h' = (1 - z) n
        first = mask.argmax(axis=0), np.arange(3)
        fresh = ((1 - at["z"]) * at["n"])[0][first]
        np.testing.assert_allclose(halves[0][first], fresh, atol=1e-6)
    assert (cells is None) == (packed.spec.states < 2)


def test_cells_after_zoneout(backend: str) -> None:
    packed = core.pack("lstm", weights_of("lstm", 3, 5))
    x, zoneout = normal((6, 2, 3)), (0.0, 0.5)
    keep = [np.zeros((1, 6, 2, 5), np.float32), np.ones((1, 6, 2, 5), np.float32)]
    out = core.forward(packed, x, keep=keep, zoneout=zoneout, saved=True)
    assert out.saved is not None
    cells = core.cells_of(packed, out.plan, out.saved, keep=keep, zoneout=zoneout)
    assert cells is not None
    assert not cells.any()  # zoneout kept every c at the zeros that it started from
    with pytest.raises(ValueError, match="saved: expected shape"):
        core.cells_of(packed, out.plan, out.saved[:, :2])


# --- refusals -------------------------------------------------------------------------------------


def test_outputs_must_not_share_memory(backend: str) -> None:
    packed = core.pack("gru", weights_of("gru", 5, 5))
    x = normal((4, 2, 5))
    keep = x.copy()
    with pytest.raises(ValueError, match="y: shares memory"):
        core.forward(packed, x, y=x)
    h0 = normal((1, 2, 5))
    with pytest.raises(ValueError, match="final: shares memory"):
        core.forward(packed, x, states=[h0], final=[h0])
    out = core.forward(packed, x, saved=True)
    assert out.saved is not None
    kept: dict[str, Any] = {"y": out.y, "saved": out.saved}
    with pytest.raises(ValueError, match="dx: shares memory"):
        core.backward(packed, out.plan, x, **kept, dy=out.y, dx=x)
    both = np.zeros(15, np.float32)
    with pytest.raises(ValueError, match="shares memory"):
        core.backward(packed, out.plan, x, **kept, dweights={"b_ih": both, "b_hh": both})
    dh_n = normal((1, 2, 5))
    with pytest.raises(ValueError, match="dstates: shares memory"):
        core.backward(packed, out.plan, x, **kept, dstates=[dh_n], dfirst=[dh_n])
    same(x, keep)


def test_outputs_must_not_lie_in_the_weights(backend: str) -> None:
    """A short call reads the arrays themselves; a longer one would still change the layer."""
    weights = weights_of("gru", 5, 5)
    packed = core.pack("gru", weights, copy=False)
    room = weights["w_hh"].reshape(-1)
    for steps in (1, 4):
        y = room[: steps * 5].reshape(steps, 1, 5)
        with pytest.raises(ValueError, match="y: shares memory"):
            core.forward(packed, normal((steps, 1, 5)), y=y)
    x = normal((4, 2, 5))
    out = core.forward(packed, x, saved=True)
    with pytest.raises(ValueError, match="weights: shares memory"):
        core.backward(
            packed, out.plan, x, y=out.y, saved=out.saved, dy=out.y, dweights=dict(weights)
        )
    same(weights["w_hh"], weights_of("gru", 5, 5)["w_hh"])


def refused() -> list[tuple[str, type[Exception], str, dict[str, Any]]]:
    x = normal((4, 2, 3))
    f8, f4 = np.float64, np.float32
    return [
        ("no input", TypeError, "x, tokens: expected exactly one", {"x": None}),
        ("both inputs", TypeError, "got both", {"x": x, "tokens": np.zeros((4, 2), int)}),
        ("list", TypeError, "x: expected an array", {"x": x.tolist()}),
        ("dtype", TypeError, "x: expected float32", {"x": x.astype(f8)}),
        ("width", ValueError, r"x: expected shape \(T, B, 3\)", {"x": x[..., :2]}),
        ("rank", ValueError, "x: expected shape", {"x": x[0]}),
        ("token range", ValueError, r"tokens: .*\[0, 3\)", {"tokens": np.full((4, 2), 3)}),
        ("tokens of floats", TypeError, "tokens: expected integers", {"tokens": x[..., 0]}),
        ("lengths", ValueError, "lengths: expected numbers", {"lengths": np.array([5, 1])}),
        ("two paddings", ValueError, "lengths or mask", {
            "lengths": np.array([4, 1]), "mask": np.ones((4, 2), bool)}),
        ("mask", TypeError, "mask: expected an array of bool", {"mask": np.ones((4, 2))}),
        ("states", TypeError, "states: expected a sequence of 1", {"states": x[:1]}),
        ("state shape", ValueError, r"states\[0\]: expected shape", {"states": [x[:1, :, :2]]}),
        ("initial", ValueError, "initial: .* reset", {"initial": [np.zeros((1, 2, 5), f4)]}),
        ("drop", ValueError, "drop: expected shape", {"drop": np.zeros((1, 2, 4), f4)}),
        ("zoneout", ValueError, "zoneout", {"zoneout": (1.5, 0.0)}),
        ("zoneout of c", ValueError, "zoneout: gru has no c", {"zoneout": (0.1, 0.1)}),
        ("keep", ValueError, "keep: .* zoneout", {"keep": [np.zeros((1, 4, 2, 5), f4)]}),
        ("y shape", ValueError, "y: expected shape", {"y": np.zeros((4, 2, 4), f4)}),
        ("y dtype", TypeError, "y: expected float32", {"y": np.zeros((4, 2, 5))}),
        ("y strides", ValueError, "last axis", {"y": np.zeros((4, 2, 10), f4)[..., ::2]}),
        ("y repeated", ValueError, "y: expected a writable|share memory", {
            "y": np.broadcast_to(np.zeros(5, f4), (4, 2, 5))}),
        ("final", TypeError, "final: expected a sequence", {"final": np.zeros((1, 2, 5), f4)}),
        ("saved", TypeError, "saved: expected True", {"saved": 1}),
        ("saved shape", ValueError, "saved: expected shape", {"saved": np.zeros(3, f4)}),
        ("threads", ValueError, "threads", {"threads": 0}),
        ("at_most", TypeError, "at_most", {"at_most": 1.5}),
        ("both threads", ValueError, "threads, at_most", {"threads": 1, "at_most": 1}),
    ]  # fmt: skip


@pytest.mark.parametrize("case", refused(), ids=lambda case: str(case[0]))
def test_bad_arguments_are_named(backend: str, case: tuple[Any, ...]) -> None:
    _, error, text, given = case
    packed = core.pack("gru", weights_of("gru", 3, 5))
    x = None if "tokens" in given and "x" not in given else normal((4, 2, 3))
    with pytest.raises(error, match=text):
        core.forward(packed, **{"x": x, **given})


def refused_targets() -> list[tuple[str, dict[str, Any]]]:
    f4 = np.float32
    w_hh, dx, h = np.zeros((15, 5), f4), np.zeros((4, 2, 3), f4), np.zeros((1, 2, 5), f4)
    return [
        ("w_hh: not a weight that is wanted", {"want": {"w_ih"}, "dweights": {"w_hh": w_hh}}),
        ("w_h: not a weight", {"want": None, "dweights": {"w_h": w_hh}}),
        ("dx: given, but 'x'", {"want": {"w_ih"}, "dx": dx}),
        ("dfirst: given, but 'states'", {"want": {"x"}, "dfirst": (h,)}),
        ("dx: its elements share", {
            "want": {"x"}, "dx": np.lib.stride_tricks.as_strided(dx, (4, 2, 3), (0, 0, 4))}),
        (r"dweights\['w_hh'\]: expected shape", {"want": {"w_hh"}, "dweights": {"w_hh": w_hh[:3]}}),
        (r"dweights\['w_hh'\]: expected a C-contig", {
            "want": {"w_hh"}, "dweights": {"w_hh": np.zeros((5, 15), f4).T}}),
        (r"dfirst\[0\]: expected shape", {"want": {"states"}, "dfirst": (h[:, :1],)}),
        ("dweights: expected", {"want": {"w_hh"}, "dweights": [{"w_hh": w_hh}] * 2}),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "given"), refused_targets(), ids=lambda case: str(case)[:30])
def test_bad_targets_are_named(backend: str, text: str, given: dict[str, Any]) -> None:
    packed, x = core.pack("gru", weights_of("gru", 3, 5)), normal((4, 2, 3))
    out = core.forward(packed, x, saved=True)
    assert out.saved is not None
    want = None if given["want"] is None else frozenset(given["want"])
    with pytest.raises((TypeError, ValueError), match=text):
        core.backward(
            packed, out.plan, x, y=out.y, saved=out.saved, dy=out.y, **{**given, "want": want}
        )


@pytest.mark.parametrize("cell", ["gru", "lstm", "lstm_norm"])
@pytest.mark.parametrize("directions", [1, 2])
def test_whole_arrays_that_the_caller_brings(backend: str, cell: str, directions: int) -> None:
    """They get the bits of new arrays, and only the names that are given are written to."""
    weights = [weights_of(cell.removesuffix("_norm"), 3, 5, seed) for seed in range(directions)]
    if cell == "lstm_norm":
        gains = {"norm_ih": 20, "norm_hh": 20, "norm_c": 5}
        for one in weights:
            one |= {name: 1 + normal((n,)) / 8 for name, n in gains.items()}
    packed, x = core.pack(cell, weights if directions == 2 else weights[0]), normal((4, 2, 3))
    fresh = core.forward(packed, x, saved=True)
    assert fresh.saved is not None
    y, saved = np.full_like(fresh.y, np.nan), np.full_like(fresh.saved, np.nan)
    final = tuple(np.full_like(state, np.nan) for state in fresh.states)
    out = core.forward(packed, x, y=y, final=final, saved=saved)
    assert out.y is y
    assert out.saved is saved
    same(y, fresh.y)
    for found, right in zip(final, fresh.states, strict=True):
        same(found, right)
    given: dict[str, Any] = {"y": y, "saved": saved, "dy": normal(y.shape)}
    want = frozenset({"x", "states", "w_ih", "w_hh"})
    right = core.backward(packed, out.plan, x, **given, want=want)
    dx, dfirst = np.empty_like(x), tuple(np.empty_like(state) for state in final)
    dweights = [{"w_hh": np.full_like(one["w_hh"], np.nan)} for one in weights]
    found = core.backward(
        packed, out.plan, x, **given, want=want, dx=dx, dfirst=dfirst,
        dweights=dweights if directions == 2 else dweights[0],
    )  # fmt: skip
    assert right.dx is not None
    assert right.dstates is not None
    same(dx, right.dx)
    for a, b in zip(dfirst, right.dstates, strict=True):
        same(a, b)
    for brought, anew, first in zip(dweights, found.dweights, right.dweights, strict=True):
        assert anew.keys() == first.keys() == {"w_ih", "w_hh"}
        assert anew["w_hh"] is brought["w_hh"]
        same(brought["w_hh"], first["w_hh"])
        same(anew["w_ih"], first["w_ih"])


@pytest.mark.parametrize(
    ("cell", "change", "error", "text"),
    [
        ("gru2", {}, ValueError, "cell: expected one of"),
        ("gru", {"w_ih": None}, ValueError, r"weights\['w_ih'\]"),
        ("gru", {"w_hh": None}, TypeError, r"weights\['w_hh'\]"),
        ("gru", {"w_hh": np.zeros((15, 4), np.float32)}, ValueError, "expected shape"),
        ("gru", {"b_ih": np.zeros(15)}, TypeError, "expected float32 as w_ih is"),
        ("gru", {"p": np.zeros((3, 5), np.float32)}, ValueError, "gru has w_ih"),
        ("lstm_peephole", {"w_ih": np.zeros((20, 3), np.float32)}, ValueError, "expected shape"),
        ("gru", {"w_ih": np.zeros((15, 3), np.int64)}, TypeError, "float32 or float64"),
        ("gru_chosen", {}, TypeError, "options"),
    ],
)
def test_bad_weights_are_named(
    cell: str, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        core.pack(cell, {**weights_of("gru", 3, 5), **change})


# --- paths, counts, threads -----------------------------------------------------------------------


def test_calls_of_all_threads_are_counted(backend: str) -> None:
    packed, x = core.pack("gru", weights_of("gru", 3, 5)), normal((4, 2, 3))

    def total() -> int:
        counts = core.path_counts()
        return sum(n for path, n in counts.items() if path.kernel == "gru float32")

    counted, done = threading.Event(), threading.Barrier(5)

    def calls() -> None:
        with fr.use_backend(backend):
            for _ in range(50):
                core.forward(packed, x)
        done.wait(60)
        counted.wait(60)

    before = total()
    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.wait(60)
    alive = total() - before  # the threads that called have not ended
    counted.set()
    for thread in threads:
        thread.join()
    assert alive == 200
    core.forward(packed, x)
    assert total() - before == 201


def test_a_choice_reaches_threads_that_are_not_ours() -> None:
    """set_num_threads in the main thread must also reach the threads of a pool."""
    packed, x = core.pack("lstm", weights_of("lstm", 64, 64)), normal((50, 48, 64))
    seen: list[int] = []

    def call() -> None:
        core.forward(packed, x)
        seen.append(core.last_path().threads)

    def in_a_thread() -> int:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return seen[-1]

    if not fr.build_config().get("openmp"):
        pytest.skip("a build without threads")
    try:
        fr.set_num_threads(1)
        assert in_a_thread() == 1
        fr.set_num_threads(3)
        assert in_a_thread() == 3
        with fr.set_num_threads(2):  # only in this thread
            call()
            assert seen[-1] == 2
            assert in_a_thread() == 3
        call()
        assert seen[-1] == 3
    finally:
        fr.set_num_threads(None)


def test_threads_are_obeyed_and_capped() -> None:
    if not fr.build_config().get("openmp"):
        pytest.skip("a build without threads")
    packed, x = core.pack("lstm", weights_of("lstm", 64, 64)), normal((50, 48, 64))
    core.forward(packed, x, threads=5)
    assert core.last_path().threads == 5
    core.forward(packed, x, at_most=1)
    assert core.last_path().threads == 1
    core.forward(packed, x, at_most=1000)
    assert core.last_path().threads <= fr.num_threads()


# --- the cache ------------------------------------------------------------------------------------


def test_the_cache_finds_and_renews(backend: str) -> None:
    cache, x = core.PackCache(), normal((4, 2, 3))
    weights = weights_of("gru", 3, 5)
    first = cache.get("gru", weights)
    assert cache.get("gru", weights) is first
    assert cache.get("gru_reset_before", weights) is not first
    old = core.forward(first, x).y
    weights["w_hh"][3, 2] += 1  # an in-place change that leaves no trace
    second = cache.get("gru", weights)
    assert not np.array_equal(core.forward(second, x).y, old)
    same(core.forward(second, x).y, core.forward(core.pack("gru", weights), x).y)
    assert len(cache) == 2


def test_the_cache_is_bounded(backend: str) -> None:
    size = core.pack("gru", weights_of("gru", 3, 5)).nbytes
    cache = core.PackCache(limit=3 * size)
    kept = [weights_of("gru", 3, 5, seed) for seed in range(5)]
    packs = [cache.get("gru", weights) for weights in kept]
    assert len(cache) == 3
    assert cache.nbytes <= 3 * size
    assert cache.get("gru", kept[-1]) is packs[-1]
    assert cache.get("gru", kept[0]) is not packs[0]  # the pack was dropped
    none = core.PackCache(limit=0)
    none.get("gru", kept[0])
    assert len(none) == 0


def test_the_cache_takes_keys_of_ones_own() -> None:
    """Keys count if they have bytes; the number of packs is bounded too."""

    class Key(bytes):
        nbytes = 1000

    packs = [core.pack("gru", weights_of("gru", 3, 5, seed)) for seed in range(3)]
    cache = core.PackCache(most=2)
    for name, packed in zip((b"a", b"b"), packs, strict=False):
        cache.keep(Key(name), packed)
    assert cache.nbytes == 2 * (packs[0].nbytes + 1000)
    assert cache.find(Key(b"a")) is packs[0]  # now b is the least recently used
    cache.keep(Key(b"c"), packs[2])
    assert [cache.find(Key(name)) for name in (b"a", b"b", b"c")] == [packs[0], None, packs[2]]
    small = core.PackCache(limit=packs[0].nbytes + 999)
    small.keep(Key(b"a"), packs[0])
    assert len(small) == 0
    with pytest.raises(ValueError, match="most: "):
        core.PackCache(most=-1)


def test_a_cache_that_nobody_has_is_freed() -> None:
    cache = core.PackCache()
    packed = weakref.ref(cache.get("gru", weights_of("gru", 3, 5)))
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
    assert packed() is None


def test_the_cache_serves_many_threads(backend: str) -> None:
    cache, x = core.PackCache(), normal((3, 2, 3))
    all_weights = [weights_of("gru", 3, 5, seed) for seed in range(3)]
    right = [core.forward(core.pack("gru", w), x).y for w in all_weights]
    wrong: list[int] = []

    def work(seed: int) -> None:
        with fr.use_backend(backend):
            for i in range(60):
                k = (i + seed) % 3
                if not np.array_equal(
                    core.forward(cache.get("gru", all_weights[k]), x).y, right[k]
                ):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_cache_is_empty_after_a_fork(backend: str) -> None:
    cache, weights = core.PackCache(), weights_of("gru", 3, 5)
    x = normal((4, 2, 3))
    y = core.forward(cache.get("gru", weights), x).y
    child = os.fork()
    if child == 0:
        empty = len(cache) == 0 and not core.path_counts()
        right = np.array_equal(core.forward(cache.get("gru", weights), x).y, y)
        os._exit(0 if empty and right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(cache) == 1
