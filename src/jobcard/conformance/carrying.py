"""The steps of a random history that carry jobs: read whole, put into an empty store or over others, taken back."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from jobcard.backends.base import Backend
from jobcard.conformance import factory
from jobcard.conformance.drawing import ENGINES, picks
from jobcard.conformance.every_kind import once_keys_in
from jobcard.conformance.looking import Looking
from jobcard.conformance.rules import is_at_work
from jobcard.core.job import WholeJob


class Carrying(Looking):
    """Carries jobs on both, and compares."""

    @precondition(lambda self: self.rows())
    @rule()
    def move_to_an_empty_store(self) -> None:
        """Everything is read, the store emptied and everything put: the history goes on as if nothing had been."""
        for backend in (self.pair.model, self.pair.real):
            keys = list(once_keys_in(backend))
            factory.put_anew(backend)
            backend.put_once_keys(keys)
        self.pair.find_again([*ENGINES, "rescuer"])
        self.last_exchange = None

    @precondition(lambda self: any(not is_at_work(row) for row in self.rows()))
    @rule(number=picks, other=picks)
    def put_over(self, number: int, other: int) -> None:
        """A job becomes what another one is, but for its id and its key."""
        there, like = self.pick(number), self.pick(other, lambda row: not is_at_work(row))
        assert there is not None and like is not None
        [job] = factory.whole_of(self.pair.model, [like.id])
        row = job.row._replace(
            id=there.id, unique_key=there.unique_key, claim_token=max(there.claim_token, like.claim_token) + 1
        )
        whole = WholeJob(
            row,
            [each._replace(job_id=row.id) for each in job.attempts],
            [each._replace(job_id=row.id) for each in job.lines],
        )
        if not self.pair.on_both(lambda backend: list(backend.put([whole]))):
            self.jobs[there.id] = self.jobs[like.id]._replace(id=there.id)
            self.seen.pop(there.id, None)

    @precondition(lambda self: self.rows())
    @rule(numbers=st.lists(picks, max_size=3))
    def erase(self, numbers: Sequence[int]) -> None:
        """Jobs go, in whatever state they are; whoever holds one has lost it."""
        rows = self.rows()
        gone = {rows[number % len(rows)].id for number in numbers}
        self.pair.on_both(lambda backend: backend.erase(sorted(gone)))
        for job_id in gone:
            self.seen.pop(job_id, None)

    @rule(limit=st.integers(1, 30), number=picks)
    def list_versions(self, limit: int, number: int) -> None:
        """The same jobs, page by page, each with the version of its row."""
        above = self.pick(number) if number % 2 else None

        def ids(backend: Backend) -> list[bytes]:
            found = backend.versions(after=None if above is None else above.id, limit=limit)
            rows = factory.rows_of(backend, [job_id for job_id, _ in found])
            assert [tuple(each) for each in found] == [(job_id, rows[job_id].version) for job_id, _ in found]
            return [job_id for job_id, _ in found]

        self.pair.on_both(ids)
        self.pair.on_both(lambda backend: list(once_keys_in(backend, limit)))
