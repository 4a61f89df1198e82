"""Text that a model writes is repeatable and follows the model's probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conftest import Chosen
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
    with pytest.raises(ValueError, match="does not know: 'É'"):
        generate(model, "É", 3)
    with pytest.raises(
        ValueError, match="temperature: expected a finite number of 0 or more, got nan"
    ):
        generate(model, "a", 3, temperature=math.nan)
    with pytest.raises(ValueError, match="length: expected 0 or more, got -1"):
        generate(model, "a", -1)


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
