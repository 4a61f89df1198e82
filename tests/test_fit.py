"""Sequential.fit, evaluate and predict: against torch, stopped, resumed, and what they refuse."""

from __future__ import annotations

import copy
import functools
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn._interrupts import ENDING
from fusedrnn.nn._batches import SORTED, Data, Piece, batches
from layer_cases import agree, check_differences, same

Array = np.ndarray[Any, np.dtype[Any]]
STOPS = list(ENDING)


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """A shell may have started this process so that it ignores some of them."""
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def states(model: Any) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in model.state_dict().items()}


def words(count: int = 40, steps: int = 9, seed: int = 0) -> tuple[Array, Array, Array]:
    """Sequences of ids with lengths, and a label for each step: whether a 1 came before it."""
    rng = np.random.default_rng(seed)
    x, lengths = rng.integers(1, 6, (count, steps)), rng.integers(1, steps + 1, count)
    return x, np.cumsum(x == 1, axis=1).clip(max=1), lengths


def labelling(dtype: str = "float32", dropout: float = 0.1) -> nn.Sequential:
    return nn.Sequential(
        [
            nn.Embedding(6, 5, dtype=dtype, seed=0),
            fr.LSTM(5, 4, bidirectional=True, dtype=dtype, seed=1),
            nn.LayerNorm(8, dtype=dtype),
            nn.Dropout(dropout, dtype=dtype),
            nn.Dense(8, 2, dtype=dtype, seed=2),
        ]
    )


def small(seed: int = 0) -> nn.Sequential:
    return nn.Sequential([nn.Dense(2, 3, seed=seed), nn.Dropout(0.2), nn.Dense(3, 1, seed=seed)])


def told(values: list[float], act: Callable[[int], None] = lambda _: None) -> Any:
    """A metric that gives these values, one for each call, and does something before each."""
    calls = iter(range(len(values)))

    def metric(prediction: Array, targets: Array) -> float:
        k = next(calls)
        act(k)
        return values[k]

    return metric


# --- training -------------------------------------------------------------------------------------


@pytest.mark.torch
def test_a_run_is_torchs() -> None:
    """Twenty updates with Adam from the same weights, with lengths and clipping, in float64."""
    torch = pytest.importorskip("torch")
    x, y, lengths = words(8)
    model = labelling("float64", dropout=0.0)
    options: Any = {"dtype": torch.float64, "batch_first": True}
    table = torch.nn.Embedding(6, 5, dtype=torch.float64)
    lstm = torch.nn.LSTM(5, 4, bidirectional=True, **options)
    norm = torch.nn.LayerNorm(8, dtype=torch.float64)
    head = torch.nn.Linear(8, 2, dtype=torch.float64)
    theirs = {0: table, 1: lstm, 2: norm, 4: head}
    for k, module in theirs.items():
        module.load_state_dict(
            {n: torch.tensor(a) for n, a in model.layers[k].state_dict().items()}
        )
    parameters = [p for module in theirs.values() for p in module.parameters()]
    adam = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(10):
        means = []
        for start in (0, 4):
            real = torch.tensor(lengths[start : start + 4])
            steps = int(real.max())
            ids, targets = (torch.tensor(a[start : start + 4, :steps]) for a in (x, y))
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                table(ids), real, batch_first=True, enforce_sorted=False
            )
            found, _ = torch.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
            counted = torch.arange(steps) < real[:, None]
            loss = torch.nn.functional.cross_entropy(head(norm(found))[counted], targets[counted])
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            adam.step()
            means.append((float(loss.detach()), int(real.sum())))
        losses.append(sum(v * w for v, w in means) / sum(w for _, w in means))

    model.compile(nn.Adam(0.02), "softmax_cross_entropy")
    history = model.fit(x, y, 10, batch_size=4, lengths=lengths, shuffle=False, clip_norm=0.5)
    np.testing.assert_allclose(history["loss"], losses, rtol=0, atol=1e-10)
    for k, module in theirs.items():
        for name, value in module.state_dict().items():
            np.testing.assert_allclose(
                model.params[f"{k}.{name}"], value, rtol=0, atol=1e-10, err_msg=f"{k}.{name}"
            )


def test_fit_is_the_loop_by_hand() -> None:
    """Each update: forward with noise, loss, backward, a step along the schedule."""
    x, y = numbers(10, 2, dtype="float32"), numbers(10, 1, seed=1, dtype="float32")
    model, schedule = small(), nn.schedules.Cosine(0.1, steps=9)
    again, adam = copy.deepcopy(model), nn.Adam()
    history = model.compile("adam", "mae", ["mse"]).fit(x, y, 3, batch_size=4, schedule=schedule)
    expected, step = [], 0
    for epoch in range(3):
        rng = np.random.default_rng([0, epoch])
        order, total = rng.permutation(10), 0.0
        for start in range(0, 10, 4):
            rows = order[start : start + 4]
            adam.lr = schedule(step)
            out, saved = again.forward(x[rows], rng=rng)
            loss = nn.mae(out, y[rows])
            adam.step(again, again.backward(saved, loss.gradient)[1])
            total, step = total + loss.value * len(rows), step + 1
        expected.append(total / 10)
    assert history["loss"] == expected
    assert list(history) == ["loss", "mse"]
    assert states(model) == states(again)
    assert (history.epoch, history.stopped, model.epochs) == (3, None, 3)


def test_fit_learns_labels_of_steps() -> None:
    x, y, lengths = words(200)
    model = labelling().compile(nn.Adam(0.02), "softmax_cross_entropy", ["accuracy"])
    history = model.fit(x, y, 12, lengths=lengths, validation_split=0.2)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(values) == 12 for values in history.values())
    assert history["val_loss"][-1] < 0.15 < history["val_loss"][0]
    held = slice(160, None)
    found = model.evaluate(x[held], y[held], lengths=lengths[held])
    assert found["accuracy"] > 0.95
    assert found == {name: history[f"val_{name}"][-1] for name in found}


def test_fit_learns_sequences_from_one_vector() -> None:
    x = numbers(60, 1, dtype="float32")
    y = x[:, None, :] * np.array([1.0, -1.0, 0.5], np.float32)[None, :, None]
    model = nn.Sequential([nn.RepeatVector(3), fr.GRU(1, 12, seed=0), nn.Dense(12, 1, seed=1)])
    history = model.compile(nn.Adam(0.02)).fit(x, y, 40)
    assert history["loss"][-1] < 0.02 < history["loss"][0]


def test_what_is_padded_changes_nothing() -> None:
    x, y, lengths = words()
    found = []
    for k in range(2):
        model = labelling().compile("sgd", "softmax_cross_entropy", "accuracy")
        padded = np.arange(9) >= lengths[:, None]
        history = model.fit(
            np.where(padded, 5 * k, x), np.where(padded, 99 * k, y), 2, lengths=lengths
        )
        found.append((states(model), dict(history)))
    assert found[0] == found[1]


def test_batches_are_of_similar_length() -> None:
    rng = np.random.default_rng(0)
    data = Data.read(np.zeros((500, 50, 1)), None, rng.integers(0, 51, 500))
    assert data.lengths is not None
    found = batches(data, 10, np.random.default_rng(1))
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    spans = [np.ptp(data.lengths[rows]) for rows in found]
    assert np.mean(spans) < 2 * 50 / SORTED
    firsts = [int(data.lengths[rows[0]]) for rows in found]
    assert firsts != sorted(firsts)  # short and long batches take turns
    assert [rows.tolist() for rows in batches(data, 10, np.random.default_rng(2))] != [
        rows.tolist() for rows in found
    ]
    in_order = np.concatenate(batches(data, 10, None))
    assert same(in_order, np.arange(500))
    part = data.taken(Piece(np.flatnonzero(data.lengths == 7)[:2]))
    assert part.x.shape == (2, 7, 1)


# --- long sequences in pieces ---------------------------------------------------------------------


def series(steps: int = 40, rows: int = 4) -> tuple[Array, Array]:
    """Numbers, and at each step the mean of the last three of them."""
    x = numbers(rows, steps, 1, dtype="float32")
    y = x.copy()
    y[:, 1:] += x[:, :-1]
    y[:, 2:] += x[:, :-2]
    return x, y / 3


def following(dtype: str = "float32", **options: Any) -> nn.Sequential:
    return nn.Sequential(
        [
            fr.LSTM(1, 6, dtype=dtype, seed=0),
            nn.Dropout(0.1, dtype=dtype),
            fr.GRU(6, 5, 2, batch_first=True, dtype=dtype, seed=1, **options),
            nn.Dense(5, 1, dtype=dtype, seed=2),
        ]
    )


@pytest.mark.parametrize("lengths", [None, [40, 13, 0, 26]])
def test_one_piece_is_a_whole_sequence(lengths: list[int] | None) -> None:
    x, y = series()
    found = []
    for truncate in (None, 40, 41, 1000):
        model = following(dropout=0.2).compile("adam", "mse", ["mae"])
        history = model.fit(
            x, y, 3, batch_size=2, lengths=lengths, truncate=truncate, validation_split=0.25
        )
        found.append((states(model), dict(history)))
    assert all(one == found[0] for one in found)


def test_a_piece_begins_with_the_state_of_a_whole_call() -> None:
    """And fit is the loop of pieces by hand: gradients stop where a piece begins."""
    x, y = series()
    lengths = np.array([40, 13, 30, 26])
    model = following("float64")
    again, whole = copy.deepcopy(model), model(x, lengths)
    state = None
    for start in range(0, 40, 15):
        part, real = x[:, start : start + 15], np.clip(lengths - start, 0, 15)
        out, saved = model.forward(part, real, state=state, noise=False)
        state = saved.state
        counted = (np.arange(part.shape[1]) < real[:, None])[..., None]
        assert same(np.where(counted, out, 0), np.where(counted, whole[:, start : start + 15], 0))
        _, upto = model.forward(x[:, : start + 15], np.minimum(lengths, start + 15), noise=False)
        assert [one is None for one in state] == [False, True, False, True]
        assert all(same(a, b) for a, b in zip(state[0], upto.state[0], strict=True))
        assert same(state[2], upto.state[2])
    assert state is not None

    adam, expected = nn.Adam(), []
    model.compile("adam", "mse")
    model.fit(x, y, 2, batch_size=2, lengths=lengths, truncate=15, shuffle=False)
    for epoch in range(2):
        rng, total = np.random.default_rng([0, epoch]), 0.0
        for rows, longest in ((slice(2), 40), (slice(2, 4), 30)):
            state = None
            for start in range(0, longest, 15):
                steps = slice(start, min(start + 15, longest))
                real = np.clip(lengths[rows] - start, 0, 15)
                out, saved = again.forward(x[rows, steps], real, state=state, rng=rng)
                loss = nn.mse(out, y[rows, steps], lengths=real, batch_first=True)
                adam.step(again, again.backward(saved, loss.gradient)[1])
                total, state = total + loss.value * int(real.sum()), saved.state
        expected.append(total / lengths.sum())
    assert states(model) == states(again)
    assert model.fit(x, y, lengths=lengths)["loss"][:2] == expected


def test_pieces_learn_what_lies_further_back_than_a_piece() -> None:
    """The first number of a sequence is asked for until its end: only a carried state knows it."""
    x = np.zeros((64, 24, 2), np.float32)
    x[:, 0, 0] = np.where(numbers(64) > 0, 1, -1)
    x[:, 0, 1] = 1
    y = np.repeat((x[:, :1, 0] > 0).astype(int), 24, axis=1)
    model = nn.Sequential([fr.GRU(2, 8, seed=0), nn.Dense(8, 2, seed=1)])
    model.compile(nn.Adam(0.02), "softmax_cross_entropy", ["accuracy"])
    history = model.fit(x, y, 15, truncate=6, validation_split=0.25)
    assert history["val_accuracy"][-1] > 0.95
    assert model.epochs == 15
    found = model.evaluate(x, y)
    pieces = model.evaluate(x, y, truncate=5)
    assert found["accuracy"] == pytest.approx(pieces["accuracy"], rel=1e-12)
    assert found["loss"] == pytest.approx(pieces["loss"], rel=1e-6)
    for lengths in (None, np.arange(64) % 25):
        whole = model.predict(x, 10, lengths=lengths)
        for steps in (1, 7, 24, 30):
            assert same(model.predict(x, 10, lengths=lengths, truncate=steps), whole)


def test_pieces_are_updates(tmp_path: Path) -> None:
    """A schedule counts them, a signal ends the run after one, and a run goes on with its bits."""
    x, y = series()
    lengths, seen = [40, 13, 0, 26], []

    def schedule(step: int) -> float:
        seen.append(step)
        return 0.01 / (1 + step)

    given: Any = {"lengths": lengths, "batch_size": 2, "truncate": 10, "shuffle": False}
    whole = following().compile()
    whole.fit(x, y, 3, schedule=schedule, checkpoint=tmp_path / "whole.npz", **given)
    assert seen == list(range(3 * (4 + 3)))  # of 40 and of 26 steps

    def act(k: int) -> None:
        if k == 8:  # in the second epoch
            signal.raise_signal(signal.SIGINT)

    metric = told([1.0] * 99, act)
    with_options = lambda prediction, targets, **_: metric(prediction, targets)  # noqa: E731
    first = following().compile("adam", "mse", with_options)
    history = first.fit(x, y, 3, schedule=schedule, checkpoint=tmp_path / "part.npz", **given)
    assert (history.stopped, first.epochs) == ("Ctrl-C", 1)
    second = following().compile()
    second.load_checkpoint(tmp_path / "part.npz")
    second.fit(x, y, 2, schedule=schedule, **given)
    assert states(second) == states(whole)


def test_what_cannot_be_read_in_pieces() -> None:
    x, y = series()
    for model, targets, truncate, error, text in (
        (following(), y, 0, ValueError, "truncate: expected at least 1, got 0"),
        (following(), y, 2.5, TypeError, "truncate: expected a whole number"),
        (following(), y[:, :-1], 5, ValueError, r"y: expected the shape of the output, \(4, 40, 1"),
        (
            nn.Sequential([nn.Dense(1, 1)]),
            y,
            5,
            ValueError,
            "truncate: .*without a recurrent layer",
        ),
        (
            nn.Sequential([fr.GRU(1, 1), nn.Last()]),
            y[:, 0],
            5,
            ValueError,
            "truncate: .*whose output has not the steps of x",
        ),
        (
            nn.Sequential([fr.GRU(1, 2, bidirectional=True), nn.Dense(4, 1)]),
            y,
            5,
            ValueError,
            "truncate: .*with a bidirectional layer",
        ),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model.compile().fit(x, targets, truncate=truncate)  # type: ignore[arg-type]
        with pytest.raises(error, match=f"^{text}"):
            model.evaluate(x, targets, truncate=truncate)  # type: ignore[arg-type]
    model = following().compile(loss=lambda prediction, _: nn.mse(prediction, prediction))
    with pytest.raises(ValueError, match=r"^y: expected a target for each step of x, of shape"):
        model.fit(x, y[:, :-1], truncate=5)
    _, saved = model.forward(x)
    for state, error, text in (
        (saved.state[:2], TypeError, "state: expected a list with one entry for each of 4"),
        (saved.state[0], TypeError, "state: expected a list with one entry for each of 4"),
        ((None, None, saved.state[2][:, :1], None), ValueError, "h0: expected shape"),
    ):
        with pytest.raises(error, match=text):
            model.forward(x, state=state)


# --- evaluate and predict -------------------------------------------------------------------------


def test_predict_is_the_model_without_what_is_padded() -> None:
    x, y, lengths = words(11)
    model = labelling().compile(loss="softmax_cross_entropy", metrics=["accuracy", "perplexity"])
    whole = model(x, lengths)
    real = np.arange(9) < lengths[:, None]
    found = model.predict(x, 4, lengths=lengths)
    assert agree(found, np.where(real[..., None], whole, 0).astype(np.float32))
    assert agree(model.predict(x, 4), model(x))
    loss = nn.softmax_cross_entropy(whole, y, lengths=lengths, batch_first=True)
    values = model.evaluate(x, y, lengths=lengths, batch_size=4)
    assert math.isclose(values["loss"], loss.value, rel_tol=1e-6)
    right = nn.metrics.accuracy(whole, y, lengths=lengths, batch_first=True)
    assert math.isclose(values["accuracy"], right)
    assert values["perplexity"] == math.exp(values["loss"])
    last = nn.Sequential([fr.GRU(1, 2, seed=0), nn.Last()])
    x = numbers(7, 4, 1)
    assert agree(last.predict(x, 3, lengths=[4, 1, 2, 3, 0, 1, 4]), last(x, [4, 1, 2, 3, 0, 1, 4]))


def test_losses_and_metrics_by_name_and_as_functions() -> None:
    x, y = numbers(20, 2), (numbers(20, 1, seed=1) > 0).astype(int)
    model = small().compile("rmsprop", "binary_cross_entropy", ["accuracy", nn.mse])
    found = model.evaluate(x, y)
    logits = model(x)
    assert math.isclose(found["accuracy"], ((logits > 0) == (y > 0)).mean())
    assert math.isclose(found["mse"], nn.mse(logits, y).value, rel_tol=1e-6)
    weighted = functools.partial(nn.softmax_cross_entropy, class_weights=[1.0, 3.0])
    model = nn.Sequential([nn.Dense(2, 2, seed=0)]).compile("adamw", weighted)
    assert math.isclose(
        model.evaluate(x, y[:, 0])["loss"],
        nn.softmax_cross_entropy(model(x), y[:, 0], class_weights=[1.0, 3.0]).value,
    )
    x, y, lengths = words(5)
    lengths[:] = 0
    model = labelling().compile(loss="softmax_cross_entropy", metrics="bits_per_character")
    assert all(map(math.isnan, model.evaluate(x, y, lengths=lengths).values()))


@pytest.mark.parametrize("metric", ["balanced_accuracy", nn.metrics.balanced_accuracy])
def test_balanced_accuracy_is_of_all_rows(metric: Any) -> None:
    """Batches lack classes, so a mean over batches would be another number."""
    x, y, lengths = words(30)
    model = labelling(dropout=0.0)
    model.compile(nn.SGD(0.0), "softmax_cross_entropy", ["accuracy", metric])

    def of(rows: slice) -> float:
        given = {"lengths": lengths[rows], "batch_first": True}
        return nn.metrics.balanced_accuracy(model(x[rows], lengths[rows]), y[rows], **given)

    shares = [of(slice(k, k + 1)) for k in range(30)]
    assert abs(np.average(shares, weights=lengths) - of(slice(None))) > 0.01
    for size in (1, 4, 30):
        found = model.evaluate(x, y, lengths=lengths, batch_size=size)
        assert list(found) == ["loss", "accuracy", "balanced_accuracy"]
        assert math.isclose(found["balanced_accuracy"], of(slice(None)))
    history = model.fit(x, y, 1, lengths=lengths, batch_size=4, validation_split=0.3)
    assert math.isclose(history["balanced_accuracy"][0], of(slice(21)))
    assert math.isclose(history["val_balanced_accuracy"][0], of(slice(21, None)))
    nothing = model.evaluate(x, y, lengths=np.zeros(30, int))
    assert math.isnan(nothing["balanced_accuracy"])


def test_balanced_accuracy_of_answers() -> None:
    x, y = numbers(20, 2), (np.arange(20) < 4).astype(int)[:, None]
    model = small().compile("sgd", "binary_cross_entropy", "balanced_accuracy")
    right = (model(x) > 0) == (y > 0)
    found = model.evaluate(x, y, batch_size=3)["balanced_accuracy"]
    assert math.isclose(found, (right[:4].mean() + right[4:].mean()) / 2)


@pytest.mark.parametrize("loss", ["mse", "mae", "binary_cross_entropy"])
def test_targets_may_lack_an_axis_of_length_one(loss: str) -> None:
    x, y = series()
    y, lengths = (y > 0).astype(float), [40, 13, 0, 26]
    accuracy = ["accuracy", "balanced_accuracy"] if loss == "binary_cross_entropy" else []
    for steps, shaped in (({"lengths": lengths, "truncate": 15}, y), ({}, y[:, -1])):
        found = []
        for targets in (shaped, shaped[..., 0]):
            model = following() if steps else nn.Sequential([fr.GRU(1, 1, seed=0), nn.Last()])
            model.compile(nn.Adam(0.01), loss, ["mse", nn.mae, *accuracy])
            given: Any = {"batch_size": 2, **steps}
            history = model.fit(x, targets, 2, validation_split=0.25, **given)
            model.fit(x, targets, validation_data=(x, targets), **given)
            found.append((states(model), dict(history), model.evaluate(x, targets, **given)))
        assert found[0] == found[1]
    weighted = functools.partial(nn.binary_cross_entropy, pos_weight=2)
    model.compile("sgd", weighted, ["accuracy", "balanced_accuracy"])
    right = (model(x)[:, 0] > 0) == y[:, -1, 0]
    assert model.evaluate(x, y[:, -1, 0])["accuracy"] == right.mean()


# --- weights of samples ---------------------------------------------------------------------------

LOSSES = ["softmax_cross_entropy", "mse", "mae", "binary_cross_entropy"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("last", [False, True])
def test_the_gradient_of_weighted_samples_is_that_of_their_loss(loss: str, last: bool) -> None:
    """An update of SGD at rate 1 is minus the gradient; `evaluate` gives the loss."""
    of_numbers = loss != "softmax_cross_entropy"
    layers = [fr.GRU(1, 3, dtype="float64", seed=0), *([nn.Last(dtype="float64")] if last else [])]
    model = nn.Sequential([*layers, nn.Dense(3, 2, dtype="float64", seed=1)])
    x, shape = numbers(5, 4, 1), (5,) if last else (5, 4)
    y: Array = (numbers(*shape, *([2] if of_numbers else []), seed=1) > 0).astype(int)
    given: Any = {"lengths": [4, 2, 0, 3, 1], "sample_weight": [0.5, 2.0, 3.0, 0.0, 1.0]}
    before = model.state_dict()
    model.compile(nn.SGD(1.0), loss).fit(x, y, batch_size=5, **given)
    steps = {name: a - before[name] for name, a in model.state_dict().items()}
    model.load_state_dict(before)
    gradients = {name: -step for name, step in steps.items()}
    check_differences(model, lambda: model.evaluate(x, y, **given)["loss"], {}, gradients)


@pytest.mark.parametrize("kind", ["labels", "pieces", "numbers", "seq2seq"])
def test_sample_weights_are_repeated_samples(kind: str) -> None:
    x, y, lengths = words(12)
    times, more = np.resize([1, 3, 0, 2], 12), {}
    model: Any = labelling("float64", dropout=0.0)
    compiled: Any = ("sgd", "softmax_cross_entropy", ["perplexity"])
    if kind == "pieces":
        layers = [nn.Embedding(6, 5, dtype="float64", seed=0), fr.GRU(5, 2, dtype="float64")]
        model, more = nn.Sequential(layers), {"truncate": 4}
    elif kind == "numbers":
        model = nn.Sequential([fr.RNN(6, 1, dtype="float64", seed=0), nn.Last(dtype="float64")])
        y, compiled = numbers(12), ("adam", "mse")
    elif kind == "seq2seq":
        model = nn.Seq2Seq(
            fr.GRU(6, 4, dtype="float64", seed=0), fr.GRU(3, 4, dtype="float64", seed=1),
            nn.Dense(4, 3, dtype="float64", seed=2), start=2,
        )  # fmt: skip
        y = np.where(np.arange(9) < lengths[:, None], y, -1)
        model.compile(*compiled).fit(x, y, sample_weight=times)  # without lengths of x
    again = copy.deepcopy(model).compile(*compiled)
    model.compile(*compiled)
    given = [np.repeat(a, times, axis=0) for a in (x, y, lengths)]
    options: Any = {"shuffle": False, "validation_data": (x, y, lengths), **more}  # and one batch
    one = model.fit(x, y, 4, lengths=lengths, sample_weight=times, **options)
    two = again.fit(*given[:2], 4, lengths=given[2], **options)
    for name, values in one.items():
        np.testing.assert_allclose(values, two[name], rtol=1e-9, err_msg=name)
    for name, a in model.params.items():
        np.testing.assert_allclose(a, again.params[name], rtol=1e-9, atol=1e-12, err_msg=name)
    expected = again.evaluate(*given[:2], lengths=given[2], batch_size=18, **more)
    for batch_size in (1, 5, 12):
        found = model.evaluate(
            x, y, lengths=lengths, sample_weight=times / 8, batch_size=batch_size, **more
        )
        assert found == pytest.approx(expected, rel=1e-9)


def test_sample_weights_and_class_weights() -> None:
    """Their product; metrics are not weighted, and validation_split keeps the weights."""
    x, y, lengths = words(20)
    y[3], weights = 7, np.arange(20.0) % 4
    weights[3] = 0  # its targets are no classes, and are not looked at
    cross = functools.partial(nn.softmax_cross_entropy, class_weights=[1.0, 3.0])
    model = labelling("float64").compile(nn.SGD(0.0), cross)
    out = model(x, lengths)
    found = model.evaluate(x, y, lengths=lengths, sample_weight=weights, batch_size=20)
    loss = cross(out, y, lengths=lengths, weights=weights, batch_first=True)
    assert math.isclose(found["loss"], loss.value, rel_tol=1e-12)
    counted = (np.arange(9) < lengths[:, None]) & (weights > 0)[:, None]
    by_hand = -np.log(np.exp(out) / np.exp(out).sum(axis=-1, keepdims=True))[counted]
    right = y[counted]
    w = (weights[:, None] * np.ones(9))[counted] * np.array([1.0, 3.0])[right]
    by_hand = (w * by_hand[np.arange(len(right)), right]).sum() / w.sum()
    assert math.isclose(found["loss"], by_hand, rel_tol=1e-12)

    y[3] = 0
    model.compile(nn.SGD(0.0), "softmax_cross_entropy", ["accuracy", "balanced_accuracy"])
    plain = model.evaluate(x, y, lengths=lengths, batch_size=3)
    given: Any = {"lengths": lengths, "sample_weight": weights, "batch_size": 3}
    found = model.evaluate(x, y, **given)
    assert found["loss"] != plain.pop("loss")
    assert {name: found[name] for name in plain} == pytest.approx(plain)
    history = model.fit(x, y, validation_split=0.25, **given)
    part: Any = {"lengths": lengths[15:], "sample_weight": weights[15:]}
    assert history["val_loss"][0] == model.evaluate(x[15:], y[15:], batch_size=3, **part)["loss"]
    nothing = model.evaluate(x, y, lengths=lengths, sample_weight=np.zeros(20))
    assert math.isnan(nothing.pop("loss"))
    assert nothing == pytest.approx(plain)


def test_sample_weights_that_are_refused() -> None:
    x, y = numbers(6, 2), numbers(6, 1)
    model = small().compile()
    for weights, error, text in (
        (np.ones(5), ValueError, r"expected shape \(6,\), got \(5,\)"),
        (np.ones((6, 1)), ValueError, r"expected shape \(6,\), got \(6, 1\)"),
        ({0: 1.0}, TypeError, "expected real numbers, got ndarray object"),
        ([1, 1, 1, 1, -1, 1], ValueError, r"expected finite .*, got -1.0 at \(4,\)"),
    ):
        for call in (model.fit, model.evaluate):
            with pytest.raises(error, match=f"^sample_weight: {text}"):
                call(x, y, sample_weight=weights)  # type: ignore[arg-type]
    y[2] = np.nan
    weights = np.arange(6) != 2
    history = model.fit(x, y, sample_weight=weights.astype(float))
    assert math.isfinite(history["loss"][0])
    y[3] = np.nan
    with pytest.raises(FloatingPointError, match=r"y: expected finite .*, got nan at \(3, 0\)"):
        model.fit(x, y, sample_weight=weights.astype(float))


# --- runs that end and go on ----------------------------------------------------------------------

RULES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "schedule": lambda: {"schedule": nn.schedules.Cosine(0.03, steps=40), "clip_norm": 0.3},
    "plateau": lambda: {"schedule": nn.schedules.ReduceOnPlateau(0.05, patience=0, factor=0.5)},
    "early stopping": lambda: {
        "early_stopping": nn.EarlyStopping(1, min_delta=0.03),
        "monitor": "val_loss",
    },
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stopped", [False, True])
def test_a_resumed_run_has_the_same_bits(rule: str, stopped: bool, tmp_path: Path) -> None:
    x, y, lengths = words(60)

    def made(metric: Any = nn.metrics.accuracy) -> nn.Sequential:
        return labelling().compile(nn.Adam(0.02), "softmax_cross_entropy", [metric])

    def fit(model: nn.Sequential, epochs: int, name: str) -> nn.History:
        return model.fit(
            x,
            y,
            epochs,
            batch_size=8,
            lengths=lengths,
            validation_split=0.2,
            seed=3,
            checkpoint=tmp_path / name,
            **RULES[rule](),
        )

    whole = made()
    expected = fit(whole, 8, "whole.npz")
    assert rule != "early stopping" or expected.stopped == "early stopping"

    calls = 0

    def accuracy(prediction: Array, targets: Array, **options: Any) -> float:
        nonlocal calls
        calls += 1
        if stopped and calls == 8 * 3 + 3:  # in the fourth epoch, of six updates and two batches
            signal.raise_signal(signal.SIGTERM)
        return nn.metrics.accuracy(prediction, targets, **options)

    first = made(accuracy)
    history = fit(first, 8 if stopped else 3, "part.npz")
    if expected.stopped is None:
        assert history.stopped == ("SIGTERM" if stopped else None)
    second = made()
    second.load_checkpoint(tmp_path / "part.npz")
    assert second.epochs == 3 or expected.stopped
    left = 8 - second.epochs
    history = fit(second, left, "part.npz")
    assert dict(history) == dict(expected)
    assert (history.epoch, history.stopped) == (expected.epoch, expected.stopped)
    assert states(second) == states(whole)
    assert second.epochs == whole.epochs
    for name, value in whole.optimizer.state_dict(whole).items():
        assert same(second.optimizer.state_dict(second)[name], value)
    assert (tmp_path / "part.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_fit_goes_on() -> None:
    x, y = numbers(10, 2), numbers(10, 1, seed=1)
    one, two = small().compile(), small().compile()
    one.fit(x, y, 4)
    assert len(two.fit(x, y, 3)["loss"]) == 3
    history = two.fit(x, y, validation_data=(x, y))
    assert states(one) == states(two)
    assert len(history["loss"]) == 4
    assert [math.isnan(v) for v in history["val_loss"]] == [True, True, True, False]
    history["loss"].clear()  # a copy
    again = two.fit(x, y)
    assert len(again["loss"]) == 5
    assert math.isnan(again["val_loss"][-1])
    assert two.compile().epochs == 0
    assert len(two.fit(x, y)["loss"]) == 1


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_signal_keeps_the_best_epoch(number: signal.Signals, capsys: Any) -> None:
    x, y, seen = numbers(4, 2), numbers(4, 1, seed=1), []

    def act(k: int) -> None:  # one batch for each epoch, measured before its update
        seen.append(states(model))
        if k == 3:
            signal.raise_signal(number)

    model = small().compile("sgd", "mse", told([3.0, 1.0, 2.0, 5.0, 9.0], act))
    before = [signal.getsignal(one) for one in STOPS]
    history = model.fit(x, y, 10, monitor="metric", verbose=True)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert (history.stopped, history.epoch) == (name, 2)
    assert history["metric"] == [3.0, 1.0, 2.0, 5.0]  # the epoch had no update left
    assert states(model) == seen[2]  # of the end of epoch 2
    assert [signal.getsignal(one) for one in STOPS] == before
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1] == f"{name}: the model has the parameters of epoch 2"
    assert model.fit(x, y, monitor="loss").epoch == 5


def test_a_signal_within_an_epoch() -> None:
    x, y = numbers(8, 2), numbers(8, 1, seed=1)

    def act(k: int) -> None:
        if k == 1:
            signal.raise_signal(signal.SIGINT)

    model = small().compile("sgd", "mse", told([1.0] * 9, act))
    before = states(model)
    history = model.fit(x, y, 5, batch_size=2)
    assert (history.stopped, history.epoch, model.epochs, dict(history)) == ("Ctrl-C", None, 0, {})
    assert states(model) != before  # no epoch is complete, so those of the last update

    def twice(k: int) -> None:
        if k == 1:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    model.compile("sgd", "mse", told([1.0] * 9, twice))
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, 5, batch_size=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_early_stopping_gives_the_best_epoch_back() -> None:
    x, y, seen = numbers(4, 2), numbers(4, 1, seed=1), []
    act = lambda _: seen.append(states(model))  # noqa: E731
    model = small().compile("sgd", "mse", told([0.3, 0.9, 0.8, 0.7, 0.1], act))
    stopping = nn.EarlyStopping(2, mode="max")
    history = model.fit(x, y, 10, monitor="metric", early_stopping=stopping)
    assert (history.stopped, history.epoch, model.epochs) == ("early stopping", 2, 4)
    assert states(model) == seen[2]
    assert stopping.best == 0.9


def test_fit_outside_the_main_thread() -> None:
    found: list[nn.History] = []
    model = small().compile()
    thread = threading.Thread(
        target=lambda: found.append(model.fit(numbers(4, 2), numbers(4, 1), 2))
    )
    thread.start()
    thread.join()
    assert found[0].epoch == 2


def test_a_run_that_diverges_is_an_error() -> None:
    x, y = numbers(16, 2), numbers(16, 1, seed=1)
    model = small().compile("sgd")
    model.fit(x, y)
    best = states(model)
    model.optimizer.lr = 1e18
    with pytest.raises(
        FloatingPointError, match=r"epoch 2, batch \d: loss \S+: the run diverged.* of epoch 1$"
    ):
        model.fit(x, y, 30, batch_size=2)
    assert states(model) == best
    spoiled = small().compile()
    y[3] = np.nan
    before = states(spoiled)
    with pytest.raises(FloatingPointError, match="parameters before this update"):
        spoiled.fit(x, y, shuffle=False, clip_norm=1.0)
    assert states(spoiled) == before


def test_a_loss_that_is_not_finite_names_the_number_that_is_not() -> None:
    """Its place in x or y as they were given, and not the learning rate; padding may be wrong."""
    x, y = numbers(16, 2), numbers(16, 1, seed=1)
    y[[9, 12]] = -np.inf
    where = r"y: expected finite numbers, got -inf at \(9, 0\)\. The model has .* before"
    with pytest.raises(FloatingPointError, match=rf"^epoch 1, batch 1: loss inf: {where}"):
        small().compile().fit(x, y)
    x[15, 1] = np.nan
    with pytest.raises(FloatingPointError, match=r": x: expected finite .*, got nan at \(15, 1\)"):
        small().compile().fit(x, y[:, 0])
    x, y = series()
    lengths = np.array([40, 13, 0, 26])
    x[np.arange(40) >= lengths[:, None]] = np.nan
    y[np.arange(40) >= lengths[:, None]] = np.nan
    given: Any = {"lengths": lengths, "batch_size": 2, "truncate": 10, "validation_split": 0.25}
    model = following().compile("sgd")
    assert math.isfinite(model.fit(x, y, **given)["loss"][0])
    # The infinite x saturates the gates, so the loss of its piece is finite.
    for name, a in (("x", x), ("y", y)):
        a[0, 17] = np.inf
        text = rf"batch \d: loss \S+: {name}: expected .*, got inf at \(0, 17, 0\)"
        with pytest.raises(FloatingPointError, match=text):
            model.fit(x, y, **given)
        a[0, 17] = 0
    model.optimizer.lr = 1e30
    with pytest.raises(FloatingPointError, match="the run diverged"):
        model.fit(x, y, 30, **given)


def test_a_run_whose_gradients_are_not_finite_says_their_norm() -> None:
    def loss(prediction: Array, targets: Array) -> nn.Loss:
        return nn.Loss(1.0, np.full_like(prediction, np.nan))

    with pytest.raises(FloatingPointError, match="loss 1, gradient norm nan: the run diverged"):
        small().compile(loss=loss).fit(numbers(4, 2), numbers(4, 1), clip_norm=1.0)


# --- progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    x, y = numbers(4, 2), numbers(4, 1, seed=1)
    model = small().compile()
    model.fit(x, y, 2)
    model.fit(x, y, 2, verbose=False)
    model.fit(x, y, 2, verbose=0)
    assert capsys.readouterr().err == ""
    for k, verbose in enumerate((True, 1, 2, np.True_)):
        model.fit(x, y, 2, validation_data=(x, y), verbose=verbose)  # type: ignore[arg-type]
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith(f"epoch {7 + 2 * k}/{8 + 2 * k}  loss ")
        assert "val_loss" in second
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    model.fit(x, y, 2, validation_data=(x, y))
    shown = terminal.getvalue()
    assert shown.count("\n") == 1
    assert shown.endswith("\n")
    assert all(len(part) <= 29 for part in shown.strip().split("\r"))
    model.fit(x, y, 2, verbose=False)
    assert terminal.getvalue() == shown
    terminal.close()  # the terminal is gone, and the run goes on
    assert model.fit(x, y, 2).epoch == 20


# --- errors ---------------------------------------------------------------------------------------


def test_what_fit_refuses() -> None:
    x, y, model = numbers(6, 2), numbers(6, 1), small()
    for call in (
        lambda: model.fit(x, y),
        lambda: model.evaluate(x, y),
        lambda: model.load_checkpoint("no"),
        lambda: model.optimizer,
    ):
        with pytest.raises(RuntimeError, match=r"\w+: call compile\(optimizer, loss\) first"):
            call()
    for compiled, error, text in (
        (("adm",), ValueError, "optimizer: expected .*adam.*, got 'adm'"),
        ((nn.Adam,), TypeError, "optimizer: expected an optimiser .*, got the class Adam"),
        (("adam", "categorical"), ValueError, "loss: expected .*softmax_cross_entropy"),
        (("adam", 3), TypeError, "loss: expected one of"),
        (("adam", "mse", ["acc"]), ValueError, r"metrics\[0\]: expected .*accuracy"),
        (("adam", "mse", ["mae", "mae"]), ValueError, r"metrics\[1\]: 'mae' is there already"),
        (("adam", "mse", [3]), TypeError, r"metrics\[0\]: expected a name or a function, got int"),
        (("adam", "mse", 3), TypeError, "metrics: expected a list, got int"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model.compile(*compiled)
    for name, loss in (
        ("softmax", "softmax_cross_entropy"),
        ("sigmoid", functools.partial(nn.binary_cross_entropy, pos_weight=2)),
    ):
        squashed = nn.Sequential([nn.Dense(2, 2), nn.Activation(name)])
        with pytest.raises(ValueError, match=f"^loss: .* reads logits, .*'{name}'"):
            squashed.compile(loss=loss)
        squashed.compile(loss="mse")
    model.compile()
    before = states(model)
    for given, more, error, text in (
        ((x, y[:5]), {}, ValueError, "y: expected 6 samples, as x has, got 5"),
        ((x[:0], y[:0]), {}, ValueError, "x: expected at least one sample"),
        ((np.ma.masked_array(x), y), {}, TypeError, "x: expected .*, got a masked array"),
        ((x, y), {"lengths": [1] * 6}, ValueError, r"y: expected 2 steps, as x has, got"),
        ((x, x), {}, ValueError, r"y: expected the shape of the output, \(6, 1\), got \(6, 2\)"),
        ((x, y[..., None]), {}, ValueError, r"y: expected the shape of the output, \(6, 1\), got"),
        (
            (x, y.astype(str)),
            {},
            TypeError,
            r"y: expected real numbers, got ndarray <U\d+ \(6, 1\)",
        ),
        ((x[:, :1], y), {}, ValueError, r"x: expected shape"),
        ((x, y, 0), {}, ValueError, "epochs: expected at least 1, got 0"),
        ((x, y), {"lengths": [1] * 5}, ValueError, r"lengths: expected shape \(6,\), got"),
        ((x, y), {"batch_size": 1.5}, TypeError, "batch_size: expected a whole number"),
        ((x, y), {"seed": -1}, ValueError, "seed: expected at least 0"),
        ((x, y), {"shuffle": 1}, TypeError, "shuffle: expected True or False"),
        ((x, y), {"validation_split": 1.0}, ValueError, r"validation_split: expected a number in"),
        (
            (x, y),
            {"validation_split": 0.5, "validation_data": (x, y)},
            ValueError,
            "expected validation_data or validation_split, got both",
        ),
        ((x[:1], y[:1]), {"validation_split": 0.1}, ValueError, "validation_split: 0.1 of 1 samp"),
        ((x, y), {"validation_data": x}, TypeError, r"validation_data: expected \(x, y\) or"),
        ((x, y), {"validation_data": (x, y[:2])}, ValueError, "validation y: expected 6 samples"),
        (
            (x, y),
            {"validation_data": (x, x)},
            ValueError,
            r"validation y: .* output, \(6, 1\), got",
        ),
        (
            (x, y),
            {"validation_data": (y, y)},
            ValueError,
            r"validation x: expected shape \(B, T, 2",
        ),
        ((x, y), {"early_stopping": 3}, TypeError, r"early_stopping: .*nn.EarlyStopping\(patience"),
        ((x, y), {"schedule": 0.1}, TypeError, "schedule: expected a function of the update"),
        ((x, y), {"clip_norm": 0}, ValueError, "clip_norm: expected a number above 0"),
        ((x, y), {"monitor": "val_loss"}, ValueError, "monitor: expected .*loss.*, got 'val_loss'"),
        (
            (x, y),
            {"verbose": 3},
            ValueError,
            "verbose: expected True or False, or 0, 1 or 2, got 3",
        ),
        ((x, y), {"verbose": "auto"}, TypeError, "verbose: expected True .* or 2, got str"),
        ((x, y), {"checkpoint": "no/run.npz"}, FileNotFoundError, "checkpoint: there is no folder"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model.fit(*given, **more)  # type: ignore[arg-type]
    assert states(model) == before
    assert model.epochs == 0
    ids, labels, lengths = words(6)
    ragged = [[1, 2, 3], [4], [1, 2], [3], [4], [5]]
    advice = (
        "expected sequences of one length, got lengths from 1 to 3; pad to one length, and pass "
        "lengths= where the call takes it"
    )
    for given in (ragged, np.array(ragged, object), [np.array(row) for row in ragged]):
        one = nn.Sequential([nn.Embedding(6, 2), fr.GRU(2, 1), nn.Last()]).compile()
        for run in (one, one.forward, one.predict, functools.partial(one.fit, y=y)):
            with pytest.raises(TypeError, match=f"^x: {advice}$"):
                run(given)  # type: ignore[operator]
        for call in (one.fit, one.evaluate):
            with pytest.raises(TypeError, match=f"^y: {advice}$"):
                call(ids, given)  # type: ignore[operator]
        with pytest.raises(TypeError, match=f"^validation y: {advice}"):
            one.fit(ids, y, validation_data=(ids, given))
        with pytest.raises(TypeError, match=f"^targets: {advice}"):
            nn.mse(y, given)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^targets: {advice}"):
            nn.softmax_cross_entropy(x, given)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^tokens: {advice}"):
            fr.GRU(6, 2)(tokens=given)  # type: ignore[arg-type]
    tagger = labelling().compile(loss="softmax_cross_entropy")
    for targets in (labels[:, 1:], np.concatenate([labels, labels], axis=1), labels[:, 0]):
        with pytest.raises(ValueError, match=r"^y: expected 9 steps, as x has, got shape \(6,"):
            tagger.fit(ids, targets, lengths=lengths)
        with pytest.raises(ValueError, match=r"^validation y: expected 9 steps"):
            tagger.fit(ids, labels, lengths=lengths, validation_data=(ids, targets, lengths))
        with pytest.raises(ValueError, match=r"^y: expected 9 steps"):
            tagger.evaluate(ids, targets, lengths=lengths)
    for targets, error, text in (
        (np.eye(2)[labels], ValueError, r"the class of each row, \(6, 9\), got \(6, 9, 2\)"),
        (labels[..., None], ValueError, r"the shape of the output without .*, got \(6, 9, 1"),
        (labels.astype(float), TypeError, r"integers, got ndarray float64 \(6, 9\)"),
    ):
        with pytest.raises(error, match=f"^y: expected {text}"):
            tagger.fit(ids, targets, batch_size=2)
        with pytest.raises(error, match=f"^validation y: expected {text}"):
            tagger.fit(ids, labels, batch_size=2, validation_data=(ids, targets))
    for metric in ("accuracy", nn.metrics.accuracy, "balanced_accuracy"):
        with pytest.raises(
            ValueError, match=r"^metrics\[0\]: '\w+' needs classes, and mae compares"
        ):
            model.compile(loss="mae", metrics=[metric])
        model.compile(loss=lambda *_: nn.Loss(0.0, y), metrics=[metric])
        with pytest.raises(TypeError, match=r"^y for the metric '\w+': expected integers, got"):
            model.fit(x, y)
    model.compile(loss=lambda *_: 0.0)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="loss: expected a function that returns a Loss"):
        model.fit(x, y)

    def nothing(*_: Array) -> Any:
        """Lacks its `return`."""

    model.compile(metrics=[nothing])
    with pytest.raises(TypeError, match=r"^metrics: .* got 'nothing', which returns NoneType"):
        model.fit(x, y)


def test_a_wrong_value_is_refused_before_training_by_its_place() -> None:
    """In x and y as they were given, whatever the order of batches; padding may be wrong."""
    x, y, lengths = words(40)
    model, cross = labelling(), nn.softmax_cross_entropy
    before = states(model)
    wrong_x, wrong_y, padded_y = x.copy(), y.copy(), y.copy()
    lengths[37] = 5
    wrong_x[37, 4], wrong_y[37, 4], padded_y[37, 5:] = 6, 2, 7
    classes = r"y: expected classes in \[0, 2\), got 2 at \(37, 4\)"
    for loss in (cross, functools.partial(cross, class_weights=[1, 2], ignore_index=-9)):
        model.compile(loss=loss)
        for call in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match=r"^x: expected ids in .*, got 6 at \(37, 4\)"):
                call(wrong_x, y, lengths=lengths, batch_size=2)
            with pytest.raises(ValueError, match=f"^{classes}"):
                call(x, wrong_y, lengths=lengths, batch_size=2)
        with pytest.raises(ValueError, match=f"^validation {classes}"):
            model.fit(x, y, lengths=lengths, validation_data=(x, wrong_y, lengths))
        assert states(model) == before
        model.evaluate(x, padded_y, lengths=lengths)
        if loss is not cross:
            model.evaluate(x, np.where(wrong_y == 2, -9, y), lengths=lengths)
    with pytest.raises(ValueError, match=r"^x: expected ids in .*, got 6 at \(37, 4\)"):
        model.predict(wrong_x, lengths=lengths)
    answers = (numbers(40, 1) > 0).astype(float)
    answers[33] = 1.5
    yes = small().compile(loss="binary_cross_entropy")
    with pytest.raises(ValueError, match=r"^y: expected numbers in .*, got 1\.5 at \(33, 0\)"):
        yes.fit(numbers(40, 2), answers, batch_size=2)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    x, y, path = numbers(6, 2), numbers(6, 1), tmp_path / "run.npz"
    model = small().compile("sgd")
    model.fit(x, y, 2, checkpoint=path)
    before = states(model)
    fr.save(tmp_path / "model.npz", model)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))

    def written(changes: dict[str, Any], **more: Array) -> Path:
        other = tmp_path / "other.npz"
        np.savez(other, **{**arrays, **more, "header": np.array(json.dumps(header | changes))})
        return other

    cases: list[tuple[Path, str]] = [
        (tmp_path / "model.npz", "expected a checkpoint of fit"),
        (written({"format_version": 2}), "format_version: this fusedrnn reads 1, found 2"),
        (written({"model": {}}), "model: the file is of other layers"),
        (written({"optimizer": "Adam"}), "optimizer: expected SGD, found 'Adam'"),
        (written({"epochs": -1}), "epochs: expected a whole number, found -1"),
        (written({"updates": True}), "updates: expected a whole number"),
        (written({"best_epoch": 3}), r"best_epoch: expected a number in \[1, 2\], found 3"),
        (written({"history": {"loss": [1.0]}}), "history: expected lists of 2 numbers"),
    ]
    for k, (file, text) in enumerate(cases):
        if file.name == "other.npz":  # each is written anew
            changes = [{"format_version": 2}, {"model": {}}, {"optimizer": "Adam"}, {"epochs": -1}]
            changes += [{"updates": True}, {"best_epoch": 3}, {"history": {"loss": [1.0]}}]
            written(changes[k - 1])
        with pytest.raises(ValueError, match=f"^.*npz: {text}"):
            model.load_checkpoint(file)
    for name in ("params/0.bias", "optimizer/velocity.0.bias"):
        with pytest.raises(ValueError, match=r"0\.bias"):
            model.load_checkpoint(written({}, **{name: np.zeros(7)}))
    assert states(model) == before
    assert model.epochs == 2
    twin = small(seed=1).compile("sgd")
    twin.load_checkpoint(path)
    assert states(twin) == before
    assert not isinstance(copy.deepcopy(twin), nn.Dense)
    with pytest.raises(RuntimeError, match="call compile"):
        copy.deepcopy(twin).fit(x, y)


@pytest.mark.parametrize(
    ("name", "title", "most"),
    [("models", "The next letter", 8), ("models", "Topics", 9), ("seq2seq", "A program", 12)],
)
def test_an_exercise_takes_few_lines(name: str, title: str, most: int) -> None:
    """The examples of the pages, imports included; tests/test_docs.py runs them."""
    page = (Path(__file__).resolve().parents[1] / f"docs/{name}.md").read_text()
    section = page.partition(f"## {title}\n")[2].partition("\n#")[0]
    blocks = [part.partition("```")[0] for part in section.split("```python\n")[1:]]
    block = next(block for block in blocks if "fit(" in block)
    lines = [line for line in block.splitlines() if line.strip()]
    assert "import fusedrnn as fr" in lines
    assert len(lines) <= most
    assert max(map(len, lines)) <= 100


SCRIPT = """
import hashlib
import sys
import numpy as np
import fusedrnn as fr
from fusedrnn import nn

threads = int(sys.argv[1])
fr.set_num_threads(threads)
rng = np.random.default_rng(0)
x, y, lengths = rng.integers(0, 50, (64, 30)), rng.integers(0, 9, (64, 30)), rng.integers(1, 31, 64)
if sys.argv[2] == "sequential":
    model = nn.Sequential([
        nn.Embedding(50, 64, seed=0), fr.LSTM(64, 64, bidirectional=True, dropout=0.1,
        num_layers=2, seed=1), nn.LayerNorm(128), nn.Dropout(0.2), nn.Dense(128, 9, seed=2)])
    options = {}
elif sys.argv[2] == "truncated":
    model = nn.Sequential([
        nn.Embedding(50, 64, seed=0), fr.GRU(64, 64, dropout=0.1, num_layers=2, seed=1),
        nn.Dense(64, 9, seed=2)])
    options = {"truncate": 7}
else:
    model = nn.Seq2Seq(
        fr.LSTM(64, 64, 2, bidirectional=True, dropout=0.1, seed=0), fr.LSTM(64, 128, 2, seed=1),
        nn.Sequential([nn.Dense(256, 64, seed=2), nn.Activation("tanh"), nn.Dense(64, 9, seed=3)]),
        source=nn.Embedding(50, 64, seed=4), target=nn.Embedding(9, 64, seed=5), start=0, end=1,
        attention=nn.Attention("additive", 128, 128, 32, seed=6))
    options = {}
model.compile("adam", "softmax_cross_entropy", ["accuracy"])
history = model.fit(x, y, 2, lengths=lengths, validation_split=0.2, clip_norm=1.0, **options)
path = fr.last_path()
assert path.backend == "native", path
assert path.threads <= threads, path
if fr.build_config()["openmp"]:
    layers = model.layers if sys.argv[2] != "attention" else tuple(model.parts.values())
    layers[1](layers[0](rng.integers(0, 50, (200, 64))))
    assert fr.last_path().threads == threads, fr.last_path()
bits = hashlib.sha256(repr(history).encode())
for a in (*model.params.values(), model.predict(x, lengths=lengths)):
    bits.update(np.ascontiguousarray(a).tobytes())
print(bits.hexdigest())
"""


@pytest.mark.parametrize("kind", ["sequential", "truncated", "attention"])
def test_no_bit_of_a_run_depends_on_the_number_of_threads(kind: str) -> None:
    """At one and two threads of the kernels, and of NumPy's BLAS."""
    if not fr.supported_isas():
        pytest.skip("the reference computes with NumPy's BLAS")
    found = set()
    for own, blas in (("1", "1"), ("2", "2")):
        environment = {
            **os.environ,
            "FUSEDRNN_BACKEND": "native",
            "OMP_NUM_THREADS": blas,
            "OPENBLAS_NUM_THREADS": blas,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, own, kind],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
