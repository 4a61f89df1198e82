"""The text model: gradients, bits per character, and training that stops and continues anywhere."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn.charlm import Alphabet, CharLM, Trainer, runfile
from fusedrnn.nn import softmax_cross_entropy

Array = np.ndarray[Any, np.dtype[Any]]
TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs.\n" * 12


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


CELLS = [("lstm", 1), ("lstm", 2), ("gru", 1), ("rnn_tanh", 2)]


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_language_model_gradients_by_differences(backend: Chosen, cell: str, layers: int) -> None:
    model = CharLM(Alphabet("abc"), 3, cell=cell, num_layers=layers, dtype="float64", seed=0)
    tokens, targets = np.array([[0, 1], [2, 1], [1, 0]]), np.array([[2, 1], [1, 0], [0, 2]])
    parts = tuple(numbers(layers, 2, 3, seed=seed) for seed in (0, 1))
    state = parts if cell == "lstm" else parts[0]
    result = model.gradients(tokens, targets, state)
    assert fr.last_path().kernel.startswith(cell)
    assert fr.last_path()[:2] == (backend.name, backend.isa)
    assert list(result.grads) == list(model.params)

    def loss() -> float:
        y, _ = model.recurrent(None, state, tokens=tokens)
        return softmax_cross_entropy(model.dense(y), targets).value

    assert loss() == pytest.approx(result.loss, rel=1e-14)
    assert model.loss(tokens, targets, state) == loss()
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


def test_the_parameters_of_a_model_are_its_layers() -> None:
    model = CharLM(Alphabet("abc"), 3, seed=0)
    assert model.params.owner is model
    assert len(model.params) == 6
    np.testing.assert_array_equal(model.params["dense.bias"], model.dense.params["bias"])
    with model.writable() as p:
        assert p.owner is model
        p["dense.bias"][1] = 7
        p["recurrent.bias_hh_l0"] = np.arange(12.0)
    assert model.dense.params["bias"][1] == 7
    assert model.recurrent.params["bias_hh_l0"][3] == 3
    model.params["dense.bias"] = np.zeros(3)
    assert not model.dense.params["bias"].any()
    with pytest.raises(KeyError, match=r"'dense.bais': the model has the parameters recurrent\."):
        model.params["dense.bais"]
    with pytest.raises(KeyError):
        model.params["bias"]
    assert "'dense.weight': float32(3, 3)" in repr(model.params)
    assert repr(model) == "<CharLM: 3 characters, lstm, 1 x 3 units, float32>"


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_a_model_is_rebuilt_from_what_it_says(cell: str, layers: int) -> None:
    model = CharLM(Alphabet("\nabé"), 5, cell=cell, num_layers=layers, dtype="float64", seed=1)
    config = json.loads(json.dumps(model.config()))
    assert config == {
        "kind": "charlm.CharLM",
        "alphabet": "\nabé",
        "hidden_size": 5,
        "cell": cell,
        "num_layers": layers,
        "dtype": "float64",
    }
    again = CharLM.from_config(config, model.state_dict())
    assert again.config() == model.config()
    for name, p in model.params.items():
        np.testing.assert_array_equal(again.params[name], p)


def test_what_is_wrong_with_a_model_is_said() -> None:
    model = CharLM(Alphabet("abc"), 3, seed=0)
    config, state = model.config(), model.state_dict()

    def refused(text: str, **changes: object) -> None:
        with pytest.raises((ValueError, TypeError), match=text):
            CharLM.from_config({**config, **changes}, state)

    refused("expected that of a model of kind 'charlm.CharLM', got 'CharLM'", kind="CharLM")
    refused("unknown 'units'", units=3)
    refused("alphabet: expected a text, got int", alphabet=3)
    refused("alphabet: expected distinct characters in the order", alphabet="cba")
    refused("alphabet: expected at least one character", alphabet="")
    refused("cell: expected one of rnn_tanh, lstm, gru, got 'lstn'", cell="lstn")
    refused("cell: expected one of", cell=["lstm"])
    refused("hidden_size", hidden_size="3")
    refused("num_layers", num_layers=0)
    refused("dtype", dtype="int8")
    refused("expected floating point of shape", hidden_size=4)
    del config["alphabet"]
    refused("missing 'alphabet'")
    with pytest.raises(TypeError, match="alphabet: expected an Alphabet, got str"):
        CharLM("abc", 3)  # type: ignore[arg-type]

    before = model.state_dict()
    wrong = {**state, "extra": state["dense.bias"], "dense.weight": np.ones((3, 3), int)}
    wrong["recurrent.weight_hh_l0"] = wrong["recurrent.weight_hh_l0"] + 1
    del wrong["dense.bias"]
    with pytest.raises(ValueError, match=r"missing 'dense.bias'; unexpected 'extra'; dense.weight"):
        model.load_state_dict(wrong)
    for name, p in model.params.items():
        np.testing.assert_array_equal(p, before[name])


def test_bits_are_those_of_one_reading() -> None:
    alphabet = Alphabet(TEXT)
    model = CharLM(alphabet, 8, dtype="float64", seed=0)
    text = alphabet.encode(TEXT * 4)
    context, tokens = text[:600], text[600:]
    y, _ = model.recurrent(None, None, tokens=text[600 - 512 : -1, None])
    logits = model.dense(y[511:, 0])
    right = softmax_cross_entropy(logits, tokens).value / math.log(2)
    assert model.bits(tokens, context=context, streams=1) == pytest.approx(right, rel=1e-12)
    # Long texts are cut into pieces that begin 512 tokens early, so the first predictions of a
    # piece have almost the complete past.
    assert model.bits(tokens, context=context) == pytest.approx(right, rel=1e-6)
    # Without a context the first token is given and not predicted.
    y, _ = model.recurrent(None, None, tokens=tokens[:-1, None])
    right = softmax_cross_entropy(model.dense(y[:, 0]), tokens[1:]).value / math.log(2)
    assert model.bits(tokens) == pytest.approx(right, rel=1e-12)
    assert math.isnan(model.bits(tokens[:1]))
    assert math.isnan(model.bits(tokens[:0], context=context))
    text: Any = "abc"
    with pytest.raises(TypeError, match=r"^tokens: expected whole numbers of shape \(n,\), got <U"):
        model.bits(text)
    with pytest.raises(TypeError, match=r"^context: expected whole numbers of shape \(n,\)"):
        model.bits(tokens, context=text)


def trainer(dtype: str = "float32", cell: str = "lstm", layers: int = 1, **options: Any) -> Trainer:
    alphabet = Alphabet(TEXT)
    model = CharLM(alphabet, 24, cell=cell, num_layers=layers, dtype=dtype, seed=3)
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


@pytest.mark.parametrize(("cell", "layers"), CELLS)
def test_resumed_training_is_the_same(
    tmp_path: Path, backend: Chosen, cell: str, layers: int
) -> None:
    whole = trainer(cell=cell, layers=layers)
    whole.run(steps=30)
    first = trainer(cell=cell, layers=layers)
    for _ in range(17):
        first.update(first.updates / 30)
    path = tmp_path / "model.npz"
    runfile.save(path, first, {})
    second = runfile.load(path).trainer(first.tokens)
    second.run(steps=30)
    assert fr.last_path().backend == backend.name
    assert second.losses == whole.losses
    for name, p in whole.model.params.items():
        np.testing.assert_array_equal(second.model.params[name], p)


def test_a_trainer_goes_on_from_what_is_whole() -> None:
    found = trainer()
    found.run(steps=3)
    state, before = found.state_dict(), snapshot(found)

    def refused(text: str, **changes: Any) -> None:
        changed = {k: a for k, a in {**state, **changes}.items() if a is not None}
        with pytest.raises(ValueError, match=text):
            found.load_state_dict(changed)
        for old, new in zip(before, snapshot(found), strict=True):
            np.testing.assert_array_equal(old, new)

    def place(**changes: Any) -> Array:
        return np.array(json.dumps({**json.loads(str(state["place"])), **changes}))

    refused("place: missing", place=None)
    refused("place: expected JSON", place=np.array("{"))
    refused("place: expected a JSON object", place=np.array("[]"))
    refused("place: position: expected a whole number of at least 0", place=place(position=1.5))
    refused("place: position: .* and below 158, got 158", place=place(position=158))
    refused("place: offset: .* and below 948, got -1", place=place(offset=-1))
    refused(
        "place: seconds: expected a number of at least 0, got nan", place=place(seconds=math.nan)
    )
    refused("place: rng: expected a JSON object, got None", place=place(rng=None))
    refused("place: rng: not the state of a PCG64", place=place(rng={"bit_generator": "MT19937"}))
    refused("losses: missing", losses=None)
    refused("losses: expected floating point", losses=np.array(["a"]))
    refused("c: missing", c=None)
    refused(
        r"h: expected float32 of shape \(1, 6, 24\), got float32 of shape \(1, 5, 24\)",
        h=state["h"][:, :5],
    )
    refused("missing 'mean.dense.bias'", **{"adam.mean.dense.bias": None})
    refused(
        "square.dense.weight: expected float32",
        **{"adam.square.dense.weight": np.ones(2, np.float32)},
    )
    found.load_state_dict(state)


def test_a_generator_of_any_kind_can_be_saved() -> None:
    rng = np.random.Generator(np.random.MT19937(3))
    first, again = trainer(seed=rng), trainer()
    first.run(steps=2)
    again.load_state_dict(first.state_dict())
    assert again.losses == first.losses


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch": 0}, "batch: expected 1 or more, got 0"),
        ({"chunk": True}, "chunk: expected a whole number, got True"),
        ({"chunk": 2.0}, "chunk: expected a whole number, got 2.0"),
        ({"lr": math.nan}, "lr"),
        ({"final_lr": 1.5}, r"final_lr: expected a share in \[0, 1\], got 1.5"),
        ({"max_norm": 0}, "max_norm: expected a number above 0, got 0"),
        ({"batch": 500}, "batch: 948 characters are too few for 500 streams .* at most 474 fit"),
    ],
)
def test_settings_of_a_trainer_are_checked(options: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        trainer(**options)


def test_tokens_of_a_trainer_are_checked() -> None:
    model = CharLM(Alphabet("abc"), 4, seed=0)
    for tokens, text in [
        (np.zeros((4, 4), int), r"tokens: expected whole numbers of shape \(n,\)"),
        (np.zeros(40), "tokens: expected whole numbers"),
        (
            np.arange(40) % 4,
            r"tokens: expected places in the model's alphabet, \[0, 3\), got 0 to 3",
        ),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            Trainer(model, tokens, batch=2)


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

    # Ctrl-C waits for the end of the change itself.
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
    with pytest.raises(FloatingPointError, match=r"update 1: loss nan.*lower learning rate"):
        found.update(0.0)
    with pytest.raises(FloatingPointError, match=r"update 1: loss nan"):
        found.check()
    for old, new in zip(before, snapshot(found), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_loss_beyond_all_bounds_is_divergence_too() -> None:
    """With --lr 1e30 every number stays finite, but the model is worthless."""
    found = trainer(lr=1e30)
    found.check()
    found.update(0.0)
    assert all(np.isfinite(p).all() for p in found.model.params.values())
    before = snapshot(found)
    for look in (found.check, lambda: found.update(0.1)):
        with pytest.raises(FloatingPointError, match=r"update 2: loss \S+e\+\d\d nats.*diverged"):
            look()
    for old, new in zip(before, snapshot(found), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_look_ahead_teaches_nothing() -> None:
    first, second = trainer(), trainer()
    for _ in range(4):
        first.check()
        assert first.update(0.0) == second.update(0.0)
