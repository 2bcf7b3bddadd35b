"""The stream of what happens to jobs: each change once, by the stamps and records that jobs carry."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands

from helpers.waiting import wait_until
from jobcard import ConfigError, Event, Events, Jobcard, StoreUnavailableError
from jobcard.backends.registry import open_backend
from jobcard.client import events as stream
from jobcard.core import clock, states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed
from jobcard.engine.outcomes import error_text


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add", queue="default")
    def add(a: int = 0) -> int:
        return a

    return add


@pytest.fixture
def events(jobs: Jobcard) -> Iterator[Events]:
    with jobs.events() as events:
        yield events


def told(events: Events) -> list[Event]:
    """What one look finds, at once."""
    found = []
    if events._look():
        while event := events._next():
            found.append(event)
    return found


def states_of(found: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event.state.value, event.attempt) for event in found]


def try_failed(hands: Hands, claim: Claimed, *, delay: int = 0) -> None:
    """A try ended with an error, and the job waits for the next."""
    error = error_text({"attempt": claim.attempt, "kind": "error", "type": "ValueError", "message": "no"})
    hands.end(claim, states.retry(claim, reason="error", delay=delay, error=error, kind="ValueError in add"))


class TestWhatIsTold:
    def test_of_many_large_jobs_it_keeps_the_stamps_only(self, jobs: Jobcard) -> None:
        """A stream that starts long ago does not hold all arguments before it tells the first event."""

        @jobs.job(name="large")
        def large(text: str) -> None: ...

        began = datetime.now(UTC) - timedelta(seconds=5)
        for _ in range(6):
            jobs.enqueue_many([large.call("x" * 100_000) for _ in range(100)])
        tracemalloc.start()
        try:
            with jobs.events(since=began) as events:
                assert next(events).name == "large"
            _now, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 45_000_000, "600 jobs of 100 kB each, two hundred at once"

    def test_the_life_of_a_job(self, jobs: Jobcard, add: Any, hands: Hands, events: Events) -> None:
        """Each state as it comes, with when, whose, and which try."""
        handle = add.enqueue(1)
        (created,) = told(events)
        job = handle.refresh()
        assert created == Event(
            at=job.created_at, job_id=handle.id, name="add", queue="default", state=job.state, attempt=0
        )
        (claim,) = hands.claim()
        assert states_of(told(events)) == [("claimed", 1)]
        hands.end(claim, states.start(claim, ago=0))
        (running,) = told(events)
        assert (running.state, running.attempt, running.at) == ("running", 1, handle.refresh().started_at)
        hands.complete(claim, ago=0)
        (completed,) = told(events)
        assert (completed.state, completed.at, completed.reason) == ("completed", handle.refresh().finished_at, None)
        assert told(events) == []

    def test_what_happened_between_two_looks_is_told_in_order(
        self, jobs: Jobcard, add: Any, hands: Hands, events: Events
    ) -> None:
        """By the stamps, jobs mixed as they were."""
        first, second = add.enqueue(1), add.enqueue(2)
        for claim in hands.claim(2):
            hands.complete(claim, ago=0)
        third = add.enqueue(3)
        found = told(events)
        assert [event.at for event in found] == sorted(event.at for event in found)
        for handle, of_it in ((first, ["waiting", "claimed", "running", "completed"]), (third, ["waiting"])):
            assert sorted(event.state for event in found if event.job_id == handle.id) == sorted(of_it)
        assert len(found) == 9 and {event.job_id for event in found} == {first.id, second.id, third.id}

    def test_ends_say_why(self, jobs: Jobcard, add: Any, hands: Hands, events: Events) -> None:
        """A failure and a cancel have their reason."""
        failing, canceled = add.enqueue(1), add.enqueue(2)
        (claim,) = hands.claim()
        told(events)
        hands.fail(claim, reason="timeout")
        canceled.cancel()
        found = {event.job_id: event for event in told(events)}
        assert (found[failing.id].state, found[failing.id].reason) == ("failed", "timeout")
        assert (found[canceled.id].state, found[canceled.id].reason) == ("canceled", "canceled")
        assert len(found) == 2

    def test_a_failed_try_is_told(self, jobs: Jobcard, add: Any, hands: Hands, events: Events) -> None:
        """Back to waiting, with the number of the try and the kind of its end; and the next try after it."""
        add.enqueue(1)
        (claim,) = hands.claim()
        assert states_of(told(events)) == [("waiting", 0), ("claimed", 1)]
        try_failed(hands, claim)
        (back,) = told(events)
        assert (back.state, back.attempt, back.reason) == ("waiting", 1, "error")
        (claim,) = hands.claim()
        assert states_of(told(events)) == [("claimed", 2)]
        try_failed(hands, claim)
        (claim,) = hands.claim()
        assert states_of(told(events)) == [("waiting", 2), ("claimed", 3)]
        hands.fail(claim)
        assert states_of(told(events)) == [("failed", 3)]
        assert told(events) == []

    def test_tries_between_two_looks_show_through_their_records(
        self, jobs: Jobcard, add: Any, hands: Hands, events: Events
    ) -> None:
        """Their claims left no stamp, their ends did."""
        add.enqueue(1)
        for _ in range(3):
            try_failed(hands, hands.claim()[0])
        hands.complete(hands.claim()[0], ago=0)
        expected = [("waiting", 0), ("waiting", 1), ("waiting", 2), ("waiting", 3)]
        assert states_of(told(events)) == [*expected, ("claimed", 4), ("running", 4), ("completed", 4)]
        assert told(events) == []

    @pytest.mark.parametrize("move", ["snooze", "hand_back", "interrupt"])
    def test_a_job_that_is_put_back_is_told(
        self, jobs: Jobcard, add: Any, hands: Hands, events: Events, move: str
    ) -> None:
        """Also where nothing is recorded of it."""
        add.enqueue(1)
        (claim,) = hands.claim()
        told(events)
        change = {
            "snooze": lambda: states.snooze(claim, delay=0),
            "hand_back": lambda: states.hand_back(claim),
            "interrupt": lambda: states.interrupt(claim, error=error_text({"attempt": 1, "kind": "interrupted"})),
        }[move]()
        hands.end(claim, change)
        (back,) = told(events)
        assert (back.state, back.attempt) == ("waiting", 1)
        assert told(events) == []
        hands.claim()
        assert states_of(told(events)) == [("claimed", 1)]

    def test_a_job_canceled_while_it_waits_for_its_next_try(
        self, jobs: Jobcard, add: Any, hands: Hands, events: Events
    ) -> None:
        """The failed try is told, and the cancel."""
        handle = add.enqueue(1)
        try_failed(hands, hands.claim()[0])
        handle.cancel()
        found = told(events)
        assert [(event.state.value, event.reason) for event in found] == [
            ("waiting", None), ("waiting", "error"), ("canceled", "canceled"),
        ]  # fmt: skip

    def test_a_deleted_job_is_forgotten(self, jobs: Jobcard, add: Any, hands: Hands, events: Events) -> None:
        """It ends for nobody."""
        add.enqueue(1)
        hands.claim()
        told(events)
        jobs.truncate(confirm=True)
        assert told(events) == []
        assert events._known == {}

    def test_a_crowd_is_told_whole(self, jobs: Jobcard, add: Any, hands: Hands, events: Events) -> None:
        """More than one page of the store's answers, each once."""
        handles = jobs.enqueue_many([add.call(number) for number in range(2_500)])
        found = told(events)
        assert [event.job_id for event in found] == [handle.id for handle in handles]
        claims = hands.claim(1_200)
        assert {event.job_id.bytes for event in told(events)} == {claim.id for claim in claims}
        assert told(events) == []


class TestLongStreams:
    """By a clock that stands still until it is moved."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    @pytest.fixture
    def hands(self, url: str, clock: FrozenClock) -> Iterator[Hands]:
        store = open_backend(url, clock=clock)
        store.migrate()
        yield Hands(store)
        store.close()

    @pytest.fixture
    def jobs(self, hands: Hands) -> Iterator[Jobcard]:
        with Jobcard(backend=hands.store) as jobs:
            yield jobs

    def test_nothing_is_told_twice(self, jobs: Jobcard, add: Any, hands: Hands, clock: FrozenClock) -> None:
        """However long after, and whatever else happens to the job."""
        events = jobs.events()
        told(events)
        done, slow, failing, waiting = (add.enqueue(number) for number in range(4))
        first, second, third = hands.claim(3)
        hands.complete(first, ago=0)
        try_failed(hands, third, delay=3600 * 1_000_000)
        found = told(events)
        for _ in range(20):
            clock.advance(1)
            found += told(events)
        hands.end(second, states.start(second, ago=15 * 1_000_000))
        for _ in range(20):
            clock.advance(1)
            found += told(events)
        hands.complete(second, ago=0)
        jobs.run_now(failing.id)
        clock.advance(3600)
        waiting.cancel()
        (again,) = hands.claim()
        for _ in range(5):
            found += told(events)
            clock.advance(1)
        hands.fail(again)
        found += told(events)
        by_job = {
            handle.id: states_of([event for event in found if event.job_id == handle.id])
            for handle in (done, slow, failing, waiting)
        }
        assert by_job == {
            done.id: [("waiting", 0), ("claimed", 1), ("running", 1), ("completed", 1)],
            slow.id: [("waiting", 0), ("claimed", 1), ("running", 1), ("completed", 1)],
            failing.id: [("waiting", 0), ("waiting", 1), ("claimed", 2), ("failed", 2)],
            waiting.id: [("waiting", 0), ("canceled", 0)],
        }
        clock.advance(60)
        told(events)
        assert events._known == {}, "what has ended is not remembered"

    def test_a_retry_by_hand_tells_no_old_try_again(
        self, jobs: Jobcard, add: Any, hands: Hands, clock: FrozenClock
    ) -> None:
        """It shows as the next claim; the tries before it were told when they were."""
        events = jobs.events()
        told(events)
        handle = add.enqueue(1)
        for _ in range(2):
            try_failed(hands, hands.claim()[0])
            clock.advance(0.1)
        hands.fail(hands.claim()[0])
        assert states_of(told(events))[-1] == ("failed", 3)
        clock.advance(60)
        told(events)
        jobs.retry(handle.id)
        clock.advance(60)
        (claim,) = hands.claim()
        assert states_of(told(events)) == [("claimed", 1)]
        clock.advance(0.1)
        try_failed(hands, claim)
        clock.advance(0.1)
        hands.complete(hands.claim()[0], ago=0)
        assert states_of(told(events)) == [("waiting", 1), ("claimed", 2), ("running", 2), ("completed", 2)]

    def test_a_try_that_no_look_saw_is_told_with_the_next(
        self, jobs: Jobcard, add: Any, hands: Hands, clock: FrozenClock
    ) -> None:
        """A job that had waited long began and failed between two looks."""
        events = jobs.events()
        told(events)
        add.enqueue(1)
        told(events)
        clock.advance(60)
        told(events)
        try_failed(hands, hands.claim()[0])
        assert told(events) == []
        clock.advance(1)
        told(events)
        hands.claim()
        assert states_of(told(events)) == [("waiting", 1), ("claimed", 2)]

    def test_the_stores_clock_counts(self, jobs: Jobcard, add: Any, clock: FrozenClock) -> None:
        """Though ours says something else by months."""
        before = add.enqueue(1)
        clock.advance(60)
        events = jobs.events()
        assert told(events) == []
        after = add.enqueue(2)
        (event,) = told(events)
        assert (event.job_id, event.at) == (after.id, after.refresh().created_at)
        assert before.id != after.id


class TestSince:
    def test_from_a_moment_on(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """What happened before is left out, also of a job that went on afterwards."""
        add.enqueue(1)
        (claim,) = hands.claim()
        since = jobs.list(limit=1)[0].claimed_at
        assert since is not None
        hands.complete(claim, ago=0)
        assert {event.state for event in told(jobs.events(since=since))} == {"claimed", "running", "completed"}
        later = since + timedelta(microseconds=1)
        assert "claimed" not in {event.state for event in told(jobs.events(since=later))}
        everything = told(jobs.events(since=datetime(2000, 1, 1, tzinfo=UTC)))
        assert {event.state for event in everything} == {"waiting", "claimed", "running", "completed"}

    def test_it_goes_on_behind_a_cursor(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """In another process too: a cursor is text."""
        jobs.enqueue_many([add.call(number) for number in range(20)])  # all of them at one instant
        for claim in hands.claim(10):
            hands.complete(claim, ago=0)
        start = datetime(2000, 1, 1, tzinfo=UTC)
        everything = told(jobs.events(since=start))
        assert len(everything) == 50
        for place in (0, 7, 19, 20, 33, 49):
            assert told(jobs.events(since=everything[place].cursor)) == everything[place + 1 :]
        events = jobs.events(since=start)
        assert events.cursor is None
        assert [next(events) for _ in range(3)] == everything[:3]
        assert events.cursor == everything[2].cursor
        assert jobs.events(since=events.cursor).cursor == events.cursor

    @pytest.mark.parametrize(
        "since",
        ["", "x", "1-2-3-4", "12", datetime(2030, 1, 1), 5, 1.5, b"x", datetime(1950, 1, 1, tzinfo=UTC),
         "1-" + "a" * 32 + "-0-9", "-1-" + "a" * 32 + "-0-0", "1-" + "A" * 32 + "-0-0"],
        ids=str,
    )  # fmt: skip
    def test_another_since_is_refused(self, jobs: Jobcard, since: Any) -> None:
        """At once, not at the first event."""
        with pytest.raises(ConfigError, match="since"):
            jobs.events(since)


class TestIterating:
    def test_it_waits_for_the_next_event(self, jobs: Jobcard, add: Any, events: Events) -> None:
        """However often it looked in vain."""
        heard: list[Event] = []
        listener = threading.Thread(target=lambda: heard.append(next(events)))
        listener.start()
        wait_until(lambda: events._pause > stream.SHORTEST_PAUSE, "a look in vain")
        handle = add.enqueue(1)
        listener.join(30)
        assert [event.job_id for event in heard] == [handle.id]

    def test_closing_ends_it_at_once(self, jobs: Jobcard, add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """For whoever waits in another thread, and for everything afterwards."""
        monkeypatch.setattr(stream, "LONGEST_PAUSE", 3600)
        monkeypatch.setattr(stream, "_SLOWING", 1e6)
        events = jobs.events()
        heard: list[Event] = []
        listener = threading.Thread(target=lambda: heard.extend(events))
        listener.start()
        wait_until(lambda: events._pause == 3600, "a long pause")
        events.close()
        listener.join(30)
        assert not listener.is_alive() and heard == []
        add.enqueue(1)
        assert list(events) == []
        events.close()

    def test_a_with_block_closes_it(self, jobs: Jobcard, add: Any) -> None:
        """What was not asked for is not given any more."""
        add.enqueue(1)
        with jobs.events(since=datetime(2000, 1, 1, tzinfo=UTC)) as events:
            add.enqueue(2)
            assert next(events).state == "waiting"
        assert list(events) == []

    def test_a_store_that_is_away_for_a_moment_is_waited_for(
        self, jobs: Jobcard, add: Any, events: Events, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Longer than a while is told, and the stream can go on afterwards."""
        told(events)
        with jobs.parts.connection as store:
            backend = store
        away = threading.Event()
        facts = backend.facts

        def may_fail() -> Any:
            if away.is_set():
                raise StoreUnavailableError("not now")
            return facts()

        monkeypatch.setattr(backend, "facts", may_fail)
        away.set()
        handle = add.enqueue(1)
        assert told(events) == []
        monkeypatch.setattr(stream, "_PATIENCE", 0.0)
        with pytest.raises(StoreUnavailableError):
            next(events)
        away.clear()
        assert next(events).job_id == handle.id

    def test_a_closed_client_is_told(self, jobs: Jobcard, events: Events) -> None:
        """Nobody waits for events of a store that was let go of."""
        jobs.close()
        with pytest.raises(ConfigError, match="closed"):
            next(events)


class TestAwaiting:
    def test_events_can_be_awaited(self, jobs: Jobcard, add: Any) -> None:
        """The loop goes on meanwhile."""

        async def listen() -> list[Any]:
            heard = []
            async with jobs.events() as events:
                handles = [await add.enqueue_async(number) for number in range(3)]
                async for event in events:
                    heard.append(event.job_id)
                    if len(heard) == 3:
                        handles.append(await add.enqueue_async(3))
                    if len(heard) == 4:
                        break
            assert [handle.id for handle in handles] == heard
            return [event async for event in events]

        assert asyncio.run(listen()) == []

    def test_closing_wakes_whoever_awaits(self, jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
        """From another task or thread."""
        monkeypatch.setattr(stream, "LONGEST_PAUSE", 3600)
        monkeypatch.setattr(stream, "_SLOWING", 1e6)

        async def listen(close: Any) -> None:
            events = jobs.events()
            task = asyncio.create_task(anext(events, None))  # type: ignore[arg-type]
            await asyncio.to_thread(wait_until, lambda: events._sleepers, "the sleeper")
            await close(events)
            assert await asyncio.wait_for(task, 30) is None
            assert events._sleepers == []

        async def here(events: Events) -> None:
            events.close()

        async def elsewhere(events: Events) -> None:
            await asyncio.to_thread(events.close)

        for close in (here, elsewhere):
            asyncio.run(listen(close))

    def test_whoever_stops_waiting_loses_no_event(self, jobs: Jobcard, add: Any) -> None:
        """An event that was found after its listener was cancelled goes to the next one."""

        async def listen() -> None:
            async with jobs.events() as events:
                for number in range(10):
                    task = asyncio.create_task(anext(events))  # type: ignore[arg-type]
                    await asyncio.sleep(0)
                    handle = await add.enqueue_async(number)
                    task.cancel()
                    try:
                        heard = (await task).job_id
                    except asyncio.CancelledError:
                        heard = (await anext(events)).job_id
                    assert heard == handle.id

        asyncio.run(listen())


def test_a_stamp_is_never_lost_to_rounding() -> None:
    """A cursor keeps the microseconds and the place of its event."""
    at = clock.to_datetime(1_900_000_000_123_456)
    event = Event(at=at, job_id=uuid4(), name="x", queue="q", state=states.JobState.WAITING, attempt=2)
    assert stream._parse(event.cursor) == stream._place(event)
