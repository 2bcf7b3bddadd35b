"""Stores for the tests of what only one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import postgres
from helpers.servers import KINDS, MissingServerError, using
from jobcard.backends.postgres import PostgresBackend
from jobcard.backends.sqlite import SQLiteBackend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteBackend]:
    """A store in a file, its schema in place."""
    with_schema = SQLiteBackend(path)
    with_schema.migrate()
    yield with_schema
    with_schema.close()


@pytest.fixture(scope="session")
def postgres_urls() -> Iterator[tuple[str, str]]:
    """Two databases of this test process; in the second a commit does not wait for the disk."""
    with postgres.databases() as urls:
        yield urls


@pytest.fixture
def postgres_url(postgres_urls: tuple[str, str]) -> str:
    """A PostgreSQL database."""
    return postgres_urls[0]


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[PostgresBackend]:
    """A store in PostgreSQL, its schema in place."""
    with_schema = PostgresBackend(postgres_url, prefix=postgres.new_prefix())
    with_schema.migrate()
    yield with_schema
    with_schema.close()


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with using(KINDS["mariadb"]) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """Only Debian sid has MySQL, which may have a bad day: then it is not run, and that is said."""
    try:
        with using(KINDS["mysql"]) as url:
            yield url
    except MissingServerError as error:
        pytest.skip(f"NOT TESTED ON MYSQL: {error}")
