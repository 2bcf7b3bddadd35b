"""Jobs as classes: what the constructor takes, and what `run` takes, stored apart."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from jobcard.client.functions import BoundJob
from jobcard.core.context import JobContext
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.functions import Owner
    from jobcard.client.handles import JobHandle
    from jobcard.core.definition import JobDefinition

I = ParamSpec("I")  # noqa: E741 - the constructor's arguments
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_DECLARED = "__jobcard__"


class _Runs(Protocol[P, R_co]):
    def run(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _RunsAsync(Protocol[P, R_co]):
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class _RunsInContext(Protocol[P, R_co]):
    def run(self, ctx: JobContext, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _RunsInContextAsync(Protocol[P, R_co]):
    def run(self, ctx: JobContext, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class JobClass:
    """The base of a class declared with `@jobs.job`: constructed in the worker, then its `run` is the job.

    `Report.with_("eu").enqueue(day)` stores constructor and run arguments; without constructor arguments
    `Report.enqueue(day)` is the same.
    """

    # mypy cannot see that a class with a `run` of its own fits these self types; a class without one is refused.

    @overload
    @classmethod
    def with_(  # type: ignore[misc]
        cls: Callable[I, _RunsInContextAsync[P, R]], *args: I.args, **kwargs: I.kwargs
    ) -> BoundJob[P, R]: ...
    @overload
    @classmethod
    def with_(  # type: ignore[misc]
        cls: Callable[I, _RunsInContext[P, R]], *args: I.args, **kwargs: I.kwargs
    ) -> BoundJob[P, R]: ...
    @overload
    @classmethod
    def with_(  # type: ignore[misc]
        cls: Callable[I, _RunsAsync[P, R]], *args: I.args, **kwargs: I.kwargs
    ) -> BoundJob[P, R]: ...
    @overload
    @classmethod
    def with_(  # type: ignore[misc]
        cls: Callable[I, _Runs[P, R]], *args: I.args, **kwargs: I.kwargs
    ) -> BoundJob[P, R]: ...
    @classmethod
    def with_(cls: Any, *args: Any, **kwargs: Any) -> BoundJob[Any, Any]:
        """This job with constructor arguments: checked and written now, used in the worker."""
        owner, definition = _declared(cls)
        definition.check_init(args, kwargs)
        init = definition.dump_init(owner.parts.codec, args, kwargs)
        return BoundJob(owner, definition, init=init)

    @overload
    @classmethod
    def enqueue(  # type: ignore[misc]
        cls: Callable[[], _RunsInContextAsync[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    def enqueue(  # type: ignore[misc]
        cls: Callable[[], _RunsInContext[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    def enqueue(  # type: ignore[misc]
        cls: Callable[[], _RunsAsync[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    def enqueue(  # type: ignore[misc]
        cls: Callable[[], _Runs[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @classmethod
    def enqueue(cls: Any, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """Store one job of this class, constructed without arguments; returns when it is safely stored."""
        return cls.with_().enqueue(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    @classmethod
    async def enqueue_async(  # type: ignore[misc]
        cls: Callable[[], _RunsInContextAsync[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    async def enqueue_async(  # type: ignore[misc]
        cls: Callable[[], _RunsInContext[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    async def enqueue_async(  # type: ignore[misc]
        cls: Callable[[], _RunsAsync[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @overload
    @classmethod
    async def enqueue_async(  # type: ignore[misc]
        cls: Callable[[], _Runs[P, R]], *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[R]: ...
    @classmethod
    async def enqueue_async(cls: Any, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """The same as `enqueue`, awaitable."""
        return await cls.with_().enqueue_async(*args, **kwargs)  # type: ignore[no-any-return]


def mark_declared(cls: type, owner: Owner, definition: JobDefinition) -> None:
    """Let a class know that it is a job, and whose."""
    if not issubclass(cls, JobClass):
        raise ConfigError(f"{cls.__qualname__}: a class job inherits from JobClass")
    setattr(cls, _DECLARED, (owner, definition))


def _declared(cls: type) -> tuple[Owner, JobDefinition]:
    # From the class itself: a subclass is another job, and must be declared to be one.
    found: tuple[Owner, JobDefinition] | None = vars(cls).get(_DECLARED)
    if found is None:
        raise ConfigError(f"{cls.__qualname__} is not declared: put @jobs.job above it")
    return found
