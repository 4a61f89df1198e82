"""The same bits, however and with whatever else a call is computed; long, with a test for each way.

Batch, threads, chunks and streams, padding, direction, instruction set, strides, tokens. Weights,
inputs and incoming gradients are the same numbers each time. The results are compared bit by bit;
all NaN count as equal.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedrnn as fr
from cases import (
    CELL_NAMES,
    DTYPES,
    RECURRENT,
    Case,
    any_case,
    assert_same_bits,
    call,
    out_gradients,
    outcome,
    same_bits,
)
from conftest import FMA_ISAS, ISAS, Chosen, caches
from floor import Inputs, by_name, complete
from fusedrnn import core
from fusedrnn._cells import CELLS, Array

THREADS = (2, 3, 4, 7)
Gradient = tuple[Array, tuple[Array, ...]]


def batch_part(named: dict[str, Array], rows: Array | slice) -> dict[str, Array]:
    """The part of the arrays that belongs to some sequences; the batch is their axis 1."""
    own = {name: a for name, a in named.items() if name[:2] in ("y", "dx", "st", "ds", "di")}
    return {name: a[:, rows] for name, a in own.items()}


def select(inputs: Inputs, rows: Array | slice) -> Inputs:
    """The call on some of its sequences."""

    def all_of(states: tuple[Array, ...] | None) -> tuple[Array, ...] | None:
        return None if states is None else tuple(np.ascontiguousarray(s[:, rows]) for s in states)

    def pick(a: Array | None) -> Array | None:
        return None if a is None else np.ascontiguousarray(a[:, rows])

    lengths = None if inputs.lengths is None else inputs.lengths[rows]
    return Inputs(
        pick(inputs.x),
        pick(inputs.tokens),
        all_of(inputs.states),
        lengths,
        pick(inputs.reset),
        all_of(inputs.initial),
    )


def select_gradient(gradient: Gradient, rows: Array | slice) -> Gradient:
    dy, *dstates = (np.ascontiguousarray(d[:, rows]) for d in (gradient[0], *gradient[1]))
    return dy, tuple(dstates)


# --- the batch ---------------------------------------------------------------------------------

BATCH = 131  # rows are computed in groups of 60, so these are more than two groups
BATCH_OPTIONS = (
    Case(5, BATCH, 6, 37),
    Case(4, BATCH, 3, 18, directions=2, reset=True, initial=True),
    Case(4, BATCH, 5, 9, directions=2, lengths=tuple(b % 5 for b in range(BATCH))),
    Case(3, BATCH, 5, 21, tokens=True),
)


@pytest.mark.parametrize("case", BATCH_OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_batch(native: Chosen, cell: str, dtype: str, case: Case) -> None:
    """[N1.1] A sequence has the same bits alone, in any batch, at any place in it, and twice."""
    weights, inputs = call(cell, case, dtype)
    gradient = out_gradients(weights, inputs)
    whole = outcome(native.run, weights, inputs, *gradient)
    shuffled = np.random.default_rng(5).permutation(BATCH)
    parts = [shuffled, np.r_[7, 7, 7], shuffled[:63]]
    parts += [np.r_[b] for b in (0, 59, 60, BATCH - 1)] + [np.r_[:47], np.r_[47:BATCH]]
    for rows in parts:
        part = outcome(native.run, weights, select(inputs, rows), *select_gradient(gradient, rows))
        native.ran(f"{cell} {dtype}")
        assert_same_bits(batch_part(part, slice(None)), batch_part(whole, rows))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_wherever_w_x_is_computed(native: Chosen, cell: str, dtype: str) -> None:
    """[N1.1] W x is computed in the step for many rows, before it for few; weights exceed L2."""
    case = Case(5, 21, 310, 310 if cell != "rnn_tanh" else 1030)
    weights, inputs = call(cell, case, dtype)
    gradient = out_gradients(weights, inputs)
    with caches(1 << 20, 32 << 20):
        whole = outcome(native.run, weights, inputs, *gradient)
        for rows in (np.r_[:16], np.r_[:15], np.r_[13:21], np.r_[20]):
            small = select_gradient(gradient, rows)
            part = outcome(native.run, weights, select(inputs, rows), *small)
            assert_same_bits(batch_part(part, slice(None)), batch_part(whole, rows))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_caches(native: Chosen, cell: str, dtype: str) -> None:
    """[N2.1] The sizes of the caches decide which way a call takes, and no bit."""
    weights, inputs = call(cell, Case(9, 17, 70, 66), dtype)
    gradient = out_gradients(weights, inputs)
    found = []
    for l2, l3 in ((1, 1), (1 << 14, 1 << 17), (1 << 18, 1 << 18), (1 << 30, 1 << 32), (0, 0)):
        with caches(l2, l3):
            found.append(outcome(native.run, weights, inputs, *gradient))
    for other in found[1:]:
        assert_same_bits(other, found[0])


# --- threads -----------------------------------------------------------------------------------


def wide_case(cell: str, split: str, **options: object) -> Case:
    """A case with enough work for seven threads (layout.cpp), divided by rows or by units."""
    gates = CELLS[cell].gates
    if split == "rows":
        return Case(12 if gates > 1 else 30, 45, 40, 65, **options)  # type: ignore[arg-type]
    hidden, inputs = (181, 24) if gates > 2 else (309, 40)
    return Case(4, 11, inputs, hidden, **options)  # type: ignore[arg-type]


SPLITS = [(cell, split) for cell in CELL_NAMES for split in ("rows", "units")]
SPLITS.remove(("dense", "units"))  # it is divided by rows only
SPLITS = [s for s in SPLITS if s[1] == "rows" or not CELLS[s[0]].norm]  # threads never share a row


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "split"), SPLITS)
def test_threads(native: Chosen, cell: str, split: str, dtype: str) -> None:
    """[N1.2] [N1.4] [R5] All results are compared, weight gradients included."""
    weights, inputs = call(cell, wide_case(cell, split), dtype)
    gradient = out_gradients(weights, inputs)
    serial = outcome(native.run, weights, inputs, *gradient, threads=1)
    native.ran(f"{cell} {dtype}", 1)
    for threads in THREADS:
        y, states, _ = native.run.forward(weights, inputs, save=False, num_threads=threads)
        native.ran(f"{cell} {dtype}", threads)
        assert same_bits(y, serial["y"])
        assert all(same_bits(s, serial[f"state {k}"]) for k, s in enumerate(states))
        found = outcome(native.run, weights, inputs, *gradient, threads=threads)
        native.ran(f"{cell} {dtype}", threads)
        assert_same_bits(found, serial)


@pytest.mark.parametrize("split", ["rows", "units"])
@pytest.mark.parametrize("option", ["tokens", "reset", "lengths"])
@pytest.mark.parametrize("cell", ["lstm_peephole", "gru_reset_before"])
def test_threads_with_options(native: Chosen, cell: str, option: str, split: str) -> None:
    """[N1.2] The same with lengths, resets and other options of a call."""
    case = wide_case(cell, split, directions=2)
    lengths = tuple(1 + b * case.steps // case.batch for b in range(case.batch))
    given = {"lengths": lengths} if option == "lengths" else {option: True}
    case = wide_case(cell, split, directions=2, initial=option == "reset", **given)
    weights, inputs = call(cell, case, "float32")
    gradient = out_gradients(weights, inputs)
    serial = outcome(native.run, weights, inputs, *gradient, threads=1)
    for threads in THREADS:
        found = outcome(native.run, weights, inputs, *gradient, threads=threads)
        native.ran(f"{cell} float32", None if option == "tokens" else threads)
        assert_same_bits(found, serial)


@pytest.mark.parametrize("batch", [1, 3, 15])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "lstm_norm", "rnn_tanh"])
def test_directions_at_the_same_time(native: Chosen, cell: str, batch: int) -> None:
    """[N1.2] Each direction has threads of its own, which divide its rows."""
    lengths = tuple(range(60, 60 - batch, -1))
    weights, inputs = call(cell, Case(60, batch, 8, 130, directions=2, lengths=lengths), "float32")
    gradient = out_gradients(weights, inputs)
    serial = native.run.forward(weights, inputs, save=False, num_threads=1)
    right = outcome(native.run, weights, inputs, *gradient, threads=1)
    for threads in (2, 3, 4):
        expected = 2 if batch < 12 and threads < 4 else None
        y, states, _ = native.run.forward(weights, inputs, save=False, num_threads=threads)
        native.ran(f"{cell} float32", expected)
        assert same_bits(y, serial.y)
        assert all(map(same_bits, states, serial.states))
        found = outcome(native.run, weights, inputs, *gradient, threads=threads)
        native.ran(f"{cell} float32", expected)
        assert_same_bits(found, right)


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_every_barrier_holds(native: Chosen, cell: str) -> None:
    """[N1.2] Many short steps run on more threads than cores, so that a missing barrier shows."""
    hidden = 181
    case = Case(60, 6, 8, hidden)
    weights, inputs = call(cell, case, "float32")
    gradient = out_gradients(weights, inputs)
    serial = outcome(native.run, weights, inputs, *gradient, threads=1)
    for _ in range(4):
        found = outcome(native.run, weights, inputs, *gradient, threads=3)
        native.ran(f"{cell} float32", 3)
        assert_same_bits(found, serial)


# --- chunks and streams ------------------------------------------------------------------------


def steps_of(inputs: Inputs, begin: int, end: int, states: tuple[Array, ...]) -> Inputs:
    """The steps [begin, end) of a call, from the given states."""
    parts = [None if a is None else a[begin:end] for a in (inputs.x, inputs.tokens, inputs.reset)]
    x, tokens, reset = parts
    return inputs._replace(x=x, tokens=tokens, reset=reset, states=states)


@pytest.mark.parametrize("ends", [(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (0, 4, 9), (0, 0, 8, 9)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", RECURRENT)
def test_chunks(native: Chosen, cell: str, dtype: str, ends: tuple[int, ...]) -> None:
    """[N1.3] Forward calls pass the state on; backward calls pass its gradient back."""
    for case in (
        Case(9, 3, 7, 19),
        Case(9, 8, 5, 33, reset=True, initial=True),
        Case(9, 2, 4, 18, tokens=True),
    ):
        weights, inputs = call(cell, case, dtype)
        dy, dstates = out_gradients(weights, inputs)
        whole = outcome(native.run, weights, inputs, dy, dstates)
        assert inputs.states is not None
        calls, states = [], inputs.states
        for begin, end in pairwise(ends):
            part = steps_of(inputs, begin, end, states)
            y, states, saved = native.run.forward(weights, part, save=True, num_threads=None)
            assert same_bits(y, whole["y"][begin:end])
            calls.append((begin, end, saved))
        assert all(same_bits(s, whole[f"state {k}"]) for k, s in enumerate(states))
        for begin, end, saved in reversed(calls):
            assert saved is not None
            g = native.run.backward(saved, dy[begin:end], dstates, num_threads=None)
            native.ran(f"{cell} {dtype}")
            dstates = g.states
            if g.dx is not None:
                assert same_bits(g.dx, whole["dx"][begin:end])
        assert all(same_bits(d, whole[f"dstate {k}"]) for k, d in enumerate(dstates))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", ["lstm_peephole", "gru_reset_before"])
def test_slices(native: Chosen, cell: str, threads: int) -> None:
    """[N1.3] A long call runs in slices, between which signals are polled; no bit changes."""
    case = Case(500, 8, 32, 180)  # a slice has some 2e8 operations (drive.hpp), this call 1e9
    weights, inputs = call(cell, case, "float32")
    dy, dstates = out_gradients(weights, inputs)
    whole = outcome(native.run, weights, inputs, dy, dstates, threads=threads)
    native.ran(f"{cell} float32", threads)
    assert inputs.states is not None
    calls, states = [], inputs.states
    for begin in range(0, 500, 20):
        part = steps_of(inputs, begin, begin + 20, states)
        y, states, saved = native.run.forward(weights, part, save=True, num_threads=1)
        assert same_bits(y, whole["y"][begin : begin + 20])
        calls.append((begin, saved))
    for begin, saved in reversed(calls):
        assert saved is not None
        g = native.run.backward(saved, dy[begin : begin + 20], dstates, num_threads=1)
        dstates = g.states
        assert g.dx is not None
        assert same_bits(g.dx, whole["dx"][begin : begin + 20])
    assert all(same_bits(d, whole[f"dstate {k}"]) for k, d in enumerate(dstates))


LAYERS = (
    lambda **k: fr.RNN(5, 19, **k),
    lambda **k: fr.RNN(5, 19, nonlinearity="relu", **k),
    lambda **k: fr.LSTM(5, 19, **k),
    lambda **k: fr.LSTM(5, 19, peepholes=True, **k),
    lambda **k: fr.GRU(5, 19, **k),
    lambda **k: fr.GRU(5, 19, reset_after=False, **k),
)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make(seed=0)))
def test_stream(native: Chosen, make: object, dtype: str, batch: int) -> None:
    """[N1.3] One call, steps, steps with `out` and chunks have the same bits."""
    layer = make(dtype=dtype, seed=1)  # type: ignore[operator]
    rng = np.random.default_rng(6)
    x = rng.standard_normal((8, batch, 5)).astype(dtype)
    ids = rng.integers(0, 5, (8, batch))
    for whole, own, name in ((layer(x)[0], x, "x"), (layer(tokens=ids)[0], ids, "tokens")):
        native.ran(f"{layer.cell} {dtype}")
        stream = layer.stream(batch)
        out = np.empty((batch, 19), dtype)
        for t in range(8):
            if t % 2:
                assert stream.step(**{name: own[t]}, out=out) is out
            else:
                out = stream.step(**{name: own[t]})
            assert same_bits(out, whole[t])
        stream.reset()
        chunks = [stream(**{name: own[a:b]}) for a, b in pairwise((0, 3, 4, 8))]
        native.ran(f"{layer.cell} {dtype}")
        assert same_bits(np.concatenate(chunks), whole)


# --- padding and direction ---------------------------------------------------------------------

LENGTHS = (6, 0, 3, 6, 1, 5, 2)


def flipped(a: Array, lengths: Array) -> Array:
    """Each sequence of (T, B, ...) reversed from its last real step to its first; padding stays."""
    out = a.copy()
    for b, n in enumerate(lengths):
        out[:n, b] = a[:n, b][::-1]
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", RECURRENT)
def test_padding(native: Chosen, cell: str, dtype: str) -> None:
    """[N1.1] [L1] [L5] A padded sequence has the bits of the sequence alone, also beside NaN."""
    case = Case(6, 7, 4, 21, directions=2, lengths=LENGTHS, reset=True, initial=True)
    weights, inputs = call(cell, case, dtype)
    dy, dstates = out_gradients(weights, inputs)
    assert inputs.x is not None
    assert inputs.reset is not None
    clean = outcome(native.run, weights, inputs, dy, dstates)
    padding = np.arange(6)[:, None] >= np.array(LENGTHS)
    inputs.x[padding] = np.nan
    inputs.reset[padding] ^= True
    dy[padding] = np.nan
    found = outcome(native.run, weights, inputs, dy, dstates)
    native.ran(f"{cell} {dtype}")
    assert_same_bits(found, clean)
    assert not found["y"][padding].any()
    assert not found["dx"][padding].any()
    for b, n in enumerate(LENGTHS):
        rows = slice(b, b + 1)
        alone = select(inputs, rows)._replace(lengths=None)
        assert alone.x is not None
        assert alone.reset is not None
        alone = alone._replace(x=alone.x[:n], reset=alone.reset[:n])
        part_dy, part_dstates = select_gradient((dy, dstates), rows)
        single = outcome(native.run, weights, alone, part_dy[:n], part_dstates)
        within = batch_part(found, rows)
        for name in ("y", "dx"):
            within[name] = within[name][:n]
        assert_same_bits(batch_part(single, slice(None)), within)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", RECURRENT)
def test_two_directions(
    native: Chosen, cell: str, dtype: str, lengths: tuple[int, ...] | None
) -> None:
    """[L2] [L3] Two directions equal two calls, one of them on flipped input; dx is their sum."""
    case = Case(6, 7, 5, 18, directions=2, lengths=lengths, reset=True, initial=True)
    weights, inputs = call(cell, case, dtype)
    dy, dstates = out_gradients(weights, inputs)
    both = outcome(native.run, weights, inputs, dy, dstates)
    native.ran(f"{cell} {dtype}")
    assert inputs.x is not None
    assert inputs.reset is not None
    n = np.array(LENGTHS if lengths else [6] * 7)
    # Step s of the flipped sequence is entered over the link that reset[n - s] cuts.
    cut = np.zeros_like(inputs.reset)
    for b, length in enumerate(n):
        cut[1:length, b] = inputs.reset[1:length, b][::-1]
    dx = []
    for d in (0, 1):
        mine = slice(d * 18, d * 18 + 18)
        part = inputs._replace(
            x=flipped(inputs.x, n) if d else inputs.x,
            reset=cut if d else inputs.reset,
            states=tuple(s[d : d + 1] for s in inputs.states or ()),
            initial=tuple(s[d : d + 1] for s in inputs.initial or ()),
        )
        part_dy = np.ascontiguousarray(dy[..., mine])
        found = outcome(
            native.run,
            weights[d : d + 1],
            part,
            flipped(part_dy, n) if d else part_dy,
            tuple(s[d : d + 1] for s in dstates),
        )
        if d:
            found["y"], found["dx"] = flipped(found["y"], n), flipped(found["dx"], n)
        dx.append(found.pop("dx"))
        assert same_bits(found.pop("y"), both["y"][..., mine])
        for name, array in found.items():
            if "state" in name or "initial" in name:
                assert same_bits(array, both[name][d : d + 1]), name
            else:
                assert same_bits(array, both[f"{name[:-1]}{d}"]), name
    assert same_bits(dx[0] + dx[1], both["dx"])


# --- instruction sets --------------------------------------------------------------------------

needs_native = pytest.mark.skipif(not ISAS, reason="this installation has no compiled kernels")
two_isas = pytest.mark.skipif(len(FMA_ISAS) < 2, reason="one instruction set with fma here")


def extreme(rng: np.random.Generator, inputs: Inputs) -> None:
    """Put denormal, huge, infinite and undefined numbers into the inputs."""
    assert inputs.x is not None
    flat = inputs.x.reshape(-1)
    kinds = [1e-40, -3e-39, 1e30, -1e30, np.inf, -np.inf, np.nan, -0.0]
    at = rng.permutation(flat.size)[: len(kinds)]
    flat[at] = kinds[: len(at)]


@two_isas
@given(st.data())
def test_instruction_sets(data: st.DataObject) -> None:
    """[N2.1] Results agree on all with fma, also gradients if one walks back what another saved."""
    cell, case, seed = data.draw(any_case(), "call")
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    weights, inputs = call(cell, case, dtype, seed)
    if inputs.x is not None and data.draw(st.booleans(), "extreme"):
        extreme(np.random.default_rng(seed), inputs)
    dy, dstates = out_gradients(weights, inputs, seed)
    run, found, saved = by_name("native"), {}, {}
    for isa in FMA_ISAS:
        with fr.use_isa(isa):
            found[isa] = outcome(run, weights, inputs, dy, dstates, threads=2)
            assert fr.last_path()[:3] == ("native", isa, f"{cell} {dtype}")
            saved[isa] = run.forward(weights, inputs, save=True, num_threads=1).saved
    first = found[FMA_ISAS[0]]
    for isa in FMA_ISAS:
        assert_same_bits(found[isa], first)
        with fr.use_isa(isa):
            for other in FMA_ISAS:
                g = run.backward(saved[other], dy, dstates, num_threads=1)
                assert fr.last_path().isa == isa
                assert all(same_bits(s, first[f"dstate {k}"]) for k, s in enumerate(g.states))
                assert same_bits(g.directions[0].dw_ih, first["dw_ih 0"])
                assert g.dx is None or same_bits(g.dx, first["dx"])


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_all_save_alike(cell: str, dtype: str) -> None:
    """Every instruction set, baseline included, can walk back what any other saved."""
    weights, inputs = call(cell, Case(3, 5, 6, 37, directions=2), dtype)
    gradient = out_gradients(weights, inputs)
    run, shapes = by_name("native"), set()
    for isa in fr.supported_isas():
        with fr.use_isa(isa):
            right = outcome(run, weights, inputs, *gradient)
            saved = run.forward(weights, inputs, save=True, num_threads=None).saved
        assert saved is not None
        shapes.add(saved.data[0].shape)
        for other in fr.supported_isas():
            with fr.use_isa(other):
                g = run.backward(saved, *gradient, num_threads=None)
            assert g.dx is not None
            tolerance = 1e-4 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(g.dx, right["dx"], rtol=0, atol=tolerance)
    assert len(shapes) == 1


# --- the same input in other forms -------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", RECURRENT)
def test_tokens_are_one_hot_rows(native: Chosen, cell: str, dtype: str) -> None:
    """[S4] Tokens give the bits of one-hot rows, also in gradients of several partial sums."""
    for case in (
        Case(5, 130, 7, 20, tokens=True),
        Case(6, 3, 11, 9, directions=2, lengths=(6, 0, 4), reset=True, tokens=True),
        Case(2, 521, 3, 4, tokens=True),
    ):
        weights, inputs = call(cell, case, dtype)
        gradient = out_gradients(weights, inputs)
        found = outcome(native.run, weights, inputs, *gradient)
        dense = inputs._replace(tokens=None, x=np.eye(case.input_size, dtype=dtype)[inputs.tokens])
        right = outcome(native.run, weights, dense, *gradient)
        native.ran(f"{cell} {dtype}")
        assert "dx" not in found
        del right["dx"]
        assert_same_bits(found, right)


def strided_copies(x: Array) -> list[Array]:
    """The same numbers in other memory layouts: axes 0 and 1 may have any strides."""
    steps, batch, size = x.shape
    major = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
    roomy = np.full((steps + 1, batch + 2, size + 3), np.nan, x.dtype)[1:, 1:-1, 2:-1]
    roomy[:] = x
    backwards = np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    sparse = np.zeros((2 * steps, 3 * batch, size), x.dtype)[::2, ::3]
    sparse[:] = x
    return [major, roomy, backwards, sparse]


@pytest.mark.parametrize("shape", [(5, 7, 6, 19), (6, 1, 3, 33), (4, 70, 130, 5)], ids=str)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_strided_x(native: Chosen, cell: str, shape: tuple[int, ...]) -> None:
    """Batch-major, padded and reversed x is read in place, for any directions and threads."""
    directions = 1 if cell == "dense" else 2
    weights, inputs = call(cell, Case(*shape, directions=directions), "float32")
    gradient = out_gradients(weights, inputs)
    assert inputs.x is not None
    right = outcome(native.run, weights, inputs, *gradient)
    for x in strided_copies(inputs.x):
        found = outcome(native.run, weights, inputs._replace(x=x), *gradient, threads=2)
        native.ran(f"{cell} float32")
        assert_same_bits(found, right)
    same = inputs._replace(x=np.broadcast_to(inputs.x[:1, :1], inputs.x.shape))
    assert same.x is not None
    plain = same._replace(x=same.x.copy())
    assert_same_bits(
        outcome(native.run, weights, same, *gradient),
        outcome(native.run, weights, plain, *gradient),
    )


@needs_native
def test_packs_are_per_instruction_set() -> None:
    """A pack keeps panels for each instruction set, and renews them when its weights change."""
    weights, inputs = call("lstm", Case(3, 2, 4, 20), "float32")
    doubled = [{**complete(weights[0]), "w_ih": 2 * weights[0].w_ih}]

    def outputs(packed: core.Packed) -> list[Array]:
        found = []
        for isa in fr.supported_isas():
            with fr.use_backend("native"), fr.use_isa(isa):
                found.append(core.forward(packed, inputs.x).y)
                assert core.last_path().isa == isa
        return found

    packed = by_name("native").pack(weights)
    pinned = [core.pack("lstm", [complete(weights[0])], isa=isa) for isa in fr.supported_isas()]
    with fr.use_backend("native"):
        right = [core.forward(one, inputs.x).y for one in pinned]
    for _ in range(2):
        assert all(map(same_bits, outputs(packed), right))
    packed.update(doubled)
    assert all(map(same_bits, outputs(packed), outputs(core.pack("lstm", doubled))))
    assert not any(map(same_bits, outputs(packed), right))
