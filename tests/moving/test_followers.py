"""A real engine whose jobs are moved while they run and wait: each ends in the target, and none runs twice."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from mixed import Two

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import Jobcard
from jobcard.backends import following
from jobcard.backends.base import Backend, Filter
from jobcard.cli.main import run
from jobcard.conformance import factory
from jobcard.errors import StoreMovedError, StoreUnavailableError

pytestmark = pytest.mark.turns

SHOP = """
    import asyncio, os, time
    from pathlib import Path
    from jobcard import Jobcard, JobContext

    jobs = Jobcard(max_concurrent_jobs=6, worker_client=os.environ["WORKER_CLIENT"])
    here = Path(__file__).parent

    def said(line):
        with (here / "ran").open("a") as file:
            file.write(line + "\\n")

    def is_over():
        return (here / "go").exists()

    @jobs.job(max_attempts=1)
    def long(ctx: JobContext, name: str) -> str:
        said(name)
        ctx.log("begun")
        while not is_over():
            time.sleep(0.01)
        ctx.log("went on")
        return name

    @jobs.job(isolation="shared", max_attempts=1)
    async def beside(ctx: JobContext, name: str) -> str:
        said(name)
        while not is_over():
            await asyncio.sleep(0.01)
        return name

    @jobs.job(max_attempts=1)
    def breaks(name: str) -> None:
        said(name)
        while not is_over():
            time.sleep(0.01)
        raise ValueError(name)

    @jobs.job(max_attempts=1)
    def short(name: str) -> str:
        said(name)
        return name

    @jobs.job(max_attempts=1)
    def parent(name: str) -> str:
        said(name)
        while not is_over():
            time.sleep(0.01)
        return short.enqueue(f"{name}'s child").id.hex
"""


@dataclass
class Shop:
    """An application whose store is about to move, an engine on it, and a client in this process."""

    lab: Lab
    two: Two
    jobs: Jobcard

    def ran(self) -> Counter[str]:
        """How often each job began."""
        path = self.lab.folder / "ran"
        return Counter(path.read_text().splitlines() if path.exists() else ())

    def enqueue(self, job: str, *names: str, **options: Any) -> list[Any]:
        # By its name: what its declaration says of tries is not known here.
        options = {"max_attempts": 1, **options}
        return [self.jobs.enqueue(f"shop.{job}", (name,), strict=False, **options) for name in names]

    def let_go(self) -> None:
        (self.lab.folder / "go").touch()


@pytest.fixture(params=["engine", "direct"])
def shop(request: pytest.FixtureRequest, two: Two, tmp_path: Path) -> Iterator[Shop]:
    """Its jobs enqueue through their engine, or by connections of their own."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(dedent(SHOP))
    lab = Lab(folder, two.source.url)
    jobs = Jobcard(two.source.url, moving_to=two.target.url)
    jobs.migrate()
    lab.start("shop", env={"JOBCARD_MOVING_TO": two.target.url, "WORKER_CLIENT": request.param})
    with jobs:
        yield Shop(lab, two, jobs)
    lab.close()


SQLITE_TO_POSTGRES = pytest.param(("sqlite", "postgres"), marks=pytest.mark.slow, id="sqlite-postgres")


@pytest.mark.parametrize("two", [("sqlite", "sqlite"), SQLITE_TO_POSTGRES], indirect=True)
def test_an_engine_follows_while_its_jobs_run(shop: Shop, source: Backend, target: Backend) -> None:
    """What ran ends in the target, what waited is run there, what asks for results hears of them; none runs twice."""
    running = shop.enqueue("long", "a", "b") + shop.enqueue("beside", "c") + shop.enqueue("breaks", "d")
    parents = shop.enqueue("parent", "e", "f")
    wait_until(lambda: set(shop.ran()) == set("abcdef"), "six jobs that run")
    waiting = shop.enqueue("short", *(f"w{number}" for number in range(40)))
    later = shop.enqueue("short", "later", delay=3600)
    results: list[str] = []
    waiter = threading.Thread(target=lambda: results.append(running[0].result(timeout=60)), daemon=True)
    waiter.start()

    assert run([*shop.two.words, "--live"]) == 0

    [tree] = shop.lab.trees
    wait_until(lambda: "store.moved" in tree.errors, "an engine that follows")
    after = shop.enqueue("short", "after")
    shop.let_go()
    assert [handle.result(timeout=60) for handle in (*running[:3], *waiting, *after)] == [
        *"abc", *(f"w{number}" for number in range(40)), "after",
    ]  # fmt: skip
    waiter.join(60)
    assert results == ["a"]
    children = [shop.jobs.handle(parent.result(timeout=60)).result(timeout=60) for parent in parents]
    assert children == ["e's child", "f's child"]
    wait_until(lambda: running[3].refresh().state == "failed", "the end of the one that breaks")
    ends = factory.rows_of(target, [handle.id.bytes for handle in (*running, *waiting, *parents, *after)])
    assert Counter(row.state for row in ends.values()) == {"completed": 46, "failed": 1}
    assert {row.attempt for row in ends.values()} == {1}
    assert [text for _, text in running[0].refresh().log] == ["begun", "went on"]
    assert later[0].refresh().hold == "delay"
    assert set(shop.ran().values()) == {1} and "later" not in shop.ran()
    assert shop.lab.trees[0].process.poll() is None
    # The source is as it was when it was sealed.
    assert source.facts().seal is not None
    assert source.count(Filter(states=["running"])) != {}
    assert source.get([after[0].id.bytes]) == []


@pytest.mark.parametrize("two", [("sqlite", "sqlite"), SQLITE_TO_POSTGRES], indirect=True)
def test_who_waits_for_others_goes_on_in_the_target(shop: Shop, source: Backend, target: Backend) -> None:
    """What they wait for ran when the store was moved, and ends in the target: there they are released."""

    @shop.jobs.job(name="shop.short", max_attempts=1)
    def short(name: str) -> str:
        return name

    [first] = shop.enqueue("long", "first")
    wait_until(lambda: shop.ran()["first"], "the job that runs")
    with shop.jobs.batch(on_success=short.call("end")) as b:
        second = b.enqueue(short.options(after=first).call("second"))
        b.enqueue(short.options(after=second).call("third"))

    assert run([*shop.two.words, "--live"]) == 0

    [tree] = shop.lab.trees
    wait_until(lambda: "store.moved" in tree.errors, "an engine that follows")
    assert [factory.row_of(target, job.id.bytes).hold for job in shop.jobs.iterate(batch=b)] == ["after", "after"]
    last = short.options(after=b).enqueue("last")
    shop.let_go()
    assert last.result(timeout=60) == "last"
    wait_until(lambda: shop.ran()["end"], "what follows the batch")
    assert shop.ran() == dict.fromkeys(("first", "second", "third", "end", "last"), 1)
    assert factory.row_of(source, second.id.bytes).hold == "after"


@pytest.mark.parametrize("two", [("sqlite", "sqlite")], indirect=True)
def test_who_was_not_told_where_to_go_stays_behind(two: Two, source: Backend, target: Backend) -> None:
    """An address is never taken from a store: without one, a write says that the jobs have moved."""
    with Jobcard(two.source.url) as stays, Jobcard(two.source.url, moving_to=two.target.url) as follows:
        before = follows.enqueue("a", strict=False)
        assert run([*two.words, "--live"]) == 0
        with pytest.raises(StoreMovedError):
            stays.enqueue("a", strict=False)
        assert stays.get(before.id).id == before.id
        handle = follows.enqueue("a", strict=False)
        assert [row.id for row in target.get([handle.id.bytes])] == [handle.id.bytes]
        assert follows.count().total == 2
        assert follows.health().ok


@pytest.mark.parametrize("two", [("sqlite", "sqlite")], indirect=True)
def test_the_environment_says_where_to_follow_to(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$JOBCARD_MOVING_TO` does the same, for programs that are not changed; what code says wins."""
    monkeypatch.setenv("JOBCARD_MOVING_TO", two.target.url)
    with Jobcard(two.source.url) as jobs, Jobcard(two.source.url, moving_to=two.source.url) as other:
        assert jobs.settings.moving_to == two.target.url
        assert other.settings.moving_to == two.source.url
        assert two.target.url not in repr(jobs.settings)
        jobs.migrate()
        assert run([*two.words, "--live"]) == 0
        assert jobs.enqueue("a", strict=False).refresh().state == "waiting"
        with pytest.raises(StoreMovedError):
            other.enqueue("a", strict=False)


@pytest.mark.parametrize("two", [("sqlite", "sqlite")], indirect=True)
def test_a_producer_rides_over_the_pause(two: Two, source: Backend, target: Backend) -> None:
    """Whoever enqueues without a break over a move gets no error; each job is in the target, once."""
    stored: list[bytes] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def produce() -> None:
        with Jobcard(two.source.url, moving_to=two.target.url) as jobs:
            try:
                while not over.is_set() or len(stored) < 50:
                    stored.append(jobs.enqueue("a", strict=False).id.bytes)
            except BaseException as error:
                errors.append(error)

    producers = [threading.Thread(target=produce, daemon=True) for _ in range(2)]
    for producer in producers:
        producer.start()
    wait_until(lambda: len(stored) > 20 or errors, "jobs that are stored")
    assert run([*two.words, "--live"]) == 0
    count = len(stored)
    wait_until(lambda: len(stored) > count + 20 or errors, "jobs that are stored in the target")
    over.set()
    for producer in producers:
        producer.join(60)
    assert errors == []
    with closing(target):
        assert factory.ids_in(target) == sorted(stored)


@pytest.mark.parametrize("two", [("sqlite", "sqlite")], indirect=True)
def test_a_target_that_is_no_store(two: Two, source: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is heard of when it is needed, as a store that is away; nothing is lost of it."""
    monkeypatch.setattr(following, "PATIENCE", 0.2)
    nowhere = f"sqlite:///{os.devnull}/nothing.db"
    with Jobcard(two.source.url, moving_to=nowhere) as jobs:
        jobs.enqueue("a", strict=False)
        assert jobs.count().total == 1
        source.seal("moved:elsewhere")
        assert jobs.count().total == 1
        with pytest.raises(StoreUnavailableError):
            jobs.enqueue("a", strict=False)
        source.seal(None)
        jobs.enqueue("a", strict=False)
        assert jobs.count().total == 2
