"""Looking through stored jobs for what no move can have made of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from jobcard.backends.base import Backend, Filter
from jobcard.client.pages import pages
from jobcard.core.findings import Finding, error, ok
from jobcard.core.job import JobRow
from jobcard.core.soundness import faults
from jobcard.core.states import ALIVE, AT_WORK, ENDED, WAITING, JobState

PAGE = 500
MOST = 10_000
"""Jobs of one kind that a look takes, newest first, unless it takes all."""

_KINDS: Sequence[frozenset[JobState]] = (AT_WORK, WAITING, frozenset())
"""At work, waiting, and whatever their state."""


@dataclass
class _Fault:
    """How many jobs have it, and the first that was met."""

    example: JobRow
    number: int = 0


def look_at_rows(store: Backend, *, full: bool, tell: Callable[[int], None]) -> Iterator[Finding]:
    """Each fault with the number of jobs that have it and one of them, and how far this looked.

    Page by page from the newest id down: a store with many jobs is asked often, and never for much.
    """
    found: dict[str, _Fault] = {}
    seen: set[bytes] = set()
    number = 0
    for states in _KINDS[-1:] if full else _KINDS:
        looked = 0
        for rows in pages(store, Filter(states=sorted(states)), size=PAGE):
            new = rows if full else [row for row in rows if row.id not in seen]
            if not full:
                seen.update(row.id for row in new)
            for row in new:
                for text in faults(row):
                    found.setdefault(text, _Fault(row)).number += 1
            number += len(new)
            tell(number)
            looked += len(rows)
            if looked >= MOST and not full:
                break
        else:
            full = full or not states  # the walk over all of them came to its end
    yield _looked(number, whole=full)
    yield from (_impossible(text, found[text]) for text in sorted(found))
    if not found:
        yield ok("rows.impossible", "jobs", "each is what a job can be")


def _looked(number: int, *, whole: bool) -> Finding:
    jobs = f"{number:,} job{'' if number == 1 else 's'}"
    if whole:
        return ok("rows.looked", "jobs", f"looked at {jobs}, all there are")
    return ok(
        "rows.looked",
        "jobs",
        f"looked at {jobs}: at work, waiting, and of any state, the newest {MOST:,} of each; --full looks at all",
    )


def _impossible(text: str, fault: _Fault) -> Finding:
    job_id = UUID(bytes=fault.example.id)
    others = f", as {fault.number - 1:,} more" if fault.number > 1 else ""
    text = f"this job {text}{others}: no move of jobcard's leaves a job so"
    return error("rows.impossible", f"job {job_id}", text, _mend(fault.example, job_id))


def _mend(row: JobRow, job_id: UUID) -> str:
    if row.state in WAITING:
        return f"`jobcard jobs cancel {job_id}`, then `jobcard jobs retry {job_id}`"
    if row.state in ENDED:
        again = "" if row.state == "completed" else f"; `jobcard jobs retry {job_id}` instead if it shall run again"
        return f"`jobcard jobs delete {job_id} --yes`{again}"
    what = "look whether it still runs, then end it" if row.state in ALIVE else "end it"
    return f"{what} by hand: docs/doctor.md says how"
