"""Histories as they grow: who runs what now, who began when; read a little at a time, so that it can be asked often."""

from __future__ import annotations

import os
from collections import Counter, deque
from pathlib import Path

from checker.history import OVER, is_alive, process_name

NEWEST = 400


class Tail:
    """What the histories of a folder say so far, as of the last `look`. Times in seconds of their clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._me = process_name(os.getpid())
        self._over = folder / OVER
        self._over.mkdir(exist_ok=True)
        self._read: dict[str, int] = {}
        self.first_begin: dict[str, float] = {}
        self.last_begin: dict[str, float] = {}
        """By process: when its newest run began."""
        self.running: dict[str, str] = {}
        """By process: the job whose code it is in."""
        self.begun: dict[str, float] = {}
        """By job: when its newest run began."""
        self.told: dict[str, float] = {}
        """By job: when it heard that it was canceled."""
        self.waiting: set[str] = set()
        """Acknowledged jobs that have not begun and were not canceled."""
        self.stored: Counter[str] = Counter()
        """By producer: how many jobs of its batches are acknowledged; those of this process are counted nowhere."""
        self.raced: dict[str, set[str]] = {}
        """By unique key: the producers that were told who has it."""
        self.newest: deque[str] = deque(maxlen=NEWEST)
        """The jobs of batches acknowledged last: what else there is, a fault has plans for."""

    def look(self) -> None:
        """Read what was written since the last time."""
        for path in self._folder.glob("*.log"):
            process = path.stem
            lives = is_alive(process)
            self._read_on(path, process)
            if not lives:
                # Out of the way: thousands of them would be looked at again and again, by the jobs too.
                path.rename(self._over / path.name)
                self.running.pop(process, None)

    def _read_on(self, path: Path, process: str) -> None:
        since = self._read.get(path.name, 0)
        with path.open("rb") as file:
            file.seek(since)
            # A line that is just being written may be there in part.
            new = file.read().rpartition(b"\n")
        for line in new[0].decode().splitlines():
            at, kind, *facts = line.split(" ")
            self._note(int(at) / 1e9, process, kind, facts)
        self._read[path.name] = since + len(new[0]) + len(new[1])

    def _note(self, at: float, process: str, kind: str, facts: list[str]) -> None:
        match kind:
            case "run-begin":
                self.first_begin.setdefault(process, at)
                self.last_begin[process] = at
                self.running[process] = facts[0]
                self.waiting.discard(facts[0])
                self.begun[facts[0]] = max(at, self.begun.get(facts[0], 0.0))
            case "run-end":
                self.running.pop(process, None)
            case "told":
                self.told.setdefault(facts[0], at)
            case "cancel":
                # Also one that was claimed: as a rule it is not begun any more.
                self.waiting.discard(facts[0])
            case "key":
                self.raced.setdefault(facts[0], set()).add(process)
            case "enq-ok":
                if facts[0] not in self.begun:
                    self.waiting.add(facts[0])
                if len(facts) == 1 and process != self._me:
                    self.stored[process] += 1
                    self.newest.append(facts[0])
