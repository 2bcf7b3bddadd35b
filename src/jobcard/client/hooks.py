"""What an application hangs around its jobs: before each enqueue, and around each run."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

from jobcard.client.options import (
    EnqueueOptions,
    Template,
    check_enqueue_options,
    make_template,
    options_of,
    to_say_again,
)
from jobcard.core.context import JobContext
from jobcard.errors import ConfigError, InvalidJobError


class Enqueuing:
    """A job about to be stored: what a hook leaves here is checked and stored.

    args, kwargs: the call. options: what the enqueue says beyond the declaration, as `job.options(…)` takes it.
    """

    __slots__ = ("_name", "args", "kwargs", "options")

    def __init__(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: EnqueueOptions | None = None
    ) -> None:
        self._name = name
        self.args: Iterable[Any] = args
        self.kwargs: Mapping[str, Any] = kwargs
        self.options: EnqueueOptions = {} if options is None else options

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self._name

    def __repr__(self) -> str:
        return f"<Enqueuing {self.name}>"


Run = AbstractContextManager[Any, Any] | AbstractAsyncContextManager[Any, Any]
"""What stands around one run of a job."""

BeforeEnqueue = Callable[[Enqueuing], object]
AroundRun = Callable[[JobContext], Run]
Farewell = Callable[[], object]
_Written = Callable[[JobContext], Run | Iterator[Any] | AsyncIterator[Any]]

B = TypeVar("B", bound=BeforeEnqueue)
A = TypeVar("A", bound=_Written)


class Hooks:
    """The hooks of one `Jobcard`, in the order of their declaration."""

    def __init__(self) -> None:
        self.before_enqueue: list[BeforeEnqueue] = []
        self.around_run: list[AroundRun] = []
        self.farewells: list[Farewell] = []

    def add_before_enqueue(self, hook: B) -> B:
        """Call this before each enqueue; `ConfigError` unless it is a plain function."""
        if not callable(hook) or inspect.iscoroutinefunction(hook):
            raise ConfigError("before_enqueue takes a function that is not async: it runs wherever a job is enqueued")
        self.before_enqueue.append(hook)
        return hook

    def add_around_run(self, hook: A) -> A:
        """Enter what this returns around each run; a generator that yields once is as good as a context manager."""
        if not callable(hook) or inspect.iscoroutinefunction(hook):
            raise ConfigError("around_run takes a function that returns a context manager, sync or async")
        around: Any = hook
        if inspect.isgeneratorfunction(hook):
            around = contextmanager(hook)
        elif inspect.isasyncgenfunction(hook):
            around = asynccontextmanager(hook)
        self.around_run.append(cast(AroundRun, around))
        return hook

    def add_farewell(self, farewell: Farewell) -> None:
        """Call this when a worker process has run its last job: it ends without what Python does at an exit."""
        self.farewells.append(farewell)

    def ask(
        self, template: Template, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Template, tuple[Any, ...], dict[str, Any]]:
        """What the hooks make of one enqueue; whatever one of them raises refuses it."""
        _queue, name, init = template.head
        event = Enqueuing(name, args, kwargs, options_of(template))
        for hook in self.before_enqueue:
            hook(event)
        if not isinstance(event.options, dict):
            raise InvalidJobError(f"options must be a dict, not {type(event.options).__name__}")
        if template.said or event.options:
            given = check_enqueue_options(event.options)
            template = make_template(name, template.declared, init, given, to_say_again(event.options, given))
        return template, *check_arguments(event.args, event.kwargs)


def check_arguments(args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments as a tuple and a dict; `InvalidJobError` when they are something else."""
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise InvalidJobError(f"args must be a list, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise InvalidJobError(f"kwargs must be a dict, not {type(kwargs).__name__}")
    return tuple(args), dict(kwargs)
