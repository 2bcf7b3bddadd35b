"""One server for all processes of a test run: started by the first that asks, gone with the last.

Each process holds a shared lock on one file; the supervisor, a process of its own, waits for the exclusive lock on it:
it gets it when the last holder has ended, however it ended, and then stops the server and deletes its folder. Nothing
is counted, so nothing can be miscounted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers.servers.common import MissingServerError, Server, end, give, locked, new_folder, start_somewhere


@contextlib.contextmanager
def using(server: Server) -> Iterator[str]:
    """The URL of a running server, shared with the other processes of this test run.

    This process holds it to its own end: else one that few tests use would be started for each of them.
    """
    if given := os.environ.get(server.variable):
        _report(server, given)
        yield given
        return
    shared = _shared_folder() / server.name
    if shared not in _held:
        with locked(shared / "mutex"):
            if is_new := not _is_supervised(shared):
                _start_supervisor(server, shared)
            _held[shared] = os.open(shared / "users", os.O_RDWR | os.O_CREAT)
            fcntl.flock(_held[shared], fcntl.LOCK_SH)
        if is_new:
            _report(server, (shared / "url").read_text())
    yield (shared / "url").read_text()


_held: dict[Path, int] = {}
_reported: set[str] = set()


def _report(server: Server, url: str) -> None:
    """Note which server of which version the tests really run on, for the summary of `scripts/test`."""
    place = os.environ.get("JOBCARD_TEST_REPORT")
    if place is None or server.name in _reported:
        return
    _reported.add(server.name)
    from jobcard.backends.registry import open_backend

    # Some tell it of a store with a schema only.
    store = open_backend(f"{url}{'&' if '?' in url else '?'}prefix=version_{os.getpid()}_")
    try:
        store.migrate()
        line = f"{server.name}: {store.facts().version}\n"
        while store.rollback() is not None:
            pass
    except Exception as error:
        line = f"{server.name}: a version that it did not tell ({type(error).__name__})\n"
    finally:
        store.close()
    with Path(place).open("a") as file:
        file.write(line)


def _shared_folder() -> Path:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"pid{os.getpid()}"
    return Path(tempfile.gettempdir()) / f"jobcard-tests-{os.geteuid()}" / run


def _is_supervised(shared: Path) -> bool:
    with (shared / "supervised").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start_supervisor(server: Server, shared: Path) -> None:
    # Held for it until it has the lock itself: it says so, or why not, in its first line.
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.servers", server.name, str(shared)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        answer = json.loads(process.stdout.readline() or '{"error": "its supervisor died"}')
    if error := answer.get("error"):
        raise MissingServerError(f"{server.name}: {error}")
    process.returncode = 0  # it outlives this process; nobody waits for it


# ------------------------------------------------------------------ the supervisor


def supervise(server: Server, shared: Path) -> None:
    """Start the server, and stop it when nobody holds the lock any more."""
    with (shared / "supervised").open("a") as supervised:
        fcntl.flock(supervised, fcntl.LOCK_EX)
        folder = new_folder(f"jobcard-{server.name}-")
        try:
            give(folder, server.user())
            server.prepare(folder)
            process, port = start_somewhere(server, folder)
            try:
                (shared / "url").write_text(server.url(folder, port))
                say(url=True)
                _wait_for_the_last(shared, process, server.stop_signal)
            finally:
                end(process, server.stop_signal)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for_the_last(shared: Path, process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    with (shared / "users").open("a") as users:
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_UN)
            # Whoever comes now waits for the mutex, and then finds either a running server or none.
            with locked(shared / "mutex"), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end(process, stop_signal)
                shutil.rmtree(shared, ignore_errors=True)
                with contextlib.suppress(OSError):
                    shared.parent.rmdir()
                return


def say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)
