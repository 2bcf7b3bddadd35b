"""The blocking client, awaitable: its calls run on threads and finish even if whoever awaits them is cancelled."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from jobcard.backends.asynchronous import THREADS, Bundles, Calls, Send, set_result, tell_loop
from jobcard.backends.base import Enqueued
from jobcard.core.job import NewJob

if TYPE_CHECKING:
    from jobcard.client.watcher import Told, Watcher


class Threads(Calls):
    """Runs one client's blocking calls; closed, it lets those under way finish and refuses what has only gathered."""

    def __init__(self, send: Send) -> None:
        super().__init__(THREADS, what="Jobcard")
        self._bundles = Bundles(self, send)

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Store one job, together with what gathers while an earlier call runs."""
        return (await self._bundles.add([job]))[0]

    async def wait(self, watcher: Watcher, job_id: bytes, timeout: float | None) -> Told | None:
        """What the watcher tells of this job; None: nothing within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Told] = loop.create_future()

        def tell(told: Told) -> None:
            tell_loop(loop, partial(set_result, heard, told))

        watcher.watch(job_id, tell)
        try:
            await asyncio.wait([heard], timeout=timeout)
            return heard.result() if heard.done() else None
        finally:
            watcher.unwatch(job_id, tell)
