"""`@jobs.job`, as a `Jobcard` and a `JobGroup` have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from jobcard.client.classes import JobClass, mark_declared
from jobcard.client.functions import BoundJob, JobFunction
from jobcard.core.context import JobContext
from jobcard.core.definition import JobDefinition, check_options
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.rates import RateLimit
    from jobcard.core.retry import Backoff
    from jobcard.core.unique import Unique

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[JobClass])


class DeclareOptions(TypedDict, total=False):
    """What `@jobs.job(…)` takes; durations are seconds or a timedelta, memory_limit bytes.

    name: what it is stored under, "module.function" by itself. aliases: former names that are still run.
    isolation: None is "shared" for `async def`, "process" for others. on_lost_lease: what becomes of a running job
    whose engine could not renew its claim. unique: whether another job makes one superfluous. key_limit, rate: how
    many of its jobs are at work at once, and may start in a window of time, over all engines. concurrency_key: which
    of them share that: names of parameters, "args", or a function of the arguments that gives text.
    """

    name: str | None
    aliases: Iterable[str]
    queue: str
    priority: int
    max_attempts: int
    max_crashes: int
    timeout: float | timedelta | None
    memory_limit: int | None
    backoff: Backoff | None
    isolation: Literal["process", "fresh", "shared"] | None
    on_lost_lease: Literal["kill", "tell"]
    keep: float | timedelta | None
    tags: Iterable[str]
    unique: Unique | bool | None
    concurrency_key: str | tuple[str, ...] | Callable[..., str] | None
    key_limit: int | None
    rate: RateLimit | None


class Decorator(Protocol):
    """What `@jobs.job(…)` with options returns."""

    # The overloads overlap where a class is also a callable, and a coroutine also a result; the first one counts.
    @overload
    def __call__(self, target: C, /) -> C: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(
        self, target: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Concatenate[JobContext, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, target: Callable[Concatenate[JobContext, P], R], /
    ) -> JobFunction[P, R, Concatenate[JobContext, P], R]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> JobFunction[P, R, P, R]: ...


class Declares:
    """Whatever jobs are declared with."""

    @property
    def parts(self) -> Parts:
        """The client that these jobs are enqueued with; for jobcard itself."""
        raise NotImplementedError

    @overload
    def job(self, target: C, /) -> C: ...  # type: ignore[overload-overlap]
    @overload
    def job(
        self, target: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Concatenate[JobContext, P], Coroutine[Any, Any, R]]: ...
    @overload
    def job(
        self, target: Callable[Concatenate[JobContext, P], R], /
    ) -> JobFunction[P, R, Concatenate[JobContext, P], R]: ...
    @overload
    def job(self, target: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def job(self, target: Callable[P, R], /) -> JobFunction[P, R, P, R]: ...
    @overload
    def job(self, **options: Unpack[DeclareOptions]) -> Decorator: ...
    def job(self, target: Any = None, /, **options: Any) -> Any:  # type: ignore[misc]
        """Declare a function, or a class with a method `run`, as a job: `@jobs.job` or `@jobs.job(timeout=30)`.

        `ConfigError` when an option is out of bounds or the name belongs to another job.
        """
        if target is not None:
            return self._declare(target, options)
        check_names(options, set(DeclareOptions.__annotations__), "job")
        return lambda target: self._declare(target, options)

    def _declare(self, target: Any, options: dict[str, Any]) -> Any:
        if isinstance(target, JobFunction):
            raise ConfigError(f"{target.name} is declared as a job already")
        definition = self._define(target, **options)
        if inspect.isclass(target):
            mark_declared(target, self, definition)
        self._register(definition)
        return target if definition.is_class else JobFunction(target, BoundJob(self, definition))

    def _define(
        self, target: Any, *, name: str | None = None, aliases: Iterable[str] = (), **rest: Any
    ) -> JobDefinition:
        return JobDefinition(target, check_options(**rest), name=name, aliases=aliases)

    def _register(self, definition: JobDefinition) -> None:
        raise NotImplementedError
