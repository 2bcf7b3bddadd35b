"""The hot path: settle what ended, release what is due, claim what is wanted.

One round trip when nothing ended and nothing is claimed; one more for all that returned, one for the other outcomes,
two for a claim, two for jobs that became due. Never more with more jobs, but for results of many megabytes. Jobs under
limits take some more; others pay nothing for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from bson.objectid import ObjectId
from pymongo.errors import PyMongoError

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.mongodb import admission
from jobcard.backends.mongodb.changes import expiry
from jobcard.backends.mongodb.claim import Claim, look, release
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.errors import is_about_a_value, translate
from jobcard.backends.mongodb.outcomes import apply
from jobcard.backends.mongodb.rows import STATES_AT_WORK
from jobcard.core.job import Ref

_PART = 4 << 20
"""Characters of results in one update: a command may not be much larger than 16 MiB."""


def exchange(
    store: Store,
    owner: str,
    completions: Completions,
    outcomes: Sequence[Outcome],
    want: Want,
    lease: int,
    freed: Collection[str],
) -> Exchanged:
    """Settle, release, claim; each step by itself, as there is no transaction around them.

    Where the store is sealed in the middle, what was written before stays: it goes with its jobs to where they go, and
    whoever repeats the exchange there finds it applied, and what was claimed held by its owner, by the same tokens.
    """
    refusals: list[Refusal] = []
    for part in _parts(completions):
        refusals += _complete(store, part)
    if outcomes:
        refusals += apply(store, outcomes)
    claim = Claim(store, owner, want, lease)
    seen = look(store, owner, claim.wants())
    is_due = seen.due is not None and seen.due <= seen.now
    if is_due:
        release(store, seen.now)
    if (freed and admission.let_in(store, freed, seen.now)) or is_due:
        seen = look(store, owner, claim.wants())
    claimed = claim.take(seen)
    due = [at for at in (seen.due, claim.free_at) if at is not None]
    return Exchanged(
        claimed=claimed,
        refusals=refusals,
        cancels=[*seen.cancels, *claim.cancels],
        settings=seen.settings,
        next_due=max(0, min(due) - seen.now) if due else None,
    )


class _Returned(NamedTuple):
    """One job that returned."""

    ref: Ref
    token: int
    result: str | None
    started_ago: int


def _parts(completions: Completions) -> Iterator[list[_Returned]]:
    """The completions in pieces that one update takes, no job twice in one."""
    part: list[_Returned] = []
    refs: set[Ref] = set()
    size = 0
    for row in map(_Returned._make, zip(*completions, strict=True)):
        length = len(row.result or "")
        if part and (size + length > _PART or row.ref in refs):
            yield part
            part, refs, size = [], set(), 0
        part.append(row)
        refs.add(row.ref)
        size += length
    if part:
        yield part


def _complete(store: Store, part: list[_Returned]) -> list[Refusal]:
    """Record that jobs returned, each only if its claim still holds it."""
    mark = ObjectId()
    try:
        if _write(store, part, mark) == len(part):
            return []
        refused = {}
    except (PyMongoError, UnicodeError, OverflowError) as error:
        if not is_about_a_value(error):
            raise
        # Those written before the one that failed bear the mark; the others again, each by itself.
        refused = _write_singly(store, part, mark)
    verdicts = explain(store, [(row.ref, row.token) for row in part if row.ref not in refused], mark)
    return [*refused.values(), *verdicts]


def _write(store: Store, part: list[_Returned], mark: ObjectId) -> int:
    rows = sorted(part, key=lambda row: row.ref)
    refs = [row.ref for row in rows]
    at = {"$indexOfArray": [{"$literal": refs}, "$_id"]}
    now = store.now
    tokens, results = {row.token for row in rows}, {row.result for row in rows}
    which: Document = {"_id": {"$in": refs}, "state": {"$in": STATES_AT_WORK}}
    if len(tokens) == 1:
        which["claim_token"] = rows[0].token
    else:
        which["$expr"] = {"$eq": ["$claim_token", _picked([row.token for row in rows], at)]}
    result: Expression = (
        {"$literal": rows[0].result} if len(results) == 1 else _picked([row.result for row in rows], at)
    )
    update = {
        "state": "completed",
        "result": result,
        "started_at": {"$subtract": [now, _picked([row.started_ago for row in rows], at)]},
        "finished_at": now,
        "expires_at": expiry(now),
        "version": {"$add": ["$version", 1]},
        "settled": mark,
        **dict.fromkeys(("claimed_by", "lease_until", "cancel_requested", "line", "key", "limited"), "$$REMOVE"),
    }
    return store.jobs.update_many(which, [{"$set": update}], hint=BY_ID).modified_count


def _picked(column: Sequence[object], at: Expression) -> Expression:
    return {"$arrayElemAt": [{"$literal": list(column)}, at]}


def _write_singly(store: Store, part: list[_Returned], mark: ObjectId) -> dict[Ref, Refusal]:
    refused = {}
    for row in part:
        try:
            _write(store, [row], mark)
        except (PyMongoError, UnicodeError, OverflowError) as error:
            if not is_about_a_value(error):
                raise
            refused[row.ref] = Refusal(row.ref, row.token, Verdict.REFUSED, str(translate(error)))
    return refused


def explain(store: Store, written: Sequence[tuple[Ref, int]], mark: ObjectId) -> list[Refusal]:
    """What became of completions that did not all apply: those without the mark."""
    fields = {"claim_token": True, "state": True, "settled": True}
    found = {one["_id"]: one for one in store.jobs.find({"_id": {"$in": [ref for ref, _ in written]}}, fields)}
    refusals = []
    for ref, token in written:
        there = found.get(ref)
        if there is not None and there.get("settled") == mark:
            continue
        mine = there is not None and there["claim_token"] == token and there["state"] not in STATES_AT_WORK
        refusals.append(Refusal(ref, token, Verdict.MINE if mine else Verdict.LOST))
    return refusals
