"""How long a failed job waits, and that no back-off can break its job."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcard.core.clock import DAY, HOUR, SECOND
from jobcard.core.limits import MAX_ATTEMPTS, MAX_DELAY
from jobcard.core.retry import DEFAULT_BACKOFF, Backoff
from jobcard.errors import ConfigError

DELAYS = st.floats(0, 3600)
BACKOFFS = (
    st.builds(Backoff.fixed, DELAYS)
    | st.builds(Backoff.linear, DELAYS)
    | st.builds(Backoff.exponential, DELAYS, st.floats(3600, 10**6), st.floats(1, 1000), st.floats(0, 1))
)


def label(value: object) -> str:
    """A test's id: the same in every process, so without addresses and without the order of a set."""
    plain = type(value) in (str, bytes, float, bool) or (type(value) is int and abs(value) < 2**65)
    return ascii(value)[:40] if plain else type(value).__name__


def never() -> float:
    pytest.fail("chance was asked")


def test_exponential_doubles_up_to_its_limit() -> None:
    """1, 2, 4 … seconds, and never more than the limit."""
    backoff = Backoff.exponential(base=1, limit=10, jitter=0)
    assert [backoff.delay_before(attempt, never) for attempt in range(1, 7)] == [
        seconds * SECOND for seconds in (1, 2, 4, 8, 10, 10)
    ]


def test_jitter_only_takes_off() -> None:
    """Chance takes up to its share off the delay, so the limit holds."""
    backoff = Backoff.exponential(base=8, limit=10, jitter=0.5)
    assert backoff.delay_before(1, lambda: 0.0) == 8 * SECOND
    assert backoff.delay_before(1, lambda: 0.5) == 6 * SECOND
    assert backoff.delay_before(2, lambda: 1 - 2**-53) == 5 * SECOND


def test_linear_and_fixed_need_no_chance() -> None:
    """Linear grows by its step up to the limit; fixed stays."""
    linear = Backoff.linear(timedelta(minutes=20))
    assert [linear.delay_before(attempt, never) for attempt in (1, 2, 3, 4)] == [HOUR // 3, HOUR // 3 * 2, HOUR, HOUR]
    assert [Backoff.fixed(1.5).delay_before(attempt, never) for attempt in (1, 1000)] == [1_500_000, 1_500_000]


def test_the_default_starts_at_a_second_and_ends_at_an_hour() -> None:
    """5 attempts wait about 1, 2, 4 and 8 seconds; late ones an hour."""
    assert Backoff.exponential() == DEFAULT_BACKOFF
    assert DEFAULT_BACKOFF.delay_before(1, lambda: 0.0) == SECOND
    assert DEFAULT_BACKOFF.delay_before(1000, lambda: 0.0) == HOUR


@given(BACKOFFS, st.integers(-5, MAX_ATTEMPTS), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_its_bounds(backoff: Backoff, attempt: int, chance: float) -> None:
    """Every delay is a whole number of microseconds in 0..limit."""
    delay = backoff.delay_before(attempt, lambda: chance)
    assert type(delay) is int
    assert 0 <= delay <= backoff.limit


@given(BACKOFFS)
def test_a_stored_back_off_is_the_same(backoff: Backoff) -> None:
    """What a job carries gives the same delays as what the code declared."""
    assert Backoff.from_text(backoff.to_text()) == backoff
    assert backoff.to_text().isascii()


def test_its_text_is_written_once() -> None:
    """Every enqueue stores it, so it is not built anew."""
    backoff = Backoff.exponential()
    assert backoff.to_text() is backoff.to_text()
    assert len(backoff.to_text()) < 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff.fixed(-1),
        lambda: Backoff.fixed(math.nan),
        lambda: Backoff.fixed(math.inf),
        lambda: Backoff.fixed("5"),  # type: ignore[arg-type]
        lambda: Backoff.fixed(True),
        lambda: Backoff.fixed(None),  # type: ignore[arg-type]
        lambda: Backoff.fixed(1e18),
        lambda: Backoff.fixed(10**400),
        lambda: Backoff.fixed(timedelta.max),
        lambda: Backoff.linear(-1),
        lambda: Backoff.linear(7200),
        lambda: Backoff.exponential(base=7200),
        lambda: Backoff.exponential(limit=-1),
        lambda: Backoff.exponential(factor=0.5),
        lambda: Backoff.exponential(factor=math.nan),
        lambda: Backoff.exponential(factor=10**400),
        lambda: Backoff.exponential(factor=True),
        lambda: Backoff.exponential(factor="2"),  # type: ignore[arg-type]
        lambda: Backoff.exponential(jitter=1.1),
        lambda: Backoff.exponential(jitter=-0.1),
        lambda: Backoff.exponential(jitter=None),  # type: ignore[arg-type]
        lambda: Backoff.custom(5),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_back_off_is_refused_when_declared(make: Any) -> None:
    """Bad numbers are told where they are written, not when a job fails."""
    with pytest.raises(ConfigError, match="backoff: "):
        make()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{bad",
        "5",
        "null",
        "[]",
        "{}",
        '{"kind":"other","first":1,"limit":2}',
        '{"kind":"fixed"}',
        '{"kind":"fixed","first":-1,"limit":1}',
        '{"kind":"fixed","first":1.5,"limit":1}',
        '{"kind":"fixed","first":true,"limit":1}',
        '{"kind":"fixed","first":"1","limit":1}',
        '{"kind":"fixed","first":1e999,"limit":1}',
        '{"kind":"fixed","first":' + "9" * 400 + ',"limit":1}',
        '{"kind":"exponential","first":1,"limit":2}',
        '{"kind":"exponential","first":1,"limit":2,"factor":NaN,"jitter":0}',
        '{"kind":"exponential","first":3,"limit":2,"factor":2,"jitter":0}',
        "[" * 400,
        "[" * 100_000,
        "9" * 5_000,
        None,
    ],
    ids=label,
)
def test_unreadable_text_gives_the_default(text: Any) -> None:
    """A damaged record costs a job its own back-off, never its retry."""
    assert Backoff.from_text(text) == DEFAULT_BACKOFF


# ------------------------------------------------------------------ custom


def test_a_custom_function_is_told_the_attempt() -> None:
    """It answers in seconds or with a timedelta."""
    assert Backoff.custom(lambda attempt: attempt * 2).custom_delay(3, never) == (6 * SECOND, None)
    assert Backoff.custom(lambda attempt: timedelta(days=1)).custom_delay(1, never) == (DAY, None)
    assert Backoff.custom(lambda attempt: 0).custom_delay(1, never) == (0, None)
    assert Backoff.fixed(3).custom_delay(1, never) == (3 * SECOND, None)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh"),
        (Unprintable(), "Unprintable"),
        (RecursionError(), "RecursionError"),
        (ValueError("x" * 10_000), "ValueError: x"),
        (-1, "0 to"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        (MAX_DELAY / SECOND + 1, "0 to"),
        (10**400, "0 to"),
        (timedelta.min, "0 to"),
        ("5", "str"),
        (None, "NoneType"),
        (True, "bool"),
    ],
    ids=label,
)
def test_a_custom_function_that_fails_is_replaced_and_told(answer: object, says: str) -> None:
    """The default back-off is used, the problem is told, the job is kept."""

    def function(attempt: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    delay, problem = Backoff.custom(function).custom_delay(2, lambda: 0.0)
    assert delay == 2 * SECOND
    assert problem is not None
    assert says in problem
    assert len(problem) < 400


def test_only_the_default_of_a_custom_one_is_stored() -> None:
    """Where its function cannot run, the default is used; the text says that there is one."""
    backoff = Backoff.custom(lambda attempt: 5)
    assert json.loads(backoff.to_text())["custom"] is True
    assert Backoff.from_text(backoff.to_text()) == DEFAULT_BACKOFF
    assert backoff.is_custom
    assert not DEFAULT_BACKOFF.is_custom
    assert backoff.delay_before(1, lambda: 0.0) == SECOND
