"""`around_run` hooks: what an application wraps around every job, as context managers that really wrap it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from jobcard.core.signals import JobSignal
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.core.context import JobContext

Hook = Callable[["JobContext"], Any]
"""Gives the context manager that wraps one run."""


def run(hooks: Sequence[Hook], context: JobContext, call: Callable[[], Any]) -> Any:
    """Call within what the hooks give, the first outermost. What a hook raises is as if the job had raised it."""
    with ExitStack() as stack:
        for hook in list(hooks):
            manager = hook(context)
            if not hasattr(type(manager), "__enter__"):
                raise _unfit(hook, manager)
            stack.enter_context(manager)
        return _raised(call())
    return None  # a hook has swallowed what was raised


async def run_async(hooks: Sequence[Hook], context: JobContext, call: Callable[[], Awaitable[Any]]) -> Any:
    """The same for a coroutine, with hooks of both kinds."""
    async with AsyncExitStack() as stack:
        for hook in list(hooks):
            manager = hook(context)
            if hasattr(type(manager), "__aenter__"):
                await stack.enter_async_context(manager)
            elif hasattr(type(manager), "__enter__"):
                stack.enter_context(manager)
            else:
                raise _unfit(hook, manager)
        return _raised(await call())
    return None


def _raised(value: Any) -> Any:
    """What the job returned. A signal is raised: hooks hear of it whichever way the job says it."""
    if isinstance(value, JobSignal):
        raise value
    return value


def _unfit(hook: Hook, manager: object) -> ConfigError:
    name = getattr(hook, "__qualname__", repr(hook))
    if hasattr(type(manager), "__aenter__"):
        return ConfigError(
            f"around_run: {name} gives an asynchronous context manager, which cannot wrap this job: it is no coroutine"
        )
    return ConfigError(f"around_run: {name} must give a context manager, not {type(manager).__name__}")
