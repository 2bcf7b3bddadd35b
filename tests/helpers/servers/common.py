"""What the servers of all kinds have in common: how they are described, started and ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import psutil

START_SECONDS = 60.0
STOP_SECONDS = 20.0
PLENTY = 8 << 30
TRIES = 3  # of a port that was free a moment ago
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class MissingServerError(RuntimeError):
    """A server that the tests need cannot be had here."""


class Server:
    """One kind of server: where its program is, how it is started and reached."""

    name: str
    variable: str
    """The environment variable that may hold the URL of a server to use instead."""
    stop_signal = signal.SIGTERM
    lasting: Sequence[str] = ()
    """What its command takes as well where a test kills it: nothing it has confirmed may be lost then."""
    sibling = False
    """Spoken to as another kind is, by the same code: tested on everything by `scripts/test tests/stores` only."""
    may_be_missing = False
    """Not to be had on every good day: then its tests are skipped, and that is said."""

    def prepare(self, folder: Path) -> None:
        """Make what the server needs in its folder, once."""

    def command(self, folder: Path, port: int) -> Sequence[str]:
        """What to run; in the foreground."""
        raise NotImplementedError

    def url(self, folder: Path, port: int) -> str:
        """How tests reach it."""
        raise NotImplementedError

    def user(self) -> str | None:
        """Who it runs as; None: whoever runs the tests."""
        return None

    def is_up(self, port: int) -> bool:
        """Whether it can be used."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    def settle(self, port: int) -> None:
        """What else it takes, once it listens, until tests may use it."""

    def told_apart(self, url: str) -> str:
        """A URL by which a proxy can read what is sent, and by which nobody goes around it."""
        return url

    def mark_of_an_exchange(self, owner: str) -> bytes:
        """What stands in every exchange of an engine on its way to the server, and in little else."""
        return owner.encode()


# ------------------------------------------------------------------ starting and ending


def start_somewhere(server: Server, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for last in range(TRIES, 0, -1):
        port = free_port()
        try:
            return start_on(server, folder, port), port
        except MissingServerError:
            if last == 1:
                raise
    raise AssertionError("not reached")


def start_on(server: Server, folder: Path, port: int, *, lasting: bool = False) -> subprocess.Popen[bytes]:
    log = folder / f"log-{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_DIES_WITH_US, *server.command(folder, port), *(server.lasting if lasting else ())],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **as_user(server.user()),  # type: ignore[call-overload]
        )
    try:
        wait_until_up(server, process, port)
        server.settle(port)
    except MissingServerError as error:
        end(process, signal.SIGKILL)
        tail = log.read_text(errors="replace")[-2_000:]
        raise MissingServerError(f"{error}\n{tail}") from None
    return process


def wait_until_up(server: Server, process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        if server.is_up(port):
            return
        time.sleep(0.01)
    raise MissingServerError("the server did not come up")


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is not None:
        return
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ------------------------------------------------------------------ small things


def new_folder(prefix: str, disk: Path | None = None) -> Path:
    """For what a server keeps. disk: where it is to be.

    In memory where there is plenty: the server waits for its disk as in real life, and that disk is quick. What it has
    written outlasts the process that wrote it there, too.
    """
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if disk is None and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) >= PLENTY:
            disk = memory
    return Path(tempfile.mkdtemp(prefix=prefix, dir=disk))


@contextlib.contextmanager
def frozen(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """A server of ours hangs: connections are taken and nothing is said."""
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    # Not at once do all its threads stand still.
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The last supervisor may have deleted it meanwhile; a lock on what nobody finds is none.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def as_user(name: str | None) -> dict[str, object]:
    if name is None:
        return {}
    found = pwd.getpwnam(name)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def give(path: Path, name: str | None) -> None:
    if name is not None:
        shutil.chown(path, name, pwd.getpwnam(name).pw_gid)


def me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def run(command: Sequence[str], user: str | None) -> None:
    ran = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **as_user(user),  # type: ignore[call-overload]
    )
    if ran.returncode:
        raise MissingServerError(f"{command[0]} failed with code {ran.returncode}:\n{ran.stdout[-2_000:]}")
