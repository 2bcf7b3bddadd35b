"""What is refused changes nothing: on every store, jobs and queues after it are those before it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from shop import Shop, itself

from jobcard import Unique
from jobcard.errors import DuplicateJobError, InvalidJobError, JobcardError, SerializationError, UnknownJobError

TAKEN = UUID("01990000-0000-7000-8000-000000000001")


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


class Plain:
    """An object as an application has them."""


async def coroutine() -> None: ...


VALUES: dict[int, tuple[Any, ...]] = {
    1: (float("nan"), [{"a": float("nan")}], Decimal("NaN")),
    2: (float("inf"), float("-inf"), Decimal("-Infinity")),
    6: (10**5_000, -(10**1_000)),
    20: (deep(101), deep(100_000)),
    21: (itself(), {"a": itself()}),
    22: ("x" * (1 << 20), ["x" * 1_000] * 9_000),
    24: (
        lambda: 0, print, object(), Plain(), Path("x"), sys, threading.Lock(), socket.socket, (n for n in ()),
        Enum("Colour", "RED").RED, range(3), 1j, bytearray(b"x"), memoryview(b"x"),  # type: ignore[attr-defined]
    ),
    25: (type("Text", (str,), {})("x"), type("Number", (int,), {})(1), type("Dict", (dict,), {})()),
    26: ({1: "a", "1": "b"},),
    27: ({None: 1}, {True: 1}, {1.5: 1}, {(1,): 1}),
}  # fmt: skip
"""Arguments, by the number of their row."""

NAMES: dict[int, tuple[Any, ...]] = {
    8: ("a\x00b", "\x00"),
    10: ("\ud800", "a\udfffb"),
    14: ("q ", " q", "q\n", "q\u00a0"),
    15: tuple(f"a{mark}b" for mark in "'\";%\\?#&<>`${}*|,=!~^[]()"),
    16: ("$where", {"$gt": ""}, ["$in"]),
    17: ("", "  ", ".", "..", b"q", 5, 1.5, True),
    18: ("x" * 201, "x" * 10_000),
}
OPTIONS: dict[int, dict[str, tuple[Any, ...]]] = {
    5: dict.fromkeys(("priority", "max_attempts", "delay", "timeout", "keep"), (2**63, -(2**63) - 1, 2**64)),
    31: {"at": (datetime(2030, 1, 1),)},
    33: {
        "at": (
            datetime(1, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
            datetime(1969, 12, 31, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC),
        )
    },
    34: {"delay": (-(10**9),)},
    35: {"delay": (10**12, timedelta.max, 1e18, float("nan"), float("inf"))},
    36: {"delay": ("5", True, b"5")},
    37: {"priority": (2**31, -(2**31) - 1, 32_768, 1.5, float("nan"), "1", True)},
    38: {"max_attempts": (0, -1, 1_001, 10**9, 1.0)},
    39: {"timeout": (0, -1, 1e-9, float("inf"), "5")},
    41: {"unique": ("to", 5, ["to"], Unique(by="nobody"), Unique(key=lambda *_, **__: 5))},
    42: {"id": ("x", 5, b"0" * 16, "0" * 10_000, str(TAKEN)[:-1])},
}  # fmt: skip


def nothing_changes(shop: Shop, calls: list[Callable[[], object]], *errors: type[JobcardError]) -> None:
    """Each call raises one of these errors in a message of a line or two, and the store is as it was."""
    shop.echo.options(id=TAKEN, queue="mail").enqueue("cat")
    before = shop.everything()
    for call in calls:
        with pytest.raises(errors) as caught:
            call()
        assert len(str(caught.value)) < 400
        str(caught.value).encode()
    assert shop.everything() == before


@pytest.mark.parametrize("row", VALUES)
def test_a_value_that_would_not_come_back(shop: Shop, row: int) -> None:
    """Alone, within others, among many and by name: refused before the store is asked."""
    calls: list[Callable[[], object]] = []
    for value in VALUES[row]:
        calls += [
            lambda value=value: shop.echo.enqueue(value),
            lambda value=value: shop.echo.enqueue(a={"b": [value]}),
            lambda value=value: shop.jobs.enqueue_many([shop.echo.call(1), shop.echo.call(value)]),
            lambda value=value: shop.jobs.enqueue("else.where", [value], strict=False),
        ]
    nothing_changes(shop, calls, SerializationError)


def test_a_coroutine_is_no_value(shop: Shop) -> None:
    """It is refused too, and can still be closed."""
    never = coroutine()
    nothing_changes(shop, [lambda: shop.echo.enqueue(never)], SerializationError)
    never.close()


@pytest.mark.parametrize("row", NAMES)
def test_a_name_that_is_none(shop: Shop, row: int) -> None:
    """As the name of a queue, of a tag and of a job; a filter takes it literally or refuses it, and finds nothing."""
    calls: list[Callable[[], object]] = []
    for name in NAMES[row]:
        calls += [
            lambda name=name: shop.echo.options(queue=name).enqueue(),
            lambda name=name: shop.echo.options(tags=[name]).enqueue(),
            lambda name=name: shop.jobs.enqueue(name, strict=False),
            lambda name=name: shop.jobs.queues.create(name),
            lambda name=name: shop.jobs.job(name=name)(print) if name else shop.jobs.queues.create(name),
        ]
    nothing_changes(shop, calls, JobcardError)
    for name in NAMES[row]:
        for filters in ({"queue": name}, {"name": name}, {"tags": [name]}):
            try:
                assert list(shop.jobs.list(**filters)) == []
            except JobcardError:
                continue


@pytest.mark.parametrize("row", OPTIONS)
def test_an_option_out_of_its_bounds(shop: Shop, row: int) -> None:
    """`InvalidJobError`, with the job's own declaration, by name and among many."""
    calls: list[Callable[[], object]] = []
    for name, values in OPTIONS[row].items():
        for given in ({name: value} for value in values):
            calls += [
                lambda given=given: shop.echo.options(**given).enqueue(),
                lambda given=given: shop.jobs.enqueue("else.where", strict=False, **given),
                lambda given=given: shop.jobs.enqueue_many([shop.echo.call(), shop.echo.options(**given).call()]),
            ]
    nothing_changes(shop, calls, InvalidJobError)


def test_an_id_that_is_taken(shop: Shop) -> None:
    """Row 42: by another job's content, with its own name or another; the stored job is unchanged."""
    calls: list[Callable[[], object]] = [
        lambda: shop.echo.options(id=TAKEN, queue="mail").enqueue("dog"),
        lambda: shop.jobs.enqueue_many([shop.echo.options(id=TAKEN, queue="mail").call("dog")]),
        lambda: shop.jobs.enqueue("else.where", ["cat"], id=str(TAKEN), queue="mail", strict=False),
    ]
    nothing_changes(shop, calls, DuplicateJobError)


def test_one_bad_item_among_many(shop: Shop) -> None:
    """Row 43: number 777 of 1,500 is named, and none of them is stored."""
    calls = [shop.echo.call(n) for n in range(1_500)]
    calls[777] = shop.echo.call(float("nan"))

    def enqueue_them() -> None:
        try:
            shop.jobs.enqueue_many(calls)
        except InvalidJobError as error:
            assert error.index == 777
            raise

    nothing_changes(shop, [enqueue_them], InvalidJobError)


def test_a_name_nobody_declared(shop: Shop) -> None:
    """Row 47: where jobs are declared, a misspelt one is an error that names the nearest."""
    nothing_changes(shop, [lambda: shop.jobs.enqueue("shop.ecko"), lambda: shop.jobs.enqueue("x")], UnknownJobError)


def test_arguments_that_do_not_fit(shop: Shop) -> None:
    """Row 50, where the function is known: refused with its signature."""
    calls: list[Callable[[], object]] = [
        lambda: shop.pair.enqueue(1),  # type: ignore[call-arg]
        lambda: shop.jobs.enqueue("shop.pair", [1, 2]),
        lambda: shop.jobs.enqueue("shop.pair", [1], {"wrong": 2}),
    ]
    nothing_changes(shop, calls, InvalidJobError)
