"""Who works on a store, and what nobody works on: engines, queues whose jobs wait in vain, schedules without ticks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.client.live_engines import Engine, engine_from
from jobcard.core import clock
from jobcard.core.findings import Finding, error, note, ok, warning
from jobcard.core.queue import DEFAULT_CONCURRENCY, queue_from_text
from jobcard.core.schedule import from_text
from jobcard.core.states import JobState
from jobcard.engine.record import is_alive
from jobcard.errors import CorruptRecordError
from jobcard.version import VERSION

_MOST_COUNTED = 1_000
_MOST_NAMED = 20
"""Findings of one kind; what is beyond is told in one."""


def look(store: Backend, now: int, lease: float) -> Iterator[Finding]:
    """Every finding about engines, queues and schedules.

    now: the store's time. lease: seconds, that of the engines as a rule.
    """
    records = store.read_records(RecordKind.ENGINE)
    alive: list[Engine] = []
    silent: list[tuple[Engine, float]] = []
    for record in records:
        try:
            engine = engine_from(record, now)
            if is_alive(record):
                alive.append(engine)
            else:
                silent.append((engine, record.age / clock.SECOND))
        except CorruptRecordError as failure:
            fix = "nothing: an engine that lives writes it anew at its next heartbeat, any other is forgotten in a day"
            yield error("engines.unreadable", record.key, str(failure), fix)
    waiting = _waiting(store)
    yield _alive(alive, waiting)
    yield from (
        _cut([_silent(engine, age, lease) for engine, age in silent])
        if silent
        else [ok("engines.silent", "engines", "none fell silent without saying goodbye")]
    )
    yield _versions(alive)
    yield from _queues(store, alive, waiting)
    yield from _schedules(store)


def _waiting(store: Backend) -> dict[str, int]:
    """How many jobs wait in each queue that has any, delayed ones included, counted no further than a limit."""
    counts = store.count(Filter(states=(JobState.WAITING,)), limit=_MOST_COUNTED)
    return {queue: number for queue, states in counts.items() if (number := states.get(JobState.WAITING, 0))}


def _jobs(number: int) -> str:
    return f"{number:,} job{'' if number == 1 else 's'}{' or more' if number >= _MOST_COUNTED else ''}"


def _cut(found: Sequence[Finding]) -> Iterator[Finding]:
    yield from found[:_MOST_NAMED]
    if len(found) > _MOST_NAMED:
        last = found[_MOST_NAMED]
        yield Finding(last.code, last.severity, f"{len(found) - _MOST_NAMED:,} more", "as those above", last.fix)


# ------------------------------------------------------------------ engines


def _alive(alive: Sequence[Engine], waiting: dict[str, int]) -> Finding:
    code = "engines.alive"
    if alive:
        hosts = sorted({engine.host for engine in alive})
        several = f"{len(alive)} engine{' is' if len(alive) == 1 else 's are'} alive"
        return ok(code, "engines", f"{several}, on {', '.join(hosts[:5])}{', …' if len(hosts) > 5 else ''}")
    fix = "`jobcard start APP`"
    if waiting:
        text = f"none is alive, and {_jobs(min(_MOST_COUNTED, sum(waiting.values())))} wait"
        return warning(code, "engines", text, fix)
    return note(code, "engines", "none is alive; no job waits for one", fix)


def _silent(engine: Engine, age: float, lease: float) -> Finding:
    jobs = "what it had is taken over by others" if age >= lease else "what it has is taken over when its lease ends"
    return warning(
        "engines.silent",
        f"engine {engine.id}",
        f"on {engine.host} (pid {engine.pid}), it was last heard of {age:,.0f} s ago and did not say goodbye; {jobs}",
        f"look at {engine.host}: start it again there, or leave it; it is forgotten a day after its last word",
    )


def _versions(alive: Sequence[Engine]) -> Finding:
    code, subject = "engines.versions", "engines"
    numbers = Counter(engine.version for engine in alive)
    if set(numbers) <= {VERSION}:
        return ok(code, subject, "every engine that is alive is of this version")
    each = ", ".join(f"{number} of {version}" for version, number in sorted(numbers.items()))
    return warning(
        code,
        subject,
        f"there are {each}, and this is {VERSION}",
        "bring all of them to one version: docs/deployment.md says how without a pause",
    )


# ------------------------------------------------------------------ queues


def _queues(store: Backend, alive: Sequence[Engine], waiting: dict[str, int]) -> Iterator[Finding]:
    paused: list[Finding] = []
    for record in store.read_records(RecordKind.QUEUE):
        try:
            queue, _ = queue_from_text(record.key, record.value)
        except CorruptRecordError as failure:
            said = f"write it anew: `jobcard queues set {record.key} --concurrency {DEFAULT_CONCURRENCY}`"
            fix = f"{said}, or start an engine of the code that declares it"
            yield error("queues.unreadable", record.key, str(failure), fix)
            continue
        if queue.paused and queue.name in waiting:
            text = f"it is paused, and {_jobs(waiting[queue.name])} wait in it"
            fix = f"`jobcard queues resume {queue.name}` when they shall run"
            paused.append(warning("queues.paused", f"queue {queue.name}", text, fix))
    yield from _cut(paused) if paused else [ok("queues.paused", "queues", "none with waiting jobs is paused")]
    if alive:  # else it is told of all at once
        unserved = [_unserved(name, number, alive) for name, number in sorted(waiting.items())]
        told = [finding for finding in unserved if finding is not None]
        yield from _cut(told) if told else [ok("queues.unserved", "queues", "engines serve each that jobs wait in")]


def _unserved(name: str, number: int, alive: Sequence[Engine]) -> Finding | None:
    serving = [engine for engine in alive if name in engine.queues]
    if not serving:
        return warning(
            "queues.unserved",
            f"queue {name}",
            f"{_jobs(number)} wait in it, and no live engine serves it",
            f"`jobcard start APP --queues {name}`, or an engine without --queues",
        )
    if all(engine.quiet for engine in serving):
        return warning(
            "queues.unserved",
            f"queue {name}",
            f"{_jobs(number)} wait in it, and every engine that serves it is told to be quiet",
            "`jobcard engines work --all`",
        )
    return None


# ------------------------------------------------------------------ schedules


def _schedules(store: Backend) -> Iterator[Finding]:
    code = "schedules.unreadable"
    found: list[Finding] = []
    for record in store.read_records(RecordKind.SCHEDULE):
        try:
            from_text(record.key, record.value)
        except CorruptRecordError as failure:
            fix = f"start an engine of the code that declares it, or `jobcard schedules remove {record.key}`"
            found.append(error(code, f"schedule {record.key}", f"{failure}; none of its ticks becomes a job", fix))
    yield from _cut(found) if found else [ok(code, "schedules", "each can be read")]
