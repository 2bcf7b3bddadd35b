"""The two stores of a move: opened, told apart, and asked whether anybody is at work in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, NamedTuple

from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.backends.ready import make_ready
from jobcard.backends.registry import open_backend
from jobcard.backends.url import mask
from jobcard.core.move import Move, from_text
from jobcard.core.states import ALIVE
from jobcard.engine.record import is_alive
from jobcard.errors import ConfigError, CorruptRecordError, SchemaVersionError
from jobcard.moving.pages import Selection
from jobcard.moving.patience import patient

PATIENCE = 10.0
"""Seconds that a call may wait for what others hold locked, before it is made again."""
NOTHING = "sqlite:///:memory:"


class Stores(NamedTuple):
    """Both, with who they are by their own word. The names are URLs as they may be shown."""

    source: Backend
    target: Backend
    source_id: str
    target_id: str
    source_name: str
    target_name: str


@contextmanager
def open_stores(
    source_url: str, target_url: str, *, migrate: bool = True, missing_is_empty: bool = False
) -> Iterator[Stores]:
    """Both stores, closed afterwards. migrate: bring the target's schema to this code's version; the source stays.

    missing_is_empty: where the target has no schema yet, an empty store stands in for it. `ConfigError` when both are
    one and the same.
    """
    with ExitStack() as undo:
        source = patient(undo.enter_context(closing(open_backend(source_url, patience=PATIENCE))))
        target = patient(undo.enter_context(closing(open_backend(target_url, patience=PATIENCE))))
        if not target.capabilities.survives_process:
            raise ConfigError("the target lives in one process's memory only: nothing of it would be left")
        make_ready(source, migrate=False, strict_durability=False)
        try:
            make_ready(target, migrate=migrate, strict_durability=False)
        except SchemaVersionError as error:
            if error.found or not missing_is_empty:
                raise
            target = undo.enter_context(closing(open_backend(NOTHING)))
            target.migrate()
        identities = source.facts().identity, target.facts().identity
        if identities[0] == identities[1]:
            raise ConfigError(
                "source and target are the same store, or one is a copy of the other's files: name an empty one"
            )
        yield Stores(source, target, *identities, mask(source_url), mask(target_url))


def is_empty(store: Backend) -> bool:
    """Whether a store has no jobs and no schedules."""
    return not store.versions(after=None, limit=1) and not store.read_records(RecordKind.SCHEDULE)


def has_living(store: Backend, selection: Selection) -> bool:
    """Whether engines could change any of these jobs, or make new ones of schedules that go along."""
    if selection.is_all and store.read_records(RecordKind.SCHEDULE):
        return True
    states = selection.states & ALIVE if selection.states else ALIVE
    if not states:
        return False
    counts = store.count(Filter(states=sorted(states), queues=sorted(selection.queues), after=selection.since), limit=1)
    return any(number for by_state in counts.values() for number in by_state.values())


def engines_of(store: Backend, *, quiet_too: bool = True) -> Sequence[str]:
    """The live engines of a store, by name. quiet_too: also those that claim nothing."""
    return [key for key, about in _living(store) if quiet_too or not about.get("quiet")]


def left_behind(store: Backend) -> Sequence[str]:
    """The live engines of a store that do not know where its jobs go, by name."""
    return [key for key, about in _living(store) if not about.get("follows")]


def _living(store: Backend) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in store.read_records(RecordKind.ENGINE):
        with suppress(CorruptRecordError):
            if is_alive(record):
                yield record.key, json.loads(record.value)


def moves_of(store: Backend) -> dict[str, Move]:
    """The moves that a store is part of, by the keys of their records; `CorruptRecordError`: one cannot be read."""
    return {record.key: from_text(record.value) for record in store.read_records(RecordKind.MOVE)}


def clock_difference(stores: Stores) -> int:
    """By how many microseconds the target's clock is ahead of the source's."""
    return stores.target.facts().now - stores.source.facts().now
