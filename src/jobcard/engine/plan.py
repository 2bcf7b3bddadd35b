"""Every decision of an engine, pure: events in, commands out; no clock, no process, no store.

What the plan is told       hello · done · ended · recalled · worker_gone · exchanged · store_failed · renewed · …
What it asks for            Spawn · Send · Recall · Kill · Retire · Exchange · Renew · Sweep · Finish

`turn(now)` is called whenever something happened or `next_deadline()` is reached. The dispatcher performs
the commands; thousands of simulated seeds perform them on a model instead (tests/engine/simulator.py).

The path of a claim:  claimed ─► ahead (look-ahead, per queue) ─► sent (a worker's pipe, in order) ─► settled
At most one exchange is in flight. Times are monotonic seconds of this host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobcard.backends.base import NOTHING, Exchanged, Refusal, Verdict, Want
from jobcard.core import clock, states
from jobcard.core.job import Claimed, Ref
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Ahead
from jobcard.engine.appetite import Appetite
from jobcard.engine.commands import Command, Exchange, FindStrays, Finished, Kill, Recall, Renew, Retire, Spawn
from jobcard.engine.hand_out import OPEN_SECONDS, HandOut
from jobcard.engine.held import HELLO_SECONDS, STAMP_SECONDS, Worker
from jobcard.engine.leases import Leases
from jobcard.engine.outcomes import Ended, change_for, change_for_death, error_of_refused_outcome
from jobcard.engine.pace import Pace
from jobcard.engine.words import Batch, Words
from jobcard.workers.messages import Exit

# Measured in docs/decisions/0003-look-ahead.md: large batches are what makes the store fast.
FLUSH = 200  # outcomes that make an exchange due at once
FLUSH_SECONDS = 0.010  # … and how long the first may wait
KEEP_AHEAD_SECONDS = 0.1  # a job that found no worker for this long goes back to the store …
KEEP_STARTING_SECONDS = 5.0  # … or for this long while a worker starts
SPARE_SECONDS = 60.0  # an idle worker ends after this
LAST_WORDS_SECONDS = 2.0  # the end of a stop: for killing what still runs and for telling the store
PULSE_SECONDS = 1.0  # the store is asked at least so often for cancel requests and changed settings


class Plan:
    """The state of one engine and its next decision."""

    def __init__(
        self, settings: Settings, *, random: Callable[[], float], cpus: int, max_batch: int, now: float
    ) -> None:
        self.settings = settings
        self.workers: dict[int, Worker] = {}
        self.lost = 0
        """Jobs and outcomes that turned out to be somebody else's by now; a figure for the log."""
        self.settings_version = -1
        self.stopping = False
        self._commands: list[Command] = []
        self._random = random
        self._cpus = cpus
        self._max_batch = max_batch
        self._appetite = Appetite(slots=settings.slots, cpus=cpus, most=max_batch)
        self._slots = settings.slots
        # what we hold beside what workers have
        self._ahead = Ahead()
        self._leases = Leases(settings, now)
        self._cancels: dict[Ref, str] = {}
        self._cancel_recalls: set[Ref] = set()
        # what is to be said
        self._words = Words()
        self._in_flight: Batch | None = None
        # when to talk
        self._hungry = False
        self._poll_at = now
        self._talked_at = now - PULSE_SECONDS
        self._next_try = now
        self._failures = 0
        self._strays: str = ""  # "": none expected, "due", "asked"
        self._pace = Pace()
        self._hand_out = HandOut(
            self.workers, self._ahead, self._pace, self._words, self._commands, slots=settings.slots, cpus=cpus
        )
        # numbers
        self._next_worker = 0
        self._spawn_at = now
        self._failed_spawns = 0
        # the end
        self._kill_at = 0.0
        self._finished = False

    # -------------------------------------------------------------- events: what there is

    def hello(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker has imported the app and knows these job names."""
        worker = self.workers[number]
        worker.ready = True
        worker.current_since = worker.ready_since = now
        self._hand_out.names = names
        self._failed_spawns = 0
        self._spawn_at = now

    def adopt(self, number: int, names: dict[str, dict[str, Any]], now: float) -> None:
        """A worker that was started before this plan and has said hello."""
        self.workers[number] = Worker(number)
        self._next_worker = number + 1
        self.hello(number, names, now)

    @property
    def queues(self) -> Sequence[Queue]:
        """The queues served now, in order."""
        return self._hand_out.queues

    def why_killed(self, number: int) -> str:
        """Why we killed a worker, for the log."""
        worker = self.workers.get(number)
        return worker.killed[1] if worker is not None and worker.killed is not None else "unknown"

    def know_queues(self, queues: Sequence[Queue], version: int) -> None:
        """The queues as the store has them now."""
        self._hand_out.queues = sorted((q for q in queues if not q.paused), key=lambda q: (-q.priority, q.name))
        self.settings_version = version
        self._hungry = True

    def wake(self, now: float) -> None:
        """Somebody says that there may be work."""
        self._poll_at = min(self._poll_at, now)

    def stop(self, now: float, *, at_once: bool) -> None:
        """Take no more jobs, give back what has not started, let the rest end until the time is up."""
        # Being told again never makes it later.
        kill_at = now if at_once else now + max(0.0, self.settings.stop_timeout - LAST_WORDS_SECONDS)
        self._kill_at = min(kill_at, self._kill_at) if self.stopping else kill_at
        self.stopping = True

    # -------------------------------------------------------------- events: workers

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        """A worker's job returned; False: not the job we expected, so it cannot be believed (one we killed may)."""
        worker = self.workers[number]
        sent = worker.sent
        if not sent or sent[0][0] != seq:
            return worker.killed is not None
        claim = sent.popleft()[1]
        worker.current_since = ended
        worker.served += 1
        self._words.completed(claim, result, started, ended)
        self._pace.learn(claim.name, ended - started)
        return True

    def ended(self, number: int, seq: int, started: float, ended: float, what: Ended) -> bool:
        """A worker's job ended in any other way; False as for `done`."""
        worker = self.workers[number]
        if not worker.sent or worker.sent[0][0] != seq:
            return worker.killed is not None
        claim = worker.sent.popleft()[1]
        worker.current_since = ended
        worker.served += 1
        self._pace.learn(claim.name, ended - started)
        self._words.move(claim, change_for(claim, what, random=self._random), ended)
        return True

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        """These jobs of a worker were not started and will not be: back to the front of the look-ahead."""
        worker = self.workers.get(number)
        if worker is None or not seqs:
            return
        back = set(seqs)
        for seq, claim, since in reversed(worker.sent):
            if seq in back and seq in worker.lost:
                self._give_back(claim, since)
            elif seq in back:
                self._ahead.add_first(claim, since)
        worker.sent = deque(given for given in worker.sent if given[0] not in back)

    def worker_gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float) -> None:
        """A worker process ended. unstarted: jobs whose permits it never took."""
        worker = self.workers.get(number)
        if worker is None:
            return
        self.recalled(number, unstarted)
        del self.workers[number]
        if not worker.ready and not self.stopping:
            self._failed_spawns += 1
            self._spawn_at = now + min(30.0, 0.5 * 2 ** min(self._failed_spawns, 6))
        if worker.reserved is not None:
            self._give_back(worker.reserved[0], now)
        for place, (seq, claim, _since) in enumerate(worker.sent):
            # Jobs end in the order they were given, so the first without an outcome is the one that ran. If
            # we killed for an earlier one, this one is innocent.
            why = "crash" if worker.killed is None else worker.killed[1]
            if place > 0 or (worker.killed is not None and worker.killed[0] != seq):
                why = "lost"
            if worker.killed is None and (exit.is_lost or self._leases.is_unsafe(now)):
                why = "lost"  # with its template, or by the keeper: whoever does not renew must not run
            self._words.move(claim, change_for_death(claim, why, exit, random=self._random), now)

    @property
    def names(self) -> Sequence[str]:
        """The names of jobs that this engine's workers know."""
        return list(self._hand_out.names)

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing is held: then no lease can end under a job."""
        return next(self._held(), None) is None

    def over_memory(self, number: int) -> None:
        """A worker uses more memory than its job may."""
        worker = self.workers.get(number)
        if worker is not None and worker.sent:
            self._kill(worker, "memory")

    def memory_limits(self) -> list[tuple[int, int]]:
        """(worker, bytes) for those running a job whose memory is limited."""
        limits = []
        for worker in self.workers.values():
            if worker.sent and worker.killed is None:
                limit = (
                    self._hand_out.names.get(worker.sent[0][1].name, {}).get("memory_limit")
                    or self.settings.memory_limit
                )
                if limit:
                    limits.append((worker.number, limit))
        return limits

    # -------------------------------------------------------------- events: the store

    def exchanged(self, answer: Exchanged, now: float) -> None:
        """The store answered the exchange in flight."""
        batch = self._in_flight
        assert batch is not None, "an answer without an exchange"
        self._in_flight = None
        self._failures = 0
        refused: set[tuple[Ref, int]] = set()
        lost: set[tuple[Ref, int]] = set()
        for refusal in answer.refusals:
            if refusal.verdict is Verdict.LOST:
                lost.add((refusal.ref, refusal.token))
            elif refusal.verdict is Verdict.REFUSED:
                refused.add((refusal.ref, refusal.token))
                self._say_it_was_refused(refusal, batch, now)
        self.lost += len(lost)
        refused |= lost
        late = self._leases.is_late(batch.sent_at, now)
        for claim in answer.claimed:
            if late:
                self._give_back(claim, now)
            else:
                self._ahead.add(claim, batch.sent_at)
        self._cancels.update(answer.cancels)
        if batch.want.total:
            self._hungry = len(answer.claimed) >= batch.want.total
            self._poll_at = now + self.settings.poll_interval
            if answer.next_due is not None:
                self._poll_at = min(self._poll_at, now + answer.next_due / clock.SECOND)
        for worker in self.workers.values():
            if worker.reserved is not None and any(claim is worker.reserved[0] for claim, _ in batch.moves):
                self._hand_over_stamped(worker, refused, now)
        self._drop(lost, now)

    def store_failed(self, now: float) -> None:
        """The store did not answer the exchange in flight: everything said is said again later.

        It may have been applied: the same words again are then recognised as ours, and what it claimed
        without our knowing shows as strays.
        """
        batch = self._in_flight
        assert batch is not None, "a failure without an exchange"
        self._in_flight = None
        self._wait_for_the_store(now)
        self._words.put_back(batch)
        if batch.want.total:
            self._strays = "due"

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
        self._strays = ""
        self.disown_unknown(found, now)

    def disown_unknown(self, found: Sequence[Claimed], now: float) -> None:
        """Claims the store has in our name: those we never heard of go back."""
        if self._in_flight is not None:
            return  # they may be in the answer that is on its way
        known = {(claim.ref, claim.token) for claim, _since in self._held()}
        known.update((claim.ref, claim.token) for claim in self._words.claims())
        for claim in found:
            if (claim.ref, claim.token) not in known:
                self._give_back(claim, now)

    def strays_failed(self, now: float) -> None:
        """The store did not say what it thinks we hold: ask again later."""
        self._strays = "due"
        self._wait_for_the_store(now)

    def _wait_for_the_store(self, now: float) -> None:
        self._failures += 1
        self._next_try = now + min(5.0, 0.02 * 2 ** min(self._failures, 8) * (0.5 + self._random()))

    def _say_it_was_refused(self, refusal: Refusal, batch: Batch, now: float) -> None:
        for claim, said in [*((claim, None) for claim in batch.done), *batch.moves]:
            if (claim.ref, claim.token) != (refusal.ref, refusal.token):
                continue
            # The reason that made it be refused may stand in the error; the second time nothing of it is said.
            first = said is None or said.sets.get("reason") != "serialization"
            error = error_of_refused_outcome(claim, refusal.why) if first else None
            if first or (said is not None and said.error is not None):
                self._words.move(claim, states.fail_refused(claim, error=error), now)
            return

    def _hand_over_stamped(self, worker: Worker, refused: set[tuple[Ref, int]], now: float) -> None:
        assert worker.reserved is not None
        claim, since = worker.reserved
        worker.reserved = None
        if (claim.ref, claim.token) in refused:
            return
        if claim.ref in self._cancels:
            self._cancel_unstarted(claim, now)
        elif self.stopping or worker.killed is not None:
            self._give_back(claim, now)
        else:
            self._hand_out.send(worker, [(claim, since)], now)
            worker.stamped = worker.sent[0][0]

    def _drop(self, gone: set[tuple[Ref, int]], now: float) -> None:
        """Claims that may be somebody else's now are not started, and a worker that runs one dies.

        What is still to be said of them is said all the same: the store knows whether they were taken.
        """
        for claim in self._ahead.take(lambda claim: (claim.ref, claim.token) in gone):
            self._give_back(claim, now)
        for worker in self.workers.values():
            if worker.reserved is not None and (worker.reserved[0].ref, worker.reserved[0].token) in gone:
                self._give_back(worker.reserved[0], now)
                worker.reserved = None
            lost = {seq for seq, claim, _since in worker.sent if (claim.ref, claim.token) in gone}
            if lost:
                worker.lost |= lost
                self._kill(worker, "lost")

    # -------------------------------------------------------------- the turn

    def turn(self, now: float) -> list[Command]:
        """Decide everything that can be decided now."""
        self._fence(now)
        self._watch_workers(now)
        if self.stopping:
            self._wind_down(now)
        else:
            self._cancel(now)
            self._hand_out.hand_out(now)
            self._give_back_what_waits(now)
            self._size_pool(now)
        self._beat(now)
        self._talk(now)
        commands = list(self._commands)
        self._commands.clear()
        return commands

    def next_deadline(self, now: float) -> float:
        """When to turn again if nothing happens until then."""
        at = min(now + 1.0, self._leases.next_beat())
        if self._in_flight is None and self._strays != "asked":
            if self._words.since is not None:
                at = min(at, max(self._words.since + FLUSH_SECONDS, self._next_try))
            if not self.stopping:
                at = min(at, max(min(self._poll_at, self._talked_at + PULSE_SECONDS), self._next_try))
        if self.stopping and any(worker.killed is None and worker.sent for worker in self.workers.values()):
            at = min(at, self._kill_at)
        for worker in self.workers.values():
            at = min(at, worker.next_time(now))
        if not self.stopping:
            for _queue, line in self._ahead.lines():
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

    def _fence(self, now: float) -> None:
        # Without renewals somebody else may have our jobs when the lease ends: stop them well before.
        if not self._leases.is_unsafe(now):
            return
        for worker in self.workers.values():
            if worker.sent:
                self._kill(worker, "lost")
        for claim in self._ahead.take_all():
            self._give_back(claim, now)

    def _beat(self, now: float) -> None:
        if now >= self._leases.next_beat():
            self._commands.append(Renew(self._leases.beat(self._held(), now)))

    def _give_back(self, claim: Claimed, now: float) -> None:
        self._words.move(claim, states.hand_back(claim), now)

    def _cancel(self, now: float) -> None:
        """End what somebody asked to cancel: what has not started at once, what runs by a kill."""
        if not self._cancels:
            return
        for claim in self._ahead.take(lambda claim: claim.ref in self._cancels):
            self._cancel_unstarted(claim, now)
        known = set()
        for worker in self.workers.values():
            for place, (_seq, claim, _since) in enumerate(worker.sent):
                if claim.ref not in self._cancels:
                    continue
                known.add(claim.ref)
                if place == 0:
                    self._kill(worker, "canceled")
                elif claim.ref not in self._cancel_recalls:
                    # Taken back it is unstarted; if it cannot be, it is about to run and dies then.
                    self._cancel_recalls.add(claim.ref)
                    self._commands.append(Recall(worker.number))
        self._cancels = {ref: why for ref, why in self._cancels.items() if ref in known}
        self._cancel_recalls &= known

    def _cancel_unstarted(self, claim: Claimed, now: float) -> None:
        self._words.move(claim, states.cancel_at_work(claim, reason=self._cancels.pop(claim.ref)), now)

    # -------------------------------------------------------------- workers

    def _watch_workers(self, now: float) -> None:
        for worker in self.workers.values():
            if worker.killed is not None:
                continue
            if not worker.ready and now >= worker.current_since + HELLO_SECONDS:
                self._kill(worker, "start")
            if worker.is_worn(self.settings.recycle_after, now):
                worker.leaving = True
            if not worker.sent:
                if worker.leaving and worker.reserved is None and not worker.retired:
                    worker.retired = True
                    self._commands.append(Retire(worker.number))
                continue
            seq, claim, _since = worker.sent[0]
            # Compared as `next_time` computes it: the other way round a rounding error would let the moment pass.
            if claim.timeout is not None and now >= worker.current_since + claim.timeout / clock.SECOND:
                self._kill(worker, "timeout")
                continue
            if worker.is_stuck(now) and len(worker.sent) > 1 and worker.recalled != seq:
                worker.recalled = seq
                self._commands.append(Recall(worker.number))
            if now >= worker.current_since + STAMP_SECONDS and worker.stamped != seq:
                worker.stamped = seq
                self._words.move(
                    claim, states.start(claim, ago=round((now - worker.current_since) * clock.SECOND)), now
                )

    def _kill(self, worker: Worker, why: str) -> None:
        if worker.killed is None:
            worker.killed = (worker.sent[0][0] if worker.sent else -1, why)
            self._commands.append(Kill(worker.number))

    def _size_pool(self, now: float) -> None:
        """Enough workers for what could run now, and one spare that has imported the app."""
        staying = [worker for worker in self.workers.values() if not worker.leaving and worker.killed is None]
        busy = sum(not worker.idle for worker in staying)
        wanted = min(self._slots, max(1, busy + self._worth_a_worker(now))) + 1
        starting = sum(not worker.ready for worker in staying)
        missing = min(wanted - len(staying), 2 * self._cpus - starting)
        if missing > 0 and now >= self._spawn_at:
            for _ in range(1 if self._failed_spawns else missing):
                self.workers[self._next_worker] = Worker(self._next_worker, current_since=now)
                self._commands.append(Spawn(self._next_worker))
                self._next_worker += 1
        for worker in staying[wanted:]:
            if worker.ready and worker.idle and now - worker.current_since > SPARE_SECONDS:
                worker.leaving = True

    def _worth_a_worker(self, now: float) -> int:
        """How many of the jobs held ready deserve a worker of their own."""
        worth = 0
        for claim, _since in self._ahead:
            worth += self._pace.is_slow(claim.name)
            if worth >= self._slots:
                return worth
        if not worth and any(now >= line[0][1] + OPEN_SECONDS for _queue, line in self._ahead.lines()):
            return 1
        return worth

    # -------------------------------------------------------------- what waits

    def _patience(self) -> float:
        starting = any(not worker.ready for worker in self.workers.values())
        return KEEP_STARTING_SECONDS if starting and not self._failed_spawns else KEEP_AHEAD_SECONDS

    def _give_back_what_waits(self, now: float) -> None:
        # Another engine may have a free worker for it, and ours would not be faster.
        patience = self._patience()
        served = {queue.name for queue in self._hand_out.queues}
        for queue, _line in self._ahead.lines():
            for claim in self._ahead.take_waiting(queue, patience if queue in served else 0.0, now):
                self._give_back(claim, now)

    # -------------------------------------------------------------- talking to the store

    def _talk(self, now: float) -> None:
        if self._in_flight is not None or now < self._next_try:
            return
        if self._strays == "due":
            self._strays = "asked"
            self._commands.append(FindStrays())
        if self._strays:
            return
        want, room_is_wide = NOTHING, False
        if not self.stopping and self._hand_out.names and not self._leases.is_unsafe(now):
            want, room_is_wide = self._appetite.want(
                self.workers.values(),
                self._ahead,
                self._hand_out.queues,
                self._pace,
                may_start=not self._failed_spawns,
                now=now,
            )
        if now >= self._poll_at and not want.total:
            # No room now; ask as soon as there is.
            self._hungry = True
            self._poll_at = now + self.settings.poll_interval
        pending = len(self._words)
        asks = want.total > 0 and (now >= self._poll_at or (self._hungry and room_is_wide))
        due = not self.stopping and now >= self._talked_at + PULSE_SECONDS
        if pending:
            assert self._words.since is not None
            quiet = all(not worker.sent or worker.is_stuck(now) for worker in self.workers.values())
            due |= pending >= FLUSH or now >= self._words.since + FLUSH_SECONDS or quiet
        if due or asks:
            self._send_exchange(want, now)

    def _send_exchange(self, want: Want, now: float) -> None:
        self._in_flight = batch = self._words.take(self._max_batch, want, now)
        self._talked_at = now
        self._commands.append(Exchange(batch.completions(), batch.outcomes(), want))

    # -------------------------------------------------------------- the end

    def _wind_down(self, now: float) -> None:
        for claim in self._ahead.take_all():
            self._give_back(claim, now)
        for worker in self.workers.values():
            worker.leaving = True
            if len(worker.sent) > 1 and worker.recalled != worker.sent[0][0]:
                worker.recalled = worker.sent[0][0]
                self._commands.append(Recall(worker.number))
            if worker.sent and now >= self._kill_at:
                self._kill(worker, "stop")
        quiet = all(worker.idle for worker in self.workers.values())
        if quiet and not self._words and not self._strays and self._in_flight is None and not self._finished:
            self._finished = True
            self._commands.append(Finished())
