"""PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from helpers.servers.common import MissingServerError, Server, give, run


class Postgres(Server):
    """PostgreSQL with a password, `fsync` on as in real life, and deadlocks found soon."""

    name = "postgres"
    variable = "JOBCARD_TEST_POSTGRES"
    stop_signal = signal.SIGINT  # the fast shutdown
    _folders = "usr/lib/postgresql/*/bin"

    def prepare(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(secrets.token_hex(8))
        give(password, self.user())
        run(
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
            # In its folder, which goes with it: what it has elsewhere is left behind when a test kills it.
            "dynamic_shared_memory_type": "mmap",
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


def _number_in(folder: str) -> float:
    version = Path(folder).parent.name
    return float(version) if version.replace(".", "", 1).isdigit() else 0.0
