"""A private store in memory with a clock that stands still, and the hands that run its jobs in this process."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.backends.base import Backend, Completions, Exchanged, Outcome, Want
from jobcard.backends.registry import open_backend
from jobcard.core import clock, states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, JobRow, NewJob
from jobcard.core.queue import Queue
from jobcard.core.signals import JobSignal
from jobcard.core.states import Change, JobState, Now
from jobcard.engine import routines
from jobcard.engine.dependents import Dependents, see_to_all
from jobcard.engine.outcomes import Ended, change_for
from jobcard.engine.ticker import Ticker
from jobcard.engine.timetables import declare_schedules
from jobcard.errors import ClaimLostError
from jobcard.workers import messages
from jobcard.workers.here import Running, Talk
from jobcard.workers.link import error_to_plain

if TYPE_CHECKING:
    from jobcard.client.parts import Parts

MOST_RUNS = 10_000
"""So many runs in one drain are jobs that make each other for ever."""
_LEASE = 365 * clock.DAY


@dataclass(slots=True)
class Ran:
    """What became of runs: a count by the verb of `core/states.py`, and the jobs in the order they first ran."""

    verbs: dict[str, int] = field(default_factory=dict)
    jobs: dict[bytes, None] = field(default_factory=dict)

    def add(self, job_id: bytes, verb: str) -> None:
        self.verbs[verb] = self.verbs.get(verb, 0) + 1
        self.jobs[job_id] = None
        if sum(self.verbs.values()) >= MOST_RUNS:
            raise AssertionError(f"{MOST_RUNS:,} runs and no end: jobs seem to enqueue or put off each other for ever")


class Trial:
    """A store for one test and the running of its jobs; any thread may use it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.app = SimpleNamespace(registry=parts.registry, codec=parts.codec, parts=parts)
        self.clock = FrozenClock(time.time_ns() // 1000)
        self.backend: Backend = open_backend("sqlite:///:memory:", clock=self.clock)
        self.backend.migrate()
        routines.declare_queues(self.backend, parts.connection.declared_queues)
        declare_schedules(self.backend, parts.schedules.declared)
        self._ticker = Ticker(self.backend, "testing")
        self._dependents = Dependents(self.backend, self._seconds)
        self._missing: dict[UUID, float] = {}
        self._looking = threading.Lock()
        self._owners = (f"testing-{number}" for number in itertools.count(1))

    # -- as an engine would

    def drain(self, *, with_scheduled: bool) -> Ran:
        """Run what is due, in the order an engine claims, until nothing is; with_scheduled: then let time pass.

        The ticks of schedules that came due are made one by one, each when nothing else is left to do.
        """
        ran = Ran()
        self.backend.unpark(self._parts.registry.names())
        self._see_to_all()
        while True:
            owner = next(self._owners)
            answer = self._claim_next(owner)
            if answer.claimed:
                claim = answer.claimed[0]
                asked = dict(answer.cancels).get(claim.ref)
                ran.add(claim.id, self._cancel(owner, claim, asked) if asked is not None else self._try(owner, claim))
                self._see_to(claim.id, claim.batch_id)
            elif self._see_to_all() or (answer.next_due != 0 and self._ticker.make_earliest(self.clock.now())):
                continue
            elif answer.next_due is None or (answer.next_due and not with_scheduled):
                return ran
            else:
                self.clock.advance(answer.next_due / clock.SECOND)

    def _see_to(self, *ended: bytes | None) -> list[bytes]:
        """Put those in line who waited for these jobs and batches, or are new, if all has come; which ones."""
        with self._looking:
            looked = self._dependents.look([awaited for awaited in ended if awaited is not None])
            released = [*looked.released]
            while looked.more:
                looked = self._dependents.look()
                released += looked.released
        return released

    def _see_to_all(self) -> list[bytes]:
        """The same for all who wait: who waited for what ended by itself, or was never there."""
        with self._looking:
            return see_to_all(self.backend, self._missing, self._seconds())

    def _seconds(self) -> float:
        return self.clock.now() / clock.SECOND

    def _try(self, owner: str, claim: Claimed) -> str:
        run = _Run(self, owner, claim)
        return run.settle(_run_here(run.running))

    def _claim_next(self, owner: str) -> Exchanged:
        served = self._served()
        limits = {queue.name: queue.limit for queue in served if queue.limit is not None}
        want = Want([(queue.name, 1) for queue in served], 1, limits)
        return self.backend.exchange(owner, want=want, lease=_LEASE)

    def _served(self) -> list[Queue]:
        queues = [queue for queue in routines.read_queues(self.backend, None) if not queue.paused]
        return sorted(queues, key=lambda queue: (-queue.priority, queue.name))

    # -- at once, as it is enqueued

    def run_at_once(self, job_id: bytes) -> None:
        """Run this job, with all its tries, if it is due and its queue not paused; then what follows it."""
        line = [job_id]
        while line:
            line[:1] = self._run_through(line[0])
            line += [] if line else self._see_to_all()

    def _run_through(self, job_id: bytes) -> list[bytes]:
        """Run this job, with all its tries; what is to be run after it, what it enqueued first."""
        follow_ups: list[NewJob] = []
        batch_id: bytes | None = None
        while (held := self._claim(job_id)) is not None:
            run = _Run(self, *held)
            verb = run.settle(_run_here(run.running))
            follow_ups += run.follow_ups
            batch_id = held[1].batch_id
            if verb != "retry":
                break
            self._make_due(job_id)
        return [*(job.id for job in follow_ups), *self._see_to(job_id, batch_id)]

    async def run_at_once_async(self, job_id: bytes) -> None:
        """The same, a coroutine on the loop of whoever enqueued it."""
        line = [job_id]
        while line:
            line[:1] = await self._run_through_async(line[0])
            line += [] if line else self._see_to_all()

    async def _run_through_async(self, job_id: bytes) -> list[bytes]:
        follow_ups: list[NewJob] = []
        batch_id: bytes | None = None
        while (held := self._claim(job_id)) is not None:
            run = _Run(self, *held)
            verb = run.settle(await run.running.run_async())
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # it was not meant for the job alone
            follow_ups += run.follow_ups
            batch_id = held[1].batch_id
            if verb != "retry":
                break
            self._make_due(job_id)
        return [*(job.id for job in follow_ups), *self._see_to(job_id, batch_id)]

    def _claim(self, job_id: bytes) -> tuple[str, Claimed] | None:
        row = self._row(job_id)
        if row is None or row.state != JobState.WAITING or row.hold is not None:
            return None
        if row.queue not in [queue.name for queue in self._served()]:
            return None
        owner = next(self._owners)
        if self.backend.apply_by_operator(job_id, states.claim_by_id(row, owner=owner, lease=_LEASE)) is None:
            return None  # another thread was first
        return owner, self.backend.find_held([owner], lapsed=False, limit=1).claims[0]

    def _make_due(self, job_id: bytes) -> None:
        row = self._row(job_id)
        if row is not None:
            self.backend.apply_by_operator(job_id, states.run_now(row))

    def _row(self, job_id: bytes) -> JobRow | None:
        return next(iter(self.backend.get([job_id])), None)

    def _cancel(self, owner: str, claim: Claimed, reason: str) -> str:
        change = states.cancel_at_work(claim, reason=reason)
        self.backend.exchange(owner, outcomes=[Outcome(claim.ref, claim.token, change)])
        return change.verb


class _Run:
    """One try of one job, from its claim to its recorded end."""

    def __init__(self, trial: Trial, owner: str, claim: Claimed) -> None:
        self.follow_ups: list[NewJob] = []
        self._trial = trial
        self._owner = owner
        self._claim = claim
        self._frees = () if claim.limit_key is None else (claim.limit_key,)
        self._talk = Talk(self._heard)
        self.running = Running(self._talk.bench(trial.app), 0, claim)

    def settle(self, last: list[Any]) -> str:
        """Write down how it ended; the verb of that. What must not be swallowed goes on up."""
        kind, what = last[0], last[4]
        verb = "complete"
        if kind == messages.DONE:
            done = Completions([self._claim.ref], [self._claim.token], [what], [0])
            self._trial.backend.exchange(self._owner, completions=done, freed=self._frees)
        elif kind == messages.FOLLOWED:
            self.follow_ups = last[5]
            complete = states.complete(what)
            self._store(complete._replace(sets={**complete.sets, "started_at": Now()}), then=self.follow_ups)
        else:
            change = change_for(self._claim, Ended(**what), random=lambda: 0.0)
            self._store(change)
            verb = change.verb
        error = self.running.error
        if _is_for_the_test(error):
            assert error is not None
            raise error
        return verb

    def _store(self, change: Change, then: Sequence[NewJob] = ()) -> bool:
        outcome = Outcome(self._claim.ref, self._claim.token, change, then)
        freed = () if change.target in states.AT_WORK else self._frees
        return not self._trial.backend.exchange(self._owner, outcomes=[outcome], freed=freed).refusals

    def _heard(self, message: list[Any]) -> None:
        """The job says something while it runs."""
        _kind, _seq, said, call = message
        now = time.monotonic()
        lines = tuple((round((now - at) * clock.SECOND), text) for at, text in said["lines"])
        change = states.note(self._claim, ago=0, progress=said["progress"], checkpoint=said["checkpoint"], lines=lines)
        is_ours = self._store(change)
        if call is not None:
            lost = ClaimLostError("save_checkpoint", "not ours any more", states.AT_WORK)
            self._talk.answer(call, None if is_ours else error_to_plain(lost), None)


def _is_for_the_test(error: BaseException | None) -> bool:
    # Ctrl-C, pytest.fail, pytest.skip: in a worker there would be nobody to raise them.
    mine = (Exception, JobSignal, SystemExit, GeneratorExit, asyncio.CancelledError)
    return error is not None and not isinstance(error, mine)


def _run_here(running: Running) -> list[Any]:
    """Run it in this thread, or beside it where an event loop has it and the job needs one of its own."""
    if not running.is_async or not _has_loop():
        return running.run()
    said: list[list[Any]] = []
    work: Callable[[], None] = lambda: said.append(running.run())  # noqa: E731
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="jobcard-testing")
    thread.start()
    thread.join()
    return said[0]


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
