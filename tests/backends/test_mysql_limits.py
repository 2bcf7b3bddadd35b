# ruff: noqa: S608 - the only thing put into these statements is a prefix of our own
"""Limits, rates and once keys where several transactions decide at once: the MySQL store on either server."""

from __future__ import annotations

import secrets
import select
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from helpers.mysql_servers import direct_connection, new_prefix
from helpers.waiting import wait_until
from jobcard.backends.base import NO_COMPLETIONS, Enqueued, Fate, Filter, Want
from jobcard.backends.mysql import MySQLBackend
from jobcard.backends.roles import Role
from jobcard.backends.sql import ConflictError
from jobcard.backends.sql.admission import TURNS, turn_of
from jobcard.conformance import factory
from jobcard.conformance.races import at_once, both_at_once
from jobcard.core import clock, rates, states
from jobcard.core.job import Claimed
from jobcard.core.rates import QueueLimit, Rate
from jobcard.errors import AccessDeniedError, StoreUnavailableError

pytestmark = [pytest.mark.turns, pytest.mark.slow]

LEASE = 60_000_000


@pytest.fixture(params=["mariadb", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    """Either server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[MySQLBackend]:
    backend = MySQLBackend(url, prefix=new_prefix(), pool_size=1)
    backend.migrate()
    yield backend
    backend.close()


@pytest.fixture
def direct(url: str) -> Iterator[Any]:
    """The server itself."""
    raw = direct_connection(url)
    run(raw, "set session transaction isolation level read committed")
    yield raw
    raw.close()


def run(raw: Any, statement: str) -> Any:
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def want(number: int, limits: dict[str, QueueLimit] | None = None, queue: str = "default") -> Want:
    return Want([(queue, number)], number, limits or {})


def claim(store: MySQLBackend, number: int = 10, *, freed: tuple[str, ...] = (), done: Any = ()) -> list[Claimed]:
    completions = factory.completions_of(done) if done else NO_COMPLETIONS
    return store.exchange("engine", completions=completions, want=want(number), lease=LEASE, freed=freed).claimed


def keyed(store: MySQLBackend, count: int = 1, key: str = "k", limit: int = 1, **given: object) -> list[bytes]:
    return factory.enqueue_several(store, count, limit_key=key, key_limit=limit, **given)


def trips(store: MySQLBackend, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the store's only connection sends meanwhile, one text a trip."""
    sent: list[bytes] = []
    with store._pool.use() as ours:
        ask = ours._ask  # type: ignore[attr-defined]

    def noted(text: bytes) -> Any:
        sent.append(text)
        return ask(text)

    monkeypatch.setattr(ours, "_ask", noted)
    work()
    monkeypatch.undo()
    return sent


# ------------------------------------------------------------------ who pays


def test_who_has_no_limits_pays_nothing(store: MySQLBackend, direct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trips for an exchange of jobs without limits, none of them to a turn, whoever has the turns meanwhile."""
    run(direct, "begin")
    assert len(run(direct, f"select place from {store._prefix}turns for update")) == TURNS
    factory.enqueue_several(store, 9)
    held = claim(store, 3)
    sent = trips(store, lambda: held.extend(claim(store, 3, done=held)), monkeypatch)
    assert len(held) == 6 and len(sent) == 2
    words = b";".join(sent)
    assert not [table for table in (b"turns", b"starts", b"once") if store._prefix.encode() + table in words]
    run(direct, "rollback")


def test_a_start_counts_at_an_instant_behind_all_it_was_judged_by(
    store: MySQLBackend, direct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to count: a start that lapses meanwhile still counts at any instant before that."""
    factory.enqueue_several(store, 2)
    wanted = want(1, {"default": QueueLimit(None, Rate(1, clock.SECOND))})
    [first] = store.exchange("engine", want=wanted, lease=LEASE).claimed
    slow = "from (select sleep(0.3) as slept limit 1) as slow cross join"
    monkeypatch.setitem(store._sql, "queue_at_work", store._sql["queue_at_work"].replace("from", slow, 1))
    # It lapses within a twentieth of a second after that second.
    late = first.claimed_at + 9 * clock.SECOND // 10
    wait_until(lambda: run(direct, "select unix_timestamp(now(6)) * 1000000")[0][0] > late, "the end of the window")
    stranger = factory.completions_of([first._replace(token=99)])  # with nothing to settle it would look first

    def next_one() -> list[Claimed]:
        return store.exchange("engine", completions=stranger, want=wanted, lease=LEASE).claimed

    [second] = wait_until(next_one, "the second start")
    assert second.claimed_at - first.claimed_at >= clock.SECOND


def test_the_turn_of_a_key_is_waited_for(url: str, store: MySQLBackend, direct: Any) -> None:
    """While another decides about a key, an exchange that meets its jobs waits, and then counts anew."""
    first, second = keyed(store, 2)
    impatient = MySQLBackend(url, prefix=store._prefix, patience=1, call_timeout=1)
    run(direct, "begin")
    run(direct, f"select * from {store._prefix}turns where place = {turn_of(rates.of_key('k'))} for update")
    with pytest.raises(StoreUnavailableError):
        claim(impatient)
    # What the other has done is seen by whoever comes next, though it was not when the wait began.
    run(direct, f"update {store._prefix}jobs set state = 'running', claimed_by = 'x' where id = x'{first.hex()}'")
    run(direct, "commit")
    assert claim(impatient) == []
    assert factory.row_of(store, second).hold == "limit"
    impatient.close()


def test_a_turn_out_of_order_is_not_waited_for(store: MySQLBackend, direct: Any) -> None:
    """Who has a turn waits for none below it: those jobs stay in line, and the engine is told to come again soon."""
    by_turn = sorted((f"key-{number}" for number in range(9)), key=lambda key: turn_of(rates.of_key(key)))
    low, high = by_turn[0], by_turn[-1]
    [job] = keyed(store, key=low)
    free = factory.enqueue(store)
    run(direct, "begin")
    run(direct, f"select * from {store._prefix}turns where place = {turn_of(rates.of_key(low))} for update")
    answer = store.exchange("engine", want=want(9), lease=LEASE, freed=[high])
    # Not at once: it would ask without a pause until the other one is done.
    assert ([found.id for found in answer.claimed], answer.next_due) == ([free], 10_000)
    row = factory.row_of(store, job)
    assert (row.state, row.hold, row.version) == ("waiting", None, 1)
    run(direct, "rollback")
    assert [found.id for found in claim(store)] == [job]


def test_letting_due_jobs_in_locks_no_job_that_a_limit_holds(store: MySQLBackend, direct: Any) -> None:
    """It stands behind the delayed ones in the same index, and whoever lets it in must not have to wait for that."""
    keyed(store, 2)
    claim(store)
    factory.enqueue(store, delay=10**9)
    with store._pool.use() as ours, ours.transaction():
        refs = [n for (n,) in ours.execute(store._sql["due"], {"now": None})] or [0]
        ours.execute(store._sql["lock_due"], {"refs": refs, "now": None})
        locked = f"select n from {store._prefix}jobs where state = 'waiting' order by n for update skip locked"
        assert len(run(direct, locked)) == 2
        run(direct, "commit")


# ------------------------------------------------------------------ order


def test_who_comes_in_is_found_however_far_behind(store: MySQLBackend, direct: Any) -> None:
    """Each by its own limit: behind one that leaves room for few may stand many that need none, and in other queues."""
    first = keyed(store, limit=2)
    free = [job for _ in range(3) for job in keyed(store, 100, limit=1_000)]
    other = keyed(store, 3, limit=1_000, queue="other")
    run(direct, f"update {store._prefix}jobs set hold = 'limit'")
    assert store.let_in(1_000) == len(first + free + other)
    run(direct, f"update {store._prefix}jobs set hold = 'limit' where hold is null and queue = 'default'")
    run(direct, f"update {store._prefix}jobs set key_limit = null where id = x'{first[0].hex()}'")
    assert store.let_in(1_000) == len(first + free)


def test_a_held_job_comes_before_one_that_came_later(store: MySQLBackend) -> None:
    """A job of the key that has joined the line since takes no room from those that the key held before."""
    first, second = keyed(store, 2)
    held = claim(store)
    [third] = keyed(store)
    order = [job.id for job in held]
    for _ in range(2):
        held = claim(store, done=held, freed=("k",))
        order += [job.id for job in held]
    assert order == [first, second, third]


def test_who_stands_first_enters_first_whoever_decides_first(url: str, store: MySQLBackend, direct: Any) -> None:
    """A job in front that another engine is about to claim counts as having entered: the next one waits behind it."""
    first, second = keyed(store, 2)
    run(direct, "begin")
    run(direct, f"select n from {store._prefix}jobs where id = x'{first.hex()}' for update")
    assert claim(store) == []
    assert factory.row_of(store, second).hold == "limit"
    run(direct, "rollback")
    held = claim(store)
    assert [job.id for job in held] == [first]
    assert [job.id for job in claim(store, done=held, freed=("k",))] == [second]


def test_a_job_of_another_queue_keeps_nobody_waiting(store: MySQLBackend) -> None:
    """What stands in a queue that nobody serves is not in front of those elsewhere with the same key."""
    keyed(store, 3, queue="paused")
    first, second = keyed(store, 2)
    held = claim(store)
    assert [job.id for job in held] == [first]
    assert factory.row_of(store, second).hold == "limit"


# ------------------------------------------------------------------ at once


@pytest.mark.parametrize("limits", [{}, {"default": QueueLimit(5, None)}], ids=["keys", "keys and queue"])
def test_racing_engines_keep_limits_and_order_without_a_deadlock(
    url: str, monkeypatch: pytest.MonkeyPatch, limits: dict[str, QueueLimit]
) -> None:
    """Five engines, few keys and free jobs between: never above a limit, each key in its order, nobody a victim."""
    conflicts: list[ConflictError] = []
    made = ConflictError.__init__

    def noted(self: ConflictError, *args: object) -> None:
        conflicts.append(self)
        made(self, *args)

    monkeypatch.setattr(ConflictError, "__init__", noted)
    prefix = new_prefix()
    stores = [MySQLBackend(url, prefix=prefix) for _ in range(5)]
    stores[0].migrate()
    jobs = [
        factory.new_job(limit_key=f"key-{number % 4}", key_limit=1) if number % 3 else factory.new_job()
        for number in range(120)
    ]
    stores[0].enqueue(jobs)
    order = [job.id for job in jobs if job.limit_key == "key-1"]
    held: list[list[Claimed]] = [[] for _ in stores]
    ran: list[bytes] = []

    def turn(place: int) -> None:
        mine = held[place]
        held[place] = (
            stores[place]
            .exchange(
                f"engine-{place}",
                completions=factory.completions_of(mine) if mine else NO_COMPLETIONS,
                want=want(4, limits),
                lease=LEASE,
                freed={job.limit_key for job in mine if job.limit_key},
            )
            .claimed
        )

    for _ in range(300):
        at_once([partial(turn, place) for place in range(len(stores))])
        at_work = [job for mine in held for job in mine]
        assert not limits or len(at_work) <= 5
        assert max(Counter(job.limit_key for job in at_work if job.limit_key).values(), default=0) <= 1
        ran += [job.id for job in at_work if job.limit_key == "key-1"]
        if stores[0].count(Filter())["default"].get("completed", 0) == len(jobs):
            break
    assert ran == order
    assert conflicts == []
    for each in stores:
        each.close()


def test_a_job_is_replaced_or_claimed_never_half(url: str, store: MySQLBackend) -> None:
    """Of a producer that replaces and an engine that claims at once either comes first, and both know which."""
    other = MySQLBackend(url, prefix=store._prefix)
    for number in range(25):
        job_id = factory.enqueue(store, unique_key="k", args="[1]")
        new = factory.new_job(unique_key="k", args="[2]", replaces=True, tags=f'["{number}"]')
        answers, claims = both_at_once(lambda new=new: other.enqueue([new]), lambda: claim(store))  # type: ignore[misc]
        claims = claims or claim(store)
        assert [job.id for job in claims] == [job_id]
        replaced = answers == [Enqueued(Fate.REPLACED, job_id)]
        assert replaced or answers == [Enqueued(Fate.KEY_TAKEN, job_id)]
        assert factory.row_of(store, job_id).args == claims[0].args == ("[2]" if replaced else "[1]")
        factory.complete(store, claims)
    other.close()


def test_jobs_of_one_call_may_replace_each_other(store: MySQLBackend) -> None:
    """The last one's content stands under the first one's id, and the others of the call are stored."""
    jobs = [factory.new_job(unique_key="k", args=f"[{number}]", replaces=True) for number in range(3)]
    answers = store.enqueue([*jobs, factory.new_job()])
    assert [answer.fate for answer in answers] == [Fate.STORED, Fate.REPLACED, Fate.REPLACED, Fate.STORED]
    assert factory.row_of(store, jobs[0].id).args == "[2]"
    assert store.count(Filter()) == {"default": {"waiting": 2}}


def test_engines_hear_of_a_replaced_job(store: MySQLBackend) -> None:
    """It adds none, and may be due now where it was delayed before."""
    factory.enqueue(store, unique_key="k", delay=10**9)
    waker = store.waker()
    assert store.enqueue([factory.new_job(unique_key="k", replaces=True)])[0].fate is Fate.REPLACED
    assert waker.fd is not None and select.select([waker.fd], [], [], 10)[0]
    waker.close()


# ------------------------------------------------------------------ schema and rights


def test_a_migration_that_was_killed_at_its_end_goes_on(store: MySQLBackend, direct: Any) -> None:
    """All is there but the version says no: what the server refuses to do twice is taken for done, up and down."""
    for wreck in ("select 1", f"drop table {store._prefix}once, {store._prefix}turns"):
        run(direct, wreck)
        run(direct, f"update {store._prefix}meta set number = 1 where name = 'schema'")
        assert store.migrate() == [2, 3]
    assert len(run(direct, f"select place from {store._prefix}turns")) == TURNS
    keyed(store, 2, order_offset=-5)
    held = claim(store)
    for version in (3, 2):
        assert store.rollback() == version
        run(direct, f"update {store._prefix}meta set number = {version} where name = 'schema'")
        assert store.rollback() == version
    # Jobs that a limit held go back in line, for engines that know of none.
    assert run(direct, f"select count(*) from {store._prefix}jobs where hold is null and state = 'waiting'") == ((1,),)
    assert store.migrate() == [2, 3]
    factory.complete(store, held)
    # What ageing made of its place is known from where it stands.
    assert [job.order_offset for job in claim(store)] == [-5]


def test_a_producer_takes_once_keys_and_replaces_nothing(url: str, store: MySQLBackend, direct: Any) -> None:
    """It may let a key go whose time is over; to change a job that is stored takes the rights of an engine."""
    name = f"producer_{secrets.token_hex(4)}"
    run(direct, f"create user `{name}`@`%` identified by 'secret'")
    for statement in store.grants(Role.PRODUCER, name):
        run(direct, statement)
    _, _, place = url.rpartition("@")
    producer = MySQLBackend(f"mysql://{name}:secret@{place}", prefix=store._prefix)
    now = store.facts().now
    for until, fate in ((now - 1, Fate.STORED), (now + 10**9, Fate.STORED), (now + 10**9, Fate.KEY_TAKEN)):
        job = factory.new_job(once_key="o", once_until=until)
        assert producer.enqueue([job])[0].fate is fate
    waiting = factory.enqueue(producer, unique_key="k", args="[1]")
    with pytest.raises(AccessDeniedError):
        producer.enqueue([factory.new_job(unique_key="k", args="[2]", replaces=True)])
    assert factory.row_of(store, waiting).args == "[1]"
    assert producer.usage(["default"], ["k"])[0]["default"].at_work == 0
    producer.close()
    run(direct, f"drop user `{name}`@`%`")


# ------------------------------------------------------------------ bounded work


def test_limits_cost_no_more_where_thousands_are_held_or_have_ended(store: MySQLBackend) -> None:
    """What an exchange with limits, or a look at them, reads does not grow with keyed jobs held, ended or in line."""
    crowd = 1_500
    keyed(store, 500, key="done", queue="old", limit=9_999)
    while done := store.exchange("e", want=want(500, queue="old"), lease=LEASE).claimed:
        store.exchange("e", completions=factory.completions_of(done))
    keyed(store, 1, key="full")
    held = claim(store, 1)
    for _ in range(crowd // 500):
        keyed(store, 500, key="full")
    free = factory.enqueue_several(store, 5)
    assert {job.id for job in claim(store, 5)} <= set(free)
    assert store.tally().counts["waiting"] >= crowd
    for _ in range(crowd // 500):
        keyed(store, 500, key="crowd", queue="unserved")
    factory.enqueue_several(store, 8)
    [one] = keyed(store, key="small")
    limits = {"default": QueueLimit(100, Rate(1_000, 60_000_000))}

    def reads(work: Callable[[], object]) -> int:
        before = _rows_read(store)
        work()
        return _rows_read(store) - before

    looks: dict[str, tuple[int, Callable[[], object]]] = {
        "claim, limited": (250, lambda: store.exchange("e", want=want(5, limits), lease=LEASE)),
        "claim a key": (250, lambda: claim(store)),
        "free a full key": (250, lambda: claim(store, done=held, freed=("full",))),
        "free a crowded key": (120, lambda: store.exchange("e", want=want(0), freed=["crowd"])),
        "usage": (150, lambda: store.usage(["default", "old"], ["full", "done", "crowd", "nobody"])),
        "take a once key": (60, lambda: store.enqueue([factory.new_job(once_key="o", once_until=10**18)])),
        "prune nothing": (
            150, lambda: store.prune(states=["completed"], finished_before=5, age=10**15, limit=100),
        ),
    }  # fmt: skip
    found = {name: (reads(work), most) for name, (most, work) in looks.items()}
    assert not {name: reads for name, reads in found.items() if reads[0] > reads[1]}
    assert factory.row_of(store, one).state == "claimed"
    # A sweep walks some of those that are held, and reads no more of a key than whether there is room.
    assert reads(lambda: store.let_in(100)) <= 2 * crowd


def _rows_read(store: MySQLBackend) -> int:
    """Rows and index entries the server has looked at for this store's only connection."""
    with store._pool.use() as ours:
        return sum(int(number) for _, number in ours.execute("show session status like 'Handler_read%'"))


def test_counted_starts_are_forgotten(store: MySQLBackend, direct: Any) -> None:
    """A prune leaves no start whose window is over, and no once key whose time is."""
    factory.enqueue_several(store, 3, limit_key="k", rate_count=9, rate_per=100_000)
    store.enqueue([factory.new_job(once_key="o", once_until=store.facts().now)])
    assert len(claim(store)) == 4
    run(direct, f"update {store._prefix}starts set until = 1")
    assert store.prune(states=["completed"], finished_before=5, age=None, limit=10) == 0
    assert [run(direct, f"select * from {store._prefix}{table}") for table in ("starts", "once")] == [(), ()]


def test_a_job_that_follows_gives_a_key_back_that_it_could_not_use(store: MySQLBackend) -> None:
    """One whose id is there, or whose unique key is taken, is passed over, and its once key stays free."""
    until = store.facts().now + 10**9
    there = factory.enqueue(store, unique_key="u", delay=10**9)
    parent = factory.claimed_job(store)
    followers = [
        factory.new_job(once_key="a", once_until=until, unique_key="u"),
        factory.new_job(id=there, once_key="b", once_until=until),
        factory.new_job(once_key="c", once_until=until),
    ]
    assert factory.settle(store, parent, states.complete("1"), then=followers) == []
    again = [factory.new_job(once_key=key, once_until=until) for key in "abc"]
    assert [answer.fate for answer in store.enqueue(again)] == [Fate.STORED, Fate.STORED, Fate.KEY_TAKEN]
