"""An engine without child processes: the same plan and dispatcher, its workers threads of this process.

For tests, notebooks, serverless functions, and jobs that need what lives in this process. Jobs see the application's
own objects, and what harms the process harms all of it: nothing can be killed here. A job that does not end in time is
abandoned: the plan decides what becomes of it, and what its thread says later is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from jobcard.backends.base import NOTHING, Backend, Exchanged, Filter, Want
from jobcard.core import context
from jobcard.core.settings import Settings
from jobcard.core.states import AT_WORK
from jobcard.engine import exits, record, routines
from jobcard.engine.dependents import see_to_all
from jobcard.engine.dispatcher import Dispatcher
from jobcard.engine.opening import CLOSED_SECONDS, open_for_work
from jobcard.errors import ConfigError, JobcardError, StoreError, StoreUnavailableError
from jobcard.workers.pool import Pool
from jobcard.workers.threads_pool import ThreadsPool

log = logging.getLogger("jobcard.engine")

START_SECONDS = 60.0


class InProcessEngine:
    """One engine in this process, from `start` or `run` to its end; `stop` may be called from anywhere."""

    def __init__(self, app: Any, settings: Settings, backend: Backend, *, owned: bool, until_empty: bool) -> None:
        """app: the `Jobcard` whose jobs are run. owned: close the store at the end.

        until_empty: end by itself when nothing that is due is left.
        """
        self._app = app
        self._settings = settings
        self._backend = backend
        self._owned = owned
        self._until_empty = until_empty
        self._owner = os.urandom(8).hex()
        self._started_at = time.time()
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadsPool(self._selector, None, app)
        self._name = _name_of(app)
        self._watched = _Watched(backend, self._look_for_the_end)
        self._dispatcher: Dispatcher | None = None
        self._ready = threading.Event()
        self._over = threading.Event()
        self._was_empty = False
        """Nothing was left to do after the last exchange, as far as could be seen."""
        self._stops = 0
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    # -------------------------------------------------------------- from outside

    def start(self) -> None:
        """Serve in a thread of its own; returns when the store has answered, raises why it cannot."""
        self._prepare()
        self._thread = threading.Thread(target=self._serve_in_thread, name="jobcard-engine", daemon=True)
        self._thread.start()
        is_ready = self._ready.wait(START_SECONDS)
        if self._problem is not None:
            raise self._problem
        if not is_ready:
            self.stop()
            raise StoreError(f"no engine was ready after {START_SECONDS:g} s: the store does not answer")

    def run(self) -> int:
        """Serve in this thread until stopped; from the main thread, SIGTERM and SIGINT drain it. The exit code."""
        self._prepare()
        with self._signals():
            self._serve()
        return exits.INTERRUPTED if self._stops > 1 else exits.OK

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._over.is_set()

    def ask_to_stop(self) -> None:
        """Begin to drain; asked again, stop at once."""
        self._stops += 1
        at_once = self._stops > 1
        self._pool.mailbox.post(lambda: self._stop(at_once))

    def stop(self) -> None:
        """Drain and end it; what still runs after `stop_timeout` is abandoned. From inside a job without waiting."""
        if self.running:
            self.ask_to_stop()
            # Whoever runs in it, in a job or under a signal, would wait for himself.
            if self._thread not in (None, threading.current_thread()) and context.current.get() is None:
                self._over.wait()

    # -------------------------------------------------------------- in the engine's thread

    def _prepare(self) -> None:
        settings = self._settings
        try:
            if not open_for_work(self._backend, settings, self._app.parts.schedules.declared, self._rest):
                raise StoreUnavailableError("told to stop while jobs were being moved into the store")
            self._dispatcher = self._pool.listener = Dispatcher(
                owner=self._owner,
                backend=cast(Backend, self._watched),
                settings=settings,
                pool=cast(Pool, self._pool),
                selector=self._selector,
                only_queues=None,
                dead_owners=(),
                about=self._about,
                tell_keeper=self._tell_keeper,
            )
        except BaseException:
            self._close()
            raise

    def _rest(self) -> bool:
        time.sleep(CLOSED_SECONDS)
        return not self._stops

    def _serve_in_thread(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._problem = error
            if self._ready.is_set():
                log.exception("the engine in this process has failed; its jobs run again when their leases end")
        finally:
            self._ready.set()  # whoever waits for it must hear of its end too

    def _serve(self) -> None:
        assert self._dispatcher is not None
        log.info("engine.start owner=%s in_process", self._owner)
        try:
            self._dispatcher.serve()
        finally:
            self._close()

    def _close(self) -> None:
        self._pool.close()
        record.remove(self._backend, self._owner)
        if self._owned:
            self._backend.close()
        self._selector.close()
        self._over.set()

    def _stop(self, at_once: bool) -> None:
        assert self._dispatcher is not None
        self._dispatcher.stop(at_once=at_once)

    def _tell_keeper(self, **word: Any) -> None:
        # There is none: nothing to kill, and nobody who would start another engine.
        if "ready" in word:
            self._ready.set()

    def _about(self) -> dict[str, Any]:
        assert self._dispatcher is not None
        self._pool.learn()
        return record.describe(
            self._dispatcher,
            app=self._name,
            keeper=None,
            started_at=self._started_at,
            heartbeat=self._settings.heartbeat,
            workers=self._pool.pids(),
            pid_of=lambda _worker: os.getpid(),
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, lambda *_: self.ask_to_stop()) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # -------------------------------------------------------------- until empty

    def _look_for_the_end(self, claimed: bool, nothing_due: bool) -> None:
        if self._until_empty:
            # Not in the middle of the dispatcher's turn.
            self._pool.mailbox.post(lambda: self._end_if_empty(claimed, nothing_due))

    def _end_if_empty(self, claimed: bool, nothing_due: bool) -> None:
        assert self._dispatcher is not None
        plan = self._dispatcher.plan
        serves_nothing = plan.settings_version >= 0 and not (plan.queues and plan.names)
        was_empty, self._was_empty = self._was_empty, False
        if claimed or plan.stopping or not plan.holds_nothing or not (nothing_due or serves_nothing):
            return
        try:
            at_work = self._backend.count(Filter(states=tuple(AT_WORK)), limit=1)
            is_empty = not any(count for states in at_work.values() for count in states.values())
            is_empty = (
                is_empty and not self._backend.let_in(1) and not routines.kept_by_rates(self._backend, plan.queues)
            )
            is_empty = is_empty and not see_to_all(self._backend, {})
        except JobcardError:
            return  # asked again after the next exchange
        if is_empty and (was_empty or serves_nothing):
            self._dispatcher.stop(at_once=False)
        elif is_empty:
            # Since that exchange another thread may have put a job in line for which all had come: asked once more.
            self._was_empty = True
            plan.wake(time.monotonic())


def _name_of(app: Any) -> str | None:
    """How the command line would name it; None where only this process can find it."""
    with contextlib.suppress(ConfigError):
        return record.name_of(app.reference()._asdict())
    return None


class _Watched:
    """The store, and an ear for what exchanges find to do."""

    def __init__(self, backend: Backend, heard: Callable[[bool, bool], None]) -> None:
        self._backend = backend
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def exchange(self, owner: str, *, want: Want = NOTHING, **rest: Any) -> Exchanged:
        answer = self._backend.exchange(owner, want=want, **rest)
        self._heard(bool(answer.claimed), want.total > 0 and answer.next_due != 0)
        return answer
