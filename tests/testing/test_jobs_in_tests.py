"""What a job does with its context under test: notes, checkpoints, follow-ups, and the hooks around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobcard import Backoff, ClaimLostError, Jobcard, JobContext, JobFailedError


@pytest.fixture
def jobs() -> Iterator[Jobcard]:
    with Jobcard("sqlite:///never-opened.db") as client:
        yield client


@pytest.mark.parametrize("mode", ["manual", "inline"])
def test_what_a_job_says_of_itself_is_stored(jobs: Jobcard, mode: Any) -> None:
    """Progress, log lines and checkpoints are there afterwards; the next try finds the checkpoint."""
    seen: list[Any] = []

    @jobs.job(max_attempts=2, backoff=Backoff.fixed(60))
    def index(ctx: JobContext) -> str:
        seen.append(ctx.checkpoint)
        ctx.progress(0.5, "half")
        ctx.log(f"try {ctx.attempt}")
        ctx.save_checkpoint({"row": 7})
        assert not ctx.cancelled
        if ctx.attempt == 1:
            raise ValueError("no")
        ctx.progress(1)
        return "done"

    with jobs.testing(mode) as t:
        handle = index.enqueue()
        t.drain(with_scheduled=True)
        job = handle.refresh()
        assert (job.state, job.checkpoint) == ("completed", {"row": 7})
        assert job.progress is not None and (job.progress.value, job.progress.text) == (1.0, None)
        with jobs.parts.connection as store:
            assert [line.text for line in store.log_lines([handle.id.bytes])] == ["try 1", "try 2"]
    assert seen == [None, {"row": 7}]


@pytest.mark.parametrize("mode", ["manual", "inline"])
def test_follow_ups_come_with_success_only(jobs: Jobcard, mode: Any) -> None:
    """What a job asked for by `ctx.then` is stored when it has completed, and then run like any other."""
    ran: list[str] = []

    @jobs.job
    def note(word: str) -> str:
        ran.append(word)
        return word

    @jobs.job(max_attempts=2, backoff=Backoff.fixed(0))
    def build(ctx: JobContext) -> None:
        ctx.then(note.call("after"))
        if ctx.attempt == 1:
            raise ValueError("no")

    @jobs.job
    async def build_async(ctx: JobContext) -> None:
        ctx.then(note.call("after async"))
        await ctx.save_checkpoint_async(1)

    with jobs.testing(mode) as t:
        parent = build.enqueue()
        build_async.enqueue()
        t.drain()
        assert sorted(ran) == ["after", "after async"]
        [child] = jobs.list(name=note.name, args=["after"])
        assert child.parent_id == parent.id
        assert jobs.count(name=note.name).completed == 2


def test_a_checkpoint_of_a_job_that_was_taken_is_refused(jobs: Jobcard) -> None:
    """As when another engine has it by now."""

    @jobs.job(max_attempts=1)
    def late(ctx: JobContext) -> None:
        with jobs.parts.connection as store:
            row = store.get([ctx.job.id.bytes])[0]
            from jobcard.core.states import Change, JobState

            taken = Change(verb="take", sources=frozenset({JobState(row.state)}), target=JobState.WAITING, takes=True)
            store.apply_by_operator(row.id, taken)
        with pytest.raises(ClaimLostError):
            ctx.save_checkpoint(1)
        raise ValueError("gone")

    with jobs.testing("inline"):
        handle = late.enqueue()
        assert handle.refresh().checkpoint is None


@pytest.mark.parametrize("mode", ["manual", "inline"])
def test_hooks_wrap_the_runs(jobs: Jobcard, mode: Any) -> None:
    """`before_enqueue` and `around_run` act as they do with an engine."""
    said: list[str] = []

    @jobs.before_enqueue
    def tag(enqueuing: Any) -> None:
        enqueuing.options["tags"] = ["hooked"]

    @jobs.around_run
    @contextmanager
    def around(ctx: JobContext) -> Iterator[None]:
        said.append("in")
        try:
            yield
        finally:
            said.append("out")

    @jobs.job(max_attempts=1)
    def fail() -> None:
        said.append("run")
        raise ValueError("no")

    with jobs.testing(mode) as t:
        handle = fail.enqueue()
        t.drain()
        assert handle.refresh().tags == ("hooked",)
        with pytest.raises(JobFailedError):
            handle.result()
    assert said == ["in", "run", "out"]
