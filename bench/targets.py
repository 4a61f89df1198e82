"""The targets of the project as data beside the cases, and the verdict on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.cases import GROUPS, LATENCY, LONG, MEMORY, NEIGHBOURS, PADDED, PAIR, STEPS, TINY, Case
from bench.machine import Machine, limit
from bench.measure import Record
from bench.rivals import OURS

RIVALS_TOGETHER = "best rival"
NOT_RIVALS = (OURS, "reference", "onnx")


@dataclass(frozen=True)
class Target:
    """What a case is to reach.

    Attributes
    ----------
    unit : {"times", "us", "floats"}
        "times": how many times faster than `than`, at least. The others: at most this much.
    than : str or Case
        The best rival, one rival by name, or our own run of another case. With "us", a case whose
        time for each step is subtracted.
    fraction : float, optional
        A fraction of the machine's limit that is enough too, if the ratio asks for more than the
        machine can do.
    """

    regime: str
    case: Case
    wanted: float
    unit: str = "times"
    than: str | Case = RIVALS_TOGETHER
    fraction: float | None = None
    quantity: str = "best"

    @property
    def asks(self) -> str:
        """The target in words."""
        if self.unit == "us":
            beyond = " beyond the kernel" if isinstance(self.than, Case) else ""
            return f"at most {self.wanted:g} us{beyond}"
        if self.unit == "floats":
            return f"at most {self.wanted:g} floats a unit, step and sample"
        than = f"our own {self.than.name}" if isinstance(self.than, Case) else self.than
        which = "" if self.quantity == "best" else f" ({self.quantity})"
        text = f"{self.wanted:g}x {than}{which}"
        return text if self.fraction is None else f"{text}, or {self.fraction:.0%} of the limit"


@dataclass(frozen=True)
class Verdict:
    """What became of a target; `passed` is None if something was not measured."""

    target: Target
    reached: str
    passed: bool | None


def _targets() -> tuple[Target, ...]:
    found = [
        Target("one step", STEPS[0], 4, fraction=0.85),
        Target("one step", STEPS[2], 2.5, fraction=0.85),
        *(
            Target("one step", step, 1, "us", LONG[step.hidden_size])
            for step in (STEPS[0], STEPS[2])
        ),
        Target("one step", TINY, 5, "us"),
        *(Target("one step", case, 1, quantity="p999") for case in LATENCY),
    ]
    found += [Target("one sequence", c, 1.5, fraction=0.85) for c in GROUPS["one sequence"]]
    found += [Target("batch", c, 1.2, fraction=0.85) for c in GROUPS["batch"]]
    large, small = {"LSTM": 1.5, "GRU": 2.0, "RNN": 2.0}, {"LSTM": 3.0, "GRU": 5.0, "RNN": 5.0}
    for case in GROUPS["training"]:
        found.append(Target("training", case, large[case.cell], than="torch", fraction=0.75))
    for case in GROUPS["training, small"]:
        found.append(Target("training, small", case, small[case.cell], than="torch", fraction=0.75))
    for padded in PADDED:
        case = replace(padded, data="lengths")
        found.append(Target("lengths, 45 % padding", case, 1.5, than=padded))
        found.append(Target("lengths, 45 % padding", case, 5, than="torch"))
    found += [
        Target("two threads, free cores", replace(case, threads=2), 1.7, than=case)
        for case in (PAIR, NEIGHBOURS[1])
    ]
    for case in NEIGHBOURS:
        other = replace(case, threads=2, neighbour=True)
        found.append(Target("two threads, one core busy", other, 0.8, than=case, quantity="median"))
    found += [Target("memory for BPTT", c, 5, "floats") for c in MEMORY if c.cell == "LSTM"]
    return tuple(found)


TARGETS = _targets()

Found = Mapping[tuple[str, str], Record]


def by_case(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """Records by case and implementation; the figures of several records of a pair are merged."""
    found: dict[tuple[str, str], Record] = {}
    for one in records:
        key = one.case, one.of
        old = found.get(key)
        found[key] = one if old is None else replace(old, figures={**one.figures, **old.figures})
    return found


def rivals_of(case: str, records: Found, quantity: str = "best") -> dict[str, float]:
    """The figures of all rivals on a case, the smallest first."""
    found = {
        of: record.figures[quantity]
        for (name, of), record in records.items()
        if name == case and of not in NOT_RIVALS and quantity in record.figures
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def figure(case: Case, records: Found, quantity: str, of: str = OURS) -> float | None:
    """One figure, or None if it was not measured."""
    found = records.get((case.name, of))
    return None if found is None else found.figures.get(quantity)


def verdict(target: Target, records: Found, machine: Machine) -> Verdict:
    """What was reached, and whether it is enough."""
    mine = figure(target.case, records, target.quantity if target.unit != "floats" else "kept")
    if mine is None:
        return Verdict(target, "not measured", None)
    judge = {"times": _times, "us": _microseconds, "floats": _floats}[target.unit]
    return judge(target, mine, records, machine)


def _times(target: Target, mine: float, records: Found, machine: Machine) -> Verdict:
    reached, ratio = [], None
    if isinstance(target.than, Case):
        theirs, name = figure(target.than, records, target.quantity), "our own"
    else:
        others = rivals_of(target.case.name, records, target.quantity)
        if target.than != RIVALS_TOGETHER:
            others = {n: t for n, t in others.items() if n == target.than}
        name, theirs = next(iter(others.items()), ("", None))
    if theirs is not None:
        ratio = theirs / mine
        reached.append(f"{ratio:.2f}x {name} ({_us(mine)} and {_us(theirs)} us)")
    share = None
    if target.fraction is not None:
        share = limit(target.case, machine) / mine
        reached.append(f"{share:.0%} of the limit")
    enough = ratio is not None and ratio >= target.wanted
    enough = enough or (share is not None and share >= (target.fraction or 1.0))
    unknown = ratio is None and not enough
    return Verdict(target, ", ".join(reached) or "no rival", None if unknown else enough)


def _microseconds(target: Target, mine: float, records: Found, machine: Machine) -> Verdict:
    text = f"{_us(mine)} us"
    if isinstance(target.than, Case):
        call = figure(target.than, records, target.quantity)
        if call is None:
            return Verdict(target, "not measured", None)
        kernel = call / target.than.steps
        mine -= kernel
        text = f"{mine * 1e6:.2f} us beyond {_us(kernel)}"
    return Verdict(target, text, mine * 1e6 <= target.wanted)


def _floats(target: Target, mine: float, records: Found, machine: Machine) -> Verdict:
    torch = figure(target.case, records, "kept", "torch")
    beside = "" if torch is None else f" (torch {torch:.1f})"
    return Verdict(target, f"{mine:.1f}{beside}", mine <= target.wanted)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"
