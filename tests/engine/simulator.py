"""Engines, workers, keepers, producers and a store in one thread and in simulated time: one seed, one run.

    producers ──► model store ◄── store calls that fail, hang, or lose their answer
                      ▲
    host: keeper ─ engine (the real `Plan`, performed as the dispatcher does) ─ workers

What is real: `engine/plan.py`, `engine/outcomes.py`, `routines.rescue_lost`, `core/states.py` and the model of the
conformance suite. What is simulated: time, processes, pipes, the keeper, the dispatcher's loop. Every run of a job
is written down outside the store, and the promises are checked against that: while it goes on and at the end.

Replay a failure with `python tests/engine/simulator.py --seed 12345`; it prints every event.
"""

from __future__ import annotations

import argparse
import heapq
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from jobcard.backends.base import Backend, Capabilities, Exchanged, RecordKind
from jobcard.conformance.factory import new_job
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.rules import claim_order
from jobcard.core import clock, states
from jobcard.core.job import Claimed, JobRow, NewJob, Ref
from jobcard.core.queue import Queue, queue_to_text
from jobcard.core.retry import Backoff
from jobcard.core.settings import Settings
from jobcard.engine import commands as orders
from jobcard.engine import leases, routines
from jobcard.engine import plan as plans
from jobcard.engine.outcomes import Ended
from jobcard.workers.messages import Exit

UNSAFE_SHARE = 0.7  # as the keeper has it
HUNG_SECONDS = 30.0
ALIVE_SECONDS = 1.0
LAST_WORDS_SECONDS = 2.0
DRAIN_SECONDS = 1500.0
SAMPLE_SECONDS = 0.1
LEFT_WAITING_SECONDS = 4.0  # a healthy engine with room leaves no due job lying for so long
HELD_SECONDS = 7.0  # … and keeps none unstarted for so long
RETURNS = 15  # … and none is claimed in vain so often
BEHIND_SECONDS = 0.2  # … and lets none wait behind others while a worker is free
SETTLED_SECONDS = 2.5  # how long after the last disturbance an engine is expected to keep those three


class Violation(Exception):
    """A promise was broken."""


# ------------------------------------------------------------------ what goes wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong: shares of store calls, or events in one simulated minute."""

    error: float = 0.0
    """The call fails and nothing was applied."""
    lost: float = 0.0
    """The call is applied and fails."""
    late: float = 0.0
    """The call fails and is applied some time after that."""
    slow: float = 0.0
    """The answer takes up to three leases."""
    outages: float = 0.0
    cuts: float = 0.0
    """One host does not reach the store for a while."""
    pauses: float = 0.0
    """An engine is stopped (SIGSTOP) for up to three leases; its workers and its keeper go on."""
    engine_crashes: float = 0.0
    host_losses: float = 0.0
    stops: float = 0.0
    """An engine is asked to stop; another one starts later."""
    worker_crashes: float = 0.0
    """The share of runs whose worker dies at some moment."""
    bad_spawns: float = 0.0
    """The share of workers that die before their hello."""
    cancels: float = 0.0
    queue_pauses: float = 0.0
    steps_back: float = 0.0
    steps_forward: float = 0.0
    """The store's clock is set. Forward it frees living claims: overlaps are allowed until they are noticed."""


NO_FAULTS = Faults()


def faults_of(random: Random) -> Faults:
    """Each kind of fault is in about every third run, so that they meet in all combinations."""

    def some(most: float) -> float:
        return random.uniform(0.1, 1.0) * most if random.random() < 0.35 else 0.0

    if random.random() < 0.1:
        return NO_FAULTS
    return Faults(
        error=some(0.1),
        lost=some(0.1),
        late=some(0.03),
        slow=some(0.03),
        outages=some(2),
        cuts=some(2),
        pauses=some(4),
        engine_crashes=some(4),
        host_losses=some(2),
        stops=some(3),
        worker_crashes=some(0.1),
        bad_spawns=some(0.3),
        cancels=some(15),
        queue_pauses=some(3),
        steps_back=some(2),
        steps_forward=some(2) if random.random() < 0.3 else 0.0,
    )


# ------------------------------------------------------------------ jobs

NAMES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {},
    "medium": {},
    "slow": {},
    "mixed": {},
    "careful": {},
    "fresh": {"isolation": "fresh"},
    "fat": {"memory_limit": 1 << 30},
}


def duration_of(name: str, random: Random) -> float:
    """How long one run of a job takes, in seconds."""
    match name:
        case "tiny":
            return 1e-5 * random.uniform(0.5, 3)
        case "small":
            return 1e-3 * random.uniform(0.5, 5)
        case "medium":
            return random.uniform(0.02, 0.2)
        case "slow":
            return random.uniform(0.5, 4) if random.random() < 0.8 else random.uniform(5, 30)
    return 10 ** random.uniform(-5, 0.7)


@dataclass(slots=True)
class Recipe:
    """A job, and what each of its runs does in turn; the last of `runs` is repeated."""

    job: NewJob
    runs: list[tuple[str, float]]
    """(return, error, fail, cancel, snooze, crash, die_after, forever, fat or refused, seconds)."""
    at: float

    def behaviour(self, turn: int) -> tuple[str, float]:
        return self.runs[min(turn, len(self.runs) - 1)]


def recipes_of(random: Random, *, queues: Sequence[Queue], until: float) -> list[Recipe]:
    """60 to 150 jobs of all kinds, in bursts."""
    recipes: list[Recipe] = []
    count = random.randint(60, 150)
    weights = [random.random() ** 2 for _ in NAMES]
    while len(recipes) < count:
        at = random.uniform(0, until)
        name = random.choices(list(NAMES), weights)[0]
        burst = random.choice((1, 1, 2, 5, 30)) if name in ("tiny", "small", "mixed") else random.choice((1, 1, 3))
        for _ in range(min(burst, count - len(recipes))):
            recipes.append(_recipe(random, name, len(recipes), queues, at))
    return sorted(recipes, key=lambda recipe: recipe.at)


_ODD = ("error", "error", "fail", "cancel", "snooze", "crash", "die_after", "forever", "fat", "refused")


def _recipe(random: Random, name: str, number: int, queues: Sequence[Queue], at: float) -> Recipe:
    given: dict[str, Any] = {}
    runs: list[tuple[str, float]] = []
    if random.random() < 0.3:
        for _ in range(random.choice((1, 1, 2, 4))):
            kind = random.choice(_ODD)
            if kind == "fat" and name != "fat":
                kind = "crash"
            if kind == "forever":
                given["timeout"] = random.choice((50_000, 1_000_000, 5_000_000))
            runs.append((kind, duration_of(name, random)))
    if not runs or runs[-1][0] in ("snooze", "forever") or random.random() < 0.8:
        runs.append(("return", duration_of(name, random)))
    if name == "careful" or random.random() < 0.05:
        given["max_attempts"] = 1
    elif random.random() < 0.3:
        given["max_attempts"] = random.choice((2, 3, 25))
    if random.random() < 0.2:
        given["max_crashes"] = random.choice((1, 2))
    if random.random() < 0.15:
        given["delay"] = random.randint(1, 15 * clock.SECOND)
    if random.random() < 0.2 and "timeout" not in given:
        given["timeout"] = random.choice((1_000_000, 10_000_000, 60_000_000))
    priority = random.choice((0, 0, 0, 5, -5))
    job = new_job(
        id=_id(random, number),
        queue=random.choice(queues).name,
        name=name,
        args=f"[{number}]",
        priority=priority,
        backoff=Backoff.exponential(base=random.choice((0.01, 0.5, 2)), limit=5).to_text(),
        **given,
    )
    return Recipe(job, runs, at)


def _id(random: Random, number: int) -> bytes:
    return (0x0190 << 112 | number << 64 | random.getrandbits(62)).to_bytes(16, "big")


# ------------------------------------------------------------------ what is written down outside the store


@dataclass(slots=True)
class Run:
    """One try of a job, from the moment its permit was read until it ended or its process died."""

    job: bytes
    token: int
    attempt: int
    owner: str
    begin: float
    end: float | None = None
    how: str = ""
    alone_by: float = float("inf")
    """When it has to be over, since another run of the job has begun."""
    known_lost: float = float("inf")
    """Since when its engine knows that the claim is gone."""


class Rows(dict[bytes, JobRow]):
    """The model's rows, each move watched."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.alive: dict[bytes, JobRow] = {}

    def __setitem__(self, key: bytes, row: JobRow) -> None:
        old = self.get(key)
        super().__setitem__(key, row)
        if row.state in states.ENDED:
            self.alive.pop(key, None)
        else:
            self.alive[key] = row
        if old is not None and (old.state != row.state or old.claim_token != row.claim_token):
            self._world.moved(old, row)


@dataclass(slots=True)
class SimClock:
    """The store's clock: simulated time plus what it was set wrong by."""

    time: float = 0.0
    offset: float = 0.0

    def now(self) -> int:
        return 1_800_000_000 * clock.SECOND + round((self.time + self.offset) * clock.SECOND)

    def monotonic(self) -> float:
        return self.time


class Store:
    """One engine's way to the store: passes calls on and looks at what they did."""

    def __init__(self, world: World, backend: Backend, max_batch: int) -> None:
        self._world = world
        self._backend = backend
        self.capabilities: Capabilities = replace(backend.capabilities, max_batch=max_batch)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._backend, verb)

    def exchange(self, owner: str, **said: Any) -> Exchanged:
        world, rows = self._world, self._world.store.rows
        settled = []
        if "completions" in said:
            settled += [(ref, token) for ref, token in zip(*said["completions"][:2], strict=True)]
        settled += [(outcome.ref, outcome.token) for outcome in said.get("outcomes", ())]
        if len(settled) > self.capabilities.max_batch:
            raise Violation(
                f"an exchange carries {len(settled)} outcomes, the store takes {self.capabilities.max_batch}"
            )
        tokens = {ref: max(token for other, token in settled if other == ref) for ref, _token in settled}
        before = [(rows[ref], token) for ref, token in tokens.items()]
        answer = self._backend.exchange(owner, **said)
        for row, token in before:
            if token < row.claim_token and rows[row.id].state != row.state in states.AT_WORK:
                raise Violation(f"job {world.name(row.id)}: an outcome with token {token} < {row.claim_token} applied")
        if answer.claimed:
            self._check_order(answer, said["want"])
        return answer

    def _check_order(self, answer: Exchanged, want: Any) -> None:
        """Nobody of a wanted queue was passed over."""
        rows = self._world.store.rows
        if len(answer.claimed) > want.total:
            raise Violation(f"{len(answer.claimed)} jobs claimed, {want.total} wanted")
        counts = Counter(claim.queue for claim in answer.claimed)
        earlier_left = ""
        for queue, most in want.queues:
            left = [r for r in rows.alive.values() if r.queue == queue and r.state == "waiting" and r.hold is None]
            mine = [rows[claim.id] for claim in answer.claimed if claim.queue == queue]
            if left and mine and max(map(claim_order, mine)) > min(map(claim_order, left)):
                raise Violation(f"queue {queue}: a later job was claimed before an earlier one")
            if mine and earlier_left:
                raise Violation(f"queue {queue} was served before {earlier_left}")
            if left and counts[queue] < most:
                earlier_left = queue


# ------------------------------------------------------------------ a worker process


class SimWorker:
    """One worker process: reads a permit, runs that job, says how it ended."""

    def __init__(self, engine: SimEngine, number: int) -> None:
        self.engine = engine
        self.world = engine.world
        self.number = number
        self.permits: deque[orders.Given] = deque()
        self.run: Run | None = None
        self.alive = True
        self.ready = False
        self.told_to_end = False
        self.fenced: bytes | None = None
        """The job it ran when the keeper killed it."""
        self._waking = False

    def boot(self) -> None:
        random = self.world.random
        wait = random.uniform(0.03, 0.4)
        if random.random() < self.world.faults.bad_spawns and not self.world.calm:
            self.world.after(wait, self.die, "before its hello")
        else:
            self.world.after(wait, self._hello)

    def _hello(self) -> None:
        if self.alive:
            self.ready = True
            self.engine.tell(1e-4, "hello", self)

    def give(self, jobs: Sequence[orders.Given]) -> None:
        """Jobs come down the pipe; also a dead worker's permit pipe takes them."""
        self.permits.extend(jobs)
        self._wake()

    def recall(self) -> list[int]:
        """Take back every permit that was not read."""
        seqs = [seq for seq, _claim, _since in self.permits]
        self.permits.clear()
        return seqs

    def end(self) -> None:
        """There will be no more."""
        self.told_to_end = True
        self._wake()

    def _wake(self) -> None:
        if self.alive and self.run is None and not self._waking:
            self._waking = True
            self.world.after(5e-5, self._next)

    def _next(self) -> None:
        self._waking = False
        if not self.alive or self.run is not None:
            return
        if not self.permits:
            if self.told_to_end:
                self.die("told to end")
            return
        seq, claim, _since = self.permits.popleft()
        kind, seconds = self.world.begins(self, claim)
        run = self.run
        assert run is not None
        random = self.world.random
        if kind == "fat":
            self.world.after(min(seconds, 0.4), self._is_fat, run)
        if kind not in ("forever", "fat"):
            self.world.after(seconds, self._ends, run, seq, kind, seconds)
        if random.random() < self.world.faults.worker_crashes and not self.world.calm:
            # Also at the very end: before the outcome is said, and after, while nobody has read it yet.
            self.world.after(seconds * random.choice((random.random(), 1, 1.0001)), self._dies_by_itself, run)

    def _ends(self, run: Run, seq: int, kind: str, seconds: float) -> None:
        if not self.alive or self.run is not run:
            return
        if kind == "crash":
            self._dies_by_itself(run)
            return
        now = self.world.now
        self.run = None
        self.world.ends(self, run, kind)
        word = _WORDS.get(kind)
        if word is None:
            result = '"\ud800"' if kind == "refused" else "null"
            self.engine.tell(5e-5, "done", self, seq, run.begin, now, result)
        else:
            self.engine.tell(5e-5, "ended", self, seq, run.begin, now, word)
        if kind == "die_after":
            self.die("after its outcome")
        else:
            self._next()

    def _dies_by_itself(self, run: Run) -> None:
        if self.alive:
            if self.run is not None:
                self.world.own_deaths[self.run.job] += 1
            self.die("by itself")

    def _is_fat(self, run: Run) -> None:
        if self.alive and self.run is run:
            self.engine.tell(1e-4, "fat", self)

    def die(self, how: str) -> None:
        """The process is gone; what it said before is still heard, then its end."""
        if not self.alive:
            return
        self.alive = False
        run, self.run = self.run, None
        self.world.note("worker %s ends: %s", self, how)
        if run is not None:
            self.world.ends(self, run, "died")
        self.engine.tell(1e-3, "gone", self)

    def __str__(self) -> str:
        return f"{self.engine.owner}/{self.number}"


_ERROR = {"type": "Error", "message": "it broke", "traceback": None}
_WORDS = {
    "error": Ended("error", None, None, _ERROR, "Error"),
    "fail": Ended("fail", "no use", None, _ERROR, "Fail"),
    "cancel": Ended("cancel", "not needed", None, None, None),
    "snooze": Ended("snooze", None, 300_000, None, None),
}


# ------------------------------------------------------------------ an engine process

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
        self._sweep_at = self._alive_at = world.now
        self._reading = False
        self._empty_turns: deque[float] = deque(maxlen=40)
        self._exchanges: deque[float] = deque(maxlen=60)
        self.plan = world.plan_class(
            world.settings, random=world.plan_random.random, cpus=world.cpus, max_batch=world.max_batch, now=world.now
        )
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
                yield from self._sweep()
            if world.now >= self._alive_at:
                self._alive_at = world.now + ALIVE_SECONDS * (0.75 + 0.5 * world.random.random())
                if self.plan.holds_nothing:
                    self.safe = world.now
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
            yield max(at, world.now + 2e-5), True

    def _deadline(self) -> float:
        at = self.plan.next_deadline(self.world.now)
        if not self.plan.stopping:
            at = min(at, self._sweep_at, self._alive_at)
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
            world.note("%s is asked to stop", self.owner)
            if self.stopping_since is None:
                self.stopping_since = world.now
            plan.stop(world.now, at_once=False)
            budget = max(0.0, world.settings.stop_timeout - LAST_WORDS_SECONDS)
            self._give_up_at = world.now + budget + LAST_WORDS_SECONDS
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
        elif kind == "fat":
            if worker.alive and worker.run is not None:
                world.own_deaths[worker.run.job] += 1
                plan.over_memory(worker.number)
        elif kind == "gone":
            if worker.fenced is not None and world.now - self.safe < leases.SAFE_SHARE * world.settings.lease:
                # The answer to a renewal came late, after the keeper had acted: nothing tells this from a crash.
                world.own_deaths[worker.fenced] += 1
            del self.workers[worker.number]
            plan.worker_gone(worker.number, worker.recall(), Exit(-9, ""), world.now)
        return None

    def _perform(self, command: orders.Command) -> Steps | None:
        world = self.world
        world.note("%s: %s", self.owner, command)
        match command:
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
            case orders.Retire(number):
                if number in self.workers:
                    self.workers[number].end()
            case orders.Exchange(completions, outcomes, want):
                return self._exchange(completions, outcomes, want)
            case orders.Renew(held):
                return self._renew(held)
            case orders.FindStrays():
                return self._call(
                    lambda: self._store.find_held([self.owner], lapsed=False, limit=10_000),
                    lambda found: self.plan.strays(found, world.now),
                    lambda: self.plan.strays_failed(world.now),
                )
        return None

    # -- the store

    def _call(
        self, function: Callable[[], Any], then: Callable[[Any], Steps | None], failed: Callable[[], Steps | None]
    ) -> Steps:
        """One store call, with whatever goes wrong with it; inline it blocks the engine, else it runs beside it."""
        world = self.world
        fate = world.fate(self)
        box: list[Any] = []
        if fate.fails or fate.wait > 0.05:
            self.disturb(world.now + fate.wait)
        if fate.applied_at == 0:
            box.append(function())
        elif fate.applied_at is not None:
            world.after(fate.applied_at, lambda: box.append(function()))

        def finish() -> Steps | None:
            return failed() if fate.fails else then(box[0])

        if world.threaded:
            self.tell(fate.wait + 5e-5, "answer", finish)
            return
        if fate.wait:
            yield world.now + fate.wait, False
        more = finish()
        if more is not None:
            yield from more

    def _exchange(self, completions: Any, outcomes: Any, want: Any) -> Steps:
        world = self.world
        lease = clock.to_duration(world.settings.lease)
        asked_at = world.now
        self._exchanges.append(world.now)
        if len(self._exchanges) == 60 and world.now - self._exchanges[0] < 0.2:
            raise Violation(f"{self.owner}: 60 exchanges within {world.now - self._exchanges[0]:.3f} s")
        if list(want.queues) != sorted(want.queues, key=lambda part: world.queue_order(part[0])):
            raise Violation(f"{self.owner}: the queues are not wanted by priority: {want.queues}")

        def call() -> Exchanged:
            answer = self._store.exchange(
                self.owner, completions=completions, outcomes=outcomes, want=want, lease=lease
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

        return self._call(call, then, failed)

    def _read_queues(self, version: int) -> Steps | None:
        def then(queues: list[Queue]) -> None:
            self._reading = False
            self.plan.know_queues(queues, version)

        def failed() -> None:
            self._reading = False

        return self._run(self._call(lambda: routines.read_queues(self._store, None), then, failed))

    def _run(self, steps: Steps) -> Steps | None:
        """Threaded calls are only begun; they must not be left unstarted."""
        if self.world.threaded:
            for _ in steps:
                raise AssertionError("a threaded call blocks nobody")
            return None
        return steps

    def _renew(self, held: Any) -> Steps:
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

        lease = clock.to_duration(world.settings.lease)
        return self._call(lambda: self._store.renew(self.owner, held, lease=lease), then, failed)

    def _sweep(self) -> Steps:
        """Find and take in two steps, so that what was found may be old when it is taken."""
        world = self.world
        most = self._store.capabilities.max_batch
        dead = list(self._dead_owners)

        def found(held: Sequence[Claimed]) -> Steps | None:
            def rescue() -> tuple[int, list[Claimed]]:
                return world.rescue(_Remembering(self._store, held), self.owner, dead)

            return self._run(self._call(rescue, rescued, ignore))

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


class _Remembering:
    """A store whose first `find_held` gives what was found a while ago."""

    def __init__(self, store: Store, held: Sequence[Claimed]) -> None:
        self._store = store
        self._held: Sequence[Claimed] | None = held

    def find_held(
        self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None
    ) -> Sequence[Claimed]:
        held, self._held = self._held, None
        return self._store.find_held(owners, lapsed=lapsed, limit=limit, after=after) if held is None else held

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)


# ------------------------------------------------------------------ a host and its keeper


class Host:
    """One machine: a keeper, and one engine after the other."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.engine: SimEngine | None = None
        self.dead_owners: list[str] = []
        self.cut_until = 0.0
        self.up = True
        self._starts = 0

    def boot(self, delay: float) -> None:
        """Start an engine: its first worker says hello after a while."""
        self.world.after(delay + self.world.random.uniform(0.05, 0.6), self._boot)

    def _boot(self) -> None:
        if self.engine is None and self.up:
            self._starts += 1
            self.engine = SimEngine(self, f"{self.name}{self._starts}", self.dead_owners)
            self.world.engines[self.engine.owner] = self.engine
            self.world.note("%s starts after %s", self.engine.owner, self.dead_owners)
            self._watch(self.engine)

    def _watch(self, engine: SimEngine) -> None:
        """Kill the workers of an engine whose claims end soon; kill an engine that hangs."""
        if engine is not self.engine:
            return
        now = self.world.now
        at = engine.safe + UNSAFE_SHARE * self.world.settings.lease
        if now >= at:
            for worker in list(engine.workers.values()):
                if worker.run is not None:
                    worker.fenced = worker.run.job
                worker.die("fenced by the keeper")
        if now - engine.turned_at >= HUNG_SECONDS and now >= engine.stopped_until:
            # A stopped process is left alone, one that waits for its store for ever is not.
            engine.die("it hangs and is killed by the keeper")
            return
        self.world.at(max(at, now + 0.2), self._watch, engine)

    def engine_ended(self, engine: SimEngine) -> None:
        """Its workers die with it; then comes the next one."""
        random = self.world.random
        last = 0.0
        for worker in engine.workers.values():
            wait = 0.0 if engine.ended_by_itself or not self.up else random.uniform(0, 0.02)
            last = max(last, wait)
            self.world.after(wait, worker.die, "its engine is gone")
        self.world.ended(engine)
        self.engine = None
        if not engine.ended_by_itself:
            self.dead_owners.append(engine.owner)
        elif self.up and not self.world.closing:
            # Somebody asked for it; a new keeper knows nothing of the old one.
            self.dead_owners = []
            self.boot(random.uniform(0.5, 5))
            return
        if self.up:
            self.boot(last + 0.01)

    def lose(self, back_after: float) -> None:
        """The power is gone: keeper, engine and workers at once; later all begins anew."""
        self.up = False
        if self.engine is not None:
            workers = list(self.engine.workers.values())
            self.engine.die("its host is lost")
            for worker in workers:
                worker.die("its host is lost")
        self.dead_owners = []
        self.world.after(back_after, self._back)

    def _back(self) -> None:
        self.up = True
        self.boot(0)


# ------------------------------------------------------------------ the world


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one store call. applied_at: after so long (None: never); wait: when the answer comes."""

    applied_at: float | None
    wait: float
    fails: bool


@dataclass(slots=True)
class Claim:
    """A claim as the world sees it, until its job starts."""

    owner: str
    token: int
    at: float
    known_at: float | None = None
    free_since: float | None = None
    """Since when a worker of its engine could have taken it."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    seed: int
    violation: str | None
    faults: Faults
    jobs: int = 0
    runs: int = 0
    seconds: float = 0.0
    events: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.violation or 'fine'}"
        faults = {f.name: round(getattr(self.faults, f.name), 3) for f in fields(self.faults)}
        some = {name: value for name, value in faults.items() if value}
        return (
            f"{head}\n  {self.jobs} jobs, {self.runs} runs, {self.seconds:.0f} s simulated, {dict(self.ends)}, {some}"
        )


class World:
    """Everything there is in one run."""

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults | None,
        plan_class: type[plans.Plan],
        store_class: type[ModelBackend],
        rescue: Callable[..., tuple[int, list[Claimed]]],
        trace: Callable[[str], None] | None,
    ) -> None:
        random = self.random = Random(seed)
        self.plan_random = Random(seed + 1)
        self.faults = faults_of(random) if faults is None else faults
        self.plan_class = plan_class
        self.rescue = rescue
        self.trace = trace
        self.clock = SimClock(time=1000.0)
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        # one configuration
        lease = random.choice((3.0, 6.0, 12.0, 30.0))
        self.settings = Settings(
            lease=lease,
            heartbeat=lease / random.choice((6, 8, 12)),
            max_concurrent_jobs=random.randint(1, 6),
            poll_interval=random.choice((0.3, 1.0, 2.0)),
            stop_timeout=random.choice((5.0, 10.0, 25.0)),
        )
        self.cpus = random.choice((1, 2, 4))
        self.max_batch = random.choice((3, 20, 200, 1000))
        self.threaded = random.random() < 0.5
        self.queues = [
            Queue(name, concurrency=random.choice((1, 1, 2, 3, 10)), priority=random.choice((0, 0, 5, -5)))
            for name in ("alpha", "beta", "gamma", "delta")[: random.randint(1, 4)]
        ]
        self.busy_until = self.now + random.uniform(20, 60)
        self.calm = self.faults == NO_FAULTS
        self.closing = False
        # the store
        self.store = ModelStore(self.clock)
        self.rows = Rows(self)
        self.store.rows = self.rows
        self.backend = _quick(store_class)(self.store)
        self.backend.migrate()
        self.outage_until = 0.0
        self.stepped_at = -1e9
        for queue in self.queues:
            self._write_queue(queue)
        # what is written down
        self.recipes = {
            recipe.job.id: recipe for recipe in recipes_of(random, queues=self.queues, until=self.busy_until - self.now)
        }
        self.runs: dict[bytes, list[Run]] = {job_id: [] for job_id in self.recipes}
        self.running: dict[bytes, Run] = {}
        self.stored: set[bytes] = set()
        self.begun: set[tuple[bytes, int]] = set()
        self.own_deaths: Counter[bytes] = Counter()
        self.returned: dict[bytes, deque[float]] = {}
        self.canceled: dict[bytes, int] = {}
        """Jobs somebody asked to cancel while they were at work: their token then."""
        self.held: dict[bytes, Claim] = {}
        self.loose: set[tuple[bytes, int]] = set()
        """Claims whose answer was late or came to nobody: they may lapse while their engine lives."""
        self.left_since: dict[bytes, float] = {}
        self.engines: dict[str, SimEngine] = {}
        self.hosts = [Host(self, name) for name in "ABC"[: random.randint(1, 3)]]

    # -- time

    @property
    def now(self) -> float:
        return self.clock.time

    def at(self, time: float, function: Callable[..., Any], *args: Any) -> None:
        self.events += 1
        heapq.heappush(self._heap, (time, self.events, function, args))

    def after(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        self.at(self.clock.time + delay, function, *args)

    def note(self, text: str, *args: Any) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:11.6f} {text % args}")

    def name(self, job_id: bytes) -> str:
        recipe = self.recipes[job_id]
        return f"{recipe.job.args} ({recipe.job.name})"

    # -- one run

    def play(self) -> None:
        """From the first enqueue until every job has ended and every engine has stopped."""
        for host in self.hosts:
            host.boot(self.random.uniform(0, 2))
        for recipe in self.recipes.values():
            self.after(recipe.at, self._enqueue, recipe)
        self._plan_faults()
        self.after(SAMPLE_SECONDS, self._sample)
        self._run_until(lambda: self.now >= self.busy_until)
        self._calm_down()
        drained_by = self.now + DRAIN_SECONDS
        self._run_until(lambda: self._is_drained() or self.now > drained_by)
        if not self._is_drained():
            left = [f"{self.name(row.id)} {row.state} {row.hold}" for row in self.rows.alive.values()]
            raise Violation(f"{len(left)} jobs are not done {DRAIN_SECONDS:.0f} s later: {left[:5]}")
        # What is quiet must stay quiet, then stop when asked.
        quiet_until = self.now + 3
        self._run_until(lambda: self.now >= quiet_until)
        self.closing = True
        stopped_by = self.now + self.settings.stop_timeout + 1
        for host in self.hosts:
            if host.engine is not None:
                host.engine.ask_to_stop()
            host.up = False
        self._run_until(lambda: all(host.engine is None for host in self.hosts) or self.now > stopped_by)
        for host in self.hosts:
            if host.engine is not None:
                raise Violation(f"{host.engine.owner} has not ended {self.settings.stop_timeout + 1:.0f} s after stop")
        self._check_end()

    def _run_until(self, done: Callable[[], bool]) -> None:
        heap, clock = self._heap, self.clock
        while not done():
            time, _number, function, args = heapq.heappop(heap)
            clock.time = max(clock.time, time)
            function(*args)

    def _is_drained(self) -> bool:
        waiting = any(host.engine is None or host.engine.is_stopped_or_blocked() for host in self.hosts)
        return not waiting and not self.rows.alive and len(self.rows) == len(self.recipes)

    # -- producers

    def _enqueue(self, recipe: Recipe, again: int = 0) -> None:
        fate = self.fate(None)
        if fate.applied_at is not None:
            self.backend.enqueue([recipe.job])
            self.note("enqueued %s: %s", self.name(recipe.job.id), recipe)
        if fate.fails:
            # None, stored, or unknown: the same call with the same id again.
            self.after(self.random.uniform(0.1, 2), self._enqueue, recipe, again + 1)
            return
        self.stored.add(recipe.job.id)
        if self.random.random() < 0.8:
            for host in self.hosts:
                if host.engine is not None:
                    host.engine.tell(0.005, "wake")

    # -- faults

    def fate(self, engine: SimEngine | None) -> Fate:
        """Draw what happens to a store call."""
        random, faults = self.random, self.faults
        if self.calm:
            return _FINE
        cut_until = self.outage_until if engine is None else max(self.outage_until, engine.host.cut_until)
        if self.now < cut_until:
            # Refused at once, or no answer until a time-out.
            return Fate(None, random.choice((0.0, 0.001, random.uniform(0, 0.5 * self.settings.lease))), True)
        draw = random.random()
        for share, kind in (
            (faults.error, "error"),
            (faults.lost, "lost"),
            (faults.late, "late"),
            (faults.slow, "slow"),
        ):
            draw -= share
            if draw < 0:
                wait = random.choice((0.0, 0.002, random.uniform(0, 0.5 * self.settings.lease)))
                if kind == "error":
                    return Fate(None, wait, True)
                if kind == "lost":
                    return Fate(wait * random.random(), wait, True)
                if kind == "late":
                    return Fate(wait + random.random() * self.settings.lease, wait, True)
                wait = 3 * self.settings.lease * random.random() ** 2
                return Fate(wait * random.choice((0.0, random.random(), 1.0)), wait, random.random() < 0.3)
        return _FINE if draw < 0.7 else Fate(0, draw * 0.005, False)

    def _plan_faults(self) -> None:
        faults = self.faults
        minutes = (self.busy_until - self.now) / 60
        for rate, what in (
            (faults.outages, self._outage),
            (faults.cuts, self._cut),
            (faults.pauses, self._pause_engine),
            (faults.engine_crashes, self._crash_engine),
            (faults.host_losses, self._lose_host),
            (faults.stops, self._stop_engine),
            (faults.cancels, self._cancel),
            (faults.queue_pauses, self._pause_queue),
            (faults.steps_back, self._step_back),
            (faults.steps_forward, self._step_forward),
        ):
            expected = rate * minutes
            count = int(expected) + (self.random.random() < expected % 1)
            for _ in range(count):
                self.at(self.random.uniform(self.now, self.busy_until), what)

    def _some_engine(self) -> SimEngine | None:
        engines = [host.engine for host in self.hosts if host.engine is not None]
        return self.random.choice(engines) if engines else None

    def _a_while(self) -> float:
        return min(self.settings.lease * 3 * self.random.random() ** 2, self.busy_until - self.now)

    def _outage(self) -> None:
        self.outage_until = self.now + self._a_while()
        self.note("the store is gone until %.3f", self.outage_until)

    def _cut(self) -> None:
        host = self.random.choice(self.hosts)
        host.cut_until = self.now + self._a_while()
        self.note("host %s is cut off until %.3f", host.name, host.cut_until)

    def _pause_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.stop_process(self._a_while())

    def _crash_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.die("it crashed")

    def _lose_host(self) -> None:
        host = self.random.choice(self.hosts)
        if host.up:
            host.lose(self._a_while() + 0.1)

    def _stop_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.ask_to_stop()

    def _cancel(self) -> None:
        alive = list(self.rows.alive.values())
        if not alive:
            return
        row = self.random.choice(alive)
        if row.state == "waiting":
            self.backend.apply_by_operator(row.id, states.cancel_waiting(reason="operator"))
        elif self.backend.apply_by_operator(row.id, states.ask_to_cancel(row, reason="operator")) is not None:
            self.canceled[row.id] = row.claim_token
        self.note("cancel %s (%s)", self.name(row.id), row.state)

    def _pause_queue(self) -> None:
        place = self.random.randrange(len(self.queues))
        self.queues[place] = replace(self.queues[place], paused=not self.queues[place].paused)
        self._write_queue(self.queues[place])

    def _write_queue(self, queue: Queue) -> None:
        self.backend.write_record(RecordKind.QUEUE, queue.name, queue_to_text(queue))
        self.note("%s", queue)

    def _step_back(self) -> None:
        self.clock.offset -= self.settings.lease * self.random.random() * 2
        self._stepped()

    def _step_forward(self) -> None:
        self.clock.offset += self.settings.lease * self.random.random() * 2
        self.stepped_at = self.now
        self._stepped()

    def _stepped(self) -> None:
        self.note("the store's clock is off by %.3f", self.clock.offset)
        for host in self.hosts:
            if host.engine is not None:
                host.engine.disturb(self.now)

    def _calm_down(self) -> None:
        self.note("calm")
        self.calm = True
        self.outage_until = 0.0
        for host in self.hosts:
            host.cut_until = 0.0
            if host.engine is not None:
                host.engine.disturb(self.now)
        for place, queue in enumerate(self.queues):
            if queue.paused:
                self.queues[place] = replace(queue, paused=False)
                self._write_queue(self.queues[place])

    # -- what is written down, and judged at once

    def queue_order(self, name: str) -> tuple[int, str]:
        queue = next(queue for queue in self.queues if queue.name == name)
        return -queue.priority, queue.name

    def claimed(self, engine: SimEngine, claims: Sequence[Claimed], asked_at: float) -> None:
        """The store gave these jobs to an engine, which may hear of it later or never."""
        for claim in claims:
            self.held[claim.id] = Claim(engine.owner, claim.token, self.now)
            if self.now - asked_at > 0.05 or not engine.alive:
                self.loose.add((claim.id, claim.token))

    def heard_of(self, claims: Sequence[Claimed]) -> None:
        """The engine was told."""
        for claim in claims:
            held = self.held.get(claim.id)
            if held is not None and held.token == claim.token:
                held.known_at = self.now
                if self.now - held.at > 0.05:
                    self.loose.add((claim.id, claim.token))

    def begins(self, worker: SimWorker, claim: Claimed) -> tuple[str, float]:
        """A worker reads a permit: from now on the job runs."""
        engine, row, now = worker.engine, self.rows[claim.id], self.now
        runs = self.runs[claim.id]
        run = worker.run = Run(claim.id, claim.token, claim.attempt, engine.owner, now)
        self.note("begin %s token %d on %s", self.name(claim.id), claim.token, worker)
        lenient = now - self.stepped_at < self._until_noticed()
        other = self.running.get(claim.id)
        if other is not None and not (lenient or other.begin < self.stepped_at):
            raise Violation(f"job {self.name(claim.id)} runs twice at once: on {other.owner} and {engine.owner}")
        if other is not None and self.now - self.engines[other.owner].disturbed_at > SETTLED_SECONDS:
            # The next beat that includes the claim says that it is gone.
            other.alone_by = min(other.alone_by, now + 0.25 * self.settings.lease + 2 * self.settings.heartbeat + 0.5)
        if row.state in states.ENDED and not lenient:
            raise Violation(f"job {self.name(claim.id)} had ended ({row.state}) and is run again by {engine.owner}")
        if (row.claim_token != claim.token or row.state not in states.AT_WORK) and not lenient:
            raise Violation(
                f"job {self.name(claim.id)} starts on {engine.owner} with token {claim.token}, "
                f"it is {row.state} with token {row.claim_token}"
            )
        if row.max_attempts == 1 and any(run.how != "snooze" for run in runs) and not lenient:
            raise Violation(f"job {self.name(claim.id)} with max_attempts=1 ran before: {runs[-1]}")
        if claim.token > self.canceled.get(claim.id, claim.token):
            raise Violation(f"job {self.name(claim.id)} was to be canceled and is started once more")
        if claim.attempt > row.max_attempts:
            raise Violation(f"job {self.name(claim.id)}: try {claim.attempt} of {row.max_attempts}")
        if (claim.id, claim.token) in self.begun:
            raise Violation(f"job {self.name(claim.id)} was sent twice under token {claim.token}")
        self.begun.add((claim.id, claim.token))
        self.held.pop(claim.id, None)
        runs.append(run)
        self.running[claim.id] = run
        engine.running[claim.queue] += 1
        engine.began_at = now
        queue = next(queue for queue in self.queues if queue.name == claim.queue)
        if engine.running[claim.queue] > queue.concurrency:
            raise Violation(f"{engine.owner}: {engine.running[claim.queue]} jobs of {queue} at once")
        if engine.running.total() > self.settings.slots:
            raise Violation(f"{engine.owner}: {engine.running.total()} jobs at once, {self.settings.slots} allowed")
        return self.recipes[claim.id].behaviour(len(runs) - 1)

    def ends(self, worker: SimWorker, run: Run, how: str) -> None:
        """A run is over, by itself or with its process."""
        run.end = self.now
        run.how = how
        if run.end > max(run.known_lost, worker.engine.disturbed_at) + 0.5:
            raise Violation(f"job {self.name(run.job)} ran on though {run.owner} knew that its claim was lost")
        if run.end > run.alone_by and worker.engine.disturbed_at < run.alone_by - self.settings.lease:
            raise Violation(f"job {self.name(run.job)} ran on {run.owner} long after another run of it had begun")
        self.note("end %s token %d: %s", self.name(run.job), run.token, how)
        worker.engine.running[self.recipes[run.job].job.queue] -= 1
        if self.running.get(run.job) is run:
            del self.running[run.job]

    def _until_noticed(self) -> float:
        # A claim is renewed when a third of its lease is over, and only then does its holder learn that it is gone.
        return self.settings.lease * 0.75 + 1.0

    def moved(self, old: JobRow, row: JobRow) -> None:
        """A row changed its state or its token."""
        name = self.name(row.id)
        if self.trace is not None:
            self.note("%s: %s/%d -> %s/%d", name, old.state, old.claim_token, row.state, row.claim_token)
        if old.state in states.ENDED:
            raise Violation(f"job {name} had ended ({old.state}) and became {row.state}")
        if row.claim_token < old.claim_token:
            raise Violation(f"job {name}: its token fell from {old.claim_token} to {row.claim_token}")
        if row.attempt > row.max_attempts:
            raise Violation(f"job {name}: attempt {row.attempt} of {row.max_attempts}")
        if old.state not in states.AT_WORK or row.state in states.AT_WORK:
            return
        self.held.pop(row.id, None)
        taken = row.claim_token > old.claim_token
        if (row.id, old.claim_token) not in self.begun:
            self._check_unstarted(old, row)
        if row.crashes > old.crashes and not taken:
            if not self.own_deaths[row.id]:
                raise Violation(f"job {name} is blamed for a crash that was not its own")
            self.own_deaths[row.id] -= 1
        if taken:
            self._check_taken(old)

    def _check_unstarted(self, old: JobRow, row: JobRow) -> None:
        """A claim that came to no run costs nothing, unless the store was told that it would run."""
        if row.state == "waiting" and (row.attempt == old.attempt - 1 or old.state == "running"):
            engine = self.engines.get(old.claimed_by or "")
            if engine is not None and self.now - engine.disturbed_at > SETTLED_SECONDS:
                times = self.returned.setdefault(row.id, deque(maxlen=RETURNS))
                times.append(self.now)
                if len(times) == RETURNS and self.now - times[0] < HELD_SECONDS / 2:
                    raise Violation(f"job {self.name(row.id)} is claimed and handed back unstarted again and again")
            return
        if row.state == "canceled" or (row.state == "failed" and old.state == "running"):
            return
        raise Violation(f"job {self.name(row.id)} was never started, yet it is {row.state}, attempt {row.attempt}")

    def _check_taken(self, old: JobRow) -> None:
        """Only the claims of an engine that is gone, or was out of order, may be rescued."""
        engine = self.engines.get(old.claimed_by or "")
        lease = self.settings.lease
        if engine is None or not engine.alive or (old.id, old.claim_token) in self.loose:
            return
        if self.now - max(engine.disturbed_at, self.stepped_at) < 1.5 * lease:
            return
        raise Violation(f"job {self.name(old.id)} was taken from {engine.owner}, which is alive and renews its claims")

    def ended(self, engine: SimEngine) -> None:
        """An engine process ended."""
        if not engine.ended_by_itself:
            return
        since = engine.stopping_since
        assert since is not None
        if self.now - since > self.settings.stop_timeout + 0.5 and engine.disturbed_at < since:
            raise Violation(f"{engine.owner} took {self.now - since:.1f} s to stop")
        if engine.gave_up:
            if engine.disturbed_at < since:
                raise Violation(f"{engine.owner} gave up stopping though its store answered")
            return
        for row in self.rows.alive.values():
            loose = (row.id, row.claim_token) in self.loose
            if row.claimed_by == engine.owner and row.state in states.AT_WORK and not loose:
                raise Violation(f"{engine.owner} has stopped and still holds {self.name(row.id)} ({row.state})")

    # -- judged ten times a second

    def _sample(self) -> None:
        self.after(SAMPLE_SECONDS, self._sample)
        if self.closing:
            return
        well = [
            host.engine
            for host in self.hosts
            if host.engine is not None
            and self.now - host.engine.disturbed_at > SETTLED_SECONDS
            and not host.engine.is_stopped_or_blocked()
        ]
        self._check_held({engine.owner: engine for engine in well})
        self._check_left([engine for engine in well if engine.stopping_since is None])

    def _check_held(self, well: dict[str, SimEngine]) -> None:
        """No engine sits on jobs it does not start."""
        busy = {claim.owner for claim in self.held.values()}
        free = {owner: self._has_free_worker(engine) for owner, engine in well.items() if owner in busy}
        alone = {owner: self._waits_for_one_alone(engine) for owner, engine in well.items() if owner in busy}
        for job_id, claim in self.held.items():
            engine = well.get(claim.owner)
            if engine is None or claim.known_at is None:
                claim.free_since = None
                continue
            if engine.stopping_since is not None:
                if self.now - max(engine.stopping_since, claim.known_at) > 1.0:
                    raise Violation(f"{claim.owner} stops and keeps {self.name(job_id)}, which it has not started")
                continue
            since = max(claim.known_at, engine.disturbed_at)
            if self.now - since > HELD_SECONDS:
                raise Violation(f"{claim.owner} has kept {self.name(job_id)} for {self.now - since:.1f} s unstarted")
            row = self.rows[job_id]
            queue = next(queue for queue in self.queues if queue.name == row.queue)
            full = queue.paused or engine.running[row.queue] >= queue.concurrency
            if full or not free[claim.owner] or alone[claim.owner]:
                claim.free_since = None
            elif claim.free_since is None:
                claim.free_since = self.now
            elif self.now - max(claim.free_since, since) > BEHIND_SECONDS:
                raise Violation(f"{claim.owner} lets {self.name(job_id)} wait though a worker is free")

    def _has_free_worker(self, engine: SimEngine) -> bool:
        if engine.running.total() >= self.settings.slots:
            return False
        return any(
            worker.alive and worker.ready and worker.run is None and not worker.permits and not worker.told_to_end
            for worker in engine.workers.values()
        )

    def _waits_for_one_alone(self, engine: SimEngine) -> bool:
        """A job that needs a stamp or a new process first holds up those behind it for a moment."""
        for job_id, claim in self.held.items():
            row = self.rows[job_id]
            if claim.owner == engine.owner and (
                row.name == "fresh" or row.max_attempts == 1 or row.crashes >= row.max_crashes
            ):
                return True
        return False

    def _check_left(self, well: Sequence[SimEngine]) -> None:
        """No due job lies in the store while an engine could run it."""
        left: dict[bytes, float] = {}
        for queue in self.queues:
            able = [
                engine
                for engine in well
                if not queue.paused
                and engine.running.total() < self.settings.slots
                and engine.running[queue.name] < queue.concurrency
                and self._has_free_worker(engine)
            ]
            if not able:
                continue
            idle_since = min(max(engine.began_at, engine.disturbed_at + SETTLED_SECONDS) for engine in able)
            for row in self.rows.alive.values():
                if row.queue == queue.name and row.state == "waiting" and row.available_at <= self.clock.now():
                    since = left[row.id] = self.left_since.get(row.id, self.now)
                    if self.now - max(since, idle_since) > LEFT_WAITING_SECONDS + self.settings.poll_interval:
                        raise Violation(f"{able[0].owner} leaves {self.name(row.id)} waiting though it has room")
        self.left_since = left

    # -- judged at the end

    def _check_end(self) -> None:
        for job_id, recipe in self.recipes.items():
            row = self.rows.get(job_id)
            if row is None:
                raise Violation(f"job {self.name(job_id)} was stored and is gone")
            if row.state not in states.ENDED:
                raise Violation(f"job {self.name(job_id)} has not ended: {row.state}")
            runs = self.runs[job_id]
            if row.state == "completed" and (not runs or not any(run.token == row.claim_token for run in runs)):
                raise Violation(f"job {self.name(job_id)} is completed by a claim that never ran it")
            tries = [run for run in runs if run.how != "snooze"]
            if recipe.job.max_attempts == 1 and len(tries) > 1 and self.faults.steps_forward == 0:
                raise Violation(f"job {self.name(job_id)} with max_attempts=1 ran {len(tries)} times")
        if self.running:
            raise Violation(f"{len(self.running)} jobs still run after every engine has stopped")


_FINE = Fate(0, 0.0, False)


def _quick(store_class: type[ModelBackend]) -> type[ModelBackend]:
    """The model, looking only at living rows where it looks at all of them."""

    class Quick(store_class):  # type: ignore[valid-type, misc]
        def _rows(self, job_ids: Sequence[bytes] | None = None) -> list[JobRow]:
            if job_ids is None:
                return list(self.store.rows.alive.values())
            return super()._rows(job_ids)  # type: ignore[no-any-return]

    return Quick


def simulate(
    seed: int,
    *,
    faults: Faults | None = None,
    plan_class: type[plans.Plan] = plans.Plan,
    store_class: type[ModelBackend] = ModelBackend,
    rescue: Callable[..., tuple[int, list[Claimed]]] = routines.rescue_lost,
    trace: Callable[[str], None] | None = None,
) -> Report:
    """Play one seed; the report says what was violated, if anything. faults: None draws them from the seed."""
    world = World(seed, faults=faults, plan_class=plan_class, store_class=store_class, rescue=rescue, trace=trace)
    began = world.now
    violation = None
    try:
        world.play()
    except Violation as error:
        violation = f"at {world.now:.6f}: {error}"
    except Exception:
        violation = f"at {world.now:.6f}: something raised\n{traceback.format_exc(limit=-4)}"
    return Report(
        seed,
        violation,
        world.faults,
        jobs=len(world.recipes),
        runs=sum(map(len, world.runs.values())),
        seconds=world.now - began,
        events=world.events,
        ends=Counter(row.state for row in world.rows.values()),
    )


def main() -> None:
    """Replay one seed with every event, or play many."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--fault", action="append", default=[], help="name=rate, instead of those drawn from the seed")
    given = parser.parse_args()
    parts = [fault.split("=") for fault in given.fault]
    faults = Faults(**{name: float(rate) for name, rate in parts}) if parts else None
    for seed in range(given.seed, given.seed + given.count):
        report = simulate(seed, faults=faults, trace=print if given.count == 1 else None)
        if given.count == 1 or report.violation is not None:
            print(report)


if __name__ == "__main__":
    main()
