"""What the store holds in the end, and, where a trigger was put into the SQLite file, how jobs ended on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import apsw


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


def watch_endings(file: Path) -> None:
    """Let a migrated SQLite file remember every move into or out of an end state."""
    _execute(file, _WATCH)


def read_store(file: Path) -> Stored:
    """Everything in a SQLite file; as it is, without the library under test."""
    rows = [Row(*values) for values in _execute(file, f"select {_COLUMNS} from jobcard_jobs order by n")]  # noqa: S608
    endings: list[Ending] = []
    if _execute(file, "select 1 from sqlite_schema where name = 'checker_endings'"):
        found = _execute(file, "select lower(hex(id)), ended, state, token from checker_endings order by n")
        endings = [Ending(job_id, bool(ended), state, token) for job_id, ended, state, token in found]
    return Stored(rows, endings)


def _execute(file: Path, statement: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(file))
    try:
        connection.set_busy_timeout(10_000)
        return list(connection.execute(statement))
    finally:
        connection.close()
