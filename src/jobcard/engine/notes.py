"""What running jobs say of themselves - progress, log lines, checkpoints - until an exchange has carried it.

    said ─► waiting, one note per job ─► flying, in an exchange ─► carried: whoever waits for it is answered
                     ▲                          │
                     └───── it failed: again ───┘

A job that logs in a loop must not fill the store: one note per job and quarter of a second, but a checkpoint, which
its job waits for, goes at once. After an exchange whose answer was lost the same lines may stand twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobcard.core import clock, states
from jobcard.core.job import LAST_LINES, LINES_TEXT, Claimed, Ref

NOTE_SECONDS = 0.25  # between two notes of a job, and how long the first waits for company

Key = tuple[Ref, int]


@dataclass(slots=True, kw_only=True)
class Note:
    """What one job said, not carried yet."""

    claim: Claimed
    worker: int
    since: float
    """When the first of it was said."""
    started: float | None = None
    """When the job began, if the store does not know that it runs."""
    progress: str | None = None
    checkpoint: str | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    """The worker's numbers of those who wait until this is stored."""

    def add(self, newer: Note) -> None:
        """What was said later goes with it."""
        self.started = newer.started if self.started is None else self.started
        self.progress = newer.progress if newer.progress is not None else self.progress
        self.checkpoint = newer.checkpoint if newer.checkpoint is not None else self.checkpoint
        self.lines += newer.lines
        self.calls += newer.calls
        self._forget_old_lines()

    def _forget_old_lines(self) -> None:
        # The store keeps no more, however long it was away.
        del self.lines[:-LAST_LINES]
        size = sum(len(text) for _at, text in self.lines)
        while size > LINES_TEXT and len(self.lines) > 1:
            size -= len(self.lines.pop(0)[1])

    def change(self, sent_at: float) -> states.Change:
        """The move that carries it in an exchange sent at this moment."""
        return states.note(
            self.claim,
            ago=None if self.started is None else _ago(sent_at, self.started),
            progress=self.progress,
            checkpoint=self.checkpoint,
            lines=tuple((_ago(sent_at, at), text) for at, text in self.lines),
        )


def _ago(now: float, at: float) -> int:
    return max(0, round((now - at) * clock.SECOND))


@dataclass(slots=True)
class _Page:
    """What is known of one running job that said something. free_at: when its next note may go."""

    waiting: Note | None = None
    flying: Note | None = None
    free_at: float = 0.0

    def due(self) -> float:
        assert self.waiting is not None
        return self.waiting.since if self.waiting.calls else max(self.waiting.since + NOTE_SECONDS, self.free_at)


class Notes:
    """The notes of one engine's running jobs."""

    def __init__(self) -> None:
        self.pages: dict[Key, _Page] = {}
        """One for each running job that has said something."""
        self._due_at = float("inf")

    def add(self, note: Note) -> None:
        """A running job said this."""
        page = self.pages.setdefault((note.claim.ref, note.claim.token), _Page())
        if page.waiting is None:
            page.waiting = note
        else:
            page.waiting.add(note)
        self._due_at = min(self._due_at, page.due())

    def next_time(self) -> float:
        """When an exchange is due for them."""
        return self._due_at

    def take(self, most: int, now: float) -> list[Note]:
        """Those that may go in an exchange now."""
        taken: list[Note] = []
        self._due_at = float("inf")
        for page in self.pages.values():
            note = page.waiting
            if note is None:
                continue
            if len(taken) < most and page.flying is None and (note.calls or now >= page.free_at):
                page.waiting, page.flying = None, note
                page.free_at = now + NOTE_SECONDS
                taken.append(note)
            else:
                self._due_at = min(self._due_at, max(page.due(), now))
        return taken

    def carried(self, note: Note) -> None:
        """The exchange with this note was answered, whatever became of the note."""
        page = self._page_of(note)
        if page is not None:
            page.flying = None

    def put_back(self, note: Note) -> bool:
        """The exchange with this note failed: it waits again; False: its job has ended, it belongs before the end."""
        page = self._page_of(note)
        if page is None:
            return False
        newer = page.waiting
        page.waiting, page.flying = note, None
        if newer is not None:
            note.add(newer)
        self._due_at = min(self._due_at, page.due())
        return True

    def _page_of(self, note: Note) -> _Page | None:
        page = self.pages.get((note.claim.ref, note.claim.token))
        return page if page is not None and page.flying is note else None

    def close(self, claim: Claimed) -> tuple[Note | None, bool]:
        """The job has ended: its last words, and whether a note of it is under way. What comes now is not heard."""
        page = self.pages.pop((claim.ref, claim.token), None)
        if not self.pages:
            self._due_at = float("inf")
        return (None, False) if page is None else (page.waiting, page.flying is not None)


def note_of(claim: Claimed, worker: int, said: Mapping[str, Any], call: int | None, now: float) -> Note:
    """A worker's word about a job, as it came through the pipe."""
    return Note(
        claim=claim,
        worker=worker,
        since=now,
        progress=said.get("progress"),
        checkpoint=said.get("checkpoint"),
        lines=[(at, text) for at, text in said.get("lines") or ()],
        calls=[] if call is None else [call],
    )


def error_of_lost_claim() -> dict[str, Any]:
    """What a job is told whose checkpoint comes too late, as it crosses the pipe."""
    allowed = sorted(states.AT_WORK)
    return {
        "class": "ClaimLostError",
        "message": "nothing was stored: this job's claim is gone, another engine may run it by now",
        "facts": {"verb": "note", "found": "unknown", "allowed": allowed, "job_id": None},
    }


def error_of_refused_note(why: str) -> dict[str, Any]:
    """What a job is told whose checkpoint the store cannot take."""
    return {"class": "StoreError", "message": f"the store refused it: {why}", "facts": {}}
