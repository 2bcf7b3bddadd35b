"""The Redis store on a cluster: the public suite, and what only a cluster does: move a slot, lose a node."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from helpers.servers import RedisCluster, ValkeyCluster
from jobcard.backends.base import Backend
from jobcard.backends.redis import RedisBackend
from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock

pytestmark = pytest.mark.slow


def new_harness(url: str) -> Harness:
    """Each store has a prefix of its own, and by it a slot."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = f"test-{secrets.token_hex(6)}"
        return lambda: RedisBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store)


@pytest.fixture(scope="session", params=[RedisCluster, ValkeyCluster])
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three masters without replicas."""
    several = request.param()
    try:
        several.start()
        yield several
    finally:
        several.close()


class TestRedisCluster(BackendSuite):
    """Each test's store is in a slot of its own, on one of the three nodes."""

    histories = settings(SERVER, max_examples=8, stateful_step_count=30)

    @pytest.fixture
    def harness(self, cluster: Any) -> Iterator[Harness]:
        harness = new_harness(cluster.url)
        yield harness
        harness.close()
