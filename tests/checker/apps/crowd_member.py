"""`python -m crowd_member SEED`: enqueues what it is told to on its input, until each job is acknowledged.

    batch N             N jobs of every kind in one call, all or nothing
    race GATE KEY …     one job for each unique key, at work until the file GATE is there; others race for the same keys

Ids are its own, so that what may have been stored is repeated and never doubled, as an application should that must not
lose a job. The history says of each id what was known of it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any
from uuid import UUID

from load import crash_first, fail_first, hardy, jobs, once, poison

from checker.history import History
from jobcard.backends.base import Fate
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.core.ids import IdSource
from jobcard.errors import EnqueueUnknownError, StoreError

AGAIN_SECONDS = 0.05
LONGEST = 0.5


class Member:
    """One producer."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._history = History()
        self._ids = IdSource()
        self._batches = 0
        self._store = open_backend(os.environ["JOBCARD_URL"])

    def serve(self) -> None:
        """Do what the lines of the input say."""
        for line in sys.stdin:
            verb, *rest = line.split()
            if verb == "batch":
                self._batch(int(rest[0]))
            else:
                gate, *keys = rest
                for key in keys:
                    self._race(gate, key)

    def _batch(self, count: int) -> None:
        self._batches += 1
        ids = self._ids.take(count)
        for job_id in ids:
            self._history.write("enq-invoke", job_id.hex(), self._batches)
        calls = [self._a_job(UUID(bytes=job_id)) for job_id in ids]
        while not self._stored(ids, calls):
            time.sleep(AGAIN_SECONDS)
        for job_id in ids:
            self._history.write("enq-ok", job_id.hex())

    def _stored(self, ids: list[bytes], calls: list[Any]) -> bool:
        try:
            jobs.enqueue_many(calls)
        except StoreError as error:
            # Of the others it is known that nothing was stored; the same is tried again.
            if isinstance(error, EnqueueUnknownError):
                for job_id in ids:
                    self._history.write("enq-unknown", job_id.hex())
            return False
        return True

    def _race(self, gate: str, key: str) -> None:
        [job_id] = self._ids.take(1)
        self._history.write("enq-invoke", job_id.hex())
        job = factory.new_job(id=job_id, name="load.until", args=json.dumps([gate]), unique_key=key)
        while True:
            try:
                [answer] = self._store.enqueue([job])
            except StoreError:
                self._history.write("enq-unknown", job_id.hex())
                time.sleep(AGAIN_SECONDS)
                continue
            won = answer.fate in (Fate.STORED, Fate.REPEATED)
            self._history.write("enq-ok" if won else "enq-fail", job_id.hex(), key)
            self._history.write("key", key, answer.existing.hex())
            return

    def _a_job(self, job_id: UUID) -> Any:
        """Most do nothing; some are at work for a while; a few fail once, crash once, crash always, may run once."""
        kind = self._chance.random()
        if kind < 0.01:
            job, arguments = poison, ()
        elif kind < 0.02:
            job, arguments = crash_first, ()
        elif kind < 0.05:
            job, arguments = fail_first, ()
        elif kind < 0.08:
            job, arguments = once, (0.02,)
        else:
            job, arguments = hardy, (self._chance.random() * LONGEST,) if kind < 0.38 else ()
        return job.options(id=job_id).call(*arguments)


if __name__ == "__main__":
    Member(int(sys.argv[1])).serve()
