"""What a store holds in the end, and how jobs ended on the way, if somebody watched.

A SQLite file is read as it is, without the library under test, and a trigger in it watches. A server's store is read
through its public backend, and watched by a thread that asks again and again who has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import apsw

from helpers.waiting import wait_until
from jobcard.backends.base import Backend, Filter
from jobcard.backends.registry import open_backend
from jobcard.core.job import JobRow
from jobcard.core.states import ENDED
from jobcard.errors import StoreError

PAGE = 1_000
SECOND = 1_000_000


class Row(NamedTuple):
    """What the checker needs of a stored job. id in hex; result as stored text."""

    id: str
    state: str
    token: int
    result: str | None = None
    attempt: int = 1
    max_attempts: int = 5
    crashes: int = 0
    max_crashes: int = 3
    interrupts: int = 0
    reason: str | None = None
    name: str = ""
    unique_key: str | None = None


class Ending(NamedTuple):
    """One move into (`ended`) or out of an end state, as the store saw it. token: the job's after the move."""

    id: str
    ended: bool
    state: str
    token: int


@dataclass(frozen=True)
class Stored:
    """The jobs, and the moves into and out of end states in their order, if somebody watched."""

    rows: Sequence[Row]
    endings: Sequence[Ending] = field(default=())


_COLUMNS = (
    "lower(hex(id)), state, claim_token, result, attempt, max_attempts, crashes, max_crashes, "
    "interrupts, reason, name, unique_key"
)
_WATCH = """
create table if not exists checker_endings (
    n integer primary key autoincrement, id blob, ended integer, state text, token integer);
create trigger if not exists checker_watch after update of state on jobcard_jobs
when (new.state in ('completed', 'failed', 'canceled')) or (old.state in ('completed', 'failed', 'canceled'))
begin
    insert into checker_endings (id, ended, state, token)
    values (new.id, new.state in ('completed', 'failed', 'canceled'), new.state, new.claim_token);
end;
"""


def file_of(url: str) -> Path | None:
    """The SQLite file of a store; None: it is a server's."""
    scheme, _, path = url.partition("://")
    return Path(path[1:].partition("?")[0]) if scheme == "sqlite" else None


def watch_endings(file: Path) -> None:
    """Let a migrated SQLite file remember every move into or out of an end state."""
    _execute(file, _WATCH)


def read_store(place: Path | str) -> Stored:
    """Everything in a store, by its file or its URL."""
    if isinstance(place, str):
        if (file := file_of(place)) is None:
            return Stored([_row(job) for job in _jobs(place)])
        place = file
    rows = [Row(*values) for values in _execute(place, f"select {_COLUMNS} from jobcard_jobs order by n")]  # noqa: S608
    endings: list[Ending] = []
    if _execute(place, "select 1 from sqlite_schema where name = 'checker_endings'"):
        found = _execute(place, "select lower(hex(id)), ended, state, token from checker_endings order by n")
        endings = [Ending(job_id, bool(ended), state, token) for job_id, ended, state, token in found]
    return Stored(rows, endings)


class Watch:
    """Sees how jobs end in a server's store. What ends twice within a moment shows as once.

    It cannot tell an operator's retry from a job that ended twice: where there are such, do not watch.
    """

    def __init__(self, url: str) -> None:
        self.endings: list[Ending] = []
        self._store = open_backend(url)
        self._seen: dict[bytes, tuple[str, int, int | None]] = {}
        self._since: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checker-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look once more, and end."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._look()
            self._store.close()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._look()

    def _look(self) -> None:
        try:
            now = self._store.facts().now
            where = Filter(states=sorted(ENDED), touched_since=self._since)
            for job in _pages(self._store, where):
                end = (job.state, job.claim_token, job.finished_at)
                if self._seen.get(job.id) != end:
                    self._seen[job.id] = end
                    self.endings.append(Ending(job.id.hex(), True, job.state, job.claim_token))
        except StoreError:
            return  # it is away, as it is meant to be in some tests; what ended meanwhile is seen later
        # Transactions that were under way may show what is somewhat older.
        self._since = now - 5 * SECOND


def _jobs(url: str) -> list[JobRow]:
    store = open_backend(url)
    try:
        return _pages(store, Filter())
    finally:
        store.close()


def _pages(store: Backend, where: Filter) -> list[JobRow]:
    page = store.list(where, limit=PAGE)
    found = [*page.rows]
    while page.below is not None:
        page = store.list(where, limit=PAGE, before_id=page.below)
        found += page.rows
    return found


def _row(job: JobRow) -> Row:
    return Row(
        job.id.hex(),
        job.state,
        job.claim_token,
        job.result,
        job.attempt,
        job.max_attempts,
        job.crashes,
        job.max_crashes,
        job.interrupts,
        job.reason,
        job.name,
        job.unique_key,
    )


def _execute(file: Path, statement: str) -> list[tuple[object, ...]]:
    """One statement; while others come and go, or a WAL is brought in order after a kill, it is tried again."""
    found: list[list[tuple[object, ...]]] = []

    def done() -> bool:
        connection = apsw.Connection(str(file))
        try:
            connection.set_busy_timeout(10_000)
            found.append(list(connection.execute(statement)))
        except (apsw.ProtocolError, apsw.BusyError):
            return False
        finally:
            connection.close()
        return True

    wait_until(done, "a look into the file")
    return found[-1]
