"""What a job waits for: how it is written, read again, and what a job that waits may expect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from uuid import UUID

import pytest

from jobcard.core.dependencies import (
    ANY_END,
    BATCH,
    COMPLETED,
    JOB,
    Dependency,
    Known,
    Outlook,
    from_text,
    outlook,
    to_text,
)
from jobcard.core.states import ALIVE, ENDED, JobState

ONE, OTHER = (UUID(f"0190a3f0-0000-7000-8000-00000000000{number}") for number in (1, 2))
NOTHING = Known({}, {})


def on(kind: str, until: str, of: UUID = ONE) -> Dependency:
    return Dependency(kind, of, until)


def jobs(**states: str) -> Known:
    """Jobs that have ended so, by `one` and `other`."""
    return Known({{"one": ONE, "other": OTHER}[name]: state for name, state in states.items()}, {})


def batch(**counts: int) -> Known:
    return Known({}, {ONE: counts})


# ------------------------------------------------------------------ as text


@pytest.mark.parametrize("number", [0, 1, 2, 1_000])
def test_what_is_written_is_read_again(number: int) -> None:
    """Jobs and batches, for their success and for any end, in their order."""
    kinds = list(product((JOB, BATCH), (COMPLETED, ANY_END)))
    given = tuple(Dependency(kinds[n % 4][0], UUID(int=n << 70), kinds[n % 4][1]) for n in range(number))
    assert from_text(to_text(given)) == given


def test_the_text_is_as_the_stores_are_told() -> None:
    """Stores keep it, other languages and older engines read it: it does not change its form."""
    assert to_text([on(JOB, COMPLETED), on(BATCH, ANY_END, OTHER)]) == (
        f'[["job","{ONE}","completed"],["batch","{OTHER}","ended"]]'
    )
    assert str(on(JOB, COMPLETED)) == f"job {ONE}"
    assert str(on(BATCH, ANY_END)) == f"batch {ONE}"


def test_no_text_is_nothing() -> None:
    """A job that waits for nobody has none."""
    assert from_text(None) == from_text("[]") == ()


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "null",
        "true",
        "7",
        '"job"',
        '""',
        "{}",
        '{"job":1}',
        "[7]",
        "[null]",
        '["job"]',
        "[[]]",
        '[["job"]]',
        f'[["job","{ONE}"]]',
        f'[["job","{ONE}","completed","x"]]',
        '[["job","no id","completed"]]',
        '[["job",7,"completed"]]',
        '[["job",null,"completed"]]',
        f'[["task","{ONE}","completed"]]',
        f'[["job","{ONE}","claimed"]]',
        f'[["job","{ONE}",null]]',
        f'[[["job"],"{ONE}","completed"]]',
        f'[["job","{ONE}","completed"],["batch","{ONE}","soon"]]',
        f'[["job","{ONE}","completed"]',
        f'[{{"kind":"job","id":"{ONE}","until":"completed"}}]',
        DEEP,
        f"[{DEEP}]",
        '[["job","\\ud800","completed"]]',
    ],
    ids=lambda text: text[:30] or "empty",
)
def test_a_text_that_cannot_be_read_is_told(text: str) -> None:
    """As one error, whatever somebody wrote there; and never as a job that waits for nobody."""
    with pytest.raises(ValueError, match=r"^what it waits for cannot be read$"):
        from_text(text)


# ------------------------------------------------------------------ what may be expected

STATES = [*(state.value for state in JobState), "gone", "unknown"]


def of_a_job(state: str) -> Known:
    if state == "gone":
        return Known({}, {}, {ONE})
    return jobs(one=state) if state in ENDED else NOTHING


@pytest.mark.parametrize("until", [COMPLETED, ANY_END])
@pytest.mark.parametrize("state", STATES)
def test_a_job_in_every_state(state: str, until: str) -> None:
    """One that is alive, or may yet be stored, is waited for; success is what counts, unless any end does."""
    what, why = outlook([on(JOB, until)], of_a_job(state))
    if state in ALIVE or state == "unknown":
        assert (what, why) == (Outlook.WAITS, "")
    elif state == "completed" or until == ANY_END:
        assert (what, why) == (Outlook.READY, "")
    else:
        told = {"failed": "failed", "canceled": "was canceled", "gone": "is not there any more"}[state]
        assert (what, why) == (Outlook.NEVER, f"it waited for the success of job {ONE}, which {told}")


def test_a_job_that_ended_is_none_that_is_gone() -> None:
    """Who missed it before it was stored, and found its end then, goes by the end."""
    known = Known({ONE: "completed"}, {}, {ONE})
    assert outlook([on(JOB, COMPLETED)], known)[0] is Outlook.READY


def cases_of_a_batch() -> list[Mapping[str, int]]:
    states = [state.value for state in JobState]
    single = [{state: 3} for state in states]
    pairs = [{one: 1, other: 2} for one, other in product(states, repeat=2) if one < other]
    return [{}, {"waiting": 0, "failed": 0}, *single, *pairs, dict.fromkeys(states, 1)]


@pytest.mark.parametrize("until", [COMPLETED, ANY_END])
@pytest.mark.parametrize("counts", cases_of_a_batch(), ids=lambda counts: "-".join(counts) or "empty")
def test_a_batch_with_jobs_in_every_state(counts: Mapping[str, int], until: str) -> None:
    """It is over when none is alive, and a success when all completed; one without jobs is both."""
    what, why = outlook([on(BATCH, until)], batch(**counts))
    there = {state for state, count in counts.items() if count}
    if there & ALIVE:
        assert (what, why) == (Outlook.WAITS, "")  # what failed may be retried as long
    elif until == ANY_END or there <= {"completed"}:
        assert (what, why) == (Outlook.READY, "")
    else:
        assert what is Outlook.NEVER
        assert why == f"it waited for the success of batch {ONE}, which has jobs that failed or were canceled"


@pytest.mark.parametrize("until", [COMPLETED, ANY_END])
def test_a_job_and_a_batch_of_one_id_are_two(until: str) -> None:
    """What is known of the one says nothing of the other."""
    assert outlook([on(JOB, until)], batch(completed=1))[0] is Outlook.WAITS
    assert outlook([on(BATCH, until)], Known({ONE: "failed"}, {ONE: {"running": 1}}))[0] is Outlook.WAITS


def test_nothing_to_wait_for_has_come() -> None:
    """A job that was held and names nobody is ready."""
    assert outlook([], NOTHING) == (Outlook.READY, "")


@pytest.mark.parametrize("turned", [False, True])
def test_all_must_come_and_one_that_never_will_decides(turned: bool) -> None:
    """In whatever order they are named; the first that never comes is the one that is told."""

    def of(known: Known, *untils: str) -> Outlook:
        waits = [on(JOB, untils[0]), on(JOB, untils[1], OTHER)]
        return outlook(waits[::-1] if turned else waits, known)[0]

    assert of(jobs(one="completed", other="completed"), COMPLETED, COMPLETED) is Outlook.READY
    assert of(jobs(one="completed"), COMPLETED, COMPLETED) is Outlook.WAITS
    assert of(jobs(one="failed"), COMPLETED, COMPLETED) is Outlook.NEVER
    assert of(jobs(one="failed"), ANY_END, COMPLETED) is Outlook.WAITS
    assert of(jobs(one="failed", other="completed"), ANY_END, COMPLETED) is Outlook.READY
    assert of(jobs(one="failed", other="canceled"), ANY_END, COMPLETED) is Outlook.NEVER
    both = outlook([on(JOB, COMPLETED), on(JOB, COMPLETED, OTHER)], jobs(one="failed", other="canceled"))
    assert both == (Outlook.NEVER, f"it waited for the success of job {ONE}, which failed")


def test_the_text_is_plain_json() -> None:
    """Anybody can read it."""
    assert json.loads(to_text([on(JOB, ANY_END)])) == [["job", str(ONE), "ended"]]
