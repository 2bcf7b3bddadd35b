"""Hooks around every run: in order, in every kind of worker, and really around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobcard.workers import messages
from workers.engine_side import Worker

Start = Callable[..., Worker]
KINDS = ["hooked_function", "hooked_alone", "hooked", "hooked_thread"]


def hooked(start: Start, name: str, *hooks: str) -> Worker:
    """A worker fit for this job, with these hooks."""
    share = name in ("hooked", "hooked_thread")
    worker = start("sharing", share=share)
    worker.end_of(worker.give("use_hooks_here" if share else "use_hooks", *hooks))
    return worker


def lines_and_end(worker: Worker, seq: int) -> tuple[list[str], list[Any]]:
    lines: list[str] = []
    while True:
        message = worker.hear_where(lambda message: message[0] != messages.STARTED and message[1] == seq)
        if message[0] != messages.NOTE:
            return lines, message
        lines += [text for _at, text in message[2]["lines"]]


@pytest.mark.parametrize("name", KINDS)
def test_hooks_are_around_every_kind_of_job(start: Start, name: str) -> None:
    """The first outermost; left in turn; what they set the job sees."""
    worker = hooked(start, name, "a", "b")
    lines, end = lines_and_end(worker, worker.give(name))
    assert (end[0], end[4]) == (messages.DONE, '"none a b"')
    assert lines == ["b returned", "a returned"]


@pytest.mark.parametrize("name", ["hooked_alone", "hooked"])
def test_asynchronous_hooks_are_around_coroutines(start: Start, name: str) -> None:
    """Both kinds mix."""
    worker = hooked(start, name, "a", "async", "b")
    lines, end = lines_and_end(worker, worker.give(name))
    assert end[4] == '"none a async b"'
    assert lines == ["b returned", "async returned", "a returned"]


@pytest.mark.parametrize("name", ["hooked_function", "hooked_thread"])
def test_asynchronous_hooks_cannot_wrap_a_function(start: Start, name: str) -> None:
    """The job does not run, and says why; hooks around that one are left."""
    worker = hooked(start, name, "a", "async")
    lines, end = lines_and_end(worker, worker.give(name))
    assert (end[4]["kind"], end[4]["error"]["type"]) == ("error", "jobcard.errors.ConfigError")
    assert lines == ["a ConfigError"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("hook", "error"), [("breaks", "LookupError"), ("nothing", "jobcard.errors.ConfigError")])
def test_a_hook_that_raises_is_an_error_of_the_job(start: Start, name: str, hook: str, error: str) -> None:
    """Tried again as any other."""
    worker = hooked(start, name, "a", hook, "b")
    lines, end = lines_and_end(worker, worker.give(name))
    assert (end[4]["kind"], end[4]["error"]["type"]) == ("error", error)
    assert lines == [f"a {error.split('.')[-1]}"]


def test_a_hook_sees_what_the_job_raises(start: Start) -> None:
    """It may even swallow it, as any context manager: then the job returned None."""
    worker = hooked(start, "hooked_function", "a", "swallows", "b")
    lines, end = lines_and_end(worker, worker.give("hooked_failure"))
    assert (end[0], end[4]) == (messages.DONE, "null")
    assert lines == ["b LookupError", "swallowed", "a returned"]


@pytest.mark.parametrize("name", ["hooked_signal", "hooked_signal_beside"])
def test_a_signal_that_is_returned_is_raised_for_hooks(start: Start, name: str) -> None:
    """A hook that rolls back what the job did must not take it for a success."""
    share = name == "hooked_signal_beside"
    worker = start("sharing", share=share)
    worker.end_of(worker.give("use_hooks_here" if share else "use_hooks", "a", "b"))
    lines, end = lines_and_end(worker, worker.give(name))
    assert (end[4]["kind"], end[4]["reason"]) == ("fail", "in the job")
    assert lines == ["b Fail", "a Fail"]


def test_hooks_are_left_in_order_when_the_job_is_told_to_end(start: Start) -> None:
    """They see it pass, and are not cut short themselves."""
    worker = hooked(start, "hooked_function", "a", "b")
    seq = worker.give("hooked_sleep")
    worker.note_of(seq)
    worker.tell(seq)
    lines, end = lines_and_end(worker, seq)
    assert end[4]["kind"] == "told"
    assert lines == ["b Told", "a Told"]
