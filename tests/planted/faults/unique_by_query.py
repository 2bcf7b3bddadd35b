"""11. A unique key is looked for, then the job is stored: two at once find nothing and both are stored."""

from collections.abc import Callable, Sequence
from typing import Any

from jobcard.backends.base import Enqueued, Fate
from planted import method, sqlite_text


def _after_a_look(true: Callable[..., list[Enqueued]]) -> Callable[..., list[Enqueued]]:
    def store(connection: Any, sql: Any, jobs: Sequence[Any], now: int) -> list[Enqueued]:
        taken: dict[bytes, bytes] = {}
        for job in jobs:
            found = job.unique_key and connection.execute(sql["find_unique_key"], (job.unique_key,))
            if found:
                taken[job.id] = found[0][0]
        fresh = iter(true(connection, sql, [job for job in jobs if job.id not in taken], now))
        return [Enqueued(Fate.KEY_TAKEN, taken[job.id]) if job.id in taken else next(fresh) for job in jobs]

    return store


BREAKS = {
    **sqlite_text(jobs=("create unique index {prefix}jobs_unique", "create index {prefix}jobs_unique")),
    **method("jobcard.backends.sqlite.enqueue:store", _after_a_look),
}
