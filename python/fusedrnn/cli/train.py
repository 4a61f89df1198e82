"""fusedrnn train: trains a character-level language model on plain text."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .options import add_json, add_quiet, count, natural, non_negative, positive, thread_count

if TYPE_CHECKING:
    from ..charlm import Corpus, Trainer
    from ..charlm.runfile import RunFile

__all__ = ["DEFAULTS", "STEPS", "add_parser", "build"]

# About 1.7 bits per character on the built-in text after 2.8e12 operations. The default length is a
# number of updates, not seconds, so that the run is the same on every machine.
DEFAULTS: dict[str, Any] = {
    "cell": "lstm",
    "layers": 1,
    "hidden_size": 256,
    "batch": 32,
    "chunk": 64,
    "lr": 1.5e-2,
    "seed": 0,
    "dtype": "float32",
}
STEPS = 800
OUT = "model.npz"
# Seconds between two checkpoints.
CHECKPOINT_EVERY = 60.0
# Values of --cell, and the model's names for them.
CELLS = {"lstm": "lstm", "gru": "gru", "rnn": "rnn_tanh"}
# The value of --text for standard input, and its name in error texts.
STDIN = "-"
STANDARD_INPUT = "standard input"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a character-level language model and save it",
        description="Train a character-level language model: without arguments an LSTM on the "
        "language reference that every Python carries. The run is saved at the end, every so often "
        "on the way, and at Ctrl-C, SIGTERM and SIGHUP; --resume goes on with it.",
        epilog="Exit codes: 0; 1 where the run diverged, or was not saved where it was to be; 2 "
        "for wrong input; 128 + N where signal N ended it, after saving (130 for Ctrl-C).",
    )

    def add(name: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
        key = name.lstrip("-").replace("-", "_")
        if key in DEFAULTS:
            text += f" (default: {DEFAULTS[key]})"
        parser.add_argument(name, type=kind, metavar=metavar, help=text)

    add(
        "--text",
        str,
        "FILE",
        "UTF-8 text to learn, - for standard input; its last tenth is for validation",
    )
    parser.add_argument(
        "--cell", choices=tuple(CELLS), help=f"kind of layer (default: {DEFAULTS['cell']})"
    )
    add("--layers", natural, "L", "how many layers are stacked")
    add("--hidden-size", natural, "H", "size of each layer's state")
    add("--batch", natural, "B", "places in the text read side by side")
    add("--chunk", natural, "T", "characters of each place in an update")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=count, metavar="N", help=f"number of updates (default: {STEPS})"
    )
    length.add_argument(
        "--seconds", type=positive, metavar="S", help="train for so long instead (not repeatable)"
    )
    add("--lr", positive, "RATE", "learning rate of Adam at its height")
    add("--seed", count, "N", "of the initial weights and of the places")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help=f"of all numbers (default: {DEFAULTS['dtype']})",
    )
    add("--threads", thread_count, "N", "threads of the kernels; no result depends on it")
    add("--out", str, "FILE", f"where the run is saved (default: {OUT}, or that of --resume)")
    parser.add_argument(
        "--force", action="store_true", help="replace the run that is in the file of --out"
    )
    add("--resume", str, "FILE", "go on with a saved run, exactly where it stopped")
    parser.add_argument(
        "--checkpoint-every",
        type=non_negative,
        default=CHECKPOINT_EVERY,
        metavar="S",
        help="seconds of training between two saves on the way, 0 for none "
        f"(default: {CHECKPOINT_EVERY:g})",
    )
    parser.add_argument(
        "--compare", action="store_true", help="first measure native kernels beside NumPy's"
    )
    add_quiet(parser)
    add_json(parser, "the final report")
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Prepare and run a session: train, save, report."""
    from .. import runtime
    from .session import Session
    from .stops import stops_raise

    if arguments.threads is not None:
        runtime.set_num_threads(arguments.threads)
    with stops_raise():
        out = Path(arguments.out or arguments.resume or OUT)
        return Session(arguments, prepare(arguments), out).run()


class Start(NamedTuple):
    """The start of a run."""

    corpus: Corpus
    about: dict[str, Any]  # saved in addition to model and trainer
    make: Callable[[], Trainer]  # makes a new trainer at this start
    updates: int  # number of updates made before

    @property
    def run(self) -> dict[str, Any]:
        """The length of the run: {"steps": N} or {"seconds": S}."""
        found: dict[str, Any] = self.about["run"]
        return found


def build(corpus: Corpus, options: dict[str, Any]) -> Trainer:
    """Make a new model and its trainer; `options` has the keys of DEFAULTS."""
    import numpy as np

    from ..charlm import Alphabet, CharLM, Trainer

    alphabet = Alphabet(corpus.text)
    # Two generators, so that the positions in the text do not depend on the size of the model.
    weights, places = np.random.SeedSequence(options["seed"]).spawn(2)
    tokens = alphabet.encode(corpus.text[: corpus.split])
    _refuse_what_does_not_fit(options, len(alphabet), len(tokens))
    model = CharLM(
        alphabet,
        options["hidden_size"],
        cell=CELLS[options["cell"]],
        num_layers=options["layers"],
        dtype=options["dtype"],
        seed=np.random.default_rng(weights),
    )
    return Trainer(
        model,
        tokens,
        batch=options["batch"],
        chunk=options["chunk"],
        lr=options["lr"],
        seed=np.random.default_rng(places),
    )


def _refuse_what_does_not_fit(options: dict[str, Any], characters: int, length: int) -> None:
    """Refuse options that ask for more text or memory than there is, before the work is done."""
    import numpy as np

    from . import memory

    batch = options["batch"]
    if length < 2 * batch:
        raise ValueError(
            f"--batch: {length:,} characters are too few for {batch:,} streams of two or more; "
            f"expected at most {length // 2:,}"
        )
    places = batch * min(options["chunk"], length // batch)
    parameters, size = memory.needed(
        cell=CELLS[options["cell"]],
        characters=characters,
        hidden_size=options["hidden_size"],
        num_layers=options["layers"],
        itemsize=np.dtype(options["dtype"]).itemsize,
        places=places,
    )
    limit = memory.available()
    if limit is not None and size > limit:
        raise ValueError(
            f"the model and updates of {places:,} characters need at least "
            f"{memory.readable(size)} of memory ({_number(parameters)} parameters), and there are "
            f"{memory.readable(limit)}; less is needed with smaller --hidden-size, --layers, "
            "--batch or --chunk"
        )


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "over 10^15"


def prepare(arguments: argparse.Namespace) -> Start:
    """Read the text and, to continue a run, its file."""
    if arguments.resume is not None:
        return _resumed(arguments)
    corpus = _corpus(arguments.text)
    options = {
        name: default if getattr(arguments, name) is None else getattr(arguments, name)
        for name, default in DEFAULTS.items()
    }
    about = {"run": _length(arguments) or {"steps": STEPS}, "corpus": _described(corpus)}
    return Start(corpus, about, lambda: build(corpus, options), 0)


def _resumed(arguments: argparse.Namespace) -> Start:
    from ..charlm import Alphabet, runfile

    given = [name for name in DEFAULTS if getattr(arguments, name) is not None]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(f"{names}: fixed by the run that --resume goes on with")
    saved = runfile.load(arguments.resume)
    name, digest = saved.field("corpus.name", str), saved.field("corpus.digest", str)
    source = saved.field("corpus.source", str)
    if arguments.text is not None:
        corpus = _corpus(arguments.text)
    elif source == "file":
        path = saved.field("corpus.path", str)
        try:
            corpus = _corpus(path)
        except FileNotFoundError as error:
            raise ValueError(
                f"{path}: the text of {arguments.resume} is no longer there; --text says where it "
                "is now"
            ) from error
    elif source == "built in":
        corpus = _corpus(None)
    else:
        raise ValueError(f"{arguments.resume}: learns from {name}; --text gives it the text again")
    if corpus.digest != digest:
        other = "; another Python carries another text" if source == "built in" else ""
        raise ValueError(
            f"{corpus.name}: not the text that {arguments.resume} was trained on ({name}){other}"
        )
    run = _length(arguments) or _saved_length(saved)
    updates = len(saved.arrays.get("trainer.losses", ()))

    def make() -> Trainer:
        alphabet = Alphabet(saved.field("model.alphabet", str))
        return saved.trainer(alphabet.encode(corpus.text[: corpus.split]))

    about = {"run": run, "corpus": _described(corpus)}
    if arguments.text is None:  # keep the absolute path, whatever folder this process runs in
        about["corpus"] = saved.field("corpus", dict)
    return Start(corpus, about, make, updates)


def _length(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the length of the run, if it was given."""
    if arguments.steps is not None:
        return {"steps": arguments.steps}
    return None if arguments.seconds is None else {"seconds": arguments.seconds}


def _saved_length(saved: RunFile) -> dict[str, Any]:
    run = saved.field("run", dict)
    if "steps" in run:
        return {"steps": saved.field("run.steps", int)}
    return {"seconds": saved.field("run.seconds", int, float)}


def _corpus(path: str | None) -> Corpus:
    """Read the text of --text."""
    from ..charlm import Corpus, decoded, load_corpus
    from .console import note

    if path != STDIN:
        return load_corpus(path)
    if sys.stdin.isatty():
        note("Reading the text from the terminal; Ctrl-D ends it")
    data = sys.stdin.buffer.read()
    return Corpus.of(decoded(data, STANDARD_INPUT), name=STANDARD_INPUT)


def _described(corpus: Corpus) -> dict[str, Any]:
    """Return what a resumed run needs to find the text and to recognise it."""
    path = None if corpus.path is None else os.path.abspath(corpus.path)
    source = STANDARD_INPUT if corpus.name == STANDARD_INPUT else "built in"
    source = source if path is None else "file"
    return {"name": corpus.name, "source": source, "path": path, "digest": corpus.digest}
