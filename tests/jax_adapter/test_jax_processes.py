"""Threads, devices, Ctrl-C, the end of a process, and compiled programs of other processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fusedrnn

TWO = "--xla_force_host_platform_device_count=2"
PROGRAM = Path(__file__).with_name("programs.py")


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))  # this process's package, not another copy
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **more}


def run(*arguments: str, timeout: int = 120, **more: str) -> str:
    """The output of a program of `programs`; a program that hangs fails."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("cores", ["both", "one"])
def test_two_devices_many_times(cores: str) -> None:
    """XLA's threads need Python while the main thread waits; on one core as on two."""
    more = {"OMP_NUM_THREADS": "1"} if cores == "one" else {}
    assert "done" in run("devices", "400", XLA_FLAGS=TWO, **more)


def test_meshes() -> None:
    assert "done" in run("meshes", XLA_FLAGS=TWO)


def test_many_threads() -> None:
    assert "done" in run("threads")


@pytest.mark.parametrize("how", ["kept", "dropped"])
def test_a_process_ends_while_a_call_runs(how: str) -> None:
    assert "started" in run("leave", how)


def test_ctrl_c_while_a_call_runs() -> None:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "interrupt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert out.startswith("KeyboardInterrupt"), out
    assert out.endswith("done\n"), out


def test_an_installation_without_kernels(tmp_path: Path) -> None:
    package = Path(fusedrnn.__file__).parent
    shutil.copytree(
        package, tmp_path / "fusedrnn", ignore=shutil.ignore_patterns("_core*.so", "_build.py")
    )
    right = np.frombuffer(bytes.fromhex(run("cached")), np.float32)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    found = np.frombuffer(bytes.fromhex(run("uncompiled", PYTHONPATH=path)), np.float32)
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def test_an_exported_function_runs_in_another_process(tmp_path: Path) -> None:
    file = str(tmp_path / "gru")
    assert run("save", file).split() == run("load", file).split()


def test_a_cached_program_runs_in_another_process(tmp_path: Path) -> None:
    more = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    first = run("cached", **more)
    entries = sorted(p.name for p in tmp_path.iterdir() if p.name.endswith("-cache"))
    assert entries
    assert run("cached", **more) == first
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.endswith("-cache")) == entries
