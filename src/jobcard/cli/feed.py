"""`jobcard dev`'s news: a line for each job that ends, told by a process that knows the application's store."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobcard.cli import output

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.core.job import JobRow
    from jobcard.core.view import Job

_LOOK_SECONDS = 0.2
_PAGE = 1_000
_OVERLAP = 2_000_000  # microseconds: what is stored a moment late is seen by the next look
_ROOT = str(Path(__file__).resolve().parents[2])
_FEED = f"import sys; sys.path.append({_ROOT!r}); from jobcard.cli.feed import main; main()"


class Feed:
    """The process that tells. It imports the application as it is now, to find its store, and ends with us."""

    def __init__(self, reference: dict[str, Any], url: str | None, since: float) -> None:
        """since: jobs that ended then or later are told (`time.time`)."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _FEED],
            stdin=subprocess.PIPE,
            # Ctrl-C is for who started us.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        color = output.wants_color(sys.stderr)
        document = {"reference": reference, "url": url, "since": since, "color": color}
        try:
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return  # it has said why

    def close(self) -> None:
        """End it when it has told the last news."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                return
        self._process.wait()


def main() -> None:
    """Tell news until standard input ends."""
    from jobcard.cli.application import load_for_reading
    from jobcard.core.reference import AppReference
    from jobcard.errors import JobcardError

    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    asked = json.loads(sys.stdin.readline())
    try:
        with load_for_reading(AppReference(**asked["reference"]), asked["url"]) as jobs:
            _tell_news(jobs, since=asked["since"], color=asked["color"])
    except JobcardError as error:
        output.complain(str(error), "jobcard dev: no news of jobs")


def _tell_news(jobs: Jobcard, *, since: float, color: bool) -> None:
    """A line for each job that ends."""
    news = News(jobs, ago=time.time() - since)
    while True:
        told_to_end = bool(select.select((sys.stdin,), (), (), _LOOK_SECONDS)[0])
        for job in news.look():
            output.note(line_of(job, color=color))
        if told_to_end:
            return


class News:
    """Jobs that ended, each once. ago: seconds; those that ended longer ago are no news."""

    def __init__(self, jobs: Jobcard, *, ago: float) -> None:
        self._jobs = jobs
        with jobs.parts.connection as store:
            # By the store's clock, as the stamps of its jobs.
            self._first = store.facts().now - round(ago * 1e6)
        self._since = self._from = self._first
        self._below: bytes | None = None
        self._told: dict[tuple[bytes, int], int] = {}

    def look(self) -> list[Job]:
        """Those of the moment, in the order they ended."""
        from jobcard.backends.base import Filter
        from jobcard.core.states import ENDED

        if self._below is None:
            self._from = max(self._first, self._since - _OVERLAP)
        where = Filter(states=sorted(ENDED), touched_since=self._from)
        found, until = [], time.monotonic() + _LOOK_SECONDS
        with self._jobs.parts.connection as store:
            while True:
                page = store.list(where, limit=_PAGE, before_id=self._below)
                found += [row for row in page.rows if self._is_new(row)]
                self._below = page.below
                # Where many jobs were touched a look goes through all; the next one then goes on with it.
                if self._below is None or time.monotonic() >= until:
                    break
        self._told = {key: ended for key, ended in self._told.items() if ended >= self._from - _OVERLAP}
        found.sort(key=lambda row: row.finished_at or 0)
        return [self._jobs.parts.lookup.view(row) for row in found]

    def _is_new(self, row: JobRow) -> bool:
        ended, key = row.finished_at or 0, (row.id, row.finished_at or 0)
        if ended < self._first or key in self._told:
            return False
        self._told[key] = ended
        self._since = max(self._since, ended)
        return True


def line_of(job: Job, *, color: bool) -> str:
    """One ended job: when, how, after how many seconds, which one; and why, if it did not complete."""
    seconds = ""
    if job.started_at is not None and job.finished_at is not None:
        seconds = f"{(job.finished_at - job.started_at).total_seconds():.3f} s"
    state = f"{job.state:<9}"
    if color:
        state = _colored(job.state, state)
    parts = (_clock(job), state, f"{seconds:>10}", output.one_line(job.name), str(job.id), _why(job))
    return "  ".join(part for part in parts if part).rstrip()


def _clock(job: Job) -> str:
    ended = job.finished_at
    return time.strftime("%H:%M:%S") if ended is None else f"{ended.astimezone():%H:%M:%S}"


def _colored(state: str, text: str) -> str:
    number = {"completed": 32, "failed": 31, "canceled": 35}.get(state, 0)
    return f"\x1b[{number}m{text}\x1b[0m"


def _why(job: Job) -> str:
    if job.state == "completed" or job.error is None:
        return ""
    said = ": ".join(str(job.error[part]) for part in ("type", "message") if job.error.get(part))
    return output.one_line(said or job.reason or "")[:200]
