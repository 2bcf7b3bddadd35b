"""Jobs of an engine that looks for itself only once a minute: what it takes sooner it was told of."""

from __future__ import annotations

from jobcard import Jobcard

jobs = Jobcard(poll_interval=60)


@jobs.job
def echo(number: int) -> int:
    """The number again."""
    return number
