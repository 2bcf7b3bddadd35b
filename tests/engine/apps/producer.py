"""`python -m producer JOBS BATCH`: enqueue no-op jobs in batches, each acknowledged with a line."""

from __future__ import annotations

import sys

from load import jobs, note

from checker.history import History


def main() -> None:
    history = History()
    left, batch = int(sys.argv[1]), int(sys.argv[2])
    while left > 0:
        handles = jobs.enqueue_many([note.call() for _ in range(min(batch, left))])
        for handle in handles:
            history.write("enq-ok", handle.id.hex)
        print(len(handles), flush=True)
        left -= len(handles)


if __name__ == "__main__":
    main()
