"""Jobs that misbehave, each in its own way, and healthy ones beside them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from checker.history import History
from jobcard import Backoff, Jobcard, JobContext

jobs = Jobcard()
history = History()
SOON = Backoff.fixed(0.05)
MIB = 1 << 20


@jobs.job(backoff=SOON)
def healthy(ctx: JobContext) -> int:
    """A job like any other."""
    with history.run(ctx):
        return ctx.token


@jobs.job(max_attempts=1)
def exits(code: int) -> None:
    """End the process behind our back."""
    print("last words")
    os._exit(code)


@jobs.job(max_attempts=1)
def segfaults() -> None:
    """Read from address 0."""
    print("before the fault")
    ctypes.string_at(0)


@jobs.job(max_attempts=1)
def aborts() -> None:
    """What a failed assertion in C does."""
    os.abort()


@jobs.job(max_attempts=1)
def is_killed(number: int) -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), number)
    time.sleep(60)


@jobs.job(max_attempts=1, timeout=1)
def loops() -> None:
    """Never end, in Python."""
    while True:
        pass


@jobs.job(max_attempts=1, timeout=2)
def loops_in_c() -> None:
    """Never end, in C code that holds the interpreter's lock."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@jobs.job(max_attempts=1, timeout=1)
def is_stubborn() -> None:
    """Never end, and hear no signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


@jobs.job(max_attempts=1, memory_limit=128 * MIB, timeout=60)
def hogs_memory() -> None:
    """Take ever more memory, by the page."""
    hoard = []
    for _ in range(40):
        hoard.append(os.urandom(16 * MIB))
        time.sleep(0.05)
    time.sleep(60)


@jobs.job(max_attempts=1)
def raises(what: str) -> None:
    """Raise what is no `Exception`."""
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "BaseException": BaseException("odd"),
    }[what]


class Mute(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@jobs.job(max_attempts=1)
def raises_mute() -> None:
    """Raise an error whose text cannot be had."""
    raise Mute


@jobs.job(max_attempts=1)
def recurses() -> Any:
    """Call itself until Python stops it."""
    return recurses()


@jobs.job(max_attempts=1, timeout=20)
def closes_descriptors() -> str:
    """Close everything, the way to the engine too."""
    os.closerange(0, 65_536)
    return "closed"


@jobs.job(max_attempts=1, timeout=20)
def writes_junk() -> str:
    """Write what nobody understands to everything that takes it."""
    for link in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            # The histories are the only evidence of what happened.
            if link.readlink().suffix != ".log":
                os.write(int(link.name), b"\xff\x00junk" * 1000)
    return "written"


@jobs.job(max_attempts=1, timeout=60)
def prints_much(dies: bool) -> str:
    """Print 10 MiB, a line at a time."""
    for number in range(10 * MIB // 64):
        print(f"{number:>63}")
    sys.stdout.flush()
    if dies:
        print("the end of it", end="", flush=True)
        os._exit(1)
    return "printed"


@jobs.job(max_attempts=1)
def forks(own_session: bool, dies: bool) -> int:
    """Start 20 processes that would outlive it."""
    for _ in range(20):
        subprocess.Popen(["sleep", "600"], start_new_session=own_session)
    if dies:
        os._exit(1)
    return os.getpid()


@jobs.job
def leaves_behind(path: str, gate: str | None) -> int:
    """Leave a process in the background, its id in a file, and go on until another file is there."""
    subprocess.run(f"sleep 600 & echo $! > {path}.new && mv {path}.new {path}", shell=True, check=True)
    while gate is not None and not Path(gate).exists():
        time.sleep(0.005)
    return os.getpid()


@jobs.job(max_attempts=1)
def returns(what: str) -> Any:
    """Return what cannot be stored."""
    return {"NaN": float("nan"), "object": object(), "huge": "x" * (2 * MIB), "surrogate": "\ud800"}[what]


@jobs.job(backoff=SOON, max_attempts=10, max_crashes=3)
def poison() -> None:
    """Crash at every try."""
    os._exit(9)


@jobs.job
def pid() -> int:
    """Which process runs jobs."""
    return os.getpid()


@jobs.job(isolation="fresh")
def fresh_pid() -> int:
    """The same, in a process of its own."""
    return os.getpid()


@jobs.job(isolation="fresh")
def leaves_a_mess() -> int:
    """Change what the next job in the same process would see."""
    os.environ["LEFT_BEHIND"] = "1"
    os.chdir("/")
    sys.path.clear()
    return os.getpid()


@jobs.job
def sees_a_mess() -> list[Any]:
    """What an earlier job left."""
    return [os.environ.get("LEFT_BEHIND"), str(Path.cwd()), len(sys.path) > 0]
