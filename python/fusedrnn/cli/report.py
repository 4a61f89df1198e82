"""What fusedrnn train prints before, during and after a run."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from .. import runtime
from .._backends.choice import current
from ..charlm import CharLM, Corpus, Trainer, generate
from ..charlm.baselines import compressed_bits, context_bits
from ..charlm.train import DIVERGED
from .console import COLUMNS, fitted, labelled, shell, shown, visible

__all__ = ["Validation", "ending", "introduction", "measure", "plural", "result", "status", "table"]

# Updates whose mean loss the progress line shows.
RECENT = 50
SAMPLE_LENGTH = 500
SAMPLE_TEMPERATURE = 0.7
# Width of the labels before the lines of the introduction.
INDENT = 7
# Largest length of the suggested prompt.
PROMPT = 20

NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN"}


class Validation(NamedTuple):
    """Bits per character of the validation text, for the model and its baselines.

    Attributes
    ----------
    model : float
        The model's.
    contexts : list of float
        Those of contexts of 0, 1, ... characters.
    compressors : dict of str to (float, float)
        Those of general compressors: alone, and after the training text.
    """

    model: float
    contexts: list[float]
    compressors: dict[str, tuple[float, float]]

    @property
    def diverged(self) -> bool:
        """Whether the model is useless; False if nothing was measured (NaN)."""
        return self.model > DIVERGED / math.log(2.0) or math.isinf(self.model)


def kind(model: CharLM) -> str:
    """Describe a model in a few words."""
    layers = f"{model.num_layers} layers of " if model.num_layers > 1 else ""
    return f"{NAMES[model.cell]}, {layers}{plural(model.hidden_size, 'unit')}"


def introduction(corpus: Corpus, trainer: Trainer, run: dict[str, Any], out: Path) -> str:
    """Return the introduction to a run: text, model, backend, length."""
    model = trainer.model
    text, cut = corpus.text, corpus.split
    backend = current().name
    machinery = (
        f"{backend} kernels ({runtime.isa()}, {plural(runtime.num_threads(), 'thread')})"
        if backend == "native"
        else "the NumPy reference backend (slow)"
    )
    length = (
        plural(run["steps"], "update")
        if "steps" in run
        else f"{run['seconds']:g} seconds of updates"
    )
    resumed = f", {trainer.updates:,} of them done" if trainer.updates else ""
    ending = f"{resumed}; Ctrl-C saves {shown(out)}, --resume goes on"
    if "steps" in run and 0 < run["steps"] <= trainer.updates:
        ending = f"; it has {plural(trainer.updates, 'update')}, and goes on if --steps is larger"
    lines = (
        ("Text:", shown(corpus.name)),
        (
            "",
            f"{len(text):,} characters, {len(model.alphabet):,} distinct; "
            f"the last {len(text) - cut:,} are for validation",
        ),
        (
            "Model:",
            f"{kind(model)}, {model.parameter_count:,} parameters, {model.dtype.name}, on "
            f"{machinery}",
        ),
        (
            "Run:",
            f"{length} of {trainer.batch:,} x {trainer.chunk:,} characters{ending}",
        ),
    )
    return "\n".join(labelled(label, line, INDENT) for label, line in lines)


def status(trainer: Trainer, characters: int, seconds: float) -> tuple[str, ...]:
    """Return texts for the progress line: update, recent bits, and speed since the counts given."""
    recent = trainer.losses[-RECENT:]
    loss = sum(recent) / len(recent)
    spent = max(trainer.seconds - seconds, 1e-9)
    return (
        f"update {trainer.updates:,}",
        f"{loss / math.log(2.0):.3f} bits/char",
        f"{(trainer.characters - characters) / spent:,.0f} char/s",
    )


def measure(corpus: Corpus, trainer: Trainer) -> Validation:
    """Measure the model and its baselines on the validation text."""
    model = trainer.model
    training, kept = corpus.text[: corpus.split], corpus.text[corpus.split :]
    tokens = model.alphabet.encode(kept)
    return Validation(
        model.bits(tokens, context=trainer.tokens),
        context_bits(trainer.tokens, tokens, len(model.alphabet)),
        compressed_bits(training, kept),
    )


def table(corpus: Corpus, trainer: Trainer, found: Validation) -> str:
    """Return the table of bits per character: the model, contexts and compressors."""
    share = (len(corpus.text) - corpus.split) / len(corpus.text)

    def row(name: str, bits: float) -> str:
        # The number of a diverged model may be very large.
        return f"  {name:<34}{bits:7.3f}" if bits < 1000 else f"  {name:<34}{bits:7.3g}"

    lines = [
        f"Trained {plural(trainer.updates, 'update')}, {trainer.characters:,} characters in "
        f"{trainer.seconds:.1f} s: {_speed(trainer):,.0f} characters a second",
        "",
        f"Bits per character of the validation text (the last {share:.0%}, never trained on):",
        row(kind(trainer.model), found.model),
        *(row(f"contexts of order {k}, smoothed", bits) for k, bits in enumerate(found.contexts)),
    ]
    for name, (alone, after) in found.compressors.items():
        lines += [row(f"{name}, alone", alone), row(f"{name}, after the training text", after)]
    lines += [
        "  The network and the contexts learned from the training text alone; compressors",
        "  also adapt to the validation text while they read it.",
    ]
    return "\n".join(lines)


def sample(model: CharLM) -> str:
    """Return a text that the model wrote."""
    return "".join(generate(model, "", SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, seed=0))


def ending(corpus: Corpus, model: CharLM, out: Path) -> str:
    """Return a text that the model wrote, and how to get more of it."""
    lines = fitted(visible(sample(model).strip("\n")), COLUMNS - 4)
    prompt = known_prompt(model, corpus.text)
    command = f"fusedrnn generate --model {shell(out)}"
    return "\n".join(
        (
            "",
            f"It writes (temperature {SAMPLE_TEMPERATURE}):",
            *(f"  | {line}".rstrip() for line in lines),
            "",
            f"Saved {shown(out)}. More text:",
            f"  {command} --prompt {shell(prompt)}" if prompt else f"  {command}",
        )
    )


def known_prompt(model: CharLM, text: str) -> str:
    """Return a prompt of characters that the model knows; empty if the text has no word."""
    usual = "The "
    if set(usual) <= set(model.alphabet.characters):
        return usual
    word = re.search(r"\w[\w ]*", text)
    return word.group()[:PROMPT] if word else ""


def result(
    corpus: Corpus,
    trainer: Trainer,
    found: Validation | None,
    saved: Path | None,
    stopped: str | None,
) -> dict[str, Any]:
    """Return the final report, for programs."""
    model = trainer.model
    validation = None
    if found is not None:
        validation = {
            "bits_per_character": found.model,
            "contexts": found.contexts,
            "compressors": {
                name: {"alone": alone, "after_training_text": after}
                for name, (alone, after) in found.compressors.items()
            },
        }
    return {
        "saved": None if saved is None else str(saved),
        "stopped": stopped,
        "text": {
            "name": corpus.name,
            "characters": len(corpus.text),
            "distinct": len(model.alphabet),
            "validation_characters": len(corpus.text) - corpus.split,
        },
        "model": {
            "cell": model.cell,
            "num_layers": model.num_layers,
            "hidden_size": model.hidden_size,
            "dtype": model.dtype.name,
            "parameters": model.parameter_count,
        },
        "updates": trainer.updates,
        "characters": trainer.characters,
        "seconds": trainer.seconds,
        "characters_per_second": _speed(trainer),
        "losses": {"first": _at(trainer.losses, 0), "last": _at(trainer.losses, -1)},
        "validation": validation,
    }


def _at(losses: list[float], place: int) -> float | None:
    return losses[place] if losses else None


def _speed(trainer: Trainer) -> float:
    return trainer.characters / max(trainer.seconds, 1e-9)


def plural(number: int, noun: str) -> str:
    """Return a number with a noun, in the plural if needed."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
