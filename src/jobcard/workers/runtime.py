"""What runs inside a worker: take a permit, run that job, say how it ended.

One thread, one job at a time, in the order given. The engine may take back at any moment what has not
started: a job runs only after its number was read from the permit pipe. Told to share, a worker runs its jobs
side by side instead: see `shared.py`.
"""

from __future__ import annotations

import contextvars
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jobcard.core import context
from jobcard.core.context import JobContext
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.core.signals import JobSignal
from jobcard.errors import InvalidJobError, SerializationError
from jobcard.workers import around, messages, words
from jobcard.workers.notes import Book, JobLine, OwnLine
from jobcard.workers.pipes import EngineGoneError, Pipes
from jobcard.workers.tidy import Room
from jobcard.workers.told import Ear

Ended = dict[str, Any] | None
"""What `messages.ENDED` carries; None: the job returned."""


class Workbench:
    """What every job of a worker is run with."""

    def __init__(self, app: Any, pipes: Pipes) -> None:
        """app: a `Jobcard`, or what has its `registry` and `codec`."""
        parts = getattr(app, "parts", None)
        self.find = app.registry.find
        self.codec = app.codec
        # The list itself, empty or not: a hook that a job's module declares late counts too.
        self.hooks: Sequence[around.Hook] = getattr(getattr(parts, "hooks", None), "around_run", ())
        self.book = Book(pipes, getattr(getattr(parts, "producer", None), "new_follow_up", None))
        self.flush = _flusher()

    def context(self, claim: Claimed, line: JobLine) -> JobContext:
        """What the job sees of itself."""
        deadline = None if claim.timeout is None else time.time_ns() // 1000 + claim.timeout
        return JobContext(claim, self.codec, deadline=deadline, line=line)

    def call_of(
        self,
        definition: JobDefinition,
        claim: Claimed,
        ctx: JobContext,
        *,
        inside: Callable[[Callable[[], Any]], Any] | None = None,
    ) -> tuple[Callable[[], Any] | None, Ended]:
        """The stored call within the hooks, ready to run; for an `async def` job it gives a coroutine.

        None, and why, when it cannot be called. inside: calls the job's own code, between hooks and job.
        """
        try:
            call = definition.prepare(self.codec, claim.init, claim.args, claim.kwargs, ctx, in_loop=True)
        except (SerializationError, InvalidJobError) as error:
            # Retrying cannot help: the stored call does not fit the code.
            return None, words.word("bad_call", definition, claim, error=error, reason=str(error))
        except EngineGoneError:
            raise
        except BaseException as error:
            return None, words.ended_by(error, definition, claim)
        if definition.is_async:
            return partial(around.run_async, self.hooks, ctx, call) if self.hooks else call, None
        if inside is not None:
            call = partial(inside, call)
        return partial(around.run, self.hooks, ctx, call) if self.hooks else call, None

    def returned(self, definition: JobDefinition, claim: Claimed, value: Any) -> tuple[str | None, Ended]:
        """What a job returned, as stored text, or why that cannot be stored."""
        if isinstance(value, JobSignal):
            raise value
        try:
            return definition.dump_result(self.codec, value), None
        except (SerializationError, InvalidJobError) as error:
            return None, words.word("serialization", definition, claim, error=error, reason=str(error))


def last_words(line: JobLine, started: float, result: str | None, ended: Ended) -> bytes:
    """All that is still to be said of a job, its end last."""
    rest = line.close()
    now = time.monotonic()
    if ended is not None:
        end = messages.encode((messages.ENDED, line.seq, started, now, ended))
    elif line.follow_ups:
        end = messages.encode((messages.FOLLOWED, line.seq, started, now, result, line.follow_ups))
    else:
        end = messages.encode((messages.DONE, line.seq, started, now, result))
    return end if rest is None else rest + end


def serve(app: Any, pipes: Pipes) -> None:
    """Run jobs of this application until the engine has no more."""
    bench = Workbench(app, pipes)
    ear = Ear(pipes.board)
    ear.listen()
    pipes.after_waiting = ear.after_waiting
    room = Room()
    clock = time.monotonic
    while (job := pipes.next_job()) is not None:
        seq, claim = job
        started = clock()
        line = OwnLine(bench.book, seq, claim.id, ear)
        definition = bench.find(claim.name)
        result: str | None = None
        ended: Ended = None
        if definition is None:
            ended = words.unknown_name(claim)
        else:
            result, ended = _run(bench, ear, line, definition, claim)
            room.tidy()
            bench.flush()
        pipes.post(last_words(line, started, result, ended))
        pipes.push()
    if pipes.sharing:
        from jobcard.workers import shared  # with asyncio, which takes long to import

        ear.deafen()
        shared.serve(bench, pipes)


def _run(
    bench: Workbench, ear: Ear, line: JobLine, definition: JobDefinition, claim: Claimed
) -> tuple[str | None, Ended]:
    """Run one job; how it ended. What it sets in context variables is its own."""
    ctx = bench.context(claim, line)
    ear.begin(line.seq, is_async=definition.is_async)
    try:
        ctx.raise_if_cancelled()  # told before it began: a signal that came then was for nobody
        call, ended = bench.call_of(definition, claim, ctx, inside=ear.inside)
        if call is None:
            return None, ended
        if definition.is_async:
            call = partial(ear.run_coroutine, call)
        return bench.returned(definition, claim, contextvars.copy_context().run(_as_current, ctx, call))
    except EngineGoneError:
        raise
    except BaseException as error:
        return None, words.ended_by(error, definition, claim, heard=ear.heard)
    finally:
        ear.end()
        ctx.end()


def _as_current(ctx: JobContext, call: Callable[[], Any]) -> Any:
    context.current.set(ctx)
    return call()


def _flusher() -> Callable[[], None]:
    streams = (sys.stdout, sys.stderr)

    def flush() -> None:
        for stream in streams:
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                # The job closed or replaced it; its loss.
                continue

    return flush
