"""`jobs.start()` from many processes at once: one engine, and another one when its process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import ConfigError, Jobcard
from jobcard.core.reference import AppReference
from jobcard.engine import once

SCRIPT = """
    import os, signal, sys
    from jobcard import Jobcard

    jobs = Jobcard(sys.argv[1], stop_timeout=5, lease=30, heartbeat=4)

    @jobs.job
    def where() -> int:
        return os.getppid()

    if __name__ == "__main__":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
        jobs.start(another="another" in sys.argv)
        jobs.start()
        print("started", *[engine.keeper_pid for engine in jobs.engines.list()], flush=True)
        if "fork" in sys.argv and os.fork() == 0:
            jobs.stop()
            print("forked", flush=True)
            signal.sigwait([signal.SIGUSR2])
            os._exit(0)
        signal.sigwait([signal.SIGUSR1])
        jobs.stop()
        print("stopped", flush=True)
        signal.sigwait([signal.SIGUSR2])
"""


class Servers:
    """Processes of one application, as a web server would have them, each beginning with `jobs.start()`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.script = lab.folder / "shop.py"
        self.script.write_text(dedent(SCRIPT))
        (lab.folder / "run").mkdir(mode=0o700)
        paths = [str(lab.folder), lab.environment()["PYTHONPATH"]]
        self.env = {"XDG_RUNTIME_DIR": str(lab.folder / "run"), "PYTHONPATH": os.pathsep.join(paths)}
        self.client = Jobcard(lab.url)

    def begin(self, *words: str, url: str | None = None) -> subprocess.Popen[bytes]:
        """One more of them, that may be starting still."""
        return self.lab.python(str(self.script), url or self.lab.url, *words, env=self.env)

    def keepers(self) -> set[int]:
        """The keepers of the engines that live."""
        return {engine.keeper_pid for engine in self.client.engines.list() if engine.keeper_pid is not None}

    def other_keeper(self, than: int) -> int:
        """Wait until one more engine than this keeper's takes jobs; its keeper."""
        [other] = wait_until(lambda: _there(self.keepers() - {than}), "another engine")
        return other


def _there(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def line(process: subprocess.Popen[bytes]) -> list[str]:
    """The next line it prints, in words."""
    assert process.stdout is not None
    return process.stdout.readline().decode().split()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def servers(lab: Lab) -> Any:
    servers = Servers(lab)
    yield servers
    servers.client.close()


def test_many_at_once_start_one_engine(servers: Servers) -> None:
    """All calls return with an engine there, and it is the same one."""
    processes = [servers.begin() for _ in range(6)]
    lines = [line(process) for process in processes]
    assert {words[0] for words in lines} == {"started"}
    assert len({tuple(words[1:]) for words in lines}) == 1 and len(lines[0]) == 2
    [keeper] = servers.keepers()
    assert parent_of(keeper) in [process.pid for process in processes]
    assert servers.client.enqueue("shop.where").result(timeout=30) in [
        engine.pid for engine in servers.client.engines.list()
    ]


def test_when_the_process_of_the_engine_dies_another_starts_one(servers: Servers) -> None:
    """Those who stand by take its place, one of them, again and again; jobs go on."""
    processes = {process.pid: process for process in [servers.begin() for _ in range(3)]}
    for process in processes.values():
        assert line(process)[0] == "started"
    [keeper] = servers.keepers()
    for _ in range(2):
        owner = processes.pop(parent_of(keeper))
        owner.kill()
        keeper = servers.other_keeper(keeper)
        assert parent_of(keeper) in processes
        assert servers.client.enqueue("shop.where").result(timeout=30)
    assert len(_there(servers.keepers())) == 1


def test_stop_ends_what_is_ours_only(servers: Servers) -> None:
    """Who stands by stops standing by; who has the engine stops it, and another takes its place."""
    first = servers.begin()
    assert line(first)[0] == "started"
    second, third = servers.begin(), servers.begin()
    assert line(second)[0] == line(third)[0] == "started"
    [keeper] = servers.keepers()
    assert parent_of(keeper) == first.pid
    second.send_signal(signal.SIGUSR1)
    assert line(second) == ["stopped"]
    assert servers.keepers() == {keeper}
    first.send_signal(signal.SIGUSR1)
    assert line(first) == ["stopped"]
    assert parent_of(servers.other_keeper(keeper)) == third.pid
    third.send_signal(signal.SIGUSR1)
    assert line(third) == ["stopped"]
    assert servers.keepers() == set()


def test_one_file_by_two_paths_is_one_store(servers: Servers) -> None:
    """What counts is the store itself, not how it is called; a store of its own has an engine of its own."""
    (servers.lab.folder / "below").mkdir()
    first = servers.begin(url="sqlite:///jobs.db")
    assert len(words := line(first)) == 2
    second = servers.begin(url="sqlite:///below/../jobs.db")
    assert line(second) == words
    third = servers.begin(url="sqlite:///other.db")
    assert line(third)[1] not in words


def test_another_is_always_one_more(servers: Servers) -> None:
    """`another=True` asks nobody, and ends with its own process."""
    first = servers.begin()
    assert len(line(first)) == 2
    second = servers.begin("another")
    assert len(line(second)) == 3
    second.send_signal(signal.SIGUSR1)
    assert line(second) == ["stopped"]
    assert [parent_of(keeper) for keeper in servers.keepers()] == [first.pid]


def test_a_forked_child_holds_nothing(servers: Servers) -> None:
    """`stop()` there does nothing, and when its parent dies the engine's place is free although the child lives."""
    parent = servers.begin("fork")
    assert line(parent)[0] == "started"
    assert line(parent) == ["forked"]
    [keeper] = servers.keepers()
    assert parent_of(keeper) == parent.pid
    waiting = servers.begin()
    assert line(waiting) == ["started", str(keeper)]
    parent.kill()
    assert parent_of(servers.other_keeper(keeper)) == waiting.pid


def test_a_foreground_engine_is_seen(servers: Servers) -> None:
    """`jobs.run()` always runs, and who calls `start()` then stands by."""
    code = "import sys; sys.argv[:] = ['shop.py', sys.argv[1]]; import shop; shop.jobs.run()"
    run = servers.lab.python("-c", code, servers.lab.url, env=servers.env)
    [keeper] = wait_until(servers.keepers, "its engine")
    beside = servers.begin()
    assert line(beside) == ["started", str(keeper)]
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 0
    assert parent_of(servers.other_keeper(keeper)) == beside.pid


def test_when_it_cannot_be_started_everybody_hears_why(servers: Servers) -> None:
    """Nobody waits for an engine that will not come."""
    servers.script.write_text(
        dedent(SCRIPT).replace(
            'if __name__ == "__main__":', 'if __name__ != "__main__":\n    raise RuntimeError("sour")\nelse:'
        )
    )
    processes = [servers.begin() for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert b"ConfigError" in (said := process.stdout.read()) and b"sour" in said
        assert process.wait(60) == 1


# ------------------------------------------------------------------ the lock itself


class TestPlace:
    REFERENCE = AppReference("shop", None, "jobs")

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = tmp_path / "run"
        self.runtime.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(self.runtime))

    def test_one_has_it_until_the_last_holder_closes_it(self) -> None:
        """Whoever inherited it keeps it; then the next one gets it, and finds no old signature."""
        path = once.find_place("id", self.REFERENCE)
        place = once.try_place(path)
        assert place is not None
        assert once.keeper_at(path) is None
        assert once.try_place(path) is None
        heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[place.fd])
        place.sign(heir.pid)
        place.leave()
        place.leave()
        assert once.keeper_at(path) == heir.pid
        assert once.try_place(path) is None
        heir.communicate(b"\n")
        again = once.try_place(path)
        assert again is not None and once.keeper_at(path) is None
        again.leave()

    def test_of_many_threads_one_gets_it(self) -> None:
        """The lock belongs to the open file, so threads of one process exclude each other too."""
        path = once.find_place("id", self.REFERENCE)
        barrier = threading.Barrier(8)
        found: list[once.Place | None] = []

        def take() -> None:
            barrier.wait()
            found.append(once.try_place(path))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [place] = [place for place in found if place is not None]
        place.leave()

    def test_what_counts_is_store_and_code(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A script is the same started and imported; another store, another attribute, another release is another."""
        script = tmp_path / "shop.py"
        script.write_text("jobs = None")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        __import__("shop")
        place = once.find_place("id", self.REFERENCE)
        assert once.find_place("id", AppReference(None, str(script), "jobs")) == place
        assert once.find_place("id", AppReference("shop", None, "jobs", ("more",))) == place
        others = {
            once.find_place("other", self.REFERENCE),
            once.find_place("id", AppReference("shop", None, "queue")),
            once.find_place("id", AppReference(None, str(tmp_path / "v2" / "shop.py"), "jobs")),
        }
        assert len(others | {place}) == 4

    def test_its_directory_is_for_this_user_alone(self) -> None:
        """Mode 0700, made when it is missing."""
        path = once.find_place("id", self.REFERENCE)
        assert path.parent == self.runtime / "jobcard"
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_without_a_runtime_directory_it_is_a_temporary_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when $XDG_RUNTIME_DIR names one that is not ours alone."""
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        for runtime in (None, str(tmp_path / "missing"), str(temporary)):
            if runtime is None:
                monkeypatch.delenv("XDG_RUNTIME_DIR")
            else:
                monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
            assert once.find_place("id", self.REFERENCE).parent == temporary / f"jobcard-{os.getuid()}"

    @pytest.mark.parametrize("how", ["link", "open", "file", "dangling"])
    def test_a_directory_of_somebody_else_is_refused(self, tmp_path: Path, how: str) -> None:
        """A symbolic link, others' access, or a file in its place: `ConfigError`, and nothing is touched."""
        place = self.runtime / "jobcard"
        elsewhere = tmp_path / "elsewhere"
        if how == "open":
            place.mkdir(mode=0o700)
            place.chmod(0o750)
        elif how == "file":
            place.touch()
        else:
            if how == "link":
                elsewhere.mkdir(mode=0o700)
            place.symlink_to(elsewhere)
        with pytest.raises(ConfigError, match="mode 0700"):
            once.find_place("id", self.REFERENCE)
        assert not elsewhere.exists() or not list(elsewhere.iterdir())

    def test_a_link_in_place_of_the_lock_is_refused(self, tmp_path: Path) -> None:
        """What it points to is not opened, let alone emptied."""
        path = once.find_place("id", self.REFERENCE)
        (tmp_path / "precious").write_text("data")
        path.symlink_to(tmp_path / "precious")
        with pytest.raises(ConfigError):
            once.try_place(path)
        assert (tmp_path / "precious").read_text() == "data"
