"""What fusedrnn train says before, during and after a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runtime
from .._backends.choice import current
from ..nn import generate
from ..nn.baselines import compressed_bits, context_bits

if TYPE_CHECKING:
    from ..nn import CharLM, Corpus, Trainer

__all__ = ["introduction", "sample", "status", "validation"]

# Updates whose mean loss the progress line shows.
RECENT = 50
SAMPLE_LENGTH = 500
SAMPLE_TEMPERATURE = 0.7


def introduction(corpus: Corpus, trainer: Trainer, run: dict[str, Any], out: Path) -> str:
    """Return what is about to happen: text, model, machinery, length."""
    model = trainer.model
    text, cut = corpus.text, corpus.split
    backend = current().name
    machinery = (
        f"{backend} kernels ({runtime.isa()}, {_plural(runtime.num_threads(), 'thread')})"
        if backend == "native"
        else "the NumPy reference backend (slow)"
    )
    length = (
        f"{run['steps']:,} updates" if "steps" in run else f"{run['seconds']:g} seconds of updates"
    )
    resumed = f", {trainer.updates:,} of them done" if trainer.updates else ""
    return "\n".join(
        (
            f"Text:  {corpus.name}",
            f"       {len(text):,} characters, {len(model.alphabet)} distinct; "
            f"the last {len(text) - cut:,} are for validation",
            f"Model: LSTM, {model.lstm.hidden_size} units, {model.parameter_count:,} parameters, "
            f"{np.dtype(model.lstm.dtype).name}, on {machinery}",
            f"Run:   {length} of {trainer.batch} x {trainer.chunk} characters{resumed}; "
            f"Ctrl-C saves {out}, --resume goes on",
        )
    )


def status(trainer: Trainer, characters: int, seconds: float) -> str:
    """Return the progress line: recent loss, bits, and speed since the given counts."""
    recent = trainer.losses[-RECENT:]
    loss = sum(recent) / len(recent)
    spent = max(trainer.seconds - seconds, 1e-9)
    return (
        f"update {trainer.updates:,}  loss {loss:.3f}  {loss / math.log(2.0):.3f} bits/char  "
        f"{(trainer.characters - characters) / spent:,.0f} char/s"
    )


def validation(corpus: Corpus, trainer: Trainer) -> str:
    """Return the table of bits per character: the model beside contexts and compressors."""
    model = trainer.model
    training, kept = corpus.text[: corpus.split], corpus.text[corpus.split :]
    tokens = model.alphabet.encode(kept)
    speed = trainer.characters / max(trainer.seconds, 1e-9)
    share = len(kept) / len(corpus.text)

    def row(name: str, bits: float) -> str:
        return f"  {name:<34}{bits:7.3f}"

    orders = context_bits(trainer.tokens, tokens, len(model.alphabet))
    lines = [
        f"Trained {trainer.updates:,} updates, {trainer.characters:,} characters in "
        f"{trainer.seconds:.1f} s: {speed:,.0f} characters a second",
        "",
        f"Bits per character of the validation text (the last {share:.0%}, never trained on):",
        row(f"LSTM, {model.lstm.hidden_size} units", model.bits(tokens, context=trainer.tokens)),
        *(row(f"contexts of order {k}, smoothed", bits) for k, bits in enumerate(orders)),
    ]
    for name, (alone, after) in compressed_bits(training, kept).items():
        lines += [row(f"{name}, alone", alone), row(f"{name}, after the training text", after)]
    lines += [
        "  The network and the contexts learned from the training text alone; compressors also",
        "  adapt to the validation text while they read it.",
    ]
    return "\n".join(lines)


def sample(model: CharLM, out: Path) -> str:
    """Return a text that the model wrote, and how to get more of it."""
    text = "".join(generate(model, "", SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, seed=0))
    return "\n".join(
        (
            "",
            f"It writes (temperature {SAMPLE_TEMPERATURE}):",
            *(f"  | {line}" for line in text.strip("\n").split("\n")),
            "",
            f"Saved {out}; more text: fusedrnn generate --model {out} --prompt 'The '",
        )
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
