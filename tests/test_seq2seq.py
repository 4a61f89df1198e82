"""nn.Seq2Seq: the same as its layers by hand, gradients, training, decoding, files and errors."""

from __future__ import annotations

import copy
import json
import math
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen, fastest
from fusedrnn import nn
from layer_cases import agree, check_differences, same

Array = np.ndarray[Any, np.dtype[Any]]
LENGTHS = [5, 3, 1, 4]
START, END = 1, 2
TARGETS = np.array(
    [[3, 5, 4, 2, 0, 0], [2, 9, -1, 2, 2, 0], [6, 6, 6, 6, 6, 2], [4, -1, 5, 2, 3, 3]]
)
REAL = [4, 1, 6, 1]  # steps that count: up to END, or before a negative id


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def ids(*shape: int, count: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, count, shape)


def states(model: Any) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in model.state_dict().items()}


def deep(dtype: str = "float64", first: bool = False) -> nn.Seq2Seq:
    """Two layers, two directions, cell states, noise, attention, and a head of several layers."""
    options: Any = {"dtype": dtype, "batch_first": first, "num_layers": 2, "dropout": 0.2}
    head = [
        nn.Dense(12, 5, dtype=dtype, seed=5),
        nn.Activation("tanh", dtype=dtype),
        nn.Dropout(0.1, dtype=dtype),
        nn.Dense(5, 7, dtype=dtype, seed=6),
    ]
    return nn.Seq2Seq(
        fr.LSTM(4, 3, bidirectional=True, seed=0, **options),
        fr.LSTM(5, 6, seed=1, **options),
        nn.Sequential(head),
        source=nn.Embedding(8, 4, dtype=dtype, seed=2),
        target=nn.Embedding(7, 5, dtype=dtype, seed=3),
        attention=nn.Attention("general", 6, 6, batch_first=first, dtype=dtype, seed=4),
        start=START,
        end=END,
    )


def plain(dtype: str = "float64", cell: Any = fr.GRU, units: int = 4, **options: Any) -> nn.Seq2Seq:
    """Numbers to one-hot tokens without attention."""
    return nn.Seq2Seq(
        cell(3, units, dtype=dtype, seed=0, **options),
        cell(7, units, dtype=dtype, seed=1, **options),
        nn.Dense(4, 7, dtype=dtype, seed=2),
        start=START,
        end=END,
    )


def additive(dtype: str = "float64") -> nn.Seq2Seq:
    """Each layer with a size of its own, a projection, and additive attention."""
    return nn.Seq2Seq(
        fr.RNN(3, [4, 2], 2, dtype=dtype, bidirectional=True, seed=0),
        fr.GRU(7, [8, 4], 2, dtype=dtype, seed=1),
        nn.Dense(8, 7, dtype=dtype, seed=2),
        attention=nn.Attention("additive", 4, 4, 3, dtype=dtype, seed=3),
        start=START,
        end=END,
    )


MODELS: dict[str, tuple[Any, Array]] = {
    "deep": (deep, 1 + ids(4, 5, count=7)),
    "plain": (plain, numbers(4, 5, 3)),
    "projected": (
        lambda: plain(cell=fr.LSTM, units=6, proj_size=4),
        numbers(4, 5, 3),
    ),
    "additive": (additive, numbers(4, 5, 3)),
}


# --- calls ----------------------------------------------------------------------------------------


def test_a_model_is_its_layers_by_hand(backend: Chosen) -> None:
    model, x, dy = deep(), ids(4, 5), numbers(4, 6, 7, seed=9)
    parts = model.parts
    assert list(parts) == ["source", "encoder", "target", "decoder", "attention", "output"]
    source, encoder, target, decoder, attention, output = parts.values()
    told = np.array([[1, 3, 5, 4, 2, 0], [1] * 6, [1, 6, 6, 6, 6, 6], [1, 4, 1, 1, 1, 1]]).T

    def bridge(state: Any) -> Any:
        return tuple(
            np.stack([np.concatenate(a[k : k + 2], axis=-1) for k in (0, 2)]) for a in state
        )

    keys, last = encoder(source(x.T), lengths=LENGTHS)
    h, _ = decoder(target(told), bridge(last), lengths=REAL)
    context, weights = attention(h, keys, keys, lengths=LENGTHS)
    expected = output(np.concatenate([h, context], axis=-1))
    y, found = model(x, TARGETS, LENGTHS, return_attention=True)
    assert same(y, expected.swapaxes(0, 1))
    assert same(model(x, TARGETS, LENGTHS), y)
    real = np.arange(6) < np.array(REAL)[:, None]
    assert same(found, np.where(real[..., None], weights.swapaxes(0, 1), 0))
    assert np.allclose(found.sum(axis=-1), real)
    assert not found[1, :, 3:].any()

    rng = np.random.default_rng(5)
    a, saved_source = source.forward(x.T)
    keys, last, saved_encoder = encoder.forward(a, lengths=LENGTHS, rng=rng)
    a, saved_target = target.forward(told)
    h, _, saved_decoder = decoder.forward(a, bridge(last), lengths=REAL, rng=rng)
    context, weights, saved_attention = attention.forward(h, keys, keys, lengths=LENGTHS)
    both = np.concatenate([h, context], axis=-1).swapaxes(0, 1)  # a model is batch-major
    a, saved_output = output.forward(both, rng=rng)
    d, of_output = output.backward(saved_output, dy)
    assert d is not None
    d = d.swapaxes(0, 1)
    dq, dk, dv, of_attention = attention.backward(saved_attention, d[..., 6:])
    d, dstate, of_decoder = decoder.backward(saved_decoder, d[..., :6] + dq)
    _, of_target = target.backward(saved_target, d)
    dlast = tuple(np.stack([one[k, :, half] for k in (0, 1) for half in HALVES]) for one in dstate)
    d, _, of_encoder = encoder.backward(saved_encoder, dk + dv, dlast)
    _, of_source = source.backward(saved_source, d)
    of = [of_source, of_encoder, of_target, of_decoder, of_attention, of_output]
    gradients = {f"{p}.{n}": g for p, one in zip(parts, of, strict=True) for n, g in one.items()}

    y, saved = model.forward(x, TARGETS, LENGTHS, rng=np.random.default_rng(5))
    dx, back = model.backward(saved, dy)
    assert same(y, a)
    assert saved.attention is not None
    assert same(saved.attention, np.where(real[..., None], weights.swapaxes(0, 1), 0))
    assert dx is None
    assert list(back) == list(gradients) == list(model.params)
    assert all(same(back[name], g) for name, g in gradients.items())
    assert saved.nbytes > saved_encoder.nbytes + saved_decoder.nbytes
    for array in (y, saved.attention):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    quiet, _ = model.forward(x, TARGETS, LENGTHS, noise=False)
    assert same(quiet, model(x, TARGETS, LENGTHS))


HALVES = (slice(3), slice(3, 6))


def test_batch_first_layers_give_the_same() -> None:
    found = []
    for first in (False, True):
        model = deep(first=first)
        y, saved = model.forward(ids(4, 5), TARGETS, LENGTHS, noise=False)
        maps = saved.attention
        found.append([y, maps, model.generate(ids(4, 5), LENGTHS, max_length=4)])
        found[-1] += model.backward(saved, np.ones(y.shape))[1].values()
    assert all(same(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_central_differences(name: str) -> None:
    made, x = MODELS[name]
    model, weights = made(), numbers(4, 6, 7, seed=9)

    def call() -> Any:
        return model.forward(x, TARGETS, LENGTHS, rng=np.random.default_rng(3))

    with fastest():
        _, saved = call()
        dx, gradients = model.backward(saved, weights)
    arrays = {} if dx is None else {"x": x}
    given = {} if dx is None else {"x": dx}
    loss = lambda: float((call()[0] * weights).sum())  # noqa: E731
    check_differences(model, loss, arrays, given | gradients, elements=5)


def test_what_is_padded_changes_nothing() -> None:
    x, y, lengths = reversals(30)
    found = []
    for k in range(2):
        model = reverser().compile("sgd", "softmax_cross_entropy", "accuracy")
        hidden = np.arange(y.shape[1]) >= (lengths + 1)[:, None]
        padded = np.arange(x.shape[1]) >= lengths[:, None]
        history = model.fit(
            np.where(padded, 5 * k, x), np.where(hidden, 99 * k, y), 2, lengths=lengths
        )
        found.append((states(model), dict(history)))
    assert found[0] == found[1]
    model = deep()
    y = model(ids(4, 5), TARGETS, LENGTHS)
    loss = nn.softmax_cross_entropy(y, TARGETS, lengths=REAL, batch_first=True)
    model.compile(loss="softmax_cross_entropy", metrics=["accuracy", "perplexity"])
    values = model.evaluate(ids(4, 5), TARGETS, lengths=LENGTHS)
    assert math.isclose(values["loss"], loss.value, rel_tol=1e-6)
    assert values["perplexity"] == math.exp(values["loss"])


@pytest.mark.torch
def test_loss_and_gradients_are_torchs() -> None:
    """Packed sources, a bidirectional LSTM, teacher forcing, Luong's attention, ignored padding."""
    torch = pytest.importorskip("torch")
    options: Any = {"dtype": torch.float64}
    model, x = deep(), ids(4, 5)
    source = torch.nn.Embedding(8, 4, **options)
    target = torch.nn.Embedding(7, 5, **options)
    encoder = torch.nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True, **options)
    decoder = torch.nn.LSTM(5, 6, 2, batch_first=True, **options)
    head = [torch.nn.Linear(12, 5, **options), torch.nn.Tanh(), torch.nn.Linear(5, 7, **options)]
    output = torch.nn.Sequential(head[0], head[1], torch.nn.Identity(), head[2])
    theirs = {"source": source, "target": target, "encoder": encoder, "decoder": decoder}
    theirs["output"] = output
    for name, module in theirs.items():
        state = model.parts[name].state_dict()
        module.load_state_dict({n: torch.tensor(a) for n, a in state.items()})
    matrix = torch.tensor(model.params["attention.weight"], requires_grad=True)

    packed = torch.nn.utils.rnn.pack_padded_sequence(
        source(torch.tensor(x)), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    keys, state = encoder(packed)
    keys, _ = torch.nn.utils.rnn.pad_packed_sequence(keys, batch_first=True)
    state = tuple(torch.stack([torch.cat([a[k], a[k + 1]], dim=-1) for k in (0, 2)]) for a in state)
    wanted = torch.tensor(TARGETS)
    told = torch.cat([torch.full((4, 1), START), wanted[:, :-1].clamp(0, 6)], dim=1)
    h, _ = decoder(target(told), state)
    scores = h @ (keys @ matrix.T).transpose(1, 2)
    padding = torch.arange(5) >= torch.tensor(LENGTHS)[:, None]
    weights = scores.masked_fill(padding[:, None], -torch.inf).softmax(dim=-1)
    logits = output(torch.cat([h, weights @ keys], dim=-1))
    counted = torch.arange(6) < torch.tensor(REAL)[:, None]
    loss = torch.nn.functional.cross_entropy(logits[counted], wanted[counted])
    loss.backward()

    y, saved = model.forward(x, TARGETS, LENGTHS, noise=False)
    ours = nn.softmax_cross_entropy(y, TARGETS, lengths=REAL, batch_first=True)
    assert math.isclose(ours.value, loss.item(), rel_tol=1e-12)
    _, gradients = model.backward(saved, ours.gradient)
    expected = {f"{p}.{n}": q.grad for p, m in theirs.items() for n, q in m.named_parameters()}
    expected["attention.weight"] = matrix.grad
    assert set(expected) == set(gradients)
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=1e-12, err_msg=name)


def test_ids_without_a_table_are_one_hot_rows() -> None:
    model, x = plain(), ids(4, 5, count=3)
    rows = np.eye(3)[x]
    np.testing.assert_allclose(
        model(x, TARGETS, LENGTHS), model(rows, TARGETS, LENGTHS), rtol=0, atol=1e-12
    )
    assert same(
        model.generate(x, LENGTHS, max_length=4), model.generate(rows, LENGTHS, max_length=4)
    )
    y, saved = model.forward(x, TARGETS, LENGTHS)
    assert model.backward(saved, y)[0] is None


def test_a_sequence_without_targets_counts_nothing() -> None:
    """It has neither loss nor gradient; nor has a source without steps any influence."""
    model, x = plain(), numbers(2, 5, 3)
    targets = np.array([[-1, 3, 2], [4, 2, 0]])
    y, saved = model.forward(x, targets, [4, 0])
    loss = nn.softmax_cross_entropy(y, targets, lengths=[0, 2], batch_first=True)
    dx, _ = model.backward(saved, loss.gradient)
    assert dx is not None
    assert not dx.any()
    assert same(y[1], model(2 * x, targets, [4, 0])[1])
    model.compile(loss="softmax_cross_entropy")
    values = model.evaluate(x, targets, lengths=[4, 0])
    assert math.isclose(values["loss"], loss.value, rel_tol=1e-12)


# --- decoding -------------------------------------------------------------------------------------


def test_what_was_said_is_the_argmax_of_the_model() -> None:
    """A step at a time has the bits of all steps at once, weights of attention included."""
    ended, floats = 0, numbers(4, 5, 3)
    for seed in range(6):
        model, x = [(plain(), floats), (deep(), ids(4, 5)), (additive(), floats)][seed % 3]
        attentive = "attention" in model.parts
        for name in list(model.params):  # so that the tokens differ
            model.params[name] = 3 * model.params[name]
        model.params["output.3.bias" if "source" in model.parts else "output.bias"] = 0.3 * numbers(
            7, seed=seed
        )
        found = model.generate(x, LENGTHS, max_length=9)
        assert found.dtype == np.int64
        logits = model(x, found, LENGTHS)
        over = np.cumsum(found == END, axis=1) - (found == END) > 0
        ended += over.any() and not over[:, -1].all()
        assert same(found, np.where(over, END, logits.argmax(axis=-1)))
        if attentive:
            again, weights = model.generate(x, LENGTHS, max_length=9, return_attention=True)
            assert same(again, found)
            assert agree(weights, model(x, found, LENGTHS, return_attention=True)[1])
    assert ended >= 2


def test_a_sequence_ends_with_its_end() -> None:
    model = nn.Seq2Seq(fr.RNN(3, 4), fr.RNN(5, 4), nn.Dense(4, 5, seed=0), start=0, end=3)
    with model.writable() as params:
        for a in params.values():
            a[...] = 0
        # A counter in the first unit: the output is 3 once the sum of the inputs has passed.
        params["encoder.weight_ih_l0"][0, 0] = 1
        params["output.weight"][3, 0] = 1
        params["output.bias"][:] = [0, 0.5, 0, 0, 0]
    x = np.array([[[4.0, 0, 0]], [[-4.0, 0, 0]]])
    with model.writable() as params:
        params["decoder.weight_hh_l0"][0, 0] = 5
    assert model.generate(x, max_length=3).tolist() == [[3, 3, 3], [1, 1, 1]]
    assert model.generate(x[:1], max_length=30).tolist() == [[3]]
    assert (
        model.predict(np.repeat(x, 3, axis=0), 2, max_length=2).tolist()
        == [[3, 3]] * 3 + [[1, 1]] * 3
    )
    endless = nn.Seq2Seq(*(model.parts[p] for p in ("encoder", "decoder", "output")), start=0)
    assert endless.generate(x[:1], max_length=4).tolist() == [[3] * 4]


def test_tokens_are_drawn_by_their_odds() -> None:
    model = plain()
    with model.writable() as params:
        params["output.weight"][...] = 0
        params["output.bias"][:] = np.log([1, 4, 0.01, 1, 1, 2, 1])
    x = np.zeros((400, 2, 3))
    found = model.generate(x, max_length=20, temperature=1.0, rng=np.random.default_rng(0))
    first = np.bincount(found[:, 0], minlength=7) / 400
    expected = np.array([1, 4, 0.01, 1, 1, 2, 1]) / 10.01
    assert np.abs(first - expected).max() < 0.07
    assert same(
        found, model.generate(x, max_length=20, temperature=1.0, rng=np.random.default_rng(0))
    )
    cold = model.generate(x, max_length=3, temperature=0.5, rng=np.random.default_rng(0))
    share = (cold == 1).mean()
    assert abs(share - 16 / 24) < 0.05
    assert (model.generate(x, max_length=3) == 1).all()
    assert (model.generate(x, max_length=3, temperature=1e-30) == 1).all()
    few = model.generate(x, max_length=20, temperature=3.0, top_k=2, rng=np.random.default_rng(0))
    assert set(few.ravel().tolist()) == {1, 5}
    with model.writable() as params:
        params["output.bias"][0] = np.nan
    with pytest.raises(FloatingPointError, match="odds that are not finite"):
        model.generate(x)


# --- training -------------------------------------------------------------------------------------


def reversals(count: int, steps: int = 5, seed: int = 0) -> tuple[Array, Array, Array]:
    """Digits, the same digits in reverse order with an end, and the lengths of the sources."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, count)
    x = np.where(np.arange(steps) < lengths[:, None], rng.integers(3, 8, (count, steps)), 0)
    y = np.zeros((count, steps + 1), int)
    for k, n in enumerate(lengths):
        y[k, : n + 1] = [*x[k, :n][::-1], END]
    return x, y, lengths


def reverser(seed: int = 0) -> nn.Seq2Seq:
    return nn.Seq2Seq(
        fr.GRU(8, 16, bidirectional=True, seed=seed),
        fr.GRU(8, 32, input_dropout=0.05, seed=seed + 1),
        nn.Dense(64, 8, seed=seed + 2),
        source=nn.Embedding(8, 8, seed=seed + 3),
        target=nn.Embedding(8, 8, seed=seed + 4),
        attention=nn.Attention("scaled_dot"),
        start=START,
        end=END,
    )


def test_fit_learns_to_reverse() -> None:
    x, y, lengths = reversals(600)
    model = reverser().compile(nn.Adam(0.01), "softmax_cross_entropy", ["accuracy"])
    history = model.fit(
        x, y, 16, batch_size=16, lengths=lengths, validation_split=0.1, clip_norm=1.0
    )
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["val_accuracy"][-1] > 0.95
    held = slice(540, None)
    found = model.evaluate(x[held], y[held], lengths=lengths[held])
    last = {name: history[f"val_{name}"][-1] for name in found}
    assert all(agree(np.array(found[name]), np.array(last[name])) for name in last)
    said = model.predict(x[held], 16, lengths=lengths[held], max_length=8)
    right = [
        list(one[: n + 1]) == list(wanted[: n + 1])
        for one, wanted, n in zip(said, y[held], lengths[held], strict=True)
    ]
    assert np.mean(right) > 0.9


def test_fit_is_the_loop_by_hand() -> None:
    x, y, lengths = reversals(10)
    model = reverser()
    again, adam = copy.deepcopy(model), nn.Adam()
    history = model.compile("adam", "softmax_cross_entropy").fit(
        x, y, 2, batch_size=4, lengths=lengths, shuffle=False
    )
    expected = []
    for epoch in range(2):
        rng, total, count = np.random.default_rng([0, epoch]), 0.0, 0
        for start in range(0, 10, 4):
            rows = slice(start, start + 4)
            n = lengths[rows]
            targets = y[rows, : n.max() + 1]
            out, saved = again.forward(x[rows, : n.max()], targets, n, rng=rng)
            loss = nn.softmax_cross_entropy(out, targets, lengths=n + 1, batch_first=True)
            adam.step(again, again.backward(saved, loss.gradient)[1])
            total, count = total + loss.value * int((n + 1).sum()), count + int((n + 1).sum())
        expected.append(total / count)
    assert history["loss"] == expected
    assert states(model) == states(again)


def test_targets_of_similar_length_come_together() -> None:
    """Sources of one length: batches are then of similar targets."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 320)
    y = np.full((320, 30), -1)
    for k, n in enumerate(lengths):
        y[k, :n] = 3
    seen: list[int] = []

    def spread(prediction: Array, targets: Array, **options: Any) -> float:
        seen.append(int(np.ptp(options["lengths"])))
        return 0.0

    model = plain("float32").compile("sgd", "softmax_cross_entropy", spread)
    model.fit(numbers(320, 2, 3), y, batch_size=10)
    assert np.mean(seen) < 10


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    x, y, lengths = reversals(24)
    given: Any = {"lengths": lengths, "batch_size": 8, "clip_norm": 0.5, "validation_split": 0.2}
    whole = reverser().compile("adam", "softmax_cross_entropy", "accuracy")
    expected = whole.fit(x, y, 4, checkpoint=tmp_path / "whole.npz", **given)
    calls = iter(range(99))

    def stopping(prediction: Array, targets: Array, **options: Any) -> float:
        if next(calls) == 9:  # in the third epoch
            signal.raise_signal(signal.SIGTERM)
        return nn.metrics.accuracy(prediction, targets, **options)

    stopping.__name__ = "accuracy"
    first = reverser().compile("adam", "softmax_cross_entropy", stopping)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        history = first.fit(x, y, 4, checkpoint=tmp_path / "part.npz", **given)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (history.stopped, first.epochs) == ("SIGTERM", 2)
    second = reverser(seed=7).compile("adam", "softmax_cross_entropy", "accuracy")
    second.load_checkpoint(tmp_path / "part.npz")
    history = second.fit(x, y, 2, checkpoint=tmp_path / "part.npz", **given)
    assert dict(history) == dict(expected)
    assert states(second) == states(whole)
    assert (tmp_path / "part.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


# --- parameters and files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_all_of_itself(name: str, tmp_path: Path) -> None:
    made, x = MODELS[name]
    model, adam = made(), nn.Adam(0.1)
    y, saved = model.forward(x, TARGETS, noise=False)
    adam.step(model, model.backward(saved, y)[1])
    config = json.loads(json.dumps(model.config()))
    fr.save(tmp_path / "one.npz", model, optimizer=adam)
    fr.save(tmp_path / "two.npz", {"a": model, "b": fr.GRU(2, 2, seed=0)})
    told = eval(repr(model), {**vars(nn), "LSTM": fr.LSTM, "GRU": fr.GRU, "RNN": fr.RNN})
    told.load_state_dict(model.state_dict())
    again = nn.Adam(0.1)
    for other in (
        told,
        nn.Seq2Seq.from_config(config, model.state_dict()),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        fr.load(tmp_path / "one.npz", optimizer=again),
        fr.load(tmp_path / "two.npz")["a"],
    ):
        assert type(other) is nn.Seq2Seq
        assert other.config() == config
        assert states(other) == states(model)
        assert same(other(x, TARGETS), model(x, TARGETS))
        assert same(other.generate(x, max_length=4), model.generate(x, max_length=4))
    assert len(again.state_dict(fr.load(tmp_path / "one.npz", optimizer=again))) > 0
    assert model.summary().splitlines()[-1].split() == [
        "total",
        f"{sum(a.size for a in model.params.values()):,}",
    ]


# --- errors ---------------------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_named() -> None:
    gru, dense, table = fr.GRU(3, 4), nn.Dense(4, 7), nn.Embedding(7, 3)

    def made(encoder: Any = None, decoder: Any = None, output: Any = dense, **more: Any) -> Any:
        options: dict[str, Any] = {"start": 1, "end": 2, **more}
        return lambda: nn.Seq2Seq(
            fr.GRU(3, 4) if encoder is None else encoder,
            fr.GRU(7, 4) if decoder is None else decoder,
            output,
            **options,
        )

    double = nn.Embedding(7, 3, dtype="float64")
    for make, error, text in (
        (made(fr.GRU), TypeError, "encoder: expected an RNN, LSTM or GRU, got the class GRU"),
        (made(decoder=dense), TypeError, "decoder: expected an RNN, LSTM or GRU, got Dense"),
        (made(output=gru), TypeError, "output: expected an nn.Dense or nn.Sequential, got GRU"),
        (made(source=dense), TypeError, "source: expected an nn.Embedding or None, got Dense"),
        (made(attention="dot"), TypeError, "attention: expected an nn.Attention, got str"),
        (
            made(source=nn.Embedding(7, 5)),
            ValueError,
            "encoder: GRU reads 3 numbers, and the layer",
        ),
        (made(target=nn.Embedding(7, 5)), ValueError, "decoder: GRU reads 7 numbers"),
        (made(source=double), TypeError, "encoder: is of float32, and source of float64"),
        (
            made(fr.GRU(3, 4, dtype="float64")),
            TypeError,
            "decoder: is of float32, and encoder of f",
        ),
        (made(gru, gru), ValueError, "decoder: is encoder once more; make a layer for each"),
        (
            made(decoder=fr.GRU(3, 4), source=table, target=table),
            ValueError,
            "target: is source once more",
        ),
        (
            made(decoder=fr.GRU(7, 4, bidirectional=True)),
            ValueError,
            "decoder: expected one direct",
        ),
        (made(fr.GRU(3, 4, 2)), ValueError, "decoder: expected as many layers as .* 2, got 1"),
        (made(fr.LSTM(3, 4)), ValueError, "decoder: expected the kind of states .*LSTM and GRU"),
        (
            made(fr.GRU(3, 4, bidirectional=True)),
            ValueError,
            r"decoder: expected states of the sizes \[8\], .* both directions .*, got \[4\]",
        ),
        (
            made(fr.LSTM(3, 6, proj_size=4), fr.LSTM(7, 4)),
            ValueError,
            r"decoder: expected states of the sizes \[\(4, 6\)\], .*got \[4\]",
        ),
        (
            made(
                fr.LSTM(3, 6, proj_size=4),
                fr.LSTM(7, 6, proj_size=4),
                attention=nn.Attention("general", 6, 4),
            ),
            ValueError,
            "attention: expected query_size=4, .*, and key_size=4, .*, got 6 and 4",
        ),
        (
            made(attention=nn.Attention("dot")),
            ValueError,
            r"output: .* 8 numbers .*, got one from 4",
        ),
        (made(output=nn.Dense(4, 6)), ValueError, r"output: .*to 7 logits .*, got one from 4 to 6"),
        (
            made(output=nn.Sequential([fr.GRU(4, 7)])),
            ValueError,
            r"output.layers\[0\]: expected a layer that works on each step by itself, got GRU",
        ),
        (made(start=7), ValueError, r"start: expected a number in \[0, 7\), got 7"),
        (made(end=-1), ValueError, "end: expected at least 0"),
        (made(start=None), TypeError, "start: expected a whole number"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            make()
    mixed = fr.LSTM(3, 4, bidirectional=True, proj_size=2), fr.LSTM(7, 8, proj_size=4)
    nn.Seq2Seq(*mixed, dense, attention=None, start=0)


def test_arguments_that_do_not_fit_are_named() -> None:
    model, x = deep(), ids(4, 5)
    cases: list[tuple[Any, type[Exception], str]] = [
        ((numbers(4, 5), TARGETS), TypeError, "x: expected integers"),
        ((x + 8, TARGETS), ValueError, r"x: expected ids in \[0, 8\), got"),
        ((x, TARGETS[:3]), ValueError, r"targets: expected shape \(4, T\), one .*, got \(3, 6\)"),
        ((x, TARGETS[0]), ValueError, r"targets: expected shape \(4, T\)"),
        ((x, TARGETS[:, :0]), ValueError, r"targets: expected shape \(4, T\)"),
        ((x, TARGETS * 1.0), TypeError, r"targets: expected ids \(integers\), got"),
        ((x, np.full((4, 2), 7)), ValueError, r"targets: expected ids in \[0, 7\), got 7 at"),
        ((x, TARGETS, [6, 1, 1, 1]), ValueError, r"lengths: expected numbers in \[0, 5\]"),
    ]
    for given, error, text in cases:
        for call in (model, model.forward):
            with pytest.raises(error, match=f"^{text}"):
                call(*given)
    for more, error, text in (
        ({"max_length": 0}, ValueError, "max_length: expected at least 1"),
        ({"temperature": -1}, ValueError, "temperature: expected a finite number of at least 0"),
        ({"temperature": np.inf}, ValueError, "temperature: expected a finite number"),
        ({"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
        ({"rng": 3}, TypeError, "rng: expected a numpy.random.Generator"),
        ({"return_attention": 1}, TypeError, "return_attention: expected True or False"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model.generate(x, **more)  # type: ignore[call-overload]
    for call in (
        lambda: plain()(numbers(4, 5, 3), TARGETS, return_attention=True),
        lambda: plain().generate(numbers(4, 5, 3), return_attention=True),
    ):
        with pytest.raises(ValueError, match=r"return_attention: .* without attention"):
            call()
    model.compile(loss="softmax_cross_entropy")
    before = states(model)
    for given, more, error, text in (
        ((x, TARGETS[:, 0]), {}, ValueError, r"y: expected shape \(N, T\), a sequence of ids"),
        ((x, TARGETS[:3]), {}, ValueError, "y: expected 4 samples, as x has, got 3"),
        ((x, TARGETS * 1.0), {}, TypeError, r"y: expected ids \(integers\)"),
        (  # by its place in x or y, and not in its batch
            (np.where(np.arange(20).reshape(4, 5) == 17, 8, x), TARGETS),
            {"batch_size": 1},
            ValueError,
            r"x: expected ids in \[0, 8\), got 8 at \(3, 2\)",
        ),
        (
            (x, np.where(TARGETS == 6, 7, TARGETS)),
            {"batch_size": 1},
            ValueError,
            r"y: expected classes in \[0, 7\), got 7 at \(2, 0\)",
        ),
        ((x, np.full((4, 3), 3)), {}, ValueError, "y: expected sequences that end with end=2, fou"),
        (
            (x, np.array([[1, 3, 2]] * 4)),
            {},
            ValueError,
            "y: expected sequences without start=1, with which all of them begin",
        ),
        ((x, TARGETS), {"truncate": 2}, ValueError, "truncate: expected None for a Seq2Seq"),
        (
            (x, TARGETS),
            {"validation_data": (x, TARGETS * 1.0)},
            TypeError,
            r"validation y: expected ids \(int",
        ),
    ):
        with pytest.raises(error, match=f"^{text}"):
            model.fit(*given, **more)
    assert states(model) == before
    y, saved = model.forward(x, TARGETS)
    with pytest.raises(ValueError, match=r"dy: expected shape \(4, 6, 7\)"):
        model.backward(saved, y[:3])
    with pytest.raises(ValueError, match="saved: expected what this layer's forward"):
        copy.deepcopy(model).backward(saved, y)
    with pytest.raises(TypeError, match=r"saved: expected what forward\(\) returned"):
        model.backward(y, y)  # type: ignore[arg-type]
    with model.writable() as params:
        params["target.weight"][:] = 1
        with pytest.raises(RuntimeError, match="open for writing"):
            model(x, TARGETS)
    with pytest.raises(RuntimeError, match="parameters have changed"):
        model.backward(saved, y)


def test_a_config_that_does_not_fit_is_refused() -> None:
    model = plain()
    config, state = model.config(), model.state_dict()
    for changed, given, error, text in (
        (config | {"kind": "GRU"}, state, ValueError, "of kind 'nn.Seq2Seq', got 'GRU'"),
        ({k: v for k, v in config.items() if k != "start"}, state, ValueError, "missing 'start'"),
        (config | {"encoder": 3}, state, ValueError, "encoder: expected a kind of layer"),
        (config | {"encoder": {"kind": "nn.Adam"}}, state, ValueError, "encoder: expected a kind"),
        (config | {"encoder": None}, {}, ValueError, "decoder: "),
        (config | {"end": 9}, state, ValueError, r"end: expected a number in \[0, 7\)"),
        (config, state | {"head.bias": numbers(1)}, ValueError, "state: unexpected 'head.bias'"),
        (config, state | {"output.other": numbers(1)}, ValueError, "output: .*unexpected 'other'"),
        (config, 3, TypeError, "state: expected a mapping"),
    ):
        with pytest.raises(error, match=text):
            nn.Seq2Seq.from_config(changed, given)  # type: ignore[arg-type]
