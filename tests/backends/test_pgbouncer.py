"""Through a real PgBouncer in transaction mode: the same promises, nothing left behind, and no surprise without it."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from checker.lab import Lab
from helpers.pgbouncer import SIZE, nothing_stays_open, pooled
from helpers.postgres import databases, new_prefix, postgres_harness
from helpers.servers import OwnServer
from helpers.waiting import wait_until
from jobcard import ConfigError, Jobcard
from jobcard.backends.postgres import PostgresBackend
from jobcard.conformance import BackendSuite, Crowd, Harness, factory, run_histories
from jobcard.conformance.drawing import CI

pytestmark = [pytest.mark.slow, pytest.mark.turns]

BEHIND = {"pooler": "transaction", "listen": False}
QUERY = "pooler=transaction&listen=off"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A database of this module's own, so that whatever is left in it came from here."""
    with databases() as urls:
        yield urls[1]


@pytest.fixture(scope="module")
def url(server: str) -> Iterator[str]:
    """The same by the pooler; after all tests nothing may have stayed with the server's connections."""
    with pooled(server) as (url, _):
        yield url
        nothing_stays_open(server)
        with psycopg.connect(server, autocommit=True) as beside:
            [(number,)] = beside.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and application_name = 'jobcard'"
            ).fetchall()
        assert number <= SIZE


class TestThroughPgBouncer(BackendSuite):
    histories = settings(CI, max_examples=8)
    crowd = Crowd(histories=5)

    @pytest.fixture
    def harness(self, url: str) -> Iterator[Harness]:
        harness = postgres_harness(url, **BEHIND)
        yield harness
        harness.close()

    @pytest.mark.timeout(600)
    def test_random_histories_agree_with_the_model(self, url: str) -> None:
        """A few of them: what differs here is the way to the server."""
        run_histories(postgres_harness(url, **BEHIND).fresh, self.histories)


class TestNothingStays:
    def test_a_connection_of_the_server_is_as_before(self, server: str) -> None:
        """Planner, time limits, prepared statements, channels: whoever gets the connection next finds none of ours."""
        asked = (
            "select name, setting from pg_settings where name like 'enable%' or name in "
            "('plan_cache_mode', 'jit', 'statement_timeout', 'lock_timeout', 'synchronous_commit', "
            "'idle_in_transaction_session_timeout', 'default_transaction_isolation') order by name"
        )
        # One connection only, so that both are sure to have the same.
        with pooled(server, default_pool_size="1") as (url, _):
            # Prepared in the neighbour's session it would be ours to blame.
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as neighbour:
                before = neighbour.execute(asked).fetchall(), neighbour.execute("select pg_backend_pid()").fetchall()
                store = PostgresBackend(url, prefix=new_prefix(), patience=1.0, **BEHIND)
                store.migrate()
                factory.complete(store, factory.claimed_job(store))
                store.tally()
                store.facts()
                after = neighbour.execute(asked).fetchall(), neighbour.execute("select pg_backend_pid()").fetchall()
                assert after == before
                assert neighbour.execute("select name from pg_prepared_statements").fetchall() == []
                assert neighbour.execute("select pg_listening_channels()").fetchall() == []
                store.close()
            nothing_stays_open(server)

    def test_a_statement_has_its_planner_pinned_there_too(self, url: str) -> None:
        """Set for the transaction, with the statement itself: what was measured to matter holds behind a pooler."""
        store = PostgresBackend(url, prefix=new_prefix(), patience=2.0, **BEHIND)
        with store._pool.use() as connection:
            names = ("enable_seqscan", "plan_cache_mode", "lock_timeout", "statement_timeout")
            shown = connection.execute("select " + ", ".join(f"current_setting('{name}')" for name in names))
        assert shown == [("off", "force_generic_plan", "2s", "15s")]
        store.close()


class TestAPoolerThatNobodySpokeOf:
    @pytest.mark.parametrize("query", ["", "listen=off"])
    @pytest.mark.parametrize("ignores", ["extra_float_digits", "extra_float_digits,options"], ids=["refuses", "drops"])
    def test_it_is_noticed_at_once(self, server: str, query: str, ignores: str) -> None:
        """Whether it refuses what a connection says about itself or drops it: it is said what to write."""
        with pooled(server, ignore_startup_parameters=ignores) as (url, _):
            with (
                Jobcard(f"{url}?prefix={new_prefix()}&{query}".rstrip("&")) as jobs,
                pytest.raises(ConfigError, match="pooler=transaction"),
            ):
                jobs.count()
            nothing_stays_open(server)

    def test_an_engine_that_cannot_listen_says_what_that_means(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It works by looking, and does not keep that to itself; with `listen=off` it was meant so."""
        for options, warnings in ((BEHIND, 0), ({"pooler": "transaction"}, 1)):
            caplog.clear()
            store = PostgresBackend(url, prefix=new_prefix(), **options)
            with caplog.at_level(logging.WARNING, "jobcard.store"):
                waker = store.waker()
            assert waker.fd is None and len(caplog.records) == warnings
            assert all("listen=off" in record.message for record in caplog.records)
            store.close()

    def test_with_listen_left_on_jobs_run_all_the_same(self, url: str) -> None:
        """Clients ring, nobody hears, the engine looks."""
        jobs = Jobcard(f"{url}?pooler=transaction&prefix={new_prefix()}", poll_interval=0.2)
        add = jobs.job(name="add")(lambda: 7)
        with jobs.running(in_process=True):
            assert add.enqueue().result(timeout=30) == 7
        jobs.close()


@pytest.fixture
def broken(server: str, tmp_path: Path) -> Iterator[tuple[Lab, OwnServer]]:
    """An application whose clients and engines go by a pooler that may be killed."""
    with pooled(server) as (url, pooler):
        lab = Lab(tmp_path, f"{url}?{QUERY}&prefix={new_prefix()}")
        yield lab, pooler
        lab.close()


@pytest.mark.timeout(300)
def test_engines_outlive_a_pooler_that_starts_anew(broken: tuple[Lab, OwnServer], server: str) -> None:
    """Workers, an engine and twice the pooler are killed in mid-run: no job is lost, none runs twice at once."""
    lab, pooler = broken
    app = lab.app("load")
    trees = [lab.start("load", "--lease", "6", "--heartbeat", "1") for _ in range(2)]
    producer = lab.python("-m", "insistent", "2000")
    chance = random.Random(5)
    for number, fault in enumerate(("worker", "pooler", "engine", "worker", "pooler"), 1):
        lab.wait_for(app, lambda n, most=number * 250: n["completed"] >= most, "some jobs")  # type: ignore[misc]
        tree = chance.choice(trees)
        if fault == "worker":
            chance.choice(wait_until(tree.workers, "a worker")).kill()
        elif fault == "engine":
            tree.kill_engine()
        else:
            pooler.kill()
            pooler.start()
    assert producer.wait(100) == 0
    lab.drained(app, timeout=100)
    assert all(tree.stop() == 0 for tree in trees)
    lab.wait_gone()
    figures = lab.figures(workers_killed=True)
    print(figures)
    assert figures.faults == {}, figures
    assert figures.jobs == 2000
    nothing_stays_open(server)
