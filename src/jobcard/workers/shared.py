"""A sharing worker: all jobs it is given run at once, coroutines on one event loop, functions in threads.

    permits ─► one for each turn of the loop ─► a task, or a thread
    socket  ─► jobs, answers, CANCEL, STOP       what jobs say ─► posted, and sent once a turn

A permit is read only when the loop turns, and the next one only after that job has taken its first step: while a
job blocks the loop, all that have not begun can be taken back.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import threading
import time
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import Any

from jobcard.core import context
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.workers import messages, words
from jobcard.workers.notes import SharedLine
from jobcard.workers.pipes import EngineGoneError, Pipes
from jobcard.workers.runtime import Workbench, last_words


def serve(bench: Workbench, pipes: Pipes) -> None:
    """Run what the engine gives until it has no more."""
    Sharing(bench, pipes).serve()


class Job:
    """One job that runs beside others."""

    __slots__ = ("claim", "definition", "is_begun", "line", "seq", "started", "task")

    def __init__(self, seq: int, claim: Claimed, definition: JobDefinition, line: SharedLine) -> None:
        self.seq = seq
        self.claim = claim
        self.definition = definition
        self.line = line
        self.started = time.monotonic()
        self.is_begun = False
        self.task: asyncio.Task[None] | None = None

    def tell(self, reason: str) -> None:
        """It shall end: a coroutine is cancelled, a function can see it. On the loop's thread."""
        if self.line.reason is not None:
            return
        self.line.reason = reason
        if self.is_begun and self.task is not None:
            self.line.heard = True
            self.task.cancel(reason)


class Sharing:
    """The loop of a sharing worker, and all that runs on it and beside it."""

    def __init__(self, bench: Workbench, pipes: Pipes) -> None:
        self._bench = bench
        self._pipes = pipes
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._jobs: dict[int, Job] = {}
        self._begun: list[Job] = []
        self._threads = Threads(self._run_in_thread)
        self._awaited: int | None = None
        self._last_begun = 0
        self._told_early: dict[int, str] = {}
        self._is_push_due = False
        self._is_writing = False

    def serve(self) -> None:
        """Turn until there is nothing left to do; `EngineGoneError` when nobody wants it done any more."""
        asyncio.set_event_loop(self._loop)
        self._socket = self._pipes.share(self)
        self._loop.add_reader(self._socket, self._guarded, self._pipes.read)
        self._loop.add_reader(self._pipes.permits, self._guarded, self._take_permit)
        self._loop.call_soon(self._guarded, self._begin_first)
        self._over.add_done_callback(lambda _over: self._loop.stop())
        os.register_at_fork(after_in_child=self._leave_to_parent)
        while not self._over.done():
            try:
                self._loop.run_forever()  # until we stop it: a job that does so is not asked
            except (SystemExit, KeyboardInterrupt) as error:
                # From a task that a job started and nobody awaits: it has ended itself, not us.
                print(f"jobcard: a task of a job raised {type(error).__name__}: {error}", flush=True)
            finally:
                self._end_child()
        self._over.result()

    def _leave_to_parent(self) -> None:
        """In a child that a job has forked: neither permits nor the other jobs are its business."""
        # Its end of the selector is all it may close: what is registered there, both processes share.
        self._selector.close()
        self._loop._ready.clear()  # type: ignore[attr-defined]  # what others would do next, in this very turn

    def _end_child(self) -> None:
        """A child that comes back from the job that has forked it ends here, as it would in a worker of its own."""
        if os.getpid() != self._pid:
            self._bench.flush()
            os._exit(0)

    def _guarded(self, step: Any) -> None:
        # The loop would log it and go on.
        try:
            step()
        except BaseException as error:
            if not self._over.done():
                self._over.set_exception(error)

    # -- what comes

    def _begin_first(self) -> None:
        if self._pipes.first_permit is not None:
            self._permitted(self._pipes.first_permit)
        self._check_over()

    def _take_permit(self) -> None:
        # One for each turn: the job's first step comes before the next permit is read.
        permit = self._pipes.take_permit()
        if permit:
            self._permitted(messages.PERMIT.unpack(permit)[0])

    def _permitted(self, number: int) -> None:
        found = self._pipes.find_job(number)
        if found is None:
            # Its record is still on its way: no other permit until it is here.
            self._awaited = number
            self._loop.remove_reader(self._pipes.permits)
            return
        seq, claim = found
        self._last_begun = seq
        line = SharedLine(self._bench.book, seq, claim.id, self._loop, self._thread)
        definition = self._bench.find(claim.name)
        if definition is None:
            self._post(last_words(line, time.monotonic(), None, words.unknown_name(claim)))
            return
        job = self._jobs[seq] = Job(seq, claim, definition, line)
        if self._told_early:
            line.reason = self._told_early.pop(seq, None)
            # Numbers rise, and those that were passed over were taken back.
            self._told_early = {number: why for number, why in self._told_early.items() if number > seq}
        if definition.is_async:
            job.task = self._loop.create_task(self._run(job))
        else:
            line.say_started()
            self._push_soon()
            job.is_begun = True
            self._threads.run(job)

    def jobs_came(self) -> None:
        """There are jobs that were not there before."""
        self._on_loop(self._look_for_awaited)

    def stop_came(self) -> None:
        """There will be no more jobs."""
        self._on_loop(self._check_over)

    def cancel_came(self, seq: int, reason: str) -> None:
        """This job shall end."""
        job = self._jobs.get(seq)
        if job is not None and job.task is None:
            job.tell(reason)  # at once, even while the loop is blocked
        else:
            self._on_loop(partial(self._tell, seq, reason))

    def _tell(self, seq: int, reason: str) -> None:
        job = self._jobs.get(seq)
        if job is not None:
            job.tell(reason)
        elif seq > self._last_begun:  # else it has ended
            self._told_early[seq] = reason

    def _on_loop(self, step: Any) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._guarded, step)
        else:
            self._loop.call_soon_threadsafe(self._guarded, step)

    def _look_for_awaited(self) -> None:
        if self._awaited is not None:
            number, self._awaited = self._awaited, None
            self._loop.add_reader(self._pipes.permits, self._guarded, self._take_permit)
            self._permitted(number)

    def _check_over(self) -> None:
        """End when there is nothing to do and there will not be."""
        if self._pipes.told_to_stop and not self._jobs and self._awaited is None and not self._over.done():
            permit = self._pipes.take_permit()
            if permit:
                self._permitted(messages.PERMIT.unpack(permit)[0])
                self._loop.call_soon(self._guarded, self._check_over)
            else:
                self._push()
                self._over.set_result(None)

    # -- running

    async def _run(self, job: Job) -> None:
        """One coroutine job from its first step to its last word."""
        job.started = time.monotonic()
        job.is_begun = True
        bench, definition, claim, line = self._bench, job.definition, job.claim, job.line
        if claim.timeout is not None:
            line.say_started()  # its time runs from now, even if it does not let the loop turn again
            self._pipes.push()
        else:
            self._begun.append(job)
            self._push_soon()
        ctx = bench.context(claim, line)
        context.current.set(ctx)
        result: str | None = None
        call, ended = bench.call_of(definition, claim, ctx)
        if call is not None:
            try:
                ctx.raise_if_cancelled()  # told before its first step
                result, ended = bench.returned(definition, claim, await call())
            except EngineGoneError as error:
                return self._gone(error)
            except BaseException as error:
                ended = words.ended_by(error, definition, claim, heard=line.heard)
        self._end_child()
        ctx.end()
        line.is_started = True  # its end says so
        self._post(last_words(line, job.started, result, ended))
        return self._forget(job)

    def _run_in_thread(self, job: Job) -> None:
        """One function job, from its first step to its last word, in a thread of ours."""
        try:
            frame = self._last_words_of(job)
            self._bench.flush()
            # Said from here: the loop may be blocked.
            self._pipes.post(frame)
            self._pipes.push()
        except EngineGoneError as error:
            self._end_child()
            self._on_loop(partial(self._gone, error))
        else:
            self._on_loop(partial(self._forget, job))

    def _last_words_of(self, job: Job) -> bytes:
        bench, definition, claim, line = self._bench, job.definition, job.claim, job.line
        ctx = bench.context(claim, line)
        context.current.set(ctx)
        result: str | None = None
        call, ended = bench.call_of(definition, claim, ctx)
        if call is not None:
            try:
                ctx.raise_if_cancelled()
                result, ended = bench.returned(definition, claim, call())
            except EngineGoneError:
                raise
            except BaseException as error:
                ended = words.ended_by(error, definition, claim, heard=line.heard)
        self._end_child()
        ctx.end()
        return last_words(line, job.started, result, ended)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.seq]
        if self._pipes.told_to_stop:
            self._on_loop(self._check_over)

    def _gone(self, error: EngineGoneError) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    # -- what goes

    def _post(self, frame: bytes) -> None:
        self._pipes.post(frame)
        self._push_soon()

    def _push_soon(self) -> None:
        if not self._is_push_due:
            self._is_push_due = True
            self._loop.call_soon(self._guarded, self._push)

    def _push(self) -> None:
        """Once a turn: say which jobs have begun and not ended yet, and send all that was said."""
        self._is_push_due = False
        if self._begun:
            begun, self._begun = self._begun, []
            with self._bench.book.lock:
                news = [job for job in begun if not job.line.is_started]
                for job in news:
                    job.line.is_started = True
                if news:
                    said = [(job.seq, job.started) for job in news]
                    self._pipes.post(messages.encode((messages.STARTED, said)))
        self._bench.flush()
        self._pipes.push()

    def pipe_is_full(self) -> None:
        """The rest goes when there is room."""
        if not self._is_writing:
            self._is_writing = True
            self._on_loop(self._write_when_there_is_room)

    def _write_when_there_is_room(self) -> None:
        self._loop.add_writer(self._socket, self._guarded, self._write)

    def _write(self) -> None:
        self._loop.remove_writer(self._socket)
        self._is_writing = False
        self._pipes.push()


class Threads:
    """As many threads as there are function jobs at once; they are kept for the next ones."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._waiting: deque[SimpleQueue[Job]] = deque()

    def run(self, job: Job) -> None:
        """Run this job in a thread of its own."""
        try:
            self._waiting.pop().put(job)
        except IndexError:
            mine: SimpleQueue[Job] = SimpleQueue()
            mine.put(job)
            threading.Thread(target=self._serve, args=(mine,), name="jobcard-job", daemon=True).start()

    def _serve(self, mine: SimpleQueue[Job]) -> None:
        while True:
            job = mine.get()
            contextvars.Context().run(self._run, job)
            self._waiting.append(mine)
