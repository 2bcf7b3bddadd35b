"""Running a stored job's call outside of any engine, and saying what came of it."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from jobcard.cli import output
from jobcard.cli.record import to_plain
from jobcard.core import context, ids
from jobcard.core.context import JobContext
from jobcard.core.job import Claimed, JobRow
from jobcard.core.signals import JobSignal
from jobcard.core.states import ENDED
from jobcard.errors import UnknownJobError
from jobcard.workers.words import describe

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.client.functions import Call
    from jobcard.core.definition import JobDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of it. error: type, message and traceback, or None. frames: where it was raised, for a debugger."""

    id: str
    name: str
    seconds: float
    result: Any
    error: dict[str, Any] | None
    frames: TracebackType | None


class ReplayContext(JobContext):
    """The context of a replayed job: what it is told is shown on standard error, and never stored."""

    cancelled = False
    cancel_reason: str | None = None

    def progress(self, value: float, text: str | None = None) -> None:
        """Show how far the job is."""
        output.note(f"progress: {value:.0%}{'' if text is None else f' {output.one_line(text)}'}")

    def log(self, text: str) -> None:
        """Show a log line."""
        output.note(f"log: {output.one_line(text)}")

    def save_checkpoint(self, value: Any) -> None:
        """Show what would be kept for the next try."""
        output.note(f"checkpoint: {output.one_line(to_plain(value))}")

    async def save_checkpoint_async(self, value: Any) -> None:
        """The same, awaitable."""
        self.save_checkpoint(value)

    def then(self, call: Call[Any]) -> None:
        """Show what would follow."""
        output.note(f"then: {call.job.definition.name}")

    def raise_if_cancelled(self) -> None:
        """Nobody cancels a replay."""


def replay_job(jobs: Jobcard, job_id: str, *, prints_to_stderr: bool = False) -> Replayed:
    """Run the call of this job, as a worker would; `JobNotFoundError`, or `UnknownJobError` for its name.

    prints_to_stderr: what the job prints goes there, so that standard output has the answer alone.
    """
    row = jobs.parts.lookup.row(ids.parse_id(job_id))
    definition = jobs.registry.find(row.name)
    if definition is None:
        raise UnknownJobError(row.name)
    result: Any = None
    error: BaseException | None = None
    began = time.perf_counter()
    with _printing_to_stderr(prints_to_stderr):
        try:
            result = _run(jobs, definition, row)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = raised
    return Replayed(
        id=str(jobs.handle(job_id).id),
        name=row.name,
        seconds=time.perf_counter() - began,
        result=result,
        error=None if error is None else _described(error),
        frames=None if error is None else error.__traceback__,
    )


def _run(jobs: Jobcard, definition: JobDefinition, row: JobRow) -> Any:
    ctx = ReplayContext(_claim(row), jobs.codec)
    call = definition.prepare(jobs.codec, row.init, row.args, row.kwargs, ctx)
    token = context.current.set(ctx)
    try:
        value = call()
        if inspect.isawaitable(value):
            import asyncio

            value = asyncio.run(_awaited(value))
    finally:
        context.current.reset(token)
    if isinstance(value, JobSignal):
        raise value
    # As a worker would store it: a result that cannot be stored is a failure there too.
    definition.dump_result(jobs.codec, value)
    return value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _claim(row: JobRow) -> Claimed:
    """The job as if it had just been claimed: its next try, or once more the last one if it has ended."""
    tries = row.attempt if row.state in ENDED else row.attempt + 1
    at_claim = {
        "ref": 0,
        "token": row.claim_token,
        "attempt": max(1, tries),
        "claimed_at": row.claimed_at or row.available_at,
        "claimed_by": "replay",
    }
    return Claimed._make(at_claim[name] if name in at_claim else getattr(row, name) for name in Claimed._fields)


def _described(error: BaseException) -> dict[str, Any]:
    if isinstance(error, JobSignal):
        # Not an accident: the job asked for it, and where it stood says nothing more.
        reason = getattr(error, "reason", None)
        return {"type": type(error).__name__, "message": reason or "", "traceback": None}
    return describe(error)


@contextmanager
def _printing_to_stderr(wanted: bool) -> Iterator[None]:
    """Standard output of this process, and of what it starts, goes to standard error meanwhile."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


def print_replayed(replayed: Replayed, *, as_json: bool) -> None:
    """The result on standard output, or the traceback on standard error; in JSON both in one object."""
    if as_json:
        output.emit_json(
            {
                "id": replayed.id,
                "name": replayed.name,
                "ok": replayed.error is None,
                "seconds": round(replayed.seconds, 6),
                "result": to_plain(replayed.result),
                "error": replayed.error,
            }
        )
        return
    if replayed.error is None:
        output.emit(output.one_line(repr(replayed.result)))
        output.note(f"{replayed.name} completed in {replayed.seconds:.3g} s; the stored job is as it was")
        return
    output.flush()
    trace = replayed.error["traceback"]
    if trace:
        output.note(output.many_lines(trace).rstrip("\n"))
    what = ": ".join(str(replayed.error[part]) for part in ("type", "message") if replayed.error[part])
    output.note(f"{replayed.name} failed after {replayed.seconds:.3g} s with {output.one_line(what)}")
