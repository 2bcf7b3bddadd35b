"""A move while engines and producers go on: afterwards the target is the one, and the source is sealed.

    mark ─► settings ─► passes ─► seal ─► rest ─► latest ─► verify ─► open

The target's record says which step is under way. Each step can be done again from its beginning, so a process that was
killed at any point of any step is followed by another one that begins with that step. Only the seal and the opening
decide anything, and each of them is one write of one store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from jobcard.backends.base import Filter, Record, RecordKind
from jobcard.core.job import WholeJob
from jobcard.core.limits import BULK
from jobcard.core.move import (
    COPY_KEY,
    KEY,
    SEALED,
    SOURCE_KEY,
    Kind,
    Move,
    Phase,
    Role,
    from_text,
    new_id,
)
from jobcard.core.states import AT_WORK
from jobcard.errors import ConfigError, JobcardError
from jobcard.moving import whole
from jobcard.moving.copying import Copied, added, check, count
from jobcard.moving.pages import ALL, Reader
from jobcard.moving.passes import Passed, Passing
from jobcard.moving.settings import Settled, copy_settings, missing_settings
from jobcard.moving.stores import Stores, clock_difference, engines_of, is_empty, left_behind, moves_of
from jobcard.moving.turn import Turn, find, take_turn, write
from jobcard.moving.verify import Verified, doubtful, verify_some
from jobcard.moving.voice import SILENT, Voice

FEW = 1_000
"""So few jobs that change during a pass are left for the time when nobody can change any."""
MOST_PASSES = 10
ROUNDS = 3
"""So often the rest is copied again where verifying finds a difference: something wrote into the target."""


class StoppedError(JobcardError):
    """The move cannot go on as things are; the source goes on as before, or the message says what to do."""


class LiveMove:
    """One live move, as far as this process has brought it."""

    def __init__(self, stores: Stores, turn: Turn, *, skip_unreadable: bool, voice: Voice) -> None:
        self.stores = stores
        self.turn = turn
        self.skip_unreadable = skip_unreadable
        self.voice = voice
        self.began = time.monotonic()
        self.sealed_at: float | None = None
        self.passed = Passed()
        self.verified = Verified()
        self.settled: Settled | None = None
        self.rounds = 0
        self.unchecked: set[bytes] | None = None
        """Jobs written since all were compared, job by job; None: this process has not done that."""

    def run(self) -> Copied:
        """Step after step, until the target is open."""
        while (phase := self.turn.move.phase) is not Phase.OPENED:
            self.voice.say(f"{phase}: {WORDS[phase]}")
            self.turn.reach(STEPS[phase](self))
        now = time.monotonic()
        return Copied(
            passed=self.passed,
            verified=self.verified,
            settled=self.settled,
            seconds=now - self.began,
            paused=None if self.sealed_at is None else now - self.sealed_at,
        )

    def passing(self, tell: Callable[[int], None] = lambda _: None) -> Passing:
        """How jobs are brought over: the target is to be exactly the source."""
        return Passing(
            self.stores.source, self.stores.target, exactly=True, beat=self.turn.keep, tell=tell, wrote=self._wrote
        )

    def passes_once(self) -> Passed:
        """One pass over all jobs."""
        with self.voice.progress(count(self.stores, ALL), "looked at") as tell:
            passed = self.passing(tell).run()
        self.passed = added(self.passed, passed)
        return passed

    def _wrote(self, job_ids: Sequence[bytes]) -> None:
        if self.unchecked is not None:
            self.unchecked.update(job_ids)


# ------------------------------------------------------------------ the steps, each says which one is next


def mark(live: LiveMove) -> Phase:
    """Let the source know where it is going."""
    source, target = live.stores.source, live.stores.target
    record = find(source, SOURCE_KEY)
    before = None if record is None else from_text(record.value)
    mine = Move(id=live.turn.move.id, role=Role.SOURCE, kind=Kind.LIVE, phase=Phase.MARK, other=live.stores.target_id)
    try:
        if any(move.closes for move in moves_of(source).values()):
            raise ConfigError("the source is itself the target of a move that is not at its end")
        if COPY_KEY in moves_of(target):
            raise ConfigError("a copy into the target was not at its end: finish that, or --abort it")
        if before is not None and before.other != mine.other:
            raise ConfigError(
                "the source is on its way into another store: finish that move, or give it up with --abort and that "
                "store as --to"
            )
        if not is_empty(target):
            raise ConfigError("the target has jobs or schedules: a live move needs an empty one")
        _refuse_engines(live, quiet_too=True)
        _name_those_left_behind(live)
    except ConfigError:
        live.turn.end()  # nothing has happened yet
        raise
    if before is None or before.id != mine.id:
        write(source, mine, expect=0 if record is None else record.version)
    return Phase.SETTINGS


def settings(live: LiveMove) -> Phase:
    """Copy queues, schedules and once keys."""
    live.settled = copy_settings(live.stores.source, live.stores.target, ALL, exactly=True)
    return Phase.PASSES


def passes(live: LiveMove) -> Phase:
    """Go over all jobs again and again, until little changes meanwhile; then compare them all, job by job."""
    before: int | None = None
    for _ in range(MOST_PASSES):
        passed = live.passes_once()
        moved = passed.written + passed.erased
        live.voice.say(f"passes: {moved:,} of {passed.seen:,} jobs were written")
        _refuse_leaving_out(live, passed)
        if moved <= FEW or (before is not None and moved > before // 2):
            break
        before = moved
    live.unchecked = set()
    with live.voice.progress(count(live.stores, ALL), "verified") as tell:
        found = doubtful(live.stores.source, live.stores.target, beat=live.turn.keep, tell=tell)
    for _, jobs in Reader(live.stores.source).pages(sorted(found)):
        # Read while they changed, mostly. They are looked at once more when nothing changes.
        live.passing().put(jobs, live.passed)
    _refuse_leaving_out(live, live.passes_once())
    return Phase.SEAL


def seal(live: LiveMove) -> Phase:
    """Close the source to every writer: from here on nothing changes until the target is open."""
    _refuse_engines(live, quiet_too=False)
    _name_those_left_behind(live)
    live.turn.keep()
    live.sealed_at = time.monotonic()
    live.stores.source.seal(live.turn.move.word)
    return Phase.REST


def rest(live: LiveMove) -> Phase:
    """Copy what has changed since the last pass, and the leases of what is at work."""
    passed = live.passes_once()
    if passed.refused:
        raise StoppedError(
            f"the target does not take {_named(passed.left_out)}; the source is sealed: --rollback opens it again"
        )
    ahead = clock_difference(live.stores)
    for jobs in _at_work(live.stores):
        live.turn.keep()
        # By the clock of the target, so that nobody there takes a job whose engine follows.
        live.passing().put([_leased(job, ahead) for job in jobs], live.passed)
    return Phase.LATEST


def latest(live: LiveMove) -> Phase:
    """Copy queues, schedules, how far they are, and once keys as they were at the seal."""
    live.settled = copy_settings(live.stores.source, live.stores.target, ALL, exactly=True)
    return Phase.VERIFY


def verify(live: LiveMove) -> Phase:
    """Compare both stores; each job that was not compared before is compared whole."""
    source, target = live.stores.source, live.stores.target
    if live.unchecked is None:
        live.verified = check(live.stores, voice=live.voice, beat=live.turn.keep)
    else:
        live.verified = verify_some(source, target, live.unchecked, beat=live.turn.keep)
        live.verified.settings = missing_settings(source, target, ALL)
    if live.verified.is_equal and not live.verified.others:
        return Phase.OPEN
    live.rounds += 1
    if live.rounds == ROUNDS:
        live.turn.reach(Phase.REST)
        raise StoppedError(
            "the target is not what the source is, three times over: does anything else write into it? The source is "
            "sealed: run this again, or open it again with --rollback"
        )
    live.unchecked = None
    return Phase.REST


def open_target(live: LiveMove) -> Phase:
    """Open the target: whoever waits for it goes on there. From here on there is no way back but another move."""
    return Phase.OPENED


STEPS: Mapping[Phase, Callable[[LiveMove], Phase]] = {
    Phase.MARK: mark,
    Phase.SETTINGS: settings,
    Phase.PASSES: passes,
    Phase.SEAL: seal,
    Phase.REST: rest,
    Phase.LATEST: latest,
    Phase.VERIFY: verify,
    Phase.OPEN: open_target,
}
"""Every step by its name, in order."""

WORDS: Mapping[Phase, str] = {
    Phase.MARK: "both stores learn of the move",
    Phase.SETTINGS: "queues, schedules and once keys",
    Phase.PASSES: "all jobs, while the source is in use",
    Phase.SEAL: "the source takes nothing from here on",
    Phase.REST: "what has changed since",
    Phase.LATEST: "queues and schedules as they are now",
    Phase.VERIFY: "every job of the source is in the target, the same",
    Phase.OPEN: "the target takes over",
}


def move_live(stores: Stores, *, skip_unreadable: bool = False, voice: Voice = SILENT) -> Copied | None:
    """Move everything while it is used, or go on with a move that was interrupted; None: it is over already.

    `ConfigError`, `StoppedError`: what stands in the way.
    """
    record = find(stores.target, KEY)
    before = None if record is None else from_text(record.value)
    if before is not None and before.phase is Phase.OPENED and stores.source.facts().seal == before.word:
        return None
    if before is None or not before.closes:
        _refuse_sealed(stores)
        before = _begun(stores)
    elif before.other != stores.source_id:
        raise ConfigError("a move from another store into the target is under way: finish that, or --abort it")
    elif before.phase is Phase.ABORT:
        raise ConfigError("this move was given up, and its target is not cleared yet: say --abort again")
    turn = take_turn(stores.target, before, record, voice.say)
    return LiveMove(stores, turn, skip_unreadable=skip_unreadable, voice=voice).run()


def _begun(stores: Stores) -> Move:
    return Move(id=new_id(), role=Role.TARGET, kind=Kind.LIVE, phase=Phase.MARK, other=stores.source_id)


# ------------------------------------------------------------------ the ways back


def roll_back(stores: Stores, *, voice: Voice = SILENT) -> None:
    """Open a sealed source again, as long as nobody has worked in the target; the move goes on from its passes."""
    record, move = _mine(stores)
    if move.phase is Phase.OPENED:
        raise ConfigError(
            "the target is open, and work has gone on there: the way back is a move from there into an empty store"
        )
    if move.phase not in SEALED and stores.source.facts().seal is None:
        raise ConfigError("the source is not sealed: there is nothing to roll back (--abort gives the move up)")
    # First the record, over which the opening would have to be written: only one of both comes to pass.
    turn = take_turn(stores.target, move, record, voice.say)
    turn.reach(Phase.PASSES)
    stores.source.seal(None)


def abort(stores: Stores, *, voice: Voice = SILENT) -> None:
    """Give a move or a copy up: the source forgets it, and a target that was empty before is so again."""
    record = find(stores.target, COPY_KEY) or find(stores.target, KEY)
    of_source = moves_of(stores.source).get(SOURCE_KEY)
    move = None if record is None else from_text(record.value)
    if move is None or not move.closes:
        if of_source is None:
            raise ConfigError("there is no move between these stores that could be given up")
        _refuse_sealed(stores)
        # Its target is lost, or was cleared when we were killed.
        stores.source.remove_record(RecordKind.MOVE, SOURCE_KEY)
        return
    if move.other != stores.source_id:
        raise ConfigError("the target is that of a move from another store: name that one")
    if move.phase in SEALED:
        raise ConfigError("the source may be sealed: --rollback opens it again, then --abort")
    turn = take_turn(stores.target, move, record, voice.say)
    if move.kind is Kind.MERGE:
        turn.end()
        return
    turn.reach(Phase.ABORT)
    if stores.source.facts().seal == move.word:
        stores.source.seal(None)  # a rollback was killed before it came to that
    if of_source is not None and of_source.id == move.id:
        stores.source.remove_record(RecordKind.MOVE, SOURCE_KEY)
    # It was empty when the move began, and nobody has worked in it since; its own record goes with the rest.
    stores.target.truncate()


def _mine(stores: Stores) -> tuple[Record, Move]:
    record = find(stores.target, KEY)
    if record is not None and (move := from_text(record.value)).other == stores.source_id:
        return record, move
    raise ConfigError("there is no live move between these stores")


# ------------------------------------------------------------------ what the steps share


def _refuse_sealed(stores: Stores) -> None:
    if (seal := stores.source.facts().seal) is not None:
        raise ConfigError(f"the source is sealed ({seal}): its jobs live in another store, or are on their way there")


def _refuse_engines(live: LiveMove, *, quiet_too: bool) -> None:
    """Engines of the target would run jobs of which the source has a newer version; those that wait do no harm."""
    if engines := engines_of(live.stores.target, quiet_too=quiet_too):
        raise ConfigError(
            f"engines are at work on the target ({', '.join(engines[:3])}): stop them, and start them on the source, "
            "with the target as $JOBCARD_MOVING_TO"
        )


def _name_those_left_behind(live: LiveMove) -> None:
    """Engines that were not told of the target: what they run at the seal, they run for nobody."""
    if engines := left_behind(live.stores.source):
        names = ", ".join(engines[:3])
        live.voice.say(
            f"{live.turn.move.phase}: not told by $JOBCARD_MOVING_TO where the jobs go: engines {names}. They are"
            " of no use from the seal on; what they run then is run again in the target"
        )


def _refuse_leaving_out(live: LiveMove, passed: Passed) -> None:
    """Before the seal: what cannot be moved would be out of everybody's reach behind it."""
    left_out = {**passed.refused} if live.skip_unreadable else passed.left_out
    if left_out:
        raise StoppedError(
            f"cannot be moved: {_named(passed.left_out)}. The source goes on as before; see to these jobs and run this "
            "again (--skip-unreadable leaves those behind that cannot be read)"
        )


def _named(left_out: Mapping[str, str]) -> str:
    first = [f"{job_id} ({why})" for job_id, why in list(left_out.items())[:5]]
    more = len(left_out) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def _at_work(stores: Stores) -> Iterator[list[WholeJob]]:
    below: bytes | None = None
    while True:
        page = stores.source.list(Filter(states=sorted(AT_WORK)), limit=BULK, before_id=below)
        yield whole.with_history(stores.source, page.rows)
        if (below := page.below) is None:
            return


def _leased(job: WholeJob, ahead: int) -> WholeJob:
    until = job.row.lease_until
    return job if until is None else job._replace(row=job.row._replace(lease_until=until + ahead))
