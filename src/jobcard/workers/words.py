"""How a job ended, in words for the engine: what it raised, told apart, described, and of bounded size."""

from __future__ import annotations

import os
import random
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from jobcard.core import limits
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.core.signals import Cancel, Fail, Retry, Snooze, Told

MAX_REASON = 1_000  # characters of what a job says about its own end

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep


def unknown_name(claim: Claimed) -> dict[str, Any]:
    """This application has no job of that name."""
    return {"kind": "unknown_name", "reason": claim.name, "delay": None, "error": None, "error_kind": None}


def ended_by(error: BaseException, definition: JobDefinition, claim: Claimed, *, heard: bool = False) -> dict[str, Any]:
    """What the job raised. heard: it knew that it was told to end."""
    if _is_told(error, heard):
        return word("told", definition, claim, error=error, reason=_reason_of(error))
    if isinstance(error, Snooze):
        return word("snooze", definition, claim, delay=error.delay)
    if isinstance(error, Cancel):
        return word("cancel", definition, claim, reason=error.reason)
    if isinstance(error, Fail):
        return word("fail", definition, claim, error=error, reason=error.reason)
    if isinstance(error, Retry) and error.delay is not None:
        return word("retry", definition, claim, error=error, reason=error.reason, delay=error.delay)
    said = word("retry" if isinstance(error, Retry) else "error", definition, claim, error=error)
    backoff = definition.options.backoff
    if backoff.is_custom:  # any other policy is stored with the job, and the engine reads it there
        said["delay"], problem = backoff.custom_delay(claim.attempt, random.random)
        if problem is not None:
            said["error"]["message"] += f" ({problem})"
    return said


def _is_told(error: BaseException, heard: bool) -> bool:
    """Whether this is how a job ends that was told to; nobody told it: its own `Cancel`, or an ordinary error."""
    if isinstance(error, Told):
        return True
    if not heard:
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(_is_told(each, heard) for each in error.exceptions)
    asyncio = sys.modules.get("asyncio")  # a job that never imported it raises nothing of it
    return isinstance(error, Cancel) or (asyncio is not None and isinstance(error, asyncio.CancelledError))


def _reason_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.reason if isinstance(error, Cancel) else str(error)


def word(
    kind: str,
    definition: JobDefinition,
    claim: Claimed,
    *,
    error: BaseException | None = None,
    reason: str | None = None,
    delay: int | None = None,
) -> dict[str, Any]:
    """What `messages.ENDED` carries."""
    reason = None if reason is None else cut(reason, MAX_REASON)
    said: dict[str, Any] = {"kind": kind, "reason": reason, "delay": delay, "error": None, "error_kind": None}
    if error is not None:
        said["error"] = describe(error)
        said["error_kind"] = f"{type(error).__name__} in {definition.name}"
    if kind == "cancel":
        said["error"] = {"type": "Cancel", "message": reason, "traceback": None}
    elif kind == "told":
        # The traceback says where it was. To the job it is a Cancel, whatever was raised.
        said["error"] = {**said["error"], "type": "Cancel", "message": reason}
        said["error_kind"] = None
    return said


def describe(error: BaseException) -> dict[str, Any]:
    """An error as text of bounded size; calls nothing of the error's own without a guard."""
    cls = type(error)
    name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except BaseException as worse:
        message = f"<its __str__ raised {type(worse).__name__}>"
    try:
        trace = "".join(traceback.format_exception(cls, error, _own_frames(error.__traceback__), limit=50))
    except BaseException as worse:
        trace = f"<no traceback: {type(worse).__name__} while formatting it>"
    return {
        "type": name[:200],
        "message": cut(message, 8 << 10),
        "traceback": cut(trace, limits.MAX_ERROR_TEXT - (9 << 10)),
    }


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where the job's own code begins; all of it when the job's code is not in it."""
    frame = trace
    while frame is not None and _is_beneath(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame or trace


def _is_beneath(filename: str) -> bool:
    """Whether this is what runs a job: our own files, and of the standard library what we call it with."""
    return filename.startswith(_OURS) or filename in _RUNNERS


_RUNNERS = tuple(
    str(Path(os.__file__).with_name("asyncio") / name) for name in ("runners.py", "base_events.py", "threads.py")
)


def cut(text: str, most: int) -> str:
    """At most so many characters: head and tail, the gap marked; what is no text is spelled out."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()
