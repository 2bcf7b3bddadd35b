"""Telling a running job that it shall end, and letting a worker share, with real worker processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.pools import Hands, making_hands
from helpers.waiting import wait_until
from jobcard.workers import board, messages
from jobcard.workers.board import Notice
from jobcard.workers.messages import Inbox, Why
from jobcard.workers.pool import Pool

APP = """
    import os, signal, subprocess, sys, time
    from pathlib import Path
    from jobcard import Jobcard

    jobs = Jobcard("sqlite:///never-opened.db")

    @jobs.job
    def parent() -> int:
        return os.getppid()

    @jobs.job
    def catches(number: int, path: str) -> int:
        # A handler of its own makes it independent of what the worker does with the signal.
        class Caught(BaseException):
            pass
        def catch(got, _frame):
            raise Caught(got)
        signal.signal(number, catch)
        try:
            Path(path).touch()
            time.sleep(60)
        except Caught as caught:
            return caught.args[0]

    @jobs.job
    def waits(path: str) -> str:
        Path(path).touch()
        time.sleep(600)

    @jobs.job
    def leaves(path: str) -> int:
        child = subprocess.Popen(["sleep", "600"])
        Path(path).write_text(str(child.pid))
        time.sleep(600)
"""


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Callable[[str], Hands]]:
    yield from making_hands(tmp_path)


def board_of(pool: Pool, worker: int) -> Notice | None:
    return pool._workers[worker].channels.board.read()


@pytest.mark.parametrize("template", [False, True], ids=["spawned", "forked"])
def test_a_running_job_is_told_by_a_notice_and_a_signal(
    hands: Callable[[str], Hands], tmp_path: Path, template: bool
) -> None:
    """What stands on the board names the job and says why; the signal wakes a job that sleeps for a minute."""
    at_work = hands(APP)
    if template:
        at_work.with_template()
    at_work.spawn(1)
    began = tmp_path / "began"
    at_work.give(1, 7, "catches", board.TELL_SIGNAL, str(began))
    at_work.until(began.exists)
    at_work.pool.tell(1, 7, Why.CANCEL, "changed my mind")
    took = at_work.until(lambda: 7 in at_work.results)
    assert at_work.results[7] == str(int(board.TELL_SIGNAL))
    assert took < 30
    assert board_of(at_work.pool, 1) == Notice(7, Why.CANCEL, "changed my mind")
    assert at_work.run(1, 8, "parent") == str(at_work.pool.template if template else os.getpid())


class Ear:
    """A worker's end of the socket, in our own hands: the real one hears nothing any more."""

    def __init__(self, hands: Hands, worker: int) -> None:
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.sock.settimeout(30)
        hands.pool._workers[worker].sock = ours
        self._inbox = Inbox()

    def hear(self, count: int) -> list[list[object]]:
        heard: list[list[object]] = []
        while len(heard) < count:
            heard += self._inbox.feed(self.sock.recv(1 << 16))
        return heard


def test_a_sharing_worker_is_told_by_a_message(hands: Callable[[str], Hands]) -> None:
    """Its loop reads messages while jobs run, so it needs no signal, which could name no job among several."""
    at_work = hands(APP)
    at_work.spawn(1)
    true_sock = at_work.pool._workers[1].sock
    ear = Ear(at_work, 1)
    at_work.pool.share(1)
    at_work.pool.tell(1, 3, Why.TIMEOUT, "its time is up")
    assert ear.hear(2) == [[messages.SHARE], [messages.CANCEL, 3, "timeout", "its time is up"]]
    assert board_of(at_work.pool, 1) is None
    at_work.pool._workers[1].sock.close()
    at_work.pool._workers[1].sock = true_sock
    ear.sock.close()


def test_nobody_there_hears_nothing(hands: Callable[[str], Hands]) -> None:
    """Orders for a worker that has ended, or never was, are dropped."""
    at_work = hands(APP)
    at_work.spawn(1)
    at_work.pool.kill(1)
    at_work.until(lambda: 1 in at_work.gone_)
    for number in (1, 2):
        at_work.pool.share(number)
        at_work.pool.tell(number, 1, Why.STOP, "")
        at_work.pool.retire(number)
        at_work.pool.kill(number)
    assert at_work.gone_[1].code == -signal.SIGKILL
    assert not at_work.gone_[1].is_lost


def test_a_dead_worker_that_is_not_yet_missed_can_be_told(hands: Callable[[str], Hands], tmp_path: Path) -> None:
    """Its job ends as it would have, by the worker's death."""
    at_work = hands(APP)
    at_work.spawn(1)
    began = tmp_path / "began"
    at_work.give(1, 1, "waits", str(began))
    at_work.until(began.exists)
    pid = at_work.pid(1)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text(), "its death")
    at_work.pool.tell(1, 1, Why.CANCEL, "too late")
    at_work.until(lambda: 1 in at_work.gone_)
    assert at_work.gone_[1].code == -signal.SIGKILL


@pytest.mark.parametrize("template", [False, True], ids=["spawned", "forked"])
def test_a_kill_takes_what_the_job_started_with_it(
    hands: Callable[[str], Hands], tmp_path: Path, template: bool
) -> None:
    """SIGKILL reaches the whole process group, however the worker was started."""
    at_work = hands(APP)
    if template:
        at_work.with_template()
    at_work.spawn(1)
    began = tmp_path / "began"
    at_work.give(1, 1, "leaves", str(began))
    at_work.until(lambda: began.exists() and began.read_text())
    child = int(began.read_text())
    at_work.pool.kill(1)
    at_work.until(lambda: 1 in at_work.gone_)
    assert at_work.gone_[1].code == -signal.SIGKILL

    def ended() -> bool:
        try:
            return " Z " in Path(f"/proc/{child}/stat").read_text()
        except OSError:
            return True

    wait_until(ended, "the end of what it started")
