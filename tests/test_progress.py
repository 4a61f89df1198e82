"""The progress line on a terminal."""

from __future__ import annotations

import io
import os

import pytest

from fusedrnn.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    stream = Terminal()
    line = progress.Progress(stream)
    now += 50  # the first picture starts the clock: a resumed run begins in the middle
    line.update(0.5, lambda: "a")
    now += 0.05
    line.update(0.55, lambda: pytest.fail("shown too soon"))
    now += 9.95
    line.update(0.6, lambda: "b" * 80)
    line.update(1.0, lambda: "c")
    line.close()
    line.close()
    pictures = stream.getvalue().split("\r")[1:]
    assert pictures[0] == "[##########..........]  50%  a  --:-- left\x1b[K"
    assert pictures[1] == "[############........]  60%  " + "b" * 30 + "\x1b[K"
    assert pictures[2] == "[####################] 100%  c  0:00 left\x1b[K\n"
    stream = Terminal()
    line = progress.Progress(stream)
    line.update(0.0, lambda: "a")
    now += 30.0
    line.update(0.25, lambda: "b")
    assert "25%  b  1:30 left" in stream.getvalue()


def test_clock() -> None:
    shown = [progress.clock(s) for s in (0, 9.6, 60, 3599.4, 3600, 90061)]
    assert shown == ["0:00", "0:10", "1:00", "59:59", "1:00:00", "25:01:01"]
