"""The MySQL store: the public suite on MariaDB and on MySQL, and what only such a server does to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from helpers.servers import KINDS, MissingServerError, using
from jobcard.backends.base import Backend
from jobcard.backends.mysql import MySQLBackend
from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock


def mysql_harness(url: str, **options: object) -> Harness:
    """Each store has tables of its own; they go with it."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = f"test_{secrets.token_hex(6)}_"
        return lambda: MySQLBackend(url, clock=clock, prefix=prefix, **options)

    return Harness(new_store)


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with using(KINDS["mariadb"]) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    with using(KINDS["mysql"]) as url:
        yield url


class TestMariaDB(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, mariadb_url: str) -> Iterator[Harness]:
        harness = mysql_harness(mariadb_url)
        yield harness
        harness.close()


class TestMySQL(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, mysql_url: str) -> Iterator[Harness]:
        harness = mysql_harness(mysql_url)
        yield harness
        harness.close()
