"""`python -m insistent JOBS`: enqueue short jobs ten at a time, with ids of its own, until each is acknowledged.

It repeats what may not have been stored, as an application should that must not lose a job.
"""

from __future__ import annotations

import sys
from uuid import UUID

from load import hardy, jobs

from checker.history import History
from jobcard import EnqueueUnknownError
from jobcard.core.ids import IdSource


def main() -> None:
    history, ids = History(), IdSource()
    for _ in range(int(sys.argv[1]) // 10):
        ten = ids.take(10)
        for job_id in ten:
            history.write("enq-invoke", job_id.hex())
        calls = [hardy.options(id=UUID(bytes=job_id)).call(0.01) for job_id in ten]
        while True:
            try:
                jobs.enqueue_many(calls)
                break
            except EnqueueUnknownError:
                for job_id in ten:
                    history.write("enq-unknown", job_id.hex())
        for job_id in ten:
            history.write("enq-ok", job_id.hex())


if __name__ == "__main__":
    main()
