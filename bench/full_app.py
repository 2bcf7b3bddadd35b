"""The application of full_store.py: one job that does nothing."""

import os

from jobcard import Jobcard

jobs = Jobcard(os.environ.get("JOBCARD_BENCH_URL"))


@jobs.job(name="bench.nothing")
def nothing() -> None:
    """Return at once."""
