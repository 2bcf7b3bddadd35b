"""Once keys: no other job gets one until its time is over, whatever becomes of the first; and jobs that replace."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Enqueued, Fate
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import NewJob


def once(harness: Harness, key: str = "once", seconds: float = 3600, **given: object) -> NewJob:
    """A job that takes a once key for so long."""
    return factory.new_job(once_key=key, once_until=harness.clock.now() + micros(seconds), **given)


def check_a_once_key_outlives_its_job(harness: Harness) -> None:
    """A completed, pruned or deleted job leaves its once key taken; the answer names the job that had it."""
    backend = harness.ready()
    first = once(harness, keep=0)
    assert backend.enqueue([first]) == [Enqueued(Fate.STORED, first.id)]
    assert factory.row_of(backend, first.id).once_key == "once"
    factory.complete(backend, factory.claim_one(backend))
    assert backend.enqueue([once(harness)]) == [Enqueued(Fate.KEY_TAKEN, first.id)]
    harness.advance(1)
    assert backend.prune(states=["completed"], finished_before=None, age=0, limit=100) == 1
    assert backend.get([first.id]) == []
    assert backend.enqueue([once(harness)]) == [Enqueued(Fate.KEY_TAKEN, first.id)]


def check_a_once_key_is_free_after_its_time(harness: Harness) -> None:
    """From `once_until` on the key may be taken again, before and after a prune has forgotten it."""
    backend = harness.ready()
    for prunes in (False, True):
        first, second = once(harness, seconds=10), once(harness, seconds=10)
        assert backend.enqueue([first])[0].fate is Fate.STORED
        assert backend.enqueue([second]) == [Enqueued(Fate.KEY_TAKEN, first.id)]
        harness.advance(10)
        if prunes:
            backend.prune(states=["completed"], finished_before=None, age=0, limit=100)
        later = once(harness, seconds=10)
        assert backend.enqueue([later]) == [Enqueued(Fate.STORED, later.id)]
        harness.advance(11)


def check_a_once_key_guards_against_its_own_job(harness: Harness) -> None:
    """A job that ran and is deleted is not stored again by a late repeat, as long as its once key's time runs."""
    backend = harness.ready()
    job = once(harness)
    assert [answer.fate for answer in backend.enqueue([job])] == [Fate.STORED]
    factory.complete(backend, factory.claim_one(backend))
    assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)]
    assert backend.delete([job.id]) == 1
    assert backend.enqueue([job]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    assert backend.enqueue([job._replace(replaces=True)]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    assert backend.get([job.id]) == []
    harness.advance(3600)
    later = job._replace(once_until=harness.clock.now() + micros(3600))
    assert backend.enqueue([later]) == [Enqueued(Fate.STORED, job.id)]


def check_the_same_id_again_is_repeated_whatever_its_once_key(harness: Harness) -> None:
    """Repeating an enqueue whose answer was lost stores nothing and is no conflict with itself."""
    backend = harness.ready()
    job = once(harness)
    assert [backend.enqueue([job])[0].fate for _ in range(3)] == [Fate.STORED, Fate.REPEATED, Fate.REPEATED]
    # Its window may have moved on meanwhile: the other key is not taken by a job that is not stored.
    other = job._replace(once_key="another")
    assert backend.enqueue([other]) == [Enqueued(Fate.REPEATED, job.id)]
    fresh = once(harness, "another")
    assert backend.enqueue([fresh]) == [Enqueued(Fate.STORED, fresh.id)]


def check_a_refused_job_takes_no_once_key(harness: Harness) -> None:
    """A job that is not stored, for its unique key, leaves its once key free."""
    backend = harness.ready()
    holder = factory.enqueue(backend, unique_key="u")
    assert backend.enqueue([once(harness, "free", unique_key="u")]) == [Enqueued(Fate.KEY_TAKEN, holder)]
    job = once(harness, "free")
    assert backend.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]


def check_once_keys_of_one_call_are_one(harness: Harness) -> None:
    """Of jobs in one call with one once key the first is stored, the others are told its id; the rest is not harmed."""
    backend = harness.ready()
    jobs = [once(harness), once(harness), factory.new_job(), once(harness), once(harness, "other")]
    answers = backend.enqueue(jobs)
    assert [answer.fate for answer in answers] == [
        Fate.STORED,
        Fate.KEY_TAKEN,
        Fate.STORED,
        Fate.KEY_TAKEN,
        Fate.STORED,
    ]
    assert {answers[1].existing, answers[3].existing} == {jobs[0].id}


def check_of_many_producers_one_takes_a_once_key(harness: Harness) -> None:
    """Eight producers at once, each on its own backend, with the same keys: each key has one job, named to all."""
    backends = [harness.ready() for _ in range(8)]
    for number in range(10):
        jobs = [once(harness, f"key-{number}") for _ in backends]
        works = [partial(backend.enqueue, [job]) for backend, job in zip(backends, jobs, strict=True)]
        answers = [answer for [answer] in at_once(works)]
        stored = [answer.existing for answer in answers if answer.fate is Fate.STORED]
        assert len(stored) == 1
        assert {answer.existing for answer in answers} == set(stored)
        assert len(backends[0].get([job.id for job in jobs])) == 1


def check_a_follower_may_have_a_once_key(harness: Harness) -> None:
    """Jobs stored along with a completion obey once keys: the first is stored, the second passed over."""
    backend = harness.ready()
    for expected in (1, 0):
        claim = factory.claimed_job(backend)
        follower = once(harness, "follower")
        assert factory.settle(backend, claim, states.complete("1"), then=[follower]) == []
        assert len(backend.get([follower.id])) == expected


def check_of_several_followers_the_first_takes_the_once_key(harness: Harness) -> None:
    """Jobs that follow one end and want the same once key: the one that was named first is stored, whatever its id."""
    backend = harness.ready()
    for reverse in (False, True):
        followers = sorted((once(harness, f"followers {reverse}") for _ in range(3)), key=lambda job: job.id)
        followers = followers[::-1] if reverse else followers
        claim = factory.claimed_job(backend)
        assert factory.settle(backend, claim, states.complete("1"), then=followers) == []
        assert [row.id for row in backend.get([job.id for job in followers])] == [followers[0].id]


def check_a_waiting_job_is_replaced_where_it_stands(harness: Harness) -> None:
    """A job that replaces writes its content over the waiting holder of the key, which keeps its id and creation."""
    backend = harness.ready()
    for kind in ("unique", "once"):
        for delay in (0, micros(60)):
            keys: dict[str, object] = {"unique_key": "k"}
            if kind == "once":
                keys = {"once_key": "k", "once_until": harness.clock.now() + micros(60)}
            first = factory.enqueue(backend, args="[1]", delay=delay, **keys)
            before = factory.row_of(backend, first)
            harness.advance(1)
            new = factory.new_job(
                args="[2]", kwargs='{"a": 3}', priority=7, max_attempts=9, timeout=micros(5), tags='["t"]',
                delay=micros(30), replaces=True, **keys,
            )  # fmt: skip
            assert backend.enqueue([new]) == [Enqueued(Fate.REPLACED, first)]
            assert backend.get([new.id]) == []
            row = factory.row_of(backend, first)
            assert (row.args, row.kwargs, row.priority, row.rank) == ("[2]", '{"a": 3}', 7, -7)
            assert (row.max_attempts, row.timeout, row.tags) == (9, micros(5), '["t"]')
            assert row.available_at == harness.clock.now() + micros(30) and row.hold == "delay"
            assert (row.created_at, row.attempt, row.unique_key) == (before.created_at, 0, before.unique_key)
            backend.apply_by_operator(first, states.cancel_waiting(reason="canceled"))
            harness.advance(3600)


def check_a_replaced_job_begins_anew(harness: Harness) -> None:
    """What the first one has tried and said of itself is not held against the one that took its place."""
    backend = harness.ready()
    claim = factory.claimed_job(backend, unique_key="k", queue="default")
    note = states.note(claim, ago=0, progress='{"value": 0.5}', checkpoint='{"page": 7}')
    again = states.crash(claim, reason="crash", delay=micros(60), error=factory.ERROR, kind="X")
    answer = backend.exchange("engine", outcomes=[factory.outcome_of(claim, note), factory.outcome_of(claim, again)])
    assert answer.refusals == []
    new = factory.new_job(unique_key="k", args="[2]", max_attempts=1, replaces=True)
    assert backend.enqueue([new]) == [Enqueued(Fate.REPLACED, claim.id)]
    row = factory.row_of(backend, claim.id)
    assert (row.attempt, row.crashes, row.progress, row.checkpoint, row.error_kind) == (0, 0, None, None, None)
    assert row.claim_token == claim.token
    assert len(backend.attempts([claim.id])) == 1
    assert factory.claim_one(backend).attempt == 1


def check_of_two_that_replace_one_job_the_later_has_its_way(harness: Harness) -> None:
    """Two of one call find the same job, one by its unique key and one by its once key."""
    backend = harness.ready()
    both = once(harness, unique_key="u")
    backend.enqueue([both])
    by_unique = factory.new_job(unique_key="u", args="[2]", delay=micros(60), replaces=True)
    by_once = once(harness, args="[3]", replaces=True)
    kept_out = factory.new_job(unique_key="u", args="[1]")
    answers = backend.enqueue([kept_out, by_unique, by_once])
    assert answers == [Enqueued(fate, both.id) for fate in (Fate.KEY_TAKEN, Fate.REPLACED, Fate.REPLACED)]
    row = factory.row_of(backend, both.id)
    assert (row.args, row.hold) == ("[3]", None)


def check_who_is_told_of_had_the_key_before(harness: Harness) -> None:
    """A job kept out by its once key is told who has that, also when its unique key goes to one behind it."""
    backend = harness.ready()
    first = once(harness)
    backend.enqueue([first])
    kept_out, behind = once(harness, unique_key="u"), factory.new_job(unique_key="u")
    answers = backend.enqueue([kept_out, behind])
    assert answers == [Enqueued(Fate.KEY_TAKEN, first.id), Enqueued(Fate.STORED, behind.id)]


def check_a_job_at_work_is_not_replaced(harness: Harness) -> None:
    """Once claimed, the holder of a key keeps what it has to do; the newcomer is told its id."""
    backend = harness.ready()
    for state in ("claimed", "running"):
        holder = factory.job_in_state(backend, state, unique_key=state, args="[1]")
        new = factory.new_job(unique_key=state, args="[2]", replaces=True)
        assert backend.enqueue([new]) == [Enqueued(Fate.KEY_TAKEN, holder)]
        assert factory.row_of(backend, holder).args == "[1]"


def check_a_replaced_job_stands_in_line_by_its_new_place(harness: Harness) -> None:
    """What was replaced is claimed by its new priority and in its new queue, once."""
    backend = harness.ready()
    low = factory.enqueue(backend, unique_key="k")
    other = factory.enqueue(backend, priority=5)
    assert backend.enqueue([factory.new_job(unique_key="k", priority=9, replaces=True)])[0].fate is Fate.REPLACED
    assert [claim.id for claim in factory.claim_some(backend, 10)] == [low, other]
    moved = factory.enqueue(backend, unique_key="q")
    assert backend.enqueue([factory.new_job(unique_key="q", queue="else", replaces=True)])[0].fate is Fate.REPLACED
    assert factory.claim_some(backend, 10) == []
    assert [claim.id for claim in factory.claim_some(backend, 10, queues=["else"])] == [moved]


def check_a_truncated_store_has_no_once_keys(harness: Harness) -> None:
    """`truncate` frees once keys too."""
    backend = harness.ready()
    assert backend.enqueue([once(harness)])[0].fate is Fate.STORED
    backend.truncate()
    assert backend.enqueue([once(harness)])[0].fate is Fate.STORED
