"""A job that is told to end: where it hears of it, what it may do then, and that nobody else does."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from jobcard.workers import messages
from jobcard.workers.messages import Why
from workers.engine_side import Worker

Start = Callable[..., Worker]
SOON = 10.0
"""Seconds; the jobs here sleep for ten minutes."""


@pytest.fixture
def worker(start: Start) -> Worker:
    return start("told")


def begun(worker: Worker, name: str, *args: object) -> int:
    """Give a job and wait until it is in the middle of it."""
    seq = worker.give(name, *args)
    worker.note_of(seq)
    return seq


@pytest.mark.parametrize(
    "name", ["sleeps", "tidies_up", "sleeps_alone", "polls", "group_alone", "runs_a_loop", "swallows_in_a_finalizer"]
)
def test_a_job_that_is_told_ends_with_that_word(worker: Worker, name: str) -> None:
    """Asleep, in a loop, deaf to signals: it ends where it is, says why, and the next one is not told."""
    seq = begun(worker, name)
    asked = time.monotonic()
    worker.tell(seq, "not wanted any more")
    word = worker.word_of(seq)
    assert time.monotonic() - asked < SOON
    assert (word["kind"], word["reason"]) == ("told", "not wanted any more")
    assert word["error"]["type"] == "Cancel"
    assert f"in {name}" in word["error"]["traceback"] or name == "group_alone"
    worker.signal()
    assert worker.result_of(worker.give("short", 10)) == 45


def test_a_told_job_can_still_speak(worker: Worker) -> None:
    """What it says after it was told arrives before its end."""
    seq = begun(worker, "tidies_up")
    worker.tell(seq, "enough")
    assert [text for _at, text in worker.note_of(seq)[2]["lines"]] == ["told: enough"]
    assert worker.word_of(seq)["kind"] == "told"


def test_a_job_that_goes_on_is_not_interrupted_again(worker: Worker) -> None:
    """Told once; its result stands, whatever was said of it meanwhile."""
    seq = begun(worker, "goes_on")
    worker.tell(seq)
    worker.note_of(seq)
    for _ in range(5):
        worker.tell(seq, "again", Why.STOP)
    os.kill(worker.process.pid, signal.SIGUSR1)
    assert worker.result_of(seq) == "went on"
    assert worker.result_of(worker.give("short", 10)) == 45


@pytest.mark.parametrize(("name", "kind"), [("raises_another", "error"), ("snoozes", "snooze")])
def test_what_a_told_job_raises_otherwise_is_said_as_it_is(worker: Worker, name: str, kind: str) -> None:
    """The engine knows that it told it, and decides."""
    seq = begun(worker, name)
    worker.tell(seq)
    assert worker.word_of(seq)["kind"] == kind


@pytest.mark.parametrize(("name", "kind"), [("cancels_itself", "cancel"), ("cancels_its_own_task", "error")])
def test_nobody_told_it(worker: Worker, name: str, kind: str) -> None:
    """A cancel of its own is its own, and a cancelled task that nobody asked for an ordinary error."""
    assert worker.word_of(worker.give(name))["kind"] == kind


def test_a_notice_for_another_job_is_for_nobody(worker: Worker) -> None:
    """One that came too late, or too early, does not touch the job that runs."""
    seq = begun(worker, "polls_and_returns")
    for other in (seq - 1, seq + 1, 0, 2**32 - 1):
        worker.tell(other)
    worker.tell(seq, "now it is")
    assert worker.result_of(seq) == "now it is"
    assert worker.result_of(worker.give("short", 3)) == 3


def test_a_worker_between_jobs_hears_nothing(worker: Worker) -> None:
    """Signals to an idle worker are no reason to end."""
    for _ in range(50):
        worker.tell(1)
    assert worker.word_of(worker.give("cancels_itself"))["reason"] in ("my own", "because")
    for _ in range(50):
        worker.tell(1)
    assert worker.result_of(worker.give("short", 3)) == 3


def test_a_told_coroutine_may_go_on(worker: Worker) -> None:
    """Its task is cancelled, once; what it makes of that is its affair."""
    seq = begun(worker, "goes_on_alone")
    worker.tell(seq)
    assert worker.result_of(seq) == "went on"


def test_threads_of_a_job_can_look(worker: Worker) -> None:
    """`ctx.cancelled` is for any thread."""
    seq = begun(worker, "in_threads")
    worker.tell(seq)
    assert worker.result_of(seq) == [True] * 4


@pytest.mark.parametrize("name", ["deaf", "polls_and_returns"])
def test_what_a_job_did_to_signals_is_undone(worker: Worker, name: str) -> None:
    """After a job that blocked or replaced them, the next one is told as ever."""
    seq = begun(worker, name)
    worker.tell(seq)
    if name == "deaf":
        os.kill(worker.process.pid, signal.SIGUSR1)
    worker.result_of(seq)
    seq = begun(worker, "sleeps")
    worker.tell(seq)
    assert worker.word_of(seq)["kind"] == "told"


def test_a_job_that_waits_for_an_answer_is_told_when_it_has_it(worker: Worker) -> None:
    """Told while our own code waits for the engine, it ends right after, and the pipe is as good as before."""
    seq = begun(worker, "asks", False)
    call = worker.hear(messages.CALL)[1]
    worker.tell(seq)
    worker.signal()
    worker.say(messages.REPLY, call, None, messages._pack({}))
    assert worker.word_of(seq)["kind"] == "told"
    assert worker.result_of(worker.give("short", 10)) == 45


def test_a_job_that_does_nothing_but_ask_is_told(worker: Worker) -> None:
    """However little of its time is its own code."""
    seq = begun(worker, "asks", True)
    for number in range(20_000):
        message = worker.hear_where(lambda message: message[0] in (messages.CALL, messages.ENDED))
        if message[0] == messages.ENDED:
            assert message[4]["kind"] == "told"
            break
        worker.say(messages.REPLY, message[1], None, messages._pack({}))
        if number == 20:
            worker.tell(seq)
    else:
        raise AssertionError("20,000 questions, and it was never told")
    # It may use the store as before.
    seq = begun(worker, "asks", False)
    worker.say(messages.REPLY, worker.hear(messages.CALL)[1], None, messages._pack({}))
    worker.tell(seq)
    assert worker.word_of(seq)["kind"] == "told"


def test_a_job_that_waits_for_another_is_told(worker: Worker) -> None:
    """`handle.result()` ends at once."""
    seq = begun(worker, "waits_for_another", "01900000-0000-7000-8000-000000000000")
    call = worker.hear(messages.CALL)
    worker.tell(seq)
    assert worker.word_of(seq)["kind"] == "told"
    worker.say(messages.REPLY, call[1], None, messages._pack([]))
    assert worker.result_of(worker.give("short", 10)) == 45


def test_each_of_1_000_jobs_told_at_any_moment_has_one_word(worker: Worker) -> None:
    """Told before it starts, while it runs, as it ends, after it: one end each, in order, and never another's."""
    seed = int(os.environ.get("JOBCARD_SEED", "7"))
    dice = random.Random(seed)
    kinds = {"returned": 0, "told": 0}
    for number in range(1_000):
        size = dice.choice((0, 100, 3_000, 20_000))
        seq = worker.give("short", size)
        behind = worker.give("short", 7)
        pause = time.perf_counter() + dice.random() * 0.0012
        while time.perf_counter() < pause:
            pass
        worker.tell(seq, str(number))
        end, after = worker.end_of(seq), worker.end_of(behind)
        if end[0] == messages.DONE:
            kinds["returned"] += 1
            assert end[4] == str(sum(range(size)))
        else:
            kinds["told"] += 1
            assert (end[4]["kind"], end[4]["reason"]) == ("told", str(number)), (seed, end)
        assert (after[0], after[4]) == (messages.DONE, "21"), (seed, after)
    assert not worker.all_heard(), seed
    assert all(kinds.values()), (seed, kinds)
    print(kinds)


def test_a_context_is_over_with_its_job(worker: Worker) -> None:
    """What speaks to the engine raises; what it knows it still says."""
    worker.end_of(worker.give("leaves_its_context"))
    assert worker.result_of(worker.give("uses_what_is_left")) == ["ConfigError"] * 7


@pytest.mark.parametrize("name", ["sleeps_at_once", "sleeps_alone"])
def test_a_job_that_is_told_before_it_begins_does_not_begin(worker: Worker, name: str) -> None:
    """The notice was there first; the signal came when there was nobody to hear it."""
    seq = worker.give(name, permit=False)
    worker.tell(seq)
    worker.permit(seq)
    word = worker.word_of(seq)
    assert (word["kind"], word["reason"]) == ("told", "because")
