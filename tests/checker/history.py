"""What processes say they did, on files outside the store: one line for each event, written at once.

    file    FOLDER/PID-STARTTIME.log, one for each process, opened for appending
    line    nanoseconds of CLOCK_BOOTTIME | event | facts, parted by spaces

    enq-invoke ID [BATCH]  about to enqueue, in one call with others of this number
    enq-ok ID [KEY]     the store has it, under this unique key
    enq-fail ID [KEY]   the store does not have it
    enq-unknown ID      nobody knows
    key KEY ID          the job that a unique key belongs to, as a producer was told
    cancel ID STATE     an operator canceled it, and was told this state
    told ID             a running job heard that it is canceled
    run-begin ID TOKEN ATTEMPT [OTHERS]   OTHERS: processes alive at that moment that ran jobs too, parted by commas;
                                          only from the second claim on
    run-end ID TOKEN    the job's code came to its end, however that was
    frozen PROCESS      its whole host stands still
    thawed PROCESS      … and goes on
    dead PROCESS        somebody saw that this process was gone

A line written with one `write` survives the SIGKILL of its writer, and lines of one file do not mix. Only the last one
may be there in part, when its writer is in the middle of it, or was killed there: it does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "CHECKER_HISTORY"
OVER = "over"
"""The folder below, for files whose writers have ended."""


class Event(NamedTuple):
    """One line. process: "PID-STARTTIME" of its writer."""

    at: int
    process: str
    kind: str
    facts: tuple[str, ...]


class History:
    """Writes the events of this process; a forked child gets a file of its own. Cheap enough for no-op jobs."""

    def __init__(self, folder: str | Path | None = None) -> None:
        """folder: $CHECKER_HISTORY when not given; without either nothing is written."""
        self._folder = folder
        self._pid = 0
        self._fd = -1

    def write(self, kind: str, *facts: object) -> None:
        """Add one event."""
        if os.getpid() != self._pid:
            self._open()
        if self._fd >= 0:
            line = f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {kind} {' '.join(map(str, facts))}\n"
            os.write(self._fd, line.encode())

    @contextmanager
    def run(self, ctx: Any) -> Iterator[None]:
        """Around what a job does. ctx: its `JobContext`."""
        job_id, token = ctx._claim.id.hex(), ctx.token
        # From the second claim on somebody else may still run it: who is there?
        others = (",".join(self.others()) or "nobody",) if token > 1 else ()
        self.write("run-begin", job_id, token, ctx.attempt, *others)
        try:
            yield
        finally:
            self.write("run-end", job_id, token)

    def others(self) -> list[str]:
        """The processes that wrote here and are alive, but for this one."""
        folder = self._folder or os.environ.get(VARIABLE)
        if folder is None:
            return []
        names = [path.stem for path in Path(folder).glob("*.log")]
        return [name for name in names if not name.startswith(f"{os.getpid()}-") and is_alive(name)]

    def _open(self) -> None:
        pid, fd = os.getpid(), -1
        folder = self._folder or os.environ.get(VARIABLE)
        if folder is not None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(Path(folder) / f"{process_name(pid)}.log", flags, 0o600)
        # At once: the job that writes may be told to end at any moment, and the next one writes here too.
        self._pid, self._fd = pid, fd


def read_history(folder: Path) -> list[Event]:
    """All events of all processes, by time."""
    events = []
    for path in sorted(folder.rglob("*.log")):
        process = path.stem
        for line in path.read_text().rpartition("\n")[0].splitlines():
            at, kind, *facts = line.split(" ")
            events.append(Event(int(at), process, kind, tuple(facts)))
    return sorted(events)


# ------------------------------------------------------------------ processes


def process_name(pid: int) -> str:
    """A name no other process of this boot has had or will have."""
    return f"{pid}-{_stat(pid)[1]}"


def is_alive(process: str) -> bool:
    """Whether this very process still runs; a zombie does not."""
    pid, _, started = process.partition("-")
    state, found = _stat(int(pid))
    return found == started and state not in ("", "Z", "X")


def alive(processes: Iterable[str]) -> list[str]:
    """Those of the processes that still run."""
    return [process for process in processes if is_alive(process)]


def _stat(pid: int) -> tuple[str, str]:
    """(state, start time) of a process; ("", "") when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return "", ""
