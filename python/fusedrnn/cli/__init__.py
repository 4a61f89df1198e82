"""The command line: fusedrnn info, selftest, train, generate, bench."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from . import bench, generate, info, selftest, train

__all__ = ["main"]

# What shells report for a program that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 where a check failed; 2 for wrong input; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="fusedrnn", description="Recurrent networks for NumPy, with fused CPU kernels."
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for command in (info, selftest, train, generate, bench):
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a substitute, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, head for one, has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"{arguments.prog}: error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        return 1
    return code
