"""How many workers there are, and when one takes another's place."""

from __future__ import annotations

from plan_desk import KILLED, Desk, claimed, several

from jobcard.engine.commands import Exchange, Finished, Retire, Send, Spawn


def test_idle_workers_end_after_a_minute_but_for_one_spare() -> None:
    """One for the next job and one for its slot should it die; memory is not held for more."""
    desk = Desk(slots=4, workers=4)
    retired: list[int] = []
    for _ in range(70):
        desk.turn(1)
        desk.settle()
        retired += [command.worker for command in desk.take(Retire)]
        assert not retired or desk.now - 1000 > 60
    assert len(retired) == 2
    assert sum(not worker.leaving for worker in desk.plan.workers.values()) == 2


def test_workers_are_started_for_long_jobs_and_one_to_spare() -> None:
    """As many as can run, at most as many at once as the processors stand."""
    desk = Desk(slots=3, cpus=4)
    desk.claim(*several(3))
    assert len(desk.plan.workers) == 4


def test_workers_that_die_before_their_hello_are_replaced_more_and_more_slowly() -> None:
    """An application that cannot be imported does not burn a processor."""
    desk = Desk(workers=1)
    desk.plan.worker_gone(0, [], KILLED, desk.now)
    waits = []
    for _ in range(5):
        desk.turn()
        began = desk.now
        while not (spawned := desk.take(Spawn)):
            desk.turn(0.25)
            desk.settle()
            assert desk.now - began < 40
        waits.append(desk.now - began)
        desk.plan.worker_gone(spawned[0].worker, [], KILLED, desk.now)
    assert waits[0] == 0 and waits[1:] == sorted(waits[1:]) and waits[-1] >= 4


# ------------------------------------------------------------------ recycling


def test_a_worn_worker_leaves_when_its_stand_in_is_ready() -> None:
    """A full window of work never waits for an import."""
    desk = Desk(slots=1, workers=1, recycle_after=1)
    desk.done(desk.run(claimed()))
    [other] = [number for number, worker in desk.plan.workers.items() if not worker.ready]
    for _ in range(70):
        desk.turn(1)
        desk.settle()
    assert desk.take(Retire) == []  # nobody stands in yet
    desk.plan.hello(other, desk.names, desk.now)
    desk.turn()
    assert desk.one(Retire).worker == 0
    assert desk.one(Spawn)  # the next spare


def test_worn_workers_leave_one_by_one() -> None:
    """Each when a new one is ready: there are never fewer than before."""
    desk = Desk(slots=3, cpus=4, workers=4, recycle_after=1)
    for _ in range(2):
        for sent in [desk.run(claimed(name="slow")) for _ in range(3)]:
            desk.done(sent, took=0.1)
        desk.turn()
        desk.settle()
    desk.take(Retire)
    least = 9
    for _ in range(80):
        desk.claim(claimed(name="slow"))
        sent = desk.one(Send)
        desk.serve(0.5)
        desk.done(sent, took=0.5)
        desk.serve(0.5)
        least = min(least, sum(w.ready and not w.leaving for w in desk.plan.workers.values()))
    assert desk.take(Retire) and least >= 2


def test_a_worker_that_holds_too_much_memory_is_replaced() -> None:
    """Between two jobs, before the next one is killed for it."""
    desk = Desk(slots=1, recycle_after=None, memory_limit=1 << 30)
    sent = desk.run(claimed())
    assert desk.plan.resting() == []
    desk.done(sent)
    desk.serve(61)
    assert desk.plan.resting() == [sent.worker]
    desk.plan.grew_fat(sent.worker)
    assert desk.plan.resting() == []
    desk.turn()
    assert [command.worker for command in desk.take(Retire)] == [sent.worker]


# ------------------------------------------------------------------ orders


def test_a_quiet_engine_claims_nothing_and_finishes_what_it_has() -> None:
    """Until it is told to work again."""
    desk = Desk(slots=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    waiting = claimed()
    desk.hold(waiting)
    desk.plan.be_quiet(True, desk.now)
    desk.done(sent, 0)
    desk.done(sent, 1)
    said = desk.serve(0.5)
    last = desk.one(Send)
    assert [claim for _seq, claim, _since in last.jobs] == [waiting]
    desk.done(last)
    said += desk.serve(5)
    assert said and all(not command.want.total for command in said)
    assert desk.take(Finished) == []
    desk.settle()
    desk.plan.be_quiet(False, desk.now)
    desk.turn()
    assert desk.one(Exchange).want.total > 0
