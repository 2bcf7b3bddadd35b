"""The engine's side of workers that are threads of this process: the same orders and messages as `pool.Pool`.

A thread cannot be killed. A "killed" one is abandoned: it is told to end, what it says from then on is dropped, and
being a daemon it does not hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jobcard.core.job import Claimed
from jobcard.workers import messages
from jobcard.workers.here import Running, Talk
from jobcard.workers.mailbox import Mailbox
from jobcard.workers.messages import Exit
from jobcard.workers.pool import Listener
from jobcard.workers.process import introduce

_ENDED = Exit(0, "")
_ABANDONED = Exit(None, "")


class ThreadsPool:
    """All workers of one engine, as threads; used from the engine's thread only, but for what says otherwise."""

    def __init__(self, selector: selectors.BaseSelector, listener: Listener | None, app: Any) -> None:
        """app: the `Jobcard` whose jobs are run."""
        self.listener = listener
        self.mailbox = Mailbox(selector)
        """What other threads want done in the engine's."""
        self._app = app
        self._workers: dict[int, WorkerThread] = {}
        # One and the same for all workers and for good: what is declared later shows in it.
        self._about = introduce(app)

    def learn(self) -> None:
        """Let the engine know of jobs that were declared since."""
        if self._app.registry.names() != sorted(self._about["names"]):
            self._about["names"].update(introduce(self._app)["names"])

    def pids(self) -> list[int]:
        """The worker processes: none."""
        return []

    def spawn(self, number: int) -> None:
        """Start a worker; OSError when the system has no room for one."""
        worker = WorkerThread(number, self._app, partial(self._hear, number))
        try:
            worker.start()
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self._workers[number] = worker
        worker.say(messages.HELLO, self._about)

    def send(self, number: int, jobs: list[tuple[int, Claimed, float]]) -> None:
        """Hand jobs over, in order."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.give([(job[0], job[1]) for job in jobs])

    def share(self, number: int) -> None:
        """Let a worker that has run nothing yet run its jobs side by side from now on."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.share()

    def tell(self, number: int, seq: int, why: str, reason: str) -> None:
        """Tell a running job that it shall end."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.tell(seq, reason)

    def recall(self, number: int) -> list[int]:
        """Take back what a worker has not started: those jobs will not be."""
        worker = self._workers.get(number)
        return [] if worker is None else worker.take_back()

    def reply(self, number: int, call: int, error: dict[str, Any] | None, answer: bytes | None) -> None:
        """Answer what a job asked for."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.talk.answer(call, error, answer)

    def retire(self, number: int) -> None:
        """Tell a worker that there will be no more."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.retire()

    def with_farewell(self) -> list[int]:
        """None: the process goes on when its workers have ended, and sees to everything itself."""
        return []

    def kill(self, number: int) -> None:
        """Abandon a worker: whatever it still does, it is not heard any more."""
        worker = self._workers.get(number)
        if worker is not None and worker.abandon("abandoned: its engine does not wait for it any more"):
            self.mailbox.post(partial(self._gone, number, _ABANDONED))

    def kill_all(self) -> None:
        """Abandon every worker, without a word to the engine."""
        for worker in self._workers.values():
            worker.abandon("its engine has stopped")
        self._workers.clear()

    def take_output(self, number: int) -> str:
        """What a job prints goes where the process prints."""
        return ""

    def forget_output(self, number: int) -> None:
        """Nothing is kept."""

    def memory_of(self, number: int) -> int:
        """A thread has no memory of its own to be measured."""
        return 0

    def tend(self) -> None:
        """Nothing beside the workers needs looking after."""

    def close(self) -> None:
        """Let go of all of it."""
        self.kill_all()
        self.mailbox.close()

    # -- from the workers' threads

    def _hear(self, number: int, message: list[Any] | None) -> None:
        """A worker says something; None: that it has ended."""
        if message is None:
            self.mailbox.post(partial(self._gone, number, _ENDED))
        else:
            self.mailbox.post(partial(self._pass_on, number, message))

    # -- in the engine's thread again

    def _pass_on(self, number: int, message: list[Any]) -> None:
        if number in self._workers and self.listener is not None:
            self.listener.message(number, message)

    def _gone(self, number: int, exit: Exit) -> None:
        worker = self._workers.pop(number, None)
        if worker is not None and self.listener is not None:
            self.listener.gone(number, worker.take_back(), exit)


class WorkerThread:
    """One worker: a thread that runs its jobs one by one or, once it shares, side by side."""

    def __init__(self, number: int, app: Any, hear: Callable[[list[Any] | None], None]) -> None:
        """hear: takes what it says, from any thread."""
        self.talk = Talk(lambda message: self.say(*message))
        """What its jobs say while they run."""
        self._bench = self.talk.bench(app)
        self._hear = hear
        self._thread = threading.Thread(target=self._work, name=f"jobcard-worker-{number}", daemon=True)
        self._turn = threading.Condition()  # guards all below
        self._given: deque[tuple[int, Claimed]] = deque()
        self._running: dict[int, Running] = {}
        self._shared = False
        self._retired = False
        self._abandoned = False
        self._wake: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to wait for jobs; RuntimeError when there can be no more threads."""
        self._thread.start()

    # -------------------------------------------------------------- orders, from the engine's thread

    def give(self, jobs: Sequence[tuple[int, Claimed]]) -> None:
        """More to run."""
        with self._turn:
            self._given.extend(jobs)
        self._notify()

    def share(self) -> None:
        """From now on run them side by side."""
        with self._turn:
            self._shared = True
        self._notify()

    def take_back(self) -> list[int]:
        """What it has not started and will not start."""
        with self._turn:
            back = [seq for seq, _claim in self._given]
            self._given.clear()
        return back

    def retire(self) -> None:
        """End when nothing is left."""
        with self._turn:
            self._retired = True
        self._notify()

    def tell(self, seq: int, reason: str) -> None:
        """This job shall end, if it runs."""
        with self._turn:
            running = self._running.get(seq)
        if running is not None:
            running.tell(reason)

    def abandon(self, reason: str) -> bool:
        """Say nothing from now on; False: it was abandoned before."""
        with self._turn:
            if self._abandoned:
                return False
            self._abandoned = True
            running = list(self._running.values())
        for each in running:
            each.tell(reason)
        self._notify()
        return True

    def _notify(self) -> None:
        with self._turn:
            self._turn.notify_all()
            if self._wake is not None:
                self._wake()

    # -------------------------------------------------------------- words, from any thread

    def say(self, *message: Any) -> None:
        """Say something to the engine, unless it listens no more."""
        with self._turn:
            if not self._abandoned:
                self._hear(list(message))

    # -------------------------------------------------------------- its own thread

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._run(*job)
        if self._shares():
            asyncio.run(self._work_side_by_side())
        with self._turn:
            if not self._abandoned:
                self._hear(None)

    def _next(self) -> tuple[int, Running] | None:
        """The next job, which cannot be taken back any more; None: there will be none, or it shares from now on."""
        with self._turn:
            while not (self._abandoned or self._shared):
                if self._given:
                    return self._take()
                if self._retired:
                    break
                self._turn.wait()
            return None

    def _take(self) -> tuple[int, Running]:
        seq, claim = self._given.popleft()
        shared_loop = self._thread.ident if self._shared else None
        running = self._running[seq] = Running(self._bench, seq, claim, shared_loop_thread=shared_loop)
        return seq, running

    def _shares(self) -> bool:
        with self._turn:
            return self._shared and not self._abandoned

    def _run(self, seq: int, running: Running) -> None:
        self._ended(seq, running.run())

    def _ended(self, seq: int, message: list[Any]) -> None:
        with self._turn:
            del self._running[seq]
            self.say(*message)

    # -------------------------------------------------------------- side by side

    async def _work_side_by_side(self) -> None:
        """Start what is given as soon as the loop turns; a loop that a job blocks takes nothing."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        with self._turn:
            self._wake = partial(_call_in, loop, news.set)
        try:
            while True:
                news.clear()
                for seq, running in self._take_all():
                    if running.is_async:
                        task = loop.create_task(self._run_async(seq, running))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                    else:
                        name = f"{self._thread.name}-{seq}"
                        threading.Thread(target=self._run_beside, args=(seq, running), name=name, daemon=True).start()
                if self._is_over():
                    break
                await news.wait()
        finally:
            with self._turn:
                self._wake = None

    def _take_all(self) -> list[tuple[int, Running]]:
        with self._turn:
            return [] if self._abandoned else [self._take() for _ in range(len(self._given))]

    def _is_over(self) -> bool:
        with self._turn:
            # The abandoned have to end their coroutines too; threads of theirs are left alone.
            if any(running.is_async for running in self._running.values()):
                return False
            return self._abandoned or (self._retired and not self._running and not self._given)

    async def _run_async(self, seq: int, running: Running) -> None:
        self.say(messages.STARTED, [[seq, running.started]])
        self._ended(seq, await running.run_async())
        self._notify()

    def _run_beside(self, seq: int, running: Running) -> None:
        self.say(messages.STARTED, [[seq, running.started]])
        self._run(seq, running)
        self._notify()


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    loop.call_soon_threadsafe(call)
