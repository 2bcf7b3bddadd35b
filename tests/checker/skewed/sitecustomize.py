"""A clock that can be set: Python reads the wall time of a host whose clock somebody stepped.

First on PYTHONPATH, with $CHECKER_CLOCK naming a file that holds how many seconds it is wrong by. The clock that counts
on, which deadlines are kept by, is not touched, as on a real host.
"""

import os
import time

_path = os.environ.get("CHECKER_CLOCK")
_true_ns, _true = time.time_ns, time.time


def _wrong_by() -> float:
    try:
        with open(_path) as file:  # type: ignore[arg-type]  # noqa: PTH123 - small, and asked often
            return float(file.read() or 0)
    except OSError:
        return 0.0


if _path is not None:
    time.time_ns = lambda: _true_ns() + int(_wrong_by() * 1_000_000_000)
    time.time = lambda: _true() + _wrong_by()
