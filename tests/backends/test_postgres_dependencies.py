"""Jobs that wait for others, and batches, in PostgreSQL: what appears when, and what the server reads for it."""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import UUID

import psycopg
import pytest

from helpers.postgres import new_prefix, raw
from helpers.waiting import wait_until
from jobcard.backends.base import FEW, Fate, Filter
from jobcard.backends.postgres import PostgresBackend
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.job import Dependent, NewJob
from jobcard.core.states import ALIVE

pytestmark = pytest.mark.slow

CROWD, PIECE = 50_000, 5_000
"""So many are delayed, and so many have ended."""
BATCH = UUID(int=7).bytes


# ------------------------------------------------------------------ what appears when


def members(count: int, **last: object) -> list[NewJob]:
    """Jobs of a batch, the second of them behind others itself, and two that wait for the batch."""
    jobs = [factory.new_job(batch_id=BATCH, unique_key=f"member {number}") for number in range(count)]
    jobs[1] = jobs[1]._replace(waits_for="[]")
    return [*jobs, factory.new_job(waits_for="[]"), factory.new_job(waits_for="[]", **last)]


def test_who_sees_the_job_that_waits_sees_those_it_waits_for(
    postgres_store: PostgresBackend, postgres_url: str
) -> None:
    """Also where a key is taken, so that it takes several statements: nobody sees some of them."""
    holder = factory.enqueue(postgres_store, unique_key="member 1")
    jobs = members(3)
    jobs[1] = jobs[1]._replace(replaces=True)
    table = f"{postgres_store._options.prefix}jobs"
    waiters = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
    with psycopg.connect(postgres_url) as beside, ThreadPoolExecutor(1) as threads:
        beside.execute(f"select from {table} where id = %s for update", [UUID(bytes=holder)])
        stored = threads.submit(postgres_store.enqueue, jobs)
        wait_until(lambda: raw(postgres_store, waiters, f"%{table}%") == [(1,)], "the one that is replaced")
        assert postgres_store.get([job.id for job in jobs]) == []
        assert list(postgres_store.dependents(after=None, limit=5)) == []
        beside.rollback()
        fates = [answer.fate for answer in stored.result(60)]
    assert fates == [Fate.STORED, Fate.REPLACED, Fate.STORED, Fate.STORED, Fate.STORED]
    waiting = sorted([holder, *(job.id for job in jobs[3:])])
    assert list(postgres_store.dependents(after=None, limit=5)) == factory.as_read(postgres_store, waiting)
    assert postgres_store.count(Filter(batch_id=BATCH)) == {"default": {"waiting": 3}}


@pytest.mark.parametrize("own", [{}, {"unique_key": "last"}, {"once_key": "last", "once_until": 1 << 60}])
def test_a_batch_and_who_waits_for_it_come_at_once(postgres_store: PostgresBackend, own: dict[str, object]) -> None:
    """It is one transaction, so that a producer that dies leaves none of it or all."""
    jobs = members(3, **own)
    assert postgres_store.enqueue(jobs) == [(Fate.STORED, job.id) for job in jobs]
    assert raw(postgres_store, "select count(distinct xmin::text) from {prefix}jobs") == [(1,)]
    assert postgres_store.enqueue(jobs) == [(Fate.REPEATED, job.id) for job in jobs]


def test_keys_of_those_before_it_bind_the_last_one_too(postgres_store: PostgresBackend) -> None:
    """Its id, its unique key and its once key may be those of another job of the call."""
    once = {"once_key": "o", "once_until": 1 << 60}
    for given in ({"unique_key": "u"}, once, {"id": factory.new_id()}):
        first, last = factory.new_job(**given), factory.new_job(**given, waits_for="[]", args="[2]")
        [one, other] = postgres_store.enqueue([first, last])
        assert one == (Fate.STORED, first.id)
        assert other == (Fate.ID_TAKEN if "id" in given else Fate.KEY_TAKEN, first.id)
        postgres_store.truncate()
        replaced = postgres_store.enqueue([first, last._replace(replaces=True)])
        assert [answer.fate for answer in replaced] == [Fate.STORED, Fate.ID_TAKEN if "id" in given else Fate.REPLACED]
        postgres_store.truncate()


def test_engines_hear_of_released_jobs(postgres_store: PostgresBackend) -> None:
    """Jobs that waited for others are hinted at as new ones are, and nobody is woken for none."""
    job_id = factory.enqueue(postgres_store, waits_for="[]")
    with closing(postgres_store.waker()) as waker:
        waker.drain()
        assert waker.fd is not None
        assert factory.release(postgres_store, job_id) == 1
        assert select.select([waker.fd], [], [], 10)[0]


def test_one_that_cannot_be_read_stands_on_its_page(postgres_store: PostgresBackend) -> None:
    """What it waits for nobody knows, so nobody releases it; the others are found."""
    bad, good = sorted(factory.enqueue_several(postgres_store, 2, waits_for="[]"))
    with postgres_store._pool.use() as connection, connection.raw.transaction():
        connection.raw.execute("create cast (bytea as text) without function")
        table = f"{postgres_store._options.prefix}jobs"
        connection.raw.execute(
            f"update {table} set waits_for = cast('\\xff'::bytea as text) where id = %s",  # noqa: S608
            [UUID(bytes=bad)],
        )
        connection.raw.execute("drop cast (bytea as text)")
    found = postgres_store.dependents(after=None, limit=2)
    assert [*found] == [Dependent(bad, "\N{REPLACEMENT CHARACTER}", 1), Dependent(good, "[]", 1)]


# ------------------------------------------------------------------ the schema


def test_jobs_stay_when_dependencies_come_and_go(postgres_store: PostgresBackend) -> None:
    """One version back and up again: who waited for others is in line once due, and may wait for others anew."""
    job_id = factory.enqueue(postgres_store, waits_for="[]", batch_id=BATCH)
    assert postgres_store.rollback() == 3
    assert raw(postgres_store, "select state, hold from {prefix}jobs") == [("waiting", "delay")]
    assert postgres_store.migrate() == [3]
    row = factory.row_of(postgres_store, job_id)
    assert (row.hold, row.waits_for, row.batch_id) == ("delay", None, BATCH)
    other = factory.enqueue(postgres_store, waits_for="[]")
    assert [claim.id for claim in factory.claim_some(postgres_store, 9)] == [job_id]
    assert list(postgres_store.dependents(after=None, limit=5)) == [Dependent(other, "[]", 1)]


# ------------------------------------------------------------------ what is read


@pytest.fixture(scope="module")
def crowd(postgres_urls: tuple[str, str]) -> Iterator[PostgresBackend]:
    """Jobs that are delayed, and as many that have ended and are all of one batch."""
    store = PostgresBackend(postgres_urls[1], prefix=new_prefix())
    store.migrate()
    raw(store, "alter table {prefix}jobs set (autovacuum_enabled = off)")
    raw(store, "analyze {prefix}jobs")
    for first in range(0, CROWD, PIECE):
        raw(
            store,
            "insert into {prefix}jobs (id, order_at, available_at, created_at, rank, priority, max_attempts,"
            " max_crashes, state, hold, queue, name, backoff, args, kwargs, finished_at, batch_id)"
            " select gen_random_uuid(), n, 1::bigint << 60, n, 0, 0, 5, 3, kind.state, kind.hold, 'default', 'a',"
            " '{}', '[]', '{}', kind.finished, kind.batch from generate_series(%s::integer, %s::integer) as n"
            " cross join lateral (values ('waiting', 'delay', null::bigint, null::uuid),"
            " ('completed', null, n, %s)) as kind (state, hold, finished, batch)",
            *(first, first + PIECE - 1, UUID(bytes=BATCH)),
        )
    yield store
    store.close()


@pytest.fixture(scope="module", params=["statistics of an empty table", "statistics of a full one"])
def crowded(request: pytest.FixtureRequest, crowd: PostgresBackend) -> PostgresBackend:
    """The planner knows nothing of these jobs, or all."""
    if "full" in request.param:
        raw(crowd, "vacuum analyze {prefix}jobs")
    return crowd


_EXPLAIN = """
load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
set auto_explain.log_timing = off; set auto_explain.log_level = notice
"""
_LOOK = re.compile(
    r"(?:Index|Index Only|Seq) Scan (?:Backward )?(?:using|on) (\w+).*\(actual rows=([\d.]+) loops=(\d+)\)"
)
_IN_VAIN = re.compile(r"Rows Removed by .*: (\d+)")


def reads(store: PostgresBackend, work: Callable[[], object]) -> tuple[dict[str, float], str]:
    """How many entries of each index, or rows of a table, the server reads for what a verb asks; and its plans."""
    said: list[str] = []
    with store._pool.use() as connection:
        connection.raw.execute(_EXPLAIN, prepare=False)
        connection.raw.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    work()  # on the same connection: the one given back last is lent first
    with store._pool.use() as same:
        assert same is connection
        same.close()
    found: dict[str, float] = {}
    index, loops = "", 0  # of the look that a line is about
    for line in "\n".join(said).splitlines():
        if look := _LOOK.search(line):
            index, rows, loops = look[1].removeprefix(store._options.prefix), float(look[2]), int(look[3])
            found[index] = found.get(index, 0) + rows * loops
        elif "->" in line:
            loops = 0
        elif loops and (removed := _IN_VAIN.search(line)):
            found[index] += int(removed[1]) * loops
    return found, "\n".join(said)


def test_who_asks_for_dependents_reads_no_other_jobs(crowded: PostgresBackend) -> None:
    """However many are delayed, or have ended: nothing where there are none, and else those asked for."""
    found, plan = reads(crowded, lambda: crowded.dependents(after=None, limit=1_000))
    assert found == {"jobs_dependents": 0}, plan
    ids = sorted(factory.enqueue_several(crowded, 5, waits_for="[]"))
    found, plan = reads(crowded, lambda: crowded.dependents(after=ids[1], limit=2))
    assert found == {"jobs_dependents": 2} and "Sort" not in plan, plan
    seen = factory.as_read(crowded, ids)
    cancel = states.cancel_dependent(seen[0], error=factory.ERROR)._replace(error=None)
    found, plan = reads(crowded, lambda: crowded.apply_by_operator(ids[0], cancel))
    assert found["jobs_id"] == 3 and sum(found.values()) <= 4, plan  # by its id alone, here and for its limit
    found, plan = reads(crowded, lambda: crowded.release_dependents(seen[1:]))
    assert found == {"jobs_dependents": 4, "jobs_pkey": 4}, plan


@pytest.mark.parametrize("limit", [None, 1, 50])
def test_who_counts_the_alive_of_a_batch_reads_no_ended_ones(crowded: PostgresBackend, limit: int | None) -> None:
    """Of a batch whose jobs have ended nothing is read, and of the living ones no more than is counted."""
    where = Filter(batch_id=BATCH, states=[*ALIVE])
    found, plan = reads(crowded, lambda: crowded.count(where, limit=limit))
    assert found == {"jobs_batch": 0}, plan
    late = factory.enqueue_several(crowded, 3, batch_id=BATCH, delay=10**9)
    assert crowded.count(where, limit=limit) == {"default": {"waiting": min(3, limit or 3)}}
    found, plan = reads(crowded, lambda: crowded.count(where, limit=limit))
    assert found.keys() == {"jobs_batch"} and 1 <= found["jobs_batch"] <= 4, plan
    assert crowded.erase(late) == 3


def test_who_counts_a_batch_to_a_limit_reads_no_more(crowded: PostgresBackend) -> None:
    """Also of those that have ended."""
    found, plan = reads(crowded, lambda: crowded.count(Filter(batch_id=BATCH), limit=1))
    assert found.keys() == {"jobs_batch"} and 1 <= found["jobs_batch"] <= 4, plan


def test_who_lists_a_batch_reads_no_others(crowded: PostgresBackend) -> None:
    """Nor more of its own than stand on the page, or are in the states that are wanted."""
    batch_id = factory.new_id()
    ids = sorted(factory.enqueue_several(crowded, 5, batch_id=batch_id))
    assert [row.id for row in crowded.list(Filter(batch_id=batch_id), limit=3).rows] == ids[:1:-1]
    found, plan = reads(crowded, lambda: crowded.list(Filter(batch_id=batch_id), limit=3, before_id=ids[3]))
    assert found == {"jobs_of_batch": 3}, plan
    page = Filter(batch_id=BATCH, states=["completed"])
    found, plan = reads(crowded, lambda: crowded.list(page, limit=3))
    assert found == {"jobs_batch": FEW + 1, "jobs_of_batch": 3}, plan
    few = factory.enqueue_several(crowded, 2, batch_id=BATCH, delay=10**9)
    found, plan = reads(crowded, lambda: crowded.list(page._replace(states=["waiting"]), limit=3))
    assert found == {"jobs_batch": 4, "jobs_pkey": 2}, plan  # counted, then read
    assert crowded.erase([*ids, *few]) == 7
