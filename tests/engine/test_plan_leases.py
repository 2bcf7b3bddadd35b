"""Claims are renewed, and what cannot be renewed is not run."""

from __future__ import annotations

from plan_desk import KILLED, Desk, answer, claimed, several

from jobcard.engine.commands import Exchange, Kill, Recall, Renew, Send, Tell
from jobcard.engine.shares import LAST_SHARE, RENEW_SHARE, SAFE_SHARE, UNSAFE_SHARE


def test_claims_are_renewed_before_their_lease_gets_short() -> None:
    """And all others are left alone, so that renewing costs next to nothing for short jobs."""
    desk = Desk(lease=30, heartbeat=5)
    job = claimed()
    desk.run(job)
    renewed: list[float] = []
    began = desk.now
    for _ in range(60):
        desk.turn(0.5)
        for command in desk.take(Renew):
            if command.held:
                assert command.held == [(job.ref, job.token)]
                renewed.append(desk.now - began)
            desk.plan.renewed(command.held, [], desk.now)
        for _ in desk.take(Exchange):
            desk.plan.exchanged(answer(), desk.now)
    assert renewed and renewed[0] <= 30 / 3 + 5


def test_what_a_renewal_leaves_out_outlives_the_keepers_patience() -> None:
    """The keeper kills 0.7 of a lease after a renewal: every claim must last longer than that from there on."""
    desk = Desk(lease=30, heartbeat=5)
    desk.serve(0.5)
    job = claimed()
    desk.run(job)
    began = desk.now
    for _ in range(40):
        desk.turn(0.5)
        for command in desk.take(Renew):
            if not command.held:
                assert began + 30 > desk.now + 0.7 * 30
            desk.plan.renewed(command.held, [], desk.now)
            if command.held:
                return
        for _ in desk.take(Exchange):
            desk.plan.exchanged(answer(), desk.now)


def test_a_lost_renewal_kills_the_worker_that_runs_the_job() -> None:
    """Somebody else has it; two tries must not overlap."""
    desk = Desk()
    job = claimed()
    sent = desk.run(job)
    desk.plan.renewed([(job.ref, job.token)], [job.ref], desk.now)
    desk.turn()
    assert desk.one(Kill).worker == sent.worker


def test_a_lost_claim_that_has_not_started_is_taken_back() -> None:
    """And goes back, not to another worker; the job that runs goes on."""
    desk = Desk(slots=1, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    lost = sent.jobs[1][1]
    desk.plan.renewed([(lost.ref, lost.token)], [lost.ref], desk.now)
    desk.turn()
    assert desk.one(Recall).worker == sent.worker and desk.take(Kill) == []
    desk.plan.recalled(sent.worker, [sent.jobs[1][0]])
    desk.turn(0.1)
    assert desk.take(Send) == [] and desk.verbs() == [(lost.ref, "hand_back")]


def test_a_lost_claim_that_could_not_be_taken_back_is_killed_when_it_runs() -> None:
    """Its permit was gone already."""
    desk = Desk(slots=1, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    lost = sent.jobs[1][1]
    desk.plan.renewed([(lost.ref, lost.token)], [lost.ref], desk.now)
    desk.turn()
    desk.one(Recall)
    desk.plan.recalled(sent.worker, [])
    desk.done(sent)
    desk.turn()
    assert desk.one(Kill).worker == sent.worker


def test_a_job_that_wants_to_be_told_of_its_lost_claim_is_told_first() -> None:
    """It gets a tenth of the lease at most."""
    desk = Desk(lease=30, on_lost_lease={"gentle": "tell"})
    job = claimed(name="gentle")
    sent = desk.run(job)
    desk.plan.renewed([(job.ref, job.token)], [job.ref], desk.now)
    desk.turn()
    assert desk.one(Tell).why == "lost" and desk.take(Kill) == []
    desk.serve(2.9)
    assert desk.take(Kill) == []
    desk.serve(0.2)
    assert desk.one(Kill).worker == sent.worker


def test_without_renewals_some_jobs_are_told_and_killed_before_the_keeper_does_it() -> None:
    """Told at 0.6 of the lease, killed before 0.7; what ends in between is said."""
    desk = Desk(slots=2, lease=30, heartbeat=5, on_lost_lease={"gentle": "tell"})
    gentle, other = claimed(name="gentle"), claimed()
    desk.claim(gentle, other)
    of = {command.jobs[0][1].ref: command.worker for command in desk.take(Send)}
    moments = {}
    while desk.now - 1000 < 0.75 * 30:
        desk.turn(0.05)
        for _ in desk.take(Renew):
            desk.plan.renewal_failed(desk.now)
        for _ in desk.take(Exchange):
            desk.plan.store_failed(desk.now)
        for command in [*desk.take(Kill), *desk.take(Tell)]:
            moments[type(command), command.worker] = (desk.now - 1000) / 30
    assert moments.keys() == {(Tell, of[gentle.ref]), (Kill, of[gentle.ref]), (Kill, of[other.ref])}
    assert 0.6 <= moments[Tell, of[gentle.ref]] < 0.62 and 0.6 <= moments[Kill, of[other.ref]] < 0.62
    assert 0.67 < moments[Kill, of[gentle.ref]] < UNSAFE_SHARE


def test_a_claim_that_a_beat_left_out_outlasts_the_patience_with_its_engine() -> None:
    """It may be as old as that when renewals begin to fail, and is still ours when the keeper kills."""
    assert SAFE_SHARE < LAST_SHARE < UNSAFE_SHARE
    assert (1 - RENEW_SHARE) + UNSAFE_SHARE < 0.95


def test_a_renewal_lost_for_an_earlier_claim_does_not_touch_the_new_one() -> None:
    """The answer is about the token that was sent."""
    desk = Desk(slots=1)
    job = claimed(token=2)
    desk.run(job)
    desk.plan.renewed([(job.ref, 1)], [job.ref], desk.now)
    desk.turn()
    assert desk.take(Kill) == []


def test_without_renewals_everything_stops() -> None:
    """Workers with jobs are killed, what was held goes back, and nothing is claimed."""
    desk = Desk(slots=1, lease=30, heartbeat=5)
    sent = desk.run(claimed())
    waiting = claimed()
    desk.hold(waiting)
    for _ in range(70):
        desk.turn(0.25)
        for _ in desk.take(Renew):
            desk.plan.renewal_failed(desk.now)
        for command in desk.take(Exchange):
            desk.plan.exchanged(answer(), desk.now)
            last = command
        assert desk.now - 1000 < 0.7 * 30
    desk.turn(0.6 * 30 - (desk.now - 1000) + 0.01)
    assert [command.worker for command in desk.take(Kill)] == [sent.worker]
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(1)
    for command in desk.take(Exchange):
        last = command
        assert command.want.total == 0
    assert last.want.total == 0


def test_claims_that_come_late_are_not_run() -> None:
    """The answer took so long that a renewal since may have left them out."""
    desk = Desk(lease=30, heartbeat=5)
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    for _ in range(20):
        desk.turn(1)
        for command in desk.take(Renew):
            desk.plan.renewed(command.held, [], desk.now)
    job = claimed()
    desk.plan.exchanged(answer([job]), desk.now)
    desk.turn()
    assert desk.take(Send) == []
    assert desk.verbs() == [(job.ref, "hand_back")]
