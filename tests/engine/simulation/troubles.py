"""What happens to a simulated world: stores that fail, engines that stop, operators that change their minds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobcard.backends.base import RecordKind
from jobcard.core import states
from jobcard.core.queue import Queue, queue_to_text

if TYPE_CHECKING:
    from simulation.engine import SimEngine


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one store call. applied_at: after so long (None: never); wait: when the answer comes."""

    applied_at: float | None
    wait: float
    fails: bool


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
        ):
            draw -= share
            if draw < 0:
                wait = random.choice((0.0, 0.002, random.uniform(0, 0.5 * self.settings.lease)))
                if kind == "error":
                    return Fate(None, wait, True)
                if kind == "lost":
                    return Fate(wait * random.random(), wait, True)
                if kind == "late":
                    return Fate(wait + random.random() * self.settings.lease, wait, True)
                wait = 3 * self.settings.lease * random.random() ** 2
                return Fate(wait * random.choice((0.0, random.random(), 1.0)), wait, random.random() < 0.3)
        return _FINE if draw < 0.7 else Fate(0, draw * 0.005, False)

    def _plan_faults(self) -> None:
        faults = self.faults
        minutes = (self.busy_until - self.now) / 60
        for rate, what in (
            (faults.outages, self._outage),
            (faults.cuts, self._cut),
            (faults.pauses, self._pause_engine),
            (faults.engine_crashes, self._crash_engine),
            (faults.host_losses, self._lose_host),
            (faults.stops, self._stop_engine),
            (faults.cancels, self._cancel),
            (faults.orders, self._order),
            (faults.queue_pauses, self._pause_queue),
            (faults.steps_back, self._step_back),
            (faults.steps_forward, self._step_forward),
        ):
            expected = rate * minutes
            count = int(expected) + (self.random.random() < expected % 1)
            for _ in range(count):
                self.at(self.random.uniform(self.now, self.busy_until), what)

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

    def _order(self) -> None:
        engine = self._some_engine()
        if engine is not None:
            order = self.random.choice(("quiet", "quiet", "work", "stop"))
            self.backend.write_record(RecordKind.ORDER, engine.owner, f'{{"order":"{order}"}}')
            self.note("%s is ordered: %s", engine.owner, order)

    def _pause_queue(self) -> None:
        place = self.random.randrange(len(self.queues))
        self.queues[place] = replace(self.queues[place], paused=not self.queues[place].paused)
        self._write_queue(self.queues[place])

    def _write_queue(self, queue: Queue) -> None:
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
