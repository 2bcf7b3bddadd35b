"""Jobs that return, raise or say what cannot be kept: on every store they end, their record is bounded, others run."""

from __future__ import annotations

import json

import pytest
from shop import RAISED, RETURNED, Shop

from jobcard import Job, Jobcard
from jobcard.core.limits import MAX_ERROR_TEXT


def ended(shop: Shop, job: Job) -> Job:
    """The same job, after it was seen that another one still runs."""
    assert [other.state for other in shop.after_work(shop.echo.enqueue(1))] == ["completed"]
    assert all(len(json.dumps(error, default=str)) <= 2 * MAX_ERROR_TEXT for error in job.errors)
    for error in job.errors:
        (error["message"] + error["traceback"]).encode()
        assert len(error["message"]) + len(error["traceback"]) <= MAX_ERROR_TEXT
    return job


@pytest.mark.parametrize("what", RAISED)
def test_an_error_of_any_size_and_kind_is_recorded(shop: Shop, what: str) -> None:
    """Row 52, and 10: at most 64 KiB of it, head and tail with the gap marked, and what is no text spelled out."""
    [job] = shop.after_work(shop.raises.enqueue(what))
    assert (job.state, job.reason, len(job.errors)) == ("failed", "error", 1)
    [error] = ended(shop, job).errors
    if what in ("10 MiB of text", "bytes", "1,000 causes"):
        assert "characters left out" in error["message"] + error["traceback"]
    if what == "no text":
        assert "its __str__ raised RuntimeError" in error["message"]
    if what == "half a surrogate pair":
        assert error["message"] == "a\\ud800b\x00c\x1b[2J"


@pytest.mark.parametrize("what", RETURNED)
def test_a_result_that_cannot_be_kept_fails_the_job(shop: Shop, what: str) -> None:
    """Row 51: failed at once as a serialization error, never tried again, and its slot is free."""
    [job] = shop.after_work(shop.returns.enqueue(what))
    assert (job.state, job.reason, job.attempt, job.result) == ("failed", "serialization", 1, None)
    assert ended(shop, job).errors[0]["kind"] == "serialization"


def test_text_that_is_none_is_kept_as_it_can_be(shop: Shop) -> None:
    """Row 10: a result exactly; lines and progress with what is no text spelled out."""
    [job] = shop.after_work(shop.speaks.enqueue())
    assert job.result == "a\ud800b\x00c\x1b[2J"
    assert [text for _, text in job.log] == ["a\\ud800b\\x00c\x1b[2J"]
    assert job.progress is not None and job.progress.text == job.log[0][1]


def test_a_stored_call_that_does_not_fit_fails_at_once(shop: Shop) -> None:
    """Row 50: whoever lacks the code may store it; the record shows the signature."""
    with Jobcard(shop.jobs.settings.url) as sender:
        wrong = [sender.enqueue("shop.pair", [1, 2]), sender.enqueue("shop.pair", [1], {"rigth": 2})]
    for job in shop.after_work(*wrong):
        assert (job.state, job.reason, job.attempt) == ("failed", "bad_call", 1)
        assert "shop.pair(left: int, *, right: int)" in ended(shop, job).errors[0]["message"]


def test_a_stored_name_imports_nothing(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rows 48 and 49: a name that nobody declared is parked, whatever it means elsewhere; what is behind it runs."""
    trace = tmp_path_factory.mktemp("trace") / "made"
    names = ["os:system", "os.system", "builtins.eval", "builtins:exec", "__import__", "../x", "antigravity", "shop"]
    with Jobcard(shop.jobs.settings.url) as sender:
        bad = [sender.enqueue(name, [f"touch {trace}"]) for name in names]
    behind = shop.echo.enqueue("behind")
    *parked, job = shop.after_work(*bad, behind)
    assert job.state == "completed"
    for job in parked:
        assert (job.state, job.hold, job.attempt, job.errors) == ("waiting", "parked", 0, [])
        assert shop.jobs.explain(job.id)[0].code == "unknown_name"
    assert not trace.exists()


def test_a_job_that_enqueues_itself_without_end_leaves_room_for_others(shop: Shop) -> None:
    """Row 81: it is allowed, counted, and takes its turns behind the jobs that came before."""
    first = shop.again.enqueue(60)
    others = [shop.echo.enqueue(n) for n in range(20)]
    jobs = shop.after_work(first, *others)
    assert {job.state for job in jobs} == {"completed"}
    ends = [job.finished_at for job in shop.jobs.iterate(name="shop.again")]
    assert len(ends) == 61
    assert max(job.finished_at for job in jobs[1:]) < max(ends)  # type: ignore[type-var]
