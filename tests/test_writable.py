"""Who may write parameters, and when others see the changes: blocks, kept arrays, threads."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import PATHS, Chosen, choose
from fusedrnn._backends.choice import by_name
from fusedrnn._backends.types import Inputs
from fusedrnn._layers import params as _params
from fusedrnn.nn import Dense

X = np.random.default_rng(0).standard_normal((4, 2, 3), dtype=np.float32)
NAME = "weight_hh_l0"


def made(**options: Any) -> fr.GRU:
    return fr.GRU(3, 5, seed=0, **options)


def shown(layer: Any) -> dict[str, Any]:
    return {name: np.array(a) for name, a in layer.params.items()}


def assert_agrees(layer: Any) -> None:
    """Assert that calls compute with the parameters that `params` shows."""
    twin = type(layer).from_config(layer.config(), shown(layer))
    assert np.array_equal(layer(X)[0], twin(X)[0])


def places(layer: Any) -> dict[str, int]:
    return {name: a.ctypes.data for name, a in layer.params.items()}


# --- arrays kept from a block ------------------------------------------------------------------


def write_tensor(array: Any) -> Callable[[], None]:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(array)

    def write() -> None:
        tensor.fill_(7)

    return write


def write_memory(array: Any) -> Callable[[], None]:
    memory = memoryview(array).cast("B")

    def write() -> None:
        memory[:] = bytes(len(memory))

    return write


def write_view(of: Callable[[Any], Any]) -> Callable[[Any], Callable[[], None]]:
    def keep(array: Any) -> Callable[[], None]:
        view = of(array)

        def write() -> None:
            view[...] = 7

        return write

    return keep


def write_itself(array: Any) -> Callable[[], None]:
    def write() -> None:
        if not array.flags.writeable:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 7
            array.flags.writeable = True  # NumPy allows it: the array is now the writer's
            seen.append(array)
        array[...] = 7
        assert seen

    seen: list[Any] = []

    return write


def write_iterator(array: Any) -> Callable[[], None]:
    flat = array.flat

    def write() -> None:
        with pytest.raises(ValueError, match="read-only"):
            flat[:] = 7

    return write


KEPT: dict[str, Callable[[Any], Callable[[], None]]] = {
    "the array itself": write_itself,
    "a view": write_view(lambda a: a.view()),
    "a part": write_view(lambda a: a[2:4, 1]),
    "a view of a view": write_view(lambda a: a.T[::2][1:]),
    "reshaped": write_view(lambda a: a.reshape(-1)),
    "raveled": write_view(lambda a: a.ravel()),
    "a flattened copy": write_view(lambda a: a.flatten()),
    "another dtype": write_view(lambda a: a.view(np.uint8)),
    "a buffer": write_view(lambda a: np.frombuffer(a, np.float32)),
    "a memoryview": write_memory,
    "a tensor": write_tensor,
    "an iterator": write_iterator,
}


@pytest.mark.torch
@pytest.mark.parametrize("keep", KEPT.values(), ids=list(KEPT))
def test_what_is_kept_of_a_block_is_no_longer_the_layers(
    backend: Chosen, keep: Callable[[Any], Callable[[], None]]
) -> None:
    """[W10] Outputs agree with params, whatever is written to kept arrays after the block."""
    layer = made()
    before = shown(layer)
    with layer.writable() as p:
        p[NAME] += 1
        write = keep(p[NAME])
    for _ in range(2):
        write()
        assert np.array_equal(layer.params[NAME], before[NAME] + np.float32(1))
        assert_agrees(layer)
    with layer.writable() as p:  # nor in a later block
        write()
        p[NAME] -= 1
    write()
    assert np.array_equal(layer.params[NAME], before[NAME] + np.float32(1) - np.float32(1))
    assert_agrees(layer)


@pytest.mark.parametrize("counted", [True, False])
def test_where_references_cannot_be_counted_blocks_copy(
    backend: Chosen, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_params, "COUNTED", counted)
    layer = made()
    at, old = places(layer), layer.params["bias_ih_l0"]
    before = old.copy()
    with layer.writable() as p:
        view = p[NAME][:]
        p["bias_ih_l0"][:] = 3
    view[:] = 7
    assert np.array_equal(old, before)
    assert (layer.params["bias_ih_l0"] == 3).all()
    assert_agrees(layer)
    if counted:
        moved = {name for name, place in places(layer).items() if place != at[name]}
        assert moved == {NAME, "bias_ih_l0"}


def test_the_kept_mapping_is_closed(backend: Chosen) -> None:
    layer = made()
    with layer.writable() as p:
        p[NAME][:] = 2
        items, values = p.items(), p.values()
    assert list(p) == list(layer.params)
    assert (p[NAME] == 2).all()
    assert p.owner is layer
    assert not p[NAME].flags.writeable
    assert len(items) == len(values) == 0  # their arrays would be the layer's own
    with pytest.raises(ValueError, match=f"{NAME}: read-only: the `with layer.writable"):
        p[NAME] = np.zeros((15, 5))
    with pytest.raises(ValueError, match="read-only"):
        p[NAME] -= 1
    with layer.writable() as other:
        other[NAME][:] = 3
        with pytest.raises(ValueError, match="read-only"):
            p[NAME] = np.zeros((15, 5))
        with pytest.raises(RuntimeError, match="open for writing"):
            p[NAME]
    assert (p[NAME] == 3).all()
    assert_agrees(layer)


def test_arrays_of_params_keep_their_moment(backend: Chosen) -> None:
    """[W10] Arrays taken before a block keep their values for good."""
    layer = made()
    array, part = layer.params[NAME], layer.params["bias_ih_l0"][3:5]
    everything, before = dict(layer.params), layer.state_dict()
    with layer.writable() as p:
        for name in p:
            p[name][...] = 5
            assert np.array_equal(everything[name], before[name])
    assert np.array_equal(array, before[NAME])
    assert np.array_equal(part, before["bias_ih_l0"][3:5])
    assert (layer.params[NAME] == 5).all()
    assert not array.flags.writeable
    layer.load_state_dict(everything)  # views of the layer's earlier arrays
    assert np.array_equal(layer.params[NAME], before[NAME])
    layer.params[NAME] = layer.params[NAME] * 2
    assert np.array_equal(array, before[NAME])
    assert_agrees(layer)


def test_nobody_reads_while_they_are_open() -> None:
    layer = made()
    params = layer.params
    with layer.writable() as p:
        for refused in (
            lambda: params[NAME],
            lambda: layer.params.items(),
            lambda: layer.params.values(),
            lambda: dict(layer.params),
            lambda: layer.params == {},
            lambda: layer.state_dict(),
            lambda: pickle.dumps(layer),
            lambda: copy.deepcopy(layer),
        ):
            with pytest.raises(RuntimeError, match="open for writing, here or in another thread"):
                refused()
        # Names and shapes can always be read, and the thread that writes may read values.
        assert list(params) == list(params.keys()) == list(p)
        assert len(params) == 4
        assert NAME in params
        assert "weight" not in params
        assert repr(params).startswith("{'weight_ih_l0': float32(15, 3), ")
        assert p.get(NAME) is p[NAME] is dict(p)[NAME]
    with pytest.raises(KeyError, match="no parameter 'weight'; this layer has weight_ih_l0, "):
        params["weight"]


# --- when nothing is copied --------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3])
def test_a_training_loop_copies_nothing(backend: Chosen, layers: int) -> None:
    """The arrays stay where they are through forward and backward calls and optimiser steps."""
    layer = fr.LSTM(3, 5, layers, seed=0, peepholes=True)
    at, values = places(layer), shown(layer)
    for _ in range(30):
        y, _, saved = layer.forward(X)
        _, _, gradients = layer.backward(saved, 2 * y)
        with layer.writable() as params:
            for name, gradient in gradients.items():
                params[name] -= 1e-2 * gradient
    assert places(layer) == at
    assert not any(np.array_equal(a, values[name]) for name, a in layer.params.items())
    assert_agrees(layer)


def test_what_is_held_costs_one_copy() -> None:
    layer = made()
    at, held = places(layer), layer.params[NAME]
    for k in range(3):
        with layer.writable() as p:
            for name in p:
                p[name] += 1
        now = places(layer)
        assert {name for name in at if now[name] != at[name]} == ({NAME} if k == 0 else set())
        at = now
    assert held.any()


def test_memory_of_others_is_not_adopted() -> None:
    """Buffers from pickles and views are copied: reference counts do not show their owners."""
    layer = made()
    arrays = {name: np.array([a])[0] for name, a in layer.params.items()}
    assert not any(a.flags.owndata for a in arrays.values())
    layer.__setstate__({**layer.__getstate__(), "params": arrays})
    with layer.writable() as p:
        view = p[NAME][:]
    view[:] = 7
    assert not (layer.params[NAME] == 7).any()
    assert_agrees(layer)


# --- calls that began before a block -----------------------------------------------------------


def test_a_call_never_reads_what_is_being_written(backend: Chosen) -> None:
    """A call that has read everything goes on; another is refused, also deep in a stack."""
    layer = fr.GRU(3, 5, 2, seed=0)
    y = layer(X)[0]
    packs = layer._read().packs

    def run(k: int, x: Any) -> Any:
        return by_name(backend.name).forward(packs[k], Inputs(np.ascontiguousarray(x))).y

    (held,) = packs[1].held()
    kept = held["w_hh"].copy()
    with layer.writable() as p:
        for name in p:
            p[name][...] = 1
        with pytest.raises(RuntimeError, match="parameters changed while this call read them"):
            run(1, np.zeros((4, 2, 5), np.float32))
        assert np.array_equal(held["w_hh"], kept)
    with pytest.raises(RuntimeError, match="parameters changed while this call read them"):
        run(1, np.zeros((4, 2, 5), np.float32))
    assert np.array_equal(held["w_hh"], kept)
    assert not np.array_equal(layer(X)[0], y)
    assert_agrees(layer)


def test_a_form_made_while_the_weights_are_opened_is_not_used(backend: Chosen) -> None:
    """Opening closes the forms that exist; one that is being made is noticed when it is ready."""
    layer, run = made(), by_name(backend.name)
    (packed,) = layer._read().packs
    block = layer.writable()

    class Late:
        name, form_key = run.name, staticmethod(run.form_key)

        def form(self, *arguments: Any) -> Any:
            form = run.form(*arguments)
            block.__enter__()
            return form

    with pytest.raises(RuntimeError, match="parameters changed while this call read them"):
        packed.forms(Late())  # type: ignore[arg-type]
    block.__exit__(None, None, None)
    assert_agrees(layer)


def test_closed_weights_keep_their_shapes_alone() -> None:
    layer = fr.LSTM(3, 5, seed=0, proj_size=2)
    (packed,) = layer._read().packs
    with layer.writable():
        pass
    assert (packed.input_size, packed.hidden_size, packed.output_size) == (3, 5, 2)
    assert packed.dtype == np.float32
    with pytest.raises(RuntimeError, match="parameters changed while this call read them"):
        packed.held()


@pytest.mark.parametrize("options", [{"drop_connect": 0.5}, {"layer_norm": True}])
def test_saved_calls_have_the_parameters_of_their_forward(
    backend: Chosen, options: dict[str, Any]
) -> None:
    layer = fr.LSTM(3, 5, seed=0, **options)
    y, _, saved = layer.forward(X, rng=np.random.default_rng(0))
    right = layer.backward(saved, y)[2]
    again = layer.backward(saved, y)[2]
    assert all(np.array_equal(a, again[name]) for name, a in right.items())
    with layer.writable() as p:
        p[NAME][...] = 1
        with pytest.raises(RuntimeError, match="open for writing"):
            layer.backward(saved, y)
        if "layer_norm" in options:
            with pytest.raises(RuntimeError, match="open for writing"):
                saved.gates  # noqa: B018
    with pytest.raises(RuntimeError, match="parameters have changed"):
        layer.backward(saved, y)


# --- threads, in Python code that is the same on every instruction set -----------------------


@pytest.fixture(params=PATHS[:2], ids="-".join)
def either(request: pytest.FixtureRequest) -> Iterator[Chosen]:
    """Run the test on the reference and on the kernels."""
    yield from choose(*request.param)


def together(jobs: list[Callable[[], None]], seconds: float) -> None:
    """Run jobs again and again in threads that switch often; raises the first error."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def work(job: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                job()
        except BaseException as error:
            errors.append(error)
            stop.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    try:
        for thread in threads:
            thread.start()
        stop.wait(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def says(error: BaseException, *texts: str) -> None:
    assert any(text in str(error) for text in texts), error


# A stack of linear units. Its outputs are exact if the parameters are small whole numbers.
ONES, FIRST = np.ones((1, 1, 3)), np.ones((2, 1, 4))


def linear() -> fr.RNN:
    return fr.RNN(3, 4, 2, nonlinearity="identity", dtype=np.float64, seed=0)


def write(layer: Any, k: float) -> None:
    """Set every element of every parameter to k, one half of each array after the other."""
    with layer.writable() as p:
        for name in p:
            half = len(p[name]) // 2
            p[name][:half] = k
            p[name][half:] = k


def one_value(arrays: Any) -> None:
    values = {float(v) for a in arrays for v in np.unique(a)}
    assert len(values) == 1, values
    assert values != {-1.0}


def outcome(k: float) -> tuple[float, float]:
    """h of both layers if every parameter is k and the input is ones."""
    first = (3 + 2 + 4) * k  # I ones, two biases, H ones
    return first, (4 * first + 2 + 4) * k


def one_k(y: Any, h: Any) -> None:
    """Assert that a call computed with one k, the same in both layers."""
    k = float(h[0, 0, 0]) / outcome(1)[0]
    assert (h[0] == outcome(k)[0]).all(), h
    assert (h[1] == outcome(k)[1]).all(), (k, h)
    assert (y[-1] == h[1]).all()


@pytest.mark.parametrize("counted", [True, False])
def test_readers_see_before_or_after_never_half(
    either: Chosen, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[W11] Stress test: each block sets every element of every parameter to one value.

    Readers (single parameters, all of them, copies of the layer, calls, training calls, streams)
    find one value everywhere, or a RuntimeError that says why not.
    """
    monkeypatch.setattr(_params, "COUNTED", counted)
    layer = linear()
    counts = {"read": 0, "refused": 0, "written": 0}
    kept: list[Any] = []

    def fill() -> None:
        k = float(counts["written"] % 1000)
        write(layer, k)
        if counts["written"] % 7 == 0:
            with layer.writable() as p:
                kept[:] = [p[name][:1] for name in p]
        for view in kept:
            view[...] = -1  # these no longer belong to the layer
        counts["written"] += 1

    fill()

    def reader(read: Callable[[], None]) -> Callable[[], None]:
        def job() -> None:
            with fr.use_backend(either.name):
                try:
                    read()
                    counts["read"] += 1
                except RuntimeError as error:
                    says(error, "open for writing", "parameters changed while this call")
                    counts["refused"] += 1

        return job

    def train() -> None:
        y, h, saved = layer.forward(ONES, FIRST)
        one_k(y, h)
        try:
            layer.backward(saved, y)
        except RuntimeError as error:
            says(error, "open for writing", "parameters changed", "parameters have changed since")

    def step() -> None:
        stream = layer.stream()
        stream.state = FIRST
        one_k(stream.step(ONES[0])[None], stream.state)
        stream.state = FIRST
        one_k(stream.step(ONES[0])[None], stream.state)

    names = list(layer.params)
    readers = (
        lambda: one_value([layer.params[names[counts["read"] % len(names)]]]),
        lambda: one_value(layer.params.values()),
        lambda: one_value(dict(layer.params.items()).values()),
        lambda: one_value(layer.state_dict().values()),
        lambda: one_value(copy.copy(layer).params.values()),
        lambda: one_k(*layer(ONES, FIRST)),
        train,
        step,
    )
    started = time.monotonic()
    while time.monotonic() - started < 20:
        together([fill, *map(reader, readers)], 0.5)
        if counts["read"] > 3000 and counts["written"] > 300:
            break
    assert counts["read"] > 3000, counts
    assert counts["written"] > 300, counts


def test_one_of_several_threads_gets_in() -> None:
    layer = made()
    inside: list[int] = []
    entered, refused = [0], [0]

    def enter() -> None:
        try:
            with layer.writable() as p:
                inside.append(1)
                assert len(inside) == 1
                p[NAME] += 1
                inside.pop()
                entered[0] += 1
        except RuntimeError as error:
            says(error, "open for writing")
            refused[0] += 1

    together([enter] * 4, 0.3)
    assert entered[0] > 10
    assert not inside
    assert_agrees(layer)


# --- an interruption at every line -------------------------------------------------------------

TRACED = {
    f"{Path(fr.__file__).parent}/{name}.py"
    for name in (
        *("_layers/params", "_layers/noise", "_layers/stack", "_layers/layer"),
        *("core/_packed", "_backends/native"),
        *("_backends/reference/walks", "_backends/reference/call"),
    )
}


def reaches(line: int, job: Callable[[], None], action: Callable[[], None]) -> bool:
    """Run `job`, and `action` before its line number `line`, counted over the code in TRACED."""
    left = [line]

    def local(frame: Any, event: str, _: object) -> Any:
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                action()
        return local

    def trace(frame: Any, event: str, _: object) -> Any:
        return local if frame.f_code.co_filename in TRACED else None

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        job()
    finally:
        sys.settrace(old)
    return left[0] <= 0


READERS: dict[str, Callable[[Any], None]] = {
    "one": lambda layer: one_value([layer.params[NAME]]),
    "all": lambda layer: one_value(layer.params.values()),
    "state_dict": lambda layer: one_value(layer.state_dict().values()),
    "copy": lambda layer: one_value(copy.copy(layer).params.values()),
    "call": lambda layer: one_k(*layer(ONES, FIRST)),
    "forward": lambda layer: one_k(*layer.forward(ONES, FIRST)[:2]),
}


@pytest.mark.parametrize("how", ["opened", "changed"])
@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
def test_a_block_at_any_line_of_a_reader(
    either: Chosen, read: Callable[[Any], None], how: str
) -> None:
    """[W11] At each line of a reader, another thread opens the parameters and writes half or
    all.
    """
    line, seen = 0, set()
    while True:
        line += 1
        layer = linear()
        write(layer, 1.0)
        inside = ExitStack()

        def action(layer: Any = layer, inside: ExitStack = inside) -> None:
            if how == "changed":
                write(layer, 2.0)
                return
            p = inside.enter_context(layer.writable())
            for name in p:
                p[name][: len(p[name]) // 2] = 2.0

        def job(layer: Any = layer) -> None:
            try:
                read(layer)
                seen.add("read")
            except RuntimeError as error:
                says(error, "open for writing", "parameters changed while this call")
                seen.add("refused")

        with inside:
            reached = reaches(line, job, action)
        if not reached:
            break
    assert line > 3
    assert seen == {"read", "refused"} if how == "opened" else "read" in seen


class Interrupted(KeyboardInterrupt):
    pass


def interrupt() -> None:
    raise Interrupted


def test_an_interrupt_at_any_line_leaves_the_layer_whole(reference: Chosen) -> None:
    line = 0
    while True:
        line += 1
        layer, views = made(), []
        before = shown(layer)

        def job(layer: Any = layer, views: Any = views) -> None:
            with layer.writable() as p:
                views.append(p[NAME][:2])
                p["bias_ih_l0"][...] = 3

        try:
            assert not reaches(line, job, interrupt)
            break
        except Interrupted:
            pass
        found = shown(layer)  # the block is closed
        for name, a in found.items():
            assert np.array_equal(a, before[name]) or (name == "bias_ih_l0" and (a == 3).all())
        for view in views:
            view[...] = 7
        assert np.array_equal(layer.params[NAME], before[NAME])
        assert_agrees(layer)
        job()
        assert (layer.params["bias_ih_l0"] == 3).all()
        assert_agrees(layer)
    assert line > 50


def test_no_memory_for_a_copy_leaves_the_layer_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made()
    before = shown(layer)
    fails = [False]

    def leave(arrays: Any, real: Any = _params._leave_to_others) -> None:
        if fails[0]:
            raise MemoryError
        real(arrays)

    monkeypatch.setattr(_params, "_leave_to_others", leave)
    fails[0] = True
    with pytest.raises(MemoryError), layer.writable():
        raise AssertionError("the block has begun")
    assert all(np.array_equal(a, before[name]) for name, a in shown(layer).items())
    fails[0] = False
    views: list[Any] = []

    def change() -> None:
        with layer.writable() as p:
            views.append(p[NAME][:])
            views[0][:] = 3
            fails[0] = True

    with pytest.raises(MemoryError):
        change()
    fails[0] = False
    assert (layer.params[NAME] == 3).all()
    assert_agrees(layer)
    with layer.writable() as p:
        p[NAME][:] = 4
    views[0][:] = 5
    assert (layer.params[NAME] == 4).all()
    assert_agrees(layer)


def test_the_end_of_a_layer_runs_no_python() -> None:
    """A signal's handler runs between lines of Python, and what it raises there would be lost."""
    layer = made()
    layer(X)
    number, ran = id(layer), []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: ran.append(frame.f_code) if event == "call" else None)
    del layer
    sys.setprofile(before)
    assert ran == []
    assert number not in _params._ALIVE


def test_dense_owns_its_parameters_the_same_way(backend: Chosen) -> None:
    layer = Dense(3, 2, seed=0)
    y, saved = layer.forward(X)
    with layer.writable() as p:
        view = p["weight"].reshape(-1)
        with pytest.raises(RuntimeError, match="open for writing"):
            layer.params["weight"]
        with pytest.raises(RuntimeError, match="open for writing"):
            layer(X)
        with pytest.raises(RuntimeError, match="open for writing"):
            layer.backward(saved, y)
    view[:] = 7
    assert np.array_equal(layer(X), y)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        layer.backward(saved, y)
