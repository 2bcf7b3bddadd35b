"""A MariaDB that one test may kill, stop and start again, and the way to any such server past the store."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import pymysql

from helpers.servers import KINDS, _free_port, _wait_until_up
from helpers.servers.common import frozen
from jobcard.backends.url import parse


def new_prefix() -> str:
    """Of tables that no other test has."""
    return f"test_{secrets.token_hex(6)}_"


def direct_connection(url: str) -> Any:
    """The server itself, by the driver."""
    parts = parse(url)
    return pymysql.connect(
        host=parts.host,
        port=parts.port or 3306,
        user=parts.user,
        password=(parts.password or "").encode(),
        database=parts.path,
        charset="utf8mb4",
        autocommit=True,
        ssl_disabled=True,  # else the driver reads every certificate of the machine each time
    )


class OwnServer:
    """A server in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._kind = KINDS["mariadb"]
        self._kind.prepare(folder)
        self._port = _free_port()
        self._command = self._kind.command(folder, self._port)
        self.url = self._kind.url(folder, self._port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        _wait_until_up(self._kind, self._process, self._port)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """It hangs: connections are taken and nothing is said."""
        return frozen(self._process)

    def run(self, statement: str) -> None:
        """Past the store."""
        with contextlib.closing(direct_connection(self.url)) as raw, raw.cursor() as cursor:
            cursor.execute(statement)
