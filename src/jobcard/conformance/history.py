"""One random history: the store under test beside the model, and what of it can be picked for the next step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis.stateful import RuleBasedStateMachine

from jobcard.backends.base import Enqueued, Fate
from jobcard.conformance.drawing import Spec, job_of
from jobcard.conformance.harness import Harness
from jobcard.conformance.pair import Holding, Pair, Said
from jobcard.conformance.rules import is_at_work
from jobcard.core.job import JobRow, NewJob


class History(RuleBasedStateMachine):
    """What a history knows. Its rules are in those who follow."""

    new_harness: Callable[[], Harness]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).new_harness()
        self.clock = self.harness.clock
        self.pair = Pair(self.harness)
        self.jobs: dict[bytes, NewJob] = {}
        self.last_exchange: tuple[str, list[Said]] | None = None
        self.seen: dict[bytes, JobRow] = {}
        self.earliest = 0
        """Behind this instant the clock never goes back: what was over by then may be forgotten."""

    def teardown(self) -> None:
        self.harness.close()

    # -- picking

    def rows(self) -> list[JobRow]:
        """The model's jobs."""
        return list(self.pair.rows.values())

    def pick(self, number: int, wanted: Callable[[JobRow], bool] = lambda row: True) -> JobRow | None:
        """One of the jobs wanted."""
        found = [row for row in self.rows() if wanted(row)]
        return found[number % len(found)] if found else None

    def is_held(self, holding: Holding) -> bool:
        """The claim is still good."""
        row = self.pair.rows.get(holding.model.id)
        return row is not None and is_at_work(row) and row.claim_token == holding.model.token

    def held(self) -> list[Holding]:
        """Claims that are still good."""
        return [holding for holding in self.pair.claims if self.is_held(holding)]

    def stale(self) -> list[Holding]:
        """Claims that are gone or used up: those of jobs that are held by a later claim, else the latest."""
        gone = [holding for holding in self.pair.claims if not self.is_held(holding)]
        at_work = {row.id: row.claimed_by for row in self.rows() if is_at_work(row)}
        same_owner = [one for one in gone if at_work.get(one.model.id) == one.owner]
        return same_owner or [one for one in gone if one.model.id in at_work] or gone[-10:]

    def new_job(self, spec: Spec) -> NewJob:
        """A job of this kind, remembered by its id."""
        job = job_of(spec, born=len(self.jobs), now=self.clock.now())
        self.jobs[job.id] = job
        return job

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store jobs on both, and remember what became of those that were replaced."""
        answers = self.pair.on_both(lambda backend: backend.enqueue(jobs))
        for job, answer in zip(jobs, answers, strict=True):
            if answer.fate is Fate.REPLACED:
                self.jobs[answer.existing] = job._replace(id=answer.existing)
        return answers
