"""The machine's limits, measured in the same run as the figures that stand beside them."""

from __future__ import annotations

import os
import warnings

import pytest

import fusedrnn as fr


@pytest.fixture(scope="session", autouse=True)
def idle_machine() -> None:
    """Say so where the figures will be noise: something else is running."""
    load = os.getloadavg()[0]
    if load > 0.5:
        warnings.warn(
            f"the machine is busy (load {load:.1f}): times are upper bounds", stacklevel=1
        )


@pytest.fixture(scope="session")
def peaks() -> dict[str, float]:
    """float32 FMA peak of one thread in GFLOP/s, per instruction set."""
    from fusedrnn import _core

    return {isa: _core.peak_gflops(isa, False) for isa in fr.supported_isas()}
