"""Text: alphabets, where the text comes from, and the bits of contexts and compressors."""

from __future__ import annotations

import builtins
import gzip
import lzma
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusedrnn.charlm import Alphabet, corpus, load_corpus
from fusedrnn.charlm.baselines import compressed_bits, context_bits


def test_alphabet() -> None:
    alphabet = Alphabet("banana\n\U0001f40d")
    assert alphabet.characters == "\nabn\U0001f40d"
    assert alphabet.decode(alphabet.encode("nab\U0001f40d")) == "nab\U0001f40d"
    assert alphabet.encode("").shape == (0,)
    with pytest.raises(ValueError, match="does not know: 'c' 'd'"):
        alphabet.encode("bcd")
    wrong: Any = 5
    for call, name in (
        (lambda: Alphabet(wrong), "characters"),
        (lambda: alphabet.encode(wrong), "text"),
        (lambda: corpus.Corpus.of(wrong), "text"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: expected a text, got int"):
            call()


def test_builtin_text_is_long_and_real(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_corpus()
    assert len(found.text) > 100_000
    assert len(found.text) - found.split == len(found.text) // 10
    assert found.digest == load_corpus().digest
    # A distribution without pydoc's topics still has docstrings.
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(corpus, "DOCUMENTED", ("argparse", "json", "no_such_module"))
    name, text = corpus.builtin_text()
    assert "docstrings" in name
    assert "Command-line parsing library" in text
    assert "JSON token scanner" in text  # from json.scanner


def test_corpus_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("äöü" * 100, encoding="utf-8")
    assert load_corpus(file)[:2] == (str(file), str(file))
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="not UTF-8 text"):
        load_corpus(file)
    file.write_text("short")
    with pytest.raises(ValueError, match="5 characters are too few"):
        load_corpus(file)
    with pytest.raises(OSError, match="missing"):
        load_corpus(tmp_path / "missing")


def probability(training: list[int], context: tuple[int, ...], token: int, classes: int) -> float:
    """The probability of a token by interpolated absolute discounting, from the definition."""
    shorter = probability(training, context[1:], token, classes) if context else 1 / classes
    k = len(context)
    pairs = Counter(tuple(training[i - k : i + 1]) for i in range(k, len(training)))
    counts = Counter(pairs.values())
    discount = (counts[1] + 1) / (counts[1] + 2 * counts[2] + 2)
    total = sum(n for pair, n in pairs.items() if pair[:-1] == context)
    kinds = sum(1 for pair in pairs if pair[:-1] == context)
    if not total:
        return shorter
    seen = max(pairs[(*context, token)] - discount, 0.0)
    return seen / total + discount * kinds / total * shorter


def test_contexts_by_hand() -> None:
    rng = np.random.default_rng(0)
    text = np.cumsum(rng.integers(0, 2, 260)) % 5
    text[200:210] = 5  # a token that the training text lacks
    training, validation = text[:200], text[200:]
    found = context_bits(training, validation, 6, max_order=3)
    whole = text.tolist()
    for order, bits in enumerate(found):
        p = [
            probability(whole[:200], tuple(whole[i - order : i]), whole[i], 6)
            for i in range(200, 260)
        ]
        assert bits == pytest.approx(-np.mean(np.log2(p)), rel=1e-12)
    likely = [probability(whole[:200], (1, 2), token, 6) for token in range(6)]
    assert sum(likely) == pytest.approx(1, rel=1e-12)


def test_contexts_of_a_certain_text() -> None:
    text = np.arange(4000) % 4
    bits = context_bits(text[:3000], text[3000:], 4, max_order=2)
    assert bits[0] == pytest.approx(2, abs=1e-3)
    assert bits[1] == pytest.approx(0, abs=1e-2)
    assert math.isnan(context_bits(text, text[:0], 4)[0])


def test_compressors(monkeypatch: pytest.MonkeyPatch) -> None:
    training, validation = "never odd or even. " * 20, "no lemon, no melon. é" * 5
    found = compressed_bits(training, validation)
    head, tail = training.encode(), validation.encode()
    scale = 8 / len(validation)
    squeezed = len(lzma.compress(tail, preset=9 | lzma.PRESET_EXTREME))
    assert found["xz"][0] == scale * squeezed
    added = len(gzip.compress(head + tail, 9)) - len(gzip.compress(head, 9))
    assert found["gzip"] == (scale * len(gzip.compress(tail, 9)), scale * added)

    honest = builtins.__import__

    def without_lzma(name: str, *rest: Any) -> Any:
        if name == "lzma":
            raise ImportError(name)
        return honest(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_lzma)
    assert list(compressed_bits(training, validation)) == ["gzip"]
