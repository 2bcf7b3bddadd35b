"""`jobcard jobs replay`: a stored call run once more, without a trace in the store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from answers import complaint, listed, succeeded
from terminal import on_terminal

from helpers.apps import App

LAB = """
    import asyncio, dataclasses, sys
    from jobcard import Cancel, Jobcard, JobClass, JobContext

    jobs = Jobcard()

    @dataclasses.dataclass
    class Sample:
        number: int

    @jobs.job
    def doubles(sample: Sample) -> int:
        print("doubling", sample.number)
        return 2 * sample.number

    @jobs.job
    def sees(ctx: JobContext) -> list:
        return [str(ctx.job.id), ctx.attempt, ctx.job.tags]

    @jobs.job
    def notes(ctx: JobContext) -> bool:
        ctx.progress(0.5, "half")
        ctx.log("a line")
        ctx.save_checkpoint({"row": 3})
        ctx.then(doubles.call(Sample(1)))
        ctx.raise_if_cancelled()
        return ctx.cancelled

    @jobs.job
    async def waits() -> str:
        await asyncio.sleep(0)
        return "waited"

    @jobs.job
    class Report(JobClass):
        def __init__(self, region: str) -> None:
            self.region = region

        def run(self, day: int) -> str:
            return f"{self.region}-{day}"

    @jobs.job
    def breaks(number: int) -> float:
        wanted = number - 7
        return 1 / wanted

    @jobs.job
    def gives_up() -> None:
        raise Cancel("not today")

    @jobs.job
    def leaves() -> None:
        sys.exit(5)

    @jobs.job
    def unstorable() -> object:
        return object()
"""
FILL = """
    from lab import *

    if __name__ == "__main__":
        doubles.enqueue(Sample(21))
        sees.options(tags=["a"]).enqueue()
        notes.enqueue()
        waits.enqueue()
        Report.with_("eu").enqueue(3)
        breaks.enqueue(7)
        gives_up.enqueue()
        leaves.enqueue()
        unstorable.enqueue()
        jobs.enqueue("lab.gone", strict=False)
"""


@pytest.fixture
def lab(bare: App) -> App:
    """A directory with a job of each kind waiting."""
    bare.write("lab.py", LAB)
    bare.write("fill.py", FILL)
    assert (filled := bare.python("fill.py")).code == 0, filled.err
    return bare


def job_id(app: App, name: str) -> str:
    (job,) = listed(app, "--name", f"lab.{name}")
    return str(job["id"])


def replay(app: App, name: str) -> dict[str, Any]:
    """What came of a replay; the stored jobs are as they were."""
    before = listed(app)
    ran = app.jobcard("jobs", "replay", job_id(app, name), "--app", "lab", "--json")
    assert listed(app) == before
    answer: dict[str, Any] = json.loads(ran.out)
    assert ran.code == (0 if answer["ok"] else 1)
    assert "Traceback" not in ran.err
    return answer


class TestReplay:
    def test_the_real_arguments(self, lab: App) -> None:
        """Rebuilt as a worker would; what the job prints does not stand in the answer."""
        answer = replay(lab, "doubles")
        assert (answer["name"], answer["result"], answer["error"]) == ("lab.doubles", 42, None)

    def test_its_context(self, lab: App) -> None:
        """The job sees its own record, and the attempt it would have."""
        assert replay(lab, "sees")["result"] == [job_id(lab, "sees"), 1, ["a"]]

    def test_what_it_notes_is_shown_and_not_kept(self, lab: App) -> None:
        """Progress, log lines, checkpoints and follow-ups go to standard error."""
        ran = succeeded(lab.jobcard("jobs", "replay", job_id(lab, "notes"), "--app", "lab", "--json"))
        assert json.loads(ran.out)["result"] is False
        assert ran.err.splitlines() == [
            "progress: 50% half",
            "log: a line",
            "checkpoint: {'row': 3}",
            "then: lab.doubles",
        ]
        assert replay(lab, "notes")["ok"]

    def test_coroutines_and_classes(self, lab: App) -> None:
        """All that can be a job."""
        assert replay(lab, "waits")["result"] == "waited"
        assert replay(lab, "Report")["result"] == "eu-3"

    @pytest.mark.parametrize(
        ("name", "kind", "message"),
        [
            ("breaks", "ZeroDivisionError", "division by zero"),
            ("gives_up", "Cancel", "not today"),
            ("leaves", "SystemExit", "5"),
            ("unstorable", "jobcard.errors.SerializationError", "the result"),
        ],
    )
    def test_one_that_fails_is_told(self, name: str, kind: str, message: str, lab: App) -> None:
        """Exit code 1, and why, as the record of a failed job would have it."""
        error = replay(lab, name)["error"]
        assert error["type"] == kind
        assert message in error["message"]

    def test_people_see_the_result_or_the_traceback(self, lab: App) -> None:
        """The traceback begins in the job's own code."""
        ran = succeeded(lab.jobcard("jobs", "replay", job_id(lab, "doubles"), "--app", "lab.py"))
        assert ran.out == "doubling 21\n42\n"
        ran = lab.jobcard("jobs", "replay", job_id(lab, "breaks"), "--app", "lab:jobs")
        assert (ran.code, ran.out) == (1, "")
        first, place, *_, last = ran.err.splitlines()
        assert first == "Traceback (most recent call last):"
        assert "lab.py" in place
        assert last.endswith("with ZeroDivisionError: division by zero")

    def test_jobs_that_have_ended_too(self, shop: App) -> None:
        """A failed one is replayed to see why; it stays failed."""
        (failed,) = listed(shop, "--state", "failed")
        ran = shop.jobcard("jobs", "replay", failed["id"], "--app", "shop", "--json")
        assert json.loads(ran.out)["error"]["type"] == "ValueError"
        assert listed(shop, "--state", "failed") == [failed]

    def test_what_is_not_there(self, lab: App) -> None:
        """No such job, or no code for it: exit code 4. No application: 2."""
        unknown = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"
        assert unknown in complaint(lab.jobcard("jobs", "replay", unknown, "--app", "lab"), 4)
        assert "lab.gone" in complaint(lab.jobcard("jobs", "replay", job_id(lab, "gone"), "--app", "lab"), 4)
        assert "--app" in complaint(lab.jobcard("jobs", "replay", unknown), 2)


class TestDebugger:
    def test_it_opens_where_the_job_raised(self, lab: App) -> None:
        """Its variables can be looked at."""
        ran = on_terminal(
            lab,
            *("jobs", "replay", job_id(lab, "breaks"), "--app", "lab", "--pdb"),
            columns=80,
            until="(Pdb)",
            answer="p 'wanted is', wanted\nquit\n",
        )
        assert ran.code == 1
        assert "('wanted is', 0)" in ran.out

    def test_it_needs_a_terminal(self, lab: App) -> None:
        """Without one the job is not even run."""
        ran = lab.jobcard("jobs", "replay", job_id(lab, "breaks"), "--app", "lab", "--pdb")
        assert "terminal" in complaint(ran, 2)
