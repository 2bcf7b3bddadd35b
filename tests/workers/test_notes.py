"""What a job says before it ends: in time, in order, of bounded size, and not a word after its end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobcard.core.ids import follow_up_id
from jobcard.core.job import NewJob
from jobcard.core.states import AT_WORK
from jobcard.errors import ClaimLostError
from jobcard.workers import messages
from workers.engine_side import Worker

Start = Callable[..., Worker]


@pytest.fixture
def worker(start: Start) -> Worker:
    return start("notes")


def notes_until_the_end(worker: Worker, seq: int) -> list[dict[str, Any]]:
    """All notes of a job; the last message must be its end."""
    notes = []
    while True:
        message = worker.hear_where(lambda message: message[1] == seq)
        if message[0] != messages.NOTE:
            return notes
        notes.append(message[2])


def test_what_a_job_says_comes_before_its_end(worker: Worker) -> None:
    """The first at once, the rest with the end; lines in order, of the progress the last."""
    notes = notes_until_the_end(worker, worker.give("says"))
    assert [text for note in notes for _at, text in note["lines"]] == ["first", "second"]
    said = [json.loads(note["progress"]) for note in notes if note["progress"]]
    assert [(each["value"], each["text"]) for each in said] == [(0.25, "a quarter")]
    assert abs(said[0]["at"] / 1e6 - time.time()) < 30
    assert all(abs(at - time.monotonic()) < 30 for note in notes for at, _text in note["lines"])
    assert not worker.all_heard()


def test_what_a_job_says_last_does_not_wait_for_its_end(worker: Worker) -> None:
    """A quiet job's last words go out by themselves, in few messages."""
    seq = worker.give("says_and_waits")
    lines: list[str] = []
    value, notes = 0.0, 0
    while len(lines) < 100:
        note = worker.note_of(seq)[2]
        lines += [text for _at, text in note["lines"]]
        if note["progress"]:
            value = json.loads(note["progress"])["value"]
        notes += 1
    assert (lines, value) == ([f"line {number}" for number in range(100)], 0.99)
    assert notes < 20
    os.kill(worker.process.pid, signal.SIGUSR1)
    worker.end_of(seq)


@pytest.mark.parametrize(("lines", "size"), [(50_000, 1), (2_000, 1_900)])
def test_a_flood_of_lines_is_cut_to_its_last(worker: Worker, lines: int, size: int) -> None:
    """Neither the pipe nor memory grows with what a job says; the last lines are there."""
    notes = notes_until_the_end(worker, worker.give("floods", lines, size))
    texts = [text for note in notes for _at, text in note["lines"]]
    assert texts[-1].startswith(f"{lines - 1} ")
    assert all(len(note["lines"]) <= 1_000 for note in notes)
    assert all(sum(len(text) for _at, text in note["lines"]) <= 64 << 10 for note in notes)


def test_every_store_can_keep_what_a_job_says(worker: Worker) -> None:
    """No NUL, no half of a character, not more than there is room for."""
    notes = notes_until_the_end(worker, worker.give("odd_texts"))
    lines = [text for note in notes for _at, text in note["lines"]]
    assert lines == ["nul \\x00, half \\ud800, e\u0301", "y" * 1_999 + "…"]
    assert json.loads(notes[-1]["progress"])["text"] == "z" * 199 + "…"


def test_what_is_no_progress_is_refused_at_its_line(worker: Worker) -> None:
    """Only numbers from 0 to 1."""
    assert worker.result_of(worker.give("bad_progress")) == 7


def test_a_checkpoint_is_stored_when_the_call_returns(worker: Worker) -> None:
    """The job waits for the engine's word; what was said before goes along; the next try begins with it."""
    seq = worker.give("counts", 5)
    seen: list[Any] = []
    while not seen or seen[-1][2]["checkpoint"] is None:
        seen.append(worker.note_of(seq))
    assert "half" in "".join(note[2]["progress"] or "" for note in seen)
    checkpoint, call = seen[-1][2]["checkpoint"], seen[-1][3]
    assert json.loads(checkpoint) == {"done": 10, "text": "xxxxx"}
    behind = worker.give("bad_progress")
    worker.answer(call)
    assert worker.result_of(seq) is None
    worker.end_of(behind)
    seq = worker.give("counts", 5, checkpoint=checkpoint)
    worker.answer(worker.hear_where(lambda message: message[0] == messages.NOTE and message[3])[3])
    assert worker.result_of(seq) == {"done": 10, "text": "xxxxx"}


def test_a_checkpoint_of_a_lost_claim_says_so(worker: Worker) -> None:
    """What the engine answers is raised in the job."""
    seq = worker.give("counts", 5)
    call = worker.hear_where(lambda message: message[0] == messages.NOTE and message[3])[3]
    worker.answer(call, ClaimLostError("note", "waiting", AT_WORK, "it"))
    word = worker.word_of(seq)
    assert (word["kind"], word["error"]["type"]) == ("error", "jobcard.errors.ClaimLostError")


@pytest.mark.parametrize(("name", "args"), [("counts", (2 << 20,)), ("saves_what_cannot_be", ())])
def test_a_checkpoint_that_cannot_be_stored_is_refused_at_its_line(
    worker: Worker, name: str, args: tuple[Any, ...]
) -> None:
    """Too large, or no JSON: an error of the job, nothing sent."""
    word = worker.word_of(worker.give(name, *args))
    assert word["error"]["type"] == "jobcard.errors.SerializationError"


@pytest.mark.parametrize(("name", "result"), [("counts_in_a_thread", [0, 1, 2, 3]), ("counts_async", [None, 2])])
@pytest.mark.parametrize("share", [False, True])
def test_checkpoints_from_threads_and_coroutines(start: Start, name: str, result: object, share: bool) -> None:
    """Several at once, each with its own answer."""
    worker = start("notes", share=share and name == "counts_async")
    seq = worker.give(name)
    for _ in range(len(result) if name == "counts_in_a_thread" else 2):  # type: ignore[arg-type]
        worker.answer(worker.hear_where(lambda message: message[0] == messages.NOTE and message[3])[3])
    answer = worker.result_of(seq)
    assert answer == result or answer == [None, 1]


def test_a_checkpoint_does_not_keep_the_neighbours_waiting(start: Start) -> None:
    """On a shared loop saving is awaited; the call that would block it is refused, and says which to use."""
    worker = start("notes", share=True)
    word = worker.word_of(worker.give("blocks_the_loop"))
    assert word["error"]["type"] == "jobcard.errors.ConfigError"
    assert "save_checkpoint_async" in word["error"]["message"]
    seq = worker.give("counts_async")
    calls = [worker.hear_where(lambda message: message[0] == messages.NOTE and message[3])[3] for _ in range(2)]
    for _ in range(10):
        worker.end_of(worker.give("ticks"))
    for call in calls:
        worker.answer(call)
    assert worker.result_of(seq)[0] is None
    seq = worker.give("counts_in_a_shared_thread")
    for _ in range(2):
        worker.answer(worker.hear_where(lambda message: message[0] == messages.NOTE and message[3])[3])
    assert worker.result_of(seq) == 2


def test_follow_ups_go_with_the_success(worker: Worker) -> None:
    """In order, with ids that are the same at every try, and the parent's; a job without them says `done`."""
    parent = bytes.fromhex("0192f000aabb7000800000000000abcd")
    ends = [worker.end_of(worker.give("chains", "mail", "bill", id=parent, attempt=attempt)) for attempt in (1, 2)]
    for end in ends:
        assert end[0] == messages.FOLLOWED
        assert json.loads(end[4]) == "chained"
        jobs = [NewJob(*fields) for fields in end[5]]
        assert [(job.name, job.parent_id) for job in jobs] == [("mail", parent), ("bill", parent)]
        assert [job.id for job in jobs] == [follow_up_id(parent, 0), follow_up_id(parent, 1)]
    assert worker.result_of(worker.give("chains")) == "chained"


def test_no_success_no_follow_ups(worker: Worker) -> None:
    """A job that ends otherwise leaves none; one that does not fit is refused at its line, as are too many."""
    assert worker.word_of(worker.give("chains_in_vain"))["kind"] == "snooze"
    word = worker.word_of(worker.give("chains", "mail", "bad"))
    assert (word["kind"], word["error"]["type"]) == ("error", "jobcard.errors.InvalidJobError")
    assert "at most 1,000" in worker.word_of(worker.give("chains_too_many"))["error"]["message"]


def test_a_signal_handler_may_speak_too(worker: Worker) -> None:
    """Coming in the middle of another note it waits for nothing, and spoils nothing."""
    seq = worker.give("speaks_in_a_handler")
    notes = 0
    while (message := worker.hear_where(lambda message: message[1] == seq))[0] == messages.NOTE:
        notes += 1
    assert json.loads(message[4]) > 0
    assert notes
    assert worker.result_of(worker.give("bad_progress")) == 7


def test_a_forked_child_has_no_voice(worker: Worker) -> None:
    """It is told so; its parent's pipe stays whole."""
    assert worker.result_of(worker.give("forks")) == "ConfigError"
