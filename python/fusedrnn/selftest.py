"""Native kernels against the reference, and against hashes of their results elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import runtime
from ._backends import choice
from ._cells import Array
from ._golden import CASES, digests, load_hashes, results

__all__ = ["BOUNDS", "EXEMPT", "Report", "selftest"]

# Largest error against the reference in float64, as a share of the largest absolute value of the
# same array, or of 1 if that is smaller: about 20 times the largest error of the cases.
BOUNDS = {"float32": 1e-5, "float64": 2e-14}

# No fma: results are compared within BOUNDS only (docs/conventions.md, N2.1).
EXEMPT = ("baseline",)


@dataclass
class Report:
    """The results of one instruction set.

    Attributes
    ----------
    isa : str
        Its name.
    cases, hashed : int
        Cases run, and cases whose hashes were compared.
    worst : dict of str to float
        The largest error in the measure of `BOUNDS`, by dtype.
    faults : list of str
        One line for each case that failed.

    Examples
    --------
    >>> from fusedrnn.selftest import Report
    >>> report = Report("avx2", cases=3, worst={"float32": 2e-7})
    >>> print(report)
    avx2      3 cases; no golden hashes in this installation
              largest error float32 2.0e-07 (bound 1e-05)
    >>> report.passed
    True
    """

    isa: str
    cases: int = 0
    hashed: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.faults

    def __str__(self) -> str:
        if self.hashed:
            hashes = f"{self.hashed} compared with golden hashes"
        elif self.isa in EXEMPT:
            hashes = "no golden hashes without fma"
        else:
            hashes = "no golden hashes in this installation"
        lines = [f"{self.isa:<10}{self.cases} cases; {hashes}"]
        lines += [
            f"{'':<10}largest error {dtype} {error:.1e} (bound {BOUNDS[dtype]:.0e})"
            for dtype, error in self.worst.items()
        ]
        return "\n".join([*lines, *(f"  FAILED {fault}" for fault in self.faults)])

    def facts(self) -> dict[str, Any]:
        """Return the same facts for programs, as JSON can hold them."""
        return {
            "isa": self.isa,
            "passed": self.passed,
            "cases": self.cases,
            "hashed": self.hashed,
            "largest_error": dict(self.worst),
            "bounds": {dtype: BOUNDS[dtype] for dtype in self.worst},
            "faults": list(self.faults),
        }


def selftest() -> Iterator[Report]:
    """Run every case of `fusedrnn._golden`, forward and backward, on every instruction set.

    Yields
    ------
    Report
        One for each of `fusedrnn.supported_isas`, best first; none without compiled kernels.

    Examples
    --------
    >>> from fusedrnn.selftest import selftest
    >>> for report in selftest():
    ...     assert report.passed, report
    """
    native = choice.native()
    if native is None:
        return
    reference = choice.reference()
    oracles = {case.name: results(case, reference, dtype="float64") for case in CASES}
    hashes = load_hashes()
    for isa in runtime.supported_isas():
        report = Report(isa)
        with runtime.use_isa(isa):
            for case in CASES:
                found = results(case, native)
                path = runtime.last_path()
                if (path.backend, path.isa) != ("native", isa):
                    report.faults.append(f"{case.name}: ran on {path.backend} {path.isa}")
                _compare(report, case.name, case.dtype, found, oracles[case.name])
                if isa not in EXEMPT and case.name in hashes:
                    report.hashed += 1
                    if digests(found) != hashes[case.name]:
                        report.faults.append(f"{case.name}: other bits than the golden hashes")
                report.cases += 1
        yield report


def _compare(
    report: Report,
    name: str,
    dtype: str,
    found: Mapping[str, Array],
    oracle: Mapping[str, Array],
) -> None:
    if found.keys() != oracle.keys():
        report.faults.append(f"{name}: gave {sorted(found)}, expected {sorted(oracle)}")
        return
    for part, right in oracle.items():
        if found[part].shape != right.shape:
            report.faults.append(f"{name}: {part} has shape {found[part].shape}")
            continue
        scale = max(1.0, float(np.abs(right).max(initial=0.0)))
        # A NaN anywhere makes this NaN, which is within no bound.
        error = float(np.abs(found[part].astype(np.float64) - right).max(initial=0.0)) / scale
        report.worst[dtype] = max(report.worst.get(dtype, 0.0), error)
        if not error <= BOUNDS[dtype]:
            report.faults.append(f"{name}: {part} is off by {error:.1e}")


if __name__ == "__main__":  # python -m fusedrnn.selftest
    import sys

    from fusedrnn.cli import main

    sys.exit(main(["selftest", *sys.argv[1:]]))
