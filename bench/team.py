"""The processes of a run, which are started on first use and ended together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from bench.measure import FailedError, Process


class Team:
    """The processes of a run, which are started on first use and ended together."""

    def __init__(self, names: Sequence[str], isa: str | None, stack: ExitStack) -> None:
        self.names = names
        self._environment = {"FUSEDRNN_ISA": isa} if isa else {}
        self._stack = stack
        self._running: dict[tuple[str, int], Process | None] = {}
        self.failed: dict[str, str] = {}

    def of(self, threads: int, names: Iterable[str] | None = None) -> dict[str, Process]:
        """The processes that run with this number of threads."""
        found = {}
        for name in self.names if names is None else [n for n in self.names if n in names]:
            process = self._running.get((name, threads))
            # A process that a case ended is started again for the next case; one that never ran is
            # not.
            if name not in self.failed and (process is None or not process.alive()):
                process = self._running[name, threads] = self._start(name, threads)
            if process is not None:
                found[name] = process
        return found

    def _start(self, name: str, threads: int) -> Process | None:
        try:
            return self._stack.enter_context(closing(self.fresh(name, threads)))
        except FailedError as error:
            self.failed[name] = str(error)
            say(f"{name} does not run here: {str(error).strip().splitlines()[-1]}")
            return None

    def fresh(self, name: str, threads: int) -> Process:
        """A process that nothing else uses; the caller closes it."""
        return Process(name, threads, self._environment)


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)
