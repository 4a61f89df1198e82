"""The command line: fusedrnn info, selftest, train, generate, forecast, bench.

What belongs here: reading arguments, writing to terminals, and handling signals. The results come
from other rooms: `charlm`, `forecasting`, `runtime`, `selftest`, the layers and the backends.
"""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import contextlib
import importlib
import warnings
from collections.abc import Sequence

from .._backends.choice import ReferenceBackendWarning
from .._backends.settings import refuse_environment
from .._version import __version__
from . import bench, console, forecast, generate, info, selftest, train
from .options import Command
from .stops import Stopped, stop_code

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 if a check failed, a run diverged, or output was lost; 2 for wrong
        input; 128 + N if signal N ended the command, 130 for Ctrl-C, and 141 if the reader of a
        pipe closed it early.
    """
    console.ready()
    parser = _parser()
    _complete(parser)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as done:  # after --help, --version or wrong arguments
        code = _settled("fusedrnn", int(done.code or 0))
        raise SystemExit(code) from None
    return _settled(arguments.prog, _code_of(arguments))


def _code_of(arguments: argparse.Namespace) -> int:
    """Run the command; report an error in one line."""
    prog: str = arguments.prog
    try:
        refuse_environment()
        with warnings.catch_warnings():
            # The commands report it themselves, without a file name and a line of source.
            warnings.simplefilter("ignore", ReferenceBackendWarning)
            code: int = arguments.run(arguments)
    except console.OutputLost as lost:
        return _lost(prog, lost)
    except (KeyboardInterrupt, Stopped) as stop:
        return stop_code(stop)
    except MemoryError as error:
        return _wrong(prog, f"out of memory: {error}" if str(error) else "out of memory", 1)
    except OSError as error:
        return _wrong(prog, console.in_words(error))
    except ValueError as error:
        return _wrong(prog, str(error))
    except FloatingPointError as error:
        console.note(f"{prog}: {error}")
        return 1
    return code


def _settled(prog: str, code: int) -> int:
    """Return the exit code after flushing the output; if that fails, success becomes an error."""
    try:
        console.settle()
    except console.OutputLost as lost:
        return code or _lost(prog, lost)
    return code


def _lost(prog: str, lost: console.OutputLost) -> int:
    if not lost.reader_left:
        console.note(f"{prog}: {lost}")
    return lost.code


def _parser() -> argparse.ArgumentParser:
    parser = Command(
        prog="fusedrnn",
        description="Recurrent networks for NumPy, with fused CPU kernels.",
    )
    parser.add_argument("--version", action="version", version=f"fusedrnn {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True, parser_class=Command)
    for command in (info, selftest, train, generate, forecast, bench):
        command.add_parser(commands)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell's request for completion, if argcomplete is installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("argcomplete").autocomplete(parser)


def _wrong(prog: str, text: str, code: int = 2) -> int:
    console.note(f"{prog}: error: {text}")
    return code
