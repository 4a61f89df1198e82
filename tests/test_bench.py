"""The benchmark's code, in one file because its parts share cases and an imagined machine.

No test fails because of a time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from bench import compare, grid, instructions, machine, measure, plots, report, run, targets, team
from bench.cases import CELLS, GROUPS, LATENCY, MEMORY, PADDING, Case
from bench.machine import Machine
from bench.measure import FailedError, Process, Record, Results
from bench.rivals import OURS, RIVALS, load, missing
from fusedrnn.cli import bench as command
from fusedrnn.cli import main

HERE = Machine(
    {"processor": "imagined"},
    {"float32": 100.0, "float64": 50.0},
    {"L1": (32 << 10, 400.0), "L2": (1 << 20, 100.0), "memory": (0, 10.0)},
    {"float32": (0.5, 1.0), "float64": (1.0, 2.0)},
    versions={OURS: {"fusedrnn": "0"}},
)
SMALL = Case("LSTM", "forward", 4, 3, 5, 6)
EVERY = sorted(
    {case for group in GROUPS.values() for case in group} | {*grid.points(), *MEMORY, *LATENCY},
    key=lambda case: case.name,
)
INSTALLED = [name for name in RIVALS if not missing(name)]
needs_native = pytest.mark.skipif(not fr.supported_isas(), reason="no compiled kernels")


def records(*found: tuple[Case, str, float]) -> targets.Found:
    return targets.by_case(
        [Record(case.name, of, {"best": t, "median": t}, [t]) for case, of, t in found]
    )


# --- the data ----------------------------------------------------------------------------------


def test_names_are_unique() -> None:
    assert len({case.name for case in EVERY}) == len(EVERY)


def test_cases_are_consistent() -> None:
    for case in EVERY:
        assert case.mode in ("forward", "training", "step", "changed", "function")
        assert case.mode != "step" or case.steps == 1
        assert case.flops() > 0
        assert case.resident_bytes() <= case.weight_bytes()
        assert machine.limit(case, HERE) > 0


def test_weights_fit_our_layers() -> None:
    ours = load(OURS)
    for case in CELLS:
        small = replace(case, steps=2, batch=2, input_size=3, hidden_size=4)
        ours.prepare(small, small.weights()).call()


def test_flops_are_those_of_the_products() -> None:
    assert SMALL.flops() == 2 * 4 * 3 * (4 * 6) * (5 + 6)
    assert replace(SMALL, mode="training").flops() == 3 * SMALL.flops()


def test_lengths_are_padding_of_the_share_that_is_said() -> None:
    case = Case("GRU", "training", 100, 32, 2, 3, data="lengths")
    lengths = case.lengths()
    assert lengths is not None
    assert lengths.min() >= 1
    assert lengths.max() == case.steps
    assert case.real_steps / (case.steps * case.batch) == pytest.approx(1 - PADDING, abs=0.01)
    assert not case.dy()[lengths[0] :, 0].any()


def test_vanishing_gradients_are_denormal() -> None:
    for cell in ("RNN", "LSTM", "GRU"):
        case = Case(cell, "training", 1000, 1, 4, 4, data="vanishing")
        layer = load(OURS).prepare(case, case.weights())
        dx = np.abs(layer.read(layer.call())["dx"][:300])
        assert dx.max() < np.finfo(np.float32).tiny
        assert dx.max() > 0 or fr.last_path().backend == "native"  # kernels may flush them to zero


def test_every_target_has_its_case() -> None:
    """A target whose case is in no section would never be judged."""
    known = {case for group in GROUPS.values() for case in group} | {*MEMORY, *LATENCY}
    for target in targets.TARGETS:
        assert target.case in known
        assert not isinstance(target.than, Case) or target.than in known
        assert target.than in (targets.RIVALS_TOGETHER, *RIVALS) or isinstance(target.than, Case)


def test_the_grid_has_the_sizes_that_are_asked() -> None:
    points = grid.points()
    assert {50, 100, 200, 650, 16, 1024} <= {case.hidden_size for case in points}
    assert {1, 128} <= {case.batch for case in points}
    assert {1, 1000} <= {case.steps for case in points}
    assert {"float32", "float64"} == {case.dtype for case in points}
    assert {"plain", "lengths"} == {case.data for case in points}
    assert 0 < len(grid.points(quick=True)) < len(points) / 5


# --- results that must agree -------------------------------------------------------------------


def test_difference() -> None:
    a = {"y": np.ones((2, 2)), "h": np.ones(2)}
    assert measure.difference(a, a, 1e-9) == ""
    assert measure.difference(a, {"y": np.ones((2, 2)) + 1e-3}, 1e-2) == ""
    assert "y: 1.0e-03" in measure.difference(a, {"y": np.ones((2, 2)) + 1e-3}, 1e-4)
    assert "y" in measure.difference(a, {"y": np.full((2, 2), np.nan)}, 1e-4)
    assert "shapes" in measure.difference(a, {"y": np.ones((2, 3))}, 1e-4)
    assert "missing" in measure.difference(a, {"h": np.ones(2)}, 1e-4)


AGREE = (
    *(replace(SMALL, cell=case.cell) for case in CELLS),
    replace(SMALL, mode="training"),
    replace(SMALL, cell="GRU", mode="training", dtype="float64"),
    replace(SMALL, cell="GRU", mode="training", data="lengths"),
    Case("LSTM", "step", 1, 1, 5, 6),
)


@needs_native
@pytest.mark.parametrize("name", [name for name in INSTALLED if name != OURS])
def test_an_installed_rival_agrees(name: str) -> None:
    results = Results()
    with closing(Process(OURS)) as ours, closing(Process(name)) as rival:
        agreed = [case for case in AGREE if name in measure.ready(case, both(ours, rival), results)]
        times = measure.alternate(agreed[0], both(ours, rival), results, 2, ("timed", 0.0, 1))
    assert not results.wrong
    # A rival says itself what it cannot do; the last line of a traceback would be something else.
    assert not [why for _, _, why in results.refused if "Error" in why or "ended" in why]
    assert agreed
    assert [len(rounds) for rounds in times.values()] == [2, 2]


def both(ours: Process, rival: Process) -> dict[str, Process]:
    return {OURS: ours, rival.name: rival}


class Fake:
    """A process that returns the given result."""

    def __init__(self, y: Any, why: str = "", error: str = "") -> None:
        self.y, self.why, self.error = y, why, error

    def ask(self, command: str, *_: Any) -> Any:
        if self.error:
            raise FailedError(self.error)
        return {"prepare": self.why, "results": {"y": self.y}, "timed": [1.0]}[command]


def test_a_wrong_result_is_not_timed() -> None:
    processes: Any = {
        OURS: Fake(np.zeros(3)),
        "right": Fake(np.zeros(3)),
        "wrong": Fake(np.ones(3)),
        "unable": Fake(None, why="no such cell"),
        "broken": Fake(None, error="trace\nValueError: no"),
    }
    results = Results()
    able = measure.ready(SMALL, processes, results)
    assert list(able) == [OURS, "right"]
    assert [(name, why) for _, name, why in results.refused] == [
        ("unable", "no such cell"),
        ("broken", "ValueError: no"),
    ]
    assert [name for _, name, _ in results.wrong] == ["wrong"]
    text = report.markdown(results, HERE, [], {})
    assert "wrong on LSTM forward T4" in text


def test_a_process_that_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIVALS, "none", replace(RIVALS[OURS], module="no_such_module"))
    with pytest.raises(FailedError, match="none"):
        Process("none")


def test_a_process_that_a_case_brings_down_is_started_again() -> None:
    with ExitStack() as stack:
        crew = team.Team([OURS], None, stack)
        first = crew.of(1)[OURS]
        assert crew.of(1)[OURS] is first
        with pytest.raises(FailedError, match="no answer"):
            first.ask("timed", 60.0, 10**9, patience=0.01)
        assert not first.alive()
        second = crew.of(1)[OURS]
        assert second.ask("versions")["fusedrnn"] == fr.__version__


# --- the machine -------------------------------------------------------------------------------


def test_a_busy_machine_is_noticed() -> None:
    assert machine.busy(0.1, {0: 0.99, 1: 1.0}) == []
    found = machine.busy(3.0, {0: 0.6, 1: 1.0})
    assert len(found) == 2
    assert "3.0" in found[0]
    assert "core 0" in found[1]
    assert "60%" in found[1]
    text = report.markdown(Results(), replace(HERE, warnings=found), [], {})
    assert "busy" in text.split("## Targets")[0]


def test_spinning_processes_tell_their_share() -> None:
    shares = machine.spin_shares(0.02)
    assert list(shares) == machine.cores()
    assert all(0 < share < 1.5 for share in shares.values())


def test_the_limit() -> None:
    wide = Case("LSTM", "forward", 10, 64, 128, 128)
    active = 10 * 64 * 128 * (3 * 0.5 + 2 * 1.0) * 1e-9
    assert machine.limit(wide, HERE) == pytest.approx(wide.flops() / 100e9 + active)
    halved = machine.limit(replace(wide, threads=2), HERE)
    assert halved == pytest.approx(machine.limit(wide, HERE) / 2)
    assert machine.bound(wide, HERE) == "FMA"
    # The backward pass repeats the walk for dh and takes tanh(c) again; dx and both weight
    # gradients are products of all steps together.
    back = machine.limit(replace(wide, mode="training"), HERE)
    assert back == pytest.approx(3 * wide.flops() / 100e9 + active + 10 * 64 * 128 * 1e-9)
    one = replace(wide, batch=1)
    assert machine.level(one, HERE) == machine.bound(one, HERE) == "L2"
    read, projected = 10 * 4 * 128 * 128 * 4 / 100e9, one.flops() / 2 / 100e9
    assert machine.limit(one, HERE) == pytest.approx(read + projected + active / 64)
    step = replace(one, steps=1, mode="step")
    read = 4 * 128 * 256 * 4 / 100e9
    assert machine.limit(step, HERE) == pytest.approx(read + active / 640)
    huge = replace(one, hidden_size=1024)
    assert machine.level(huge, HERE) == "memory"
    assert machine.level(replace(huge, hidden_size=32), HERE) == "L1"


@needs_native
def test_the_machine_is_measured() -> None:
    ours: Any = load(OURS)
    probed = ours.probe({"L1": 16 << 10})
    assert probed["peak"]["float32"] > 0.1
    assert probed["bandwidth"]["L1"] > 0.1
    assert machine.describe()["processor"]


# --- verdicts ----------------------------------------------------------------------------------

TIMES = targets.Target("r", SMALL, 2.0)
FAST = machine.limit(SMALL, HERE)


@pytest.mark.parametrize(
    ("target", "found", "passed"),
    [
        (TIMES, [(SMALL, OURS, 1.0), (SMALL, "torch", 3.0), (SMALL, "jax", 2.0)], True),
        (TIMES, [(SMALL, OURS, 1.0), (SMALL, "torch", 3.0), (SMALL, "jax", 1.9)], False),
        (TIMES, [(SMALL, OURS, 1.0), (SMALL, "reference", 1.0)], None),
        (TIMES, [(SMALL, "torch", 1.0)], None),
        (replace(TIMES, than="torch"), [(SMALL, OURS, 1.0), (SMALL, "torch", 3.0)], True),
        (replace(TIMES, than="torch"), [(SMALL, OURS, 1.0), (SMALL, "jax", 3.0)], None),
        (replace(TIMES, fraction=0.5), [(SMALL, OURS, 1.5 * FAST), (SMALL, "jax", FAST)], True),
        (replace(TIMES, fraction=0.5), [(SMALL, OURS, 3 * FAST), (SMALL, "jax", FAST)], False),
        (replace(TIMES, fraction=0.5), [(SMALL, OURS, 1.5 * FAST)], True),
        (replace(TIMES, than=CELLS[0]), [(SMALL, OURS, 1.0), (CELLS[0], OURS, 2.0)], True),
        (replace(TIMES, unit="us"), [(SMALL, OURS, 1.9e-6)], True),
        (replace(TIMES, unit="us"), [(SMALL, OURS, 2.1e-6)], False),
        # 100 steps take 2 us each; a single step takes 3 us, so 1 us is its own cost
        (
            replace(TIMES, unit="us", than=CELLS[0]),
            [(SMALL, OURS, 3e-6), (CELLS[0], OURS, 2e-4)],
            True,
        ),
    ],
)
def test_verdict(
    target: targets.Target, found: Sequence[tuple[Case, str, float]], passed: bool | None
) -> None:
    judged = targets.verdict(target, records(*found), HERE)
    assert judged.passed is passed, judged.reached
    assert target.asks


def test_verdict_on_memory_and_quantiles() -> None:
    kept = targets.Target("r", MEMORY[0], 5, "floats")
    found = targets.by_case(
        [
            Record(MEMORY[0].name, OURS, {"best": 1.0}),
            Record(MEMORY[0].name, OURS, {"kept": 5.0, "best": 7.0}),
            Record(MEMORY[0].name, "torch", {"kept": 14.0}),
            Record(SMALL.name, OURS, {"p999": 1.0}),
            Record(SMALL.name, "jax", {"p999": 0.9}),
        ]
    )
    assert targets.figure(MEMORY[0], found, "best") == 1.0
    judged = targets.verdict(kept, found, HERE)
    assert (judged.passed, judged.reached) == (True, "5.0 (torch 14.0)")
    assert targets.verdict(replace(TIMES, quantity="p999", wanted=1), found, HERE).passed is False


# --- the grid ----------------------------------------------------------------------------------


def test_the_grid_names_jumps_and_losses() -> None:
    line = [Case("LSTM", "forward", 16, 32, h, h) for h in (64, 100, 128, 256)]
    # At H 100 an operation takes three times as long as at its neighbours.
    found = records(
        *(
            (case, OURS, case.flops() * (3e-11 if case.hidden_size == 100 else 1e-11))
            for case in line
        ),
        *((case, "torch", case.flops() * 2e-11) for case in line),
        *((case, "reference", 1e-9) for case in line),
    )
    assert len(grid.neighbours(line)) == 3
    jumps = grid.jumps(line, found, HERE)
    assert [(j.smaller.hidden_size, j.larger.hidden_size) for j in jumps] == [(64, 100), (100, 128)]
    assert [round(j.ratio, 2) for j in jumps] == [3.0, 0.33]
    assert [loss.case.hidden_size for loss in grid.losses(line, found)] == [100]
    text = report.markdown(
        Results([*found.values()]), HERE, line, {"date": "today", "commit": "c", "quick": True}
    )
    assert "slower at 1, at worst 0.67x torch" in text
    assert "2 without" in text
    assert "I100 H100 | " in text.split("Where we lose")[1]


def test_a_jump_of_the_limit_is_a_reason() -> None:
    a = Case("LSTM", "forward", 16, 1, 256, 256)
    b = replace(a, input_size=512, hidden_size=512)
    assert (machine.level(a, HERE), machine.level(b, HERE)) == ("L2", "memory")
    found = records(*((case, OURS, 2 * machine.limit(case, HERE)) for case in (a, b)))
    (jump,) = grid.jumps([a, b], found, HERE)
    assert jump.reason
    assert jump.ratio == pytest.approx(jump.limit)


def test_neighbours_differ_in_one_size() -> None:
    for a, b, axis in grid.neighbours(grid.points()):
        assert getattr(a, axis) < getattr(b, axis)
        sizes = {axis, "input_size"} if axis == "hidden_size" else {axis}
        assert replace(a, **{size: getattr(b, size) for size in sizes}) == b  # type: ignore[arg-type]


# --- report, plots, the command ----------------------------------------------------------------


def test_the_report_has_every_row() -> None:
    row = GROUPS["batch"][0]
    found = [
        Record(row.name, OURS, {"best": 1e-3, "median": 2e-3}, [1e-3]),
        Record(row.name, "torch", {"best": 3e-3, "median": 3e-3}, [3e-3]),
        Record(LATENCY[0].name, OURS, {"p50": 1e-6, "p99": 2e-6, "p999": 3e-6}),
        Record(MEMORY[0].name, OURS, {"kept": 5.0, "peak": 6.0}),
    ]
    text = report.markdown(Results(found), HERE, [], {"date": "today", "commit": "abc"})
    order = ["## Targets", "## Rows", "## Latency", "## Memory", "## Machine"]
    assert [text.index(title) for title in order] == sorted(text.index(title) for title in order)
    assert "| batch | LSTM forward T100 B32 I256 H256 | 1.2x best rival" in text
    assert "3.00x torch (1,000 and 3,000 us)" in text
    assert "3,000 (3.00x)" in text
    assert "imagined" in text


def test_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*GROUPS["scaling"], *GROUPS["training"]]
    times = [Record(c.name, of, {"best": t}) for c in rows for of, t in ((OURS, 1.0), ("jax", 2.0))]
    written = plots.draw(Results(times), HERE, tmp_path)
    if missing_plots():
        assert "matplotlib is not installed" in capsys.readouterr().err
        assert not written
    else:
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "roofline.png",
            "scaling.png",
            "speedup.png",
        ]


def missing_plots() -> bool:
    from importlib.util import find_spec

    return find_spec("matplotlib") is None


@pytest.mark.parametrize(
    ("arguments", "section", "number"),
    [
        (["--case", "lengths"], "rows", len(GROUPS["lengths"])),
        (["--case", "lengths", "--cell", "GRU"], "rows", len(GROUPS["lengths"]) // 2),
        (["--case", "memory"], "memory", len(MEMORY)),
        (["--case", "B64 I512", "--cell", "LSTM"], "rows", 0),
        (["--case", "I512 H512", "--cell", "LSTM", "--threads", "2"], "rows", 4),
    ],
)
def test_options_choose_cases(arguments: list[str], section: str, number: int) -> None:
    options = run.parse(arguments)
    chosen = getattr(run.plan_of(options), section)
    if number:
        assert len(chosen) == number
    assert all(options.cell is None or case.cell in options.cell for case in chosen)
    assert all(options.threads is None or case.threads == options.threads for case in chosen)
    everything = run.plan_of(run.parse([]))
    assert all((everything.rows, everything.memory, everything.latency, everything.grid))


@needs_native
def test_run_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "MEMORY_PROBE", 1 << 20)
    monkeypatch.setattr(machine, "spin_shares", lambda: {0: 0.5})
    chosen = ["--quick", "--case", "LSTM step", "--case", "latency", "--case", "memory"]
    code = run.main([*chosen, "--rivals", "reference", "--out", str(tmp_path)])
    assert code == 0
    captured = capsys.readouterr()
    assert "50%" in captured.err
    assert (tmp_path / "report.md").read_text() == captured.out
    whole = json.loads((tmp_path / "results.json").read_text())
    assert whole["machine"]["peak"]["float32"] > 0
    assert {one["of"] for one in whole["records"]} == {OURS, "reference"}
    assert "LSTM step T1 B1 I64 H64" in captured.out


# --- two commits, and instructions -------------------------------------------------------------


def test_the_interval_of_two_commits() -> None:
    rng = np.random.default_rng(0)
    slow = rng.uniform(1.0, 3.0, 30)  # whatever slows a round slows both
    head = slow * rng.uniform(0.99, 1.01, 30)
    ratio, low, high = compare.interval(1.3 * slow, head)
    assert low <= ratio <= high
    assert high - low < 0.02
    assert low < 1.3 < high + 0.01
    assert compare.word(low, high) == "faster"
    assert compare.word(*compare.interval(slow, 1.3 * head)[1:]) == "slower"
    assert compare.word(*compare.interval(slow, rng.permutation(slow))[1:]) == "no difference seen"
    assert compare.interval([2.0], [1.0]) == (2.0, 2.0, 2.0)


@needs_native
def test_compare_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    here = str(Path(fr.__file__).parent.parent)
    chosen = ["--case", "LSTM step T1 B1 I64", "--rounds", "2", "--seconds", "0.01"]
    assert compare.main([here, here, *chosen]) == 0
    assert "| LSTM step T1 B1 I64 H64 |" in capsys.readouterr().out


CALLGRIND = """events: Ir
ob=(1) /lib/libc.so
fl=(1) x.c
fn=(1) f
1 100
cob=(2) /x/fusedrnn/_core.cpython-311.so
cfn=(2) g
calls=1 5
+1 70
ob=(2)
fn=(2)
5 40
cob=(1)
cfn=(1)
calls=1 5
* 1000
-1 2
"""


def test_instructions_of_the_module_alone_are_counted() -> None:
    assert instructions.kernel_instructions(CALLGRIND) == 42


def test_more_instructions_are_judged() -> None:
    lines, worse = instructions.judge({"a": 100, "b": 100}, {"a": 102, "b": 103, "c": 1})
    assert worse == ["b", "c"]
    assert "+3.00%" in lines[1]
    known = json.loads(instructions.COUNTS.read_text())
    assert list(known["counts"]) == [case.name for case in instructions.CASES]


def test_instructions_need_valgrind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="valgrind"):
        instructions.main([])


@pytest.mark.parametrize("script", ["run", "compare", "instructions"])
def test_scripts_start_from_anywhere(script: str, tmp_path: Path) -> None:
    path = Path(run.__file__).parent / f"{script}.py"
    done = subprocess.run(
        [sys.executable, path, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


# --- fusedrnn bench ----------------------------------------------------------------------------


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROUNDS", 1)
    monkeypatch.setattr(command, "SECONDS", 0.0)
    small = [replace(work, steps=3, batch=2, input_size=5, hidden_size=8) for work in command.WORK]
    monkeypatch.setattr(command, "WORK", small)


@needs_native
@pytest.mark.usefixtures("brief")
def test_the_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    captured = capsys.readouterr()
    assert "FMA peak of one thread" in captured.out
    assert captured.out.count("training, T3 B2 I5 H8") == 3
    assert "100%  done" in captured.err


@needs_native
@pytest.mark.usefixtures("brief")
def test_the_short_form_without_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_torch", lambda: None)
    assert main(["bench", "--threads", "2"]) == 0
    out = capsys.readouterr().out
    assert "torch is not installed" in out
    assert "2 threads" in out


@needs_native
@pytest.mark.usefixtures("brief")
def test_the_short_form_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_torch", lambda: None)
    assert main(["bench", "--json", "--quiet"]) == 0
    printed, shown = capsys.readouterr()
    assert shown == ""
    found = json.loads(printed)
    assert (found["isa"], found["threads"], found["torch"]) == (fr.isa(), 1, None)
    assert [work["cell"] for work in found["work"]] == [work.cell for work in command.WORK]
    assert all(work["ours_seconds"] > 0 and work["torch_seconds"] is None for work in found["work"])
    assert main(["bench", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_short_form_fits_80_columns() -> None:
    for work in command.WORK:
        row = command.Timing(work, 0.0, ours=0.0999, torch=0.999).row(100.0)
        assert len(row) <= 80
        assert row.startswith(f"{work.name} ")


@needs_native
@pytest.mark.usefixtures("brief")
def test_the_short_form_refuses_wrong_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Torch:
        __version__ = "0"

    monkeypatch.setattr(command, "_torch", Torch)
    monkeypatch.setattr(command, "_theirs", lambda *_: dict)
    monkeypatch.setattr(command, "_apart", lambda *_: 0.5)
    assert main(["bench"]) == 1
    assert "not timed: results are 5.0e-01 apart" in capsys.readouterr().out


def test_the_short_form_without_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "native", lambda: None)
    assert main(["bench"]) == 1
    assert "nothing to time" in capsys.readouterr().out


# --- the main job ------------------------------------------------------------------------------


@needs_native
def test_the_main_job_learns_in_torch_too() -> None:
    pytest.importorskip("torch")
    from bench import main_job
    from fusedrnn.charlm import load_corpus
    from fusedrnn.cli.train import DEFAULTS, build

    corpus = load_corpus(None)
    trainer = build(corpus, DEFAULTS)
    tokens = trainer.tokens[:5000]
    before = trainer.model.bits(tokens)
    assert main_job.torch_updates(trainer, 1.0) > 0
    assert trainer.model.bits(tokens) < before
