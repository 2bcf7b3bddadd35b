"""The promises, checked against what is written down: at once, ten times a second, and at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from jobcard.conformance.rules import claim_order
from jobcard.core import states
from jobcard.core.job import Claimed, JobRow
from jobcard.core.queue import Queue
from jobcard.core.rates import Use
from jobcard.engine.sharing import NEIGHBOUR_SECONDS
from simulation.engine import SimEngine
from simulation.faults import Violation
from simulation.jobs import NAMES, SHARED
from simulation.limiting import LET_IN_SECONDS
from simulation.records import Run
from simulation.worker import SimWorker

SAMPLE_SECONDS = 0.1
WHEN_TOLD = ("told", "ignore", "error", "return", "snooze", "crash")
LEFT_WAITING_SECONDS = 4.0  # a healthy engine with room leaves no due job lying for so long
HELD_SECONDS = 7.0  # … and keeps none unstarted for so long
RETURNS = 15  # … and none is claimed in vain so often
BEHIND_SECONDS = 0.2  # … and lets none wait behind others while a worker is free
SETTLED_SECONDS = 2.5  # how long after the last disturbance an engine is expected to keep those three


@dataclass(slots=True)
class Claim:
    """A claim as the world sees it, until its job starts."""

    owner: str
    token: int
    at: float
    known_at: float | None = None
    free_since: float | None = None
    """Since when a worker of its engine could have taken it."""


class Judge:
    """The part of a world that watches."""

    def claimed(self, engine: SimEngine, claims: Sequence[Claimed], asked_at: float) -> None:
        """The store gave these jobs to an engine, which may hear of it later or never."""
        if claims:
            self.check_limits()
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

    def begins(self, worker: SimWorker, claim: Claimed) -> Run:
        """A worker reads a permit: from now on the job runs."""
        engine, row, now = worker.engine, self.rows[claim.id], self.now
        runs = self.runs[claim.id]
        run = Run(claim.id, claim.token, claim.attempt, engine.owner, now, shared=worker.shares)
        run.kind, run.seconds = self.recipes[claim.id].behaviour(len(runs))
        run.when_told = self.random.choices(WHEN_TOLD, (55, 15, 10, 10, 5, 5))[0]
        run.talks = self.random.random() < 0.3
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
        tries = runs[self.fresh_from[claim.id] :]
        if row.max_attempts == 1 and any(run.how != "snooze" for run in tries) and not lenient:
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
        engine.in_processes += not run.shared
        engine.began_at = now
        if run.shared and (claim.name not in SHARED or states.must_run_alone(claim)):
            raise Violation(f"job {self.name(claim.id)} must not run beside others, and does on {engine.owner}")
        queue = next(queue for queue in self.queues if queue.name == claim.queue)
        if engine.running[claim.queue] > self._most_of(queue, engine):
            raise Violation(f"{engine.owner}: {engine.running[claim.queue]} jobs of {queue} at once")
        if engine.running.total() > self.settings.max_concurrent_jobs:
            raise Violation(
                f"{engine.owner}: {engine.running.total()} jobs at once, {self.settings.max_concurrent_jobs} allowed"
            )
        if engine.in_processes > self.settings.slots:
            raise Violation(f"{engine.owner}: {engine.in_processes} processes at once, {self.settings.slots} allowed")
        return run

    def _most_of(self, queue: Queue, engine: SimEngine) -> int:
        """The most jobs of the queue that this engine may run: it may not have heard of a change yet."""
        before = (
            most
            for until, most in self.limits[queue.name]
            if self.now - max(until, engine.disturbed_at) < SETTLED_SECONDS
        )
        return max(queue.concurrency, *before, 0)

    def ends(self, worker: SimWorker, run: Run, how: str) -> None:
        """A run is over, by itself or with its process."""
        run.end = self.now
        run.how = how
        if run.end > max(run.known_lost, worker.engine.disturbed_at) + 0.5 + self._lost_grace(run):
            raise Violation(f"job {self.name(run.job)} ran on though {run.owner} knew that its claim was lost")
        self._check_told(worker.engine, run)
        if (
            run.end > run.alone_by + self._lost_grace(run)
            and worker.engine.disturbed_at < run.alone_by - self.settings.lease
        ):
            raise Violation(f"job {self.name(run.job)} ran on {run.owner} long after another run of it had begun")
        self.note("end %s token %d: %s", self.name(run.job), run.token, how)
        worker.engine.running[self.recipes[run.job].job.queue] -= 1
        worker.engine.in_processes -= not run.shared
        if self.running.get(run.job) is run:
            del self.running[run.job]

    def _lost_grace(self, run: Run) -> float:
        """How long a run may take to end when it is told that its claim is gone."""
        if not run.shared and NAMES[self.recipes[run.job].job.name].get("on_lost_lease") != "tell":
            return 0.0
        return min(self.settings.cancel_grace, 0.1 * self.settings.lease) + 0.1

    def _check_told(self, engine: SimEngine, run: Run) -> None:
        """A job that is canceled while it runs is told within two seconds, and has ended three after its grace."""
        if run.canceled_at is None or engine.disturbed_at > run.canceled_at - SETTLED_SECONDS:
            return
        name, late = self.name(run.job), self.now - run.canceled_at
        if run.told_at is None and late > 2.0 and not run.when_told == "ignore":
            raise Violation(f"job {name} was canceled {late:.1f} s ago and is not told")
        neighbours = NEIGHBOUR_SECONDS if run.shared else 0.0
        if late > self.settings.cancel_grace + 3.0 + neighbours:
            raise Violation(f"job {name} runs {late:.1f} s after it was canceled")

    def check_saved(self, run: Run, saved: int) -> None:
        """A run was told that its checkpoint is stored."""
        stored = self.rows[run.job].checkpoint
        if stored is None or int(stored) < saved:
            raise Violation(f"job {self.name(run.job)} was told that {saved} is saved, the store has {stored}")

    def _until_noticed(self) -> float:
        # A claim is renewed when a third of its lease is over, and only then does its holder learn that it is gone.
        return self.settings.lease * 0.75 + 1.0

    def moved(self, old: JobRow, row: JobRow) -> None:
        """A row changed its state or its token."""
        name = self.name(row.id)
        if self.trace is not None:
            self.note("%s: %s/%d -> %s/%d", name, old.state, old.claim_token, row.state, row.claim_token)
        self.stir()
        if old.state in states.ENDED and not self.by_operator:
            raise Violation(f"job {name} had ended ({old.state}) and became {row.state}")
        if row.claim_token < old.claim_token:
            raise Violation(f"job {name}: its token fell from {old.claim_token} to {row.claim_token}")
        if row.attempt > row.max_attempts:
            raise Violation(f"job {name}: attempt {row.attempt} of {row.max_attempts}")
        if old.state not in states.AT_WORK or row.state in states.AT_WORK:
            return
        self.held.pop(row.id, None)
        taken = row.claim_token > old.claim_token
        if not taken:
            self._check_said(old, row)
        if (row.id, old.claim_token) not in self.begun:
            self._check_unstarted(old, row)
        if row.crashes > old.crashes and not taken:
            if not self.own_deaths[row.id]:
                raise Violation(f"job {name} is blamed for a crash that was not its own")
            self.own_deaths[row.id] -= 1
        if taken:
            self._check_taken(old)

    def _check_said(self, old: JobRow, row: JobRow) -> None:
        """What a run said of itself is in the store before its end; what it was told to do has become of it."""
        run = next((run for run in self.runs[row.id] if run.token == old.claim_token), None)
        if run is None or run.end is None:
            return
        missing = set(run.lines) - self.lines[row.id]
        if missing and run.how != "died" and not run.unstorable:
            raise Violation(f"job {self.name(row.id)} is {row.state} and {missing} of its log is not there")
        if run.how == "told" and run.told_why == "cancel" and row.state != "canceled":
            raise Violation(f"job {self.name(row.id)} ended because it was canceled, and is {row.state}")
        may_go_on = row.max_attempts > 1 and old.interrupts < states.MAX_INTERRUPTS
        interrupted = run.how == "told" and run.told_why in ("stop", "lost") and may_go_on
        if interrupted and row.state not in ("waiting", "canceled"):
            raise Violation(f"job {self.name(row.id)} was interrupted and is {row.state}")
        innocent = (row.id, old.claim_token) in self.in_company and run.how == "died" and run.told_at is None
        if innocent and row.state == "failed" and row.max_attempts > 1:
            raise Violation(f"job {self.name(row.id)} was one of several in a process that died, and has failed")

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
        self.at(max(self.now + SAMPLE_SECONDS, self.quiet_until()), self._sample)
        now = self.clock.now()
        due = [row for row in self.rows.alive.values() if row.state == "waiting" and row.available_at <= now]
        if self.closing or not (self.held or due):
            self.left_since = {}
            return
        well = [
            host.engine
            for host in self.hosts
            if host.engine is not None
            and self.now - host.engine.disturbed_at > SETTLED_SECONDS
            and not host.engine.is_stopped_or_blocked()
        ]
        if self.held:
            self._check_held({engine.owner: engine for engine in well})
        self.left_since = self._left([engine for engine in well if engine.stopping_since is None], due) if due else {}

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
            full |= self.now - self.changed_at[row.queue] < SETTLED_SECONDS
            if full or not free[claim.owner] or alone[claim.owner] or row.name in SHARED:
                claim.free_since = None
            elif claim.free_since is None:
                claim.free_since = self.now
            elif self.now - max(claim.free_since, since) > BEHIND_SECONDS:
                raise Violation(f"{claim.owner} lets {self.name(job_id)} wait though a worker is free")

    def _has_free_worker(self, engine: SimEngine) -> bool:
        if engine.in_processes >= self.settings.slots or engine.running.total() >= self.settings.max_concurrent_jobs:
            return False
        return any(
            worker.alive
            and worker.ready
            and not worker.shares
            and not worker.runs
            and not worker.permits
            and not worker.told_to_end
            for worker in engine.workers.values()
        )

    def _has_free_sharer(self, engine: SimEngine) -> bool:
        sharers = [sharer for sharer in engine.plan._sharing.sharers.values() if sharer.takes(self.now)]
        return any(
            self.now - max(sharer.blocked_until, engine.workers[sharer.number].blocked_until) > 1.0
            for sharer in sharers
            if sharer.number in engine.workers
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

    def _left(self, well: Sequence[SimEngine], due: Sequence[JobRow]) -> dict[bytes, float]:
        """No due job lies in the store while an engine could run it; those that do, and since when."""
        left: dict[bytes, float] = {}
        uses: dict[str, Use] = {}
        free = [engine for engine in well if not engine.plan.quiet and self._has_free_worker(engine)]
        for queue in self.queues:
            if queue.paused:
                continue
            able = [engine for engine in free if engine.running[queue.name] < queue.concurrency]
            line = [row for row in due if row.queue == queue.name] if able else []
            if not line or not self.has_room(queue):
                continue
            idle_since = min(max(engine.began_at, engine.disturbed_at + SETTLED_SECONDS) for engine in able)
            able_to_share = [engine for engine in able if self._has_free_sharer(engine)]
            for row in sorted(line, key=claim_order):
                if self.key_has_room(row, uses):
                    if row.name in SHARED and not able_to_share:
                        break  # and those behind it wait with it: the store does not tell the kinds apart
                    since = left[row.id] = self.left_since.get(row.id, self.now)
                    patience = LEFT_WAITING_SECONDS + self.settings.poll_interval
                    if row.hold == "limit":
                        patience += 2 * LET_IN_SECONDS
                    if self.now - max(since, idle_since) > patience:
                        raise Violation(f"{able[0].owner} leaves {self.name(row.id)} waiting though it has room")
        return left

    # -- judged at the end

    def _check_end(self) -> None:
        for job_id, recipe in self.recipes.items():
            row = self.rows.get(job_id)
            if recipe.follows is not None and (row is None) == self.has_followed(recipe):
                raise Violation(f"job {self.name(job_id)} follows {self.name(recipe.follows)}: {row} is stored")
            if row is None and (recipe.follows is not None or job_id in self.unknown or job_id in self.passed_over):
                continue
            if row is None:
                raise Violation(f"job {self.name(job_id)} was stored and is gone")
            if row.state not in states.ENDED:
                raise Violation(f"job {self.name(job_id)} has not ended: {row.state}")
            runs = self.runs[job_id]
            ended = any(run.token == row.claim_token and run.how != "died" for run in runs)
            if row.state == "completed" and not ended:
                raise Violation(f"job {self.name(job_id)} is completed, and no run of that claim came to its end")
            tries = [run for run in runs[self.fresh_from[job_id] :] if run.how != "snooze"]
            if recipe.job.max_attempts == 1 and len(tries) > 1 and self.faults.steps_forward == 0:
                raise Violation(f"job {self.name(job_id)} with max_attempts=1 ran {len(tries)} times")
        if self.running:
            raise Violation(f"{len(self.running)} jobs still run after every engine has stopped")
