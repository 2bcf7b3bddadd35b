"""The worker's side of its pipes: permits, messages read by several threads, and words that always fit."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from jobcard.core.definition import JobDefinition, check_options
from jobcard.core.job import Claimed
from jobcard.core.signals import Cancel, Fail
from jobcard.errors import StoreError
from jobcard.workers import link, messages, words
from jobcard.workers.board import Board
from jobcard.workers.messages import Inbox
from jobcard.workers.pipes import Pipes

CLAIM = (
    *(b"ref", 1, "claimed", bytes(16), "default", "noop", None, "[]", "{}", 0, 0, 0, 0, 1, 5, 0, 3, 0, "", None),
    *(0, 0, 0, "engine", *[None] * 10),
)


class Engine:
    """The other end: what an engine does with its side of the pipes."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        permits, self.permits = os.pipe()
        os.set_blocking(permits, False)
        self._fd = permits
        self.pipes = Pipes(theirs, permits, Board.create())
        self.theirs = theirs

    def give(self, *numbers: int) -> None:
        self.sock.sendall(messages.encode([messages.JOBS, [(number, CLAIM, 0.0) for number in numbers]]))

    def permit(self, number: int) -> None:
        os.write(self.permits, messages.PERMIT.pack(number))

    def stop(self) -> None:
        self.sock.sendall(messages.encode([messages.STOP]))

    def close(self) -> None:
        self.sock.close()
        self.theirs.close()
        for fd in (self.permits, self._fd):
            os.close(fd)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def test_a_job_whose_permit_was_taken_back_is_passed_over(engine: Engine) -> None:
    """The next permit names the job; all before it are somebody else's now."""
    engine.give(1, 2, 3)
    engine.permit(3)
    job = engine.pipes.next_job()
    assert job is not None and job[0] == 3


def test_a_worker_whose_jobs_were_all_taken_back_ends_when_told_to(engine: Engine) -> None:
    """What it was given and may not start does not keep it."""
    engine.give(1, 2)
    engine.stop()
    assert engine.pipes.next_job() is None


def test_threads_that_ask_at_once_each_get_their_own_answer(engine: Engine) -> None:
    """Whoever reads reads for all, and the next job comes through as well."""
    asking, calls = 8, 200
    answers: list[int] = []

    def ask() -> None:
        for _ in range(calls // asking):
            answers.append(engine.pipes.ask("delete", link.pack_call("delete", ([bytes(16)],), {})))

    def answer() -> None:
        inbox, left = Inbox(), calls
        while left:
            for _kind, call, _verb, _packed in inbox.feed(engine.sock.recv(1 << 16)):
                engine.sock.sendall(messages.encode([messages.REPLY, call, None, messages._pack(call)]))
                left -= 1
        engine.give(7)
        engine.permit(7)

    threads = [threading.Thread(target=ask) for _ in range(asking)] + [threading.Thread(target=answer)]
    for thread in threads:
        thread.start()
    job = engine.pipes.next_job()
    for thread in threads:
        thread.join(30)
    assert job is not None and job[0] == 7
    assert sorted(answers) == list(range(1, calls + 1))


@pytest.mark.parametrize("signal", [Fail("é\udce9"), Cancel("\ud800" * 5_000)])
def test_what_a_job_says_about_its_end_always_fits_the_pipe(signal: BaseException) -> None:
    """Text that is no text is spelled out, and a flood of it is cut."""
    definition = JobDefinition(len, check_options(), name="noop")
    word = words.ended_by(signal, definition, messages_claim())
    assert len(messages.encode([messages.ENDED, 1, 0.0, 0.0, word])) < 64 << 10


def messages_claim() -> Claimed:
    return Claimed(*CLAIM)


@pytest.mark.parametrize("packed", [b"", b"\xc1", messages._pack({"job_ids": 5}), messages._pack({"nonsense": 1})])
def test_nonsense_from_a_worker_is_an_error_of_that_call(packed: bytes) -> None:
    """Whatever a job's code sends, the engine answers and goes on."""
    error, answer = link.perform(object(), "delete", packed)  # type: ignore[arg-type]
    assert answer is None
    with pytest.raises(StoreError):
        link.unpack_answer("delete", error, answer)
