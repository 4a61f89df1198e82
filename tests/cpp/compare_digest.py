"""Compares what digest printed with golden.json: compare_digest.py FILE... ("-": standard input).

Every file must hold every case. Needs no installed package, so it judges any machine's output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "python" / "fusedrnn" / "golden.json"


def faults(lines: list[str], golden: dict[str, dict[str, str]]) -> list[str]:
    """What is missing, unknown or different among lines of `<case> <kind> <hash>`."""
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        case, kind, value = line.split()
        found[case, kind] = value
    expected = {
        (case, kind): value for case, kinds in golden.items() for kind, value in kinds.items()
    }
    wrong = [f"{case} {kind}: not printed" for case, kind in expected.keys() - found.keys()]
    wrong += [f"{case} {kind}: not in golden.json" for case, kind in found.keys() - expected.keys()]
    same = found.keys() & expected.keys()
    wrong += [
        f"{case} {kind}: other bits"
        for case, kind in same
        if found[case, kind] != expected[case, kind]
    ]
    return sorted(wrong)


def main(names: list[str]) -> int:
    if not names:
        print(__doc__, file=sys.stderr)
        return 2
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    bad = 0
    for name in names:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        wrong = faults(text.splitlines(), golden)
        bad += bool(wrong)
        for fault in wrong:
            print(f"{name}: {fault}")
        if not wrong:
            print(f"{name}: {len(golden)} cases, all bits as in golden.json")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
