"""The way of a job into the store: checked, written as text, sent, and its answer understood."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from jobcard.backends.base import Backend, Enqueued, Fate
from jobcard.backends.within import cannot_join
from jobcard.client.functions import BoundJob, Call
from jobcard.client.handles import JobHandle
from jobcard.client.hooks import check_arguments
from jobcard.client.options import Template, check_enqueue_options, make_template, to_say_again
from jobcard.core import limits
from jobcard.core.definition import JobOptions
from jobcard.core.job import NewJob
from jobcard.core.nearest import nearest
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    DuplicateJobError,
    EnqueueUnknownError,
    InvalidJobError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
    UnknownJobError,
)

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.definition import JobDefinition

PATIENCE = 5.0
"""Seconds for which an enqueue is repeated while the store cannot be reached or is too busy."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_NOT_STORED = (StoreFullError, StoreMovedError, AccessDeniedError)


Prepared = tuple[Call[Any], NewJob, Template]
"""A call, the job it makes, and what that is made with."""


class Producer:
    """Enqueues for one `Jobcard`; any thread may use it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._connection = parts.connection
        self._hooks = parts.hooks
        self._ageing = parts.ageing
        self._keys = parts.keys

    # -- one job

    def enqueue(self, job: BoundJob[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        """Store one call of a declared job."""
        return self._enqueue(job.definition, job.template, args, kwargs)

    def _enqueue(
        self, definition: JobDefinition, template: Template, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        template, args, kwargs = self._heard(template, args, kwargs)
        new = self._new(definition, template, args, kwargs)
        return self._handle(new, self.send([new], template.within)[0], definition, template)

    async def enqueue_async(
        self, job: BoundJob[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobHandle[Any]:
        """The same, together with what else is enqueued meanwhile."""
        template, args, kwargs = self._heard(job.template, args, kwargs)
        _check_awaited(template)
        if self._keys.needs_time(template):
            await self._parts.threads.run(self._keys.clock.measure)
        new = self._new(job.definition, template, args, kwargs)
        answer = await self._parts.threads.enqueue(new)
        return self._handle(new, answer, job.definition, template)

    def enqueue_by_name(
        self, name: str, args: Iterable[Any], kwargs: Mapping[str, Any], strict: bool, options: Mapping[str, Any]
    ) -> JobHandle[Any]:
        """Store a job that this code may not have the function of."""
        args, kwargs = check_arguments(args, kwargs)
        parts = self._parts
        definition = self._find(name, strict=strict)
        given = check_enqueue_options(options)
        said = to_say_again(options, given)
        if definition is not None:
            definition.check_init((), {})
            template = make_template(definition.name, definition.options, None, given, said)
            return self._enqueue(definition, template, args, kwargs)
        template, args, kwargs = self._heard(make_template(name, JobOptions(), None, given, said), args, kwargs)
        new = _make(template, template.id or self._connection.take_ids(1)[0], parts.codec.dump_call(args, kwargs))
        if template.has_keys:
            new = self._keys.give(new, None, template, args, kwargs)
        return self._handle(new, self.send([new], template.within)[0], None, template)

    def prepare(self, job: BoundJob[Any, Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> NewJob:
        """A call as every tick of a schedule shall make it, checked and written; hooks do not hear of it."""
        args, kwargs = check_arguments(args, kwargs)
        _check_tick(job.template)
        return self._new(job.definition, job.template, args, kwargs)

    def prepare_by_name(
        self, name: str, args: Iterable[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> NewJob:
        """The same for a job that this code may not have the function of."""
        args, kwargs = check_arguments(args, kwargs)
        definition = self._find(name, strict=True)
        given = check_enqueue_options(options)
        said = to_say_again(options, given)
        if definition is None:
            template = make_template(name, JobOptions(), None, given, said)
            _check_tick(template)
            new = _make(template, self._connection.take_ids(1)[0], self._parts.codec.dump_call(args, kwargs))
            return self._keys.give(new, None, template, args, kwargs) if template.has_keys else new
        definition.check_init((), {})
        template = make_template(definition.name, definition.options, None, given, said)
        _check_tick(template)
        return self._new(definition, template, args, kwargs)

    def _find(self, name: str, *, strict: bool) -> JobDefinition | None:
        """The job of this name; None: not here, and `strict` does not mind or nothing is declared here."""
        registry = self._parts.registry
        definition = registry.find(limits.check_name(name, "job"))
        if definition is None and strict and len(registry):
            near = nearest(name, registry.names())
            raise UnknownJobError(name, f"; did you mean {near!r}?" if near else "")
        return definition

    def _heard(
        self, template: Template, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Template, tuple[Any, ...], dict[str, Any]]:
        return self._hooks.ask(template, args, kwargs) if self._hooks.before_enqueue else (template, args, kwargs)

    def _new(
        self,
        definition: JobDefinition,
        template: Template,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        job_id: bytes | None = None,
    ) -> NewJob:
        definition.check_call(args, kwargs)
        texts = definition.dump_call(self._parts.codec, args, kwargs)
        new = _make(template, job_id or template.id or self._connection.take_ids(1)[0], texts)
        return self._keys.give(new, definition, template, args, kwargs) if template.has_keys else new

    def _handle(
        self, new: NewJob, answer: Enqueued, definition: JobDefinition | None, template: Template
    ) -> JobHandle[Any]:
        """The handle of the job that stands for this call."""
        duplicate = False
        if template.id is None and answer.existing == new.id:
            # Nobody else has an id that we made: then it is stored, by this call or by an earlier try whose answer was
            # lost. By now that job may have been given other work, or be gone and have left its key.
            pass
        elif answer.fate is Fate.ID_TAKEN:
            raise _taken(new, answer, "its id belongs to a job with another name or other arguments")
        elif answer.fate is Fate.KEY_TAKEN:
            on_conflict = "return" if template.unique is None else template.unique.on_conflict
            if on_conflict == "raise":
                raise _taken(new, answer, f"the job {new.name} is unique, and there is one")
            if on_conflict == "ignore":
                # Who says "ignore" knows that; for all others a handle that may be None would be a nuisance.
                return cast(JobHandle[Any], None)
            duplicate = True
        elif answer.fate is Fate.REPEATED:
            duplicate = True
        return JobHandle(
            self._parts, answer.existing, definition, duplicate=duplicate, joined=self._joins(template.within)
        )

    def _joins(self, within: object | None) -> bool:
        """Whether a job becomes part of a transaction. Under test it does not: the store in memory is in none."""
        return within is not None and not self._parts.is_tested

    def new_follow_up(self, call: Call[Any], job_id: bytes, parent_id: bytes) -> NewJob:
        """A call as a job to be stored in the same step as the success of its parent; checked as at an enqueue.

        The call's own options count, but its id comes from its parent: `InvalidJobError` when it was given one.
        """
        if not isinstance(call, Call):
            raise InvalidJobError(f"a follow-up is job.call(…), not {type(call).__name__}")
        job = self._own(call)
        template, args, kwargs = self._heard(job.template, call.args, call.kwargs)
        if template.id is not None:
            raise InvalidJobError("the id of a follow-up comes from its parent: leave out id=")
        if template.within is not None:
            raise InvalidJobError("a follow-up is stored with the success of its parent: leave out within=")
        new = self._new(job.definition, template, args, kwargs, job_id)
        with self._connection as store:
            return self._ageing.place([new._replace(parent_id=parent_id)], store)[0]

    # -- many jobs

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[JobHandle[Any]]:
        """Store calls in order, by the thousand; all are checked and written before the first is sent."""
        calls, new, templates = self._new_many(list(calls))
        return self._handles(calls, new, templates, self.send(new, _one_within(templates)))

    async def enqueue_many_async(self, calls: Iterable[Call[Any]]) -> list[JobHandle[Any]]:
        """The same, awaitable."""
        calls = list(calls)
        if self._need_time(calls):
            await self._parts.threads.run(self._keys.clock.measure)
        calls, new, templates = self._new_many(calls)
        for template in templates:
            _check_awaited(template)
        return self._handles(calls, new, templates, await self._parts.threads.run(self.send, new))

    def prepare_call(self, call: Call[Any]) -> Prepared:
        """A call checked and written, to be stored later."""
        job = self._own(call)
        template, args, kwargs = self._heard(job.template, call.args, call.kwargs)
        _check_later(template)
        return call, self._new(job.definition, template, args, kwargs), template

    def prepare_many(self, calls: Iterable[Call[Any]]) -> list[Prepared]:
        """The same of several; an error tells by its `index` which."""
        calls, new, templates = self._new_many(list(calls))
        for template in templates:
            _check_later(template)
        return list(zip(calls, new, templates, strict=True))

    def store(self, prepared: Sequence[Prepared]) -> list[JobHandle[Any]]:
        """Store what was prepared, as `enqueue_many`."""
        calls, new, templates = _columns(prepared)
        return self._handles(calls, new, templates, self.send(new))

    async def store_async(self, prepared: Sequence[Prepared]) -> list[JobHandle[Any]]:
        """The same, awaitable."""
        calls, new, templates = _columns(prepared)
        return self._handles(calls, new, templates, await self._parts.threads.run(self.send, new))

    def _need_time(self, calls: Sequence[Call[Any]]) -> bool:
        # A hook may make a job unique; and whether these are calls at all is seen later.
        may_be = self._hooks.before_enqueue and not self._keys.clock.is_known
        return bool(may_be) or any(
            isinstance(call, Call) and self._keys.needs_time(call.job.template) for call in calls
        )

    def _new_many(self, calls: list[Call[Any]]) -> tuple[list[Call[Any]], list[NewJob], list[Template]]:
        """The calls, a job for each, and what those were made with."""
        hooked = bool(self._hooks.before_enqueue)
        codec = self._parts.codec
        ids = self._connection.take_ids(len(calls))
        jobs: list[NewJob] = []
        templates: list[Template] = []
        job: BoundJob[Any, Any] | None = None
        try:
            for call in calls:
                if call.job is not job:
                    job = self._own(call)
                    check, dump = job.definition.check_call, job.definition.dump_call
                    template = job.template
                args, kwargs = call.args, call.kwargs
                if hooked:
                    template, args, kwargs = self._hooks.ask(job.template, args, kwargs)
                job_id = template.id
                if job_id is None:
                    job_id = ids[len(jobs)]
                check(args, kwargs)
                new = _make(template, job_id, dump(codec, args, kwargs))
                if template.has_keys:
                    new = self._keys.give(new, job.definition, template, args, kwargs)
                jobs.append(new)
                templates.append(template)
        except InvalidJobError as error:
            error.index = len(jobs)
            error.args = (f"calls[{len(jobs)}]: {error}",)
            raise
        except AttributeError:
            if isinstance(calls[len(jobs)], Call):
                raise
            raise _no_call(calls[len(jobs)], len(jobs)) from None
        return calls, jobs, templates

    def _own(self, call: Call[Any]) -> BoundJob[Any, Any]:
        if call.job.owner.parts is not self._parts:
            raise ConfigError(f"{call.job.definition.name} is a job of another Jobcard")
        return call.job

    def _handles(
        self,
        calls: Sequence[Call[Any]],
        jobs: Sequence[NewJob],
        templates: Sequence[Template],
        answers: Sequence[Enqueued],
    ) -> list[JobHandle[Any]]:
        parts = self._parts
        stored = Fate.STORED
        handles: list[JobHandle[Any]] = []
        try:
            for call, new, template, answer in zip(calls, jobs, templates, answers, strict=True):
                handles.append(
                    JobHandle(parts, new.id, call.job.definition)
                    if answer.fate is stored and template.within is None
                    else self._handle(new, answer, call.job.definition, template)
                )
        except DuplicateJobError as error:
            error.index = len(handles)
            raise
        return handles

    # -- to the store

    def send(self, jobs: Sequence[NewJob], within: object | None = None) -> list[Enqueued]:
        """Store jobs in steps of a thousand, each all or nothing; one answer each, in order.

        `EnqueueUnknownError` with all ids when some may be stored: repeating any of them is safe. `StoreFullError`,
        `StoreMovedError` and `AccessDeniedError`: none is. within: what holds the transaction that they become part
        of; then whatever the store raises comes out at once, as it is.
        """
        answers: list[Enqueued] = []
        if self._joins(within):
            return self._send_within(jobs, within)
        with self._connection as store:
            jobs = self._ageing.place(jobs, store)
            for first in range(0, len(jobs), limits.BULK):
                try:
                    answers += _store(store, jobs[first : first + limits.BULK])
                except StoreError as error:
                    if first == 0 and isinstance(error, _NOT_STORED):
                        raise
                    raise EnqueueUnknownError([UUID(bytes=job.id) for job in jobs]) from error
        return answers

    def _send_within(self, jobs: Sequence[NewJob], within: object) -> list[Enqueued]:
        # Once, whatever the store says: it is the caller's transaction, and may be over by that.
        with self._connection.itself() as store:
            if not store.capabilities.joins:
                raise cannot_join(store)
            jobs = self._ageing.place(jobs, store)
            steps = [jobs[first : first + limits.BULK] for first in range(0, len(jobs), limits.BULK)]
            return [answer for step in steps for answer in store.enqueue(step, within=within)]


def _columns(prepared: Sequence[Prepared]) -> tuple[list[Call[Any]], list[NewJob], list[Template]]:
    return [call for call, _, _ in prepared], [new for _, new, _ in prepared], [template for _, _, template in prepared]


def _store(store: Backend, jobs: Sequence[NewJob]) -> Sequence[Enqueued]:
    until = time.monotonic() + PATIENCE
    pause = _FIRST_PAUSE
    lost = False
    while True:
        try:
            return store.enqueue(jobs)
        except _NOT_STORED as error:
            if not lost:
                raise
            # This try stored nothing; the one whose answer was lost may have.
            raise StoreUnavailableError("the answer to an earlier try was lost") from error
        except StoreUnavailableError:
            # The answer may be lost, not the job: the same ids again never make a second one.
            if time.monotonic() + pause > until:
                raise
            lost = True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _make(template: Template, job_id: bytes, texts: tuple[str, str]) -> NewJob:
    # A bare tuple construction: by keyword it would take four times as long.
    return tuple.__new__(NewJob, (job_id, *template.head, *texts, *template.tail))


def _check_later(template: Template) -> None:
    if template.within is not None:
        raise ConfigError("within= goes with enqueue and enqueue_many: a batch is stored when its block ends")


def _check_awaited(template: Template) -> None:
    if template.within is not None:
        raise ConfigError(
            "within= goes with enqueue and enqueue_many: a transaction is no other thread's to use, as an awaitable "
            "enqueue would; and asynchronous connections cannot be joined"
        )


def _one_within(templates: Sequence[Template]) -> object | None:
    """What the calls of one `enqueue_many` become part of, all of them."""
    first = templates[0].within if templates else None
    for index, template in enumerate(templates):
        if template.within is not first:
            error = InvalidJobError(f"calls[{index}]: all calls of one enqueue_many have the same within=")
            error.index = index
            raise error
    return first


def _check_tick(template: Template) -> None:
    if template.said.get("after") is not None:
        raise ConfigError("a tick of a schedule waits for no other jobs: leave out after=")
    if template.said.get("batch") is not None:
        raise ConfigError("a tick of a schedule belongs to no batch, which would never be over: leave out batch=")
    if template.within is not None:
        raise ConfigError("the jobs of a schedule are enqueued by engines, tick by tick: leave out within=")
    if template.unique is not None and not template.unique.while_alive:
        raise ConfigError(
            "each tick of a schedule is one job by itself: schedule a job that is unique for a time with unique=None, "
            "or with one that holds while the job lives"
        )


def _taken(new: NewJob, answer: Enqueued, why: str) -> DuplicateJobError:
    return DuplicateJobError(UUID(bytes=new.id), UUID(bytes=answer.existing), why)


def _no_call(value: object, index: int) -> InvalidJobError:
    error = InvalidJobError(f"calls[{index}]: enqueue_many takes job.call(…), not {type(value).__name__}")
    error.index = index
    return error
