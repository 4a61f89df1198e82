"""fusedrnn selftest: whether the compiled kernels are right on this machine."""

from __future__ import annotations

import argparse

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "selftest", help="check the kernels on every instruction set of this machine (10 s)"
    )
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each instruction set; 1 if anything was wrong."""
    from ..selftest import selftest
    from .info import INSTALL

    passed = True
    ran = False
    for report in selftest():
        ran = True
        passed = passed and report.passed
        print(report, flush=True)
    if not ran:
        print(f"This installation has no compiled kernels: nothing to test.\n{INSTALL}")
        return 1
    print("selftest passed" if passed else "selftest FAILED")
    return 0 if passed else 1
