"""What random histories are made of: sizes, jobs, moments, and the moves of engines and operators."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from jobcard.conformance import factory
from jobcard.conformance.rules import is_at_work, is_ended
from jobcard.core import states
from jobcard.core.clock import SECOND
from jobcard.core.job import Claimed, JobRow, NewJob
from jobcard.core.rates import QueueLimit, Rate
from jobcard.core.states import Change

LEASE = 30 * SECOND
MOST = 100
"""What one exchange brings at most: within the `max_batch` of any store."""
QUEUES = ("alpha", "beta")
NAMES = ("mail", "report")
KEYS = ("k1", "k2")
ONCE_KEYS = ("o1", "o2")
LIMITS = (("one", 1, None), ("two", 2, None), ("two", 1, None), ("rated", None, 3), ("both", 2, 4))
"""Limit keys: how many of its jobs at once, how many starts in a window."""
LIMIT_KEYS = tuple(sorted({key for key, _most, _count in LIMITS}))
MOST_AT_WORK = {"one": 1, "two": 2, "both": 2}
RATE_PER = 10 * SECOND
QUEUE_RATE = Rate(3, RATE_PER)
ENGINES = ("e1", "e2")
ENDED_STATES = ("completed", "failed", "canceled")
ERROR = '{"kind": "error"}'

CI = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
"""What every merge runs."""

SERVER = settings(CI, max_examples=40, stateful_step_count=40)
"""What every merge runs on a store that is a server: each step is a round trip or more."""

SHORT = settings(CI, max_examples=10, stateful_step_count=20)
"""What every merge runs through the async facade, after the same store has passed by itself."""

SOAK = settings(CI, max_examples=5_000, stateful_step_count=100)
"""What a night runs."""

# ------------------------------------------------------------------ what is drawn

# Whole milliseconds: a store may keep no finer time.
moments = st.sampled_from([0, 0, 0, 1_000, 5 * SECOND, LEASE, 90 * SECOND, 1_000_000 * SECOND])
picks = st.integers(min_value=0, max_value=1_000)
engines = st.sampled_from(ENGINES)
texts = st.sampled_from(['"plain"', "null", '["é 😀"]', '"it\'s %_\\\\"'])
line_ups = st.permutations(QUEUES).flatmap(lambda queues: st.integers(1, len(queues)).map(lambda n: queues[:n]))

job_specs = st.fixed_dictionaries(
    {
        "salt": st.integers(0, 255),
        "queue": st.sampled_from(QUEUES),
        "name": st.sampled_from(NAMES),
        "args": texts,
        "rank": st.integers(-2, 2),
        "order_offset": st.sampled_from([0, 0, -5 * SECOND, 5 * SECOND]),
        "delay": moments,
        "at_offset": st.one_of(st.none(), st.none(), st.integers(-10, 30).map(lambda seconds: seconds * SECOND)),
        "max_attempts": st.integers(1, 3),
        "max_crashes": st.integers(1, 3),
        "keep": st.sampled_from([None, None, 0, 60 * SECOND]),
        "unique_key": st.sampled_from([None, None, None, KEYS[0], *KEYS]),
        "once": st.sampled_from([None, None, None, None, *((key, 60 * SECOND) for key in ONCE_KEYS), ("o1", LEASE)]),
        "replaces": st.sampled_from([False, False, True]),
        "limit": st.sampled_from([None] * 5 + [*LIMITS]),
        "tags": st.sampled_from([None, "[]", '["a"]', '["a", "b"]']),
        "waits_for": st.sampled_from([None] * 7 + ["[]"]),
    }
)
Spec = dict[str, Any]

queue_limits = st.sampled_from(
    [
        {},
        {},
        {"alpha": QueueLimit(2, None)},
        {"alpha": QueueLimit(5, None), "beta": QueueLimit(None, QUEUE_RATE)},
        {"beta": QueueLimit(1, QUEUE_RATE)},
    ]
)

kinds = st.sampled_from(
    ["start", "note", "note", "long note", "complete", "fail", "retry", "retry", "crash", "suspect", "snooze",
     "cancel", "hand back", "interrupt", "park", "park", "quarantine"]
)  # fmt: skip
operations = st.sampled_from(["cancel", "ask", "ask", "retry", "retry", "run now", "snooze", "snooze"])


def job_of(spec: Spec, *, born: int, now: int) -> NewJob:
    """A job of this kind under an id of its own; ids do not rise, so that their order is tested too."""
    offset = spec["at_offset"]
    once_key, once_for = spec["once"] or (None, 0)
    limit_key, key_limit, rate_count = spec["limit"] or (None, None, None)
    return NewJob(
        id=bytes([spec["salt"]]) * 8 + born.to_bytes(8, "big"),
        queue=spec["queue"],
        name=spec["name"],
        init=None,
        args=spec["args"],
        kwargs="{}",
        priority=-spec["rank"],
        rank=spec["rank"],
        order_offset=spec["order_offset"],
        delay=spec["delay"],
        at=None if offset is None else now + offset,
        max_attempts=spec["max_attempts"],
        max_crashes=spec["max_crashes"],
        backoff="{}",
        timeout=None,
        keep=spec["keep"],
        unique_key=spec["unique_key"],
        once_key=once_key,
        once_until=None if once_key is None else now + once_for,
        replaces=spec["replaces"],
        limit_key=limit_key,
        key_limit=key_limit,
        rate_count=rate_count,
        rate_per=None if rate_count is None else RATE_PER,
        batch_id=None,
        parent_id=None,
        schedule_id=None,
        tags=spec["tags"],
        meta=None,
        waits_for=spec["waits_for"],
    )


def change_of(kind: str, claim: Claimed, delay: int) -> Change:
    """The move of this kind, as the engine that holds the claim would make it."""
    match kind:
        case "start":
            return states.start(claim, ago=delay)
        case "note":
            lines = ((delay, "said then"), (0, "said now"))[: delay % 7]
            return states.note(claim, ago=delay or None, progress=f'"{delay}"', lines=lines)
        case "long note":
            lines = tuple((place, f"{place}".ljust(6_000, "é")) for place in range(12))
            return states.note(claim, ago=None, checkpoint=f'"{delay}"', lines=lines)
        case "complete":
            return states.complete('"as a change"')
        case "fail":
            return states.fail(claim, reason="error", error=ERROR, kind="X")
        case "retry":
            return states.retry(claim, reason="error", delay=delay, error=ERROR, kind="X")
        case "crash":
            return states.crash(claim, reason="crash", delay=delay, error=ERROR, kind="crash")
        case "snooze":
            return states.snooze(claim, delay=delay)
        case "cancel":
            return states.cancel_at_work(claim, reason="canceled", error=ERROR if delay else None)
        case "hand back":
            return states.hand_back(claim)
        case "interrupt":
            return states.interrupt(claim, error=ERROR)
        case "suspect":
            return states.suspect(claim, error=ERROR)
        case "park":
            return states.park(claim)
    return factory.quarantine(claim)


def change_by_operator(kind: str, row: JobRow, delay: int) -> Change | None:
    """The operation of this kind on the job as it was read; None: nobody would ask it of this job."""
    match kind:
        case "cancel":
            return states.cancel_waiting(reason="canceled")
        case "ask":
            return states.ask_to_cancel(row, reason="too late") if is_at_work(row) else None
        case "retry":
            return states.retry_ended(row)
        case "run now":
            return states.run_now(row)
    return states.snooze_waiting(row, delay=delay)


def is_for(kind: str, row: JobRow) -> bool:
    """The job is in a state for which the operation is meant."""
    match kind:
        case "ask":
            return is_at_work(row)
        case "retry":
            return is_ended(row) and row.state != "completed"
    return row.state == "waiting"
