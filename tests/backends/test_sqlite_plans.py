"""How SQLite finds things: no look at the whole table, nor at jobs that nobody asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.stores import raw
from jobcard.backends.base import Filter
from jobcard.backends.sqlite import SQLiteBackend, lookup
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core.clock import FrozenClock


class TestPlans:
    def plan(self, store: SQLiteBackend, sql: str, values: int) -> str:
        return "; ".join(row[3] for row in raw(store, f"explain query plan {sql}", *[None] * values))

    @pytest.mark.parametrize(
        ("name", "values", "index"),
        [
            ("claim", 5, "jobs_claim"),
            ("claimable", 1, "jobs_claim"),
            ("release", 1, "jobs_due"),
            ("cancels", 1, "jobs_cancels"),
            ("news", 0, "jobs_due"),
            ("held_by", 3, "jobs_held"),
            ("touched_waiting", 1, "jobs_created"),
            ("touched_ended", 2, "jobs_finished"),
            ("chart_alive", 3, "jobs_created"),
            ("expired", 3, "jobs_expiry"),
            ("finished_before", 4, "jobs_finished"),
            ("chart_finished", 4, "jobs_finished"),
            ("find_unique_key", 1, "jobs_unique"),
            ("find_id", 1, "jobs_id"),
            ("find_limit_key", 1, "jobs_id"),
            ("key_at_work", 1, "jobs_limited (state=? AND hold=? AND limit_key=?)"),
            ("put_off", 3, "jobs_limited (state=? AND hold=? AND limit_key=?)"),
            ("next_held", 2, "jobs_limited (state=? AND hold=? AND (limit_key,queue)>(?,?))"),
            ("look", 2, "jobs_claim"),
            ("queue_at_work", 1, "jobs_held"),
            ("versions", 2, "jobs_id"),
        ],
    )
    def test_each_statement_walks_its_index(self, store: SQLiteBackend, name: str, values: int, index: str) -> None:
        """No statement of the engine walks the table, and what it takes first it need not sort."""
        plan = self.plan(store, store._sql[name].replace("{what}", "*"), values)
        assert f"INDEX jobcard_{index}" in plan
        assert "SCAN jobcard" not in plan
        assert "ORDER BY" not in plan

    def test_those_who_wait_with_a_key_are_found_in_order(self, store: SQLiteBackend) -> None:
        """Two short walks, one for those in line and one for those held; only what they found is sorted."""
        plan = self.plan(store, store._sql["waiting_with_key"], 3)
        walk = "SEARCH jobcard_jobs USING INDEX jobcard_jobs_limited (state=? AND hold=? AND limit_key=? AND queue=?)"
        assert plan.count(walk) == 2
        assert plan.count("ORDER BY") == 1
        assert "SCAN jobcard" not in plan

    @pytest.mark.parametrize(
        ("name", "values"), [("complete", 5), ("renew", 5), ("let_in", 1), ("keep_out", 4), ("hold_back", 3)]
    )
    def test_a_holders_write_goes_by_number(self, store: SQLiteBackend, name: str, values: int) -> None:
        """Settling and renewing look a job up by its number and nothing else, and so do holds of a limit."""
        assert self.plan(store, store._sql[name], values) == "SEARCH jobcard_jobs USING INTEGER PRIMARY KEY (rowid=?)"

    @pytest.mark.parametrize("part", [part for _, part in lookup._PARTS])
    def test_counts_walk_indexes(self, store: SQLiteBackend, part: str) -> None:
        """Counting one queue in one state never walks the table."""
        plan = self.plan(store, store._sql["count_queue"].replace("{where}", part), 2)
        assert "SEARCH jobcard_jobs USING" in plan
        assert "SCAN jobcard" not in plan

    @pytest.mark.parametrize("name", ["ended", "ended_refs"])
    @pytest.mark.parametrize("count", [1, 2, 1000])
    def test_those_who_wait_for_the_end_ask_by_id(self, store: SQLiteBackend, name: str, count: int) -> None:
        """`ended` is asked often: one look at the index of ids for each, however many there are."""
        plan = self.plan(store, store._sql[name].replace("{marks}", ", ".join("?" * count)), count)
        assert plan == "SEARCH jobcard_jobs USING INDEX jobcard_jobs_id (id=?)"

    def test_lapsed_claims_are_looked_for_among_claims(self, store: SQLiteBackend) -> None:
        """All claims are looked at, which are few, and those that lapsed are sorted."""
        plan = self.plan(store, store._sql["lapsed"].replace("{what}", "*"), 3)
        assert plan == "SEARCH jobcard_jobs USING INDEX jobcard_jobs_held (claimed_by>?); USE TEMP B-TREE FOR ORDER BY"

    def test_the_next_of_an_owners_claims_are_found_at_once(self, store: SQLiteBackend) -> None:
        """A page of claims begins where the last one ended."""
        plan = self.plan(store, store._sql["held_by"].replace("{what}", "*"), 3)
        assert plan == "SEARCH jobcard_jobs USING INDEX jobcard_jobs_held (claimed_by=? AND rowid>?)"

    @pytest.mark.parametrize("name", ["last_line", "trim_lines", "delete_lines"])
    def test_lines_go_by_job_and_place(self, store: SQLiteBackend, name: str) -> None:
        """A job's log is one stretch of its table."""
        plan = self.plan(store, store._sql[name], 3 if name == "trim_lines" else 1)
        assert "SEARCH jobcard_lines USING PRIMARY KEY (n=?" in plan
        assert "SCAN" not in plan.replace("SCALAR", "")

    @pytest.mark.parametrize("name", ["list_touched", "count_touched"])
    @pytest.mark.parametrize(
        "where", [Filter(touched_since=1), Filter(touched_since=1, names=["x"], after=1, search="y", tags=["t"])]
    )
    def test_what_was_not_touched_is_not_looked_at(self, store: SQLiteBackend, name: str, where: Filter) -> None:
        """Waiting jobs are found by their creation, ended ones by their end; of others only those at work are read."""
        refs, since = lookup.touched(store._sql, where)
        condition, values = lookup.conditions(where, b"x" if name == "list_touched" else None)
        sql = store._sql[name].replace("{touched}", refs).replace("{where}", condition).replace("{what}", "id")
        plan = self.plan(store, sql, len(since) + len(values) + (name == "list_touched")).split("; ")
        looks = {step for step in plan if "jobcard_jobs" in step or " job " in step}
        assert looks == {
            "SEARCH jobcard_jobs USING COVERING INDEX jobcard_jobs_created (created_at>?)",
            "SEARCH jobcard_jobs USING INDEX jobcard_jobs_held (claimed_by>?)",
            "SEARCH jobcard_jobs USING COVERING INDEX jobcard_jobs_finished (state=?)",
            "SEARCH jobcard_jobs USING COVERING INDEX jobcard_jobs_finished (state=? AND queue>?)",
            "SEARCH job USING COVERING INDEX jobcard_jobs_finished (state=? AND queue=? AND finished_at>?)",
            "SEARCH jobcard_jobs USING INTEGER PRIMARY KEY (rowid=?)",
        }

    def test_only_the_states_wanted_are_looked_through(self, store: SQLiteBackend) -> None:
        """Who asks for failed jobs touched lately does not wait for the completed ones."""
        _, values = lookup.touched(store._sql, Filter(touched_since=7, states=["failed"]))
        assert values == ["failed", 7]
        _, values = lookup.touched(store._sql, Filter(touched_since=7))
        assert sorted(map(str, values)) == ["7"] * 7 + ["canceled", "completed", "failed"]

    def test_charts_find_waiting_jobs_by_their_creation(self, store: SQLiteBackend) -> None:
        """A chart of the last hour reads no job that has waited for longer."""
        plan = self.plan(store, store._sql["chart_alive"], 3)
        assert "USING COVERING INDEX jobcard_jobs_created (created_at>? AND created_at<?)" in plan


class TestTouched:
    """More touched jobs than are sorted for every page, so that the short walk down the ids is taken as well."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    @pytest.fixture
    def busy(self, path: Path, clock: FrozenClock) -> Iterator[SQLiteBackend]:
        """Of 1,200 old jobs every hundredth was claimed lately; 6,000 are new."""
        store = SQLiteBackend(path, clock=clock, synchronous="off")
        store.migrate()
        for rank in range(12):
            factory.enqueue_several(store, 1, rank=-1)
            factory.enqueue_several(store, 99, rank=rank)
        clock.advance(60)
        factory.claim_some(store, 12)
        for _ in range(6):
            factory.enqueue_several(store, 1_000, queue="new")
        yield store
        store.close()

    @pytest.mark.parametrize("limit", [200, 1_000])
    def test_pages_have_every_touched_job_once(self, busy: SQLiteBackend, clock: FrozenClock, limit: int) -> None:
        """Through the crowd and down to the few old ones, newest id first, whatever else is asked for."""
        crowd = [row[0] for row in raw(busy, "select id from jobcard_jobs where created_at = ?", clock.now())]
        old = [row[0] for row in raw(busy, "select id from jobcard_jobs where claimed_at = ?", clock.now())]
        assert (len(crowd), len(old)) == (6_000, 12)
        expected = sorted(crowd + old, reverse=True)
        for where, wanted in (
            (Filter(touched_since=clock.now()), expected),
            (Filter(touched_since=clock.now(), queues=["default"]), sorted(old, reverse=True)),
            (Filter(touched_since=clock.now(), states=["waiting"]), sorted(crowd, reverse=True)),
            (Filter(touched_since=clock.now() + 1), []),
        ):
            assert [row.id for page in factory.pages(busy, where, limit) for row in page] == wanted
        counts = {"new": {"waiting": 6_000}, "default": {"claimed": 12}}
        assert busy.count(Filter(touched_since=clock.now())) == counts

    def test_an_unreadable_job_is_left_out(self, busy: SQLiteBackend, clock: FrozenClock) -> None:
        """Neither the walk nor the sorted page is stopped by one."""
        [(newest,)] = raw(busy, "select max(id) from jobcard_jobs")
        spoil = "update jobcard_jobs set meta = cast(x'ff' as text) where id = ? or state = 'claimed'"
        raw(busy, spoil, newest)
        page = busy.list(Filter(touched_since=clock.now()), limit=10).rows
        assert len(page) >= 9 and newest not in {row.id for row in page}
        assert busy.list(Filter(touched_since=clock.now(), states=["claimed"]), limit=10).rows == []


def test_a_chart_counts_a_crowd_that_waits(path: Path) -> None:
    """Those created in its time, to the slice, and nobody else."""
    clock = FrozenClock()
    store = SQLiteBackend(path, clock=clock, synchronous="off")
    store.migrate()
    first = clock.now()
    for size in (1_000, 30, 20, 500):
        factory.enqueue_several(store, size, delay=micros(size - 25))
        clock.advance(60)
    buckets = store.count_over_time(first=first + micros(60), step=micros(60), buckets=2)
    assert [dict(bucket.counts) for bucket in buckets] == [{"waiting": 30}, {"waiting": 20}]
    store.close()
