"""The packed rows in Redis grow at their end: engines of an older and a newer jobcard work on the same jobs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from helpers.servers import KINDS, using
from jobcard.backends.base import RecordKind, Want
from jobcard.backends.redis import RedisBackend, rows, scripts
from jobcard.backends.redis.rows import CARD, DIGEST, LIVE, pack, unpack
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.job import Claimed
from jobcard.errors import SchemaVersionError

Rewrite = Callable[[list[Any]], list[Any]]


def a_field_more(values: list[Any]) -> list[Any]:
    """As a newer jobcard writes it."""
    return [*values, "of tomorrow"]


def a_field_less(values: list[Any]) -> list[Any]:
    """As an older jobcard wrote it."""
    return values[:-1]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with using(KINDS["redis"]) as server:
        yield server


@pytest.fixture
def store(url: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(url, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    backend.close()


class Rows:
    """The rows of a store, as they lie there."""

    def __init__(self, url: str, store: RedisBackend) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._keys = store._keys

    def live(self, job_id: bytes) -> Any:
        return unpack(self._client.hget(self._keys.live, job_id.hex()))

    def rewrite(self, job_id: bytes, how: Rewrite) -> None:
        """Both rows of a job, in another layout."""
        self._client.hset(self._keys.live, job_id.hex(), pack(how(self.live(job_id))))
        card = self._client.hget(self._keys.card, job_id.hex())
        self._client.hset(self._keys.card, job_id.hex(), card[:DIGEST] + pack(how(unpack(card[DIGEST:]))))

    def rewrite_lists(self, key: str, job_id: bytes) -> None:
        """The tries or lines of a job, each with a field more."""
        entries = unpack(self._client.hget(key, job_id.hex()))
        self._client.hset(key, job_id.hex(), pack([a_field_more(entry) for entry in entries]))

    def records(self) -> Any:
        return {name: unpack(text) for name, text in self._client.hgetall(self._keys.records).items()}

    def rewrite_records(self) -> None:
        """Every small record with a field more."""
        for name, values in self.records().items():
            self._client.hset(self._keys.records, name, pack(a_field_more(values)))

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def stored(url: str, store: RedisBackend) -> Iterator[Rows]:
    found = Rows(url, store)
    yield found
    found.close()


@contextlib.contextmanager
def newer_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts of a jobcard that has two fields more."""
    with monkeypatch.context() as patch:
        patch.setattr(scripts, "LIVE", (*LIVE, "of_tomorrow", "of_the_day_after"))
        scripts.script.cache_clear()
        yield
    scripts.script.cache_clear()


def claim_all(store: RedisBackend) -> list[Claimed]:
    return store.exchange("engine", want=Want([("default", 100)], 100), lease=60_000_000).claimed


@pytest.mark.parametrize("how", [a_field_more, a_field_less])
def test_a_row_of_another_layout_is_read_and_goes_every_way(store: RedisBackend, stored: Rows, how: Rewrite) -> None:
    """Claimed, renewed, completed, retried, canceled, looked up: as one of this layout."""
    ids = [factory.enqueue(store) for _ in range(3)]
    for job_id in ids:
        stored.rewrite(job_id, how)
    assert {row.id for row in store.get(ids)} == set(ids)
    done, failing, canceled = sorted(claim_all(store), key=lambda claim: ids.index(claim.id))
    assert store.renew("engine", [(done.ref, done.token)], lease=60_000_000) == []
    assert factory.complete(store, [done], result='"result"') == []
    factory.settle(store, failing, states.retry(failing, reason="error", delay=0, error="{}", kind=None))
    factory.settle(store, canceled, states.cancel_at_work(canceled, reason="enough"))
    assert {row.id: row.state for row in store.get(ids)} == dict(
        zip(ids, ["completed", "waiting", "canceled"], strict=True)
    )
    assert [(one.state, one.result) for one in store.ended([done.id])] == [("completed", '"result"')]
    assert [claim.id for claim in claim_all(store)] == [failing.id]


def test_what_a_newer_jobcard_added_outlives_every_move(store: RedisBackend, stored: Rows) -> None:
    """An engine of this code completes a job whose row has a field more, and the field is still there."""
    by_completion, by_outcome, by_operator = ids = [factory.enqueue(store) for _ in range(3)]
    for job_id in ids:
        stored.rewrite(job_id, a_field_more)
    assert store.apply_by_operator(by_operator, states.cancel_waiting(reason="enough")) is not None
    claims = {claim.id: claim for claim in claim_all(store)}
    assert factory.complete(store, [claims[by_completion]]) == []
    failed = claims[by_outcome]
    factory.settle(store, failed, states.fail(failed, reason="error", error="{}", kind=None))
    for job_id, state in zip(ids, ["completed", "failed", "canceled"], strict=True):
        live = stored.live(job_id)
        assert (live[0], live[len(LIVE) :]) == (state, ["of tomorrow"])


def test_a_newer_jobcard_moves_rows_of_this_one(
    store: RedisBackend, stored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scripts give an older row what it lacks, and both go on with it: a row with a hole would be no array."""
    older, newer = factory.enqueue(store), None
    with newer_scripts(monkeypatch):
        newer = factory.enqueue(store)
        claims = claim_all(store)
        assert [claim.id for claim in claims] == [older, newer]
    assert len(stored.live(older)) == len(stored.live(newer)) == len(LIVE) + 2
    assert factory.complete(store, claims) == []
    assert [row.state for row in store.get([older, newer])] == ["completed", "completed"]


def test_tries_lines_and_records_grow_at_their_end_too(store: RedisBackend, stored: Rows) -> None:
    """A field more in them is passed over, and a record that is written again keeps it."""
    claim = factory.claimed_job(store)
    noted = states.retry(claim, reason="error", delay=0, error='"failed"', kind=None)
    factory.settle(store, claim, states.note(claim, ago=0, lines=((0, "a line"),)))
    factory.settle(store, claim, noted)
    store.write_record(RecordKind.QUEUE, "mail", "{}")
    stored.rewrite_lists(store._keys.attempts, claim.id)
    stored.rewrite_lists(store._keys.lines, claim.id)
    stored.rewrite_records()
    assert [tried.error for tried in store.attempts([claim.id])] == ['"failed"']
    assert [line.text for line in store.log_lines([claim.id])] == ["a line"]
    store.write_record(RecordKind.QUEUE, "mail", '{"paused": true}')
    assert ("mail", '{"paused": true}') in [(one.key, one.value) for one in store.read_records(RecordKind.QUEUE)]
    assert stored.records()[b"queue\0mail"][3:] == ["of tomorrow"]


def test_a_row_without_what_it_always_had_is_still_unreadable(store: RedisBackend, stored: Rows) -> None:
    """Only what was added later may be missing: half a row is set aside, and the others come."""
    torn, whole = factory.enqueue(store), factory.enqueue(store)
    stored.rewrite(torn, lambda values: values[:5])
    assert [claim.id for claim in claim_all(store)] == [whole]


def test_scripts_see_the_limit_key_of_a_job(store: RedisBackend, stored: Rows) -> None:
    """It is in the part that scripts read, so that a claim can go by it."""
    job_id = factory.enqueue(store, limit_key="mail")
    assert stored.live(job_id)[rows.PLACE["limit_key"] - 1] == "mail"
    assert "limit_key" not in CARD
    assert factory.row_of(store, job_id).limit_key == "mail"


def test_a_missing_schema_names_the_version_that_is_wanted(url: str) -> None:
    """Not some version: the one this code has."""
    empty = RedisBackend(url, prefix=f"test-{secrets.token_hex(6)}")
    with pytest.raises(SchemaVersionError) as caught:
        factory.enqueue(empty)
    assert (caught.value.found, caught.value.wanted) == (0, scripts.migrations()[-1].number)
    empty.close()
