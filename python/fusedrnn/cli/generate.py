"""fusedrnn generate: writes text with a saved model."""

from __future__ import annotations

import argparse

from .console import note, say, shown
from .options import count, natural, non_negative

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("generate", help="write text with a trained model")
    parser.add_argument(
        "--model",
        default="model.npz",
        metavar="FILE",
        help="what train saved (default: model.npz)",
    )
    parser.add_argument(
        "--prompt", default="", metavar="TEXT", help="text to go on from (default: a new line)"
    )
    parser.add_argument(
        "--length",
        type=count,
        default=500,
        metavar="N",
        help="characters to write (default: 500)",
    )
    parser.add_argument(
        "--temperature",
        type=non_negative,
        default=0.7,
        metavar="T",
        help="below 1 likely characters become likelier; 0 always takes the likeliest "
        "(default: 0.7)",
    )
    parser.add_argument(
        "--top-k",
        type=natural,
        metavar="K",
        help="draw among the K likeliest characters (default: among all)",
    )
    parser.add_argument(
        "--seed",
        type=count,
        default=0,
        metavar="S",
        help="the same seed gives the same text (default: 0)",
    )
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print the prompt and what follows, character by character."""
    from ..charlm import generate, runfile

    try:
        model = runfile.load(arguments.model).model()
    except FileNotFoundError:
        note(
            f"{arguments.prog}: error: {shown(arguments.model)}: no such file; fusedrnn train "
            "makes one"
        )
        return 2
    model.alphabet.encode(arguments.prompt, "--prompt")  # an error names the option
    characters = generate(
        model,
        arguments.prompt,
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        seed=arguments.seed,
    )
    say(arguments.prompt, end="")
    try:
        for character in characters:
            say(character, end="")
    finally:
        # Also after Ctrl-C, so that the shell's prompt starts on a new line.
        say("")
    return 0
