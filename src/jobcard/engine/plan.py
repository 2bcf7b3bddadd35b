"""Every decision of an engine, pure: events in, commands out; no clock, no process, no store.

What the plan is told       hello · done · followed · ended · started · noted · recalled · worker_gone · exchanged · …
What it asks for            Spawn · Share · Send · Recall · Tell · Kill · Retire · Reply · Exchange · Renew · …

`turn(now)` is called whenever something happened or `next_deadline()` is reached. The dispatcher performs
the commands; thousands of simulated seeds perform them on a model instead (tests/engine/simulation).

The path of a claim:  claimed ─► ahead (look-ahead, per queue) ─► sent (a worker's pipe, in order) ─► settled
Its parts: `crew.py` has the workers that run one job at a time, `sharing.py` those that run many, `hand_out.py` and
`appetite.py` say who gets what and how much to claim, `words.py` and `notes.py` keep what the store has to be told,
`talk.py` tells it. Times are monotonic seconds of this host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jobcard.backends.base import NOTHING, Exchanged
from jobcard.core import states
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Ahead
from jobcard.engine.appetite import Appetite
from jobcard.engine.commands import Command, Finished, Recall, Renew, Reply
from jobcard.engine.crew import Crew
from jobcard.engine.endings import Endings
from jobcard.engine.hand_out import OPEN_SECONDS, HandOut
from jobcard.engine.held import Worker
from jobcard.engine.leases import Leases
from jobcard.engine.notes import Notes, error_of_lost_claim, note_of
from jobcard.engine.outcomes import Ended
from jobcard.engine.pace import Pace
from jobcard.engine.places import Places
from jobcard.engine.sharing import Sharing
from jobcard.engine.talk import Talk
from jobcard.engine.words import Words
from jobcard.workers.board import TELL_SIGNAL
from jobcard.workers.messages import Exit, Why

KEEP_AHEAD_SECONDS = 0.1  # a job that found no worker for this long goes back to the store …
KEEP_STARTING_SECONDS = 5.0  # … or for this long while a worker starts
LAST_WORDS_SECONDS = 2.0  # the end of a stop: for killing what still runs and for telling the store
FAREWELL_SECONDS = 3.0  # … and before that: for jobs to end when they are told that the engine stops


class Plan:
    """The state of one engine and its next decision."""

    def __init__(
        self, settings: Settings, *, random: Callable[[], float], cpus: int, max_batch: int, now: float
    ) -> None:
        self.settings = settings
        self.workers: dict[int, Worker] = {}
        """The workers that run one job at a time; those that share are the business of `sharing.py`."""
        self.lost = 0
        """Jobs and outcomes that turned out to be somebody else's by now; a figure for the log."""
        self.settings_version = -1
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
        # what we hold beside what workers have
        self._ahead = Ahead()
        self._leases = Leases(settings, now)
        self._cancels: dict[Ref, str] = {}
        self._cancel_recalls: set[Ref] = set()
        # who does what
        self._pace = Pace()
        self._places = places = Places(self.workers, slots=settings.slots, most=settings.max_concurrent_jobs)
        self._hand_out = HandOut(self.workers, self._ahead, self._pace, self._words, self._commands, places, cpus=cpus)
        self._crew = Crew(
            settings,
            self.workers,
            self._ahead,
            self._pace,
            self._words,
            self._commands,
            cpus=cpus,
            tells=self._wants_to_be_told,
            now=now,
        )
        self._sharing = Sharing(settings, self.workers, places, self._words, self._endings, self._commands, cpus=cpus)
        self._appetite = Appetite(places, self._sharing, cpus=cpus, most=max_batch)
        # the end
        self._tell_at = self._kill_at = 0.0
        self._finished = False

    # -------------------------------------------------------------- events: what there is

    def hello(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker has imported the app and knows these job names."""
        self._crew.hello(number, now)
        self._hand_out.names = names
        self._sharing.names = frozenset(name for name, about in names.items() if about.get("isolation") == "shared")
        self._places.shares = bool(self._sharing.names)

    def adopt(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker that was started before this plan and has said hello."""
        self._crew.adopt(number)
        self.hello(number, names, now)

    @property
    def queues(self) -> Sequence[Queue]:
        """The queues served now, in order."""
        return self._hand_out.queues

    @property
    def names(self) -> Sequence[str]:
        """The names of jobs that this engine's workers know."""
        return list(self._hand_out.names)

    def know_queues(self, queues: Sequence[Queue], version: int) -> None:
        """The queues as the store has them now."""
        self._hand_out.queues = sorted((q for q in queues if not q.paused), key=lambda q: (-q.priority, q.name))
        self._sharing.queues = self._hand_out.queues
        self.settings_version = version
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
        worker = self.workers.get(number)
        if worker is None:
            return self._sharing.done(number, seq, started, ended, result)
        sent = worker.sent
        if not sent or sent[0][0] != seq:
            return worker.killed is not None
        claim = sent.popleft()[1]
        worker.current_since = ended
        worker.served += 1
        if self._notes.pages:
            self._endings.returned(claim, result, started, ended)
        else:  # as there, without the call: this is what an engine does most
            self._words.completed(claim, result, started, ended)
        self._pace.learn(claim.name, ended - started)
        return True

    def followed(
        self, number: int, seq: int, started: float, ended: float, result: str, jobs: Sequence[NewJob]
    ) -> bool:
        """A worker's job returned, and these jobs are to be stored with that; False as for `done`."""
        worker = self.workers.get(number)
        if worker is None:
            return self._sharing.followed(number, seq, started, ended, result, jobs)
        claim = self._take(worker, seq, started, ended)
        if claim is not None:
            self._endings.followed(claim, result, jobs, started, ended)
        return claim is not None or worker.killed is not None

    def ended(self, number: int, seq: int, started: float, ended: float, what: Ended) -> bool:
        """A worker's job ended in any other way; False as for `done`."""
        worker = self.workers.get(number)
        if worker is None:
            return self._sharing.ended(number, seq, started, ended, what)
        told = worker.told_now()
        claim = self._take(worker, seq, started, ended)
        if claim is not None:
            self._endings.ended(claim, what, told, ended)
        return claim is not None or worker.killed is not None

    def _take(self, worker: Worker, seq: int, started: float, ended: float) -> Claimed | None:
        """The job that a worker has ended; None: it does not run that one."""
        sent = worker.sent
        if not sent or sent[0][0] != seq:
            return None
        claim = sent.popleft()[1]
        worker.current_since = ended
        worker.served += 1
        self._pace.learn(claim.name, ended - started)
        return claim

    def started(self, number: int, starts: Sequence[tuple[int, float]]) -> None:
        """A shared worker began these jobs, each at its time."""
        self._sharing.started(number, starts)

    def noted(self, number: int, seq: int, said: Mapping[str, Any], call: int | None, now: float) -> None:
        """A running job says something of itself. call: somebody waits in the worker until it is stored."""
        worker, job = self.workers.get(number), self._sharing.job(number, seq)
        if worker is not None and worker.sent and worker.sent[0][0] == seq:
            note = note_of(worker.sent[0][1], number, said, call, now)
            if worker.stamped != seq:
                worker.stamped = seq
                note.started = worker.current_since
        elif job is not None:
            note = note_of(job.claim, number, said, call, now)
            if not job.stamped:
                job.stamped = True
                note.started = job.given_at if job.started is None else job.started
        else:
            if call is not None:  # the job has ended: a thread it left behind
                self._commands.append(Reply(number, call, error_of_lost_claim()))
            return
        self._notes.add(note)

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        """These jobs of a worker were not started and will not be: back to the front of the look-ahead."""
        if number in self._sharing.sharers:
            self._sharing.recalled(number, seqs)
            return
        worker = self.workers.get(number)
        if worker is None or not seqs:
            return
        back = set(seqs)
        for seq, claim, since in reversed(worker.sent):
            if seq in back and seq in worker.lost:
                self._endings.give_back(claim, since)
            elif seq in back:
                self._ahead.add_first(claim, since)
        worker.sent = deque(given for given in worker.sent if given[0] not in back)

    def worker_gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float) -> None:
        """A worker process ended. unstarted: jobs whose permits it never took."""
        unsafe = self._leases.is_unsafe(now)
        if number in self._sharing.sharers:
            self._sharing.gone(number, unstarted, exit, now, unsafe=unsafe)
            return
        worker = self.workers.get(number)
        if worker is None:
            return
        self.recalled(number, unstarted)
        del self.workers[number]
        if not worker.ready and not self.stopping:
            self._crew.never_came_up(now)
        if worker.reserved is not None:
            self._endings.give_back(worker.reserved[0], now)
        told = worker.told_now()
        for place, (seq, claim, _since) in enumerate(worker.sent):
            # Jobs end in the order they were given, so the first without an outcome is the one that ran. If
            # we killed for an earlier one, this one is innocent.
            why = "crash" if worker.killed is None else worker.killed[1]
            if place > 0 or (worker.killed is not None and worker.killed[0] != seq):
                why = "lost"
            if worker.killed is None and (exit.is_lost or unsafe):
                why = "lost"  # with its template, or by the keeper: whoever does not renew must not run
            elif worker.killed is None and told is not None and exit.code == -TELL_SIGNAL and place == 0:
                why = told.why  # it let the signal that told it end it
            self._endings.died(claim, why, exit, told if place == 0 else None, now)

    # -------------------------------------------------------------- what the dispatcher asks

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing is held: then no lease can end under a job."""
        return next(self._held(), None) is None

    def shares(self, number: int) -> bool:
        """Whether this worker runs its jobs side by side."""
        return number in self._sharing.sharers

    def why_killed(self, number: int) -> str:
        """Why we killed a worker, for the log."""
        worker, sharer = self.workers.get(number), self._sharing.sharers.get(number)
        why = worker.killed[1] if worker is not None and worker.killed is not None else None
        return why or (sharer.killed if sharer is not None else None) or "unknown"

    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        """(worker, job, since when) of what runs now, as far as we know."""
        for worker in self.workers.values():
            if worker.sent:
                yield worker.number, worker.sent[0][1], worker.current_since
        yield from self._sharing.running()

    def memory_limits(self) -> list[tuple[int, int]]:
        """(worker, bytes) for those running a job whose memory is limited."""
        limits = []
        for worker in self.workers.values():
            if worker.sent and worker.killed is None and (limit := self._memory_limit(worker.sent[0][1])):
                limits.append((worker.number, limit))
        limits += self._sharing.memory_limits(self._memory_limit)
        return limits

    def _memory_limit(self, claim: Claimed) -> int | None:
        return self._hand_out.names.get(claim.name, {}).get("memory_limit") or self.settings.memory_limit

    def over_memory(self, number: int) -> None:
        """A worker uses more memory than its job may."""
        worker, sharer = self.workers.get(number), self._sharing.sharers.get(number)
        if worker is not None and worker.sent:
            self._crew.kill(worker, "memory")
        elif sharer is not None and sharer.jobs:
            self._sharing.kill(sharer, "memory")

    def resting(self) -> list[int]:
        """The workers that have run something and have nothing now: what memory they hold, they keep."""
        return [
            *(w.number for w in self.workers.values() if w.takes and w.idle and w.served and not w.fat),
            *(s.number for s in self._sharing.sharers.values() if not s.jobs and s.served and not s.fat),
        ]

    def grew_fat(self, number: int) -> None:
        """A resting worker holds so much memory that another should take its place."""
        worker = self.workers.get(number) or self._sharing.sharers.get(number)
        if worker is not None:
            worker.fat = True

    # -------------------------------------------------------------- events: the store

    def exchanged(self, answer: Exchanged, now: float) -> None:
        """The store answered the exchange in flight."""
        batch, lost, refused = self._talk.answered(answer, now)
        self.lost += len(lost)
        late = self._leases.is_late(batch.sent_at, now)
        shares = bool(self._sharing.names)
        for claim in answer.claimed:
            if late:
                self._endings.give_back(claim, now)
            elif shares and self._sharing.takes(claim):
                self._sharing.ahead.add(claim, batch.sent_at)
            else:
                self._ahead.add(claim, batch.sent_at)
        self._cancels.update(answer.cancels)
        if batch.want.total:
            hungry = self._appetite.took(answer.claimed, batch.want, now)
            self._talk.polled(hungry=hungry, next_due=answer.next_due, now=now)
        for worker in self.workers.values():
            if worker.reserved is not None and any(move.claim is worker.reserved[0] for move in batch.moves):
                self._hand_over_stamped(worker, lost | refused, now)
        self._drop(lost, now)

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

    def _hand_over_stamped(self, worker: Worker, refused: set[tuple[Ref, int]], now: float) -> None:
        assert worker.reserved is not None
        claim, since = worker.reserved
        worker.reserved = None
        if (claim.ref, claim.token) in refused:
            return
        if claim.ref in self._cancels:
            self._cancel_unstarted(claim, now)
        elif self.stopping or worker.killed is not None:
            self._endings.give_back(claim, now)
        else:
            self._hand_out.send(worker, [(claim, since)], now)
            worker.stamped = worker.sent[0][0]

    def _drop(self, gone: set[tuple[Ref, int]], now: float) -> None:
        """Claims that may be somebody else's now are not started, and what runs of them is told or killed.

        What is still to be said of them is said all the same: the store knows whether they were taken.
        """
        if not gone:
            return

        def is_gone(claim: Claimed) -> bool:
            return (claim.ref, claim.token) in gone

        for claim in self._ahead.take(is_gone):
            self._endings.give_back(claim, now)
        for worker in self.workers.values():
            if worker.reserved is not None and is_gone(worker.reserved[0]):
                self._endings.give_back(worker.reserved[0], now)
                worker.reserved = None
            lost = {seq for seq, claim, _since in worker.sent if is_gone(claim)}
            if lost:
                # The one it runs is looked after in the next turn, those behind it are taken back.
                worker.lost |= lost
                if lost != {worker.sent[0][0]}:
                    self._commands.append(Recall(worker.number))
        self._sharing.lose(is_gone, now)

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
            self._give_work(now)
            self._give_back_what_waits(now)
            only_shared = len(self._sharing.names) == len(self._hand_out.names) > 0
            self._crew.size(now, base=0 if only_shared else 1, one_new=self._sharing.wants_worker)
        self._beat(now)
        self._speak(now)
        commands = list(self._commands)
        self._commands.clear()
        return commands

    def _give_work(self, now: float) -> None:
        if not self._sharing.ahead:
            self._hand_out.hand_out(now)
            return
        # Both kinds take from the same places: when there are too few, whoever waits longest is served first.
        waits = self._sharing.waits_for_place
        if not waits or self._sharing.ahead.oldest() >= self._ahead.oldest():
            self._hand_out.hand_out(now)
        self._sharing.hand_out(now)

    def next_deadline(self, now: float) -> float:
        """When to turn again if nothing happens until then."""
        busy = not self._is_idle()
        at = min(now + 1.0, self._leases.next_beat(), self._sharing.next_time())
        at = min(at, self._talk.next_time(polls=not self.stopping, pulse=busy or not self.stopping))
        if self.stopping and busy:
            at = min([at, *(moment for moment in (self._tell_at, self._kill_at) if moment > now)])
        for worker in self.workers.values():
            at = min(at, worker.next_time(now))
        if not self.stopping:
            for _queue, line in [*self._ahead.lines(), *self._sharing.ahead.lines()]:
                for patience in (OPEN_SECONDS, self._patience()):
                    if line[0][1] + patience > now:
                        at = min(at, line[0][1] + patience)
        return at

    # -------------------------------------------------------------- holding

    def _held(self) -> Iterator[tuple[Claimed, float]]:
        yield from self._ahead
        for worker in self.workers.values():
            for _seq, claim, since in worker.sent:
                yield claim, since
            if worker.reserved is not None:
                yield worker.reserved
        yield from self._sharing.held()

    def _is_idle(self) -> bool:
        return all(worker.idle for worker in self.workers.values()) and self._sharing.idle

    def _wants_to_be_told(self, claim: Claimed) -> bool:
        return bool(self._hand_out.names.get(claim.name, {}).get("on_lost_lease") == "tell")

    def _fence(self, now: float) -> None:
        # Without renewals somebody else may have our jobs when the lease ends: stop them well before.
        if not self._leases.is_unsafe(now):
            return
        last = self._leases.last_moment()
        for worker in self.workers.values():
            if worker.sent and now < last and self._wants_to_be_told(worker.sent[0][1]):
                self._crew.recall(worker)
                self._crew.tell(worker, Why.LOST, "the engine cannot renew its claim", last)
            elif worker.sent:
                self._crew.kill(worker, "lost")
        for claim in self._ahead.take_all():
            self._endings.give_back(claim, now)
        self._sharing.fence(self._wants_to_be_told, last, now)

    def _beat(self, now: float) -> None:
        if now >= self._leases.next_beat():
            self._commands.append(Renew(self._leases.beat(self._held(), now)))

    def _cancel(self, now: float) -> None:
        """End what somebody asked to cancel: what has not started at once; what runs is told, and killed in the end."""
        if not self._cancels:
            return
        for ahead in (self._ahead, self._sharing.ahead):
            for claim in ahead.take(lambda claim: claim.ref in self._cancels):
                self._cancel_unstarted(claim, now)
        early = set(self._sharing.cancel(self._cancels, now))
        for worker in self.workers.values():
            for place, (_seq, claim, _since) in enumerate(worker.sent):
                if claim.ref not in self._cancels:
                    continue
                if place == 0:
                    self._crew.tell(worker, Why.CANCEL, self._cancels[claim.ref], now + self.settings.cancel_grace)
                    continue
                early.add(claim.ref)
                if claim.ref not in self._cancel_recalls:
                    # Taken back it is unstarted; if it cannot be, it is about to run and is told then.
                    self._cancel_recalls.add(claim.ref)
                    self._commands.append(Recall(worker.number))
        self._cancels = {ref: why for ref, why in self._cancels.items() if ref in early}
        self._cancel_recalls &= early

    def _cancel_unstarted(self, claim: Claimed, now: float) -> None:
        self._words.move(claim, states.cancel_at_work(claim, reason=self._cancels.pop(claim.ref)), now)

    # -------------------------------------------------------------- what waits

    def _patience(self) -> float:
        return KEEP_STARTING_SECONDS if self._crew.is_growing else KEEP_AHEAD_SECONDS

    def _give_back_what_waits(self, now: float) -> None:
        # Another engine may have a free worker for it, and ours would not be faster.
        patience = self._patience()
        served = {queue.name for queue in self._hand_out.queues}
        for ahead in (self._ahead, self._sharing.ahead):
            for queue, _line in ahead.lines():
                for claim in ahead.take_waiting(queue, patience if queue in served else 0.0, now):
                    self._endings.give_back(claim, now)

    def _speak(self, now: float) -> None:
        if not self._talk.may_speak(now):
            return
        want, room_is_wide = NOTHING, False
        if not (self.stopping or self.quiet) and self._hand_out.names and not self._leases.is_unsafe(now):
            want, room_is_wide = self._appetite.want(
                self.workers.values(),
                self._ahead,
                self._hand_out.queues,
                self._pace,
                may_start=self._crew.may_start,
                now=now,
            )
        is_quiet = self._sharing.idle and all(not w.sent or w.is_stuck(now) for w in self.workers.values())
        pulse = not self.stopping or not self._is_idle()
        self._talk.speak(want, now, room_is_wide=room_is_wide, is_quiet=is_quiet, pulse=pulse)

    # -------------------------------------------------------------- the end

    def _wind_down(self, now: float) -> None:
        for claim in self._ahead.take_all():
            self._endings.give_back(claim, now)
        tell = now >= self._tell_at
        for worker in self.workers.values():
            worker.leaving = True
            self._crew.recall(worker)
            if worker.sent and now >= self._kill_at:
                self._crew.kill(worker, "stop")
            elif worker.sent and tell:
                self._crew.tell(worker, Why.STOP, "the engine stops", self._kill_at)
        self._sharing.wind_down(now, tell=tell, kill_at=self._kill_at, reason="the engine stops")
        all_said = not self._words and not self._talk.strays and self._talk.in_flight is None
        if self._is_idle() and all_said and not self._finished:
            self._finished = True
            self._commands.append(Finished())
