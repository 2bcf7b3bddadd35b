"""What an engine does with its store before it claims anything, wherever the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobcard.backends.base import Backend
from jobcard.backends.ready import make_ready, refuse_to_look_only, warn_of_open_door
from jobcard.core.queue import Queue
from jobcard.core.schedule import Timetable
from jobcard.core.settings import Settings
from jobcard.engine import routines
from jobcard.engine.timetables import declare_schedules

CLOSED_SECONDS = 0.5
"""How often to look whether a store that jobs are moved into is open."""


def open_for_work(
    backend: Backend, settings: Settings, schedules: Sequence[Timetable], rest: Callable[[], bool]
) -> bool:
    """Bring the store up to date, wait until it is open, write what code declares; `JobcardError` if it is unfit.

    False: `rest`, called every now and then while the store is closed, wants no more.
    """
    refuse_to_look_only(backend)
    make_ready(backend, migrate=settings.migrate, strict_durability=settings.strict_durability)
    if not routines.wait_until_open(backend, rest):
        return False
    declared = {queue.name: queue for queue in (Queue("default"), *settings.queues)}
    routines.declare_queues(backend, list(declared.values()))
    declare_schedules(backend, schedules)
    warn_of_open_door(backend)
    return True
