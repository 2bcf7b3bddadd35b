"""The public checks of how jobs come in, each enqueue in a transaction of somebody else's."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from helpers.days import TODAY
from helpers.servers import KINDS as SERVERS
from helpers.servers import using
from helpers.theirs import KINDS, EnqueuesWithin
from jobcard.backends.base import Backend
from jobcard.backends.mongodb import MongoBackend
from jobcard.backends.mysql import MySQLBackend
from jobcard.backends.postgres import PostgresBackend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import Harness, Shelf
from jobcard.conformance.suite import CHECKS, run_check
from jobcard.core.clock import FrozenClock

_IN_TURN = ("postgres", "mariadb", "mongodb")
TODAYS = _IN_TURN[TODAY % len(_IN_TURN)]
"""The server whose turn it is; others where long tests run."""

ENQUEUES = ("check_enqueue", "check_unique", "check_once", "check_order")
"""The modules of checks whose subject is how jobs come in."""
_CLASSES = {"sqlite": SQLiteBackend, "postgres": PostgresBackend, "mongodb": MongoBackend}


def checks() -> list[str]:
    return [name for name, check in CHECKS.items() if check.__wrapped__.__module__.endswith(ENQUEUES)]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    kind, connect = KINDS[request.param]
    folder = tmp_path_factory.mktemp("checks")
    urls: dict[int, str] = {}

    def open_at(name: str, clock: FrozenClock) -> Backend:
        url, given = server, {"prefix": name}
        if kind == "sqlite":
            url, given = f"sqlite:///{folder}/{name}.db?library={request.param}", {}
        store: Backend = _CLASSES.get(kind, MySQLBackend)(url, clock=clock, **given)
        urls[id(store)] = url
        return store

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        return functools.partial(open_at, f"t_{secrets.token_hex(6)}_", clock)

    def through(store: Backend) -> Backend:
        return cast(Backend, EnqueuesWithin(store, functools.partial(connect, urls[id(store)])))

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(using(SERVERS[kind])) if kind != "sqlite" else ""
        yield Harness(new_store, through=through, shelf=Shelf(open_at))


# SQLite, and one server a day.
DRIVERS = [
    pytest.param(name, marks=[] if kind == "sqlite" else [pytest.mark.slow if kind == TODAYS else pytest.mark.long])
    for name, (kind, _) in KINDS.items()
]


@pytest.mark.parametrize("harness", DRIVERS, indirect=True)
@pytest.mark.parametrize("name", checks())
def test_a_public_check_within(harness: Harness, name: str) -> None:
    """Whoever enqueues in a transaction of his own meets the same rules as everybody."""
    run_check(name, harness)
