"""Every fenced block of Python in docs/ and in the README runs, in the order of its page."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import pytest

import fusedrnn as fr

ROOT = Path(__file__).resolve().parents[1]
# A block, and what it prints if the page shows that after the comment `output`.
FENCE = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n<!-- output -->\n```text\n(.*?)^```$)?", re.M | re.S
)
# Packages that a block may import beside NumPy and fusedrnn. If one is missing, the test of the
# page ends before that block.
EXTRAS = re.compile(
    r"^(?:import|# needs) (torch|jax|keras|h5py|onnx|onnxruntime|matplotlib|g2p_en|silero_vad)$",
    re.M,
)
# The pages of the course read data and take longer; tests/test_course.py runs them.
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if FENCE.search(page.read_text()) and page.parent.name != "course"
]


@pytest.mark.filterwarnings("default::DeprecationWarning")  # other frameworks warn
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    names: dict[str, object] = {}
    for block, output in FENCE.findall(page.read_text()):
        if not all(find_spec(name) for name in EXTRAS.findall(block)):
            break  # later blocks use its names
        said = io.StringIO()
        with redirect_stdout(said):
            exec(compile(block, page.name, "exec"), names)
        assert not output or said.getvalue() == output
    if "fr" in names and fr.supported_isas():
        assert fr.last_path().backend in ("native", "")


def test_every_page_is_in_the_navigation() -> None:
    docs = ROOT / "docs"
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))
    nav = re.findall(r"^ +- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(nav) == pages


def test_the_front_page_shows_what_it_prints() -> None:
    shown = [output for _, output in FENCE.findall((ROOT / "docs/index.md").read_text())]
    assert shown
    assert all(shown)
