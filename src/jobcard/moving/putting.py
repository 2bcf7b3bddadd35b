"""Writing whole jobs into a store so that one that it cannot take does not keep others out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobcard.backends.base import Backend
from jobcard.core.job import WholeJob
from jobcard.errors import ABOUT_THE_STORE, JobcardError


class NotPut(NamedTuple):
    """The jobs that were not written. taken: their unique key is. refused: the store cannot hold them, and says why."""

    taken: Sequence[bytes]
    refused: dict[bytes, str]


def put_what_fits(store: Backend, jobs: Sequence[WholeJob]) -> NotPut:
    """Write these jobs but for those that the store does not take."""
    if not jobs:
        return NotPut([], {})
    try:
        return NotPut(store.put(jobs), {})
    except ABOUT_THE_STORE:
        raise
    except JobcardError as error:
        # One of them it cannot hold; the others shall not suffer for that.
        if len(jobs) == 1:
            return NotPut([], {jobs[0].row.id: str(error)})
    half = len(jobs) // 2
    first, second = put_what_fits(store, jobs[:half]), put_what_fits(store, jobs[half:])
    return NotPut([*first.taken, *second.taken], first.refused | second.refused)
