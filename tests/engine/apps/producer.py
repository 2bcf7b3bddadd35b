"""`python -m producer JOBS BATCH [SECONDS]`: enqueue jobs in batches, each acknowledged with a line.

They do nothing, or for so many seconds.
"""

from __future__ import annotations

import sys

from load import jobs, nap, note

from checker.history import History


def main() -> None:
    history = History()
    left, batch = int(sys.argv[1]), int(sys.argv[2])
    call = nap.call(float(sys.argv[3])) if len(sys.argv) > 3 else note.call()
    while left > 0:
        handles = jobs.enqueue_many([call for _ in range(min(batch, left))])
        for handle in handles:
            history.write("enq-ok", handle.id.hex)
        print(len(handles), flush=True)
        left -= len(handles)


if __name__ == "__main__":
    main()
