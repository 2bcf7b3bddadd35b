"""Every decision of an engine, pure: events in, commands out; no clock, no process, no store.

What the plan is told       hello · done · followed · ended · started · noted · recalled · worker_gone · exchanged · …
What it asks for            Spawn · Share · Send · Recall · Tell · Kill · Retire · Reply · Exchange · Renew · …

`turn(now)` is called whenever something happened or `next_deadline()` is reached. The dispatcher performs
the commands; thousands of simulated seeds perform them on a model instead (tests/engine/simulation).

The path of a claim:  claimed ─► ahead (look-ahead, per queue) ─► sent (a worker's pipe, in order) ─► settled
Its parts: two hands (`hand.py`), the workers that run one job at a time (`crew.py`) and those that run many
(`sharing.py`), each with the jobs it has; `appetite.py` says how much to claim, `hand_out.py` who of the crew gets
what; `words.py` and `notes.py` keep what the store has to be told, `talk.py` tells it. Times are monotonic seconds of
this host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from jobcard.backends.base import Exchanged
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Waiting
from jobcard.engine.appetite import AHEAD, AHEAD_OF_APART, Appetite
from jobcard.engine.commands import Command, Finished, Renew
from jobcard.engine.crew import Crew
from jobcard.engine.endings import Endings
from jobcard.engine.hand import Common, Hand
from jobcard.engine.hand_out import OPEN_SECONDS
from jobcard.engine.held import Worker
from jobcard.engine.leases import Leases
from jobcard.engine.names import Names
from jobcard.engine.notes import Notes
from jobcard.engine.outcomes import Ended
from jobcard.engine.places import Places
from jobcard.engine.sharing import Sharing
from jobcard.engine.talk import Talk
from jobcard.engine.words import Batch, Words
from jobcard.workers.messages import Exit

KEEP_AHEAD_SECONDS = 0.1  # a job that found no worker for this long goes back to the store …
KEEP_STARTING_SECONDS = 5.0  # … or for this long while a worker starts
LAST_WORDS_SECONDS = 2.0  # the end of a stop: for killing what still runs and for telling the store
FAREWELL_SECONDS = 3.0  # … and before that: for jobs to end when they are told that the engine stops


class Plan:
    """The state of one engine and its next decision."""

    def __init__(
        self,
        settings: Settings,
        *,
        random: Callable[[], float],
        cpus: int,
        max_batch: int,
        now: float,
        store_is_apart: bool = False,
    ) -> None:
        """store_is_apart: an exchange is under way while this engine goes on; else it holds everything up."""
        self.settings = settings
        self._store_is_apart = store_is_apart
        self.queues: Sequence[Queue] = ()
        """The queues served now, by priority."""
        self.settings_version = -1
        self.workers: dict[int, Worker] = {}
        """The workers that run one job at a time; those that share are the business of `sharing.py`."""
        self.lost = 0
        """Jobs and outcomes that turned out to be somebody else's by now; a figure for the log."""
        self.stopping = False
        self.quiet = False
        """Told to claim nothing more, and to finish what it has."""
        self._commands: list[Command] = []
        # what is to be said
        self._words = Words()
        self._notes = Notes()
        self._endings = Endings(self._words, self._notes, random=random)
        self._talk = Talk(
            self._words,
            self._notes,
            self._commands,
            random=random,
            max_batch=max_batch,
            poll_interval=settings.poll_interval,
            now=now,
        )
        # who does what
        self._names = Names(settings)
        self._places = Places(self.workers, slots=settings.slots, most=settings.max_concurrent_jobs)
        common = Common(
            settings,
            self._names,
            self._words,
            self._notes,
            self._endings,
            self._commands,
            self.workers,
            self._places,
            cpus,
        )
        self._crew = Crew(common, now)
        self._sharing = Sharing(common)
        self._hands: tuple[Hand, ...] = (self._crew, self._sharing)
        self._ahead = self._crew.ahead
        self._appetite = Appetite(
            common, self._crew, self._sharing, most=max_batch, ahead=AHEAD_OF_APART if store_is_apart else AHEAD
        )
        # until when
        self._leases = Leases(settings, now)
        self._cancels: dict[Ref, str] = {}
        """Asked for, and not told to the job yet."""
        self._tell_at = self._kill_at = 0.0
        self._finished = False

    def _hand_of(self, number: int) -> Hand:
        """The hand that this worker belongs to; where it is gone, one that will say so."""
        return self._crew if number in self.workers else self._sharing

    # -------------------------------------------------------------- events: what there is

    def hello(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker has imported the app and knows these job names."""
        self._crew.hello(number, now)
        self._names.know(names)
        self._places.shares = bool(self._names.shared)

    def adopt(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker that was started before this plan and has said hello."""
        self._crew.adopt(number)
        self.hello(number, names, now)

    @property
    def names(self) -> Sequence[str]:
        """The names of jobs that this engine's workers know."""
        return self._names.all

    def know_queues(self, queues: Sequence[Queue], version: int) -> None:
        """The queues as the store has them now."""
        self.queues = sorted((q for q in queues if not q.paused), key=lambda q: (-q.priority, q.name))
        self.settings_version = version
        self._names.know_queues(self.queues)
        self._talk.hungry = True

    def wake(self, now: float) -> None:
        """Somebody says that there may be work."""
        self._talk.poll_at = min(self._talk.poll_at, now)

    def be_quiet(self, quiet: bool, now: float) -> None:
        """Claim nothing more and finish what is held; False: claim again."""
        if self.quiet and not quiet:
            self.wake(now)
        self.quiet = quiet

    def stop(self, now: float, *, at_once: bool) -> None:
        """Take no more jobs, give back what has not started, let the rest end until the time is up."""
        # Being told again never makes it later.
        budget = 0.0 if at_once else max(0.0, self.settings.stop_timeout - LAST_WORDS_SECONDS)
        kill_at = min(now + budget, self._kill_at) if self.stopping else now + budget
        tell_at = max(now, kill_at - FAREWELL_SECONDS)
        self._tell_at = min(tell_at, self._tell_at) if self.stopping else tell_at
        self._kill_at = kill_at
        self.stopping = True

    # -------------------------------------------------------------- events: workers

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        """A worker's job returned; False: not the job we expected, so it cannot be believed (one we killed may)."""
        return self._hand_of(number).done(number, seq, started, ended, result)

    def followed(
        self, number: int, seq: int, started: float, ended: float, result: str, jobs: Sequence[NewJob]
    ) -> bool:
        """A worker's job returned, and these jobs are to be stored with that; False as for `done`."""
        return self._hand_of(number).followed(number, seq, started, ended, result, jobs)

    def ended(self, number: int, seq: int, started: float, ended: float, what: Ended) -> bool:
        """A worker's job ended in any other way; False as for `done`."""
        return self._hand_of(number).ended(number, seq, started, ended, what)

    def started(self, number: int, starts: Sequence[tuple[int, float]]) -> None:
        """A shared worker began these jobs, each at its time."""
        self._sharing.started(number, starts)

    def noted(self, number: int, seq: int, said: Mapping[str, Any], call: int | None, now: float) -> None:
        """A running job says something of itself. call: somebody waits in the worker until it is stored."""
        self._hand_of(number).noted(number, seq, said, call, now)

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        """These jobs of a worker were not started and will not be: back to the front of the look-ahead."""
        self._hand_of(number).recalled(number, seqs)

    def worker_gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float) -> None:
        """A worker process ended. unstarted: jobs whose permits it never took."""
        self.recalled(number, unstarted)
        self._hand_of(number).gone(number, exit, now, unsafe=self._leases.is_unsafe(now))

    def over_memory(self, number: int) -> None:
        """A worker uses more memory than its job may."""
        self._hand_of(number).over_memory(number)

    def grew_fat(self, number: int) -> None:
        """A resting worker holds so much memory that another should take its place."""
        self._hand_of(number).grew_fat(number)

    # -------------------------------------------------------------- what the dispatcher asks

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing is held: then no lease can end under a job."""
        return not self._has_ahead and self._is_idle()

    def _held(self) -> Iterator[Waiting]:
        return chain.from_iterable(hand.held() for hand in self._hands)

    def shares(self, number: int) -> bool:
        """Whether this worker runs its jobs side by side."""
        return number in self._sharing.sharers

    def why_killed(self, number: int) -> str:
        """Why we killed a worker, for the log."""
        return self._hand_of(number).why_killed(number) or "unknown"

    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        """(worker, job, since when) of what runs now, as far as we know."""
        return chain.from_iterable(hand.running() for hand in self._hands)

    def memory_limits(self) -> list[tuple[int, int]]:
        """(worker, bytes) for those running a job whose memory is limited."""
        return [limit for hand in self._hands for limit in hand.memory_limits()]

    def resting(self) -> list[int]:
        """The workers that have run something and have nothing now: what memory they hold, they keep."""
        return [number for hand in self._hands for number in hand.resting()]

    # -------------------------------------------------------------- events: the store

    def exchanged(self, answer: Exchanged, now: float) -> Batch:
        """The store answered the exchange in flight; what that carried."""
        batch, lost, refused = self._talk.answered(answer, now)
        self.lost += len(lost)
        late = self._leases.is_late(batch.sent_at, now)
        for claim in answer.claimed:
            if late:
                self._endings.give_back(claim, now)
            else:
                hand = self._sharing if self._names.shares(claim) else self._crew
                hand.ahead.add(claim, batch.sent_at)
        self._cancels.update(answer.cancels)
        if batch.want.total:
            hungry = self._appetite.took(answer.claimed, batch.want, now)
            self._talk.polled(hungry=hungry, next_due=answer.next_due, now=now)
        if batch.moves:
            self._crew.starts_stored(batch, lost | refused, self._cancels, now, stops=self.stopping)
        self._drop(lost, now)
        return batch

    def store_failed(self, now: float) -> None:
        """The store did not answer the exchange in flight: everything said is said again later."""
        self._talk.failed(now)

    def store_answered(self, now: float) -> None:
        """The store answered something else than an exchange."""
        self._talk.heard(now)

    def renewed(self, held: Sequence[tuple[Ref, int]], lost: Sequence[Ref], sent_at: float) -> None:
        """The store renewed these claims, but for the lost ones."""
        lost_refs = set(lost)
        gone = {(ref, token) for ref, token in held if ref in lost_refs}
        self._leases.renewed(held, lost_refs, sent_at)
        if gone:
            self._drop(gone, sent_at)

    def renewal_failed(self, now: float) -> None:
        """The store did not answer a renewal: beat again soon."""
        self._leases.failed(now)

    def strays(self, found: Sequence[Claimed], now: float) -> None:
        """The store's answer to `FindStrays`."""
        self._talk.strays = ""
        self._talk.heard(now)
        self.disown_unknown(found, now)

    def disown_unknown(self, found: Sequence[Claimed], now: float) -> None:
        """Claims the store has in our name: those we never heard of go back."""
        if self._talk.in_flight is not None:
            return  # they may be in the answer that is on its way
        known = {(claim.ref, claim.token) for claim, _since in self._held()}
        known.update((claim.ref, claim.token) for claim in self._words.claims())
        for claim in found:
            if (claim.ref, claim.token) not in known:
                self._endings.give_back(claim, now)

    def strays_failed(self, now: float) -> None:
        """The store did not say what it thinks we hold: ask again later."""
        self._talk.strays = "due"
        self._talk.wait(now)

    def _drop(self, gone: Collection[tuple[Ref, int]], now: float) -> None:
        if gone:
            for hand in self._hands:
                hand.lose(lambda claim: (claim.ref, claim.token) in gone, now)

    # -------------------------------------------------------------- the turn

    def turn(self, now: float) -> list[Command]:
        """Decide everything that can be decided now."""
        self._fence(now)
        self._cancel(now)
        self._crew.watch(now)
        self._sharing.watch(now)
        if self.stopping:
            self._wind_down(now)
        else:
            if self._store_is_apart:
                self._speak(now)  # it is at the next exchange while what the last one brought is handed out
            if self._has_ahead:
                self._give_work(now)
                self._give_back_what_waits(now)
            self._crew.size(now, base=0 if self._names.are_all_shared else 1, one_new=self._sharing.wants_worker)
        self._beat(now)
        self._speak(now)
        commands = list(self._commands)
        self._commands.clear()
        return commands

    def next_deadline(self, now: float) -> float:
        """When to turn again if nothing happens until then."""
        ends = self.stopping and not self._is_idle()
        at = min(
            now + 1.0,
            self._leases.next_beat(),
            self._crew.next_time(now),
            self._sharing.next_time(now),
            self._talk.next_time(polls=not self.stopping, pulse=ends or not self.stopping),
        )
        if ends:
            at = min([at, *(moment for moment in (self._tell_at, self._kill_at) if moment > now)])
        if not self.stopping and self._has_ahead:
            for _queue, line in chain.from_iterable(hand.ahead.lines() for hand in self._hands):
                for patience in (OPEN_SECONDS, self._patience()):
                    if line[0][1] + patience > now:
                        at = min(at, line[0][1] + patience)
        return at

    def _is_idle(self) -> bool:
        return self._crew.idle and self._sharing.idle

    @property
    def _has_ahead(self) -> bool:
        return bool(self._crew.ahead or self._sharing.ahead)

    def _fence(self, now: float) -> None:
        # Without renewals somebody else may have our jobs when the lease ends: stop them well before.
        if self._leases.is_unsafe(now):
            for hand in self._hands:
                hand.fence(self._leases.last_moment(), now)

    def _cancel(self, now: float) -> None:
        if self._cancels:
            early = {ref for hand in self._hands for ref in hand.cancel(self._cancels, now)}
            self._cancels = {ref: why for ref, why in self._cancels.items() if ref in early}

    def _beat(self, now: float) -> None:
        if now >= self._leases.next_beat():
            self._commands.append(Renew(self._leases.beat(self._held(), now)))

    def _give_work(self, now: float) -> None:
        # Both hands take from the same places: when there are too few, whoever waits longest is served first.
        crew, sharing = self._crew, self._sharing
        if not (sharing.ahead and sharing.waits_for_place and sharing.ahead.oldest() < crew.ahead.oldest()):
            crew.hand_out(self.queues, now)
        if sharing.ahead:
            sharing.hand_out(self.queues, now)

    def _give_back_what_waits(self, now: float) -> None:
        served = {queue.name for queue in self.queues}
        patience = self._patience()
        for hand in self._hands:
            hand.give_back_what_waits(served, patience, now)

    def _patience(self) -> float:
        return KEEP_STARTING_SECONDS if self._crew.is_growing else KEEP_AHEAD_SECONDS

    def _speak(self, now: float) -> None:
        talk = self._talk
        if not talk.may_speak(now):
            return
        pulse = not self.stopping or not self._is_idle()
        is_due = talk.is_due(now, pulse=pulse, is_quiet=lambda: all(hand.is_quiet(now) for hand in self._hands))
        if not is_due and not talk.would_claim(now):
            return  # so it is with most turns: what could be claimed need not be known
        if self.stopping or self.quiet or not self._names.all or self._leases.is_unsafe(now):
            want, room_is_wide = self._appetite.nothing, False
        else:
            want, room_is_wide = self._appetite.want(self.queues, now)
        talk.speak(want, now, is_due=is_due, room_is_wide=room_is_wide)

    # -------------------------------------------------------------- the end

    def _wind_down(self, now: float) -> None:
        for hand in self._hands:
            hand.wind_down(now, tell=now >= self._tell_at, kill_at=self._kill_at)
        all_said = not self._words and not self._talk.strays and self._talk.in_flight is None
        if self._is_idle() and all_said and not self._finished:
            self._finished = True
            self._commands.append(Finished())
