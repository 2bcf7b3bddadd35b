"""Stores that are opened to look only: one rule for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.places import ALL, Place, new_place
from jobcard import Jobcard
from jobcard.backends.asynchronous import VERBS
from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.backends.ready import make_ready
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.backends.verbs import WRITES
from jobcard.conformance import factory
from jobcard.errors import ConfigError, SchemaVersionError

LOOKS: dict[str, Callable[[Backend, bytes], Any]] = {
    "check_schema": lambda store, _: store.check_schema(),
    "get": lambda store, job_id: store.get([job_id]),
    "attempts": lambda store, job_id: store.attempts([job_id]),
    "log_lines": lambda store, job_id: store.log_lines([job_id]),
    "ended": lambda store, job_id: store.ended([job_id]),
    "list": lambda store, _: store.list(Filter(), limit=9),
    "count": lambda store, _: store.count(Filter()),
    "count_over_time": lambda store, _: store.count_over_time(first=0, step=1 << 60, buckets=1),
    "tally": lambda store, _: store.tally().counts,
    "lines": lambda store, _: store.lines(limit=9).delayed,
    "dependents": lambda store, _: list(store.dependents(after=None, limit=9)),
    "usage": lambda store, _: store.usage(["default"], ["key"]),
    "read_records": lambda store, _: [record._replace(age=0) for record in store.read_records(RecordKind.QUEUE)],
    "versions": lambda store, _: store.versions(after=None, limit=9),
    "once_keys": lambda store, _: store.once_keys(after=None, limit=9),
    "facts": lambda store, _: store.facts().identity,
    "examine": lambda store, _: len(store.examine()),
    "waker": lambda store, _: store.waker().close(),
}
"""Every verb that only looks."""


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with new_place(request.param, tmp_path) as place:
        yield place


def test_every_verb_looks_or_writes() -> None:
    """A verb that is new to the contract is one of both, or a read-only store would let it through unseen."""
    assert LOOKS.keys().isdisjoint(WRITES)
    assert LOOKS.keys() | WRITES | {"close"} == set(VERBS)


def test_every_look_works_and_every_write_is_refused(place: Place) -> None:
    """With readonly=1 a store of any kind shows what any other sees, and what may write does not get that far."""
    store = open_backend(place.url)
    store.migrate()
    job_id = factory.job_in_state(store, "failed")
    factory.enqueue(store)
    looker = open_backend(f"{place.url}{'&' if '?' in place.url else '?'}readonly=1")
    assert looker.capabilities.readonly and not store.capabilities.readonly
    before = {name: look(store, job_id) for name, look in LOOKS.items()}
    for verb in sorted(WRITES):
        with pytest.raises(ConfigError, match=f"readonly=1: {verb}"):
            getattr(looker, verb)()
    assert {name: look(looker, job_id) for name, look in LOOKS.items()} == before
    assert {name: look(store, job_id) for name, look in LOOKS.items()} == before
    looker.close()
    store.close()


def test_a_client_that_looks_only(place: Place) -> None:
    """`Jobcard(url, readonly=True)` finds jobs, enqueues and cancels none, starts no engine and migrates nothing."""
    with Jobcard(place.url, readonly=True) as too_early, pytest.raises((SchemaVersionError, ConfigError)):
        too_early.stats()
    with Jobcard(place.url) as jobs, Jobcard(place.url, readonly=True) as looker:
        handle = jobs.enqueue("shop.ship", [1])
        assert looker.get(handle.id).args == [1]
        assert looker.stats().waiting == 1
        for change in (
            lambda: looker.enqueue("shop.ship"),
            lambda: looker.cancel(handle.id),
            lambda: looker.queues.pause("default"),
            looker.start,
            looker.migrate,
        ):
            with pytest.raises(ConfigError, match="readonly=1"):
                change()
        assert jobs.get(handle.id).state == "waiting"


def test_its_schema_is_checked_and_never_changed(tmp_path: Path) -> None:
    """Where an old schema would be brought up to date, a store to look only says what it found."""
    path = tmp_path / "jobs.db"
    store = SQLiteBackend(path)
    store.migrate()
    store.rollback()
    looker = SQLiteBackend(path, readonly=True)
    with pytest.raises(SchemaVersionError):
        make_ready(looker, migrate=True, strict_durability=False)
    store.migrate()
    make_ready(looker, migrate=True, strict_durability=False)
    looker.close()
    store.close()


@pytest.mark.parametrize("option", [{"readonly": True}, {"encryption_key": "k"}, {"encryption_key": lambda: "k"}])
def test_a_store_that_was_made_without_it_is_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    """Beside a store that was made already, such an option would be a promise that nobody keeps."""
    store = SQLiteBackend(tmp_path / "jobs.db")
    with Jobcard(backend=store, **option) as jobs, pytest.raises(ConfigError, match="made without it"):
        jobs.stats()
    store.close()
