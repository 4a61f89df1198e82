"""python bench/instructions.py: instructions of the kernels on fixed shapes, counted by callgrind.

The kernels are told of caches of one size (L2 1 MB, L3 32 MB), because these decide which way a
call takes. Counts do not depend on how busy the machine is, so a count of more than 2 % above that
in instructions.json can fail a check; times cannot. Valgrind does not know AVX-512, so the kernels
are those of avx2, on one thread. Counts hold for one compiler; with another one they are shown and
not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script's own folder is on the path, not the one above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.cases import Case

HERE = Path(__file__).resolve().parent
COUNTS = HERE / "instructions.json"
ISA = "avx2"
ALLOWED = 0.02
# The first call packs the weights; this many operations follow, so that packing hardly counts.
FLOPS = 2e7
CALLS = (3, 300)
# Stands for the number of a case: only loads the module. Its count is subtracted from every other.
LOADING = -1

CASES = (
    Case("LSTM", "step", 1, 1, 64, 64),
    Case("LSTM", "forward", 20, 1, 64, 64),
    Case("GRU", "forward", 20, 1, 100, 100),
    Case("RNN", "forward", 20, 1, 128, 128),
    Case("LSTM", "forward", 10, 7, 50, 50),
    Case("LSTM", "forward", 5, 32, 128, 128),
    Case("GRU reset before", "forward", 5, 16, 64, 64),
    Case("LSTM peepholes", "forward", 5, 16, 64, 64),
    Case("LSTM", "forward", 10, 16, 64, 64, data="lengths"),
    Case("GRU", "forward", 5, 8, 64, 64, dtype="float64"),
    Case("LSTM", "training", 10, 16, 64, 64),
    Case("GRU", "training", 10, 16, 1, 50),
    Case("RNN", "training", 10, 16, 64, 64),
)


def work(number: int) -> None:
    """What callgrind watches: one case on one thread."""
    from bench.rivals import ours
    from fusedrnn import _core

    _core.use_caches(1 << 20, 32 << 20)
    if number == LOADING:
        ours.versions()
        return
    case = CASES[number]
    prepared = ours.prepare(case, case.weights())
    fewest, most = CALLS
    for _ in range(min(most, max(fewest, int(FLOPS / case.flops())))):
        prepared.call()


def kernel_instructions(text: str) -> int:
    """The instructions executed in the compiled module itself, read from a callgrind file.

    A name is written once and then referred to by number. The line after `calls=` has the cost of
    the callee, which is not the function's own.
    """
    names: dict[str, str] = {}
    inside, skip, total = False, False, 0
    for line in text.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            names.setdefault(number, name)
            inside = "/_core" in names[number]
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            skip = True
        elif re.match(r"[+\-*\d]", line):
            if inside and not skip:
                total += int(line.split()[1])
            skip = False
    return total


def count(number: int) -> int:
    """Run one case under callgrind; returns the instructions of the kernels."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        chosen = {"FUSEDRNN_ISA": ISA, "FUSEDRNN_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        command += [sys.executable, str(HERE / "instructions.py"), "--work", str(number)]
        done = subprocess.run(command, env={**os.environ, **chosen}, capture_output=True, text=True)
        if done.returncode:
            name = "loading" if number == LOADING else CASES[number].name
            raise SystemExit(f"{name} failed under valgrind:\n{done.stderr[-2000:]}")
        return kernel_instructions(out.read_text())


def compiler() -> str:
    """The compiler that the counts belong to."""
    import fusedrnn as fr

    config = fr.build_config()
    return f"{config.get('compiler')} {str(config.get('compiler_version')).split('.')[0]}"


def judge(
    old: Mapping[str, int], new: Mapping[str, int], allowed: float = ALLOWED
) -> tuple[list[str], list[str]]:
    """A line for each case, and the names of cases that need more or have no count yet."""
    lines, worse = [], []
    for name, found in new.items():
        before = old.get(name)
        if before is None:
            lines.append(f"{found:>12,}            {name}  not in {COUNTS.name}")
            worse.append(name)
            continue
        change = found / before - 1
        lines.append(f"{found:>12,}  {change:+8.2%}  {name}")
        if found - before > allowed * before:
            worse.append(name)
    return lines, worse


def main(argv: Sequence[str] | None = None) -> int:
    """Count and compare; returns 1 if a case needs more than 2 % more."""
    parser = argparse.ArgumentParser(prog="bench/instructions.py", description=__doc__)
    parser.add_argument("--update", action="store_true", help=f"write {COUNTS.name} anew")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases side by side")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work is not None:
        work(options.work)
        return 0
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (apt-get install valgrind)")
    with ThreadPoolExecutor(options.jobs) as pool:
        loading, *counts = pool.map(count, (LOADING, *range(len(CASES))))
    new = {case.name: found - loading for case, found in zip(CASES, counts, strict=True)}
    here = compiler()
    if options.update:
        whole = {"compiler": here, "isa": ISA, "counts": new}
        COUNTS.write_text(json.dumps(whole, indent=1) + "\n")
    known: dict[str, Any] = json.loads(COUNTS.read_text())
    lines, worse = judge(known["counts"], new)
    print("\n".join(lines))
    if known["compiler"] != here:
        print(f"not judged: {COUNTS.name} is of {known['compiler']}, this build of {here}")
        return 0
    if worse:
        print(f"more than {ALLOWED:.0%} above {COUNTS.name}: {'; '.join(worse)}")
        print("if that is meant: python bench/instructions.py --update, and why in the commit")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
