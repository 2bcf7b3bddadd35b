"""The seal: a store that is closed to every writer, whatever they know of it, and goes on answering who reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType

import pytest

from jobcard.backends.asynchronous import VERBS
from jobcard.backends.base import Backend, Filter, Outcome, RecordKind, Want
from jobcard.conformance import factory
from jobcard.conformance.every_kind import every_kind, everything_in
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import PATIENCE, at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, NewJob, OnceKey, WholeJob
from jobcard.errors import StoreMovedError

WORD = "moved:1"

NOT_STOPPED = frozenset({"migrate", "rollback", "truncate", "seal", "close"})
"""Verbs that change a store and that no seal stops."""

READING = frozenset(
    {
        "check_schema",
        "find_held",
        "dependents",
        "get",
        "attempts",
        "log_lines",
        "ended",
        "list",
        "count",
        "count_over_time",
        "tally",
        "lines",
        "usage",
        "read_records",
        "versions",
        "once_keys",
        "facts",
        "examine",
        "waker",
    }
)
"""Verbs that go on as before. Whatever is neither here nor above must be refused: so a new verb is not forgotten."""


class Stock:
    """Something for every verb to do, and what is known of it. Each thing is made when it is first asked for.

    Several stocks may be made on one store: no write to the one takes anything from another.
    """

    def __init__(self, backend: Backend, clock: FrozenClock) -> None:
        self._backend = backend
        self._clock = clock
        self._mark = factory.new_id().hex()
        self.now = clock.now()
        self.line, self.key, self.limited = f"line {self._mark}", f"key {self._mark}", f"limit {self._mark}"
        self.new = factory.new_job(once_key=f"new {self._mark}", once_until=self.now + micros(60))

    def made(self) -> Stock:
        """With everything made."""
        for name, thing in vars(Stock).items():
            if isinstance(thing, cached_property):
                getattr(self, name)
        return self

    @cached_property
    def parked(self) -> Claimed:
        """A job that was parked under a name of its own."""
        claim = factory.claimed_job(self._backend, name=f"parked.{self._mark}")
        assert factory.settle(self._backend, claim, states.park(claim)) == []
        return claim

    @cached_property
    def room(self) -> str:
        """A limit key that has room, and a job that stands before it: nobody has let it in."""
        factory.enqueue_several(self._backend, 2, queue=self.limited, limit_key=self.limited, key_limit=1)
        assert factory.complete(self._backend, factory.claim_some(self._backend, 2, queues=[self.limited])) == []
        return self.limited

    @cached_property
    def waiting(self) -> bytes:
        return factory.enqueue(self._backend, queue=self.line, unique_key=self.key)

    @cached_property
    def ended(self) -> bytes:
        return factory.job_in_state(self._backend, "completed", keep=0)

    @cached_property
    def claim(self) -> Claimed:
        return factory.claimed_job(self._backend)

    @cached_property
    def running(self) -> Claimed:
        return factory.running_job(self._backend)

    @cached_property
    def dependent(self) -> bytes:
        return factory.enqueue(self._backend, waits_for="[]")

    @cached_property
    def due(self) -> bytes:
        """A job that came due, and that nobody has put in line."""
        job_id = factory.enqueue(self._backend, queue="due", delay=micros(1))
        self._clock.advance(5)
        return job_id

    @cached_property
    def repeated(self) -> NewJob:
        """A job that is there."""
        job = factory.new_job()
        assert self._backend.enqueue([job])[0].fate == "stored"
        return job

    @cached_property
    def over(self) -> bool:
        """A once key that is over."""
        self._backend.put_once_keys([OnceKey(f"over {self._mark}", self.ended, self.now + 1_000)])
        return True

    @cached_property
    def record(self) -> str:
        """The key of a small record of an engine, and of one of a schedule."""
        self._backend.write_record(RecordKind.ENGINE, self._mark, "{}")
        self._backend.write_record(RecordKind.SCHEDULE, self._mark, "{}")
        return self._mark

    @cached_property
    def whole(self) -> list[WholeJob]:
        return factory.whole_of(self._backend, [self.ended, self.waiting])


Write = Callable[[Backend, Stock], object]


def _settles(backend: Backend, claim: Claimed, change: states.Change, then: Sequence[NewJob] = ()) -> object:
    return backend.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, change, then)])


def _writes_new(kind: RecordKind) -> Write:
    return lambda at, has: at.write_record(kind, "new", "{}")


WRITES: Mapping[str, Mapping[str, Write]] = MappingProxyType(
    {
        "enqueue": {
            "a new job": lambda at, has: at.enqueue([has.new]),
            "several": lambda at, has: at.enqueue([factory.new_job(), factory.new_job(queue="unknown"), has.new]),
            "one that waits for others": lambda at, has: at.enqueue([factory.new_job(waits_for="[]")]),
            "one that is there": lambda at, has: at.enqueue([has.repeated]),
            "one that replaces": lambda at, has: (
                has.waiting and at.enqueue([factory.new_job(unique_key=has.key, replaces=True)])
            ),
            "one whose key is taken": lambda at, has: has.waiting and at.enqueue([factory.new_job(unique_key=has.key)]),
        },
        "exchange": {
            "of nothing": lambda at, has: has.due and at.exchange("engine"),
            "that wants": lambda at, has: (
                has.waiting and at.exchange("engine", want=Want([(has.line, 5)], 5), lease=factory.LEASE)
            ),
            "that wants of an empty queue": lambda at, has: (
                has.due and at.exchange("engine", want=Want([("nobody's", 5)], 5), lease=factory.LEASE)
            ),
            "that completes": lambda at, has: at.exchange("engine", completions=factory.completions_of([has.claim])),
            "that completes what is lost": lambda at, has: (
                (has.claim, has.due)
                and at.exchange("engine", completions=factory.completions_of([has.claim._replace(token=99)]))
            ),
            "that fails": lambda at, has: _settles(
                at, has.running, states.fail(has.running, reason="error", error=factory.ERROR, kind="X")
            ),
            "that retries": lambda at, has: _settles(
                at, has.claim, states.retry(has.claim, reason="error", delay=0, error=factory.ERROR, kind="X")
            ),
            "that notes": lambda at, has: _settles(
                at, has.running, states.note(has.running, ago=None, progress='"p"', lines=((0, "said"),))
            ),
            "that starts": lambda at, has: _settles(at, has.claim, states.start(has.claim, ago=0)),
            "that hands back": lambda at, has: _settles(at, has.claim, states.hand_back(has.claim)),
            "with followers": lambda at, has: _settles(at, has.claim, states.complete("1"), [has.new]),
            "of all together": lambda at, has: (
                has.waiting
                and at.exchange(
                    "engine",
                    completions=factory.completions_of([has.claim]),
                    outcomes=[factory.outcome_of(has.running, states.snooze(has.running, delay=0))],
                    want=Want([(has.line, 5), (has.room, 5)], 5),
                    lease=factory.LEASE,
                    freed=[has.room],
                )
            ),
        },
        "renew": {
            "a claim": lambda at, has: at.renew("engine", [(has.claim.ref, has.claim.token)], lease=factory.LEASE),
            "several": lambda at, has: at.renew(
                "engine", [(one.ref, one.token) for one in (has.running, has.claim)], lease=factory.LEASE
            ),
        },
        "let_in": {"of a key with room": lambda at, has: has.room and at.let_in(10)},
        "unpark": {"of a name": lambda at, has: at.unpark([has.parked.name])},
        "release_dependents": {"of a job": lambda at, has: factory.release(at, has.dependent)},
        "apply_by_operator": {
            "cancel": lambda at, has: at.apply_by_operator(has.waiting, states.cancel_waiting(reason="canceled")),
            "ask to cancel": lambda at, has: at.apply_by_operator(
                has.claim.id, states.ask_to_cancel(factory.row_of(at, has.claim.id), reason="too late")
            ),
            "snooze": lambda at, has: at.apply_by_operator(
                has.waiting, states.snooze_waiting(factory.row_of(at, has.waiting), delay=micros(60))
            ),
        },
        "prune": {
            "by age": lambda at, has: (
                has.ended and at.prune(states=["completed"], finished_before=None, age=0, limit=10)
            ),
            "by an instant": lambda at, has: (
                has.ended and at.prune(states=["completed"], finished_before=has.now + micros(5), age=None, limit=10)
            ),
        },
        "delete": {"an ended job": lambda at, has: at.delete([has.ended])},
        "write_record": {
            **{str(kind): _writes_new(kind) for kind in RecordKind},
            "over another": lambda at, has: at.write_record(RecordKind.SCHEDULE, has.record, '{"n": 1}'),
            "only if absent": lambda at, has: at.write_record(RecordKind.SCHEDULE, "another", "{}", expect=0),
        },
        "remove_record": {"of an engine": lambda at, has: at.remove_record(RecordKind.ENGINE, has.record)},
        "put": {
            "as it is": lambda at, has: at.put(has.whole),
            "a new one": lambda at, has: at.put(
                [WholeJob(has.whole[0].row._replace(id=factory.new_id(), queue="unknown"), [], [])]
            ),
        },
        "put_once_keys": {
            "a new one": lambda at, has: at.put_once_keys([OnceKey("mine", has.ended, has.now + micros(60))])
        },
        "erase": {"an ended job": lambda at, has: at.erase([has.ended])},
    }
)
"""Every verb that writes, in each form in which it has something to do, with what it asks for of the stock."""

READS: Mapping[str, Callable[[Backend, Stock], object]] = MappingProxyType(
    {
        "check_schema": lambda at, has: at.check_schema(),
        "find_held": lambda at, has: [
            claim._replace(ref=b"") for claim in at.find_held(["engine"], lapsed=True, limit=10).claims
        ],
        "dependents": lambda at, has: list(at.dependents(after=None, limit=9)),
        "get": lambda at, has: at.get([has.waiting]),
        "attempts": lambda at, has: at.attempts([has.waiting, has.running.id]),
        "log_lines": lambda at, has: at.log_lines([has.running.id]),
        "ended": lambda at, has: at.ended([has.ended, has.waiting]),
        "list": lambda at, has: at.list(Filter(), limit=5),
        "count": lambda at, has: at.count(Filter()),
        "count_over_time": lambda at, has: list(at.count_over_time(first=has.now, step=micros(60), buckets=3)),
        "tally": lambda at, has: at.tally(),
        "lines": lambda at, has: at.lines(limit=5),
        "usage": lambda at, has: at.usage([has.room], [has.room]),
        "read_records": lambda at, has: [list(at.read_records(kind)) for kind in RecordKind],
        "versions": lambda at, has: [tuple(one) for one in at.versions(after=None, limit=100)],
        "once_keys": lambda at, has: list(at.once_keys(after=None, limit=100)),
        "facts": lambda at, has: at.facts().identity,
        "examine": lambda at, has: bool(at.examine()),
        "waker": lambda at, has: at.waker().close(),
    }
)


def _verbs() -> Iterator[tuple[str, Mapping[str, Write]]]:
    """Every verb of the contract that must be refused, and its forms."""
    for verb in sorted({*VERBS} - READING - NOT_STOPPED):
        assert verb in WRITES, f"nobody has said how `{verb}` writes"
        yield verb, WRITES[verb]


def _writes() -> Iterator[tuple[str, Write]]:
    """Every form of every verb of the contract that must be refused."""
    for verb, forms in _verbs():
        for form, write in forms.items():
            yield f"{verb} {form}", write


def _refused(write: Callable[[], object], what: str) -> None:
    try:
        answer = write()
    except StoreMovedError:
        return
    raise AssertionError(f"{what} was not refused by a sealed store: {answer!r}")


# ------------------------------------------------------------------ what it stops, and what not


def check_a_sealed_store_refuses_every_write_and_stays_as_it_was(harness: Harness) -> None:
    """Each verb that writes raises `StoreMovedError` in each of its forms, and nothing that can be seen changes."""
    backend = harness.ready()
    has = Stock(backend, harness.clock).made()
    backend.seal(WORD)
    before = everything_in(backend)
    for verb, forms in _verbs():
        for form, write in forms.items():
            _refused(partial(write, backend, has), f"{verb} {form}")
        # All that can be seen is many reads: after each verb, as none of its forms takes back what another has done.
        after = everything_in(backend)
        for seen, expected in before.items():
            assert after[seen] == expected, f"{verb} ({', '.join(forms)}) changed what is seen of it: {seen}"
    harness.close()


def check_every_backend_on_a_sealed_store_is_refused(harness: Harness) -> None:
    """Those that were open and at work when it was sealed, those that had done nothing yet, and later ones."""
    sealer, busy, idle = harness.ready(), harness.open(), harness.open()
    has = Stock(busy, harness.clock).made()
    sealer.seal(WORD)
    late = harness.open()
    for what, write in _writes():
        for backend in (busy, idle, late):
            _refused(partial(write, backend, has), what)
    harness.close()


def check_reading_a_sealed_store_goes_on(harness: Harness) -> None:
    """Every verb that only reads answers as it did before, on backends old and new."""
    backend = harness.ready()
    has = Stock(backend, harness.clock).made()
    assert set(READS) == READING
    before = {verb: read(backend, has) for verb, read in READS.items()}
    backend.seal(WORD)
    for at in (backend, harness.open()):
        for verb, read in READS.items():
            assert read(at, has) == before[verb], verb
    harness.close()


def check_an_unsealed_store_refuses_nothing(harness: Harness) -> None:
    """What the seal stops does happen where there is none: each form of each verb, on a stock of its own."""
    backend = harness.ready()
    for what, write in _writes():
        try:
            write(backend, Stock(backend, harness.clock))
        except StoreMovedError as error:
            raise AssertionError(f"{what} is refused by a store that nobody sealed") from error
    harness.close()


def check_a_store_tells_its_seal(harness: Harness) -> None:
    """`facts` gives the word to everybody; a store in use has none, and an empty word is one too."""
    backend, other = harness.ready(), harness.open()
    assert backend.facts().seal is None
    for word in (WORD, "another é 😀", ""):
        backend.seal(word)
        assert (backend.facts().seal, other.facts().seal) == (word, word)
        _refused(partial(other.enqueue, [factory.new_job()]), f"sealed with {word!r}: enqueue")
    backend.seal(None)
    assert (backend.facts().seal, other.facts().seal) == (None, None)
    harness.close()


def check_a_seal_outlasts_every_backend(harness: Harness) -> None:
    """It is the store's, not that of whoever set it: closed and opened again the store is sealed as before."""
    first = harness.ready()
    claim = factory.claimed_job(first)
    first.seal(WORD)
    first.close()
    again = harness.open()
    assert again.facts().seal == WORD
    _refused(partial(again.enqueue, [factory.new_job()]), "enqueue")
    again.seal(None)
    assert factory.complete(harness.open(), claim) == []
    harness.close()


def check_an_opened_store_is_as_it_was_before_its_seal(harness: Harness) -> None:
    """After `seal(None)` everything goes on: claims are their owners', keys guard, what waits is claimed."""
    backend, other = harness.ready(), harness.open()
    every_kind(backend, harness.clock)
    claim = factory.claimed_job(backend)
    before = everything_in(backend)
    for _ in range(2):
        backend.seal(WORD)
        _refused(partial(factory.complete, other, claim), "complete")
        backend.seal(None)
    assert everything_in(other) == before
    backend.seal(None)  # one that is open is no error
    assert backend.renew("engine", [(claim.ref, claim.token)], lease=factory.LEASE) == []
    assert factory.complete(other, claim) == []
    assert other.enqueue([factory.new_job(unique_key="unique waiting")])[0].fate == "key_taken"
    assert factory.settle(other, factory.claimed_job(backend), states.complete("1"), then=[factory.new_job()]) == []
    harness.close()


def check_what_no_seal_stops(harness: Harness) -> None:
    """A sealed store can be checked, migrated and emptied, and is sealed all the same; another store is not."""
    backend, other = harness.ready(), harness.open()
    factory.enqueue(backend)
    backend.seal(WORD)
    backend.check_schema()
    assert other.migrate() == []
    other.truncate()
    assert other.count(Filter()) == {}
    assert backend.facts().seal == WORD
    _refused(partial(other.enqueue, [factory.new_job()]), "enqueue")
    stranger = harness.fresh()
    factory.enqueue(stranger.ready())
    stranger.close()
    harness.close()


def check_a_migration_of_a_sealed_store_goes_through(harness: Harness) -> None:
    """Down by one and up again under a seal; opened after it, the store is in use like any other."""
    backend = harness.ready()
    backend.seal(WORD)
    version = backend.rollback()
    assert version is not None
    assert backend.migrate() == [version]
    backend.seal(None)
    assert backend.facts().seal is None
    assert factory.complete(backend, factory.claimed_job(backend)) == []
    harness.close()


# ------------------------------------------------------------------ at once with others


class _Race:
    """Writers that go on until they are told that the store has moved, and what they were answered."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.completed: list[bytes] = []
        self.beat = 0
        self.sealed: dict[str, object] = {}
        self._is_on = threading.Event()

    def _note(self) -> None:
        if len(self.stored) >= 20 and len(self.completed) >= 10:
            self._is_on.set()

    def produce(self, at: Backend) -> None:
        jobs = [factory.new_job(queue="new", unique_key=factory.new_id().hex()) for _ in range(2)]
        at.enqueue(jobs)
        self.stored += [job.id for job in jobs]
        self._note()

    def work(self, at: Backend) -> None:
        claims = factory.claim_some(at, 2, queues=["work"])
        if not claims:
            factory.enqueue_several(at, 10, queue="work")
        assert factory.complete(at, claims) == []
        self.completed += [claim.id for claim in claims]
        self._note()

    def keep_a_record(self, at: Backend) -> None:
        version = at.write_record(RecordKind.ENGINE, "beat", "{}")
        assert version == self.beat + 1
        self.beat = version

    def seal(self, at: Backend) -> None:
        assert self._is_on.wait(PATIENCE), "the writers are at a stand"
        at.seal(WORD)
        self.sealed = everything_in(at)


def check_what_was_answered_before_the_seal_is_there_and_nothing_after(harness: Harness) -> None:
    """Writers of every sort run on while the store is sealed: it has all that they were told, and gets no more."""
    for _ in range(3):
        fresh = harness.fresh()
        backend = fresh.ready()
        factory.enqueue_several(backend, 60, queue="work")
        race = _Race()
        writers = [race.produce, race.produce, race.work, race.work, race.keep_a_record]
        works = [partial(_until_it_moved, writer, fresh.open()) for writer in writers]
        at_once([*works, partial(race.seal, fresh.open())])
        assert everything_in(backend) == race.sealed, "something was written behind the seal"
        assert set(race.stored) <= set(factory.ids_in(backend))
        rows = factory.rows_of(backend, race.completed)
        assert [rows[job_id].state for job_id in race.completed] == ["completed"] * len(race.completed)
        assert [record.version for record in backend.read_records(RecordKind.ENGINE)] == [race.beat] * bool(race.beat)
        fresh.close()
    harness.close()


def _until_it_moved(write: Callable[[Backend], None], at: Backend) -> None:
    with pytest.raises(StoreMovedError):
        while True:
            write(at)


def check_sealers_at_once_leave_one_word(harness: Harness) -> None:
    """Of several that seal at the same time each is done, one word is left, and nobody can write."""
    backend = harness.ready()
    sealers = [harness.open() for _ in range(4)]
    for _ in range(3):
        at_once([partial(at.seal, f"moved:{place}") for place, at in enumerate(sealers)])
        assert backend.facts().seal in {f"moved:{place}" for place in range(4)}
        _refused(partial(backend.enqueue, [factory.new_job()]), "enqueue")
        at_once([partial(at.seal, None) for at in sealers])
        assert backend.facts().seal is None
        factory.enqueue(backend)
    harness.close()
