"""`Jobcard`: what an application declares its jobs with, enqueues, looks up, cancels and starts engines from."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack
from uuid import UUID

from jobcard.client import keeping
from jobcard.client.declare import Declares
from jobcard.client.groups import JobGroup
from jobcard.client.handles import JobHandle
from jobcard.client.hooks import A, B
from jobcard.client.options import EnqueueOptions
from jobcard.client.parts import Parts
from jobcard.client.schedules import ScheduledJob, Schedules
from jobcard.client.store import JobcardOptions
from jobcard.core import ids
from jobcard.core.codec import Codec
from jobcard.core.reference import AppReference, find_reference
from jobcard.core.registry import Registry
from jobcard.core.settings import Settings
from jobcard.errors import ConfigError, JobNotFoundError

if TYPE_CHECKING:
    from jobcard.client.batches import Batch
    from jobcard.client.dashboards import Dashboard, DashboardOptions
    from jobcard.client.events import Events
    from jobcard.client.explain import Reason
    from jobcard.client.filters import Filters
    from jobcard.client.functions import Call
    from jobcard.client.health import Health, Stats
    from jobcard.client.live_engines import Engines
    from jobcard.client.lookup import Bucket, Counts, Page
    from jobcard.client.queues import Queues
    from jobcard.client.testing import Testing
    from jobcard.core.definition import JobDefinition
    from jobcard.core.schedule import Missed, Overlap
    from jobcard.core.view import Job
    from jobcard.moving.summary import Backup, Restored


class Jobcard(Declares):
    """An application's jobs and the store they are kept in.

    url: the store; without it $JOBCARD_URL, then `[tool.jobcard] url` in pyproject.toml, then a SQLite file
    `jobcard.db` in the current directory. Nothing is opened or looked up before the first use.
    Any thread may use it, and so may a forked child.
    """

    registry: Registry
    """The jobs declared with it."""
    codec: Codec
    """Writes arguments and results; teach it own types with `jobs.codec.add(…)`."""
    schedules: Schedules
    """List, pause, resume, run and remove schedules."""

    def __init__(self, url: str | None = None, **options: Unpack[JobcardOptions]) -> None:
        self._parts = parts = Parts()
        self._created_in: str = sys._getframe(1).f_globals.get("__name__", "")
        self.registry = parts.registry
        self.codec = parts.codec
        self.schedules = parts.schedules
        parts.connection.configure({"url": url, **options})

    def configure(self, url: str | None = None, **options: Unpack[JobcardOptions]) -> None:
        """Set what the constructor takes, until the first use; what is not given stays."""
        self._parts.connection.configure({**({} if url is None else {"url": url}), **options})

    @property
    def queues(self) -> Queues:
        """Create, change, pause and list queues."""
        return self._parts.queues

    @property
    def engines(self) -> Engines:
        """The engines that work on this store."""
        return self._parts.engines

    @property
    def settings(self) -> Settings:
        """What it was given, with the store's URL looked up; fixed from the first use on."""
        return self._parts.connection.settings

    @property
    def parts(self) -> Parts:
        """What it is made of; for jobcard itself."""
        return self._parts

    # ------------------------------------------------------------------ declaring

    def _register(self, definition: JobDefinition) -> None:
        self.registry.add(definition)

    def include(self, group: JobGroup) -> None:
        """Take in the jobs of a group, also those declared later; `ConfigError` when a name is taken."""
        if not isinstance(group, JobGroup):
            raise ConfigError(f"include takes a JobGroup, not {type(group).__name__}")
        group.join(self._parts)

    # ------------------------------------------------------------------ enqueuing

    def enqueue(
        self,
        name: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
        **options: Unpack[EnqueueOptions],
    ) -> JobHandle[Any]:
        """Store a job by its name, from code that lacks the function; returns when it is safely stored.

        `UnknownJobError` for a name that is not declared here, unless nothing is, or `strict=False`;
        `InvalidJobError` for a bad argument or option, `DuplicateJobError` when its id belongs to another job,
        `StoreFullError`: not stored; `EnqueueUnknownError`: stored or not, repeat with the id it carries.

        A job that is unique, and there is one: the handle of that one, whose `duplicate` is True; with `on_conflict`
        "raise" a `DuplicateJobError`, with "ignore" None in place of a handle.
        """
        return self._parts.producer.enqueue_by_name(name, args, {} if kwargs is None else kwargs, strict, options)

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> builtins.list[JobHandle[Any]]:
        """Store many calls: `jobs.enqueue_many([add.call(1, 2), add.call(3, 4)])`; handles in the same order.

        All are checked before the first is sent: a bad one raises with `.index`, and nothing is stored. Up to 1,000
        are stored all or nothing, more in steps of 1,000. `StoreFullError`: none is stored; `EnqueueUnknownError`:
        any of them may be, repeat with the ids it carries.

        A job that is unique, and there is one, of these calls too: the handle of that one, whose `duplicate` is True;
        with `on_conflict` "ignore" None in its place; with "raise" a `DuplicateJobError` with `.index`, after all
        others are stored.
        """
        return self._parts.producer.enqueue_many(calls)

    async def enqueue_many_async(self, calls: Iterable[Call[Any]]) -> builtins.list[JobHandle[Any]]:
        """The same as `enqueue_many`, awaitable."""
        return await self._parts.producer.enqueue_many_async(calls)

    def batch(
        self, name: str | None = None, on_success: Call[Any] | None = None, on_end: Call[Any] | None = None
    ) -> Batch:
        """`with jobs.batch("import", on_success=done.call()) as b: …`: jobs stored together, and what follows them.

        on_success: a call that runs when all have completed. on_end: one that runs when all have ended, however.
        `b.enqueue(call)` takes one in, `b.counts()` and `b.cancel_rest()` are for afterwards.
        """
        from jobcard.client.batches import Batch

        return Batch(self._parts, name, on_success, on_end)

    # ------------------------------------------------------------------ schedules

    def schedule(
        self,
        name: str,
        when: str | timedelta | None = None,
        job: ScheduledJob | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        every: timedelta | None = None,
        tz: str = "UTC",
        missed: Missed = "once",
        overlap: Overlap = "skip",
        jitter: float | timedelta = 0,
        window: float | timedelta = 3600,
        **options: Unpack[EnqueueOptions],
    ) -> None:
        """Enqueue a job at each tick of a cron expression or interval, once whatever the number of engines.

        when: five cron fields, six with seconds first, `@hourly` … `@yearly`, or a timedelta; `every=` says the latter,
        too. tz: the time zone of the expression. missed: of the ticks while no engine was there, "once": the last is
        made up for; "skip": none; a number: so many. window: no tick is made up for later than this. overlap: "skip":
        a tick passes while the job of an earlier one lives. jitter: up to so much later is its job due.

        While a module is imported it is only declared, and stored when an engine of the application starts; anywhere
        else it is stored now. A pause stays. `ConfigError` for what cannot be, or a name declared twice; the arguments
        are checked as by `enqueue`.
        """
        self.schedules.declare(
            name,
            when,
            job,
            args,
            kwargs,
            every=every,
            tz=tz,
            missed=missed,
            overlap=overlap,
            jitter=jitter,
            window=window,
            options=options,
        )

    async def schedule_async(
        self,
        name: str,
        when: str | timedelta | None = None,
        job: ScheduledJob | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        every: timedelta | None = None,
        tz: str = "UTC",
        missed: Missed = "once",
        overlap: Overlap = "skip",
        jitter: float | timedelta = 0,
        window: float | timedelta = 3600,
        **options: Unpack[EnqueueOptions],
    ) -> None:
        """The same as `schedule`, awaitable."""
        await self.schedules.declare_async(
            name,
            when,
            job,
            args,
            kwargs,
            every=every,
            tz=tz,
            missed=missed,
            overlap=overlap,
            jitter=jitter,
            window=window,
            options=options,
        )

    # ------------------------------------------------------------------ hooks

    def before_enqueue(self, hook: B) -> B:
        """`@jobs.before_enqueue`: call this with an `Enqueuing` wherever a job is enqueued, in order of declaration.

        It may change the arguments and options; what it raises refuses the enqueue.
        """
        return self._parts.hooks.add_before_enqueue(hook)

    def around_run(self, hook: A) -> A:
        """`@jobs.around_run`: a function of the `JobContext` whose context manager, sync or async, wraps each run.

        The first declared is the outermost. A generator function that yields once will do.
        """
        return self._parts.hooks.add_around_run(hook)

    # ------------------------------------------------------------------ looking up

    def handle(self, job_id: UUID | str) -> JobHandle[Any]:
        """The handle of a job by its id; whether there is such a job shows at its use."""
        return JobHandle(self._parts, ids.parse_id(job_id))

    def get(self, job_id: UUID | str) -> Job:
        """The job of this id; `JobNotFoundError` when there is none, `CorruptRecordError` when it cannot be read."""
        return self._parts.lookup.get(job_id)

    def find(self, job_id: UUID | str) -> Job | None:
        """The job of this id, or None; `CorruptRecordError` when it cannot be read."""
        try:
            return self._parts.lookup.get(job_id)
        except JobNotFoundError:
            return None

    def list(self, *, limit: int = 50, cursor: str | None = None, **where: Unpack[Filters]) -> Page:
        """Jobs that fit, newest first: a sequence of at most `limit` (1 to 1,000), with `.next_cursor`.

        A job whose record cannot be read is left out, with a warning in the log `jobcard.client`.
        """
        return self._parts.lookup.list(where, limit=limit, cursor=cursor)

    def iterate(self, **where: Unpack[Filters]) -> Iterator[Job]:
        """All jobs that fit, newest first, read as they are needed; one that cannot be read is left out."""
        return self._parts.lookup.iterate(where)

    def count(self, *, limit: int | None = None, **where: Unpack[Filters]) -> Counts:
        """How many jobs fit, by state, and `.total`.

        limit: count no further than this in each queue and state, which costs less where there are very many.
        """
        return self._parts.lookup.count(where, limit=limit)

    def count_by_queue(self, *, limit: int | None = None) -> dict[str, Counts]:
        """How many jobs each queue has, by state; queues without jobs included. limit: as for `count`."""
        return self._parts.lookup.count_by_queue(limit=limit)

    def count_over_time(self, span: str) -> builtins.list[Bucket]:
        """Jobs per minute, hour or day in UTC ("12m", "12h", "12d"), oldest first.

        A job counts in its present state, when it ended, else started, else was claimed, else created.
        """
        return self._parts.lookup.count_over_time(span)

    def explain(self, job_id: UUID | str) -> builtins.list[Reason]:
        """Why a job does not run: every cause that holds now, or that it runs or has ended; none: it is its turn soon.

        `JobNotFoundError` when there is none of this id.
        """
        from jobcard.client.explain import reasons

        return reasons(self._parts, self._parts.lookup.row(ids.parse_id(job_id)))

    def events(self, since: datetime | str | None = None) -> Events:
        """What happens to jobs from now on, or from `since` on: an iterator and async iterator of `Event`s.

        since: an aware datetime, or the `cursor` of an event, to go on behind it. It waits for the next event, up to a
        second after it happened, until `close()`; a `with` block closes it. `ConfigError` for another `since`.
        """
        from jobcard.client.events import Events

        return Events(self._parts, since)

    def health(self) -> Health:
        """How the store is; a dead one is told, not raised."""
        from jobcard.client.health import check_health

        return check_health(self._parts.connection, self.engines)

    def stats(self) -> Stats:
        """How many jobs the store holds, by state and by queue."""
        from jobcard.client.health import collect_stats

        return collect_stats(self._parts.connection, self._parts.lookup)

    # ------------------------------------------------------------------ changing jobs

    def cancel(self, job_id: UUID | str) -> Job:
        """Cancel a job: at once while it waits; at work it is told to stop, and says `cancel_requested` until it has.

        Returns the job as it now is; `TransitionError` when it has ended.
        """
        return self._parts.moves.cancel(job_id)

    def retry(self, job_id: UUID | str) -> Job:
        """Run a failed or canceled job again: due now, attempt 0, the same id; else `TransitionError`.

        `DuplicateJobError` when another job has its unique key by now.
        """
        return self._parts.moves.retry(job_id)

    def run_now(self, job_id: UUID | str) -> Job:
        """Make a waiting job due now; else `TransitionError`."""
        return self._parts.moves.run_now(job_id)

    def snooze(self, job_id: UUID | str, delay: float | timedelta) -> Job:
        """Make a waiting job due `delay` (seconds or a timedelta) from now; else `TransitionError`.

        `JobNotFoundError` when there is none of this id, `InvalidJobError` for a delay out of bounds.
        """
        return self._parts.moves.snooze(job_id, delay)

    def retry_many(self, **where: Unpack[Filters]) -> int:
        """Retry all failed jobs that fit (`state="canceled"`: all canceled ones); how many."""
        return self._parts.moves.retry_many(where)

    def discard_many(self, **where: Unpack[Filters]) -> int:
        """Cancel all jobs that fit and have not ended; how many."""
        return self._parts.moves.discard_many(where)

    def delete_finished(self, *, older_than: float | timedelta | datetime) -> int:
        """Delete jobs that ended longer ago than this, or before this moment; how many.

        older_than: seconds, a timedelta, or an aware datetime; `ConfigError` for an age, `InvalidJobError` for a
        moment that cannot be meant.
        """
        return self._parts.moves.delete_finished(older_than)

    def truncate(self, *, confirm: bool = False) -> None:
        """Delete every job, queue and record of this store; only with `confirm=True`, and not inside a job."""
        if confirm is not True:
            raise ConfigError("truncate deletes every job: say truncate(confirm=True)")
        self._parts.connection.truncate()

    # ------------------------------------------------------------------ engines

    def start(self, *, another: bool = False, dashboard: bool | int = False) -> None:
        """Start an engine in processes of its own, if none of this application runs on this host; return when it is
        ready.

        However many processes call it at once, one starts it; the others stand by, and when that one ends the next
        takes its place. It ends with `stop()` or with us. another: start one in any case.
        dashboard: show one at http://127.0.0.1:8678, or at another port, for this machine alone, in a process of its
        own; while another has that port it waits for it.
        Inside a job or a worker it does nothing, and neither does calling it twice.
        `ConfigError` when a worker cannot import this object; `StoreError` when the engine cannot use the store.
        """
        self._start(another=another, in_process=False)
        if dashboard is not False and not self._parts.started.does_nothing:
            self._parts.started.show_dashboard(self.reference, None if dashboard is True else dashboard)

    def stop(self) -> None:
        """Stop what `start()` started here, and stand by no more; running jobs get `stop_timeout` seconds to finish."""
        self._parts.started.stop()

    @contextmanager
    def running(self, *, in_process: bool = False) -> Iterator[Self]:
        """`with jobs.running(): …` starts an engine as `start` does and stops it at the end.

        in_process: no child processes, jobs run on threads of this one and see what lives in it. Nothing can be killed
        then: a job over its timeout is abandoned, not ended.
        """
        stop = self._start(another=False, in_process=in_process)
        try:
            yield self
        finally:
            if stop is not None:
                self._parts.started.stop(stop)

    def run(self, *, in_process: bool = False, until_empty: bool = False) -> int:
        """Run an engine in the foreground until it is told to stop (SIGTERM, Ctrl-C); its exit code.

        Running jobs get `stop_timeout` seconds to finish. in_process: no child processes, as for `running`.
        until_empty: return when no job is at work, and none waits that is due, in the queues that are not paused; jobs
        due later do not count. `ConfigError` as `start`; inside a job or a worker it does nothing.
        """
        started = self._parts.started
        if until_empty and not in_process:
            raise ConfigError("until_empty=True needs in_process=True")
        if started.does_nothing:
            return 0
        if in_process:
            return started.run_in_process(self, until_empty=until_empty)
        return started.run(self.reference)

    def _start(self, *, another: bool, in_process: bool) -> Callable[[], None] | None:
        started = self._parts.started
        if started.does_nothing:
            return None
        if in_process:
            return started.start_in_process(self)
        return started.start(self.reference, another=another)

    def testing(self, mode: Literal["manual", "inline"] = "manual") -> Testing:
        """`with jobs.testing() as t: …` gives this object a private store in memory, whose clock stands still.

        "manual": jobs are stored, `t.drain()` runs them here; "inline": enqueueing runs them at once. Starting an
        engine does nothing meanwhile.
        """
        from jobcard.client.testing import Testing

        return Testing(self._parts, mode)

    def reference(self) -> AppReference:
        """What a worker must import to find this object; `ConfigError` when it cannot be found."""
        return find_reference(
            self,
            created_in=self._created_in,
            job_modules=[definition.module for definition in self.registry],
            imports=self.settings.imports,
        )

    # ------------------------------------------------------------------ the dashboard

    def dashboard(self, **options: Unpack[DashboardOptions]) -> Dashboard:
        """An ASGI application that shows these jobs and lets operators move them: mount it, or serve it by itself.

        users: the file that `jobcard dashboard user add` writes. auth: a function of the request that says who asks:
        a role (viewer, operator, admin), a (name, role), or None. open=True: neither, and for this machine alone. One
        of the three must be given, else `ConfigError`; also when the extra `jobcard[dashboard]` is not installed.
        read_url: a replica for all that is only shown. It has a small pool of its own.
        """
        from jobcard.client.dashboards import make_dashboard

        return make_dashboard(self, options)

    # ------------------------------------------------------------------ the store

    def backup(self, path: str | os.PathLike[str], overwrite: bool = False) -> Backup:
        """Write everything the store has into one file, for `restore` into any store; others go on using it meanwhile.

        Every job stored before it began is in it, once. It is there whole or not at all, and only its owner may read
        it. overwrite: in place of an older backup. `ConfigError` for a place that is taken, `BackupError` when the
        file cannot be written. A job may call it, too.
        """
        return keeping.back_up(self._parts.connection, path, overwrite=overwrite)

    async def backup_async(self, path: str | os.PathLike[str], overwrite: bool = False) -> Backup:
        """The same as `backup`, awaitable; once begun it is finished."""
        return await self._parts.threads.run(self.backup, path, overwrite)

    def restore(self, path: str | os.PathLike[str], merge: bool = False) -> Restored:
        """Write what a backup holds into the store, which must be empty; ids, attempts, tokens and times stay.

        `BackupError` for a file that is damaged or none of ours, and nothing is written. merge: into a store that is
        not empty; what it has stays as it is. `ConfigError` without it, and inside a job.
        """
        return keeping.restore(self._parts.connection, path, merge=merge)

    async def restore_async(self, path: str | os.PathLike[str], merge: bool = False) -> Restored:
        """The same as `restore`, awaitable; once begun it is finished."""
        return await self._parts.threads.run(self.restore, path, merge)

    def migrate(self) -> builtins.list[int]:
        """Bring the store's schema to this code's version; the versions applied, none when it was there.

        `ConfigError` inside a job.
        """
        return self._parts.connection.migrate()

    def rollback_migration(self) -> int | None:
        """Take the newest migration back; its version, None when there is none. `ConfigError` inside a job."""
        return self._parts.connection.rollback()

    def close(self) -> None:
        """Let go of the store for good; an engine that `start()` started stops. Calling it twice is fine."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # Without the URL: it may hold a password.
        return f"<Jobcard {len(self.registry)} jobs{', closed' if self._parts.closed else ''}>"
