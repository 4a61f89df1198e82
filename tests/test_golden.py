"""Golden hashes: any language can make their inputs, no bit may change, the self-test uses them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn import _golden, selftest
from fusedrnn._activations import NAMES
from fusedrnn._backends import choice
from fusedrnn._cells import CELLS


def test_inputs_are_splitmix64_of_fnv1a() -> None:
    # The FNV-1a hash of "a" is af63dc4c8601ec8c (a test vector of its authors); the loop is
    # splitmix64 in plain integers.
    state, expected = 0xAF63DC4C8601EC8C, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        expected.append(z ^ z >> 31)
    assert _golden.integers("a", 3).tolist() == expected
    single, double = (_golden.values("a", (3,), t, 1) for t in ("float32", "float64"))
    assert single.tolist() == double.tolist()
    assert double.tolist() == [((z >> 48) - 32768) / 65536 for z in expected]


def test_cases_cover_every_cell_and_dtype() -> None:
    names = [case.name for case in _golden.CASES]
    assert len(set(names)) == len(names) >= 60
    found = {(case.cell, case.dtype) for case in _golden.CASES}
    assert found == {(cell, dtype) for cell in CELLS for dtype in ("float32", "float64")}
    chosen = ",".join(case.activations for case in _golden.CASES)
    assert {*chosen.split(",")} >= {*NAMES} - {"relu", "tanh"}  # those two have own cells


def test_every_case_has_hashes() -> None:
    assert list(_golden.load_hashes()) == [case.name for case in _golden.CASES]


def test_nan_is_hashed_as_nan() -> None:
    payload = np.array([0x7FC01234, 0xFFC00001], np.uint32).view(np.float32)
    plain = np.full(2, np.nan, np.float32)
    assert _golden.digests({"y": payload}) == _golden.digests({"y": plain})
    assert _golden.digests({"y": plain})["outputs"] == hashlib.sha256(plain.tobytes()).hexdigest()
    # -0 and 0 have different hashes, and gradients are not part of the outputs' hash.
    assert _golden.digests({"y": np.array([-0.0])}) != _golden.digests({"y": np.array([0.0])})
    assert _golden.digests({"dx": plain})["outputs"] == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("case", _golden.CASES, ids=lambda case: case.name)
def test_bits_are_golden(case: _golden.Case, native: Chosen) -> None:
    """[N2.1] Every instruction set with fma, on this machine and on others, has the same hashes."""
    found = _golden.results(case, choice.by_name(native.name))
    native.ran(f"{case.cell} {case.dtype}")
    if native.fma:
        assert _golden.digests(found) == _golden.load_hashes()[case.name]
    oracle = _golden.results(case, choice.reference(), dtype="float64")
    for name, right in oracle.items():
        scale = max(1.0, float(np.abs(right).max(initial=0.0)))
        np.testing.assert_allclose(
            found[name], right, rtol=0.0, atol=selftest.BOUNDS[case.dtype] * scale, err_msg=name
        )


def test_selftest_passes_on_every_instruction_set() -> None:
    reports = list(selftest.selftest())
    assert tuple(report.isa for report in reports) == fr.supported_isas()
    for report in reports:
        assert report.passed, str(report)
        assert report.cases == len(_golden.CASES)
        assert report.hashed == (0 if report.isa in selftest.EXEMPT else report.cases)


def test_selftest_notices_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    if not fr.supported_isas():
        pytest.skip("this installation has no compiled kernels")
    case = _golden.CASES[0]
    wrong = {case.name: {"outputs": "0", "gradients": "0"}}
    monkeypatch.setattr(selftest, "CASES", (case,))
    monkeypatch.setattr(selftest, "load_hashes", lambda: wrong)
    for report in selftest.selftest():
        assert report.passed == (report.isa in selftest.EXEMPT)


@pytest.mark.parametrize("damage", [1e-3, np.nan])
def test_selftest_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch, damage: float) -> None:
    if not fr.supported_isas():
        pytest.skip("this installation has no compiled kernels")
    honest = selftest.results

    def damaged(case: _golden.Case, backend: object, **options: str) -> dict[str, np.ndarray]:
        found = honest(case, backend, **options)  # type: ignore[arg-type]
        if not options:  # not the call for the oracle, which is in float64
            found["dx"] = found["dx"] + damage
        return found

    monkeypatch.setattr(selftest, "CASES", _golden.CASES[:1])
    monkeypatch.setattr(selftest, "results", damaged)
    for report in selftest.selftest():
        assert not report.passed
        assert "dx is off" in str(report)
