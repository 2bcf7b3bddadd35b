"""Whom a keeper kills with whom, when it ends what runs below an engine that must live on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from helpers.waiting import wait_until
from jobcard.engine import keeper

# A process in a group of its own, with a child that has not made one yet, as between fork and its first step.
ENGINE = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
print("alive", flush=True)
sys.stdin.readline()
"""


def test_a_child_that_is_still_in_the_engines_group_takes_no_engine_with_it() -> None:
    """A thawed engine starts workers while its keeper still ends everything below it."""
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert engine.stdout is not None
    try:
        child = int(engine.stdout.readline())
        assert os.getpgid(child) == engine.pid
        keeper._kill_group(child, spared=engine.pid)
        assert engine.stdout.readline() == "alive\n"
        assert engine.poll() is None
        keeper._kill_group(engine.pid)
        wait_until(lambda: engine.poll() == -signal.SIGKILL, "the end of the engine")
    finally:
        engine.kill()
        engine.communicate()
