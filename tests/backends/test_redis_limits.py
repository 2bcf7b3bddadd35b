"""Limits and once keys in Redis: the rules in Lua, scripts that stay short, indexes that mend themselves, rights."""

from __future__ import annotations

import random
import secrets
import select
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

from helpers.servers import KINDS, OwnServer, using
from jobcard.backends.base import Enqueued, Fate, Filter, Want
from jobcard.backends.redis import RedisBackend, exchange, scripts
from jobcard.backends.redis.grants import RIGHTS
from jobcard.backends.redis.keys import NAMES
from jobcard.backends.redis.rights import _TRIALS
from jobcard.backends.redis.rows import LIVE, pack, unpack
from jobcard.backends.roles import Role
from jobcard.conformance import factory
from jobcard.core import rates, states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed
from jobcard.core.rates import Limited, QueueLimit, Rate, Starts, Use


@pytest.fixture(scope="module", params=["redis", "valkey"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as server:
        yield server


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(url: str, clock: FrozenClock) -> Iterator[RedisBackend]:
    backend = RedisBackend(url, clock=clock, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    backend.truncate()
    backend.close()


def take(store: RedisBackend, number: int = 10, *, limit: QueueLimit | None = None, **given: Any) -> list[Claimed]:
    """Claim from the one queue."""
    limits = {} if limit is None else {"default": limit}
    return store.exchange(
        "engine", want=Want([("default", number)], number, limits), lease=factory.LEASE, **given
    ).claimed


def keyed(store: RedisBackend, count: int, key: str = "k", **given: Any) -> list[bytes]:
    return factory.enqueue_several(store, count, **{"limit_key": key, "key_limit": 1, **given})


# ------------------------------------------------------------------ the rules

LINE = """
local uses, answers = {}, {}
for key, use in pairs(input[3]) do uses[key] = { at_work = use[1], starts = use[2], entered = 0, kept_out = use[3] } end
for place, job in ipairs(input[2]) do
  local use = uses[job[1]] or { at_work = 0, starts = {}, entered = 0, kept_out = 0 }
  uses[job[1]] = use
  local may, again = admission().admit(job[2], job[3], use)
  answers[place] = { may and 1 or 0, string.format('%.0f', again) }
end
return answers
"""


def admit_in_lua(store: RedisBackend, line: list[Limited], use: Mapping[str, Use], now: int) -> list[rates.Admission]:
    """What the script says of a line."""
    parts = "".join(scripts._read("lua", f"{part}.lua") for part in ("release", "admission"))
    script = scripts._script(parts + LINE)
    jobs = [[job.limit_key, job.key_limit or False, list(job.rate) if job.rate else False] for job in line]
    known = {
        key: [used.at_work, [[slot, n, 1 << 52] for slot, n in used.starts.slots], used.kept_out]
        for key, used in use.items()
    }
    answers = scripts.run(store._client, script, store._keys.all, pack([now, jobs, known]))
    return [rates.Admission(bool(may), int(again)) for may, again in answers]


def a_line(chance: random.Random) -> tuple[list[Limited], dict[str, Use], int]:
    """Some jobs of a few keys, with limits and rates that differ within a key too, and what is used of them."""
    now = chance.randrange(1_600_000_000_000_000, 2_000_000_000_000_000)
    of_time = [Rate(chance.randrange(1, 6), chance.randrange(100_000, 31 * 86_400_000_000)) for _ in range(2)]
    line = [
        Limited(chance.choice("ab"), chance.choice([None, 1, 3]), chance.choice([None, *of_time]))
        for _ in range(chance.randrange(30))
    ]
    use = {}
    for key in "ab"[: chance.randrange(3)]:
        slots = {}
        for rate in of_time:
            for _ in range(chance.randrange(5)):
                slots[rate.slot_at(now) - chance.randrange(-1, 24)] = chance.randrange(1, 4)
        use[key] = Use(chance.randrange(4), Starts(sorted(slots.items())), chance.choice([0, 0, 7, 40]))
    return line, use, now


def test_scripts_admit_whom_the_rules_admit(store: RedisBackend) -> None:
    """`admit` of core/rates.py and its second copy in Lua answer alike, to the microsecond."""
    chance = random.Random(20_261_122)
    kept_out = 0
    for _ in range(400):
        line, use, now = a_line(chance)
        expected = rates.admit(line, use, now)
        assert admit_in_lua(store, line, use, now) == expected, (line, use, now)
        kept_out += sum(answer.until > now for answer in expected)
    assert kept_out > 100


# ------------------------------------------------------------------ short scripts


def test_a_long_line_of_a_full_key_is_put_aside_in_short_scripts(
    store: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No script puts more aside than it may; one exchange goes on to those behind, in their order, and once."""
    for _ in range(3):
        keyed(store, 1_000)
    free = [factory.enqueue(store, priority=-1) for _ in range(3)]
    put_aside = []
    run = store._run

    def watched(name: str, *values: object, **given: Any) -> Any:
        before = store._client.zcard(store._keys.keyed_held)
        answer = run(name, *values, **given)
        put_aside.append(store._client.zcard(store._keys.keyed_held) - before)
        return answer

    monkeypatch.setattr(store, "_run", watched)
    claims = take(store, 4)
    assert [claim.id for claim in claims[1:]] == free
    # The last batch of a script may go beyond.
    assert sum(put_aside) == 2_999 and max(put_aside) <= scripts.KEPT_OUT_AT_ONCE + scripts.MOST_JOBS
    assert len(put_aside) > 4


def test_an_exchange_ends_though_a_line_does_not(store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind so many jobs of a full key it gives its answer first, and asks to be called again at once."""
    monkeypatch.setattr(exchange, "MOST_ROUNDS", 1)
    keyed(store, 900)
    free = factory.enqueue(store, priority=-1)
    answers = []
    for _ in range(3):
        answers.append(store.exchange("engine", want=Want([("default", 2)], 2), lease=factory.LEASE))
    assert [len(answer.claimed) for answer in answers] == [1, 1, 0]
    assert [answer.next_due for answer in answers] == [0, None, None]
    assert answers[1].claimed[0].id == free


def test_many_keys_are_swept_some_to_a_script(store: RedisBackend) -> None:
    """`let_in` goes through more keys, and more jobs of one key, than one script looks at."""
    for number in range(450):
        keyed(store, 2, f"key-{number}")
    keyed(store, 450, "wide", key_limit=300)
    claims: list[Claimed] = []
    while found := take(store, 200):
        claims += found
    assert len(claims) == 450 + 300
    assert store.let_in(1_000) == 0
    for first in range(0, len(claims), 200):
        factory.complete(store, claims[first : first + 200])
    assert store.let_in(7) == 7
    assert store.let_in(1_000) == 450 + 150 - 7
    assert store.let_in(1_000) == 0


def test_keys_are_told_apart_whatever_they_hold(store: RedisBackend) -> None:
    """One that begins like another, one with a NUL, an empty one, a long one."""
    for key in ("a", "a\0", "a\0b", "", "\xff", "a" * 5_000):
        keyed(store, 2, key)
        assert len(take(store)) == 1, key


# ------------------------------------------------------------------ what is not as it was


def test_a_job_that_cannot_be_read_takes_no_place_of_its_key(store: RedisBackend) -> None:
    """In line, held and at work: torn to pieces it leaves no trace of its key, and the others of the key go on."""
    first, in_line, held, last = keyed(store, 4)
    [claim] = take(store, 2)
    assert claim.id == first
    assert store.let_in(10) == 0
    factory.complete(store, [claim])
    assert store.let_in(10) == 1
    for job_id in (in_line, held):
        store._client.hset(store._keys.live, job_id.hex(), b"\xc1 torn")
    assert take(store) == []
    assert store.let_in(10) == 1
    [claim] = take(store)
    assert claim.id == last


def test_a_torn_claim_is_at_work_no_more(store: RedisBackend, clock: FrozenClock) -> None:
    """A quarantined claim counts neither for its queue nor for its key."""
    limit = QueueLimit(1, None)
    _, second = keyed(store, 2)
    [claim] = take(store, limit=limit)
    store._client.hset(store._keys.live, claim.id.hex(), b"\xc1 torn")
    assert take(store, limit=limit) == []
    clock.advance(61)
    assert store.find_held([], lapsed=True, limit=10).claims == []
    assert store.usage(["default"], [])[0]["default"].at_work == 0
    take(store)  # puts the second one aside, if it was not yet
    store.let_in(10)
    assert [claim.id for claim in take(store, limit=limit)] == [second]


def test_what_an_older_jobcard_moved_is_found_out(store: RedisBackend) -> None:
    """It knows nothing of the indexes of keys: members that are not so are taken out, and nobody waits for them."""
    _, second, third = keyed(store, 3)
    [claim] = take(store)
    work = store._client.zrange(store._keys.keyed_work, 0, -1)
    factory.complete(store, [claim])
    store._client.zadd(store._keys.keyed_work, {work[0]: 0})
    assert [again.id for again in take(store, freed=["k"])] == [second]
    assert store.usage([], ["k"])[1]["k"].at_work == 1
    assert factory.row_of(store, third).hold == "limit"


def test_a_rollback_puts_held_jobs_back_in_line(store: RedisBackend) -> None:
    """No limit holds a job in a store that knows none."""
    ids = keyed(store, 3)
    [claim] = take(store)
    factory.complete(store, [claim])
    assert [store.rollback(), store.rollback()] == [3, 2]
    assert [row.hold for row in store.get(ids)] == [None] * 3
    assert store._client.exists(*store._keys.all[NAMES.index("once") :]) == 0
    assert store.count(Filter())["default"] == {"completed": 1, "waiting": 2}
    assert store.migrate() == [2, 3]
    assert {claim.id for claim in take(store)} <= set(ids[1:])


def test_nothing_is_kept_for_ever(store: RedisBackend, clock: FrozenClock) -> None:
    """Once keys and counted starts go when nobody asks for them any more; until then they stay."""
    rate = Rate(3, 10_000_000)
    until = clock.now() + 60_000_000
    for number in range(300):
        factory.enqueue(store, once_key=f"once-{number}", once_until=until)
    keyed(store, 1, key_limit=None, rate_count=3, rate_per=10_000_000)
    claims = take(store, 3, limit=QueueLimit(None, rate)) + take(store, 200, limit=None)
    once, starts = store._keys.once, store._keys.starts
    assert store._client.hlen(once) == 300 and store._client.hlen(starts) == 1
    factory.complete(store, claims)
    for expected, seconds in ((300, 1), (300, 20), (0, 40)):
        clock.advance(seconds)
        for _ in range(3):
            store.prune(states=["completed"], finished_before=None, age=None, limit=100)
        assert store._client.hlen(once) == expected
    assert store._client.exists(once, starts, store._keys.lapses) == 0


def test_jobs_put_off_are_counted_until_their_turn(store: RedisBackend, clock: FrozenClock) -> None:
    """By the key's own index: not others that are delayed, none that is back in line, snoozed or canceled."""
    jobs = keyed(store, 6, key_limit=None, rate_count=1, rate_per=10_000_000)
    keyed(store, 2, delay=3_600_000_000)
    assert len(take(store)) == 1

    def put_off() -> int:
        return store.usage([], ["k"])[1]["k"].kept_out

    assert put_off() == 5 == store._client.zcard(store._keys.keyed_due)
    store.apply_by_operator(jobs[5], states.cancel_waiting(reason="canceled"))
    store.apply_by_operator(jobs[4], states.snooze_waiting(factory.row_of(store, jobs[4]), delay=1))
    assert put_off() == 3
    clock.advance(11)
    assert len(take(store)) == 1
    assert put_off() == 3  # the first of them started, the snoozed one joined them
    clock.advance(600)
    assert put_off() == 0 < store._client.zcard(store._keys.keyed_due)
    take(store)


# ------------------------------------------------------------------ who hears of it, who may


def test_whoever_may_want_what_was_let_in_is_woken(store: RedisBackend) -> None:
    """A job let in and claimed by the same exchange wakes nobody; one that stays in line does."""
    keyed(store, 3)
    claims = take(store)
    waker = store.waker()
    claims = take(store, completions=factory.completions_of(claims), freed=["k"])
    assert len(claims) == 1
    assert waker.fd is not None and not select.select([waker.fd], [], [], 0)[0]
    store.exchange("engine", completions=factory.completions_of(claims), freed=["k"])
    assert select.select([waker.fd], [], [], 10)[0]
    waker.close()


def test_a_place_that_is_left_to_others_wakes_them(store: RedisBackend) -> None:
    """Of a full queue one ends, and this engine takes nothing: the others hear of it; if nobody waits, nobody does."""
    limits = {"default": QueueLimit(1, None)}
    factory.enqueue_several(store, 2)
    [claim] = take(store, limit=limits["default"])
    waker = store.waker()
    assert waker.fd is not None
    for left in (1, 0):
        store.exchange("engine", completions=factory.completions_of([claim]), want=Want([], 0, limits))
        assert bool(select.select([waker.fd], [], [], 10 if left else 0)[0]) == bool(left)
        waker.drain()
        [claim] = take(store, limit=limits["default"]) or [claim]
    waker.close()


def test_every_command_of_a_script_is_granted_and_can_be_named() -> None:
    """An engine may run whatever scripts use, and a right that is missing has a name."""
    names = ["enqueue", "exchange", "let_in", "usage", "apply_by_operator", "delete_jobs", "prune", "find", "find_held"]
    names += ["quarantine", "remove_record", "renew", "tally", "truncate", "unpark", "write_record"]
    names += ["put", "erase", "versions", "put_once_keys", "seal", "release_dependents", "count_batch", "find_batch"]
    for name in names:
        used = set(rights_used(scripts.script(name).text))
        assert used <= {command.upper() for command in RIGHTS[Role.ENGINE]}, name
        assert used - {"HEXISTS"} <= set(_TRIALS), name


def rights_used(text: str) -> list[str]:
    """The commands in a script."""
    return [part.split("'", 1)[0] for part in text.split("redis.call('")[1:]]


def test_a_producer_may_replace_and_a_viewer_may_ask() -> None:
    """With the printed rights and no others; whatever line or hold the job was in."""
    server = OwnServer(KINDS["redis"])
    server.start()
    admin = redis.Redis.from_url(server.url)
    engine = RedisBackend(server.url)
    engine.migrate()
    try:
        producer, viewer = (_user(admin, server.url, role) for role in (Role.PRODUCER, Role.VIEWER))
        keyed(engine, 2, unique_key=None)
        for given in ({}, {"delay": 3_600_000_000}, {"limit_key": "k", "key_limit": 1}, {"queue": "else"}):
            first = factory.enqueue(producer, unique_key="u", **given)
            for new in ({"args": "[1]"}, {"args": "[2]", "delay": 60_000_000}, {"args": "[3]", "limit_key": "new"}):
                job = factory.new_job(unique_key="u", replaces=True, **new)
                assert producer.enqueue([job]) == [Enqueued(Fate.REPLACED, first)]
            row = factory.row_of(producer, first)
            assert (row.args, row.limit_key, row.queue) == ("[3]", "new", "default")
            engine.apply_by_operator(first, states.cancel_waiting(reason="canceled"))
        assert len(take(engine)) == 1
        held = factory.enqueue(producer, unique_key="u", limit_key="k", key_limit=1)
        assert take(engine) == [] and factory.row_of(producer, held).hold == "limit"
        assert producer.enqueue([factory.new_job(unique_key="u", replaces=True)]) == [Enqueued(Fate.REPLACED, held)]
        assert [claim.id for claim in take(engine)] == [held]
        _replaced_job_lets_in_the_next(engine, producer)
        assert viewer.usage(["default"], ["k"])[1]["k"].at_work == 1
        assert producer.enqueue([factory.new_job(once_key="o", once_until=1 << 52)])[0].fate is Fate.STORED
        producer.close()
        viewer.close()
    finally:
        engine.close()
        admin.close()
        server.close()


def _replaced_job_lets_in_the_next(engine: RedisBackend, producer: RedisBackend) -> None:
    """Past one that cannot be read, which the producer may not set aside, and leaves to the engine."""
    keyed(engine, 1, "p")
    [claim] = take(engine)
    [let_in] = keyed(engine, 1, "p", unique_key="v")
    torn, next_ = keyed(engine, 2, "p")
    assert take(engine) == []
    engine.exchange("engine", completions=factory.completions_of([claim]), freed=["p"])
    assert factory.row_of(engine, let_in).hold is None
    engine._client.hset(engine._keys.live, torn.hex(), b"\xc1 torn")
    new = factory.new_job(unique_key="v", delay=3_600_000_000, replaces=True)
    assert producer.enqueue([new]) == [Enqueued(Fate.REPLACED, let_in)]
    assert factory.row_of(engine, next_).hold is None
    assert engine._client.smembers(engine._keys.broken) == set()
    engine.let_in(10)
    assert engine._client.smembers(engine._keys.broken) == {torn.hex().encode()}
    assert [claim.id for claim in take(engine)] == [next_]


def _user(admin: Any, url: str, role: Role) -> RedisBackend:
    store = RedisBackend(url)
    for line in store.grants(role, str(role)):
        admin.execute_command(*(word.strip('"') for word in line.split()), ">secret")
    store.close()
    return RedisBackend(f"redis://{role}:secret@{url.rpartition('@')[2].removeprefix('redis://')}")


# ------------------------------------------------------------------ rows of another layout


def test_a_row_from_before_limits_is_read(store: RedisBackend) -> None:
    """It lacks five fields and more: no limits, and its order tells its offset; a script that moves it writes them."""
    old, bound = factory.enqueue(store, order_offset=-7), factory.enqueue(store, limit_key="k")
    for job_id in (old, bound):
        live = unpack(store._client.hget(store._keys.live, job_id.hex()))
        store._client.hset(store._keys.live, job_id.hex(), pack(live[: LIVE.index("once_key")]))
    assert (factory.row_of(store, old).order_offset, factory.row_of(store, bound).order_offset) == (-7, 0)
    first, second = take(store)
    assert (first.order_offset, second.order_offset) == (-7, 0)
    assert (first.limit_key, first.key_limit, first.rate_count, first.rate_per) == (None,) * 4
    assert (second.limit_key, second.key_limit, second.rate_count, second.rate_per) == ("k", None, None, None)
    assert factory.complete(store, [first, second]) == []
    row = factory.row_of(store, old)
    assert (row.state, row.once_key, row.limit_key, row.key_limit) == ("completed", None, None, None)
