"""How much to claim now: what can run, and a moment's work ahead of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobcard.backends.base import NOTHING, Want
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.engine.crew import Crew
from jobcard.engine.hand import Common
from jobcard.engine.held import WINDOW, Worker
from jobcard.engine.sharing import Sharing
from jobcard.engine.turns import Turns

AHEAD = 400  # jobs held ready in the engine at most, however short they are …
AHEAD_OF_APART = 1_200  # … and while the store is busy elsewhere with the next ones: it may take longer than 400 last


class Appetite:
    """What one engine wants, from what it has."""

    def __init__(self, common: Common, crew: Crew, sharing: Sharing, *, most: int, ahead: int) -> None:
        """most: what the store gives in one exchange. ahead: jobs held ready in the engine at most."""
        self._names = common.names
        self._places = common.places
        self._cpus = common.cpus
        self._crew = crew
        self._sharing = sharing
        self._most = most
        self._most_ahead = ahead
        self._turns = Turns()
        self._rationed: dict[str, int] = {}
        """Queues that may have more than we asked them for, this time."""
        self._keyed: set[str] = set()
        """Queues whose last job had a limit key; the store does not tell whether the next one has."""

    def want(self, queues: Sequence[Queue], now: float) -> tuple[Want, bool]:
        """What to claim, and whether that is enough to be worth asking before anybody calls."""
        ahead, pace, may_start = len(self._crew.ahead), self._crew.pace, self._crew.may_start
        held = free = stuck = moving = 0
        busy = []
        for worker in self._crew.workers.values():
            if worker.idle:
                free += worker.takes
                continue
            busy.append(worker)
            held += len(worker.sent) + (worker.reserved is not None)
            if worker.is_stuck(now):
                stuck += 1
            else:
                moving += 1
                free += worker.takes
        able = max(0, min(self._places.of_processes - stuck, free + (2 * self._cpus if may_start else 0)))
        target = able + min(self._most_ahead + WINDOW, pace.jobs_in_a_moment(self._most_ahead) * min(able, self._cpus))
        room = min(target - (held - stuck + ahead), self._most) if able else 0
        to_share, share_target = self._sharing.room(now, may_start=may_start)
        if room <= 0 and to_share <= 0:
            return self.nothing, False
        self._rationed = {}
        wanted = []
        asked = extra = 0
        shares = False
        at_once = able - moving - ahead
        for queue in self._turns.order(queues, now):
            most = room
            if self._names.shared:
                most = self._sharing.split(queue, room, to_share, now)
                extra += max(0, most - max(0, room))
                shares |= most > 0 and self._sharing.shares(queue)
            if most > 0 and self._places.binds(queue):
                most = min(most, self._room_of(queue, busy, now))
            if most > 0 and (queue.name in self._names.limits or queue.name in self._keyed):
                most = min(most, self._sharing.at_once() if self._sharing.shares(queue) else at_once)
            quota = self._turns.quota(queue, max(room, to_share)) if most > 0 else 0
            if quota < most:
                most = self._rationed[queue.name] = quota
            if most > 0:
                wanted.append((queue.name, most))
                asked += most
        if not wanted:
            return self.nothing, False
        total = min(max(0, room) + extra, asked, self._most)
        is_wide = room > 0 and (room >= target // 2 or not ahead)
        is_wide |= shares and (to_share >= share_target // 2 or not self._sharing.ahead)
        return Want(wanted, total, self._names.limits), is_wide

    @property
    def nothing(self) -> Want:
        """No job; the store still hears which queues are limited, for those whom a place set free concerns."""
        return Want(limits=self._names.limits) if self._names.limits else NOTHING

    def took(self, claims: Sequence[Claimed], want: Want, now: float) -> bool:
        """The store gave these; whether it may well have more."""
        if self._names.shared:
            self._sharing.learn_from(claims, want, now)
        if not claims:
            return False
        counts = Counter(claim.queue for claim in claims)
        for name, number in counts.items():
            self._turns.took(name, number, now)
        for name, last in {claim.queue: claim for claim in claims}.items():
            (self._keyed.add if last.limit_key is not None else self._keyed.discard)(name)
        return len(claims) >= want.total or any(counts[name] >= most for name, most in self._rationed.items())

    def _room_of(self, queue: Queue, busy: Sequence[Worker], now: float) -> int:
        held = len(self._crew.ahead.line(queue.name)) + len(self._sharing.ahead.line(queue.name))
        stuck = self._places.shared_of[queue.name]
        for worker in busy:
            if worker.has(queue.name):
                if worker.is_stuck(now):
                    stuck += 1
                else:
                    held += sum(given[1].queue == queue.name for given in worker.sent)
        return (queue.concurrency - stuck) * (1 + self._crew.pace.jobs_in_a_moment(WINDOW)) - held
