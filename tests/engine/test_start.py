"""How an engine begins: ready when it can work, clear when it cannot, and as the settings say."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import apsw
import psutil
import pytest
import redis

from checker.lab import Lab
from checker.stored import read_store
from helpers.servers import KINDS, OwnServer
from helpers.waiting import wait_until
from jobcard import ConfigError, Jobcard, StoreError

APP = """
    import os
    from jobcard import Jobcard, Queue

    jobs = Jobcard({url!r}, queues=[Queue("mail")], lease=30, heartbeat=2, max_concurrent_jobs=2, stop_timeout=3)

    @jobs.job
    def where() -> list[str]:
        return [os.getcwd(), os.environ.get("FLAVOUR", "")]

    @jobs.job(queue="mail")
    def send() -> int:
        return os.getpid()
"""


def write(lab: Lab, source: str, name: str = "small.py", **values: Any) -> Path:
    """A module of an application in the directory engines are started in."""
    path = lab.folder / name
    path.write_text(dedent(source).format(**values))
    return path


def use(monkeypatch: pytest.MonkeyPatch, lab: Lab, name: str = "small") -> Any:
    """Import it here, as the application's own process would."""
    monkeypatch.syspath_prepend(str(lab.folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


def failed_start(lab: Lab, app: str, *options: str) -> tuple[int, str]:
    """The exit code of a start that must fail, and what it says."""
    tree = lab.start(app, *options, ready=False)
    code = tree.wait()
    lab.wait_gone()
    return code, tree.errors


# ------------------------------------------------------------------ ready


def test_ready_means_that_jobs_are_taken(lab: Lab) -> None:
    """The line that begins with `ready` names the engine, and what is enqueued then is run."""
    app = lab.app("load")
    tree = lab.start("load")
    [line] = [line for line in tree.errors.splitlines() if line.startswith("ready")]
    assert str(tree.engine()) in line
    assert app.note.enqueue().result(timeout=30) == 1
    assert tree.stop() == 0


def test_what_was_enqueued_before_is_run_first(lab: Lab) -> None:
    """An engine that starts on a full store begins with the oldest jobs."""
    app = lab.app("load")
    handles = lab.enqueue(app, [app.note.call() for _ in range(100)])
    tree = lab.start("load")
    assert [handle.result(timeout=30) for handle in handles] == [1] * 100
    assert tree.stop() == 0
    assert lab.figures().faults == {}


# ------------------------------------------------------------------ settings


def test_the_command_line_overrules_the_application(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jobcard start` says comes before what the code says; the rest is as the code says."""
    other = f"sqlite:///{lab.folder}/other.db"
    write(lab, APP, url=f"sqlite:///{lab.folder}/of-the-code.db")
    use(monkeypatch, lab)
    tree = lab.start("small", "--url", other, "--heartbeat", "1", "--queues", "mail", env={"FLAVOUR": "mint"})
    with Jobcard(other) as client:
        engines = wait_until(lambda: (found := client.engines.list()) and found[0].queues and found, "its queues")
        [engine] = engines
        assert engine.queues == ("mail",)
        assert (engine.pid, engine.keeper_pid) == (tree.engine(), tree.keeper)
        assert engine.id in tree.errors
        now = datetime.now(UTC)
        assert now - timedelta(minutes=2) < engine.started_at <= engine.heartbeat_at <= now + timedelta(seconds=2)
        sent = client.enqueue("small.send", queue="mail")
        where = client.enqueue("small.where")
        assert sent.result(timeout=30) in [worker.pid for worker in tree.workers()]
        assert where.refresh().state == "waiting"  # nobody serves its queue
        assert tree.stop() == 0
    assert not (lab.folder / "of-the-code.db").exists()


def test_without_a_word_the_application_decides(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store, queues and limits come from the code; directory and environment from where it was started."""
    write(lab, APP, url=lab.url)
    module = use(monkeypatch, lab)
    tree = lab.start("small", env={"JOBCARD_URL": f"sqlite:///{lab.folder}/unused.db", "FLAVOUR": "mint"})
    assert module.where.enqueue().result(timeout=30) == [str(lab.folder), "mint"]
    assert set(module.jobs.queues.names()) == {"default", "mail"}
    module.jobs.close()
    assert tree.stop() == 0
    assert not (lab.folder / "unused.db").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lease", "3"], "six times"),  # beside the application's heartbeat of 2 s
        (["--heartbeat", "6"], "six times"),
        (["--lease", "3", "--heartbeat", "1"], "six times"),
        (["--queues", "a b"], "a b"),
        (["--url", "nosuch://host"], "nosuch"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    """A setting out of bounds, also together with the application's own, is a usage error in one line."""
    write(lab, APP, url=lab.url)
    code, said = failed_start(lab, "small", *options)
    assert code == 2
    assert says in said
    assert "Traceback" not in said


# ------------------------------------------------------------------ what cannot start


BROKEN = {
    "a missing module": (None, ["nosuch_app"], "nosuch_app"),
    "a syntax error": ("jobs = (\n", ["SyntaxError"], "line 1"),
    "an error at import": ("x = 1\n\nraise RuntimeError('no luck')\n", ["RuntimeError", "no luck"], "line 3"),
    "no Jobcard": ("jobs = 3\n", ["jobs"], ""),
    "an import of what is not there": ("import os\nimport nosuch_package\n", ["nosuch_package"], "line 2"),
    "an exit at import": ("import sys\nsys.exit(4)\n", ["SystemExit"], "line 2"),
    "a crash at import": ("import os\nprint('so far')\nos._exit(7)\n", ["ended with exit code 7 while importing"], ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_application_that_cannot_be_imported_is_named_with_its_line(lab: Lab, name: str) -> None:
    """Exit code 2, the error with file and line, no traceback, and nobody left behind."""
    source, words, place = BROKEN[name]
    app = "nosuch_app"
    if source is not None:
        app = "broken"
        (lab.folder / "broken.py").write_text(source)
    code, said = failed_start(lab, app)
    assert code == 2, said
    assert all(word in said for word in words), said
    assert place in said, said
    if "line" in place:
        assert "broken.py" in said
    assert "Traceback" not in said


def test_a_file_that_is_no_store_is_refused_untouched(lab: Lab) -> None:
    """An engine ends with one line and the file as it was when its store is something else."""
    text = b"this is no database, but a text that is long enough to be one" * 100
    (lab.folder / "no.db").write_bytes(text)
    code, said = failed_start(lab, "load", "--url", f"sqlite:///{lab.folder}/no.db")
    assert code in (2, 3), said
    assert "not a SQLite database" in said
    assert "Traceback" not in said
    assert (lab.folder / "no.db").read_bytes() == text


def test_a_store_of_a_newer_jobcard_is_refused(lab: Lab) -> None:
    """A schema newer than the code: exit code 3, and the jobs stay as they are."""
    app = lab.app("load")
    handle = app.note.enqueue()
    connection = apsw.Connection(str(lab.file))
    connection.execute("update jobcard_meta set value = value + 1000 where key = 'schema'")
    changes = connection.changes()
    connection.close()
    assert changes == 1
    code, said = failed_start(lab, "load")
    assert code == 3, said
    assert "newer" in said
    assert "Traceback" not in said
    assert [row.state for row in read_store(lab.file).rows if row.id == handle.id.hex] == ["waiting"]


def test_an_application_that_breaks_later_is_retried_until_it_is_whole(lab: Lab, monkeypatch: Any) -> None:
    """When new workers cannot import the application any more the engine says where, waits, and goes on by itself."""
    # Workers of a template would go on with the application as it was.
    spawning = APP.replace("stop_timeout=3", "stop_timeout=3, start_method='spawn'")
    write(lab, spawning, url=lab.url)
    module = use(monkeypatch, lab)
    tree = lab.start("small")
    engine = tree.engine()
    first = module.send.enqueue().result(timeout=30)
    (lab.folder / "small.py").write_text("\n\nraise RuntimeError('half a deployment')\n")
    for worker in tree.workers():
        worker.kill()
    # The engine has seen them die, and others fail to come up, before there is something to do.
    wait_until(lambda: "half a deployment" in tree.errors, "the reason", timeout=60)
    handle = module.send.options(max_attempts=1).enqueue()
    assert "small.py" in tree.errors and "line 3" in tree.errors
    assert handle.refresh().attempt == 0
    write(lab, spawning, url=lab.url)
    assert handle.result(timeout=60) != first
    assert handle.refresh().attempt == 1
    assert tree.engine() == engine
    module.jobs.close()
    assert tree.stop() == 0


# ------------------------------------------------------------------ from within the application


def test_an_engine_beside_the_application(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start()` returns when jobs are run, twice is once, `stop()` ends all of it, and it can start again."""
    write(lab, APP, url=lab.url)
    module = use(monkeypatch, lab)
    jobs = module.jobs

    others = set(psutil.Process().children())  # of other tests, which may start more below themselves

    def below() -> list[psutil.Process]:
        ours = [process for process in psutil.Process().children() if process not in others]
        return [*ours, *(each for process in ours for each in process.children(recursive=True))]

    with jobs:
        jobs.start()
        assert jobs.engines.list()[0].pid in [process.pid for process in below()]
        began = len(below())
        jobs.start()
        assert len(jobs.engines.list()) == 1
        assert len(below()) <= began + 1  # a spare worker at most
        assert module.send.enqueue().result(timeout=30) > 0
        jobs.stop()
        assert below() == []
        assert jobs.engines.list() == []
        with jobs.running():
            assert module.send.enqueue().result(timeout=30) > 0
    assert below() == []


def test_a_start_that_fails_raises_where_it_was_asked_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """`running()` raises `ConfigError` with file and line when workers cannot import the application."""
    others = set(psutil.Process().children())  # of other tests
    source = (
        dedent(APP).format(url=lab.url) + "\nif os.environ.get('FLAVOUR') == 'sour':\n    raise RuntimeError('sour')\n"
    )
    (lab.folder / "small.py").write_text(source)
    module = use(monkeypatch, lab)
    monkeypatch.setenv("FLAVOUR", "sour")
    line = len(source.splitlines())
    with module.jobs, pytest.raises(ConfigError, match=rf"sour.*small\.py, line {line}"), module.jobs.running():
        pass
    assert set(psutil.Process().children()) <= others


def test_a_start_on_a_bad_store_raises_what_is_wrong(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot open its store makes `start()` raise, in time."""
    others = set(psutil.Process().children())  # of other tests
    (lab.folder / "no.db").write_bytes(b"no database " * 1000)
    write(lab, APP, url=f"sqlite:///{lab.folder}/no.db")
    module = use(monkeypatch, lab)
    began = time.monotonic()
    with module.jobs, pytest.raises((StoreError, ConfigError)):
        module.jobs.start()
    assert time.monotonic() - began < 30
    assert set(psutil.Process().children()) <= others


def test_a_second_engine_of_the_same_application_shares_the_work(lab: Lab) -> None:
    """Two engines started beside each other both work, are both listed, and each stops alone."""
    app = lab.app("load")
    first, second = lab.start("load"), lab.start("load")
    engines = wait_until(lambda: len(found := app.jobs.engines.list()) == 2 and found, "two engines")
    assert {engine.pid for engine in engines} == {first.engine(), second.engine()}
    gate = lab.folder / "gate"
    lab.enqueue(app, [app.until.call(str(gate)) for _ in range(20)])
    lab.wait_for(app, lambda n: n["running"] == 20, "twenty running jobs")
    gate.touch()
    lab.drained(app)
    assert first.stop() == 0
    assert [engine.pid for engine in app.jobs.engines.list()] == [second.engine()]
    assert app.note.enqueue().result(timeout=30) == 1
    assert second.stop() == 0
    assert lab.figures(only="load.until").faults.keys() <= {"unexpected"}


def test_an_engine_that_never_works_costs_little(lab: Lab) -> None:
    """Keeper and idle engine together stay under 60 MiB beside the workers."""
    lab.app("load")
    tree = lab.start("load")
    memory = sum(psutil.Process(pid).memory_info().rss for pid in (tree.keeper, tree.engine())) / (1 << 20)
    shared = sum(psutil.Process(pid).memory_full_info().uss for pid in (tree.keeper, tree.engine())) / (1 << 20)
    print(f"keeper and engine: {memory:.1f} MiB resident, {shared:.1f} MiB of their own")
    assert shared < 120
    assert tree.stop() == 0


@pytest.mark.slow
def test_a_server_open_to_everybody_is_warned_of(lab: Lab) -> None:
    """Redis without a password, reached by an address that others may reach: the engine says so once, and works."""
    server = OwnServer(KINDS["redis"])
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.config_set("protected-mode", "no")
            client.config_set("requirepass", "")
        for host, warnings in (("0.0.0.0", 1), ("127.0.0.1", 0)):
            url = f"redis://{host}:{server.port}/0"
            write(lab, APP, url=url)
            tree = lab.start("small", "--log-level", "warning")
            assert tree.stop() == 0
            assert tree.errors.count("store.open") == warnings, tree.errors
            assert ("whoever reaches the server can read and change every job" in tree.errors) == bool(warnings)
    finally:
        server.close()
