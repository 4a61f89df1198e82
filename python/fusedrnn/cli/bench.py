"""fusedrnn bench: how fast it is here, beside PyTorch where that is installed; half a minute."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import GRU, LSTM, RNN, runtime
from .._backends.choice import native
from .info import INSTALL
from .options import natural
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
        """Short."""
        what = "training" if self.training else "inference"
        sizes = f"T{self.steps} B{self.batch} I{self.input_size} H{self.hidden_size}"
        return f"{self.cell} {what}, {sizes}"

    @property
    def flops(self) -> float:
        """Of the products; backward costs twice the forward pass."""
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
# Rounds in which ours and torch take turns, and seconds of each.
ROUNDS = 5
SECONDS = 0.2
# Results further apart than this, relative to the largest element, are not timed.
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
        "--threads", type=natural, default=1, metavar="N", help="of both (default: 1)"
    )
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Time, print; 1 where results differ."""
    if native() is None:
        print(f"This installation has no compiled kernels: nothing to time.\n{INSTALL}")
        return 1
    torch = _torch()
    peak = _peak()
    threads: int = arguments.threads
    beside = "torch is not installed" if torch is None else f"beside torch {torch.__version__}"
    print(
        f"{runtime.isa()}, float32, {threads} thread{'s' * (threads != 1)}; best of {ROUNDS} "
        f"rounds; {beside}\nFMA peak of one thread: {peak:.0f} GFLOP/s\n"
    )
    progress = Progress(sys.stderr)
    lines, same = [], True
    try:
        for number, work in enumerate(WORK):
            progress.update(number / len(WORK), lambda work=work: work.name)  # type: ignore[misc]
            line, agrees = _measure(work, torch, threads, peak)
            lines.append(line)
            same = same and agrees
        progress.update(1.0, lambda: "done")
    finally:
        progress.close()
    print(f"{'':38}{'ours us':>10}{'GFLOP/s':>9}{'of peak':>9}{'torch us':>10}{'ratio':>8}")
    print("\n".join(lines))
    return 0 if same else 1


def _torch() -> Any:
    return importlib.import_module("torch") if importlib.util.find_spec("torch") else None


def _peak() -> float:
    from .. import _core

    return max(_core.peak_gflops(runtime.isa(), False) for _ in range(3))


def _measure(work: Work, torch: Any, threads: int, peak: float) -> tuple[str, bool]:
    """The line of the table, and whether the results agree."""
    rng = np.random.default_rng(0)
    layer = KINDS[work.cell](work.input_size, work.hidden_size, seed=0)
    x = rng.standard_normal((work.steps, work.batch, work.input_size), dtype=np.float32)
    dy = rng.standard_normal((work.steps, work.batch, work.hidden_size), dtype=np.float32)
    calls = {"ours": _ours(work, layer, x, dy, threads)}
    if torch is not None:
        calls["torch"] = _theirs(work, torch, layer, x, dy, threads)
        apart = _apart(calls["ours"](), calls["torch"]())
        if not apart <= TOLERANCE:
            return f"{work.name:38}  not timed: results are {apart:.1e} apart", False
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = min(best[name], _best(call, SECONDS))
    rate = work.flops / best["ours"] * 1e-9
    share = rate / (peak * threads)
    line = f"{work.name:38}{best['ours'] * 1e6:10,.1f}{rate:9.1f}{share:9.0%}"
    if "torch" in best:
        line += f"{best['torch'] * 1e6:10,.1f}{best['torch'] / best['ours']:7.2f}x"
    return line, True


def _best(call: Call, seconds: float) -> float:
    """Seconds of the fastest of some calls."""
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
