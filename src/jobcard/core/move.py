"""That jobs are on their way from one store into another: what both keep of it, in one small record each.

    target   mark ─► settings ─► passes ─► seal ─► rest ─► latest ─► verify ─► open ─► opened
             └───── may be given up ──────┘└───── may be taken back ───────────────┘└─ the jobs live here now
    source   mark, for as long as it is one; once it is sealed, its seal names the move too

The target's record alone says how far a move is: the source cannot be written once it is sealed. Until it says
`opened`, whoever would run jobs of the target waits; a plain copy closes its target in the same way while it lasts.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from typing import Any, NamedTuple

from jobcard.errors import CorruptRecordError

KEY = "target"
"""The key of the record by which the target of a live move says how far that is."""
SOURCE_KEY = "source"
"""… of the one by which its source says that it is one."""
COPY_KEY = "copy"
"""… of the one that closes the target of a plain copy while it lasts."""

_SEALED = "moved:"


class Role(StrEnum):
    """What a store is in a move."""

    SOURCE = "source"
    TARGET = "target"


class Kind(StrEnum):
    """What is meant to come of it."""

    LIVE = "live"
    """The target takes over, while engines and producers go on."""
    COPY = "copy"
    """An empty target becomes the source's equal."""
    MERGE = "merge"
    """The target keeps what it has, and gets what it lacks."""


class Phase(StrEnum):
    """How far a move is, by the step that is under way; of a plain copy there is only `copy`."""

    COPY = "copy"
    MARK = "mark"
    SETTINGS = "settings"
    PASSES = "passes"
    SEAL = "seal"
    REST = "rest"
    LATEST = "latest"
    VERIFY = "verify"
    OPEN = "open"
    OPENED = "opened"
    """It is over: the jobs live in the target."""
    ABORT = "abort"
    """It is being given up: what the target was given is deleted."""


BEFORE_THE_SEAL = frozenset({Phase.MARK, Phase.SETTINGS, Phase.PASSES})
"""Where a live move may be given up: the source has never stopped to be the one."""
SEALED = frozenset({Phase.SEAL, Phase.REST, Phase.LATEST, Phase.VERIFY, Phase.OPEN})
"""Where it may be taken back: the source may be sealed, and nobody has worked in the target."""


class Move(NamedTuple):
    """One move, as one of its two stores has it.

    other: the identity of the other store; an address is never kept. host, process: who is at it, "PID-STARTTIME".
    beat: rises with each sign of life, so that no two texts of one process are the same.
    """

    id: str
    role: Role
    kind: Kind
    phase: Phase
    other: str
    host: str = ""
    process: str = ""
    beat: int = 0

    @property
    def key(self) -> str:
        """The key of its record."""
        if self.role is Role.SOURCE:
            return SOURCE_KEY
        return KEY if self.kind is Kind.LIVE else COPY_KEY

    @property
    def closes(self) -> bool:
        """Whether nobody may run jobs of the store that has this record."""
        return self.role is Role.TARGET and self.phase is not Phase.OPENED

    @property
    def word(self) -> str:
        """What the source is sealed with."""
        return f"{_SEALED}{self.id}"

    def at(self, phase: Phase) -> Move:
        """The same move, so far."""
        return self._replace(phase=phase, beat=self.beat + 1)


def new_id() -> str:
    """A name that no other move has."""
    return os.urandom(8).hex()


def to_text(move: Move) -> str:
    """A move as the value of its small record."""
    return json.dumps(move._asdict(), separators=(",", ":"))


def from_text(text: str) -> Move:
    """The move of a small record; `CorruptRecordError` when it cannot be read."""
    try:
        document: dict[str, Any] = json.loads(text)
        # A newer version may have written more than we know of.
        known = {name: document[name] for name in Move._fields if name in document}
        known |= {name: kind(known[name]) for name, kind in (("role", Role), ("kind", Kind), ("phase", Phase))}
        return Move(**known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptRecordError("the record of a move cannot be read") from error


def closes(text: str) -> bool:
    """Whether nobody may run jobs of the store that has this record; one that cannot be read closes it too."""
    try:
        return from_text(text).closes
    except CorruptRecordError:
        return True


def has_arrived(text: str | None, seal: str | None) -> bool:
    """Whether what a sealed store had lives in the store with this record (None: no `KEY` is there), which is open.

    seal: the word of the sealed store. A store that the move did not lead to is never taken for the target.
    """
    if text is None or seal is None:
        return False
    try:
        move = from_text(text)
    except CorruptRecordError:
        return False
    return move.role is Role.TARGET and move.phase is Phase.OPENED and move.word == seal
