"""Thousands of simulated runs of whole engines, and the proof that the simulator can fail.

JOBCARD_SIMULATION_SEEDS   how many seeds (2,000)
JOBCARD_SIMULATION_BASE    the first one (0), the same in every run; a long one takes others (`python -m simulation`),
                           and what it finds becomes a test of its own
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from simulation.play import NO_FAULTS, Faults, simulate

from jobcard.backends.base import NO_COMPLETIONS, NOTHING, Completions, Exchanged, Held, Outcome
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import is_at_work
from jobcard.core.job import Claimed, Ref
from jobcard.engine.commands import Command, Exchange, Reply, Tell
from jobcard.engine.held import Told
from jobcard.engine.plan import Plan
from jobcard.workers.messages import Exit

SEEDS = int(os.environ.get("JOBCARD_SIMULATION_SEEDS", "2000"))
BASE = int(os.environ.get("JOBCARD_SIMULATION_BASE", "0"))
CHUNK = 25  # small enough for several processes to share the work
QUICK = 8  # chunks that every run plays
CHUNKS = [
    pytest.param(chunk, marks=[pytest.mark.slow] if chunk >= QUICK else []) for chunk in range(-(-SEEDS // CHUNK))
]

pytestmark = pytest.mark.timeout(900)  # nothing but computing: half a minute where nobody else wants the machine


@pytest.mark.parametrize("chunk", CHUNKS)
def test_no_promise_is_broken_whatever_goes_wrong(chunk: int) -> None:
    """Every job ends once, no two tries overlap, nothing is held or blamed wrongly, and engines stop in time."""
    first = BASE + chunk * CHUNK
    reports = [simulate(seed) for seed in range(first, min(first + CHUNK, BASE + SEEDS))]
    broken = [report for report in reports if report.violation is not None]
    assert not broken, "\n".join(
        f"{report}\n  replay: cd tests/engine; python -m simulation --seed {report.seed}" for report in broken
    )


@pytest.mark.parametrize(
    "faults",
    [
        Faults(pauses=15, cuts=3),
        Faults(lost=0.3, stops=3),
        Faults(slow=0.15),
        Faults(engine_crashes=10, host_losses=4, worker_crashes=0.2),
        Faults(cancels=60, worker_crashes=0.1),
        Faults(queue_pauses=20, error=0.05),
        Faults(queue_changes=60, cancels=10),
        Faults(moves=80, worker_crashes=0.1),
        Faults(twice=0.3, partly=0.1, producer_deaths=0.5),
        Faults(orders=20, cancels=20),
        Faults(error=0.2, lost=0.2, late=0.05, cancels=20),
    ],
    ids=[
        "stopped",
        "answers lost",
        "slow store",
        "crashes",
        "cancels",
        "queues paused",
        "queues changed",
        "moved",
        "twice and partly",
        "orders",
        "notes",
    ],
)
def test_much_of_one_kind_of_fault_breaks_nothing(faults: Faults) -> None:
    """What is rare in a mixture gets its own runs."""
    reports = [simulate(seed, faults=faults) for seed in range(BASE, BASE + 12)]
    assert [str(report) for report in reports if report.violation is not None] == []


def test_a_run_without_faults_runs_every_job_as_often_as_it_asks_for() -> None:
    """The world itself loses nothing and repeats nothing."""
    for seed in range(BASE, BASE + 5):
        report = simulate(seed, faults=NO_FAULTS)
        assert report.violation is None, str(report)
        assert sum(report.ends.values()) == report.jobs


def test_a_seed_always_gives_the_same_run() -> None:
    """Or a failure could not be replayed."""
    for seed in range(BASE, BASE + 3):
        assert simulate(seed) == simulate(seed)


# ------------------------------------------------------------------ planted faults


class ForgetsTokens(ModelBackend):
    """Whoever once held a job may finish it."""

    def exchange(
        self,
        owner: str,
        *,
        completions: Completions = NO_COMPLETIONS,
        outcomes: Sequence[Outcome] = (),
        **said: Any,
    ) -> Exchanged:
        rows = self.store.rows
        completions = completions._replace(tokens=[rows[ref].claim_token for ref in completions.refs])  # type: ignore[index]
        outcomes = [said._replace(token=rows[said.ref].claim_token) for said in outcomes]  # type: ignore[index]
        return super().exchange(owner, completions=completions, outcomes=outcomes, **said)


class RescuesQuietly(ModelBackend):
    """A rescue leaves the token as it was."""

    def exchange(self, owner: str, *, outcomes: Sequence[Outcome] = (), **said: Any) -> Exchanged:
        quiet = [outcome._replace(change=outcome.change._replace(takes=False)) for outcome in outcomes]
        return super().exchange(owner, outcomes=quiet, **said)


class RescuesTheLiving(ModelBackend):
    """A rescue looks at how long a job has been at work, not at its lease."""

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        if not lapsed:
            return super().find_held(owners, lapsed=lapsed, limit=limit, after=after)
        old = {row.claimed_by for row in self._rows() if is_at_work(row) and row.claimed_by is not None}
        return super().find_held([*owners, *old], lapsed=True, limit=limit, after=after)

    def exchange(self, owner: str, *, outcomes: Sequence[Outcome] = (), **said: Any) -> Exchanged:
        bold = [outcome._replace(change=outcome.change._replace(lapsed=False)) for outcome in outcomes]
        return super().exchange(owner, outcomes=bold, **said)


class IgnoresLostRenewals(Plan):
    """A claim that could not be renewed is kept."""

    def renewed(self, held: Sequence[tuple[Ref, int]], lost: Sequence[Ref], sent_at: float) -> None:
        super().renewed(held, [], sent_at)


class IgnoresWhatRecallSays(Plan):
    """Whatever is behind the first job is taken for unstarted."""

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        worker = self.workers.get(number)
        if worker is not None:
            seqs = [seq for seq, _claim, _since in worker.sent][1:]
        super().recalled(number, seqs)


class BlamesTheNext(Plan):
    """A worker's death is put down to a job that it had not started."""

    def worker_gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float) -> None:
        worker = self.workers.get(number)
        if worker is not None and unstarted:
            worker.sent.rotate(1)
            unstarted = [seq for seq, _claim, _since in worker.sent][1:]
        super().worker_gone(number, unstarted, exit, now)


class KeepsStrays(Plan):
    """What it claimed without hearing of it is left to its lease."""

    def disown_unknown(self, found: Sequence[Claimed], now: float) -> None:
        super().disown_unknown([], now)


class RepeatsNothing(Plan):
    """What was said in an exchange that failed is forgotten."""

    def store_failed(self, now: float) -> None:
        batch = self._talk.in_flight
        super().store_failed(now)
        if batch is not None:
            self._words.take(len(batch.done) + len(batch.moves), NOTHING, now)


class NeverFinishes(Plan):
    """Jobs that still run at the end of a stop are waited for."""

    def stop(self, now: float, *, at_once: bool) -> None:
        super().stop(now, at_once=at_once)
        self._kill_at = float("inf")


class TellsNobody(Plan):
    """A job that is canceled is killed after the grace, and hears nothing before."""

    def turn(self, now: float) -> list[Command]:
        return [command for command in super().turn(now) if not isinstance(command, Tell)]


class WaitsForTheDeaf(Plan):
    """A job that does not end when it is told to is waited for."""

    def _cancel(self, now: float) -> None:
        super()._cancel(now)
        for worker in self.workers.values():
            job = worker.running()
            if job is not None and job.told is not None:
                job.told = job.told._replace(kill_at=float("inf"))


class LosesLastWords(Plan):
    """What a job logged just before its end is dropped."""

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        for page in self._notes.pages.values():
            page.waiting = None
        return super().done(number, seq, started, ended, result)


class EndsBeforeTheNote(Plan):
    """A job's end is said at once, its own words after it."""

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        pages, self._notes.pages = self._notes.pages, {}
        believed = super().done(number, seq, started, ended, result)
        self._notes.pages = pages
        return believed


class AnswersTooEarly(Plan):
    """A checkpoint is called stored as soon as it is heard of."""

    def noted(self, number: int, seq: int, said: Mapping[str, Any], call: int | None, now: float) -> None:
        super().noted(number, seq, said, None, now)
        if call is not None:
            self._commands.append(Reply(number, call, None))


class BlamesTheNeighbours(Plan):
    """All jobs of a process that crashed are to blame."""

    def worker_gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float) -> None:
        sharer = self._sharing.sharers.get(number)
        if sharer is not None and sharer.killed is None:
            sharer.killed = "guilty"
            sharer.guilty = set(sharer.jobs)
            for seq, job in sharer.jobs.items():
                job.told = Told(seq, "crash", "", now)
        super().worker_gone(number, unstarted, exit, now)


class NeverQuiet(Plan):
    """An order to be quiet changes nothing, but that the engine says so."""

    def _speak(self, now: float) -> None:
        quiet, self.quiet = self.quiet, False
        super()._speak(now)
        self.quiet = quiet


class SharesUsedWorkers(Plan):
    """Any idle worker will do."""

    def turn(self, now: float) -> list[Command]:
        if self._sharing.ahead:
            for worker in self.workers.values():
                worker.served = 0
        return super().turn(now)


class ForgetsLimits(Plan):
    """The store is not told which queues are limited."""

    def turn(self, now: float) -> list[Command]:
        return [
            said._replace(want=said.want._replace(limits={})) if isinstance(said, Exchange) else said
            for said in super().turn(now)
        ]


class FreesNoKeys(Plan):
    """Ends do not say which keys have room; what nobody lets in waits."""

    def turn(self, now: float) -> list[Command]:
        said = super().turn(now)
        return [one._replace(freed=frozenset()) if isinstance(one, Exchange) else one for one in said]


class LetsNobodyIn(ModelBackend):
    """Nobody looks after what a death left behind a key."""

    def let_in(self, limit: int) -> int:
        return 0


PLANTED: list[Any] = [
    pytest.param({"store_class": ForgetsTokens}, Faults(pauses=10, slow=0.05), id="token not checked"),
    pytest.param({"store_class": RescuesQuietly}, Faults(engine_crashes=6), id="rescue keeps the token"),
    pytest.param({"store_class": RescuesTheLiving}, NO_FAULTS, id="rescue by age"),
    pytest.param({"plan_class": IgnoresLostRenewals}, Faults(steps_forward=20), id="lost renewals ignored"),
    pytest.param({"plan_class": IgnoresWhatRecallSays}, NO_FAULTS, id="recall ignored"),
    pytest.param({"plan_class": BlamesTheNext}, Faults(worker_crashes=0.2), id="wrong job blamed"),
    pytest.param({"plan_class": KeepsStrays}, Faults(lost=0.1), id="strays kept"),
    pytest.param({"plan_class": RepeatsNothing}, Faults(error=0.1), id="words not repeated"),
    pytest.param({"plan_class": NeverFinishes}, Faults(stops=30), id="stop has no end"),
    pytest.param({"plan_class": TellsNobody}, Faults(cancels=60), id="told by nobody"),
    pytest.param({"plan_class": WaitsForTheDeaf}, Faults(cancels=60), id="grace has no end"),
    pytest.param({"plan_class": LosesLastWords}, NO_FAULTS, id="last words lost"),
    pytest.param({"plan_class": EndsBeforeTheNote}, NO_FAULTS, id="end before the note"),
    pytest.param({"plan_class": AnswersTooEarly}, Faults(error=0.1), id="checkpoint not stored"),
    pytest.param({"plan_class": BlamesTheNeighbours}, Faults(worker_crashes=0.2), id="neighbours blamed"),
    pytest.param({"plan_class": NeverQuiet}, Faults(orders=20), id="never quiet"),
    pytest.param({"plan_class": SharesUsedWorkers}, NO_FAULTS, id="used worker shares"),
    pytest.param({"plan_class": ForgetsLimits}, NO_FAULTS, id="limits forgotten"),
    pytest.param({"plan_class": FreesNoKeys, "store_class": LetsNobodyIn}, NO_FAULTS, id="keys never freed"),
]


@pytest.mark.parametrize(("planted", "faults"), PLANTED)
@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.long) for turn in (1, 2))])
def test_a_planted_fault_is_caught(planted: dict[str, Any], faults: Faults, turn: int) -> None:
    """Without this, a run without violations means little. Three times, each from other seeds."""
    first = BASE + 500_000 + 1_000 * turn
    caught = (simulate(seed, faults=faults, **planted).violation for seed in range(first, first + 300))
    assert any(violation is not None for violation in caught)
