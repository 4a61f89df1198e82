"""fusedrnn.torch beside torch.nn: whole training steps and inference, packed and padded.

    python bench/torch_table.py                 # the table of the report
    python bench/torch_table.py --write         # also python/fusedrnn/torch/_slower.py, from a grid
    python bench/torch_table.py --overhead      # microseconds beyond the kernel for tiny calls

Torch and ours take turns on the same weights; a row is the best of several rounds. Run it on an
idle machine. Run --write again whenever the kernels change: it lists the sizes at which torch is
faster, and calls of these sizes run torch's code. Then run --write --narrow on a machine of another
kind: it leaves in the list only what is slower on both.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import fusedrnn.torch as ft
from fusedrnn.torch import _slower, _table

SLOWER = Path(__file__).parents[1] / "python/fusedrnn/torch/_slower.py"
KINDS = ("training", "guarded", "frozen")


class Row(NamedTuple):
    """One call: T steps of B sequences, I inputs, H units."""

    mode: str
    kind: str
    steps: int
    batch: int
    inputs: int
    hidden: int
    packed: bool = False


SIZES = [
    *((1, 1, 64, 64), (1, 1, 256, 256), (100, 1, 64, 64), (100, 1, 256, 256)),
    *((100, 32, 256, 256), (50, 64, 512, 512), (100, 16, 1, 50), (100, 32, 128, 128)),
    *((100, 64, 64, 256), (35, 20, 650, 650), (1000, 32, 64, 64)),
]
MODES = ("LSTM", "GRU", "RNN_TANH")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def rows() -> Iterator[Row]:
    """The rows of the report. Training has no single steps; frozen layers are for single steps."""
    for mode, kind, size in itertools.product(MODES, KINDS, SIZES):
        if (kind == "training") == (size[0] == 1) or (kind == "frozen") > (size[0] == 1):
            continue
        yield Row(mode, kind, *size)
    for mode, kind in itertools.product(MODES, ("training", "guarded")):
        yield Row(mode, kind, 100, 32, 128, 128, packed=True)
    for mode, kind, batch in itertools.product(CELLS, KINDS, (1, 32)):
        yield Row(mode, kind, 1, batch, 128, 128)


BATCHES, HIDDEN = (1, 4, 16, 64), (12, 24, 48, 96, 192, 384, 768)


def grid() -> Iterator[Row]:
    """One row for each key of the table."""
    for mode, kind, steps in itertools.product((*MODES, *CELLS), KINDS, (1, 24)):
        if (mode in CELLS) != (steps == 1) and (mode in CELLS or kind == "training"):
            continue
        for batch, hidden in itertools.product(BATCHES, HIDDEN):
            yield Row(mode, kind, steps, batch, hidden, hidden)


def step_of(layer: Any, row: Row) -> Callable[[], Any]:
    """A call, or a training step: forward, backward, and an update of all weights."""
    torch.manual_seed(0)
    x: Any = torch.randn(row.steps, row.batch, row.inputs)
    if row.mode in CELLS:
        x = x[0]
    if row.packed:
        lengths = torch.randint(1, row.steps + 1, (row.batch,))
        lengths[0] = row.steps
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
    if row.kind != "training":
        if row.kind == "frozen" and hasattr(layer, "freeze"):
            layer.freeze()

        def infer() -> Any:
            with torch.inference_mode():
                return layer(x)

        return infer
    if not row.packed:
        x.requires_grad_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-6)

    def train() -> Any:
        y = layer(x)
        y = y if isinstance(y, torch.Tensor) else y[0]
        y = y.data if row.packed else y
        y.backward(y.detach())
        optimizer.step()
        optimizer.zero_grad()
        return y

    return train


def measure(row: Row, seconds: float) -> tuple[float, float]:
    """Microseconds of torch and of ours, measured in turns."""
    runs = []
    for home in (torch.nn, ft):
        torch.manual_seed(0)
        layer = getattr(home, row.mode.removesuffix("_TANH"))(row.inputs, row.hidden)
        runs.append(step_of(layer, row))
        runs[-1]()
    best = [float("inf")] * 2
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for k, run in enumerate(runs):
            start, count = time.perf_counter(), 0
            while count < 2 or time.perf_counter() - start < seconds / 20:
                run()
                count += 1
            best[k] = min(best[k], (time.perf_counter() - start) / count * 1e6)
    return best[0], best[1]


def report(seconds: float) -> None:
    """The table as Markdown."""
    print("| call | torch us | ours us | ratio |\n|---|---|---|---|")
    for row in rows():
        stock, ours = measure(row, seconds)
        name = f"{row.mode} {row.kind} T{row.steps} B{row.batch} I{row.inputs} H{row.hidden}"
        name += " packed" if row.packed else ""
        print(f"| {name} | {stock:.0f} | {ours:.0f} | {stock / ours:.2f} |", flush=True)


def write(seconds: float, kinds: list[str], margin: float, narrow: bool) -> None:
    """Measure the grid, and write the keys of the rows that lose by more than `margin`."""
    losers: list[tuple[str, str, bool, int, int]] = []
    load = os.getloadavg()[0]
    for row in grid():
        if row.kind not in kinds:
            continue
        stock, ours = measure(row, seconds)
        if ours > margin * stock:
            losers.append(_table.key(*row[:4], row.hidden))
            print(f"{row}: torch {stock:.0f} us, ours {ours:.0f} us", flush=True)
    before = ""
    if narrow:
        losers = [key for key in losers if key in _slower.SLOWER]
        before = (
            " Other rows\nof the list before were not slower on this machine, and were left out."
        )
    lines = [f"        {key!r},\n".replace("'", '"') for key in sorted(losers)]
    body = f"frozenset(\n    {{\n{''.join(lines)}    }}\n)" if lines else "frozenset()"
    SLOWER.write_text(
        '"""Written by bench/torch_table.py; see _table.py.\n\n'
        f"Rows of {', '.join(kinds)}, slower by more than {margin}; "
        f"the load was {load:.0f}.{before}\n"
        '"""\n\n'
        f"SLOWER: frozenset[tuple[str, str, bool, int, int]] = {body}\n"
    )


class Empty(torch.autograd.Function):
    """Does nothing, with the tensors of a layer, to measure autograd's own cost."""

    @staticmethod
    def forward(ctx: Any, x: Any, *weights: Any) -> Any:
        ctx.save_for_backward(x, *weights)
        return x.new_empty(1, 1, 16), x.new_empty(1, 1, 16), x.new_empty(1, 1, 16)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


def overhead() -> None:
    """Print microseconds of calls of 16 units, beside torch's and an empty autograd.Function."""
    x = torch.randn(1, 1, 16)

    def best(run: Callable[[], Any]) -> float:
        found = float("inf")
        for _ in range(200):
            start = time.perf_counter()
            for _ in range(50):
                run()
            found = min(found, (time.perf_counter() - start) / 50 * 1e6)
        return found

    for name in ("LSTM", "GRU"):
        stock, ours = (getattr(home, name)(16, 16) for home in (torch.nn, ft))
        leaf = x.clone().requires_grad_()
        with torch.no_grad():
            print(f"{name} torch, no gradients    {best(lambda: stock(x)):6.1f} us")  # noqa: B023
            print(f"{name} ours, guarded          {best(lambda: ours(x)):6.1f} us")  # noqa: B023
            ours.freeze()
            print(f"{name} ours, frozen           {best(lambda: ours(x)):6.1f} us")  # noqa: B023
        ours.unfreeze()

        def step(run: Callable[[], Any], leaves: Any) -> Any:
            return torch.autograd.grad(run()[0].sum(), leaves)

        for label, module in (("torch", stock), ("ours", ours)):
            leaves = [leaf, *module.parameters()]
            spent = best(lambda: step(lambda: module(leaf), leaves))  # noqa: B023
            print(f"{name} {label:5}, training step   {spent:6.1f} us")
        weights = list(ours.parameters())
        spent = best(lambda: step(lambda: Empty.apply(leaf, *weights), [leaf, *weights]))  # noqa: B023
        print(f"{name} an empty Function      {spent:6.1f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--narrow", action="store_true", help="for --write: see above")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each row")
    parser.add_argument("--kind", action="append", choices=KINDS, help="for --write; default all")
    parser.add_argument("--margin", type=float, default=1.03, help="for --write: slower by this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}, {options.threads} threads")
    vars(_table)["SLOWER"] = frozenset()  # measured is what the calls would be without the table
    if options.overhead:
        overhead()
    elif options.write:
        write(options.seconds, options.kind or list(KINDS), options.margin, options.narrow)
    else:
        report(options.seconds)


if __name__ == "__main__":
    main()
