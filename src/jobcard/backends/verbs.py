"""What every verb of every store does besides its work: it keeps to `readonly`, says how long it took and which schema
it met."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, Protocol, TypeVar, cast

from jobcard.backends.roles import way_out
from jobcard.errors import AccessDeniedError, ConfigError, StoreError

_log = logging.getLogger("jobcard.store")

WRITES = frozenset(
    {
        "migrate",
        "rollback",
        "truncate",
        "enqueue",
        "exchange",
        "renew",
        "find_held",
        "let_in",
        "unpark",
        "release_dependents",
        "apply_by_operator",
        "prune",
        "delete",
        "write_record",
        "remove_record",
        "put",
        "put_once_keys",
        "erase",
        "seal",
    }
)
"""The verbs that write, or may: `find_held` takes a claim that cannot be read from whoever let its lease run out."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class NotUnderstoodError(StoreError):
    """The store did not understand us: what we rely on is missing, or not of this version. Each store has its own."""


class NotAllowedError(AccessDeniedError):
    """The user who was let in may not do this."""


class _Store(Protocol):
    @property
    def capabilities(self) -> _Capabilities: ...

    def check_schema(self) -> None: ...


class _Capabilities(Protocol):
    @property
    def readonly(self) -> bool: ...


class Verb:
    """Decorates the verbs of a store."""

    def __init__(self, door: AbstractContextManager[None] | None = None) -> None:
        """door: what the verb is called within, where the driver is not behind one already."""
        self._door = door or nullcontext()

    def __call__(self, method: Callable[_P, _R]) -> Callable[_P, _R]:
        door = self._door
        may_write = method.__name__ in WRITES

        @functools.wraps(method)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if may_write and cast(_Store, args[0]).capabilities.readonly:
                raise ConfigError(f"this store is open with readonly=1: {method.__name__} would change it")
            started = time.perf_counter()
            try:
                with door:
                    return method(*args, **kwargs)
            except NotUnderstoodError:
                cast(_Store, args[0]).check_schema()
                raise
            except NotAllowedError as error:
                raise AccessDeniedError(f"{error}; {way_out(method.__name__)}") from error.__cause__
            finally:
                if _log.isEnabledFor(logging.DEBUG):
                    _log.debug("%s took %.3f ms", method.__name__, 1e3 * (time.perf_counter() - started))

        return call
