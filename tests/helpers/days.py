"""What is tested on one day and not on the next goes by this: the same in all processes of a test run."""

from __future__ import annotations

import os
from datetime import date

import pytest

TODAY = int(os.environ.setdefault("JOBCARD_TEST_DAY", str(date.today().toordinal())))
"""The number of a day. $JOBCARD_TEST_DAY may name another one, to test what was tested then."""

# The whole contract by another way to a store that has passed it by the usual one.
_WAYS = ("another driver", "a pooler", "a cluster", "encrypted")


def every_other_day(way: str) -> pytest.MarkDecorator:
    """A mark for what takes one of these ways: two of them a day, and all where long tests run."""
    return pytest.mark.slow if (TODAY + _WAYS.index(way)) % 2 == 0 else pytest.mark.long
