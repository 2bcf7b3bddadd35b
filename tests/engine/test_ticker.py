"""Engines at their schedules, on a store whose clock stands still: who makes which tick, and which is passed over."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.tickers import FrozenStoreClock, race
from jobcard import Jobcard
from jobcard.backends.base import Backend, Enqueued, Filter, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.core import clock, ids
from jobcard.core.clock import FrozenClock
from jobcard.core.job import NewJob
from jobcard.core.schedule import LATE, Timetable
from jobcard.engine import ticker
from jobcard.engine.store_clock import StoreClock
from jobcard.engine.ticker import Ticker
from jobcard.engine.timetables import declare_schedules
from jobcard.errors import AccessDeniedError, StoreError, StoreFullError, StoreMovedError, StoreUnavailableError

START = 1_800_000_000 * clock.SECOND
assert START % (5 * clock.MINUTE) == 0
FIVE = timedelta(minutes=5)


class Desk:
    """A store, its clock, a client of it, and as many engines as a test wants."""

    def __init__(self) -> None:
        self.clock = FrozenClock(START)
        self.store: Backend = open_backend("sqlite:///:memory:", clock=self.clock)
        self.store.migrate()
        self.jobs = Jobcard(backend=self.store)

        @self.jobs.job(name="send")
        def send(number: int = 0) -> None: ...

        self.send = send
        self._engines = 0

    def engine(self, store: Any = None, **more: Any) -> Ticker:
        self._engines += 1
        return Ticker(store or self.store, f"e{self._engines}", store_clock=FrozenStoreClock(self.clock), **more)

    def schedule(self, name: str = "beat", when: Any = FIVE, **said: Any) -> None:
        self.jobs.schedule(name, when, self.send, **said)

    def made(self, name: str = "beat") -> list[int]:
        """The ticks that became jobs, in minutes from the start."""
        rows = self.store.list(Filter(), limit=1_000).rows
        return sorted((ids.moment_of(row.id) - START) // clock.MINUTE for row in rows if row.schedule_id == name)

    def end_all(self) -> None:
        for job in self.jobs.iterate(state="waiting"):
            self.jobs.cancel(job.id)

    def advance(self, minutes: float) -> None:
        self.clock.advance(60 * minutes)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.jobs.close()


class NoRoom:
    """A store that takes no job while it has an error to say."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self.error: StoreError | None = None

    def enqueue(self, jobs: Sequence[NewJob]) -> Any:
        if self.error is not None:
            raise self.error
        return self._store.enqueue(jobs)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)


def lives(desk: Desk, owner: str) -> None:
    desk.store.write_record(RecordKind.ENGINE, owner, json.dumps({"heartbeat": 5}))


class TestTicks:
    def test_a_tick_is_one_job_of_any_number_of_engines(self, desk: Desk) -> None:
        """Due at the tick, of that schedule, with the call and the options it was given."""
        desk.schedule(args=(7,), queue="mail", tags=["a"], overlap="allow")
        engines = [desk.engine() for _ in range(8)]
        for _ in range(3):
            for engine in engines:
                engine.look()
            desk.advance(5)
        assert [engine.look().made for engine in engines] == [1, *[0] * 7]
        assert desk.made() == [5, 10, 15]
        for job in desk.jobs.iterate():
            assert job.available_at == job.scheduled_for == clock.to_datetime(ids.moment_of(job.id.bytes))
            assert (job.schedule, job.args, job.queue, job.tags) == ("beat", [7], "mail", ("a",))

    def test_engines_look_when_the_next_one_is_due(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """And once a minute, for the store's clock; without schedules not at all."""
        monkeypatch.setattr(ticker.time, "monotonic", lambda: 0.0)
        engine = desk.engine()
        assert engine.look().next_at == float("inf")
        desk.schedule()
        assert engine.look().next_at == 60
        desk.advance(4.5)
        assert engine.look().next_at == 30
        desk.advance(0.5)
        assert engine.look().made == 1

    def test_what_is_not_due_costs_nothing(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Among many schedules only those that are due are seen to."""
        seen: list[str] = []
        true = Timetable.between

        def between(self: Timetable, done: int, now: int) -> Sequence[int]:
            seen.append(self.name)
            return true(self, done, now)

        monkeypatch.setattr(Timetable, "between", between)
        for name, minutes in (("five", 5), ("ten", 10), ("hour", 60)):
            desk.schedule(name, timedelta(minutes=minutes), overlap="allow")
        engine = desk.engine()
        engine.look()
        assert sorted(seen) == ["five", "hour", "ten"]
        seen.clear()
        for _ in range(4):
            desk.advance(2.5)
            engine.look()
        assert sorted(seen) == ["five", "five", "ten"]
        desk.jobs.schedules.pause("hour")
        engine.look()
        desk.jobs.schedules.resume("hour")
        engine.look()
        assert sorted(seen) == ["five", "five", "hour", "ten"]
        assert (desk.made("five"), desk.made("ten")) == ([5, 10], [10])

    def test_an_engine_that_dies_after_the_enqueue(self, desk: Desk) -> None:
        """Another one finds the key taken, says what became of the tick, and goes on."""
        desk.schedule(overlap="allow")
        first, second = desk.engine(_Fragile(desk.store, "write_record")), desk.engine()
        first.look()
        second.look()
        desk.advance(5)
        with pytest.raises(StoreUnavailableError):
            first.look()
        assert second.look().made == 0
        assert desk.made() == [5]
        assert desk.jobs.schedules.get("beat").last_at == clock.to_datetime(START + 5 * clock.MINUTE)

    def test_an_engine_that_was_frozen_makes_nothing_twice(self, desk: Desk) -> None:
        """However late it is: it goes by what it read, and the key of the tick is taken."""
        desk.schedule(overlap="allow")
        others = desk.engine()
        frozen = desk.engine(_Fragile(desk.store, "enqueue", meanwhile=lambda: self._others_go_on(desk, others)))
        frozen.look()
        others.look()
        desk.advance(5)
        frozen.look()
        assert desk.made() == [5, 10]
        desk.jobs.delete_finished(older_than=0)
        desk.end_all()
        frozen.look()
        assert desk.made() == [5, 10]

    @staticmethod
    def _others_go_on(desk: Desk, others: Ticker, first: int = 1) -> None:
        assert others.look().made == first
        desk.advance(5)
        assert others.look().made == 1

    def test_an_engine_that_was_frozen_moves_nothing_back(self, desk: Desk) -> None:
        """What it says of the schedule is dropped when others have gone on: they would see to ticks again."""
        desk.schedule(overlap="allow")
        others = desk.engine()
        frozen = desk.engine(
            _Fragile(desk.store, "write_record", meanwhile=lambda: self._others_go_on(desk, others, 0))
        )
        frozen.look()
        others.look()
        desk.advance(5)
        assert frozen.look().made == 1
        assert desk.jobs.schedules.get("beat").last_at == clock.to_datetime(START + 10 * clock.MINUTE)

    def test_a_frozen_engine_looks_again_before_it_makes_anything(self, desk: Desk) -> None:
        """What others passed over meanwhile, because the job before lived then, is not made after all."""
        desk.schedule()
        others = desk.engine()

        def go_on() -> None:
            assert others.look().made == 0
            desk.end_all()
            desk.advance(1)

        frozen = desk.engine(_Fragile(desk.store, "read_records", RecordKind.TICK, meanwhile=go_on, at_call=2))
        frozen.look()
        others.look()
        desk.advance(5)
        assert others.look().made == 1
        desk.advance(5)
        assert frozen.look().made == 0
        desk.clock.advance(1)
        assert frozen.look().made == 0
        assert desk.made() == [5]

    def test_engines_that_look_in_the_same_moment(self, tmp_path: Path) -> None:
        """Each tick is one job, none is passed over."""
        assert race(tmp_path / "jobs.db", 50) == list(range(1, 51))

    def test_jitter_delays_the_job_alone(self, desk: Desk) -> None:
        """The tick is when it was; all engines agree on the delay."""
        desk.schedule(jitter=60)
        engine = desk.engine()
        engine.look()
        desk.advance(5)
        engine.look()
        [job] = desk.jobs.iterate()
        assert job.scheduled_for == clock.to_datetime(START + 5 * clock.MINUTE)
        assert timedelta(0) < job.available_at - job.scheduled_for <= timedelta(minutes=1)
        assert job.hold == "delay"

    def test_a_queue_that_ages_gives_its_place(self, desk: Desk) -> None:
        """As at any enqueue; what is changed there counts from the next tick on."""
        desk.jobs.queues.create("mail", ageing=2)
        desk.schedule(queue="mail", priority=3, overlap="allow")
        engine = desk.engine()
        engine.look()
        desk.advance(5)
        engine.look()
        [row] = desk.store.list(Filter(), limit=5).rows
        assert (row.rank, row.order_at) == (0, row.available_at - 6 * clock.SECOND)
        desk.jobs.queues.update("mail", ageing=None)
        engine.settings_changed()
        desk.advance(5)
        engine.look()
        newest = desk.store.list(Filter(), limit=5).rows[0]
        assert (newest.rank, newest.order_at) == (-3, newest.available_at)


class _Fragile:
    """A store that is away when a verb is called, or where something happens in the middle of that call.

    first: only when this is its first argument. at_call: the call that it happens in, counted from 1.
    """

    def __init__(
        self, store: Backend, verb: str, first: object = None, *, meanwhile: Any = None, at_call: int = 1
    ) -> None:
        self._store, self._verb, self._first, self._meanwhile, self._left = store, verb, first, meanwhile, at_call

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name != self._verb or self._first not in (None, args[0]):
                return real(*args, **kwargs)
            self._left -= 1
            if self._meanwhile is None:
                raise StoreUnavailableError("away")
            if self._first is None and self._left == 0:  # a write: it arrives late
                self._meanwhile()
            answer = real(*args, **kwargs)
            if self._first is not None and self._left == 0:  # a read: its answer arrives late
                self._meanwhile()
            return answer

        return call


class _Watched:
    """A store whose steps at ticks are written down: how many jobs come at once, up to which second it is done."""

    def __init__(self, store: Backend, steps: list[tuple[str, int]]) -> None:
        self._store, self._steps = store, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self._steps.append(("jobs", len(jobs)))
        return self._store.enqueue(jobs)

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        self._steps.append(("done", json.loads(value)["done"] // clock.SECOND))
        return self._store.write_record(kind, key, value, expect=expect)


class TestMissed:
    @pytest.mark.parametrize(("missed", "made"), [("once", [30]), ("skip", []), (1, [30]), (3, [20, 25, 30])])
    def test_what_nobody_saw_to(self, missed: Any, made: list[int], desk: Desk) -> None:
        """The last one, none, or so many; what comes due from then on is made in any case."""
        desk.schedule(missed=missed, overlap="allow")
        desk.advance(31)
        engine = desk.engine()
        assert engine.look().made == len(made)
        assert desk.made() == made
        desk.advance(4)
        assert engine.look().made == 1
        assert desk.made() == [*made, 35]

    def test_a_thousand_and_more_at_once(self, desk: Desk) -> None:
        """They go to the store in steps it can take, and after each it is written how far the schedule is."""
        desk.schedule(when=timedelta(seconds=1), missed=1_000, overlap="allow")
        steps: list[tuple[str, int]] = []
        engine = desk.engine(_Watched(desk.store, steps))
        engine.look()
        desk.clock.advance(1_500)
        assert engine.look().made == 1_010
        end = START // clock.SECOND + 1_500
        assert steps == [("jobs", 1_000), ("done", end - 10), ("jobs", 10), ("done", end)]

    def test_a_month_of_seconds(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """Of all that were missed only those are looked at that could be wanted."""
        desk.schedule(when="* * * * * *", missed=3, overlap="allow", window=timedelta(days=31))
        desk.clock.advance(31 * 86_400)
        assert desk.engine().look().made == 3
        assert "schedule.missed name=beat count=1997 or more" in caplog.text

    def test_a_slow_look_does_not_make_the_next_ones_late(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each schedule is seen to by the time it then is; and what was too slow is seen to a little later."""
        for name in ("a", "b"):
            desk.schedule(name, overlap="allow")
        engine = desk.engine(_Fragile(desk.store, "enqueue", meanwhile=lambda: desk.clock.advance(30)))
        engine.look()
        desk.advance(5)
        assert engine.look().made == 2

        desk.advance(5)
        true = Timetable.between

        def between(self: Timetable, done: int, now: int) -> Sequence[int]:
            desk.clock.advance(30)
            return true(self, done, now)

        monkeypatch.setattr(Timetable, "between", between)
        monkeypatch.setattr(ticker.time, "monotonic", lambda: 0.0)
        looked = engine.look()
        assert looked.made == 0
        assert -60 < looked.next_at <= 0.5
        monkeypatch.setattr(Timetable, "between", true)
        desk.clock.advance(1)
        assert engine.look().made == 2

    def test_what_lies_behind_the_window_is_gone(self, desk: Desk) -> None:
        """An hour, unless the schedule says otherwise."""
        desk.schedule("usual", timedelta(hours=4), overlap="allow")
        desk.schedule("long", timedelta(hours=4), overlap="allow", window=timedelta(hours=3))
        desk.advance(240 - START // clock.MINUTE % 240 + 120)
        desk.engine().look()
        assert (len(desk.made("usual")), len(desk.made("long"))) == (0, 1)

    def test_a_new_schedule_has_missed_nothing(self, desk: Desk) -> None:
        """Its ticks count from when it was made."""
        desk.advance(3)
        desk.schedule(missed=100, overlap="allow")
        desk.advance(1)
        desk.engine().look()
        assert desk.made() == []

    def test_an_engine_that_slept_missed_them_too(self, desk: Desk) -> None:
        """It is not the number of the ticks that counts, but that nobody was awake."""
        desk.schedule(overlap="allow")
        engine = desk.engine()
        engine.look()
        desk.advance(31)
        assert engine.look().made == 1
        assert desk.made() == [30]

    def test_one_that_is_a_little_late_misses_none(self, desk: Desk) -> None:
        """Whoever was there makes every tick of the last ten seconds."""
        desk.schedule(when=timedelta(seconds=1), missed="skip", overlap="allow")
        engine = desk.engine()
        engine.look()
        desk.clock.advance(8)
        assert engine.look().made == 8

    def test_a_newcomer_leaves_to_others_what_was_due_before_it_came(self, desk: Desk) -> None:
        """Who is a little late must not lose a tick to one who takes it for missed."""
        desk.schedule(when=timedelta(seconds=1), overlap="allow")
        slow = desk.engine()
        lives(desk, "e1")
        slow.look()
        desk.clock.advance(3)
        newcomer = desk.engine()
        assert newcomer.look().made == 0
        desk.clock.advance(1)
        assert newcomer.look().made == 0
        assert slow.look().made == 4
        desk.clock.advance(1)
        assert newcomer.look().made == 1

    def test_but_not_for_long(self, desk: Desk) -> None:
        """When the others do nothing they are as good as dead."""
        desk.schedule(when=timedelta(seconds=1), overlap="allow")
        lives(desk, "other")
        desk.clock.advance(3)
        newcomer = desk.engine()
        assert newcomer.look().made == 0
        desk.clock.advance(LATE / clock.SECOND)
        lives(desk, "other")
        assert newcomer.look().made == 11  # the last one that was missed, and ten since

    def test_nobody_waits_for_the_dead(self, desk: Desk) -> None:
        """Those its keeper knows to be dead, and those that have not been heard of lately."""
        desk.schedule(when=timedelta(seconds=1), overlap="allow")
        lives(desk, "silent")
        desk.clock.advance(16)
        lives(desk, "killed")
        desk.store.write_record(RecordKind.ENGINE, "broken", "{")
        assert desk.engine(dead_owners=["killed"]).look().made == 1


class TestAClockThatWasAhead:
    """The store's clock was set forward by mistake, by days, and is right again."""

    AHEAD = 3 * 86_400

    def test_a_schedule_goes_on_at_once(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """For the engine that saw it, and for one that is started now; what was made is not made again."""
        desk.schedule(overlap="allow", missed=100, window=timedelta(days=7))
        engine = desk.engine()
        engine.look()
        desk.advance(5)
        assert engine.look().made == 1
        desk.clock.step(self.AHEAD)
        assert engine.look().made == 101  # those that were missed, and the one of this moment
        desk.clock.step(-self.AHEAD)
        made = desk.made()
        for each in (engine, desk.engine()):
            assert each.look().made == 0
            desk.clock.advance(1)
            assert each.look().made == 0
        assert desk.made() == made
        assert caplog.text.count("its ticks count from now on") == 1
        desk.advance(5)
        assert engine.look().made == 1
        assert desk.made() == [5, 10, *made[1:]]
        assert desk.jobs.schedules.get("beat").last_at == clock.to_datetime(START + 10 * clock.MINUTE)

    def test_one_that_was_said_meanwhile(self, desk: Desk) -> None:
        """Its ticks count from then on: that is, from now."""
        desk.clock.step(self.AHEAD)
        desk.schedule(overlap="allow")
        desk.clock.step(-self.AHEAD)
        engine = desk.engine()
        engine.look()
        desk.advance(1)
        engine.look()
        desk.advance(5)
        assert engine.look().made == 1
        assert desk.made() == [5]

    def test_an_engine_that_was_started_meanwhile(self, desk: Desk) -> None:
        """It was there from the first tick on."""
        desk.schedule(when=timedelta(seconds=1), missed="skip", overlap="allow")
        desk.clock.step(self.AHEAD)
        engine = desk.engine()
        engine.look()
        desk.clock.step(-self.AHEAD)
        for _ in range(2):
            engine.look()
            desk.clock.advance(1)
        desk.clock.advance(3)
        assert engine.look().made == 4

    def test_a_little_is_nothing(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """Clocks are set by seconds every day, and what is done is done."""
        desk.schedule(when=timedelta(seconds=1), overlap="allow")
        engine = desk.engine()
        engine.look()
        desk.clock.advance(5)
        assert engine.look().made == 5
        desk.clock.step(-3)
        for made in (0, 0, 0, 1):
            desk.clock.advance(1)
            assert engine.look().made == made
        assert not caplog.records


class TestOverlap:
    def test_a_tick_passes_while_the_job_before_lives(self, desk: Desk) -> None:
        """Waiting, at work, or to be tried again: any of them."""
        desk.schedule()
        engine = desk.engine()
        for _ in range(3):
            engine.look()
            desk.advance(5)
        engine.look()
        assert desk.made() == [5]
        assert desk.jobs.schedules.get("beat").last_at == clock.to_datetime(START + 5 * clock.MINUTE)
        desk.end_all()
        desk.advance(5)
        engine.look()
        assert desk.made() == [5, 20]

    def test_each_schedule_is_apart(self, desk: Desk) -> None:
        """Two of the same job do not keep each other out."""
        desk.schedule("a")
        desk.schedule("b")
        engine = desk.engine()
        engine.look()
        desk.advance(5)
        assert engine.look().made == 2

    def test_what_runs_beside_the_ticks_keeps_none_back(self, desk: Desk) -> None:
        """Nor is it kept back."""
        desk.schedule()
        engine = desk.engine()
        engine.look()
        beside = [desk.jobs.schedules.run_now("beat") for _ in range(2)]
        desk.advance(5)
        assert engine.look().made == 1
        beside.append(desk.jobs.schedules.run_now("beat"))
        assert {handle.refresh().schedule for handle in beside} == {"beat"}
        for handle in beside:
            job = handle.refresh()
            assert job.scheduled_for == job.available_at
        assert desk.jobs.count(state="waiting").total == 4


class TestPause:
    def test_paused_ticks_are_not_made_up_for(self, desk: Desk) -> None:
        """Whatever is said about missed ones."""
        desk.schedule(missed=100, overlap="allow")
        engine = desk.engine()
        engine.look()
        assert desk.jobs.schedules.pause("beat").next_at is None
        desk.advance(12)
        assert engine.look().made == 0
        resumed = desk.jobs.schedules.resume("beat")
        assert resumed.next_at == clock.to_datetime(START + 15 * clock.MINUTE)
        assert engine.look().made == 0
        desk.advance(3)
        assert engine.look().made == 1
        assert desk.made() == [15]

    def test_a_removed_one_is_gone(self, desk: Desk) -> None:
        """And one of the same name begins anew."""
        desk.schedule(missed=100, overlap="allow")
        engine = desk.engine()
        desk.advance(5)
        engine.look()
        desk.jobs.schedules.remove("beat")
        desk.advance(5)
        assert engine.look().made == 0
        desk.schedule(when=timedelta(minutes=1))
        desk.advance(1)
        assert engine.look().made == 1
        assert desk.made() == [5, 11]


class TestBrokenOnes:
    def test_what_cannot_be_read_harms_no_other(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """It is told once."""
        desk.schedule("good", overlap="allow")
        desk.schedule("worn", overlap="allow")
        [text] = [record.value for record in desk.store.read_records(RecordKind.SCHEDULE) if record.key == "worn"]
        for name, broken in {
            "a-cron": text.replace("300000000", '"61 * * * *"'),
            "a-zone": text.replace('"UTC"', '"Mars/Base"').replace("300000000", '"@daily"'),
            "b-none": "{",
            "z-name": text.replace('"send"', '"a b"'),
        }.items():
            assert broken != text
            desk.store.write_record(RecordKind.SCHEDULE, name, broken)
        engine = desk.engine()
        engine.look()
        desk.advance(5)
        assert engine.look().made == 2
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert sorted(line.split()[1] for line in told) == ["a-cron", "a-zone", "b-none", "z-name"]
        assert [schedule.name for schedule in desk.jobs.schedules.list()] == ["good", "worn"]

    def test_a_job_that_the_store_refuses_harms_no_other(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """The same."""
        desk.schedule("good", overlap="allow")
        desk.schedule("huge", overlap="allow")
        [record] = [r for r in desk.store.read_records(RecordKind.SCHEDULE) if r.key == "huge"]
        document = json.loads(record.value)
        document["job"]["priority"] = 10**30
        desk.store.write_record(RecordKind.SCHEDULE, "huge", json.dumps(document))
        engine = desk.engine()
        engine.look()
        for _ in range(3):
            desk.advance(5)
            assert engine.look().made == 1
        assert desk.made("good") == [5, 10, 15]
        assert len([record for record in caplog.records if "schedule huge" in record.getMessage()]) == 1

    @pytest.mark.parametrize("error", [StoreFullError, AccessDeniedError, StoreMovedError])
    def test_a_store_that_takes_nothing_is_asked_again(self, error: type[StoreError], desk: Desk) -> None:
        """No schedule is to blame for a full disk: the tick is seen to at the next look, not passed over."""
        desk.schedule()
        store = NoRoom(desk.store)
        engine = desk.engine(store)
        engine.look()
        desk.advance(5)
        store.error = error("no room")
        with pytest.raises(error):
            engine.look()
        store.error = None
        assert engine.look().made == 1
        assert desk.made() == [5]

    def test_a_name_that_no_worker_here_knows_is_told(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        """The job is made all the same: another engine may know it, and until then it is parked."""
        desk.schedule()
        engine = desk.engine(names=lambda: ["other"])
        engine.look()
        desk.advance(5)
        assert engine.look().made == 1
        assert [
            r.getMessage() for r in caplog.records if "no job is registered here under the name send" in r.getMessage()
        ]


class TestDeclared:
    @staticmethod
    def code(when: Any = FIVE, **said: Any) -> Sequence[Timetable]:
        """What a version of the code declares."""
        other = Desk()
        other.schedule(when=when, **said)
        other.jobs.close()
        return other.jobs.parts.schedules.declared

    def test_what_is_new_or_changed_is_written(self, desk: Desk) -> None:
        """And what is not, is not: what was changed at run time since stays."""
        declare_schedules(desk.store, self.code(args=(1,)))
        assert desk.jobs.schedules.get("beat").args == [1]
        desk.schedule(args=(5,))
        declare_schedules(desk.store, self.code(args=(1,)))
        assert desk.jobs.schedules.get("beat").args == [5]
        declare_schedules(desk.store, self.code(args=(2,)))
        assert desk.jobs.schedules.get("beat").args == [2]

    def test_a_pause_stays(self, desk: Desk) -> None:
        """The operator's word counts for more than a new version of the code."""
        declare_schedules(desk.store, self.code())
        desk.jobs.schedules.pause("beat")
        declare_schedules(desk.store, self.code(when="@daily"))
        found = desk.jobs.schedules.get("beat")
        assert (found.when, found.paused) == ("@daily", True)

    def test_what_code_says_no_more_stays(self, desk: Desk) -> None:
        """Another application may live by it, or an older engine beside this one."""
        desk.schedule("other")
        declare_schedules(desk.store, self.code())
        declare_schedules(desk.store, [])
        assert [schedule.name for schedule in desk.jobs.schedules.list()] == ["beat", "other"]

    def test_what_cannot_be_read_is_written_anew(self, desk: Desk) -> None:
        """Code knows what it should be."""
        desk.store.write_record(RecordKind.SCHEDULE, "beat", "{")
        declare_schedules(desk.store, self.code())
        assert desk.jobs.schedules.get("beat").when == FIVE

    def test_missed_ticks_are_missed_over_a_restart_too(self, desk: Desk) -> None:
        """Declaring the same again does not begin anew; other times do."""
        declare_schedules(desk.store, self.code(overlap="allow"))
        desk.advance(31)
        declare_schedules(desk.store, self.code(overlap="allow"))
        desk.engine().look()
        assert desk.made() == [30]
        desk.advance(31)
        declare_schedules(desk.store, self.code(overlap="allow", when=timedelta(minutes=10)))
        desk.engine().look()
        assert desk.made() == [30]


class TestStoreClock:
    def test_it_is_asked_now_and_then(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once a minute, and at once when this host's clocks have come apart."""
        here = {"monotonic": 50.0, "time": 5.0}
        monkeypatch.setattr(ticker.time, "monotonic", lambda: here["monotonic"])
        monkeypatch.setattr(ticker.time, "time", lambda: here["time"])
        store_clock = StoreClock(lambda: desk.store.facts().now)
        assert store_clock.now() == START
        desk.clock.advance(3_600)  # nobody here can know
        here["monotonic"] += 30
        here["time"] += 30
        assert store_clock.now() == START + 30 * clock.SECOND
        assert not store_clock.is_doubtful()
        here["time"] += 3_600
        assert store_clock.is_doubtful()
        assert store_clock.now() == START + 3_600 * clock.SECOND
        assert not store_clock.is_doubtful()
        desk.clock.advance(90)
        here["monotonic"] += 61
        here["time"] += 61
        assert store_clock.now() == START + 3_690 * clock.SECOND

    def test_this_hosts_time_of_day_is_not_asked(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """An engine whose host is a day ahead makes no tick early."""
        monkeypatch.setattr(ticker.time, "time", lambda: 4e9)
        desk.schedule()
        engine = Ticker(desk.store, "e1")
        assert engine.look().made == 0
        desk.advance(5)
        assert Ticker(desk.store, "e2").look().made == 1
