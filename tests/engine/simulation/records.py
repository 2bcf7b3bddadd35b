"""What is written down of a simulated run, and the store every engine talks to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobcard.backends.base import NO_COMPLETIONS, Backend, Capabilities, Exchanged, Held
from jobcard.conformance.rules import claim_order
from jobcard.core import clock, states
from jobcard.core.job import JobRow, Ref
from simulation.faults import Violation

if TYPE_CHECKING:
    from simulation.world import World


EPOCH = 1_800_000_000 * clock.SECOND


@dataclass(slots=True)
class Run:
    """One try of a job, from the moment its permit was read until it ended or its process died."""

    job: bytes
    token: int
    attempt: int
    owner: str
    begin: float
    end: float | None = None
    how: str = ""
    alone_by: float = float("inf")
    """When it has to be over, since another run of the job has begun."""
    known_lost: float = float("inf")
    """Since when its engine knows that the claim is gone."""
    kind: str = ""
    seconds: float = 0.0
    """What it does, and how long that takes."""
    shared: bool = False
    talks: bool = False
    lines: list[str] = field(default_factory=list)
    """What it logged."""
    unstorable: bool = False
    """It asked for a checkpoint that no store can take: what was said with it may come too late the second time."""
    when_told: str = "told"
    """How it ends when it is told to; "ignore": it does not."""
    told_at: float | None = None
    told_why: str = ""
    canceled_at: float | None = None
    """When somebody asked to cancel it while it ran."""


class Rows(dict[bytes, JobRow]):
    """The model's rows, each move watched."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.alive: dict[bytes, JobRow] = {}

    def __setitem__(self, key: bytes, row: JobRow) -> None:
        old = self.get(key)
        if row.unique_key is not None:
            self._check_key(row)
        super().__setitem__(key, row)
        if row.state in states.ENDED:
            self.alive.pop(key, None)
        else:
            self.alive[key] = row
        if old is not None and (old.state != row.state or old.claim_token != row.claim_token):
            self._world.moved(old, row)
        noted = old is not None and (old.progress, old.checkpoint) != (row.progress, row.checkpoint)
        if noted and old is not None and old.state not in states.AT_WORK and not self._world.by_operator:
            raise Violation(f"job {self._world.name(row.id)} is {row.state} and was noted")

    def _check_key(self, row: JobRow) -> None:
        if row.state in states.ENDED:
            return
        for other in self.alive.values():
            if other.unique_key == row.unique_key and other.id != row.id:
                raise Violation(f"two living jobs have the unique key {row.unique_key}")


@dataclass(slots=True)
class SimClock:
    """The store's clock: simulated time plus what it was set wrong by."""

    time: float = 0.0
    offset: float = 0.0

    def now(self) -> int:
        return EPOCH + round((self.time + self.offset) * clock.SECOND)

    def monotonic(self) -> float:
        return self.time


class Store:
    """One engine's way to the store: passes calls on and looks at what they did."""

    def __init__(self, world: World, backend: Backend, max_batch: int) -> None:
        self._world = world
        self._backend = backend
        self.capabilities: Capabilities = backend.capabilities._replace(max_batch=max_batch)
        self.renew, self.find_held, self.let_in = backend.renew, backend.find_held, backend.let_in

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._backend, verb)

    def exchange(self, owner: str, **said: Any) -> Exchanged:
        world, rows = self._world, self._world.store.rows
        completions = said.get("completions", NO_COMPLETIONS)
        settled = list(zip(completions.refs, completions.tokens, strict=True))
        settled += [(outcome.ref, outcome.token) for outcome in said.get("outcomes", ())]
        if len(settled) > self.capabilities.max_batch:
            raise Violation(
                f"an exchange carries {len(settled)} outcomes, the store takes {self.capabilities.max_batch}"
            )
        tokens: dict[Ref, int] = {}
        for ref, token in settled:
            tokens[ref] = max(token, tokens.get(ref, token))
        before = [(rows[ref], token) for ref, token in tokens.items()]
        answer = self._backend.exchange(owner, **said)
        for row, token in before:
            if token < row.claim_token and rows[row.id].state != row.state in states.AT_WORK:
                raise Violation(f"job {world.name(row.id)}: an outcome with token {token} < {row.claim_token} applied")
        if answer.claimed:
            self._check_order(answer, said["want"])
        return answer

    def _check_order(self, answer: Exchanged, want: Any) -> None:
        """Nobody of a wanted queue was passed over."""
        rows = self._world.store.rows
        if len(answer.claimed) > want.total:
            raise Violation(f"{len(answer.claimed)} jobs claimed, {want.total} wanted")
        counts = Counter(claim.queue for claim in answer.claimed)
        earlier_left = ""
        for queue, most in want.queues:
            left = [r for r in rows.alive.values() if r.queue == queue and r.state == "waiting" and r.hold is None]
            mine = [rows[claim.id] for claim in answer.claimed if claim.queue == queue]
            if left and mine and max(map(claim_order, mine)) > min(map(claim_order, left)):
                raise Violation(f"queue {queue}: a later job was claimed before an earlier one")
            if mine and earlier_left:
                raise Violation(f"queue {queue} was served before {earlier_left}")
            if left and counts[queue] < most and queue not in want.limits:
                earlier_left = queue


class Remembering:
    """A store whose first `find_held` gives what was found a while ago."""

    def __init__(self, store: Store, held: Held) -> None:
        self._store = store
        self._held: Held | None = held

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        held, self._held = self._held, None
        return self._store.find_held(owners, lapsed=lapsed, limit=limit, after=after) if held is None else held

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)
