"""Batches: jobs that belong together, and what runs when all of them have ended.

A batch is an id that its jobs share, and up to two jobs that wait for it: nothing else is stored, so nothing can
disagree with its jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from uuid import UUID

from jobcard.client.handles import JobHandle
from jobcard.client.lookup import Counts
from jobcard.core import ids, limits
from jobcard.core.dependencies import ANY_END, BATCH, COMPLETED, Dependency, circle, from_text, to_text
from jobcard.errors import ConfigError, EnqueueUnknownError, InvalidJobError, JobNotFoundError

if TYPE_CHECKING:
    from jobcard.client.functions import Call
    from jobcard.client.parts import Parts
    from jobcard.client.producer import Prepared
    from jobcard.core.job import NewJob

R = TypeVar("R")


class Batch:
    """`with jobs.batch("import", on_success=done.call()) as b: b.enqueue(add.call(1, 2))`: stored when the block ends.

    on_success: runs when every job of the batch has completed; canceled when all have ended and one has not. on_end:
    runs when all have ended, however. An error in the block: nothing is stored. `async with` stores without blocking.
    Jobs of it may enqueue more jobs into it: `job.options(batch=b.id)`. After an `EnqueueUnknownError` `with b: pass`
    stores the same jobs once more, and none of them twice.
    """

    def __init__(self, parts: Parts, name: str | None, on_success: Call[Any] | None, on_end: Call[Any] | None) -> None:
        self._parts = parts
        self._id = parts.connection.take_ids(1)[0]
        self._name = None if name is None else limits.check_name(name, "batch")
        self._follows = {
            until: _check_call(call, word)
            for until, call, word in ((COMPLETED, on_success, "on_success"), (ANY_END, on_end, "on_end"))
            if call is not None
        }
        self._last: list[Prepared] = []
        self._taken: list[tuple[Prepared, JobHandle[Any]]] = []
        self._unsure: set[UUID] = set()
        """Jobs of it that may turn out to be others when they are stored."""
        self._is_open = self._is_over = False
        self._may_be_stored = False
        """The answer of the store was lost: the block may be entered again, to store the same."""

    @property
    def id(self) -> UUID:
        """The id that its jobs have as `batch_id`."""
        return UUID(bytes=self._id)

    @property
    def name(self) -> str | None:
        """What it was called; its jobs have it in their `meta`."""
        return self._name

    # -- filling it

    def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Take a `job.call(…)` in; checked and written now, stored when the block ends.

        What is only known then: `duplicate`, and the id of a unique job that is there already and is none of the batch.
        With its id a handle changes its hash: put that of a unique job into a set or a dict when the block has ended.
        """
        return self.enqueue_many([call])[0]

    @overload
    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]: ...

    @overload
    def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[JobHandle[Any]]: ...

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> list[JobHandle[Any]]:
        """The same of several calls, in order; a bad one raises with `.index`, and none of them is taken in."""
        if not self._is_open:
            raise ConfigError("a batch takes jobs inside its block only: with jobs.batch() as b: b.enqueue(…)")
        prepared = self._parts.producer.prepare_many(calls)
        unsure = set(self._unsure)
        for index, (_, new, template) in enumerate(prepared):
            if why := self._why_not(new, unsure):
                error = InvalidJobError(f"calls[{index}]: {why}")
                error.index = index
                raise error
            if template.unique is not None:
                unsure.add(UUID(bytes=new.id))
        self._unsure = unsure
        handles: list[JobHandle[Any]] = [
            JobHandle(self._parts, new.id, call.job.definition) for call, new, _ in prepared
        ]
        self._taken += zip(prepared, handles, strict=True)
        return handles

    def _why_not(self, new: NewJob, unsure: Collection[UUID]) -> str | None:
        """Why this cannot be a job of the batch; None: it can."""
        if new.batch_id not in (None, self._id):
            return "it belongs to another batch by its own options"
        if why := circle(new.waits_for, new.id, self._id):
            return f"after: {why}"
        if any(one.id in unsure for one in from_text(new.waits_for)):
            # It might wait for an id that is never stored, and be canceled.
            return "after: whether a unique job is stored is known when the block ends: wait for it from outside"
        return None

    def __enter__(self) -> Self:
        if self._may_be_stored:
            return self
        if self._is_open or self._is_over:
            raise ConfigError("a batch is filled in one block: make another one")
        self._last = [self._after_it(until, call) for until, call in self._follows.items()]
        self._is_open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._close(kind):
            with self._until_known():
                self._settle(self._parts.producer.store(self._all()))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._close(kind):
            with self._until_known():
                self._settle(await self._parts.producer.store_async(self._all()))

    def _close(self, kind: type[BaseException] | None) -> bool:
        self._is_open, self._is_over = False, True
        return kind is None

    @contextmanager
    def _until_known(self) -> Iterator[None]:
        try:
            yield
        except EnqueueUnknownError:
            self._may_be_stored = True
            raise
        self._may_be_stored = False

    def _after_it(self, until: str, call: Call[Any]) -> Prepared:
        call, new, template = self._parts.producer.prepare_call(call)
        if template.unique is not None:
            raise ConfigError(
                f"{new.name} is unique: where there is one already, nothing would follow the batch; "
                "give it options(unique=None)"
            )
        waits_for = to_text([*from_text(new.waits_for), Dependency(BATCH, self.id, until)])
        return call, new._replace(waits_for=waits_for), template

    def _all(self) -> list[Prepared]:
        # What waits for the batch comes last: whoever sees that sees all.
        mine = [(call, new._replace(batch_id=self._id), template) for (call, new, template), _ in self._taken]
        return [(call, self._named(new), template) for call, new, template in (*mine, *self._last)]

    def _named(self, new: NewJob) -> NewJob:
        if self._name is None:
            return new
        codec = self._parts.codec
        meta = {} if new.meta is None else codec.loads(new.meta)
        return new._replace(meta=codec.dumps({"batch": self._name, **meta}, what="meta"))

    def _settle(self, stored: Sequence[JobHandle[Any] | None]) -> None:
        for (_, mine), handle in zip(self._taken, stored, strict=False):
            if handle is not None:  # None: it was to be left out where there is one already
                mine.become(handle)

    # -- afterwards

    def counts(self) -> Counts:
        """How many of its jobs are in each state now."""
        return self._parts.lookup.count({"batch": self.id})

    def cancel_rest(self) -> int:
        """Cancel those of its jobs that have not ended; how many. Those stored into it meanwhile may be missed."""
        return self._parts.moves.discard_many({"batch": self.id})

    def __repr__(self) -> str:
        return f"<Batch {'' if self._name is None else self._name + ' '}{self.id}>"


def _check_call(value: Call[Any], word: str) -> Call[Any]:
    from jobcard.client.functions import Call  # whose options know batches

    if not isinstance(value, Call):
        raise InvalidJobError(f"{word} takes job.call(…), not {type(value).__name__}")
    return value


def check_batch(value: object) -> bytes | None:
    """The batch that a job shall belong to; None: none."""
    try:
        return None if value is None else ids.parse_id(value.id if isinstance(value, Batch) else value)
    except JobNotFoundError:
        shown = repr(value[:40]) if isinstance(value, str) else type(value).__name__
        raise InvalidJobError(f"batch takes a batch or its id, not {shown}") from None
