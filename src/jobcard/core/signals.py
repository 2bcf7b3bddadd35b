"""What a job raises to steer itself. Returning one works too, but then the annotation of the result is wrong.

They are `BaseException`s, so that a broad `except Exception` in the job's own code lets them pass.
"""

from __future__ import annotations

from datetime import timedelta

from jobcard.core import limits


class JobSignal(BaseException):
    """The root of what a job raises to say how it wants to end."""


class Retry(JobSignal):
    """Spend this attempt and run again, after `delay` or, when that is None, as the job's back-off says.

    delay: seconds or a timedelta, kept as microseconds.
    """

    def __init__(self, reason: str, delay: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.delay = None if delay is None else limits.check_delay(delay)


class Snooze(JobSignal):
    """Run again after `delay` without spending the attempt.

    delay: seconds or a timedelta, kept as microseconds.
    """

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(delay)
        self.delay = limits.check_delay(delay)


class Fail(JobSignal):
    """End as failed now, however many attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


class Cancel(JobSignal):
    """End as canceled now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


class Told(Cancel):
    """Raised in a running job when its engine tells it to end; to the job it is a `Cancel`."""
