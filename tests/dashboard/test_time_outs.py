"""No page holds on to the store: who waits for a lock, or for a slow statement, is told so when its time is up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from visitors import Site

from helpers.places import Place, new_place
from helpers.waiting import PATIENCE
from jobcard.client import Jobcard
from jobcard.dashboard import stores
from jobcard.errors import StoreError

pytestmark = pytest.mark.turns

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
CALL_SECONDS = 1.0
"""What a call may take in these tests; five seconds else."""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store that statements can be held up in."""
    with new_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def site(place: Place, users: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Its dashboard, in a hurry."""
    monkeypatch.setattr(stores, "STATEMENT_SECONDS", CALL_SECONDS)
    with Jobcard(place.url) as jobs:
        jobs.migrate()
        jobs.queues.create("mail")
        jobs.enqueue("add", [1], queue="mail")
        app = jobs.dashboard(users=users)
        yield Site(jobs, app)
        app.close()


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Nobody else writes to the store; on a server nobody reads it either."""
    if place.kind == "sqlite":
        import apsw

        connection = apsw.Connection(place.url.removeprefix("sqlite:///"))
        connection.execute("begin immediate")
        try:
            yield
        finally:
            connection.execute("rollback")
            connection.close()
        return
    import psycopg

    url, _, options = place.url.partition("?prefix=")
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select tablename from pg_tables where starts_with(tablename, %s)", [options]
        ).fetchall()
        assert tables
        for (table,) in tables:
            connection.execute(psycopg.sql.SQL("lock table {} in access exclusive mode").format(
                psycopg.sql.Identifier(table)))  # fmt: skip
        yield
        connection.rollback()


def within_patience(call: Callable[[], Any]) -> Any:
    """What it returns; an error if it does not come back."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it still waits"
    return found[0]


def test_no_page_waits_longer_for_the_store_than_a_call_may_take(site: Site, place: Place) -> None:
    """503 with a sentence, for pages and programs; afterwards all is as before."""
    reading = ["/", "/jobs", "/jobs?search=add", "/queues", "/schedules", "/engines", "/audit", "/metrics"]
    for path in [*reading, "/healthz"]:
        assert site.get(path).status_code == 200
    [job] = site.jobs.list()
    site.token("operator")
    with locked(place):
        if place.kind != "sqlite":  # whose readers wait for no writer
            for path in reading:
                answer = within_patience(lambda path=path: site.get(path))  # type: ignore[misc]
                assert answer.status_code == 503, (path, answer.text)
            assert within_patience(lambda: site.get("/healthz")).text == "not ok\n"
        for path, form in (("/queues/mail/pause", {}), (f"/jobs/{job.id}/cancel", {})):
            answer = within_patience(lambda path=path, form=form: site.post(path, form))  # type: ignore[misc]
            assert answer.status_code == 503, (path, answer.text)
            assert "Traceback" not in answer.text
    for path in [*reading, "/healthz"]:
        assert site.get(path).status_code == 200
    assert site.jobs.get(job.id).state == "waiting"
    assert site.post(f"/jobs/{job.id}/cancel", {}).status_code == 303


def test_a_statement_that_runs_on_is_stopped(site: Site, place: Place) -> None:
    """By the store itself: the connection is free again, and nothing goes on behind it."""
    assert site.get("/").status_code == 200
    jobs = site.app._stores.jobs()
    slow = {
        "sqlite": "with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n",
        "postgres": "select pg_sleep(60)",
    }[place.kind]

    def ask() -> StoreError | None:
        # Behind the store's back, through a connection that pages read with.
        with jobs.parts.connection as store:
            pool = store._readers if place.kind == "sqlite" else store._pool
            try:
                with pool.use() as connection:
                    connection.execute(slow)
            except StoreError as error:
                return error
        return None

    assert "took longer" in (said := str(within_patience(ask))) or "timeout" in said
    assert site.get("/jobs").status_code == 200
