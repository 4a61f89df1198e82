"""Text from a model, one character at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .lm import CharLM

__all__ = ["generate"]


def generate(
    model: CharLM,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    seed: int | np.random.Generator | None = None,
) -> Iterator[str]:
    """Draw characters that follow a prompt.

    Parameters
    ----------
    model : CharLM
        Says how likely each next character is.
    prompt : str
        Read first, from the zero state; an empty one stands for a new line (or, where the model
        does not know it, for the first character of its alphabet).
    length : int
        How many characters to draw.
    temperature : float
        The logits are divided by it: below 1 likely characters become likelier, 0 always takes the
        likeliest (the first of equals).
    seed : int, Generator or None
        What `numpy.random.default_rng` takes. The same seed, model and prompt give the same text.

    Yields
    ------
    str
        One character.

    Raises
    ------
    ValueError
        If the prompt has characters that the model does not know, or `length` or `temperature` is
        negative. Raised by the call, before the first character.
    FloatingPointError
        While drawing: the model gives odds that are not finite, because its training diverged.
    """
    if length < 0:
        raise ValueError(f"length: expected 0 or more, got {length}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number of 0 or more, got {temperature}")
    alphabet = model.alphabet
    tokens = alphabet.encode(prompt)
    if not len(tokens):
        tokens = alphabet.encode("\n" if "\n" in alphabet.characters else alphabet.characters[0])
    return _draw(model, tokens, length, temperature, np.random.default_rng(seed))


def _draw(
    model: CharLM,
    tokens: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    stream = model.recurrent.stream()
    for token in tokens[:-1]:
        stream.step(tokens=token[None])
    token = tokens[-1]
    for _ in range(length):
        h = stream.step(tokens=np.array([token]))
        logits = model.dense(h.reshape(1, -1))[0].astype(np.float64)
        if not np.isfinite(logits).all():
            raise FloatingPointError(
                "the model gives odds that are not finite numbers; its training has diverged"
            )
        if temperature == 0.0:
            token = np.argmax(logits)
        else:
            with np.errstate(over="ignore", under="ignore"):  # of temperatures close to 0
                p = np.exp((logits - logits.max()) / temperature)
            # Inverse of the distribution function at one uniform draw.
            drawn = np.searchsorted(np.cumsum(p), rng.random() * p.sum(), side="right")
            token = min(drawn, len(p) - 1)
        yield model.alphabet.characters[int(token)]
