"""Every fenced block of Python in docs/ and in the README runs, in the order of its page."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import fusedrnn as fr

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
# Packages that a block may import beside NumPy and fusedrnn. If one is missing, the test of the
# page ends before that block.
EXTRAS = re.compile(
    r"^(?:import|# needs) (torch|keras|h5py|onnx|onnxruntime|matplotlib|g2p_en|silero_vad)$", re.M
)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if FENCE.search(page.read_text())
]


@pytest.mark.filterwarnings("default::DeprecationWarning")  # other frameworks warn
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    names: dict[str, object] = {}
    for block in FENCE.findall(page.read_text()):
        if not all(find_spec(name) for name in EXTRAS.findall(block)):
            break  # later blocks use its names
        exec(compile(block, page.name, "exec"), names)
    if "fr" in names and fr.supported_isas():
        assert fr.last_path().backend in ("native", "")


def test_every_page_is_in_the_navigation() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    nav = set(re.findall(r"^  - (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert nav == pages
