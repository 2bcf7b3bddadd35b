"""The PostgreSQL store passes the public suite, straight and as behind a pooler."""

from collections.abc import Iterator

import pytest

from helpers.postgres import postgres_harness
from jobcard.conformance import AsyncBackendSuite, BackendSuite, Harness, run_histories
from jobcard.conformance.drawing import SERVER

pytestmark = pytest.mark.slow


class TestPostgres(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, postgres_url: str) -> Iterator[Harness]:
        harness = postgres_harness(postgres_url)
        yield harness
        harness.close()

    @pytest.mark.timeout(600)
    def test_random_histories_agree_with_the_model(self, postgres_urls: tuple[str, str]) -> None:
        """Without a wait for the disk after each of thousands of commits: nobody cuts the power here."""
        run_histories(postgres_harness(postgres_urls[1]).fresh, self.histories)


class TestPostgresAwaited(AsyncBackendSuite, TestPostgres):
    """The same through the async facade."""
