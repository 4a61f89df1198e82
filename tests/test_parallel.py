"""fit(all_reduce=...): several processes, here threads, train as one does on all samples."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from test_fit import labelling, numbers, series, small, states, words
from test_seq2seq import reversals, reverser

Array = np.ndarray[Any, np.dtype[Any]]


class World:
    """Threads that sum arrays: each waits for all others."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.barrier = threading.Barrier(count, timeout=60)
        self.arrays: list[Array] = [np.empty(0)] * count

    def all_reduce(self, rank: int, in_place: bool = False) -> Callable[[Array], Array | None]:
        def total(a: Array) -> Array | None:
            self.arrays[rank] = a.copy()
            self.barrier.wait()
            found = sum(self.arrays[1:], start=self.arrays[0].copy())
            self.barrier.wait()
            if in_place:
                a[...] = found
                return None
            return np.asarray(found)

        return total

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Return what each process returns or raises; the first one is the main thread."""
        found: list[Any] = [None] * self.count

        def one(rank: int) -> None:
            try:
                found[rank] = work(rank)
            except Exception as error:
                found[rank] = error

        threads = [threading.Thread(target=one, args=(k,)) for k in range(1, self.count)]
        for thread in threads:
            thread.start()
        one(0)
        for thread in threads:
            thread.join()
        return found


def of_rank(data: dict[str, Any], rank: int, count: int) -> dict[str, Any]:
    return {name: a[rank::count] for name, a in data.items()}


def cases() -> dict[str, tuple[Any, dict[str, Any], dict[str, Any], Any]]:
    """Each: a model, its samples, options of fit, and options of compile."""
    x, y, lengths = words(48)
    long_x, long_y = series(30, 8)
    source, target, source_lengths = reversals(24)
    still = labelling("float64", dropout=0.0)
    parts = {**reverser().parts, "decoder": fr.GRU(8, 32, seed=1)}  # that of reverser has noise
    seq2seq = nn.Seq2Seq(**parts, start=1, end=2)
    without_noise = nn.Sequential([fr.LSTM(1, 6, seed=0), nn.Dense(6, 1, seed=1)])
    classes = "softmax_cross_entropy"
    return {
        "labels": (
            still,
            {"x": x, "y": y, "lengths": lengths},
            {"clip_norm": 0.3},
            ("adam", classes, ["accuracy", "perplexity", "balanced_accuracy"]),
        ),
        "weights": (
            still,
            {"x": x, "y": y, "lengths": lengths, "sample_weight": np.arange(48) % 5 / 7},
            {"clip_norm": 0.3},
            ("adam", classes, ["accuracy", "perplexity"]),
        ),
        "pieces": (without_noise, {"x": long_x, "y": long_y}, {"truncate": 8}, ("sgd", "mse")),
        "seq2seq": (
            seq2seq,
            {"x": source, "y": target, "lengths": source_lengths},
            {},
            ("sgd", classes),
        ),
    }


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", cases())
def test_processes_are_one_process_with_all_samples(name: str, count: int) -> None:
    """Up to rounding, with lengths that make their batches of different weight."""
    model, data, options, compiled = cases()[name]
    size = len(data["x"]) // count * count
    data = {key: a[:size] for key, a in data.items()}
    held = {key: a[:6] for key, a in data.items() if key != "sample_weight"}
    given: dict[str, Any] = {"epochs": 3, "shuffle": False, **options}
    world, before = World(count), model.state_dict()

    def work(rank: int) -> tuple[Any, Any]:
        own = copy.deepcopy(model).compile(*compiled)
        history = own.fit(
            **of_rank(data, rank, count),
            **given,
            batch_size=4,
            validation_data=tuple(of_rank(held, rank, count).values()),
            all_reduce=world.all_reduce(rank, in_place=rank == 1),
        )
        return own, history

    found = world.run(work)
    whole = copy.deepcopy(model).compile(*compiled)
    expected = whole.fit(
        **data, **given, batch_size=4 * count, validation_data=tuple(held.values())
    )
    bound = 1e-12 if model.dtype == np.float64 else 1e-6
    for own, history in found:
        assert states(own) == states(found[0][0])
        assert dict(history) == dict(found[0][1])
        for key, a in own.state_dict().items():
            moved = np.abs(whole.params[key] - before[key]).max()
            assert np.abs(a - whole.params[key]).max() <= bound * max(1.0, moved), key
        for key, values in history.items():
            np.testing.assert_allclose(values, expected[key], rtol=bound, atol=bound)
    assert any(not np.array_equal(a, before[key]) for key, a in whole.params.items())


def test_one_process_alone_has_the_same_bits() -> None:
    x, y = numbers(12, 2, dtype="float32"), numbers(12, 1, seed=1, dtype="float32")
    one, two = small().compile(), small().compile()
    one.fit(x, y, 3, batch_size=4)
    two.fit(x, y, 3, batch_size=4, all_reduce=lambda a: a)
    assert states(one) == states(two)


def test_a_signal_of_one_process_ends_all_at_one_update() -> None:
    x, y, world = numbers(24, 2), numbers(24, 1, seed=1), World(2)
    calls = iter(range(99))

    def metric(prediction: Array, targets: Array) -> float:
        if threading.current_thread() is threading.main_thread() and next(calls) == 8:
            signal.raise_signal(signal.SIGTERM)  # in the second epoch
        return 1.0

    def work(rank: int) -> Any:
        model = small().compile("sgd", "mse", metric)
        history = model.fit(
            x[rank::2], y[rank::2], 9, batch_size=2, all_reduce=world.all_reduce(rank)
        )
        return history.stopped, history.epoch, model.epochs, states(model), dict(history)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        first, second = world.run(work)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (first[0], second[0]) == ("SIGTERM", "another process")
    assert first[1:] == second[1:]
    assert first[1:3] == (1, 1)


def test_processes_decide_as_one() -> None:
    """Validation data of one process gets worse, that of the other gets better."""
    x, world = np.ones((4, 1), np.float32), World(2)

    def work(rank: int) -> Any:
        model = nn.Sequential([nn.Dense(1, 1, seed=0)]).compile(nn.SGD(0.1))
        other = np.full((4, 1), 5.0 if rank else -8.0, np.float32)
        history = model.fit(
            x,
            x + 5,
            30,
            validation_data=(x, other),
            early_stopping=nn.EarlyStopping(2),
            schedule=nn.schedules.ReduceOnPlateau(0.1, patience=1),
            all_reduce=world.all_reduce(rank),
        )
        return history.stopped, history.epoch, dict(history), states(model), model.optimizer.lr

    first, second = world.run(work)
    assert first == second
    assert first[0] == "early stopping"


def test_what_differs_between_processes_is_said_by_all() -> None:
    x, y = numbers(12, 2), numbers(12, 1, seed=1)

    def fit(
        seed: int = 0, rows: int = 12, epochs: int = 1, held: bool = False, done: int = 0
    ) -> Any:
        def run(all_reduce: Any) -> Any:
            model = small(seed).compile()
            for _ in range(done):
                start = states(model)
                model.fit(x, y)
                model.load_state_dict({k: small(seed).state_dict()[k] for k in start})
            more = {"validation_data": (x, y)} if held else {}
            return model.fit(
                x[:rows], y[:rows], epochs, batch_size=4, all_reduce=all_reduce, **more
            )

        return run

    for other, text in (
        (fit(seed=1), "their parameters; give the layers seeds, or load one file"),
        (fit(rows=8), "the number of batches of an epoch"),
        (fit(epochs=2), "epochs"),
        (fit(done=1), "the epochs that they have done"),
        (fit(held=True), "whether they have validation data"),
    ):
        world = World(3)
        works = [fit(), other, fit()]
        for error in world.run(lambda k, w=world, a=works: a[k](w.all_reduce(k))):
            assert isinstance(error, ValueError)
            assert str(error) == f"all_reduce: the processes differ in {text}"


def test_a_process_that_diverges_ends_all() -> None:
    x, y, world = numbers(12, 2), numbers(12, 1, seed=1), World(2)

    def work(rank: int) -> Any:
        mine = y[rank::2].copy()
        mine[5] = np.nan if rank else 0.0
        return (
            small()
            .compile()
            .fit(x[rank::2], mine, batch_size=2, shuffle=False, all_reduce=world.all_reduce(rank))
        )

    for error in world.run(work):
        assert isinstance(error, FloatingPointError)
        assert str(error).startswith("epoch 1, batch 3: loss nan")


def test_a_function_that_does_not_sum_is_refused() -> None:
    x, y = numbers(12, 2), numbers(12, 1, seed=1)
    for all_reduce, text in (
        (3, "all_reduce: expected a function that returns the sum of an array .*, got int"),
        (lambda a: a[:1], r"all_reduce: expected the sum of ndarray float64 \(\d+,\) over all pro"),
        (lambda a: a.astype("float32"), r"all_reduce: expected .*, got ndarray float32"),
        (lambda a: "no", "all_reduce: expected .*, got str"),
    ):
        with pytest.raises(TypeError, match=f"^{text}"):
            small().compile().fit(x, y, all_reduce=all_reduce)  # type: ignore[arg-type]
