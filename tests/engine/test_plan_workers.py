"""How many workers there are, and when one takes another's place."""

from __future__ import annotations

from plan_desk import KILLED, Desk, several

from jobcard.engine.commands import Retire, Spawn


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
