"""The plan of an engine, one decision at a time: events in, commands out, no process and no store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from jobcard.backends.base import Exchanged, Refusal, Verdict
from jobcard.core.clock import SECOND
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.core.states import JobState
from jobcard.engine.commands import Command, Exchange, FindStrays, Finished, Kill, Recall, Renew, Retire, Send, Spawn
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
        max_batch: int = 1000,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self.settings = Settings(max_concurrent_jobs=slots, **settings)
        self.names = {name: {"isolation": how} for name, how in (isolation or {}).items()} | {"quick": {}}
        self.plan = Plan(self.settings, random=lambda: 0.5, cpus=cpus, max_batch=max_batch, now=self.now)
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


# ------------------------------------------------------------------ when to talk to the store


def test_a_wake_up_is_followed_by_an_exchange_at_once() -> None:
    """An idle engine does not wait for its poll."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    assert desk.one(Exchange).want.queues[0][0] == "default"


def test_an_idle_engine_polls_by_itself() -> None:
    """Wake-ups are hints, polling is the truth."""
    desk = Desk(poll_interval=0.5)
    desk.turn(0.45)
    assert desk.take(Exchange) == []
    desk.turn(0.1)
    assert desk.one(Exchange).want.total > 0


def test_the_first_outcome_of_an_idle_engine_is_said_at_once() -> None:
    """Nothing else is coming, so there is nothing to wait for."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs == [sent.jobs[0][1].ref]


def test_outcomes_wait_ten_milliseconds_for_company() -> None:
    """While workers keep moving, outcomes are gathered, but not for long."""
    desk = Desk(slots=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.done(sent)
    desk.turn(0.009)
    assert not any(command.completions.refs for command in desk.take(Exchange))
    desk.turn(0.002)
    assert desk.one(Exchange).completions.refs == [sent.jobs[0][1].ref]


def test_half_a_free_look_ahead_is_filled() -> None:
    """When half of what could be held is used up, more is asked for without a wake-up."""
    desk = Desk(slots=1, cpus=1)
    for _ in range(3):
        sent = desk.run(claimed())
        desk.done(sent, took=0.001)
        desk.turn()
        desk.settle()
    desk.plan.wake(desk.now)
    desk.turn()
    total = desk.one(Exchange).want.total
    jobs = several(total)
    desk.plan.exchanged(answer(jobs), desk.now)
    desk.turn()
    given = [job for command in desk.take(Send) for job in command.jobs]
    assert desk.take(Exchange) == []
    for seq, _claim, _since in given[: total // 2 + 2]:
        desk.plan.done(0, seq, desk.now - 1e-3, desk.now, "null")
    desk.turn()
    assert desk.one(Exchange).want.total >= total // 2


def test_only_one_exchange_is_in_flight() -> None:
    """What happens meanwhile waits for the answer."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.wake(desk.now)
    desk.turn(3)
    assert desk.take(Exchange) == []


def test_an_exchange_carries_no_more_than_the_store_takes() -> None:
    """Completions and other outcomes share `max_batch`."""
    desk = Desk(slots=1, max_batch=3)
    for _ in range(2):
        sent = desk.run(claimed())
        desk.done(sent)
        desk.turn()
        desk.settle()
    sent = desk.run(*several(6))
    for place in range(6):
        if place % 2:
            desk.done(sent, place)
        else:
            desk.plan.ended(sent.worker, sent.jobs[place][0], desk.now, desk.now, ERROR)
    desk.turn(0.1)
    carried = []
    while said := desk.take(Exchange):
        carried += [len(command.completions.refs) + len(command.outcomes) for command in said]
        desk.plan.exchanged(answer(), desk.now)
        desk.turn(0.1)
    assert sum(carried) == 6 and max(carried) <= 3


def test_the_plan_does_not_spin_while_it_waits_for_room() -> None:
    """A poll that is overdue, with outcomes to say and no room for more, is no reason to turn at once."""
    desk = Desk(slots=1, cpus=1, poll_interval=0.05)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.turn(0.06)
    desk.done(sent, 0)
    desk.turn()
    desk.settle()
    assert desk.plan.next_deadline(desk.now) > desk.now


def test_the_plan_does_not_spin_after_an_answer_that_took_long() -> None:
    """The pulse is overdue by then: it is sent, or it is not due."""
    desk = Desk(slots=1, poll_interval=3)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.now += 1.2
    desk.done(sent)
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert desk.take(Exchange) or desk.plan.next_deadline(desk.now) > desk.now


# ------------------------------------------------------------------ handing out


def test_jobs_of_unknown_length_get_a_worker_each() -> None:
    """The first of a kind may take long: nothing is put behind it."""
    desk = Desk(slots=2)
    one, two = several(2)
    desk.claim(one, two)
    assert sent_to(desk.take(Send)) == {0: [one], 1: [two]}


def test_short_jobs_go_down_in_one_chunk() -> None:
    """Known to be short, they share a worker and a message."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    jobs = several(5)
    desk.claim(*jobs)
    assert sent_to(desk.take(Send)) == {0: jobs}


def test_a_worker_busy_for_twenty_milliseconds_gives_its_window_back() -> None:
    """Nobody waits behind a long job while another worker is free."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    long, *rest = several(4)
    sent = desk.run(long, *rest)
    desk.turn(0.019)
    assert desk.take(Recall) == []
    desk.turn(0.002)
    assert desk.one(Recall).worker == sent.worker
    desk.plan.recalled(sent.worker, [seq for seq, _claim, _since in sent.jobs[1:]])
    desk.turn(0.05)
    [(worker, jobs)] = sent_to(desk.take(Send)).items()
    assert worker != sent.worker and jobs == rest


def test_a_job_that_could_not_be_taken_back_is_not_sent_again() -> None:
    """Only what the worker has not started comes back."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(3))
    desk.turn(0.03)
    desk.plan.recalled(sent.worker, [sent.jobs[2][0]])
    desk.turn(0.1)
    again = [claim for command in desk.take(Send) for _seq, claim, _since in command.jobs]
    assert again == [sent.jobs[2][1]]


def test_no_more_jobs_run_than_there_are_slots() -> None:
    """The spare worker is no slot."""
    desk = Desk(slots=2, workers=3)
    desk.claim(*several(3, name="unknown"))
    assert len(desk.take(Send)) == 2


def test_the_concurrency_of_a_queue_is_kept() -> None:
    """A queue of one at a time has jobs in one worker only; other queues go on."""
    desk = Desk(slots=4, workers=4, queues=[Queue("single", concurrency=1, priority=1), Queue("default")])
    first, second = several(2, queue="single")
    other = claimed()
    desk.claim(first, second, other)
    assert sorted(map(len, sent_to(desk.take(Send)).values())) == [1, 1]
    having = [w.number for w in desk.plan.workers.values() if any(claim.queue == "single" for _, claim, _ in w.sent)]
    assert len(having) == 1


def test_queues_are_wanted_and_served_by_priority() -> None:
    """A higher queue is asked for first and handed out first."""
    desk = Desk(slots=1, queues=[Queue("low", priority=-1), Queue("high", priority=5), Queue("middle")])
    desk.plan.wake(desk.now)
    desk.turn()
    assert [name for name, _most in desk.one(Exchange).want.queues] == ["high", "middle", "low"]
    low, high = claimed(queue="low"), claimed(queue="high")
    desk.plan.exchanged(answer([low, high]), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [high]}


def test_what_waits_for_long_goes_back_to_the_store() -> None:
    """All slots are taken by long jobs: another engine may have room."""
    desk = Desk(slots=1)
    desk.run(claimed())
    desk.turn(0.01)
    desk.settle()
    waiting = claimed()
    desk.hold(waiting)
    desk.turn(0.2)
    assert (waiting.ref, "hand_back") in desk.verbs()


def test_what_its_full_queue_does_not_let_start_goes_back() -> None:
    """Free workers are no use to a job whose queue has all places taken by long ones; nor is it asked for again."""
    desk = Desk(slots=4, queues=[Queue("single", concurrency=1), Queue("default")])
    desk.run(claimed(queue="single"))
    desk.turn(0.01)
    desk.settle()
    waiting = claimed(queue="single")
    desk.hold(waiting)
    said = desk.serve(0.2)
    assert (waiting.ref, "hand_back") in [(o.ref, o.change.verb) for command in said for o in command.outcomes]
    said = desk.serve(3)
    assert said and all(name != "single" for command in said for name, _most in command.want.queues)


def test_jobs_of_a_paused_queue_go_back() -> None:
    """Paused means that the engine neither starts nor keeps them."""
    desk = Desk(slots=1, queues=[Queue("default"), Queue("other", concurrency=1)])
    desk.run(claimed())
    desk.turn(0.03)
    desk.settle()
    waiting = claimed(queue="other")
    desk.hold(waiting)
    desk.plan.know_queues([Queue("default"), Queue("other", concurrency=1, paused=True)], 2)
    desk.turn()
    assert (waiting.ref, "hand_back") in desk.verbs()


# ------------------------------------------------------------------ stamps and jobs alone


def test_a_job_still_running_after_a_third_of_a_second_is_stamped() -> None:
    """Short jobs cost no write at their start, long ones one."""
    desk = Desk()
    job = claimed()
    desk.run(job)
    desk.turn(0.29)
    desk.settle()
    desk.said.clear()
    desk.turn(0.02)
    assert desk.verbs() == [(job.ref, "start")]
    desk.settle()
    desk.turn(2)
    assert desk.verbs() == []


@pytest.mark.parametrize("given", [{"max_attempts": 1}, {"crashes": 3, "max_crashes": 3}])
def test_a_job_that_must_run_alone_is_stamped_before_it_is_handed_over(given: dict[str, int]) -> None:
    """At once, so that it can be told afterwards whether it ran; and nothing is behind it."""
    desk = Desk(slots=1)
    job = claimed(**given)
    desk.claim(job, claimed())
    assert desk.take(Send) == []
    said = desk.one(Exchange)
    assert [(outcome.ref, outcome.change.verb) for outcome in said.outcomes] == [(job.ref, "start")]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [job]}


def test_a_job_whose_stamp_was_refused_does_not_run() -> None:
    """It is somebody else's by now."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1)
    desk.claim(job)
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(job.ref, job.token, Verdict.LOST)]), desk.now)
    desk.turn()
    assert desk.take(Send) == []


def test_a_late_word_about_an_earlier_claim_does_not_touch_the_new_one() -> None:
    """A refusal names job and token; the same job claimed once more is another claim."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1, token=2)
    desk.plan.disown_unknown([job._replace(token=1)], desk.now)
    desk.hold(job)
    desk.turn()
    said = desk.one(Exchange)
    assert [(outcome.token, outcome.change.verb) for outcome in said.outcomes] == [(1, "hand_back"), (2, "start")]
    desk.plan.exchanged(answer(refusals=[Refusal(job.ref, 1, Verdict.LOST)]), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [job]}


def test_a_fresh_job_gets_a_worker_that_has_run_nothing() -> None:
    """A used worker ends, a new one takes the job and ends after it."""
    desk = Desk(slots=1, isolation={"alone": "fresh"})
    desk.warm_up()
    desk.plan.worker_gone(1, [], KILLED, desk.now)
    desk.said.clear()
    job = claimed(name="alone")
    desk.claim(job)
    assert desk.take(Send) == []
    desk.turn()
    spawned = [command.worker for command in desk.take(Spawn)]
    assert spawned
    desk.plan.hello(spawned[0], desk.names, desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {spawned[0]: [job]}
    desk.plan.done(spawned[0], desk.plan.workers[spawned[0]].sent[0][0], desk.now, desk.now, "null")
    desk.turn()
    assert spawned[0] in [command.worker for command in desk.take(Retire)]


# ------------------------------------------------------------------ timeouts, cancels, deaths


def test_a_timeout_kills_only_the_job_that_timed_out() -> None:
    """Its worker dies, the job behind it is taken back, the other worker goes on."""
    desk = Desk(slots=2)
    short, long = claimed(timeout=SECOND), claimed(timeout=60 * SECOND)
    desk.claim(short, long)
    workers = {command.jobs[0][1].ref: command for command in desk.take(Send)}
    desk.turn(0.999)
    assert desk.take(Kill) == []
    desk.turn(0.002)
    victim = workers[short.ref]
    assert desk.one(Kill).worker == victim.worker
    desk.settle()
    desk.plan.worker_gone(victim.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [o for command in desk.take(Exchange) for o in command.outcomes if o.change.verb != "start"]
    assert outcome.ref == short.ref and outcome.change.error is not None and "timeout" in outcome.change.error


def test_a_kill_for_a_job_that_ended_meanwhile_blames_nobody() -> None:
    """The next job was under way when the kill arrived: it is interrupted and keeps its attempts."""
    desk = Desk(slots=1)
    desk.warm_up()
    first, second = claimed(timeout=SECOND), claimed()
    sent = desk.run(first, second)
    desk.turn(0.05)
    desk.plan.recalled(sent.worker, [])
    desk.turn(1)
    desk.one(Kill)
    desk.settle()
    desk.done(sent, 0)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    assert (second.ref, "interrupt") in desk.verbs()


def test_a_crash_is_blamed_on_the_job_that_ran() -> None:
    """The rest was not started and goes to another worker untouched."""
    desk = Desk(slots=1, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(3))
    desk.plan.worker_gone(sent.worker, [seq for seq, _claim, _since in sent.jobs[1:]], Exit(-11, ""), desk.now)
    desk.turn()
    desk.turn(0.06)
    assert desk.verbs() == [(sent.jobs[0][1].ref, "crash")]
    assert [claim for jobs in sent_to(desk.take(Send)).values() for claim in jobs] == [j[1] for j in sent.jobs[1:]]


def test_a_worker_that_dies_while_nothing_is_safe_blames_nobody() -> None:
    """The keeper kills workers whose engine does not renew: that was not the job's doing."""
    desk = Desk(lease=30, heartbeat=5)
    job = claimed()
    sent = desk.run(job)
    desk.now += 0.7 * 30
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn()
    assert (job.ref, "interrupt") in desk.verbs()


def test_a_canceled_job_that_has_not_started_ends_without_a_worker() -> None:
    """The request may come with the claim itself."""
    desk = Desk()
    job = claimed()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer([job], cancels=[job]), desk.now)
    desk.turn()
    assert desk.take(Send) == []
    assert desk.verbs() == [(job.ref, "cancel")]


def test_a_canceled_job_that_runs_is_killed() -> None:
    """And ends as canceled, nothing else."""
    desk = Desk(slots=1)
    job = claimed()
    sent = desk.run(job)
    desk.turn(1.1)
    desk.one(Exchange)
    desk.plan.exchanged(answer(cancels=[job]), desk.now)
    desk.turn()
    desk.one(Kill)
    desk.settle()
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert outcome.change.target is JobState.CANCELED


def test_a_job_over_its_memory_is_killed_and_told_why() -> None:
    """The death counts as a crash, with the reason memory."""
    desk = Desk(memory_limit=1 << 30)
    job = claimed(crashes=2)
    sent = desk.run(job)
    assert desk.plan.memory_limits() == [(sent.worker, 1 << 30)]
    desk.plan.over_memory(sent.worker)
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert (outcome.change.verb, outcome.change.sets["reason"]) == ("crash", "memory")


def test_a_worker_that_answers_for_another_job_is_not_believed() -> None:
    """Jobs end in the order they were given."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    assert not desk.plan.done(sent.worker, sent.jobs[0][0] + 1, desk.now, desk.now, "null")
    assert not desk.plan.ended(sent.worker, sent.jobs[0][0] + 1, desk.now, desk.now, ERROR)


# ------------------------------------------------------------------ a store that fails


def test_after_a_failure_the_same_words_are_said_again() -> None:
    """The answer may be lost and the words applied: repeated as they are, they are recognised."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    before = desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    desk.plan.strays([], desk.now)
    desk.turn()
    after = desk.one(Exchange)
    assert (after.completions.refs, after.completions.tokens) == (before.completions.refs, before.completions.tokens)


def test_the_next_try_is_never_more_than_five_seconds_away() -> None:
    """However often it failed."""
    desk = Desk()
    desk.plan._random = lambda: 0.999
    desk.plan.wake(desk.now)
    for _ in range(12):
        desk.turn(5.1)
        desk.take(FindStrays)
        if desk.take(Exchange):
            desk.plan.store_failed(desk.now)
        elif desk.plan._strays == "asked":
            desk.plan.strays_failed(desk.now)
        else:
            raise AssertionError("it has not tried again within five seconds")
        for _ in desk.take(Renew):
            desk.plan.renewed([], [], desk.now)


def test_strays_go_back() -> None:
    """What the store gave without our hearing of it is handed back, what we know of is kept."""
    desk = Desk()
    known = claimed()
    desk.run(known)
    desk.turn(0.4)
    desk.settle()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    stray = claimed()
    desk.plan.strays([known, stray], desk.now)
    desk.turn(0.1)
    assert [(ref, verb) for ref, verb in desk.verbs() if verb != "start"] == [(stray.ref, "hand_back")]


def test_a_stray_is_known_by_its_token_not_by_its_job() -> None:
    """Handed back and claimed again in one exchange whose answer was lost: the old words do not cover the new claim."""
    desk = Desk(slots=1)
    job = claimed(token=1)
    desk.plan.disown_unknown([job], desk.now)
    desk.plan.wake(desk.now)
    desk.turn()
    assert [o.token for o in desk.one(Exchange).outcomes] == [1]
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    desk.plan.strays([job._replace(token=2)], desk.now)
    desk.turn()
    assert [o.token for o in desk.one(Exchange).outcomes] == [1, 2]


def test_the_plan_rests_while_strays_are_looked_for() -> None:
    """The question is on its way: nothing is overdue until its answer."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    assert desk.plan.next_deadline(desk.now) > desk.now


def test_an_outcome_the_store_refuses_becomes_a_failure() -> None:
    """The job ends, and its record says why."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    desk.one(Exchange)
    claim = sent.jobs[0][1]
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "no such text")]), desk.now)
    desk.turn(0.1)
    [outcome] = desk.one(Exchange).outcomes
    assert outcome.change.target is JobState.FAILED
    assert outcome.change.sets["reason"] == "serialization"


# ------------------------------------------------------------------ leases


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


def test_a_lost_claim_does_not_come_back_from_a_dead_worker() -> None:
    """It was not started there, but it is not ours any more either."""
    desk = Desk(slots=1, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    lost = sent.jobs[1][1]
    desk.plan.renewed([(lost.ref, lost.token)], [lost.ref], desk.now)
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [sent.jobs[1][0]], KILLED, desk.now)
    desk.turn(0.1)
    assert desk.take(Send) == []


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


# ------------------------------------------------------------------ workers


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


# ------------------------------------------------------------------ the end


def test_stopping_hands_back_what_has_not_started() -> None:
    """At once, with its attempt, and takes nothing new."""
    desk = Desk(slots=1)
    desk.warm_up()
    first, second = several(2)
    sent = desk.run(first, second)
    waiting = claimed()
    desk.hold(waiting)
    desk.plan.stop(desk.now, at_once=False)
    desk.turn()
    desk.one(Recall)
    desk.plan.recalled(sent.worker, [sent.jobs[1][0]])
    desk.turn(0.05)
    said = desk.take(Exchange)
    desk.plan.exchanged(answer(), desk.now)
    desk.turn(0.05)
    said += desk.take(Exchange)
    outcomes = {outcome.ref: outcome for command in said for outcome in command.outcomes}
    assert set(outcomes) == {second.ref, waiting.ref}
    assert {outcome.change.sets["attempt"] for outcome in outcomes.values()} == {0}
    assert all(command.want.total == 0 for command in said)


def test_stopping_lets_running_jobs_end_and_then_finishes() -> None:
    """Finished comes when the last outcome is in the store."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.plan.stop(desk.now, at_once=False)
    desk.turn(1)
    desk.settle()
    assert desk.take(Kill) == [] and desk.take(Finished) == []
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs and desk.take(Finished) == []
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    desk.one(Finished)


def test_stopping_interrupts_what_still_runs_at_the_deadline() -> None:
    """Two seconds before the budget ends, so that it can still be said; the attempt is returned."""
    desk = Desk(slots=1, stop_timeout=10)
    job = claimed()
    sent = desk.run(job)
    desk.plan.stop(desk.now, at_once=False)
    for _ in range(79):
        desk.turn(0.1)
        desk.settle()
    assert desk.take(Kill) == []
    desk.turn(0.2)
    assert desk.one(Kill).worker == sent.worker
    desk.settle()
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert (outcome.change.verb, outcome.change.sets["attempt"]) == ("interrupt", 0)


def test_a_job_that_may_start_only_once_fails_when_it_is_interrupted() -> None:
    """It has begun: put back in line it would begin again."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1)
    desk.claim(job)
    desk.settle()
    sent = desk.one(Send)
    desk.plan.stop(desk.now, at_once=True)
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert outcome.change.target is JobState.FAILED


def test_stopping_at_once_kills_at_once() -> None:
    """The second signal."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.plan.stop(desk.now, at_once=True)
    desk.turn()
    assert desk.one(Kill).worker == sent.worker


def test_stopping_does_not_finish_before_strays_are_looked_for() -> None:
    """The last exchange may have claimed jobs without our hearing of it."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.plan.stop(desk.now, at_once=False)
    desk.turn(1)
    assert desk.take(Finished) == []
    desk.one(FindStrays)
    stray = claimed()
    desk.plan.strays([stray], desk.now)
    desk.turn(0.1)
    assert desk.verbs() == [(stray.ref, "hand_back")]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    desk.one(Finished)
