"""Measuring: processes that take turns in rounds, and only if their results agree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Array, Case
from bench.machine import cores
from bench.rivals import RIVALS

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0  # seconds to wait for an answer
NEIGHBOUR = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {%d})
while True:
    pass
"""


class FailedError(Exception):
    """A rival's process could not do what it was told; the text is the rival's own."""


class Process:
    """A rival in a process of its own, on as many cores as it has threads.

    Parameters
    ----------
    name : str
        A key of RIVALS.
    threads : int
        Set in the environment for every library that reads it.
    environment : mapping
        Variables in addition to this process's and the rival's.
    """

    def __init__(
        self, name: str, threads: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        mine, theirs = Pipe()
        self._connection = mine
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        count = str(threads)
        inherited = dict(os.environ)
        paths = [str(ROOT), inherited.get("PYTHONPATH", "")]
        chosen = {
            **inherited,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            **RIVALS[name].environment,
            **(environment or {}),
        }
        pinned = cores()[-threads:] if hasattr(os, "sched_setaffinity") else []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.worker", name, str(theirs.fileno())),
                ",".join(map(str, pinned)),
            ],
            env=chosen,
            pass_fds=[theirs.fileno()],
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        theirs.close()
        try:
            self._answer(PATIENCE)
        except FailedError:
            self.close()
            raise

    def ask(self, *command: Any, patience: float = PATIENCE) -> Any:
        """Send a command of worker.py; returns the answer, or raises FailedError."""
        try:
            self._connection.send(command)
        except OSError:
            raise FailedError(self._died()) from None
        return self._answer(patience)

    def _answer(self, patience: float) -> Any:
        if not self._connection.poll(patience):
            self._process.kill()
            self._process.wait()
            raise FailedError(f"{self.name}: no answer in {patience:g} s")
        try:
            status, value = self._connection.recv()
        except (EOFError, OSError):
            raise FailedError(self._died()) from None
        if status != "ok":
            raise FailedError(f"{self.name}: {value}")
        return value

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def _died(self) -> str:
        self._process.wait(10)
        self._output.seek(0)
        tail = self._output.read()[-2000:]
        return f"{self.name}: the process ended with {self._process.returncode}\n{tail}"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


@dataclass(frozen=True)
class Record:
    """What was measured of one implementation on one case.

    Attributes
    ----------
    figures : mapping of str to float
        Seconds of a call, "best" and "median"; "p50", "p99", "p999" of single calls; "kept", the
        floats for each unit, step and sample that a training forward call keeps beyond x and y.
    rounds : sequence of float
        The best time of each round, in order.
    """

    case: str
    of: str
    figures: Mapping[str, float]
    rounds: Sequence[float] = ()


@dataclass
class Results:
    """All that a run found: records, refusals with their reasons, and wrong results."""

    records: list[Record] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: list[tuple[str, str, str]] = field(default_factory=list)


def difference(mine: Mapping[str, Array], theirs: Mapping[str, Array], tolerance: float) -> str:
    """A text that names the arrays which differ by more than the tolerance; "" if none does."""
    found = [] if "y" in mine and "y" in theirs else ["y is missing"]
    for name in sorted(set(mine) & set(theirs)):
        a, b = mine[name], theirs[name]
        if a.shape != b.shape:
            found.append(f"{name}: shapes {a.shape} and {b.shape}")
            continue
        scale = max(1.0, float(np.max(np.abs(a), initial=0.0)))
        apart = float(np.max(np.abs(a - b), initial=0.0)) / scale
        if not apart <= tolerance:  # so that NaN is wrong too
            found.append(f"{name}: {apart:.1e} apart, {tolerance:.0e} allowed")
    return "; ".join(found)


def ready(case: Case, processes: Mapping[str, Process], results: Results) -> dict[str, Process]:
    """Prepare a case in every process; returns those that can do it and agree with the first one.

    Parameters
    ----------
    processes : mapping of str to Process
        By name. The first, usually ours, is the one that the others must agree with.
    """
    able: dict[str, Process] = {}
    expected: Mapping[str, Array] = {}
    for name, process in processes.items():
        try:
            why = process.ask("prepare", case)
            if why:
                results.refused.append((case.name, name, why))
                continue
            found = process.ask("results")
        except FailedError as error:
            results.refused.append((case.name, name, str(error).strip().split("\n")[-1]))
            continue
        expected = expected or found
        wrong = difference(expected, found, case.tolerance())
        if wrong:
            results.wrong.append((case.name, name, wrong))
        else:
            able[name] = process
    return able


def alternate(
    case: Case,
    able: Mapping[str, Process],
    results: Results,
    rounds: int,
    command: tuple[Any, ...],
) -> dict[str, list[list[float]]]:
    """Give a timing command to the processes in turns for some rounds; returns seconds by round."""
    found: dict[str, list[list[float]]] = {name: [] for name in able}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(able[name].ask(*command))
            except FailedError as error:
                results.refused.append((case.name, name, str(error).strip().split("\n")[-1]))
                del found[name]
    return found


def record(
    case: Case, name: str, rounds: Sequence[Sequence[float]], single: bool = False
) -> Record:
    """A record with best, median and, for single calls, quantiles."""
    times = np.concatenate([np.asarray(each) for each in rounds])
    figures = {"best": float(times.min()), "median": float(np.median(times))}
    if single:
        cuts = {"p50": 50, "p99": 99, "p999": 99.9}
        figures |= {cut: float(np.percentile(times, at)) for cut, at in cuts.items()}
    return Record(case.name, name, figures, [float(min(each)) for each in rounds])


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """Run a process that spins on the last core, if `wanted`."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR % cores()[-1]])
    try:
        yield
    finally:
        process.kill()
        process.wait()
