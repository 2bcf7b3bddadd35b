"""A store whose jobs may move: one store until it is sealed, from then on the one that they moved to.

    call ─► source ─► an answer
              └─► StoreMovedError ─► is the target open? ─ yes ─► the same call there, and every later one
                                                         └ no ──► asked again, for as long as the patience lasts

Both addresses come from whoever starts the process, never from a store: what a sealed store says is only believed when
the other store says the same of the same move. Engine and client need to know nothing of it. A claim goes by its job's
id here, for what a store finds it by (`ref`) is its own affair; so one that was made in the source is settled in the
target, where its owner still has it under the same token.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

from jobcard.backends.asynchronous import VERBS
from jobcard.backends.base import (
    NO_COMPLETIONS,
    NOTHING,
    Backend,
    Capabilities,
    Completions,
    Enqueued,
    Exchanged,
    Held,
    Outcome,
    RecordKind,
    Refusal,
    Verdict,
    Waker,
    Want,
)
from jobcard.core import move
from jobcard.core.job import Claimed, JobRow, NewJob, Ref
from jobcard.core.states import AT_WORK
from jobcard.errors import CorruptRecordError, JobcardError, StoreMovedError, StoreUnavailableError

T = TypeVar("T")

log = logging.getLogger("jobcard.store")

PATIENCE = 30.0
"""Seconds a call waits for the target to be opened; what others are asked to bear is five."""
SHORT_PATIENCE = 0.25
"""The same for what an engine asks on its own thread: kills and timeouts wait as long."""
LOOK_SECONDS = 0.5
"""How often those who only read look whether what they read has moved: a sealed store goes on answering them."""
_PAUSE = 0.05


def following(source: Backend, target: Backend) -> Backend:
    """The store `source` until it is sealed and its jobs have arrived in `target`, then that one."""
    return cast(Backend, FollowingBackend(source, target))


class FollowingBackend:
    """Two stores that are used as one."""

    def __init__(self, source: Backend, target: Backend) -> None:
        self._source = self._side = _Side(source)
        self._target = target
        self._wakers: WeakSet[_FollowingWaker] = WeakSet()
        self._settings = 0
        self._look_at = 0.0
        self._lock = threading.Lock()
        _living.add(self)
        one, other = source.capabilities, target.capabilities
        self.capabilities = Capabilities(
            max_batch=min(one.max_batch, other.max_batch),
            own_thread=one.own_thread or other.own_thread,
            one_commit_exchange=one.one_commit_exchange and other.one_commit_exchange,
            shared_by_hosts=one.shared_by_hosts and other.shared_by_hosts,
            survives_process=one.survives_process and other.survives_process,
            readonly=one.readonly or other.readonly,
            follows=True,
            joins=one.joins and other.joins,
        )
        self._engines_patience = PATIENCE if self.capabilities.own_thread else SHORT_PATIENCE

    # -- producing

    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """As `Backend.enqueue`; in somebody's transaction, which is in one of the stores, only there."""
        self._look()
        if within is None:
            return self._ask(lambda side: side.backend.enqueue(jobs))
        return self._side.backend.enqueue(jobs, within=within)

    # -- holding

    def exchange(
        self,
        owner: str,
        *,
        completions: Completions = NO_COMPLETIONS,
        outcomes: Sequence[Outcome] = (),
        want: Want = NOTHING,
        lease: int = 0,
        freed: Collection[str] = (),
    ) -> Exchanged:
        """As `Backend.exchange`; claims made in the source are settled where the jobs are now."""
        answer = self._ask(
            lambda side: side.exchange(owner, completions, outcomes, want, lease, freed), self._engines_patience
        )
        # With those of the target they rise once more, so that engines read them anew.
        self._settings = max(self._settings, answer.settings)
        return answer

    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """As `Backend.renew`."""
        return self._ask(lambda side: side.renew(owner, held, lease), self._engines_patience)

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """As `Backend.find_held`; where the jobs have moved since the last page, it begins anew."""
        self._look()
        return self._ask(lambda side: side.find_held(owners, lapsed, limit, after), self._engines_patience)

    # -- itself

    def waker(self) -> Waker:
        """A waker that goes along with the jobs."""
        self._look()
        with self._lock:
            waker = _FollowingWaker(self._side.backend)
            self._wakers.add(waker)
        return Waker(fd=waker.fd, drain=waker.drain, changed=waker.changed, interval=waker.interval, close=waker.close)

    def close(self) -> None:
        """Let go of both stores."""
        self._source.backend.close()
        self._target.close()

    if TYPE_CHECKING:

        def __getattr__(self, verb: str) -> Callable[..., Any]: ...

    # -- following

    def _ask(self, call: Callable[[_Side], T], patience: float | None = None) -> T:
        """Call the store that has the jobs now; one that is sealed is asked again, for its seal may be taken back."""
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        while True:
            side = self._side
            try:
                return call(side)
            except StoreMovedError:
                if side is not self._source:
                    raise  # that one has been sealed, too, and nobody has said where its jobs are
            trouble = self._follow_if_open()
            if trouble is not None:
                if time.monotonic() >= until:
                    raise trouble
                time.sleep(_PAUSE)

    def _look(self) -> None:
        """See now and then whether the jobs have moved, for those whom no seal stops."""
        now = time.monotonic()
        if self._side is not self._source or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        # Whatever is wrong, the call itself hears of it; until the target is open the source has the latest there is.
        with contextlib.suppress(JobcardError):
            if self._source.backend.read_records(RecordKind.MOVE):
                self._follow_if_open()

    def _follow_if_open(self) -> StoreUnavailableError | None:
        """Go over to the target if the jobs have arrived there; else why not."""
        with self._lock:
            if self._side is not self._source:
                return None
            try:
                if not self._have_arrived():
                    return StoreUnavailableError("the jobs are on their way into another store, which is not open yet")
                self._target.check_schema()
                self._follow()
            except StoreUnavailableError as error:
                return error
            except JobcardError as error:
                # An engine must not end of it: whoever set the address can still put right what is there.
                return StoreUnavailableError(f"the store that the jobs move to cannot be used: {error}")
            return None

    def _have_arrived(self) -> bool:
        seal = self._source.backend.facts().seal
        if seal is None:
            return False
        records = self._target.read_records(RecordKind.MOVE)
        text = next((record.value for record in records if record.key == move.KEY), None)
        return move.has_arrived(text, seal)

    def _follow(self) -> None:
        self._side = _Side(self._target, settings_from=self._settings + 1)
        log.warning("store.moved: the jobs live in the store that `moving_to` names now, and so do we")
        for waker in list(self._wakers):
            with contextlib.suppress(JobcardError):  # only hints are lost; polling goes on
                waker.follow(self._target)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread that stayed with the parent may have held it


def _followed(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(Backend, name))
    def call(self: FollowingBackend, *args: Any, **kwargs: Any) -> Any:
        self._look()
        return self._ask(lambda side: getattr(side.backend, name)(*args, **kwargs))

    return call


# From the contract, so that a new verb follows at once.
for _name in VERBS:
    if _name not in vars(FollowingBackend):
        setattr(FollowingBackend, _name, _followed(_name))


_living: WeakSet[FollowingBackend] = WeakSet()


def _after_fork() -> None:
    for each in list(_living):
        each._after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Side:
    """One of the two stores, and by which ref it finds the claims that go by their job's id here."""

    def __init__(self, backend: Backend, *, settings_from: int = 0) -> None:
        self.backend = backend
        self._settings_from = settings_from
        self._held: dict[Ref, tuple[Ref, int]] = {}  # by id: ref and token
        self._ids: dict[Ref, bytes] = {}
        self._pages: dict[str, Ref] = {}
        self._page_numbers = count()

    def exchange(
        self,
        owner: str,
        completions: Completions,
        outcomes: Sequence[Outcome],
        want: Want,
        lease: int,
        freed: Collection[str],
    ) -> Exchanged:
        """One exchange in the store's own refs."""
        said = [*zip(completions.refs, completions.tokens, strict=True), *((one.ref, one.token) for one in outcomes)]
        refs = self._refs_of(said)
        ids = {ref: job_id for job_id, ref in refs.items()}
        rows = zip(completions.refs, completions.tokens, completions.results, completions.started_ago, strict=True)
        done = [(refs[job_id], token, result, ago) for job_id, token, result, ago in rows if job_id in refs]
        moves = [outcome._replace(ref=refs[outcome.ref]) for outcome in outcomes if outcome.ref in refs]
        # Before the exchange claims any of them anew.
        strange = [*self._verdicts([(job_id, token) for job_id, token in said if job_id not in refs])]
        answer = self.backend.exchange(
            owner,
            completions=Completions(*zip(*done, strict=True)) if done else NO_COMPLETIONS,
            outcomes=moves,
            want=want,
            lease=lease,
            freed=freed,
        )
        self._let_go([(one.ref, one.token) for one in moves if one.change.target not in AT_WORK], answer.refusals)
        self._let_go([(ref, token) for ref, token, *_ in done], answer.refusals)
        claimed = [self._known(claim) for claim in answer.claimed]
        if any(ref not in self._ids for ref, _ in answer.cancels):
            self._learn([owner])
        refusals = [refusal._replace(ref=ids[refusal.ref]) for refusal in answer.refusals]
        return answer._replace(
            claimed=claimed,
            refusals=[*refusals, *strange],
            cancels=[(self._ids[ref], why) for ref, why in answer.cancels if ref in self._ids],
            settings=answer.settings + self._settings_from,
        )

    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], lease: int) -> list[Ref]:
        """One renewal in the store's own refs."""
        refs = self._refs_of(held)
        ids = {ref: job_id for job_id, ref in refs.items()}
        known = [(refs[job_id], token) for job_id, token in held if job_id in refs]
        gone = self.backend.renew(owner, known, lease=lease)
        self._let_go([(ref, token) for ref, token in known if ref in set(gone)])
        return [*(job_id for job_id, _ in held if job_id not in refs), *(ids[ref] for ref in gone)]

    def find_held(self, owners: Sequence[str], lapsed: bool, limit: int, after: Ref | None) -> Held:
        """One page of claims, each by its job's id."""
        behind = self._pages.pop(str(after), None)
        held = self.backend.find_held(owners, lapsed=lapsed, limit=limit, after=behind)
        page = None
        if held.after is not None:
            page = f"page {id(self)} {next(self._page_numbers):012}"
            self._pages[page] = held.after
        return Held([self._known(claim) for claim in held.claims], page)

    # -- refs

    def _refs_of(self, claims: Sequence[tuple[Ref, int]]) -> dict[Ref, Ref]:
        """The refs of these claims by their ids; those that are not known here are looked for, once."""
        unknown = {(job_id, token) for job_id, token in claims if job_id not in self._held}
        if unknown:
            rows = self._rows([job_id for job_id, _ in unknown]).values()
            # Whoever has it by now under another token holds nothing of ours.
            still = [row for row in rows if (row.id, row.claim_token) in unknown and row.state in AT_WORK]
            self._learn(sorted({row.claimed_by for row in still if row.claimed_by is not None}))
        return {job_id: self._held[job_id][0] for job_id, _ in claims if job_id in self._held}

    def _learn(self, owners: Sequence[str]) -> None:
        """Find what these owners hold here: after a move, or where another process of theirs made the claim."""
        after: Ref | None = None
        while owners:
            held = self.backend.find_held(owners, lapsed=False, limit=1_000, after=after)
            for claim in held.claims:
                self._known(claim)
            if held.after is None:
                return
            after = held.after

    def _known(self, claim: Claimed) -> Claimed:
        self._held[claim.id] = claim.ref, claim.token
        self._ids[claim.ref] = claim.id
        return claim._replace(ref=claim.id)

    def _let_go(self, settled: Sequence[tuple[Ref, int]], refusals: Sequence[Refusal] = ()) -> None:
        """Forget claims that are over; of one that was refused nothing has changed, and it is held on."""
        held_on = {(one.ref, one.token) for one in refusals if one.verdict is Verdict.REFUSED}
        for ref, token in settled:
            job_id = self._ids.get(ref)
            if job_id is not None and (ref, token) not in held_on and self._held[job_id][1] <= token:
                del self._ids[ref], self._held[job_id]

    def _verdicts(self, strange: Sequence[tuple[Ref, int]]) -> Iterator[Refusal]:
        """What became of writes whose claims nobody has: one that was stored before, and moved along, is ours."""
        rows = self._rows([job_id for job_id, _ in strange]) if strange else {}
        for job_id, token in strange:
            row = rows.get(job_id)
            mine = row is not None and row.claim_token == token and row.state not in AT_WORK
            yield Refusal(job_id, token, Verdict.MINE if mine else Verdict.LOST)

    def _rows(self, job_ids: Sequence[Ref]) -> dict[Ref, JobRow]:
        with contextlib.suppress(CorruptRecordError):
            return {row.id: row for row in self.backend.get([each for each in job_ids if isinstance(each, bytes)])}
        return {}


class _FollowingWaker:
    """One descriptor for as long as it is open, behind which the stores' own take turns."""

    def __init__(self, backend: Backend) -> None:
        self._inner = backend.waker()
        self._closed = False
        self.interval = self._inner.interval
        self._selector = selectors.DefaultSelector()
        # Where the system has no selector that can be waited for itself, `changed` and polling have to do.
        fileno: Callable[[], int] | None = getattr(self._selector, "fileno", None)
        self.fd = None if fileno is None else fileno()
        self._listen()

    def follow(self, backend: Backend) -> None:
        """Listen to this store from now on."""
        if self._closed:
            return
        before, self._inner = self._inner, backend.waker()
        if before.fd is not None:
            self._selector.unregister(before.fd)
        before.close()
        self._listen()

    def drain(self) -> None:
        """Empty the hints of the store that is listened to."""
        # It may be closed at this very moment: then there is another one, and a hint less.
        with contextlib.suppress(OSError, ValueError):
            self._inner.drain()

    def changed(self) -> bool:
        """Whether something changed, where that can be asked."""
        changed = self._inner.changed
        return changed is not None and changed()

    def close(self) -> None:
        """Listen to nothing any more."""
        if not self._closed:
            self._closed = True
            self._inner.close()
            self._selector.close()

    def _listen(self) -> None:
        if self._inner.fd is not None:
            self._selector.register(self._inner.fd, selectors.EVENT_READ)
