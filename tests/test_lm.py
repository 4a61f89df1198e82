"""The text model: gradients, bits, training that stops and goes on anywhere."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn.nn import Alphabet, CharLM, Trainer, persist, softmax_cross_entropy
from fusedrnn.nn.train import uninterrupted

Array = np.ndarray[Any, np.dtype[Any]]
TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs.\n" * 12


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def test_language_model_gradients_by_differences(backend: Chosen) -> None:
    model = CharLM(Alphabet("abc"), 3, dtype="float64", seed=0)
    tokens, targets = np.array([[0, 1], [2, 1], [1, 0]]), np.array([[2, 1], [1, 0], [0, 2]])
    state = (numbers(1, 2, 3), numbers(1, 2, 3, seed=1))
    result = model.gradients(tokens, targets, state)
    backend.ran("lstm float64")
    assert list(result.grads) == list(model.params)

    def loss() -> float:
        y, _ = model.lstm(None, state, tokens=tokens)
        return softmax_cross_entropy(model.dense(y), targets).value

    assert loss() == pytest.approx(result.loss, rel=1e-14)
    for name, g in result.grads.items():
        for place in [(0,) * g.ndim, tuple(n - 1 for n in g.shape), tuple(n // 2 for n in g.shape)]:
            ends = []
            for step in (1e-6, -1e-6):
                with model.writable() as p:
                    p[name][place] += step
                ends.append(loss())
                with model.writable() as p:
                    p[name][place] -= step
            assert g[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8), name


def test_bits_are_those_of_one_reading() -> None:
    alphabet = Alphabet(TEXT)
    model = CharLM(alphabet, 8, dtype="float64", seed=0)
    text = alphabet.encode(TEXT * 4)
    context, tokens = text[:600], text[600:]
    y, _ = model.lstm(None, None, tokens=text[600 - 512 : -1, None])
    logits = model.dense(y[511:, 0])
    right = softmax_cross_entropy(logits, tokens).value / math.log(2)
    assert model.bits(tokens, context=context, streams=1) == pytest.approx(right, rel=1e-12)
    # Pieces begin 512 tokens early, so their first predictions have a past almost as good.
    assert model.bits(tokens, context=context) == pytest.approx(right, rel=1e-6)
    # Without a context the first token is given.
    y, _ = model.lstm(None, None, tokens=tokens[:-1, None])
    right = softmax_cross_entropy(model.dense(y[:, 0]), tokens[1:]).value / math.log(2)
    assert model.bits(tokens) == pytest.approx(right, rel=1e-12)
    assert math.isnan(model.bits(tokens[:1]))
    assert math.isnan(model.bits(tokens[:0], context=context))


def trainer(dtype: str = "float32", **options: Any) -> Trainer:
    alphabet = Alphabet(TEXT)
    model = CharLM(alphabet, 24, dtype=dtype, seed=3)
    options = {"batch": 6, "chunk": 20, "lr": 0.01, "seed": 5, **options}
    return Trainer(model, alphabet.encode(TEXT), **options)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
def test_fifty_losses_agree_with_the_reference(native: Chosen, dtype: str, bound: float) -> None:
    ours = trainer(dtype)
    ours.run(steps=50)
    native.ran(f"lstm {dtype}")
    with fr.use_backend("reference"):
        theirs = trainer(dtype)
        theirs.run(steps=50)
        assert fr.last_path().backend == "reference"
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=bound)
    assert ours.losses[-1] < 0.9 * ours.losses[0]


def test_every_character_is_read_once_an_epoch() -> None:
    found = trainer(chunk=50)
    rows = len(TEXT) // 6
    seen: list[int] = []
    alphabet = found.model.alphabet
    gradients = found.model.gradients

    def spy(tokens: Array, targets: Array, state: Any) -> Any:
        seen.append(tokens.size)
        carried.append(state is not None)
        np.testing.assert_array_equal(tokens[1:], targets[:-1])
        return gradients(tokens, targets, state)

    carried: list[bool] = []
    found.model.gradients = spy  # type: ignore[method-assign]
    updates = -(-rows // 50)
    found.run(steps=2 * updates)
    assert sum(seen) == 2 * rows * 6 == found.characters
    assert carried == 2 * [False, *[True] * (updates - 1)]
    assert len(alphabet) == len(set(TEXT))


def test_resumed_training_is_the_same(tmp_path: Path, backend: Chosen) -> None:
    whole = trainer()
    whole.run(steps=30)
    first = trainer()
    for _ in range(17):
        first.update(first.updates / 30)
    path = tmp_path / "model.npz"
    persist.save(
        path,
        {"model": first.model.config(), "trainer": first.config()},
        {
            **persist.prefixed("model.", first.model.state_dict()),
            **persist.prefixed("trainer.", first.state_dict()),
        },
    )
    config, arrays = persist.load(path)
    model = CharLM.from_config(config["model"], persist.without_prefix("model.", arrays))
    second = Trainer(model, first.tokens, **config["trainer"])
    second.load_state_dict(persist.without_prefix("trainer.", arrays))
    second.run(steps=30)
    assert second.losses == whole.losses
    for name, p in whole.model.params.items():
        np.testing.assert_array_equal(second.model.params[name], p)


def test_training_stops_where_it_should() -> None:
    found = trainer()
    shares: list[float] = []
    found.run(steps=4, progress=lambda _, share: shares.append(share))
    assert shares == [0.25, 0.5, 0.75, 1.0]
    found.run(steps=4)
    found.run(steps=0)
    assert found.updates == 4
    found.run(seconds=found.seconds + 1e-9)
    assert found.updates == 5
    with pytest.raises(ValueError, match="exactly one"):
        found.run()
    with pytest.raises(ValueError, match="too few for 500 streams"):
        trainer(batch=500)


def snapshot(found: Trainer) -> list[Array]:
    return [*found.model.state_dict().values(), *found.state_dict().values()]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_update_happens_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    found = trainer()
    found.run(steps=3)
    before = snapshot(found)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(found.model.dense, "backward", fail)
        with pytest.raises(error):
            found.update(0.5)
    for old, new in zip(before, snapshot(found), strict=True):
        np.testing.assert_array_equal(old, new)

    # Within the change itself Ctrl-C waits for its end.
    step = found.optimizer.step

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        step(*arguments)

    monkeypatch.setattr(found.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.update(0.5)
    assert found.updates == found.optimizer.state_dict(found.model)["steps.dense.bias"] == 4


def test_divergence_is_told_and_changes_nothing() -> None:
    found = trainer()
    with found.model.writable() as p:
        p["dense.bias"][0] = np.inf
    before = snapshot(found)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=r"update 1: loss nan.*lower learning rate"),
    ):
        found.update(0.0)
    for old, new in zip(before, snapshot(found), strict=True):
        np.testing.assert_array_equal(old, new)


def test_held_interrupts_come_afterwards() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is before
