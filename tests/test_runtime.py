"""runtime.py in one file: choices, the environment, missing and broken kernels.

[P1] [P2] [P3]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import fusedrnn as fr
from conftest import ISAS, THREADS, Chosen, caches

PACKAGE = Path(fr.__file__).parent
X = np.ones((2, 1, 3), np.float32)
needs_native = pytest.mark.skipif(not ISAS, reason="this installation has no compiled kernels")


Done = subprocess.CompletedProcess[str]


def run(code: str, path: Path | None = None, **environment: str) -> Done:
    """Run Python code in a process of its own, on this package or on another copy."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("FUSEDRNN_")}
    # The parent's search path, whether the package is installed or on PYTHONPATH.
    folders = [str(path or PACKAGE.parent), *filter(None, sys.path)]
    variables |= {"PYTHONPATH": os.pathsep.join(folders), **environment}
    return subprocess.run(
        [sys.executable, "-c", "import numpy as np, fusedrnn as fr\n" + code],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def output(code: str, path: Path | None = None, **environment: str) -> str:
    done = run(code, path, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def last_line(done: Done) -> str:
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def package_copy(folder: Path, native: bool, reason: str = "it was a test") -> Path:
    """A copy of the package without its compiled module, with a _build.py."""
    shutil.copytree(
        PACKAGE,
        folder / "fusedrnn",
        ignore=shutil.ignore_patterns("_core*.so", "_core*.pyd", "__pycache__"),
    )
    note = f"NATIVE = {native}\nREASON = {reason!r}\n"
    (folder / "fusedrnn" / "_build.py").write_text(note)
    return folder


# --- last_path ----------------------------------------------------------------------------------


def test_last_path_is_this_threads(backend: Chosen) -> None:
    """[P1] last_path is that of the calling thread."""
    fr.GRU(3, 5)(X)
    backend.ran("gru float32")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(fr.last_path()))
    thread.start()
    thread.join()
    assert seen == [("", "", "", 0)]
    assert fr.last_path()._fields == ("backend", "isa", "kernel", "threads")


# --- choices ------------------------------------------------------------------------------------


def backend_of_a_call() -> str:
    fr.GRU(3, 5)(X)
    return fr.last_path().backend


def test_use_backend() -> None:
    with fr.use_backend("reference"):
        assert backend_of_a_call() == "reference"
        if ISAS:
            with fr.use_backend("native"):
                assert backend_of_a_call() == "native"
            assert backend_of_a_call() == "reference"
    with pytest.raises(ValueError, match="expected 'native' or 'reference', got 'torch'"):
        fr.use_backend("torch")


@needs_native
def test_a_choice_ends_with_its_block_even_by_an_error() -> None:
    before = fr.isa()

    def fail() -> None:
        with fr.use_isa("baseline"), fr.set_num_threads(3):
            assert (fr.isa(), fr.num_threads()) == ("baseline", 3)
            raise KeyError

    threads = fr.num_threads()
    with pytest.raises(KeyError):
        fail()
    assert (fr.isa(), fr.num_threads()) == (before, threads)


@needs_native
def test_a_choice_without_a_block_stays() -> None:
    code = """
fr.use_isa("baseline")
fr.set_num_threads(3)
print(fr.isa(), fr.num_threads())
fr.set_num_threads(None)
fr.use_backend("native")
layer = fr.LSTM(3, 5)
layer(np.ones((2, 1, 3)))
print(fr.last_path().isa)
fr.use_backend("reference")
layer(np.ones((2, 1, 3)))
print(fr.last_path().isa, fr.isa())
"""
    assert output(code).split() == ["baseline", "3", "baseline", "numpy", "baseline"]


@needs_native
def test_a_choice_is_its_contexts() -> None:
    """A choice made in a `with` does not hold in a thread that is started there."""
    seen = []
    with fr.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(backend_of_a_call()))
        thread.start()
        thread.join()
    assert seen == [os.environ.get("FUSEDRNN_BACKEND") or "native"]


@needs_native
def test_instruction_sets() -> None:
    """[P3] Every instruction set of the machine can be chosen, and no other."""
    assert ISAS[-1] in ("baseline", "neon")
    for isa in ISAS:
        with fr.use_backend("native"), fr.use_isa(isa):
            assert fr.isa() == isa
            backend_of_a_call()
            assert fr.last_path().isa == isa
    choices = ", ".join(map(repr, ISAS))
    with pytest.raises(ValueError) as caught:
        fr.use_isa("mmx")
    assert str(caught.value) == f"isa: expected one of {choices}, got 'mmx'"
    with pytest.raises(TypeError, match="isa: expected a name, got int"):
        fr.use_isa(512)  # type: ignore[arg-type]


@needs_native
def test_an_instruction_set_that_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """[P3] The text says that the machine lacks it, and which ones it has."""
    from fusedrnn import _core

    monkeypatch.setattr(_core, "isas", lambda: [("avx9", False, 256), ("avx2", True, 32)])
    assert fr.supported_isas() == ("avx2",)
    with pytest.raises(ValueError) as caught:
        fr.use_isa("avx9")
    assert str(caught.value) == (
        "isa: expected one of 'avx2', got 'avx9', which this machine does not support"
    )


def test_threads_are_checked() -> None:
    with pytest.raises(ValueError, match="num_threads: expected at least 1, got 0"):
        fr.set_num_threads(0)
    with pytest.raises(TypeError, match="num_threads: expected a whole number, got str"):
        fr.set_num_threads("2")  # type: ignore[arg-type]


@needs_native
def test_threads_are_obeyed() -> None:
    """set_num_threads is obeyed even above the number of cores; num_threads= overrides it."""
    layer = fr.LSTM(64, 128, seed=0)
    x = np.ones((20, 64, 64), np.float32)
    with fr.use_backend("native"), fr.set_num_threads(3):
        y, _ = layer(x)
        assert fr.last_path().threads == (3 if THREADS else 1)
        assert np.array_equal(layer(x, num_threads=2)[0], y)
        assert fr.last_path().threads == (2 if THREADS else 1)


def test_build_config() -> None:
    config = fr.build_config()
    assert config["version"] == fr.__version__
    assert config["native"] == bool(ISAS)
    assert config["numpy"] == np.__version__
    if ISAS:
        assert set(ISAS) <= set(config["isas"])
        assert config["compiler"]
        assert isinstance(config["openmp"], bool)
    else:
        assert config["reason"]


# --- the environment ----------------------------------------------------------------------------


CALL = "fr.GRU(3, 5)(np.ones((2, 1, 3)))"


@needs_native
def test_the_machine_is_asked_for_its_caches() -> None:
    from fusedrnn import _core
    from fusedrnn.cli.info import caches as known

    l2, l3 = _core.caches()
    assert l2 == known().get("L2", l2)
    assert l3 == known().get("L3", l3)
    assert l2 >= 1 << 16
    with caches(12345, 67890):
        assert _core.caches() == (12345, 67890)
    assert _core.caches() == (l2, l3)


def test_environment_backend() -> None:
    code = "fr.GRU(3, 5)(np.ones((2, 1, 3)))\nprint(fr.last_path().backend)"
    assert output(code, FUSEDRNN_BACKEND="reference") == "reference"
    assert output("print('imported')", FUSEDRNN_BACKEND="cuda") == "imported"
    assert last_line(run(CALL, FUSEDRNN_BACKEND="cuda")) == (
        "ValueError: FUSEDRNN_BACKEND: expected 'native' or 'reference', got 'cuda'"
    )


@needs_native
def test_environment_isa_and_threads() -> None:
    code = "print(fr.isa(), fr.num_threads())"
    assert output(code, FUSEDRNN_ISA=ISAS[-1], FUSEDRNN_NUM_THREADS="5") == f"{ISAS[-1]} 5"
    assert output(code, FUSEDRNN_ISA="", FUSEDRNN_NUM_THREADS="").split()[0] == ISAS[0]
    for code in (CALL, "fr.isa()", "fr.build_config()", "fr.use_backend('native')"):
        assert last_line(run(code, FUSEDRNN_ISA="mmx")) == (
            f"ValueError: FUSEDRNN_ISA: expected one that this machine runs ({', '.join(ISAS)}), "
            "got 'mmx'"
        )
    for text in ("0", "-1", "two", "99999"):
        for code in (CALL, "fr.num_threads()"):
            assert last_line(run(code, FUSEDRNN_NUM_THREADS=text)) == (
                "ValueError: FUSEDRNN_NUM_THREADS: expected a whole number from 1 to 1024, "
                f"got {text!r}"
            )
    both = {"FUSEDRNN_NUM_THREADS": "two", "FUSEDRNN_BACKEND": "reference"}
    assert "FUSEDRNN_NUM_THREADS" in last_line(run(CALL, **both))


def test_rooms_are_imported_when_first_used() -> None:
    """fr.nn and fr.weights work after `import fusedrnn as fr`, which imports none of them."""
    code = """
import sys
rooms = ("nn", "weights", "onnx")
print([name for name in sys.modules if name.startswith("fusedrnn.") and name[9:] in rooms])
assert set(rooms) <= set(dir(fr))
print(fr.nn.Dense.__name__, fr.weights.from_keras.__name__)
print(fr.nn is sys.modules["fusedrnn.nn"])
try:
    fr.onnx
except ImportError as error:
    print(error)
try:
    fr.attention
except AttributeError as error:
    print(error)
"""
    lines = output(code).split("\n")
    assert lines[:3] == ["[]", "Dense from_keras", "True"]
    assert lines[-1] == "module 'fusedrnn' has no attribute 'attention'"
    if find_spec("onnx") is None:
        assert "pip install" in lines[3]
    else:
        assert len(lines) == 4


# --- without kernels ----------------------------------------------------------------------------


def test_without_kernels(tmp_path: Path) -> None:
    """[P2] The reference runs, and a single warning at the first call names the user's line."""
    where = package_copy(tmp_path, native=False, reason="no compiler was there")
    code = """
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    layer = fr.GRU(3, 5)
    print(len(seen))
    layer(np.ones((2, 1, 3)))
    layer.stream()
    fr.dense_forward(np.ones((2, 3)), np.ones((4, 3)))
print(len(seen), seen[0].category is fr.ReferenceBackendWarning, seen[0].filename)
print(seen[0].message)
print(fr.last_path().backend, fr.supported_isas(), fr.isa(), fr.num_threads())
print(fr.build_config()["reason"])
"""
    lines = output(code, where).splitlines()
    assert lines[:2] == ["0", "1 True <string>"]
    assert "(no compiler was there). Install g++" in lines[2]
    assert lines[3:] == ["reference () numpy 1", "no compiler was there"]
    quiet = "fr.GRU(3, 5)(np.ones((2, 1, 3)))\nprint('quiet')"
    done = run(quiet, where, FUSEDRNN_BACKEND="reference", PYTHONWARNINGS="error")
    assert (done.stdout, done.stderr) == ("quiet\n", "")
    assert last_line(run("fr.use_isa('avx2')", where)) == (
        "ValueError: isa: expected nothing to choose, got 'avx2'; this installation has no "
        "compiled kernels (no compiler was there)"
    )
    assert last_line(run(CALL, where, FUSEDRNN_BACKEND="native")) == (
        "ValueError: FUSEDRNN_BACKEND: 'native' is not in this installation (no compiler was "
        "there); only 'reference' can be chosen"
    )


def test_broken_kernels(tmp_path: Path) -> None:
    """[P2] A module that cannot be loaded is an ImportError, unless the reference was chosen."""
    where = package_copy(tmp_path, native=True)
    for broken in (None, "_core.so", "_core.cpython-27-x86_64-linux-gnu.so"):
        if broken is not None:
            (where / "fusedrnn" / broken).write_bytes(b"not a shared object")
        done = run("", where)
        assert last_line(done).startswith(
            "ImportError: fusedrnn: the compiled kernels were built but cannot be loaded: "
        )
        assert "_core" in last_line(done)
        code = "fr.GRU(3, 5)(np.ones((2, 1, 3)))\nprint(fr.last_path().backend)"
        assert output(code, where, FUSEDRNN_BACKEND="reference") == "reference"
