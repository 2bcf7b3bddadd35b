"""What the dispatcher does beside jobs: looks at the store now and then, at its workers' memory, at its orders.

`routines.py` has the store's side of most of it. A chore whose call to the store is still under way, or fails, is done
again after its interval; none of them keeps an exchange waiting where the store has lanes of its own.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from jobcard.backends.base import Backend, Waker
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine import lanes, routines
from jobcard.engine.dependents import TURN_SECONDS, Dependents, SeenTo
from jobcard.engine.plan import Plan
from jobcard.engine.routines import Routine
from jobcard.engine.ticker import Looked, Ticker
from jobcard.engine.words import Batch
from jobcard.errors import StoreError
from jobcard.workers.pool import Pool

log = logging.getLogger("jobcard.engine")

T = TypeVar("T")

MEMORY_SECONDS = 0.2  # how often the memory of limited jobs is looked at
FAT_SHARE = 0.8  # of the memory limit: a worker that holds so much without a job is replaced …
FAT_SECONDS = 1.0  # … how often that is looked at
PRUNE_SECONDS = 60.0
UNPARK_SECONDS = 5.0
TICK_AGAIN_SECONDS = 0.5  # after a look at the schedules that failed
LET_IN_SECONDS = 5.0
LET_IN_AT_ONCE = 1_000
DEPENDENTS_REST = 10  # so many times as long as a look at the jobs that wait for others took, there is none …
MOST_REST_SECONDS = 30.0  # … up to so long; and once as long if it left work behind
ALIVE_SECONDS = 1.0  # how often the keeper hears that this loop turns


def _ignore(_: object) -> None:
    return None


class House(NamedTuple):
    """The engine that the chores are done for."""

    owner: str
    backend: Backend
    settings: Settings
    pool: Pool
    plan: Plan
    lanes: lanes.Lanes
    waker: Waker
    only_queues: frozenset[str] | None
    about: Callable[[], dict[str, Any]]
    """This engine's own record."""
    tell_keeper: Callable[..., None]
    """Says something to the parent."""
    store_failed: Callable[[str, StoreError], None]
    stop: Callable[[], None]
    """An operator wants this engine to end."""


class Chores:
    """When each is due, and what it does."""

    def __init__(self, house: House, dead_owners: Sequence[str], now: float) -> None:
        self._house = house
        self._backend = house.backend
        self._plan = house.plan
        self._dead_owners = list(dead_owners)
        self._under_way: set[str] = set()
        """What waits for its answer."""
        self._look_at = now
        self._ticker = Ticker(house.backend, house.owner, dead_owners, lambda: house.plan.names)
        self._tick_at = now
        self._tick_again = False
        """Something changed while the schedules were looked at."""
        self._dependents = Dependents(house.backend)
        self._dependents_at = self._dependents_rest = now
        self._told: set[bytes] = set()
        """What others wait for and what has ended since the last look at them: jobs and batches."""
        self._memory_at = self._fat_at = now
        self.served: list[str] = sorted(house.only_queues or ())
        """The names of the queues this engine takes from, as far as it knows."""
        self._record_routine = Routine("engine record", house.settings.heartbeat, self._write_record, now)
        self._prune_routine = Routine("prune", PRUNE_SECONDS, self._prune, now + PRUNE_SECONDS * random.random())
        self._harmless = [
            Routine("alive", ALIVE_SECONDS, self._say_alive, now),
            Routine("template", ALIVE_SECONDS, house.pool.tend, now),
            self._record_routine,
        ]
        self._routines = [
            Routine("rescue", routines.sweep_interval(house.settings.lease), self._sweep, now),
            Routine("unpark", UNPARK_SECONDS, self._unpark, now),
            Routine("let in", LET_IN_SECONDS, self._let_in, now),
            *self._harmless,
            self._prune_routine,
        ]
        self._closed = False
        """Jobs are being moved into this store."""

    def run_if_due(self, now: float) -> None:
        """Do what it is time for; of an engine that stops, only what its jobs need."""
        if not self._plan.stopping:
            self._look(now)
            for routine in self._at_hand():
                routine.run_if_due(now, random.random())
            if not self._closed:
                self._tick(now)
                self._see_to_dependents(now)
        self._check_memory(now)

    def _at_hand(self) -> Sequence[Routine]:
        """What there is to do now and then: nothing to the jobs of a store that they are being moved into."""
        return self._harmless if self._closed else self._routines

    def next_time(self) -> float:
        """When the next one is due."""
        at = float("inf")
        if not self._plan.stopping:
            at = min(routine.next_at for routine in self._at_hand())
            if not self._closed:
                at = min(at, self._tick_at)
                if "dependents" not in self._under_way:
                    at = min(at, self._dependents_at)
            if self._house.waker.changed is not None:
                at = min(at, self._look_at)
        return min(at, self._memory_at) if self._plan.memory_limits() else at

    def _ask(
        self, name: str, call: Callable[[], T], answered: Callable[[T], None] = _ignore, *, lane: str = lanes.ROUTINE
    ) -> None:
        """A call now and then: not again while one of its name is under way, and again later if it fails."""
        if name in self._under_way:
            return
        self._under_way.add(name)

        def done(value: T) -> None:
            self._under_way.discard(name)
            if lane != lanes.LOOK:  # a glance succeeds where nothing can be written, many times a second
                self._plan.store_answered(monotonic())
            answered(value)

        def failed(error: StoreError) -> None:
            self._under_way.discard(name)
            self._house.store_failed(name, error)

        self._house.lanes.run(lane, call, done, failed)

    # -------------------------------------------------------------- work that others left or brought

    def _look(self, now: float) -> None:
        """Ask whether something changed, where asking costs next to nothing."""
        waker = self._house.waker
        if waker.changed is not None and now >= self._look_at:
            self._look_at = now + waker.interval
            # One that is not to be had is only a hint less; polling goes on.
            self._ask("look", waker.changed, self._looked, lane=lanes.LOOK)

    def _looked(self, changed: bool) -> None:
        if changed:
            self.woken(monotonic())

    def woken(self, now: float) -> None:
        """The store hints that there may be something new."""
        self._plan.wake(now)
        self._look_at_dependents(now)

    def _sweep(self) -> None:
        dead = list(self._dead_owners)

        def swept(answer: tuple[int, list[Claimed]]) -> None:
            rescued, ours = answer
            if rescued:
                self._plan.wake(monotonic())
            if ours:
                self._plan.disown_unknown(ours, monotonic())
            if dead:
                self._house.tell_keeper(rescued=dead)
                self._dead_owners = [owner for owner in self._dead_owners if owner not in dead]

        rescue = functools.partial(routines.rescue_lost, self._backend, self._house.owner, dead)
        self._ask("rescue", rescue, swept, lane=lanes.EXCHANGE)

    def _unpark(self) -> None:
        def unparked(count: int) -> None:
            if count:
                log.info("job.unpark count=%d", count)
                self._plan.wake(monotonic())

        self._ask("unpark", functools.partial(self._backend.unpark, self._plan.names), unparked)

    def _let_in(self) -> None:
        """What a death left behind a limit key that has room again."""

        def came_in(count: int) -> None:
            if count:
                self._plan.wake(monotonic())

        self._ask("let in", functools.partial(self._backend.let_in, LET_IN_AT_ONCE), came_in)

    def _prune(self) -> None:
        def prune() -> int:
            count = routines.prune(self._backend, self._house.settings)
            routines.clear_dead_engines(self._backend)
            return count

        def pruned(count: int) -> None:
            if count >= routines.PRUNE_AT_ONCE:
                self._prune_routine.next_at = monotonic() + 0.1

        self._ask("prune", prune, pruned)

    # -------------------------------------------------------------- jobs that wait for others

    def settled(self, batch: Batch, now: float) -> None:
        """The store has heard how these jobs ended; somebody may have waited for that."""
        ended = itertools.chain(batch.done, (move.claim for move in batch.moves if move.leaves))
        if told := self._dependents.are_told_by(ended):
            self._told.update(told)
            self._look_at_dependents(now)

    def _look_at_dependents(self, now: float) -> None:
        """Soon, however often it is said."""
        self._dependents_at = min(self._dependents_at, max(now, self._dependents_rest))

    def _see_to_dependents(self, now: float) -> None:
        if now < self._dependents_at or "dependents" in self._under_way:
            return
        self._dependents_at = now + TURN_SECONDS
        told = frozenset(self._told)

        def seen_to(answer: SeenTo) -> None:
            self._told -= told
            then = monotonic()
            times = 1 if answer.more else DEPENDENTS_REST
            self._dependents_rest = then + min(times * answer.took, MOST_REST_SECONDS)
            if answer.number:
                log.info("job.release_dependents count=%d", answer.number)
                self._plan.wake(then)
            soon = then if answer.more or self._told else self._dependents_at
            self._dependents_at = max(soon, self._dependents_rest)

        self._ask("dependents", functools.partial(self._dependents.look, told), seen_to, lane=lanes.TICK)

    # -------------------------------------------------------------- schedules

    def _tick(self, now: float) -> None:
        if now < self._tick_at and not self._ticker.is_doubtful():
            return
        self._tick_at = now + TICK_AGAIN_SECONDS
        if "ticks" not in self._under_way:
            self._tick_again = False
            # Not behind the other chores, of which some take long: only looks at who waits for others share its lane.
            self._ask("ticks", self._ticker.look, self._ticked, lane=lanes.TICK)

    def _ticked(self, looked: Looked) -> None:
        now = monotonic()
        self._tick_at = now if self._tick_again else looked.next_at
        if looked.made:
            self._plan.wake(now)

    # -------------------------------------------------------------- saying how it is, hearing what is wanted

    def _say_alive(self) -> None:
        # With nothing held no lease can end under a job, however long the store is away.
        safe = {"safe": monotonic()} if self._plan.holds_nothing else {}
        self._house.tell_keeper(alive=True, **safe)

    def _write_record(self) -> None:
        about = self._house.about()
        self._ask("engine record", functools.partial(routines.write_engine, self._backend, self._house.owner, about))

    def read_settings(self, version: int) -> None:
        """The store says that its settings are of this version now: read the queues, and what an operator ordered."""
        house = self._house
        self._ticker.settings_changed()
        self._tick_at, self._tick_again = monotonic(), True

        def read() -> tuple[list[Queue], str | None, bool]:
            queues = routines.read_queues(self._backend, house.only_queues)
            return queues, routines.read_order(self._backend, house.owner), routines.is_closed(self._backend)

        def known(answer: tuple[list[Queue], str | None, bool]) -> None:
            queues, order, is_closed = answer
            self._closed = is_closed
            self._obey(order)
            self._plan.know_queues(queues, version)
            self.served = [queue.name for queue in queues]
            self._record_routine.next_at = monotonic()  # others shall know soon what is served here

        # If it fails the next exchange says again that they changed.
        self._ask("settings", read, known)

    def _obey(self, order: str | None) -> None:
        quiet = order == "quiet" or self._closed
        if quiet != self._plan.quiet:
            why = ": jobs are being moved into this store" if self._closed else ""
            log.info("engine.%s%s", "quiet" if quiet else "work", why)
            self._plan.be_quiet(quiet, monotonic())
        if order == "stop" and not self._plan.stopping:
            self._house.tell_keeper(stopping=True)
            self._house.stop()

    # -------------------------------------------------------------- memory

    def _check_memory(self, now: float) -> None:
        if now < self._memory_at:
            return
        self._memory_at = now + MEMORY_SECONDS
        memory_of, limit_of_all = self._house.pool.memory_of, self._house.settings.memory_limit
        for worker, limit in self._plan.memory_limits():
            if memory_of(worker) > limit:
                self._plan.over_memory(worker)
        if limit_of_all is not None and now >= self._fat_at:
            self._fat_at = now + FAT_SECONDS
            for worker in self._plan.resting():
                if memory_of(worker) > FAT_SHARE * limit_of_all:
                    log.info("worker.replace number=%d: it holds too much memory", worker)
                    self._plan.grew_fat(worker)
