"""fusedrnn info: what is installed, what runs here, and what to do where kernels are missing."""

from __future__ import annotations

import argparse
from typing import Any

from .. import runtime
from .._backends.choice import current, not_built

__all__ = ["add_parser", "describe"]

INSTALL = (
    "Install a C++ compiler (g++ 11 or clang++ 14, or newer; Debian and Ubuntu: apt-get install "
    "g++), then install fusedrnn again."
)
KNOWN = ("version", "python", "numpy", "machine", "native", "isas", "reason")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("info", help="what is installed and what runs on this machine")
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print `describe`."""
    print(describe())
    return 0


def describe() -> str:
    """Return the installation and the machine in words, a line for each fact."""
    config = runtime.build_config()
    lines = [
        ("fusedrnn", config["version"]),
        ("Python", f"{config['python']} on {config['machine']}"),
        ("NumPy", config["numpy"]),
    ]
    if config["native"]:
        supported = runtime.supported_isas()
        lacking = [name for name in config["isas"] if name not in supported]
        lines += [
            ("backend", _backend_name()),
            ("instruction set", runtime.isa()),
            ("supported here", ", ".join(supported)),
            ("built, not for here", ", ".join(lacking) or "none"),
            ("threads", str(runtime.num_threads())),
            *((f"build: {name}", _show(value)) for name, value in _build(config).items()),
        ]
        note = ""
    else:
        lines += [
            ("backend", "reference (NumPy, slow): no compiled kernels in this installation"),
            ("why", str(not_built())),
        ]
        note = f"\n{INSTALL}"
    return "\n".join(f"{name + ':':22}{text}" for name, text in lines) + note


def _backend_name() -> str:
    name = current().name
    return name if name == "native" else f"{name} (chosen: NumPy, slow)"


def _build(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in KNOWN}


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
