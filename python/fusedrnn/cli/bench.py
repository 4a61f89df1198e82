"""fusedrnn bench: the speed of layers on this machine, and of PyTorch's if it is installed."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import GRU, LSTM, RNN, runtime
from .._backends.choice import native
from .console import say, say_json
from .info import INSTALL
from .options import add_json, add_quiet, thread_count
from .progress import Progress

__all__ = ["add_parser"]


@dataclass(frozen=True)
class Work:
    """One layer on T steps of B sequences, I inputs, H units; float32."""

    cell: str
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    training: bool = False

    @property
    def name(self) -> str:
        """A short name."""
        what = "training" if self.training else "inference"
        sizes = f"T{self.steps} B{self.batch} I{self.input_size} H{self.hidden_size}"
        return f"{self.cell} {what}, {sizes}"

    @property
    def flops(self) -> float:
        """Operations of the matrix products; a backward call costs twice the forward call."""
        gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[self.cell]
        row = 2.0 * gates * self.hidden_size * (self.input_size + self.hidden_size)
        return row * self.steps * self.batch * (3 if self.training else 1)


WORK = (
    Work("LSTM", 1, 1, 64, 64),
    Work("LSTM", 100, 1, 256, 256),
    Work("LSTM", 100, 32, 256, 256),
    Work("GRU", 100, 32, 256, 256),
    Work("LSTM", 100, 32, 128, 128, training=True),
    Work("GRU", 100, 32, 128, 128, training=True),
    Work("RNN", 100, 32, 128, 128, training=True),
)
KINDS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
# Rounds in which fusedrnn and torch take turns, and seconds of each.
ROUNDS = 5
SECONDS = 0.2
# If results differ by more than this, relative to the largest element, they are not timed.
TOLERANCE = 1e-3

Call = Callable[[], Mapping[str, Any]]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="how fast the layers are on this machine (half a minute)",
        description="Time a few layers, beside PyTorch's where it is installed, on results checked "
        "to be the same. The whole benchmark is bench/run.py of the source tree.",
    )
    parser.add_argument(
        "--threads", type=thread_count, default=1, metavar="N", help="of both (default: 1)"
    )
    add_quiet(parser)
    add_json(parser, "the results")
    parser.set_defaults(run=run, prog=parser.prog)


@dataclass(frozen=True)
class Timing:
    """The measurements of a piece of work; the best seconds of a call.

    Attributes
    ----------
    apart : float or None
        Largest difference of the results, relative to the largest element; None without torch.
    ours, torch : float or None
        Seconds; None if the results differ, or if torch is not installed.
    """

    work: Work
    apart: float | None
    ours: float | None = None
    torch: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times longer torch takes; None if one of the two was not timed."""
        return None if self.ours is None or self.torch is None else self.torch / self.ours

    @property
    def same(self) -> bool:
        """Whether the results agree; true without torch."""
        return self.apart is None or self.apart <= TOLERANCE

    def row(self, peak: float) -> str:
        """Return the line of the table; `peak` in GFLOP/s."""
        if self.ours is None:
            return f"{self.work.name:34} not timed: results are {self.apart:.1e} apart"
        rate = self.work.flops / self.ours * 1e-9
        line = f"{self.work.name:34}{self.ours * 1e6:10,.1f}{rate:9.1f}{rate / peak:9.0%}"
        if self.torch is not None:
            line += f"{self.torch * 1e6:10,.1f}{self.ratio:7.2f}x"
        return line

    def facts(self, peak: float) -> dict[str, Any]:
        """Return the same facts for programs."""
        rate = None if self.ours is None else self.work.flops / self.ours * 1e-9
        return {
            **asdict(self.work),
            "results_apart": self.apart,
            "ours_seconds": self.ours,
            "gflops": rate,
            "of_peak": None if rate is None else rate / peak,
            "torch_seconds": self.torch,
            "ratio": self.ratio,
        }


def run(arguments: argparse.Namespace) -> int:
    """Time and print; return 1 if results differ."""
    if native() is None:
        say(f"This installation has no compiled kernels: nothing to time.\n{INSTALL}")
        return 1
    torch = _torch()
    peak = _peak()
    number: int = arguments.threads
    aloud = not (arguments.quiet or arguments.json)
    if aloud:
        beside = "torch is not installed" if torch is None else f"beside torch {torch.__version__}"
        say(
            f"{runtime.isa()}, float32, {number} thread{'s' * (number != 1)}; best of {ROUNDS} "
            f"rounds; {beside}\nFMA peak of one thread: {peak:.0f} GFLOP/s\n"
        )
    progress = Progress(sys.stderr, arguments.quiet)
    found = []
    try:
        for done, work in enumerate(WORK):
            progress.update(done / len(WORK), lambda work=work: (work.name,))  # type: ignore[misc]
            found.append(_measure(work, torch, number))
        progress.update(1.0, lambda: ("done",))
    finally:
        progress.close()
    if aloud:
        say(f"{'':34}{'ours us':>10}{'GFLOP/s':>9}{'of peak':>9}{'torch us':>10}{'ratio':>8}")
        say("\n".join(timing.row(peak * number) for timing in found))
    if arguments.json:
        say_json(
            {
                "isa": runtime.isa(),
                "dtype": "float32",
                "threads": number,
                "torch": None if torch is None else str(torch.__version__),
                "peak_gflops_of_one_thread": peak,
                "work": [timing.facts(peak * number) for timing in found],
            }
        )
    return 0 if all(timing.same for timing in found) else 1


def _torch() -> Any:
    return importlib.import_module("torch") if importlib.util.find_spec("torch") else None


def _peak() -> float:
    from .. import _core

    return max(_core.peak_gflops(runtime.isa(), False) for _ in range(3))


def _measure(work: Work, torch: Any, threads: int) -> Timing:
    """Time fusedrnn and, if torch is there and gives the same results, torch."""
    rng = np.random.default_rng(0)
    layer = KINDS[work.cell](work.input_size, work.hidden_size, seed=0)
    x = rng.standard_normal((work.steps, work.batch, work.input_size), dtype=np.float32)
    dy = rng.standard_normal((work.steps, work.batch, work.hidden_size), dtype=np.float32)
    calls = {"ours": _ours(work, layer, x, dy, threads)}
    apart = None
    if torch is not None:
        calls["torch"] = _theirs(work, torch, layer, x, dy, threads)
        apart = _apart(calls["ours"](), calls["torch"]())
        if not apart <= TOLERANCE:
            return Timing(work, apart)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = min(best[name], _best(call, SECONDS))
    return Timing(work, apart, **best)


def _best(call: Call, seconds: float) -> float:
    """Return the seconds of the fastest of several calls."""
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    found = 0.0
    for name, mine in ours.items():
        scale = max(1.0, float(np.abs(mine).max()))
        found = max(found, float(np.abs(mine - theirs[name].detach().numpy()).max()) / scale)
    return found


def _ours(work: Work, layer: Any, x: Any, dy: Any, threads: int) -> Call:
    def training() -> Mapping[str, Any]:
        y, _, saved = layer.forward(x, num_threads=threads)
        dx, _, dparams = layer.backward(saved, dy, num_threads=threads)
        return {"y": y, "dx": dx, **dparams}

    return training if work.training else lambda: {"y": layer(x, num_threads=threads)[0]}


def _theirs(work: Work, torch: Any, layer: Any, x: Any, dy: Any, threads: int) -> Call:
    torch.set_num_threads(threads)
    module = getattr(torch.nn, work.cell)(work.input_size, work.hidden_size)
    module.load_state_dict({k: torch.from_numpy(a) for k, a in layer.state_dict().items()})
    names = ["dx", *(name for name, _ in module.named_parameters())]
    tensor, gradient = torch.from_numpy(x), torch.from_numpy(dy)
    leaves = [tensor, *module.parameters()]

    def training() -> Mapping[str, Any]:
        y = module(tensor)[0]
        return {"y": y, **dict(zip(names, torch.autograd.grad(y, leaves, gradient), strict=True))}

    def inference() -> Mapping[str, Any]:
        with torch.inference_mode():
            return {"y": module(tensor)[0]}

    tensor.requires_grad_(work.training)
    return training if work.training else inference
