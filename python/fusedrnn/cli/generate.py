"""fusedrnn generate: text from a saved model."""

from __future__ import annotations

import argparse
import sys

from .options import count, non_negative

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "generate",
        help="write text with a trained model",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="model.npz", metavar="FILE", help="what train saved")
    parser.add_argument("--prompt", metavar="TEXT", help="text to go on from (default: a new line)")
    parser.add_argument(
        "--length", type=count, default=500, metavar="N", help="characters to write"
    )
    parser.add_argument(
        "--temperature",
        type=non_negative,
        default=0.7,
        metavar="T",
        help="below 1 likely characters become likelier; 0 always takes the likeliest",
    )
    parser.add_argument(
        "--seed", type=count, default=0, metavar="S", help="the same seed gives the same text"
    )
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print the prompt and what follows, character by character."""
    from ..nn import CharLM, generate
    from ..nn.persist import load, without_prefix

    prompt = arguments.prompt or ""
    config, arrays = load(arguments.model)
    model = CharLM.from_config(config["model"], without_prefix("model.", arrays))
    characters = generate(
        model,
        prompt,
        arguments.length,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    try:
        sys.stdout.write(prompt)
        for character in characters:
            sys.stdout.write(character)
            sys.stdout.flush()
    finally:
        # Also after Ctrl-C: the shell's prompt begins on a line of its own.
        sys.stdout.write("\n")
    return 0
