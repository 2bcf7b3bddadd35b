"""A copy of a store that nobody works on: the target has afterwards what the source has, and both can be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobcard.backends.base import Filter
from jobcard.core.move import COPY_KEY, KEY, Kind, Move, Phase, Role, from_text, new_id
from jobcard.errors import ConfigError
from jobcard.moving.pages import ALL, Selection, differences
from jobcard.moving.passes import Passed, Passing
from jobcard.moving.settings import Settled, copy_settings, missing_settings
from jobcard.moving.stores import Stores, engines_of, has_living, is_empty, moves_of
from jobcard.moving.turn import find, take_turn
from jobcard.moving.verify import Verified, verify
from jobcard.moving.voice import SILENT, Voice

ROUNDS = 3
"""So often is gone over both stores, where the source changes meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What came of a copy. settled: None: there was nothing to do, for both were equal. seconds: without verifying."""

    passed: Passed
    verified: Verified
    settled: Settled | None
    seconds: float
    paused: float | None = None
    """Of a live move: for how long nobody could claim or enqueue; None: it was not one process that saw it all."""

    @property
    def is_whole(self) -> bool:
        """Whether the target has every job that it should have."""
        return self.verified.is_equal and not self.passed.refused

    def is_good(self, *, skip_unreadable: bool) -> bool:
        """Whether that is all there was. skip_unreadable: jobs that cannot be read are nobody's loss."""
        return self.is_whole and (skip_unreadable or not self.verified.unreadable)


def copy(stores: Stores, selection: Selection = ALL, *, merge: bool = False, voice: Voice = SILENT) -> Copied:
    """Copy what is selected, and verify it; `ConfigError` says what stands in the way.

    merge: the target may have jobs; those stay as they are. Killed, it goes on from there when it is called again.
    """
    if problems := obstacles(stores, selection, merge=merge):
        raise ConfigError(problems[0])
    record = find(stores.target, COPY_KEY)
    if record is not None:
        before = from_text(record.value)
    else:
        if not merge and not is_empty(stores.target):
            return _equal_or_refused(stores, selection, voice)
        kind = Kind.MERGE if merge else Kind.COPY
        before = Move(id=new_id(), role=Role.TARGET, kind=kind, phase=Phase.COPY, other=stores.source_id)
    merge = before.kind is Kind.MERGE
    turn = take_turn(stores.target, before, record, voice.say)
    began = time.monotonic()
    settled = copy_settings(stores.source, stores.target, selection, keep=merge)
    passed = Passed()
    spent = 0.0
    for _ in range(ROUNDS):
        with voice.progress(count(stores, selection), "copied") as tell:
            passing = Passing(stores.source, stores.target, selection, merge=merge, beat=turn.keep, tell=tell)
            passed = added(passed, passing.run())
        spent += time.monotonic() - began
        verified = check(stores, selection, merged=merge, voice=voice, beat=turn.keep)
        if verified.missing + verified.different <= len(passed.refused) and not verified.settings:
            break
        began = time.monotonic()
        settled = copy_settings(stores.source, stores.target, selection, keep=merge)
    turn.end()
    return Copied(passed=passed, verified=verified, settled=settled, seconds=spent)


def obstacles(stores: Stores, selection: Selection = ALL, *, merge: bool = False) -> Sequence[str]:
    """What stands in the way of a copy, in words; whether the target is empty enough is not looked at."""
    source, target = stores.source, stores.target
    found = []
    if (seal := target.facts().seal) is not None:
        found.append(f"the target is sealed ({seal}): its jobs live elsewhere")
    if any(move.closes for move in moves_of(source).values()):
        found.append("the source is itself the target of a move that is not at its end")
    moves = moves_of(target)
    if KEY in moves and moves[KEY].closes:
        found.append("a live move into the target is under way: go on with --live, or give it up with --abort")
    if COPY_KEY in moves and moves[COPY_KEY].other != stores.source_id:
        found.append("a copy from another store into the target was not at its end: finish that, or --abort it")
    if has_living(source, selection):
        for store, name in ((source, "source"), (target, "target")):
            if engines := engines_of(store):
                found.append(
                    f"engines are at work on the {name} ({', '.join(engines[:3])}): stop them, or use --live, "
                    "which lets them go on (one that was killed counts until it has missed three heartbeats)"
                )
    return found


def added(passed: Passed, more: Passed) -> Passed:
    """Two passes as one. What is there, or is refused, is what the later one found."""
    return replace(more, written=passed.written + more.written, erased=passed.erased + more.erased)


def _equal_or_refused(stores: Stores, selection: Selection, voice: Voice) -> Copied:
    """The target has jobs: it may be that it has all that would be copied, and nothing else."""
    refusal = ConfigError(
        "the target has jobs or schedules of its own: name an empty one, or say --merge, which lets them stay"
    )
    if selection.is_all and any(
        difference.missing or difference.changed or difference.gone
        for difference in differences(stores.source, stores.target)
    ):
        raise refusal
    verified = check(stores, selection, voice=voice)
    if verified.others or not verified.is_equal:
        raise refusal
    passed = Passed(seen=verified.jobs)
    return Copied(passed=passed, verified=verified, settled=None, seconds=0.0)


def check(
    stores: Stores,
    selection: Selection = ALL,
    *,
    merged: bool = False,
    voice: Voice = SILENT,
    beat: Callable[[], None] = lambda: None,
) -> Verified:
    """Compare two stores, job by job; nothing is changed."""
    with voice.progress(count(stores, selection), "verified") as tell:
        verified = verify(stores.source, stores.target, selection, merged=merged, beat=beat, tell=tell)
    verified.settings = missing_settings(stores.source, stores.target, selection, keep=merged)
    return verified


def count(stores: Stores, selection: Selection) -> int:
    """How many jobs of the source are selected."""
    return sum(by_state(stores, selection).values())


def by_state(stores: Stores, selection: Selection) -> dict[str, int]:
    """How many of them are in which state."""
    where = Filter(states=sorted(selection.states), queues=sorted(selection.queues), after=selection.since)
    found: dict[str, int] = {}
    for counts in stores.source.count(where).values():
        for state, number in counts.items():
            found[state] = found.get(state, 0) + number
    return found
