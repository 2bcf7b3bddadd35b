"""What an application still has to see to when a worker has run its last job: there is a moment for it, and no more."""

from __future__ import annotations

import signal
import sys
from textwrap import dedent
from typing import Any

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until

APP = """
    import os
    import time
    from pathlib import Path

    from jobcard import Jobcard

    jobs = Jobcard(start_method=os.environ.get("METHOD", "auto"))

    @jobs.job
    def alone() -> int:
        return os.getpid()

    @jobs.job(isolation="fresh")
    def fresh() -> int:
        return os.getpid()

    @jobs.job
    async def beside() -> int:
        return os.getpid()

    def note(what: str) -> None:
        Path(__file__).with_name(f"{os.getpid()}.{what}").touch()
"""
GOOD = """
    def broken() -> None:
        raise LookupError("of the application")

    jobs.parts.hooks.add_farewell(broken)
    jobs.parts.hooks.add_farewell(lambda: note("bye"))
"""
HANGS = """
    def hang() -> None:
        note("begun")
        time.sleep(600)

    jobs.parts.hooks.add_farewell(hang)
"""


def start(lab: Lab, monkeypatch: pytest.MonkeyPatch, farewells: str, **env: str) -> tuple[Any, Any]:
    """An engine of this application, which is imported here too."""
    (lab.folder / "leaving.py").write_text(dedent(APP) + dedent(farewells))
    monkeypatch.syspath_prepend(str(lab.folder))
    monkeypatch.delitem(sys.modules, "leaving", raising=False)
    app = __import__("leaving")
    app.jobs.configure(lab.url)
    return app, lab.start("leaving", env=env)


def pids_of(lab: Lab, what: str) -> set[int]:
    return {int(path.stem) for path in lab.folder.glob(f"*.{what}")}


@pytest.mark.parametrize("method", ["template", "spawn"])
def test_every_worker_says_farewell(lab: Lab, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """One that ends after its only job at once, the others when their engine stops; one that fails keeps none back."""
    app, tree = start(lab, monkeypatch, GOOD, METHOD=method)
    fresh = app.fresh.enqueue().result(timeout=30)
    wait_until(lambda: fresh in pids_of(lab, "bye"), "the farewell of the fresh worker")
    others = {app.alone.enqueue().result(timeout=30), app.beside.enqueue().result(timeout=30)}
    assert not others & pids_of(lab, "bye")
    assert tree.stop() == 0
    assert others <= pids_of(lab, "bye")
    lab.wait_gone()


def test_a_farewell_that_hangs_does_not_hold_up_a_stop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker ends without it, and the engine as it would have."""
    app, tree = start(lab, monkeypatch, HANGS)
    worker = app.alone.enqueue().result(timeout=30)
    assert tree.stop() == 0
    assert worker in pids_of(lab, "begun")
    lab.wait_gone()


def test_a_second_order_to_stop_waits_for_no_farewell(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in a hurry says so."""
    app, tree = start(lab, monkeypatch, HANGS)
    worker = app.alone.enqueue().result(timeout=30)
    tree.signal(signal.SIGTERM)
    wait_until(lambda: worker in pids_of(lab, "begun"), "the worker to begin its farewell")
    tree.signal(signal.SIGTERM)
    assert tree.wait() == 130
    lab.wait_gone()
