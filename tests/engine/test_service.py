"""An engine as a service: what systemd hears, what a closed terminal does, and life as process 1 of a container."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from last_words import SHORT_LEASE, freeze_under_load, until_handed_back

from checker.lab import Lab, Tree
from helpers.waiting import wait_until
from jobcard.engine.notify import ServiceManager

pytestmark = pytest.mark.turns

NAMESPACE = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")
AT_ONCE_SECONDS = 10.0  # two are promised
STOP_SECONDS = 25.0


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.address)

    def hear(self, timeout: float = 30.0) -> str | None:
        """The next words; None when nothing came for so long."""
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(4096).decode()
        except TimeoutError:
            return None

    def hear_until(self, wanted: Callable[[str], bool]) -> str:
        """Skip words until these; the test fails when none come any more."""
        while True:
            word = self.hear()
            assert word is not None, "nothing more was said"
            if wanted(word):
                return word


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.sock.close()


# ------------------------------------------------------------------ systemd


def test_ready_and_stopping_are_told_to_systemd(lab: Lab, manager: Manager) -> None:
    """With $NOTIFY_SOCKET the service manager hears READY=1, a status line, and STOPPING=1 at the first signal."""
    tree = lab.start("load", env={"NOTIFY_SOCKET": manager.address})
    assert manager.hear() == "READY=1"
    assert (manager.hear() or "").startswith("STATUS=engine ")
    tree.signal(signal.SIGTERM)
    assert manager.hear() == "STOPPING=1\nSTATUS=stopping"
    assert tree.wait() == 0


@pytest.mark.slow
def test_the_watchdog_is_fed_while_the_engine_lives(lab: Lab, manager: Manager) -> None:
    """WATCHDOG=1 every half of the time allowed; nothing while the engine is frozen, and again when it thaws."""
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    tree = lab.start("load", env=env)
    for _ in range(5):
        manager.hear_until(lambda word: word == "WATCHDOG=1")
    engine = tree.engine()
    os.kill(engine, signal.SIGSTOP)
    beats = 0
    while (word := manager.hear(timeout=4.0)) is not None:  # eight times the distance of two beats
        beats += word == "WATCHDOG=1"
        assert beats < 20, "a frozen engine counts as alive"
    os.kill(engine, signal.SIGCONT)
    manager.hear_until(lambda word: word == "WATCHDOG=1")
    assert tree.engine() == engine
    assert tree.stop() == 0


def test_a_status_says_that_another_engine_is_started(lab: Lab, manager: Manager) -> None:
    """READY=1 is said once; the status tells of an engine that ended and of the next one."""
    tree = lab.start("load", env={"NOTIFY_SOCKET": manager.address})
    first = manager.hear_until(lambda word: "takes jobs" in word)
    tree.kill_engine()
    assert "SIGKILL" in (manager.hear() or "")
    second = manager.hear() or ""
    assert "takes jobs" in second and second != first
    assert tree.stop() == 0


def test_words_to_the_manager(manager: Manager) -> None:
    """A word is one line whatever stands in it, and a watchdog for another process is not fed by us."""
    address = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000"}
    ours = ServiceManager({**address, "WATCHDOG_PID": "7"}, 7)
    ours.say("STATUS=two\nREADY=1 lines", "READY=1")
    assert manager.hear() == "STATUS=two READY=1 lines\nREADY=1"
    ours.beat(100.0, alive=99.5)
    assert (manager.hear(), ours.next_beat()) == ("WATCHDOG=1", 102.0)
    ours.beat(101.0, alive=101.0)
    ours.beat(102.0, alive=90.0)
    assert ours.next_beat() == 104.0
    others = ServiceManager({**address, "WATCHDOG_PID": "8"}, 7)
    nobody = ServiceManager({"WATCHDOG_USEC": "4000000"}, 7)
    for quiet in (others, nobody):
        assert quiet.next_beat() == float("inf")
        quiet.beat(200.0, alive=200.0)
    nobody.say("READY=1")
    assert manager.hear(timeout=0.01) is None


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    """A socket that nobody reads, or that is not there, costs a word and nothing else."""
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}, 1).say("READY=1")
    ServiceManager({"NOTIFY_SOCKET": "@jobcard-nobody-listens"}, 1).say("READY=1")


# ------------------------------------------------------------------ a closed terminal


def test_hangups_are_one_gentle_stop(lab: Lab) -> None:
    """SIGHUP stops it as SIGTERM does, and another one does not make it hurry: the running jobs complete."""
    app = lab.app("load")
    tree = lab.start("load")
    handles = lab.enqueue(app, [app.until.call(str(lab.folder / "gate")) for _ in range(2)])
    lab.wait_for(app, lambda n: n["running"] == 2, "two running jobs")
    tree.signal(signal.SIGHUP)
    tree.wait_stopping()
    tree.signal(signal.SIGHUP)
    tree.signal(signal.SIGHUP)
    (lab.folder / "gate").touch()
    assert tree.wait() == 0
    assert [handle.refresh().state for handle in handles] == ["completed"] * 2


def test_a_hangup_is_ignored_under_nohup(lab: Lab) -> None:
    """Who started it to outlive the terminal gets that."""
    app = lab.app("load")
    tree = lab.start("load", prefix=("nohup",))
    tree.signal(signal.SIGHUP)
    assert app.note.enqueue().result(timeout=30) == 1
    assert tree.stop() == 0


# ------------------------------------------------------------------ process 1


@pytest.fixture(scope="module")
def namespace() -> tuple[str, ...]:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here to make a process 1 with")
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"a process namespace is not permitted here: {tried.stderr.strip()}")
    return NAMESPACE


def first_process(tree: Tree) -> psutil.Process:
    """The keeper, which is process 1 of its own world, as we see it."""
    [keeper] = psutil.Process(tree.process.pid).children()
    assert "NSpid:" not in _status(keeper.pid) or _status(keeper.pid).split("NSpid:")[1].split()[1] == "1"
    return keeper


def engines(keeper: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in keeper.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # an orphan that has been ended meanwhile
            if "jobcard.engine.engine" in " ".join(child.cmdline()):
                found.append(child)
    return found


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@pytest.mark.slow
def test_as_process_1_a_stop_under_load_leaves_nobody(lab: Lab, namespace: tuple[str, ...]) -> None:
    """SIGTERM to process 1 at work: what runs may end, exit 0 within the budget, and nothing is left."""
    app = lab.app("load")
    tree = lab.start("load", prefix=namespace)
    lab.enqueue(app, [app.nap.call(0.5) for _ in range(4)])
    keeper = first_process(tree)
    [engine] = engines(keeper)
    freeze_under_load(lab, app, engine.pid)
    keeper.send_signal(signal.SIGTERM)
    engine.resume()
    signaled = time.monotonic()
    assert tree.wait() == 0
    print(f"process 1 stopped under load after {time.monotonic() - signaled:.3f} s")
    assert time.monotonic() - signaled < STOP_SECONDS
    lab.wait_gone()
    counts = app.jobs.count()
    assert counts["claimed"] + counts["running"] == 0
    assert counts["waiting"], "the load was too small for this test"


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_as_process_1_a_second_signal_ends_it_at_once(lab: Lab, namespace: tuple[str, ...], first: int) -> None:
    """The second signal: exit 130, though a job would run on."""
    app = lab.app("load")

    def end() -> list[UUID]:
        tree = lab.start("load", *SHORT_LEASE, prefix=namespace)
        [handle] = lab.enqueue(app, [app.until.call(str(lab.folder / "gate"))])
        lab.wait_for(app, lambda n: n["running"] == 1, "a running job")
        keeper = first_process(tree)
        keeper.send_signal(first)
        tree.wait_stopping()
        assert tree.process.poll() is None
        keeper.send_signal(first)
        signaled = time.monotonic()
        assert tree.wait() == 130
        print(f"process 1 ended {time.monotonic() - signaled:.3f} s after the second signal")
        assert time.monotonic() - signaled < AT_ONCE_SECONDS
        lab.wait_gone()
        return [handle.id]

    until_handed_back(lab, app, end)


@pytest.mark.slow
def test_as_process_1_it_reaps_what_has_lost_its_parent(lab: Lab, namespace: tuple[str, ...]) -> None:
    """Processes that jobs left behind are ended and reaped: no zombie stays."""
    app = lab.app("rough")
    tree = lab.start("rough", prefix=namespace)
    keeper = first_process(tree)
    for _ in range(3):
        handle = app.forks.enqueue(True, True)
        wait_until(lambda handle=handle: handle.refresh().state == "failed", "its end")  # type: ignore[misc]
    engine = engines(keeper)
    wait_until(lambda: keeper.children() == engine, "the end of sixty orphans")
    keeper.send_signal(signal.SIGTERM)
    assert tree.wait() == 0
    lab.wait_gone()
