"""The cheap check of a call agrees with Python's own, and a stored call becomes a call again."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hands import Hands

import jobcard
from jobcard import InvalidJobError, Jobcard, JobContext, SerializationError
from jobcard.core.callspec import CallSpec
from jobcard.core.codec import Codec
from jobcard.core.context import JobContext as Renamed
from jobcard.core.definition import JobDefinition, JobOptions
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes

SIGNATURES: list[Callable[..., Any]] = [
    lambda: 0,
    lambda a: 0,
    lambda a, b=2: 0,
    lambda a, /: 0,
    lambda a, /, b: 0,
    lambda a=1, /, b=2: 0,
    lambda a, /, b, *, c: 0,
    lambda *, c, d=4: 0,
    lambda *args: 0,
    lambda a, *args: 0,
    lambda a, *args, c: 0,
    lambda **more: 0,
    lambda a, **more: 0,
    lambda a, /, **more: 0,
    lambda a, b=2, *args, c, d=4, **more: 0,
]
ARGS = [(), (1,), (1, 2), (1, 2, 3)]
NAMES = ["a", "b", "c", "d", "e"]
KWARGS = [dict.fromkeys(names, 0) for count in range(4) for names in itertools.combinations(NAMES, count)]


def fits(function: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: str(inspect.signature(function)))
def test_the_check_agrees_with_python(function: Callable[..., Any]) -> None:
    """Every call of up to three positional and three named arguments is judged as `Signature.bind` judges it."""
    spec = CallSpec(function, name="job")
    for args, kwargs in itertools.product(ARGS, KWARGS):
        try:
            spec.check(args, kwargs)
            judged = True
        except InvalidJobError as error:
            judged = False
            assert "job(" in str(error)
        assert judged == fits(function, args, kwargs), (args, kwargs)


def takes_plain(ctx: JobContext, a: int) -> None: ...
def takes_dotted(ctx: jobcard.JobContext, a: int) -> None: ...
def takes_renamed(ctx: Renamed, a: int) -> None: ...
def takes_optional(ctx: JobContext | None, a: int) -> None: ...
def takes_none(a: int, ctx: JobContext | None = None) -> None: ...
def takes_other(ctx: Codec, a: int) -> None: ...
def takes_unannotated(ctx, a):  # type: ignore[no-untyped-def]
    ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (takes_plain, True),
        (takes_dotted, True),
        (takes_renamed, True),
        (takes_optional, True),
        (takes_none, False),
        (takes_other, False),
        (takes_unannotated, False),
    ],
)
def test_the_context_is_known_by_its_annotation(function: Callable[..., Any], expected: bool) -> None:
    """Written as text or not, under another name or not, only as the first parameter."""
    assert CallSpec(function, name="job").takes_context is expected


def test_evaluated_annotations_are_known_too() -> None:
    """Modules without `from __future__ import annotations`."""

    def job(ctx: int, a: int) -> None: ...

    for annotation in (JobContext, JobContext | None):
        job.__annotations__["ctx"] = annotation
        assert CallSpec(job, name="job").takes_context


def test_an_annotation_for_type_checkers_only_takes_nothing_with_it(jobs: Jobcard, hands: Hands) -> None:
    """A name that does not exist at run time leaves the other annotations in force."""

    @jobs.job
    def job(a: OnlyForTypes, b: frozenset[int]) -> frozenset[int]:
        return b

    handle = job.enqueue(5, frozenset({1}))  # type: ignore[arg-type]
    hands.run(jobs)
    assert handle.result(timeout=5) == frozenset({1})


def define(function: Callable[..., Any]) -> JobDefinition:
    return JobDefinition(function, JobOptions(), name="job")


def add(a: int, b: int = 2) -> int:
    return a + b


class Constructed:
    def __init__(self, a: int) -> None:
        self.a = a

    def run(self, b: int) -> int:
        return self.a + b


class TestPrepare:
    @pytest.mark.parametrize(
        ("args", "kwargs", "error"),
        [
            ("[]", "{}", InvalidJobError),
            ("[1, 2, 3]", "{}", InvalidJobError),
            ("[1]", '{"a": 1}', InvalidJobError),
            ("[1]", '{"c": 1}', InvalidJobError),
            ("[1", "{}", SerializationError),
            ("{}", "{}", SerializationError),
            ("[1]", "[]", SerializationError),
            ("[" * 100_000, "{}", SerializationError),
        ],
        ids=["missing", "too many", "twice", "unknown", "cut", "no list", "no dict", "deep"],
    )
    def test_a_stored_call_that_does_not_fit_is_told(self, args: str, kwargs: str, error: type[Exception]) -> None:
        """It is an error of ours, naming the signature or the place, before the job's code runs."""
        with pytest.raises(error):
            define(add).prepare(Codec(), None, args, kwargs, None)  # type: ignore[arg-type]

    def test_it_is_only_prepared(self) -> None:
        """Nothing of the application runs until the call is made; what it raises comes through."""

        def job() -> None:
            raise KeyError("mine")

        call = define(job).prepare(Codec(), None, "[]", "{}", None)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            call()
        assert define(add).prepare(Codec(), None, "[1]", '{"b": 5}', None)() == 6  # type: ignore[arg-type]

    @pytest.mark.parametrize("init", ["[]", "{", '{"args": 5, "kwargs": {}}', '{"args": []}', "null"])
    def test_a_broken_constructor_call_is_told(self, init: str) -> None:
        """As with arguments."""
        with pytest.raises(InvalidJobError):
            define(Constructed).prepare(Codec(), init, "[1]", "{}", None)  # type: ignore[arg-type]

    def test_a_class_is_constructed_when_it_runs(self) -> None:
        """From the stored constructor arguments; without any it must not need one."""
        definition = define(Constructed)
        init = definition.dump_init(Codec(), (1,), {})
        assert definition.prepare(Codec(), init, "[2]", "{}", None)() == 3  # type: ignore[arg-type]
        with pytest.raises(InvalidJobError):
            definition.prepare(Codec(), None, "[2]", "{}", None)  # type: ignore[arg-type]

    def test_a_result_that_cannot_be_stored_is_told(self) -> None:
        """NaN, a generator, itself, too much: none goes to a store."""
        endless: list[Any] = []
        endless.append(endless)
        for value in (float("nan"), (n for n in ()), endless, "x" * (2 << 20), object()):
            with pytest.raises(SerializationError):
                define(add).dump_result(Codec(), value)


def test_what_has_no_signature_is_refused() -> None:
    """A builtin without one cannot be checked."""
    with pytest.raises(ConfigError):
        define(type)
