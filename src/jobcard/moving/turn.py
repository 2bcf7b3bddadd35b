"""Whose turn it is: one process at a time moves jobs into a store, and says every few seconds that it is still there.

What it says stands in the target's record, and is written over what it said last and nothing else: whoever stood still
while another took over finds that out before it writes the next page, and ends.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.core import clock
from jobcard.core.move import Move, Phase, from_text, to_text
from jobcard.engine.small_records import find_record
from jobcard.errors import ConfigError

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""Who has said nothing for so long is gone; on this host it is known at once."""
LOOK_SECONDS = 0.2


class TakenOverError(ConfigError):
    """Another process moves jobs into the same store."""

    def __init__(self, move: Move | None) -> None:
        who = f" ({_named(move)})" if move is not None and move.process else ""
        super().__init__(f"another `jobcard copy` is at work on this target{who}: let it end, or end it")


class Turn:
    """The turn of this process."""

    def __init__(self, target: Backend, move: Move, version: int) -> None:
        self._target = target
        self.move = move
        self._version = version
        self._said_at = time.monotonic()

    def keep(self) -> None:
        """Say that we are still there, if it is time to; `TakenOverError` when another is in our place."""
        if time.monotonic() - self._said_at >= BEAT_SECONDS:
            self._write(self.move.at(self.move.phase))

    def reach(self, phase: Phase) -> None:
        """Say that this is what is done now."""
        self._write(self.move.at(phase))

    def end(self) -> None:
        """Take the record away: the copy is whole."""
        self.keep()
        self._target.remove_record(RecordKind.MOVE, self.move.key)

    def _write(self, move: Move) -> None:
        self._said_at = time.monotonic()
        self._version = write(self._target, move, expect=self._version)
        self.move = move


def write(store: Backend, move: Move, *, expect: int) -> int:
    """Write the record of a move over this version of it, for certain; its new version. `TakenOverError`: in vain."""
    text = to_text(move)
    version = store.write_record(RecordKind.MOVE, move.key, text, expect=expect)
    if version is None:
        # In vain, or done by a call whose answer was lost: no two of these texts are the same.
        record = find(store, move.key)
        if record is None or record.value != text:
            raise TakenOverError(None if record is None else from_text(record.value))
        version = record.version
    return version


def find(store: Backend, key: str) -> Record | None:
    """The record of this key of the moves that a store is part of, or None."""
    return find_record(store, RecordKind.MOVE, key)


def take_turn(target: Backend, move: Move, record: Record | None, tell: Callable[[str], None]) -> Turn:
    """Go on with a move, or begin it (record: None); `TakenOverError` while another process is at it."""
    if record is not None:
        _wait_for_the_last_one(target, record, tell)
    mine = move._replace(host=_host(), process=_process_name(os.getpid()), beat=move.beat + 1)
    return Turn(target, mine, write(target, mine, expect=0 if record is None else record.version))


def _wait_for_the_last_one(target: Backend, record: Record, tell: Callable[[str], None]) -> None:
    """Return when whoever wrote this record is gone: known at once on this host, elsewhere by its silence."""
    before = from_text(record.value)
    mine = _process_name(os.getpid())
    if before.phase is Phase.OPENED or not before.process:
        return
    if before.host == _host():
        # One that stands still is not gone: it would go on with what it read before.
        if before.process != mine and _process_name(int(before.process.partition("-")[0])) == before.process:
            raise TakenOverError(before)
        return
    told = False
    now: Record | None = record
    while now is not None and now.version == record.version and now.age < SILENT_SECONDS * clock.SECOND:
        if not told:
            tell(f"{_named(before)} was at it just now: waiting whether it still is")
            told = True
        time.sleep(LOOK_SECONDS)
        now = find(target, before.key)
    if now is None or now.version != record.version:
        raise TakenOverError(None if now is None else from_text(now.value))


def _named(move: Move) -> str:
    return f"process {move.process.partition('-')[0]} on {move.host.partition(' ')[0]}"


def _host() -> str:
    """This host, as far as process ids go."""
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    return f"{socket.gethostname()} ?"


def _process_name(pid: int) -> str:
    """A process as no other of this boot is called; "PID-" when it is gone, or nobody can tell."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] not in (b"Z", b"X"):
            return f"{pid}-{fields[19].decode()}"
    return f"{pid}-"
