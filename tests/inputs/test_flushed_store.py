"""A Redis that was emptied while an engine was at work: said by every call, nothing written, and no loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from helpers.places import new_place
from jobcard.backends.base import Backend, Completions, Filter, Want
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.errors import SchemaVersionError

pytestmark = pytest.mark.slow
LEASE = 60_000_000


def keys_of(client: Any, url: str) -> list[bytes]:
    [prefix] = parse_qs(urlsplit(url).query)["prefix"]
    return list(client.scan_iter(match=f"{{{prefix}}}*", count=10_000))


def test_an_emptied_store_is_told_and_left_empty(tmp_path: Path) -> None:
    """Whatever an engine or a client does next ends with `SchemaVersionError`; a migration makes a new store of it."""
    with new_place("redis", tmp_path) as place, redis.Redis.from_url(place.url.partition("?")[0]) as client:
        store: Backend = open_backend(place.url)
        store.migrate()
        factory.enqueue_several(store, 10)
        want = Want([("default", 5)], 5)
        claimed = store.exchange("engine", want=want, lease=LEASE).claimed
        client.delete(*keys_of(client, place.url))
        done = Completions([c.ref for c in claimed], [c.token for c in claimed], ["1"] * 5, [0] * 5)
        for call in (
            lambda: store.exchange("engine", completions=done, want=want, lease=LEASE),
            lambda: store.exchange("engine", want=want, lease=LEASE),
            lambda: factory.enqueue(store),
            store.check_schema,
        ):
            with pytest.raises(SchemaVersionError, match="version 0"):
                call()
        assert keys_of(client, place.url) == []
        assert store.migrate() == [1, 2, 3]
        job_id = factory.enqueue(store)
        assert [job.id for job in store.exchange("engine", want=want, lease=LEASE).claimed] == [job_id]
        assert store.count(Filter()) == {"default": {"claimed": 1}}
        store.close()
