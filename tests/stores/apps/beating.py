"""A schedule of a second, declared where schedules stand: at the top of a module."""

from __future__ import annotations

from datetime import timedelta

from jobcard import Jobcard

jobs = Jobcard()


@jobs.job
async def beat() -> None:
    """Nothing: what counts is that it is there."""


jobs.schedule("heart", timedelta(seconds=1), beat, overlap="allow")
