"""What an engine can be told, checked. The same words as the arguments of `Jobcard(…)`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from jobcard.core import clock, limits
from jobcard.core.nearest import nearest
from jobcard.core.queue import Queue, queue_to_plain
from jobcard.errors import ConfigError

ISOLATIONS = ("process", "fresh", "shared")
START_METHODS = ("auto", "spawn", "template")
WORKER_CLIENTS = ("engine", "direct")
MOST_PROCESSES = 64  # unless `processes` says more: `max_concurrent_jobs` may be thousands for shared jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations in seconds; sizes in bytes; None: no limit, or the default that the comment names."""

    # They may hold a password.
    url: str | None = field(default=None, repr=False)
    config: dict[str, Any] | None = field(default=None, repr=False)
    moving_to: str | None = field(default=None, repr=False)  # the store that the jobs may move to meanwhile
    queues: tuple[Queue, ...] = ()
    imports: tuple[str, ...] = ()
    max_concurrent_jobs: int = 10
    processes: int | None = None  # for jobs that are not shared; None: as many as max_concurrent_jobs, 64 at most
    start_method: str = "auto"
    worker_client: str = "engine"
    recycle_after: int | None = 1000
    memory_limit: int | None = None
    lease: float = 60
    heartbeat: float = 5
    poll_interval: float = 1
    stop_timeout: float = 25
    cancel_grace: float = 10
    keep_completed: float = 7 * 86400
    keep_failed: float = 30 * 86400
    migrate: bool = True
    strict_durability: bool = False

    def __post_init__(self) -> None:
        whole = limits.check_whole
        whole(self.max_concurrent_jobs, "max_concurrent_jobs", 1, limits.MAX_CONCURRENCY, error=ConfigError)
        if self.processes is not None:
            whole(self.processes, "processes", 1, limits.MAX_CONCURRENCY, error=ConfigError)
        if self.recycle_after is not None:
            whole(self.recycle_after, "recycle_after", 1, 10**9, error=ConfigError)
        if self.memory_limit is not None:
            whole(self.memory_limit, "memory_limit", 1 << 20, 1 << 50, error=ConfigError)
        if self.start_method not in START_METHODS:
            raise ConfigError(f"start_method must be one of {', '.join(START_METHODS)}")
        if self.worker_client not in WORKER_CLIENTS:
            raise ConfigError(f"worker_client must be one of {', '.join(WORKER_CLIENTS)}")
        for name, low, high in (
            ("heartbeat", 0.1, 3600),
            ("lease", 0.6, 86400),
            ("poll_interval", 0.01, 3600),
            ("stop_timeout", 0, 86400),
            ("cancel_grace", 0, 86400),
            ("keep_completed", 0, 3650 * 86400),
            ("keep_failed", 0, 3650 * 86400),
        ):
            value = getattr(self, name)
            limits.check_duration(value, name, round(low * clock.SECOND), round(high * clock.SECOND), error=ConfigError)
            object.__setattr__(self, name, clock.to_duration(value) / clock.SECOND)
        if self.lease < 6 * self.heartbeat:
            raise ConfigError(
                f"lease ({self.lease:g} s) must be at least six times the heartbeat ({self.heartbeat:g} s): "
                "an engine must be able to miss a few beats before its jobs are taken"
            )
        names = [queue.name for queue in self.queues]
        if len(set(names)) < len(names):
            raise ConfigError("queues: two of them have the same name")

    @property
    def slots(self) -> int:
        """How many jobs run at once that need a process of their own; `max_concurrent_jobs` counts shared ones too."""
        return min(self.max_concurrent_jobs, self.processes or MOST_PROCESSES)


def check_names(given: dict[str, Any], known: Collection[str], what: str) -> None:
    """`ConfigError` naming the nearest known name when one is misspelt."""
    for name in given:
        if name not in known:
            near = nearest(name, known)
            # What does not look like a name may be a login that stands where it should not.
            shown = repr(name) if re.fullmatch(r"[\w-]*", name) else "of such a name"
            raise ConfigError(f"{what} has no option {shown}" + (f"; did you mean {near!r}?" if near else ""))


def settings_from(**given: Any) -> Settings:
    """Settings from keyword arguments; an unknown one is a `ConfigError` with the nearest name."""
    check_names(given, {each.name for each in fields(Settings)}, "Jobcard")
    return Settings(**given)


def settings_to_plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON-able data, for the engine's process."""
    plain = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {**plain, "queues": [queue_to_plain(queue) for queue in settings.queues]}
