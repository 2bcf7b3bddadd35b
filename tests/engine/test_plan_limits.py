"""Limits over all engines, one decision of a plan at a time: what is wanted, who starts where, what is freed."""

from __future__ import annotations

from plan_desk import ERROR, KILLED, Desk, answer, claimed, sent_to, several

from jobcard.core.queue import Queue
from jobcard.core.rates import QueueLimit, Rate, RateLimit
from jobcard.engine.commands import Exchange, Recall, Send, Spawn

NARROW = Queue("default", global_concurrency=3)
LIMIT = QueueLimit(3, None)


def test_a_want_says_which_queues_are_limited() -> None:
    """Those with a limit over all engines and no others, as the store needs it."""
    queues = [Queue("default"), Queue("few", global_concurrency=2), Queue("slow", rate=RateLimit(50, per=1))]
    desk = Desk(queues=queues)
    desk.plan.wake(desk.now)
    desk.turn()
    want = desk.one(Exchange).want
    assert want.limits == {"few": QueueLimit(2, None), "slow": QueueLimit(None, Rate(50, 1_000_000))}
    assert {name for name, _most in want.queues} == {"default", "few", "slow"}


def test_without_limits_nothing_is_said_of_them() -> None:
    """The way of all other jobs costs nothing more."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    said = desk.one(Exchange)
    assert not said.want.limits and said.freed == frozenset()


def test_who_wants_nothing_still_names_the_limited_queues() -> None:
    """A place that this exchange sets free concerns others, so the store has to know."""
    desk = Desk(slots=1, workers=1, queues=[NARROW])
    sent = desk.run(claimed())
    desk.plan.be_quiet(True, desk.now)
    desk.done(sent)
    desk.turn(0.02)
    want = desk.one(Exchange).want
    assert want.total == 0 and want.limits == {"default": LIMIT}


def test_no_more_is_wanted_of_a_limited_queue_than_can_start() -> None:
    """Short jobs are held ready by the hundred, but not where each takes a place from somebody else."""
    wanted = {}
    for limit in (None, 3):
        desk = Desk(slots=2, cpus=1, queues=[Queue("default", global_concurrency=limit)])
        desk.warm_up()
        desk.plan.wake(desk.now)
        desk.turn()
        wanted[limit] = desk.one(Exchange).want.total
    assert wanted[None] > 50
    assert wanted[3] == 2


def test_a_queue_of_keyed_jobs_is_claimed_no_further_than_they_can_start() -> None:
    """The last job that came tells what the next will be; one without a key, and the look-ahead is back."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    for job, few in ((claimed(limit_key="k"), True), (claimed(), False)):
        sent = desk.run(job)
        desk.done(sent)
        desk.turn(0.02)
        desk.settle()
        desk.plan.wake(desk.now)
        desk.turn()
        want = desk.one(Exchange).want
        assert (want.total == 2) == few
        desk.plan.exchanged(answer(), desk.now)
        desk.turn()


def test_a_limited_job_waits_behind_no_other() -> None:
    """It goes to a worker that has nothing, even where one alone would do them all in a moment."""
    for given in ({"limit_key": "k"}, {"queue": "few"}):
        desk = Desk(slots=2, cpus=1, queues=[Queue("default"), Queue("few", global_concurrency=9)])
        desk.warm_up()
        plain, limited = claimed(), claimed(**given)
        desk.claim(plain, limited)
        assert sorted(sent_to(desk.take(Send)).values()) == sorted([[plain], [limited]])


def test_behind_a_limited_job_others_may_wait() -> None:
    """It has begun, so nobody's place is kept."""
    desk = Desk(slots=1, cpus=1, workers=1)
    desk.warm_up()
    limited, *rest = claimed(limit_key="k"), *several(3)
    desk.claim(limited, *rest)
    assert sent_to(desk.take(Send)) == {0: [limited, *rest]}
    assert not desk.take(Recall)


def test_a_limited_job_that_finds_no_worker_goes_back_soon() -> None:
    """Its place may be of use to another engine; the key is named, so that it can be."""
    desk = Desk(slots=2, workers=3)
    desk.claim(*several(2))
    assert len(desk.take(Send)) == 2
    desk.hold(claimed(limit_key="k"))
    [back] = [said for said in desk.serve(0.2) if any(o.change.verb == "hand_back" for o in said.outcomes)]
    assert back.freed == {"k"}


def test_whatever_ends_a_keyed_job_names_its_key() -> None:
    """A return, an error, the death of a worker; a stamp or a note frees nothing."""
    desk = Desk(slots=3, cpus=3, workers=4)
    jobs = [claimed(limit_key=f"k{number}") for number in range(3)]
    desk.claim(*jobs)
    sent = {claims[0].limit_key: (worker, claims[0]) for worker, claims in sent_to(desk.take(Send)).items()}
    assert sent.keys() == {"k0", "k1", "k2"}
    desk.turn(0.5)  # long enough to be stamped
    stamps = desk.one(Exchange)
    assert {outcome.change.verb for outcome in stamps.outcomes} == {"start"}
    assert stamps.freed == frozenset()
    desk.plan.exchanged(answer(), desk.now)
    numbers = {given[1].limit_key: given[0] for worker in desk.plan.workers.values() for given in worker.sent}
    assert desk.plan.done(sent["k0"][0], numbers["k0"], desk.now - 0.5, desk.now, "null")
    assert desk.plan.ended(sent["k1"][0], numbers["k1"], desk.now - 0.5, desk.now, ERROR)
    desk.plan.worker_gone(sent["k2"][0], [], KILLED, desk.now)
    desk.turn(0.02)
    freed = frozenset[str]().union(*(said.freed for said in desk.take(Exchange)))
    assert freed == {"k0", "k1", "k2"}


def test_what_was_freed_is_said_again_when_nobody_answered() -> None:
    """An exchange that failed is repeated with its keys."""
    desk = Desk(slots=1, workers=1)
    sent = desk.run(claimed(limit_key="k"))
    desk.done(sent)
    desk.turn(0.02)
    assert desk.one(Exchange).freed == {"k"}
    desk.plan.store_failed(desk.now)
    desk.said.clear()
    for _ in range(50):
        desk.turn(0.1)
        found = desk.take(Exchange)
        if found:
            break
        desk.plan.strays([], desk.now)
    assert found[0].freed == {"k"}


def test_limited_jobs_bring_workers_at_once() -> None:
    """Each that waits is worth a process, though all of them are short."""
    desk = Desk(slots=4, cpus=4, workers=1, queues=[NARROW])
    desk.warm_up()
    desk.take(Spawn)
    for job in several(3):
        desk.hold(job)
    desk.turn()
    assert len(desk.plan.workers) >= 4
