"""The PostgreSQL store passes the public suite, straight and as behind a pooler."""

from collections.abc import Iterator

import pytest

from helpers.facade import AT_ONCE, check_through_the_facade, histories_through_the_facade
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


@pytest.mark.long
class TestPostgresAwaited(AsyncBackendSuite, TestPostgres):
    """The same through the async facade."""


@pytest.mark.parametrize("name", AT_ONCE)
def test_through_the_async_facade(name: str, postgres_url: str) -> None:
    """The facade is the same for every store; what threads and connections have a part in is seen on each."""
    check_through_the_facade(name, postgres_harness(postgres_url))


@pytest.mark.slow
@pytest.mark.turns
def test_histories_through_the_async_facade(postgres_urls: tuple[str, str]) -> None:
    """Awaited, too, the store holds what the model holds, and several threads are told what fits together."""
    histories_through_the_facade(postgres_harness(postgres_urls[1]))
