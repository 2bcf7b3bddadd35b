"""`after=` as an application writes it: who may be waited for, what is stored, and what is refused."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hands import Hands

from jobcard import (
    ConfigError,
    Dependency,
    Ended,
    Enqueuing,
    InvalidJobError,
    Jobcard,
    Unique,
)
from jobcard.core.ids import follow_up_id
from jobcard.engine.dependents import see_to_all

COMPLETED, ENDED = "completed", "ended"

ANY_ID = UUID(int=7)


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add")
    def add(a: int = 1) -> int:
        return a

    return add


def job(handle: Any, until: str = COMPLETED) -> Dependency:
    return Dependency("job", handle.id, until)


def batch(of: Any, until: str = COMPLETED) -> Dependency:
    return Dependency("batch", of.id, until)


def waits_for(handle: Any) -> tuple[Dependency, ...]:
    """What a stored job waits for; it is held as long."""
    stored = handle.refresh()
    assert (stored.state, stored.hold) == ("waiting", "after" if stored.after else None)
    after: tuple[Dependency, ...] = stored.after
    return after


class TestWhoMayBeWaitedFor:
    def test_handles_ids_jobs_batches_and_their_ends(self, jobs: Jobcard, add: Any) -> None:
        """In the order given; a bare id is a job's."""
        one, two, three, four = (add.enqueue(n) for n in range(4))
        with jobs.batch() as b:
            b.enqueue(add.call())
        last = add.options(
            after=[one, two.id, str(three.id), four.refresh(), b, Ended(jobs.handle(uuid4())), Ended(b.id)]
        ).enqueue()
        *found, first_end, second_end = waits_for(last)
        assert found == [job(one), job(two), job(three), job(four), batch(b)]
        assert (first_end.kind, first_end.until) == ("job", ENDED)
        assert second_end == Dependency("job", b.id, ENDED)

    @pytest.mark.parametrize("given", ["handle", "id", "text", "job", "batch", "ended", "dependency"])
    def test_one_alone_needs_no_list(self, jobs: Jobcard, add: Any, given: str) -> None:
        """Each kind stands for itself."""
        first = add.enqueue()
        with jobs.batch() as b:
            pass
        after, expected = {
            "handle": (first, job(first)),
            "id": (first.id, job(first)),
            "text": (str(first.id), job(first)),
            "job": (first.refresh(), job(first)),
            "batch": (b, batch(b)),
            "ended": (Ended(first), job(first, ENDED)),
            "dependency": (batch(first, ENDED), batch(first, ENDED)),
        }[given]
        assert waits_for(add.options(after=after).enqueue()) == (expected,)

    def test_any_iterable_of_them_will_do(self, add: Any) -> None:
        """As the annotation says: what can be walked through once is enough."""
        handles = [add.enqueue(n) for n in range(3)]
        by_name = dict(enumerate(handles))
        for several in (
            handles,
            tuple(handles),
            iter(handles),
            (handle for handle in handles),
            map(jobs_id, handles),
            deque(handles),
            by_name.values(),
        ):
            assert waits_for(add.options(after=several).enqueue()) == tuple(map(job, handles))
        for unordered in (set(handles), frozenset(handles)):
            assert set(waits_for(add.options(after=unordered).enqueue())) == set(map(job, handles))

    def test_what_a_job_waited_for_another_can_wait_for(self, jobs: Jobcard, add: Any) -> None:
        """`Job.after` may be given again as it is; so may a batch of which only the id is known."""
        first = add.enqueue()
        with jobs.batch() as b:
            b.enqueue(add.call())
        held = add.options(after=[first, Ended(b)]).enqueue()
        again = add.options(after=held.refresh().after).enqueue()
        assert waits_for(again) == waits_for(held) == (job(first), batch(b, ENDED))
        assert waits_for(add.options(after=[Ended(batch(b)), held]).enqueue()) == (batch(b, ENDED), job(held))

    def test_nothing_to_wait_for_is_nothing(self, add: Any) -> None:
        """An empty list, and None, hold nobody back."""
        for after in ([], (), set(), iter(()), None):
            handle = add.options(after=after).enqueue()
            assert waits_for(handle) == () and handle.refresh().hold is None

    def test_twice_the_same_is_once(self, add: Any) -> None:
        """And whoever waits for success need not wait for the end, too."""
        first, second = add.enqueue(), add.enqueue()
        many = [first, first.id, Ended(second), str(first.id), Ended(first), Ended(second.id)]
        assert waits_for(add.options(after=many).enqueue()) == (job(first), job(second, ENDED))

    def test_a_pickled_handle_is_as_good(self, add: Any) -> None:
        """Only its id is looked at."""
        first = add.enqueue()
        assert waits_for(add.options(after=[pickle.loads(pickle.dumps(first))]).enqueue()) == (job(first),)  # noqa: S301

    def test_a_thousand_may_be_waited_for_and_not_one_more(self, jobs: Jobcard, add: Any) -> None:
        """The way out, a batch, is named."""
        ids = [uuid4() for _ in range(1_001)]
        assert len(waits_for(add.options(after=ids[:1_000]).enqueue())) == 1_000
        assert len(waits_for(add.options(after=[*ids[:1_000], *ids[:1_000]]).enqueue())) == 1_000
        with pytest.raises(InvalidJobError, match=r"1,000 others at most.*batch"):
            add.options(after=ids)
        assert jobs.count().total == 2


def jobs_id(handle: Any) -> UUID:
    found: UUID = handle.id
    return found


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("after", "named"),
        [
            (5, "not int"),
            (True, "not bool"),
            (b"x" * 16, "not bytes"),
            ([b"x" * 16], "not bytes"),
            ("nonsense", "not 'nonsense'"),
            ("", "not ''"),
            (["nonsense"], "not 'nonsense'"),
            ([None], "not NoneType"),
            ([5], "not int"),
            ([[]], "not list"),
            ({}, "not dict"),
            ({ANY_ID: 1}, "not dict"),
            (object(), "not object"),
            ([object()], "not object"),
            (Ended(5), "not int"),
            (Ended(None), "not NoneType"),
            (Ended([ANY_ID]), "not list"),
            (Ended(Ended(ANY_ID)), "not Ended"),
            ([str(ANY_ID)[:-1]], "not '"),
            (Dependency("task", ANY_ID, "completed"), "not Dependency"),
            (Dependency("job", ANY_ID, "claimed"), "not Dependency"),
            (Dependency("job", str(ANY_ID), "completed"), "not Dependency"),  # type: ignore[arg-type]
            ("x" * 90, "not 'xxx"),
        ],
        ids=repr,
    )
    def test_what_is_no_job_and_no_batch(self, jobs: Jobcard, add: Any, after: Any, named: str) -> None:
        """Told by its kind, and briefly; nothing is stored."""
        with pytest.raises(InvalidJobError, match=r"^after takes handles or ids of jobs") as caught:
            add.options(after=after)
        assert named in str(caught.value) and len(str(caught.value)) < 200
        with pytest.raises(InvalidJobError):
            jobs.enqueue("add", after=after)
        assert jobs.count().total == 0

    def test_a_job_does_not_wait_for_itself(self, jobs: Jobcard, add: Any) -> None:
        """It would for ever, however its id and what it waits for came together."""
        own, other = uuid4(), uuid4()
        for after in ([own], [other, str(own)], [Ended(own)]):
            with pytest.raises(InvalidJobError, match="waits for itself"):
                add.options(id=own, after=after)
            with pytest.raises(InvalidJobError, match="waits for itself"):
                add.options(after=after).options(id=own)
            with pytest.raises(InvalidJobError, match="waits for itself"):
                jobs.enqueue("add", id=own, after=after)
        assert waits_for(add.options(id=own, after=other).enqueue())

    def test_a_job_does_not_wait_for_its_own_batch(self, jobs: Jobcard, add: Any) -> None:
        """The batch would wait for it in turn; for another batch it may."""
        with jobs.batch() as b, jobs.batch() as other:
            pass
        for after in (b, Ended(b), [other, b]):
            with pytest.raises(InvalidJobError, match="waits for its own batch"):
                add.options(batch=b, after=after)
            with pytest.raises(InvalidJobError, match="waits for its own batch"):
                add.options(after=after).options(batch=b.id)
        assert waits_for(add.options(batch=b, after=other).enqueue()) == (batch(other),)

    def test_a_schedule_waits_for_nobody(self, jobs: Jobcard, add: Any) -> None:
        """Each tick is a job by itself; by function and by name."""
        first = add.enqueue()
        for schedule in (
            lambda: jobs.schedule("nightly", "@daily", add.options(after=first)),
            lambda: jobs.schedule("nightly", "@daily", add, after=first),
            lambda: jobs.schedule("nightly", "@daily", "add", after=[first]),
        ):
            with pytest.raises(ConfigError, match="waits for no other jobs"):
                schedule()
        assert list(jobs.schedules.list()) == []

    def test_a_schedule_makes_no_jobs_of_a_batch(self, jobs: Jobcard, add: Any) -> None:
        """The batch would never be over; the option is refused, not lost."""
        with jobs.batch() as b:
            pass
        for schedule in (
            lambda: jobs.schedule("nightly", "@daily", add.options(batch=b)),
            lambda: jobs.schedule("nightly", "@daily", add, batch=b.id),
            lambda: jobs.schedule("nightly", "@daily", "add", batch=b),
        ):
            with pytest.raises(ConfigError, match="belongs to no batch"):
                schedule()
        jobs.schedule("nightly", "@daily", add, batch=None, after=None)
        assert len(jobs.schedules.list()) == 1

    @pytest.mark.parametrize("wrong", [5, "nonsense", b"x" * 16, object(), [], Ended(ANY_ID)], ids=repr)
    def test_what_is_no_batch(self, jobs: Jobcard, add: Any, wrong: Any) -> None:
        """Where one is to be put into it, and where one is looked for; the handle of a job is none either."""
        handle = add.options(delay=60).enqueue()
        for value in (wrong, handle, handle.refresh()):
            with pytest.raises(InvalidJobError, match=r"^batch takes a batch or its id"):
                add.options(batch=value)
            with pytest.raises(ConfigError, match=r"^batch must be a batch"):
                jobs.count(batch=value)
        assert jobs.count().total == 1


class TestHowItIsStored:
    def test_by_every_way_in(self, jobs: Jobcard, add: Any) -> None:
        """One, many, awaitable, by name, by a name that this code lacks."""
        first = add.enqueue()
        held = add.options(after=first)

        async def awaited() -> list[Any]:
            return [await held.enqueue_async(), *await jobs.enqueue_many_async([held.call(), held.call(2)])]

        for handle in (
            held.enqueue(),
            *jobs.enqueue_many([held.call(n) for n in range(3)]),
            *asyncio.run(awaited()),
            jobs.enqueue("add", after=first),
            jobs.enqueue("elsewhere", strict=False, after=[first.id]),
            add.options(priority=5).options(after=[first]).options(tags=["x"]).enqueue(),
        ):
            assert waits_for(handle) == (job(first),)
        assert jobs.count().total == 11

    def test_what_was_said_last_counts(self, add: Any) -> None:
        """As of all options: another `after=` takes the place of the first, None says nothing, and [] says nobody."""
        first, second = add.enqueue(), add.enqueue()
        held = add.options(after=first)
        assert waits_for(held.options(after=second).enqueue()) == (job(second),)
        assert waits_for(held.options(after=None).enqueue()) == (job(first),)
        assert waits_for(held.options(after=[]).enqueue()) == ()

    def test_a_list_that_changes_later_changes_nothing(self, add: Any) -> None:
        """What it waits for is settled when the option is said."""
        first = add.enqueue()
        several = [first]
        held = add.options(after=several)
        several.clear()
        assert waits_for(held.enqueue()) == (job(first),)

    def test_a_delayed_dependent_waits_for_both(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Its time may come before or after; it is held by the others first."""
        first = add.enqueue()
        at = datetime(2099, 1, 1, tzinfo=UTC)
        late = add.options(after=first, at=at).enqueue()
        assert waits_for(late) and late.refresh().available_at == at
        hands.run(jobs)
        assert see_to_all(hands.store, {}) == [late.id.bytes]
        assert late.refresh().hold == "delay"
        assert hands.claim() == []
        jobs.run_now(late.id)
        assert hands.run(jobs) == 1

    def test_run_now_does_not_help_a_job_that_waits_for_others(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """It is made due and goes on waiting."""
        first = add.options(delay=60).enqueue()
        late = add.options(after=first, delay=60).enqueue()
        assert jobs.run_now(late.id).hold == "after"
        assert hands.claim() == []

    def test_the_same_id_again_is_the_same_job(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """A call that is repeated, because its answer was lost, holds nobody back anew and cancels nobody."""
        first, own = add.enqueue(), uuid4()
        held = add.options(id=own, after=first)
        assert not held.enqueue(5).duplicate
        assert held.enqueue(5).duplicate and jobs.count().total == 2
        hands.run(jobs)
        assert see_to_all(hands.store, {}) == [own.bytes]
        assert held.enqueue(5).duplicate
        assert jobs.get(own).hold is None
        assert hands.run(jobs) == 1
        assert held.enqueue(5).duplicate and jobs.get(own).state == "completed"

    def test_a_unique_dependent_is_the_one_there_is(self, jobs: Jobcard, add: Any) -> None:
        """`return`: it goes on waiting for its own; `replace`: it waits for what the second one says."""
        first, second = add.enqueue(), add.enqueue()
        kept = add.options(unique=Unique(key=lambda a: "kept"), after=first)
        assert kept.options(after=second).enqueue(7).id == kept.enqueue(7).id
        assert waits_for(jobs.handle(kept.enqueue(7).id)) == (job(second),)
        last = add.options(unique=Unique(key=lambda a: "last", on_conflict="replace"), after=first)
        held = last.enqueue(7)
        assert last.options(after=second).enqueue(7).id == held.id
        assert waits_for(held) == (job(second),)
        assert last.options(after=[]).enqueue(7).id == held.id
        assert waits_for(held) == ()

    def test_follow_ups_may_wait_for_others(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Stored with the success of their parent, and held as any other."""
        first = add.options(delay=60).enqueue()
        parent = add.enqueue()
        (claim,) = hands.claim()
        call = add.options(after=[first, parent], batch=uuid4()).call()
        new = jobs.parts.producer.new_follow_up(call, follow_up_id(claim.id, 0), claim.id)
        assert waits_for_text(new.waits_for) == [job(first), job(parent)]

    def test_a_job_enqueued_anew_waits_for_nobody(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Cancelled for what it waited for, an operator's retry runs it, and it says still what it had waited for."""
        first = add.enqueue()
        held = add.options(after=first).enqueue()
        first.cancel()
        assert see_to_all(hands.store, {}) == []
        canceled = held.refresh()
        assert (canceled.state, canceled.reason) == ("canceled", "dependency")
        assert canceled.error["kind"] == "cancel"
        assert canceled.error["message"] == f"it waited for the success of job {first.id}, which was canceled"
        again = jobs.retry(held.id)
        assert (again.state, again.hold, again.after) == ("waiting", None, (job(first),))
        assert see_to_all(hands.store, {}) == []
        assert hands.run(jobs) == 1


def waits_for_text(text: str | None) -> list[Dependency]:
    from jobcard.core.dependencies import from_text

    return list(from_text(text))


class TestHooks:
    def test_a_hook_sees_and_changes_what_is_waited_for(self, jobs: Jobcard, add: Any) -> None:
        """Under `after` and `batch` of its options; what it leaves there is checked and stored."""
        first, second = add.enqueue(), add.enqueue()
        with jobs.batch() as b:
            pass
        seen: list[Any] = []

        @jobs.before_enqueue
        def hook(event: Enqueuing) -> None:
            seen.append((list(event.options.get("after") or ()), event.options.get("batch")))
            event.options["after"] = [*seen[-1][0], second]

        one = add.options(after=[first], batch=b).enqueue()
        assert waits_for(one) == (job(first), job(second))
        assert seen == [([job(first)], b)]
        (two,) = jobs.enqueue_many([add.options(after=Ended(b)).call()])
        assert waits_for(two) == (batch(b, ENDED), job(second))
        assert waits_for(add.enqueue()) == (job(second),)

    @pytest.mark.parametrize("way", ["one", "many", "name"])
    def test_a_hook_that_looks_away_loses_nothing(self, jobs: Jobcard, add: Any, way: str) -> None:
        """What can be walked through once only was walked through when the option was said."""
        jobs.before_enqueue(lambda event: None)
        handles = [add.enqueue(n) for n in range(3)]
        several = list(handles)
        given: Any = iter(handles) if way == "name" else several
        held = add.options(after=(handle for handle in handles)) if way != "name" else None
        found = {
            "one": lambda: held.enqueue(),
            "many": lambda: jobs.enqueue_many([held.call()])[0],
            "name": lambda: jobs.enqueue("add", after=given),
        }[way]()
        assert waits_for(found) == tuple(map(job, handles))

    def test_a_hook_cannot_make_a_job_wait_for_itself(self, jobs: Jobcard, add: Any) -> None:
        """What it leaves is checked like all that is given."""
        own = uuid4()

        @jobs.before_enqueue
        def hook(event: Enqueuing) -> None:
            event.options["after"] = own

        with pytest.raises(InvalidJobError, match="waits for itself"):
            add.options(id=own).enqueue()
        assert jobs.count().total == 0

    def test_a_hook_may_take_it_away(self, jobs: Jobcard, add: Any) -> None:
        """Then the job is due at once."""
        first = add.enqueue()
        jobs.before_enqueue(lambda event: event.options.pop("after", None))
        assert waits_for(add.options(after=first).enqueue()) == ()


def test_a_retention_of_nothing_still_tells_who_waits(jobs: Jobcard, add: Any, hands: Hands) -> None:
    """A job that is kept for no time has ended all the same as long as it is there."""
    first = add.options(keep=timedelta(0)).enqueue()
    held = add.options(after=first).enqueue()
    hands.run(jobs)
    assert see_to_all(hands.store, {}) == [held.id.bytes]
