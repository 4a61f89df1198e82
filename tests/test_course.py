"""The pages of the course run, each in a process of its own. .ci/run and the nightly run them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def test_every_page_is_in_the_navigation() -> None:
    nav = (SCRIPT.parents[2] / "mkdocs.yml").read_text()
    for page in SCRIPT.parent.glob("*.md"):
        assert f"- course/{page.name}\n" in nav


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
