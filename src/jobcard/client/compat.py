"""Whether this code can still run the jobs that wait: each stored call held against what is declared now.

Nothing is run and nothing changed. What a worker would find out at the start of a job is found out here, before it
is deployed: names, signatures, constructors, and values that the annotations cannot rebuild.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import UnionType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.backends.base import Filter
from jobcard.core.callspec import CallSpec
from jobcard.core.codec import CallShape, Codec
from jobcard.core.codec.annotations import hints_of
from jobcard.core.definition import DEFAULT_QUEUE, JobDefinition
from jobcard.core.states import JobState
from jobcard.errors import InvalidJobError, SerializationError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.client.store import Connection
    from jobcard.core.job import JobRow

PAGE = 1_000
_MOST_KINDS = 1_000
"""So many different problems are told apart; what else is found counts together under its name."""


@dataclass(slots=True, kw_only=True)
class Misfit:
    """One thing that is wrong with some of the jobs of a name. example: one of them.

    code: unknown_name, arguments, constructor, value, became_class, was_class, unreadable; queue for a note.
    """

    name: str
    code: str
    problem: str
    count: int
    example: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """What came of a check. problems: jobs that would fail. notes: what may be meant so."""

    checked: int
    problems: Sequence[Misfit]
    notes: Sequence[Misfit]

    @property
    def ok(self) -> bool:
        """Whether every job that waits can be run."""
        return not self.problems


def check_waiting(parts: Parts, *, tell: Callable[[int], None] = lambda _: None) -> Compatibility:
    """Hold every waiting and delayed job against the declarations of this client.

    tell: hears how many were looked at so far.
    """
    problems, notes = _Found(), _Found()
    declared: dict[str, _Declared | None] = {}
    queues = _declared_queues(parts)
    checked = 0
    for rows in _pages(parts.connection):
        for row in rows:
            if row.name not in declared:
                definition = parts.registry.find(row.name)
                declared[row.name] = None if definition is None else _Declared(definition, parts.codec)
            job = declared[row.name]
            wrong = ("unknown_name", "no job has this name or alias") if job is None else job.misfit(row)
            if wrong is not None:
                problems.add(row, *wrong)
            if row.queue not in queues:
                notes.add(row, "queue", f"the queue {row.queue!r} is declared nowhere in this code")
        checked += len(rows)
        tell(checked)
    return Compatibility(checked=checked, problems=problems.sorted(), notes=notes.sorted())


def _pages(connection: Connection) -> Iterator[Sequence[JobRow]]:
    where = Filter(states=(JobState.WAITING,))
    before: bytes | None = None
    while True:
        with connection as store:
            page = store.list(where, limit=PAGE, before_id=before)
        yield page.rows
        if page.below is None:
            return
        before = page.below


def _declared_queues(parts: Parts) -> set[str]:
    of_jobs = {definition.options.queue for definition in parts.registry}
    return {DEFAULT_QUEUE, *of_jobs, *(queue.name for queue in parts.connection.settings.queues)}


class _Found:
    """Problems by name and kind, each with its number and an example."""

    _PLACE = re.compile(r"(args\[\d+\]|kwargs(?:\.\w+|\[[^]]*\]))\S*(?=: )")

    def __init__(self) -> None:
        self._by_kind: dict[tuple[str, str, str], Misfit] = {}

    def add(self, row: JobRow, code: str, problem: str) -> None:
        # The same trouble in another item of a list is the same problem; shown is where it was met first.
        key = (row.name, code, self._PLACE.sub(r"\1", problem))
        if key not in self._by_kind and len(self._by_kind) >= _MOST_KINDS:
            key, problem = (row.name, code, ""), "further problems of this kind"
        known = self._by_kind.get(key)
        if known is None:
            self._by_kind[key] = Misfit(name=row.name, code=code, problem=problem, count=1, example=UUID(bytes=row.id))
        else:
            known.count += 1

    def sorted(self) -> list[Misfit]:
        return sorted(self._by_kind.values(), key=lambda misfit: (misfit.name, misfit.code, -misfit.count))


# ------------------------------------------------------------------ one job


class _Declared:
    """One declared job, ready to be compared with many stored calls."""

    def __init__(self, definition: JobDefinition, codec: Codec) -> None:
        self._codec = codec
        target = definition.target
        self._is_class = definition.is_class
        run = target.run if self._is_class else target
        self._run = _Signature(run, run, skip=1 if self._is_class else 0, name=definition.name)
        # From the class, as the worker does it: a constructor may be inherited, or made by a dataclass.
        self._init = _Signature(target, target.__init__, name=definition.name) if self._is_class else None

    def misfit(self, row: JobRow) -> tuple[str, str] | None:
        """What keeps this stored call from being run: code and sentence; None: nothing."""
        wrong = self._wrong_constructor(row.init)
        if wrong is not None:
            return wrong
        try:
            args, kwargs = self._codec.load_call(row.args, row.kwargs, self._run.shape)
        except SerializationError as error:
            return self._unloaded(row, error)
        why = self._run.misfit(args, kwargs)
        return None if why is None else (why[0], why[1])

    def _unloaded(self, row: JobRow, error: SerializationError) -> tuple[str, str]:
        """Why the arguments could not be rebuilt; that they do not fit the signature says more, if it is so."""
        try:
            args, kwargs = self._codec.load_call(row.args, row.kwargs)
        except SerializationError:
            return "unreadable", str(error)
        why = self._run.ill_called(args, kwargs)
        return ("value", str(error)) if why is None else ("arguments", why)

    def _wrong_constructor(self, init: str | None) -> tuple[str, str] | None:
        if self._init is None:
            if init is None:
                return None
            return "was_class", "it was enqueued as a class and is a function now: what its constructor got is lost"
        try:
            args, kwargs = ([], {}) if init is None else self._codec.load_parts(init, self._init.shape)
        except SerializationError as error:
            return "constructor", f"constructor: {error}"
        why = self._init.misfit(args, kwargs)
        if why is None:
            return None
        if init is None:
            return "became_class", f"it was enqueued as a function and is a class now: constructor: {why[1]}"
        return "constructor", f"constructor: {why[1]}"


class _Signature:
    """What a function takes: which calls fit, and what its plain annotations say about the values."""

    def __init__(self, function: Callable[..., Any], annotated: Any, *, name: str, skip: int = 0) -> None:
        """annotated: the function with the annotations; another one where `function` is a class."""
        self._spec = CallSpec(function, name=name, skip=skip)
        self.shape = CallShape.of(annotated, skip=self._spec.skip + (annotated is not function))
        self._parameters = list(inspect.signature(function).parameters.values())[self._spec.skip :]
        hints = hints_of(annotated)
        kinds = {parameter.name: _kinds_of(hints.get(parameter.name, Any)) for parameter in self._parameters}
        self._kinds: Mapping[str, tuple[type, ...] | None] = kinds
        self._by_place = [
            (parameter.name, kinds[parameter.name])
            for parameter in self._parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]

    def misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str] | None:
        """What is wrong with a call whose values are rebuilt; None: nothing."""
        why = self.ill_called(args, kwargs)
        if why is not None:
            return "arguments", why
        for place, (value, (_, kinds)) in enumerate(zip(args, self._by_place, strict=False)):
            if kinds is not None and value is not None and not isinstance(value, kinds):
                return "value", f"args[{place}]: {_mismatch(value, kinds)}"
        for name, value in kwargs.items():
            kinds = self._kinds.get(name)
            if kinds is not None and value is not None and not isinstance(value, kinds):
                return "value", f"kwargs.{name}: {_mismatch(value, kinds)}"
        return None

    def ill_called(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Why the function cannot be called so, in all respects at once; None: it can."""
        try:
            self._spec.check(args, kwargs)
        except InvalidJobError as error:
            return self._reasons(args, kwargs) or str(error)
        return None

    def _reasons(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        names = {parameter.name for parameter in self._parameters if parameter.kind is not parameter.VAR_POSITIONAL}
        kinds = {parameter.kind for parameter in self._parameters}
        given = {name for name, _ in self._by_place[: len(args)]}
        unknown = [name for name in kwargs if name not in names]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            unknown = []
        missing = [
            parameter.name
            for parameter in self._parameters
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and parameter.name not in given
            and parameter.name not in kwargs
        ]
        said = []
        if len(args) > len(self._by_place) and inspect.Parameter.VAR_POSITIONAL not in kinds:
            said.append(f"it was given {len(args)} arguments by place and takes {len(self._by_place)}")
        if len(unknown) == 1 and len(missing) == 1:
            said.append(f"it has no argument {unknown[0]!r} any more and needs {missing[0]!r}: renamed?")
        else:
            said += [f"it has no argument {name!r} any more" for name in unknown]
            said += [f"it needs an argument {name!r}" for name in missing]
        said += [f"it gets {name!r} twice" for name in kwargs if name in given]
        return "; ".join(said)


# ------------------------------------------------------------------ plain annotations

# As the codec brings them back; None always passes, as it does there.
_KINDS: Mapping[Any, tuple[type, ...]] = {
    **{kind: (kind,) for kind in (bool, int, str, bytes, date, datetime, time, timedelta, Decimal, UUID, dict)},
    float: (float, int),
    **dict.fromkeys((list, tuple, set, frozenset), (list, tuple, set, frozenset)),
}


def _kinds_of(annotation: Any) -> tuple[type, ...] | None:
    """The classes that values of a plain annotation have; None: it is none of those, and anything passes."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is UnionType:
        members = [_kinds_of(member) for member in typing.get_args(annotation) if member is not type(None)]
        if not all(members):
            return None
        return tuple(kind for kinds in members if kinds is not None for kind in kinds)
    try:
        return _KINDS.get(origin or annotation)
    except TypeError:  # an annotation may be anything
        return None


def _mismatch(value: object, kinds: Sequence[type]) -> str:
    wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in kinds))
    return f"the stored {type(value).__name__} is no {wanted}, as the annotation says"
