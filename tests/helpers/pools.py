"""A pool of real worker processes without an engine: orders go in, and what workers say is kept."""

from __future__ import annotations

import json
import selectors
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

from jobcard.core.job import Claimed
from jobcard.workers import messages
from jobcard.workers.messages import Exit
from jobcard.workers.pool import Pool

PATIENCE = 60.0

BLANK = Claimed(
    *(b"ref", 1, "claimed", bytes(16), "default", "noop", None, "[]", "{}", 0, 0, 0, 0, 1, 5, 0, 3, 0, "", None),
    *(0, 0, 0, "engine", *[None] * 10),
)


class Hands:
    """A pool, its selector, and everything that was heard."""

    def __init__(self, folder: Path, source: str) -> None:
        """source: the application; indented or not."""
        (folder / "app.py").write_text(dedent(source))
        self.hellos: dict[int, float] = {}
        self.errors: dict[int, dict[str, Any]] = {}
        self.results: dict[int, str] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        self.gone_: dict[int, Exit] = {}
        self.unstarted: dict[int, Sequence[int]] = {}
        self._selector = selectors.DefaultSelector()
        path = [str(folder), *sys.path]
        boot = {"sys_path": path, "argv": ["app"], "path": None, "module": "app", "attribute": "jobs", "imports": []}
        self.pool = Pool(self._selector, self, boot)

    # -- what the pool says

    def message(self, number: int, message: list[Any]) -> None:
        kind = message[0]
        if kind == messages.HELLO:
            self.hellos[number] = time.monotonic()
        elif kind == messages.IMPORT_FAILED:
            self.errors[number] = message[1]
        elif kind == messages.DONE:
            self.results[message[1]] = message[4]
        elif kind == messages.ENDED:
            self.ended[message[1]] = message[4]

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        self.gone_[number] = exit
        self.unstarted[number] = unstarted

    # -- what tests do

    def until(self, event: Callable[[], Any], *, tend: bool = False) -> float:
        """Turn until something has happened; how long it took. tend: look after the template meanwhile."""
        began = time.monotonic()
        while not event():
            assert time.monotonic() - began < PATIENCE, (self.hellos, self.errors, self.ended, self.gone_)
            for key, _events in self._selector.select(0.02):
                key.data()
            if tend:
                self.pool.tend()
        return time.monotonic() - began

    def spawn(self, *numbers: int) -> float:
        """Start workers and wait until they are ready; how long it took."""
        for number in numbers:
            self.pool.spawn(number)
        took = self.until(lambda: {*self.hellos, *self.gone_} >= set(numbers))
        assert self.hellos.keys() >= set(numbers), (self.errors, self.gone_)
        return took

    def with_template(self, *, insist: bool = True) -> Hands:
        """Start the first worker, then the template, and wait for it."""
        self.spawn(0)
        self.pool.use_template(insist)
        self.until(lambda: self.pool.has_template)
        return self

    def give(self, worker: int, seq: int, name: str, *args: Any) -> None:
        """Hand a job over."""
        claim = BLANK._replace(name=f"app.{name}", args=json.dumps(args))
        self.pool.send(worker, [(seq, claim, 0.0)])

    def run(self, worker: int, seq: int, name: str, *args: Any) -> str:
        """Hand a job over and wait for its result, as stored text."""
        self.give(worker, seq, name, *args)
        self.until(lambda: seq in self.results or seq in self.ended or worker in self.gone_)
        return self.results[seq]

    def pid(self, worker: int) -> int:
        """The process of a worker."""
        pid = self.pool.pid_of(worker)
        assert pid is not None
        return pid

    def end(self) -> None:
        """Kill everything and wait for its end."""
        self.pool.kill_all()
        self.until(lambda: not self.pool.pids() and self.pool.template is None)
        self._selector.close()


def making_hands(folder: Path) -> Iterator[Callable[[str], Hands]]:
    """The body of a fixture: makes the pool of an application, given as source, and leaves nothing behind."""
    made: list[Hands] = []

    def make(source: str) -> Hands:
        made.append(Hands(folder, source))
        return made[-1]

    yield make
    for each in made:
        each.end()
