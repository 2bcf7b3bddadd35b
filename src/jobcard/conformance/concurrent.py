"""Several threads work on a few shared jobs at once; what each of them saw must fit together, job by job."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

from jobcard.backends.base import Backend, Completions, Exchanged, Outcome, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness
from jobcard.conformance.linearizable import (
    NEVER,
    UNKNOWN,
    Operation,
    Step,
    claim,
    explain,
    find_held,
    look,
    operate,
    renew,
    settle,
    without_ref,
)
from jobcard.conformance.races import at_once
from jobcard.conformance.rules import is_at_work, is_ended
from jobcard.core import states
from jobcard.core.clock import SECOND
from jobcard.core.job import Claimed, JobRow
from jobcard.core.states import After, Change
from jobcard.errors import StoreUnavailableError

LEASE = 30 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many histories there are, and of how much.

    The threads stop `rounds` times for the clock to move on: within a round its time stands still.
    """

    histories: int = 30
    threads: int = 4
    operations: int = 60
    """Of each thread."""
    jobs: int = 5
    rounds: int = 5
    first_seed: int = 0


CROWD = Crowd()
"""What every merge runs."""

CROWD_SOAK = Crowd(histories=2_000, operations=200)
"""What a night runs."""


def run_concurrent_histories(harness: Harness, crowd: Crowd = CROWD) -> None:
    """Every job's history can have happened one step after the other."""
    harness.ready()
    backends = [harness.open() for _ in range(crowd.threads)]
    for seed in range(crowd.first_seed, crowd.first_seed + crowd.histories):
        history = _History(harness, backends, crowd, seed)
        history.play()
        history.check()


class _History:
    """One history: what the threads do, and what they are told."""

    def __init__(self, harness: Harness, backends: Sequence[Backend], crowd: Crowd, seed: int) -> None:
        self.seed = seed
        self._harness = harness
        self._backends = backends
        self._crowd = crowd
        self._random = Random(seed)
        self._queue = f"crowd-{seed}"
        ids = factory.enqueue_several(backends[0], crowd.jobs, queue=self._queue, max_attempts=10_000)
        self._first = {row.id: factory.without_version(row) for row in backends[0].get(ids)}
        assert len(self._first) == crowd.jobs, "jobs that were called stored are not there"
        self._known: list[Claimed] = []
        """Every claim that anybody was given: all of them use them, the old ones too."""
        self._lock = threading.Lock()
        self._seen: defaultdict[bytes, list[Operation]] = defaultdict(list)

    def play(self) -> None:
        """All rounds, the clock moving between them."""
        crowd = self._crowd
        for round in range(crowd.rounds):
            works = [
                partial(self._work, thread, Random(f"{self.seed}/{round}/{thread}"), crowd.operations // crowd.rounds)
                for thread in range(crowd.threads)
            ]
            at_once(works)
            self._harness.advance(self._random.choice((0, 1, LEASE // SECOND // 2, LEASE // SECOND + 1)))

    def check(self) -> None:
        """Look for an order of what happened to each job."""
        for job_id, operations in self._seen.items():
            why = explain(operations, self._first[job_id])
            assert why is None, f"seed {self.seed}, job {job_id.hex()}: {why}"

    def _work(self, thread: int, random: Random, count: int) -> None:
        hand = _Hand(thread, self._backends[thread], random, self._harness.clock.now(), self._queue)
        moves: list[Callable[[bytes], object]] = [hand.settle] * 6
        moves += [hand.claim] * 5 + [hand.complete] * 3 + [hand.renew] * 2
        moves += [hand.cancel, hand.ask, hand.retry, hand.retry]
        moves += [hand.read] + [hand.find] * 2 + [hand.rescue] * 2
        for _ in range(count):
            with self._lock:
                hand.known = self._known[-3 * self._crowd.jobs :]
            random.choice(moves)(random.choice(list(self._first)))
            with self._lock:
                self._known += hand.claimed
                hand.claimed = []
        with self._lock:
            for job_id, operation in hand.seen:
                if job_id in self._first:
                    self._seen[job_id].append(operation)


class _Hand:
    """One thread, and what it saw."""

    def __init__(self, thread: int, backend: Backend, random: Random, now: int, queue: str) -> None:
        self._thread = thread
        self._owner = f"{queue}-{thread}"
        self._backend = backend
        self._random = random
        self._now = now
        self._queue = queue
        self.known: Sequence[Claimed] = ()
        self.claimed: list[Claimed] = []
        self.seen: list[tuple[bytes, Operation]] = []

    @contextmanager
    def _call(self) -> Iterator[Callable[[bytes, str, Step, object], None]]:
        """Around one call to the store; what it gives is told of each job, once the call is over."""
        told: list[tuple[bytes, str, Step, object]] = []
        began = time.perf_counter_ns()
        try:
            yield lambda *what: told.append(what)
        finally:
            now = time.perf_counter_ns()
            for job_id, text, step, answer in told:
                ended = NEVER if answer is UNKNOWN else now
                self.seen.append((job_id, Operation(self._thread, began, ended, text, step, answer)))

    # -- engines

    def claim(self, _job_id: bytes) -> None:
        self._exchange(want=self._random.randint(1, 3))

    def complete(self, _job_id: bytes) -> None:
        """As engines do most: in columns, together with a claim."""
        if self.known:
            self._exchange(completed=self._random.choice(self.known), want=self._random.randint(0, 1))

    def settle(self, _job_id: bytes) -> None:
        if not self.known:
            return
        held = self._random.choice(self.known)
        change = self._random.choice(
            (
                states.retry(held, reason="error", delay=0, error=factory.ERROR, kind="X"),
                states.fail(held, reason="error", error=factory.ERROR, kind="X"),
                states.cancel_at_work(held, reason="enough"),
                states.hand_back(held),
                states.start(held, ago=0),
                states.note(held, ago=0, progress=f'"{self._random.random()}"'),
            )
        )
        self._exchange(outcome=(held, change))

    def rescue(self, _job_id: bytes) -> None:
        if self.known:
            held = self._random.choice(self.known)
            change = states.rescue(held, error=factory.ERROR, lapsed=self._random.random() < 0.7)
            self._exchange(outcome=(held, change))

    def _exchange(
        self, *, completed: Claimed | None = None, outcome: tuple[Claimed, Change] | None = None, want: int = 0
    ) -> None:
        said = outcome
        if completed is not None:
            done = states.complete('"done"')
            said = (
                completed,
                Change(
                    verb=done.verb, sources=done.sources, target=done.target, sets={**done.sets, "started_at": After(0)}
                ),
            )
        step = settle(said[0].token, said[1], self._now) if said else look
        taking = claim(self._owner, LEASE, self._now)
        with self._call() as tell:
            try:
                answer: Exchanged = self._backend.exchange(
                    self._owner,
                    completions=factory.completions_of([completed] if completed else [], result='"done"')
                    if completed
                    else Completions(),
                    outcomes=[Outcome(outcome[0].ref, outcome[0].token, outcome[1])] if outcome else (),
                    want=Want([(self._queue, want)], want) if want else Want(),
                    lease=LEASE,
                )
            except StoreUnavailableError:
                if said:
                    tell(said[0].id, f"{said[1].verb} with {said[0].token}", step, UNKNOWN)
                if want:
                    for job_id in {held.id for held in self.known}:
                        tell(job_id, "claim", taking, UNKNOWN)
                return
            if said:
                verdicts: list[Verdict] = [refusal.verdict for refusal in answer.refusals]
                tell(said[0].id, f"{said[1].verb} with {said[0].token}", step, verdicts[0] if verdicts else None)
            for taken in answer.claimed:
                tell(taken.id, "claim", taking, without_ref(taken))
        self.claimed += answer.claimed

    def renew(self, _job_id: bytes) -> None:
        if not self.known:
            return
        held = self._random.choice(self.known)
        owner = held.claimed_by if self._random.random() < 0.8 else self._owner
        step = renew(str(owner), held.token, LEASE, self._now)
        with self._call() as tell:
            try:
                kept: object = not self._backend.renew(str(owner), [(held.ref, held.token)], lease=LEASE)
            except StoreUnavailableError:
                kept = UNKNOWN
            tell(held.id, f"renew with {held.token} by {owner}", step, kept)

    def find(self, _job_id: bytes) -> None:
        ids = {held.id for held in self.known}
        with self._call() as tell:
            try:
                found = self._backend.find_held([self._owner], lapsed=True, limit=1_000)
            except StoreUnavailableError:
                return
            by_id = {held.id: without_ref(held) for held in found.claims}
            for job_id in ids:
                claimed = by_id.get(job_id)
                lapsed = claimed is not None and claimed.claimed_by != self._owner
                tell(job_id, "find held", find_held([self._owner], self._now, lapsed=lapsed), claimed)

    # -- operators

    def read(self, job_id: bytes) -> JobRow | None:
        with self._call() as tell:
            try:
                [row] = self._backend.get([job_id])
            except StoreUnavailableError:
                return None
            tell(job_id, "get", look, factory.without_version(row))
        return row

    def cancel(self, job_id: bytes) -> None:
        self._operate(job_id, states.cancel_waiting(reason="operator"))

    def ask(self, job_id: bytes) -> None:
        row = self.read(job_id)
        if row is not None and is_at_work(row):
            self._operate(job_id, states.ask_to_cancel(row, reason="operator"))

    def retry(self, job_id: bytes) -> None:
        row = self.read(job_id)
        if row is not None and is_ended(row):
            # A completed one as well: that is not allowed.
            self._operate(job_id, states.retry_ended(row))

    def _operate(self, job_id: bytes, change: Change) -> None:
        with self._call() as tell:
            try:
                row = self._backend.apply_by_operator(job_id, change)
                answer: object = None if row is None else factory.without_version(row)
            except StoreUnavailableError:
                answer = UNKNOWN
            tell(job_id, f"{change.verb} by an operator", operate(change, self._now), answer)
