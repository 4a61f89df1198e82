"""Writes python/fusedrnn/golden.json: run it where a change of the bits is meant, and say why.

The cases themselves go to golden_cases.txt, for programs without Python (tests/cpp/digest.cpp).
Every instruction set of this machine that has fma must agree; two at least, unless --alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

import fusedrnn as fr
from fusedrnn import _golden
from fusedrnn._backends.choice import current
from fusedrnn._cells import Array
from fusedrnn.selftest import EXEMPT

TARGET = Path(__file__).resolve().parents[2] / "python" / "fusedrnn" / "golden.json"
CASE_LIST = Path(__file__).resolve().parent / "golden_cases.txt"


def case_list() -> str:
    """A line for each case, its fields in order; flags as 0 and 1."""
    lines = ["# Written by make_golden.py from fusedrnn._golden.CASES"]
    lines.append("# " + " ".join(field.name for field in fields(_golden.Case)))
    for case in _golden.CASES:
        row = (getattr(case, field.name) for field in fields(case))
        lines.append(" ".join(str(int(v) if isinstance(v, bool) else v) for v in row))
    return "\n".join(lines) + "\n"


def near_underflow(found: dict[str, Array]) -> bool:
    """Whether a result is so small that aarch64, which flushes before rounding, may give 0."""
    for array in found.values():
        info = np.finfo(array.dtype)
        size = np.abs(array)
        if np.any((size > 0) & (size <= info.tiny * (1 + info.eps))):
            return True
    return False


def run_all() -> dict[str, dict[str, str]]:
    hashes = {}
    for case in _golden.CASES:
        found = _golden.results(case, current())
        if near_underflow(found):
            raise ValueError(f"{case.name}: a result beside the smallest normal number")
        hashes[case.name] = _golden.digests(found)
    return hashes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", action="store_true", help="accept a single instruction set")
    alone = parser.parse_args().alone
    isas = [isa for isa in fr.supported_isas() if isa not in EXEMPT]
    if not isas or (len(isas) < 2 and not alone):
        print(f"instruction sets with fma here: {isas}; two are needed", file=sys.stderr)
        return 1
    golden: dict[str, dict[str, str]] = {}
    with fr.use_backend("native"):
        for isa in isas:
            with fr.use_isa(isa):
                found = run_all()
            apart = [name for name in golden if golden[name] != found[name]]
            if apart:
                print(f"{isas[0]} and {isa} disagree: {apart}", file=sys.stderr)
                return 1
            golden = golden or found
    old = _golden.load_hashes()
    changed = [name for name in golden if old.get(name) != golden[name]]
    TARGET.write_text(json.dumps(golden, indent=1) + "\n")
    CASE_LIST.write_text(case_list())
    print(f"{len(golden)} cases on {', '.join(isas)}; {len(changed)} changed or new: {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
