"""What an engine does every now and then: small functions, each called again after its interval.

A store that does not answer now is asked again after the interval.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from jobcard.backends.base import Backend, Filter, Outcome, Record, RecordKind
from jobcard.core import clock, move, states
from jobcard.core.job import Claimed, Ref
from jobcard.core.queue import Queue, queue_from_text, queue_to_text, reconcile
from jobcard.core.rates import is_put_off
from jobcard.core.settings import Settings
from jobcard.engine.outcomes import error_of_lost_engine
from jobcard.engine.small_records import find_record, rewrite, understood_queue
from jobcard.errors import CorruptRecordError

log = logging.getLogger("jobcard.engine")

PRUNE_AT_ONCE = 1_000
LISTED_AT_ONCE = 1_000
DEAD_ENGINE = clock.DAY


@dataclass(slots=True)
class Routine:
    """One function and when to call it next (monotonic seconds)."""

    name: str
    interval: float
    call: Callable[[], None]
    next_at: float

    def run_if_due(self, now: float, jitter: float) -> None:
        """Call it if it is time; raises what it raises. Engines must not all do so in step, hence the jitter (0..1)."""
        if now >= self.next_at:
            self.next_at = now + self.interval * (0.75 + 0.5 * jitter)
            self.call()


def sweep_interval(lease: float) -> float:
    """How often to look for claims whose lease has run out: every sixth of it, five seconds at most."""
    return min(5.0, lease / 6)


def rescue_lost(backend: Backend, owner: str, dead: Sequence[str]) -> tuple[int, list[Claimed]]:
    """Take the jobs of dead owners and those whose lease has run out.

    How many there were, and the lapsed claims that are in our own name: whoever holds those decides.
    """
    most = backend.capabilities.max_batch
    total = 0
    ours: list[Claimed] = []
    after: Ref | None = None
    while True:
        held = backend.find_held(list(dead), lapsed=True, limit=most, after=after)
        others = [claim for claim in held.claims if claim.claimed_by != owner]
        ours += [claim for claim in held.claims if claim.claimed_by == owner]
        outcomes = []
        for claim in others:
            change = states.rescue(claim, error=error_of_lost_engine(claim), lapsed=claim.claimed_by not in dead)
            outcomes.append(Outcome(claim.ref, claim.token, change))
        freed = {claim.limit_key for claim in others if claim.limit_key is not None}
        refused: set[Ref] = set()
        if outcomes:
            refused = {refusal.ref for refusal in backend.exchange(owner, outcomes=outcomes, freed=freed).refusals}
        taken = Counter((claim.claimed_by, claim.state) for claim in others if claim.ref not in refused)
        for (dead_owner, state), count in taken.items():
            log.warning("job.rescue count=%d state=%s from=%s", count, state, dead_owner)
        total += taken.total()
        if held.after is None:
            _succeed(backend, owner, dead)
            return total, ours
        # Those behind: what is ours, or was refused just now, would be found again at the front for ever.
        after = held.after


def _succeed(backend: Backend, owner: str, dead: Sequence[str]) -> None:
    """Who is known to be dead is not listed any more, and what it was told counts for us, who stand in its place."""
    for each in dead:
        backend.remove_record(RecordKind.ENGINE, each)
        order = find_record(backend, RecordKind.ORDER, each)
        if order is not None:
            backend.write_record(RecordKind.ORDER, owner, order.value)
            backend.remove_record(RecordKind.ORDER, each)


def prune(backend: Backend, settings: Settings) -> int:
    """Delete one chunk of what was kept long enough; how many."""
    count = 0
    for ended, keep in (
        ((states.JobState.COMPLETED,), settings.keep_completed),
        ((states.JobState.FAILED, states.JobState.CANCELED), settings.keep_failed),
    ):
        count += backend.prune(states=ended, finished_before=None, age=clock.to_duration(keep), limit=PRUNE_AT_ONCE)
    return count


def read_queues(backend: Backend, only: frozenset[str] | None) -> list[Queue]:
    """The queues as the store has them; only those this engine serves."""
    queues = []
    for record in backend.read_records(RecordKind.QUEUE):
        if only is not None and record.key not in only:
            continue
        try:
            queues.append(queue_from_text(record.key, record.value)[0])
        except CorruptRecordError as error:
            log.error("queue %s is not served: %s", record.key, error)
    return queues


def kept_by_rates(backend: Backend, queues: Sequence[Queue]) -> bool:
    """Whether there are jobs that are due and wait for nothing but a rate: of these queues, or of their key."""
    rated = {queue.name for queue in queues if queue.rate is not None}
    where = Filter(states=(states.JobState.WAITING,), queues=[queue.name for queue in queues])
    below: bytes | None = None
    while True:
        rows, below = backend.list(where, limit=LISTED_AT_ONCE, before_id=below)
        if any((row.hold is None and row.queue in rated) or is_put_off(row) for row in rows):
            return True
        if below is None:
            return False


def read_order(backend: Backend, owner: str) -> str | None:
    """What an operator told this engine: quiet, work or stop; None: nothing."""
    record = find_record(backend, RecordKind.ORDER, owner)
    if record is None:
        return None
    try:
        order = json.loads(record.value)["order"]
    except (ValueError, TypeError, KeyError):
        log.error("the order for engine %s cannot be read; it goes on as before", owner)
        return None
    return str(order)


def is_closed(backend: Backend) -> bool:
    """Whether jobs are on their way into this store, so that nobody may run those that are there."""
    return any(move.closes(record.value) for record in backend.read_records(RecordKind.MOVE))


def wait_until_open(backend: Backend, rest: Callable[[], bool]) -> bool:
    """Return when the store is not closed any more; False: `rest`, called again and again meanwhile, wants no more."""
    if is_closed(backend):
        log.warning("engine.wait: jobs are being moved into this store; nothing is claimed until that is done")
        while is_closed(backend):
            if not rest():
                return False
        log.info("engine.wait: the store is open")
    return True


def declare_queues(backend: Backend, declared: Sequence[Queue]) -> None:
    """Write what code says about its queues, where it says something new."""
    for queue in declared:
        rewrite(backend, RecordKind.QUEUE, queue.name, partial(_declared, queue))


def _declared(queue: Queue, record: Record | None) -> str:
    stored, last = (None, None) if record is None else understood_queue(record)
    # What cannot be read is written anew: code knows what it should be.
    return queue_to_text(queue if stored is None else reconcile(stored, last, queue), declared=queue)


def write_engine(backend: Backend, owner: str, about: dict[str, object]) -> None:
    """Say that this engine lives, and how."""
    backend.write_record(RecordKind.ENGINE, owner, json.dumps(about, separators=(",", ":")))


def clear_dead_engines(backend: Backend) -> None:
    """Remove the records of engines that have not been heard of for a day, and orders to them."""
    engines = backend.read_records(RecordKind.ENGINE)
    for record in engines:
        if record.age > DEAD_ENGINE:
            backend.remove_record(RecordKind.ENGINE, record.key)
    for record in backend.read_records(RecordKind.ORDER):
        # What nobody will obey any more, for example an order that came after the engine's end.
        if record.age > DEAD_ENGINE and record.key not in {engine.key for engine in engines}:
            backend.remove_record(RecordKind.ORDER, record.key)
