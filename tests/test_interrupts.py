"""Signals wait for the end of a change, and the previous handlers are restored afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusedrnn._interrupts import ENDING, uninterrupted


class Ended(Exception):
    pass


def ended(number: int, _: object) -> None:
    raise Ended(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Install handlers that raise; the previous ones are restored after the test."""
    before = {number: signal.signal(number, ended) for number in ENDING}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is ended, "the block did not put the handler back"
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_waits_for_the_end(number: signal.Signals) -> None:
    done: list[str] = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("first")
            with uninterrupted():  # nested, as a step within an update
                signal.raise_signal(number)
                done.append("second")
            done.append("third")
        done.append("never")

    with pytest.raises(Ended, match=number.name):
        work()
    assert done == ["first", "second", "third"]


def test_an_error_of_the_block_is_not_lost() -> None:
    def work(interrupted: bool) -> None:
        with uninterrupted():
            if interrupted:
                signal.raise_signal(signal.SIGINT)
            raise ValueError("of the block")

    with pytest.raises(Ended) as caught:
        work(True)
    assert str(caught.value.__context__) == "of the block"
    with pytest.raises(ValueError, match="of the block"):
        work(False)


def test_all_signals_that_came_are_told() -> None:
    told: list[int] = []
    before = {number: signal.signal(number, lambda n, _: told.append(n)) for number in ENDING}
    with uninterrupted():
        for number in reversed(ENDING):
            signal.raise_signal(number)
        assert told == []
    assert sorted(told) == sorted(ENDING)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_while_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal raises at once, and the handlers that are not restored yet are still restored."""
    put = signal.signal
    calls: list[int] = []

    def putting(number: int, handler: Any) -> Any:
        found = put(number, handler)
        calls.append(number)
        if len(calls) == len(ENDING) + 1:  # the first handler is restored
            signal.raise_signal(number)
        return found

    monkeypatch.setattr(signal, "signal", putting)
    with pytest.raises(Ended, match="SIGINT"), uninterrupted():
        pass
    monkeypatch.undo()
    for number in ENDING[1:]:
        assert signal.getsignal(number) is not ended
        with pytest.raises(Ended, match=signal.Signals(number).name):
            signal.raise_signal(number)
        signal.signal(number, ended)


def test_what_python_does_not_handle_is_left_alone() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with uninterrupted():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is not ended
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, ended)


def test_another_thread_has_nothing_to_hold() -> None:
    found: list[Callable[..., Any] | int | None] = []

    def work() -> None:
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [ended]
