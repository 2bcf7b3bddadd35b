"""Between engine and server the network breaks, and jobs neither wait for it nor suffer. More of it: test_load.py."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from checker.history import is_alive
from checker.lab import Lab
from helpers.places import SERVERS_BY_DAY, Place
from helpers.proxy import Proxy
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

Far = tuple[Lab, Proxy, Place]

HOLE_SECONDS = 5.0
RECOVER_SECONDS = 50.0  # ten are promised
FAR_SECONDS = 60.0
HEARD_SECONDS = 20.0  # far less than the engine's poll_interval
TOLD_SECONDS = 0.5


def after(seconds: float) -> None:
    """Wait until the clock says so: how long the network is away is what these tests set."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "the time")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("far", SERVERS_BY_DAY, indirect=True)
def test_timeouts_and_kills_do_not_wait_for_a_store_that_hangs(far: Far) -> None:
    """For five seconds nothing comes through: a job's time is up in its midst, and its process ends then."""
    lab, proxy, place = far
    app = lab.app("load")
    tree = lab.start("load")
    late = app.nap.options(timeout=2.0, max_attempts=1).enqueue(600.0)
    short = app.nap.enqueue(1.5)
    begins = wait_until(lambda: e if len(e := lab.events("run-begin")) == 2 else None, "two running jobs")
    proxy.blackhole()
    hole = time.monotonic()
    [runner] = [event.process for event in begins if event.facts[0] == late.id.hex]
    wait_until(lambda: not is_alive(runner), "the end of the job whose time is up", interval=0.002)
    ended = time.monotonic() - hole
    wait_until(lambda: lab.events("run-end"), "the end of the short job")
    after(HOLE_SECONDS - (time.monotonic() - hole))
    proxy.heal()
    healed = time.monotonic()
    assert short.result(timeout=RECOVER_SECONDS) == 1
    settled = time.monotonic() - healed
    lab.wait_for(app, lambda n: n["failed"] == 1, "the timeout to be known", timeout=RECOVER_SECONDS)
    assert late.refresh().reason == "timeout"
    assert app.note.enqueue().result(timeout=RECOVER_SECONDS) == 1
    print(f"{place.kind}: killed {ended:.2f} s into the hole, settled {settled:.2f} s after it")
    assert ended < HOLE_SECONDS
    assert tree.stop() == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("far", SERVERS_BY_DAY, indirect=True)
def test_an_engine_that_is_stopped_does_not_wait_for_a_store_that_hangs(far: Far) -> None:
    """SIGTERM in a hole: the engine ends when its time is up, and what it held is run by another one."""
    lab, proxy, place = far
    app = lab.app("load")
    lab.environment()
    tree = lab.start("load", "--stop-timeout", "6", "--lease", "6", "--heartbeat", "1")
    [handle] = lab.enqueue(app, [app.until.call(str(lab.folder / "gate"))])
    wait_until(lambda: lab.events("run-begin"), "a running job")
    proxy.blackhole()
    began = time.monotonic()
    tree.stop(timeout=40)
    seconds = time.monotonic() - began
    lab.wait_gone()
    proxy.heal()
    Path(lab.folder / "gate").touch()
    other = lab.start("load", "--lease", "6", "--heartbeat", "1")
    assert handle.result(timeout=60) >= 2
    print(f"{place.kind}: ended {seconds:.2f} s after SIGTERM in a hole")
    assert seconds < 12
    assert other.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("far", SERVERS_BY_DAY, indirect=True)
def test_an_engine_works_with_a_server_that_is_far_away(far: Far) -> None:
    """Each way takes 50 ms: all is slower, and nothing is taken for broken."""
    lab, proxy, place = far
    app = lab.app("load")
    proxy.delay(0.05)
    tree = lab.start("load")
    began = time.monotonic()
    lab.enqueue(app, [app.note.call() for _ in range(100)])
    lab.drained(app, timeout=FAR_SECONDS)
    print(f"{place.kind}: 100 jobs in {time.monotonic() - began:.2f} s")
    assert tree.stop() == 0
    assert "store." not in tree.errors
    assert lab.figures().faults == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "trouble", [*(pytest.param(t, marks=pytest.mark.long) for t in ("reset", "refuse")), "blackhole"]
)
@pytest.mark.parametrize("far", SERVERS_BY_DAY, indirect=True)
def test_an_engine_hears_of_new_jobs_again_when_the_network_is_back(far: Far, trouble: str) -> None:
    """Connections are cut, refused or hang for three seconds: wake-ups come again, and nobody span meanwhile."""
    lab, proxy, place = far
    app = lab.app("listening")
    tree = lab.start("listening")
    assert app.echo.enqueue(1).result(timeout=30) == 1
    engine = psutil.Process(tree.engine())
    before = sum(engine.cpu_times()[:2])
    getattr(proxy, trouble)()
    after(3.0)
    used = sum(engine.cpu_times()[:2]) - before
    proxy.heal()
    healed = time.monotonic()
    number = 1

    def pick_up() -> float:
        nonlocal number
        number += 1
        asked = time.monotonic()
        assert app.echo.enqueue(number).result(timeout=HEARD_SECONDS) == number
        return time.monotonic() - asked

    first = pick_up()
    # The engine asks once a second as well; what it takes in less it was told of.
    wait_until(lambda: pick_up() < TOLD_SECONDS, "a wake-up", timeout=HEARD_SECONDS)
    heard = time.monotonic() - healed
    later = sorted(pick_up() for _ in range(9))[4]
    print(
        f"{place.kind}, {trouble}: {used:.2f} s of work in three seconds of trouble; "
        f"a job after {first:.3f} s, wake-ups heard after {heard:.2f} s, then after {later:.3f} s"
    )
    assert later < TOLD_SECONDS
    assert used < 1.5
    assert tree.stop() == 0
