"""The dashboard's own way to the store: a small pool, so that visitors never take a connection from the application."""

from __future__ import annotations

import threading
from typing import NamedTuple

from jobcard.client import Jobcard
from jobcard.client.beside import beside
from jobcard.dashboard.threads import MOST_THREADS
from jobcard.errors import ConfigError, StoreUnavailableError

STATEMENT_SECONDS = 5.0


class Clients(NamedTuple):
    """One to write with, one to read with; often the same."""

    jobs: Jobcard
    reading: Jobcard


class Stores:
    """Opens both at the first use, and again when that failed; any thread may ask."""

    def __init__(self, app: Jobcard, read_url: str | None) -> None:
        self._app = app
        self._read_url = read_url
        self._clients: Clients | None = None
        self._lock = threading.Lock()

    def clients(self) -> Clients:
        """Both clients; a `StoreError` while the store cannot be reached."""
        with self._lock:
            if self._clients is None:
                try:
                    jobs = self._open(None)
                    self._clients = Clients(jobs, jobs if self._read_url is None else self._open(self._read_url))
                except ConfigError as error:
                    # Not the visitor's mistake: of a URL, say, or a file's directory that is not there yet.
                    raise StoreUnavailableError(str(error)) from error
            return self._clients

    def _open(self, url: str | None) -> Jobcard:
        return beside(self._app, url=url, pool_size=MOST_THREADS, call_timeout=STATEMENT_SECONDS)

    def close(self) -> None:
        """Let go of what was opened here; the application's own client stays as it is."""
        with self._lock:
            clients, self._clients = self._clients, None
        for client in set(clients or ()) - {self._app}:
            client.close()
