"""Limits over all engines: who comes in when one has left, and how far they are used. `lua/admission.lua` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.redis.rows import unpack
from jobcard.backends.redis.scripts import MOST_JOBS, Run
from jobcard.core.rates import QueueLimit, Starts, Use


def let_in_all(run: Run, limit: int) -> int:
    """Put at most so many jobs back in line whose limit key has room again; how many. One script for some keys each."""
    total, behind, more = 0, None, True
    while more and total < limit:
        after = False if behind is None else behind.decode()
        number, behind, more = run("let_in", after, min(MOST_JOBS, limit - total))
        total += number
    return total


def usage(run: Run, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
    """How far the limits of these queues and limit keys are used now."""
    of_queues, of_keys = run("usage", list(queues), list(keys))
    return (
        dict(zip(queues, map(_use, of_queues), strict=True)),
        dict(zip(keys, map(_use, of_keys), strict=True)),
    )


def _use(found: tuple[int, bytes | None, int]) -> Use:
    at_work, starts, kept_out = found
    return Use(at_work, Starts([(slot, used) for slot, used, *_ in unpack(starts)] if starts else []), kept_out)


def to_array(limit: QueueLimit) -> list[object]:
    """What bounds a queue, as scripts read it."""
    return [
        False if limit.at_once is None else limit.at_once,
        False if limit.rate is None else [limit.rate.most, limit.rate.per],
    ]
