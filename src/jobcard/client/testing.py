"""`jobs.testing()`: enqueue into a private store, look at what is there, run it in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import UUID

from jobcard.backends.base import Ended, Filter
from jobcard.client.classes import JobClass
from jobcard.client.explain_dependency import why_it_waits
from jobcard.client.functions import BoundJob, Call, JobFunction
from jobcard.client.handles import JobHandle
from jobcard.client.lookup import Lookup
from jobcard.client.pages import pages
from jobcard.client.producer import Producer
from jobcard.client.store import Connection
from jobcard.client.trial import Ran, Trial
from jobcard.client.watcher import Told, Watcher
from jobcard.core import clock, context, limits
from jobcard.core.job import JobRow
from jobcard.core.states import ENDED, JobState
from jobcard.core.view import Job
from jobcard.engine.store_clock import StoreClock
from jobcard.errors import (
    ConfigError,
    InvalidJobError,
    JobcardError,
    JobNotFoundError,
    ResultTimeoutError,
    SerializationError,
)

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.definition import JobDefinition

Mode = Literal["manual", "inline"]
AnyJob = JobFunction[..., Any, ..., Any] | BoundJob[..., Any] | Call[Any] | type[JobClass] | str

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a drain did: how many runs ended so, and the jobs as they are now, in the order they first ran."""

    completed: int
    failed: int
    canceled: int
    retried: int
    snoozed: int
    jobs: Sequence[Job]


class Testing:
    """A block in which this `Jobcard` has a private store in memory, whose clock moves only by `advance`.

    manual: enqueue stores; `drain` runs. inline: enqueue runs the job at once, with all its tries.
    """

    __test__ = False  # pytest must not take it for a class of tests

    def __init__(self, parts: Parts, mode: Mode = "manual") -> None:
        if mode not in ("manual", "inline"):
            raise ConfigError('testing: the mode must be "manual" or "inline"')
        self._parts = parts
        self._mode: Mode = mode
        self._open: tuple[Trial, Lookup] | None = None
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        if context.inside_worker is not None:
            raise ConfigError("a worker runs real jobs: jobs.testing() belongs into tests")
        if self._open is not None:
            raise ConfigError("this testing block is open already; jobs.testing() makes another one")
        parts = self._parts
        trial = Trial(parts)
        before = parts.producer, parts.watcher, parts.is_tested, parts.keys.clock
        lend_again = parts.connection.lend_instead(trial.backend)
        # A look-up of its own: another block may be open inside this one.
        self._open = trial, Lookup(cast(Connection, nullcontext(trial.backend)), parts.codec)
        parts.producer = _RunsAtOnce(parts, trial) if self._mode == "inline" else Producer(parts)
        parts.watcher = _LooksOnce(parts, trial)
        parts.is_tested = True
        parts.keys.clock = StoreClock(parts.connection.time, stands_still=True)

        def undo() -> None:
            parts.producer, parts.watcher, parts.is_tested, parts.keys.clock = before
            lend_again()

        self._undo.append(undo)
        return self

    def __exit__(self, *_: object) -> None:
        trial = self._trial
        self._open = None
        self._undo.pop()()
        trial.backend.close()

    # -- time

    @property
    def now(self) -> datetime:
        """The time of this block's store: the real one at its start, plus what `advance` and `drain` added."""
        return clock.to_datetime(self._trial.clock.now())

    def advance(self, by: float | timedelta) -> None:
        """Let time pass, seconds or a timedelta: what comes due is run by the next `drain`, inline mode runs it now."""
        passed = limits.check_duration(by, "advance", 0, limits.MAX_DELAY, error=ConfigError)
        self._trial.clock.advance(passed / clock.SECOND)
        if self._mode == "inline":
            self.drain()

    # -- running

    def drain(self, *, with_scheduled: bool = False) -> Drained:
        """Run every job that is due, and those they enqueue, in this thread, until none is left.

        In the order an engine claims them; paused queues are left alone. Each tick of a schedule that came due makes
        its job, missed or not. with_scheduled: whenever nothing is due, let time pass until the next job is, retries
        included, but not until the next tick. What a job raises is recorded, not raised here.
        """
        ran = self._trial.drain(with_scheduled=with_scheduled)
        return self._summary(ran)

    def _summary(self, ran: Ran) -> Drained:
        jobs = [self._find(job_id) for job_id in ran.jobs]
        count = ran.verbs.get
        return Drained(
            completed=count("complete", 0),
            failed=count("fail", 0),
            canceled=count("cancel", 0),
            retried=count("retry", 0),
            snoozed=count("snooze", 0),
            jobs=[job for job in jobs if job is not None],
        )

    def _find(self, job_id: bytes) -> Job | None:
        try:
            return self._lookup.get(UUID(bytes=job_id))
        except JobNotFoundError:
            return None  # a job deleted it

    # -- what is there

    def all_enqueued(self) -> list[Job]:
        """The jobs that wait, delayed ones included, in the order they were enqueued."""
        return list(self._lookup.iterate({"state": JobState.WAITING}))[::-1]

    def assert_enqueued(self, job: AnyJob, /, *args: Any, queue: str | None = None, **kwargs: Any) -> Job:
        """Fail unless such a job is enqueued, saying what is; returns the newest.

        job: what was declared, a name, or a whole `job.call(…)`. Without arguments: whatever its arguments.
        In manual mode it must still wait; in inline mode it counts whatever became of it.
        """
        found = self._matching(job, args, kwargs, queue)
        if not found:
            raise AssertionError(f"{_describe(job, args, kwargs, queue)} is not enqueued; {self._what_is_there()}")
        return self._lookup.view(found[0])

    def refute_enqueued(self, job: AnyJob, /, *args: Any, queue: str | None = None, **kwargs: Any) -> None:
        """Fail if such a job is enqueued; the same words as `assert_enqueued`."""
        if self._matching(job, args, kwargs, queue):
            raise AssertionError(f"{_describe(job, args, kwargs, queue)} is enqueued; {self._what_is_there()}")

    def _matching(self, job: AnyJob, args: tuple[Any, ...], kwargs: dict[str, Any], queue: str | None) -> list[JobRow]:
        if isinstance(job, Call):
            args, kwargs = job.args, job.kwargs
        whole = bool(args or kwargs or isinstance(job, Call))
        name, definition, init = self._identify(job)
        call: tuple[str, str] | None = None
        if whole and definition is not None:
            definition.check_call(args, kwargs)
            call = definition.plain_call(self._parts.codec, args, kwargs)
        elif whole:
            call = self._parts.codec.dump_call(args, kwargs)
        queues = () if queue is None else (limits.check_name(queue, "queue"),)
        return [row for row in self._rows(names=(name,), queues=queues) if self._is_like(row, definition, init, call)]

    def _identify(self, job: AnyJob) -> tuple[str, JobDefinition | None, str | None]:
        """Its name, its declaration, and a class job's constructor arguments as they are stored (None: any)."""
        if isinstance(job, Call):
            job = job.job
        if isinstance(job, str):
            return limits.check_name(job, "job"), self._parts.registry.find(job), None
        if isinstance(job, JobFunction):
            job = job.options()
        elif isinstance(job, type) and issubclass(job, JobClass):
            for definition in self._parts.registry:
                if definition.target is job:
                    return definition.name, definition, None
        if not isinstance(job, BoundJob):
            raise ConfigError("name a job by what @jobs.job made, by its name, or by a call of it")
        if job.owner.parts is not self._parts:
            raise ConfigError(f"{job.definition.name} is a job of another Jobcard")
        return job.definition.name, job.definition, job.template.head[2]

    def _is_like(
        self, row: JobRow, definition: JobDefinition | None, init: str | None, call: tuple[str, str] | None
    ) -> bool:
        codec = self._parts.codec
        try:
            if init is not None and definition is not None:
                made_with = definition.plain_stored_init(codec, row.init)
                if made_with != definition.plain_stored_init(codec, init):
                    return False
            if call is None:
                return True
            if definition is None:
                return (row.args, row.kwargs) == call
            return definition.plain_stored_call(codec, row.args, row.kwargs) == call
        except (InvalidJobError, SerializationError):
            return False  # stored by name, and not callable as it is declared

    def _rows(self, *, names: Sequence[str] = (), queues: Sequence[str] = ()) -> Iterator[JobRow]:
        """The jobs that count as enqueued, newest first."""
        states = (JobState.WAITING,) if self._mode == "manual" else ()
        where = Filter(states=states, names=names, queues=queues)
        for rows in pages(self._trial.backend, where):
            yield from rows

    def _what_is_there(self) -> str:
        rows = list(self._rows())[::-1]
        if not rows:
            return "nothing is"
        lines = [f"  {_show(self._lookup.view(row))}" for row in rows[:_SHOWN]]
        more = [f"  … and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
        return "\n".join(["there are:", *lines, *more])

    @property
    def _trial(self) -> Trial:
        return self._opened()[0]

    @property
    def _lookup(self) -> Lookup:
        return self._opened()[1]

    def _opened(self) -> tuple[Trial, Lookup]:
        if self._open is None:
            raise ConfigError("this testing block is not open, or over: use it inside `with jobs.testing() as t:`")
        return self._open


def _describe(job: AnyJob, args: Iterable[Any], kwargs: dict[str, Any], queue: str | None) -> str:
    if isinstance(job, Call):
        args, kwargs = job.args, job.kwargs
        job = job.job
    if isinstance(job, str):
        name = job
    elif isinstance(job, BoundJob):
        name = job.definition.name
    else:
        name = cast(str, getattr(job, "name", None) or getattr(job, "__qualname__", job))
    words = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(words)})" + ("" if queue is None else f" in queue {queue!r}")


def _show(job: Job) -> str:
    words = [*map(repr, job.args), *(f"{key}={value!r}" for key, value in job.kwargs.items())]
    due = f", due {job.available_at:%Y-%m-%d %H:%M:%S}" if job.hold == "delay" else ""
    made_with = "" if job.init is None else f" with {job.init}"
    return f"{job.name}({', '.join(words)}){made_with} in queue {job.queue!r}, {job.state}{due}"


# ------------------------------------------------------------------ what stands in for the client's own parts


class _RunsAtOnce(Producer):
    """Enqueues, and runs what it has stored before it returns."""

    def __init__(self, parts: Parts, trial: Trial) -> None:
        super().__init__(parts)
        self._trial = trial

    def enqueue(self, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        return self._run([super().enqueue(*args, **kwargs)])[0]

    def enqueue_by_name(self, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        return self._run([super().enqueue_by_name(*args, **kwargs)])[0]

    def enqueue_many(self, *args: Any, **kwargs: Any) -> list[JobHandle[Any]]:
        return self._run(super().enqueue_many(*args, **kwargs))

    async def enqueue_async(self, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        return (await self._run_async([await super().enqueue_async(*args, **kwargs)]))[0]

    async def enqueue_many_async(self, *args: Any, **kwargs: Any) -> list[JobHandle[Any]]:
        return await self._run_async(await super().enqueue_many_async(*args, **kwargs))

    def store(self, *args: Any, **kwargs: Any) -> list[JobHandle[Any]]:
        return self._run(super().store(*args, **kwargs))

    async def store_async(self, *args: Any, **kwargs: Any) -> list[JobHandle[Any]]:
        return await self._run_async(await super().store_async(*args, **kwargs))

    def _run(self, handles: list[JobHandle[Any]]) -> list[JobHandle[Any]]:
        for handle in filter(None, handles):  # None: nothing was stored
            self._trial.run_at_once(handle.id.bytes)
        return handles

    async def _run_async(self, handles: list[JobHandle[Any]]) -> list[JobHandle[Any]]:
        for handle in filter(None, handles):
            await self._trial.run_at_once_async(handle.id.bytes)
        return handles


class _LooksOnce(Watcher):
    """Tells at once how a job ended, or that it has not: under test nothing ends while somebody waits."""

    def __init__(self, parts: Parts, trial: Trial) -> None:
        super().__init__(parts.connection)
        self._trial = trial

    def watch(self, job_id: bytes, tell: Callable[[Told], None]) -> None:
        try:
            tell(self._look(job_id))
        except JobcardError as error:
            tell(error)

    def _look(self, job_id: bytes) -> Ended:
        rows = self._trial.backend.get([job_id])
        if not rows:
            raise JobNotFoundError(UUID(bytes=job_id))
        row = rows[0]
        if row.state in ENDED:
            return Ended(row.id, row.state, row.result, row.reason)
        wait = "it runs only when drain() is called"
        if row.hold == "delay":
            wait = f"it is due at {clock.to_datetime(row.available_at).isoformat()}: advance() and drain()"
        elif row.hold == "after":
            wait = why_it_waits(self._trial.backend, row).text
        raise ResultTimeoutError(UUID(bytes=job_id), 0, row.state, f"under test, {wait}")
