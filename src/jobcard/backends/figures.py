"""What a store says of itself and of its jobs in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Facts(NamedTuple):
    """What a store says about itself. size_bytes, connections: None where it cannot tell."""

    store: str
    version: str
    schema_version: int
    identity: str
    size_bytes: int | None
    connections: int | None
    now: int
    problems: Sequence[str] = ()
    """Those findings of `examine` that weaken durability, in words."""
    seal: str | None = None
    """The word it was sealed with; None: it is in use."""


class Tally(NamedTuple):
    """Whole-store figures for `jobs.stats()`. oldest_waiting: age in microseconds of the job due longest.

    A delayed job that is due waits like those in line, though nobody has released it yet, and is none of `delayed`.
    For oldest_waiting a store may look at the first job of each queue and priority alone: behind it may be one that
    has been due for longer.
    """

    counts: Mapping[str, int]
    delayed: int
    oldest_waiting: int | None


class Lines(NamedTuple):
    """How many jobs are delayed, and by queue the age of the one due longest; as in a `Tally`."""

    delayed: int
    oldest: Mapping[str, int]
