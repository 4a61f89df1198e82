"""The progress line on a terminal."""

from __future__ import annotations

import io
import math

import pytest

from fusedrnn.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    monkeypatch.setattr(progress, "width", lambda _: 60)
    stream = Terminal()
    line = progress.Progress(stream)
    now += 50  # the first update starts the clock: a resumed run begins in the middle
    line.update(0.5, lambda: ["a" * 15, "a"])
    now += 0.05
    line.update(0.55, lambda: pytest.fail("shown too soon"))
    now += 9.95
    line.update(0.6, lambda: ["b" * 15, "b" * 80])
    line.update(0.7, lambda: pytest.fail("shown too soon"))
    now += 10
    line.update(0.8, lambda: ["c" * 35, "c"])
    line.update(1.0, lambda: ["d"])
    line.close()
    line.close()
    pictures = stream.getvalue().split("\r")[1:]
    assert pictures[0] == "[##########..........]  50%  aaaaaaaaaaaaaaa  a  --:-- left"
    # What does not fit is left out, first the last text and then the bar, but never the time left.
    assert pictures[1].rstrip() == "[############........]  60%  bbbbbbbbbbbbbbb  0:40 left"
    assert pictures[2].rstrip() == " 80%  " + "c" * 35 + "  c  0:13 left"
    assert pictures[-1].rstrip() == "[####################] 100%  d  0:00 left"
    # Spaces overwrite the rest of the previous line, and there is no escape code.
    assert len(pictures[1]) == len(pictures[0])
    assert "\x1b" not in stream.getvalue()
    assert all(len(picture.rstrip("\n")) <= 59 for picture in pictures)
    stream = Terminal()
    line = progress.Progress(stream)
    line.update(0.0, lambda: ["a"])
    now += 30.0
    line.update(0.25, lambda: ["b"])
    assert "25%  b  1:30 left" in stream.getvalue()


def test_a_terminal_that_is_gone_ends_the_picture_alone() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    line = progress.Progress(Gone())
    line.update(0.0, lambda: ["a"])
    line.update(1.0, lambda: pytest.fail("nobody can see it"))
    line.close()


def test_quiet_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    line = progress.Progress(stream, quiet=True)
    line.update(1.0, lambda: pytest.fail("nobody wants to see it"))
    line.close()
    assert stream.getvalue() == ""
    monkeypatch.setenv("TERM", "dumb")
    line = progress.Progress(stream)
    for share in (0.0, 0.01, 0.5):
        line.update(share, lambda: ["a"])
    line.close()
    assert stream.getvalue() == "  0%  a  --:-- left\n 50%  a  0:00 left\n"


def test_clock() -> None:
    shown = [progress.clock(s) for s in (0, 9.6, 60, 3599.4, 3600, 90061, 1e300, math.inf)]
    assert shown == ["0:00", "0:10", "1:00", "59:59", "1:00:00", "25:01:01", "--:--", "--:--"]
