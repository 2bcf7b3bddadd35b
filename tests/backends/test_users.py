"""Users of Redis, Valkey and MongoDB with the printed rights and no others: each does its part, nothing beside it."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pymongo
import pytest
import redis

from helpers.apps import App
from helpers.keeping import viewer_backs_up_and_engine_restores
from helpers.servers import KINDS, MongoDB, OwnServer, RedisCluster, using
from jobcard import AccessDeniedError, Jobcard
from jobcard.backends.base import Fate, RecordKind, Want
from jobcard.backends.mongodb import MongoBackend
from jobcard.backends.registry import open_backend
from jobcard.backends.roles import HasRoles, Role
from jobcard.conformance import factory
from jobcard.core.rates import QueueLimit
from jobcard.errors import StoreMovedError

pytestmark = [pytest.mark.turns, pytest.mark.slow]

PASSWORD = "p-of-this-test"
SHOP = """
    from jobcard import Jobcard, JobContext

    jobs = Jobcard()

    @jobs.job(max_attempts=2)
    def add(ctx: JobContext, a: int, b: int) -> int:
        ctx.log("adding")
        if a == 0 and ctx.attempt == 1:
            raise ValueError("it broke")
        ctx.then(follow.call(a + b))
        return a + b

    @jobs.job
    def follow(n: int) -> int:
        return n
"""
PRODUCE = """
    from shop import *

    if __name__ == "__main__":
        handles = jobs.enqueue_many([add.call(a, n) for n in range(10) for a in (0, 1)])
        assert sum(h.result(timeout=60) for h in handles) == 100
        assert jobs.handle(handles[0].id).refresh().errors[0]["type"] == "ValueError"
        assert add.enqueue(1, 2).result(timeout=60) == 3
        again = [add.options(id=handles[0].id).enqueue(0, 0).id for _ in range(2)]
        assert again == [handles[0].id] * 2
        print("produced")
"""
ENGINE = """
    import sys
    from shop import jobs

    if __name__ == "__main__":
        with jobs.running():
            print("up", flush=True)
            sys.stdin.read()
"""


@dataclass
class Site:
    """A store, and users whose rights are the printed statements and nothing more."""

    url: str
    run: Callable[[str], None]
    """Runs a printed statement as an administrator."""
    new_user: Callable[[str], None]
    mark: str
    """What the names of its users end with: other test processes have users on the same server."""
    is_mongodb: bool = False

    def url_of(self, role: Role | None) -> str:
        """The store's URL for the user of a role; None: a user without any right."""
        parts = urlsplit(self.url)
        return parts._replace(
            netloc=f"{role or 'nobody'}{self.mark}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
        ).geturl()

    def client(self, role: Role | None, **settings: Any) -> Jobcard:
        return Jobcard(self.url_of(role), **settings)

    def grant(self, role: Role) -> None:
        store = open_backend(self.url)
        assert isinstance(store, HasRoles)
        self.new_user(role + self.mark)
        for statement in store.grants(role, role + self.mark):
            self.run(statement)
        store.close()


def redis_site(url: str, nodes: list[Any]) -> Site:
    def run(statement: str) -> None:
        for node in nodes:
            assert node.execute_command(*shlex.split(statement)) in (b"OK", "OK", True)

    def new_user(name: str) -> None:
        for node in nodes:
            node.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}")

    mark = f"-{secrets.token_hex(4)}"
    new_user(f"nobody{mark}")
    return Site(f"{url}{'&' if '?' in url else '?'}prefix=t{mark}", run, new_user, mark)


@contextlib.contextmanager
def on_one(kind: str) -> Iterator[Site]:
    with using(KINDS[kind]) as url, redis.Redis.from_url(url.replace("valkey", "redis")) as client:
        yield redis_site(url, [client])


@contextlib.contextmanager
def on_a_cluster() -> Iterator[Site]:
    cluster = RedisCluster()
    try:
        cluster.start()
        yield redis_site(cluster.url, [cluster.client(node) for node in cluster.nodes])
    finally:
        cluster.close()


class _Guarded(MongoDB):
    """With users; its members prove by a key that they belong together."""

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        (folder / "key").write_text(secrets.token_hex(32))
        (folder / "key").chmod(0o400)

    def command(self, folder: Path, port: int) -> list[str]:
        return [*super().command(folder, port), "--keyFile", str(folder / "key")]


@contextlib.contextmanager
def on_mongodb() -> Iterator[Site]:
    server = OwnServer(_Guarded())
    try:
        server.start()
        with pymongo.MongoClient[Any]("127.0.0.1", server.port, directConnection=True) as first:
            first.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with pymongo.MongoClient[Any](
            "127.0.0.1", server.port, directConnection=True, username="root", password=PASSWORD
        ) as client:

            def run(statement: str) -> None:
                found = re.fullmatch(r'db\.getSiblingDB\((".*?")\)\.runCommand\((.*)\)', statement)
                assert found is not None
                client[json.loads(found[1])].command(json.loads(found[2]))

            def new_user(name: str) -> None:
                client["test"].command("createUser", name, pwd=PASSWORD, roles=[])

            new_user("nobody-")
            url = server.url.replace("://", f"://root:{PASSWORD}@") + f"&prefix=t_{secrets.token_hex(4)}"
            yield Site(url, run, new_user, "-", is_mongodb=True)
    finally:
        server.close()


KIND = {
    "redis": lambda: on_one("redis"),
    "valkey": lambda: on_one("valkey"),
    "redis-cluster": on_a_cluster,
    "mongodb": on_mongodb,
}


@pytest.fixture(scope="module", params=KIND)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A store that its migration user has made, then the users of the others."""
    with KIND[request.param]() as site:
        site.grant(Role.MIGRATION)
        with site.client(Role.MIGRATION) as jobs:
            assert jobs.migrate()
        for role in (Role.ENGINE, Role.PRODUCER, Role.VIEWER):
            site.grant(role)
        yield site


@pytest.fixture(autouse=True)
def _empty(site: Site) -> None:
    with site.client(Role.MIGRATION) as jobs:
        jobs.truncate(confirm=True)


def test_engine_and_producer_work_side_by_side(site: Site, tmp_path: Path) -> None:
    """Each under its own user: results, failures, jobs from jobs, taken keys; and new jobs wake the engine."""
    app = App(tmp_path)
    for name, text in {"shop.py": SHOP, "produce.py": PRODUCE, "engine.py": ENGINE}.items():
        app.write(name, text)
    process = subprocess.Popen(
        [sys.executable, "engine.py"],
        cwd=app.directory,
        env={**app.environment(), "JOBCARD_URL": site.url_of(Role.ENGINE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            ran = app.python("produce.py", env={"JOBCARD_URL": site.url_of(Role.PRODUCER)}, timeout=100)
            assert (ran.code, ran.out) == (0, "produced\n"), ran.err
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and "no wake-ups" not in errors, errors


def test_an_engine_is_an_operator_too(site: Site) -> None:
    """Cancel, retry, pause, delete; nothing outside the store's own names."""
    with site.client(Role.ENGINE) as jobs:
        add = jobs.job(name="add")(lambda: None)
        first, second = add.enqueue(), add.options(delay=3600).enqueue()
        jobs.run_now(second.id)
        assert jobs.cancel(first.id).state == "canceled"
        assert jobs.retry(first.id).state == "waiting"
        jobs.cancel(first.id)
        jobs.queues.pause("default")
        assert jobs.delete_finished(older_than=0) == 1
        assert jobs.health().ok
        if site.is_mongodb:
            with pytest.raises(AccessDeniedError, match="--role"):
                jobs.rollback_migration()
            assert jobs.count().total == 1


def test_a_producer_can_end_no_job(site: Site) -> None:
    """It adds and looks; it takes nothing out of line, deletes nothing, and is told whose rights that takes."""
    engine, producer = open_backend(site.url_of(Role.ENGINE)), open_backend(site.url_of(Role.PRODUCER))
    waiting = factory.enqueue(producer)
    ended = factory.job_in_state(engine, "completed")
    before = [factory.row_of(producer, job_id) for job_id in (waiting, ended)]
    both = producer.enqueue([factory.new_job(unique_key="k"), factory.new_job(unique_key="k")])
    assert [each.fate for each in both] == [Fate.STORED, Fate.KEY_TAKEN]
    jobs = site.client(Role.PRODUCER)
    forbidden: list[Callable[[], object]] = [
        lambda: producer.delete([ended]),
        lambda: producer.remove_record(RecordKind.QUEUE, "default"),
        lambda: jobs.delete_finished(older_than=0),
        lambda: jobs.truncate(confirm=True),
        lambda: jobs.rollback_migration(),
    ]
    if not site.is_mongodb:
        forbidden += [lambda: factory.claim_one(producer), lambda: jobs.cancel(UUID(bytes=waiting))]
    for each in forbidden:
        with pytest.raises(AccessDeniedError, match="jobcard grants --role"):
            each()
    assert [factory.row_of(engine, row.id) for row in before] == before
    assert engine.read_records(RecordKind.QUEUE)
    for store in (jobs, engine, producer):
        store.close()


def test_keys_and_limits_need_no_more_rights(site: Site) -> None:
    """A producer takes once keys and replaces jobs; an engine claims under limits, lets in what they held, prunes."""
    engine, producer = open_backend(site.url_of(Role.ENGINE)), open_backend(site.url_of(Role.PRODUCER))
    soon = engine.facts().now + 60_000_000
    jobs = [factory.new_job(once_key="o", once_until=soon, limit_key="k", key_limit=1) for _ in range(2)]
    jobs.append(factory.new_job(once_key="o", once_until=soon, unique_key="u", limit_key="k", key_limit=1))
    fates = [Fate.STORED, Fate.KEY_TAKEN, Fate.KEY_TAKEN]
    assert [each.fate for each in producer.enqueue(jobs)] == fates
    again = jobs[1]._replace(replaces=True)
    assert [each.fate for each in producer.enqueue([again])] == [Fate.REPLACED]
    second = factory.enqueue(producer, unique_key="v", limit_key="k", key_limit=1)
    third, _ = factory.enqueue_several(producer, 2, limit_key="k", key_limit=1)
    want = Want([("default", 9)], 9, {"default": QueueLimit(5, None)})
    [claim] = engine.exchange("engine", want=want, lease=60_000_000).claimed
    assert claim.id == jobs[0].id
    assert engine.usage(["default"], ["k"])[1]["k"].at_work == 1
    factory.complete(engine, claim)
    assert engine.let_in(10) == 1
    new = factory.new_job(unique_key="v", replaces=True)
    assert [(each.fate, each.existing) for each in producer.enqueue([new])] == [(Fate.REPLACED, second)]
    assert factory.row_of(engine, third).hold is None
    assert engine.prune(states=["completed"], finished_before=soon, age=None, limit=10) == 1
    with site.client(Role.VIEWER) as viewer:
        assert viewer.count().total == 3
    for store in (engine, producer):
        store.close()


def test_a_viewer_sees_everything_and_changes_nothing(site: Site) -> None:
    """What a dashboard asks is answered; whatever writes is refused."""
    with site.client(Role.PRODUCER) as producer:
        handle = producer.job(name="add")(lambda: None).enqueue()
    with site.client(Role.VIEWER) as jobs:
        assert jobs.health().ok
        assert jobs.stats().waiting == jobs.count().total == len(jobs.list()) == 1
        assert len(jobs.count_over_time("12m")) == 12
        assert [queue.name for queue in jobs.queues.list()] == ["default"]
        assert jobs.get(handle.id).errors == [] and jobs.explain(handle.id)
        forbidden: list[Callable[[], object]] = [
            lambda: jobs.job(name="add")(lambda: None).enqueue(),
            lambda: jobs.cancel(handle.id),
            lambda: jobs.queues.pause("default"),
            lambda: jobs.truncate(confirm=True),
        ]
        for each in forbidden:
            with pytest.raises(AccessDeniedError, match="jobcard grants --role"):
                each()
        assert jobs.get(handle.id).state == "waiting"


def test_a_viewer_backs_up_and_an_engine_restores(site: Site, tmp_path: Path) -> None:
    """Whoever may see everything may keep it; whoever may write jobs may write them again."""
    viewer_backs_up_and_engine_restores(site.client, tmp_path)


def test_only_who_may_migrate_may_seal_a_mongodb_store(site: Site) -> None:
    """An engine is told whose rights it takes, and nothing is sealed; MongoDB's own `dbAdmin` is enough."""
    if not site.is_mongodb:
        pytest.skip("a rule of MongoDB's for MongoDB's users")
    name = f"keeper-{secrets.token_hex(4)}"
    site.new_user(name)
    roles = [{"role": role, "db": "test"} for role in ("readWrite", "dbAdmin")]
    given = {"grantRolesToUser": name, "roles": roles}
    site.run(f'db.getSiblingDB("test").runCommand({json.dumps(given)})')
    engine, migration = open_backend(site.url_of(Role.ENGINE)), open_backend(site.url_of(Role.MIGRATION))
    keeper = open_backend(site.url_of(Role.ENGINE).replace("engine-:", f"{name}:"))
    for user in (Role.ENGINE, Role.PRODUCER, Role.VIEWER):
        store = open_backend(site.url_of(user))
        for word in ("moved", None):
            with pytest.raises(AccessDeniedError, match="--role migration"):
                store.seal(word)
        store.close()
    assert engine.facts().seal is None
    for sealer in (migration, keeper):
        there = factory.enqueue(engine)
        ended = factory.job_in_state(engine, "completed")
        sealer.seal("moved")
        assert engine.facts().seal == "moved"
        for write in (lambda: factory.enqueue(engine), lambda: factory.claim_some(engine)):
            with pytest.raises(StoreMovedError):
                write()
        with pytest.raises(StoreMovedError):
            engine.delete([ended])
        sealer.seal(None)
        assert [claim.id for claim in factory.claim_some(engine)] == [there]
    for each in (engine, migration, keeper):
        each.close()


def test_a_user_without_rights_is_told_so(site: Site) -> None:
    """Not that the store is away: it is there, and this user may not use it."""
    with site.client(None) as jobs, pytest.raises(AccessDeniedError, match="jobcard grants"):
        jobs.count()
    wrong = site.url_of(Role.ENGINE).replace(PASSWORD, "not-it")
    with Jobcard(wrong) as jobs, pytest.raises(AccessDeniedError) as error:
        jobs.count()
    assert "not-it" not in str(error.value)


def test_an_engine_that_may_not_run_jobs_says_so_at_once(site: Site, tmp_path: Path) -> None:
    """A right that is missing inside a script, too; nobody is told that it is ready."""
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    ran = app.jobcard("start", "shop:jobs", env={"JOBCARD_URL": site.url_of(Role.VIEWER)})
    assert ran.code == 3 and "may not" in ran.err and "jobcard grants" in ran.err, ran
    assert "Traceback" not in ran.err and "starting another" not in ran.err


def test_one_right_that_is_missing_in_a_script_is_named(site: Site, tmp_path: Path) -> None:
    """Redis 7.0 answers a script with a plain ERR; the engine says which command it was, and before it is ready."""
    if site.is_mongodb:
        pytest.skip("there are no scripts")
    app = App(tmp_path)
    app.write("shop.py", SHOP)
    with site.client(Role.PRODUCER) as jobs:
        jobs.job(name="add")(lambda: None).enqueue()
    site.run(f"ACL SETUSER engine{site.mark} -zremrangebylex")
    try:
        ran = app.jobcard("start", "shop:jobs", env={"JOBCARD_URL": site.url_of(Role.ENGINE)})
    finally:
        site.run(f"ACL SETUSER engine{site.mark} +zremrangebylex")
    assert ran.code == 3 and "zremrangebylex" in ran.err and "--role engine" in ran.err, ran


def test_other_peoples_data_is_out_of_reach(site: Site) -> None:
    """Each user reaches this store only, by the driver too, whatever it may do there."""
    for role in Role:
        if site.is_mongodb:
            store = MongoBackend(site.url_of(role))._store
            database = store.jobs.database
            for attempt in (
                lambda database=database: database["others"].find_one(),
                lambda database=database: database["others"].insert_one({}),
                lambda database=database: database.command("dropDatabase"),
                lambda store=store: store.client.admin.command("listDatabases", authorizedDatabases=False),
                lambda database=database: database.command("usersInfo", 1),
            ):
                with pytest.raises(pymongo.errors.OperationFailure) as refused:
                    attempt()
                assert refused.value.code == 13
            store.client.close()
        else:
            client = open_backend(site.url_of(role))._client  # type: ignore[attr-defined]
            commands: list[tuple[object, ...]] = [
                ("GET", "others"), ("HGET", "others", "x"), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"),
                ("ACL", "WHOAMI"), ("PUBLISH", "others", "x"), ("SCRIPT", "FLUSH"),
                ("EVAL", "return redis.call('GET', KEYS[1])", 1, "others"),
            ]  # fmt: skip
            for command in commands:
                with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)) as error:
                    client.execute_command(*command)
                assert "perm" in str(error.value).lower()
            client.close()


@pytest.mark.parametrize("url", ["redis://h", "mongodb://h/shop"])
def test_no_name_reaches_further_than_it_should(url: str) -> None:
    """Whatever a user is called: it stays one name in each statement, or is refused."""
    store = open_backend(url)
    assert isinstance(store, HasRoles)
    for user in ('a" +@all "', "a +@all", "a'b", "a\\", "default", "é"):
        try:
            statements = store.grants(Role.VIEWER, user)
        except ValueError as error:
            assert "cannot be" in str(error)
            continue
        if url.startswith("redis"):
            assert shlex.split(statements[0])[2] == user
        else:
            assert json.loads(statements[1].partition(".runCommand(")[2][:-1])["grantRolesToUser"] == user
    store.close()
