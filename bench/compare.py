"""python bench/compare.py BASE HEAD: times two commits on the same work, in turns.

Builds both in temporary worktrees, times the chosen cases round by round, and prints how many times
faster HEAD is, with a bootstrap interval. A change that claims speed shows this table. A folder
that holds an importable fusedrnn may be given in place of a commit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # a script's own folder is on the path, not the one above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from bench.cases import GROUPS, Case, select
from bench.machine import busy, spin_shares
from bench.measure import FailedError, Process, Results, alternate, ready
from bench.report import table, us
from bench.rivals import OURS
from bench.team import say

ROOT = Path(__file__).resolve().parent.parent
CASES = ("step", "one sequence", "batch", "training", "training, small")
DRAWS = 10_000
CONFIDENCE = 0.95


def interval(base: Sequence[float], head: Sequence[float]) -> tuple[float, float, float]:
    """How many times faster head is: the median ratio of the rounds, and its bootstrap interval.

    The two times of a round were taken one after the other, so whatever slowed the round slowed
    both. Rounds are drawn as pairs, with replacement.

    Parameters
    ----------
    base, head : sequence of float
        Best time of each round, in order.

    Returns
    -------
    ratio, low, high : float
    """
    ratios = np.asarray(base) / np.asarray(head)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (DRAWS, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return float(np.median(ratios)), float(low), float(high)


def word(low: float, high: float) -> str:
    """A word for what the interval says."""
    return "faster" if low > 1 else "slower" if high < 1 else "no difference seen"


def run(*command: str | Path, where: Path = ROOT) -> None:
    """Run a command; if it fails, show its output and exit."""
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def package(revision: str, work: Path) -> Iterator[Path]:
    """The folder to import the revision's fusedrnn from; it is built in a temporary worktree."""
    if (Path(revision) / "fusedrnn").is_dir():
        yield Path(revision).resolve()
        return
    tree, out = work / "tree", work / "package"
    run("git", "worktree", "add", "--detach", tree, revision)
    try:
        say(f"building {revision}")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
        os.environ.setdefault("FUSEDRNN_BUILD", "native")
        run(*pip, "--target", out, ".", where=tree)
        yield out
    finally:
        run("git", "worktree", "remove", "--force", tree)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/compare.py", description=__doc__)
    add = parser.add_argument
    add("base", help="commit, or folder with fusedrnn in it")
    add("head", help="the same, for what claims to be faster")
    add(
        "--case",
        action="append",
        metavar="TEXT",
        help=f"a group ({', '.join(GROUPS)}) or a part of cases' names; may be repeated "
        f"(default: {', '.join(CASES)})",
    )
    add("--rounds", type=int, default=15, help="(default: 15)")
    add("--seconds", type=float, default=0.1, help="of each round (default: 0.1)")
    add("--threads", type=int, help="run all cases with so many threads")
    add("--isa", help="instruction set (default: the best)")
    return parser.parse_args(argv)


def chosen(texts: Sequence[str], threads: int | None) -> list[Case]:
    """The cases of the chosen groups and names."""
    found = [case for case in select(texts) if not case.neighbour]
    return list(dict.fromkeys(replace(case, threads=threads or case.threads) for case in found))


def compare(
    folders: Mapping[str, Path], cases: Sequence[Case], isa: str | None, rounds: int, seconds: float
) -> list[list[str]]:
    """Yields a row of the table for each case."""
    rows = []
    for threads in sorted({case.threads for case in cases}):
        processes: dict[str, Process] = {}
        try:
            for name, folder in folders.items():
                environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(folder)))}
                environment |= {"FUSEDRNN_ISA": isa} if isa else {}
                processes[name] = Process(OURS, threads, environment)
            rows += [
                row(case, processes, rounds, seconds) for case in cases if case.threads == threads
            ]
        finally:
            for process in processes.values():
                process.close()
    return rows


def row(case: Case, processes: Mapping[str, Process], rounds: int, seconds: float) -> list[str]:
    """Time one case on both revisions."""
    results = Results()
    able = ready(case, processes, results)
    times = alternate(case, able, results, rounds, ("timed", seconds, 10**6))
    if len(times) < 2:
        problem = [*results.wrong, *results.refused][0]
        return [case.name, "", "", "", "", f"{problem[1]}: {problem[2]}"]
    base, head = ([min(each) for each in found] for found in times.values())
    ratio, low, high = interval(base, head)
    say(f"{case.name}: {ratio:.3f}")
    return [
        case.name,
        us(min(base)),
        us(min(head)),
        f"{ratio:.3f}",
        f"{low:.3f} to {high:.3f}",
        word(low, high),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Build, time and print."""
    options = parse(argv)
    cases = chosen(options.case or CASES, options.threads)
    if not cases:
        raise SystemExit(f"no case has that in its name; groups: {', '.join(GROUPS)}")
    with tempfile.TemporaryDirectory() as work:
        base, head = Path(work, "base"), Path(work, "head")
        with package(options.base, base) as one, package(options.head, head) as other:
            for text in busy(0.0, spin_shares()):
                say(f"WARNING: {text}; intervals will be wide")
            try:
                rows = compare(
                    {"base": one, "head": other},
                    cases,
                    options.isa,
                    options.rounds,
                    options.seconds,
                )
            except FailedError as error:
                raise SystemExit(str(error)) from None
    header = ["case", f"{options.base} us", f"{options.head} us", "times faster", "95 %", ""]
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
