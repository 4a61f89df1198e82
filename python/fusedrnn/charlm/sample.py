"""Text from a model, one character at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real

import numpy as np

from ..nn import sample
from .lm import CharLM

__all__ = ["generate"]


def generate(
    model: CharLM,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | np.random.Generator | None = None,
) -> Iterator[str]:
    """Draw characters that follow a prompt.

    Parameters
    ----------
    model : CharLM
        The model that gives the odds of each next character.
    prompt : str
        Text that the model reads first, from zero states. An empty prompt is replaced by a line
        feed, or by the first character of the alphabet if the model does not know that.
    length : int
        Number of characters to draw.
    temperature : float
        Divides the logits. Below 1, likely characters become more likely; 0 always takes the most
        likely one (the first of equals).
    seed : int, Generator or None
        A seed for `numpy.random.default_rng`. Equal seed, model and prompt give equal text.

    Yields
    ------
    str
        One character.

    Raises
    ------
    TypeError
        An argument is not as above.
    ValueError
        The prompt has characters that the model does not know; `length` or `temperature` is
        negative; or `top_k` is less than 1. The call raises it, before the first character.
    FloatingPointError
        While drawing: the model's odds are not finite, because its training diverged.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> model = charlm.CharLM(charlm.Alphabet("abc"), 8, seed=0)
    >>> text = "".join(charlm.generate(model, "a", 5, seed=0))
    >>> len(text), set(text) <= set("abc")
    (5, True)
    """
    given: tuple[tuple[str, object, type, str], ...] = (
        ("model", model, CharLM, "a CharLM"),
        ("length", length, Integral, "a whole number"),
        ("temperature", temperature, Real, "a number"),
        ("top_k", 1 if top_k is None else top_k, Integral, "a whole number"),
    )
    for name, value, kind, expected in given:
        if not isinstance(value, kind):
            raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    if length < 0:
        raise ValueError(f"length: expected 0 or more, got {length}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number of 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected 1 or more, got {top_k}")
    alphabet = model.alphabet
    tokens = alphabet.encode(prompt, "prompt")
    if not len(tokens):
        tokens = alphabet.encode("\n" if "\n" in alphabet.characters else alphabet.characters[0])
    return _draw(model, tokens, length, temperature, top_k, np.random.default_rng(seed))


def _draw(
    model: CharLM,
    tokens: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    length: int,
    temperature: float,
    top_k: int | None,
    rng: np.random.Generator,
) -> Iterator[str]:
    stream = model.recurrent.stream()
    for token in tokens[:-1]:
        stream.step(tokens=token[None])
    token = int(tokens[-1])
    for _ in range(length):
        h = stream.step(tokens=np.array([token]))
        logits = model.dense(h.reshape(1, -1))[0]
        token = int(sample(logits, temperature=temperature, top_k=top_k, rng=rng))
        yield model.alphabet.characters[token]
