# ruff: noqa: S608 - the only thing put into these statements is a prefix of our own
"""Jobs that wait for others, and batches, on either server: what is read for them, and who else may be at it."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from helpers.mysql_servers import direct_connection, new_prefix
from jobcard.backends.base import Filter, Outcome
from jobcard.backends.mysql import MySQLBackend
from jobcard.conformance import factory
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Dependent
from jobcard.core.states import ALIVE

pytestmark = [pytest.mark.turns, pytest.mark.slow]

CROWD, PIECE = 50_000, 5_000
"""So many are delayed, and so many have ended."""

BATCH = bytes(15) + b"\x07"
LITTLE = 15
"""More than what an answer of a few rows takes, the question for these figures included."""


@pytest.fixture(params=["mariadb", "mysql"], scope="module")
def url(request: pytest.FixtureRequest) -> str:
    """Either server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[MySQLBackend]:
    backend = MySQLBackend(url, prefix=new_prefix())
    backend.migrate()
    yield backend
    backend.close()


def run(raw: Any, statement: str) -> Any:
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


# ------------------------------------------------------------------ what is read


@pytest.fixture(scope="module")
def crowded(url: str) -> Iterator[MySQLBackend]:
    """Jobs that are delayed, and as many that have ended and are all of one batch."""
    store = MySQLBackend(url, prefix=new_prefix(), pool_size=1)
    store.migrate()
    numbers = (
        f"(select a.place * 512 + b.place as n from {store._prefix}turns as a cross join {store._prefix}turns as b)"
    )
    with closing(direct_connection(url)) as direct:
        for first in range(0, CROWD, PIECE):
            run(
                direct,
                f"insert into {store._prefix}jobs (id, order_at, available_at, created_at, `rank`, priority,"
                " max_attempts, max_crashes, state, hold, queue, name, backoff, args, kwargs, finished_at, batch_id)"
                " select unhex(lpad(hex(n * 2 + ended), 32, '0')), n, 1 << 60, n, 0, 0, 5, 3,"
                " if(ended, 'completed', 'waiting'), if(ended, null, 'delay'), 'default', 'a', '{}', '[]', '{}',"
                f" if(ended, n, null), if(ended, x'{BATCH.hex()}', null)"
                f" from {numbers} as numbers cross join (select 0 as ended union all select 1) as kinds"
                f" where n between {first} and {first + PIECE - 1}",
            )
    yield store
    store.close()


def reads(store: MySQLBackend, work: Callable[[], object]) -> int:
    """Rows and index entries the server looks at for what a verb asks."""
    before = _rows_read(store)
    work()
    return _rows_read(store) - before


def _rows_read(store: MySQLBackend) -> int:
    with store._pool.use() as ours:
        return sum(int(number) for _, number in ours.execute("show session status like 'Handler_read%'"))


def test_who_asks_for_dependents_reads_no_other_jobs(crowded: MySQLBackend) -> None:
    """However many are delayed or have ended: nothing where there are none, and else those asked for."""
    assert reads(crowded, lambda: crowded.dependents(after=None, limit=1_000)) <= LITTLE
    ids = sorted(factory.enqueue_several(crowded, 300, waits_for="[]"))
    assert reads(crowded, lambda: crowded.dependents(after=ids[99], limit=2)) <= LITTLE
    seen = factory.as_read(crowded, ids)
    cancel = states.cancel_dependent(seen[0], error=factory.ERROR)._replace(error=None)
    assert reads(crowded, lambda: crowded.apply_by_operator(ids[0], cancel)) <= 2 * LITTLE
    assert reads(crowded, lambda: crowded.release_dependents(seen[1:3])) <= 2 * LITTLE
    assert crowded.release_dependents(seen) == 297
    assert crowded.erase(ids) == 300


@pytest.mark.parametrize("limit", [None, 1, 50])
def test_who_counts_the_alive_of_a_batch_reads_no_ended_ones(crowded: MySQLBackend, limit: int | None) -> None:
    """Of a batch whose jobs have ended nothing is read, and of the living ones no more than is counted."""
    where = Filter(batch_id=BATCH, states=[*ALIVE])
    assert crowded.count(where, limit=limit) == {}
    assert reads(crowded, lambda: crowded.count(where, limit=limit)) <= 2 * LITTLE
    late = factory.enqueue_several(crowded, 3, batch_id=BATCH, delay=10**9)
    assert crowded.count(where, limit=limit) == {"default": {"waiting": min(3, limit or 3)}}
    assert reads(crowded, lambda: crowded.count(where, limit=limit)) <= 2 * LITTLE
    assert crowded.erase(late) == 3


def test_who_counts_a_batch_to_a_limit_reads_no_more(crowded: MySQLBackend) -> None:
    """Also of those that have ended."""
    assert crowded.count(Filter(batch_id=BATCH)) == {"default": {"completed": CROWD}}
    assert reads(crowded, lambda: crowded.count(Filter(batch_id=BATCH), limit=1)) <= 2 * LITTLE


def test_who_lists_a_batch_reads_no_others(crowded: MySQLBackend) -> None:
    """Nor more of its own than a page of each queue and state."""
    batch_id = factory.new_id()
    ids = sorted(factory.enqueue_several(crowded, 5, batch_id=batch_id))
    assert [row.id for row in crowded.list(Filter(batch_id=batch_id), limit=3).rows] == ids[:1:-1]
    assert reads(crowded, lambda: crowded.list(Filter(batch_id=batch_id), limit=3, before_id=ids[3])) <= 4 * LITTLE
    few = factory.enqueue_several(crowded, 2, batch_id=BATCH, queue="another")
    for where in (Filter(batch_id=BATCH), Filter(batch_id=BATCH, states=["completed", "waiting"])):
        page = crowded.list(where, limit=3)
        assert [row.id for row in page.rows][:2] == few[::-1]
        assert reads(crowded, partial(crowded.list, where, limit=3, before_id=page.below)) <= 4 * LITTLE
    assert crowded.erase([*ids, *few]) == 7


# ------------------------------------------------------------------ at once with others


def test_releasing_and_canceling_the_same_jobs_is_no_ring(store: MySQLBackend) -> None:
    """Page after page is released from both ends while each is canceled: every job hears one of them, none fails."""
    ids = factory.enqueue_several(store, 200, waits_for="[]")
    seen = factory.as_read(store, ids)

    def release(order: list[Dependent]) -> int:
        return sum(store.release_dependents(order[first : first + 20]) for first in range(0, len(order), 20))

    def end() -> int:
        return sum(
            store.apply_by_operator(one.id, states.cancel_dependent(one, error=factory.ERROR)) is not None
            for one in seen[::2]
        )

    works: list[Callable[[], int]] = [lambda: release(seen), lambda: release(seen[::-1]), end]
    assert sum(at_once(works)) == len(ids)
    assert list(store.dependents(after=None, limit=9)) == []


def test_a_job_that_goes_back_in_line_is_counted_among_the_alive(store: MySQLBackend) -> None:
    """It moves from state to state while its batch is counted, and is alive all the time: every count finds one."""
    factory.enqueue(store, batch_id=BATCH)
    factory.enqueue(store, batch_id=BATCH, queue="another", delay=10**9)
    where, rounds = Filter(batch_id=BATCH, states=[*ALIVE]), 100

    def move() -> int:
        for _ in range(rounds):
            [claim] = factory.claim_some(store)
            store.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, states.hand_back(claim))])
        return 0

    def look() -> int:
        found = [store.count(where, limit=1) for _ in range(rounds)]
        return sum(sum(counts.get("default", {}).values()) != 1 for counts in found)

    assert at_once([move, look]) == [0, 0]


def test_engines_hear_of_released_jobs(store: MySQLBackend) -> None:
    """Jobs that waited for others are hinted at, though none was added."""
    job_id = factory.enqueue(store, waits_for="[]")
    with closing(store.waker()) as waker:
        waker.drain()
        assert factory.release(store, job_id) == 1
        assert waker.fd is not None and select.select([waker.fd], [], [], 10)[0]


# ------------------------------------------------------------------ the schema


def test_jobs_stay_when_dependencies_come_and_go(url: str, store: MySQLBackend) -> None:
    """One version back and up again, also when it was killed half way: who waited for others is in line."""
    job_id = factory.enqueue(store, waits_for="[]", batch_id=BATCH)
    with closing(direct_connection(url)) as direct:
        for _ in range(2):
            assert store.rollback() == 3
            assert run(direct, f"select state, hold from {store._prefix}jobs") == (("waiting", "delay"),)
            run(direct, f"update {store._prefix}meta set number = 3 where name = 'schema'")
        assert store.rollback() == 3
        for _ in range(2):
            assert store.migrate() == [3]
            run(direct, f"update {store._prefix}meta set number = 2 where name = 'schema'")
        assert store.migrate() == [3]
    row = factory.row_of(store, job_id)
    assert (row.hold, row.waits_for, row.batch_id) == ("delay", None, BATCH)
    assert store.count(Filter(batch_id=BATCH)) == {"default": {"waiting": 1}}
    other = factory.enqueue(store, waits_for="[]")
    assert [claim.id for claim in factory.claim_some(store, 9)] == [job_id]
    assert list(store.dependents(after=None, limit=5)) == [Dependent(other, "[]", 1)]


def test_one_that_cannot_be_read_stands_on_its_page(url: str, store: MySQLBackend) -> None:
    """A page that lacked it would look like the last one; what it waits for nobody knows, so nobody releases it."""
    bad, good = sorted(factory.enqueue_several(store, 2, waits_for="[]"))
    with closing(direct_connection(url)) as direct:
        run(direct, f"alter table {store._prefix}jobs modify waits_for mediumblob")
        run(direct, f"update {store._prefix}jobs set waits_for = x'ff' where id = x'{bad.hex()}'")
    assert list(store.dependents(after=None, limit=2)) == [Dependent(bad, "", -1), Dependent(good, "[]", 1)]
