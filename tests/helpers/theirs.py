"""Transactions of an application beside the jobs: its own connection by each driver, with a table of its own."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import apsw
import psycopg
import pymysql
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from jobcard.backends.base import Backend, Capabilities, Enqueued
from jobcard.backends.url import parse
from jobcard.core.job import NewJob
from jobcard.errors import JobcardError, StoreUnavailableError

_TURNS = 50


class Theirs(ABC):
    """One connection of an application, and the orders that it writes: numbers."""

    given: object
    """What `within=` is given."""

    @abstractmethod
    def begin(self) -> None: ...
    @abstractmethod
    def commit(self) -> None: ...
    @abstractmethod
    def rollback(self) -> None: ...
    @abstractmethod
    def write(self, number: int) -> None: ...
    @abstractmethod
    def numbers(self) -> list[int]:
        """The orders that are there, as this connection sees them."""

    @abstractmethod
    def close(self) -> None: ...

    @contextlib.contextmanager
    def transaction(self) -> Iterator[object]:
        """What a careful application does."""
        self.begin()
        try:
            yield self.given
        except BaseException:
            self.rollback()
            raise
        self.commit()


class _InSQL(Theirs):
    how_to_begin = "begin"
    mark = "?"

    def __init__(self, raw: Any) -> None:
        self.raw = self.given = raw
        self._run("create table if not exists orders (number integer)")
        self.commit()

    def _run(self, statement: str, *values: object) -> Any:
        cursor = self.raw.cursor()
        cursor.execute(statement, *([values] if values else []))
        return cursor

    def begin(self) -> None:
        self._run(self.how_to_begin)

    def commit(self) -> None:
        self.raw.commit()

    def rollback(self) -> None:
        self.raw.rollback()

    def write(self, number: int) -> None:
        self._run(f"insert into orders values ({self.mark})", number)  # noqa: S608

    def numbers(self) -> list[int]:
        return sorted(number for (number,) in self._run("select number from orders").fetchall())

    def close(self) -> None:
        self.raw.close()


class Sqlite3(_InSQL):
    """Python's own sqlite3, as most use it: the library begins before the first write."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(sqlite3.connect(path_of(url), **options))

    def begin(self) -> None:
        """Nothing to do."""


class Apsw(_InSQL):
    """apsw, which begins where it is told to."""

    def __init__(self, url: str) -> None:
        raw = apsw.Connection(path_of(url))
        raw.set_busy_handler(lambda _: time.sleep(0.001) is None)
        super().__init__(raw)

    def commit(self) -> None:
        if self.raw.in_transaction:
            self._run("commit")

    def rollback(self) -> None:
        self._run("rollback")


class Psycopg(_InSQL):
    """psycopg 3, as it comes: it begins before the first statement."""

    mark = "%s"

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(psycopg.connect(url.partition("?")[0], **options))

    def begin(self) -> None:
        """Nothing to do."""


class PyMySQL(_InSQL):
    """PyMySQL, as it comes: the server begins before the first statement, at repeatable read."""

    mark = "%s"

    def __init__(self, url: str, **options: Any) -> None:
        parts = parse(url)
        super().__init__(
            pymysql.connect(
                host=parts.host,
                port=parts.port or 3306,
                user=parts.user,
                password=(parts.password or "").encode(),
                database=parts.path,
                ssl_disabled=True,
                **options,
            )
        )

    def begin(self) -> None:
        """Nothing to do."""


class PyMongo(Theirs):
    """A session of pymongo."""

    def __init__(self, url: str) -> None:
        self.client = MongoClient[dict[str, Any]](url.partition("prefix=")[0].rstrip("?&"))
        self.given = self.session = self.client.start_session()
        self.database = self.client.get_default_database()
        self.orders = self.database[f"orders-{secrets.token_hex(4)}"]
        self.orders.insert_one({"_id": "made before any transaction"})

    def begin(self) -> None:
        self.session.start_transaction()

    def commit(self) -> None:
        self.session.commit_transaction()

    def rollback(self) -> None:
        self.session.abort_transaction()

    def write(self, number: int) -> None:
        self.orders.insert_one({"number": number}, session=self.session)

    def numbers(self) -> list[int]:
        session = self.session if self.session.in_transaction else None
        return sorted(one["number"] for one in self.orders.find({"number": {"$exists": True}}, session=session))

    def close(self) -> None:
        self.orders.drop()
        self.session.end_session()
        self.client.close()


def path_of(url: str) -> str:
    """The file of a SQLite URL."""
    return urlsplit(url).path[1:] if urlsplit(url).path.startswith("//") else urlsplit(url).path


KINDS: dict[str, tuple[str, Callable[[str], Theirs]]] = {
    "sqlite3": ("sqlite", Sqlite3),
    "apsw": ("sqlite", Apsw),
    "psycopg": ("postgres", Psycopg),
    "pymysql": ("mariadb", PyMySQL),
    "pymysql on mysql": ("mysql", PyMySQL),
    "pymongo": ("mongodb", PyMongo),
}
"""By the driver: the kind of place, and how a connection to it is made."""


class EnqueuesWithin:
    """A store whose every enqueue is part of a transaction of somebody else, committed when it has gone well."""

    def __init__(self, backend: Backend, connect: Callable[[], Theirs]) -> None:
        self._backend = backend
        self._connect = connect

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        with contextlib.closing(self._connect()) as theirs:
            for _ in range(_TURNS):
                # Whoever has transactions begins one anew that was in another's way.
                with contextlib.suppress(StoreUnavailableError, PyMongoError):
                    return self._enqueue(theirs, jobs)
            return self._enqueue(theirs, jobs)

    def _enqueue(self, theirs: Theirs, jobs: Sequence[NewJob]) -> list[Enqueued]:
        with theirs.transaction() as given:
            theirs.write(1)
            try:
                answers = self._backend.enqueue(jobs, within=given)
            except StoreUnavailableError:
                raise
            except JobcardError:
                theirs.write(2)  # it is still usable
                raise
            theirs.write(3)
        return answers

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._backend, verb)
