"""What a model store remembers beside its jobs: who has which once key, and the starts that rates count."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobcard.core.rates import SLOTS, Rate, Starts


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

    slots: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def count(self, name: str, rate: Rate, number: int, now: int) -> None:
        """So many have started."""
        if number > 0:
            slot = rate.slot_at(now)
            used, _until = self.slots.get((name, slot), (0, 0))
            self.slots[name, slot] = (used + number, (slot + SLOTS + 1) * rate.slot)

    def of(self, name: str) -> Starts:
        """The starts of a queue or key."""
        return Starts(sorted((slot, used) for (its, slot), (used, _until) in self.slots.items() if its == name))

    def forget(self, now: int) -> int:
        """Those of which no window knows any more; the last of their instants."""
        over = {what: until for what, (_used, until) in self.slots.items() if until <= now}
        for what in over:
            del self.slots[what]
        return max(over.values(), default=0)
