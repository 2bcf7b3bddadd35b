"""What is tested on one day and not on the next goes by this: the same in all processes of a test run."""

from __future__ import annotations

import os
import zlib
from datetime import date

TODAY = int(os.environ.setdefault("JOBCARD_TEST_DAY", str(date.today().toordinal())))
"""The number of a day. $JOBCARD_TEST_DAY may name another one, to test what was tested then."""


def has_its_turn(test: str) -> bool:
    """Whether it is its day: a slow test that is marked `turns` has one a week, by its name.

    Whoever also goes by the server of the day, one of four, has one of 28. Were there seven servers, some tests would
    never have one.
    """
    return zlib.crc32(test.encode()) % 7 == TODAY % 7
