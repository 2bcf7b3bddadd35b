"""Jobs that wait for others, and batches, run by engines in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from helpers.waiting import wait_until
from jobcard import (
    Backoff,
    Cancel,
    Ended,
    Fail,
    Jobcard,
    JobContext,
    JobFailedError,
    ResultTimeoutError,
    Retry,
    Snooze,
)
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.engine import dependents
from jobcard.engine.dispatcher import Dispatcher

TIMEOUT = 60
MEMORY = "sqlite:///:memory:"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Jobcard]]:
    """Makes clients, on one file unless told otherwise, and closes them."""
    with ExitStack() as stack:
        yield lambda url=f"sqlite:///{tmp_path}/jobs.db", **options: stack.enter_context(Jobcard(url, **options))


@pytest.fixture(params=["memory", "file"])
def jobs(request: pytest.FixtureRequest, make: Callable[..., Jobcard]) -> Jobcard:
    return make(MEMORY) if request.param == "memory" else make()


class Shop:
    """Some jobs, and what they did in which order."""

    def __init__(self, jobs: Jobcard) -> None:
        self.jobs = jobs
        self.ran: list[Any] = []

        @jobs.job(name="note")
        def note(what: Any = None) -> Any:
            self.ran.append(what)
            return what

        @jobs.job(name="fails", max_attempts=1)
        def fails(what: Any = None) -> None:
            self.ran.append(what)
            raise ValueError("no")

        @jobs.job(name="ends", max_attempts=3, backoff=Backoff.fixed(0))
        def ends(ctx: JobContext, how: str) -> None:
            if ctx.attempt == 1 and ctx.token == 1:
                raise {
                    "fail": Fail("f"),
                    "cancel": Cancel("c"),
                    "retry": Retry("r", delay=0),
                    "snooze": Snooze(0.01),
                    "error": ValueError("e"),
                }[how]

        self.note, self.fails, self.ends = note, fails, ends


@pytest.fixture
def shop(jobs: Jobcard) -> Shop:
    return Shop(jobs)


# ------------------------------------------------------------------ one after the other


def test_a_chain_runs_in_its_order(jobs: Jobcard, shop: Shop) -> None:
    """Each when the one before it has completed, enqueued before or after the engine began."""
    last = shop.note.enqueue(0)
    for number in range(1, 10):
        last = shop.note.options(after=last).enqueue(number)
    with jobs.running(in_process=True):
        for number in range(10, 30):
            last = shop.note.options(after=[last]).enqueue(number)
        assert last.result(timeout=TIMEOUT) == 29
    assert shop.ran == list(range(30))


def test_a_diamond_runs_from_its_top_to_its_bottom(jobs: Jobcard, shop: Shop) -> None:
    """The bottom waits for both sides, however many there are."""
    top = shop.note.enqueue("top")
    sides = jobs.enqueue_many([shop.note.options(after=top).call(n) for n in range(20)])
    bottom = shop.note.options(after=sides).enqueue("bottom")
    with jobs.running(in_process=True):
        bottom.result(timeout=TIMEOUT)
    assert shop.ran[0] == "top" and shop.ran[-1] == "bottom" and sorted(shop.ran[1:-1]) == list(range(20))


@pytest.mark.parametrize(
    ("how", "success"),
    [("fail", False), ("cancel", False), ("retry", True), ("snooze", True), ("error", True)],
)
def test_only_an_end_is_one(jobs: Jobcard, shop: Shop, how: str, success: bool) -> None:
    """A try that comes back is none: who waits goes by the last one."""
    first = shop.ends.enqueue(how)
    wants, takes = shop.note.options(after=first).enqueue(1), shop.note.options(after=Ended(first)).enqueue(2)
    with jobs.running(in_process=True):
        assert takes.result(timeout=TIMEOUT) == 2
        if success:
            assert wants.result(timeout=TIMEOUT) == 1
        else:
            with pytest.raises(JobFailedError, match="it waited for the success of job") as caught:
                wants.result(timeout=TIMEOUT)
            assert (caught.value.state, caught.value.reason) == ("canceled", "dependency")
            assert str(first.id) in str(caught.value)
    assert wants.refresh().attempt == int(success)


def test_what_is_at_work_is_waited_for(jobs: Jobcard) -> None:
    """Claimed or running is no end, however often anybody looks."""
    goes, began, ran = threading.Event(), threading.Event(), []

    @jobs.job(name="waits")
    def waits() -> None:
        began.set()
        goes.wait(TIMEOUT)
        ran.append("first")

    @jobs.job(name="follows")
    def follows(what: str) -> None:
        ran.append(what)

    with jobs.batch(on_success=follows.call("batch"), on_end=follows.call("batch")) as b:
        first = b.enqueue(waits.call())
    those = (first, Ended(first), b, Ended(b))
    held = [follows.options(after=one).enqueue("held") for one in those]
    with jobs.running(in_process=True):
        assert began.wait(TIMEOUT)
        # New ones are looked at at once, those that are known already when a second has passed.
        held += [follows.options(after=one).enqueue("held") for one in those]
        other = follows.options(delay=1.2).enqueue("other")
        other.result(timeout=TIMEOUT)
        assert {handle.refresh().hold for handle in held} == {"after"} and ran == ["other"]
        goes.set()
        for handle in held:
            handle.result(timeout=TIMEOUT)
        wait_until(lambda: ran.count("batch") == 2, "what follows the batch")
    assert ran[:2] == ["other", "first"]


def test_operators_decide_over_what_is_waited_for(jobs: Jobcard, shop: Shop) -> None:
    """Canceled, made due, retried and deleted behind the engine's back: who waits hears of it all the same."""
    firsts = [shop.note.options(delay=3600).enqueue(n) for n in range(4)]
    held = [shop.note.options(after=first).enqueue(f"after {n}") for n, first in enumerate(firsts)]
    ends = [shop.note.options(after=Ended(first)).enqueue(f"end of {n}") for n, first in enumerate(firsts)]
    with jobs.running(in_process=True):
        shop.note.enqueue("before").result(timeout=TIMEOUT)
        firsts[0].cancel()
        with pytest.raises(JobFailedError, match="was canceled"):
            held[0].result(timeout=TIMEOUT)
        jobs.run_now(firsts[1].id)
        assert held[1].result(timeout=TIMEOUT) == "after 1"
        held[2].cancel()
        firsts[2].cancel()
        with pytest.raises(JobFailedError):
            held[2].result(timeout=TIMEOUT)
        assert held[2].refresh().reason == "canceled"
        assert [end.result(timeout=TIMEOUT) for end in ends[:3]] == ["end of 0", "end of 1", "end of 2"]
        jobs.retry(held[0].id)
        assert held[0].result(timeout=TIMEOUT) == "after 0"
    assert held[3].refresh().hold == ends[3].refresh().hold == "after"


def test_what_ended_long_ago_is_no_matter(jobs: Jobcard, shop: Shop) -> None:
    """Who comes later runs at once, or is canceled at once."""
    with jobs.running(in_process=True):
        done, failed = shop.note.enqueue(), shop.fails.enqueue()
        done.result(timeout=TIMEOUT)
        with pytest.raises(JobFailedError):
            failed.result(timeout=TIMEOUT)
        assert shop.note.options(after=done).enqueue(1).result(timeout=TIMEOUT) == 1
        assert shop.note.options(after=Ended(failed)).enqueue(2).result(timeout=TIMEOUT) == 2
        with pytest.raises(JobFailedError, match="which failed"):
            shop.note.options(after=[done, failed]).enqueue(3).result(timeout=TIMEOUT)


def test_a_delayed_dependent_waits_for_both(jobs: Jobcard, shop: Shop) -> None:
    """What comes last decides: its time, or the others."""
    first, slow = shop.note.enqueue(1), shop.note.options(delay=3600).enqueue(2)
    late = shop.note.options(after=first, delay=3600).enqueue("late")
    soon = shop.note.options(after=slow, delay=0.001).enqueue("soon")
    with jobs.running(in_process=True):
        wait_until(lambda: late.refresh().hold == "delay", "the end of the first")
        assert soon.refresh().hold == "after" and shop.ran == [1]
        jobs.run_now(slow.id)
        jobs.run_now(late.id)
        assert (soon.result(timeout=TIMEOUT), late.result(timeout=TIMEOUT)) == ("soon", "late")


def test_a_paused_queue_keeps_a_released_job(jobs: Jobcard, shop: Shop) -> None:
    """It is in line there, and runs when the queue is resumed; a job in a paused queue is waited for."""
    jobs.queues.create("asleep", paused=True)
    sleeping = shop.note.options(queue="asleep").enqueue(1)
    held = shop.note.options(queue="asleep", after=shop.note.enqueue(0)).enqueue(2)
    waits = shop.note.options(after=sleeping).enqueue(3)
    with jobs.running(in_process=True):
        wait_until(lambda: held.refresh().hold is None, "the end of the first")
        assert (held.refresh().state, waits.refresh().hold) == ("waiting", "after")
        jobs.queues.resume("asleep")
        assert (held.result(timeout=TIMEOUT), waits.result(timeout=TIMEOUT)) == (2, 3)


def test_dependents_keep_to_the_limit_of_their_key(jobs: Jobcard) -> None:
    """Released together, they run one by one."""
    at_once, most = Counter[str](), Counter[str]()
    lock = threading.Lock()

    @jobs.job(name="limited", concurrency_key="key")
    def limited(key: str) -> None:
        with lock:
            at_once[key] += 1
            most[key] = max(most[key], at_once[key])
        with lock:
            at_once[key] -= 1

    @jobs.job(name="first")
    def first() -> None: ...

    handle = first.enqueue()
    held = jobs.enqueue_many([limited.options(after=handle).call(f"k{n % 2}") for n in range(40)])
    with jobs.running(in_process=True):
        for each in held:
            each.result(timeout=TIMEOUT)
    assert most == {"k0": 1, "k1": 1}


def test_who_waits_for_a_dependent_hears_what_that_waits_for(jobs: Jobcard, shop: Shop) -> None:
    """`ResultTimeoutError` says what `explain` says."""
    first = shop.note.options(delay=3600).enqueue()
    held = shop.note.options(after=first).enqueue()
    with jobs.running(in_process=True), pytest.raises(ResultTimeoutError, match=rf"it waits for job {first.id} \(wait"):
        held.result(timeout=0.2)


def test_a_job_that_never_was_is_given_up(jobs: Jobcard, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while in which it might have been stored; one that was deleted is none any more, either."""
    monkeypatch.setattr(dependents, "GONE_SECONDS", 0.3)
    strange = uuid4()
    with jobs.running(in_process=True):
        deleted = shop.note.enqueue(0)
        deleted.result(timeout=TIMEOUT)
        assert jobs.delete_finished(older_than=0) == 1
        held = [shop.note.options(after=one).enqueue(1) for one in (strange, deleted)]
        ends = [shop.note.options(after=Ended(one)).enqueue(2) for one in (strange, deleted)]
        for handle in held:
            with pytest.raises(JobFailedError, match="is not there any more"):
                handle.result(timeout=TIMEOUT)
        assert [handle.result(timeout=TIMEOUT) for handle in ends] == [2, 2]


# ------------------------------------------------------------------ batches


def test_what_follows_a_batch_runs_once(jobs: Jobcard, shop: Shop) -> None:
    """After all of it; success and end both."""
    with jobs.running(in_process=True):
        for number in range(20):
            with jobs.batch(on_success=shop.note.call(f"ok {number}"), on_end=shop.note.call(f"end {number}")) as b:
                b.enqueue_many(shop.note.call(number) for _ in range(5))
        wait_until(lambda: jobs.count().completed == 140, "the end of all")
    assert Counter(shop.ran) == {
        **dict.fromkeys(range(20), 5),
        **{f"{w} {n}": 1 for w in ("ok", "end") for n in range(20)},
    }
    for number in range(20):
        last = max(place for place, what in enumerate(shop.ran) if what == number)
        assert min(shop.ran.index(f"ok {number}"), shop.ran.index(f"end {number}")) > last


def test_a_failed_batch_ends_and_is_no_success(jobs: Jobcard, shop: Shop) -> None:
    """Whatever else of it completed, and in whatever order."""
    with jobs.running(in_process=True):
        with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue_many([shop.note.call(1), shop.fails.call(2), shop.note.call(3)])
        wait_until(lambda: not jobs.count().waiting + jobs.count().claimed + jobs.count().running, "the end of all")
    assert sorted(map(str, shop.ran)) == ["1", "2", "3", "end"] and shop.ran[-1] == "end"
    (canceled,) = jobs.list(state="canceled")
    assert (canceled.args, canceled.reason) == (["ok"], "dependency")
    assert b.counts().failed == 1


def test_jobs_of_a_batch_may_bring_more_of_it(jobs: Jobcard) -> None:
    """From inside, by call and as follow-ups, and those bring more: what follows the batch waits for them all."""
    ran: list[str] = []

    @jobs.job(name="grow")
    def grow(ctx: JobContext, depth: int, name: str) -> None:
        ran.append(name)
        if depth:
            more = grow.options(batch=ctx.job.batch_id)
            more.enqueue(depth - 1, f"{name}a")
            ctx.then(more.call(depth - 1, f"{name}b"))

    @jobs.job(name="over")
    def over(what: str) -> None:
        ran.append(what)

    with jobs.running(in_process=True):
        for _ in range(10):
            ran.clear()
            with jobs.batch(on_success=over.call("ok"), on_end=over.call("end")) as b:
                b.enqueue(grow.call(4, ""))
            wait_until(lambda: {"ok", "end"} <= set(ran), "what follows")
            assert sorted(ran[-2:]) == ["end", "ok"] and len(ran) == 31 + 2
            assert b.counts().completed == b.counts().total == 31


def test_a_job_may_make_a_batch_and_wait_for_it(make: Callable[..., Jobcard]) -> None:
    """Inside a job the client is the same: a batch, its counts, its rest."""
    jobs = make()
    shop = Shop(jobs)

    @jobs.job(name="splits", timeout=TIMEOUT)
    def splits() -> tuple[int, int, int]:
        with jobs.batch(on_end=shop.note.call("over")) as b:
            handles = b.enqueue_many(shop.note.call(n) for n in range(5))
            b.enqueue(shop.note.options(delay=3600).call())
        found = sum(handle.result(timeout=TIMEOUT) for handle in handles)
        return found, b.counts().total, b.cancel_rest()

    with jobs.running(in_process=True):
        assert splits.enqueue().result(timeout=TIMEOUT) == (10, 6, 1)
        wait_until(lambda: "over" in shop.ran, "what follows")
    assert shop.ran[-1] == "over"


def test_batches_in_batches(jobs: Jobcard, shop: Shop) -> None:
    """What follows one may fill the next one."""
    with jobs.running(in_process=True):
        with jobs.batch() as last, jobs.batch(on_success=shop.note.options(batch=last).call("between")) as first:
            first.enqueue_many(shop.note.call(n) for n in range(3))
            last.enqueue(shop.note.call(3))
        end = shop.note.options(after=last).enqueue("end")
        assert end.result(timeout=TIMEOUT) == "end"
    assert shop.ran[-2:] == ["between", "end"]


# ------------------------------------------------------------------ until empty


@pytest.mark.parametrize(
    "attempt", [0, *(pytest.param(again, marks=[pytest.mark.slow, pytest.mark.turns]) for again in range(1, 15))]
)
def test_until_empty_runs_dependents_too(jobs: Jobcard, shop: Shop, attempt: int) -> None:
    """Chains, diamonds, batches and what follows them, canceled ones on the way: nothing that could run is left."""
    last = shop.note.enqueue(0)
    for number in range(1, 8):
        last = shop.note.options(after=last).enqueue(number)
    with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
        b.enqueue_many(shop.note.options(after=last).call(n) for n in range(8, 12))
    failing = shop.fails.options(after=b).enqueue("fails")
    never = shop.note.options(after=failing).enqueue("never")
    shop.note.options(after=[Ended(never), last]).enqueue("last")
    assert jobs.run(in_process=True, until_empty=True) == 0
    counts = jobs.count()
    assert (counts.waiting, counts.completed, counts.failed, counts.canceled) == (0, 15, 1, 1)
    assert shop.ran[:8] == list(range(8)) and sorted(map(str, shop.ran[12:])) == ["end", "fails", "last", "ok"]


def test_until_empty_leaves_what_waits_for_later(jobs: Jobcard, shop: Shop) -> None:
    """For a delayed job, a paused one, one that was never stored, and for themselves in a ring."""
    jobs.queues.create("asleep", paused=True)
    for first in (shop.note.options(delay=3600).enqueue(), shop.note.options(queue="asleep").enqueue(), uuid4()):
        shop.note.options(after=first).enqueue()
    one, other = uuid4(), uuid4()
    shop.note.options(id=one, after=other).enqueue()
    shop.note.options(id=other, after=one).enqueue()
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert (jobs.count().waiting, shop.ran) == (7, [])


class Overtaken(SQLiteBackend):
    """A store in which the thread that sees to dependents does so just before the engine asks whether all is done."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.completed, self.released = threading.Event(), threading.Event()

    def exchange(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().exchange(*args, **kwargs)
        if kwargs["completions"].refs:
            self.completed.set()
        return answer

    def ended(self, job_ids: Any) -> Any:
        if threading.current_thread().name.startswith("store-"):
            self.completed.wait(TIMEOUT)
        return super().ended(job_ids)

    def release_dependents(self, those: Any) -> int:
        number = super().release_dependents(those)
        self.released.set()
        return number

    def let_in(self, most: int) -> int:
        if most == 1:
            self.released.wait(TIMEOUT)
        return super().let_in(most)


def test_until_empty_does_not_end_over_a_job_that_was_just_released(
    make: Callable[..., Jobcard], tmp_path: Path
) -> None:
    """Whoever released it: it is in line, and runs."""
    jobs = make(None, backend=Overtaken(f"sqlite:///{tmp_path}/jobs.db"))
    shop = Shop(jobs)
    shop.note.options(after=shop.note.enqueue(1)).enqueue(2)
    assert jobs.run(in_process=True, until_empty=True) == 0
    assert shop.ran == [1, 2]


# ------------------------------------------------------------------ engines


def test_two_engines_run_what_follows_a_batch_once(make: Callable[..., Jobcard]) -> None:
    """Both see to it, and whoever is second finds it done; nothing is canceled by the one that is not by the other."""
    clients = [make(), make()]
    shops = [Shop(jobs) for jobs in clients]
    with ExitStack() as stack:
        for jobs in clients:
            stack.enter_context(jobs.running(in_process=True))
        for number in range(40):
            jobs, shop = clients[number % 2], shops[number % 2]
            with jobs.batch(on_success=shop.note.call(f"ok {number}"), on_end=shop.note.call(f"end {number}")) as b:
                calls = [shop.note.call(number), shop.note.call(number)]
                b.enqueue_many(calls if number % 4 else [*calls, shop.fails.call(number)])
        counts = clients[0].count
        wait_until(lambda: not counts().waiting + counts().claimed + counts().running, "the end of all")
    ran = Counter(what for shop in shops for what in shop.ran)
    assert {f"ok {n}": ran[f"ok {n}"] for n in range(40)} == {f"ok {n}": int(n % 4 != 0) for n in range(40)}
    assert {ran[f"end {n}"] for n in range(40)} == {1}
    assert max(job.attempt for job in clients[0].iterate()) == 1
    assert (counts().canceled, counts().failed) == (10, 10)


def test_who_comes_while_its_first_ends_is_not_forgotten(make: Callable[..., Jobcard]) -> None:
    """Enqueued before, during or after the end of what it waits for, by others than the engine's process."""
    jobs, producer = make(), make()
    shop, other = Shop(jobs), Shop(producer)
    with jobs.running(in_process=True):
        for number in range(150):
            first = other.note.enqueue(number)
            held = other.note.options(after=first).enqueue(f"after {number}")
            if number % 5 == 0:
                assert held.result(timeout=TIMEOUT) == f"after {number}"
        wait_until(lambda: jobs.count().completed == 300, "the end of all")
    assert Counter(map(str, shop.ran)) == {**{f"{n}": 1 for n in range(150)}, **{f"after {n}": 1 for n in range(150)}}


class Withheld(SQLiteBackend):
    """A store that does not tell who waits for others until it may."""

    goes = threading.Event()
    asked = threading.Event()

    def dependents(self, *, after: bytes | None, limit: int) -> Any:
        self.asked.set()
        self.goes.wait(TIMEOUT)
        return super().dependents(after=after, limit=limit)


def test_an_engine_that_waits_for_an_answer_rests(
    make: Callable[..., Jobcard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many hints there are meanwhile, nothing turns round and round, and jobs run on."""
    jobs = make(None, backend=Withheld(f"sqlite:///{tmp_path}/jobs.db"))
    shop = Shop(jobs)
    turns: list[int] = []
    turn = Dispatcher.turn

    def counted(self: Dispatcher) -> None:
        turns.append(1)
        turn(self)

    monkeypatch.setattr(Dispatcher, "turn", counted)
    with jobs.running(in_process=True):
        assert Withheld.asked.wait(TIMEOUT)
        for number in range(50):
            shop.note.enqueue(number).result(timeout=TIMEOUT)
        few = len(turns)
        held = shop.note.options(after=shop.note.options(delay=0.5).enqueue(50)).enqueue(51)
        wait_until(lambda: 50 in shop.ran, "the job that is delayed")
        calm = len(turns) - few
        Withheld.goes.set()
        assert held.result(timeout=TIMEOUT) == 51
    assert calm < 100, "half a second without anything to do"
