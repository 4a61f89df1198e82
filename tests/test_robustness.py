"""Odd numbers and wrong arrays, in one file: what may come in, and that it does no harm."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fpu
from cases import (
    CELL_NAMES,
    DTYPES,
    RECURRENT,
    Case,
    assert_same_bits,
    call,
    out_gradients,
    outcome,
    same_bits,
)
from conftest import ISAS, Chosen
from floor import Inputs, Weights
from fusedrnn._cells import CELLS, Array
from fusedrnn.core._plan import plan
from test_runtime import output

needs_native = pytest.mark.skipif(not ISAS, reason="this installation has no compiled kernels")

# --- denormal numbers --------------------------------------------------------------------------

SMALL = {"float32": (2.0**-100, 2.0**-40), "float64": (2.0**-1000, 2.0**-60)}


@pytest.mark.parametrize("cell", ["rnn_identity", "dense"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_flushed(native: Chosen, dtype: str, cell: str) -> None:
    """[N4] Denormal results are 0 and denormal inputs count as 0, also in the tails of vectors."""
    factors = SMALL[dtype]
    for x, w, right in (
        (*factors, 0.0),  # the product is denormal
        (factors[0] * factors[1], 1 / factors[0], 0.0),  # x is denormal, the product is normal
        (1 / factors[0], factors[0] * factors[1], 0.0),  # w is denormal
        (factors[0], 1.0, factors[0]),  # none is denormal
    ):
        weights = Weights(CELLS[cell], np.full((37, 1), w, dtype))
        if cell == "rnn_identity":
            weights.w_hh = np.zeros((37, 37), dtype)
        inputs = Inputs(np.full((2, 3, 1), x, dtype))
        assert inputs.x is not None
        assert inputs.x.all()
        assert weights.w_ih.all()
        y, _, saved = native.run.forward((weights,), inputs, save=True, num_threads=1)
        native.ran(f"{cell} {dtype}")
        assert (y == right).all()
        assert saved is not None
        g = native.run.backward(saved, np.full(y.shape, x, dtype), None, num_threads=1)
        assert g.dx is not None
        # Each element of dx is a sum of 37 equal terms.
        assert (g.dx == 37 * right).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_control_word_is_restored(native: Chosen, threads: int) -> None:
    """[N4] It is restored after calls and errors, and never changes in another thread."""
    word = fpu.control()
    assert fpu.denormals_live()
    weights, inputs = call("lstm", Case(40, 30, 40, 64), "float32")
    gradient = out_gradients(weights, inputs)
    stop, seen = threading.Event(), []

    def watch() -> None:
        before = fpu.control()
        while not stop.is_set():
            seen.append(fpu.denormals_live() and fpu.control() == before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            outcome(native.run, weights, inputs, *gradient, threads=threads)
            native.ran("lstm float32", threads)
            assert fpu.control() == word
            assert fpu.denormals_live()
        bad = inputs._replace(lengths=np.full(30, 41))
        with pytest.raises(ValueError, match="lengths"):
            native.run.forward(weights, bad, save=False, num_threads=threads)
        assert fpu.control() == word
        assert fpu.denormals_live()
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert all(seen)


def test_the_import_changes_no_control_word() -> None:
    """[N4] Neither the import nor a call in another thread changes the control word."""
    code = """
import importlib, sys, threading
sys.path.insert(0, FOLDER)
for name in [n for n in sys.modules if n.split(".")[0] == "fusedrnn"]:
    del sys.modules[name]
import fpu
before = fpu.control()
import fusedrnn as fr
middle = fpu.control()
t = threading.Thread(target=lambda: fr.LSTM(3, 5)(np.ones((2, 1, 3), np.float32)))
t.start()
t.join()
print(before == middle == fpu.control(), fpu.denormals_live())
"""
    prelude = f"FOLDER = {str(fpu.__file__).rpartition('/')[0]!r}\n"
    assert output(prelude + code) == "True True"


def test_sticky_flags_do_not_leak(native: Chosen) -> None:
    """Overflow and NaN inside a kernel cause no NumPy warning, neither there nor later."""
    weights, inputs = call("rnn_identity", Case(3, 2, 4, 9), "float32")
    assert inputs.x is not None
    inputs.x[0] = 3e38
    inputs.x[1] = np.nan
    with np.errstate(all="raise"):
        y = native.run.forward(weights, inputs, save=False, num_threads=1).y
        native.ran("rnn_identity float32")
        assert float(np.float32(1) + np.float32(1)) == 2
    assert not np.isfinite(y).all()


# --- NaN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_nan_in_a_gradient(native: Chosen, cell: str, threads: int) -> None:
    """[N5] NaN in dy of one sequence stays in its own dx and dh0, up to that step."""
    case = Case(31, 45, 40, 65)
    weights, inputs = call(cell, case, "float32")
    dy, dstates = out_gradients(weights, inputs)
    clean = outcome(native.run, weights, inputs, dy, dstates, threads=threads)
    dy[20, 11, 3] = np.nan
    found = outcome(native.run, weights, inputs, dy, dstates, threads=threads)
    native.ran(f"{cell} float32", threads)
    if cell == "dense":
        assert np.isnan(found["dx"][20, 11]).all()
        found["dx"][20, 11] = clean["dx"][20, 11]
    else:
        assert np.isnan(found["dx"][:21, 11]).all()
        found["dx"][:21, 11] = clean["dx"][:21, 11]
        for name in [name for name in found if name.startswith("dstate")]:
            assert name == "dstate 1" or np.isnan(found[name][0, 11]).all()
            found[name][0, 11] = clean[name][0, 11]
    for name in ("y", "dx", "dstate 0", "state 0"):
        assert same_bits(found[name], clean[name]), name
    assert np.isnan(found["dw_ih 0"]).any()


@pytest.mark.parametrize("cell", RECURRENT)
def test_nan_state(native: Chosen, cell: str) -> None:
    """[N5] A sequence that starts from NaN is NaN in all units, also those of the last vector."""
    weights, inputs = call(cell, Case(3, 7, 4, 37), "float64")
    clean = native.run.forward(weights, inputs, save=False, num_threads=1).y
    assert inputs.states is not None
    for state in inputs.states:
        state[0, 2] = np.nan
    y = native.run.forward(weights, inputs, save=False, num_threads=1).y
    native.ran(f"{cell} float64")
    assert np.isnan(y[:, 2]).all()
    others = np.arange(7) != 2
    assert same_bits(y[:, others], clean[:, others])


# --- arrays that must not be written -----------------------------------------------------------


@pytest.mark.parametrize("cell", RECURRENT)
def test_read_only_inputs(native: Chosen, cell: str) -> None:
    """[X3] [X4] Weights, input, states, lengths, reset and gradients may be read-only."""
    case = Case(5, 4, 3, 18, directions=2, lengths=(5, 0, 3, 4), reset=True, initial=True)
    weights, inputs = call(cell, case, "float32")
    gradient = out_gradients(weights, inputs)
    right = outcome(native.run, weights, inputs, *gradient)
    arrays = [a for w in weights for a in (w.w_ih, w.w_hh, w.b_ih, w.b_hh, w.p)]
    arrays += [inputs.x, inputs.lengths, inputs.reset, gradient[0]]
    arrays += [*(inputs.states or ()), *(inputs.initial or ()), *gradient[1]]
    copies = []
    for array in arrays:
        if array is not None:
            array.flags.writeable = False
            copies.append((array, array.copy()))
    for threads in (1, 3):
        assert_same_bits(outcome(native.run, weights, inputs, *gradient, threads=threads), right)
        native.ran(f"{cell} float32")
    assert all(np.array_equal(a, b) for a, b in copies)


# --- too large sizes, too little memory --------------------------------------------------------


def test_sizes_that_overflow(native: Chosen) -> None:
    """[X5] Overflow is found before an allocation; sizes that fit 64 bits are a MemoryError."""
    weights, _ = call("lstm", Case(2, 2, 1, 64), "float32")
    zero, ids = np.zeros((), np.float32), np.broadcast_to(np.int64(0), (2**29, 2**29))
    calls = [Inputs(None, ids)]
    calls += [
        Inputs(np.broadcast_to(zero, shape))
        for shape in ((2**30, 2**30, 1), (2**59, 1, 1), (1, 2**59, 1))
    ]
    for save in (False, True):
        for inputs in calls:
            with pytest.raises(ValueError, match="is too large: an array of the call"):
                native.run.forward(weights, inputs, save=save, num_threads=1)
        inputs = Inputs(np.broadcast_to(zero, (2**22, 2**22, 1)))
        with pytest.raises(MemoryError):
            native.run.forward(weights, inputs, save=save, num_threads=1)


@needs_native
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux keeps them")
@pytest.mark.slow
def test_out_of_memory() -> None:
    """[X5] With too little memory a call is a MemoryError or right; later calls work again."""
    code = """
import gc, resource
layer = fr.LSTM(4, 64, seed=0)
x = np.ones((2, 20_000, 4), np.float32)
few = layer(x[:, :50])[0]
with open("/proc/self/statm") as f:
    used = int(f.read().split()[0]) * resource.getpagesize()
seen = set()
for extra in range(0, 400, 20):
    for train in (False, True):
        resource.setrlimit(resource.RLIMIT_AS, (used + extra * 2**20, -1))
        try:
            if train:
                y, _, saved = layer.forward(x)
                layer.backward(saved, y)
                del saved
            else:
                y, _ = layer(x)
            assert np.array_equal(y[:, :50], few)
            seen.add(f"{train} right")
            del y
        except MemoryError:
            seen.add(f"{train} MemoryError")
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        assert np.array_equal(layer(x[:, :50])[0], few)
print(*sorted(seen), sep=",")
"""
    expected = "False MemoryError,False right,True MemoryError,True right"
    assert output(code, FUSEDRNN_NUM_THREADS="1") == expected


# --- _core verifies its arguments --------------------------------------------------------------


def damaged(a: Array) -> Iterator[tuple[str, Any]]:
    """Yields the array, wrong in one way each time, with a description."""
    yield "a list", a.tolist()
    yield "rank + 1", a[None]
    for axis in range(a.ndim):
        yield f"short axis {axis}", np.ascontiguousarray(np.delete(a, 0, axis))
        yield f"long axis {axis}", np.concatenate([a, np.take(a, [0], axis)], axis)
    if a.ndim > 1:
        yield "flat", a.reshape(-1)
    yield "other dtype", np.zeros(a.shape, np.float64)
    yield "integers", np.zeros(a.shape, np.int32)
    if a.dtype.itemsize > 1:
        yield "big-endian", a.astype(a.dtype.newbyteorder(">"))
        unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        unaligned[...] = a
        yield "unaligned", unaligned
    if a.size > 1:
        yield "strided", np.repeat(a, 2, axis=-1)[..., ::2]


def packed(isa: str, w: Weights, cell: str = "lstm_peephole", **changed: Any) -> Any:
    """Weights as _core takes them, with some of the arrays replaced."""
    from fusedrnn import _core

    names = ("w_ih", "w_hh", "b_ih", "b_hh", "p", "w_hr")
    arrays = {name: getattr(w, name) for name in names} | changed
    return _core.PackedWeights(isa, cell, tuple(arrays.values()), changed.get("options"))


class Calls:
    """Valid arguments of forward and backward of _core; each can be replaced by name."""

    def __init__(self, isa: str, tokens: bool) -> None:
        from fusedrnn import _core

        case = Case(6, 3, 5, 18, directions=2, lengths=(6, 2, 0), reset=True, initial=True)
        case = Case(**{**case.__dict__, "tokens": tokens})
        self.weights, inputs = call("lstm_peephole", case, "float32")
        dy, dstates = out_gradients(self.weights, inputs)
        assert inputs.reset is not None
        plan_ = plan(6, 3, 2, inputs.lengths, None, inputs.reset)
        self.fields = {
            "x": inputs.x,
            "tokens": inputs.tokens,
            "states": list(inputs.states or ()),
            "lengths": inputs.lengths,
            "times": None,
            "cut": plan_.cut,
            "initial": list(inputs.initial or ()),
            "drop": np.ones((2, 3, 18), np.float32),
            "keep": [np.zeros((2, 6, 3, 18), np.float32)] * 2,
        }
        packs = [packed(isa, w) for w in self.weights]
        common = {"packs": packs, **self.fields}
        self.forward = common | {"out": None, "final": None, "save": True, "threads": 1, "most": 0}
        self.functions: dict[str, Callable[..., Any]] = {"forward": _core.forward}
        y, _, saved, _ = self.run("forward")
        self.backward = common | {"y": y, "saved": saved, "dy": dy, "dstates": list(dstates)}
        self.backward |= {"dcells": np.zeros((2, 6, 3, 18), np.float32)}
        self.backward |= {"dgates": np.zeros((2, 6, 3, 4, 18), np.float32)}
        self.backward |= {"dx": True, "dfirst": True, "dinitial": True}
        self.backward |= {"dweights": [(True,) * 6] * 2, "add": False, "group": 0}
        self.backward |= {"threads": 1, "most": 0}
        self.functions["backward"] = _core.backward

    def run(self, function: str, **changed: Any) -> Any:
        arguments = getattr(self, function) | changed
        inputs = (*(arguments.pop(name) for name in self.fields), (0.1, 0.1))
        packs, *values = arguments.values()
        return self.functions[function](packs, inputs, *values)


@pytest.mark.parametrize("function", ["forward", "backward"])
def test_core_verifies_arrays(native: Chosen, function: str) -> None:
    """[X2] Every array argument, wrong in every way, is a ValueError; nothing is converted."""
    for tokens in (False, True):
        calls = Calls(native.isa, tokens)
        before = calls.run(function)
        for name, value in getattr(calls, function).items():
            arrays = value if isinstance(value, list) else [value]
            for k, array in enumerate(arrays):
                if not isinstance(array, np.ndarray):
                    continue
                for what, bad in damaged(array):
                    given = [*arrays[:k], bad, *arrays[k + 1 :]] if isinstance(value, list) else bad
                    try:
                        calls.run(function, **{name: given})
                    except ValueError:
                        continue
                    pytest.fail(f"{function} took {name} with {what}")
        after = calls.run(function)
        assert tokens or same_bits(after[0], before[0])
        states = 1 if function == "forward" else 2
        for a, b in zip(after[states], before[states], strict=True):
            assert same_bits(a, b)


@pytest.mark.parametrize("function", ["forward", "backward"])
def test_core_verifies_values(native: Chosen, function: str) -> None:
    """Wrong names, sizes, ids, lengths, numbers of arrays and absent arrays are errors."""
    calls, ids = Calls(native.isa, False), Calls(native.isa, True)
    arguments = getattr(calls, function)
    packs = arguments["packs"]
    first, second = calls.weights
    narrow = packed(native.isa, second, w_ih=second.w_ih[:, :4].copy())
    double = {name: a.astype(float) for name, a in second.arrays().items()}
    double = {"w_hr": None, **double}
    wrong: list[tuple[Calls, dict[str, Any]]] = [
        (calls, {"x": None}),
        (calls, {"x": np.float32(1)}),
        (calls, {"packs": []}),
        (calls, {"packs": packs * 2}),
        (calls, {"packs": packs[:1]}),
        (calls, {"packs": [packs[0], narrow]}),
        (calls, {"packs": [packs[0], None]}),
        (calls, {"packs": [packs[0], packed(native.isa, second, **double)]}),
        (calls, {"packs": [packs[0], packed(native.isa, second, "lstm", p=None)]}),
        (calls, {"states": arguments["states"][:1]}),
        (calls, {"initial": arguments["initial"] * 2}),
    ]
    others = [isa for isa in ISAS if isa != native.isa]
    wrong += [(calls, {"packs": [packs[0], packed(isa, second)]}) for isa in others]
    wrong += [(calls, {"cut": None, "times": np.full((2, 3, 6), n)}) for n in (-1, 6, 2**62)]
    wrong += [(calls, {"lengths": None, "times": np.zeros((2, 3, 6), int)})]
    for n in (-1, 7, 2**62, -(2**62)):
        lengths = np.array([6, n, 0])
        wrong += [(calls, {"lengths": lengths}), (ids, {"lengths": lengths})]
    for n in (-1, 5, 2**62, -(2**63)):
        tokens = getattr(ids, function)["tokens"].copy()
        tokens[-1, -1] = n
        wrong.append((ids, {"tokens": tokens}))
    if function == "backward":
        wrong += [(calls, {name: None}) for name in ("y", "saved")]
        wrong += [(calls, {"dstates": arguments["dstates"][:1]})]
        wrong += [(calls, {"dweights": [(True,) * n] * 2}) for n in (0, 5, 7)]
        wrong += [(calls, {"group": n}) for n in (-1, 2, 6, 2**62)]
        wrong += [(calls, {"dweights": [(True,) * 6]}), (calls, {"dx": arguments["x"][:, :, :4]})]
    else:
        read_only = np.zeros((6, 3, 36), np.float32)
        read_only.flags.writeable = False
        wrong += [(calls, {"out": a}) for a in (read_only, read_only[:-1], read_only.astype(float))]
        wrong += [(calls, {"save": np.zeros(3, np.float32)})]
    for target, changed in wrong:
        with pytest.raises(ValueError):
            target.run(function, **changed)
    for changed in ({"threads": 2**31}, {"packs": 3}, {"packs": [3, 4]}):
        with pytest.raises((TypeError, ValueError)):
            calls.run(function, **changed)
    for isa, cell in (("mmx", "lstm_peephole"), (native.isa, "transformer"), (native.isa, "gru")):
        with pytest.raises(ValueError):
            packed(isa, first, cell)


def test_core_verifies_sizes(native: Chosen) -> None:
    """[X5] The sizes of a call and of all its scratch fit 64 bits, also in calls of `_core`."""
    calls = Calls(native.isa, False)
    none = dict.fromkeys(("states", "lengths", "cut", "initial", "drop", "keep"))
    for shape in ((2**29, 2**29, 5), (2**58, 1, 5), (1, 2**58, 5)):
        x = np.broadcast_to(np.zeros((), np.float32), shape)
        with pytest.raises(ValueError, match="too large to be addressed"):
            calls.run("forward", **none, x=x)


def test_core_verifies_weights(native: Chosen) -> None:
    """Packing checks the shape of every array that it reads."""
    from fusedrnn import _core

    (w,), _ = call("lstm_peephole", Case(1, 1, 5, 18), "float32")
    w.w_hr = np.zeros((7, 18), np.float32)
    w.w_hh = np.zeros((72, 7), np.float32)
    packed(native.isa, w)
    for name in ("w_ih", "w_hh", "b_ih", "b_hh", "p", "w_hr"):
        for what, bad in damaged(getattr(w, name)):
            if name == "w_ih" and what.endswith("axis 1"):
                continue  # that is a valid layer of another input size
            with pytest.raises(ValueError):
                packed(native.isa, w, **{name: bad})
    for missing in ("w_hh", "p"):
        with pytest.raises(ValueError):
            packed(native.isa, w, **{missing: None})
    for x in (np.zeros((2, 2)), np.zeros(3, np.float16), [1.0], np.zeros(6)[::2]):
        with pytest.raises(ValueError):
            _core.tanh(native.isa, x)
