"""Limits as arithmetic: what a rate leaves, when there is room again, and who of a line may start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcard.core.job import JobRow
from jobcard.core.rates import (
    ENTERS,
    SLOTS,
    WAITS,
    Admission,
    Limited,
    QueueLimit,
    Rate,
    RateLimit,
    Starts,
    Use,
    admit,
    is_put_off,
    limits_of,
    rate_of,
)
from jobcard.core.states import Hold
from jobcard.errors import ConfigError

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
TEN = Rate(10, SECOND)


def at(now: int, used: int, rate: Rate = TEN) -> Starts:
    """So many starts at one instant."""
    return Starts([(rate.slot_at(now), used)])


@given(
    rate=st.builds(Rate, st.integers(1, 5), st.integers(100_000, 10 * SECOND)),
    steps=st.lists(st.integers(0, 3 * SECOND), max_size=60),
)
def test_no_window_has_more_starts_than_the_rate(rate: Rate, steps: list[int]) -> None:
    """Whoever starts whenever there is room never exceeds it, in any window of any length of steps."""
    counted: dict[int, int] = {}
    starts: list[int] = []
    now = NOW
    for step in steps:
        now += step
        if Starts(list(counted.items())).room(rate, now):
            counted[rate.slot_at(now)] = counted.get(rate.slot_at(now), 0) + 1
            starts.append(now)
    for first in starts:
        assert sum(first <= start <= first + rate.per for start in starts) <= rate.most


@given(ago=st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=30))
def test_there_is_room_from_the_instant_that_is_told_and_not_before(ago: list[int]) -> None:
    """`free_at` is exact: at it one may start, a microsecond earlier none may."""
    starts = Starts([(TEN.slot_at(NOW - each), 1) for each in ago])
    free_at = starts.free_at(TEN, NOW)
    assert starts.room(TEN, free_at) > 0
    assert free_at == NOW or starts.room(TEN, free_at - 1) == 0


def test_a_window_that_was_changed_begins_anew() -> None:
    """What was counted under a longer or shorter window keeps nobody waiting for years."""
    for before in (Rate(10, 100_000), Rate(10, 3600 * SECOND)):
        assert at(NOW, 10, before).room(TEN, NOW) == 10
        assert at(NOW, 10, before).free_at(TEN, NOW) == NOW


def test_a_clock_that_stepped_back_lets_no_more_in() -> None:
    """Starts that lie a little ahead of now still count."""
    starts = at(NOW + SECOND // 2, 10)
    assert starts.room(TEN, NOW) == 0
    assert starts.free_at(TEN, NOW) > NOW + SECOND


def test_the_narrower_limit_of_a_queue_counts() -> None:
    """Of jobs at once and starts, whichever leaves less; nothing bounds a queue without either."""
    use = Use(3, at(NOW, 9))
    assert QueueLimit(5, TEN).room(use, NOW) == 1
    assert QueueLimit(4, None).room(use, NOW) == 1
    assert QueueLimit(2, TEN).room(use, NOW) == 0
    assert QueueLimit(None, None).room(use, NOW) is None


def test_who_of_a_line_may_start() -> None:
    """As many of each key as it has room for, the first ones; others wait for an end, or for a window."""
    line = [Limited("one", 1, None), Limited("two", 2, None), Limited("one", 1, None), Limited("two", 2, None)]
    assert admit(line, {"two": Use(1)}, NOW) == [ENTERS, ENTERS, WAITS, WAITS]
    rated = [Limited("rated", None, TEN)] * 4
    answers = admit(rated, {"rated": Use(0, at(NOW, 8))}, NOW)
    assert answers[:2] == [ENTERS, ENTERS]
    assert all(answer.until > NOW + SECOND for answer in answers[2:])


def test_a_crowd_that_a_rate_keeps_out_is_spread_over_windows() -> None:
    """They do not all come back at once, only to be sent away again."""
    answers = admit([Limited("k", None, TEN)] * 35, {}, NOW)
    turns = [answer.until for answer in answers if not answer.enters]
    assert len(turns) == 25 and turns == sorted(turns)
    assert [turns.count(turn) for turn in sorted(set(turns))] == [10, 10, 5]
    assert min(b - a for a, b in zip(sorted(set(turns)), sorted(set(turns))[1:], strict=False)) > SECOND
    assert isinstance(answers[0], Admission) and SLOTS > 1


def test_those_kept_out_before_come_first() -> None:
    """Whoever a later look keeps out comes behind them, and fills up the window that they left unfilled."""
    first = admit([Limited("k", None, TEN)] * 22, {"k": Use(0, at(NOW, 10))}, NOW)
    again = admit([Limited("k", None, TEN)] * 12, {"k": Use(0, at(NOW, 10), kept_out=22)}, NOW)
    turns = [answer.until for answer in (*first, *again)]
    assert turns == sorted(turns)
    assert [turns.count(turn) for turn in sorted(set(turns))] == [10, 10, 10, 4]


def test_what_an_answer_puts_a_job_under() -> None:
    """Nothing if it enters; a rate has it come back by itself, a full key when another has left."""
    assert (ENTERS.hold, WAITS.hold, Admission(False, NOW).hold) == (None, Hold.LIMIT, Hold.DELAY)


def test_starts_count_until_their_slot_lapses() -> None:
    """Up to that instant they are in the way, and from then on they are not."""
    lapses = TEN.lapses(TEN.slot_at(NOW))
    assert (at(NOW, 10).room(TEN, lapses - 1), at(NOW, 10).room(TEN, lapses)) == (0, 10)
    assert at(NOW, 10).free_at(TEN, NOW) == lapses


def test_a_job_is_put_off_that_was_due_by_its_order() -> None:
    """A rate moves the time alone; whoever asked for a delay moved both, and an offset is no delay."""
    plain = dict.fromkeys(JobRow._fields)
    given = {"hold": "delay", "limit_key": "k", "rate_count": 10, "rate_per": SECOND}
    for offset in (0, -7, 7):
        delayed = JobRow(**{**plain, **given, "available_at": 100, "order_at": 100 + offset, "order_offset": offset})  # type: ignore[arg-type]
        assert not is_put_off(delayed)
        assert is_put_off(delayed._replace(available_at=101))
        assert not is_put_off(delayed._replace(available_at=101, hold=None))
        assert limits_of(delayed) == Limited("k", None, TEN)
        assert rate_of(delayed._replace(rate_count=None)) is None


@pytest.mark.parametrize(("count", "per"), [(0, 1), (1, 0), (True, 1), (1, 32 * 86_400), ("3", 1)])
def test_a_rate_limit_that_makes_no_sense_is_refused(count: object, per: float) -> None:
    """A count of at least one, a window between a tenth of a second and 31 days."""
    with pytest.raises(ConfigError):
        RateLimit(count, per)  # type: ignore[arg-type]
