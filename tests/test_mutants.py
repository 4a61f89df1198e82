"""The faults of mutants.py still match the sources; tests/nightly.sh plants and kills them."""

from __future__ import annotations

import re
import signal

import pytest

from mutants import MUTANTS, ROOT, Mutant, verdict


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_can_be_planted(mutant: Mutant) -> None:
    assert mutant.occurrences(ROOT) == 1, f"{mutant.file}: {mutant.old}"
    assert mutant.planted(ROOT) != (ROOT / mutant.file).read_text()
    file, _, function = mutant.tests[0].partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / file).read_text(), re.M), mutant.tests


def test_there_are_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


def test_only_a_failing_test_kills() -> None:
    assert verdict(0, "3 passed") == (False, "SURVIVED")
    assert verdict(1, "FAILED tests/test_x.py::test_y[a] - assert") == (True, "test_y[a]")
    assert verdict(-signal.SIGSEGV, "") == (True, "SIGSEGV")
    for status in (2, 3, 4, 5):  # interrupted, internal error, no such test, nothing selected
        assert not verdict(status, "")[0]
