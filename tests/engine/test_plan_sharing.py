"""Jobs that run side by side: who gets them, and what becomes of them when one blocks, ignores us or crashes."""

from __future__ import annotations

from typing import Any

import pytest
from plan_desk import ERROR, KILLED, Desk, answer, claimed, several

from jobcard.core.clock import SECOND
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.engine.commands import Exchange, Kill, Recall, Retire, Send, Share, Spawn, Tell
from jobcard.engine.sharing import CROWD
from jobcard.workers.messages import Exit

CRASH = Exit(-11, "")


class Table(Desk):
    """A desk where jobs named `wave` run side by side."""

    def __init__(self, **given: Any) -> None:
        queues = [Queue("default", concurrency=1000)]
        given = {"max_concurrent_jobs": 100, "isolation": {"wave": "shared"}, "queues": queues, **given}
        super().__init__(**given)
        self.given: dict[bytes, tuple[int, int]] = {}
        """Where each job is: worker and number."""

    def waves(self, count: int = 1, **given: Any) -> list[Claimed]:
        """So many jobs that run side by side, claimed and begun."""
        jobs = several(count, name="wave", **given)
        self.settle()
        self.claim(*jobs)
        self.begin()
        return jobs

    def hand_over(self) -> list[Send]:
        """Note what was handed out."""
        sends = self.take(Send)
        for sent in sends:
            self.given.update({claim.id: (sent.worker, seq) for seq, claim, _since in sent.jobs})
        return sends

    def begin(self) -> None:
        """The workers begin what they were given."""
        for sent in self.hand_over():
            self.plan.started(sent.worker, [(seq, self.now) for seq, _claim, _since in sent.jobs])
        self.turn()

    def worker_of(self, job: Claimed) -> int:
        return self.given[job.id][0]

    def ends(self, job: Claimed, kind: str | None = None) -> None:
        worker, seq = self.given[job.id]
        if kind is None:
            assert self.plan.done(worker, seq, self.now, self.now, "null")
        else:
            assert self.plan.ended(worker, seq, self.now, self.now, ERROR._replace(kind=kind))

    def wants_canceled(self, *jobs: Claimed) -> None:
        self.turn(1.1)
        self.take(Exchange)
        self.plan.exchanged(answer(cancels=jobs), self.now)
        self.turn()

    def settle_all(self) -> dict[bytes, str]:
        """What the store is told of each job but that it began."""
        said = {}
        self.turn(0.05)
        while outcomes := self.take(Exchange):
            for command in outcomes:
                said.update({o.ref: o.change.verb for o in command.outcomes if o.change.verb != "start"})
                said.update(dict.fromkeys(command.completions.refs, "complete"))
            self.plan.exchanged(answer(), self.now)
            self.turn(0.05)
        return said  # type: ignore[return-value]


# ------------------------------------------------------------------ handing out


def test_jobs_that_share_run_at_once_in_one_worker() -> None:
    """It is told before its first job; a new spare is started in its place."""
    desk = Table()
    desk.claim(*several(5, name="wave"))
    assert desk.one(Share).worker == 0
    [sent] = desk.hand_over()
    assert (sent.worker, len(sent.jobs)) == (0, 5)
    assert desk.plan.shares(0) and 0 not in desk.plan.workers
    desk.one(Spawn)


def test_a_worker_that_has_run_something_never_shares() -> None:
    """Nor does one that shares ever run jobs in turn: a new one is started."""
    desk = Table(workers=1, slots=1)
    desk.done(desk.run(claimed()))
    desk.turn()
    desk.settle()
    [spawned] = [number for number, worker in desk.plan.workers.items() if not worker.ready]
    desk.claim(claimed(name="wave"))
    assert desk.take(Share) == []
    desk.plan.hello(spawned, desk.names, desk.now)
    desk.turn()
    assert desk.one(Share).worker == spawned and desk.one(Send).worker == spawned


def test_the_worker_with_the_fewest_jobs_gets_the_next() -> None:
    """And another one is opened only when all have a crowd, up to the number of processors."""
    desk = Table(cpus=2, workers=3)
    desk.waves(CROWD)
    assert len(desk.take(Share)) == 1
    desk.waves(4)
    assert len(desk.take(Share)) == 1
    desk.waves(40)
    assert desk.take(Share) == []
    counts = [len(sharer.jobs) for sharer in desk.plan._sharing.sharers.values()]
    assert sum(counts) == CROWD + 44 and max(counts) - min(counts) <= 1


def test_no_more_jobs_run_at_once_than_allowed_whatever_they_share() -> None:
    """`max_concurrent_jobs` counts both kinds."""
    desk = Table(max_concurrent_jobs=3, slots=2)
    desk.claim(claimed(), *several(4, name="wave"))
    assert sum(len(sent.jobs) for sent in desk.take(Send)) == 3


def test_jobs_that_share_need_no_slot() -> None:
    """`processes` bounds the others only."""
    desk = Table(slots=1)
    desk.waves(5)
    desk.claim(claimed())
    assert len(desk.one(Send).jobs) == 1


def test_the_concurrency_of_a_queue_counts_both_kinds() -> None:
    """One in a process, one side by side: two."""
    desk = Table(queues=[Queue("default", concurrency=2)], slots=4, workers=4)
    desk.claim(claimed(), *several(2, name="wave"), claimed())
    assert sum(len(sent.jobs) for sent in desk.take(Send)) == 2


def test_a_job_that_must_run_alone_runs_in_a_process_of_its_own() -> None:
    """So it can be told afterwards whether it ran."""
    desk = Table()
    job = claimed(name="wave", max_attempts=1)
    desk.claim(job)
    assert desk.take(Share) == []
    desk.one(Exchange)
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    [(_seq, claim, _since)] = desk.one(Send).jobs
    assert claim == job


def test_a_full_house_of_sharing_jobs_is_asked_for_in_few_exchanges() -> None:
    """The store does not tell the kinds apart; the last jobs foretell the next."""
    desk = Table(max_concurrent_jobs=500, slots=4, queues=[Queue("default", concurrency=500)])
    running = exchanges = 0
    while running < 500:
        exchanges += 1
        desk.plan.wake(desk.now)
        desk.turn()
        want = desk.one(Exchange).want
        running += want.total
        desk.plan.exchanged(answer(several(want.total, name="wave")), desk.now)
        desk.turn()
        desk.begin()
    assert running == 500 and exchanges <= 10
    desk.turn(0.5)
    assert all(not command.want.total for command in desk.take(Exchange))


def test_jobs_of_the_other_kind_are_not_claimed_without_end() -> None:
    """All processes are busy: a queue of such jobs is asked for one now and then, in case it has a shared one."""
    desk = Table(slots=1)
    desk.run(claimed())
    total = 0
    for _ in range(100):
        desk.turn(0.1)
        for command in desk.take(Exchange):
            total += command.want.total
            desk.plan.exchanged(answer(several(command.want.total)), desk.now)
    assert 5 <= total <= 12


# ------------------------------------------------------------------ how they end


def test_a_shared_job_still_running_after_a_third_of_a_second_is_stamped() -> None:
    """As any other."""
    desk = Table()
    [job] = desk.waves()
    desk.turn(0.4)
    assert desk.verbs() == [(job.ref, "start")]


def test_each_shared_job_ends_for_itself() -> None:
    """In any order."""
    desk = Table()
    one, two, three = desk.waves(3)
    desk.ends(three)
    desk.ends(one, "error")
    assert desk.settle_all() == {three.ref: "complete", one.ref: "retry"}
    desk.ends(two)
    assert desk.settle_all() == {two.ref: "complete"}


def test_a_shared_worker_that_answers_for_a_job_it_never_had_is_not_believed() -> None:
    """As any other."""
    desk = Table()
    [job] = desk.waves()
    worker, seq = desk.given[job.id]
    assert not desk.plan.done(worker, seq + 9, desk.now, desk.now, "null")


def test_a_canceled_shared_job_is_told_and_the_others_go_on() -> None:
    """It ends at its next await."""
    desk = Table()
    one, two = desk.waves(2)
    desk.wants_canceled(one)
    assert desk.one(Tell) == Tell(*desk.given[one.id], "cancel", "operator")
    desk.ends(one, "told")
    assert desk.settle_all() == {one.ref: "cancel"}
    desk.serve(60)
    assert desk.take(Kill) == []
    desk.ends(two)


def test_a_shared_job_over_its_time_is_told() -> None:
    """And may be tried again."""
    desk = Table()
    one, _two = desk.waves(2, timeout=SECOND)
    desk.serve(0.98)
    assert desk.take(Tell) == []
    desk.serve(0.04)
    assert {command.why for command in desk.take(Tell)} == {"timeout"}
    desk.ends(one, "told")
    desk.settle()
    desk.turn(0.05)
    outcome = desk.outcome()
    assert outcome.change.verb == "retry" and "timeout" in (outcome.change.error or "")


def test_a_shared_job_told_of_its_time_and_then_of_a_cancel_is_canceled() -> None:
    """A cancel outweighs the time-out: tried again, the job would go on after somebody was told that it is canceled."""
    desk = Table(cancel_grace=10)
    one, _two = desk.waves(2, timeout=SECOND)
    desk.serve(1.02)
    desk.take(Tell)
    desk.wants_canceled(one)
    assert desk.one(Tell) == Tell(*desk.given[one.id], "cancel", "operator")
    desk.ends(one, "told")
    assert desk.settle_all() == {one.ref: "cancel"}


def test_a_cancel_gives_a_job_that_is_out_of_time_no_more_of_it() -> None:
    """Its grace began when it was first told; killed then, it is canceled."""
    desk = Table(cancel_grace=10)
    [one] = desk.waves(timeout=SECOND)
    desk.serve(1.02)
    desk.serve(5)
    desk.wants_canceled(one)
    desk.serve(3.8)
    assert desk.take(Kill) == []
    desk.serve(0.2)
    worker = desk.worker_of(one)
    assert desk.one(Kill).worker == worker
    desk.plan.worker_gone(worker, [], KILLED, desk.now)
    assert desk.settle_all() == {one.ref: "cancel"}


def test_a_canceled_shared_job_that_runs_out_of_time_is_canceled() -> None:
    """It was told once, and is not told of its time as well."""
    desk = Table(cancel_grace=10)
    [one] = desk.waves(timeout=2 * SECOND)
    desk.wants_canceled(one)
    assert desk.one(Tell).why == "cancel"
    desk.serve(1.5)
    assert desk.take(Tell) == []
    desk.ends(one, "error")
    assert desk.settle_all() == {one.ref: "cancel"}


def test_one_that_does_not_end_takes_its_neighbours_with_it_only_in_the_end() -> None:
    """They get thirty seconds, and their attempt back; the worker takes no more meanwhile."""
    desk = Table(cancel_grace=10)
    guilty, quick, slow = desk.waves(3)
    worker = desk.worker_of(guilty)
    desk.wants_canceled(guilty)
    desk.serve(10.1)
    assert desk.take(Kill) == []
    [later] = desk.waves()
    assert desk.worker_of(later) != worker
    desk.ends(quick)
    desk.serve(29.7)
    assert desk.take(Kill) == []
    desk.serve(0.3)
    assert desk.one(Kill).worker == worker
    desk.plan.worker_gone(worker, [], KILLED, desk.now)
    assert desk.settle_all() == {guilty.ref: "cancel", slow.ref: "interrupt"}


def test_one_that_does_not_end_and_has_no_neighbours_is_killed_at_once() -> None:
    """Nobody else has to be spared."""
    desk = Table(cancel_grace=10)
    guilty, quick = desk.waves(2, timeout=SECOND)
    desk.serve(1.1)
    desk.ends(quick, "told")
    desk.serve(9.8)
    assert desk.take(Kill) == []
    desk.serve(0.3)
    desk.one(Kill)
    desk.plan.worker_gone(desk.worker_of(guilty), [], KILLED, desk.now)
    assert desk.settle_all()[guilty.ref] == "retry"


def test_one_that_ends_late_spares_its_neighbours() -> None:
    """The worker only leaves, when they have ended."""
    desk = Table(cancel_grace=1)
    guilty, slow = desk.waves(2)
    desk.wants_canceled(guilty)
    desk.serve(5)
    desk.ends(guilty, "told")
    desk.serve(60)
    assert desk.take(Kill) == [] and desk.take(Retire) == []
    desk.ends(slow)
    desk.turn()
    assert desk.one(Retire).worker == desk.worker_of(slow)


def test_after_a_crash_of_several_nobody_is_blamed() -> None:
    """Each is a suspect; what had not begun goes to another worker."""
    desk = Table()
    one, two = desk.waves(2)
    third = claimed(name="wave")
    desk.claim(third)
    [sent] = desk.hand_over()
    desk.plan.worker_gone(sent.worker, [sent.jobs[0][0]], CRASH, desk.now)
    desk.turn()
    assert [claim for sent in desk.take(Send) for _seq, claim, _since in sent.jobs] == [third]
    assert desk.settle_all() == {one.ref: "suspect", two.ref: "suspect"}


def test_the_only_one_that_ran_is_to_blame() -> None:
    """It crashed its worker."""
    desk = Table()
    [job] = desk.waves()
    desk.plan.worker_gone(desk.worker_of(job), [], CRASH, desk.now)
    assert desk.settle_all() == {job.ref: "crash"}


def test_a_worker_that_went_with_its_template_blames_nobody() -> None:
    """Not even the only one that ran: nobody knows how it ended."""
    desk = Table()
    [job] = desk.waves()
    desk.plan.worker_gone(desk.worker_of(job), [], Exit(None, ""), desk.now)
    assert desk.settle_all() == {job.ref: "interrupt"}


def test_a_canceled_job_that_was_near_a_crash_is_canceled() -> None:
    """Nobody wants it to run again."""
    desk = Table()
    one, two = desk.waves(2)
    desk.wants_canceled(one)
    desk.plan.worker_gone(desk.worker_of(one), [], CRASH, desk.now)
    assert desk.settle_all() == {one.ref: "cancel", two.ref: "suspect"}


def test_a_shared_worker_over_the_memory_limit_is_killed() -> None:
    """Whose memory it is cannot be told, unless there is only one."""
    desk = Table(memory_limit=1 << 30)
    one, two = desk.waves(2)
    assert desk.plan.memory_limits() == [(desk.worker_of(one), 1 << 30)]
    desk.plan.over_memory(desk.worker_of(one))
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(desk.worker_of(one), [], KILLED, desk.now)
    assert desk.settle_all() == {one.ref: "suspect", two.ref: "suspect"}


# ------------------------------------------------------------------ a loop that is blocked


def test_a_blocked_loop_loses_what_it_has_not_begun() -> None:
    """After a tenth of a second; another worker takes over, and the blocked one gets nothing more."""
    desk = Table(cpus=1, workers=2)
    [blocking] = desk.waves()
    desk.take(Share)
    next_one = claimed(name="wave")
    desk.claim(next_one)
    [sent] = desk.hand_over()
    desk.turn(0.099)
    assert desk.take(Recall) == []
    desk.turn(0.002)
    assert desk.one(Recall).worker == sent.worker
    desk.plan.recalled(sent.worker, [sent.jobs[0][0]])
    desk.turn()
    assert desk.one(Share).worker != sent.worker
    [again] = desk.hand_over()
    assert [claim for _seq, claim, _since in again.jobs] == [next_one]
    assert again.worker != desk.worker_of(blocking)


def test_a_loop_that_says_a_word_gets_jobs_again() -> None:
    """It was blocked for a moment only."""
    desk = Table(cpus=1, workers=2)
    [blocking] = desk.waves()
    desk.claim(claimed(name="wave"))
    [sent] = desk.hand_over()
    desk.turn(0.11)
    desk.plan.recalled(sent.worker, [sent.jobs[0][0]])
    desk.turn()
    desk.begin()
    desk.ends(blocking)
    desk.turn()
    desk.settle()
    desk.claim(claimed(name="wave"))
    assert desk.one(Send).worker == sent.worker


def test_what_could_not_be_taken_back_from_a_blocked_loop_counts_as_begun() -> None:
    """Its permit was taken: it times out from then on, and is not handed to anybody else."""
    desk = Table(cpus=1, workers=2)
    job = claimed(name="wave", timeout=SECOND)
    desk.claim(job)
    [sent] = desk.hand_over()
    desk.turn(0.11)
    desk.one(Recall)
    desk.plan.recalled(sent.worker, [])
    desk.serve(1)
    assert desk.take(Send) == [] and desk.one(Tell).why == "timeout"


def test_a_job_canceled_before_a_blocked_loop_began_it_never_starts() -> None:
    """It is taken back and canceled."""
    desk = Table(cpus=1, workers=2)
    desk.waves()
    job = claimed(name="wave")
    desk.claim(job)
    [sent] = desk.hand_over()
    desk.plan._cancels[job.ref] = "operator"
    desk.turn(0.11)
    assert desk.take(Tell) == []
    desk.plan.recalled(sent.worker, [sent.jobs[0][0]])
    desk.turn()
    assert desk.settle_all()[job.ref] == "cancel"
    assert desk.take(Send) == []


# ------------------------------------------------------------------ leases, stopping, growing old


def test_a_shared_job_whose_claim_is_lost_is_told_then_its_worker_is_killed() -> None:
    """Its neighbours had no part in it: they get their attempt back."""
    desk = Table(lease=30, cancel_grace=10)
    lost, other = desk.waves(2)
    desk.plan.renewed([(lost.ref, lost.token), (other.ref, other.token)], [lost.ref], desk.now)
    desk.turn()
    assert desk.one(Tell).why == "lost"
    desk.serve(2.9)
    assert desk.take(Kill) == []
    desk.serve(0.2)
    desk.one(Kill)
    desk.plan.worker_gone(desk.worker_of(lost), [], KILLED, desk.now)
    assert desk.settle_all() == {lost.ref: "interrupt", other.ref: "interrupt"}


@pytest.mark.parametrize("how", ["kill", "tell"])
def test_without_renewals_shared_workers_are_stopped(how: str) -> None:
    """Killed at 0.6 of the lease, or told then and killed before the keeper does it."""
    desk = Table(lease=30, heartbeat=5, on_lost_lease={"wave": how})
    desk.waves(2)
    killed_at = told_at = None
    while desk.now - 1000 < 0.75 * 30 and killed_at is None:
        desk.turn(0.05)
        desk.plan.renewal_failed(desk.now)
        for _ in desk.take(Exchange):
            desk.plan.store_failed(desk.now)
        if desk.take(Tell):
            told_at = (desk.now - 1000) / 30
        if desk.take(Kill):
            killed_at = (desk.now - 1000) / 30
    assert killed_at is not None
    if how == "kill":
        assert told_at is None and 0.6 <= killed_at < 0.62
    else:
        assert told_at is not None and 0.6 <= told_at < 0.62 and 0.67 < killed_at < 0.7


def test_stopping_tells_shared_jobs_and_kills_their_worker_in_the_end() -> None:
    """Like all others."""
    desk = Table(stop_timeout=10)
    one, two = desk.waves(2)
    desk.serve(0.5)
    desk.plan.stop(desk.now, at_once=False)
    desk.serve(4.9)
    assert desk.take(Tell) == []
    desk.serve(0.2)
    assert {command.why for command in desk.take(Tell)} == {"stop"}
    desk.ends(one, "told")
    desk.serve(2.7)
    assert desk.take(Kill) == []
    desk.serve(0.3)
    desk.one(Kill)
    desk.plan.worker_gone(desk.worker_of(two), [], KILLED, desk.now)
    assert desk.settle_all() == {two.ref: "interrupt"}


def test_a_worn_shared_worker_leaves_when_another_has_taken_its_place() -> None:
    """Nobody waits for an import."""
    desk = Table(recycle_after=3, workers=2)
    old = desk.waves(4)
    for job in old[:3]:
        desk.ends(job)
    desk.serve(61)
    worker = desk.worker_of(old[3])
    assert [command.worker for command in desk.take(Share)][:1] == [worker]
    [new] = desk.waves()
    assert desk.worker_of(new) != worker
    assert desk.take(Retire) == []
    desk.ends(old[3])
    desk.turn()
    assert desk.one(Retire).worker == worker


def test_an_idle_shared_worker_ends_after_a_minute() -> None:
    """Its successor costs nothing: the spare is there."""
    desk = Table()
    [job] = desk.waves()
    desk.ends(job)
    desk.serve(59)
    assert desk.take(Retire) == []
    desk.serve(3)
    assert desk.worker_of(job) in [command.worker for command in desk.take(Retire)]


def test_an_application_of_shared_jobs_alone_keeps_one_worker_in_reserve() -> None:
    """No process waits for jobs that do not exist."""
    desk = Table(workers=1, only=())
    desk.waves(3)
    desk.serve(3)
    assert len(desk.plan.workers) == 1
