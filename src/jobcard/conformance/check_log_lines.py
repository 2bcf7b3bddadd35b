"""The log lines of a job: records of their own, stored with a change, bounded, gone with the job."""

from __future__ import annotations

from jobcard.backends.base import Backend, Outcome, Verdict
from jobcard.conformance import factory
from jobcard.conformance.check_transitions import MOVES
from jobcard.conformance.harness import Harness, micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import LAST_LINES, LINES_TEXT, Claimed, LogLine
from jobcard.core.states import Change


def _said(claim: Claimed, *texts: str) -> Change:
    return states.note(claim, ago=None, lines=tuple((0, text) for text in texts))


def _say(backend: Backend, claim: Claimed, *texts: str) -> None:
    assert factory.settle(backend, claim, _said(claim, *texts)) == []


def _texts(backend: Backend, job_id: bytes) -> list[str]:
    return [line.text for line in backend.log_lines([job_id])]


def check_lines_are_stored_with_their_change(backend: Backend, clock: FrozenClock) -> None:
    """Each line comes back with its job, its text and the instant it was written, oldest first."""
    claim = factory.running_job(backend)
    clock.advance(10)
    note = states.note(claim, ago=None, lines=((micros(3), "first"), (micros(1), "second"), (0, "third")))
    assert factory.settle(backend, claim, note) == []
    now = clock.now()
    assert backend.log_lines([claim.id]) == [
        LogLine(claim.id, now - micros(3), "first"),
        LogLine(claim.id, now - micros(1), "second"),
        LogLine(claim.id, now, "third"),
    ]


def check_lines_come_in_the_order_they_were_stored(backend: Backend, clock: FrozenClock) -> None:
    """Change after change the lines of a job add up, also when the clock stepped back between."""
    claim = factory.claimed_job(backend)
    for turn in range(4):
        clock.step(-2)
        _say(backend, claim, f"{turn}a", f"{turn}b")
    assert _texts(backend, claim.id) == [f"{turn}{letter}" for turn in range(4) for letter in "ab"]


def check_changes_of_one_exchange_bring_their_lines_in_order(backend: Backend) -> None:
    """Two notes of one claim in one exchange leave their lines one behind the other."""
    claim = factory.claimed_job(backend)
    notes = [Outcome(claim.ref, claim.token, _said(claim, *texts)) for texts in (("a", "b"), ("c",))]
    assert backend.exchange("engine", outcomes=notes).refusals == []
    assert _texts(backend, claim.id) == ["a", "b", "c"]


def check_lines_belong_to_their_job(backend: Backend) -> None:
    """Jobs that log at the same time do not mix; asking for several gives each its own, oldest first."""
    factory.enqueue_several(backend, 3)
    claims = factory.claim_some(backend, 3)
    for turn in range(3):
        for claim in claims[:2]:
            _say(backend, claim, f"{claim.id.hex()} {turn}")
    found = backend.log_lines([claim.id for claim in claims])
    for claim in claims:
        expected = [f"{claim.id.hex()} {turn}" for turn in range(3)] if claim in claims[:2] else []
        assert [line.text for line in found if line.job_id == claim.id] == expected
        assert _texts(backend, claim.id) == expected


def check_any_change_may_bring_lines(backend: Backend) -> None:
    """What a job said last comes with its end, or with its way back into the line."""
    for name, move in MOVES.items():
        claim = factory.claimed_job(backend)
        _say(backend, claim, "before")
        assert factory.settle(backend, claim, move(claim)._replace(lines=((0, "last words"),))) == [], name
        assert _texts(backend, claim.id) == ["before", "last words"], name


def check_lines_of_a_change_that_does_not_apply_are_not_stored(backend: Backend) -> None:
    """Whoever lost the job, or has ended it, adds nothing to its log; a refused change adds nothing either."""
    claim, ended = factory.claimed_job(backend), factory.claimed_job(backend)
    _say(backend, claim, "good")
    factory.complete(backend, ended)
    stale = claim._replace(token=claim.token - 1)
    for late, verdict in ((stale, Verdict.LOST), (ended, Verdict.MINE)):
        refusals = factory.settle(backend, late, _said(late, "late"))
        assert [refusal.verdict for refusal in refusals] == [verdict]
    for bad in (_said(claim, "fine", factory.NO_TEXT), _said(claim, "fine")._replace(error=factory.NO_TEXT)):
        refusals = factory.settle(backend, claim, bad)
        assert [refusal.verdict for refusal in refusals] == [Verdict.REFUSED]
    assert (_texts(backend, claim.id), _texts(backend, ended.id)) == (["good"], [])


def check_lines_come_back_as_the_same_text(backend: Backend) -> None:
    """A line is opaque text: quotes, wildcards, line breaks, emoji and the empty line included."""
    claim = factory.claimed_job(backend)
    texts = [
        "",
        " ",
        "it's 100% `_` \\ {} ; -- /* $1 %s :x ?",
        "a\nb\r\n\tc",
        "é 😀 한 \u2028",
        '{"json": [1]}',
        "x" * 2_000,
    ]
    _say(backend, claim, *texts)
    assert _texts(backend, claim.id) == texts


def check_the_last_thousand_lines_are_kept(backend: Backend) -> None:
    """Of a job's lines the oldest go when there are more than a thousand; those of other jobs stay."""
    other, claim = factory.claimed_job(backend), factory.claimed_job(backend)
    _say(backend, other, "other")
    count = 0
    for size in (400, 400, 400, LAST_LINES + 50, 1, 1):
        _say(backend, claim, *[str(count + place) for place in range(size)])
        count += size
        found = _texts(backend, claim.id)
        assert found == [str(number) for number in range(count - len(found), count)]
        # A store may keep somewhat more, yet it stays bounded.
        assert min(count, LAST_LINES) <= len(found) <= 2 * LAST_LINES
    assert _texts(backend, other.id) == ["other"]


def check_the_text_of_a_jobs_lines_is_bounded(backend: Backend) -> None:
    """Of long lines fewer are kept, the last, so that a job's log stays near 64 KiB."""
    other, claim = factory.claimed_job(backend), factory.claimed_job(backend)
    _say(backend, other, "o" * 2_000)
    said: list[str] = []
    for turn in range(9):
        texts = [f"{turn} {place} ".ljust(2_000, "é") for place in range(10)]
        _say(backend, claim, *texts)
        said += texts
        found = _texts(backend, claim.id)
        assert found == said[len(said) - len(found) :]
        size = sum(map(len, found))
        assert min(sum(map(len, said)), LINES_TEXT - 2_000) <= size <= 2 * LINES_TEXT
    assert _texts(backend, other.id) == ["o" * 2_000]


def check_lines_stay_as_long_as_their_job(backend: Backend) -> None:
    """Retried, claimed again, ended and retried by an operator: a job keeps what its earlier attempts logged."""
    claim = factory.claimed_job(backend, queue="q")
    _say(backend, claim, "one")
    factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X"))
    again = factory.claim_one(backend, queue="q")
    _say(backend, again, "two")
    factory.settle(backend, again, states.fail(again, reason="error", error=factory.ERROR, kind="X"))
    assert backend.apply_by_operator(claim.id, states.retry_ended(factory.row_of(backend, claim.id))) is not None
    assert _texts(backend, claim.id) == ["one", "two"]


def check_lines_are_deleted_with_their_job(backend: Backend, clock: FrozenClock) -> None:
    """Nothing of a deleted, pruned or truncated job's log is left, and nothing of another's is lost."""
    claims = [factory.claimed_job(backend, id=factory.new_id()) for _ in range(3)]
    ids = [claim.id for claim in claims]
    for claim in claims:
        _say(backend, claim, "said")
    factory.complete(backend, claims[:2])
    assert backend.delete(ids) == 2
    assert [line.job_id for line in backend.log_lines(ids)] == [ids[2]]
    # The same id again is another job.
    again = factory.claimed_job(backend, id=ids[0])
    assert _texts(backend, ids[0]) == []
    _say(backend, again, "mine")
    factory.complete(backend, again)
    clock.advance(1)
    assert backend.prune(states=["completed"], finished_before=clock.now(), age=None, limit=10) == 1
    assert [line.job_id for line in backend.log_lines(ids)] == [ids[2]]
    backend.truncate()
    assert backend.log_lines(ids) == []


def check_lines_of_jobs_nobody_knows_are_none(backend: Backend) -> None:
    """Asking for the lines of no job, an unknown one or one that logged nothing gives none; many may be asked for."""
    ids = factory.enqueue_several(backend, 1_000)
    claim = factory.claimed_job(backend)
    _say(backend, claim, "here")
    assert backend.log_lines([]) == []
    assert backend.log_lines([factory.new_id(), ids[0]]) == []
    assert [line.text for line in backend.log_lines([*ids, claim.id])] == ["here"]


def check_lines_are_there_after_opening_again(harness: Harness) -> None:
    """What was answered was stored: the log survives every backend's closing."""
    first = harness.ready()
    claim = factory.claimed_job(first)
    _say(first, claim, "a", "b")
    before = first.log_lines([claim.id])
    first.close()
    again = harness.open()
    assert again.log_lines([claim.id]) == before
    _say(again, claim, "c")
    assert _texts(again, claim.id) == ["a", "b", "c"]
    harness.close()
