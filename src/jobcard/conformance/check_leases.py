"""Leases: who holds a job and until when, and how others take it afterwards."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Backend, Outcome, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once, both_at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed


def _lapsed(backend: Backend) -> set[bytes]:
    return {claim.id for claim in backend.find_held([], lapsed=True, limit=1_000).claims}


def check_a_renewal_counts_from_now(backend: Backend, clock: FrozenClock) -> None:
    """A renewed lease ends `lease` after the store's now; nothing else of the job changes."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend, lease=micros(60))
        before = factory.row_of(backend, claim.id)
        clock.advance(20)
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(30)) == []
        after = factory.row_of(backend, claim.id)
        expected = before._replace(lease_until=clock.now() + micros(30))
        assert factory.without_version(after) == factory.without_version(expected)


def check_a_renewal_holds_only_what_it_names(backend: Backend, clock: FrozenClock) -> None:
    """Other claims of the same engine run out as they would have."""
    renewed, forgotten = (factory.claimed_job(backend, lease=micros(60)) for _ in range(2))
    before = factory.row_of(backend, forgotten.id)
    clock.advance(50)
    assert backend.renew("engine", [(renewed.ref, renewed.token)], lease=micros(60)) == []
    assert factory.row_of(backend, forgotten.id) == before
    clock.advance(20)
    assert _lapsed(backend) == {forgotten.id}


def check_many_claims_are_renewed_in_one_call(backend: Backend, clock: FrozenClock) -> None:
    """A call renews all it can and names exactly the refs that are gone."""
    factory.enqueue_several(backend, 40)
    claims = factory.claim_some(backend, 40)
    clock.advance(5)
    factory.complete(backend, claims[:3])
    stale = [(claim.ref, claim.token - 1) for claim in claims[3:6]]
    held = [(claim.ref, claim.token) for claim in [*claims[:3], *claims[6:]]]
    gone = backend.renew("engine", held + stale, lease=micros(99))
    assert sorted(map(str, gone)) == sorted(str(claim.ref) for claim in claims[:6])
    rows = factory.rows_of(backend, [claim.id for claim in claims])
    renewed = {claim.id for claim in claims if rows[claim.id].lease_until == clock.now() + micros(99)}
    assert renewed == {claim.id for claim in claims[6:]}


def check_renewing_nothing_loses_nothing(backend: Backend) -> None:
    """An engine that holds nothing may renew it."""
    assert backend.renew("engine", [], lease=micros(60)) == []


def check_a_renewal_needs_the_token(backend: Backend) -> None:
    """An old or wrong token renews nothing, and its ref comes back as gone."""
    claim = factory.claimed_job(backend)
    before = factory.row_of(backend, claim.id)
    for token in (claim.token - 1, claim.token + 1):
        assert backend.renew("engine", [(claim.ref, token)], lease=micros(999)) == [claim.ref]
    assert factory.row_of(backend, claim.id) == before


def check_only_a_job_at_work_is_renewed(backend: Backend) -> None:
    """A job that ended or went back to waiting has no lease to renew, though the token still fits."""
    for move in (
        states.complete("1"),
        states.cancel_at_work(factory.claimed_job(backend), reason="canceled"),
        states.hand_back(factory.claimed_job(backend)),
    ):
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, move)
        before = factory.row_of(backend, claim.id)
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(60)) == [claim.ref]
        assert factory.row_of(backend, claim.id) == before


def check_a_lease_that_ran_out_is_not_renewed(backend: Backend, clock: FrozenClock) -> None:
    """A lapsed lease is gone for its holder even if nobody took the job yet."""
    claim = factory.claimed_job(backend, lease=micros(10))
    before = factory.row_of(backend, claim.id)
    clock.advance(10.001)
    assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(60)) == [claim.ref]
    assert factory.row_of(backend, claim.id) == before


def check_a_lease_ends_at_one_instant(backend: Backend, clock: FrozenClock) -> None:
    """A millisecond before its end a lease is renewable and not lapsed; at its end it is lapsed and not renewable."""
    early, late = (factory.claimed_job(backend, lease=micros(10)) for _ in range(2))
    clock.advance(9.999)
    assert _lapsed(backend) == set()
    assert backend.renew("engine", [(early.ref, early.token)], lease=micros(10)) == []
    clock.advance(0.001)
    assert _lapsed(backend) == {late.id}
    assert backend.renew("engine", [(late.ref, late.token)], lease=micros(10)) == [late.ref]


def check_no_lease_lapses_while_it_is_renewed(backend: Backend, clock: FrozenClock) -> None:
    """A job may run as long as it likes: age is no reason to take it."""
    claim = factory.running_job(backend, lease=micros(30), timeout=micros(5))
    for _ in range(200):
        clock.advance(20)
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(30)) == []
    assert _lapsed(backend) == set()
    assert factory.complete(backend, claim) == []


def check_leases_of_any_length_lapse_on_time(backend: Backend, clock: FrozenClock) -> None:
    """Milliseconds, seconds and days: each lease lapses at its own end and no other with it."""
    lengths = [1_000, 30_000, micros(1), micros(60), micros(3600), micros(86_400)]
    claims = {length: factory.claimed_job(backend, lease=length) for length in lengths}
    start = clock.now()
    for length in lengths:
        clock.step((start + length - clock.now()) / 1_000_000)
        expected = {claims[shorter].id for shorter in lengths if shorter <= length}
        assert _lapsed(backend) == expected, length


def check_only_claims_lapse(backend: Backend, clock: FrozenClock) -> None:
    """Waiting and ended jobs are nobody's, however old."""
    for state in ("waiting", "completed", "failed", "canceled"):
        factory.job_in_state(backend, state)
    claimed, running = factory.claimed_job(backend), factory.running_job(backend)
    assert _lapsed(backend) == set()
    clock.advance(86_400)
    assert _lapsed(backend) == {claimed.id, running.id}


def check_held_claims_are_found_by_owner(backend: Backend, clock: FrozenClock) -> None:
    """An owner's claims are found, lapsed or not; those of others only when lapsed and asked for."""
    a, b = factory.claimed_job(backend, owner="a"), factory.running_job(backend, owner="b")
    c = factory.claimed_job(backend, owner="c", lease=micros(5))

    def found(*owners: str, lapsed: bool = False) -> set[bytes]:
        return {claim.id for claim in backend.find_held(owners, lapsed=lapsed, limit=10).claims}

    assert (found("a"), found("b"), found("a", "b"), found("nobody"), found()) == (
        {a.id},
        {b.id},
        {a.id, b.id},
        set(),
        set(),
    )
    clock.advance(6)
    assert (found("c"), found("a", lapsed=True), found(lapsed=True)) == ({c.id}, {a.id, c.id}, {c.id})
    assert found("c", "a", lapsed=True) == {a.id, c.id}
    factory.complete(backend, a)
    assert found("a") == set()


def check_a_held_claim_is_whole(backend: Backend) -> None:
    """What is found says the state it is in, and its proof is good for settling the job."""
    claimed, running = factory.claimed_job(backend), factory.running_job(backend)
    held = {claim.id: claim for claim in backend.find_held(["engine"], lapsed=False, limit=10).claims}
    assert held == {claimed.id: claimed, running.id: running._replace(state="running")}
    assert factory.complete(backend, list(held.values())) == []


def check_no_more_held_claims_than_asked(backend: Backend, clock: FrozenClock) -> None:
    """At most `limit` claims come, each once, and those of the rest come when the first are gone."""
    factory.enqueue_several(backend, 12)
    ids = {claim.id for claim in factory.claim_some(backend, 12)}
    clock.advance(1000)
    seen: set[bytes] = set()
    for _ in range(3):
        held = backend.find_held(["engine"], lapsed=True, limit=5).claims
        assert len(held) == len({claim.id for claim in held}) <= 5
        seen |= {claim.id for claim in held}
        back = [Outcome(claim.ref, claim.token, states.hand_back(claim)) for claim in held]
        assert backend.exchange("other", outcomes=back).refusals == []
    assert seen == ids


def check_held_claims_come_page_by_page(backend: Backend, clock: FrozenClock) -> None:
    """Behind where an answer stopped come the next, each claim once, though nothing is settled between."""
    factory.enqueue_several(backend, 23)
    claims = factory.claim_some(backend, 13, owner="a", lease=micros(10)) + factory.claim_some(backend, 10, owner="b")
    clock.advance(11)

    def pages(*owners: str, lapsed: bool) -> list[bytes]:
        seen = [claim for page in factory.held_pages(backend, owners, lapsed=lapsed, limit=4) for claim in page]
        assert len(seen) == len({claim.ref for claim in seen})
        assert seen == sorted(seen, key=lambda claim: claim.ref)
        return sorted(claim.id for claim in seen)

    everybody = sorted(claim.id for claim in claims)
    lapsed = sorted(claim.id for claim in claims if claim.claimed_by == "a")
    assert (pages("a", "b", lapsed=False), pages("b", lapsed=True)) == (everybody, everybody)
    assert (pages("a", "nobody", lapsed=True), pages(lapsed=True)) == (lapsed, lapsed)


def check_looking_for_claims_changes_nothing(backend: Backend, clock: FrozenClock) -> None:
    """Finding is not taking."""
    claim = factory.claimed_job(backend)
    clock.advance(1000)
    before = factory.row_of(backend, claim.id)
    backend.find_held(["engine"], lapsed=True, limit=10)
    assert factory.row_of(backend, claim.id) == before


def check_a_late_result_without_a_rescue_counts(backend: Backend, clock: FrozenClock) -> None:
    """A lapsed lease that nobody acted on refuses no result: the work is done and nobody else began it."""
    claim = factory.claimed_job(backend, lease=micros(10))
    clock.advance(1000)
    assert factory.complete(backend, claim, result="1") == []
    assert factory.row_of(backend, claim.id).state == "completed"


def check_a_late_result_is_refused(backend: Backend, clock: FrozenClock) -> None:
    """A worker that lost its job to a rescue can neither complete, fail nor renew it, now or later."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend, owner="slow", lease=micros(30), queue=f"late-{make.__name__}")
        clock.advance(31)
        [held] = backend.find_held([], lapsed=True, limit=10).claims
        assert factory.settle(backend, held, states.rescue(held, error=factory.ERROR, lapsed=True), owner="other") == []

        def is_refused(claim: Claimed = claim) -> None:
            before, tries = factory.row_of(backend, claim.id), backend.attempts([claim.id])
            failed = states.fail(claim, reason="error", error=factory.ERROR, kind="X")
            assert [refusal.verdict for refusal in factory.complete(backend, claim, owner="slow")] == [Verdict.LOST]
            assert [refusal.verdict for refusal in factory.settle(backend, claim, failed)] == [Verdict.LOST]
            assert backend.renew("slow", [(claim.ref, claim.token)], lease=micros(60)) == [claim.ref]
            assert factory.row_of(backend, claim.id) == before
            assert backend.attempts([claim.id]) == tries

        is_refused()
        again = factory.claim_one(backend, owner="other", queue=claim.queue)
        assert again.token > claim.token
        is_refused()
        assert factory.complete(backend, again, owner="other") == []
        is_refused()


def check_a_rescued_job_is_in_line_at_once(backend: Backend, clock: FrozenClock) -> None:
    """A rescue frees the job for the claim of the same exchange."""
    claim = factory.running_job(backend, queue="default", owner="dead", lease=micros(30))
    clock.advance(31)
    [held] = backend.find_held(["dead"], lapsed=True, limit=10).claims
    rescue = Outcome(held.ref, held.token, states.rescue(held, error=factory.ERROR, lapsed=True))
    answer = backend.exchange("alive", outcomes=[rescue], want=Want([("default", 1)], 1), lease=factory.LEASE)
    assert answer.refusals == []
    [again] = answer.claimed
    assert (again.id, again.claimed_by, again.attempt, again.crashes) == (claim.id, "alive", 2, 1)
    assert len(backend.attempts([claim.id])) == 1


def check_a_rescue_of_what_was_settled_meanwhile_is_no_rescue(backend: Backend, clock: FrozenClock) -> None:
    """Whoever finds a claim and acts on it late changes nothing when its holder has ended the job."""
    claim = factory.running_job(backend, lease=micros(30))
    clock.advance(31)
    [held] = backend.find_held([], lapsed=True, limit=10).claims
    factory.complete(backend, claim)
    before = factory.row_of(backend, claim.id)
    rescue = states.rescue(held, error=factory.ERROR, lapsed=True)
    assert [refusal.verdict for refusal in factory.settle(backend, held, rescue)] == [Verdict.MINE]
    assert factory.row_of(backend, claim.id) == before
    assert backend.attempts([claim.id]) == []


def check_a_lease_renewed_meanwhile_is_not_taken(backend: Backend, clock: FrozenClock) -> None:
    """A change that rests on a lapsed lease is `LOST` when the lease holds again at the moment of applying."""
    claim = factory.running_job(backend, lease=micros(30))
    before = factory.row_of(backend, claim.id)
    clock.advance(30)
    [held] = backend.find_held([], lapsed=True, limit=10).claims
    clock.step(-1)
    rescue = states.rescue(held, error=factory.ERROR, lapsed=True)
    assert [refusal.verdict for refusal in factory.settle(backend, held, rescue, owner="other")] == [Verdict.LOST]
    assert factory.row_of(backend, claim.id) == before
    assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(30)) == []
    clock.advance(29)
    assert [refusal.verdict for refusal in factory.settle(backend, held, rescue, owner="other")] == [Verdict.LOST]
    assert backend.attempts([claim.id]) == []
    assert factory.complete(backend, claim) == []


def check_a_dead_owners_claim_is_taken_before_it_lapses(backend: Backend) -> None:
    """Of an engine known to be dead the jobs are taken at once, each once, and no job of others with them."""
    dead = [factory.claimed_job(backend, owner="dead"), factory.running_job(backend, owner="dead")]
    other = factory.running_job(backend, owner="other")
    before = factory.row_of(backend, other.id)
    held = backend.find_held(["dead"], lapsed=False, limit=10).claims
    taken = [Outcome(one.ref, one.token, states.rescue(one, error=factory.ERROR, lapsed=False)) for one in held]
    assert backend.exchange("alive", outcomes=taken).refusals == []
    rows = factory.rows_of(backend, [claim.id for claim in dead])
    assert [(rows[claim.id].state, rows[claim.id].attempt) for claim in dead] == [("waiting", 0), ("waiting", 1)]
    assert [refusal.verdict for refusal in factory.complete(backend, dead, owner="dead")] == [Verdict.LOST] * 2
    assert factory.row_of(backend, other.id) == before


def check_two_rescuers_rescue_once(harness: Harness, clock: FrozenClock) -> None:
    """When two engines rescue one job at once, one does and the other is refused."""
    backend = harness.ready()
    others = [harness.open() for _ in range(4)]
    for _ in range(5):
        claim = factory.running_job(backend, lease=micros(30))
        clock.advance(31)
        [held] = backend.find_held([], lapsed=True, limit=10).claims
        rescue = states.rescue(held, error=factory.ERROR, lapsed=True)
        refusals = at_once([partial(factory.settle, at, held, rescue, owner="other") for at in others])
        assert sorted(map(len, refusals)) == [0, 1, 1, 1]
        assert {refusal.verdict for several in refusals for refusal in several} == {Verdict.LOST}
        assert (factory.row_of(backend, claim.id).crashes, len(backend.attempts([claim.id]))) == (1, 1)
    harness.close()


def check_a_renewal_and_a_rescue_never_both_succeed(harness: Harness, clock: FrozenClock) -> None:
    """While the clock passes a lease's end, a job is either still held or taken: never renewed and rescued."""
    backend = harness.ready()
    holder, rescuer = harness.open(), harness.open()

    def renew(claim: Claimed) -> bool:
        return holder.renew("slow", [(claim.ref, claim.token)], lease=micros(30)) == []

    def rescue() -> bool:
        held = rescuer.find_held([], lapsed=True, limit=10).claims
        taken = [Outcome(one.ref, one.token, states.rescue(one, error=factory.ERROR, lapsed=True)) for one in held]
        return bool(held) and rescuer.exchange("other", outcomes=taken).refusals == []

    for round_ in range(12):
        claim = factory.running_job(backend, owner="slow", lease=micros(30))
        clock.advance(30 if round_ % 2 else 29.999)
        renewed, rescued = both_at_once(partial(renew, claim), rescue)
        assert renewed is not rescued
        row = factory.row_of(backend, claim.id)
        assert (row.state, row.claimed_by) == (("running", "slow") if renewed else ("waiting", None))
        if renewed:
            assert factory.complete(backend, claim, owner="slow") == []
    harness.close()


def check_a_clock_that_steps_back_loses_no_claim(backend: Backend, clock: FrozenClock) -> None:
    """With the clock back by less than a lease, holders go on and nothing lapses early."""
    claim = factory.running_job(backend, lease=micros(60))
    clock.step(-59)
    assert _lapsed(backend) == set()
    assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(60)) == []
    clock.advance(59)
    assert _lapsed(backend) == set()
    assert factory.complete(backend, claim) == []
