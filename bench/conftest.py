"""The machine's limits, measured in the same run as the times."""

from __future__ import annotations

import os

import pytest

import fusedrnn as fr
from bench.machine import busy


def pytest_report_header() -> list[str]:
    """Say so if the machine is busy. It is not a warning, because warnings are errors here."""
    return [f"BUSY: {text}; times are upper bounds" for text in busy(os.getloadavg()[0], {})]


@pytest.fixture(scope="session")
def peaks() -> dict[str, float]:
    """The float32 FMA peak of one thread in GFLOP/s, for each instruction set."""
    from fusedrnn import _core

    return {isa: _core.peak_gflops(isa, False) for isa in fr.supported_isas()}
