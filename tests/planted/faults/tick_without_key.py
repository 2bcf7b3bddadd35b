"""10. Each engine makes the job of a tick anew: with an id of its own, and without the key of schedule and tick."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from planted import method


def _its_own(true: Callable[..., Any]) -> Callable[..., Any]:
    return lambda timetable, tick: true(timetable, tick)._replace(id=uuid4().bytes, once_key=None, once_until=None)


BREAKS = method("jobcard.core.schedule:Timetable.job_of", _its_own)
