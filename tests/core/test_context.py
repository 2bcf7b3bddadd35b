"""What a job sees of itself, without an engine."""

from __future__ import annotations

import uuid

import pytest

from jobcard.core.codec import Codec
from jobcard.core.context import JobContext, as_text
from jobcard.core.ids import IdSource, follow_up_id
from jobcard.core.job import Claimed
from jobcard.core.signals import Cancel, Told
from jobcard.errors import ConfigError, InvalidJobError


class FakeLine:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.said: list[object] = []

    def told(self) -> str | None:
        return self.reason

    def progress(self, value: float, text: str | None) -> None:
        self.said.append((value, text))

    def log(self, text: str) -> None:
        self.said.append(text)

    def save(self, checkpoint: str) -> None:
        self.said.append(checkpoint)

    async def save_async(self, checkpoint: str) -> None:
        self.said.append(checkpoint)

    def follow_up(self, call: object) -> None:
        self.said.append(call)


def a_context(line: FakeLine | None, checkpoint: str | None = None) -> JobContext:
    claim = Claimed(**{**dict.fromkeys(Claimed._fields, 0), "name": "noop", "checkpoint": checkpoint})
    return JobContext(claim, Codec(), line=line)


def test_a_job_is_told_with_a_reason() -> None:
    """A `Cancel` to the job, told apart by whoever runs it."""
    line = FakeLine()
    ctx = a_context(line)
    assert (ctx.cancelled, ctx.cancel_reason) == (False, None)
    ctx.raise_if_cancelled()
    line.reason = ""
    assert (ctx.cancelled, ctx.cancel_reason) == (True, "")
    with pytest.raises(Cancel) as raised:
        ctx.raise_if_cancelled()
    assert isinstance(raised.value, Told)


def test_a_checkpoint_comes_back_as_it_was() -> None:
    """None at first; each look gives a value of its own; after a save the new one."""
    assert a_context(FakeLine()).checkpoint is None
    ctx = a_context(FakeLine(), checkpoint='{"at": [1, 2]}')
    ctx.checkpoint["at"].append(3)
    assert ctx.checkpoint == {"at": [1, 2]}
    ctx.save_checkpoint((1, uuid.UUID(int=7)))
    assert ctx.checkpoint == (1, uuid.UUID(int=7))


def test_a_checkpoint_that_was_not_stored_is_not_there() -> None:
    """The one before stays."""

    class Broken(FakeLine):
        def save(self, checkpoint: str) -> None:
            raise ConfigError("no")

    ctx = a_context(Broken(), checkpoint="1")
    with pytest.raises(ConfigError):
        ctx.save_checkpoint(2)
    assert ctx.checkpoint == 1


@pytest.mark.parametrize("value", [-1, 1.001, float("nan"), "1", None, True, [0]])
def test_what_is_no_progress_is_refused(value: object) -> None:
    """Numbers from 0 to 1."""
    line = FakeLine()
    with pytest.raises(InvalidJobError):
        a_context(line).progress(value)  # type: ignore[arg-type]
    assert not line.said


def test_after_its_end_nothing_is_said() -> None:
    """`ConfigError`, and the same without an engine at all."""
    ended = a_context(FakeLine())
    ended.end()
    for ctx in (ended, a_context(None)):
        with pytest.raises(ConfigError):
            ctx.log("late")
        with pytest.raises(ConfigError):
            _ = ctx.cancelled
        assert ctx.attempt == 0


def test_text_is_what_every_store_can_keep() -> None:
    """Bounded, and nothing in it that some store refuses."""
    assert as_text("a\0\ud800é", 10) == "a\\x00\\ud800é"
    assert as_text("x" * 11, 10) == "x" * 9 + "…"
    assert as_text(5, 10) == "5"


def test_ids_of_follow_ups_are_made_from_their_parents() -> None:
    """The same at every try, different by place and parent, a UUIDv7 of the parent's moment."""
    parent, other = IdSource().take(2)
    made = {follow_up_id(job, place) for job in (parent, other) for place in range(1_000)}
    assert len(made) == 2_000
    assert follow_up_id(parent, 7) == follow_up_id(parent, 7)
    for job_id in made:
        as_uuid = uuid.UUID(bytes=job_id)
        assert (as_uuid.version, as_uuid.variant) == (7, uuid.RFC_4122)
    assert follow_up_id(parent, 0)[:6] == parent[:6]
