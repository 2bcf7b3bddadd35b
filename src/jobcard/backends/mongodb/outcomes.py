"""Applying the moves of holders that are not plain completions, and storing what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bson.objectid import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from jobcard.backends.base import Outcome, Refusal, Verdict
from jobcard.backends.mongodb import changes, loads
from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import is_about_a_value, translate
from jobcard.backends.mongodb.rows import check_writable, to_document
from jobcard.core.job import Ref
from jobcard.errors import InvalidJobError


@dataclass(slots=True, eq=False)
class _Move:
    """One outcome on its way. load: of its follow-ups, None when it has none."""

    outcome: Outcome
    load: bytes | None = None
    update: UpdateOne | None = None
    refusal: Refusal | None = None
    done: bool = False


def apply(store: Store, outcomes: Sequence[Outcome]) -> list[Refusal]:
    """Apply each outcome whose claim still holds its job, with what follows it; what became of the others."""
    moves = [_Move(outcome) for outcome in outcomes]
    for round_ in _rounds(moves):
        _apply_round(store, round_)
    return [move.refusal for move in moves if move.refusal is not None]


def _rounds(moves: Sequence[_Move]) -> list[list[_Move]]:
    """The moves so that no job is moved twice in one round, and those of one job are in their order."""
    rounds: list[list[_Move]] = []
    times: dict[Ref, int] = {}
    for move in moves:
        place = times.get(move.outcome.ref, 0)
        times[move.outcome.ref] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(move)
    return rounds


def _apply_round(store: Store, round_: Sequence[_Move]) -> None:
    mark = ObjectId()
    for move in round_:
        _prepare(store, move, mark)
    if any(move.load for move in round_):
        _store_follow_ups(store, round_)
    sent = sorted((move for move in round_ if not move.done), key=_ref)
    if sent and _send(store, sent) < len(sent):
        _explain(store, sent, mark)
    if any(move.load for move in sent):
        _finish_follow_ups(store, sent)


def _ref(move: _Move) -> bytes:
    return bytes(move.outcome.ref) if isinstance(move.outcome.ref, bytes) else b""


def _prepare(store: Store, move: _Move, mark: ObjectId) -> None:
    outcome, now = move.outcome, store.now
    try:
        update = changes.update(outcome.change, now, settled=mark)
        if outcome.then:
            move.load = loads.name_of_follow_ups(_ref(move), outcome.token, outcome.then)
            update.append(changes.then_let_in(move.load))
            # Before anything of it is stored: one that cannot be written refuses the whole outcome.
            check_writable([update, *map(tuple, outcome.then)])
    except (InvalidJobError, PyMongoError, UnicodeError, OverflowError, ValueError) as error:
        _refuse(move, error)
        return
    which = changes.held_by(outcome.ref, outcome.token) | changes.fits(outcome.change, now)
    move.update = UpdateOne(which, update)


def _refuse(move: _Move, error: BaseException) -> None:
    if not isinstance(error, InvalidJobError) and not is_about_a_value(error):
        raise error
    outcome = move.outcome
    move.refusal = Refusal(outcome.ref, outcome.token, Verdict.REFUSED, str(translate(error) or error))
    move.load, move.done = None, True


# ------------------------------------------------------------------ sending


def _send(store: Store, moves: Sequence[_Move]) -> int:
    """Send the updates; how many applied. Those that cannot be written are refused, each by itself."""
    updates = [move.update for move in moves if move.update is not None]
    try:
        return store.jobs.bulk_write(updates, ordered=False).matched_count
    except BulkWriteError as error:
        if not is_about_a_value(error):
            raise
        for problem in error.details["writeErrors"]:
            move = moves[problem["index"]]
            why = f"MongoDB cannot store this change: code {problem['code']}"
            move.refusal = Refusal(move.outcome.ref, move.outcome.token, Verdict.REFUSED, why)
        return -1
    except (PyMongoError, UnicodeError, OverflowError) as error:
        if not is_about_a_value(error):
            raise
    for move in moves:
        try:
            if move.update is not None:
                store.jobs.bulk_write([move.update])
        except (PyMongoError, UnicodeError, OverflowError) as error:
            load = move.load
            _refuse(move, error)
            move.load = load
    return -1


def _explain(store: Store, moves: Sequence[_Move], mark: ObjectId) -> None:
    """Say what became of moves that did not all apply: those without the mark."""
    found = _standing(store, moves)
    for move in moves:
        there = found.get(_ref(move))
        if move.refusal is None and (there is None or there.get("settled") != mark):
            move.refusal = _verdict(move.outcome, there)


def _standing(store: Store, moves: Sequence[_Move]) -> dict[bytes, Document]:
    fields = {"claim_token": True, "state": True, "settled": True, "then": True}
    refs = [move.outcome.ref for move in moves]
    return {one["_id"]: one for one in store.jobs.find({"_id": {"$in": refs}}, fields)}


def _verdict(outcome: Outcome, there: Document | None) -> Refusal:
    is_ours = there is not None and there["claim_token"] == outcome.token
    mine = is_ours and there is not None and there["state"] not in outcome.change.sources
    return Refusal(outcome.ref, outcome.token, Verdict.MINE if mine else Verdict.LOST)


# ------------------------------------------------------------------ what follows


def _store_follow_ups(store: Store, round_: Sequence[_Move]) -> None:
    """Store the follow-ups of those moves that can still apply, under loads that the moves commit."""
    followed = [move for move in round_ if move.load is not None]
    standing = _standing(store, followed)
    for move in followed:
        there = standing.get(_ref(move))
        outcome = move.outcome
        if there is None or there["claim_token"] != outcome.token or there["state"] not in outcome.change.sources:
            # Over before anything was stored for it. What an earlier call has stored is finished there.
            move.refusal, move.done = _verdict(outcome, there), True
            if there is not None and move.load in there.get("then", ()):
                loads.finish_parents(store, [_ref(move)])
            continue
        documents: dict[bytes, Document] = {}
        for place, job in enumerate(outcome.then):
            # One whose key is taken is passed over, whatever it would replace.
            documents.setdefault(job.id, to_document(job._replace(replaces=False), place))
        loads.put(store, move.load or b"", documents.values(), joins=lambda there, new: True)


def _finish_follow_ups(store: Store, sent: Sequence[_Move]) -> None:
    """Let in what was committed, and take away what can be committed no more."""
    followed = [move for move in sent if move.load is not None]
    over = [move for move in followed if move.refusal is not None]
    standing = _standing(store, over) if over else {}
    committed: dict[bytes, list[bytes]] = {}
    dropped: list[bytes] = []
    queues: set[str] = set()
    for move in followed:
        load, there = move.load or b"", standing.get(_ref(move))
        if move.refusal is None or (there is not None and load in there.get("then", ())):
            committed.setdefault(_ref(move), []).append(load)
            queues |= {job.queue for job in move.outcome.then}
        else:
            dropped.append(load)
    if committed:
        loads.let_in(
            store,
            [load for each in committed.values() for load in each],
            queues=queues,
            singly=any(
                getattr(job, name) is not None
                for move in followed
                for job in move.outcome.then
                for name in loads.BY_THEMSELVES
            ),
        )
        loads.close(store, committed)
    if dropped:
        loads.drop(store, dropped)
