"""The file of a run is written whole or not at all, and checked before anything in it is used."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusedrnn.charlm import Alphabet, CharLM, Trainer, runfile

Array = np.ndarray[Any, np.dtype[Any]]
TEXT = "abracadabra, simsalabim.\n" * 4
OURS = "not a (whole )?fusedrnn model file"


def trainer(seed: int = 0) -> Trainer:
    model = CharLM(Alphabet(TEXT), 3, seed=seed)
    made = Trainer(model, model.alphabet.encode(TEXT), batch=2, chunk=8, seed=seed)
    made.run(steps=2)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    runfile.save(path, trainer(), {"text": "\ud800 é", "big": 2**127})
    return path


def test_a_run_is_read_as_it_was_written(run: Path) -> None:
    made = trainer()
    runfile.save(run, made, {"text": "\ud800 é", "big": 2**127})
    read = runfile.load(run)
    assert (read.header["text"], read.header["big"]) == ("\ud800 é", 2**127)
    assert runfile.recognised(run)
    again = read.trainer(made.tokens)
    assert again.config() == made.config()
    for name, array in made.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    for name, array in made.model.params.items():
        np.testing.assert_array_equal(read.model().params[name], array)
    # The file is a .npz like any other.
    with np.load(run, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["model.dense.bias"], made.model.params["dense.bias"])


def test_a_failed_save_leaves_the_old_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = run.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        runfile.save(run, trainer(1), {})
    assert error.value.filename == str(run)
    assert run.read_bytes() == old
    assert list(run.parent.iterdir()) == [run]


def test_a_file_cut_anywhere_is_damaged(run: Path, tmp_path: Path) -> None:
    """A file cut at any tenth byte is an error of one sentence that names the file."""
    whole, cut = run.read_bytes(), tmp_path / "cut.npz"
    for length in range(0, len(whole), 10):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"^{re.escape(str(cut))}: {OURS}"):
            runfile.load(cut)
        assert length % 100 or not runfile.recognised(cut)


def test_a_changed_byte_is_found_or_changes_nothing(run: Path, tmp_path: Path) -> None:
    whole, other = run.read_bytes(), tmp_path / "other.npz"
    before = runfile.load(run)
    rng = np.random.default_rng(0)
    texts = []
    for place in rng.integers(0, len(whole), 400):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        other.write_bytes(changed)
        try:
            read = runfile.load(other)
        except ValueError as error:
            texts.append(str(error))
            continue
        assert read.header == before.header
        for name in set(read.arrays) & set(before.arrays):
            np.testing.assert_array_equal(read.arrays[name], before.arrays[name])
    assert len(texts) > 300
    assert all(text.startswith(f"{other}: ") for text in texts)


def archive(path: Path, **arrays: Array) -> None:
    np.savez(path, **arrays)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_bytes(b"root:x:0:0:root:/root:/bin/bash\n"),
    "a pickle": lambda p: p.write_bytes(b"\x80\x04]\x94."),
    "an array": lambda p: np.save(p.open("wb"), np.ones(3)),
    "objects": lambda p: np.save(p.open("wb"), np.array([{}], dtype=object)),
    "an archive": lambda p: archive(p, a=np.ones(1)),
    "somebody's config": lambda p: archive(p, config=np.array("{}"), header=np.array([1.0])),
    "not JSON": lambda p: archive(p, header=np.array("{")),
    "a list": lambda p: archive(p, header=np.array("[]")),
    "deep": lambda p: archive(p, header=np.array("[" * 100_000)),
    "another format": lambda p: archive(p, header=np.array('{"format": "else"}')),
    "pickled header": lambda p: archive(p, header=np.array([object()], dtype=object)),
    "compressed": lambda p: np.savez_compressed(p, header=np.array("{}")),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    """The text is "not a fusedrnn model file", never NumPy's advice to allow pickles."""
    path = tmp_path / "m.npz"
    make(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {OURS}") as error:
        runfile.load(path)
    assert "allow_pickle" not in str(error.value)
    assert not runfile.recognised(path)


def test_a_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    for look in (runfile.load, runfile.recognised):
        with pytest.raises(IsADirectoryError):
            look(tmp_path)


def rewritten(
    run: Path,
    header: Callable[[dict[str, Any]], object] = lambda _: None,
    **arrays: Array | None,
) -> Path:
    """The run with some entries changed or left out."""
    read = runfile.load(run)
    header(read.header)
    named = {"header": np.array(json.dumps(read.header)), **read.arrays, **arrays}
    with zipfile.ZipFile(run, "w") as file:
        for name, a in named.items():
            if a is not None:
                with file.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, a)
    return run


MISSING = [
    "format_version",
    "model",
    "model.alphabet",
    "model.hidden_size",
    "trainer",
    "trainer.batch",
    "trainer.max_norm",
]


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_in_the_header_is_named(run: Path, name: str) -> None:
    def drop(header: dict[str, Any]) -> None:
        *parts, last = name.split(".")
        for part in parts:
            header = header[part]
        del header[last]

    rewritten(run, drop)
    with pytest.raises(ValueError, match=f"^{re.escape(str(run))}: .*{name.split('.')[-1]}"):
        runfile.load(run).trainer(trainer().tokens)


WRONG: list[tuple[str, object, str]] = [
    ("format_version", "1", "format_version: this fusedrnn reads 1, got '1'"),
    ("format_version", 99, "format_version: this fusedrnn reads 1, got 99"),
    ("model", [], r"model: expected an object, got \[\]"),
    ("model.kind", "CharLM", "model: config: expected that of a model of kind"),
    ("model.hidden_size", 5, "model: state: .*expected floating point of shape"),
    ("model.cell", 7, "model: cell: expected one of"),
    ("trainer.batch", "2", "trainer.batch: expected a whole number, got '2'"),
    ("trainer.batch", True, "trainer.batch: expected a whole number, got True"),
    ("trainer.lr", None, "trainer.lr: expected a whole number or a number, got None"),
    ("trainer.lr", -1.0, "trainer: lr"),
    ("trainer.batch", 3, "trainer: h: expected float32 of shape"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG, ids=lambda value: str(value)[:30])
def test_what_is_wrong_in_the_header_is_named(
    run: Path, name: str, value: object, text: str
) -> None:
    def change(header: dict[str, Any]) -> None:
        *parts, last = name.split(".")
        for part in parts:
            header = header[part]
        header[last] = value

    rewritten(run, change)
    with pytest.raises(ValueError, match=f"^{re.escape(str(run))}: {text}"):
        runfile.load(run).trainer(trainer().tokens)


LACKING = {
    "model.dense.bias": "model: state: missing 'dense.bias'",
    "trainer.place": "trainer: place: missing",
    "trainer.losses": "trainer: losses: missing",
    "trainer.adam.mean.dense.weight": "trainer: .*missing 'mean.dense.weight'",
    "trainer.adam.steps.dense.bias": "trainer: .*missing 'steps.dense.bias'",
    "trainer.c": "trainer: c: missing",
}


@pytest.mark.parametrize("name", LACKING)
def test_an_array_that_is_missing_is_named(run: Path, name: str) -> None:
    """A run whose Adam means are missing must not be resumed silently."""
    rewritten(run, **{name: None})
    with pytest.raises(ValueError, match=f"^{re.escape(str(run))}: {LACKING[name]}"):
        runfile.load(run).trainer(trainer().tokens)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused(run: Path, value: float) -> None:
    bias = trainer().model.state_dict()["dense.bias"]
    bias[1] = value
    rewritten(run, **{"model.dense.bias": bias})
    with pytest.raises(ValueError, match=r"not finite numbers \(dense.bias\), because .*diverged"):
        runfile.load(run).model()


def test_a_header_that_promises_too_much_is_damaged(run: Path) -> None:
    """A file of a kilobyte claims an array of 8 terabytes."""
    with zipfile.ZipFile(run, "a") as file, file.open("huge.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(
            entry, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
        )
    with pytest.raises(ValueError, match="not a whole fusedrnn model file: 'huge': "):
        runfile.load(run)
