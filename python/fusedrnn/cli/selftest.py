"""fusedrnn selftest: checks that the compiled kernels are right on this machine."""

from __future__ import annotations

import argparse

from .console import say, say_json
from .options import add_json, add_quiet

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "selftest", help="check the kernels on every instruction set of this machine (10 s)"
    )
    add_quiet(parser)
    add_json(parser, "the results")
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print a few lines for each instruction set; return 1 if anything was wrong."""
    from ..selftest import selftest
    from .info import INSTALL

    aloud = not (arguments.quiet or arguments.json)
    reports = []
    for report in selftest():
        reports.append(report)
        if aloud:
            say(str(report))
    passed = bool(reports) and all(report.passed for report in reports)
    if arguments.json:
        say_json({"passed": passed, "instruction_sets": [report.facts() for report in reports]})
    elif aloud and not reports:
        say(f"This installation has no compiled kernels: nothing to test.\n{INSTALL}")
    elif aloud:
        say("selftest passed" if passed else "selftest FAILED")
    return 0 if passed else 1
