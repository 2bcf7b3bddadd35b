"""What is accepted is kept exactly: through every store as an argument, through a job, and back as its result."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from shop import Shop

BERLIN = ZoneInfo("Europe/Berlin")
ALL = list(HealthCheck)
TREES = 2_000
"""How many trees of arguments each store is given."""


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


KEPT: dict[int, tuple[Any, ...]] = {
    3: (-0.0, 5e-324, 1.7e308),
    4: (2**53 + 1, -(2**53) - 1),
    5: (2**63, -(2**63) - 1, 2**64, 10**999),
    7: ("a\x00b", "\x00", ["\x00" * 9]),
    9: ("\ud800", "\ud83d\ude00", "x\udfff", {"\ud800": "\udfff"}),
    11: ("😀", "👩‍👩‍👧", "\u202eabc", "e\u0301é", "\x7f\u2028\ufeff", "a\\\"'%_;"),
    19: (deep(98),),
    24: (
        b"\x00\xff", Decimal("-0.00"), Decimal("1E+999"), UUID(int=7), date(2024, 2, 29), time(1, 2, 3, 4),
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime(2024, 1, 1), timedelta(days=-1, microseconds=1),
        {1, 2}, frozenset({"x"}),
    ),
    25: (True, 1, 1.0, (1, (2,)), [1, [2]], False, 0),
    28: ({"$ref": 1, "a.b": 2, "": 3, "__proto__": 4, "$jc": 5, "$where": {"$gt": ""}}, {"$jc": ["uuid", "x"]}),
}  # fmt: skip
"""Values by the number of their row."""


def shown(value: object) -> object:
    """Equal for values that are the same down to their types; a set has no order."""
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(shown, value))
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(shown, value))
    if isinstance(value, dict):
        return dict, tuple((key, shown(each)) for key, each in value.items())
    return repr(value)


@pytest.mark.parametrize("row", KEPT)
def test_a_value_comes_back_from_store_and_job(shop: Shop, row: int) -> None:
    """The stored argument and the stored result are what was given."""
    handles = shop.jobs.enqueue_many([shop.echo.call(value) for value in KEPT[row]])
    for value, job in zip(KEPT[row], shop.after_work(*handles), strict=True):
        assert (job.state, job.reason) == ("completed", None)
        assert shown(job.args) == shown([value])
        assert shown(job.result) == shown(value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.binary(max_size=6)
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
)
KEYS = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from(["$jc", "$set", "a.b", ""])
ANY_TREE = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2).map(tuple)
    ),
    max_leaves=10,
)


@pytest.fixture(scope="session")
def trees() -> Iterator[list[Any]]:
    """Many values of all kinds, made once and given to every store."""
    made: list[Any] = []

    @settings(
        max_examples=TREES // 10, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=ALL
    )
    @given(st.lists(ANY_TREE, min_size=10, max_size=10))
    def make(several: list[Any]) -> None:
        made.extend(several)

    make()
    yield made


def test_any_tree_comes_back_from_every_store(shop: Shop, trees: list[Any]) -> None:
    """Whatever is built of what can be stored: the same after the store had it."""
    handles = shop.jobs.enqueue_many([shop.echo.call(tree) for tree in trees])
    stored = {job.id: job.args for job in shop.jobs.iterate()}
    assert len(stored) == len(trees) >= TREES // 2
    for handle, tree in zip(handles, trees, strict=True):
        assert shown(stored[handle.id]) == shown([tree])


def test_what_the_caller_changes_afterwards_changes_nothing(shop: Shop) -> None:
    """Row 30: the stored value is the one of the call."""
    value = {"a": [1]}
    handle = shop.echo.enqueue(value)
    value["a"].append(2)
    assert handle.refresh().args == [{"a": [1]}]


def test_an_instant_is_kept_in_any_zone(shop: Shop) -> None:
    """Rows 32 and 34: in a gap or a fold of summer time, as the instant; a little in the past is now."""
    for at in (
        datetime(2027, 3, 28, 2, 30, tzinfo=BERLIN),
        datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN),
        datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2200, 12, 31, tzinfo=UTC),
    ):
        assert shop.echo.options(at=at).enqueue().refresh().available_at == at.astimezone(UTC)
    late = shop.echo.options(delay=-5).enqueue().refresh()
    assert (late.available_at, late.hold) == (late.created_at, None)


def test_queues_that_look_alike_are_two(shop: Shop) -> None:
    """Rows 12 and 13: by case and by the form of an accent; a filter takes `%` and `_` literally."""
    names = ["A", "a", "é", "e\u0301", "a_b", "axb"]
    for name in names:
        shop.echo.options(queue=name).enqueue(name)
    assert sorted(shop.jobs.queues.names()) == sorted(names)
    for name in names:
        assert [job.args for job in shop.jobs.list(queue=name)] == [[name]]
    assert [job.args for job in shop.jobs.list(search="%")] == []
