"""`fusedrnn forecast`, in this process and in terminals and pipes of its own."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import forecasting
from fusedrnn.cli import _parser, main
from fusedrnn.cli.table import read_column
from fusedrnn.forecasting import networks

TIMEOUT = 120
VALUES = np.round(
    30 + np.arange(48) / 3 + 6 * np.sin(np.arange(48) * np.pi / 3)
    + np.random.default_rng(0).standard_normal(48), 3
)  # fmt: skip
TABLE = "day,sold\n" + "".join(
    f"2024-{k // 24 + 1:02}-{k % 24 + 1:02},{v}\n" for k, v in enumerate(VALUES)
)
QUICK = ("--members", "1", "--origins", "4")
linux = pytest.mark.skipif(sys.platform != "linux", reason="terminals and signals of Linux")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "t.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(fr.__file__).parent.parent))
    monkeypatch.setattr(networks, "UPDATES", 8)
    with fr.set_num_threads(None):
        yield


def forecast(*arguments: object, horizon: int = 4) -> int:
    return main(["forecast", *map(str, arguments), *QUICK, "--horizon", str(horizon)])


def read(text: str | bytes, column: str | None = None, separator: str | None = None) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    return read_column(data, "t.csv", column, separator)


# --- tables --------------------------------------------------------------------------------------

ONE = "x\n1\n2.5\n-3e2\n"


@pytest.mark.parametrize(
    ("text", "column", "separator", "name", "values"),
    [
        (ONE, None, None, "x", [1, 2.5, -300]),
        (ONE.rstrip(), None, None, "x", [1, 2.5, -300]),
        (ONE + "\n\n", None, None, "x", [1, 2.5, -300]),
        (ONE.replace("\n", "\r\n"), None, None, "x", [1, 2.5, -300]),
        (ONE.replace("\n", "\r"), None, None, "x", [1, 2.5, -300]),
        (b"\xef\xbb\xbf" + ONE.encode(), "x", None, "x", [1, 2.5, -300]),
        ("d;v\na;.5\nb;+2.\n", None, None, "v", [0.5, 2]),
        ("d\tv\na\t1\nb\t2\n", None, None, "v", [1, 2]),
        ("d|v\na|1\nb|2\n", None, None, "v", [1, 2]),
        ("d v\na 1\nb 2\n", None, " ", "v", [1, 2]),
        ('"a, b","say ""v"""\n"1, 2","7"\n"3, 4","8"\n', None, None, 'say "v"', [7, 8]),
        ('d;v\n"a,b";1\n"c,d";2\n', None, None, "v", [1, 2]),
        ("d,v\n2020, 1 \n2021,5\n2022,5\n", None, None, "v", [1, 5, 5]),  # years count time
        (",0\n1821,269\n1822,321\n1823,5\n", None, None, "0", [269, 321, 5]),
        ("a,b\n1,5\n2,6\n", "b", None, "b", [5, 6]),
        ("a, b \n1,5\n2,9\n", "b", None, "b", [5, 9]),
        ("7\n1\n2\n", "7", None, "7", [1, 2]),  # a name that is a number, if it is given
        ("n\n1\n2\n3\n", None, None, "n", [1, 2, 3]),  # the only column is meant, line or not
        ('d,v\n"one\ntwo",1\nb,2\n', None, None, "v", [1, 2]),
    ],
)
def test_tables(
    text: str | bytes, column: str | None, separator: str | None, name: str, values: list[float]
) -> None:
    found = read(text, column, separator)
    assert found.name == name
    assert found.values.tolist() == values
    assert found.values.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "t.csv: is empty; expected a header and rows of numbers"),
        ("\n \n", None, "t.csv: is empty"),
        ("v\n", None, "t.csv: no column has numbers; there are 'v'"),
        ("1\n2\n3\n", None, "t.csv: line 1 has numbers and no names; the first line must be a h"),
        ("d,v\na,1\nb\n", None, "t.csv: line 3: expected 2 fields as in the header, got 1"),
        ("d,v\na,1\nb,1,2\n", None, "t.csv: line 3: expected 2 fields as in the header, got 3"),
        ("d,v\na,1\n\nb,2\n", None, "t.csv: line 3 is empty"),
        ("v\n1\n\n2\n", None, "t.csv: line 3 is empty"),
        ("d,v\na,1\n,\nb,2\n", None, "t.csv: line 3 is empty"),
        ("d,v\na,1\nb,\n", None, "t.csv: line 3: column 'v' has no value; a series must not have"),
        ("d,v\na,1\nb,n/a\n", None, "t.csv: line 3: column 'v': expected a number, got 'n/a'"),
        ("d,v\na,1\nb,nan\n", None, "t.csv: line 3: column 'v': expected a number, got 'nan'"),
        ("d,v\na,1\nb,-inf\n", None, "line 3: column 'v': expected a number, got '-inf'"),
        ("d,v\na,1\nb,1e999\n", None, "line 3: column 'v': 1e999 is too large for a number"),
        ("d,v\na,1\nb,1_0\n", None, "line 3: column 'v': expected a number, got '1_0'"),
        ("d,v\na,1\nb,٣\n", None, "line 3: column 'v': expected a number, got '٣'"),
        ("d;v\na;1\nb;1,5\n", None, "got '1,5'; numbers have a decimal point"),
        ("d,v\na,1\nb," + "x" * 99, None, "got '" + "x" * 27 + "...'"),
        ('d,v\n"one\ntwo",1\nb,?\n', None, "t.csv: line 4: column 'v'"),
        ('d,v\na,1\nb,"2\n', None, "t.csv: line 3: not CSV: unexpected end of data"),
        ("d,v\na,1\n", "w", "t.csv: no column 'w'; there are 'd', 'v'"),
        ("d,v\na,1\n", "sales", "t.csv: no column 'sales'; there are 'd', 'v'"),
        ("d,v\na,1\n", "d", "t.csv: line 2: column 'd': expected a number, got 'a'"),
        ("v,v\n1,1\n", "v", "t.csv: 2 columns are named 'v'"),
        ("a,b\n1,5\n3,6\n7,6\n", None, "t.csv: several columns have numbers: 'a', 'b'; --column"),
        ("a,b\n1,5\n2,6\n3,7\n", None, "no column but those that count rows; there are 'a', 'b'"),
        ("d,e\na,b\n", None, "t.csv: no column has numbers; there are 'd', 'e'"),
        (
            ",".join(f"c{k}" for k in range(12)) + "\n" + ",".join("x" * 12) + "\n",
            "z",
            "'c9' and 2 more",
        ),
        (b"\x89PNG\r\n\x1a\n", None, "t.csv: not UTF-8 text"),
        ("v\n1\n".encode("utf-16"), None, "it looks like UTF-16"),
        (b"v\n1\n\0\0\n", None, "t.csv: a binary file, not CSV"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    text: str | bytes, column: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read(text, column)


# --- the command ---------------------------------------------------------------------------------


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast("t.csv") == 0
    out, shown = capsys.readouterr()
    found = forecasting.forecast(VALUES, 4, members=1, origins=4)
    assert "'sold' of t.csv, 48 values from " in out
    assert f"season: {found.season} rows (found)" in " ".join(out.split())
    assert "4 steps ahead from 4 origins, after " in out
    for name, errors in found.errors.items():
        assert f"  {name:<16}{errors.mae:>12.5g}{errors.rmse:>12.5g}{errors.mase:>9.3f}\n" in out
    rows = re.findall(r"^ {2,}(\d+) +(\S+) +(\S+) +(\S+)$", out, re.M)
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4]
    for k, row in enumerate(rows):
        expected = (found.mean[k], found.lower[k], found.upper[k])
        assert row[1:] == tuple(f"{number:.6g}" for number in expected)
    assert "about 80% of the values (split-conformal" in " ".join(out.split())
    assert all(len(line) <= 80 for line in out.splitlines())
    assert len(shown.splitlines()) == 11  # each tenth, and the start
    assert "\r" not in shown + out


def test_the_verdict_is_plain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusedrnn.cli import forecast as command
    from fusedrnn.forecasting import Errors, Forecast

    def words(**mae: float) -> str:
        names = {"network": "network", "ar": "linear AR", "seasonal": "seasonal naive"}
        errors = {names[name]: Errors(value, value, value) for name, value in mae.items()}
        found = object.__new__(Forecast)
        object.__setattr__(found, "errors", errors)
        return command._verdict(found)

    assert words(network=2.0, ar=1.5, seasonal=1.0) == (
        "The network loses to seasonal naive and linear AR: its mean absolute error is 2, that of "
        "seasonal naive 1. For this series seasonal naive is the better choice."
    )
    assert words(network=2.0, ar=2.0, seasonal=2.5) == (
        "The network has the smallest mean absolute error, 2; the next best is linear AR, with 2."
    )
    assert "loses to linear AR:" in words(network=2.0, ar=1.5, seasonal=3.0)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast("t.csv", "--json", "--quiet", "--season", 6, "--cell", "lstm") == 0
    out, shown = capsys.readouterr()
    assert shown == ""
    result = json.loads(out)
    found = forecasting.forecast(VALUES, 4, members=1, origins=4, season=6, cell="lstm")
    assert [row["forecast"] for row in result["forecast"]] == found.mean.tolist()
    assert [row["lower"] for row in result["forecast"]] == found.lower.tolist()
    assert [row["upper"] for row in result["forecast"]] == found.upper.tolist()
    assert [row["step"] for row in result["forecast"]] == [1, 2, 3, 4]
    assert result["backtest"]["origins"] == found.origins.tolist()
    assert result["backtest"]["better_than_network"] == found.better
    for name, errors in found.errors.items():
        assert result["backtest"]["errors"][name] == errors._asdict()
    assert result["scalings"] == [{"log": one.log, "lag": one.lag} for one in found.scalings]
    assert result["intervals"] == {"method": "split-conformal", "coverage": 0.8}
    head = ("file", "column", "values", "horizon", "season", "window", "cell", "members", "seed")
    assert [result[name] for name in head] == [
        "t.csv", "sold", 48, 4, 6, found.window, "lstm", 1, 0,
    ]  # fmt: skip
    assert (result["output"], result["plot"]) == (None, None)


def test_options_reach_the_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    def made(*arguments: object) -> dict[str, Any]:
        assert main(["forecast", "t.csv", "--json", "--quiet", *map(str, arguments)]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    base = ("--horizon", 2, *QUICK)
    first = made(*base)
    assert first == made(*base)
    for other in (("--seed", 1), ("--window", 5), ("--members", 2), ("--cell", "rnn")):
        assert made(*base, *other)["forecast"] != first["forecast"]
    nine = made("--horizon", 2, "--members", 1, "--origins", 9, "--coverage", 0.9)
    assert len(nine["backtest"]["origins"]) == 9
    assert nine["intervals"]["coverage"] == 0.9


def test_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast("t.csv", "--output", "out.csv", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output"] == "out.csv"
    with open("out.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "forecast", "lower", "upper"]
    assert [[float(cell) for cell in row] for row in rows[1:]] == [
        [row["step"], row["forecast"], row["lower"], row["upper"]] for row in result["forecast"]
    ]
    # An existing file is replaced only if that is asked for, before any work.
    before = Path("out.csv").read_bytes()
    assert forecast("t.csv", "--output", "out.csv", horizon=2) == 2
    shown = capsys.readouterr().err
    assert shown == (
        "fusedrnn forecast: error: out.csv: exists; --force replaces it, --output names another "
        "file\n"
    )
    assert Path("out.csv").read_bytes() == before
    assert forecast("t.csv", "--output", "out.csv", "--force", horizon=2) == 0
    assert "Wrote out.csv\n" in capsys.readouterr().out
    assert len(Path("out.csv").read_text().splitlines()) == 3
    Path("empty.csv").touch()
    assert forecast("t.csv", "--output", "empty.csv", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert len(Path("empty.csv").read_text().splitlines()) == 5
    assert forecast("t.csv", "--output", "/dev/null", "--quiet") == 0
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_a_file_that_appears_during_the_work_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = forecasting.forecast

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        Path("out.csv").write_text("theirs")
        return honest(*arguments, **options)

    monkeypatch.setattr(forecasting, "forecast", meanwhile)
    assert forecast("t.csv", "--output", "out.csv") == 2
    assert "out.csv: exists; --force" in capsys.readouterr().err
    assert Path("out.csv").read_text() == "theirs"


def test_the_input_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("t.csv", "link.csv")
    for other in ("t.csv", "./t.csv", "link.csv"):
        assert forecast("t.csv", "--output", other, "--force") == 2
        assert "--output, FILE: expected different files" in capsys.readouterr().err
    assert Path("t.csv").read_text() == TABLE
    assert forecast("t.csv", "--output", "a.png", "--plot", "a.png") == 2
    assert "--output, --plot, FILE: expected different files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "magic"), [("p.png", b"\x89PNG"), ("p.PDF", b"%PDF"), ("p.svg", b"<?xml")]
)
def test_plot(name: str, magic: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert forecast("t.csv", "--plot", name) == 0
    assert f"Wrote {name}\n" in capsys.readouterr().out
    assert Path(name).read_bytes().startswith(magic)


def test_what_a_plot_shows() -> None:
    pytest.importorskip("matplotlib")
    found = forecasting.forecast(VALUES, 4, members=1, origins=4)
    figure = forecasting.plot.forecast(VALUES, found, name="price in $ a $")
    (axes,) = figure.axes
    series, mean = axes.lines
    assert series.get_xdata().tolist() == list(range(1, 49))
    assert series.get_ydata().tolist() == VALUES.tolist()
    assert mean.get_xdata().tolist() == [48, 49, 50, 51, 52]
    assert mean.get_ydata().tolist() == [VALUES[-1], *found.mean]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for k in range(4):
        at = corners[corners[:, 0] == 49 + k][:, 1]
        assert at.min() == found.lower[k]
        assert at.max() == found.upper[k]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["series", "forecast", "80% interval"]
    assert axes.get_ylabel() == r"price in \$ a \$"
    long = np.tile(VALUES, 10)
    again = forecasting.plot.forecast(long, found, ax=axes)
    assert again is figure
    assert axes.lines[2].get_xdata().tolist() == list(range(421, 481))


def test_a_plot_without_matplotlib(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert forecast("t.csv", "--plot", "p.png") == 2
    assert capsys.readouterr().err == (
        "fusedrnn forecast: error: --plot needs matplotlib: pip install 'fusedrnn[plot]'\n"
    )
    assert not Path("p.png").exists()
    found = forecasting.forecast(VALUES, 4, members=1, origins=4)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install 'fusedrnn\[plot\]'"):
        forecasting.plot.forecast(VALUES, found)


WRONG: list[tuple[list[str], str]] = [
    (["missing.csv"], "missing.csv: No such file or directory"),
    (["."], ".: Is a directory"),
    (["bad.csv"], "bad.csv: line 3: column 'v': expected a number, got 'x'"),
    (
        ["t.csv", "--column", "solt"],
        r"t.csv: no column 'solt' \(did you mean 'sold'\?\); there are",
    ),
    (["t.csv", "--season", "30"], "t.csv: column 'sold': 48 values are too few .* with season 30"),
    (["t.csv", "--window", "40"], "48 values are too few .* with window 40"),
    (["constant.csv"], "constant.csv: column 'v': all 40 values are 3; a constant series"),
    (["t.csv", "--coverage", "0.95"], "--origins: intervals that hold 0.95 .* at least 19, got 4"),
    (["t.csv", "--output", "no/such/o.csv"], "no/such/o.csv: the folder .*no/such does not exist"),
    (["t.csv", "--output", "."], "is a folder; --output names a file in it"),
    (["t.csv", "--output", ""], "is a folder; --output names a file in it"),
    (["t.csv", "--plot", "p.gif"], "--plot: expected a name that ends in .png, .svg or .pdf|.pdf"),
    (["t.csv", "--plot", "plot"], "--plot: expected a name that ends in"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_told_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.csv").write_text("v\n1\nx\n")
    Path("constant.csv").write_text("v\n" + "3\n" * 40)
    before = sorted(os.listdir())
    assert forecast(*arguments) == 2
    out, shown = capsys.readouterr()
    assert shown.startswith("fusedrnn forecast: error: ")
    assert shown.count("\n") == 1
    assert re.search(message, shown)
    assert out == ""
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--horizon", "0"], "--horizon: expected a whole number of 1 or more, got 0"),
        (["--horizon", "-2"], "--horizon: expected a whole number of 1 or more, got -2"),
        (["--horizon", "two"], "--horizon: expected a whole number of 1 or more, got 'two'"),
        ([], "the following arguments are required: --horizon"),
        (["--horizon", "2", "--season", "0"], "--season: expected a whole number of 1 or more"),
        (["--horizon", "2", "--window", "0"], "--window: expected a whole number of 1 or more"),
        (["--horizon", "2", "--members", "0"], "--members: expected a whole number of 1 or more"),
        (["--horizon", "2", "--origins", "0"], "--origins: expected a whole number of 1 or more"),
        (["--horizon", "2", "--coverage", "1"], "expected a number above 0 and below 1, got 1"),
        (["--horizon", "2", "--coverage", "0"], "expected a number above 0 and below 1, got 0"),
        (["--horizon", "2", "--coverage", "x"], "expected a number above 0 and below 1, got 'x'"),
        (["--horizon", "2", "--separator", "ab"], "expected tab, or one sign that is no letter"),
        (["--horizon", "2", "--separator", "a"], "expected tab, or one sign that is no letter"),
        (["--horizon", "2", "--separator", ""], "expected tab, or one sign that is no letter"),
        (["--horizon", "2", "--cell", "tcn"], "invalid choice: 'tcn'"),
        (["--horizon", "2", "--colum", "x"], "(did you mean --column?)"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["forecast", "t.csv", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_separators(capsys: pytest.CaptureFixture[str]) -> None:
    for separator, given in ((";", ";"), ("\t", "tab"), ("\t", "\\t"), ("\t", "\t"), (":", ":")):
        Path("s.csv").write_text(TABLE.replace(",", separator))
        assert forecast("s.csv", "--separator", given, "--quiet") == 0
    assert forecast("s.csv") == 2  # a colon is not among those that are tried
    assert "no column has numbers" in capsys.readouterr().err


def test_names_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    Path("n\x1b.csv").write_text(TABLE.replace("sold", "so\x1b[2Jld"))
    assert forecast("n\x1b.csv") == 0
    assert forecast("n\x1b.csv", "--column", "\x1b") == 2
    assert "\x1b" not in "".join(capsys.readouterr())


def test_the_shell_is_told_how_a_line_goes_on() -> None:
    completers = pytest.importorskip("argcomplete")
    finder = completers.CompletionFinder(_parser())

    def completed(line: str) -> list[str]:
        *words, last = line.split(" ")
        return [str(word).strip() for word in finder._get_completions(words, last, "", None)]

    assert completed("fusedrnn fore") == ["forecast"]
    assert completed("fusedrnn forecast t.csv --cell ls") == ["lstm"]
    assert completed("fusedrnn forecast t.csv --sep") == ["--separator"]


# --- processes of its own ------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fusedrnn", "forecast", *map(str, arguments), *QUICK]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT, **options}
    return subprocess.run(command(*arguments), **options)


def test_the_same_from_standard_input_and_on_two_threads() -> None:
    options = ("--horizon", 3, "--json")
    with open("t.csv") as table:
        piped = run("-", *options, "--threads", 2, stdin=table)
    assert piped.returncode == 0, piped.stderr
    plain = run("t.csv", *options, "--threads", 1, "--quiet")
    assert plain.stderr == ""
    first, second = json.loads(piped.stdout), json.loads(plain.stdout)
    assert first.pop("file") == "standard input"
    assert second.pop("file") == "t.csv"
    assert first == second
    done = run("-", "--horizon", 3, input="v\n1\nx\n")
    assert (done.returncode, done.stderr) == (
        2,
        "fusedrnn forecast: error: standard input: line 3: column 'v': expected a number, got "
        "'x'\n",
    )


@linux
def test_a_reader_that_left_and_a_full_device() -> None:
    with open("/dev/full", "w") as full:
        done = run(
            "t.csv", "--horizon", 2, stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("t.csv", "--horizon", 2, "--output", "/dev/full", "--quiet")
    assert (done.returncode, done.stderr) == (
        2,
        "fusedrnn forecast: error: /dev/full: No space left on device\n",
    )
    with subprocess.Popen(
        command("t.csv", "--horizon", 2, "--output", "o.csv"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.read()
        assert process.wait(TIMEOUT) == 141
    assert Path("o.csv").exists()


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_writes_nothing(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*command("t.csv", "--horizon", 2, "--output", "o.csv"), "--members", "999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert " 0%" in process.stderr.readline()
            process.send_signal(number)
            out, shown = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in shown
    assert sorted(os.listdir()) == ["t.csv"]


DURING_AN_IMPORT = """
import abc, collections, signal, sys
from fusedrnn.cli.stops import stops_raise

register = abc.ABCMeta.register

def interrupted(kind, subclass):
    if kind is collections.abc.Sequence:
        signal.raise_signal(signal.SIGINT)
    return register(kind, subclass)

signal.signal(signal.SIGINT, signal.default_int_handler)
loaded = "numpy.random" in sys.modules
abc.ABCMeta.register = interrupted
try:
    with stops_raise():
        import numpy.random
        print("loaded before" if loaded else "lost")
except KeyboardInterrupt:
    print("stopped")
"""


def test_no_signal_is_lost_while_numpy_loads_a_module() -> None:
    """Cython's modules register their kinds of sequence, and drop what is raised there."""
    done = subprocess.run(
        [sys.executable, "-c", DURING_AN_IMPORT], capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.stdout == "loaded before\n":
        pytest.skip("this NumPy loads numpy.random at once")
    assert (done.stdout, done.stderr) == ("stopped\n", "")


@linux
@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal(columns: int) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        command("t.csv", "--horizon", 2),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**inherited, "TERM": "xterm"},
    ) as process:
        os.close(slave)
        written = b""
        with contextlib.suppress(OSError):  # a closed pseudo-terminal raises
            while select.select([master], [], [], TIMEOUT)[0] and (part := os.read(master, 65536)):
                written += part
        os.close(master)
        assert process.wait(TIMEOUT) == 0
    text = written.decode()
    assert "\x1b" not in text
    progress = [line for line in re.split(r"[\r\n]+", text) if " left" in line]
    assert "100%" in progress[-1]
    assert all(len(line) < columns for line in progress)
    assert all(len(line) <= 80 for line in io.StringIO(text.replace("\r", "\n")))
