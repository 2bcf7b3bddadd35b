"""What a plan asks its dispatcher to do."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobcard.backends.base import Completions, Outcome, Want
from jobcard.core.job import Claimed, Ref

Given = tuple[int, Claimed, float]
"""A job a worker was given: its number, the claim, and since when we hold it."""


class Spawn(NamedTuple):
    """Start a worker process under this number."""

    worker: int


class Send(NamedTuple):
    """Hand these jobs to a worker, in this order."""

    worker: int
    jobs: list[Given]


class Recall(NamedTuple):
    """Take back what a worker has not started; answered by `recalled`."""

    worker: int


class Kill(NamedTuple):
    """SIGKILL a worker and its process group; answered by `worker_gone`."""

    worker: int


class Share(NamedTuple):
    """Let a worker that has run nothing yet run its jobs side by side from now on."""

    worker: int


class Tell(NamedTuple):
    """Tell a running job that it shall end. why: a `messages.Why`. reason: its own words."""

    worker: int
    seq: int
    why: str
    reason: str


class Reply(NamedTuple):
    """Answer a worker's note: it is stored, or `error` (as in `workers/link.py`) says why not."""

    worker: int
    call: int
    error: dict[str, Any] | None


class Retire(NamedTuple):
    """Tell an empty worker to end by itself."""

    worker: int


class Exchange(NamedTuple):
    """Talk to the store; answered by `exchanged` or `store_failed`. freed: limit keys that have room then."""

    completions: Completions
    outcomes: list[Outcome]
    want: Want
    freed: frozenset[str] = frozenset()


class Renew(NamedTuple):
    """Renew these claims; answered by `renewed` or `store_failed`.

    Where there are none the store need not be asked: the answer says that none of our leases is near its end, no more.
    """

    held: list[tuple[Ref, int]]


class FindStrays(NamedTuple):
    """Ask the store what it thinks we hold; answered by `strays`."""


class Finished(NamedTuple):
    """Everything is settled and every worker told to end: the engine may exit."""


Command = Spawn | Share | Send | Tell | Reply | Recall | Kill | Retire | Exchange | Renew | FindStrays | Finished
