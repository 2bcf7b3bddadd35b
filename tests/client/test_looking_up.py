"""Finding, listing and counting jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands

from helpers.stores import raw
from jobcard import ConfigError, CorruptRecordError, Job, Jobcard, JobNotFoundError, JobState
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.client.lookup import Chart, Counts
from jobcard.core import clock, states


@pytest.fixture
def known(jobs: Jobcard) -> Jobcard:
    jobs.job(name="a")(lambda *args: None)
    jobs.job(name="a.b", queue="mail", tags=["x", "y"])(lambda *args, **more: None)
    return jobs


def names(found: Any) -> list[str]:
    return [job.name for job in found]


class TestGet:
    def test_by_id_or_its_text(self, known: Jobcard) -> None:
        """Look-ups take both; `find` gives None where `get` raises."""
        handle = known.enqueue("a", [1])
        assert known.get(handle.id) == known.get(str(handle.id)) == known.get(handle.id.hex) == known.find(handle.id)
        for wrong in (uuid4(), str(uuid4()), "x", "", "*", "1 OR 1=1", "0" * 10**5, None, 5, b"x" * 16):
            assert known.find(wrong) is None  # type: ignore[arg-type]
            with pytest.raises(JobNotFoundError):
                known.get(wrong)  # type: ignore[arg-type]

    def test_a_job_shows_all_of_its_life(self, known: Jobcard, hands: Hands) -> None:
        """Stamps are aware and in UTC; errors are listed with their moments."""
        handle = known.enqueue("a", [1], {}, delay=0, timeout=5)
        claim = hands.claim()[0]
        held = handle.refresh()
        assert (held.state, held.attempt, held.claimed_by, held.claim_token) == ("claimed", 1, "hands", claim.token)
        assert held.lease_until is not None and held.lease_until.tzinfo is UTC
        hands.fail(claim)
        ended = handle.refresh()
        assert (ended.state, ended.reason, ended.error_kind) == (JobState.FAILED, "error", "ValueError in a")
        assert ended.finished_at is not None and ended.created_at <= ended.finished_at
        assert (ended.timeout, ended.scheduled_for) == (timedelta(seconds=5), ended.available_at)
        assert ended.error is not None and ended.error["message"] == "it broke" and ended.error["at"].tzinfo is UTC
        with pytest.raises(AttributeError):
            ended.state = JobState.WAITING  # type: ignore[misc]

    def test_what_a_job_says_of_itself_is_shown(self, known: Jobcard, hands: Hands) -> None:
        """Its progress everywhere, its log lines where one job is read; they outlive its end."""
        handle = known.enqueue("a", [1])
        assert (handle.refresh().log, handle.refresh().progress) == ([], None)
        (claim,) = hands.claim()
        progress = '{"value":0.25,"text":"rows","at":1800000000000000}'
        lines = ((2_000_000, "first"), (0, "second <b>"))
        hands.end(claim, states.note(claim, ago=0, progress=progress, checkpoint="[7]", lines=lines))
        job = handle.refresh()
        assert job.progress is not None and (job.progress.value, job.progress.text) == (0.25, "rows")
        assert job.progress.at == datetime(2027, 1, 15, 8, tzinfo=UTC)
        assert (job.state, job.checkpoint, [text for _at, text in job.log]) == ("running", [7], ["first", "second <b>"])
        (first, _), (second, _) = job.log
        assert second - first == timedelta(seconds=2) and first.tzinfo is UTC
        (listed,) = known.list()
        assert (listed.log, listed.progress, listed.checkpoint) == ([], job.progress, [7])
        hands.fail(claim)
        assert known.get(handle.id).log == job.log
        assert known.retry(handle.id).log == job.log

    def test_an_unreadable_record_is_told(self, known: Jobcard, hands: Hands) -> None:
        """It is an error of ours that names the job."""
        handle = known.enqueue("a", [1])
        hands.complete(hands.claim()[0], "{bad")
        with pytest.raises(CorruptRecordError, match=handle.id.hex):
            handle.refresh()


class TestList:
    def test_one_that_cannot_be_read_is_left_out(
        self, known: Jobcard, hands: Hands, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It hides no other, on its page and behind; the log names it, and `get` raises."""
        bad = known.enqueue("a", [0])
        hands.complete(hands.claim()[0], "{bad")
        good = [known.enqueue("a", [1]).id]
        assert [job.id for job in known.list()] == [job.id for job in known.iterate()] == good
        assert bad.id.hex in caplog.text
        older = known.list(limit=1, cursor=known.list(limit=1).next_cursor)
        assert (list(older), older.next_cursor) == ([], None)
        newest = known.enqueue("a", [2])
        hands.complete(hands.claim()[0])
        hands.complete(hands.claim()[0], "{bad")
        page = known.list(limit=1)
        assert list(page) == [] and page.next_cursor == newest.id.hex
        assert [job.id for job in known.iterate()] == good
        for call in (known.get, known.find):
            with pytest.raises(CorruptRecordError):
                call(bad.id)

    def test_one_the_store_cannot_read_ends_nothing(self, tmp_path: Path) -> None:
        """All behind it are met: by pages, by `iterate`, and by what is done to many."""
        path = tmp_path / "jobs.db"
        with Jobcard(f"sqlite:///{path}") as jobs:
            jobs.job(name="a")(lambda n: None)
            handles = jobs.enqueue_many([call(jobs, "a", n) for n in range(2_500)])
        store = SQLiteBackend(path)
        raw(store, "update jobcard_jobs set args = cast(x'ff' as text) where id = ?", handles[2_000].id.bytes)
        store.close()
        rest = [handle.id for handle in reversed(handles) if handle != handles[2_000]]
        with Jobcard(f"sqlite:///{path}") as jobs:
            page = jobs.list(limit=1_000)
            assert (len(page), page.next_cursor) == (1_000, rest[999].hex)
            page = jobs.list(limit=1, cursor=handles[2_001].id.hex)
            assert (len(page), jobs.list(limit=1, cursor=page.next_cursor)[0].id) == (1, handles[1_998].id)
            assert [job.id for job in jobs.iterate()] == rest
            assert jobs.discard_many() == len(rest)
            assert jobs.count()["waiting"] == 1

    def test_newest_first_page_by_page(self, known: Jobcard) -> None:
        """A page is a sequence; its cursor leads to the next, at the end it is None."""
        handles = known.enqueue_many([call(known, "a", n) for n in range(25)])
        newest = [handle.id for handle in reversed(handles)]
        first = known.list(limit=10)
        second = known.list(limit=10, cursor=first.next_cursor)
        third = known.list(limit=10, cursor=second.next_cursor)
        assert [len(page) for page in (first, second, third)] == [10, 10, 5]
        assert [job.id for page in (first, second, third) for job in page] == newest
        assert third.next_cursor is None and isinstance(first.next_cursor, str)
        assert (first[0], first[-1], first[2:4]) == (first.items[0], first.items[9], first.items[2:4])
        assert known.list(limit=25).next_cursor is None
        # A page stays where it is when new jobs come.
        known.enqueue("a")
        assert list(known.list(limit=10, cursor=first.next_cursor)) == list(second)

    def test_every_filter(self, known: Jobcard, hands: Hands) -> None:
        """One or several; all that is given must hold."""
        one = known.enqueue("a", [1])
        two = known.enqueue("a.b", [2], {"k": 1})
        three = known.enqueue("a.b", [3], tags=["x"], queue="other")
        two.cancel()
        hands.fail(hands.claim()[0])

        def ids(**where: Any) -> set[Any]:
            found = {job.id for job in known.list(**where)}
            assert {job.id for job in known.iterate(**where)} == found
            assert known.count(**where).total == len(found)
            return found

        assert ids() == {one.id, two.id, three.id}
        assert ids(state="canceled") == {two.id}
        assert ids(state=[JobState.FAILED, "canceled"]) == {one.id, two.id}
        assert ids(queue="mail") == {two.id}
        assert ids(queue=("mail", "other")) == {two.id, three.id}
        assert ids(name={"a"}) == {one.id}
        assert ids(tags="x") == {two.id, three.id}
        assert ids(tags=["x", "y"]) == {two.id}
        assert ids(args=[2]) == {two.id}
        assert ids(args=(3,), name="a.b") == {three.id}
        assert ids(error_kind="ValueError in a") == {one.id}
        assert ids(search="a.b") == {two.id, three.id}
        assert ids(search=str(one.id)[:20]) >= {one.id}
        assert ids(batch=uuid4()) == set()
        assert ids(queue="%") == ids(name="a%") == ids(search="%") == ids(search="a_b") == ids(name="*") == set()
        assert ids(state=None, queue=None, search="") == {one.id, two.id, three.id}

    def test_after_and_before_bound_the_creation(self, url: str) -> None:
        """`after` is included, `before` is not, in whatever zone they are given."""
        now = clock.FrozenClock()
        with Jobcard(backend=open_backend(url, clock=now)) as jobs:
            moments = []
            for _ in range(3):
                moments.append(jobs.enqueue("x").refresh().created_at)
                now.advance(60)
            first, second, third = moments
            elsewhere = second.astimezone(timezone(timedelta(hours=-5)))
            assert jobs.count(after=elsewhere).total == 2
            assert jobs.count(before=second).total == 1
            assert jobs.count(after=first, before=third).total == 2

    @pytest.mark.parametrize(
        "where",
        [
            {"limit": 0}, {"limit": -1}, {"limit": 1001}, {"limit": "5"}, {"limit": True}, {"cursor": "x"},
            {"cursor": 5}, {"state": "done"}, {"state": "cancelled"}, {"state": 5}, {"state": []}, {"queue": 5},
            {"queue": {"$gt": ""}}, {"stat": "failed"},
            {"queue": ["a", 5]}, {"queue": ["a"] * 101}, {"name": b"a"}, {"name": "a\0"}, {"name": "\ud800"},
            {"tags": 5}, {"args": "text"}, {"args": {1: 2}}, {"error_kind": 5}, {"batch": "x"},
            {"after": datetime(2026, 1, 1)}, {"before": "2026"}, {"search": 5}, {"search": "x" * 201},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_bad_filter_is_refused(self, known: Jobcard, where: dict[str, Any]) -> None:
        """Before the store; nothing is passed over in silence."""
        with pytest.raises(ConfigError):
            known.list(**where)
        if not where.keys() & {"limit", "cursor"}:
            with pytest.raises(ConfigError):
                known.count(**where)
            with pytest.raises(ConfigError):
                list(known.iterate(**where))

    def test_a_misspelt_state_names_the_nearest(self, known: Jobcard) -> None:
        """There is one spelling."""
        with pytest.raises(ConfigError, match="did you mean 'canceled'"):
            known.list(state="cancelled")


def call(jobs: Jobcard, name: str, *args: Any) -> Any:
    from jobcard.client.functions import BoundJob

    definition = jobs.registry.find(name)
    assert definition is not None
    return BoundJob[Any, Any](jobs, definition).call(*args)


class TestCounts:
    def test_all_states_are_there(self, known: Jobcard, hands: Hands) -> None:
        """A mapping of six, by text or by `JobState`, with attributes and a total."""
        known.enqueue("a")
        known.enqueue("a.b").cancel()
        counts = known.count()
        assert dict(counts) == {
            "waiting": 1, "claimed": 0, "running": 0, "completed": 0, "failed": 0, "canceled": 1,
        }  # fmt: skip
        assert (counts[JobState.WAITING], counts["canceled"], counts.canceled, counts.total) == (1, 1, 1, 2)
        assert counts == Counts(waiting=1, canceled=1) == {state: counts[state] for state in JobState}
        with pytest.raises(KeyError):
            counts["total"]

    def test_by_queue(self, known: Jobcard) -> None:
        """Queues without jobs are there too."""
        known.queues.create("empty")
        known.enqueue("a")
        known.enqueue("a.b")
        by_queue = known.count_by_queue()
        assert list(by_queue) == ["default", "empty", "mail"]
        assert [counts.total for counts in by_queue.values()] == [1, 0, 1]

    def test_over_time(self, url: str) -> None:
        """Exactly so many slices, oldest first, the present one last; each job once, under its present state."""
        now = clock.FrozenClock()
        with Jobcard(backend=open_backend(url, clock=now)) as jobs:
            jobs.enqueue("x").cancel()
            now.advance(120)
            jobs.enqueue("x")
            buckets = jobs.count_over_time("5m")
            assert [bucket.counts.total for bucket in buckets] == [0, 0, 1, 0, 1]
            assert (buckets[2].counts.canceled, buckets[4].counts.waiting) == (1, 1)
            assert [later.at - earlier.at for earlier, later in pairwise(buckets)] == [timedelta(minutes=1)] * 4
            assert buckets[-1].at <= clock.to_datetime(now.now()) < buckets[-1].at + timedelta(minutes=1)
            assert [len(jobs.count_over_time(span)) for span in ("1m", "24h", "30d", "1000m")] == [1, 24, 30, 1000]
            assert jobs.count_over_time("1d")[0].at.hour == 0

    def test_a_chart_counts_again_what_may_have_changed(self, url: str) -> None:
        """Slices that had closed are taken over; what was still on its way into one is not missed."""
        now = clock.FrozenClock()
        with Jobcard(backend=open_backend(url, clock=now)) as jobs:
            chart = jobs.parts.lookup.chart

            def canceled(known: Chart | None = None) -> list[int]:
                return [bucket.counts.canceled for bucket in chart("5m", known=known).buckets]

            jobs.enqueue("x").cancel()
            now.advance(180)
            jobs.enqueue("x").cancel()
            first = chart("5m")
            assert canceled() == canceled(first) == [0, 1, 0, 0, 1]
            now.advance(60)
            jobs.enqueue("x").cancel()
            assert canceled() == canceled(first) == [1, 0, 0, 1, 1]
            with jobs.parts.connection as store:
                store.truncate()
            assert canceled(first) == [1, 0, 0, 0, 0]
            now.advance(600)
            assert canceled(first) == [0, 0, 0, 0, 0]

    @pytest.mark.parametrize(
        "span", ["", "m", "0m", "-1m", "1001m", "12", "12s", "1.5h", "12M", "٣m", None, 5, "9" * 9]
    )
    def test_a_bad_span_is_refused(self, known: Jobcard, span: Any) -> None:
        """Only minutes, hours and days, at most a thousand of them."""
        with pytest.raises(ConfigError):
            known.count_over_time(span)

    def test_stats(self, url: str, known: Jobcard) -> None:
        """The whole store's figures; what is not due yet is counted apart."""
        now = clock.FrozenClock()
        with Jobcard(backend=open_backend(url, clock=now)) as jobs:
            assert jobs.stats().oldest_waiting_s is None
            jobs.enqueue("x")
            now.advance(30)
            jobs.enqueue("x", delay=60)
            jobs.enqueue("x", queue="mail").cancel()
            stats = jobs.stats()
            assert (stats.total, stats.waiting, stats.canceled, stats.delayed) == (3, 2, 1, 1)
            assert stats.oldest_waiting_s == 30
            assert {name: counts.total for name, counts in stats.queues.items()} == {"default": 2, "mail": 1}


def test_reading_goes_on_while_jobs_move(known: Jobcard, hands: Hands) -> None:
    """`iterate` gives each job once, also when those read already change."""
    known.enqueue_many([call(known, "a", n) for n in range(20)])
    found: Iterator[Job] = known.iterate(state="waiting")
    seen = []
    for job in found:
        seen.append(job.args[0])
        known.cancel(job.id)
    assert seen == list(reversed(range(20)))
    assert known.count().canceled == 20
