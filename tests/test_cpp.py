"""The C++ programs of tests/cpp, compiled here for every instruction set this machine can run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "cpp"


def test_simd_and_sigmoid_and_tanh() -> None:
    """[N3.1] Sampled: at most 2 ULP, baseline 4; [N2.1] the same bits on every ISA with fma."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        assert "FUSEDRNN_CI" not in os.environ
        pytest.skip("no C++ compiler")
    done = subprocess.run(
        ["bash", HERE / "run.sh", "sampled", compiler], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_simd: 0 failures" in done.stdout
    assert "equal bits:" in done.stdout
