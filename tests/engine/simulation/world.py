"""Everything there is in one simulated run."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Any

from jobcard.backends.base import NO_COMPLETIONS, Exchanged
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.core import clock
from jobcard.core.job import Claimed, JobRow
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.core.states import Change
from jobcard.engine import plan as plans
from simulation.engine import SimEngine
from simulation.episodes import episodes_of
from simulation.faults import NO_FAULTS, Faults, Violation, faults_of
from simulation.host import Host
from simulation.jobs import Recipe, recipes_of
from simulation.judge import SAMPLE_SECONDS, SETTLED_SECONDS, Claim, Judge
from simulation.limiting import Limiting, LimitsJudge
from simulation.producers import Producer
from simulation.records import Rows, Run, SimClock
from simulation.troubles import Troubles

DRAIN_SECONDS = 1500.0


class World(Troubles, LimitsJudge, Judge):
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
        self.now = 1000.0
        self.clock = SimClock(time=self.now)
        self.events = self._numbers = 0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        # one configuration
        lease = random.choice((6.0, 12.0, 30.0, 60.0))
        self.settings = Settings(
            lease=lease,
            heartbeat=lease / random.choice((6, 8, 12)),
            max_concurrent_jobs=(most := random.choice((1, 2, 3, 4, 5, 6, 12))),
            processes=min(6, random.choice((most, random.randint(1, most)))),
            cancel_grace=random.choice((0.0, 0.5, 2.0, 10.0)),
            recycle_after=random.choice((None, 5, 50)),
            poll_interval=random.choice((0.5, 1.0, 2.0, 5.0)),
            stop_timeout=random.choice((5.0, 10.0, 25.0)),
        )
        self.lease = clock.to_duration(lease)
        self.cpus = random.choice((1, 2, 4))
        self.max_batch = random.choice((3, 20, 200, 1000))
        self.threaded = random.random() < 0.5
        self.queues = [
            Queue(name, concurrency=random.choice((1, 1, 2, 3, 10)), priority=random.choice((0, 0, 5, -5)))
            for name in ("alpha", "beta", "gamma", "delta")[: random.randint(1, 4)]
        ]
        # From numbers of their own: what else there is in a run does not depend on its limits.
        limiting = Limiting(Random(seed + 2))
        self.queues = [limiting.limited(queue) for queue in self.queues]
        self.episodes = episodes_of(random, self.now)
        self.busy_until = self.episodes.end
        self.stirred_at = self.now
        self._planned: list[float] = []
        """When something is to happen from outside, the last first."""
        self.calm = self.faults == NO_FAULTS
        self.closing = False
        # the store
        self.store = ModelStore(self.clock)
        self.rows = Rows(self)
        self.store.rows = self.rows
        self.backend = _quick(store_class, self)(self.store)
        self.backend.migrate()
        self.outage_until = 0.0
        self.stepped_at = -1e9
        self.changed_at: dict[str, float] = {}
        self.limits: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        """The concurrency that queues had before, and until when."""
        for queue in self.queues:
            self._write_queue(queue)
        # what is written down
        self.recipes = {
            recipe.job.id: recipe for recipe in recipes_of(random, queues=self.queues, episodes=self.episodes)
        }
        for recipe in self.recipes.values():
            limiting.give_key(recipe)
        self.runs: dict[bytes, list[Run]] = {job_id: [] for job_id in self.recipes}
        self.running: dict[bytes, Run] = {}
        self.unknown: set[bytes] = set()
        """Jobs whose producer died before it knew what became of them."""
        self.passed_over: set[bytes] = set()
        """Jobs that were not stored since another had their unique key."""
        self.fresh_from: Counter[bytes] = Counter()
        """How many runs a job had when an operator made it start anew."""
        self.by_operator = False
        self.begun: set[tuple[bytes, int]] = set()
        self.own_deaths: Counter[bytes] = Counter()
        self.in_company: set[tuple[bytes, int]] = set()
        """Runs that were not alone in their process when it died."""
        self.lines: dict[bytes, set[str]] = {job_id: set() for job_id in self.recipes}
        """The log lines that the store was given."""
        self.returned: dict[bytes, deque[float]] = {}
        self.canceled: dict[bytes, int] = {}
        """Jobs somebody asked to cancel while they were at work: their token then."""
        self.held: dict[bytes, Claim] = {}
        self.loose: set[tuple[bytes, int]] = set()
        """Claims whose answer was late or came to nobody: they may lapse while their engine lives."""
        self.left_since: dict[bytes, float] = {}
        self.engines: dict[str, SimEngine] = {}
        self.hosts = [Host(self, name) for name in "ABC"[: random.choice((1, 2, 3, 3, 3))]]
        self.producers = [Producer(self, name) for name in ("first", "second")]

    # -- time

    def at(self, time: float, function: Callable[..., Any], *args: Any) -> None:
        self.events += 1
        heapq.heappush(self._heap, (time, self.events, function, args))

    def after(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        self.at(self.now + delay, function, *args)

    def plan_at(self, time: float, function: Callable[..., Any], *args: Any) -> None:
        """Something from outside: no engine sleeps through it."""
        self._planned.append(time)
        self.at(time, self._happens, function, *args)

    def _happens(self, function: Callable[..., Any], *args: Any) -> None:
        self.stir()
        function(*args)

    def stir(self) -> None:
        """Something happened: engines look around for a while."""
        self.stirred_at = self.now

    def quiet_until(self) -> float:
        """Until when nothing can happen; now, if something can."""
        now = self.now
        if self.running or now - self.stirred_at < SETTLED_SECONDS or now < self.outage_until:
            return now
        due = inf
        for row in self.rows.alive.values():
            if row.hold != "delay":
                return now
            due = min(due, row.available_at)
        for producer in self.producers:
            if not producer.idle:
                return now
        for host in self.hosts:
            if host.engine is None or host.cut_until > now or host.engine.is_busy():
                return now
        planned = self._planned
        while planned and planned[-1] <= now:
            planned.pop()
        if not planned:
            return now
        return min(planned[-1], now + (due - self.clock.now()) / clock.SECOND)

    def note(self, text: str, *args: Any) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:11.6f} {text % args}")

    def next_number(self) -> int:
        """A number larger than any before."""
        self._numbers += 1
        return self._numbers

    def name(self, job_id: bytes) -> str:
        recipe = self.recipes[job_id]
        return f"{recipe.job.args} ({recipe.job.name})"

    # -- one run

    def play(self) -> None:
        """From the first enqueue until every job has ended and every engine has stopped."""
        for host in self.hosts:
            host.boot(self.random.uniform(0, 2))
        calls: defaultdict[int, list[Recipe]] = defaultdict(list)
        for recipe in self.recipes.values():
            if recipe.follows is None:
                calls[recipe.call].append(recipe)
        for call, recipes in calls.items():
            self.plan_at(recipes[0].at, self.producers[call % len(self.producers)].enqueue, recipes)
        self._plan_faults()
        self._planned.append(self.busy_until)
        self._planned.sort(reverse=True)
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
            if time > self.now:
                self.now = clock.time = time
            function(*args)

    def _is_drained(self) -> bool:
        if self.rows.alive or not all(producer.idle for producer in self.producers):
            return False
        return not any(host.engine is None or host.engine.is_stopped_or_blocked() for host in self.hosts)

    def has_followed(self, recipe: Recipe) -> bool:
        """Whether the job that this one follows is completed by a run that says so."""
        parent = recipe.follows
        if parent is None or parent not in self.rows or self.rows[parent].state != "completed":
            return False
        token = self.rows[parent].claim_token
        return any(run.token == token and run.how == "follow" for run in self.runs[parent])


def _quick(store_class: type[ModelBackend], world: World) -> type[ModelBackend]:
    """The model, looking only at living rows where it looks at all of them; the world hears of log lines."""

    class Quick(store_class):  # type: ignore[valid-type, misc]
        def exchange(self, owner: str, **said: Any) -> Exchanged:
            if not (world.rows.alive or said.get("outcomes") or said.get("completions", NO_COMPLETIONS).refs):
                return Exchanged([], [], [], self.store.settings, None)  # where nobody lives there is nothing to do
            return super().exchange(owner, **said)  # type: ignore[no-any-return]

        def _rows(self, job_ids: Sequence[bytes] | None = None) -> list[JobRow]:
            if job_ids is None:
                return list(self.store.rows.alive.values())
            return super()._rows(job_ids)  # type: ignore[no-any-return]

        def _apply(self, row: JobRow, change: Change, *rest: Any) -> JobRow:
            world.lines[row.id].update(text for _ago, text in change.lines)
            return super()._apply(row, change, *rest)  # type: ignore[no-any-return]

    return Quick
