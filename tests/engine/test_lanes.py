"""The engine's ways to a store that may hang: lanes do not wait for each other, and answers are heard in order."""

from __future__ import annotations

import selectors
import threading
from typing import Any

import pytest

from jobcard.engine.lanes import CALLS, EXCHANGE, LOOK, RENEW, ROUTINE, Lanes
from jobcard.errors import ConfigError, StoreUnavailableError


def hear(selector: selectors.BaseSelector, heard: list[Any], count: int) -> None:
    """Turn as the engine does until so many answers are there."""
    while len(heard) < count:
        events = selector.select(30)
        assert events, f"heard only {heard}"
        for key, _ in events:
            key.data()


def fail() -> None:
    raise StoreUnavailableError("away")


def misuse() -> None:
    raise ConfigError("the store is closed")


def test_a_call_that_hangs_holds_up_its_own_lane_only() -> None:
    """A renewal is answered while an exchange still waits for the server."""
    selector = selectors.DefaultSelector()
    lanes = Lanes(selector, own_thread=True)
    hangs = threading.Event()
    heard: list[Any] = []
    lanes.run(EXCHANGE, lambda: hangs.wait(30), heard.append, heard.append)
    lanes.run(EXCHANGE, lambda: "next", heard.append, heard.append)
    lanes.run(RENEW, lambda: "renewed", heard.append, heard.append)
    hear(selector, heard, 1)
    assert heard == ["renewed"]
    hangs.set()
    hear(selector, heard, 3)
    assert heard == ["renewed", True, "next"]
    lanes.close()


@pytest.mark.parametrize("own_thread", [False, True])
def test_failures_and_answers_are_heard_on_the_engines_thread(own_thread: bool) -> None:
    """Both kinds come back to the thread that turns, and another error of ours than a store's ends it."""
    selector = selectors.DefaultSelector()
    lanes = Lanes(selector, own_thread=own_thread)
    heard: list[Any] = []

    def note(value: object) -> None:
        heard.append((value, threading.current_thread()))

    lanes.run(ROUTINE, lambda: 7, note, note)
    lanes.run(ROUTINE, fail, note, note)
    hear(selector, heard, 2)
    assert heard[0] == (7, threading.current_thread())
    assert isinstance(heard[1][0], StoreUnavailableError)
    assert heard[1][1] is threading.current_thread()
    with pytest.raises(ConfigError):
        lanes.run(ROUTINE, misuse, note, note)
        hear(selector, heard, 3)
    lanes.close()


@pytest.mark.parametrize("own_thread", [False, True])
def test_what_no_store_may_raise_counts_as_unavailable(own_thread: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An error of somebody else's store is told with its traceback, once in a while, and the store is asked again."""
    selector = selectors.DefaultSelector()
    lanes = Lanes(selector, own_thread=own_thread)
    heard: list[Any] = []
    for _ in range(3):
        lanes.run(ROUTINE, lambda: 1 // 0, heard.append, heard.append)
    lanes.run(ROUTINE, lambda: 7, heard.append, heard.append)
    hear(selector, heard, 4)
    assert [type(error) for error in heard[:3]] == [StoreUnavailableError] * 3 and heard[3] == 7
    assert "ZeroDivisionError" in str(heard[0])
    [record] = caplog.records
    assert record.levelname == "ERROR" and "Traceback" in caplog.text and "1 // 0" in caplog.text
    lanes.close()


def test_a_store_in_this_process_is_asked_at_once_for_what_is_short() -> None:
    """Exchanges and renewals are answered before the call returns; what may take long goes to a thread even there."""
    selector = selectors.DefaultSelector()
    lanes = Lanes(selector, own_thread=False)
    heard: list[Any] = []
    goes_on = threading.Event()
    for lane in (ROUTINE, LOOK, *CALLS):
        lanes.run(lane, lambda: goes_on.wait(30), heard.append, heard.append)
    for lane in (EXCHANGE, RENEW):
        lanes.run(lane, threading.current_thread, heard.append, heard.append)
    assert heard == [threading.current_thread()] * 2
    goes_on.set()
    hear(selector, heard, 2 + 2 + len(CALLS))
    assert heard[2:] == [True] * (2 + len(CALLS))
    lanes.close()


def test_thousands_of_answers_at_once_are_all_heard() -> None:
    """More answers than the wake-up pipe holds bytes: none is lost."""
    selector = selectors.DefaultSelector()
    lanes = Lanes(selector, own_thread=True)
    heard: list[int] = []
    for number in range(100_000):
        lanes.run(CALLS[0], lambda number=number: number, heard.append, lambda _: None)  # type: ignore[misc]
    hear(selector, heard, 100_000)
    assert heard == list(range(100_000))
    lanes.close()
