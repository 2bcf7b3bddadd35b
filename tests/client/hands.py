"""Hands that do an engine's work step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobcard.backends.base import Backend, Completions, Outcome, Want
from jobcard.client import Jobcard
from jobcard.core import clock, states
from jobcard.core.context import JobContext
from jobcard.core.job import Claimed
from jobcard.engine.outcomes import error_text

LEASE = 60 * clock.SECOND


@dataclass
class Hands:
    """Claims, runs and ends jobs as an engine and its worker would, when the test says so."""

    store: Backend

    def claim(self, count: int = 1, *queues: str) -> list[Claimed]:
        """Claim up to so many jobs."""
        want = Want(queues=[(queue, count) for queue in queues or ("default",)], total=count)
        return self.store.exchange("hands", want=want, lease=LEASE).claimed

    def end(self, claim: Claimed, change: states.Change) -> None:
        """End, put back or stamp a claimed job."""
        answer = self.store.exchange("hands", outcomes=[Outcome(claim.ref, claim.token, change)])
        assert answer.refusals == []

    def complete(self, claim: Claimed, result: str | None = "null", *, ago: int = 1000) -> None:
        """The job returned this, as stored text. ago: microseconds since its start."""
        done = Completions(refs=[claim.ref], tokens=[claim.token], results=[result], started_ago=[ago])
        assert self.store.exchange("hands", completions=done).refusals == []

    def fail(self, claim: Claimed, message: str = "it broke", reason: str = "error") -> None:
        """The job failed for good."""
        error = {"attempt": claim.attempt, "kind": "error", "type": "ValueError", "message": message}
        self.end(claim, states.fail(claim, reason=reason, error=error_text(error), kind=f"ValueError in {claim.name}"))

    def run(self, jobs: Jobcard, count: int = 1, *queues: str) -> int:
        """Claim jobs and really run them; how many."""
        claims = self.claim(count, *queues)
        for claim in claims:
            definition = jobs.registry.find(claim.name)
            assert definition is not None
            context = JobContext(claim, jobs.codec)
            value: Any = definition.prepare(jobs.codec, claim.init, claim.args, claim.kwargs, context)()
            self.complete(claim, definition.dump_result(jobs.codec, value))
        return len(claims)
