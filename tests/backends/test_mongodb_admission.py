"""Once keys and limits on MongoDB, where no transaction holds a key and its job, or a place and its claim, together."""

from __future__ import annotations

import os
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from helpers.mongodb import dies_at
from helpers.servers import KINDS, using
from jobcard.backends.base import Completions, Enqueued, Exchanged, Fate, Filter, Outcome, Want
from jobcard.backends.mongodb import MongoBackend, admission, loads, permits
from jobcard.backends.mongodb import claim as claims_of
from jobcard.backends.mongodb.claim import Claim
from jobcard.backends.mongodb.connection import COLLECTIONS
from jobcard.backends.mongodb.rows import LOADING
from jobcard.conformance import factory
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, NewJob
from jobcard.core.rates import QueueLimit, Rate

pytestmark = [pytest.mark.turns, pytest.mark.slow]

SECOND = 1_000_000
LEASE = 30 * SECOND

Open = Callable[[], MongoBackend]


@pytest.fixture(
    scope="module",
    params=["mongodb", "mongodb-standalone"],
)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as url:
        yield url


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def open_store(server_url: str, clock: FrozenClock) -> Iterator[Open]:
    """Opens backends on one empty store, whose time stands still."""
    prefix = f"test-{secrets.token_hex(6)}"
    opened: list[MongoBackend] = []

    def another() -> MongoBackend:
        opened.append(MongoBackend(server_url, prefix=prefix, clock=clock))
        return opened[-1]

    another().migrate()
    yield another
    database = opened[0]._store.jobs.database
    for name in COLLECTIONS:
        database.drop_collection(f"{prefix}.{name}")
    for backend in opened:
        backend.close()


# ------------------------------------------------------------------ once keys


def once(clock: FrozenClock, key: str, **given: Any) -> NewJob:
    return factory.new_job(once_key=key, once_until=clock.now() + 3_600 * SECOND, **given)


def sweep(store: MongoBackend) -> None:
    """What the engines' rescues do, without the patience for producers that may still live."""
    loads.Sweeper().sweep(store._store, patience=0)


def nothing_is_half_in(store: MongoBackend) -> None:
    assert store._store.jobs.count_documents({"$or": [{"state": LOADING}, {"load": {"$exists": True}}]}) == 0


def test_a_once_key_is_taken_with_its_job_or_not_at_all(open_store: Open, clock: FrozenClock) -> None:
    """Wherever their producer is killed: all of its jobs are in and have their keys, or none is and all are free."""
    store, seen = open_store(), set()
    for moment in range(1, 100):
        store.truncate()
        jobs = [
            once(clock, "a"),
            factory.new_job(unique_key="u"),
            once(clock, "b", unique_key="v", delay=SECOND),
            factory.new_job(),
        ]
        died = dies_at(moment, open_store, lambda child, jobs=jobs: child.enqueue(jobs))
        sweep(store)
        stored = {row.id for row in store.list(Filter(), limit=100).rows}
        assert stored in (set(), {job.id for job in jobs}), f"at moment {moment}"
        nothing_is_half_in(store)
        seen.add(len(stored))
        rivals = [once(clock, key) for key in ("a", "b")]
        expected = [
            Enqueued(Fate.KEY_TAKEN, job.id) if stored else Enqueued(Fate.STORED, rival.id)
            for job, rival in zip((jobs[0], jobs[2]), rivals, strict=True)
        ]
        assert store.enqueue(rivals) == expected, f"at moment {moment}"
        if not died:
            break
    assert moment > 8, "every command of an enqueue was a place to die"
    assert seen == {0, len(jobs)}


def test_a_rival_needs_no_sweep(open_store: Open, clock: FrozenClock) -> None:
    """Right after a producer's death another has the key at once, or is told the job that has it and will be in."""
    store, seen = open_store(), set()
    for moment in range(1, 100):
        job, rival = once(clock, f"key {moment}"), once(clock, f"key {moment}")
        died = dies_at(moment, open_store, lambda child, job=job: child.enqueue([job]))
        [answer] = store.enqueue([rival])
        sweep(store)
        assert answer.existing == (rival.id if answer.fate is Fate.STORED else job.id)
        assert [row.id for row in store.get([job.id, rival.id])] == [answer.existing]
        assert store.enqueue([job])[0].fate is (Fate.KEY_TAKEN if answer.fate is Fate.STORED else Fate.REPEATED)
        nothing_is_half_in(store)
        seen.add(answer.fate)
        if not died:
            break
    assert seen == {Fate.STORED, Fate.KEY_TAKEN}


def test_a_job_is_replaced_whole_or_not_at_all(open_store: Open, clock: FrozenClock) -> None:
    """A producer killed while its job replaces another leaves the old content or the new, and its other jobs so too."""
    store, seen = open_store(), set()
    for moment in range(1, 100):
        store.truncate()
        [holder] = [answer.existing for answer in store.enqueue([once(clock, "k", args="[1]", priority=1)])]
        new, beside = once(clock, "k", args="[2]", priority=2, replaces=True), factory.new_job()
        died = dies_at(moment, open_store, lambda child, jobs=[new, beside]: child.enqueue(jobs))
        sweep(store)
        row = factory.row_of(store, holder)
        assert (row.args, row.priority) in (("[1]", 1), ("[2]", 2))
        assert bool(store.get([beside.id])) == (row.args == "[2]"), f"at moment {moment}"
        nothing_is_half_in(store)
        seen.add(row.args)
        fates = [answer.fate for answer in store.enqueue([new, beside])]
        assert fates == [Fate.REPLACED, Fate.REPEATED if row.args == "[2]" else Fate.STORED]
        assert factory.row_of(store, holder).args == "[2]"
        if not died:
            break
    assert seen == {"[1]", "[2]"}


def test_producers_that_race_for_two_keys_take_both_or_none(open_store: Open, clock: FrozenClock) -> None:
    """Of jobs with a unique and a once key those that lose one leave the other to whoever is stored."""
    stores = [open_store() for _ in range(4)]
    for number in range(10):
        jobs = [once(clock, f"o{number}-{place % 2}", unique_key=f"u{number}") for place in range(len(stores))]
        answers = [
            answer
            for [answer] in at_once([partial(store.enqueue, [job]) for store, job in zip(stores, jobs, strict=True)])
        ]
        [winner] = [job for job, answer in zip(jobs, answers, strict=True) if answer.fate is Fate.STORED]
        assert {answer.existing for answer in answers} == {winner.id}
        other = next(job.once_key for job in jobs if job.once_key != winner.once_key)
        assert stores[0].enqueue([once(clock, str(other))])[0].fate is Fate.STORED
    nothing_is_half_in(stores[0])


def leave_committed(store: MongoBackend, job: NewJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that dies right after its commit: the job is loading, and whoever sees it has to let it in."""

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loads, "let_in", dies)
        with pytest.raises(KeyboardInterrupt):
            store.enqueue([job])


@pytest.mark.parametrize("finisher", ["producer", "sweeper"])
def test_who_finishes_a_job_too_late_keeps_no_once_key(
    finisher: str, open_store: Open, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another has turned the job away, and who had its unique key has ended: the late one's once key is free again."""
    store, other = open_store(), open_store()
    holder = factory.enqueue(store, unique_key="u")
    job = once(clock, "o", unique_key="u")
    if finisher == "sweeper":
        leave_committed(store, job, monkeypatch)
    real = loads._let_in_part

    def late(*given: Any) -> None:
        monkeypatch.setattr(loads, "_let_in_part", real)
        sweep(other)
        assert factory.complete(other, take(other, want()).claimed) == []
        real(*given)

    monkeypatch.setattr(loads, "_let_in_part", late)
    if finisher == "sweeper":
        sweep(store)
        assert store._store.once.count_documents({}) == 0
    assert store.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]
    assert {row.id: row.state for row in store.get([holder, job.id])} == {holder: "completed", job.id: "waiting"}
    rival = once(clock, "o")
    assert store.enqueue([rival]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    nothing_is_half_in(store)


def test_a_late_finisher_takes_no_key_from_a_job_that_came_and_went(
    open_store: Open, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another has let the job in, it ran and was deleted: its once key stays taken until its time."""
    store, other = open_store(), open_store()
    job = once(clock, "o", unique_key="u")
    leave_committed(store, job, monkeypatch)
    real = loads._let_in_part

    def late(*given: Any) -> None:
        monkeypatch.setattr(loads, "_let_in_part", real)
        sweep(other)
        assert factory.complete(other, take(other, want()).claimed) == []
        assert other.delete([job.id]) == 1
        real(*given)

    monkeypatch.setattr(loads, "_let_in_part", late)
    sweep(store)
    assert store.get([job.id]) == []
    for again in (job, once(clock, "o")):
        assert store.enqueue([again]) == [Enqueued(Fate.KEY_TAKEN, job.id)]


def test_each_of_several_replacements_in_one_call_is_told_so(open_store: Open) -> None:
    """One after the other they write themselves over the job that waits, and the last one stays."""
    store = open_store()
    holder = factory.enqueue(store, unique_key="u")
    jobs = [factory.new_job(unique_key="u", replaces=True, args=f"[{number}]") for number in range(3)]
    assert store.enqueue(jobs) == [Enqueued(Fate.REPLACED, holder)] * 3
    assert factory.row_of(store, holder).args == "[2]"


def test_an_old_replacement_is_not_played_over_a_newer_one(
    open_store: Open, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was about to finish a replacement comes after another finished it and a newer one was stored: that stays."""
    store, other = open_store(), open_store()
    holder = factory.enqueue(store, unique_key="u", args="[0]")
    leave_committed(store, once(clock, "o", unique_key="u", args="[1]", replaces=True), monkeypatch)
    real, seen = loads.replace, []

    def late(*given: Any) -> bool:
        monkeypatch.setattr(loads, "replace", real)
        sweep(other)
        seen.append(factory.row_of(other, holder).args)
        newer = factory.new_job(unique_key="u", args="[2]", replaces=True)
        assert other.enqueue([newer]) == [Enqueued(Fate.REPLACED, holder)]
        return real(*given)

    monkeypatch.setattr(loads, "replace", late)
    sweep(store)
    assert [*seen, factory.row_of(store, holder).args] == ["[1]", "[2]"]
    nothing_is_half_in(store)


# ------------------------------------------------------------------ limits


def want(number: int = 10, *, at_once: int | None = None, rate: Rate | None = None, queue: str = "default") -> Want:
    limits = {queue: QueueLimit(at_once, rate)} if at_once is not None or rate is not None else {}
    return Want([(queue, number)], number, limits)


def take(store: MongoBackend, wanted: Want, owner: str = "engine", done: Sequence[Claimed] = ()) -> Exchanged:
    freed = {claim.limit_key for claim in done if claim.limit_key is not None}
    completions = factory.completions_of(done) if done else Completions()
    return store.exchange(owner, completions=completions, want=wanted, lease=LEASE, freed=freed)


def keyed(store: MongoBackend, number: int, *keys: str, limit: int = 2, **given: Any) -> list[bytes]:
    jobs = [factory.new_job(limit_key=key, key_limit=limit, **given) for _ in range(number) for key in keys]
    store.enqueue(jobs)
    return [job.id for job in jobs]


def rescue(store: MongoBackend) -> None:
    """Take the jobs of those whose leases are over, as engines do."""
    held = store.find_held([], lapsed=True, limit=1_000).claims
    outcomes = [Outcome(one.ref, one.token, states.rescue(one, error="{}", lapsed=True)) for one in held]
    freed = {one.limit_key for one in held if one.limit_key is not None}
    assert store.exchange("heir", outcomes=outcomes, freed=freed).refusals == []


def at_work(store: MongoBackend) -> tuple[int, Counter[str | None]]:
    rows = store.list(Filter(states=["claimed", "running"]), limit=1_000).rows
    return len(rows), Counter(row.limit_key for row in rows if row.limit_key is not None)


def surely_at_work(store: MongoBackend) -> Counter[str | None]:
    """By key, what was at work all the while between two looks: a single one sees no one moment."""
    wanted = Filter(states=["claimed", "running"])
    first, second = ({(row.id, row.claim_token) for row in store.list(wanted, limit=100).rows} for _ in range(2))
    both = [job_id for job_id, _ in first & second]
    return Counter(row.limit_key for row in store.get(both))


def test_who_reads_late_does_not_decide_as_of_an_earlier_instant(
    open_store: Open, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that lapsed while an engine was on its way still counts at the instant at which that one set out."""
    slow, fast = open_store(), open_store()
    rate = Rate(3, SECOND)
    wanted, two = want(1, rate=rate), want(2, rate=rate)
    factory.enqueue_several(fast, 6)
    begun = clock.now()
    lapsed = rate.lapses(rate.slot_at(begun))
    starts = [claim.claimed_at for _ in range(3) for claim in take(fast, wanted).claimed]
    clock.advance((begun + SECOND - 1 - clock.now()) / SECOND)
    read, overtaken = permits.read, []

    def late(store: Any, *asked: Any) -> permits.Permits:
        if store is slow._store and not overtaken:
            clock.advance((lapsed - clock.now()) / SECOND)
            overtaken.extend(take(fast, wanted).claimed)
        return read(store, *asked)

    monkeypatch.setattr(permits, "read", late)
    starts += [claim.claimed_at for claim in [*take(slow, two).claimed, *overtaken]]
    assert len(starts) == 5
    assert all(at - before >= SECOND for before, at in zip(sorted(starts), sorted(starts)[3:], strict=False))


def test_an_engine_killed_at_any_command_takes_no_place_with_it(open_store: Open, clock: FrozenClock) -> None:
    """Wherever it dies, no limit is ever exceeded, and a lease later every place can be taken again."""
    store = open_store()
    for moment in range(1, 200):
        store.truncate()
        ids = keyed(store, 4, "a", "b")
        first = take(store, want(2, at_once=3)).claimed
        died = dies_at(
            moment,
            open_store,
            lambda child, first=first: [
                take(child, want(at_once=3), done=claims) for claims in (first, (), ())
            ],
        )  # fmt: skip
        heir = take(store, want(at_once=3), "heir").claimed
        number, keys = at_work(store)
        assert number <= 3 and max(keys.values(), default=0) <= 2, f"at moment {moment}"
        clock.advance(LEASE / SECOND + 1)
        rescue(store)
        store.let_in(100)
        # Everything there is can be done now, three at a time.
        for _ in range(20):
            claims = take(store, want(at_once=3), "heir").claimed
            number, keys = at_work(store)
            assert number <= 3 and max(keys.values(), default=0) <= 2, f"at moment {moment}"
            if not claims:
                break
            assert len(claims) >= min(3, len(ids)), f"at moment {moment}: a place was lost"
            assert factory.complete(store, claims, owner="heir") == []
            store.let_in(100)
            ids = [row.id for row in store.get(ids) if row.state != "completed"]
            if not ids:
                break
        assert store.count(Filter()) == {"default": {"completed": 8}}, f"at moment {moment}"
        assert heir is not None
        if not died:
            break
    assert moment > 15, "every command of an exchange was a place to die"


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_claimer_that_slept_exceeds_no_limit(
    seconds: float, open_store: Open, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between permit and claim it sleeps: others count it at first, then take its place, and it comes too late."""
    slow, other = open_store(), open_store()
    keyed(slow, 2, "k", limit=1)
    real, met = Claim._permitted, []

    def sleeps(claim: Claim, verdicts: Any) -> Any:
        asked = real(claim, verdicts)
        if not met:
            met.append(None)
            clock.advance(seconds)
            met.append(take(other, want(), "other").claimed)
        return asked

    monkeypatch.setattr(Claim, "_permitted", sleeps)
    claims = take(slow, want(), "slow").claimed
    assert (len(claims), len(met[1] or ())) == ((0, 1) if seconds else (1, 0))
    assert at_work(slow) == (1, {"k": 1})


def test_a_sleeper_is_fenced_by_more_than_time(open_store: Open, clock: FrozenClock) -> None:
    """Who takes a place from a permit that is over raises the job's token: its claim by that permit cannot apply."""
    store = open_store()
    [job, _] = keyed(store, 2, "k", limit=1)
    [claim] = take(store, want()).claimed
    store.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, states.hand_back(claim))], freed=["k"])
    entry = {"ref": job, "token": claim.token + 1, "until": clock.now() + SECOND, "by": None, "slot": None}
    store._store.limits.update_one({"_id": "key/k"}, {"$set": {"pending": [entry]}})
    assert take(store, want()).claimed == []
    clock.advance(2)
    store.let_in(10)
    [again] = take(store, want()).claimed
    assert (again.id, again.token) == (job, claim.token + 2)
    assert factory.row_of(store, job).attempt == 1


def test_jobs_claimed_without_a_limit_count_under_one(open_store: Open) -> None:
    """A limit set while more jobs are at work lets nobody in before there is room."""
    store = open_store()
    factory.enqueue_several(store, 8)
    free = take(store, want(4)).claimed
    assert len(free) == 4
    assert take(store, want(at_once=3)).claimed == []
    assert take(store, want(at_once=3), done=free[:1]).claimed == []
    assert len(take(store, want(at_once=3), done=free[1:2]).claimed) == 1


def test_a_job_replaced_between_its_permit_and_its_claim_is_not_claimed_by_it(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit is for a key: a job that has another by now waits for a permit of that one."""
    store, other = open_store(), open_store()
    keyed(store, 1, "full", limit=1)
    take(store, want())
    job = factory.enqueue(store, unique_key="u", limit_key="old", key_limit=1)
    real = Claim._permitted

    def late(claim: Claim, verdicts: Any) -> Any:
        new = factory.new_job(unique_key="u", limit_key="full", key_limit=1, replaces=True)
        assert other.enqueue([new]) == [Enqueued(Fate.REPLACED, job)]
        return real(claim, verdicts)

    monkeypatch.setattr(Claim, "_permitted", late)
    assert take(store, want()).claimed == []
    monkeypatch.undo()
    assert take(store, want()).claimed == []
    assert factory.row_of(store, job).hold == "limit"


def test_what_left_while_others_were_held_lets_them_in(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job ends after another engine saw its key full, and before that one holds those behind it: none is lost."""
    store, other = open_store(), open_store()
    _, second = keyed(store, 2, "k", limit=1)
    [first] = take(store, want(1)).claimed
    real = admission.keep_out

    def late(*given: Any) -> None:
        take(other, want(0), done=[first])
        real(*given)

    monkeypatch.setattr(admission, "keep_out", late)
    claims = take(store, want(), "late").claimed
    assert [claim.id for claim in claims] == [second]


def test_what_a_key_holds_goes_before_what_came_later(open_store: Open) -> None:
    """A job held by its key is claimed before one of that key behind it that nobody has held, let in or not."""
    store = open_store()
    first, second = keyed(store, 2, "k", limit=1)
    [claim] = take(store, want()).claimed
    assert (claim.id, factory.row_of(store, second).hold) == (first, "limit")
    [third] = keyed(store, 1, "k", limit=1)
    factory.complete(store, claim)
    assert [claim.id for claim in take(store, want()).claimed] == [second]
    assert take(store, want()).claimed == []
    assert factory.row_of(store, third).hold == "limit"


def test_who_has_room_by_its_own_limit_is_not_held_with_others(open_store: Open) -> None:
    """Of a key those are held whose limit is reached, and those seen with them whose limit is no larger."""
    store = open_store()
    keyed(store, 1, "k", limit=1)
    take(store, want())
    narrow = keyed(store, 2, "k", limit=1)
    [wide] = keyed(store, 1, "k", limit=2)
    free = factory.enqueue(store, limit_key="k")
    assert [claim.id for claim in take(store, want(1)).claimed] == [wide]
    assert [factory.row_of(store, job).hold for job in (*narrow, free)] == ["limit", "limit", None]
    assert [claim.id for claim in take(store, want(1)).claimed] == [free]


def test_an_exchange_that_stops_behind_full_keys_asks_to_go_on(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has looked far enough, `next_due` is 0, and the next ones come to those behind."""
    monkeypatch.setattr(claims_of, "_LOOKS", 2)
    store = open_store()
    keyed(store, 1, "k", limit=1)
    take(store, want())
    keyed(store, 100, "k", limit=1)
    behind = factory.enqueue(store)
    answers = [take(store, want(2))]
    while not answers[-1].claimed:
        assert answers[-1].next_due == 0
        answers.append(take(store, want(2)))
    assert len(answers) > 1 and [claim.id for claim in answers[-1].claimed] == [behind]


def test_migration_2_gives_every_job_its_order_offset(open_store: Open) -> None:
    """What an older jobcard stored has the offset that its order shows, before the migration and after it."""
    store = open_store()
    job = factory.enqueue(store, order_offset=-7)
    jobs = store._store.jobs
    assert jobs.update_one({}, {"$unset": {"order_offset": True}}).modified_count == 1
    assert factory.row_of(store, job).order_offset == -7
    assert [store.rollback(), store.rollback(), store.migrate()] == [3, 2, [2, 3]]
    assert [one["order_offset"] for one in jobs.find()] == [-7]


def test_limits_of_no_use_any_more_are_forgotten(open_store: Open, clock: FrozenClock) -> None:
    """`prune` deletes the documents of keys that nobody uses, once nobody can rest on what it read of them."""
    store = open_store()
    keyed(store, 1, "a", "b", rate_count=5, rate_per=SECOND)
    claims = take(store, want(rate=Rate(9, SECOND))).claimed
    limits = store._store.limits
    assert limits.count_documents({}) == 3
    prune = partial(store.prune, states=[], finished_before=None, age=None, limit=100)
    prune()
    assert limits.count_documents({}) == 3
    clock.advance((permits.PENDING + permits._KEPT) / SECOND + 5)
    prune()
    assert limits.count_documents({}) == 0
    assert at_work(store) == (2, {"a": 1, "b": 1})
    assert factory.complete(store, claims) == []


def test_unlimited_jobs_take_no_round_trip_more(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits an exchange neither asks for permits nor looks at what is left in line."""
    store = open_store()
    factory.enqueue_several(store, 20)
    for name in ("_permit", "_permitted"):
        monkeypatch.setattr(Claim, name, lambda *given: pytest.fail("asked for a permit"))
    first = take(store, want(10)).claimed
    assert len(take(store, want(10), done=first).claimed) == 10
    assert store._store.limits.count_documents({}) == 0


def test_engines_that_are_killed_all_the_time_exceed_no_limit(server_url: str) -> None:
    """Three processes claim and end jobs of two keys and one limited queue, and are killed at random: by the server's
    clock nobody ever sees more at work than the limits allow, and in the end all is done."""
    prefix = f"test-{secrets.token_hex(6)}"
    store = MongoBackend(server_url, prefix=prefix)
    store.migrate()
    keyed(store, 40, "a", "b")

    def engine(owner: str) -> None:
        mine, done = MongoBackend(server_url, prefix=prefix), list[Claimed]()
        while True:
            freed = {str(claim.limit_key) for claim in done}
            answer = mine.exchange(
                owner,
                completions=factory.completions_of(done) if done else Completions(),
                want=want(2, at_once=3),
                lease=SECOND // 2,
                freed=freed,
            )
            done = answer.claimed
            mine.let_in(100)

    def start(owner: str) -> int:
        child = os.fork()
        if child == 0:
            try:
                engine(owner)
            finally:
                os._exit(1)
        return child

    children = [start(f"engine-{number}") for number in range(3)]
    try:
        for turn in range(2_000):
            keys = surely_at_work(store)
            assert keys.total() <= 3 and max(keys.values(), default=0) <= 2
            if turn % 20 == 19:
                victim = children.pop(0)
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                children.append(start(f"engine-{turn}"))
            rescue(store)
            if store.count(Filter()) == {"default": {"completed": 80}}:
                break
        assert store.count(Filter()) == {"default": {"completed": 80}}
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for name in COLLECTIONS:
            store._store.jobs.database.drop_collection(f"{prefix}.{name}")
        store.close()
