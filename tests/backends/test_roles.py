"""Users of the server with the documented rights and no others: each can do its part, and nothing beside it."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from helpers import mysql_servers, postgres
from helpers.apps import App
from helpers.keeping import viewer_backs_up_and_engine_restores
from helpers.waiting import wait_until
from jobcard import AccessDeniedError, Jobcard
from jobcard.backends.base import RecordKind
from jobcard.backends.mysql import grants as mysql_grants
from jobcard.backends.postgres import grants as postgres_grants
from jobcard.backends.registry import open_backend
from jobcard.backends.roles import HasRoles, Role
from jobcard.conformance import factory

pytestmark = [pytest.mark.turns, pytest.mark.slow]

PASSWORD = "p-of-this-test"


@dataclass
class Site:
    """A store on a server, and users whose rights are the printed statements and nothing more."""

    url: str
    admin: Callable[[str], Sequence[tuple[object, ...]]]
    users: dict[Role | None, str]

    def url_of(self, role: Role | None) -> str:
        """The store's URL for the user of a role; None: a user without any right."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{self.users[role]}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()

    def client(self, role: Role | None, **settings: bool) -> Jobcard:
        return Jobcard(self.url_of(role), migrate=settings.get("migrate", True))

    def grant(self, role: Role) -> None:
        store = open_backend(self.url)
        assert isinstance(store, HasRoles)
        for statement in store.grants(role, self.users[role]):
            self.admin(statement)
        store.close()


@contextlib.contextmanager
def on_postgres(url: str) -> Iterator[Site]:
    store = f"{url}?schema=s_{secrets.token_hex(4)}&prefix={postgres.new_prefix()}"
    users = {role: f"{role or 'nobody'}_{secrets.token_hex(4)}" for role in (*Role, None)}
    with psycopg.connect(url, autocommit=True) as connection:

        def admin(statement: str) -> Sequence[tuple[object, ...]]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        for user in users.values():
            admin(f"create role {user} login password '{PASSWORD}'")
        yield Site(store, admin, users)
        for user in users.values():
            admin(f"drop owned by {user} cascade")
            admin(f"drop role {user}")


@contextlib.contextmanager
def on_mysql(url: str) -> Iterator[Site]:
    store = f"{url}?prefix={mysql_servers.new_prefix()}"
    users = {role: f"{role or 'nobody'}_{secrets.token_hex(4)}" for role in (*Role, None)}
    with contextlib.closing(mysql_servers.direct_connection(url)) as connection:

        def admin(statement: str) -> Sequence[tuple[object, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                rows: Sequence[tuple[object, ...]] = cursor.fetchall()
                return rows

        for user in users.values():
            admin(f"create user `{user}`@`%` identified by '{PASSWORD}'")
        # It may come in, and no more: a user of one table would do as well.
        admin(f"grant create temporary tables on jobcard.* to `{users[None]}`@`%`")
        yield Site(store, admin, users)
        backend = open_backend(store)
        while backend.rollback() is not None:
            pass
        backend.close()
        for user in users.values():
            admin(f"drop user `{user}`@`%`")


@pytest.fixture(params=["postgres", "mariadb", "mysql"])
def bare(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server with users who may do nothing yet."""
    url = request.getfixturevalue(f"{request.param}_url")
    with on_postgres(url) if request.param == "postgres" else on_mysql(url) as site:
        yield site


@pytest.fixture
def site(bare: Site) -> Site:
    """A store that its migration user has made, then the rights of the others."""
    bare.grant(Role.MIGRATION)
    with bare.client(Role.MIGRATION) as jobs:
        assert jobs.migrate()
    for role in (Role.ENGINE, Role.PRODUCER, Role.VIEWER):
        bare.grant(role)
    return bare


SHOP = """
    import os, signal, sys
    from jobcard import Jobcard, JobContext, JobFailedError, Queue

    jobs = Jobcard(queues=[Queue("slow", concurrency=2)])

    @jobs.job(max_attempts=3)
    def add(ctx: JobContext, a: int, b: int) -> int:
        ctx.log("adding")
        ctx.then(follow.call(a + b))
        return a + b

    @jobs.job(queue="slow")
    def follow(n: int) -> None:
        if n == 0:
            raise ValueError("it broke")

    @jobs.job(max_attempts=2, max_crashes=1)
    def crash() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @jobs.job
    def from_a_job() -> str:
        return add.enqueue(3, 4).id.hex
"""

PRODUCE = """
    import sys
    from shop import *

    if __name__ == "__main__":
        handles = jobs.enqueue_many([add.call(1, n) for n in range(30)])
        assert [h.result(timeout=60) for h in handles] == [1 + n for n in range(30)]
        assert jobs.handle(from_a_job.enqueue().result(timeout=60)).result(timeout=60) == 7
        again = [add.options(id=handles[0].id).enqueue(1, 0).id for _ in range(2)]
        assert again == [handles[0].id] * 2
        try:
            crash.enqueue().result(timeout=60)
        except JobFailedError as error:
            assert error.reason == "crash" and error.errors, error
        else:
            raise AssertionError("it did not crash")
        print("produced", jobs.count()["failed"])
"""


def test_engine_and_producer_work_side_by_side(site: Site, tmp_path: Path) -> None:
    """Each under its own user, on a schema that neither may change: results, failures, crashes, jobs from jobs."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    app.write("produce.py", PRODUCE)
    app.write(
        "engine.py",
        """
        import sys
        from shop import jobs

        if __name__ == "__main__":
            with jobs.running():
                print("up", flush=True)
                sys.stdin.read()
        """,
    )
    with app_running(app, "engine.py", {"JOBCARD_URL": site.url_of(Role.ENGINE)}):
        ran = app.python("produce.py", env={"JOBCARD_URL": site.url_of(Role.PRODUCER)}, timeout=120)
        assert (ran.code, ran.out) == (0, "produced 1\n"), ran.err
    assert PASSWORD not in ran.err


@contextlib.contextmanager
def app_running(app: App, program: str, env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, program],
        cwd=app.directory,
        env={**app.environment(), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    with process:
        try:
            assert process.stdout.readline() == "up\n"
            yield
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_an_engine_may_do_everything_but_to_the_schema(site: Site) -> None:
    """Operators' verbs, records and pruning too; the tables it cannot drop or change."""
    with site.client(Role.ENGINE) as jobs:
        version = jobs.health().schema_version
        add = jobs.job(name="add")(lambda: None)
        first, second = add.enqueue(), add.options(delay=3600).enqueue()
        jobs.snooze(second.id, 60)
        jobs.run_now(second.id)
        assert jobs.cancel(first.id).state == "canceled"
        assert jobs.retry(first.id).state == "waiting"
        jobs.cancel(first.id)
        jobs.queues.pause("default")
        assert jobs.delete_finished(older_than=0) == 1
        with pytest.raises(AccessDeniedError, match="--role migration"):
            jobs.rollback_migration()
        assert jobs.count().total == 1
        jobs.truncate(confirm=True)
        assert (jobs.count().total, jobs.health().schema_version) == (0, version)


def test_a_producer_can_end_no_job(site: Site) -> None:
    """It adds and looks; it cannot claim, complete, cancel or delete a job, nor change what a queue is told."""
    engine, producer = open_backend(site.url_of(Role.ENGINE)), open_backend(site.url_of(Role.PRODUCER))
    waiting = factory.enqueue(producer)
    ended = factory.job_in_state(engine, "completed")
    held = factory.claimed_job(engine)
    before = [factory.row_of(producer, job_id) for job_id in (waiting, ended, held.id)]
    jobs = site.client(Role.PRODUCER)
    for forbidden in (
        lambda: factory.claim_one(producer),
        lambda: factory.complete(producer, held),
        lambda: factory.complete_in_exchange(producer, held),
        lambda: producer.renew("engine", [(held.ref, held.token)], lease=10**9),
        lambda: producer.delete([ended]),
        lambda: producer.write_record(RecordKind.QUEUE, "default", "{}"),
        lambda: producer.remove_record(RecordKind.QUEUE, "default"),
        lambda: jobs.cancel(UUID(bytes=waiting)),
        lambda: jobs.cancel(UUID(bytes=held.id)),
        lambda: jobs.delete_finished(older_than=0),
        lambda: jobs.queues.pause("default"),
        lambda: jobs.truncate(confirm=True),
        lambda: jobs.rollback_migration(),
    ):
        with pytest.raises(AccessDeniedError, match="jobcard grants --role"):
            forbidden()
    assert [factory.row_of(engine, row.id) for row in before] == before
    for each in (jobs, engine, producer):
        each.close()


def test_a_viewer_sees_everything_and_changes_nothing(site: Site) -> None:
    """What a dashboard asks is answered; whatever writes is refused."""
    with site.client(Role.PRODUCER) as producer:
        handle = producer.job(name="add")(lambda: None).enqueue()
    with site.client(Role.VIEWER) as jobs:
        health = jobs.health()
        assert health.ok and health.size_bytes is not None and health.connections is not None, health
        assert jobs.stats().waiting == jobs.count().total == len(jobs.list()) == 1
        assert jobs.count_by_queue().keys() == {"default"}
        assert len(jobs.count_over_time("12m")) == 12
        assert [queue.name for queue in jobs.queues.list()] == ["default"]
        assert jobs.engines.list() == []
        assert jobs.get(handle.id).errors == [] and jobs.explain(handle.id)
        for forbidden in (
            lambda: jobs.job(name="add")(lambda: None).enqueue(),
            lambda: jobs.cancel(handle.id),
            lambda: jobs.queues.pause("default"),
            lambda: jobs.rollback_migration(),
        ):
            with pytest.raises(AccessDeniedError):
                forbidden()
        assert jobs.get(handle.id).state == "waiting"


def test_a_migration_moves_the_schema_both_ways(site: Site) -> None:
    """Down and up again; then the rights of the others have to be given again, for the tables are new."""
    with site.client(Role.MIGRATION) as jobs:
        while jobs.rollback_migration() is not None:
            pass
        assert jobs.migrate()
    site.grant(Role.ENGINE)
    with site.client(Role.ENGINE) as jobs:
        assert jobs.count().total == 0


@pytest.mark.parametrize("role", [Role.ENGINE, Role.PRODUCER, Role.VIEWER])
@pytest.mark.parametrize("migrate", [True, False])
def test_the_first_use_asks_for_no_more_than_it_needs(site: Site, role: Role, migrate: bool) -> None:
    """Nobody needs the right to make tables that are there."""
    with site.client(role, migrate=migrate) as jobs:
        assert jobs.count().total == 0


def test_without_rights_it_is_said_what_is_missing(site: Site) -> None:
    """Not that the store is away: it is there, and this user may not use it; and where the remedy is."""
    with site.client(None) as jobs, pytest.raises(AccessDeniedError) as error:
        jobs.count()
    assert "jobcard grants" in str(error.value)
    with (
        site.client(Role.VIEWER) as jobs,
        pytest.raises(AccessDeniedError, match=r"denied.*_(jobs|records|meta).*--role producer"),
    ):
        jobs.job(name="add")(lambda: None).enqueue()


def test_an_engine_that_may_not_run_jobs_says_so_at_once(site: Site, tmp_path: Path) -> None:
    """The rights are looked at before anybody is told that it is ready, and it is not started again and again."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    ran = app.jobcard("start", "shop:jobs", env={"JOBCARD_URL": site.url_of(Role.VIEWER)})
    assert ran.code == 3 and "may not do that" in ran.err and "jobcard grants" in ran.err, ran
    assert "Traceback" not in ran.err and "starting another" not in ran.err


def test_a_wrong_password_is_no_store_that_is_away(bare: Site, tmp_path: Path) -> None:
    """Asking again would not help, so it is said at once; by the engine too."""
    wrong = bare.url_of(Role.ENGINE).replace(PASSWORD, "not-it")
    with Jobcard(wrong) as jobs, pytest.raises(AccessDeniedError, match="refused the connection"):
        jobs.count()
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    ran = app.jobcard("start", "shop:jobs", env={"JOBCARD_URL": wrong})
    assert ran.code == 3 and "refused the connection" in ran.err and "not-it" not in ran.err, ran


def test_no_name_reaches_further_than_it_should(bare: Site) -> None:
    """Whatever a user is called: it stays one name in each statement."""
    hostile = ['a" to public; drop table x; --', "a`@`%`; drop user root; --", "a'; --", "a\\", "é ü"]
    store = open_backend(bare.url)
    assert isinstance(store, HasRoles)
    for user in hostile:
        for role in Role:
            for statement in store.grants(role, user):
                # The server takes it for what it is: a user who is not there.
                with contextlib.suppress(psycopg.Error, mysql_servers.pymysql.Error):
                    bare.admin(statement)
                    assert "grant" not in statement, statement
    for nonsense in ("", "a\x00b", "a\nb", "x" * 300):
        with pytest.raises(ValueError, match="cannot be a name"):
            store.grants(Role.VIEWER, nonsense)
    store.close()


@pytest.mark.parametrize("module", [postgres_grants, mysql_grants], ids=["postgres", "mysql"])
def test_every_table_is_thought_of(module: object) -> None:
    """A new table gets rights for each role, or the test says that it was forgotten."""
    rights = module.RIGHTS  # type: ignore[attr-defined]
    tables = set(module.TABLES)  # type: ignore[attr-defined]
    assert all(set(each) == tables for each in rights.values())


def test_a_running_engine_outlives_a_refusal(site: Site, tmp_path: Path) -> None:
    """A password that is changed too early, and put right: the same engine goes on."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    app.write(
        "engine.py",
        """
        import sys
        from shop import jobs

        if __name__ == "__main__":
            with jobs.running():
                print("up", flush=True)
                sys.stdin.read()
        """,
    )
    user = site.users[Role.ENGINE]
    is_postgres = site.url.startswith("postgres")

    def change(password: str) -> None:
        if is_postgres:
            site.admin(f"alter role {user} password '{password}'")
            site.admin(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'")  # noqa: S608
            return
        site.admin(f"alter user `{user}`@`%` identified by '{password}'")
        for row in site.admin("show processlist"):
            if row[1] == user:
                with contextlib.suppress(mysql_servers.pymysql.Error):
                    site.admin(f"kill {row[0]}")

    with (
        site.client(Role.PRODUCER) as jobs,
        app_running(app, "engine.py", {"JOBCARD_URL": site.url_of(Role.ENGINE)}),
    ):
        [engine] = jobs.engines.list()
        jobs.enqueue("shop.follow", args=[1], queue="slow").result(timeout=30)
        change("another")
        handle = jobs.enqueue("shop.follow", args=[1], queue="slow")
        wait_until(lambda: refusals(site), "an engine that is refused")
        assert handle.refresh().state == "waiting"
        change(PASSWORD)
        handle.result(timeout=60)
        assert [each.pid for each in jobs.engines.list()] == [engine.pid]


def refusals(site: Site) -> bool:
    """Whether nobody of this user is connected any more."""
    user = site.users[Role.ENGINE]
    if site.url.startswith("postgres"):
        return site.admin(f"select count(*) from pg_stat_activity where usename = '{user}'") == [(0,)]  # noqa: S608
    return not [row for row in site.admin("show processlist") if row[1] == user]


def test_a_viewer_backs_up_and_an_engine_restores(site: Site, tmp_path: Path) -> None:
    """Whoever may see everything may keep it; whoever may write jobs may write them again."""
    viewer_backs_up_and_engine_restores(site.client, tmp_path)
