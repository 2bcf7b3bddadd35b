"""The base of SQL stores: a store of one's own on it, in few lines, passes the whole public suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from helpers import postgres
from jobcard.backends.base import Backend
from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock
from samples.pg8000_store import PG8000Backend


def pg8000_url(url: str) -> str:
    return url.replace("postgresql://", "pg8000://")


@pytest.mark.slow
class TestPG8000(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, postgres_urls: tuple[str, str]) -> Iterator[Harness]:
        def new_store(clock: FrozenClock) -> Callable[[], Backend]:
            prefix = postgres.new_prefix()
            return lambda: PG8000Backend(pg8000_url(postgres_urls[1]), clock=clock, prefix=prefix)

        harness = Harness(new_store)
        yield harness
        harness.close()
