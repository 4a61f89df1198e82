"""The commands, run in this process; one file, because the tests share a trained run.

Tests that need a process of their own (terminals, pipes, signals, full disks) are in
test_terminal.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.charlm import Trainer, load_corpus, runfile
from fusedrnn.cli import _parser, compare, info, main, memory, session
from fusedrnn.cli.train import DEFAULTS, build

TEXT = "pack my box with five dozen liquor jugs; the quick brown fox jumps over it.\n" * 60
NOBODY = 65534
TINY = ("--hidden-size", "12", "--batch", "4", "--chunk", "16")


@pytest.fixture(autouse=True)
def _settings_stay_here() -> Iterator[None]:
    """Undo what a test chose with --threads."""
    with fr.set_num_threads(None):
        yield


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a short run and its text, for tests that change neither."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    assert train(folder / "text.txt", folder / "model.npz", "--steps", 3, "--quiet") == 0
    return folder / "model.npz"


def losses(path: Path) -> list[float]:
    return [float(loss) for loss in runfile.load(path).arrays["trainer.losses"]]


def reopened(model: Path) -> Trainer:
    """The trainer of a run on TEXT."""
    read = runfile.load(model)
    alphabet = read.model().alphabet
    return read.trainer(alphabet.encode(TEXT[: len(TEXT) - len(TEXT) // 10]))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fusedrnn", *map(str, arguments)]


def train(text: Path | str, out: Path | str, *arguments: object) -> int:
    return main(["train", "--text", str(text), "--out", str(out), *TINY, *map(str, arguments)])


# --- info, selftest ----------------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert fr.__version__ in out
    assert np.__version__ in out
    if fr.supported_isas():
        assert f"instruction set:      {fr.isa()}" in out
        assert ", ".join(fr.supported_isas()) in out
        assert re.search(r"threads: +\d+\n", out)
        assert re.search(r"compiler: +\S+", out)
    else:
        assert "Install a C++ compiler" in " ".join(out.split())
    with fr.use_backend("reference"):
        assert main(["info"]) == 0
        assert "reference" in capsys.readouterr().out


def test_info_has_a_name_and_a_value_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert re.match(r"[^\s:][^:]*(: [^:]+)?: +\S|^ {22}\S", line), line
        assert len(line) <= 80


def test_info_knows_the_caches_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (level, kind, size) in enumerate(
        [(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2048K"), (3, "Odd", "?")]
    ):
        index = tmp_path / f"index{number}"
        index.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (index / name).write_text(f"{value}\n")
    monkeypatch.setattr(info, "CACHES", tmp_path)
    monkeypatch.setenv("FUSEDRNN_NUM_THREADS", "3")
    monkeypatch.setenv("FUSEDRNN_THREADS", "3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive\x1b")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "caches:               L1d 48 KiB, L1i 32 KiB, L2 2 MiB\n" in out
    assert "FUSEDRNN_NUM_THREADS: 3\n" in out
    assert "FUSEDRNN_THREADS:     3 (nobody reads this name)\n" in out
    assert "OMP_WAIT_POLICY:      passive\\x1b\n" in out
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["caches"] == {"L1d": 49152, "L1i": 32768, "L2": 2097152}
    assert found["environment"]["FUSEDRNN_NUM_THREADS"] == "3"
    assert found["fusedrnn"] == fr.__version__
    assert found["isas_supported"] == list(fr.supported_isas())
    assert found["backend"] == ("native" if fr.supported_isas() else "reference")
    for name in list(os.environ):
        if name.startswith(("FUSEDRNN_", "OMP_", "GOMP_", "KMP_")):
            monkeypatch.delenv(name)
    assert main(["info"]) == 0
    assert (
        "environment:          no variable of fusedrnn or OpenMP is set" in capsys.readouterr().out
    )


def test_info_without_compiled_kernels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusedrnn._backends.choice.native", lambda: None)
    monkeypatch.setattr("fusedrnn.cli.info.not_built", lambda: "no C++ compiler was found")
    assert main(["info"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "why: no C++ compiler was found" in out
    assert "what to do: Install a C++ compiler" in out
    assert "apt-get install g++" in out
    assert main(["selftest"]) == 1
    assert "nothing to test" in capsys.readouterr().out


def test_selftest(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["selftest"])
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    if fr.supported_isas():
        assert code == 0, out
        assert all(isa in out for isa in fr.supported_isas())
        assert "selftest passed" in out
    else:
        assert code == 1


def test_selftest_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusedrnn.selftest import Report

    good = Report("avx2", 3, 2, {"float32": 1e-7})
    bad = Report("avx512", 1, 0, {"float32": float("nan")}, ["lstm: y is off by nan"])
    for reports, code in (([good], 0), ([good, bad], 1), ([], 1)):
        monkeypatch.setattr("fusedrnn.selftest.selftest", lambda found=reports: iter(found))
        assert main(["selftest", "--quiet"]) == code
        assert capsys.readouterr() == ("", "")
        assert main(["selftest", "--json"]) == code
        found = json.loads(capsys.readouterr().out)
        assert found["passed"] == (code == 0)
        assert [one["isa"] for one in found["instruction_sets"]] == [one.isa for one in reports]
    assert bad.facts()["faults"] == ["lstm: y is off by nan"]
    monkeypatch.setattr("fusedrnn.selftest.selftest", lambda: iter([bad]))
    assert main(["selftest"]) == 1
    assert "FAILED lstm: y is off by nan" in capsys.readouterr().out


# --- train and generate ------------------------------------------------------------------------


def test_train_and_generate(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.npz"
    assert train(text, out, "--steps", 120, "--threads", 1, "--lr", 0.02) == 0
    printed, shown = capsys.readouterr()
    assert "4,560 characters, 30 distinct; the last 456 are for validation" in printed
    assert "LSTM, 12 units" in printed
    rows = dict(re.findall(r"^  (\S.*?) +(\d+\.\d{3})$", printed, re.M))
    assert set(rows) >= {
        "LSTM, 12 units",
        *(f"contexts of order {k}, smoothed" for k in range(4)),
        "gzip, alone",
        "gzip, after the training text",
    }
    assert float(rows["LSTM, 12 units"]) < float(rows["contexts of order 0, smoothed"])
    assert f"Saved {out}. More text:\n  fusedrnn generate --model {out} --prompt " in printed
    # The output is not a terminal, so there is a line each tenth and no control characters.
    lines = shown.splitlines()
    assert len(lines) == 11
    assert "\r" not in shown
    assert "\x1b" not in shown
    assert re.match(r"100%  update 120  \d\.\d{3} bits/char  [\d,]+ char/s  0:00 left", lines[-1])

    def generated(*arguments: object) -> str:
        assert main(["generate", "--model", str(out), *map(str, arguments)]) == 0
        return capsys.readouterr().out

    first = generated("--prompt", "the ", "--length", 50, "--seed", 1)
    assert first.startswith("the ")
    assert len(first) == len("the ") + 50 + 1
    assert first == generated("--prompt", "the ", "--length", 50, "--seed", 1)
    assert first != generated("--prompt", "the ", "--length", 50, "--seed", 2)
    cold = [generated("--temperature", 0, "--seed", seed, "--length", 30) for seed in (1, 2)]
    assert cold[0] == cold[1]
    assert cold[0].strip("\n") == generated("--temperature", 1e-320, "--length", 30).strip("\n")
    assert generated("--top-k", 1, "--seed", 3, "--length", 30) == cold[0]
    assert generated("--length", 0, "--prompt", "the") == "the\n"


@pytest.mark.parametrize(("cell", "kernel"), [("rnn", "RNN"), ("lstm", "LSTM"), ("gru", "GRU")])
def test_every_cell_in_layers(
    cell: str, kernel: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.npz"
    assert train(text, out, "--steps", 30, "--cell", cell, "--layers", 2) == 0
    assert f"Model: {kernel}, 2 layers of 12 units" in capsys.readouterr().out
    assert runfile.load(out).model().cell.startswith(cell)
    assert main(["train", "--resume", str(out), "--steps", "40", "--quiet"]) == 0
    assert len(losses(out)) == 40
    assert losses(out)[-1] < losses(out)[0]
    assert main(["generate", "--model", str(out), "--length", "5"]) == 0


def test_the_same_seed_gives_the_same_run(text: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert train(text, path, "--steps", 12, "--seed", seed) == 0
    first, second, other = map(losses, paths)
    assert first == second != other
    assert len(first) == 12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resume_goes_on_exactly(
    text: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    # With --seconds the learning rate follows the clock, so only runs of fixed length can be
    # compared.
    assert train(text, whole, "--steps", 40, "--dtype", dtype) == 0
    assert train(text, part, "--steps", 40, "--dtype", dtype) == 0
    before = part.read_bytes()
    assert main(["train", "--resume", str(part)]) == 0  # complete: nothing is added
    assert part.read_bytes() == before
    shown = " ".join(capsys.readouterr().out.split())  # without the breaks of lines
    assert "; it has 40 updates, and goes on if --steps is larger" in shown
    assert main(["train", "--resume", str(part), "--steps", "45"]) == 0
    assert losses(part)[:40] == losses(whole)
    assert len(losses(part)) == 45


def test_a_run_resumed_in_another_folder(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert train("../text.txt", "m.npz", "--steps", 4) == 0
    monkeypatch.chdir(tmp_path / "there")
    assert main(["train", "--resume", "../here/m.npz", "--steps", "6", "--out", "mine.npz"]) == 0
    assert (len(losses(Path("mine.npz"))), len(losses(Path("../here/m.npz")))) == (6, 4)
    # The run is complete, but another file is asked for, so it is saved there.
    assert main(["train", "--resume", "mine.npz", "--out", "again.npz"]) == 0
    assert losses(Path("again.npz")) == losses(Path("mine.npz"))
    text.rename(tmp_path / "moved.txt")
    assert main(["train", "--resume", "mine.npz"]) == 2
    assert f"{text}: the text of mine.npz is no longer there; --text says" in (
        capsys.readouterr().err
    )
    assert main(["train", "--resume", "mine.npz", "--text", "../moved.txt", "--steps", "7"]) == 0


def test_seconds(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    assert train(text, out, "--seconds", 0.2) == 0
    before = losses(out)
    assert runfile.load(out).header["run"] == {"seconds": 0.2}
    assert len(before) > 0
    assert main(["train", "--resume", str(out)]) == 0
    assert losses(out) == before


def test_compare(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text, tmp_path / "m.npz", "--steps", 0, "--compare") == 0
    out = " ".join(capsys.readouterr().out.split())
    if fr.supported_isas():
        found = re.search(
            r"Speed: native [\d,]+ characters/s, reference [\d,]+ characters/s: [\d.]+ times; "
            r"the first \d+ losses agree within (\S+) ",
            out,
        )
        assert found is not None
        assert float(found.group(1)) < 1e-5
    else:
        assert "no compiled kernels" in out


def test_everything_of_a_run_fits_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "SECONDS", 0.05)
    Path("wide.txt").write_text("안녕하세요 세계 여러분, 반갑습니다. 오늘은 날씨가 좋네요. " * 80)
    arguments = ("--steps", 20, "--layers", 3, "--compare", "--dtype", "float64")
    assert train("wide.txt", "model.npz", *arguments) == 0
    for line in "".join(capsys.readouterr()).splitlines():
        wide = sum(1 for character in line if ord(character) > 0x1100)
        assert len(line) + wide <= 80, line


# --- what is refused before the work ------------------------------------------------------------


def test_a_second_run_does_not_replace_the_first(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my model.npz"
    assert train(text, out, "--steps", 2) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert train(text, out, "--steps", 3) == 2
    assert capsys.readouterr().err == (
        f"fusedrnn train: error: {out}: exists; --resume '{out}' goes on with it, --force "
        "replaces it, --out names another file\n"
    )
    assert out.read_bytes() == before
    assert train(text, out, "--steps", 3, "--force") == 0
    assert len(losses(out)) == 3
    # Permission to resume one run does not allow replacing another.
    other = tmp_path / "other.npz"
    assert train(text, other, "--steps", 1) == 0
    assert main(["train", "--resume", str(other), "--out", str(out), "--steps", "2"]) == 2
    assert len(losses(out)) == 3
    assert main(["train", "--resume", str(other), "--out", str(out), "--force"]) == 0
    assert len(losses(out)) == 1


def test_only_our_own_files_are_replaced(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.npz"
    np.savez(mine, config=np.array("{}"), header=np.arange(3))
    before = mine.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for name, why in {
        mine: "exists and is not a fusedrnn model file; it is not replaced, --out names another",
        text: "exists and is not a fusedrnn model file",
        tmp_path: "is a folder; --out names a file in it",
        tmp_path / "pipe": "is not a regular file; --out names another",
        "/dev/null": "is not a regular file; --out names another",
    }.items():
        assert train(text, name, "--steps", 1, "--force") == 2
        assert f"fusedrnn train: error: {name}: {why}" in capsys.readouterr().err
    assert mine.read_bytes() == before
    assert text.read_text() == TEXT
    # mktemp makes empty files, and there is nothing to lose in one.
    empty = tmp_path / "empty.npz"
    empty.touch()
    assert train(text, empty, "--steps", 1) == 0
    assert len(losses(empty)) == 1


def test_a_file_behind_a_symbolic_link_is_written(text: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    link.symlink_to(real.name)
    assert train(text, link, "--steps", 1) == 0
    assert train(text, link, "--steps", 2, "--force") == 0
    assert link.is_symlink()
    assert not real.is_symlink()
    assert len(losses(real)) == 2
    assert main(["train", "--resume", str(link), "--out", str(real), "--steps", "3"]) == 0
    assert len(losses(real)) == 3


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder in a process without root's rights: root becomes nobody for the test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            (folder / "text.txt").write_text(TEXT)
            yield folder
        finally:
            if root:
                os.setresuid(0, 0, 0)


def test_what_may_not_be_written_or_read(
    somebody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, closed, kept = (somebody / name for name in ("text.txt", "closed", "kept.npz"))
    closed.mkdir()
    closed.chmod(0o555)
    assert train(text, closed / "m.npz", "--steps", 1) == 2
    assert (
        f"error: {closed / 'm.npz'}: Permission denied in its folder\n" in capsys.readouterr().err
    )
    assert train(text, kept, "--steps", 1, "--quiet") == 0
    kept.chmod(0o444)
    before = kept.read_bytes()
    assert train(text, kept, "--steps", 2, "--force") == 2
    assert f"error: {kept}: is protected against writing; --out" in capsys.readouterr().err
    assert kept.read_bytes() == before
    kept.chmod(0)
    for arguments in (
        ["generate", "--model", str(kept)],
        ["train", "--resume", str(kept)],
        ["train", "--text", str(text), "--out", str(kept)],
        ["train", "--text", str(kept), "--out", str(somebody / "new.npz")],
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.endswith(f"error: {kept}: Permission denied\n")
    closed.chmod(0o755)


WRONG: list[tuple[list[str], str]] = [
    (["train", "--text", "missing.txt"], "missing.txt: No such file or directory"),
    (["train", "--text", "."], ".: Is a directory"),
    (["train", "--text", "{empty}"], "0 characters are too few to learn from"),
    (["train", "--text", "{utf16}"], "not UTF-8 text: .* it looks like UTF-16"),
    (
        ["train", "--text", "{text}", "--out", "no/such/m.npz"],
        "the folder .*no/such does not exist",
    ),
    (
        ["train", "--text", "{text}", "--batch", "4000"],
        "too few for 4,000 streams .* at most 2,052",
    ),
    (["train", "--resume", "{text}"], "not a fusedrnn model file"),
    (["train", "--resume", ""], "No such file"),
    (["train", "--resume", "{model}", "--lr", "1"], "--lr: fixed by the run"),
    (["train", "--resume", "{model}", "--cell", "gru"], "--cell: fixed by the run"),
    (["train", "--resume", "{model}", "--text", "{other}"], "not the text that"),
    (
        ["train", "--text", "{text}", "--hidden-size", "1000000"],
        "of memory .* smaller --hidden-size",
    ),
    (["train", "--text", "{text}", "--layers", "9" * 30], "of memory .*over 10.15 parameters"),
    (["generate", "--model", "{model}", "--prompt", "É"], "error: --prompt: .* does not know: 'É'"),
    (
        ["generate", "--model", "{saved}"],
        "not a model of fusedrnn train, but a file of fusedrnn.save, which fusedrnn.load reads",
    ),
    (["generate", "--model", "missing.npz"], "missing.npz: no such file; fusedrnn train makes one"),
    (["generate", "--model", "/etc/passwd"], "/etc/passwd: not a fusedrnn model file$"),
    (["generate", "--model", "."], ".: Is a directory"),
    (["generate", "--model", "{nan}"], "not finite numbers .*, because its training diverged"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: str(value)[-40:])
def test_wrong_input_is_told_in_a_line(
    arguments: list[str],
    message: str,
    text: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = trained.read_bytes()
    names = {"text": text, "model": trained}
    for name, content in {
        "other": TEXT[:-1].encode(),
        "empty": b"",
        "utf16": TEXT.encode("utf-16"),
    }.items():
        names[name] = tmp_path / name
        names[name].write_bytes(content)
    if "{saved}" in arguments:
        names["saved"] = tmp_path / "saved.npz"
        fr.save(names["saved"], fr.GRU(2, 3))
    if "{nan}" in arguments:
        names["nan"] = spoiled(trained, tmp_path / "nan.npz")
    assert main([argument.format(**names) for argument in arguments]) == 2
    out, shown = capsys.readouterr()
    assert shown.startswith(f"fusedrnn {arguments[0]}: error: ")
    assert shown.count("\n") == 1
    assert re.search(message, shown.strip())
    assert out == ""
    assert trained.read_bytes() == before
    assert not Path("model.npz").exists()


def spoiled(model: Path, path: Path) -> Path:
    trainer = reopened(model)
    with trainer.model.writable() as p:
        p["dense.weight"][0, 0] = np.nan
    runfile.save(path, trainer, {})
    return path


def test_what_a_file_lacks_is_told_in_a_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If an entry of a run is missing or of another type, the error names file and entry."""
    read = runfile.load(trained)
    path = tmp_path / "m.npz"
    changes: dict[str, object] = {
        "format_version": None,
        "model": None,
        "corpus": None,
        "corpus.digest": 3,
        "corpus.source": None,
        "run": "long",
        "run.steps": "3",
        "trainer.batch": None,
    }
    for name, value in changes.items():
        header = json.loads(json.dumps(read.header))
        *parts, last = name.split(".")
        place: dict[str, Any] = header
        for part in parts:
            place = place[part]
        place.pop(last)
        if value is not None:
            place[last] = value
        np.savez(path, header=np.array(json.dumps(header)), **read.arrays)
        assert main(["train", "--resume", str(path), "--quiet"]) == 2, name
        out, shown = capsys.readouterr()
        assert shown.startswith(f"fusedrnn train: error: {path}: ")
        assert last in shown
        assert (out, shown.count("\n")) == ("", 1)
    # Without the means of Adam, for example, the resumed run would differ from the original
    # silently.
    for lacking in ("trainer.adam.mean.dense.weight", "trainer.place", "model.dense.bias"):
        arrays = {name: array for name, array in read.arrays.items() if name != lacking}
        np.savez(path, header=np.array(json.dumps(read.header)), **arrays)
        assert main(["train", "--resume", str(path), "--steps", "9", "--quiet"]) == 2
        shown = capsys.readouterr().err
        missing = lacking.split(".", 2)[-1] if "adam" in lacking else lacking.partition(".")[2]
        assert re.match(rf"fusedrnn train: error: {re.escape(str(path))}: .*{missing}", shown)
        assert "missing" in shown
        assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--steps", "3", "--seconds", "2"], "not allowed with"),
        (["train", "--steps", "-3"], "expected a whole number of 0 or more, got -3"),
        (["train", "--batch", "0"], "expected a whole number of 1 or more, got 0"),
        (["train", "--hidden-size", "-1"], "expected a whole number of 1 or more, got -1"),
        (["train", "--hidden-size", "big"], "expected a whole number of 1 or more, got 'big'"),
        (["train", "--layers", "1.5"], "expected a whole number of 1 or more, got '1.5'"),
        (["train", "--seed", "9" * 50 + "x"], "expected a whole number of 0 or more, got '9999"),
        (["train", "--lr", "nan"], "expected a number above 0, got nan"),
        (["train", "--lr", "0"], "expected a number above 0, got 0"),
        (["train", "--lr", "1e999"], "expected a number above 0, got 1e999"),
        (["train", "--seconds", "0"], "expected a number above 0, got 0"),
        (["train", "--checkpoint-every", "-1"], "expected a number of 0 or more, got -1"),
        (["train", "--threads", "1025"], "expected 1 to 1024, got 1025"),
        (["train", "--cell", "lstn"], "invalid choice: 'lstn'"),
        (["generate", "--top-k", "0"], "expected a whole number of 1 or more, got 0"),
        (["generate", "--temperature", "hot"], "expected a number of 0 or more, got 'hot'"),
        (["bench", "--threads", "0"], "expected a whole number of 1 or more, got 0"),
        ([], "required: command"),
        (["trian"], "invalid choice: 'trian'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bounds that the texts name are those that are applied."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_argument_shows_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, message in [
        (["train", "--foo"], "unrecognized arguments: --foo\n"),
        (["train", "--hidden", "3"], "--hidden 3 (did you mean --hidden-size?)\n"),
        (["train", "--chekpoint-every=3"], "(did you mean --checkpoint-every?)\n"),
        (["train", "extra"], "unrecognized arguments: extra\n"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        shown = capsys.readouterr().err
        assert shown.startswith("usage: fusedrnn train ")
        assert shown.endswith(message)


def test_help_says_every_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("info", "selftest", "train", "generate", "bench"))
    for name in ("info", "selftest", "train", "generate", "bench"):
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        out = capsys.readouterr().out
        assert all(len(line) <= 80 for line in out.splitlines())
        for option in re.split(r"\n  -", out)[1:]:
            assert option.count("(default") <= 1, option
            assert "None" not in option
    defaults = " ".join(out_of(["train", "--help"], capsys).split())
    for key, value in DEFAULTS.items():
        assert f"(default: {value})" in defaults, key


def test_the_page_of_the_command_line_names_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Path(__file__).parent.parent
    names = ("info", "selftest", "train", "generate", "forecast", "bench")
    options = set()
    for name in names:
        options |= set(re.findall(r"(--[a-z][a-z-]+)", out_of([name, "--help"], capsys)))
    page = (root / "docs/command-line.md").read_text()
    assert set(re.findall(r"(--[a-z][a-z-]+)\b", page)) <= options
    assert {"--checkpoint-every", "--resume", "--force", "--json", "--quiet"} <= options
    found = re.findall(r"fusedrnn ([a-z]+)\b", page + (root / "README.md").read_text())
    assert set(names) <= set(found)


def out_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().out


# --- divergence, memory --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--steps", 30), ("--steps", 1), ("--steps", 2)])
def test_a_run_that_diverged_is_said_to_have_diverged(
    arguments: tuple[object, ...], text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--lr 1e30 makes a run diverge, which the next update shows, or only the check at the end."""
    out = tmp_path / "m.npz"
    assert train(text, out, "--lr", "1e30", "--quiet", *arguments) == 1
    shown = capsys.readouterr().err
    assert re.match(
        r"fusedrnn train: update 2: loss \S+ nats.*: the run diverged; a lower learning rate may "
        r"help \(--lr\)\. Nothing was saved\n$",
        shown,
    )
    assert not out.exists()


def test_a_run_that_diverged_does_not_replace_what_was_saved(
    trained: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.npz"
    assert train(text, out, "--steps", 3, "--quiet") == 0
    trainer = reopened(out)
    with trainer.model.writable() as p:
        p["dense.bias"][0] = 1e30  # finite, but worthless
    runfile.save(out, trainer, {k: runfile.load(out).header[k] for k in ("run", "corpus")})
    before = out.read_bytes()
    assert main(["train", "--resume", str(out), "--steps", "9", "--quiet", "--json"]) == 1
    printed, shown = capsys.readouterr()
    assert (
        f"the run diverged; a lower learning rate may help (--lr). {out} has the run up to update 3"
        in (shown)
    )
    assert json.loads(printed)["stopped"] == "diverged"
    assert out.read_bytes() == before


def test_gradients_that_are_not_finite_are_divergence(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusedrnn.charlm.train.clip_global_norm", lambda *_, **__: float("nan"))
    assert train(text, tmp_path / "m.npz", "--steps", 2) == 1
    assert "gradient norm nan: the run diverged" in capsys.readouterr().err


def test_a_model_whose_odds_overflow_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = reopened(trained)
    with trainer.model.writable() as p:
        p["dense.weight"][:] = 3e38
        p["dense.bias"][:] = 3e38
    path = tmp_path / "m.npz"
    runfile.save(path, trainer, {})
    assert main(["generate", "--model", str(path)]) == 1
    assert "odds that are not finite numbers; its training has diverged" in capsys.readouterr().err


def test_memory_that_there_is_not(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what needs how much memory, also if the system is the one that notices."""
    parameters, size = memory.needed(
        cell="lstm", characters=30, hidden_size=12, num_layers=1, itemsize=4, places=64
    )
    trainer = build(load_corpus(text), {**DEFAULTS, "hidden_size": 12, "batch": 4, "chunk": 16})
    assert parameters == trainer.model.parameter_count
    assert size == 4 * (6 * parameters + 64 * (7 * 12 + 3 * 30))
    monkeypatch.setattr(memory, "available", lambda: size - 1)
    assert train(text, tmp_path / "m.npz") == 2
    assert capsys.readouterr().err == (
        "fusedrnn train: error: the model and updates of 64 characters need at least 105 KB "
        f"of memory ({parameters:,} parameters), and there are 105 KB; less is needed with "
        "smaller --hidden-size, --layers, --batch or --chunk\n"
    )
    monkeypatch.setattr(memory, "available", lambda: size)
    monkeypatch.setattr("fusedrnn.charlm.lm.Dense", lambda *_, **__: np.empty(1 << 58))
    assert train(text, tmp_path / "m.npz") == 1
    shown = capsys.readouterr().err
    assert re.match(r"fusedrnn train: error: out of memory: Unable to allocate 2\S* EiB", shown)
    assert shown.count("\n") == 1


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_the_memory_of_a_run_is_known_before(cell: str) -> None:
    from fusedrnn.charlm import Alphabet, CharLM

    model = CharLM(Alphabet("abcdefg"), 11, cell=cell, num_layers=3, seed=0)
    parameters, _ = memory.needed(
        cell=cell, characters=7, hidden_size=11, num_layers=3, itemsize=4, places=1
    )
    assert parameters == model.parameter_count
    limit = memory.available()
    assert limit is None or limit > 100e6


def test_sizes_as_people_read_them() -> None:
    sizes = (0, 999, 1000, 24_600, 25_300_000_000, 999_600_000_000, 10**17, 10**18, 10**400)
    assert [memory.readable(size) for size in sizes] == [
        *("0 bytes", "999 bytes", "1 KB", "24.6 KB", "25.3 GB", "1 TB", "100 PB"),
        *("over 1000 PB", "over 1000 PB"),
    ]
    assert memory.binary(49152) == "48 KiB"
    assert memory.binary(260 << 20) == "260 MiB"


def test_what_was_learned_before_an_error_is_kept(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.npz"
    honest, made = session.report.status, []

    def fails(*arguments: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise MemoryError("no more")
        return honest(*arguments)

    monkeypatch.setattr(session.report, "status", fails)
    assert train(text, out, "--steps", 40) == 1
    shown = capsys.readouterr().err
    assert shown.endswith(
        f"Saved {out} after {len(losses(out))} updates, before this error:\n"
        "fusedrnn train: error: out of memory: no more\n"
    )
    assert 0 < len(losses(out)) < 40


# --- saving on the way, and where nothing can be saved ------------------------------------------


def test_checkpoints_are_written_every_so_often(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    honest = runfile.save

    def save(path: Path, trainer: Any, about: Any) -> None:
        honest(path, trainer, about)
        saved.append(trainer.updates)

    monkeypatch.setattr(runfile, "save", save)
    monkeypatch.setattr(session, "CHECKPOINT_SHARE", 1e9)
    assert train(text, tmp_path / "a.npz", "--steps", 30, "--checkpoint-every", "1e-9") == 0
    assert saved == list(range(1, 31))
    saved.clear()
    assert train(text, tmp_path / "b.npz", "--steps", 30, "--checkpoint-every", "0") == 0
    assert saved == [30]
    saved.clear()
    # Checkpoints take at most their share of the time, however often they are asked for.
    monkeypatch.setattr(session, "CHECKPOINT_SHARE", 1e-9)
    assert train(text, tmp_path / "c.npz", "--steps", 30, "--checkpoint-every", "1e-9") == 0
    assert saved == [1, 30]
    assert losses(tmp_path / "a.npz") == losses(tmp_path / "b.npz") == losses(tmp_path / "c.npz")


class FullDisk:
    """Makes `runfile.save` fail in some folders, as on a full disk."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.honest = runfile.save

    def __call__(self, path: Path, trainer: Any, about: Any) -> None:
        if not self.folders or path.parent.resolve() in self.folders:
            raise OSError(28, "No space left on device", str(path))
        self.honest(path, trainer, about)


def test_a_full_disk_at_the_save(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays, the error names it, and the run is saved elsewhere."""
    full, room = tmp_path / "full", tmp_path / "room for it"
    full.mkdir()
    room.mkdir()
    out = full / "m.npz"
    assert train(text, out, "--steps", 2, "--quiet") == 0
    before = out.read_bytes()
    monkeypatch.setattr(runfile, "save", FullDisk(full.resolve()))
    monkeypatch.setenv("TMPDIR", str(room))
    for name in ("m.npz", "m-2.npz"):
        code = main(["train", "--resume", str(out), "--steps", "4", "--checkpoint-every", "1e-9"])
        assert code == 1
        shown = capsys.readouterr().err
        assert f"{out}: No space left on device: no checkpoint; the run goes on" in shown
        assert (
            f"{out}: No space left on device, and what was there before is as it was. Saved "
            f"{room / name} instead; to go on where it was to be: fusedrnn train --resume "
            f"'{room / name}' --out {out}\n"
        ) in shown
        assert len(losses(room / name)) == 4
    assert out.read_bytes() == before
    assert sorted(path.name for path in full.iterdir()) == ["m.npz"]


def test_nothing_saved_anywhere_is_told(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.npz"
    monkeypatch.setattr(runfile, "save", FullDisk())
    assert train(text, out, "--steps", 2, "--quiet", "--json") == 1
    printed, shown = capsys.readouterr()
    assert shown.startswith(f"The run is not saved: {out}: No space left on device; /")
    assert shown.endswith("Nothing was saved\n")
    result = json.loads(printed)
    assert (result["saved"], result["stopped"], result["updates"]) == (None, "not saved", 2)
    assert not out.exists()


def test_a_disk_without_room_is_told_before_the_work(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusedrnn.cli import saving

    usage = saving.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: usage._replace(free=1234))
    assert train(text, tmp_path / "m.npz", "--steps", 2) == 2
    assert re.search(
        r"m.npz: the disk has 1.23 KB left, and the run takes [\d.]+ KB; --out names another place",
        capsys.readouterr().err,
    )


def test_two_processes_on_one_file(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another process saves under this name, its file stays; this run is saved beside it."""
    out, theirs = tmp_path / "m.npz", tmp_path / "theirs.npz"
    assert train(text, theirs, "--steps", 1, "--quiet") == 0
    honest = session.report.status

    def meanwhile(*arguments: Any) -> Any:
        if not out.exists():
            out.write_bytes(theirs.read_bytes())
        return honest(*arguments)

    monkeypatch.setattr(session.report, "status", meanwhile)
    assert train(text, out, "--steps", 3) == 1
    assert (
        f"{out} was written by another program while this run trained, and stays as it is. This "
        f"run is saved as {tmp_path / 'm-2.npz'}\n"
    ) in capsys.readouterr().err
    assert out.read_bytes() == theirs.read_bytes()
    assert len(losses(tmp_path / "m-2.npz")) == 3


# --- texts ---------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert train(path, tmp_path / "m.npz", "--steps", 1, "--quiet") == 0
    alphabet = runfile.load(tmp_path / "m.npz").header["model"]["alphabet"]
    assert alphabet == "".join(sorted(set(TEXT)))


def test_a_prompt_that_the_model_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the report suggests can be run as it stands, for any text and file name."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "ko.npz": "안녕하세요 세계. \n",
        "sp ace.npz": "The end.\n",
        "new\nline.npz": "it's\n",
        "signs.npz": "+-*/ ",
        "one.npz": "a",
    }
    for out, words in texts.items():
        Path("t.txt").write_text(words * 300, encoding="utf-8")
        assert train("t.txt", out, "--steps", 2) == 0
        hint = capsys.readouterr().out.splitlines()[-1]
        assert hint.startswith("  fusedrnn generate --model ")
        split = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {hint.strip().removeprefix('fusedrnn ')}"],
            capture_output=True,
            check=True,
        ).stdout.decode()
        arguments = split.split("\0")[:-1]
        assert arguments[2] == out
        assert main([*arguments, "--length", "2"]) == 0
        capsys.readouterr()


def test_an_alphabet_of_one_character(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "SECONDS", 0.05)
    (tmp_path / "a.txt").write_text("a" * 900)
    assert train(tmp_path / "a.txt", tmp_path / "m.npz", "--steps", 3, "--compare") == 0
    out = capsys.readouterr().out
    assert "  LSTM, 12 units                      0.000\n" in out
    assert "-0.000" not in out
    assert "  | aaaa" in out


def test_a_text_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("\x1b[2J\ta\x07" * 200)
    assert train(tmp_path / "a.txt", tmp_path / "m.npz", "--steps", 1) == 0
    printed = "".join(capsys.readouterr())
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "\t" not in printed


# --- quiet, json, completion ---------------------------------------------------------------------


def test_quiet_writes_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(text, tmp_path / "m.npz", "--steps", 3, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert len(losses(tmp_path / "m.npz")) == 3


def test_the_final_report_for_programs(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.npz"
    assert train(text, out, "--steps", 3, "--json", "--cell", "gru") == 0
    printed, shown = capsys.readouterr()
    assert "100%  update 3" in shown
    result = json.loads(printed)
    assert result["saved"] == str(out)
    assert result["stopped"] is None
    assert result["model"] == {
        "cell": "gru",
        "num_layers": 1,
        "hidden_size": 12,
        "dtype": "float32",
        "parameters": runfile.load(out).model().parameter_count,
    }
    assert result["losses"] == {"first": losses(out)[0], "last": losses(out)[-1]}
    assert 0 < result["validation"]["bits_per_character"] < 10
    assert len(result["validation"]["contexts"]) == 4
    # Without an update there is no loss, so the JSON has null.
    assert train(text, tmp_path / "none.npz", "--steps", 0, "--json", "--quiet") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["losses"] == {"first": None, "last": None}


def test_completion_is_asked_for_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Completer:
        asked: list[argparse.ArgumentParser] = []  # noqa: RUF012

        @classmethod
        def autocomplete(cls, parser: argparse.ArgumentParser) -> None:
            cls.asked.append(parser)

    monkeypatch.setitem(sys.modules, "argcomplete", Completer)
    assert main(["info"]) == 0
    assert [parser.prog for parser in Completer.asked] == ["fusedrnn"]
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert main(["info"]) == 0


def test_the_shell_is_told_how_a_line_goes_on() -> None:
    completers = pytest.importorskip("argcomplete")
    parser = _parser()
    finder = completers.CompletionFinder(parser)

    def completed(line: str) -> list[str]:
        *words, last = line.split(" ")
        return [str(word).strip() for word in finder._get_completions(words, last, "", None)]

    assert {"train", "generate", "info"} <= set(completed("fusedrnn "))
    assert "--checkpoint-every" in completed("fusedrnn train --ch")
    assert completed("fusedrnn train --cell g") == ["gru"]
