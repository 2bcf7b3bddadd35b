"""Limits over all engines: who of those just claimed may start, and who comes in when one has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from jobcard.backends.sqlite.connection import Connection
from jobcard.core import rates
from jobcard.core.job import Claimed
from jobcard.core.rates import Limited, QueueLimit, Rate, Starts, Use
from jobcard.core.states import Hold


def use_of_queue(connection: Connection, sql: Mapping[str, str], queue: str) -> Use:
    """How far the limits of a queue are used."""
    [(at_work,)] = connection.execute(sql["queue_at_work"], (queue,))
    return Use(at_work, _starts(connection, sql, rates.of_queue(queue)))


def use_of_key(connection: Connection, sql: Mapping[str, str], key: str) -> Use:
    """How far the limits of a limit key are used."""
    [(at_work,)] = connection.execute(sql["key_at_work"], (key,))
    return Use(at_work, _starts(connection, sql, rates.of_key(key)))


def _starts(connection: Connection, sql: Mapping[str, str], name: str) -> Starts:
    return Starts([(slot, used) for slot, used in connection.execute(sql["starts"], (name,))])


def sift(connection: Connection, sql: Mapping[str, str], claimed: Sequence[Claimed], now: int) -> list[Claimed]:
    """Those of the jobs claimed in this transaction that their keys let start; the others are put back, held."""
    limited = [claim for claim in claimed if claim.limit_key is not None]
    if not limited:
        return [*claimed]
    new = Counter(claim.limit_key for claim in limited)
    use = {}
    for limit_key, number in new.items():
        found = use_of_key(connection, sql, str(limit_key))
        use[str(limit_key)] = found._replace(at_work=found.at_work - number)
    answers = rates.admit([_limits_of(claim) for claim in limited], use, now)
    kept_out = {claim.ref: answer for claim, answer in zip(limited, answers, strict=True) if not answer.enters}
    for claim in limited:
        answer = kept_out.get(claim.ref)
        if answer is not None:
            hold, until = (Hold.DELAY, answer.until) if answer.until else (Hold.LIMIT, None)
            connection.execute(sql["keep_out"], (hold.value, until, claim.ref, claim.token))
    entered = [claim for claim in limited if claim.ref not in kept_out]
    for (key, rate), number in _by_rate(entered).items():
        count_starts(connection, sql, rates.of_key(key), rate, number, now)
    return [claim for claim in claimed if claim.ref not in kept_out]


def _limits_of(claim: Claimed) -> Limited:
    return Limited(str(claim.limit_key), claim.key_limit, _rate_of(claim))


def _rate_of(claim: Claimed) -> Rate | None:
    if claim.rate_count is None or claim.rate_per is None:
        return None
    return Rate(claim.rate_count, claim.rate_per)


def _by_rate(claims: Sequence[Claimed]) -> Counter[tuple[str, Rate]]:
    rated = [(str(claim.limit_key), _rate_of(claim)) for claim in claims]
    return Counter((key, rate) for key, rate in rated if rate is not None)


def count_starts(connection: Connection, sql: Mapping[str, str], name: str, rate: Rate, number: int, now: int) -> None:
    """Count starts of a queue or key under its rate."""
    if number:
        slot = rate.slot_at(now)
        until = (slot + rates.SLOTS + 1) * rate.slot
        connection.execute(sql["count_starts"], (name, slot, number, until))


def let_in(connection: Connection, sql: Mapping[str, str], keys: Collection[str]) -> int:
    """Put the first jobs held by these keys back in line, as far as each has room for them; how many."""
    number = 0
    for key in sorted(keys):
        for (most,) in connection.execute(sql["first_held"], (key,)):
            [(at_work,)] = connection.execute(sql["key_at_work"], (key,))
            if most > at_work:
                number += connection.change(sql["let_in"], (key, most - at_work))
    return number


def room_in_queue(
    connection: Connection, sql: Mapping[str, str], queue: str, limit: QueueLimit | None, now: int
) -> tuple[int | None, int | None]:
    """How many more jobs of a queue may be claimed now (None: unbounded), and when its rate lets in one more."""
    if limit is None:
        return None, None
    use = use_of_queue(connection, sql, queue)
    room = limit.room(use, now)
    free_at = None if limit.rate is None else use.starts.free_at(limit.rate, now)
    return room, free_at
