"""python bench/run.py: times fusedrnn and every installed rival on the same work; writes a report.

Every rival has a process of its own, and the processes take turns. A rival whose results differ
from ours is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script's own folder is on the path, not the one above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from bench import grid, machine, plots, report
from bench.cases import GATES, GROUPS, LATENCY, MEMORY, Case, select
from bench.machine import Machine
from bench.measure import Record, Results, alternate, neighbour, ready, record
from bench.rivals import OURS, RIVALS, missing
from bench.team import Team, say

SECTIONS = (*GROUPS, "memory", "latency", "grid")
OUT = "bench-results"
QUICK_FLOPS = 4e9


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, seconds of each, single steps, calls beside a busy neighbour."""

    rounds: int = 5
    seconds: float = 0.2
    grid_rounds: int = 2
    grid_seconds: float = 0.03
    latency: int = 100_000
    calls: int = 100


QUICK = Effort(rounds=2, seconds=0.02, grid_rounds=1, grid_seconds=0.005, latency=2_000, calls=6)


@dataclass(frozen=True)
class Plan:
    """The cases of each section."""

    rows: Sequence[Case]
    memory: Sequence[Case] = ()
    latency: Sequence[Case] = ()
    grid: Sequence[Case] = ()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    add = parser.add_argument
    add("--cell", action="append", choices=GATES, help="only this cell; may be repeated")
    add(
        "--case",
        action="append",
        metavar="TEXT",
        help=f"a section ({', '.join(SECTIONS)}) or a part of cases' names; may be repeated",
    )
    add("--threads", type=int, metavar="N", help="run all cases with so many threads")
    add("--isa", help="our instruction set (default: the best)")
    add("--dtype", choices=("float32", "float64"), help="run all cases in this type")
    add("--rivals", metavar="A,B", help=f"of {', '.join(RIVALS)} (default: all installed)")
    add("--quick", action="store_true", help="a sample, briefly: to see that all works")
    add("--out", default=OUT, metavar="DIR", help=f"where the report goes (default: {OUT})")
    return parser.parse_args(argv)


def plan_of(options: argparse.Namespace) -> Plan:
    """The cases that the options choose."""
    texts = options.case or list(SECTIONS)

    def wanted(cases: Iterable[Case]) -> list[Case]:
        found = [
            replace(
                case, dtype=options.dtype or case.dtype, threads=options.threads or case.threads
            )
            for case in cases
            if not options.cell or case.cell in options.cell
        ]
        return list(dict.fromkeys(found))

    rows = [case for case in select(texts) if not options.quick or case.flops() <= QUICK_FLOPS]
    return Plan(
        wanted(rows),
        wanted(MEMORY) if "memory" in texts else [],
        wanted(LATENCY) if "latency" in texts else [],
        wanted(grid.points(options.quick)) if "grid" in texts else [],
    )


def rivals_of(options: argparse.Namespace) -> list[str]:
    """Our name first, then the rivals that were asked for or are installed."""
    wanted = options.rivals.split(",") if options.rivals else list(RIVALS)
    unknown = sorted(set(wanted) - set(RIVALS))
    if unknown:
        raise SystemExit(f"no rival is called {', '.join(unknown)}; there are {', '.join(RIVALS)}")
    found = [OURS]
    for name in wanted:
        lacking = missing(name)
        if lacking:
            say(f"{name}: not measured, {' and '.join(lacking)} not installed")
        elif name != OURS:
            found.append(name)
    return found


def time_case(case: Case, team: Team, results: Results, effort: Effort, names: Any = None) -> None:
    """Time one case with all that can do it."""
    how = "timed", effort.seconds, 10**6
    if case.neighbour:  # the median of many calls, fewer if they take very long
        names, how = (OURS, "torch"), ("timed", 25 * effort.seconds, effort.calls // effort.rounds)
    able = ready(case, team.of(case.threads, names), results)
    with neighbour(case.neighbour):
        found = alternate(case, able, results, effort.rounds, how)
    results.records += [record(case, name, times) for name, times in found.items()]


def time_steps(case: Case, team: Team, results: Results, effort: Effort) -> None:
    """Time every single step of a stream."""
    able = ready(case, team.of(case.threads), results)
    each = ("each", effort.latency // 10)
    found = alternate(case, able, results, 10, each)
    results.records += [record(case, name, times, single=True) for name, times in found.items()]


def weigh(case: Case, team: Team, results: Results) -> None:
    """Measure what a training forward call keeps, in a process that has done nothing else."""
    unit = np.dtype(case.dtype).itemsize * case.steps * case.batch * case.hidden_size
    for name in (OURS, "torch"):
        if name in team.names:
            with closing(team.fresh(name, case.threads)) as process:
                found = process.ask("kept", case, case.weights())
            figures = {key: value / unit for key, value in found.items()}
            results.records.append(Record(case.name, name, figures))


def look_at_machine(team: Team) -> Machine:
    """What the machine is and can do, measured by our kernels on the core that will be timed."""
    warnings = machine.busy(os.getloadavg()[0], machine.spin_shares())
    for text in warnings:
        say(f"WARNING: {text}; times are upper bounds")
    sizes = machine.probe_sizes()
    probed = team.of(1)[OURS].ask("probe", sizes)
    return Machine(
        machine.describe(),
        probed["peak"],
        {name: (machine.caches().get(name, 0), gb) for name, gb in probed["bandwidth"].items()},
        probed["activations"],
        warnings,
        {name: process.ask("versions") for name, process in team.of(1).items()},
    )


def measure(plan: Plan, team: Team, effort: Effort) -> Results:
    """Measure all sections of the plan."""
    results = Results()
    brief = replace(effort, rounds=effort.grid_rounds, seconds=effort.grid_seconds)
    dense, fresh = (OURS, *grid.RIVALS), [case for case in plan.grid if case not in plan.rows]
    work: list[tuple[str, Case, Any]] = [
        *(("", case, lambda c: time_case(c, team, results, effort)) for case in plan.rows),
        *(("latency of ", c, lambda c: time_steps(c, team, results, effort)) for c in plan.latency),
        *(("memory of ", case, lambda c: weigh(c, team, results)) for case in plan.memory),
        *(("", case, lambda c: time_case(c, team, results, brief, dense)) for case in fresh),
    ]
    try:
        for line in carry_out(work, results):
            say(line)
    except KeyboardInterrupt:
        say("interrupted: the report has what was measured until now")
    return results


def carry_out(work: Sequence[tuple[str, Case, Any]], results: Results) -> Iterator[str]:
    """Do one thing after the other, and yield a line about each."""
    began = time.monotonic()
    for number, (what, case, run) in enumerate(work, 1):
        run(case)
        latest = ", ".join(
            f"{one.of} {one.figures['best'] * 1e6:,.1f} us"
            for one in results.records
            if one.case == case.name and "best" in one.figures
        )
        left = (time.monotonic() - began) / number * (len(work) - number) / 60
        yield f"[{number}/{len(work)}, {left:.0f} min left] {what}{case.name}: {latest}"


def commit() -> str:
    """The commit that is checked out."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).resolve().parent
    )
    return found.stdout.strip() or "unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print; returns 1 if a result was wrong."""
    options = parse(argv)
    names, plan = rivals_of(options), plan_of(options)
    if not any((plan.rows, plan.memory, plan.latency, plan.grid)):
        raise SystemExit(f"no case has that in its name; sections: {', '.join(SECTIONS)}")
    with ExitStack() as stack:
        team = Team(names, options.isa, stack)
        if OURS not in team.of(1):
            raise SystemExit(team.failed[OURS])
        here = look_at_machine(team)
        results = measure(plan, team, QUICK if options.quick else Effort())
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    about = {"commit": commit(), "date": time.strftime("%Y-%m-%d %H:%M"), "quick": options.quick}
    whole = {**about, "machine": asdict(here), **asdict(results)}
    (out / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
    text = report.markdown(results, here, plan.grid, about)
    (out / "report.md").write_text(text)
    drawn = plots.draw(results, here, out)
    say(f"wrote {out}/results.json, report.md{drawn}")
    print(text, end="")
    for case, name, why in results.wrong:
        say(f"WRONG: {name} on {case}: {why}")
    return 1 if results.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
