"""Classes and text are drawn repeatably and by their probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conftest import Chosen
from fusedrnn import nn
from fusedrnn.charlm import Alphabet, CharLM, generate

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs.\n"


def test_generated_text_depends_on_seed_prompt_and_temperature(backend: Chosen) -> None:
    model = CharLM(Alphabet(TEXT), 8, seed=0)
    with model.writable() as p:
        p["dense.weight"] *= 10  # probabilities far from equal

    def write(prompt: str = "the ", seed: int = 0, temperature: float = 1.0) -> str:
        return "".join(generate(model, prompt, 40, temperature=temperature, seed=seed))

    assert write() == write()
    assert len({write(), write(seed=1), write(temperature=0.3)}) == 3
    assert write("dozen ") != write()
    assert set(write()) <= set(TEXT)
    assert write(temperature=0.0, seed=0) == write(temperature=0.0, seed=1)
    assert len(write("")) == 40
    with pytest.raises(ValueError, match=r"^prompt: .* does not know: 'É'"):
        generate(model, "É", 3)
    with pytest.raises(
        ValueError, match="temperature: expected a finite number of 0 or more, got nan"
    ):
        generate(model, "a", 3, temperature=math.nan)
    with pytest.raises(ValueError, match="length: expected 0 or more, got -1"):
        generate(model, "a", -1)
    with pytest.raises(ValueError, match="top_k: expected 1 or more, got 0"):
        generate(model, "a", 3, top_k=0)
    wrong: Any
    for wrong, text in (
        ((model, b"a", 3), "prompt: expected a text, got bytes"),
        ((model, "a", "3"), "length: expected a whole number, got str"),
        ((model, "a", 3.5), "length: expected a whole number, got float"),
        ((model.recurrent, "a", 3), "model: expected a CharLM, got LSTM"),
    ):
        with pytest.raises(TypeError, match=f"^{text}"):
            generate(*wrong)
    with pytest.raises(TypeError, match=r"^temperature: expected a number, got str"):
        generate(model, "a", 3, temperature="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^top_k: expected a whole number, got float"):
        generate(model, "a", 3, top_k=2.5)  # type: ignore[arg-type]


def test_characters_are_drawn_as_often_as_they_are_likely() -> None:
    model = CharLM(Alphabet("abc"), 2, dtype="float64", seed=0)
    with model.writable() as p:
        p["dense.weight"][:] = 0
        p["dense.bias"][:] = np.log([0.5, 0.3, 0.2])
    drawn = "".join(generate(model, "a", 4000, seed=0))
    assert [drawn.count(c) / 4000 for c in "abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    sharp = "".join(generate(model, "a", 4000, seed=0, temperature=0.5))
    p = np.array([0.25, 0.09, 0.04]) / 0.38
    assert [sharp.count(c) / 4000 for c in "abc"] == pytest.approx(p, abs=0.03)
    two = "".join(generate(model, "a", 4000, seed=0, top_k=2))
    assert [two.count(c) / 4000 for c in "abc"] == pytest.approx([0.625, 0.375, 0], abs=0.03)


# --- nn.sample ------------------------------------------------------------------------------------

ODDS = np.array([0.1, 0.4, 0.2, 0.3])


def shares(count: int = 4000, **options: Any) -> np.ndarray[Any, Any]:
    logits = np.tile(np.log(ODDS).astype(np.float32), (count, 1))
    found = nn.sample(logits, rng=np.random.default_rng(0), **options)
    assert found.shape == (count,)
    assert found.dtype == np.int64
    return np.bincount(found, minlength=4) / count


def test_classes_are_drawn_by_their_odds() -> None:
    for heat in (0.5, 1.0, 2.0):
        p = ODDS ** (1 / heat)
        assert shares(temperature=heat) == pytest.approx(p / p.sum(), abs=0.03)
    assert shares(temperature=1e-300).tolist() == [0, 1, 0, 0]


def test_the_most_likely_classes_alone_are_drawn() -> None:
    p = np.where(ODDS >= 0.3, ODDS, 0)
    assert shares(top_k=2) == pytest.approx(p / p.sum(), abs=0.03)
    assert shares(top_k=1).tolist() == [0, 1, 0, 0]
    for whole in (4, 9):
        assert (shares(top_k=whole) == shares()).all()
    equals = np.array([[0.0, 5.0, 1.0, 1.0, 1.0, -9.0]])
    found = nn.sample(
        equals.repeat(500, axis=0), top_k=3, temperature=9.0, rng=np.random.default_rng(0)
    )
    assert set(found.tolist()) == {1, 2, 3}


def test_the_most_likely_class_needs_no_generator() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    logits = np.array([[[1.0, 3.0, 3.0], [-np.inf, -5.0, -np.inf]]])
    assert nn.sample(logits, temperature=0, rng=rng).tolist() == [[1, 1]]
    assert rng.bit_generator.state == before
    assert nn.sample(logits[0, 1], rng=rng) == 1
    assert nn.sample(np.zeros((0, 3)), rng=rng).shape == (0,)


def test_rows_are_drawn_one_after_the_other() -> None:
    """A batch has the classes of its rows alone, so it does not matter how calls are cut."""
    logits = np.random.default_rng(1).standard_normal((3, 5, 7))
    logits[..., 2] = -np.inf
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    whole = nn.sample(logits, top_k=4, rng=one)
    alone = [[int(nn.sample(row, top_k=4, rng=two)) for row in rows] for rows in logits]
    assert whole.tolist() == alone
    assert len(set(whole.ravel().tolist())) > 2
    assert not (whole == 2).any()


def test_the_largest_uniform_number_draws_the_last_class_that_has_odds() -> None:

    class Largest(np.random.Generator):
        def random(self, size: Any = None, *args: Any, **options: Any) -> Any:
            return np.full(size, 1.0 - 2.0**-53)

    rng = Largest(np.random.PCG64(0))
    logits = np.random.default_rng(0).standard_normal((1000, 8))
    logits[:, 5:] = -np.inf
    assert (nn.sample(logits, rng=rng) == 4).all()


@pytest.mark.parametrize(
    ("logits", "options", "error", "text"),
    [
        (np.zeros(()), {}, ValueError, r"logits: expected shape \(\.\.\., V\) with V of"),
        (np.zeros((2, 0)), {}, ValueError, r"logits: expected shape .*, got \(2, 0\)"),
        (np.zeros(3, int), {}, TypeError, "logits: expected an array of floating point"),
        (np.zeros(3), {"temperature": -1}, ValueError, "temperature: expected a finite number"),
        (np.zeros(3), {"temperature": math.inf}, ValueError, "temperature: expected a finite"),
        (np.zeros(3), {"top_k": 0}, ValueError, "top_k: expected at least 1, got 0"),
        (np.zeros(3), {"top_k": 1.5}, TypeError, "top_k: expected a whole number"),
        (np.zeros(3), {"rng": 7}, TypeError, "rng: expected a numpy.random.Generator or None"),
        ([0.0, math.nan], {}, FloatingPointError, "logits: .*diverged"),
        ([0.0, math.inf], {"temperature": 0}, FloatingPointError, "logits: .*diverged"),
        ([[0.0, 0.0], [-math.inf, -math.inf]], {}, FloatingPointError, "logits: .*diverged"),
    ],
)
def test_what_sample_refuses(logits: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        nn.sample(logits, **options)
