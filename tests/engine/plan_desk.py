"""A plan on a desk: its time, its events and its commands in a test's hands; no process and no store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

from jobcard.backends.base import Exchanged, Outcome, Refusal
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.commands import Command, Exchange, Renew, Send, Spawn
from jobcard.engine.outcomes import Ended
from jobcard.engine.plan import Plan
from jobcard.workers.messages import Exit

C = TypeVar("C", bound=Command)

KILLED = Exit(-9, "")
ERROR = Ended("error", None, 0, {"type": "Error", "message": "it broke", "traceback": None}, "Error")
_numbers = itertools.count(1)


def claimed(**given: Any) -> Claimed:
    """A claim, stating only what matters."""
    number = next(_numbers).to_bytes(16, "big")
    fields: dict[str, Any] = {
        "ref": number,
        "token": 1,
        "state": "claimed",
        "id": number,
        "queue": "default",
        "name": "quick",
        "init": None,
        "args": "[]",
        "kwargs": "{}",
        "priority": 0,
        "rank": 0,
        "order_at": 0,
        "order_offset": 0,
        "attempt": 1,
        "max_attempts": 5,
        "crashes": 0,
        "max_crashes": 3,
        "interrupts": 0,
        "backoff": '{"kind": "fixed", "first": 0, "limit": 0}',
        "timeout": None,
        "available_at": 0,
        "created_at": 0,
        "claimed_at": 0,
        "claimed_by": "engine",
        "checkpoint": None,
        "limit_key": None,
        "key_limit": None,
        "rate_count": None,
        "rate_per": None,
        "batch_id": None,
        "parent_id": None,
        "schedule_id": None,
        "tags": None,
        "meta": None,
    }
    return Claimed(**{**fields, **given})


def several(count: int, **given: Any) -> list[Claimed]:
    return [claimed(**given) for _ in range(count)]


def answer(
    claims: Sequence[Claimed] = (), *, refusals: Sequence[Refusal] = (), cancels: Sequence[Claimed] = ()
) -> Exchanged:
    """The store's answer to an exchange."""
    return Exchanged(list(claims), list(refusals), [(claim.ref, "operator") for claim in cancels], 1, None)


class Desk:
    """A plan, its time, and the commands it gave since they were last looked at.

    It begins with two workers, ready and idle, and nothing in flight.
    """

    def __init__(
        self,
        *,
        slots: int = 4,
        cpus: int = 2,
        workers: int = 2,
        queues: Sequence[Queue] = (Queue("default"),),
        isolation: dict[str, str] | None = None,
        on_lost_lease: dict[str, str] | None = None,
        only: Sequence[str] = ("quick",),
        max_batch: int = 1000,
        store_is_apart: bool = False,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self.settings = Settings(**{"max_concurrent_jobs": slots, "processes": slots, **settings})
        self.names: dict[str, dict[str, Any]] = {name: {} for name in only}
        for name, how in (isolation or {}).items():
            self.names.setdefault(name, {})["isolation"] = how
        for name, how in (on_lost_lease or {}).items():
            self.names.setdefault(name, {})["on_lost_lease"] = how
        self.plan = Plan(
            self.settings,
            random=lambda: 0.5,
            cpus=cpus,
            max_batch=max_batch,
            now=self.now,
            store_is_apart=store_is_apart,
        )
        self.said: list[Command] = []
        for number in range(workers):
            self.plan.adopt(number, self.names, self.now)
        self.plan.know_queues(queues, 1)
        self.turn()
        self.settle()
        self.said.clear()

    def turn(self, after: float = 0.0) -> None:
        """Let time pass, in steps as the plan asks for them, and turn."""
        until = self.now + after
        for _ in range(10_000):
            while commands := self.plan.turn(self.now):
                self.said += commands
            if self.now >= until:
                return
            self.now = min(until, max(self.plan.next_deadline(self.now), self.now + 1e-4))
        raise AssertionError("the plan never rests")

    def take(self, kind: type[C]) -> list[C]:
        """The commands of this kind so far; they are gone then."""
        found = [command for command in self.said if isinstance(command, kind)]
        self.said = [command for command in self.said if not isinstance(command, kind)]
        return found

    def one(self, kind: type[C]) -> C:
        [command] = self.take(kind)
        return command

    def settle(self) -> None:
        """Answer whatever the store was asked, with nothing."""
        while self.take(Renew):
            self.plan.renewed([], [], self.now)
            self.turn()
        while self.take(Exchange):
            self.plan.exchanged(answer(), self.now)
            self.turn()

    def serve(self, seconds: float) -> list[Exchange]:
        """Time passes, new workers say hello, and the store answers with nothing; what it was told."""
        said = []
        until = self.now + seconds
        while self.now < until:
            for spawn in self.take(Spawn):
                self.plan.hello(spawn.worker, self.names, self.now)
            for _ in self.take(Renew):
                self.plan.renewed([], [], self.now)
            for command in self.take(Exchange):
                said.append(command)
                self.plan.exchanged(answer(), self.now)
            self.turn(0.01)
        return said

    def claim(self, *claims: Claimed) -> None:
        """The plan asks for jobs and gets these."""
        self.plan.wake(self.now)
        self.turn()
        assert self.one(Exchange).want.total > 0
        self.plan.exchanged(answer(claims), self.now)
        self.turn()

    def run(self, *claims: Claimed) -> Send:
        """These jobs go to one worker."""
        self.claim(*claims)
        sent = self.one(Send)
        assert [claim for _seq, claim, _since in sent.jobs] == list(claims)
        return sent

    def warm_up(self) -> None:
        """One job, so that the plan knows its kind to be short."""
        self.done(self.run(claimed()))
        self.turn()
        self.settle()
        self.said.clear()

    def cancel(self, sent: Send, place: int = 0) -> None:
        """Somebody asks to cancel a job that was sent, and the store says so."""
        self.turn(1.1)
        self.one(Exchange)
        self.plan.exchanged(answer(cancels=[sent.jobs[place][1]]), self.now)
        self.turn()

    def outcomes(self) -> list[Outcome]:
        """Everything the exchanges so far carry besides completions and stamps."""
        return [o for said in self.take(Exchange) for o in said.outcomes if o.change.verb != "start"]

    def outcome(self) -> Outcome:
        [outcome] = self.outcomes()
        return outcome

    def hold(self, claim: Claimed) -> None:
        """A job the engine has claimed and no worker has."""
        self.plan._ahead.add(claim, self.now)

    def done(self, sent: Send, place: int = 0, *, took: float = 1e-4) -> None:
        """A worker says that one of its jobs returned."""
        assert self.plan.done(sent.worker, sent.jobs[place][0], self.now - took, self.now, "null")

    def verbs(self) -> list[tuple[Claimed | bytes, str]]:
        """(ref, verb) of everything the exchanges so far carry besides completions."""
        return [(outcome.ref, outcome.change.verb) for said in self.take(Exchange) for outcome in said.outcomes]


def sent_to(commands: Sequence[Send]) -> dict[int, list[Claimed]]:
    return {command.worker: [claim for _seq, claim, _since in command.jobs] for command in commands}
