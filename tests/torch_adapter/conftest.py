"""Without torch these tests are skipped; CI has torch, and a skip is a failure there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusedrnn import core

torch = pytest.importorskip("torch", reason="torch is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore warnings of torch itself.

    Its LSTM warns once that oneDNN does not support projections; in torch 2.4 its checkpoint uses
    an autocast that 2.4 deprecates.
    """
    theirs = ("LSTM with projections", "`torch.cpu.amp.autocast")
    for item in items:
        if "torch_adapter" in str(item.path):
            item.add_marker(pytest.mark.torch)
            for text in theirs:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{text}"))


@pytest.fixture(autouse=True)
def no_size_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are of the kernels, whatever the sizes at which the last machine found torch faster."""
    monkeypatch.setattr("fusedrnn.torch._table.SLOWER", frozenset())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Idle threads of torch would occupy the cores that ours need."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ours() -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    """Runs a function; returns its result, and how many kernel calls it made in all threads."""

    def counted(run: Callable[[], Any]) -> tuple[Any, int]:
        before = sum(core.path_counts().values())
        result = run()
        return result, sum(core.path_counts().values()) - before

    return counted
