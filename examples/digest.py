"""A digest of what was noted, every few seconds: a schedule that makes up for what it missed.

    python digest.py note "first"       write something down
    jobcard start digest:jobs           makes a digest every two seconds, while there is something new
    jobcard schedules list --url sqlite:///digest.db
    jobcard schedules pause digest --url sqlite:///digest.db

The notes and the digests are lines of two files, so that you can look.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from jobcard import Jobcard, JobContext

jobs = Jobcard("sqlite:///digest.db")
NOTES, DIGESTS = Path("notes.txt"), Path("digests.txt")


@jobs.job(name="digest.make", max_attempts=3)
def make(ctx: JobContext, longest: int = 80) -> int:
    """All that was noted since the last digest, on one line that names the tick it was made for."""
    seen = sum(int(line.split()[1]) for line in DIGESTS.read_text().splitlines()) if DIGESTS.exists() else 0
    new = NOTES.read_text().splitlines()[seen:] if NOTES.exists() else []
    if new:
        with DIGESTS.open("a") as file:
            file.write(f"{ctx.job.scheduled_for:%H:%M:%S} {len(new)} {'; '.join(new)[:longest]}\n")
    return len(new)


# A second digest beside a slow one would note the same lines: overlap="skip" is what a schedule does by itself.
jobs.schedule("digest", timedelta(seconds=2), make, kwargs={"longest": 60})


if __name__ == "__main__" and sys.argv[1:2] == ["note"]:
    with NOTES.open("a") as file:
        file.write(" ".join(sys.argv[2:]) + "\n")
