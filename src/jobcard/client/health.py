"""How the store is and what it holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobcard.client.lookup import Counts
from jobcard.core import clock
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from jobcard.client.live_engines import Engines
    from jobcard.client.lookup import Lookup
    from jobcard.client.store import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the store is. None: it cannot tell, or did not answer.

    ok: it answered and has no problems. latency_ms: of one small question. engines: how many are alive.
    """

    ok: bool
    store: str | None
    version: str | None
    schema_version: int | None
    latency_ms: float | None
    size_bytes: int | None
    connections: int | None
    engines: int | None
    problems: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the store holds. delayed: waiting but not due. oldest_waiting_s: age of the job due longest, or None."""

    total: int
    waiting: int
    claimed: int
    running: int
    completed: int
    failed: int
    canceled: int
    delayed: int
    oldest_waiting_s: float | None
    queues: Mapping[str, Counts]


def check_health(connection: Connection, engines: Engines) -> Health:
    """Ask the store how it is; an unreachable one is an answer, not an error."""
    try:
        with connection as store:
            began = time.perf_counter()
            facts = store.facts()
            latency = (time.perf_counter() - began) * 1000
        alive = len(engines.list())
    except JobcardError as error:
        return Health(
            ok=False,
            store=None,
            version=None,
            schema_version=None,
            latency_ms=None,
            size_bytes=None,
            connections=None,
            engines=None,
            problems=(f"{type(error).__name__}: {error}",),
        )
    return Health(
        ok=not facts.problems,
        store=facts.store,
        version=facts.version,
        schema_version=facts.schema_version,
        latency_ms=round(latency, 3),
        size_bytes=facts.size_bytes,
        connections=facts.connections,
        engines=alive,
        problems=tuple(facts.problems),
    )


def collect_stats(connection: Connection, lookup: Lookup) -> Stats:
    """The whole store's figures."""
    with connection as store:
        tally = store.tally()
    counts = Counts.of(tally.counts)
    oldest = tally.oldest_waiting
    return Stats(
        total=counts.total,
        **{str(state): count for state, count in counts.items()},
        delayed=tally.delayed,
        oldest_waiting_s=None if oldest is None else oldest / clock.SECOND,
        queues=lookup.count_by_queue(),
    )
