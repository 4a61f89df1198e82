"""A rival's own process: on command it prepares cases, returns their results and times them."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.cases import CHECKED_STEPS, Array, Case
from bench.rivals import Module, Prepared, load

# Calls shorter than this are timed several at once, and warming up takes at least this long.
SAMPLE = 1e-3
WARM_UP = 0.05


def results(case: Case, prepared: Prepared) -> dict[str, Array]:
    """The arrays of the first call; for a stream, after some steps."""
    for _ in range(CHECKED_STEPS if case.mode == "step" else 1):
        result = prepared.call()
    return {name: np.array(a) for name, a in prepared.read(result).items()}


def warm_up(call: Callable[[], Any], seconds: float = WARM_UP) -> float:
    """Run for some time, at least once; returns the seconds of the fastest call."""
    fastest, end = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def timed(call: Callable[[], Any], seconds: float, most: int) -> list[float]:
    """Seconds of a call, repeated for some time, with at most `most` samples."""
    number = max(1, int(SAMPLE / max(warm_up(call), 1e-9)))
    samples: list[float] = []
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while len(samples) < most and (not samples or time.perf_counter() < end):
            start = time.perf_counter()
            for _ in range(number):
                call()
            samples.append((time.perf_counter() - start) / number)
    finally:
        gc.enable()
    return samples


def each(call: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of every single call."""
    clock, times = time.perf_counter_ns, np.empty(calls + 1, np.int64)
    warm_up(call)
    gc.collect()
    gc.disable()
    try:
        times[0] = clock()
        for i in range(calls):
            call()
            times[i + 1] = clock()
    finally:
        gc.enable()
    return [float(t) for t in np.diff(times) * 1e-9]


def serve(connection: Connection, rival: Module) -> None:
    """Answer until the other end closes: ("ok", value) or ("error", text).

    If a command is not one of these, it is a function of the rival's module, or None if the module
    has none.
    """
    case, prepared = Case("RNN"), Prepared(lambda: None, lambda result: {})

    def prepare(wanted: Case) -> str:
        nonlocal case, prepared
        case, why = wanted, rival.refuses(wanted)
        if not why:
            prepared = rival.prepare(wanted, wanted.weights())
        return why

    commands: dict[str, Callable[..., Any]] = {
        "prepare": prepare,
        "results": lambda: results(case, prepared),
        "timed": lambda *how: timed(prepared.call, *how),
        "each": lambda *how: each(prepared.call, *how),
    }
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        try:
            does: Any = commands.get(command) or getattr(rival, command, None)
            connection.send(("ok", None if does is None else does(*arguments)))
        except Exception:
            connection.send(("error", traceback.format_exc()))


def main() -> None:
    """Serve as `python -m bench.worker RIVAL DESCRIPTOR CORES`."""
    name, descriptor, cores = sys.argv[1:]
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    connection = Connection(int(descriptor))
    try:
        rival = load(name)
    except Exception:
        connection.send(("error", traceback.format_exc()))
        return
    connection.send(("ok", None))
    serve(connection, rival)


if __name__ == "__main__":
    main()
