"""Jobs within the sessions and connections of SQLAlchemy and Django, which jobcard never imports."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from helpers import postgres
from helpers.apps import App
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.errors import ConfigError, StoreError

orders = Table("orders", MetaData(), Column("number", Integer, primary_key=True))


class Shop:
    """An application by SQLAlchemy and a store in the same database."""

    def __init__(self, store: Backend, url: str) -> None:
        self.store = store
        self.engine: Engine = create_engine(url, poolclass=NullPool)
        orders.drop(self.engine, checkfirst=True)
        orders.create(self.engine)

    def enqueue(self, within: object) -> bytes:
        job = factory.new_job()
        self.store.enqueue([job], within=within)
        return job.id

    def is_there(self, job_id: bytes) -> bool:
        return bool(self.store.get([job_id]))

    def numbers(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(orders.c.number)))


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.slow),
        pytest.param("mariadb", marks=pytest.mark.slow),
    ]
)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
        store = open_backend(f"{url}?library=sqlite3")
    elif request.param == "postgresql":
        given = request.getfixturevalue("postgres_url")
        url = given.replace("postgresql:", "postgresql+psycopg:")
        store = open_backend(given, prefix=postgres.new_prefix())
    else:
        given = request.getfixturevalue("mariadb_url")
        url = given.replace("mariadb:", "mysql+pymysql:")
        store = open_backend(given, prefix=f"t_{secrets.token_hex(6)}_")
    store.migrate()
    shop = Shop(store, url)
    yield shop
    shop.engine.dispose()
    store.close()


class TestSQLAlchemy:
    def test_a_session(self, shop: Shop) -> None:
        """Its commit brings what it flushed and the job, its rollback neither."""
        for ends, there in ((Session.rollback, False), (Session.commit, True)):
            with Session(shop.engine) as session:
                session.execute(insert(orders), {"number": 1})
                job_id = shop.enqueue(session)
                session.execute(insert(orders), {"number": 2})
                assert not shop.is_there(job_id)
                ends(session)
            assert shop.is_there(job_id) == there
            assert shop.numbers() == ([1, 2] if there else [])

    def test_the_first_thing_that_a_session_does(self, shop: Shop) -> None:
        """It begins by that, as by any statement."""
        for made in (sessionmaker(shop.engine)(), scoped_session(sessionmaker(shop.engine))):
            job_id = shop.enqueue(made)
            assert not shop.is_there(job_id)
            made.commit()
            assert shop.is_there(job_id)
            assert not shop.is_there(shop.enqueue(made))
            made.rollback()
            made.close()

    def test_the_first_thing_that_a_connection_does(self, shop: Shop) -> None:
        """Its commit does not pass over a job that it has not seen."""
        with shop.engine.connect() as connection:
            job_id = shop.enqueue(connection)
            assert not shop.is_there(job_id)
            connection.commit()
            assert shop.is_there(job_id)
            lost = shop.enqueue(connection)
        assert not shop.is_there(lost)

    def test_what_stands_on_a_connection(self, shop: Shop) -> None:
        """Transactions of both kinds, and the pool's own connection."""
        with shop.engine.begin() as connection:
            ids = [shop.enqueue(connection), shop.enqueue(connection.get_transaction())]
        with Session(shop.engine) as session, session.begin() as transaction:
            ids.append(shop.enqueue(transaction))
        raw = shop.engine.raw_connection()
        raw.cursor().execute("select 1")
        ids.append(shop.enqueue(raw))
        raw.commit()
        raw.close()
        assert all(map(shop.is_there, ids))

    def test_a_nested_transaction(self, shop: Shop) -> None:
        """A job enqueued in one goes with it, when only that is rolled back."""
        with Session(shop.engine) as session, session.begin():
            before = shop.enqueue(session)
            session.execute(insert(orders), {"number": 1})
            with contextlib.suppress(IntegrityError), session.begin_nested():
                inside = shop.enqueue(session)
                session.execute(insert(orders), {"number": 1})
            after = shop.enqueue(session)
        assert [shop.is_there(job_id) for job_id in (before, inside, after)] == [True, False, True]
        assert shop.numbers() == [1]

    def test_without_a_transaction(self, shop: Shop) -> None:
        """An engine that commits every statement ties the job to nothing."""
        engine = shop.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, pytest.raises(ConfigError, match="autocommit"):
            shop.enqueue(connection)

    def test_what_can_give_no_connection(self, shop: Shop) -> None:
        """Whatever SQLAlchemy raises, it comes out as one of ours; an engine itself is in no transaction."""
        with pytest.raises(ConfigError, match=r"this is a sqlalchemy\.engine\.base\.Engine"):
            shop.enqueue(shop.engine)
        with pytest.raises(StoreError, match="UnboundExecutionError"):
            shop.enqueue(Session())
        with shop.engine.connect() as connection:
            pass
        with pytest.raises(StoreError, match="ResourceClosedError"):
            shop.enqueue(connection)

    @pytest.mark.slow
    def test_what_is_asynchronous(self, postgres_url: str) -> None:
        """It is refused in words, before anything was asked of it."""
        engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
        with contextlib.closing(open_backend(postgres_url, prefix=postgres.new_prefix())) as store:
            store.migrate()
            for given in (AsyncSession(engine), engine.connect()):
                with pytest.raises(ConfigError, match="not asynchronous"):
                    store.enqueue([factory.new_job()], within=given)

    def test_another_driver(self, tmp_path: Path) -> None:
        """The store has apsw, SQLAlchemy has not: the error says what to do."""
        url = f"sqlite:///{tmp_path}/app.db"
        with contextlib.closing(open_backend(url)) as store:
            store.migrate()
            engine = create_engine("sqlite://")
            with engine.connect() as connection, pytest.raises(ConfigError, match="library=sqlite3"):
                store.enqueue([factory.new_job()], within=connection)
            engine.dispose()


DJANGO = """
    import json, sys

    import django
    from django.conf import settings

    databases, url, config = json.loads(sys.argv[1])
    settings.configure(DATABASES={"default": databases}, USE_TZ=True)
    django.setup()

    from django.db import connection, transaction
    from jobcard import ConfigError, Jobcard

    jobs = Jobcard(url, config=config)

    @jobs.job(name="mail")
    def mail(number: int) -> None: ...

    jobs.migrate()
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists orders")
        cursor.execute("create table orders (number integer)")

    def order(number):
        with connection.cursor() as cursor:
            cursor.execute("insert into orders values (%s)", [number])
        return mail.options(within=connection, unique=True).enqueue(number)

    with transaction.atomic():
        kept = order(1)
        print(jobs.find(kept.id) is None)
    print(jobs.get(kept.id).args)
    jobs.cancel(kept.id)

    try:
        with transaction.atomic():
            lost = order(2)
            raise LookupError
    except LookupError:
        print(jobs.find(lost.id))

    with transaction.atomic():
        first = order(3)
        try:
            with transaction.atomic():
                print(order(4).duplicate)
                raise LookupError
        except LookupError:
            pass
        print(order(5) == first)
    print(jobs.get(first.id).args, jobs.count(state="waiting").total)

    try:
        order(6)
    except ConfigError as error:
        print(error)
    with connection.cursor() as cursor:
        cursor.execute("select number from orders order by number")
        print([number for (number,) in cursor.fetchall()])
    jobs.close()
"""


class TestDjango:
    def _run(self, folder: Path, databases: dict[str, object], url: str, config: dict[str, object]) -> None:
        app = App(folder)
        app.write("shop.py", DJANGO)
        ran = app.python("shop.py", json.dumps([databases, url, config]))
        assert ran.code == 0, ran.err
        *lines, error, numbers = ran.out.splitlines()
        assert lines == ["True", "[1]", "None", "True", "True", "[3] 1"]
        assert "autocommit mode and in no transaction" in error and "transaction.atomic()" in error
        assert numbers == "[1, 3, 5, 6]"

    def test_on_sqlite(self, tmp_path: Path) -> None:
        """`transaction.atomic()` decides, also the inner one; outside of it there is nothing to join."""
        file = str(tmp_path / "app.db")
        databases: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": file}
        self._run(tmp_path, databases, f"sqlite:///{file}?library=sqlite3", {})

    @pytest.mark.slow
    def test_on_postgresql(self, tmp_path: Path, postgres_url: str) -> None:
        """The same, by the connection's own adapters."""
        parts = sqlalchemy.make_url(postgres_url)
        databases: dict[str, object] = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.database,
            "USER": parts.username,
            "PASSWORD": parts.password,
            "HOST": parts.host,
            "PORT": parts.port,
        }
        self._run(tmp_path, databases, postgres_url, {"prefix": postgres.new_prefix()})


def test_neither_is_imported() -> None:
    """Whoever does not use them need not have them."""
    code = "import sys, jobcard.backends.within as w; print({'sqlalchemy', 'django'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "set()"
