"""An application whose jobs get bad input, return it, raise it and say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobcard import Job, Jobcard, JobContext, JobHandle

NO_TEXT = "a\ud800b\x00c\x1b[2J"
"""Half a surrogate pair, a NUL and an order to a terminal."""


class Mute(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def chained(depth: int) -> Exception:
    """An error with so many causes behind it."""
    error = ValueError("the first of all")
    for number in range(depth):
        later = ValueError(f"number {number}")
        later.__cause__ = error
        error = later
    return error


def itself() -> list[Any]:
    """A list that it is an item of."""
    endless: list[Any] = []
    endless.append(endless)
    return endless


RAISED: dict[str, Callable[[], BaseException]] = {
    "10 MiB of text": lambda: ValueError("x" * (10 << 20)),
    "1,000 causes": lambda: chained(1_000),
    "no text": lambda: Mute(),
    "half a surrogate pair": lambda: ValueError(NO_TEXT),
    "bytes": lambda: ValueError(bytes(range(256)) * 1_000),
    "a group": lambda: ExceptionGroup("several", [ValueError(str(n)) for n in range(500)]),
    "a group in groups": lambda: _nested_group(200),
}
RETURNED: dict[str, Callable[[], Any]] = {
    "NaN": lambda: float("nan"),
    "a generator": lambda: (n for n in ()),
    "itself": itself,
    "too much": lambda: ["x" * 1_000] * 10_000,
    "a lock": lambda: __import__("threading").Lock(),
    "a class": lambda: Shop,
}


def _nested_group(depth: int) -> ExceptionGroup[Exception]:
    group = ExceptionGroup("inmost", [ValueError("at last")])
    for number in range(depth):
        group = ExceptionGroup(f"level {number}", [group])
    return group


class Shop:
    """Its jobs, on a store of its own; an engine of this process runs them."""

    def __init__(self, url: str) -> None:
        self.jobs = jobs = Jobcard(url)

        @jobs.job(name="shop.echo")
        def echo(value: Any = None, **more: Any) -> Any:
            return [value, more] if more else value

        @jobs.job(name="shop.raises", max_attempts=1)
        def raises(what: str) -> None:
            raise RAISED[what]()

        @jobs.job(name="shop.returns")
        def returns(what: str) -> Any:
            return RETURNED[what]()

        @jobs.job(name="shop.speaks")
        def speaks(ctx: JobContext) -> str:
            ctx.log(NO_TEXT)
            ctx.progress(0.5, NO_TEXT)
            return NO_TEXT

        @jobs.job(name="shop.again")
        def again(left: int) -> int:
            if left:
                again.enqueue(left - 1)
            return left

        @jobs.job(name="shop.pair")
        def pair(left: int, *, right: int) -> int:
            return left + right

        self.echo, self.raises, self.returns, self.speaks, self.again = echo, raises, returns, speaks, again
        self.pair = pair

    def work(self) -> None:
        """Run all that can be run."""
        assert self.jobs.run(in_process=True, until_empty=True) == 0

    def after_work(self, *handles: JobHandle[Any]) -> list[Job]:
        """These jobs after all that can be run has been."""
        self.work()
        return [self.jobs.get(handle.id) for handle in handles]

    def everything(self) -> object:
        """All jobs and queues, to compare."""
        return (list(self.jobs.iterate()), self.jobs.queues.list(), self.jobs.count())
