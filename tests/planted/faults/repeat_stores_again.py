"""8. A repeated enqueue does not look for its id, and is stored once more under another."""

import uuid
from collections.abc import Callable
from typing import Any

from jobcard.backends.base import Enqueued, Fate
from planted import method


def _again(true: Callable[..., Enqueued]) -> Callable[..., Enqueued]:
    def find_taken(connection: Any, sql: Any, job: Any) -> Enqueued:
        found = true(connection, sql, job)
        if found.fate is not Fate.REPEATED:
            return found
        [(now,)] = connection.execute("select cast(unixepoch('subsec') * 1000000 as integer)")
        connection.change(sql["enqueue"], (*job._replace(id=uuid.uuid4().bytes), now))
        return Enqueued(Fate.STORED, job.id)

    return find_taken


BREAKS = method("jobcard.backends.sqlite.enqueue:_find_taken", _again)
