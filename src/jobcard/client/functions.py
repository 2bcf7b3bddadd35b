"""Declared jobs as application code holds them: callable as before, and enqueued."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from jobcard.client.options import EnqueueOptions, Template, check_enqueue_options, make_template, to_say_again

if TYPE_CHECKING:
    from jobcard.client.handles import JobHandle
    from jobcard.client.parts import Parts
    from jobcard.core.definition import JobDefinition

P = ParamSpec("P")  # the job's arguments, as enqueued
R = TypeVar("R")  # its result
Q = ParamSpec("Q")  # the function's arguments, a JobContext among them
T = TypeVar("T")  # what calling it returns, a coroutine for `async def`


class Owner(Protocol):
    """Who knows the client that a job is enqueued with: a `Jobcard`, or a group included in one."""

    @property
    def parts(self) -> Parts: ...


class Call(Generic[R]):
    """One call of a job, to be enqueued later: `jobs.enqueue_many([add.call(1, 2), …])`."""

    __slots__ = ("args", "job", "kwargs")

    def __init__(self, job: BoundJob[Any, R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.job = job
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"<Call {self.job.definition.name}>"


class BoundJob(Generic[P, R]):
    """A job with options, ready to be enqueued any number of times."""

    __slots__ = ("_given", "_init", "_said", "definition", "owner", "template")

    def __init__(
        self,
        owner: Owner,
        definition: JobDefinition,
        *,
        init: str | None = None,
        given: Mapping[str, Any] | None = None,
        said: Mapping[str, Any] | None = None,
    ) -> None:
        """given: options, checked. said: the same as they were said."""
        self.owner = owner
        self.definition = definition
        self._init = init
        self._given = given or {}
        self._said = said or {}
        self.template: Template = make_template(definition.name, definition.options, init, self._given, self._said)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store one job with these arguments; returns when it is safely stored.

        `InvalidJobError` for arguments that do not fit, `DuplicateJobError` when its id belongs to another job,
        `StoreFullError`: not stored; `EnqueueUnknownError`: stored or not, repeat with the id it carries.

        A job that is unique, and there is one: the handle of that one, whose `duplicate` is True; with `on_conflict`
        "raise" a `DuplicateJobError`, with "ignore" None in place of a handle.
        """
        return self.owner.parts.producer.enqueue(self, args, kwargs)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store one job; enqueues that wait at the same time go to the store together. Errors as `enqueue`."""
        return await self.owner.parts.producer.enqueue_async(self, args, kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """This call as a value, for `jobs.enqueue_many`; its arguments are checked and written there."""
        return Call(self, args, kwargs)

    def options(self, **given: Unpack[EnqueueOptions]) -> BoundJob[P, R]:
        """The same job with other options for its enqueues."""
        new = check_enqueue_options(given)
        if new.get("unique") is not None:
            self.definition.check_parameters(new["unique"].by, "unique")
        checked, said = {**self._given, **new}, {**self._said, **to_say_again(given, new)}
        # What was given last counts, of the two ways to say when.
        for last, other in (("delay", "at"), ("at", "delay")):
            if last in new:
                checked.pop(other, None)
                said.pop(other, None)
        return BoundJob(self.owner, self.definition, init=self._init, given=checked, said=said)

    def __repr__(self) -> str:
        return f"<BoundJob {self.definition.name}>"


class JobFunction(Generic[P, R, Q, T]):
    """A function declared as a job. Calling it runs it here and now, as if it were none."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[Q, T]

    def __init__(self, function: Callable[Q, T], bound: BoundJob[P, R]) -> None:
        update_wrapper(self, function)
        self._function = function
        self._bound = bound

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> T:
        return self._function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self._bound.definition.name

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store one job with these arguments; returns when it is safely stored.

        `InvalidJobError` for arguments that do not fit, `DuplicateJobError` when its id belongs to another job,
        `StoreFullError`: not stored; `EnqueueUnknownError`: stored or not, repeat with the id it carries.

        A job that is unique, and there is one: the handle of that one, whose `duplicate` is True; with `on_conflict`
        "raise" a `DuplicateJobError`, with "ignore" None in place of a handle.
        """
        return self._bound.owner.parts.producer.enqueue(self._bound, args, kwargs)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store one job; enqueues that wait at the same time go to the store together. Errors as `enqueue`."""
        return await self._bound.owner.parts.producer.enqueue_async(self._bound, args, kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """This call as a value, for `jobs.enqueue_many`; its arguments are checked and written there."""
        return Call(self._bound, args, kwargs)

    def options(self, **given: Unpack[EnqueueOptions]) -> BoundJob[P, R]:
        """This job with options for its enqueues: queue, priority, delay, at, timeout, max_attempts, id, tags, …"""
        return self._bound.options(**given)

    def __reduce__(self) -> str:
        # By its place in its module, as functions are pickled.
        return self._function.__qualname__

    def __repr__(self) -> str:
        return f"<job {self.name}>"
