"""Calls of a move to its stores: one that is away for a moment is asked again, for every call may be repeated."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from jobcard.backends.base import Backend
from jobcard.errors import StoreUnavailableError

log = logging.getLogger("jobcard.moving")

P = ParamSpec("P")
T = TypeVar("T")

AWAY_SECONDS = 60.0
"""A store that has not answered for so long is away; the same command goes on from there later."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call that may be made twice, until the store answers, a minute at most."""
    until = time.monotonic() + AWAY_SECONDS
    wait = FIRST_WAIT
    while True:
        try:
            return call(*args, **kwargs)
        except StoreUnavailableError as error:
            if time.monotonic() + wait > until:
                raise
            log.warning("moving: %s; trying again", error)
        time.sleep(wait)
        wait = min(LONGEST_WAIT, 2 * wait)


def patient(store: Backend) -> Backend:
    """The same store, with every verb called patiently: only for those that may be called twice."""
    return cast(Backend, _Patient(store))


class _Patient:
    def __init__(self, store: Backend) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return functools.partial(patiently, found) if callable(found) else found
