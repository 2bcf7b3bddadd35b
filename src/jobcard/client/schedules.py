"""The schedules as the store keeps them, and those that this code declares."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from jobcard.backends.base import RecordKind
from jobcard.client.classes import JobClass
from jobcard.client.functions import BoundJob, JobFunction
from jobcard.client.handles import JobHandle
from jobcard.core import clock, limits, naming
from jobcard.engine.small_records import find_record
from jobcard.errors import ConfigError, CorruptRecordError, ScheduleNotFoundError

if TYPE_CHECKING:
    from jobcard.backends.base import Backend
    from jobcard.client.parts import Parts
    from jobcard.core.job import NewJob
    from jobcard.core.schedule import Missed, Overlap, Progress, Schedule, Timetable

    Change = Callable[[Timetable | None, int], Timetable]

T = TypeVar("T")

ScheduledJob = JobFunction[..., Any, ..., Any] | BoundJob[..., Any] | type[JobClass] | str
_OF_ITS_TICKS = ("id", "delay", "at")
MOST_SHOWN = 1_000


class Schedules:
    """`jobs.schedules`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._declared: dict[str, Timetable] = {}

    # -- what code says

    def declare(
        self,
        name: str,
        when: str | timedelta | None,
        job: ScheduledJob | None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        every: timedelta | None = None,
        tz: str = "UTC",
        missed: Missed = "once",
        overlap: Overlap = "skip",
        jitter: float | timedelta = 0,
        window: float | timedelta = 3600,
        options: Mapping[str, Any],
    ) -> None:
        """`jobs.schedule(…)`."""
        from jobcard.core.schedule import check_schedule

        if (when is None) == (every is None):
            raise ConfigError("a schedule is due by a cron expression or every so often: give when or every")
        if job is None:
            raise ConfigError("a schedule needs the job that it makes: job=…")
        new = self._job(job, args, {} if kwargs is None else kwargs, options)
        said = check_schedule(
            name,
            when if every is None else every,
            new,
            tz=tz,
            missed=missed,
            overlap=overlap,
            jitter=jitter,
            window=window,
        )
        before = self._declared.get(said.name)
        if before is not None and before != said:
            raise ConfigError(
                f"the schedule {said.name} is declared twice, and not alike: remove it first to change it"
            )
        if not naming.is_importing():
            self._write(said.name, _anew(said))
        if not self._parts.is_tested:
            self._declared[said.name] = said

    def _job(self, job: object, args: Iterable[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> NewJob:
        for option in _OF_ITS_TICKS:
            if options.get(option) is not None:
                raise ConfigError(f"a schedule's ticks say which job it is and when it is due: leave out {option}=")
        producer = self._parts.producer
        if isinstance(job, str):
            return producer.prepare_by_name(job, args, kwargs, options)
        if isinstance(job, type) and issubclass(job, JobClass):
            job = job.with_()  # type: ignore[misc]
        if isinstance(job, (JobFunction, BoundJob)):
            bound: BoundJob[..., Any] = job.options(**options)
            if bound.owner.parts is not self._parts:
                raise ConfigError(f"{bound.definition.name} is a job of another Jobcard")
            return producer.prepare(bound, args, kwargs)
        raise ConfigError(f"a schedule makes what @jobs.job made, or a job by its name, not {type(job).__name__}")

    @property
    def declared(self) -> builtins.list[Timetable]:
        """What this code declares; for jobcard itself."""
        return list(self._declared.values())

    def declared_texts(self) -> dict[str, str]:
        """The same as text, by name, for the engine's process."""
        if not self._declared:
            return {}  # most workers have none, and need not know what a schedule is
        from jobcard.core.schedule import to_text

        return {name: to_text(timetable) for name, timetable in self._declared.items()}

    # -- looking

    def list(self) -> builtins.list[Schedule]:
        """All schedules, by name; one whose record cannot be read is left out, with a warning in the log."""
        from jobcard.core.schedule import from_text

        found = []
        with self._parts.connection as store:
            records = store.read_records(RecordKind.SCHEDULE)
            progress = _progress_of(store)
            now = store.facts().now if records else 0
        for record in records:
            try:
                found.append(self._view(from_text(record.key, record.value), progress, now))
            except CorruptRecordError as error:
                import logging  # only now: a worker has no other use for it

                logging.getLogger("jobcard.client").warning("%s; it is left out of the list", error)
        return sorted(found, key=lambda schedule: schedule.name)

    def get(self, name: str) -> Schedule:
        """One schedule; `ScheduleNotFoundError`, or `CorruptRecordError` when its record cannot be read."""
        with self._parts.connection as store:
            timetable = _find(store, name)
            progress = _progress_of(store)
            now = store.facts().now
        return self._view(timetable, progress, now)

    def next(self, name: str, n: int = 1) -> builtins.list[datetime]:
        """Its next `n` ticks from now on (1 to 1,000), in UTC, paused or not; fewer if it has no more.

        `ScheduleNotFoundError` when there is none of this name.
        """
        limits.check_whole(n, "n", 1, MOST_SHOWN, error=ConfigError)
        with self._parts.connection as store:
            timetable = _find(store, name)
            now = store.facts().now
        return [clock.to_datetime(tick) for tick in timetable.ticks.several_after(now, n)]

    # -- changing

    def pause(self, name: str) -> Schedule:
        """Let its ticks pass without jobs, until `resume`; what it has made goes on. `ScheduleNotFoundError`."""
        return self._pause(name, True)

    def resume(self, name: str) -> Schedule:
        """Let its ticks make jobs again; those that passed are not made up for. `ScheduleNotFoundError`."""
        return self._pause(name, False)

    def run_now(self, name: str) -> JobHandle[Any]:
        """Enqueue its job now, beside its ticks, paused or not, whatever still runs. `ScheduleNotFoundError`."""
        parts = self._parts
        with parts.connection as store:
            timetable = _find(store, name)
        new = timetable.job_now(parts.connection.take_ids(1)[0])
        parts.producer.send([new])
        return JobHandle(parts, new.id, parts.registry.find(new.name))

    def remove(self, name: str) -> None:
        """Forget a schedule; what it has made stays. `ScheduleNotFoundError` when there is none of this name.

        One that code declares is back when an engine of that code starts: pause it instead.
        """
        self._declared.pop(name, None)
        with self._parts.connection as store:
            if not store.remove_record(RecordKind.SCHEDULE, name):
                raise ScheduleNotFoundError(name)
            store.remove_record(RecordKind.TICK, name)

    # -- awaitable

    async def declare_async(self, *args: Any, **kwargs: Any) -> None:
        """`jobs.schedule_async(…)`."""
        if naming.is_importing():
            self.declare(*args, **kwargs)
        else:
            await self._run(lambda: self.declare(*args, **kwargs))

    async def list_async(self) -> builtins.list[Schedule]:
        """The same as `list`, awaitable."""
        return await self._run(self.list)

    async def get_async(self, name: str) -> Schedule:
        """The same as `get`, awaitable."""
        return await self._run(lambda: self.get(name))

    async def next_async(self, name: str, n: int = 1) -> builtins.list[datetime]:
        """The same as `next`, awaitable."""
        return await self._run(lambda: self.next(name, n))

    async def pause_async(self, name: str) -> Schedule:
        """The same as `pause`, awaitable."""
        return await self._run(lambda: self.pause(name))

    async def resume_async(self, name: str) -> Schedule:
        """The same as `resume`, awaitable."""
        return await self._run(lambda: self.resume(name))

    async def run_now_async(self, name: str) -> JobHandle[Any]:
        """The same as `run_now`, awaitable."""
        return await self._run(lambda: self.run_now(name))

    async def remove_async(self, name: str) -> None:
        """The same as `remove`, awaitable."""
        await self._run(lambda: self.remove(name))

    # -- inside

    async def _run(self, call: Callable[[], T]) -> T:
        return await self._parts.threads.run(call)

    def _pause(self, name: str, paused: bool) -> Schedule:
        found = self.get(name)  # says so if it cannot be read
        if found.paused == paused:
            return found

        def changed(stored: Timetable | None, now: int) -> Timetable:
            if stored is None:
                raise ScheduleNotFoundError(name)
            return stored._replace(paused=paused, since=stored.since if paused else now)

        return self._write(name, changed)

    def _write(self, name: str, change: Change) -> Schedule:
        from jobcard.engine.timetables import write_timetable

        with self._parts.connection as store:
            timetable = write_timetable(store, name, change)
            progress = _progress_of(store)
            now = store.facts().now
        return self._view(timetable, progress, now)

    def _view(self, timetable: Timetable, progress: Mapping[str, Progress], now: int) -> Schedule:
        from jobcard.core.schedule import Progress, view

        return view(timetable, progress.get(timetable.name, Progress()), self._parts.codec, now)


def _anew(said: Timetable) -> Change:
    from jobcard.core.schedule import renewed

    return lambda stored, now: renewed(stored, said, now)


def _find(store: Backend, name: str) -> Timetable:
    from jobcard.core.schedule import from_text

    record = find_record(store, RecordKind.SCHEDULE, name)
    if record is None:
        raise ScheduleNotFoundError(name)
    return from_text(record.key, record.value)


def _progress_of(store: Backend) -> dict[str, Progress]:
    from jobcard.engine.timetables import progress_of  # only now: most processes have no schedule

    return progress_of(store)
