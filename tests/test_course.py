"""The pages of the course run, each in a process of its own. .ci/run and the nightly run them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "docs/course/run.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COURSE = script()


@pytest.mark.course
@pytest.mark.parametrize("page", COURSE.pages())
def test_a_page_runs(page: str) -> None:
    how = [] if os.environ.get("FUSEDRNN_COURSE") == "full" else ["--quick"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, page, *how],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode == COURSE.NO_FILE and "FUSEDRNN_CI" not in os.environ:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def rows_of_the_course() -> list[list[str]]:
    """The cells of the table on the first page: notes, pages, more, tests."""
    text = (SCRIPT.parent / "index.md").read_text("utf-8")
    return [row.strip("| ").split(" |") for row in re.findall(r"^\|.*\|$", text, re.M)[2:]]


def test_every_row_of_the_course_has_a_page_and_a_test() -> None:
    rows = rows_of_the_course()
    assert len(rows) >= 14
    for notes, pages, more, tests in rows:
        links = re.findall(r"\]\(([^)#]+)", pages)
        assert links, notes
        for link in [*links, *re.findall(r"\]\(([^)#]+)", more)]:
            assert (SCRIPT.parent / link).exists(), link
        for name in tests.split("<br>"):
            found = re.fullmatch(r"`([\w/]+\.py)::(\w+)(?:\[(.+)\])?`", name.strip())
            assert found, f"{notes}: {name}"
            file, function, page = found.groups()
            source = (SCRIPT.parents[2] / "tests" / file).read_text("utf-8")
            assert re.search(rf"^def {function}\(", source, re.M), name
            assert page is None or (file, page in COURSE.pages()) == ("test_course.py", True), name


def test_every_page_of_the_course_is_in_its_table() -> None:
    linked = {page for row in rows_of_the_course() for page in re.findall(r"\]\((.*?)\)", row[1])}
    assert linked == {f"{page}.md" for page in COURSE.pages()} - {"glossary.md"}


def keras_page() -> list[tuple[str, str]]:
    """The blocks of Python ("python"), the programs for Keras ("py") and the checks ("check")."""
    text = (SCRIPT.parent / "keras.md").read_text("utf-8")
    part = re.compile(r"^```(python|py)\n(.*?)^```$|^<!-- (check): (.*?) -->$", re.M | re.S)
    return [(m[1] or m[3], m[2] or m[4]) for m in part.finditer(text)]


def compared() -> dict[str, tuple[int, int, str, str]]:
    """The table of keras.md by program: lines here, lines in Keras, result here, in Keras."""
    row = r"^\| ([a-z ]+) \| (\d+) \| (\d+) \|[^|]+\| (.+?) \| (.+?) \|$"
    rows = re.findall(row, (SCRIPT.parent / "keras.md").read_text("utf-8"), re.M)
    return {name: (int(a), int(b), ours, theirs) for name, a, b, ours, theirs in rows}


def test_the_lines_of_the_programs_are_counted() -> None:
    parts, counted = keras_page(), []
    for k, (kind, code) in enumerate(parts):
        if kind == "py":  # stands after our program
            counted.append((parts[k - 1][1].count("\n"), code.count("\n")))
    assert counted == [row[:2] for row in compared().values()]
    assert len(counted) == 3


def error_of_the_forecasts(names: dict[str, Any]) -> float:
    """The root of the mean squared error of the page's forecasts, from their definition."""
    passengers = names["passengers"]
    found = passengers[-25:-1] * np.exp(names["guess"][:, 0] / 10)
    return float(np.sqrt(np.mean(np.square(found - passengers[-24:]))))


# What the programs of keras.md give, by their rows in its table.
RESULTS: dict[str, Callable[[dict[str, Any]], str | float]] = {
    "next letter": lambda names: "".join(names["letters"][k] for k in names["found"][0]),
    "topics": lambda names: 100 * float(names["accuracy"]),
    "forecasting": error_of_the_forecasts,
}


def like(told: str | float, shown: str, near: float) -> bool:
    """Whether a result is what the table shows, if a number up to a share of it."""
    if isinstance(told, str):
        return told == shown
    return told == pytest.approx(float(shown.removesuffix(" %")), rel=near)


@pytest.mark.course
@pytest.mark.filterwarnings("default")  # Keras warns of input_shape
def test_the_programs_for_keras_pass_the_checks_of_their_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The results of both are those of the table; seeds move the forecasts by some per cent."""
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    names: dict[str, Any] = {"keras": keras, "layers": keras.layers}
    data = Path(os.environ.get("FUSEDRNN_DATA", COURSE.DATA))
    if not (data / "Airline.csv").exists() and "FUSEDRNN_CI" not in os.environ:
        pytest.skip(f"no Airline.csv in {data}")
    table = compared()
    assert table.keys() == RESULTS.keys()
    parts, programs = keras_page(), iter(table)
    program, after_keras, checked = "", False, 0
    for k, (kind, code) in enumerate(parts):
        if kind == "check":
            assert eval(code, names), code
            checked += after_keras
            continue
        exec(code, names)
        names |= {"data": data} if "data" in names else {}
        if parts[k + 1 : k + 2] and parts[k + 1][0] == "py":
            program = next(programs)
            told = RESULTS[program](names)
            assert like(told, table[program][2], 0.02), f"{program}: {told} here"
        elif kind == "py":
            after_keras = True
            told = RESULTS[program](names)
            assert like(told, table[program][3], 0.1), f"{program}: {told} in Keras"
    assert checked >= 3


PAGE = """# A page

```python
from pathlib import Path

data = Path("elsewhere")
n = 10
```

<!-- quick: n = 2 -->

```python
print(n, data)
```

```text
old
```

<!-- check: n > 1 -->
<!-- full check: n == 10 -->
<!-- quick check: n == 2 -->

The end.
"""


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(COURSE, "HERE", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path


@pytest.mark.parametrize(("quick", "n"), [(False, 10), (True, 2)])
def test_output_is_renewed_and_quick_lines_run(pages: Path, quick: bool, n: int) -> None:
    text = COURSE.run("page", Path("there"), pages, quick=quick)
    assert text == PAGE.replace("old\n", f"{n} there\n")


@pytest.mark.parametrize("kind", ["check", "full check"])
def test_a_check_that_is_not_true_names_its_line(pages: Path, kind: str) -> None:
    (pages / "page.md").write_text(PAGE.replace("<!-- full check: n == 10", f"<!-- {kind}: n < 0"))
    line = 1 + PAGE.splitlines().index("<!-- full check: n == 10 -->")
    with pytest.raises(AssertionError, match=rf"page\.md:{line}: n < 0 is not true"):
        COURSE.run("page", Path("there"), pages, quick=False)


def test_a_plot_is_saved_with_few_colours(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    page = pages / "page.md"
    draw = 'from PIL import Image\nImage.radial_gradient("L").save(pictures / "page.png")\n'
    picture = "![A plot](pictures/page.png)\n"
    page.write_text(f'```python\npictures = ""\n```\n\n```python\n{draw}```\n\n{picture}')
    monkeypatch.setattr(sys, "argv", ["run.py", "page", "--write"])
    assert COURSE.main() == 0
    assert 32 < len(image.open(pages / "pictures/page.png").getcolors()) <= 64
