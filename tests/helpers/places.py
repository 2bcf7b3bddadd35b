"""Every kind of store that an application may be pointed at, each test at one of its own.

A kind is SQLite, or a server of `servers.KINDS` that this jobcard has a store for: a new one joins by itself.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.servers import KINDS, MissingServerError, OwnServer, using
from jobcard.backends.registry import installed_schemes, open_backend
from jobcard.errors import StoreError

# Spoken to as others are, by the same code: they are tested on everything by `scripts/test tests/stores`.
SIBLINGS = ("valkey", "mysql", "mongodb-standalone")
# `scripts/test --quick` runs on a machine without servers.
SERVERS = [
    pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.long] if name in SIBLINGS else [])])
    for name in KINDS
    if name in installed_schemes()
]
ALL = ["sqlite", *SERVERS]
ANY_KIND = ["sqlite", *KINDS]


@dataclass(frozen=True)
class Place:
    """An empty store of a test's own. server: the one behind it, where the test may kill that.

    disk: the small file system that it is on, where the test may fill that.
    """

    kind: str
    url: str
    server: OwnServer | None = None
    disk: Path | None = None

    @property
    def port(self) -> int:
        """Where its server listens."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def behind(self, port: int) -> str:
        """The URL of the same store by another port of this machine."""
        # The members of a replica set tell their own addresses, and clients go there.
        url = re.sub(r"replicaSet=\w+", "directConnection=true", self.url)
        if self.kind in ("mysql", "mariadb"):
            url += "&ssl_mode=disabled"  # what is told apart on its way must be readable
        return url.replace(f":{self.port}/", f":{port}/")


@contextlib.contextmanager
def new_place(kind: str, folder: Path) -> Iterator[Place]:
    """A place of this kind; nothing of it is left afterwards."""
    if kind == "sqlite":
        yield Place(kind, f"sqlite:///{folder / 'jobs.db'}")
        return
    with _skipped_if_it_may_be_missing(kind), using(KINDS[kind]) as server:
        place = Place(kind, _with_prefix(server))
        try:
            yield place
        finally:
            _clear(place.url)


@contextlib.contextmanager
def own_place(kind: str, disk: Path | None = None) -> Iterator[Place]:
    """A place on a server that the test may kill. disk: where it keeps what it has."""
    with _skipped_if_it_may_be_missing(kind):
        server = OwnServer(KINDS[kind], disk)
    try:
        server.start()
        yield Place(kind, _with_prefix(server.url), server, disk)
    finally:
        server.close()


@contextlib.contextmanager
def _skipped_if_it_may_be_missing(kind: str) -> Iterator[None]:
    try:
        yield
    except MissingServerError as error:
        if kind != "mysql":
            raise
        # Only Debian sid has it, which may have a bad day: then it is not run, and that is said.
        pytest.skip(f"NOT TESTED ON MYSQL: {error}")


def _with_prefix(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}prefix=t_{secrets.token_hex(6)}_"


def _clear(url: str) -> None:
    store = open_backend(url)
    with contextlib.suppress(StoreError):
        store.truncate()
        while store.rollback() is not None:
            pass
    store.close()


def mark_of_an_exchange(kind: str, owner: str) -> bytes:
    """What stands in every exchange of an engine on its way to a server, and in little else."""
    if kind in ("redis", "valkey"):
        from jobcard.backends.redis import scripts

        return scripts.script("exchange").sha.encode()
    if kind in ("mysql", "mariadb"):
        return b";commit"
    return owner.encode()
