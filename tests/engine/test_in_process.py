"""An engine without child processes: jobs on threads, live state, nothing killed and nothing waited for in vain."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from checker.lab import Lab
from helpers.stores import in_fork
from helpers.waiting import wait_until
from jobcard import (
    Backoff,
    ConfigError,
    Engine,
    Jobcard,
    JobClass,
    JobContext,
    JobFailedError,
    Queue,
    Retry,
    Snooze,
    StoreError,
    StoreUnavailableError,
    current_job,
)
from jobcard.backends.base import RecordKind, Want
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance.factory import completions_of, new_job
from jobcard.core.rates import RateLimit

TIMEOUT = 30
MEMORY = "sqlite:///:memory:"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Jobcard]]:
    """Makes clients, in memory unless told otherwise, and closes them."""
    made: list[Jobcard] = []

    def make(url: str | None = MEMORY, **options: Any) -> Jobcard:
        made.append(Jobcard(url, **options))
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()


@pytest.fixture
def jobs(make: Callable[..., Jobcard]) -> Jobcard:
    return make()


# ------------------------------------------------------------------ running jobs


def test_jobs_run_on_threads_of_this_process(jobs: Jobcard) -> None:
    """No process is started, and what a job changes here is changed here."""
    seen: list[object] = []

    @jobs.job
    def note(value: int) -> int:
        seen.append((value, threading.current_thread() is threading.main_thread()))
        return os.getpid()

    before = psutil.Process().children()
    with jobs.running(in_process=True) as running:
        assert running is jobs
        assert note.enqueue(1).result(timeout=TIMEOUT) == os.getpid()
        assert psutil.Process().children() == before
        [engine] = jobs.engines.list()
        assert (engine.pid, engine.keeper_pid, engine.workers) == (os.getpid(), None, ())
        assert "default" in engine.queues
    assert seen == [(1, False)]
    assert jobs.engines.list() == []


def test_an_engine_in_this_process_tells_of_itself_as_others_do(make: Callable[..., Jobcard]) -> None:
    """Its record says what runs and whether it is quiet; orders are obeyed, and nothing of it stays in the store."""
    jobs = make(lease=30, heartbeat=3)
    goes = threading.Event()

    @jobs.job(name="waits")
    def waits() -> None:
        goes.wait(TIMEOUT)

    def engine() -> Engine:
        [found] = jobs.engines.list()
        return found

    with jobs.running(in_process=True):
        running = waits.enqueue()
        wait_until(lambda: engine().jobs, "the record to name the job that runs")
        [told] = engine().jobs
        assert (told.pid, told.job_id, told.name) == (os.getpid(), running.id, "waits")
        assert not engine().quiet
        jobs.engines.quiet(engine().id)
        wait_until(lambda: engine().quiet, "the engine to be quiet")
        goes.set()
        running.result(timeout=TIMEOUT)
        with jobs.parts.connection as store:
            assert len(store.read_records(RecordKind.ORDER)) == 1
    with jobs.parts.connection as store:
        assert store.read_records(RecordKind.ENGINE) == store.read_records(RecordKind.ORDER) == []


def test_every_kind_of_job_runs(jobs: Jobcard) -> None:
    """Functions, coroutines, classes, with and without context; results come back as annotated."""

    @jobs.job
    def add(a: int, b: int) -> int:
        return a + b

    @jobs.job
    async def double(ctx: JobContext, n: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        assert current_job() is ctx
        return 2 * n, ctx.attempt

    @jobs.job
    class Greet(JobClass):
        def __init__(self, word: str) -> None:
            self.word = word

        def run(self, name: str) -> str:
            return f"{self.word} {name}"

    with jobs.running(in_process=True):
        handles = [add.enqueue(1, 2), double.enqueue(4), Greet.with_("hello").enqueue("ann")]
        assert [handle.result(timeout=TIMEOUT) for handle in handles] == [3, (8, 1), "hello ann"]
        assert [h.result(timeout=TIMEOUT) for h in jobs.enqueue_many([add.call(n, n) for n in range(100)])] == [
            2 * n for n in range(100)
        ]


def test_as_many_at_once_as_allowed(make: Callable[..., Jobcard]) -> None:
    """`max_concurrent_jobs` blocking jobs run side by side, and not one more."""
    jobs = make(max_concurrent_jobs=3)
    meeting = threading.Barrier(3)

    @jobs.job(max_attempts=1)
    def meet() -> int:
        return meeting.wait(TIMEOUT)

    with jobs.running(in_process=True):
        assert sorted(handle.result(timeout=TIMEOUT) for handle in [meet.enqueue() for _ in range(3)]) == [0, 1, 2]


def test_errors_retries_and_signals_are_as_everywhere(jobs: Jobcard) -> None:
    """What a job raises is recorded with its traceback, and decides what becomes of it."""
    tries: list[int] = []

    @jobs.job(max_attempts=2, backoff=Backoff.fixed(0))
    def breaks() -> None:
        raise ValueError("no such thing")

    @jobs.job(max_attempts=1)
    def puts_off(ctx: JobContext) -> int:
        tries.append(ctx.attempt)
        if len(tries) < 3:
            raise Snooze(0.01)
        return len(tries)

    @jobs.job(max_attempts=3)
    def again(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise Retry("not yet", delay=0)
        return ctx.attempt

    @jobs.job(max_attempts=1)
    def leaves() -> None:
        raise SystemExit(3)

    @jobs.job
    def unstorable() -> object:
        return object()

    with jobs.running(in_process=True):
        failing = breaks.enqueue()
        with pytest.raises(JobFailedError) as caught:
            failing.result(timeout=TIMEOUT)
        assert [error["attempt"] for error in caught.value.errors] == [1, 2]
        assert "no such thing" in caught.value.errors[-1]["traceback"]
        assert "test_in_process.py" in caught.value.errors[-1]["traceback"]
        assert puts_off.enqueue().result(timeout=TIMEOUT) == 3
        assert tries == [1, 1, 1]
        assert again.enqueue().result(timeout=TIMEOUT) == 3
        with pytest.raises(JobFailedError, match="SystemExit"):
            leaves.enqueue().result(timeout=TIMEOUT)
        with pytest.raises(JobFailedError) as caught:
            unstorable.enqueue().result(timeout=TIMEOUT)
        assert caught.value.reason == "serialization"


def test_jobs_enqueue_jobs_and_wait_for_them(jobs: Jobcard) -> None:
    """Inside a job the same client works as outside; starting engines there does nothing."""

    @jobs.job
    def inner(n: int) -> int:
        return n + 1

    @jobs.job
    def outer() -> int:
        jobs.start()
        assert jobs.run() == 0
        with jobs.running(in_process=True):
            return inner.enqueue(1).result(timeout=TIMEOUT) + 1

    with jobs.running(in_process=True):
        assert outer.enqueue().result(timeout=TIMEOUT) == 3
        assert len(jobs.engines.list()) == 1


def test_jobs_declared_later_are_run(make: Callable[..., Jobcard]) -> None:
    """As in a notebook, where the engine is there first; a job that nobody knew comes back from where it was put."""
    jobs = make(heartbeat=0.2)
    with jobs.running(in_process=True):

        @jobs.job(name="first")
        def first() -> int:
            return 1

        assert first.enqueue().result(timeout=TIMEOUT) == 1
        unknown = jobs.enqueue("second", strict=False)
        wait_until(lambda: unknown.refresh().hold == "parked", "the unknown job to be put aside")

        @jobs.job(name="second")
        def second() -> int:
            return 2

        assert unknown.result(timeout=2 * TIMEOUT) == 2


@pytest.mark.parametrize("given", ["object", "class", "file"])
def test_any_store_will_do(make: Callable[..., Jobcard], tmp_path: Path, given: str) -> None:
    """Also one that was given as an object or a class, which an engine of processes cannot open."""
    path = f"sqlite:///{tmp_path}/jobs.db"
    backend = SQLiteBackend(path)
    options: dict[str, tuple[Any, dict[str, Any]]] = {
        "object": (None, {"backend": backend}),
        "class": (path, {"backend": SQLiteBackend}),
        "file": (path, {}),
    }
    url, rest = options[given]
    jobs = make(url, **rest)

    @jobs.job
    def answer() -> int:
        return 42

    with jobs.running(in_process=True):
        assert answer.enqueue().result(timeout=TIMEOUT) == 42
    assert jobs.count().completed == 1  # and the client's own connection is still open
    backend.close()


def test_a_store_that_cannot_be_used_is_told_at_the_start(make: Callable[..., Jobcard], tmp_path: Path) -> None:
    """The error is raised where the engine was asked for, and nothing stays behind."""
    (tmp_path / "no.db").write_bytes(b"no database " * 1000)
    jobs = make(f"sqlite:///{tmp_path}/no.db")
    before = set(threading.enumerate())
    with pytest.raises((StoreError, ConfigError)), jobs.running(in_process=True):
        pass
    with pytest.raises((StoreError, ConfigError)):
        jobs.run(in_process=True, until_empty=True)
    assert set(threading.enumerate()) <= before


def test_processes_are_refused_for_what_only_this_one_has(make: Callable[..., Jobcard]) -> None:
    """A store in memory, or an object, cannot be served by other processes; the error names the way out."""
    for jobs in (make(), make(None, backend=SQLiteBackend(MEMORY))):
        with pytest.raises(ConfigError, match="in_process=True"):
            jobs.start()
    with pytest.raises(ConfigError, match="in_process=True"):
        jobs.run(until_empty=True)


def test_a_second_start_does_nothing(jobs: Jobcard) -> None:
    """One engine of a client is enough; the outer block is the one that ends it."""

    @jobs.job
    def answer() -> int:
        return 42

    with jobs.running(in_process=True):
        with jobs.running(in_process=True):
            jobs.start()
            assert len(jobs.engines.list()) == 1
        assert answer.enqueue().result(timeout=TIMEOUT) == 42
        jobs.stop()
        assert jobs.engines.list() == []
    jobs.stop()


# ------------------------------------------------------------------ what cannot be killed


def test_a_job_over_its_timeout_is_abandoned(jobs: Jobcard) -> None:
    """Its end is recorded in time, what it says later is dropped, and others go on meanwhile."""
    gate, left = threading.Event(), threading.Event()
    seen: list[Any] = []

    @jobs.job(timeout=2.0, max_attempts=2, backoff=Backoff.fixed(0))
    def stuck(ctx: JobContext) -> str:
        if ctx.attempt == 2:
            return "second try"
        gate.wait(TIMEOUT)
        seen.append(ctx.cancelled)
        left.set()
        return "first try, late"

    @jobs.job
    def quick() -> int:
        return 1

    with jobs.running(in_process=True):
        handle = stuck.enqueue()
        assert handle.result(timeout=TIMEOUT) == "second try"
        assert quick.enqueue().result(timeout=TIMEOUT) == 1
        gate.set()
        assert left.wait(TIMEOUT)
        assert quick.enqueue().result(timeout=TIMEOUT) == 1
        job = handle.refresh()
    assert seen == [True]  # it could have known
    assert (job.result, job.attempt, [error["kind"] for error in job.errors]) == ("second try", 2, ["timeout"])


def test_a_running_job_is_canceled_without_waiting_for_its_thread(jobs: Jobcard) -> None:
    """Its record says canceled; whatever the thread does then counts for nothing."""
    started, gate = threading.Event(), threading.Event()

    @jobs.job
    def endless(ctx: JobContext) -> str:
        started.set()
        gate.wait(TIMEOUT)
        return "done all the same"

    jobs.configure(cancel_grace=0)
    with jobs.running(in_process=True):
        handle = endless.enqueue()
        assert started.wait(TIMEOUT)
        handle.cancel()
        with pytest.raises(JobFailedError) as caught:
            handle.result(timeout=TIMEOUT)
        assert caught.value.state == "canceled"
        gate.set()
    assert handle.refresh().state == "canceled"


def test_a_stop_lets_jobs_end_and_gives_back_the_rest(make: Callable[..., Jobcard]) -> None:
    """What runs may end within `stop_timeout`, what has not started waits as before."""
    jobs = make(max_concurrent_jobs=1, stop_timeout=20)
    started, gate = threading.Event(), threading.Event()

    @jobs.job
    def hold() -> str:
        started.set()
        gate.wait(TIMEOUT)
        return "ended"

    with jobs.running(in_process=True):
        handles = [hold.enqueue() for _ in range(5)]
        assert started.wait(TIMEOUT)
        stopping = threading.Thread(target=jobs.stop)
        stopping.start()
        wait_until(lambda: jobs.count().claimed == 0, "the unstarted to be given back")
        gate.set()
        stopping.join()
    done = [job for job in (handle.refresh() for handle in handles) if job.state == "completed"]
    assert [job.result for job in done] == ["ended"]
    assert all(handle.refresh().attempt == 0 for handle in handles if handle.refresh().state == "waiting")
    assert jobs.count().waiting == 4


def test_a_stop_does_not_wait_for_ever(make: Callable[..., Jobcard]) -> None:
    """A job still running after `stop_timeout` goes back to waiting, its attempt returned."""
    jobs = make(stop_timeout=0.5)
    started, gate = threading.Event(), threading.Event()

    @jobs.job
    def stuck() -> None:
        started.set()
        gate.wait(TIMEOUT)

    with jobs.running(in_process=True):
        handle = stuck.enqueue()
        assert started.wait(TIMEOUT)
    job = handle.refresh()
    gate.set()
    assert (job.state, job.attempt, job.interrupts) == ("waiting", 0, 1)


def test_a_job_may_stop_the_engine_it_runs_in(jobs: Jobcard) -> None:
    """It does not wait for itself; the engine ends when it has."""

    @jobs.job
    def last() -> str:
        jobs.stop()
        return "over"

    handle = last.enqueue()
    assert jobs.run(in_process=True) == 0
    assert handle.result(timeout=0) == "over"


class Unplugged(SQLiteBackend):
    """A store whose answers can be withheld."""

    unplugged = False

    def exchange(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return super().exchange(*args, **kwargs)

    def renew(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return super().renew(*args, **kwargs)

    def _check(self) -> None:
        if self.unplugged:
            raise StoreUnavailableError("unplugged")


class Sloppy(SQLiteBackend):
    """A store of somebody else's, whose driver's errors come through now and then."""

    exchanges = 0

    def exchange(self, *args: Any, **kwargs: Any) -> Any:
        self.exchanges += 1
        answer = super().exchange(*args, **kwargs)
        if self.exchanges % 3 == 0:
            raise OSError("the answer was lost")
        return answer


def test_a_store_that_breaks_its_contract_does_not_end_the_engine(make: Callable[..., Jobcard]) -> None:
    """What it raises counts as an answer that was lost: every job runs once, and ends."""
    jobs = make(None, backend=Sloppy(MEMORY))
    ran: list[int] = []

    @jobs.job
    def note(number: int) -> None:
        ran.append(number)

    handles = [note.enqueue(number) for number in range(50)]
    with jobs.running(in_process=True):
        for handle in handles:
            handle.result(timeout=TIMEOUT)
    assert sorted(ran) == list(range(50))


def test_who_cannot_renew_lets_go(make: Callable[..., Jobcard]) -> None:
    """When the store is away for most of the lease the job is told, and its outcome does not count any more."""
    store = Unplugged(MEMORY)
    jobs = make(None, backend=store, lease=1.5, heartbeat=0.2)
    started, told = threading.Event(), threading.Event()
    results: list[int] = []

    @jobs.job
    def write(ctx: JobContext) -> int:
        if not results:
            results.append(1)
            started.set()
            wait_until(lambda: ctx.cancelled, "the word that the claim is lost")
            told.set()
            return -1
        return ctx.attempt

    with jobs.running(in_process=True):
        handle = write.enqueue()
        assert started.wait(TIMEOUT)
        store.unplugged = True
        assert told.wait(TIMEOUT)
        store.unplugged = False
        assert handle.result(timeout=TIMEOUT) >= 1


# ------------------------------------------------------------------ in the foreground


def test_until_empty_does_all_that_is_due(jobs: Jobcard) -> None:
    """Also what jobs enqueue and what is tried again at once; what is due later, or paused, is left."""

    @jobs.job
    def chain(n: int) -> int:
        if n:
            chain.enqueue(n - 1)
        return n

    @jobs.job(max_attempts=2, backoff=Backoff.fixed(0))
    def second_try(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError

    assert jobs.run(in_process=True, until_empty=True) == 0
    chain.enqueue(20)
    second_try.enqueue()
    later = chain.options(delay=3600).enqueue(0)
    jobs.queues.create("asleep", paused=True)
    paused = chain.options(queue="asleep").enqueue(0)
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert jobs.count().completed == 22
    assert [later.refresh().state, paused.refresh().state] == ["waiting", "waiting"]
    assert jobs.engines.list() == []


def test_until_empty_waits_for_what_others_have(jobs: Jobcard) -> None:
    """A job that another engine has claimed is not done yet."""

    @jobs.job
    def answer() -> int:
        return 42

    handle = answer.enqueue()
    with jobs.parts.connection as store:
        [claim] = store.exchange("somebody", want=Want([("default", 1)], 1), lease=3_000_000).claimed
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert handle.result(timeout=0) == 42  # its lease ended, and it was taken over
    assert handle.refresh().claim_token > claim.token


def test_an_application_without_jobs_is_empty(make: Callable[..., Jobcard]) -> None:
    """There is nothing it could run."""
    jobs = make()
    jobs.enqueue("nobody.knows", strict=False)
    assert jobs.run(in_process=True, until_empty=True) == 0


SCRIPT = """
    import sys, threading
    from jobcard import Jobcard

    jobs = Jobcard({url!r}, stop_timeout=20)

    @jobs.job
    def hold() -> None:
        print("holding", flush=True)
        threading.Event().wait({seconds})
        print("ended", flush=True)

    if __name__ == "__main__":
        hold.enqueue()
        code = jobs.run(in_process=True)
        print("code", code, flush=True)
        sys.exit(code)
"""


def start(lab: Lab, seconds: float) -> Any:
    (lab.folder / "app.py").write_text(dedent(SCRIPT).format(url=lab.url, seconds=seconds))
    process = lab.python("app.py")
    assert process.stdout.readline() == b"holding\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(lab: Lab, number: int) -> None:
    """The first SIGTERM or Ctrl-C lets running jobs end; exit code 0."""
    process = start(lab, 1)
    process.send_signal(number)
    assert process.stdout.read() == b"ended\ncode 0\n"
    assert process.wait(TIMEOUT) == 0


def test_a_second_signal_ends_at_once(lab: Lab) -> None:
    """Nothing is waited for: the abandoned thread does not hold up the end of the process."""
    process = start(lab, 600)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: not _pending(process.pid), "the first signal to be taken")  # two in one breath are one
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 130
    assert process.stdout.read() == b"code 130\n"


def _pending(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd")))


def test_it_needs_no_file(lab: Lab) -> None:
    """In a REPL or `python -c` there is nothing to import, and nothing needs to be."""
    code = (
        f"from jobcard import Jobcard\njobs = Jobcard({lab.url!r})\n@jobs.job\ndef add(a, b): return a + b\n"
        "with jobs.running(in_process=True): print(add.enqueue(1, 2).result(timeout=30))"
    )
    process = lab.python("-c", code)
    assert process.stdout is not None
    assert process.stdout.read() == b"3\n"
    assert process.wait(TIMEOUT) == 0


def test_a_forked_child_has_no_part_in_it(make: Callable[..., Jobcard], tmp_path: Path) -> None:
    """Its threads stayed with the parent: stopping there does nothing, and the parent's engine goes on."""
    jobs = make(f"sqlite:///{tmp_path}/jobs.db")

    @jobs.job
    def answer() -> int:
        return 42

    with jobs.running(in_process=True):
        assert answer.enqueue().result(timeout=TIMEOUT) == 42
        in_fork(jobs.stop)
        assert answer.enqueue().result(timeout=TIMEOUT) == 42
        assert len(jobs.engines.list()) == 1


def test_until_empty_waits_for_what_only_a_limit_keeps(make: Callable[..., Jobcard]) -> None:
    """Jobs that are due and kept out by a rate, or left behind a key by a death, are run before it ends."""
    backend = SQLiteBackend(MEMORY)
    jobs = make(None, backend=backend, queues=[Queue("slow", rate=RateLimit(3, per=0.2))])
    ran: list[str] = []

    @jobs.job(name="note")
    def note(what: str) -> None:
        ran.append(what)

    given: dict[str, Any] = {"name": "note", "kwargs": "{}", "limit_key": "k", "rate_count": 2}
    paced = [new_job(args='["paced"]', rate_per=200_000, **given) for _ in range(5)]
    slow = [new_job(name="note", args='["slow"]', queue="slow") for _ in range(7)]
    keyed = [new_job(name="note", args=f'["{what}"]', limit_key="one", key_limit=1) for what in ("first", "held")]
    jobs.migrate()
    backend.enqueue([*paced, *slow, *keyed])
    # Somebody ends the first ones without a word, so nobody lets the other one in.
    want = Want([("default", 9)], 9)
    claims = backend.exchange("gone", want=want, lease=60_000_000).claimed
    assert len(claims) == 3
    backend.exchange("gone", completions=completions_of(claims))
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert sorted(ran) == ["held", *["paced"] * 3, *["slow"] * 7]
    assert jobs.count()["completed"] == 14


def test_until_empty_finds_them_behind_any_number_of_delayed_jobs(make: Callable[..., Jobcard]) -> None:
    """Those that are due some day are newer, and a thousand of them fill a page."""
    backend = SQLiteBackend(MEMORY)
    jobs = make(None, backend=backend)
    ran: list[int] = []

    @jobs.job(name="note")
    def note(number: int) -> None:
        ran.append(number)

    given: dict[str, Any] = {"kwargs": "{}", "limit_key": "k", "rate_count": 1, "rate_per": 300_000}
    jobs.migrate()
    backend.enqueue([new_job(name="note", args=f"[{number}]", **given) for number in range(2)])
    for _ in range(2):
        backend.enqueue([new_job(name="note", delay=3_600_000_000) for _ in range(1_000)])
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert sorted(ran) == [0, 1]
    assert jobs.count(state="waiting").total == 2_000


def test_it_can_be_stopped_while_it_waits_for_its_store(
    make: Callable[..., Jobcard], caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs are being moved into the store, and whoever runs the engine wants no more."""
    jobs = make()
    with jobs.parts.connection as store:
        store.write_record(RecordKind.MOVE, "into", "nobody can read this")
    ended: list[BaseException] = []

    def run() -> None:
        try:
            jobs.run(in_process=True)
        except BaseException as error:
            ended.append(error)

    caplog.set_level("INFO", "jobcard.engine")
    running = threading.Thread(target=run, daemon=True)
    running.start()
    wait_until(lambda: "engine.wait" in caplog.text, "an engine that waits")
    jobs.stop()
    running.join(TIMEOUT)
    assert [type(error) for error in ended] == [StoreUnavailableError]
