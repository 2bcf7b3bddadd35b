"""A simulated engine process: the real plan, and what the dispatcher does around it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from jobcard.backends.base import Completions, Exchanged, Held
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.engine import commands as orders
from jobcard.engine import routines
from jobcard.engine.plan import LAST_WORDS_SECONDS
from jobcard.engine.shares import SAFE_SHARE
from simulation.faults import Violation
from simulation.jobs import NAMES
from simulation.records import Remembering, Store
from simulation.worker import SimWorker

if TYPE_CHECKING:
    from simulation.host import Host

ALIVE_SECONDS = 1.0


Steps = Generator[tuple[float, bool], None, None]
"""An engine's loop: it yields (sleep until then, whether something heard ends the sleep)."""


class SimEngine:
    """One engine process: the plan, and what the dispatcher does around it."""

    def __init__(self, host: Host, owner: str, dead_owners: Sequence[str]) -> None:
        self.host = host
        self.world = world = host.world
        self.owner = owner
        self.alive = True
        self.workers: dict[int, SimWorker] = {}
        self.running: Counter[str] = Counter()
        """What runs, by queue."""
        self.in_processes = 0
        """… of which so many do not share."""
        self.safe = self.born_at = world.now
        self.disturbed_at = self.turned_at = world.now
        self.stopped_until = self.began_at = 0.0
        self.ended_by_itself = False
        self.gave_up = False
        self.stopping_since: float | None = None
        self._dead_owners = list(dead_owners)
        self._store = Store(world, world.backend, world.max_batch)
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._steps = self._live()
        self._sleep_until = world.now
        self._interruptible = False
        self._wakes = 0
        self._pause = 0.0
        self._give_up_at: float | None = None
        self._sweep_at = world.now
        self._idle_since: float | None = world.now
        """Since when it has held nothing, so that no lease of its own can end."""
        self._reading = False
        self._ranks: dict[str, tuple[int, str]] = {}
        """The place of each queue where nothing but its priority counts."""
        self._empty_turns: deque[float] = deque(maxlen=40)
        self._exchanges: deque[float] = deque(maxlen=60)
        self.dozes_until = 0.0
        """Nothing happens anywhere until then, and so it need not look."""
        self.plan = world.plan_class(
            world.settings, random=world.plan_random.random, cpus=world.cpus, max_batch=world.max_batch, now=world.now
        )
        self.plan._crew.recycle_seconds = self.plan._sharing.recycle_seconds = 2.0
        first = self.workers[0] = SimWorker(self, 0)
        first.ready = True
        self.plan.adopt(0, NAMES, world.now)
        world.after(0, self._wake, self._wakes)

    # -- being scheduled

    def tell(self, delay: float, *event: Any) -> None:
        """Something reaches this engine's pipes after `delay`."""
        self.world.after(delay, self._arrives, event)

    def _arrives(self, event: tuple[Any, ...]) -> None:
        if not self.alive:
            return
        self._inbox.append(event)
        if self._interruptible and self._sleep_until > self.world.now:
            self._sleep(self.world.now, True)

    def _sleep(self, until: float, interruptible: bool) -> None:
        self._sleep_until = max(until, self.world.now)
        self._interruptible = interruptible
        self._wakes += 1
        self.world.at(self._sleep_until, self._wake, self._wakes)

    def _wake(self, number: int) -> None:
        if not self.alive or number != self._wakes:
            return
        if self._pause:
            until, self._pause = self.world.now + self._pause, 0.0
            self.world.note("%s is stopped until %.3f", self.owner, until)
            self._sleep(until, False)
            self.disturb(until)
            self.stopped_until = until
            return
        self.turned_at = self.world.now
        self.dozes_until = 0.0
        try:
            until, interruptible = next(self._steps)
        except StopIteration:
            self.ended_by_itself = True
            self.die("it ended")
            return
        if not interruptible and until - self.world.now > 0.05:
            self.disturb(until)
        self._sleep(until, interruptible)

    def stop_process(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after `seconds`; it takes effect between two of its steps."""
        self._pause = seconds
        if self._interruptible:
            self._sleep(self.world.now, False)

    def disturb(self, until: float) -> None:
        """What it does until then, and shortly after, is not judged by how fast it is."""
        self.disturbed_at = max(self.disturbed_at, until)

    def look_around(self) -> None:
        """Its keeper reads what it last said: an engine that is well says so once a second."""
        if self.is_stopped_or_blocked() or self.stopped_until > self.world.now:
            return
        self.turned_at = self.world.now
        if self._idle_since is not None:
            self.safe = self.world.now

    def is_busy(self) -> bool:
        """Whether it has anything to do but to look around."""
        return (
            bool(self._dead_owners)
            or bool(self._inbox)
            or self.stopping_since is not None
            or self.stopped_until > self.world.now
            or self.is_stopped_or_blocked()
            or not self.plan.holds_nothing
        )

    def is_stopped_or_blocked(self) -> bool:
        return not self._interruptible and self._sleep_until > self.world.now

    def die(self, how: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self.world.note("%s ends: %s", self.owner, how)
        self._steps.close()
        self.host.engine_ended(self)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._arrives(("stop",))

    # -- the loop, as in the dispatcher

    def _live(self) -> Steps:
        world = self.world
        while True:
            heard = bool(self._inbox)
            while self._inbox:
                more = self._hear(self._inbox.popleft())
                if more is not None:
                    yield from more
            if not self.plan.stopping and world.now >= self._sweep_at:
                interval = routines.sweep_interval(world.settings.lease)
                self._sweep_at = world.now + interval * (0.75 + 0.5 * world.random.random())
                for call in (self._sweep, self._let_in):
                    more = call()
                    if more is not None:
                        yield from more
            if self.plan.holds_nothing:
                self._idle_since = world.now if self._idle_since is None else self._idle_since
            elif self._idle_since is not None:
                # An idle engine tells its keeper once a second that it is safe; the last time was a while ago.
                said = world.now - ALIVE_SECONDS * world.random.random()
                self.safe = max(self.safe, self._idle_since, said)
                self._idle_since = None
            turns, began = 0, world.now
            finished = False
            while commands := self.plan.turn(world.now):
                turns += 1
                if turns > 100 and world.now == began:
                    raise Violation(f"{self.owner}: the plan asks for more and more at one instant: {commands[:3]}")
                if self._pause:
                    yield world.now, False  # stopped between deciding and doing
                for command in commands:
                    finished |= isinstance(command, orders.Finished)
                    more = self._perform(command)
                    if more is not None:
                        yield from more
            if finished:
                break
            if self._give_up_at is not None and world.now > self._give_up_at:
                self.gave_up = True
                break
            at = self._deadline()
            if at <= world.now and not heard and not turns:
                self._empty_turns.append(world.now)
                if len(self._empty_turns) == 40 and world.now - self._empty_turns[0] < 0.1:
                    raise Violation(f"{self.owner}: the plan wants to be asked at {at:.6f}, has nothing to do, spins")
            at = max(at, world.now + 2e-5)
            if at > world.now + 0.1 and (until := world.quiet_until() - world.random.random()) > at:
                at = self.dozes_until = until
            yield at, True

    def _deadline(self) -> float:
        at = self.plan.next_deadline(self.world.now)
        if not self.plan.stopping and self._sweep_at < at:
            self._sweep_at = self._next_sweep(min(at, self.world.now + 60))
            at = min(at, self._sweep_at)
        if self._give_up_at is not None:
            at = min(at, self._give_up_at + 1e-6)
        return at

    def _hear(self, event: tuple[Any, ...]) -> Steps | None:
        world, plan = self.world, self.plan
        kind, *rest = event
        if kind == "answer":
            return rest[0]()
        if kind == "wake":
            plan.wake(world.now)
            return None
        if kind == "stop":
            self._stop()
            return None
        worker: SimWorker = rest[0]
        if kind == "hello":
            plan.hello(worker.number, NAMES, world.now)
        elif kind == "done":
            if not plan.done(worker.number, *rest[1:]):
                raise Violation(f"{self.owner}: the plan does not believe worker {worker.number}")
        elif kind == "ended":
            if not plan.ended(worker.number, *rest[1:]):
                raise Violation(f"{self.owner}: the plan does not believe worker {worker.number}")
        elif kind == "followed":
            if not plan.followed(worker.number, *rest[1:]):
                raise Violation(f"{self.owner}: the plan does not believe worker {worker.number}")
        elif kind == "started":
            plan.started(worker.number, rest[1])
        elif kind == "note":
            plan.noted(worker.number, *rest[1:], world.now)
        elif kind == "fat":
            if worker.alive and worker.runs:
                for run in worker.runs.values():
                    world.own_deaths[run.job] += 1
                if len(worker.runs) > 1:
                    world.in_company.update((run.job, run.token) for run in worker.runs.values())
                plan.over_memory(worker.number)
        elif kind == "gone":
            if world.now - self.safe < SAFE_SHARE * world.settings.lease:
                # The answer to a renewal came late, after the keeper had acted: nothing tells this from a crash.
                for job_id in worker.fenced:
                    world.own_deaths[job_id] += 1
            del self.workers[worker.number]
            plan.worker_gone(worker.number, worker.recall(), rest[1], world.now)
        return None

    def _stop(self) -> None:
        world = self.world
        world.note("%s is asked to stop", self.owner)
        if self.stopping_since is None:
            self.stopping_since = world.now
        self.plan.stop(world.now, at_once=False)
        budget = max(0.0, world.settings.stop_timeout - LAST_WORDS_SECONDS)
        self._give_up_at = world.now + budget + LAST_WORDS_SECONDS

    def _perform(self, command: orders.Command) -> Steps | None:
        world = self.world
        world.note("%s: %s", self.owner, command)
        match command:
            case orders.Exchange(completions, outcomes, want, freed):
                return self._exchange(completions, outcomes, want, freed)
            case orders.Renew(held):
                return self._renew(held)
            case orders.Spawn(number):
                worker = self.workers[number] = SimWorker(self, number)
                worker.boot()
            case orders.Send(number, jobs):
                if number in self.workers:
                    self.workers[number].give(jobs)
            case orders.Recall(number):
                if number in self.workers:
                    self.plan.recalled(number, self.workers[number].recall())
            case orders.Kill(number):
                if number in self.workers:
                    world.after(world.random.choice((0.0, 1e-3)), self.workers[number].die, "killed by its engine")
            case orders.Share(number):
                if number in self.workers:
                    self.workers[number].share()
            case orders.Tell(number, seq, why, _reason):
                if number in self.workers:
                    world.after(5e-5, self.workers[number].told, seq, why)
            case orders.Reply(number, call, error):
                if number in self.workers:
                    world.after(5e-5, self.workers[number].replied, call, error)
            case orders.Retire(number):
                if number in self.workers:
                    self.workers[number].end()
            case orders.FindStrays():
                return self._call(
                    lambda: self._store.find_held([self.owner], lapsed=False, limit=10_000),
                    lambda found: self.plan.strays(found.claims, world.now),
                    lambda: self.plan.strays_failed(world.now),
                )
        return None

    # -- the store

    def _call(
        self,
        function: Callable[[], Any],
        then: Callable[[Any], Steps | None],
        failed: Callable[[], Steps | None],
        part: Callable[[float], Any] = lambda share: None,
    ) -> Steps | None:
        """One store call, with whatever goes wrong with it; inline it blocks the engine, else it runs beside it.

        part: applies only the first share of what it says, and claims nothing; all of it may be said again.
        """
        world = self.world
        fate = world.fate(self)
        box: list[Any] = []
        if fate.fails or fate.wait > 0.05:
            self.disturb(world.now + fate.wait)

        def apply() -> None:
            for _ in range(1, fate.times):
                part(1.0)
            if fate.share < 1:
                part(fate.share)
            else:
                box.append(function())

        if fate.applied_at == 0:
            apply()
        elif fate.applied_at is not None:
            world.after(fate.applied_at, apply)

        def finish() -> Steps | None:
            return failed() if fate.fails else then(box[0])

        if world.threaded:
            self.tell(fate.wait + 5e-5, "answer", finish)
            return None
        return self._wait(fate.wait, finish) if fate.wait else finish()

    def _wait(self, seconds: float, then: Callable[[], Steps | None]) -> Steps:
        yield self.world.now + seconds, False
        more = then()
        if more is not None:
            yield from more

    def _exchange(self, completions: Any, outcomes: Any, want: Any, freed: Any) -> Steps | None:
        world = self.world
        asked_at = world.now
        self._exchanges.append(world.now)
        if len(self._exchanges) == 60 and world.now - self._exchanges[0] < 0.2:
            raise Violation(f"{self.owner}: 60 exchanges within {world.now - self._exchanges[0]:.3f} s")
        if self.plan.quiet and want.total:
            raise Violation(f"{self.owner} claims jobs though it shall be quiet")
        if self._ranks:
            wanted = [self._ranks[name] for name, _most in want.queues]
            if wanted != sorted(wanted):
                raise Violation(f"{self.owner}: the queues are not wanted by priority: {want.queues}")

        def call() -> Exchanged:
            answer = self._store.exchange(
                self.owner, completions=completions, outcomes=outcomes, want=want, lease=world.lease, freed=freed
            )
            world.claimed(self, answer.claimed, asked_at)
            return answer

        def then(answer: Exchanged) -> Steps | None:
            world.heard_of(answer.claimed)
            world.note("%s: %s", self.owner, answer)
            self.plan.exchanged(answer, world.now)
            if answer.settings != self.plan.settings_version and not self._reading:
                self._reading = True
                return self._read_queues(answer.settings)
            return None

        def failed() -> None:
            world.note("%s: the exchange failed", self.owner)
            self.plan.store_failed(world.now)

        def part(share: float) -> None:
            columns = [column[: round(len(column) * share)] for column in completions]
            some = outcomes[: round(len(outcomes) * share)]
            self._store.exchange(self.owner, completions=Completions(*columns), outcomes=some, lease=world.lease)

        return self._call(call, then, failed, part)

    def _read_queues(self, version: int) -> Steps | None:
        world = self.world

        def then(found: tuple[list[Queue], str | None]) -> None:
            self._reading = False
            queues, order = found
            self.plan.be_quiet(order == "quiet", world.now)
            if order == "stop" and not self.plan.stopping:
                self._stop()
            self.plan.know_queues(queues, version)
            served = self.plan.queues
            is_strict = all(queue.weight == 1 and queue.ageing is None for queue in served)
            self._ranks = {queue.name: (-queue.priority, queue.name) for queue in served} if is_strict else {}

        def failed() -> None:
            self._reading = False

        def read() -> tuple[list[Queue], str | None]:
            return routines.read_queues(self._store, None), routines.read_order(self._store, self.owner)

        return self._call(read, then, failed)

    def _renew(self, held: Any) -> Steps | None:
        world = self.world
        sent_at = world.now

        def then(lost: Any) -> None:
            for ref in lost:
                for run in world.runs[ref]:
                    if run.end is None and (ref, run.token) in held and run.owner == self.owner:
                        run.known_lost = min(run.known_lost, world.now)
            self.plan.renewed(held, lost, sent_at)
            self.safe = max(self.safe, sent_at)

        def failed() -> None:
            self.plan.renewal_failed(world.now)

        def part(share: float) -> None:
            self._store.renew(self.owner, held[: round(len(held) * share)], lease=world.lease)

        return self._call(lambda: self._store.renew(self.owner, held, lease=world.lease), then, failed, part)

    def _next_sweep(self, until: float) -> float:
        """When to sweep next; while nobody holds anything there is nothing to find."""
        world, at = self.world, self._sweep_at
        if self._dead_owners:
            return at
        interval = routines.sweep_interval(world.settings.lease)
        if not any(row.claimed_by or row.hold == "limit" for row in world.rows.alive.values()):
            while at < until:
                at += interval * (0.75 + 0.5 * world.random.random())
        return at

    def _let_in(self) -> Steps | None:
        """What a death left behind a key that has room again; in step with the sweep."""

        def came_in(count: int) -> None:
            if count:
                self.plan.wake(self.world.now)

        return self._call(lambda: self._store.let_in(1_000), came_in, lambda: None)

    def _sweep(self) -> Steps | None:
        """Find and take in two steps, so that what was found may be old when it is taken."""
        world = self.world
        most = self._store.capabilities.max_batch
        dead = list(self._dead_owners)

        def found(held: Held) -> Steps | None:
            def rescue() -> tuple[int, list[Claimed]]:
                return world.rescue(Remembering(self._store, held), self.owner, dead)

            return self._call(rescue, rescued, ignore)

        def rescued(answer: tuple[int, list[Claimed]]) -> None:
            count, ours = answer
            if count:
                self.plan.wake(world.now)
            if ours:
                self.plan.disown_unknown(ours, world.now)
            self._dead_owners = [owner for owner in self._dead_owners if owner not in dead]
            self.host.dead_owners = [owner for owner in self.host.dead_owners if owner not in dead]

        def ignore() -> None:
            return None

        return self._call(lambda: self._store.find_held(dead, lapsed=True, limit=most), found, ignore)
