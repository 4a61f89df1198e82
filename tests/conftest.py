"""Fixtures that run a test on every backend and instruction set of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings

import fusedrnn as fr
from floor import Backend

ISAS = fr.supported_isas()
FMA_ISAS = tuple(isa for isa in ISAS if isa != "baseline")
THREADS = bool(fr.build_config().get("openmp"))  # without OpenMP every call is serial
PATHS = [("reference", "numpy"), *(("native", isa) for isa in ISAS or ("none",))]

# A shell makes its background jobs ignore Ctrl-C, and the processes that the tests start would
# inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis draws the same examples every time, so that a failure is due to the change under test.
# tests/nightly.sh draws new ones.
settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=2000, deadline=None, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@dataclass(frozen=True)
class Chosen:
    """The backend and instruction set in force."""

    name: str
    isa: str
    run: Backend

    @property
    def fma(self) -> bool:
        """Whether the rounding order of docs/conventions.md holds to the bit."""
        return self.name == "native" and self.isa != "baseline"

    def ran(self, kernel: str, threads: int | None = None) -> None:
        """Assert that the last call ran this backend's `kernel`, "<cell> <dtype>"."""
        path = fr.last_path()
        assert (path.backend, path.isa, path.kernel) == (self.name, self.isa, kernel)
        assert path.threads >= 1
        if threads is not None:
            assert path.threads == (threads if self.name == "native" and THREADS else 1)


def choose(name: str, isa: str) -> Iterator[Chosen]:
    if name == "native" and not ISAS:
        reason = "this installation has no compiled kernels"
        if os.environ.get("FUSEDRNN_REQUIRE_NATIVE") == "1":
            pytest.fail(f"FUSEDRNN_REQUIRE_NATIVE=1, and {reason}")
        pytest.skip(reason)
    with fr.use_backend(name):
        if name == "native":
            with fr.use_isa(isa):
                yield Chosen(name, isa, Backend(name))
        else:
            yield Chosen(name, isa, Backend(name))


@contextlib.contextmanager
def fastest() -> Iterator[str]:
    """Compute with the best instruction set, or with the reference if there are no kernels.

    Central differences are of the function that all backends compute, so it does not matter which
    of them computes it: that all agree is tested elsewhere. The reference would take most of the
    suite's time.
    """
    if not ISAS:
        with fr.use_backend("reference"):
            yield "reference"
        return
    with fr.use_backend("native"), fr.use_isa(ISAS[0]):
        yield "native"


@contextlib.contextmanager
def caches(l2: int, l3: int) -> Iterator[None]:
    """Tell the kernels that the machine has caches of so many bytes."""
    from fusedrnn import _core

    _core.use_caches(l2, l3)
    try:
        yield
    finally:
        _core.use_caches(0, 0)


@pytest.fixture(params=PATHS, ids="-".join)
def backend(request: pytest.FixtureRequest) -> Iterator[Chosen]:
    """Run the test on the reference and on the kernels of every instruction set."""
    yield from choose(*request.param)


@pytest.fixture(params=PATHS[1:], ids="-".join)
def native(request: pytest.FixtureRequest) -> Iterator[Chosen]:
    """Run the test on the kernels of every instruction set."""
    yield from choose(*request.param)


@pytest.fixture
def reference() -> Iterator[Chosen]:
    """Run the test on the NumPy reference."""
    yield from choose("reference", "numpy")
