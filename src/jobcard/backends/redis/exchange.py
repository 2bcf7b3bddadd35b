"""The hot path: settle what ended, claim what is wanted, in one script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.redis import changes, rows
from jobcard.core.job import Claimed
from jobcard.errors import CorruptRecordError, InvalidJobError


def exchange(
    run: Callable[..., Any],
    quarantine: Callable[[list[str]], None],
    owner: str,
    completions: Completions,
    outcomes: Sequence[Outcome],
    want: Want,
    lease: int,
) -> Exchanged:
    """Run the script. What cannot be written is refused here, one by one; the rest goes."""
    refusals: list[Refusal] = []
    columns, results = completions, _results(completions)
    moves, cards = _moves(outcomes, refusals)
    wants = [[queue, most] for queue, most in want.queues if most > 0]
    head = (owner, lease)
    try:
        answer = run(
            "exchange",
            *head,
            [columns.refs, columns.tokens, results, columns.started_ago],
            moves,
            wants,
            want.total,
            cards=cards,
        )
    except InvalidJobError:
        columns, results = _writable(completions, refusals)
        answer = run(
            "exchange",
            *head,
            [columns.refs, columns.tokens, results, columns.started_ago],
            moves,
            wants,
            want.total,
            cards=cards,
        )
    claimed, refused, cancels, settings, next_due = answer
    refusals += [Refusal(ref.decode(), token, Verdict(verdict.decode())) for ref, token, verdict in refused]
    jobs, broken = _claims(claimed)
    if broken:
        quarantine(broken)
    return Exchanged(
        claimed=jobs,
        refusals=refusals,
        cancels=[(ref.decode(), why.decode()) for ref, why in cancels],
        settings=settings,
        next_due=next_due,
    )


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


def _writable(completions: Completions, refusals: list[Refusal]) -> tuple[Completions, list[object]]:
    kept = []
    for row in zip(*completions, strict=True):
        try:
            rows.pack(row)
        except InvalidJobError as error:
            refusals.append(Refusal(row[0], row[1], Verdict.REFUSED, str(error)))
        else:
            kept.append(row)
    columns = Completions(*(list(column) for column in zip(*kept, strict=True))) if kept else Completions()
    return columns, _results(columns)


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
