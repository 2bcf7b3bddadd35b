"""What a model store knows of keys: who has which once key, the starts that rates count, who of a limit key is next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jobcard.conformance.rules import claim_order, is_at_work
from jobcard.core.job import JobRow
from jobcard.core.rates import MOST_KEPT_OUT, Rate, Starts, is_put_off


@dataclass
class OnceKeys:
    """Keys that are taken until an instant."""

    taken: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def holder_of(self, key: str, now: int) -> bytes | None:
        """The job that has a key; None: it is free."""
        job_id, until = self.taken.get(key, (None, 0))
        return job_id if until > now else None

    def take(self, key: str, job_id: bytes, until: int) -> None:
        """It is this job's until then."""
        self.taken[key] = (job_id, until)

    def forget(self, now: int) -> int:
        """Those whose time is over; the last of their instants."""
        over = {key: until for key, (_job_id, until) in self.taken.items() if until <= now}
        for key in over:
            del self.taken[key]
        return max(over.values(), default=0)


@dataclass
class Counted:
    """How many jobs of a queue or key started in each slot, and until when that counts."""

    slots: defaultdict[str, dict[int, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))

    def count(self, name: str, rate: Rate, number: int, now: int) -> None:
        """So many have started."""
        if number > 0:
            slot = rate.slot_at(now)
            used, _until = self.slots[name].get(slot, (0, 0))
            self.slots[name][slot] = (used + number, rate.lapses(slot))

    def of(self, name: str) -> Starts:
        """The starts of a queue or key."""
        return Starts(sorted((slot, used) for slot, (used, _until) in self.slots[name].items()))

    def last_over(self, now: int) -> int:
        """The last instant by now from which starts counted no more: a store may have forgotten them since."""
        all_slots = (slot for slots in self.slots.values() for slot in slots.values())
        return max((until for _used, until in all_slots if until <= now), default=0)

    def forget(self, now: int) -> None:
        """Those of which no window knows any more."""
        for slots in self.slots.values():
            for slot in [slot for slot, (_used, until) in slots.items() if until <= now]:
                del slots[slot]


def put_off(rows: Sequence[JobRow], key: str, now: int) -> int:
    """How many jobs the rate of a limit key has put off whose turn is still to come."""
    mine = [row for row in rows if row.limit_key == key and is_put_off(row)]
    return min(MOST_KEPT_OUT, sum(row.available_at > now for row in mine))


def next_of_key(rows: Sequence[JobRow], key: str) -> list[JobRow]:
    """The jobs held by a limit key that come in now, of each queue the first ones."""
    mine = [row for row in rows if row.limit_key == key]
    at_work = sum(map(is_at_work, mine))
    waiting = [row for row in mine if row.state == "waiting" and row.hold in (None, "limit")]
    return [
        row
        for queue in sorted({row.queue for row in waiting})
        for row in _first_of([row for row in waiting if row.queue == queue], at_work)
    ]


def _first_of(waiting: Sequence[JobRow], at_work: int) -> Iterator[JobRow]:
    # Each by its own limit; the first one that may not come in keeps those behind it where they are.
    for place, row in enumerate(sorted(waiting, key=claim_order)):
        if row.hold == "limit":
            if row.key_limit is not None and at_work + place >= row.key_limit:
                return
            yield row
