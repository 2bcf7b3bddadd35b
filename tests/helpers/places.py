"""Every kind of store that an application may be pointed at, each test at one of its own.

A kind is SQLite, or a server of `servers.KINDS` that this jobcard has a store for: a new one joins by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.days import TODAY
from helpers.servers import KINDS, MissingServerError, OwnServer, using
from jobcard.backends.registry import installed_schemes, open_backend
from jobcard.errors import StoreError

# `scripts/test --quick` runs on a machine without servers.
SERVERS = [
    pytest.param(name, marks=[pytest.mark.slow, *([pytest.mark.long] if server.sibling else [])])
    for name, server in KINDS.items()
    if name in installed_schemes()
]
ALL = ["sqlite", *SERVERS]
_IN_TURN = [name for name in KINDS if name in installed_schemes() and not KINDS[name].sibling]
TODAYS = _IN_TURN[TODAY % len(_IN_TURN)]
"""The server whose turn it is: what takes long meets SQLite and one server a day, and all where long tests run."""
SERVERS_BY_DAY = [
    server if server.values == (TODAYS,) else pytest.param(*server.values, marks=[*server.marks, pytest.mark.long])
    for server in SERVERS
]
BY_DAY = ["sqlite", *SERVERS_BY_DAY]
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
        return KINDS[self.kind].told_apart(self.url).replace(f":{self.port}/", f":{port}/")


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
        if not KINDS[kind].may_be_missing:
            raise
        pytest.skip(f"NOT TESTED ON {kind.upper()}: {error}")


def _with_prefix(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}prefix=t_{secrets.token_hex(6)}_"


def _clear(url: str) -> None:
    store = open_backend(url)
    with contextlib.suppress(StoreError):
        store.truncate()
        while store.rollback() is not None:
            pass
    store.close()
