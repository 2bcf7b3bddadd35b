"""The server itself is killed in mid-run: whatever was acknowledged is there, and engines go on by themselves."""

from __future__ import annotations

import time

import pytest

from checker.lab import Lab
from helpers.places import Place
from helpers.waiting import wait_until

AWAY_SECONDS = 2.0
CLAIM_AGAIN_SECONDS = 50.0  # ten are promised
JOBS = 3_000


def boottime() -> float:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server_killed_in_mid_run_loses_nothing(own: Place, own_lab: Lab) -> None:
    """SIGKILL under load, two seconds of nothing, a new start: no acknowledged job is lost, none runs twice."""
    lab, server = own_lab, own.server
    assert server is not None
    app = lab.app("load")
    trees = [lab.start("load") for _ in range(2)]
    producer = lab.python("-m", "patient", str(JOBS))
    lab.wait_for(app, lambda n: n["completed"] >= JOBS // 4, "some jobs")
    acknowledged = {event.facts[0] for event in lab.events("enq-ok")}
    server.kill()
    away = time.monotonic() + AWAY_SECONDS
    wait_until(lambda: time.monotonic() > away, "the end of the pause")
    up = boottime()
    server.start()
    begins = wait_until(
        lambda: [at for event in lab.events("run-begin") if (at := event.at / 1e9) > up],
        "a claim",
        timeout=CLAIM_AGAIN_SECONDS,
    )
    assert producer.wait(100) == 0
    lab.drained(app, timeout=100)
    assert all(tree.stop() == 0 for tree in trees)
    lab.wait_gone()
    figures = lab.figures()
    print(
        f"{own.kind}: {len(acknowledged)} acknowledged before the kill; "
        f"claims again after {min(begins) - up:.2f} s; {figures}"
    )
    assert figures.faults == {}, figures
    assert figures.jobs == JOBS
    assert {row.id for row in lab.stored().rows} >= acknowledged


@pytest.mark.timeout(240)
def test_engines_that_find_no_server_wait_for_it(own: Place, own_lab: Lab) -> None:
    """An engine that dies while the server is away is started anew until it is there, and then takes jobs."""
    lab, server = own_lab, own.server
    assert server is not None
    app = lab.app("load")
    tree = lab.start("load")
    handle = app.note.options(delay=1.0).enqueue()
    lab.history.write("enq-ok", handle.id.hex)
    first = tree.engine()
    server.kill()
    tree.kill_engine()
    wait_until(lambda: tree.errors.count("starting another") >= 2, "an engine that found no server")
    assert tree.find_engine() != first
    up = time.monotonic()
    server.start()
    lab.drained(app, timeout=CLAIM_AGAIN_SECONDS)
    print(f"{own.kind}: done {time.monotonic() - up:.2f} s after the server came back")
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
