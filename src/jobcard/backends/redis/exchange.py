"""The hot path: settle what ended, claim what is wanted, in one script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.redis import admission, changes, leases, rows
from jobcard.backends.redis.scripts import Run
from jobcard.core.job import Claimed
from jobcard.errors import CorruptRecordError, InvalidJobError

MOST_ROUNDS = 20
"""Scripts of one exchange at most: behind so many jobs of full limit keys whoever waits for its outcomes has waited."""


def exchange(
    run: Run,
    owner: str,
    completions: Completions,
    outcomes: Sequence[Outcome],
    want: Want,
    lease: int,
    freed: Collection[str],
) -> Exchanged:
    """Run the script. What cannot be written is refused here, one by one; the rest goes."""
    refusals: list[Refusal] = []
    moves, cards = _moves(outcomes, refusals)

    def settle(done: Completions) -> Any:
        columns = [done.refs, done.tokens, _results(done), done.started_ago]
        return run("exchange", owner, lease, columns, moves, *_wants(want), sorted(freed), cards=cards)

    def go_on(left: Want) -> Any:
        return run("exchange", owner, lease, _NOTHING_DONE, [], *_wants(left), [])

    try:
        answer = settle(completions)
    except InvalidJobError:
        answer = settle(_writable(completions, refusals))
    claimed, refused, cancels, settings, next_due, more = answer
    refusals += [Refusal(ref.decode(), token, Verdict(verdict.decode())) for ref, token, verdict in refused]
    jobs, broken = _claims(claimed)
    rounds = 1
    while more and rounds < MOST_ROUNDS:
        claimed, _, cancels, settings, next_due, more = go_on(_left_of(want, jobs))
        behind, unreadable = _claims(claimed)
        jobs, broken, rounds = _sorted(want, jobs + behind), broken + unreadable, rounds + 1
    if broken:
        leases.quarantine(run, broken)
    return Exchanged(
        claimed=jobs,
        refusals=refusals,
        cancels=[(ref.decode(), why.decode()) for ref, why in cancels],
        settings=settings,
        next_due=0 if more else next_due,
    )


_NOTHING_DONE: list[list[object]] = [[], [], [], []]


def _wants(want: Want) -> tuple[list[tuple[str, int]], int, dict[str, list[object]]]:
    limits = {queue: admission.to_array(limit) for queue, limit in want.limits.items()}
    return [(queue, most) for queue, most in want.queues if most > 0], want.total, limits


def _left_of(want: Want, claimed: Sequence[Claimed]) -> Want:
    """What is wanted still when these have been claimed."""
    taken = Counter(claim.queue for claim in claimed)
    queues = [(queue, most - taken[queue]) for queue, most in want.queues]
    return Want(queues, want.total - len(claimed), want.limits)


def _sorted(want: Want, claimed: Sequence[Claimed]) -> list[Claimed]:
    places = {queue: place for place, (queue, _) in enumerate(want.queues)}
    return sorted(claimed, key=lambda claim: (places[claim.queue], rows.place_in_line(claim)))


def _moves(outcomes: Sequence[Outcome], refusals: list[Refusal]) -> tuple[list[list[object]], list[bytes]]:
    """The outcomes that can be written, as arrays, and the cards of their follow-ups."""
    moves: list[list[object]] = []
    cards: list[bytes] = []
    for outcome in outcomes:
        try:
            jobs = [rows.new_job(job) for job in outcome.then]
            first = 2 + len(cards)
            move: list[object] = [
                outcome.ref,
                outcome.token,
                changes.to_array(outcome.change),
                [job for job, _ in jobs] or False,
                first,
            ]
            rows.pack(move)
        except InvalidJobError as error:
            refusals.append(Refusal(outcome.ref, outcome.token, Verdict.REFUSED, str(error)))
            continue
        moves.append(move)
        cards += [card for _, card in jobs]
    return moves, cards


def _writable(completions: Completions, refusals: list[Refusal]) -> Completions:
    kept = []
    for row in zip(*completions, strict=True):
        try:
            rows.pack(row)
        except InvalidJobError as error:
            refusals.append(Refusal(row[0], row[1], Verdict.REFUSED, str(error)))
        else:
            kept.append(row)
    return Completions(*(list(column) for column in zip(*kept, strict=True))) if kept else Completions()


def _results(columns: Completions) -> list[object]:
    return [False if result is None else result for result in columns.results]


def _claims(found: Sequence[tuple[bytes, bytes, bytes]]) -> tuple[list[Claimed], list[str]]:
    claims, broken = [], []
    for ref, live, card in found:
        try:
            claims.append(rows.to_claimed(ref.decode(), live, card))
        except CorruptRecordError:
            broken.append(ref.decode())
    return claims, broken
