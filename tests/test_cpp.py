"""The C++ programs of tests/cpp, compiled here for every instruction set of this machine."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from fusedrnn._golden import load_hashes

HERE = Path(__file__).parent / "cpp"


def test_simd_and_sigmoid_and_tanh() -> None:
    """[N3.1] [N2.1] A sample is within 2 ULP (baseline 4), with equal bits on ISAs with fma."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        assert "FUSEDRNN_CI" not in os.environ
        pytest.skip("no C++ compiler")
    done = subprocess.run(
        ["bash", HERE / "run.sh", "sampled", compiler], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_simd: 0 failures" in done.stdout
    assert re.search(r"test_weights: \d+ cases, 0 failures", done.stdout)
    assert "equal bits:" in done.stdout


def test_digest_has_the_cases_of_python() -> None:
    data = HERE.parent / "data"
    written = runpy.run_path(str(data / "make_golden.py"))["case_list"]()
    assert (data / "golden_cases.txt").read_text() == written


def test_every_fault_of_a_digest_is_found() -> None:
    """[N2.1] compare_digest.py must find every fault in the hashes that another machine printed."""
    faults = runpy.run_path(str(HERE / "compare_digest.py"))["faults"]
    golden = load_hashes()
    lines = [f"{case} {kind} {value}" for case in golden for kind, value in golden[case].items()]
    assert faults(lines, golden) == []
    case = next(iter(golden))
    assert faults(lines[1:], golden) == [f"{case} outputs: not printed"]
    assert faults([*lines, "other outputs 0"], golden) == ["other outputs: not in golden.json"]
    assert faults([f"{case} outputs 0", *lines[1:]], golden) == [f"{case} outputs: other bits"]
