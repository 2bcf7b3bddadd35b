"""What a backup holds of a store that is in use, and what a restore makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.stock import everything
from helpers.stores import raw
from jobcard import Jobcard, JobState
from jobcard.backends.base import Backend, Outcome, RecordKind
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core import ids
from jobcard.core.job import JobRow, OnceKey, WholeJob
from jobcard.core.states import complete, note
from jobcard.errors import ConfigError, InvalidJobError, StoreMovedError
from jobcard.moving.backup import back_up, restore
from jobcard.moving.whole import read

FAR = 10**15


class Meddled:
    """A store in which something happens between two calls of whoever reads it."""

    def __init__(self, store: Backend, verb: str, meddle: Callable[[], object], *, place: int = 0) -> None:
        """meddle: is called once, before the store answers this verb. place: after so many answers."""
        self._store = store
        self._verb = verb
        self._meddle = meddle
        self._left = place

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._store, verb)
        if verb != self._verb:
            return call

        def meddled(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self._meddle()
            return call(*args, **kwargs)

        return meddled


def restored(file: Path, store: SQLiteBackend) -> dict[bytes, JobRow]:
    """What a store has after a restore in which nothing was refused, by id."""
    assert restore(store, file).refused == {}
    return {row.id: row for row in factory_rows(store)}


def factory_rows(store: Backend) -> Sequence[JobRow]:
    return store.get([job_id for job_id, _ in store.versions(after=None, limit=1_000)])


# ------------------------------------------------------------------ there and back


class TestThereAndBack:
    def test_everything_comes_back(self, full: SQLiteBackend, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Jobs in every state with tries and lines, once keys, queues and schedules: equal, token and version too."""
        made = back_up(full, tmp_path / "shop.jobcard")
        done = restore(empty, made.path)
        assert everything(empty) == everything(full)
        assert made.jobs == done.jobs == len(everything(full)["jobs"])
        assert made.size == made.path.stat().st_size
        assert (done.present, done.refused, made.unreadable) == (0, {}, ())

    def test_what_belongs_to_an_engine_stays(self, full: SQLiteBackend, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Records of engines and orders to them are of no use elsewhere."""
        assert full.read_records(RecordKind.ENGINE)
        restore(empty, back_up(full, tmp_path / "shop.jobcard").path)
        assert not empty.read_records(RecordKind.ENGINE)

    def test_an_empty_store(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Its backup has no jobs, and can be restored."""
        file = back_up(empty, tmp_path / "shop.jobcard").path
        assert restore(empty, file).jobs == 0

    def test_large_jobs(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Of a megabyte each, more than fit a page; what was stored comes back to the byte."""
        text = '"' + "ab\\u00e9" * 120_000 + '"'
        factory.enqueue_several(empty, 60, args=f"[{text}]")
        before = everything(empty)
        file = back_up(empty, tmp_path / "shop.jobcard").path
        empty.truncate()
        restore(empty, file)
        assert everything(empty) == before

    def test_a_sealed_store_can_be_backed_up_and_not_restored_into(
        self, full: SQLiteBackend, empty: SQLiteBackend, tmp_path: Path
    ) -> None:
        """Reading goes on; writing is a `StoreMovedError`."""
        full.seal("moved")
        file = back_up(full, tmp_path / "shop.jobcard").path
        empty.seal("moved")
        with pytest.raises(StoreMovedError):
            restore(empty, file)
        empty.seal(None)
        restore(empty, file)
        assert everything(empty) == everything(full)

    def test_a_job_at_work_is_taken_up_again(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Its engine is not here: the lease counts as run out, so any engine rescues it and nobody has to wait."""
        claim = factory.running_job(empty, lease=FAR)
        file = back_up(empty, tmp_path / "shop.jobcard").path
        empty.truncate()
        restore(empty, file)
        [held] = empty.find_held([], lapsed=True, limit=9).claims
        assert (held.id, held.token, held.state) == (claim.id, claim.token, JobState.RUNNING)


class TestUnreadable:
    def test_what_cannot_be_read_is_named_and_left_out(
        self, full: SQLiteBackend, empty: SQLiteBackend, tmp_path: Path
    ) -> None:
        """One broken row takes no backup with it; its id stands in the answer and in the file."""
        spoilt = factory.enqueue(full)
        rest = len(everything(full)["jobs"]) - 1
        raw(full, "update jobcard_jobs set args = cast(x'ff' as text) where id = ?", spoilt)
        made = back_up(full, tmp_path / "shop.jobcard")
        assert [job_id.bytes for job_id in made.unreadable] == [spoilt]
        assert made.jobs == rest == restore(empty, made.path).jobs

    def test_a_lonely_one_stops_nothing_either(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """A store raises for what is asked for alone: a row, a try, a log line, the job of a key."""
        spoilt = factory.enqueue(empty, once_key="bill", once_until=empty.facts().now + FAR)
        raw(empty, "update jobcard_jobs set args = cast(x'ff' as text) where id = ?", spoilt)
        made = back_up(empty, tmp_path / "one.jobcard")
        assert ([job_id.bytes for job_id in made.unreadable], made.jobs) == ([spoilt], 0)
        empty.truncate()
        failed = factory.job_in_state(empty, "failed")
        raw(empty, "update jobcard_attempts set error = cast(x'ff' as text)")
        made = back_up(empty, tmp_path / "other.jobcard")
        assert made.jobs == 1
        empty.truncate()
        restore(empty, made.path)
        assert factory.row_of(empty, failed).state == JobState.FAILED


# ------------------------------------------------------------------ into a store that has something


class TestMerge:
    @pytest.mark.parametrize(
        "bring",
        [
            lambda store: factory.enqueue(store),
            lambda store: store.put_once_keys([OnceKey("k", factory.new_id(), FAR * 10)]),
            lambda store: store.write_record(RecordKind.SCHEDULE, "nightly", "{}"),
        ],
        ids=["a job", "a once key", "a schedule"],
    )
    def test_a_store_that_has_something_is_refused(
        self, bring: Callable[[Backend], object], full: SQLiteBackend, empty: SQLiteBackend, backup_file: Path
    ) -> None:
        """`ConfigError`, and nothing is written; with `merge` the rest is added."""
        bring(empty)
        before = everything(empty)
        with pytest.raises(ConfigError, match="not empty"):
            restore(empty, backup_file)
        assert everything(empty) == before
        restore(empty, backup_file, merge=True)
        assert set(everything(empty)["jobs"]) >= set(everything(full)["jobs"])

    def test_an_empty_store_takes_over_the_queues(self, empty: SQLiteBackend, backup_file: Path) -> None:
        """Queues that an engine has made at its start are no reason to refuse; they become those of the backup."""
        empty.write_record(RecordKind.QUEUE, "mail", '{"concurrency":1}')
        restore(empty, backup_file)
        found = {record.key: record.value for record in empty.read_records(RecordKind.QUEUE)}
        assert found["mail"] == '{"concurrency":3,"paused":true}'

    def test_what_is_there_stays(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """A job that has gone on since, a changed queue, a key taken anew: the backup changes none of them."""
        job_id = factory.enqueue(empty)
        gone = factory.enqueue(empty)
        key = OnceKey("bill@1", job_id, FAR * 10)
        empty.put_once_keys([key])
        file = back_up(empty, tmp_path / "shop.jobcard").path
        claim = next(claim for claim in factory.claim_some(empty, 2) if claim.id == job_id)
        factory.complete(empty, claim)
        empty.erase([gone])
        later = key._replace(until=key.until + 1_000_000)
        empty.put_once_keys([later])
        empty.write_record(RecordKind.QUEUE, "default", '{"concurrency":1}')
        done = restore(empty, file, merge=True)
        assert (done.jobs, done.present, done.refused) == (1, 1, {})
        assert factory.row_of(empty, job_id).state == JobState.COMPLETED
        assert factory.row_of(empty, gone).state == JobState.WAITING
        assert [*empty.once_keys(after=None, limit=9)] == [later]
        assert [record.value for record in empty.read_records(RecordKind.QUEUE)] == ['{"concurrency":1}']

    def test_twice_is_once(self, full: SQLiteBackend, empty: SQLiteBackend, backup_file: Path) -> None:
        """A restore that was killed is finished by the same one with `merge`; then nothing is left to write."""
        half = factory_rows(full)[::2]
        empty.put(read(full, [row.id for row in half]))
        first = restore(empty, backup_file, merge=True)
        assert first.present == len(half)
        assert everything(empty) == everything(full)
        again = restore(empty, backup_file, merge=True)
        assert (again.jobs, again.present) == (0, first.jobs + first.present)
        assert everything(empty) == everything(full)

    def test_a_key_that_is_taken_is_told(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """A living job keeps its unique key; the one of the backup is not written, and named."""
        job_id = factory.enqueue(empty, unique_key="report")
        file = back_up(empty, tmp_path / "shop.jobcard").path
        empty.truncate()
        other = factory.enqueue(empty, unique_key="report")
        done = restore(empty, file, merge=True)
        [(refused, why)] = done.refused.items()
        assert refused.bytes == job_id and "unique key" in why
        assert [row.id for row in factory_rows(empty)] == [other]


class TestRefused:
    def test_what_a_store_cannot_hold_keeps_no_other_out(
        self, full: SQLiteBackend, empty: SQLiteBackend, backup_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every other job is restored; what was not is named with what the store says of it."""
        put, others = empty.put, sorted(row.id for row in factory_rows(full))
        bad = {others.pop(50), others.pop(7)}

        def picky(jobs: Sequence[WholeJob]) -> list[bytes]:
            if bad & {job.row.id for job in jobs}:
                raise InvalidJobError("too long for this store")
            return put(jobs)

        monkeypatch.setattr(empty, "put", picky)
        done = restore(empty, backup_file)
        assert {job_id.bytes for job_id in done.refused} == bad
        assert {*done.refused.values()} == {"too long for this store"}
        assert sorted(row.id for row in factory_rows(empty)) == others
        assert done.jobs == len(others)


# ------------------------------------------------------------------ while others go on


class TestInUse:
    def backed_up(self, store: Backend, verb: str, meddle: Callable[[], object], file: Path) -> dict[bytes, JobRow]:
        """What a backup has of a store in which this happens while it is read."""
        meddled: Any = Meddled(store, verb, meddle)
        back_up(meddled, file)
        other = SQLiteBackend(file.with_suffix(".db"))
        other.migrate()
        rows = restored(file, other)
        other.close()
        return rows

    def test_a_follow_up_comes_with_what_it_follows(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """A job that completes between two looks: its follow-ups, on either side of its own id, are in the backup."""
        # In the middle of its millisecond.
        claim = factory.running_job(empty, id=factory.new_id()[:6] + b"\x78\x00\x80" + bytes(7))
        places = [ids.follow_up_id(claim.id, place) for place in range(40)]
        assert min(places) < claim.id < max(places)
        then = [factory.new_job(id=job_id, parent_id=claim.id) for job_id in places]

        def end() -> None:
            assert factory.settle(empty, claim, complete('"done"'), then=then) == []

        rows = self.backed_up(empty, "get", end, tmp_path / "shop.jobcard")
        assert rows[claim.id].state == JobState.COMPLETED
        assert rows.keys() == {claim.id, *places}

    def test_one_of_very_many_at_one_moment(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """The same where the ids of one millisecond fill many pages."""
        moment = factory.new_id()[:6]
        many = sorted(ids.follow_up_id(moment + bytes(10), place) for place in range(2_500))
        empty.enqueue([factory.new_job(id=job_id, queue="many") for job_id in many[:1000]])
        empty.enqueue([factory.new_job(id=job_id, queue="many") for job_id in many[1000:2000]])
        empty.enqueue([factory.new_job(id=job_id, queue="many") for job_id in many[2000:]])
        parent = ids.follow_up_id(moment + bytes(10), 9_999)
        claim = factory.running_job(empty, id=parent)
        first = ids.follow_up_id(parent, 0)

        def end() -> None:
            then = [factory.new_job(id=first, parent_id=parent)]
            assert factory.settle(empty, claim, complete('"done"'), then=then) == []

        meddled: Any = Meddled(empty, "get", end)
        file = tmp_path / "shop.jobcard"
        made = back_up(meddled, file)
        other = SQLiteBackend(tmp_path / "other.db")
        other.migrate()
        restore(other, file)
        assert {row.id for row in other.get([parent, first])} == {parent, first}
        assert made.jobs == 2_502
        other.close()

    def test_what_a_job_enqueued_comes_with_it(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """A job enqueues another and completes between two looks: both are in the backup, or neither has happened."""
        claim = factory.running_job(empty)
        child: list[bytes] = []

        def go_on() -> None:
            child.append(factory.enqueue(empty))
            assert factory.complete(empty, claim) == []

        rows = self.backed_up(empty, "get", go_on, tmp_path / "shop.jobcard")
        assert rows.keys() == {claim.id, *child}

    @pytest.mark.parametrize(("verb", "place"), [("get", 0), ("attempts", 0), ("log_lines", 0), ("get", 1)])
    def test_a_row_and_its_tries_are_of_one_moment(
        self, verb: str, place: int, empty: SQLiteBackend, tmp_path: Path
    ) -> None:
        """A job that says more while it is read: row and lines are those of one moment, whichever comes first."""
        claim = factory.running_job(empty)

        def say(value: float) -> None:
            said = note(claim, ago=1, progress=f'{{"value":{value}}}', lines=((1, f"at {value}"),))
            assert empty.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, said)]).refusals == []

        say(0.1)
        file = tmp_path / "shop.jobcard"
        meddled: Any = Meddled(empty, verb, lambda: say(0.9), place=place)
        back_up(meddled, file)
        now = everything(empty)
        empty.truncate()
        restore(empty, file)
        assert everything(empty) == now

    def test_one_that_is_deleted_is_left_out(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """Or it is there whole; never a row whose tries are gone."""
        failed = factory.job_in_state(empty, "failed")
        kept = factory.enqueue(empty)
        rows = self.backed_up(empty, "get", lambda: empty.delete([failed]), tmp_path / "shop.jobcard")
        assert rows.keys() == {kept}

    def test_a_key_taken_anew_does_not_stand_twice(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """The job that has the unique key ends after it was read, and another takes it: the first one is backed up."""
        claim = factory.running_job(empty, unique_key="report")
        others = factory.enqueue_several(empty, 500, queue="many")  # so that the other one stands on a later page
        late: list[bytes] = []

        def take_anew() -> None:
            assert factory.complete(empty, claim) == []
            late.append(factory.enqueue(empty, unique_key="report"))
            late.append(factory.enqueue(empty, unique_key="another"))

        rows = self.backed_up(empty, "attempts", take_anew, tmp_path / "shop.jobcard")
        assert rows.keys() == {claim.id, *others, late[1]}
        assert rows[claim.id].state == JobState.RUNNING

    def test_a_once_key_does_not_come_without_its_job(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """One whose job was stored too late for the backup is left out, so that the job can come again."""
        until = empty.facts().now + FAR
        early = factory.enqueue(empty, once_key="early", once_until=until)
        deleted = OnceKey("deleted", factory.new_id(), until)
        empty.put_once_keys([deleted])
        late = ids.tick_id("late", ids.moment_of(early) - 10**9)  # below all others, as that of a missed tick

        def enqueue() -> None:
            factory.enqueue(empty, id=late, once_key="late", once_until=until)

        file = tmp_path / "shop.jobcard"
        meddled: Any = Meddled(empty, "once_keys", enqueue)
        back_up(meddled, file)
        empty.truncate()
        restore(empty, file)
        assert [row.id for row in factory_rows(empty)] == [early]
        assert [key.key for key in empty.once_keys(after=None, limit=9)] == ["deleted", "early"]

    def test_a_schedule_makes_no_tick_twice_and_leaves_none_out(self, empty: SQLiteBackend, tmp_path: Path) -> None:
        """How far it is, is read before the jobs: a tick made meanwhile is made again, as the same job."""
        empty.write_record(RecordKind.SCHEDULE, "nightly", "{}")
        empty.write_record(RecordKind.TICK, "nightly", '{"at":1}')

        def tick() -> None:
            factory.enqueue(empty)
            empty.write_record(RecordKind.TICK, "nightly", '{"at":2}')

        rows = self.backed_up(empty, "versions", tick, tmp_path / "shop.jobcard")
        assert len(rows) == 1
        other = SQLiteBackend(tmp_path / "shop.db")
        assert [record.value for record in other.read_records(RecordKind.TICK)] == ['{"at":1}']
        other.close()


# ------------------------------------------------------------------ from code


class TestFromCode:
    def test_a_client_backs_up_and_restores(self, tmp_path: Path) -> None:
        """`jobs.backup(path)` and `jobs.restore(path)`; the target gets its schema; handles go on working."""
        with Jobcard(f"sqlite:///{tmp_path / 'a.db'}") as jobs, Jobcard(f"sqlite:///{tmp_path / 'b.db'}") as other:
            jobs.job(add)
            handle = jobs.enqueue("test_backup_stores.add", [1, 2])
            jobs.run(in_process=True, until_empty=True)
            made = jobs.backup(tmp_path / "shop.jobcard")
            done = other.restore(str(tmp_path / "shop.jobcard"))
            assert (made.jobs, done.jobs) == (1, 1)
            assert other.handle(handle.id).result(timeout=10) == 3

    async def awaited(self, folder: Path) -> int:
        with Jobcard(f"sqlite:///{folder / 'a.db'}") as jobs, Jobcard(f"sqlite:///{folder / 'b.db'}") as other:
            jobs.enqueue("x.y", strict=False)
            await jobs.backup_async(folder / "shop.jobcard")
            await jobs.backup_async(folder / "shop.jobcard", overwrite=True)
            await other.restore_async(folder / "shop.jobcard")
            await other.restore_async(folder / "shop.jobcard", merge=True)
            return other.count().total

    def test_awaitable(self, tmp_path: Path) -> None:
        """The same, beside an event loop."""
        assert asyncio.run(self.awaited(tmp_path)) == 1

    def test_a_path_must_be_one(self, tmp_path: Path) -> None:
        """`ConfigError` for what names no file."""
        with Jobcard(f"sqlite:///{tmp_path / 'a.db'}") as jobs:
            for path in (7, None, "", "\0", "a\0b", ".", "/"):
                with pytest.raises(ConfigError):
                    jobs.backup(path)  # type: ignore[arg-type]
                with pytest.raises(ConfigError):
                    jobs.restore(path)  # type: ignore[arg-type]


def add(a: int, b: int) -> int:
    return a + b
