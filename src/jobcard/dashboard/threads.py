"""What views run on: a few threads, so that no flood of visitors is one on the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jobcard.dashboard.refusal import Refused

T = TypeVar("T")

MOST_THREADS = 4
MOST_WAITING = 100
PATIENCE = 10.0
"""Seconds until a visitor is told to come again; what was begun goes on to its end, what was not never begins."""


class Threads:
    """At most `size` calls at once, and no more than `MOST_WAITING` before them."""

    def __init__(self, name: str, size: int = MOST_THREADS) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"jobcard-{name}")
        self._under_way = 0
        self._most = size + MOST_WAITING

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns; `Refused` when too many wait, or it takes too long."""
        if self._under_way >= self._most:
            raise Refused(503, "Too many ask at once. Try again in a moment.", {"Retry-After": "2"})
        self._under_way += 1
        begun = self._executor.submit(call)
        work = asyncio.wrap_future(begun)
        work.add_done_callback(self._ended)
        try:
            # Shielded: a thread cannot be stopped, and counts until it has ended.
            return await asyncio.wait_for(asyncio.shield(work), PATIENCE)
        except TimeoutError:
            begun.cancel()  # what waits for a thread must not be done behind the back of who was told to ask again
            raise Refused(503, "The store takes long to answer. Try again.", {"Retry-After": "5"}) from None

    def _ended(self, work: asyncio.Future[T]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            work.exception()  # heard: nobody may be left to hear it

    def close(self) -> None:
        """Let what runs end, and start nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
