"""What a move needs beside `put`: versions that tell of every change, once keys on their way, taking jobs back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jobcard.backends.base import Backend, Enqueued, Fate, Filter, Outcome, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.check_operators import EVERY_STATE
from jobcard.conformance.check_operators import MOVES as MOVES_OF_OPERATORS
from jobcard.conformance.check_transitions import MAKERS, MOVES
from jobcard.conformance.every_kind import every_kind, jobs_in, once_keys_in, versions_in
from jobcard.conformance.harness import Harness, micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, NewJob, OnceKey
from jobcard.core.states import Hold, JobState

HOUR = micros(3600)

# ------------------------------------------------------------------ versions


def check_versions_are_those_of_the_rows(backend: Backend, clock: FrozenClock) -> None:
    """Every job is there once, by ascending id and with the version of its row, whatever the length of a page."""
    assert list(backend.versions(after=None, limit=10)) == []
    kinds = every_kind(backend, clock)
    # Ids do not rise with time where somebody else made them.
    for first in (0, 255, 7, 128):
        kinds[f"id {first}"] = factory.enqueue(backend, id=bytes([first]) * 8 + factory.new_id()[8:])
    rows = factory.rows_of(backend, list(kinds.values()))
    expected = sorted((row.id, row.version) for row in rows.values())
    for limit in (1, 7, len(expected), 1_000):
        assert [(job_id, version) for job_id, version in versions_in(backend, limit)] == expected
    middle = expected[10][0]
    assert [tuple(one) for one in backend.versions(after=middle, limit=3)] == expected[11:14]


def check_a_version_tells_of_every_move_of_a_holder(backend: Backend) -> None:
    """Whatever a holder makes of its job, from claimed and from running, raises the version; others' stay."""
    other = factory.enqueue(backend)
    before = _version(backend, other)
    for state, make in MAKERS.items():
        for name, move in MOVES.items():
            claim = make(backend)
            known = _version(backend, claim.id)
            assert factory.settle(backend, claim, move(claim)) == []
            assert _version(backend, claim.id) > known, f"{name} from {state}"
    assert _version(backend, other) == before


def check_a_version_tells_of_every_move_of_an_operator(backend: Backend) -> None:
    """So does what an operator does; a move that is not allowed changes nothing, the version neither."""
    for name, move in MOVES_OF_OPERATORS.items():
        for state in EVERY_STATE:
            job_id = factory.job_in_state(backend, state)
            row = factory.row_of(backend, job_id)
            applied = backend.apply_by_operator(job_id, move(row)) is not None
            assert (_version(backend, job_id) > row.version) is applied, f"{name} from {state}"


Scene = Callable[[Backend, FrozenClock], tuple[bytes, Callable[[], object]]]


def _claimed(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    return factory.enqueue(backend), lambda: factory.claim_one(backend)


def _completed_in_columns(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    claim = factory.claimed_job(backend)
    return claim.id, lambda: factory.complete(backend, claim)


def _noted_twice(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    claim = factory.running_job(backend)
    said = states.note(claim, ago=None, lines=((0, "only a line"),))
    return claim.id, lambda: factory.settle(backend, claim, said)


def _released(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    job_id = factory.enqueue(backend, delay=micros(5), queue="nobody's")
    clock.advance(5)
    return job_id, lambda: backend.exchange("engine")


def _held_by_its_key(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    factory.enqueue(backend, limit_key="k", key_limit=1)
    factory.claim_one(backend)
    return factory.enqueue(backend, limit_key="k", key_limit=1), lambda: factory.claim_some(backend)


def _put_off_by_its_rate(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    rate = {"limit_key": "r", "rate_count": 1, "rate_per": micros(60)}
    factory.enqueue(backend, **rate)
    factory.claim_one(backend)
    return factory.enqueue(backend, **rate), lambda: factory.claim_some(backend)


def _let_in_by_an_end(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    first, second = factory.enqueue_several(backend, 2, limit_key="k", key_limit=1)
    [claim] = factory.claim_some(backend, 2)
    assert claim.id == first
    done = factory.completions_of([claim])
    return second, lambda: backend.exchange("engine", completions=done, freed=["k"])


def _let_in_by_a_sweep(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    _, second = factory.enqueue_several(backend, 2, limit_key="k", key_limit=1)
    factory.complete(backend, factory.claim_some(backend, 2))
    return second, lambda: backend.let_in(10)


def _unparked(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    claim = factory.claimed_job(backend, name="parked")
    factory.settle(backend, claim, states.park(claim))
    return claim.id, lambda: backend.unpark(["parked"])


def _released_from_waiting_for_others(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    job_id = factory.enqueue(backend, waits_for="[]")
    return job_id, lambda: factory.release(backend, job_id)


def _replaced(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    new = factory.new_job(unique_key="u", args="[2]", replaces=True)
    return factory.enqueue(backend, unique_key="u"), lambda: backend.enqueue([new])


def _handed_back_and_claimed(backend: Backend, clock: FrozenClock) -> tuple[bytes, Callable[[], object]]:
    claim = factory.claimed_job(backend, queue="q")
    back = factory.outcome_of(claim, states.hand_back(claim))
    want = Want([("q", 1)], 1)
    return claim.id, lambda: backend.exchange("engine", outcomes=[back], want=want, lease=factory.LEASE)


SCENES: Mapping[str, Scene] = MappingProxyType(
    {
        "claimed": _claimed,
        "completed in columns": _completed_in_columns,
        "a line more": _noted_twice,
        "released": _released,
        "held by its key": _held_by_its_key,
        "put off by its rate": _put_off_by_its_rate,
        "let in by an end": _let_in_by_an_end,
        "let in by a sweep": _let_in_by_a_sweep,
        "unparked": _unparked,
        "released from waiting for others": _released_from_waiting_for_others,
        "replaced": _replaced,
        "handed back and claimed at once": _handed_back_and_claimed,
    }
)


def check_a_version_tells_of_what_a_store_does_by_itself(backend: Backend, clock: FrozenClock) -> None:
    """Claimed, completed, released, held, let in, unparked, replaced: each raises the version of the row."""
    for name, scene in SCENES.items():
        job_id, happens = scene(backend, clock)
        before = factory.row_of(backend, job_id)
        happens()
        after = factory.row_of(backend, job_id)
        assert after.version > before.version, name
        assert _version(backend, job_id) == after.version, name
        backend.truncate()


def check_a_version_stays_while_nothing_changes(backend: Backend, clock: FrozenClock) -> None:
    """Looking, and writes that are refused or come too late, leave every version as it was."""
    kinds = every_kind(backend, clock)
    claim = factory.claimed_job(backend)
    factory.complete(backend, claim)
    before = list(versions_in(backend))
    jobs_in(backend)
    assert [refusal.verdict for refusal in factory.complete(backend, claim)] == [Verdict.MINE]
    late = factory.complete(backend, claim._replace(token=claim.token + 1))
    assert [refusal.verdict for refusal in late] == [Verdict.LOST]
    assert backend.apply_by_operator(kinds["completed"], states.cancel_waiting(reason="canceled")) is None
    backend.enqueue([factory.new_job(unique_key="unique waiting")])
    assert list(versions_in(backend)) == before


def check_deleted_jobs_have_no_version(backend: Backend, clock: FrozenClock) -> None:
    """Deleted, pruned, erased or truncated: who goes is in `versions` no more."""
    ids = [factory.job_in_state(backend, "completed") for _ in range(3)]
    assert backend.delete(ids[:1]) == 1
    assert [job_id for job_id, _ in versions_in(backend)] == sorted(ids[1:])
    assert backend.erase(ids[1:2]) == 1
    assert [job_id for job_id, _ in versions_in(backend)] == ids[2:]
    clock.advance(1)
    assert backend.prune(states=["completed"], finished_before=clock.now(), age=None, limit=9) == 1
    assert list(versions_in(backend)) == []


def check_an_unreadable_job_has_the_version_minus_one(harness: Harness) -> None:
    """What cannot be read is not passed over, so that whoever compares knows that it is there."""
    backend = harness.ready()
    ids = sorted(factory.job_in_state(backend, state) for state in ("waiting", "completed", "failed", "running"))
    versions = dict(versions_in(backend))
    harness.spoil(*ids[1:3])
    expected = [(job_id, -1 if job_id in ids[1:3] else versions[job_id]) for job_id in ids]
    assert [tuple(one) for one in versions_in(backend)] == expected
    assert [tuple(one) for one in versions_in(backend, 1)] == expected
    harness.close()


def check_a_put_over_an_unreadable_job_mends_it(harness: Harness) -> None:
    """A job that is put is whole, whatever was in its place; so the copy of a store can heal another."""
    backend = harness.ready()
    ids = [factory.job_in_state(backend, state) for state in ("waiting", "failed")]
    jobs = factory.whole_of(backend, ids)
    harness.spoil(*ids)
    assert backend.put(jobs) == []
    assert factory.whole_of(backend, ids) == jobs
    assert [claim.id for claim in factory.claim_some(backend, 5)] == ids[:1]
    harness.close()


def _version(backend: Backend, job_id: bytes) -> int:
    """As whoever compares learns it: the first one above the id that lies just below."""
    below = (int.from_bytes(job_id, "big") - 1).to_bytes(16, "big")
    [(found, version)] = backend.versions(after=below, limit=1)
    assert found == job_id
    return version


# ------------------------------------------------------------------ once keys


def _once(clock: FrozenClock, key: str, seconds: float = 3600, **given: object) -> NewJob:
    return factory.new_job(once_key=key, once_until=clock.now() + micros(seconds), **given)


def check_once_keys_in_force_are_told(backend: Backend, clock: FrozenClock) -> None:
    """Each with its job and its end, by ascending key, whatever became of the job and whatever the page's length."""
    assert list(backend.once_keys(after=None, limit=10)) == []
    keys = ["b", "a", "B", "ab", "a/b", "é", "e", "10", "9", "#tick/nightly/1", "😀"]
    jobs = {key: _once(clock, key, seconds=10 + place) for place, key in enumerate(keys)}
    assert {answer.fate for answer in backend.enqueue(list(jobs.values()))} == {Fate.STORED}
    backend.enqueue([_once(clock, "over", seconds=5)])
    factory.complete(backend, factory.claim_some(backend, 3))
    backend.delete([job.id for job in jobs.values()])
    clock.advance(5)
    expected = [OnceKey(key, jobs[key].id, jobs[key].once_until or 0) for key in sorted(keys)]
    for limit in (1, 4, len(keys), 1_000):
        assert list(once_keys_in(backend, limit)) == expected
    assert list(backend.once_keys(after="a", limit=2)) == expected[expected.index(_of(expected, "a")) + 1 :][:2]
    clock.advance(5.5)
    assert list(once_keys_in(backend)) == [each for each in expected if each.key != "b"]
    clock.advance(3600)
    assert list(once_keys_in(backend)) == []


def _of(keys: list[OnceKey], key: str) -> OnceKey:
    return next(each for each in keys if each.key == key)


def check_put_once_keys_are_in_force(backend: Backend, clock: FrozenClock) -> None:
    """A once key that was put guards as if it had been taken here, until its end, also against its own job."""
    job = _once(clock, "k", seconds=60)
    keys = [OnceKey("k", job.id, clock.now() + micros(60)), OnceKey("é", factory.new_id(), clock.now() + HOUR)]
    backend.put_once_keys(keys)
    assert list(once_keys_in(backend)) == keys
    assert backend.enqueue([_once(clock, "k")]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    assert backend.enqueue([job]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    assert backend.enqueue([_once(clock, "é")]) == [Enqueued(Fate.KEY_TAKEN, keys[1].job_id)]
    clock.advance(60)
    later = _once(clock, "k")
    assert backend.enqueue([later]) == [Enqueued(Fate.STORED, later.id)]
    assert backend.count(Filter()) == {"default": {"waiting": 1}}


def check_put_once_keys_take_the_place_of_what_is_there(backend: Backend, clock: FrozenClock) -> None:
    """Job and end become those that were put; the same again changes nothing, and others stay."""
    mine, other = _once(clock, "k"), _once(clock, "other")
    assert {answer.fate for answer in backend.enqueue([mine, other])} == {Fate.STORED}
    theirs = OnceKey("k", factory.new_id(), clock.now() + micros(30))
    kept = OnceKey("other", other.id, other.once_until or 0)
    for _ in range(2):
        backend.put_once_keys([theirs])
        assert list(once_keys_in(backend)) == [theirs, kept]
    backend.put_once_keys([])
    clock.advance(30)
    assert list(once_keys_in(backend)) == [kept]
    # One whose time is over may come along, and guards nothing.
    backend.put_once_keys([OnceKey("gone", mine.id, clock.now() - micros(1))])
    late = _once(clock, "gone")
    assert backend.enqueue([late]) == [Enqueued(Fate.STORED, late.id)]


def check_a_thousand_once_keys_are_put_at_once(backend: Backend, clock: FrozenClock) -> None:
    """As many as there are jobs in a call; a prune forgets them when their time is over, and not before."""
    keys = [OnceKey(f"key {place:04}", factory.new_id(), clock.now() + micros(60)) for place in range(1_000)]
    backend.put_once_keys(keys)
    backend.prune(states=["completed"], finished_before=None, age=0, limit=100)
    assert list(once_keys_in(backend, 400)) == keys
    clock.advance(60)
    backend.prune(states=["completed"], finished_before=None, age=0, limit=100)
    assert list(once_keys_in(backend)) == []


def check_whole_and_once_key_together_are_what_was(harness: Harness) -> None:
    """A job and its once key, put elsewhere, guard as before the move: repeated while it is there, then taken."""
    backend = harness.ready()
    job = _once(harness.clock, "k")
    assert backend.enqueue([job])[0].fate is Fate.STORED
    keys = list(once_keys_in(backend))
    factory.put_anew(backend)
    backend.put_once_keys(keys)
    assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)]
    assert backend.enqueue([_once(harness.clock, "k")]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    factory.complete(backend, factory.claim_one(backend))
    assert backend.delete([job.id]) == 1
    assert backend.enqueue([job]) == [Enqueued(Fate.KEY_TAKEN, job.id)]
    harness.close()


# ------------------------------------------------------------------ taking jobs back


def check_erased_jobs_leave_nothing_but_their_once_keys(backend: Backend, clock: FrozenClock) -> None:
    """In whatever state and under whatever hold they are, they go with all that belongs to them; the others stay."""
    kinds = every_kind(backend, clock)
    ids = list(kinds.values())
    kept, gone = ids[::2], ids[1::2]
    keys = list(once_keys_in(backend))
    jobs = factory.whole_of(backend, kept)
    assert backend.erase([*gone, factory.new_id(), gone[0]]) == len(gone)
    seen = jobs_in(backend)
    assert (backend.get(gone), backend.attempts(gone), backend.log_lines(gone), backend.ended(gone)) == ([], [], [], [])
    assert list(once_keys_in(backend)) == keys
    assert backend.erase(gone) == backend.erase([]) == 0
    backend.truncate()
    assert backend.put(jobs) == []
    for what, expected in jobs_in(backend).items():
        assert seen[what] == expected, what


def check_an_erased_job_holds_no_key_and_no_place(backend: Backend) -> None:
    """Its unique key is free, its place under a limit too, and it stands in nobody's line."""
    first, second = factory.enqueue_several(backend, 2, limit_key="k", key_limit=1)
    unique = factory.enqueue(backend, unique_key="u", rank=-9)
    [claim] = factory.claim_some(backend, 3)[1:]
    assert claim.id == first
    delayed = factory.enqueue(backend, delay=micros(5))
    assert backend.erase([first, unique, delayed]) == 3
    new = factory.new_job(unique_key="u")
    assert backend.enqueue([new]) == [Enqueued(Fate.STORED, new.id)]
    backend.let_in(10)
    answer = backend.exchange("engine", want=Want([("default", 9)], 9), lease=factory.LEASE)
    assert ([each.id for each in answer.claimed], answer.next_due) == ([second, new.id], None)
    assert backend.count(Filter()) == {"default": {"claimed": 2}}


def check_the_holder_of_an_erased_job_is_told(backend: Backend) -> None:
    """Whoever still holds it can do nothing more with it, also after it has been put or stored again."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend)
        assert backend.erase([claim.id]) == 1
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=factory.LEASE) == [claim.ref]
        for move in (states.complete("1"), states.note(claim, ago=None, lines=((0, "late"),))):
            refusals = backend.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, move)]).refusals
            assert [refusal.verdict for refusal in refusals] == [Verdict.LOST]
        assert [refusal.verdict for refusal in factory.complete(backend, claim)] == [Verdict.LOST]
        assert backend.find_held(["engine"], lapsed=False, limit=9).claims == []
        assert (backend.get([claim.id]), backend.log_lines([claim.id])) == ([], [])


def check_an_erased_id_is_free(backend: Backend) -> None:
    """Enqueued or put again it is a job like any other, with nothing of the one before."""
    job = factory.new_job()
    claim = _said_something(backend, job)
    whole = factory.whole_of(backend, [job.id])
    assert backend.erase([job.id]) == 1
    assert backend.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]
    assert (backend.attempts([job.id]), backend.log_lines([job.id])) == ([], [])
    assert factory.row_of(backend, job.id).state == "waiting"
    assert backend.erase([job.id]) == 1
    assert backend.put(whole) == []
    assert factory.whole_of(backend, [job.id]) == whole
    assert claim.id == job.id


def _said_something(backend: Backend, job: NewJob) -> Claimed:
    assert backend.enqueue([job])[0].fate is Fate.STORED
    claim = factory.claim_one(backend, queue=job.queue)
    said = states.note(claim, ago=0, progress='"p"', lines=((0, "said"),))
    again = states.retry(claim, reason="error", delay=micros(5), error=factory.ERROR, kind="X")
    answer = backend.exchange("engine", outcomes=[factory.outcome_of(claim, said), factory.outcome_of(claim, again)])
    assert answer.refusals == []
    return claim


def check_a_thousand_jobs_are_erased_at_once(backend: Backend) -> None:
    """As many as are put at once; counted once each."""
    ids = factory.enqueue_several(backend, 1_000)
    other = factory.enqueue(backend, queue="other")
    claims = factory.claim_some(backend, 5)
    assert len(claims) == 5
    assert backend.erase(ids) == 1_000
    assert factory.ids_in(backend) == [other]
    assert backend.count(Filter()) == {"other": {"waiting": 1}}
    assert factory.claim_some(backend, 5) == []


def check_a_held_line_moves_up_when_its_first_is_erased(backend: Backend) -> None:
    """Those held by a key that an erased job had come in by `let_in`, in their order."""
    ids = factory.enqueue_several(backend, 3, limit_key="k", key_limit=1)
    [claim] = factory.claim_some(backend, 3)
    assert {row.hold for row in factory.rows_of(backend, ids[1:]).values()} == {Hold.LIMIT}
    assert backend.erase([claim.id, ids[1]]) == 2
    assert backend.let_in(10) == 1
    assert [each.id for each in factory.claim_some(backend, 3)] == [ids[2]]
    assert factory.row_of(backend, ids[2]).state == JobState.CLAIMED
