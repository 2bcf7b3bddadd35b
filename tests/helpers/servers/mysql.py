"""MariaDB and MySQL."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helpers import mysql_packages
from helpers.servers.common import MissingServerError, Server, locked, me, run


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
        run(
            [
                self._program("mariadb-install-db"), "--no-defaults", f"--user={me()}", f"--datadir={folder / 'data'}",
                "--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M",
                f"--tmpdir={folder}",
            ],
            None,
        )  # fmt: skip

    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [
            self._program("mariadbd"), "--no-defaults", *self._common(folder, port), "--innodb-log-file-size=64M",
        ]  # fmt: skip

    def _common(self, folder: Path, port: int) -> list[str]:
        return [
            # Its own, since a server that starts deletes what others have in theirs: a MariaDB dies of that.
            f"--tmpdir={folder}",
            f"--user={me()}", f"--datadir={folder / 'data'}", f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}", f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            "--skip-log-bin", "--max-connections=300", "--innodb-buffer-pool-size=128M",
            "--innodb-flush-log-at-trx-commit=1", f"--init-file={folder / 'init.sql'}",
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"{self._scheme}://jobcard:{(folder / 'password').read_text()}@127.0.0.1:{port}/jobcard"

    def told_apart(self, url: str) -> str:
        return f"{url}{'&' if '?' in url else '?'}ssl_mode=disabled"

    def mark_of_an_exchange(self, owner: str) -> bytes:
        return b";commit"

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
    sibling = True
    may_be_missing = True  # only Debian sid has it, which may have a bad day
    _scheme = "mysql"

    def _make_data(self, folder: Path) -> None:
        # Making it takes seconds, copying it none.
        seed = mysql_packages.cache_folder() / f"mysql-data-{os.geteuid()}"
        with locked(seed.with_suffix(".lock")):
            if not seed.is_dir():
                fresh = Path(tempfile.mkdtemp(dir=seed.parent)) / "data"
                run(
                    [
                        *self._server(), f"--user={me()}", f"--datadir={fresh}", "--initialize-insecure",
                        "--secure-file-priv=NULL", "--skip-log-bin", f"--tmpdir={fresh.parent}",
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
