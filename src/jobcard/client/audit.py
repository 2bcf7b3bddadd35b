"""What operators did, when, and what came of it: small records of the store, the oldest of which go in time.

An entry is written before the action and again when its result is known, so that nothing is done without one: where
the first cannot be written the action is not begun, and one whose doer died in between says so by having no result.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from jobcard.backends.base import Backend, RecordKind
from jobcard.core import clock
from jobcard.errors import CorruptRecordError

if TYPE_CHECKING:
    from jobcard.client.store import Connection

KEPT = 2_000
"""So many entries a store keeps, the newest, and up to `STEP` more for each process that writes some."""
STEP = 20
_LONGEST = 500
_MOST_SAID = 50

_log = logging.getLogger("jobcard.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action of an operator.

    id: rises with the time. on: the name or id of what it was done to; None: it has none. said: what it was done with,
    as far as that is no secret. result: done, refused or failed; None: it is under way, or whoever did it died. text:
    what was done, or why not.
    """

    id: str
    at: datetime
    who: str
    role: str
    action: str
    on: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    result: str | None = None
    text: str = ""


class Audit:
    """Writes and reads one store's entries; any thread may use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._written = count()

    def begin(
        self, *, who: str, role: str, action: str, on: str | None = None, said: Mapping[str, str] | None = None
    ) -> AuditEntry:
        """Write that somebody is about to do something; give what this returns to `end`. Long texts are cut."""
        with self._connection as store:
            now = store.facts().now
            entry = AuditEntry(
                # Its time first: records come by their keys.
                id=f"{now:016d}-{os.urandom(4).hex()}",
                at=clock.to_datetime(now),
                who=_cut(who),
                role=role,
                action=_cut(action),
                on=None if on is None else _cut(on),
                said={_cut(name): _cut(text) for name, text in [*(said or {}).items()][:_MOST_SAID]},
            )
            _write(store, entry, "", "")
            if next(self._written) % STEP == 0:
                _prune(store)
        return entry

    def end(self, entry: AuditEntry, result: str, text: str) -> None:
        """Write what came of it."""
        with self._connection as store:
            _write(store, entry, result, _cut(text))

    def list(self, *, limit: int, before: str | None = None, on: str | None = None) -> list[AuditEntry]:
        """The newest entries, at most `limit`, older than the one with the id `before`, of what was done to `on`.

        One that cannot be read is left out, with a warning in the log.
        """
        with self._connection as store:
            records = store.read_records(RecordKind.AUDIT)
        found: list[AuditEntry] = []
        for record in reversed(records):
            if len(found) >= limit:
                break
            if before is not None and record.key >= before:
                continue
            if on is not None and json.dumps(on) not in record.value:
                continue  # read for its own sake only
            try:
                entry = _entry(record.key, record.value)
            except CorruptRecordError as error:
                _log.warning("%s; it is left out of the list", error)
                continue
            if on is None or entry.on == on:
                found.append(entry)
        return found


def _write(store: Backend, entry: AuditEntry, result: str, text: str) -> None:
    document = {
        "at": clock.to_instant(entry.at),
        "who": entry.who,
        "role": entry.role,
        "action": entry.action,
        "on": entry.on,
        "said": dict(entry.said),
        "result": result or None,
        "text": text,
    }
    store.write_record(RecordKind.AUDIT, entry.id, json.dumps(document, separators=(",", ":")))


def _entry(key: str, value: str) -> AuditEntry:
    try:
        document: dict[str, Any] = json.loads(value)
        on, result = document["on"], document["result"]
        return AuditEntry(
            id=key,
            at=clock.to_datetime(document["at"]),
            who=str(document["who"]),
            role=str(document["role"]),
            action=str(document["action"]),
            on=None if on is None else str(on),
            said={str(name): str(text) for name, text in document["said"].items()},
            result=None if result is None else str(result),
            text=str(document["text"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptRecordError(f"the audit's record {key} cannot be read") from error


def _prune(store: Backend) -> None:
    for record in store.read_records(RecordKind.AUDIT)[:-KEPT]:
        store.remove_record(RecordKind.AUDIT, record.key)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
