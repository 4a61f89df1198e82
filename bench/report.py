"""The report: first the targets, then every row with its rivals, then the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench import grid
from bench.cases import GROUPS, Case
from bench.machine import Machine, bound, limit
from bench.measure import Results
from bench.rivals import OURS, RIVALS
from bench.targets import RIVALS_TOGETHER, TARGETS, Found, by_case, figure, verdict

VERDICTS = {True: "reached", False: "**missed**", None: "not measured"}
SHOWN = 40  # rows of the lists of the grid


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are right-aligned."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def us(seconds: float) -> str:
    """Microseconds with three digits or all before the point."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def targets(records: Found, here: Machine, cases: Sequence[Case]) -> str:
    """Target, what was reached, verdict; targets whose case did not run are only counted."""
    found = [verdict(target, records, here) for target in TARGETS]
    rows = [
        [v.target.regime, v.target.case.name, v.target.asks, v.reached, VERDICTS[v.passed]]
        for v in found
        if v.reached != "not measured"
    ]
    rows += grid_targets(records, here, cases)
    left = sum(v.reached == "not measured" for v in found)
    passed = sum(v.passed is True for v in found)
    judged = sum(v.passed is not None for v in found)
    note = f"\n\n{passed} of {judged} reached; {left} more were not measured in this run."
    return table(["regime", "case", "target", "reached", "verdict"], rows) + note


def grid_targets(records: Found, here: Machine, cases: Sequence[Case]) -> list[list[str]]:
    """The two rows of the first table that are about the grid."""
    if not cases:
        return []
    lost, total = grid.losses(cases, records), sum((c.name, OURS) in records for c in cases)
    jumps = [jump for jump in grid.jumps(cases, records, here) if not jump.reason]
    worst = f", at worst {lost[0].theirs / lost[0].mine:.2f}x {lost[0].rival}" if lost else ""
    pairs = len(grid.neighbours(cases))
    return [
        [
            *("dense grid", f"{total} points", f"never slower than the {RIVALS_TOGETHER}"),
            *(f"slower at {len(lost)}{worst}", VERDICTS[not lost]),
        ],
        [
            *("dense grid", f"{pairs} pairs", f"no jump above {grid.JUMP} without a reason"),
            *(f"{len(jumps)} without", VERDICTS[not jumps]),
        ],
    ]


def rows_table(cases: Sequence[Case], records: Found, here: Machine) -> str:
    """Each case: our time, the limit, and every rival with the ratio of its time to ours."""
    names = [of for of in RIVALS if of != OURS and any((c.name, of) in records for c in cases)]
    header = ["case", "limit us", "bound by", "ours us (median)", "of limit", *names]
    body = []
    for case in cases:
        best, median = (figure(case, records, q) for q in ("best", "median"))
        if best is None or median is None:
            continue
        least = limit(case, here)
        cells = [
            f"{us(t)} ({t / best:.2f}x)" if (t := figure(case, records, "best", of)) else ""
            for of in names
        ]
        line = [
            case.name,
            us(least),
            bound(case, here),
            f"{us(best)} ({us(median)})",
            f"{least / best:.0%}",
        ]
        body.append(line + cells)
    return table(header, body) if body else ""


def denormals_table(records: Found) -> str:
    """How many times as long a call takes if gradients vanish."""
    body = []
    for case in GROUPS["denormals"]:
        if case.data == "plain":
            continue
        for name in RIVALS:
            plain = figure(replace(case, data="plain"), records, "best", name)
            found = figure(case, records, "best", name)
            if plain and found:
                body.append([case.name, name, us(plain), us(found), f"{found / plain:.2f}x"])
    return table(["case", "of", "plain us", "us", "times longer"], body) if body else ""


def latency_table(records: Found) -> str:
    """Quantiles of single steps."""
    cuts = ("p50", "p99", "p999")
    body = [
        [case, of, *(us(record.figures[cut]) for cut in cuts)]
        for (case, of), record in records.items()
        if "p999" in record.figures
    ]
    return table(["stream", "of", "p50 us", "p99 us", "p99.9 us"], body) if body else ""


def memory_table(records: Found) -> str:
    """Floats that a training forward call keeps, for each unit, step and sample."""
    body = [
        [case, of, f"{record.figures['kept']:.2f}", f"{record.figures['peak']:.2f}"]
        for (case, of), record in records.items()
        if "kept" in record.figures
    ]
    header = ["training forward", "of", "kept beyond x and y", "with y, at the peak"]
    return table(header, body) if body else ""


def grid_lists(records: Found, here: Machine, cases: Sequence[Case]) -> str:
    """Every point where a rival is faster and every jump, the worst first."""
    lost, jumps = grid.losses(cases, records), grid.jumps(cases, records, here)
    parts = [f"{len(cases)} points, {len(grid.neighbours(cases))} pairs of neighbours."]
    if lost:
        body = [
            [f"{o.case.name}", us(o.mine), f"{us(o.theirs)} ({o.theirs / o.mine:.2f}x)", o.rival]
            for o in lost
        ]
        parts.append(f"### Where we lose: {len(lost)}")
        parts.append(table(["case", "ours us", "best rival us", "rival"], body))
    open_jumps = [jump for jump in jumps if not jump.reason]
    parts.append(f"### Jumps of time for an operation above {grid.JUMP}, no reason known")
    if open_jumps:
        parts.append(_jumps(open_jumps))
    parts.append("none" if not open_jumps else "")
    reasons: dict[str, list[grid.Jump]] = {}
    for jump in jumps:
        if jump.reason:
            reasons.setdefault(jump.reason, []).append(jump)
    for reason, same in reasons.items():
        parts.append(f"### Jumps with a reason: {reason} ({len(same)})")
        parts.append(_jumps(same[:SHOWN]))
        if len(same) > SHOWN:
            parts.append(f"and {len(same) - SHOWN} more, all in results.json's records")
    return "\n\n".join(part for part in parts if part)


def _jumps(jumps: Sequence[grid.Jump]) -> str:
    body = [
        [
            j.smaller.name,
            f"{j.axis} {getattr(j.smaller, j.axis)} to {getattr(j.larger, j.axis)}",
            f"{j.ratio:.2f}",
            f"{j.limit:.2f}",
        ]
        for j in jumps
    ]
    return table(["from", "step", "time for an operation", "the limit's"], body)


def refusals(results: Results) -> str:
    """Wrong results first, then which rival cannot do what, in short."""
    parts = []
    if results.wrong:
        parts.append("**Not timed, because the result differs from ours:**")
        parts.append("\n".join(f"- {name} on {case}: {why}" for case, name, why in results.wrong))
    reasons: dict[tuple[str, str], int] = {}
    for _, name, why in results.refused:
        reasons[name, why] = reasons.get((name, why), 0) + 1
    if reasons:
        lines = (f"- {name}: {why} ({count} cases)" for (name, why), count in reasons.items())
        parts.append("Cannot do:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def machine_table(here: Machine) -> str:
    """The versions of what ran, and the machine."""
    rows = [[name, value] for name, value in here.description.items()]
    rows += [[f"FMA peak, {name}", f"{rate:.0f} GFLOP/s"] for name, rate in here.peak.items()]
    rows += [
        [f"sigmoid, tanh, {name}", f"{sigmoid:.3f}, {tanh:.3f} ns"]
        for name, (sigmoid, tanh) in here.activations.items()
    ]
    rows += [
        [f"read bandwidth, {name}", f"{rate:.0f} GB/s"]
        for name, (_, rate) in here.bandwidth.items()
    ]
    for name, versions in here.versions.items():
        rows.append([name, ", ".join(f"{key} {value}" for key, value in versions.items())])
    return table(["machine (one thread)", ""], rows)


def markdown(
    results: Results, here: Machine, dense: Sequence[Case], about: Mapping[str, Any]
) -> str:
    """The whole report."""
    records = by_case(results.records)
    quick = "; a quick run: only shows that all works" if about.get("quick") else ""
    parts = [f"# Benchmarks\n\n{about.get('date')}, commit {about.get('commit')}{quick}."]
    if here.warnings:
        why = "; ".join(here.warnings)
        parts.append(f"**The machine was busy; times are upper bounds:** {why}")
    parts.append("## Targets\n\n" + targets(records, here, dense))
    parts.append(
        "## Rows\n\nBest of all rounds, microseconds for a whole call; in brackets the median of "
        "ours, and how many times longer a rival takes."
    )
    for name, cases in GROUPS.items():
        text = rows_table(cases, records, here)
        if text:
            parts.append(f"### {name}\n\n{text}")
    sections = {
        "Denormal numbers": denormals_table(records),
        "Latency of single steps": latency_table(records),
        "Memory": memory_table(records),
        "Grid": grid_lists(records, here, dense) if dense else "",
        "Refused": refusals(results),
        "Machine": machine_table(here),
    }
    parts += [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"
