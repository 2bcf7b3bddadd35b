"""The schema's version: migrations up and down, each step safe to run twice and from several processes at once."""

from __future__ import annotations

import contextlib
import secrets
import time
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple, Protocol, cast

import pymongo
from pymongo.errors import DuplicateKeyError

from jobcard.backends.mongodb import migrations, sealing
from jobcard.backends.mongodb.connection import Store
from jobcard.backends.mongodb.records import STORE, find_seal
from jobcard.errors import ConfigError, SchemaVersionError

_SECONDS = 600.0
"""An index on many jobs takes its time."""
OLDEST = (5, 0)


class _Steps(Protocol):
    @staticmethod
    def up(store: Store) -> None: ...
    @staticmethod
    def down(store: Store) -> None: ...


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    steps: _Steps


@cache
def known() -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    names = sorted(entry.name for entry in iter_modules(migrations.__path__))
    modules = [(name, import_module(f"{migrations.__name__}.{name}")) for name in names]
    return tuple(Migration(int(name[1:5]), cast(_Steps, module)) for name, module in modules)


def wanted() -> int:
    """The version this code needs."""
    return known()[-1].number


def version(store: Store) -> int:
    """The version found; 0: there is none."""
    found = store.records.find_one({"_id": STORE}, {"schema": True})
    number = 0 if found is None else found.get("schema")
    if not isinstance(number, int):
        raise ConfigError(
            f"the collection {store.records.full_name} holds no schema version: it is damaged or not jobcard's"
        )
    return int(number)


def check_version(found: int) -> None:
    """`SchemaVersionError` unless this is exactly this code's version."""
    if found != wanted():
        raise SchemaVersionError(found, wanted())


def check(store: Store) -> None:
    """`SchemaVersionError` unless this is exactly this code's version."""
    check_version(version(store))


def migrate(store: Store) -> list[int]:
    """Bring the schema to this code's version; the versions that this call applied."""
    _refuse_old_servers(store)
    if version(store) > wanted():
        check_version(version(store))
    if version(store) == wanted():
        return []
    is_sealed = find_seal(store) is not None
    if is_sealed:
        store = sealing.unbarred(store)
    first = {"schema": 0, "settings": 0, "identity": secrets.token_hex(16)}
    with contextlib.suppress(DuplicateKeyError):  # made by another at the same moment
        store.records.update_one({"_id": STORE}, {"$setOnInsert": first}, upsert=True)
    applied = []
    with pymongo.timeout(_SECONDS):
        for migration in known():
            if version(store) < migration.number:
                # Whoever comes second finds each step done; only one of them moves the version.
                migration.steps.up(store)
                moved = {"_id": STORE, "schema": migration.number - 1}
                if store.records.update_one(moved, {"$set": {"schema": migration.number}}).modified_count:
                    applied.append(migration.number)
        if is_sealed:
            sealing.close(store, time.monotonic() + _SECONDS)  # what was made anew, too
    return applied


def rollback(store: Store) -> int | None:
    """Take the newest migration back; its version, None when nothing is left."""
    while (found := version(store)) > 0:
        if found > wanted():
            check_version(found)
        is_sealed = find_seal(store) is not None
        if is_sealed:
            store = sealing.unbarred(store)
        with pymongo.timeout(_SECONDS):
            known()[found - 1].steps.down(store)
            moved = {"_id": STORE, "schema": found}
            # Whoever comes second finds the step undone, and looks for the next one.
            if found > 1:
                mine = store.records.update_one(moved, {"$set": {"schema": found - 1}}).modified_count
            else:
                mine = store.records.delete_one(moved).deleted_count
                if is_sealed:
                    sealing.open_again(store, time.monotonic() + _SECONDS)
        if mine:
            return found
    return None


def _refuse_old_servers(store: Store) -> None:
    found = store.client.server_info()
    if tuple(found["versionArray"][:2]) < OLDEST:
        raise ConfigError(f"this is MongoDB {found['version']}: jobcard needs 5.0 or newer")
