"""fusedrnn info: what is installed, what runs here, and what to do if kernels are missing."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
from pathlib import Path
from typing import Any

from .. import runtime
from .._backends.choice import current, not_built
from . import memory
from .console import labelled, say, say_json, visible
from .options import add_json

__all__ = ["INSTALL", "add_parser", "describe", "facts"]

INSTALL = (
    "Install a C++ compiler (g++ 11 or clang++ 14, or newer; Debian and Ubuntu:\n"
    "apt-get install g++), then install fusedrnn again."
)
KNOWN = ("version", "python", "numpy", "machine", "native", "isas", "reason")
# Variables that fusedrnn reads when it runs or is built, and prefixes of those of OpenMP libraries.
READ = (
    "FUSEDRNN_BACKEND",
    "FUSEDRNN_ISA",
    "FUSEDRNN_NUM_THREADS",
    "FUSEDRNN_BUILD",
    "FUSEDRNN_WERROR",
)
OPENMP = ("OMP_", "GOMP_", "KMP_")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
INDENT = 22


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("info", help="what is installed and what runs on this machine")
    add_json(parser, "the same")
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Print `describe`, or `facts`."""
    if arguments.json:
        say_json(facts())
    else:
        say(describe())
    return 0


def facts() -> dict[str, Any]:
    """Return facts of the installation, the machine and the environment, as JSON can hold them."""
    config = runtime.build_config()
    return {
        "fusedrnn": config["version"],
        "python": config["python"],
        "numpy": config["numpy"],
        "machine": config["machine"],
        "processor": _processor(),
        "caches": caches(),
        "cores": _cores(),
        "memory": memory.available(),
        "backend": current().name,
        "compiled_kernels": config["native"],
        "why_not": None if config["native"] else not_built(),
        "isa": runtime.isa(),
        "isas_supported": list(runtime.supported_isas()),
        "isas_built": list(config.get("isas", ())),
        "threads": runtime.num_threads(),
        "build": {name: value for name, value in config.items() if name not in KNOWN},
        "environment": environment(),
    }


def describe() -> str:
    """Return `facts` as text, one line for each."""
    found = facts()
    supported = found["isas_supported"]
    lacking = [name for name in found["isas_built"] if name not in supported]
    lines = [
        ("fusedrnn", found["fusedrnn"]),
        ("Python", f"{found['python']} on {found['machine']}"),
        ("NumPy", found["numpy"]),
        ("processor", found["processor"]),
        ("caches", ", ".join(f"{n} {memory.binary(size)}" for n, size in found["caches"].items())),
        ("cores", str(found["cores"])),
        ("memory", "" if found["memory"] is None else memory.readable(found["memory"])),
    ]
    if found["compiled_kernels"]:
        lines += [
            ("backend", _backend_name()),
            ("instruction set", found["isa"]),
            ("supported here", ", ".join(supported)),
            ("built, not for here", ", ".join(lacking) or "none"),
            ("threads", str(found["threads"])),
            *((f"build: {name.replace('_', ' ')}", _show(v)) for name, v in found["build"].items()),
        ]
    else:
        lines += [
            ("backend", "reference (NumPy, slow): no compiled kernels in this installation"),
            ("why", str(found["why_not"])),
            ("what to do", INSTALL.replace("\n", " ")),
        ]
    lines += [
        (name, visible(value) if _is_read(name) else f"{visible(value)} (nobody reads this name)")
        for name, value in found["environment"].items()
    ]
    if not found["environment"]:
        lines.append(("environment", "no variable of fusedrnn or OpenMP is set"))
    return "\n".join(labelled(f"{n}: ", text or "unknown", INDENT) for n, text in lines)


def environment() -> dict[str, str]:
    """Return the variables whose names begin as those of fusedrnn or of OpenMP libraries."""
    prefixes = ("FUSEDRNN_", *OPENMP)
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(prefixes)}


def caches() -> dict[str, int]:
    """Return bytes of the first core's caches, by level and kind; empty if they are not known."""
    found = {}
    for index in sorted(CACHES.glob("index*")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
            scale = {"K": 1 << 10, "M": 1 << 20}[size[-1]]
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{suffix}"] = int(size[:-1]) * scale
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        model = re.search(r"^model name\s*: (.+)$", text, re.M)
        if model is not None:
            return model.group(1).strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_read(name: str) -> bool:
    return name in READ or name.startswith(OPENMP)


def _backend_name() -> str:
    name = current().name
    return name if name == "native" else f"{name} (chosen: NumPy, slow)"


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return str(value) or "none"
