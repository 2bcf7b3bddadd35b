"""The MongoDB store: the public suite on a replica set, a part of it on a standalone server, and what only it has."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest

from helpers.servers import KINDS, using
from jobcard.backends.base import Backend
from jobcard.backends.mongodb import MongoBackend
from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock

_made: deque[tuple[str, str]] = deque()
_AT_ONCE = 8


def new_prefix(url: str) -> str:
    """A prefix that no other store has; old ones go, as a server with thousands of collections is slow."""
    prefix = f"test-{secrets.token_hex(6)}"
    _made.append((url, prefix))
    if len(_made) > _AT_ONCE:
        forget(*_made.popleft())
    return prefix


def forget(url: str, prefix: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name in ("jobs", "loads", "records"):
            database.drop_collection(f"{prefix}.{name}")


def mongo_harness(url: str) -> Harness:
    """Each store has a prefix of its own."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = new_prefix(url)
        return lambda: MongoBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store)


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    with using(KINDS["mongodb"]) as url:
        yield url


class TestMongoDB(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, mongo_url: str) -> Iterator[Harness]:
        harness = mongo_harness(mongo_url)
        yield harness
        harness.close()
