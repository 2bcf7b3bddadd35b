"""How a try ended, as the engine hears it, turned into the job's next move.

Two sources: what a worker says of a job that did not simply return (`Ended`), and what is known of a worker
process that died under one (`Exit`). `core/states.py` has the moves; here it is decided which.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from jobcard.core import limits, states
from jobcard.core.job import Claimed
from jobcard.core.retry import Backoff
from jobcard.engine.held import Told
from jobcard.workers.messages import Exit, Why


class Ended(NamedTuple):
    """A worker's word on a job that did not simply return.

    kind: error, retry, snooze, fail, cancel, told, serialization, bad_call or unknown_name.
    told: it was told to end, and that is what ended it.
    delay: microseconds until the next try; None: as the back-off says.
    error: {type, message, traceback, output}. error_kind: what to group it by.
    """

    kind: str
    reason: str | None
    delay: int | None
    error: dict[str, Any] | None
    error_kind: str | None


def error_text(error: dict[str, Any]) -> str:
    """A try's record as stored JSON text."""
    return json.dumps(error, ensure_ascii=True, separators=(",", ":"))


def _recorded(claim: Claimed, kind: str, error: dict[str, Any] | None) -> str:
    return _written(claim.attempt, kind, error or {})


def _written(attempt: int, kind: str, error: dict[str, Any]) -> str:
    empty = {"type": None, "message": "", "traceback": None, "exit_code": None, "signal": None, "output": None}
    return error_text({"attempt": attempt, "kind": kind, **empty, **error})


def error_of_dependency(why: str) -> str:
    """Why a job that waited for others was canceled, as a try that never began."""
    return _written(0, "cancel", {"message": why})


def delay_of(claim: Claimed, random: Callable[[], float]) -> int:
    """The stored back-off's delay after the try that just failed."""
    return Backoff.from_text(claim.backoff).delay_before(claim.attempt, random)


_UNDONE = frozenset({"error", "retry", "snooze", "unknown_name"})
"""Ends after which a job would run again."""


def change_for(claim: Claimed, ended: Ended, *, random: Callable[[], float], told: Told | None = None) -> states.Change:
    """The move of a job whose worker said how it ended. told: what it had been told by then.

    A told job that comes to an end of its own (it returned, failed on purpose, asked to be canceled) has it. One that
    was told that it is canceled, or that its time is up, does not run again for an error that this made it raise.
    """
    kind = ended.kind
    if told is not None and (kind == "told" or (told.why in (Why.CANCEL, Why.TIMEOUT) and kind in _UNDONE)):
        return _as_told(claim, told, ended.error, random)
    if kind == "snooze":
        return states.snooze(claim, delay=ended.delay or 0)
    if kind == "unknown_name":
        return states.park(claim)
    record = _recorded(claim, kind, ended.error)
    if kind in ("cancel", "told"):
        return states.cancel_at_work(claim, reason=ended.reason or "canceled", error=record)
    if kind in ("error", "retry"):
        delay = delay_of(claim, random) if ended.delay is None else ended.delay
        return states.retry(claim, reason=kind, delay=delay, error=record, kind=ended.error_kind)
    # fail, serialization, bad_call: trying again would end the same way.
    return states.fail(claim, reason=kind, error=record, kind=ended.error_kind)


def _as_told(claim: Claimed, told: Told, error: dict[str, Any] | None, random: Callable[[], float]) -> states.Change:
    message = _TOLD[told.why].format(timeout=(claim.timeout or 0) / 1e6, reason=told.reason)
    error = {**(error or {}), "message": (error or {}).get("message") or message}
    if told.why == Why.CANCEL:
        return states.cancel_at_work(claim, reason=told.reason, error=_recorded(claim, "cancel", error))
    if told.why == Why.TIMEOUT:
        return _timed_out(claim, _recorded(claim, "timeout", {**error, "message": message}), random)
    return states.interrupt(claim, error=_recorded(claim, "lost", {**error, "message": message}))


def _timed_out(claim: Claimed, record: str, random: Callable[[], float]) -> states.Change:
    group = f"timeout in {claim.name}"
    return states.retry(claim, reason="timeout", delay=delay_of(claim, random), error=record, kind=group)


def change_for_death(
    claim: Claimed, why: str, exit: Exit, *, random: Callable[[], float], told: Told | None = None
) -> states.Change:
    """The move of a job whose worker process died. told: what it had been told by then.

    why: crash, memory, timeout, cancel, stop or lost; suspect: it ran beside others when the process crashed;
    neighbour: the process was killed for another job. Whoever was told that it is canceled has been.
    """
    if told is not None and told.why == Why.CANCEL:
        why = told.why
    message = _DEATHS[why].format(timeout=(claim.timeout or 0) / 1e6, status=status_of(exit))
    if why == "lost" and exit.is_lost:
        message = "the worker process ended with the template that it was forked from"
    record = _recorded(claim, _KINDS.get(why, why), _death(message, exit))
    if why == "timeout":
        return _timed_out(claim, record, random)
    if why in ("crash", "memory"):
        return states.crash(
            claim, reason=why, delay=delay_of(claim, random), error=record, kind=f"{why} in {claim.name}"
        )
    if why == "cancel":
        return states.cancel_at_work(claim, reason="canceled" if told is None else told.reason, error=record)
    if why == "suspect":
        return states.suspect(claim, error=record)
    return states.interrupt(claim, error=record)


def error_of_lost_engine(claim: Claimed) -> str:
    """The record of a try whose whole engine is gone."""
    return _recorded(claim, "lost", {"message": f"the engine that held this job ({claim.claimed_by}) is gone"})


def error_of_refused_outcome(claim: Claimed, why: str) -> str:
    """The record of a try whose outcome the store could not keep."""
    return _recorded(claim, "serialization", {"type": "StoreError", "message": f"the store refused the outcome: {why}"})


_TOLD: dict[str, str] = {
    Why.CANCEL: "canceled: {reason}",
    Why.STOP: "the engine stopped before the job had ended",
    Why.LOST: "the engine could not renew its claim",
    Why.TIMEOUT: "not finished after its timeout of {timeout:g} s",
}
_DEATHS: dict[str, str] = {
    "crash": "the worker process ended with {status} while running this job",
    "suspect": "the worker process ended with {status} while running this job and others",
    "timeout": "not finished after its timeout of {timeout:g} s; killed",
    "memory": "over its memory limit; killed",
    "cancel": "canceled while running; killed",
    "stop": "the engine stopped before the job had ended",
    "lost": "the engine could not renew its claim; killed",
    "neighbour": "its worker was killed for another job that did not end when it was told to",
}
_KINDS = {"stop": "lost", "neighbour": "lost", "suspect": "crash"}  # what the record of the try says


def _death(message: str, exit: Exit) -> dict[str, Any]:
    return {
        "message": message,
        "exit_code": exit.code if exit.code is not None and exit.code >= 0 else None,
        "signal": _signal_name(exit.code),
        "output": exit.output[-limits.MAX_OUTPUT :],
    }


def _signal_name(code: int | None) -> str | None:
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def status_of(exit: Exit) -> str:
    """How a process ended, in words."""
    if exit.code is None:
        return "an unknown status"
    return _signal_name(exit.code) or f"exit code {exit.code}"
