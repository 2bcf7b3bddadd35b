"""The dashboard's own way to the store: a small pool, so that visitors never take a connection from the application."""

from __future__ import annotations

import threading

from jobcard.client import Jobcard
from jobcard.client.beside import beside
from jobcard.dashboard.threads import MOST_THREADS
from jobcard.errors import ConfigError, StoreUnavailableError

STATEMENT_SECONDS = 5.0


class Stores:
    """Opens each way at its first use, and again when that failed; any thread may ask."""

    def __init__(self, app: Jobcard, read_url: str | None) -> None:
        self._app = app
        self._read_url = read_url
        self._opened: dict[str | None, Jobcard] = {}
        self._lock = threading.Lock()

    def jobs(self) -> Jobcard:
        """The store itself; a `StoreError` while it cannot be reached."""
        return self._open(None)

    def reading(self) -> Jobcard:
        """The replica for what is only shown, or the store itself where there is none."""
        return self._open(self._read_url)

    def _open(self, url: str | None) -> Jobcard:
        with self._lock:
            if url not in self._opened:
                try:
                    self._opened[url] = beside(
                        self._app, url=url, pool_size=MOST_THREADS, call_timeout=STATEMENT_SECONDS
                    )
                except ConfigError as error:
                    # Not the visitor's mistake: of a URL, say, or a file's directory that is not there yet.
                    raise StoreUnavailableError(str(error)) from error
            return self._opened[url]

    def close(self) -> None:
        """Let go of what was opened here; the application's own client stays as it is."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for client in opened.values():
            if client is not self._app:
                client.close()
