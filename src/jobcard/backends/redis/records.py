"""Small records, and the version of settings that tells engines to read them again: the scripts raise it."""

from __future__ import annotations

from typing import Any

from jobcard.backends.base import SETTINGS, Record, RecordKind
from jobcard.backends.redis import rows
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.scripts import Run


def read(client: Any, keys: Keys, kind: RecordKind, now: int) -> list[Record]:
    """All records of a kind, by key."""
    prefix = f"{kind.value}\0".encode()
    found = [
        (field[len(prefix) :].decode(), rows.unpack(text))
        for field, text in client.hscan_iter(keys.records, match=f"{kind.value}\0*", count=500)
    ]
    return [Record(key, value, version, now - at) for key, (value, version, at, *_) in sorted(dict(found).items())]


def write(run: Run, kind: RecordKind, key: str, value: str, *, expect: int | None) -> int | None:
    """Write one; its new version. expect: only over this version (0: only if absent), else None."""
    wanted = False if expect is None else expect
    version: int | None = run("write_record", kind.value, key, value, wanted, kind in SETTINGS)
    return version


def remove(run: Run, kind: RecordKind, key: str) -> bool:
    """Remove one; False: it was not there."""
    return bool(run("remove_record", kind.value, key, kind in SETTINGS))
