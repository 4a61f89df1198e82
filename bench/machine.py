"""The machine: what it is, whether it is idle, and the least time that it needs for a call."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cases import Case

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# Used if the system does not say.
USUAL_CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}
MEMORY_PROBE = 256 << 20
BUSY_LOAD = 0.5
FREE_SHARE = 0.95
# Spins on one core for some time and prints the share of the time that it got.
SPIN = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
wall, own = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < float(sys.argv[2]):
    pass
print((time.process_time() - own) / (time.perf_counter() - wall))
"""


@dataclass(frozen=True)
class Machine:
    """What a reader needs to judge the times of a run.

    Attributes
    ----------
    peak : mapping of dtype to float
        FMA peak of one thread, GFLOP/s, on the instruction set of the run.
    bandwidth : mapping of level to (bytes, float)
        Capacity (0 for main memory), and read bandwidth of one thread in GB/s; nearest level first.
    activations : mapping of dtype to (float, float)
        Nanoseconds that our own sigmoid and tanh take for a number in L1.
    """

    description: Mapping[str, str]
    peak: Mapping[str, float]
    bandwidth: Mapping[str, tuple[int, float]]
    activations: Mapping[str, tuple[float, float]]
    warnings: Sequence[str] = ()
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def caches() -> dict[str, int]:
    """The size in bytes of the data cache of each level."""
    found = {}
    for index in sorted(CACHES.glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            scale = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
            found[f"L{level}"] = int(size.rstrip("KM")) * scale
    return {**USUAL_CACHES, **found}


def probe_sizes() -> dict[str, int]:
    """How much to read to measure a level: half of it, so that other data fits too."""
    return {**{name: size // 2 for name, size in caches().items()}, "memory": MEMORY_PROBE}


def describe() -> dict[str, str]:
    """Processor, kernel, compilers, Python."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else ())
        if line.startswith("model name")
    ]
    found = {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(len(cores())),
        "caches": ", ".join(f"{name} {size >> 10} KB" for name, size in caches().items()),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
    }
    for compiler in ("g++", "clang++"):
        try:
            text = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
        except OSError:
            continue
        found[compiler] = text.split("\n")[0]
    return found


def spin_shares(seconds: float = 0.3) -> dict[int, float]:
    """The share of every core that a spinning process gets, measured on all cores at once."""
    started = {
        core: subprocess.Popen(
            [sys.executable, "-c", SPIN, str(core), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        for core in cores()
    }
    return {core: float(process.communicate()[0]) for core, process in started.items()}


def busy(load: float, shares: Mapping[int, float]) -> list[str]:
    """Reasons why times on this machine are upper bounds; empty if it is idle."""
    found = []
    if load > BUSY_LOAD:
        found.append(f"the load average is {load:.1f}: something else is running")
    found += [
        f"core {core} gave a spinning process {share:.0%} of its time"
        for core, share in sorted(shares.items())
        if share < FREE_SHARE
    ]
    return found


# --- limits ---------------------------------------------------------------------------------------


def level(case: Case, machine: Machine) -> str:
    """The nearest level that holds a thread's share of the weights that each step reads."""
    share = case.resident_bytes() / case.threads
    fits = [name for name, (size, _) in machine.bandwidth.items() if share <= size]
    return fits[0] if fits else list(machine.bandwidth)[-1]


def walk(case: Case, machine: Machine) -> tuple[float, float]:
    """Seconds for the products of one step after the other, and for reading their weights.

    A backward pass does both once more; a single step also computes W x.
    """
    columns = case.hidden_size + (case.input_size if case.steps == 1 else 0)
    flops = 2.0 * case.gates * case.hidden_size * columns * case.real_steps
    walks = 2 if case.training else 1
    compute = walks * flops / (machine.peak[case.dtype] * 1e9)
    rate = machine.bandwidth[level(case, machine)][1] * 1e9
    return compute, walks * case.steps * case.resident_bytes() / rate


def limit(case: Case, machine: Machine) -> float:
    """The least number of seconds that the machine needs.

    It is the sum of: the products of all steps together at the FMA peak; the products of one step
    after the other, or reading their weights if that takes longer; and the activations. Nothing
    overlaps, and barriers are not counted.
    """
    compute, reading = walk(case, machine)
    together = case.flops() / (machine.peak[case.dtype] * 1e9) - compute
    cost = machine.activations[case.dtype]
    active = sum(n * ns for n, ns in zip(case.activations(), cost, strict=True)) * 1e-9
    return (together + max(compute, reading) + active) / case.threads


def bound(case: Case, machine: Machine) -> str:
    """What the steps wait for: "FMA", or the level that their weights are read from."""
    compute, reading = walk(case, machine)
    return "FMA" if compute >= reading else level(case, machine)
