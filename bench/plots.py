"""The plots of a report; without matplotlib there are none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.cases import GROUPS, SCALED, Case
from bench.machine import Machine
from bench.measure import Results
from bench.rivals import OURS
from bench.targets import NOT_RIVALS, Found, by_case, figure, rivals_of

DOTS = 150
COMPARED = ("step", "one sequence", "batch", "training", "training, small", "lengths")


def draw(results: Results, here: Machine, out: Path) -> str:
    """Write the plots; returns a text with their names for the last line of the run."""
    if find_spec("matplotlib") is None:
        print("no plots: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
        return ""
    import_module("matplotlib").use("Agg")
    plt: Any = import_module("matplotlib.pyplot")
    records = by_case(results.records)
    figures: dict[str, Callable[[Any, Found, Machine], bool]] = {
        "speedup.png": speedup,
        "roofline.png": roofline,
        "scaling.png": scaling,
    }
    written = ""
    for name, plot in figures.items():
        if plot(plt, records, here):
            plt.savefig(out / name, dpi=DOTS, bbox_inches="tight")
            written += f", {name}"
        plt.close("all")
    return written


def measured(records: Found) -> list[Case]:
    """The cases that we ran, each once."""
    cases = dict.fromkeys(case for group in GROUPS.values() for case in group)
    return [case for case in cases if figure(case, records, "best") is not None]


def speedup(plt: Any, records: Found, here: Machine) -> bool:
    """Plot how many times faster we are than each rival; the line marks equality."""
    shown = dict.fromkeys(case for group in COMPARED for case in GROUPS[group])
    cases = [case for case in shown if rivals_of(case.name, records)]
    if not cases:
        return False
    names = sorted({of for case in cases for of in rivals_of(case.name, records)})
    _, axes = plt.subplots(figsize=(9, 0.5 + 0.12 * len(cases) * (len(names) + 1)))
    height = 0.8 / len(names)
    for k, name in enumerate(names):
        bars = []
        for row, case in enumerate(cases):
            mine, theirs = (figure(case, records, "best", of) for of in (OURS, name))
            if mine and theirs:
                bars.append((row + (k - (len(names) - 1) / 2) * height, theirs / mine))
        axes.barh([y for y, _ in bars], [ratio for _, ratio in bars], height, label=name)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="times faster (time of the rival / ours)", ylim=(len(cases), -1))
    axes.set_yticks(range(len(cases)), [case.name for case in cases], fontsize=6)
    axes.legend(fontsize=7)
    return True


def roofline(plt: Any, records: Found, here: Machine) -> bool:
    """Plot GFLOP/s over operations per byte of weights, below the machine's limits."""
    cases = [case for case in measured(records) if case.threads == 1]
    if not cases:
        return False
    _, axes = plt.subplots(figsize=(7, 5))
    ends = (0.1, 1e4)
    for name, (_, rate) in here.bandwidth.items():
        corner = here.peak["float32"] / rate
        axes.plot(
            [ends[0], corner, ends[1]],
            [ends[0] * rate, here.peak["float32"], here.peak["float32"]],
            linewidth=1,
            label=f"{name} {rate:.0f} GB/s",
        )
    for mode, marker in (("forward", "o"), ("training", "s"), ("step", "^")):
        points = [
            (case.flops() / case.weight_bytes(), case.flops() / seconds * 1e-9)
            for case in cases
            if case.mode == mode and (seconds := figure(case, records, "best"))
        ]
        axes.scatter([x for x, _ in points], [y for _, y in points], marker=marker, label=mode)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations for each byte of weights",
        ylabel="GFLOP/s, one thread",
    )
    axes.legend(fontsize=7)
    return True


def scaling(plt: Any, records: Found, here: Machine) -> bool:
    """Plot time over H, B, T and threads, with one line for each implementation."""
    base = GROUPS["scaling"]
    if len([case for case in base if figure(case, records, "best") is not None]) < 2:
        return False
    names = [OURS, *sorted({of for _, of in records if of not in NOT_RIVALS})]
    _, grid = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    usual = {axis: _usual(base, axis) for axis in SCALED}
    for axis, axes in zip(SCALED, grid.flat, strict=True):
        others = [name for name in SCALED if name != axis]
        line = [c for c in base if all(getattr(c, o) == usual[o] for o in others)]
        line = sorted(line, key=lambda case: int(getattr(case, axis)))
        for name in names:
            points = [
                (getattr(case, axis), seconds * 1e6)
                for case in line
                if (seconds := figure(case, records, "best", name))
            ]
            axes.plot(*zip(*points, strict=True), marker=".", label=name) if points else None
        axes.set(xscale="log", yscale="log", xlabel=axis.replace("_", " "), ylabel="us")
        sizes = [getattr(case, axis) for case in line]
        axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
        axes.minorticks_off()
    grid.flat[0].legend(fontsize=7)
    return True


def _usual(cases: tuple[Case, ...], axis: str) -> int:
    values = [int(getattr(case, axis)) for case in cases]
    return max(set(values), key=values.count)
