"""The dense grid: neighbours whose times per operation jump, and points where a rival is faster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench.cases import Case
from bench.machine import Machine, limit
from bench.rivals import OURS
from bench.targets import Found, figure, rivals_of

CELLS = ("RNN", "LSTM", "GRU", "GRU reset before")
HIDDEN = (16, 32, 50, 64, 100, 128, 200, 256, 384, 512, 650, 1024)
BATCH = (1, 2, 3, 4, 6, 8, 16, 32, 64, 128)
STEPS = (1, 3, 10, 30, 100, 300, 1000)
RIVALS = ("torch", "onnxruntime", "openvino", "jax")
PLANE_STEPS = 16
MOST_FLOPS = 3e10
JUMP = 1.4
FAR = 4  # sizes farther apart than this factor are no neighbours
AXES = ("hidden_size", "batch", "steps")


def points(quick: bool = False) -> list[Case]:
    """H by B for every cell, forward and training; lines over T, in float64, and with lengths."""
    hidden = (16, 50, 64, 128) if quick else HIDDEN
    batch = (1, 4, 16) if quick else BATCH
    steps = (1, 3, 10) if quick else STEPS
    found = []
    for cell in CELLS[1:3] if quick else CELLS:
        for mode in ("forward", "training"):
            base = Case(cell, mode, steps=PLANE_STEPS)
            sized = [replace(base, hidden_size=h, input_size=h) for h in hidden]
            found += [replace(one, batch=b) for one in sized for b in batch]
            found += [replace(one, batch=b, dtype="float64") for one in sized for b in (1, 32)]
            found += [replace(one, batch=32, steps=100, data="lengths") for one in sized]
            found += [
                replace(base, hidden_size=h, input_size=h, batch=b, steps=t)
                for h in (64, 256)
                for b in (1, 32)
                for t in steps
            ]
    most = MOST_FLOPS / 30 if quick else MOST_FLOPS
    return [case for case in dict.fromkeys(found) if case.flops() <= most]


def neighbours(cases: Sequence[Case]) -> list[tuple[Case, Case, str]]:
    """Pairs that differ in one size, at most by FAR, with none between them; the smaller first."""
    lines = defaultdict(list)
    for axis in AXES:
        for case in cases:
            same = {axis: 0, "input_size": 0} if axis == "hidden_size" else {axis: 0}
            lines[axis, replace(case, **same)].append(case)  # type: ignore[arg-type]
    pairs = []
    for (axis, _), line in lines.items():
        ordered = sorted(line, key=lambda case: int(getattr(case, axis)))
        pairs += [
            (a, b, axis) for a, b in pairwise(ordered) if getattr(b, axis) <= FAR * getattr(a, axis)
        ]
    return pairs


@dataclass(frozen=True)
class Jump:
    """Two neighbours, how much more an operation takes at the worse one, and what explains it.

    Attributes
    ----------
    ratio : float
        Time per operation at the larger over that at the smaller; if it is below 1, the smaller is
        worse.
    limit : float
        The same ratio of the machine's limits.
    """

    smaller: Case
    larger: Case
    axis: str
    ratio: float
    limit: float

    @property
    def reason(self) -> str:
        """The reason in the machine or in the call; "" if none is known."""
        excess = max(self.ratio, 1 / self.ratio)
        same = max(self.limit, 1 / self.limit) if (self.ratio > 1) == (self.limit > 1) else 1.0
        if excess / same <= JUMP:
            return "the machine's limit jumps too"
        if self.ratio < 1 and self.smaller.steps < 10 and self.axis == "steps":
            return "few steps: the fixed cost of a call"
        if self.ratio < 1 and self.smaller.flops() < SMALL:
            return "small: the fixed cost of a call or a step"
        if self.ratio < 1 and self.axis == "batch":
            return "more rows use each weight that is read"
        return ""


# With fewer operations than this the fixed cost of a call shows.
SMALL = 5e6


def jumps(cases: Sequence[Case], records: Found, machine: Machine) -> list[Jump]:
    """Every pair of neighbours farther apart than JUMP; the unexplained and the worst first."""
    found = []
    for a, b, axis in neighbours(cases):
        first, second = figure(a, records, "best"), figure(b, records, "best")
        if first is None or second is None:
            continue
        ratio = (second / b.flops()) / (first / a.flops())
        if max(ratio, 1 / ratio) > JUMP:
            limits = (limit(b, machine) / b.flops()) / (limit(a, machine) / a.flops())
            found.append(Jump(a, b, axis, ratio, limits))
    return sorted(found, key=lambda j: (bool(j.reason), -max(j.ratio, 1 / j.ratio)))


@dataclass(frozen=True)
class Loss:
    """A point where a rival is faster."""

    case: Case
    rival: str
    mine: float
    theirs: float


def losses(cases: Sequence[Case], records: Found) -> list[Loss]:
    """Every point where the best rival is faster, the worst first."""
    found = []
    for case in cases:
        mine = figure(case, records, "best", OURS)
        rivals = rivals_of(case.name, records)
        if mine is not None and rivals:
            name, theirs = next(iter(rivals.items()))
            if theirs < mine:
                found.append(Loss(case, name, mine, theirs))
    return sorted(found, key=lambda loss: loss.theirs / loss.mine)
