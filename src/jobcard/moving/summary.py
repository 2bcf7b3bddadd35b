"""What callers are told of a backup and of a restore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was backed up. size: of the file, in bytes. unreadable: jobs that are not in it, as nobody can read them."""

    path: Path
    jobs: int
    size: int
    unreadable: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored. jobs: those written. present: those that the store had already, left as they are.

    refused: those not written, and why: another living job has their unique key, or this store cannot hold them.
    """

    jobs: int
    present: int = 0
    refused: Mapping[UUID, str] = field(default_factory=dict)
