"""One client's way to its store: settled, opened and migrated at the first use, shared by all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from jobcard.client import sources
from jobcard.core import context
from jobcard.core.ids import IdSource
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings, settings_from
from jobcard.errors import ConfigError, StoreUnavailableError

if TYPE_CHECKING:
    from jobcard.backends.base import Backend


class JobcardOptions(TypedDict, total=False):
    """What `Jobcard(…)` and `configure(…)` take beside the URL; durations are seconds or a timedelta."""

    backend: str | type | Backend | None
    config: Mapping[str, Any] | None
    moving_to: str | None
    queues: Iterable[Queue]
    imports: Iterable[str]
    max_concurrent_jobs: int
    processes: int | None
    start_method: Literal["auto", "spawn", "template"]
    worker_client: Literal["engine", "direct"]
    recycle_after: int | None
    memory_limit: int | None
    lease: float | timedelta
    heartbeat: float | timedelta
    poll_interval: float | timedelta
    stop_timeout: float | timedelta
    cancel_grace: float | timedelta
    keep_completed: float | timedelta
    keep_failed: float | timedelta
    migrate: bool
    strict_durability: bool
    readonly: bool
    encryption_key: str | Callable[[], str] | None
    encryption_key_env: str | None


_OF_STORES = ("readonly", "encryption_key", "encryption_key_env")
"""Options of the store that have a name here as well."""

_ids = IdSource()  # one for the process, so that ids rise whichever client makes them
_here = threading.local()


class Connection:
    """Opens the store at first use and lends it: `with connection as store: store.get(…)`.

    A thread is in one such block at a time: a signal handler or finalizer that comes in between gets a
    `StoreUnavailableError` at once, where waiting for the locks of its own thread would never end.
    """

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        self._checked = Settings()
        self._settled: Settings | None = None
        self._backend: Backend | None = None
        self._ready: Backend | None = None
        self._lends = 0  # how many other stores are lent instead, one inside the other
        self._closed = False
        self._lock = threading.Lock()

    # -- settings

    def configure(self, given: Mapping[str, Any]) -> None:
        """Take settings, checked at once; `ConfigError` after the first use."""
        if self._settled is not None:
            raise ConfigError("this Jobcard is in use: configure it before its first use")
        merged = {**self._given, **given}
        self._checked = settings_from(**_plain({name: value for name, value in merged.items() if name != "backend"}))
        self._given = merged

    @property
    def settings(self) -> Settings:
        """What holds from the first use on, the URL looked up."""
        if self._settled is None:
            settings = self._checked
            if self._lends:
                return settings  # another store is used for a while, and ours not settled by that
            if settings.url is None and self.own_backend is None:
                settings = replace(settings, url=sources.find_url())
            if settings.moving_to is None:
                settings = replace(settings, moving_to=sources.find_moving_to())
            if callable(key := self._given.get("encryption_key")):
                # An engine's process cannot be handed a function, and is handed the key, as it is a password.
                settings = replace(settings, config={**(settings.config or {}), "encryption_key": _asked(key)})
            self._settled = settings
        return self._settled

    @property
    def declared_queues(self) -> tuple[Queue, ...]:
        """The queues that code gave."""
        return self._checked.queues

    @property
    def own_backend(self) -> str | type | Backend | None:
        """The store, or its class, that code gave instead of a URL alone."""
        given: str | type | Backend | None = self._given.get("backend")
        return given

    def use(self, **store: Any) -> None:
        """Open this store (`url`, `config`, `moving_to`), whatever the application says: in a worker, its engine's."""
        self._settled = replace(self.settings, **store)

    # -- the store

    def __enter__(self) -> Backend:
        _enter()
        try:
            return self._ready or self._open()
        except BaseException:
            _leave()
            raise

    def __exit__(self, *_: object) -> None:
        _leave()

    def as_it_is(self) -> AbstractContextManager[Backend]:
        """Lends the store to one thread whatever its schema and its settings, to be looked over."""
        return _Alone(self)

    def direct(self) -> AbstractContextManager[Backend]:
        """Lends the store itself inside a job too, where its engine stands in between else: for very much data."""
        inside = context.inside_worker
        return self if inside is None or inside.backend is None else _Alone(self)

    @contextmanager
    def itself(self) -> Iterator[Backend]:
        """Lends the store itself inside a job too, for a call that may wait for what its own process does meanwhile."""
        inside = context.inside_worker
        if inside is None or inside.backend is None:
            with self as store:
                yield store
            return
        _enter()
        try:
            with self._lock:
                store = self._made()
            yield store
        finally:
            _leave()

    def _open(self) -> Backend:
        if self._closed:
            raise ConfigError("this Jobcard is closed")
        if context.inside_worker is not None and context.inside_worker.backend is not None:
            return context.inside_worker.backend  # type: ignore[no-any-return]
        from jobcard.backends.ready import make_ready

        with self._lock:
            if self._ready is None:
                backend = self._made()
                make_ready(backend, migrate=self.settings.migrate, strict_durability=self.settings.strict_durability)
                self._ready = backend
            return self._ready

    def _made(self) -> Backend:
        from jobcard.backends.registry import open_backend  # only now: `import jobcard` loads no store

        if self._backend is None:
            settings = self.settings
            self._refuse_in_vain()
            self._backend = open_backend(
                settings.url, settings.config, backend=self.own_backend, moving_to=settings.moving_to
            )
        return self._backend

    def _refuse_in_vain(self) -> None:
        # What nobody heeds would be a promise that nobody keeps.
        if not isinstance(self.own_backend, (str, type, NoneType)):
            for name in _OF_STORES:
                if self._given.get(name):
                    raise ConfigError(f"{name} is for a store that is opened here; this one was made without it")

    def lend_instead(self, backend: Backend) -> Callable[[], None]:
        """Lend this store, which is ready, to everybody until what comes back is called."""
        with self._lock:
            if self._closed:
                raise ConfigError("this Jobcard is closed")
            before = self._backend, self._ready
            self._backend = self._ready = backend
            self._lends += 1

        def lend_again() -> None:
            with self._lock:
                self._lends -= 1
                opened, ready = before
                if not self._closed:
                    self._backend, self._ready = opened, ready
                elif opened is not None:
                    opened.close()

        return lend_again

    def time(self) -> int:
        """The store's time; it is asked."""
        with self as store:
            return store.facts().now

    def migrate(self) -> list[int]:
        """Bring the schema to this code's version; the versions applied."""
        refuse_in_job("the schema cannot be changed")
        with _Alone(self) as backend:
            applied = backend.migrate()
            self._ready = backend
            return applied

    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when there is none."""
        refuse_in_job("the schema cannot be changed")
        with _Alone(self) as backend:
            self._ready = None
            return backend.rollback()

    def truncate(self) -> None:
        """Delete every job, queue and record."""
        refuse_in_job("the store cannot be emptied")
        with self as store:
            store.truncate()

    def take_ids(self, count: int) -> list[bytes]:
        """New job ids, rising."""
        _enter()
        try:
            return _ids.take(count)
        finally:
            _leave()

    def close(self) -> None:
        """Let go of the store for good."""
        _enter()
        try:
            with self._lock:
                self._closed = True
                backend, self._backend, self._ready = self._backend, None, None
            if backend is not None:
                backend.close()
        finally:
            _leave()

    def after_fork(self) -> None:
        """In a forked child: forget locks that threads of the parent held. The store sees to its connections."""
        self._lock = threading.Lock()


class _Alone:
    """Lends a store whose schema may be missing or old, to one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Backend:
        connection = self._connection
        _enter()
        connection._lock.acquire()
        try:
            if connection._closed:
                raise ConfigError("this Jobcard is closed")
            return connection._made()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._connection._lock.release()
        _leave()


def refuse_in_job(what: str) -> None:
    """`ConfigError` inside a job. what: what cannot be done there."""
    if context.inside_worker is not None:
        raise ConfigError(f"{what} from inside a job: do it in a process of its own")


def _enter() -> None:
    if getattr(_here, "inside", False):
        raise StoreUnavailableError(
            "this thread is in the middle of another call to the store: "
            "a signal handler or finalizer came in between; let it set a flag and make the call outside"
        )
    _here.inside = True


def _leave() -> None:
    _here.inside = False


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """The settings in the types `Settings` keeps."""
    url, config, moving_to = given.get("url"), given.get("config"), given.get("moving_to")
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"the store URL must be text, not {type(url).__name__}")
    if not isinstance(moving_to, (str, type(None))):
        raise ConfigError(f"moving_to must be the URL of a store, not {type(moving_to).__name__}")
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"config must be a dict of store options, not {type(config).__name__}")
    plain = dict(given)
    if config is not None:
        plain["config"] = {_text(name): _plain_option(name, value) for name, value in config.items()}
    for name, kind in (("queues", Queue), ("imports", str)):
        if name in given:
            plain[name] = _all_of(given[name], kind, name)
    for name in ("migrate", "strict_durability", "readonly"):
        if not isinstance(given.get(name, False), bool):
            raise ConfigError(f"{name} must be True or False, not {type(given[name]).__name__}")
    for name in _OF_STORES:
        value = plain.pop(name, None)
        if value is not None and value is not False and not callable(value):
            plain["config"] = {**(plain.get("config") or {}), name: value}
    return plain


def _asked(give_key: Callable[[], object]) -> object:
    try:
        return give_key()
    except Exception as error:
        raise ConfigError(f"encryption_key: the function that gives it failed ({type(error).__name__})") from error


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"config: an option's name must be text, not {type(name).__name__}")
    return name


def _plain_option(name: str, value: object) -> str | float | bool | None:
    # An engine's process gets them as JSON.
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ConfigError(f"config: {name} must be text, a number, True, False, None or a timedelta")


def _all_of(values: object, kind: type, name: str) -> tuple[Any, ...]:
    items = tuple(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else None
    if items is None or not all(isinstance(item, kind) for item in items):
        raise ConfigError(f"{name} must be a list of {kind.__name__}")
    return items
