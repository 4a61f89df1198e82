"""The commands as a user runs them, in one file because they share their runs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn._backends.choice import current
from fusedrnn.cli import main
from fusedrnn.nn import persist

TEXT = "pack my box with five dozen liquor jugs; the quick brown fox jumps over it.\n" * 60
TINY = ("--hidden-size", "12", "--batch", "4", "--chunk", "16")


@pytest.fixture(autouse=True)
def _settings_stay_here() -> Iterator[None]:
    """Undo what --threads chose."""
    with fr.set_num_threads(None):
        yield


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def losses(path: Path) -> list[float]:
    return [float(loss) for loss in persist.load(path)[1]["trainer.losses"]]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fusedrnn", *map(str, arguments)]


def train(text: Path, out: Path, *arguments: object) -> int:
    return main(["train", "--text", str(text), "--out", str(out), *TINY, *map(str, arguments)])


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
        assert "Install a C++ compiler" in out
    with fr.use_backend("reference"):
        assert main(["info"]) == 0
        assert "reference" in capsys.readouterr().out


def test_info_without_compiled_kernels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusedrnn._backends.choice.native", lambda: None)
    monkeypatch.setattr("fusedrnn.cli.info.not_built", lambda: "no C++ compiler was found")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "no C++ compiler was found" in out
    assert "apt-get install g++" in out
    assert main(["selftest"]) == 1
    assert "nothing to test" in capsys.readouterr().out


def test_selftest(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["selftest"])
    out = capsys.readouterr().out
    if fr.supported_isas():
        assert code == 0, out
        assert all(isa in out for isa in fr.supported_isas())
        assert "selftest passed" in out
    else:
        assert code == 1


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
    assert f"Saved {out}" in printed
    # Not a terminal: a line each tenth, and no control characters.
    lines = shown.splitlines()
    assert len(lines) == 11
    assert "\r" not in shown
    assert "\x1b" not in shown
    assert re.match(
        r"100%  update 120  loss \d\.\d{3}  \d\.\d{3} bits/char  [\d,]+ char/s  0:00 left",
        lines[-1],
    )

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


def test_the_same_seed_gives_the_same_run(text: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert train(text, path, "--steps", 12, "--seed", seed) == 0
    first, second, other = map(losses, paths)
    assert first == second != other
    assert len(first) == 12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resume_goes_on_exactly(text: Path, tmp_path: Path, dtype: str) -> None:
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    # By the clock the learning rate differs; a run of fixed length is what can be compared.
    assert train(text, whole, "--steps", 40, "--dtype", dtype) == 0
    assert train(text, part, "--steps", 40, "--dtype", dtype) == 0
    assert main(["train", "--resume", str(part)]) == 0  # complete: nothing is added
    assert losses(part) == losses(whole)
    assert main(["train", "--resume", str(part), "--steps", "45"]) == 0
    assert losses(part)[:40] == losses(whole)
    assert len(losses(part)) == 45


def test_ctrl_c_saves_and_resume_goes_on(text: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "model.npz", tmp_path / "whole.npz"
    # Updates of a few milliseconds, so that many are left when the signal comes.
    hidden, chunk = (64, 128) if current().name == "native" else (8, 32)
    sizes = ("--hidden-size", hidden, "--batch", 8, "--chunk", chunk, "--steps", 200)
    arguments = ("train", "--text", text, "--threads", 1, *sizes)
    with subprocess.Popen(
        command(*arguments, "--out", out), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "update 1 " in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert f"fusedrnn train --resume {out}" in shown
    assert "Traceback" not in shown
    done = len(losses(out))
    assert 0 < done < 200
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    assert main(["train", "--resume", str(out)]) == 0
    assert main([*map(str, arguments), "--out", str(whole)]) == 0
    assert losses(out) == losses(whole)
    for name, array in persist.load(whole)[1].items():
        if name.startswith("model."):
            np.testing.assert_array_equal(persist.load(out)[1][name], array)


def test_ctrl_c_ends_generate(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.npz"
    assert train(text, out, "--steps", 1) == 0
    with subprocess.Popen(
        command("generate", "--model", out, "--length", 10**7, "--prompt", "the "),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(8).startswith(b"the ")
        process.send_signal(signal.SIGINT)
        rest, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == b""
    assert rest.endswith(b"\n")


def test_a_reader_that_stops_is_no_error(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.npz"
    assert train(text, out, "--steps", 1) == 0
    with subprocess.Popen(
        command("generate", "--model", out, "--length", 10**7),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(20)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_compare(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text, tmp_path / "m.npz", "--steps", 0, "--compare") == 0
    out = capsys.readouterr().out
    if fr.supported_isas():
        found = re.search(
            r"Speed: native [\d,]+ characters/s, reference [\d,]+ characters/s: [\d.]+ times; "
            r"the first \d+ losses agree within (\S+)\n",
            out,
        )
        assert found is not None
        assert float(found.group(1)) < 1e-5
    else:
        assert "no compiled kernels" in out


def test_seconds(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.npz"
    assert train(text, out, "--seconds", 0.2) == 0
    config, arrays = persist.load(out)
    assert config["run"] == {"seconds": 0.2}
    assert len(arrays["trainer.losses"]) > 0
    assert main(["train", "--resume", str(out)]) == 0
    assert losses(out) == [float(loss) for loss in arrays["trainer.losses"]]


WRONG: list[tuple[list[str], str]] = [
    (["train", "--text", "missing.txt"], "missing.txt"),
    (["train", "--text", "{text}", "--out", "no/such/m.npz"], "the folder no/such does not exist"),
    (["train", "--text", "{text}", "--out", "{text}"], "exists and is not a model file"),
    (["train", "--text", "{text}", "--batch", "4000"], "too few for 4000 streams"),
    (["train", "--resume", "{text}"], "not a fusedrnn model file"),
    (["train", "--resume", "{model}", "--lr", "1"], "--lr: fixed by the run"),
    (["train", "--resume", "{model}", "--text", "{other}"], "not the text that"),
    (["generate", "--model", "{model}", "--prompt", "É"], "does not know: 'É'"),
    (["generate", "--model", "missing.npz"], "missing.npz"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: str(value)[-40:])
def test_wrong_input_is_told_in_a_line(
    arguments: list[str],
    message: str,
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model, other = tmp_path / "model.npz", tmp_path / "other.txt"
    other.write_text(TEXT[:-1])
    assert train(text, model, "--steps", 1) == 0
    before = model.read_bytes()
    capsys.readouterr()
    names = {"text": text, "model": model, "other": other}
    assert main([argument.format(**names) for argument in arguments]) == 2
    out, shown = capsys.readouterr()
    assert message in shown
    assert shown.startswith(f"fusedrnn {arguments[0]}: error: ")
    assert out == ""
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--steps", "3", "--seconds", "2"], "not allowed with"),
        (["train", "--steps", "-3"], "expected 0 or more"),
        (["train", "--batch", "0"], "expected 1 or more"),
        (["train", "--lr", "nan"], "expected a finite number"),
        (["train", "--lr", "0"], "expected a number above 0"),
        (["train", "--hidden-size", "big"], "expected a whole number"),
        (["generate", "--temperature", "hot"], "expected a number"),
        ([], "required: command"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_divergence_is_told(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("fusedrnn.nn.train.clip_global_norm", lambda *_, **__: float("nan"))
    assert train(text, tmp_path / "m.npz", "--steps", 2) == 1
    assert "gradient norm nan: the run diverged" in capsys.readouterr().err


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("info", "selftest", "train", "generate"))
    done = subprocess.run(command("--version"), capture_output=True, text=True, check=True)
    assert done.stdout == f"fusedrnn {fr.__version__}\n"
