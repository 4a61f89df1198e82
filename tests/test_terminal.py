"""The command line in processes of its own: terminals, pipes, signals, full disks, kills.

Each test starts a process, so there are few.
"""

from __future__ import annotations

import contextlib
import fcntl
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
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn.charlm import runfile

TEXT = "pack my box with five dozen liquor jugs; the quick brown fox jumps over it.\n" * 60
TINY = ("--text", "text.txt", "--hidden-size", "12", "--batch", "4", "--chunk", "16")
# A run that ends only if it is interrupted.
LONG = (*TINY, "--steps", "1000000", "--checkpoint-every", "0")
TIMEOUT = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="terminals and signals of Linux")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(fr.__file__).parent.parent))
    monkeypatch.setenv("FUSEDRNN_NUM_THREADS", "1")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fusedrnn", *map(str, arguments)]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT, **options}
    return subprocess.run(command(*arguments), **options)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def started(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Start a process and wait until it has made its first update."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen(command(*arguments), **options) as process:  # type: ignore[call-overload]
        try:
            assert "update 1 " in process.stderr.readline()
            yield process
        finally:
            process.kill()


def losses(path: str | Path) -> list[float]:
    return [float(loss) for loss in runfile.load(path).arrays["trainer.losses"]]


def one_line(shown: str) -> bool:
    return shown.count("\n") == 1 and "Traceback" not in shown


# --- a terminal ----------------------------------------------------------------------------------


def in_a_terminal(*arguments: object, columns: int = 80, **environment: str) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; returns its exit code and what it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        command(*arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**inherited, "TERM": "xterm", **environment},
    )
    os.close(slave)
    written = b""
    with contextlib.suppress(OSError):  # a closed pseudo-terminal raises
        while select.select([master], [], [], TIMEOUT)[0] and (part := os.read(master, 65536)):
            written += part
    os.close(master)
    return process.wait(TIMEOUT), written.decode()


def test_everything_fits_a_terminal_of_80_columns() -> None:
    """The time left is shown, no line is wrapped, and only carriage returns move the cursor."""
    arguments = ("train", *TINY, "--hidden-size", "64", "--steps", "400", "--dtype", "float64")
    code, written = in_a_terminal(*arguments)
    assert code == 0, written
    assert "\x1b" not in written
    pictures = [line for line in re.split(r"[\r\n]+", written) if "% " in line and "left" in line]
    assert len(pictures) > 1
    assert re.fullmatch(
        r"\[#{10}\] 100%  update 400  \d\.\d{3} bits/char  [\d,]+ char/s  0:00 left", pictures[-1]
    )
    for line in re.split(r"[\r\n]+", written):
        assert len(line) <= 80, line
    assert "Saved model.npz. More text:" in written


def test_a_narrow_terminal_still_shows_the_time_left() -> None:
    code, written = in_a_terminal("train", *TINY, "--steps", "30", columns=40)
    assert code == 0, written
    pictures = [line for line in re.split(r"[\r\n]+", written) if "left" in line]
    assert pictures[-1].rstrip().endswith("100%  update 30  0:00 left")
    assert all(len(line) < 40 for line in pictures)


def test_no_escape_codes_where_colours_are_not_wanted() -> None:
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, written = in_a_terminal("train", "--help", **environment)
        assert code == 0
        assert "\x1b" not in written
        assert "--checkpoint-every S" in written


def in_control(*arguments: object) -> tuple[int, subprocess.Popen[bytes]]:
    """A command with a new controlling terminal; returns the other end and the process."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0))[0],
    )
    os.close(slave)
    return master, process


def test_ctrl_c_in_a_terminal() -> None:
    """The key itself is pressed: the terminal sends the signal, and the progress line is ended."""
    master, process = in_control("train", *LONG)
    written = b""
    with contextlib.suppress(OSError):
        while select.select([master], [], [], TIMEOUT)[0] and (part := os.read(master, 65536)):
            if b"bits/char" in part and b"\x03" not in written:
                os.write(master, b"\x03")
            written += part
    os.close(master)
    assert process.wait(TIMEOUT) == 130
    assert re.search(rb"left(\^C)?\r\nInterrupted by Ctrl-C after", written)
    assert losses("model.npz")


# --- pipes and closed streams --------------------------------------------------------------------


def test_train_into_head_saves_the_model_and_says_that_the_report_is_lost() -> None:
    with started("train", *TINY, "--steps", "300") as process:
        assert process.stdout.readline().startswith("Text:")
        process.stdout.close()
        shown = process.stderr.read()
        assert process.wait(TIMEOUT) == 141
    assert "100%  update 300" in shown
    assert shown.endswith("standard output: Broken pipe: the report is lost. Saved model.npz\n")
    assert len(losses("model.npz")) == 300


def test_a_full_device_for_the_report_is_told() -> None:
    for arguments, code in (
        (("train", *TINY, "--steps", "2"), 1),
        (("info",), 1),
        (("--help",), 1),
    ):
        with open("/dev/full", "w") as full:
            done = run(*arguments, stdout=full, capture_output=False, stderr=subprocess.PIPE)
        assert done.returncode == code
        assert "standard output: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    assert len(losses("model.npz")) == 2


def test_a_reader_that_stops_ends_a_command_as_sigpipe_does() -> None:
    assert run("train", *TINY, "--steps", "1", "--quiet").returncode == 0
    with subprocess.Popen(
        command("generate", "--length", 10**7), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(20)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT) == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str, tmp_path: Path) -> None:
    """fusedrnn info >&-: a file that is opened must not take the place of the closed stream."""
    script = f'"$@" --json {closed}; echo $? >code'
    arguments = command("train", *TINY, "--steps", "2")
    done = subprocess.run(
        ["bash", "-c", script, "bash", *arguments], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert Path("code").read_text() == "0\n"
    assert "Traceback" not in done.stderr
    assert len(losses("model.npz")) == 2
    assert (tmp_path / "text.txt").read_text() == TEXT
    if ">&- 2" not in closed and closed != ">&-":
        assert json.loads(done.stdout)["saved"] == "model.npz"


def test_standard_input_is_a_text() -> None:
    arguments = (*TINY[2:], "--steps", "3", "--out", "piped.npz", "--quiet")
    with open("text.txt") as text:
        assert run("train", "--text", "-", *arguments, stdin=text).returncode == 0
    assert run("train", *TINY, "--steps", "3", "--quiet").returncode == 0
    assert losses("piped.npz") == losses("model.npz")
    done = run("train", "--resume", "piped.npz", "--steps", "4")
    assert (done.returncode, done.stderr) == (
        2,
        "fusedrnn train: error: piped.npz: learns from standard input; --text gives it the text "
        "again\n",
    )
    with open("text.txt") as text:
        resumed = ("train", "--resume", "piped.npz", "--text", "-", "--steps", "4", "--quiet")
        assert run(*resumed, stdin=text).returncode == 0
    assert len(losses("piped.npz")) == 4


# --- signals -------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_resume_goes_on() -> None:
    # Updates take a few milliseconds, so that many are left when the signal comes.
    sizes = (*TINY[:2], "--hidden-size", "32", "--batch", "8", "--chunk", "64", "--steps", "200")
    with started("train", *sizes) as process:
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, shown
    assert "go on with: fusedrnn train --resume model.npz" in shown
    assert "Traceback" not in shown
    assert 0 < len(losses("model.npz")) < 200
    assert [path for path in os.listdir() if path.startswith(".")] == []

    assert run("train", "--resume", "model.npz").returncode == 0
    assert run("train", *sizes, "--out", "whole.npz").returncode == 0
    assert losses("model.npz") == losses("whole.npz")
    whole, again = (runfile.load(name).arrays for name in ("whole.npz", "model.npz"))
    for name, array in whole.items():
        if name != "trainer.place":  # it has the seconds of training
            np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_container_that_stops_and_a_logout_save_as_ctrl_c_does(number: signal.Signals) -> None:
    with started("train", *LONG, "--json") as process:
        process.send_signal(number)
        printed, shown = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number
    assert re.search(
        rf"Interrupted by {number.name} after [\d,]+ updates?. Saved model.npz; go on with: "
        r"fusedrnn train --resume model.npz\n$",
        shown,
    )
    result = json.loads(printed)
    assert (result["stopped"], result["saved"]) == (number.name, "model.npz")
    assert result["updates"] == len(losses("model.npz")) > 0


def test_several_signals_at_once_save_all_the_same() -> None:
    """Closing a terminal sends SIGHUP more than once, and people press Ctrl-C twice."""
    for numbers in ((signal.SIGHUP,) * 5, (signal.SIGINT, signal.SIGTERM, signal.SIGINT)):
        with started("train", *LONG, "--force") as process:
            for number in numbers:
                process.send_signal(number)
            shown = process.communicate(timeout=TIMEOUT)[1]
        assert process.returncode in {128 + number for number in numbers}
        assert shown.count("Saved model.npz; go on with") == 1
        assert losses("model.npz")


def test_nohup_is_obeyed() -> None:
    with started(
        "train", *LONG, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as p:
        p.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(0.3)
        p.send_signal(signal.SIGTERM)
        assert p.wait(TIMEOUT) == 143


def test_a_terminal_that_goes_away_does_not_lose_the_run() -> None:
    """SIGHUP comes, and every later write to the terminal fails."""
    master, process = in_control("train", *LONG)
    written = b""
    while b"bits/char" not in written:
        assert select.select([master], [], [], TIMEOUT)[0]
        written += os.read(master, 65536)
    os.close(master)
    assert process.wait(TIMEOUT) == 128 + signal.SIGHUP
    assert losses("model.npz")


def test_ctrl_c_ends_generate() -> None:
    assert run("train", *TINY, "--steps", "1", "--quiet").returncode == 0
    with subprocess.Popen(
        command("generate", "--length", 10**7, "--prompt", "the "),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(8).startswith(b"the ")
        process.send_signal(signal.SIGINT)
        rest, shown = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert shown == b""
    assert rest.endswith(b"\n")


# --- disks and kills -----------------------------------------------------------------------------


def test_a_disk_that_fills_up_during_the_run(tmp_path: Path) -> None:
    """A file system of 200 KB is full when SIGTERM comes; the run is saved in TMPDIR."""
    small, room = tmp_path / "small", tmp_path / "room"
    small.mkdir()
    room.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "none", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a file system")
    try:
        out = small / "model.npz"
        assert run("train", *TINY, "--steps", "3", "--quiet", "--out", out).returncode == 0
        before = out.read_bytes()
        arguments = ("train", "--resume", out, "--steps", "1000000", "--checkpoint-every", "0.01")
        environment = {**os.environ, "TMPDIR": str(room)}
        with subprocess.Popen(
            command(*arguments), stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stderr is not None
            assert "update 4 " in process.stderr.readline()
            while small.joinpath("model.npz").read_bytes() == before:  # no checkpoint yet
                time.sleep(0.01)
            with (
                contextlib.suppress(OSError),
                open(small / "filler", "wb", buffering=0) as filler,
            ):
                while filler.write(b"x" * 4096):
                    pass
            assert "model.npz: No space left on device: no checkpoint" in process.stderr.readline()
            checkpoint = out.read_bytes()
            process.send_signal(signal.SIGTERM)
            shown = process.stderr.read()
            assert process.wait(TIMEOUT) == 143
        assert (
            f"{out}: No space left on device, and what was there before is as it was. Saved "
            f"{room / 'model.npz'} instead"
        ) in shown
        assert "Exception ignored" not in shown
        assert out.read_bytes() == checkpoint
        assert 3 < len(losses(out)) < len(losses(room / "model.npz"))
        assert sorted(path.name for path in small.iterdir()) == ["filler", "model.npz"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_that_is_removed_during_the_run(tmp_path: Path) -> None:
    gone, room = tmp_path / "gone", tmp_path / "room"
    gone.mkdir()
    room.mkdir()
    arguments = ("train", "--text", tmp_path / "text.txt", *LONG[2:])
    with started(*arguments, cwd=gone, env={**os.environ, "TMPDIR": str(room)}) as process:
        gone.rmdir()
        process.send_signal(signal.SIGTERM)
        shown = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 143
    assert f"model.npz: No such file or directory. Saved {room / 'model.npz'} instead" in shown
    assert losses(room / "model.npz")


# A program that runs the command line and kills itself with SIGKILL at a given point of a save.
KILLED = """
import os, signal, sys
from fusedrnn import _storage
from fusedrnn.cli import main

where, left = sys.argv[1], 2  # the second save is the one that is killed

def dies(name, after):
    honest = getattr(os, name)
    def call(*arguments):
        global left
        if not after:
            left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = honest(*arguments)
        if after:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

if where == "writing":
    import numpy as np
    honest = np.lib.format.write_array
    def write(file, array, **options):
        honest(file, array, **options)
        dies.arrays += 1
        if dies.arrays == 40:
            os.kill(os.getpid(), signal.SIGKILL)
    dies.arrays = 0
    np.lib.format.write_array = write
else:
    dies(*{"before the rename": ("replace", False), "after it": ("replace", True)}[where])
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("where", ["writing", "before the rename", "after it"])
def test_a_kill_during_a_save_leaves_a_whole_file(where: str) -> None:
    """SIGKILL during the second checkpoint leaves the first checkpoint or the second, complete."""
    script = Path("killed.py")
    script.write_text(textwrap.dedent(KILLED))
    done = subprocess.run(
        [sys.executable, script, where, "train", *LONG, "--checkpoint-every", "1e-9"],
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == -signal.SIGKILL
    found = len(losses("model.npz"))
    assert found > 0
    steps = found + 3
    assert run("train", "--resume", "model.npz", "--steps", steps, "--quiet").returncode == 0
    assert len(losses("model.npz")) == steps


def test_a_kill_at_any_moment_leaves_a_whole_file() -> None:
    """SIGKILL from outside, while checkpoints are written all the time, leaves a complete file."""
    rng = np.random.default_rng(0)
    script = Path("often.py")
    script.write_text(
        "import sys\n"
        "from fusedrnn.cli import main, session\n"
        "session.CHECKPOINT_SHARE = 1e9\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    first = 0
    for _ in range(4):
        goes_on = ("--resume", "model.npz") if first else LONG[:-2]
        with subprocess.Popen(
            [sys.executable, script, "train", *goes_on, "--checkpoint-every", "1e-9"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert "update " in process.stderr.readline()
            time.sleep(0.05 + rng.random() * 0.1)
            process.kill()
        assert len(losses("model.npz")) >= first
        first = len(losses("model.npz"))
    assert first > 4


def test_a_file_size_limit_is_a_full_disk() -> None:
    """If no folder has room, the exit code and the text say that nothing was saved."""
    limits = 'ulimit -f 8; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", limits, "bash", *command("train", *TINY, "--steps", "2", "--quiet")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The run is not saved: model.npz: File too large; /")
    assert done.stderr.endswith(". Nothing was saved\n")
    assert one_line(done.stderr)
    assert os.listdir() == ["text.txt"]


# --- memory and environment ----------------------------------------------------------------------


def test_a_limit_of_memory_is_told_in_a_line() -> None:
    limits = 'ulimit -v 4000000; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", limits, "bash", *command("train", *TINY[:2], "--hidden-size", "12000")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its buffers count too
    )
    assert done.returncode == 2
    assert re.match(
        r"fusedrnn train: error: the model and updates of 2,048 characters need at least "
        r"14\.\d GB of memory \(577,\d{3},\d{3} parameters\), and there are 4\.1 GB; less ",
        done.stderr,
    )
    assert one_line(done.stderr)


ENVIRONMENT = {
    "FUSEDRNN_ISA": "FUSEDRNN_ISA: expected one that this machine runs (",
    "FUSEDRNN_NUM_THREADS": "FUSEDRNN_NUM_THREADS: expected a whole number from 1 to 1024, got",
    "FUSEDRNN_BACKEND": "FUSEDRNN_BACKEND: expected 'native' or 'reference', got",
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_wrong_variable_is_told_in_a_line(name: str) -> None:
    """The error names variable, value and choices, and --help still works."""
    if name == "FUSEDRNN_ISA" and not fr.supported_isas():
        pytest.skip("this installation has no compiled kernels")
    environment = {**os.environ, name: "foo"}
    done = run("info", env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fusedrnn info: error: {ENVIRONMENT[name]}")
    assert "'foo'" in done.stderr
    assert one_line(done.stderr)
    assert done.stdout == ""
    assert run("--version", env=environment).stdout == f"fusedrnn {fr.__version__}\n"


def test_the_self_test_as_a_module() -> None:
    """`python -m fusedrnn.selftest` runs the tests instead of silently exiting with 0."""
    script = [sys.executable, "-W", "error", "-m", "fusedrnn.selftest", "--json"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [one["isa"] for one in found["instruction_sets"]] == list(fr.supported_isas())
    assert done.returncode == (0 if fr.supported_isas() else 1)
    assert all(one["cases"] > 10 and one["passed"] for one in found["instruction_sets"])
