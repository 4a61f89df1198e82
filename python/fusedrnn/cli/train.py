"""fusedrnn train: a character-level language model from plain text, start to report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import count, natural, positive

if TYPE_CHECKING:
    from ..nn import Corpus, Trainer

__all__ = ["add_parser"]

# Some 1.74 bits per character on the built-in text after 2.8e12 operations. Updates are counted,
# not seconds, so that the run is the same on every machine.
DEFAULTS: dict[str, Any] = {
    "hidden_size": 256,
    "batch": 32,
    "chunk": 64,
    "lr": 1.5e-2,
    "seed": 0,
    "dtype": "float32",
}
STEPS = 800
OUT = "model.npz"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a character-level LSTM language model and save it",
        description="Train a character-level LSTM language model: without arguments on the "
        "language reference that every Python carries. Ctrl-C saves the model too.",
    )

    def add(name: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
        key = name.lstrip("-").replace("-", "_")
        if key in DEFAULTS:
            text += f" (default: {DEFAULTS[key]})"
        parser.add_argument(name, type=kind, metavar=metavar, help=text)

    add("--text", str, "FILE", "UTF-8 text to learn; its last tenth is for validation")
    add("--hidden-size", natural, "H", "size of the LSTM's state")
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
        "--dtype", choices=("float32", "float64"), help=f"(default: {DEFAULTS['dtype']})"
    )
    add("--threads", natural, "N", "threads of the kernels; no result depends on it")
    add("--out", str, "FILE", f"where the model is saved (default: {OUT}, or that of --resume)")
    add("--resume", str, "FILE", "go on with a saved run, exactly where it stopped")
    parser.add_argument(
        "--compare", action="store_true", help="first measure native kernels beside NumPy's"
    )
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Train, save, report."""
    from .. import runtime
    from ..nn import persist
    from ..nn.train import uninterrupted
    from . import compare, report
    from .progress import Progress

    if arguments.threads is not None:
        runtime.set_num_threads(arguments.threads)
    out = Path(arguments.out or arguments.resume or OUT)
    corpus, config, make = _prepare(arguments)
    _check_out(out)
    trainer = make()
    model = trainer.model
    print(report.introduction(corpus, trainer, config["run"], out), flush=True)
    speeds = ""
    if arguments.compare:
        speeds = compare.measure(make)
        print(speeds, flush=True)

    def save() -> None:
        arrays = {
            **persist.prefixed("model.", model.state_dict()),
            **persist.prefixed("trainer.", trainer.state_dict()),
        }
        settings = {**config, "model": model.config(), "trainer": trainer.config()}
        with uninterrupted():
            persist.save(out, settings, arrays)

    progress = Progress(sys.stderr)
    began = (trainer.characters, trainer.seconds)
    try:
        trainer.run(
            **config["run"],
            progress=lambda trainer, share: progress.update(
                share, lambda: report.status(trainer, *began)
            ),
        )
    except KeyboardInterrupt:
        progress.close()
        save()
        print(
            f"Interrupted after {trainer.updates:,} updates. Saved {out}; go on with: "
            f"fusedrnn train --resume {out}",
            file=sys.stderr,
        )
        raise
    finally:
        progress.close()
    save()
    print(report.validation(corpus, trainer))
    if speeds:
        print(speeds)
    print(report.sample(model, out), flush=True)
    return 0


def build(corpus: Corpus, options: dict[str, Any]) -> Trainer:
    """A new model and its trainer; `options` has the keys of DEFAULTS."""
    import numpy as np

    from ..nn import Alphabet, CharLM, Trainer

    alphabet = Alphabet(corpus.text)
    # Two generators, so that the places do not depend on the size of the model.
    weights, places = np.random.SeedSequence(options["seed"]).spawn(2)
    model = CharLM(
        alphabet,
        options["hidden_size"],
        dtype=options["dtype"],
        seed=np.random.default_rng(weights),
    )
    return Trainer(
        model,
        alphabet.encode(corpus.text[: corpus.split]),
        batch=options["batch"],
        chunk=options["chunk"],
        lr=options["lr"],
        seed=np.random.default_rng(places),
    )


def _prepare(
    arguments: argparse.Namespace,
) -> tuple[Corpus, dict[str, Any], Callable[[], Trainer]]:
    """Return the text, what is saved beside the arrays, and a function that builds the trainer."""
    from ..nn import CharLM, Trainer, load_corpus
    from ..nn.persist import load, without_prefix

    if arguments.resume:
        saved, arrays = load(arguments.resume)
        if "trainer" not in saved:
            raise ValueError(f"{arguments.resume}: a model without a run to go on with")
        given = [name for name in DEFAULTS if getattr(arguments, name) is not None]
        if given:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ValueError(f"{names}: fixed by the run that --resume goes on with")
        corpus = load_corpus(arguments.text or saved["corpus"]["path"])
        if corpus.digest != saved["corpus"]["digest"]:
            raise ValueError(
                f"{corpus.name}: not the text that {arguments.resume} was trained on "
                f"({saved['corpus']['name']})"
            )
        run = saved["run"]
    else:
        corpus = load_corpus(arguments.text)
        run = {"steps": STEPS}
    if arguments.steps is not None:
        run = {"steps": arguments.steps}
    elif arguments.seconds is not None:
        run = {"seconds": arguments.seconds}

    def resumed() -> Trainer:
        model = CharLM.from_config(saved["model"], without_prefix("model.", arrays))
        tokens = model.alphabet.encode(corpus.text[: corpus.split])
        trainer = Trainer(model, tokens, **saved["trainer"])
        trainer.load_state_dict(without_prefix("trainer.", arrays))
        return trainer

    def fresh() -> Trainer:
        options = {
            name: default if getattr(arguments, name) is None else getattr(arguments, name)
            for name, default in DEFAULTS.items()
        }
        return build(corpus, options)

    path = None if corpus.path is None else os.path.abspath(corpus.path)
    described = {"name": corpus.name, "path": path, "digest": corpus.digest}
    config = {"run": run, "corpus": described}
    return corpus, config, resumed if arguments.resume else fresh


def _check_out(out: Path) -> None:
    """Refuse, before the work and not after it, a place where nothing can be saved."""
    from ..nn.persist import recognised

    if not out.parent.is_dir():
        raise ValueError(f"{out}: the folder {out.parent} does not exist")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"{out}: the folder {out.parent} cannot be written")
    if out.exists() and not recognised(out):
        raise ValueError(f"{out}: exists and is not a model file; --out names another")
