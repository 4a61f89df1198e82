"""Single steps on kernels that a stream prepared once: bits and refusals as in full calls."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import ISAS, Chosen
from fusedrnn._backends import choice
from layer_cases import CELLS, make

T, B = 6, 3


def inputs(layer: Any, batch: int = B) -> Any:
    rng = np.random.default_rng(0)
    return rng.standard_normal((T, batch, layer.input_size)).astype(layer.dtype)


def is_quick(stream: Any) -> bool:
    return stream._quick is not None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_bits_of_one_call(native: Chosen, cell: str, dtype: str) -> None:
    """[N1.3] Quick steps and full calls alternate, in stacks too; each continues from the other."""
    layer = make(cell, [9, 17], 2, dtype=dtype, zoneout=0.2)
    x = inputs(layer)
    y, last = layer(x)
    stream = layer.stream(B)
    for t in range(T):
        if t in (2, 3):
            h = stream(x[t : t + 1])[0]
            assert not is_quick(stream)
        else:
            h = stream.step(x[t])
            assert is_quick(stream)
        native.ran(f"{layer.cell} {dtype}")
        assert np.array_equal(h, y[t])
    for part, right in zip(*((s if isinstance(s, tuple) else (s,)) for s in (stream.state, last)),
                           strict=True):  # fmt: skip
        assert all(map(np.array_equal, part, right))


def test_shapes_of_one_sequence(native: Chosen) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    x = inputs(layer, 1)
    y, _ = layer(x)
    stream = layer.stream()
    out = np.empty(5, np.float32)
    assert np.array_equal(stream.step(x[0]), y[0])
    assert np.array_equal(stream.step(x[1, 0]), y[1, 0])
    assert stream.step(x[2, 0], out) is out
    assert np.array_equal(out, y[2, 0])
    assert is_quick(stream)


def test_what_is_not_plain_is_converted_first(native: Chosen) -> None:
    layer = fr.GRU(4, 5, seed=0)
    x = inputs(layer)
    y, _ = layer(x)
    odd = [
        x[0].tolist(),
        x[1].astype(np.float64),
        np.repeat(x[2], 2, axis=1)[:, ::2],
        x[3].astype(">f4"),
        np.asfortranarray(x[4]),
        x[5],
    ]
    stream = layer.stream(B)
    for t, a in enumerate(odd):
        assert np.array_equal(stream.step(a), y[t])
        assert is_quick(stream)  # quick after the conversion


@pytest.mark.parametrize("layers", [1, 2])
def test_the_output_may_be_written_over_the_input(backend: Chosen, layers: int) -> None:
    """h is fed back in place: x is read before out is written, also if they overlap in part."""
    layer = fr.RNN(5, 5, layers, seed=0)
    right, stream = layer.stream(B), layer.stream(B)
    h = np.random.default_rng(0).standard_normal((B, 5), dtype=np.float32)
    expected = h.copy()
    for _ in range(4):
        expected = right.step(expected)
        assert stream.step(h, out=h) is h
        assert np.array_equal(h, expected)
        assert backend.name == "reference" or is_quick(stream)
    memory = np.zeros(5 * B + 1, np.float32)
    x, out = memory[1:].reshape(B, 5), memory[:-1].reshape(B, 5)
    x[...] = h
    assert np.array_equal(stream.step(x, out=out), right.step(h))
    read_only = np.ones((B, 5), np.float32)
    read_only.flags.writeable = False
    before = stream.state
    with pytest.raises(ValueError, match="out: expected a writable"):
        stream.step(read_only, out=read_only)
    wide = fr.RNN(5, 4, layers, seed=0).stream(B)
    with pytest.raises(ValueError, match=r"out: expected shape \(.*, 4\), got"):
        wide.step(h, out=h)
    assert not wide.state.any()
    assert np.array_equal(stream.state, before)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh"])
def test_masks_resets_and_tokens_are_quick(
    native: Chosen, cell: str, layers: int, learned: bool
) -> None:
    """[N1.3] [L9] Each step has the bits of one call with masks and resets."""
    layer = make(cell, [9, 17][:layers], layers, learn_initial_state=learned)
    rng = np.random.default_rng(1)
    if learned:
        for name in layer.params:
            if name.startswith("initial"):
                layer.params[name] = rng.standard_normal(layer.params[name].shape)
    steps = 12
    x = rng.standard_normal((steps, B, layer.input_size)).astype(layer.dtype)
    ids = rng.integers(0, layer.input_size, (steps, B))
    mask, reset = rng.random((2, steps, B)) < 0.5
    x[~mask] = np.nan  # what is not real is never used
    for given in ({"x": x}, {"tokens": ids}):
        y, last = layer(**given, mask=mask, reset=reset)
        stream = layer.stream(B)
        for t in range(steps):
            one = {name: a[t] for name, a in given.items()}
            h = stream.step(**one, mask=mask[t], reset=reset[t])
            assert is_quick(stream)
            assert np.array_equal(h, y[t])
        for part, right in zip(*((s if isinstance(s, tuple) else (s,))
                                 for s in (stream.state, last)), strict=True):  # fmt: skip
            assert all(map(np.array_equal, part, right))


def test_flags_and_ids_in_other_forms(native: Chosen) -> None:
    """Lists and other integers are converted; what is wrong is refused, and changes nothing."""
    layer = fr.GRU(4, 5, seed=0)
    stream, right = layer.stream(B), layer.stream(B)
    ids, flags = np.array([3, 0, 2]), np.array([True, False, True])
    for tokens, mask in ((ids.astype(np.int8), flags.tolist()), (ids.tolist(), flags[::-1][::-1])):
        h = stream.step(tokens=tokens, mask=mask, reset=flags)
        assert np.array_equal(h, right.step(tokens=ids, mask=flags, reset=flags))
        assert is_quick(stream)
    before = stream.state
    for wrong, text in (
        ({"tokens": np.array([3, 0, 4])}, "tokens: expected ids in"),
        ({"tokens": np.array([3, -1, 0])}, "tokens: expected ids in"),
        ({"tokens": ids[:2]}, "tokens: expected shape"),
        ({"tokens": ids, "mask": flags[:2]}, "mask: expected shape"),
        ({"tokens": ids, "mask": ids}, "mask: expected an array of bool"),
        ({"tokens": ids, "reset": flags[None, None]}, "reset: expected shape"),
        ({"tokens": ids, "x": np.ones((B, 4), np.float32)}, "expected either x or tokens"),
        ({}, "expected either x or tokens"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            stream.step(**wrong)
        assert np.array_equal(stream.state, before)


def test_float64_for_a_float32_layer(native: Chosen) -> None:
    layer = fr.GRU(4, 5, seed=0)
    x = np.random.default_rng(0).standard_normal((3, B, 4))
    y, _ = layer(x)
    stream = layer.stream(B)
    for t in range(3):
        assert np.array_equal(stream.step(x[t]), y[t])
        assert is_quick(stream)
    huge = np.full((B, 4), 1e300)
    with pytest.warns(RuntimeWarning, match="overflow"):
        stream.step(huge)


def test_num_threads_is_quick_too(native: Chosen) -> None:
    """[P2] Kernels are prepared again only if the number of threads changes."""
    layer = fr.GRU(3, 5, seed=0)
    x = inputs(layer)
    y, _ = layer(x)
    stream = layer.stream(B)
    ready = []
    for t, threads in enumerate((None, 1, 1, 2, 2, None)):
        assert np.array_equal(stream.step(x[t], num_threads=threads), y[t])
        ready.append(stream._quick)
    assert [a is b for a, b in pairwise(ready)] == [False, True, False, True, False]
    with pytest.raises(TypeError, match="num_threads"):
        stream.step(x[0], num_threads=1.0)  # type: ignore[arg-type]
    assert np.array_equal(stream.state[0], y[5])


def refused() -> list[tuple[str, Any]]:
    x = np.ones((B, 5), np.float32)
    read_only = np.empty((B, 5), np.float32)
    read_only.flags.writeable = False
    return [
        ("x: expected shape", lambda s: s.step(x[:, :3])),
        ("out: expected shape", lambda s: s.step(x, np.empty((B, 6), np.float32))),
        ("out: expected a NumPy array", lambda s: s.step(x, np.empty((B, 5)))),
        ("read-only", lambda s: s.step(x, read_only)),
        ("not C-contiguous", lambda s: s.step(x, np.empty((B, 10), np.float32)[:, ::2])),
        ("expected floating point, got int64", lambda s: s.step(np.ones((B, 5), np.int64))),
    ]


@pytest.mark.parametrize(("text", "call"), refused(), ids=lambda v: v if type(v) is str else "")
def test_refusals_change_nothing(native: Chosen, text: str, call: Any) -> None:
    """[X1] [X2] A refused step changes no state and no output."""
    layer = fr.RNN(5, 5, 2, seed=0)
    stream = layer.stream(B)
    stream.step(np.ones((B, 5), np.float32))
    before = stream.state
    stream.step(np.ones((B, 5), np.float32))
    stream.state = before
    stream.step(np.zeros((B, 5), np.float32))
    reached = stream.state
    with pytest.raises((TypeError, ValueError), match=text):
        call(stream)
    assert np.array_equal(stream.state, reached)


def test_an_interrupted_stack_goes_back(native: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    """[P6] If a step is interrupted after the first layer, that layer's step is undone."""
    layer = fr.LSTM(3, 5, 2, seed=0)
    x = inputs(layer)
    y, _ = layer(x)
    stream = layer.stream(B)
    stream.step(x[0])

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    assert stream._quick is not None
    second = stream._quick._steps[1]
    with monkeypatch.context() as patch:
        patch.setattr(second, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stream.step(x[1])
    assert np.array_equal(stream.step(x[1]), y[1])


def test_it_follows_every_choice() -> None:
    """Parameters, instruction set, threads and backend may change between two steps."""
    layer = fr.GRU(3, 5, seed=0, dtype=np.float64)
    x = inputs(layer)
    stream, right = layer.stream(B), layer.stream(B)
    zeros = np.zeros((1, B, 5))
    long = {"reset": np.zeros(B, bool), "initial": zeros}  # with `initial` a step is a full call
    for t, isa in enumerate((*ISAS, *ISAS)):
        with fr.use_isa(isa):
            h = stream.step(x[t % T])
            assert fr.last_path()[:2] == ("native", isa)
        assert np.abs(h - right.step(x[t % T], **long)).max() <= 1e-14
    with fr.use_backend("reference"):
        h = stream.step(x[0])
        assert fr.last_path().backend == "reference"
    assert np.abs(h - right.step(x[0])).max() <= 1e-14
    assert np.abs(stream.step(x[2]) - right.step(x[2], **long)).max() <= 1e-14
    layer.params["bias_ih_l0"] = np.ones(15)
    assert np.abs(stream.step(x[1]) - right.step(x[1], **long)).max() <= 1e-14
    with layer.writable(), pytest.raises(RuntimeError, match="open for writing"):
        stream.step(x[2])
    with fr.set_num_threads(1):
        stream.step(x[2])
        assert fr.last_path().threads == 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_by_themselves(native: Chosen, again: Any) -> None:
    layer = fr.LSTM(3, 5, seed=0)
    x = inputs(layer)
    y, _ = layer(x)
    stream = layer.stream(B)
    stream.step(x[0])
    twin = again(stream)
    for t in (1, 2):
        assert np.array_equal(stream.step(x[t]), y[t])
    assert np.array_equal(twin.step(x[1]), y[1])


def test_a_long_step_lets_others_run_and_threads_share_it(native: Chosen) -> None:
    layer = fr.LSTM(64, 640, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 40, 64), dtype=np.float32)
    y, _ = layer(x)
    with fr.set_num_threads(2):
        stream = layer.stream(40)
        for t in range(2):
            assert np.array_equal(stream.step(x[t]), y[t])
            assert is_quick(stream)


def test_core_verifies_steps(native: Chosen) -> None:
    """A stepper of _core does nothing if its arrays are not as required."""
    layer = fr.RNN(3, 5, seed=0)
    stream = layer.stream(2)
    stream.step(np.ones((2, 3), np.float32))
    steps: Any = stream._quick
    raw = steps._steps[0]._step
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 5), np.float32)
    assert raw(x, y) >= 1
    assert y.any()
    frozen = y.copy()
    frozen.flags.writeable = False
    memory = np.zeros(16, np.float32)
    for a, b in (
        (x[:1], y),
        (x.astype(np.int32), y),
        (x, y[:, ::2]),
        (x, np.zeros((2, 6), np.float32)),
        (x, frozen),
        (memory[:6], memory[5:15]),
        (np.frombuffer(bytes(1) + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3), y),
    ):
        old = b.copy()
        assert raw(a, b) == 0
        assert np.array_equal(b, old)
    for wrong in (None, x.tolist()):
        with pytest.raises(TypeError):
            raw(wrong, y)
    (packed,) = layer._read().packs
    assert choice.reference().stepper(packed, None, None) is None  # type: ignore[arg-type]
