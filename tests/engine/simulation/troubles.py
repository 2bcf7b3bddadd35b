"""What happens to a simulated world: stores that fail, engines that stop, operators that change their minds."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from jobcard.backends.base import RecordKind
from jobcard.core import clock, states
from jobcard.core.queue import Queue, queue_to_text
from jobcard.errors import DuplicateJobError

if TYPE_CHECKING:
    from simulation.engine import SimEngine


class Fate(NamedTuple):
    """What happens to one store call. applied_at: after so long (None: never); wait: when the answer comes.

    times: how often the same words are said. share: so much of what it says is applied (1: all).
    """

    applied_at: float | None
    wait: float
    fails: bool
    times: int = 1
    share: float = 1.0


_FINE = Fate(0, 0.0, False)


class Troubles:
    """The part of a world that goes wrong."""

    def fate(self, engine: SimEngine | None) -> Fate:
        """Draw what happens to a store call."""
        random, faults = self.random, self.faults
        if self.calm:
            return _FINE
        cut_until = self.outage_until if engine is None else max(self.outage_until, engine.host.cut_until)
        if self.now < cut_until:
            # Refused at once, or no answer until a time-out.
            return Fate(None, random.choice((0.0, 0.001, random.uniform(0, 0.5 * self.settings.lease))), True)
        draw = random.random()
        for share, kind in (
            (faults.error, "error"),
            (faults.lost, "lost"),
            (faults.late, "late"),
            (faults.slow, "slow"),
            (faults.twice, "twice"),
            (faults.partly, "partly"),
        ):
            draw -= share
            if draw < 0:
                wait = random.choice((0.0, 0.002, random.uniform(0, 0.5 * self.settings.lease)))
                if kind == "error":
                    return Fate(None, wait, True)
                if kind == "lost":
                    return Fate(wait * random.random(), wait, True)
                if kind == "twice":
                    return Fate(wait * random.random(), wait, False, times=2)
                if kind == "partly":
                    return Fate(wait * random.random(), wait, True, share=random.random())
                if kind == "late":
                    return Fate(wait + random.random() * self.settings.lease, wait, True)
                wait = 3 * self.settings.lease * random.random() ** 2
                return Fate(wait * random.choice((0.0, random.random(), 1.0)), wait, random.random() < 0.3)
        return _FINE if draw < 0.7 else Fate(0, draw * 0.005, False)

    def _plan_faults(self) -> None:
        faults = self.faults
        minutes = self.episodes.seconds / 60
        for rate, what in (
            (faults.outages, self._outage),
            (faults.cuts, self._cut),
            (faults.pauses, self._pause_engine),
            (faults.engine_crashes, self._crash_engine),
            (faults.host_losses, self._lose_host),
            (faults.stops, self._stop_engine),
            (faults.cancels, self._cancel),
            (faults.moves, self._move),
            (faults.orders, self._order),
            (faults.queue_pauses, self._pause_queue),
            (faults.queue_changes, self._change_queue),
            (faults.steps_back, self._step_back),
            (faults.steps_forward, self._step_forward),
        ):
            expected = rate * minutes
            count = int(expected) + (self.random.random() < expected % 1)
            for _ in range(count):
                self.plan_at(self.episodes.moment(self.random), what)

    def _some_engine(self) -> SimEngine | None:
        engines = [host.engine for host in self.hosts if host.engine is not None]
        return self.random.choice(engines) if engines else None

    def _a_while(self) -> float:
        return min(self.settings.lease * 3 * self.random.random() ** 2, self.busy_until - self.now)

    def _outage(self) -> None:
        self.outage_until = self.now + self._a_while()
        self.note("the store is gone until %.3f", self.outage_until)

    def _cut(self) -> None:
        host = self.random.choice(self.hosts)
        host.cut_until = self.now + self._a_while()
        self.note("host %s is cut off until %.3f", host.name, host.cut_until)

    def _pause_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.stop_process(self._a_while())

    def _crash_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.die("it crashed")

    def _lose_host(self) -> None:
        host = self.random.choice(self.hosts)
        if host.up:
            host.lose(self._a_while() + 0.1)

    def _stop_engine(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            engine.ask_to_stop()

    def _cancel(self) -> None:
        alive = list(self.rows.alive.values())
        if not alive:
            return
        row = self.random.choice(alive)
        if row.state == "waiting":
            self.backend.apply_by_operator(row.id, states.cancel_waiting(reason="operator"))
        elif self.backend.apply_by_operator(row.id, states.ask_to_cancel(row, reason="operator")) is not None:
            self.canceled[row.id] = row.claim_token
            run = self.running.get(row.id)
            if run is not None and run.token == row.claim_token:
                run.canceled_at = self.now
        self.note("cancel %s (%s)", self.name(row.id), row.state)

    def _move(self) -> None:
        """An operator retries, hurries or delays some job."""
        row = self.random.choice(list(self.rows.values())) if self.rows else None
        if row is None:
            return
        if row.state in ("failed", "canceled"):
            self.by_operator = True
            with contextlib.suppress(DuplicateJobError):
                if self.backend.apply_by_operator(row.id, states.retry_ended(row)) is not None:
                    self.fresh_from[row.id] = len(self.runs[row.id])
                    self.canceled.pop(row.id, None)
            self.by_operator = False
        elif row.state == "waiting" and self.random.random() < 0.5:
            self.backend.apply_by_operator(row.id, states.run_now(row))
        elif row.state == "waiting":
            delay = self.random.randint(0, 10 * clock.SECOND)
            self.backend.apply_by_operator(row.id, states.snooze_waiting(row, delay=delay))
        self.note("an operator moves %s (%s)", self.name(row.id), row.state)

    def _order(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            order = self.random.choice(("quiet", "quiet", "work", "stop"))
            self.backend.write_record(RecordKind.ORDER, engine.owner, f'{{"order":"{order}"}}')
            self.note("%s is ordered: %s", engine.owner, order)
            if order == "quiet":
                self.after(self.random.uniform(1, 20), self._order_to_work, engine.owner)

    def _order_to_work(self, owner: str) -> None:
        self.stir()
        # Whoever took its place was told the same.
        for host in self.hosts:
            if host.engine is not None and host.engine.owner[0] == owner[0] and host.engine.stopping_since is None:
                self.backend.write_record(RecordKind.ORDER, host.engine.owner, '{"order":"work"}')

    def _pause_queue(self) -> None:
        place = self.random.randrange(len(self.queues))
        self._set_paused(place, True)
        self.after(self.random.uniform(1, 20), self._set_paused, place, False)

    def _set_paused(self, place: int, paused: bool) -> None:
        self.stir()
        self.queues[place] = replace(self.queues[place], paused=paused)
        self._write_queue(self.queues[place])

    def _change_queue(self) -> None:
        random = self.random
        place = random.randrange(len(self.queues))
        queue = self.queues[place]
        match random.randrange(4):
            case 0:
                self.limits[queue.name].append((self.now, queue.concurrency))
                changed = replace(queue, concurrency=random.choice((1, 2, 3, 10)))
            case 1:
                changed = replace(queue, priority=random.choice((0, 5, -5)))
            case 2:
                changed = replace(queue, weight=random.choice((1, 1, 3, 20)))
            case _:
                changed = replace(queue, ageing=random.choice((None, None, 0.5, 10.0)))
        self.queues[place] = changed
        self._write_queue(changed)

    def _write_queue(self, queue: Queue) -> None:
        self.changed_at[queue.name] = self.now
        self.backend.write_record(RecordKind.QUEUE, queue.name, queue_to_text(queue))
        self.note("%s", queue)

    def _step_back(self) -> None:
        self.clock.offset -= self.settings.lease * self.random.random() * 2
        self._stepped()

    def _step_forward(self) -> None:
        self.clock.offset += self.settings.lease * self.random.random() * 2
        self.stepped_at = self.now
        self._stepped()

    def _stepped(self) -> None:
        self.note("the store's clock is off by %.3f", self.clock.offset)
        for host in self.hosts:
            if host.engine is not None:
                host.engine.disturb(self.now)

    def _calm_down(self) -> None:
        self.note("calm")
        self.calm = True
        self.outage_until = 0.0
        for host in self.hosts:
            host.cut_until = 0.0
            if host.engine is not None:
                host.engine.disturb(self.now)
                if host.engine.stopping_since is None:
                    self.backend.write_record(RecordKind.ORDER, host.engine.owner, '{"order":"work"}')
        for place, queue in enumerate(self.queues):
            if queue.paused:
                self.queues[place] = replace(queue, paused=False)
                self._write_queue(self.queues[place])
