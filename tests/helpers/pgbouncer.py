"""A PgBouncer in transaction mode before a PostgreSQL, as many hosters have one: few connections for many clients.

with pooled(postgres_url) as (url, pooler): …        pooler.kill(); pooler.start()
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from helpers.servers import MissingServerError, OwnServer, Postgres, Server
from helpers.waiting import wait_until

SIZE = 4
"""Connections to the server, for each user and database."""


class PgBouncer(Server):
    """Hands on to the server of a URL; never as root, which it refuses."""

    name = "pgbouncer"

    def __init__(self, server_url: str, **settings: str) -> None:
        """settings: lines of its configuration beside, or instead of, ours."""
        self._server = urlsplit(server_url)
        self._settings = settings

    def prepare(self, folder: Path) -> None:
        """The users it lets in, and by whose names and passwords it goes on."""
        assert self._server.username and self._server.password
        users = {self._server.username: self._server.password}
        (folder / "users").write_text("".join(f'"{user}" "{word}"\n' for user, word in users.items()))

    def command(self, folder: Path, port: int) -> Sequence[str]:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(folder / "users"),
            "pool_mode": "transaction",
            "default_pool_size": str(SIZE),
            "max_client_conn": "300",
            "server_login_retry": "1",
            **self._settings,
        }
        lines = [
            "[databases]",
            f"* = host={self._server.hostname} port={self._server.port}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        return [self._program(), str(folder / "pgbouncer.ini")]

    def url(self, folder: Path, port: int) -> str:
        """The server's, by this port."""
        user = f"{self._server.username}:{self._server.password}"
        return self._server._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()

    def user(self) -> str | None:
        return Postgres().user()

    @staticmethod
    def _program() -> str:
        if found := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
            return found
        raise MissingServerError("the tests need PgBouncer, which is not here: `apt-get install pgbouncer`")


@contextlib.contextmanager
def pooled(server_url: str, **settings: str) -> Iterator[tuple[str, OwnServer]]:
    """The URL of the same database behind a pooler of the test's own, which may be killed and started again."""
    pooler = OwnServer(PgBouncer(server_url, **settings))
    try:
        pooler.start()
        yield pooler.url, pooler
    finally:
        pooler.close()


def nothing_stays_open(server_url: str) -> None:
    """No transaction, lock, channel, prepared statement or temporary table has stayed with the server."""
    with psycopg.connect(server_url, autocommit=True) as beside:

        def left() -> list[tuple[object, ...]]:
            return beside.execute(
                "select 'transaction', state, query from pg_stat_activity"
                " where datname = current_database() and state like 'idle in transaction%' union all "
                "select 'lock', mode, '' from pg_locks where locktype = 'advisory'"
                " and database = (select oid from pg_database where datname = current_database()) union all "
                "select 'table', relname, '' from pg_class where relpersistence = 't'"
            ).fetchall()

        wait_until(lambda: left() == [], f"the end of {left()}")
