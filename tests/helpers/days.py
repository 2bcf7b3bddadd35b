"""What is tested on one day and not on the next goes by this: the same in all processes of a test run."""

from __future__ import annotations

import os
import zlib
from datetime import date

import pytest

TODAY = int(os.environ.setdefault("JOBCARD_TEST_DAY", str(date.today().toordinal())))
"""The number of a day. $JOBCARD_TEST_DAY may name another one, to test what was tested then."""

# The whole contract by another way to a store that has passed it by the usual one, and what is the store's own on a
# sibling, which the same code speaks to and which passes the contract every day: those of one day, and of the next.
_WAYS = (
    (
        *("a pooler", "through the async facade"),
        *("limits on a server by itself", "engines on MySQL", "roles on MySQL"),
        *("a fail-over of mongodb-set",),
    ),
    (
        *("pooled by transaction", "encrypted", "another driver"),
        *("dependencies on a server by itself", "moves on MySQL", "what only MySQL has"),
        *("a fail-over of redis-cluster", "the browser on PostgreSQL"),
    ),
    (
        *("a cluster", "a server by itself"),
        *("moves on a server by itself", "deaths beside a server by itself"),
        *("limits on MySQL", "dependencies on MySQL"),
    ),
)


def in_turn(way: str) -> pytest.MarkDecorator:
    """A mark for what takes one of these ways: on its day, and where long tests run."""
    [day] = [day for day, ways in enumerate(_WAYS) if way in ways]
    return pytest.mark.slow if TODAY % len(_WAYS) == day else pytest.mark.long


def has_its_turn(test: str) -> bool:
    """Whether it is its day: a slow test that is marked `turns` has one of three, by its name."""
    return zlib.crc32(test.encode()) % 3 == TODAY % 3
