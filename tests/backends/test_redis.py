"""The Redis store passes the public suite."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from jobcard.backends.base import Backend
from jobcard.backends.redis import RedisBackend
from jobcard.conformance import BackendSuite, Harness
from jobcard.core.clock import FrozenClock

URL = os.environ.get("JOBCARD_TEST_REDIS", "redis://127.0.0.1:7399/0")


def redis_harness(url: str) -> Harness:
    """Each store has a prefix of its own."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = f"test-{secrets.token_hex(6)}"
        return lambda: RedisBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store)


class TestRedis(BackendSuite):
    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        harness = redis_harness(URL)
        yield harness
        harness.close()
