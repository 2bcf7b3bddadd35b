"""The engines that one client has started in its process, or stands by for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from jobcard.backends.base import Backend
from jobcard.backends.ready import refuse_to_look_only
from jobcard.core import context
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.dashboards import DashboardProcess
    from jobcard.client.parts import Parts
    from jobcard.core.reference import AppReference
    from jobcard.core.settings import Settings
    from jobcard.engine.inprocess import InProcessEngine
    from jobcard.engine.once import Place

Stop = Callable[[], None]


class _Engine(Protocol):
    @property
    def running(self) -> bool: ...


class Started:
    """Starts engines for one `Jobcard` and stops them; any thread may use it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: what was started stayed with the parent."""
        # Entered again by a signal handler that stops what its own thread is just starting.
        self._lock = threading.RLock()
        self._engines: list[tuple[_Engine, Stop]] = []
        self._dashboard: DashboardProcess | None = None

    @property
    def does_nothing(self) -> bool:
        """Whether starting engines is to do nothing here: in a worker, inside a job, under test."""
        return context.inside_worker is not None or context.current.get() is not None or self._parts.is_tested

    def start(self, find_reference: Callable[[], AppReference], *, another: bool) -> Stop | None:
        """An engine in processes of its own; what stops it, None: there was one of ours."""
        from jobcard.engine.control import start_keeper
        from jobcard.engine.once import OneEngine, find_place

        with self._lock:
            if not another and self._any_runs():
                return None
            settings, identity = self._settings(), self._identity()
            reference = find_reference()
            if another:
                keeper = start_keeper(settings, reference)
                return self._keep(keeper, lambda: _stop_keeper(keeper, settings))
            one = OneEngine(
                find_place(identity, reference),
                lambda place: start_keeper(settings, reference, place=place),
                self._is_ready,
            )
            one.begin()
            return self._keep(one, lambda: one.stop(settings.stop_timeout))

    def show_dashboard(self, find_reference: Callable[[], AppReference], port: int | None) -> None:
        """A dashboard in a process of its own, if there is none of ours. port: None: the usual one."""
        from jobcard.client.dashboards import DashboardProcess
        from jobcard.core.limits import DASHBOARD_PORT

        with self._lock:
            if self._dashboard is None:
                self._dashboard = DashboardProcess(find_reference(), None, DASHBOARD_PORT if port is None else port)

    def run(self, find_reference: Callable[[], AppReference]) -> int:
        """An engine in the foreground; its exit code."""
        from jobcard.engine.control import run_foreground

        settings, identity = self._settings(), self._identity()
        reference = find_reference()
        return run_foreground(settings, reference, place=_place(identity, reference))

    def start_in_process(self, app: Any) -> Stop | None:
        """An engine on threads of this process; what stops it, None: there was one of ours."""
        with self._lock:
            if self._any_runs():
                return None
            engine = self._in_process(app, until_empty=False)
            engine.start()
            return self._keep(engine, engine.stop)

    def run_in_process(self, app: Any, *, until_empty: bool) -> int:
        """An engine in this thread; its exit code."""
        with self._lock:
            engine = self._in_process(app, until_empty=until_empty)
            stop = self._keep(engine, engine.stop)
        try:
            return engine.run()
        finally:
            self._forget(stop)

    def stop(self, only: Stop | None = None) -> None:
        """Stop what was started here, the last first. only: this one."""
        with self._lock:
            stopping = [stop for _engine, stop in reversed(self._engines) if only is None or stop is only]
            self._engines = [each for each in self._engines if each[1] not in stopping]
            dashboard = self._dashboard if only is None else None
            if only is None:
                self._dashboard = None
        with contextlib.ExitStack() as all_of_them:
            for stop in reversed(stopping):
                all_of_them.callback(stop)
            if dashboard is not None:
                all_of_them.callback(dashboard.close)

    # -- inside

    def _keep(self, engine: _Engine, stop: Stop) -> Stop:
        self._engines = [each for each in self._engines if each[0].running]
        self._engines.append((engine, stop))
        return stop

    def _forget(self, stop: Stop) -> None:
        with self._lock:
            self._engines = [each for each in self._engines if each[1] is not stop]

    def _any_runs(self) -> bool:
        return any(engine.running for engine, _stop in self._engines)

    def _settings(self) -> Settings:
        if self._parts.connection.own_backend is not None:
            raise ConfigError(
                "an engine opens the store by its URL in a process of its own: give url=, not backend=, or use "
                "jobs.running(in_process=True)"
            )
        return self._parts.connection.settings

    def _identity(self) -> str:
        with self._parts.connection as store:
            if not store.capabilities.survives_process:
                raise ConfigError(
                    "this store lives in this process's memory only, and an engine is another process: use "
                    "jobs.running(in_process=True)"
                )
            refuse_to_look_only(store)
            return store.facts().identity

    def _is_ready(self, keeper: int) -> bool:
        host = socket.gethostname()
        return any(
            engine.keeper_pid == keeper and engine.host == host and engine.queues
            for engine in self._parts.engines.list()
        )

    def _in_process(self, app: Any, *, until_empty: bool) -> InProcessEngine:
        from jobcard.engine.inprocess import InProcessEngine

        backend, owned = self._store_for_threads()
        return InProcessEngine(app, self._parts.connection.settings, backend, owned=owned, until_empty=until_empty)

    def _store_for_threads(self) -> tuple[Backend, bool]:
        """The client's own store where there can be no second one; else one with an engine's short patience."""
        from jobcard.backends.registry import open_backend
        from jobcard.engine.engine import BUSY_SECONDS

        connection = self._parts.connection
        given = connection.own_backend
        with connection as store:
            if not store.capabilities.survives_process or (given is not None and not isinstance(given, (str, type))):
                return store, False
        settings = connection.settings
        moving_to = settings.moving_to
        opened = open_backend(settings.url, settings.config, backend=given, moving_to=moving_to, patience=BUSY_SECONDS)
        return opened, True


def _place(identity: str, reference: AppReference) -> Place | None:
    # A foreground engine runs in any case; this only lets others see that it is there.
    from jobcard.engine.once import find_place, try_place

    try:
        return try_place(find_place(identity, reference))
    except ConfigError:
        return None


def _stop_keeper(keeper: Any, settings: Settings) -> None:
    keeper.stop(settings.stop_timeout)
