"""The loop of an engine: hear, decide, do. One thread owns all pipes and all state.

    select ─► workers' messages, wake-ups, signals, the keeper ─► plan.turn() ─► commands ─► store and workers

Exactly one exchange is in flight. What may take long is called on threads of its own (`lanes.py`), and its answers are
heard like everything else; a store in this process takes exchanges and renewals here.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import random
import selectors
import time
from collections.abc import Callable, Sequence
from typing import Any

from jobcard.backends.base import Backend, Exchanged, Held
from jobcard.core import clock
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.settings import Settings
from jobcard.engine import commands, lanes
from jobcard.engine.chores import Chores, House
from jobcard.engine.outcomes import Ended
from jobcard.engine.plan import LAST_WORDS_SECONDS, Plan
from jobcard.errors import AccessDeniedError, StoreError
from jobcard.workers import farewell, link, messages
from jobcard.workers.messages import Exit
from jobcard.workers.pool import Pool

log = logging.getLogger("jobcard.engine")

FAREWELL_SECONDS = farewell.SECONDS + 0.5  # the worker first has to hear that it may go
NEWS_SECONDS = 1.0  # a store that fails for so long is worth a line, and one more after each such time


def _ignore(_: object) -> None:
    return None


class Dispatcher:
    """An engine that has its store and its first worker: it serves until it is told to stop."""

    def __init__(
        self,
        *,
        owner: str,
        backend: Backend,
        settings: Settings,
        pool: Pool,
        selector: selectors.BaseSelector,
        only_queues: frozenset[str] | None,
        dead_owners: Sequence[str],
        about: Callable[[], dict[str, Any]],
        tell_keeper: Callable[..., None],
    ) -> None:
        """about: this engine's own record. tell_keeper: says something to the parent."""
        now = time.monotonic()
        self._owner = owner
        self._backend = backend
        self._settings = settings
        self._pool = pool
        self._selector = selector
        self._tell_keeper = tell_keeper
        self._plan = Plan(
            settings,
            random=random.random,
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            max_batch=backend.capabilities.max_batch,
            store_is_apart=backend.capabilities.own_thread,
            now=now,
        )
        self._lanes = lanes.Lanes(selector, own_thread=backend.capabilities.own_thread)
        self._waker = backend.waker()
        if self._waker.fd is not None:
            selector.register(self._waker.fd, selectors.EVENT_READ, self._woken)
        house = House(
            owner=owner,
            backend=backend,
            settings=settings,
            pool=pool,
            plan=self._plan,
            lanes=self._lanes,
            waker=self._waker,
            only_queues=only_queues,
            about=about,
            tell_keeper=tell_keeper,
            store_failed=self._store_failed,
            stop=functools.partial(self.stop, at_once=False),
        )
        self._chores = Chores(house, dead_owners, now)
        self._give_up_at: float | None = None
        self._ready = False
        self._finished = False
        self._lost_logged = 0
        self._failing_since: float | None = None
        self._warn_at = now

    @property
    def served(self) -> list[str]:
        """The names of the queues this engine takes from, as far as it knows."""
        return self._chores.served

    @property
    def is_quiet(self) -> bool:
        """Whether it was told to claim nothing more."""
        return self._plan.quiet

    @property
    def follows(self) -> bool:
        """Whether it goes along when the store's jobs are moved."""
        return self._backend.capabilities.follows

    def running(self, most: int) -> list[tuple[int, Claimed, float]]:
        """(worker, job, seconds since its start) of what runs now, at most so many."""
        now = time.monotonic()
        found = itertools.islice(self._plan.running(), most)
        return [(worker, claim, max(0.0, now - since)) for worker, claim, since in found]

    def adopt(self, worker: int, names: dict[str, dict[str, Any]]) -> None:
        """Take over the worker that has already said hello."""
        self._plan.adopt(worker, names, time.monotonic())

    @property
    def plan(self) -> Plan:
        return self._plan

    # -------------------------------------------------------------- the loop

    def serve(self) -> None:
        """Run until stopped and everything is settled."""
        self.turn()
        while not self._finished:
            now = time.monotonic()
            for key, _events in self._selector.select(self._patience(now)):
                key.data()
            self.turn()
        self._await_farewells()
        self._pool.kill_all()
        self._lanes.close()
        self._waker.close()

    def _await_farewells(self) -> None:
        """Nothing runs any more: workers that have something to see to get a moment for it."""
        until = time.monotonic() + FAREWELL_SECONDS
        for worker in self._pool.with_farewell():
            self._pool.retire(worker)
        while self._pool.with_farewell():
            # Looked up each time: a second order to stop makes it less.
            left = min(until, self._give_up_at or until) - time.monotonic()
            if left <= 0:
                log.warning("engine.stop: a worker did not end in time; what it still had to send is lost")
                return
            for key, _events in self._selector.select(left):
                key.data()

    def stop(self, *, at_once: bool) -> None:
        """Begin to stop; a second call makes it quick."""
        now = time.monotonic()
        if not self._plan.stopping:
            log.info("engine.stop")
        self._plan.stop(now, at_once=at_once)
        budget = 0.0 if at_once else max(0.0, self._settings.stop_timeout - LAST_WORDS_SECONDS)
        give_up_at = now + budget + (1.0 if at_once else LAST_WORDS_SECONDS)
        self._give_up_at = give_up_at if self._give_up_at is None else min(give_up_at, self._give_up_at)

    def turn(self) -> None:
        """Decide and do, until there is nothing left to do now."""
        now = time.monotonic()
        self._chores.run_if_due(now)
        while orders := self._plan.turn(time.monotonic()):
            for command in orders:
                self._perform(command)
        if self._give_up_at is not None and time.monotonic() > self._give_up_at:
            log.error("engine.stop: the store did not take the last outcomes in time; their leases will run out")
            self._finished = True

    def _patience(self, now: float) -> float:
        """How long nothing needs to be done unless somebody says something."""
        at = min(self._plan.next_deadline(now), self._chores.next_time())
        if self._give_up_at is not None:
            at = min(at, self._give_up_at)
        return max(0.0, at - now)

    # -------------------------------------------------------------- commands

    def _perform(self, command: commands.Command) -> None:
        match command:
            case commands.Send(worker, jobs):
                self._pool.send(worker, jobs)
            case commands.Exchange():
                self._exchange(command)
            case commands.Recall(worker):
                self._plan.recalled(worker, self._pool.recall(worker))
            case commands.Kill(worker):
                log.info("worker.kill number=%d why=%s", worker, self._plan.why_killed(worker))
                self._pool.kill(worker)
            case commands.Spawn(worker):
                self._spawn(worker)
            case commands.Share(worker):
                self._pool.share(worker)
            case commands.Tell(worker, seq, why, reason):
                log.info("job.tell worker=%d seq=%d why=%s", worker, seq, why)
                self._pool.tell(worker, seq, why, reason)
            case commands.Reply(worker, call, error):
                self._pool.reply(worker, call, error, None)
            case commands.Retire(worker):
                self._pool.retire(worker)
            case commands.Renew(held):
                self._renew(held)
            case commands.FindStrays():
                self._find_strays()
            case commands.Finished():
                self._finished = True

    def _spawn(self, worker: int) -> None:
        try:
            self._pool.spawn(worker)
        except OSError as error:
            log.error("worker.spawn: %s", error)
            self._plan.worker_gone(worker, [], Exit(None, str(error)), time.monotonic())

    # -------------------------------------------------------------- the store

    def _exchange(self, command: commands.Exchange) -> None:
        def call() -> Exchanged:
            return self._backend.exchange(
                self._owner,
                completions=command.completions,
                outcomes=command.outcomes,
                want=command.want,
                lease=clock.to_duration(self._settings.lease),
                freed=command.freed,
            )

        def failed(error: StoreError) -> None:
            if isinstance(error, AccessDeniedError) and not self._ready:
                raise error  # nobody has been told yet that jobs will run here
            self._store_failed("exchange", error)
            self._plan.store_failed(time.monotonic())

        self._lanes.run(lanes.EXCHANGE, call, self._answered, failed)

    def _answered(self, answer: Exchanged) -> None:
        self._failing_since = None
        now = time.monotonic()
        self._chores.settled(self._plan.exchanged(answer, now), now)
        if self._plan.lost > self._lost_logged:
            log.warning("job.lost count=%d: their claims were gone; the outcomes are dropped", self._plan.lost)
            self._lost_logged = self._plan.lost
        if answer.settings != self._plan.settings_version:
            self._chores.read_settings(answer.settings)
        elif not self._ready:
            self._ready = True
            self._tell_keeper(ready=self._owner)

    def _renew(self, held: list[tuple[Any, int]]) -> None:
        sent_at = time.monotonic()

        def renewed(lost: list[Ref]) -> None:
            self._plan.store_answered(time.monotonic())
            self._plan.renewed(held, lost, sent_at)
            self._tell_keeper(safe=sent_at)

        def failed(error: StoreError) -> None:
            self._store_failed("renew", error)
            self._plan.renewal_failed(time.monotonic())

        lease = clock.to_duration(self._settings.lease)
        self._lanes.run(lanes.RENEW, lambda: self._backend.renew(self._owner, held, lease=lease), renewed, failed)

    def _find_strays(self) -> None:
        def found(held: Held) -> None:
            self._plan.strays(held.claims, time.monotonic())

        def failed(error: StoreError) -> None:
            self._store_failed("find_held", error)
            self._plan.strays_failed(time.monotonic())

        look = functools.partial(self._backend.find_held, [self._owner], lapsed=False, limit=10_000)
        self._lanes.run(lanes.EXCHANGE, look, found, failed)

    def _store_failed(self, verb: str, error: StoreError) -> None:
        # A store that others keep busy for a moment is everyday life; one that stays away is news, once a second.
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        long = now - self._failing_since >= NEWS_SECONDS and now >= self._warn_at
        if long:
            self._warn_at = now + NEWS_SECONDS
        log.log(logging.WARNING if long else logging.DEBUG, "store.%s: %s", verb, error)

    def _woken(self) -> None:
        self._waker.drain()
        self._chores.woken(time.monotonic())

    # -------------------------------------------------------------- what workers say

    def message(self, number: int, message: list[Any]) -> None:
        """A worker said something."""
        kind = message[0]
        believed = True
        if kind == messages.DONE:
            _kind, seq, started, ended, result = message
            believed = self._plan.done(number, seq, started, ended, result)
            self._pool.forget_output(number)
        elif kind == messages.FOLLOWED:
            _kind, seq, started, ended, result, jobs = message
            believed = self._plan.followed(number, seq, started, ended, result, [NewJob(*job) for job in jobs])
            self._pool.forget_output(number)
        elif kind == messages.ENDED:
            _kind, seq, started, ended, word = message
            # What a shared worker printed may be any of its jobs'.
            if not self._plan.shares(number):
                output = self._pool.take_output(number)
                if word["error"] is not None:
                    word["error"]["output"] = output
            believed = self._plan.ended(number, seq, started, ended, Ended(**word))
        elif kind == messages.STARTED:
            self._plan.started(number, message[1])
        elif kind == messages.NOTE:
            _kind, seq, said, call = message
            self._plan.noted(number, seq, said, call, time.monotonic())
        elif kind == messages.CALL:
            _kind, call, verb, packed = message
            self._call(number, call, verb, packed)
        elif kind == messages.HELLO:
            self._plan.hello(number, message[1]["names"], time.monotonic())
        elif kind == messages.IMPORT_FAILED:
            why = message[1]
            log.error("the application cannot be imported: %s (%s, line %s)", why["message"], why["file"], why["line"])
        else:
            believed = False
        if not believed:
            log.error("worker %d said something we do not understand; killed", number)
            self._pool.kill(number)

    def _call(self, number: int, call: int, verb: str, packed: bytes) -> None:
        def answered(answer: tuple[dict[str, Any] | None, bytes | None]) -> None:
            self._pool.reply(number, call, *answer)

        lane = lanes.CALLS[number % len(lanes.CALLS)]
        self._lanes.run(lane, lambda: link.perform(self._backend, verb, packed), answered, _ignore)

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        """A worker process has ended."""
        self._plan.worker_gone(number, unstarted, exit, time.monotonic())
