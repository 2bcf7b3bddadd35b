"""Reaching behind a store, and using it from several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import SpawnContext
from typing import Any

from jobcard.backends.base import Backend
from jobcard.backends.redis import RedisBackend
from jobcard.backends.sqlite import SQLiteBackend

SPAWN: SpawnContext = multiprocessing.get_context("spawn")
LIBRARIES = ("apsw", "sqlite3")
"""The two bodies a SQLite store can have."""
PATIENCE = 60
"""Seconds after which a process that should have ended counts as stuck."""


def raw(store: SQLiteBackend, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement behind the store's back, through its own connection."""
    with store._writer.use() as connection:
        return connection.execute(sql, values)


def spoil_in_redis(store: Backend, job_id: bytes) -> None:
    """A card that is none; what scripts read of the job is whole."""
    assert isinstance(store, RedisBackend)
    store._client.hset(store._keys.card, job_id.hex(), b"junk")


def in_processes(target: Callable[..., None], *each: tuple[object, ...]) -> None:
    """Run a function in one new process for each tuple of arguments; all must end well."""
    processes = [SPAWN.Process(target=target, args=args) for args in each]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * len(processes)


def in_fork(action: Callable[[], None]) -> None:
    """Run something in a forked child; it must end well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
