"""A worker whose jobs run side by side: each once, each its own, told by message, and none in another's way."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from jobcard.backends.ready import make_ready
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.workers import messages
from jobcard.workers.messages import Why
from workers.engine_side import PATIENCE, Worker

Start = Callable[..., Worker]


@pytest.fixture
def worker(start: Start) -> Worker:
    return start("sharing", share=True)


def started(worker: Worker, seq: int) -> None:
    """Wait until the worker has said that this job began."""
    worker.hear_where(lambda message: message[0] == messages.STARTED and seq in [number for number, _at in message[1]])


def test_jobs_run_side_by_side_in_one_thread(worker: Worker) -> None:
    """Two hundred that wait for each other."""
    numbers = worker.give_many(200, "meets", "all", 200)
    assert len({worker.result_of(seq) for seq in numbers}) == 1


def test_functions_run_side_by_side_in_threads(worker: Worker) -> None:
    """Thirty that wait for each other, and again with the same threads."""
    for others in (30, 30, 7):
        numbers = worker.give_many(others, "meets_in_a_thread", others)
        assert {worker.result_of(seq) for seq in numbers} == {f"[{others}]"}


def test_each_job_is_itself(worker: Worker) -> None:
    """`current_job()` and context variables are a job's own."""
    numbers = [worker.give("knows_itself", f"job {n}") for n in range(50)]
    for n, seq in enumerate(numbers):
        assert worker.result_of(seq) == ["none", f"job {n}", [f"job {n}"]]


def test_each_of_10_000_jobs_has_one_word(worker: Worker) -> None:
    """Started once, ended once, with its own result."""
    numbers = [seq for _ in range(10) for seq in worker.give_many(900, "noop") + worker.give_many(100, "naps", 1)]
    for seq in numbers:
        worker.end_of(seq)
    assert worker.stop() == 0
    assert {message[0] for message in worker.all_heard()} <= {messages.STARTED}
    begun = [seq for message in worker.all_heard() for seq, _at in message[1]]
    assert len(begun) == len(set(begun)) <= len(numbers)


def test_a_job_says_that_it_has_begun(worker: Worker) -> None:
    """Unless it has ended by then, which says so too."""
    for name, args in (("sleeps", ()), ("goes_on", ()), ("looks_in_a_thread", ("return",))):
        started(worker, worker.give(name, *args))


def test_a_job_with_a_timeout_says_at_once_that_it_has_begun(worker: Worker) -> None:
    """Its time runs, also when it never lets the loop turn again."""
    started(worker, worker.give("blocks", 600, timeout=1_000_000))


def test_while_the_loop_is_blocked_jobs_can_be_taken_back(worker: Worker) -> None:
    """A blocked loop takes no permit: what has not begun never does."""
    blocker = worker.give("blocks", 0.5)
    worker.until_permits_are_taken()
    behind = [worker.give("naps", n) for n in range(5)]
    taken = worker.recall()
    worker.end_of(blocker)
    for n, seq in enumerate(behind):
        if seq not in taken:  # this machine was so slow that the loop turned again meanwhile
            assert worker.result_of(seq) == n
    assert worker.stop() == 0
    assert not [message for message in worker.all_heard() if message[0] != messages.STARTED]


def test_a_batch_is_begun_one_by_one(worker: Worker) -> None:
    """Behind a job that blocks the loop in its first step nothing has begun, however many were permitted at once."""
    numbers = worker.give_many(20, "blocks", 0.2)
    worker.end_of(numbers[0])
    begun = set(numbers) - set(worker.recall())
    assert len(begun) < 20
    assert worker.stop() == 0
    ends = {message[1] for message in worker.all_heard() if message[0] == messages.DONE}
    assert ends == begun - {numbers[0]}


def test_a_permit_may_come_before_its_record(worker: Worker) -> None:
    """The two pipes are not read in step."""
    first = worker.give("naps", 1)
    worker.permit(first + 1)
    assert worker.result_of(first) == 1
    assert worker.result_of(worker.give("naps", 2, permit=False)) == 2


def test_a_worker_told_to_share_late_shares_from_its_first_job(start: Start) -> None:
    """However the messages and permits are read."""
    for _ in range(5):
        worker = start("sharing")
        worker.say(messages.SHARE)
        numbers = worker.give_many(3, "meets", "late", 3)
        assert len({worker.result_of(seq) for seq in numbers}) == 1
        assert worker.stop() == 0


# ------------------------------------------------------------------ being told


def test_a_told_coroutine_is_cancelled(worker: Worker) -> None:
    """It ends as told, with the reason; its neighbours do not notice."""
    neighbour = worker.give("goes_on")
    started(worker, neighbour)
    for name in ("sleeps", "asks_whether"):
        seq = worker.give(name)
        started(worker, seq)
        worker.cancel(seq)
        word = worker.word_of(seq)
        assert (word["kind"], word["reason"]) == ("told", "because")
    worker.cancel(neighbour, "now you", Why.STOP)
    assert worker.result_of(neighbour) == "went on"


@pytest.mark.parametrize("how", ["raise", "cancel", "return"])
def test_a_told_thread_can_look(worker: Worker, how: str) -> None:
    """What it then does is up to it."""
    seq = worker.give("looks_in_a_thread", how)
    worker.note_of(seq)
    worker.cancel(seq)
    if how == "return":
        assert worker.result_of(seq) == "because"
    else:
        assert worker.word_of(seq)["kind"] == "told"


def test_a_thread_is_told_while_the_loop_is_blocked(worker: Worker) -> None:
    """As soon as anybody reads the pipe."""
    seq = worker.give("looks_in_a_thread", "return")
    worker.note_of(seq)
    blocker = worker.give("blocks", 0.3)
    worker.cancel(seq)
    assert worker.result_of(seq) == "because"
    worker.end_of(blocker)


def test_a_word_that_comes_with_the_first_messages_is_heard(start: Start) -> None:
    """However little the worker has read of them when it begins to share."""
    for _ in range(5):
        worker = start("sharing", share=True)
        seq = worker.give("sleeps")
        worker.cancel(seq)
        assert worker.word_of(seq)["kind"] == "told"


@pytest.mark.parametrize("name", ["sleeps", "looks_in_a_thread"])
def test_a_job_that_is_told_before_it_begins_does_not_begin(worker: Worker, name: str) -> None:
    """The word may overtake the permit."""
    args = ("return",) if name == "looks_in_a_thread" else ()
    first = worker.give("saves")
    call = worker.note_of(first)[3]
    seq = worker.give(name, *args, permit=False)
    worker.cancel(seq)
    worker.answer(call)
    worker.end_of(first)  # it has read so far
    worker.permit(seq)
    word = worker.word_of(seq)
    assert (word["kind"], word["reason"]) == ("told", "because")
    assert not [message for message in worker.all_heard() if message[0] == messages.NOTE]


def test_a_cancel_for_nobody_is_nothing(worker: Worker) -> None:
    """Jobs that have ended, and such that never were."""
    seq = worker.give("noop")
    worker.end_of(seq)
    for other in (seq, 99, 0):
        worker.cancel(other)
    assert worker.result_of(worker.give("naps", 1)) == 1


def test_each_of_1_000_jobs_canceled_at_any_moment_has_one_word(worker: Worker) -> None:
    """Before its first step, in the middle, as it ends, after it: one end each."""
    seed = int(os.environ.get("JOBCARD_SEED", "7"))
    dice = random.Random(seed)
    numbers = []
    for n in range(1_000):
        seq = worker.give("naps", n)
        numbers.append(seq)
        worker.cancel(dice.choice(numbers[-20:]))
    kinds = {messages.DONE: 0, messages.ENDED: 0}
    for n, seq in enumerate(numbers):
        end = worker.end_of(seq)
        kinds[end[0]] += 1
        assert end[4] == str(n) if end[0] == messages.DONE else end[4]["kind"] == "told", (seed, end)
    assert all(kinds.values()), (seed, kinds)
    assert {message[0] for message in worker.all_heard()} <= {messages.STARTED}, seed


# ------------------------------------------------------------------ its end


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("exit", "error"),
        ("interrupt", "error"),
        ("fail", "fail"),
        ("return retry", "retry"),
        ("object", "serialization"),
        ("cancelled", "error"),
        ("raise", "error"),
    ],
)
def test_however_a_job_ends_the_others_go_on(worker: Worker, how: str, kind: str) -> None:
    """An exit in a coroutine is an error of that job."""
    neighbour = worker.give("goes_on")
    started(worker, neighbour)
    word = worker.word_of(worker.give("ends_with", how))
    assert word["kind"] == kind
    worker.cancel(neighbour)
    assert worker.result_of(neighbour) == "went on"


def test_what_a_job_left_running_does_not_end_the_loop(worker: Worker) -> None:
    """A stray task that wants to end the process ends itself."""
    assert worker.result_of(worker.give("leaves_a_bomb")) == "left"
    for n in range(20):
        assert worker.result_of(worker.give("naps", n)) == n


def test_a_job_that_stops_the_loop_stops_nobody(worker: Worker) -> None:
    """Neither its neighbours nor itself: the loop is its worker's."""
    neighbour = worker.give("goes_on")
    started(worker, neighbour)
    assert worker.result_of(worker.give("stops_the_loop")) == "went on"
    worker.cancel(neighbour)
    assert worker.result_of(neighbour) == "went on"
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("forks", "returns"),
        ("forks", "raises"),
        ("forks", "awaits"),
        ("forks_in_a_thread", "returns"),
        ("forks_in_a_thread", "raises"),
    ],
)
def test_a_forked_child_that_comes_back_is_no_second_worker(worker: Worker, name: str, how: str) -> None:
    """It ends; no job that runs beside it, or is given later, ever takes a step there."""
    beside = worker.give_many(5, "beats", 3000)
    forking = [worker.give(name, how) for _ in range(5)]
    behind = worker.give_many(200, "naps", 1)
    assert [worker.result_of(seq) for seq in forking] == [0] * 5
    assert [worker.result_of(seq) for seq in behind] == [1] * 200
    assert [worker.result_of(seq) for seq in beside] == [0] * 5
    assert worker.stop() == 0
    assert {message[0] for message in worker.all_heard()} <= {messages.STARTED}


def test_a_call_that_does_not_fit_and_an_unknown_name(worker: Worker) -> None:
    """Said at once."""
    assert worker.word_of(worker.give("naps", 1, 2, 3))["kind"] == "bad_call"
    assert worker.word_of(worker.give("nobody"))["kind"] == "unknown_name"
    assert worker.result_of(worker.give("naps", 1)) == 1


def test_a_worker_told_to_stop_ends_when_it_is_empty(worker: Worker) -> None:
    """What runs is finished first, threads too."""
    coroutine, thread = worker.give("goes_on"), worker.give("looks_in_a_thread", "return")
    started(worker, coroutine)
    started(worker, thread)
    worker.say(messages.STOP)
    worker.cancel(coroutine)
    assert worker.result_of(coroutine) == "went on"
    assert worker.process.poll() is None
    worker.cancel(thread)
    assert worker.result_of(thread) == "because"
    assert worker.process.wait(PATIENCE) == 0


def test_an_idle_worker_ends_when_told_to(worker: Worker) -> None:
    """At once."""
    assert worker.stop() == 0


def test_a_worker_whose_engine_is_gone_ends(worker: Worker) -> None:
    """Nobody wants to hear of its jobs any more."""
    started(worker, worker.give("sleeps"))
    worker.sock.shutdown(2)
    worker.process.wait(PATIENCE)


def test_the_signal_that_tells_other_workers_is_nothing_here(worker: Worker) -> None:
    """It neither ends nor disturbs it."""
    for _ in range(20):
        worker.signal()
        os.kill(worker.process.pid, signal.SIGINT)
    assert worker.result_of(worker.give("naps", 1)) == 1


# ------------------------------------------------------------------ the store


def test_jobs_beside_others_use_the_store(start: Start, tmp_path: Path) -> None:
    """From coroutines, their threads, and while the loop is blocked."""
    backend = SQLiteBackend(f"sqlite:///{tmp_path}/jobs.db")
    make_ready(backend, migrate=True, strict_durability=False)
    worker = start("sharing", share=True, store=backend)
    assert worker.result_of(worker.give("counts_jobs")) == 3
    assert worker.result_of(worker.give("enqueues", 40)) == 40
    assert worker.result_of(worker.give("blocks_until_a_thread_has_asked")) == 40
    numbers = [worker.give("enqueues", 5) for _ in range(20)]
    assert [worker.result_of(seq) for seq in numbers] == [5] * 20
    backend.close()
