"""The engine process: boots, waits for the first worker's hello, opens the store, serves, ends.

It never imports user code: what it must know of the application (settings, queues, names of jobs) comes as
data from a worker that did.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.core import schedule
from jobcard.core.queue import queue_from_plain
from jobcard.core.settings import Settings, settings_from
from jobcard.engine import exits, record
from jobcard.engine.dispatcher import Dispatcher
from jobcard.engine.logs import configure_logging
from jobcard.engine.opening import CLOSED_SECONDS, open_for_work
from jobcard.engine.outcomes import status_of
from jobcard.errors import AccessDeniedError, ConfigError, JobcardError
from jobcard.workers import link, messages
from jobcard.workers.messages import Exit
from jobcard.workers.pool import Pool

log = logging.getLogger("jobcard.engine")

BUSY_SECONDS = 0.25  # how long an exchange may wait for a locked file: kills and timeouts wait as long
FIRST_WORKER = 0
GOODBYE_SECONDS = 0.5


class Fatal(Exception):
    """The engine cannot start; the keeper is told why."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class Engine:
    """One engine from boot to end."""

    def __init__(self, keeper: socket.socket, boot: dict[str, Any], *, stops: int = 0) -> None:
        """stops: how often the keeper said "stop" before we listened."""
        self._keeper = keeper
        self._boot = boot
        self._owner = os.urandom(8).hex()
        self._started_at = time.time()
        self._selector = selectors.DefaultSelector()
        self._hello: dict[str, Any] | None = None
        self._import_error: str | None = None
        self._last_exit: Exit | None = None
        self._next_first = FIRST_WORKER
        self._signals = stops
        self._dispatcher: Dispatcher | None = None
        self._keeper_gone = False
        self._settings: Settings | None = None
        self._queues_served: Sequence[str] = ()
        reference = boot["reference"]
        self._pool = Pool(
            self._selector,
            self,
            {"sys_path": boot["sys_path"], "argv": boot["argv"], "store": _store_of(boot), **reference},
        )

    def run(self) -> int:
        """Serve until stopped; the exit code."""
        self._selector.register(self._keeper, selectors.EVENT_READ, self._keeper_said)
        self._listen_to_signals()
        try:
            hello = self._first_hello()
            if hello is None:
                return exits.OK
            self._settings = self._settle_settings(hello["settings"])
            backend = self._open_store(self._settings, hello.get("schedules", ()))
            if backend is None:
                return exits.OK
        except Fatal as error:
            self.tell_keeper(fatal=str(error), code=error.code)
            return error.code
        try:
            self._serve(backend, hello)
        except AccessDeniedError as error:
            self.tell_keeper(fatal=str(error), code=exits.STORE)
            return exits.STORE
        finally:
            self._pool.kill_all()
            self._say_goodbye(backend)
        return exits.INTERRUPTED if self._signals > 1 else exits.OK

    def _say_goodbye(self, backend: Backend) -> None:
        """Remove what the store has of this engine; one that does not answer now is not waited for."""

        def remove() -> None:
            record.remove(backend, self._owner)
            backend.close()

        thread = threading.Thread(target=remove, daemon=True)
        thread.start()
        thread.join(GOODBYE_SECONDS)

    # -------------------------------------------------------------- starting

    def _first_hello(self) -> dict[str, Any] | None:
        """Start a worker and wait until it has imported the application; None: told to stop meanwhile."""
        wait = 0.5
        while True:
            self._import_error = self._last_exit = None
            self._pool.spawn(self._next_first)
            while self._hello is None and self._last_exit is None:
                if self._signals or self._keeper_gone:
                    return None
                self._select(None)
            if self._hello is not None:
                return self._hello
            why = self._import_error or _why_it_ended(self._last_exit)
            if not self._boot.get("again"):
                raise Fatal(exits.USAGE, why)
            log.error("%s; trying again in %g s", why, wait)
            self._next_first += 1
            until = time.monotonic() + wait
            while (left := until - time.monotonic()) > 0 and not self._signals and not self._keeper_gone:
                self._select(left)
            wait = min(30.0, 2 * wait)

    def _settle_settings(self, of_app: dict[str, Any]) -> Settings:
        """The application's settings, with what the command line or the starting process said on top."""
        given = {**of_app, **self._boot.get("settings", {})}
        given["queues"] = tuple(queue_from_plain(queue) for queue in given.get("queues", ()))
        given["imports"] = tuple(given.get("imports", ()))
        try:
            return settings_from(**given)
        except ConfigError as error:
            raise Fatal(exits.USAGE, str(error)) from error

    def _open_store(self, settings: Settings, schedules: Sequence[tuple[str, str]]) -> Backend | None:
        """The store, ready for this engine; None: told to stop while it waited for that."""
        try:
            backend = open_backend(
                settings.url or "", settings.config, moving_to=settings.moving_to, patience=BUSY_SECONDS
            )
        except ConfigError as error:
            raise Fatal(exits.USAGE, str(error)) from error
        try:
            if not backend.capabilities.survives_process:
                raise ConfigError("this store lives in one process's memory only; an engine is another process")
            timetables = [schedule.from_text(name, text) for name, text in schedules]
            return backend if open_for_work(backend, settings, timetables, self._rest) else None
        except JobcardError as error:
            raise Fatal(exits.STORE, str(error)) from error

    def _serve(self, backend: Backend, hello: dict[str, Any]) -> None:
        assert self._settings is not None
        settings = self._settings
        if settings.start_method != "spawn":
            self._pool.use_template(insist=settings.start_method == "template")
        only = self._boot.get("only_queues")
        # Nothing is held yet, however long the start took: else the keeper would end the workers of a slow one at once.
        self.tell_keeper(
            owner=self._owner, lease=settings.lease, stop_timeout=settings.stop_timeout, safe=time.monotonic()
        )
        self._dispatcher = Dispatcher(
            owner=self._owner,
            backend=backend,
            settings=settings,
            pool=self._pool,
            selector=self._selector,
            only_queues=None if only is None else frozenset(only),
            dead_owners=self._boot["dead_owners"],
            about=self._about,
            tell_keeper=self.tell_keeper,
        )
        self._dispatcher.adopt(self._next_first, hello["names"])
        self._pool.listener = self._dispatcher
        if self._signals:
            self._dispatcher.stop(at_once=self._signals > 1)
        log.info("engine.start owner=%s", self._owner)
        self._dispatcher.serve()

    def _about(self) -> dict[str, Any]:
        assert self._settings is not None and self._dispatcher is not None
        return record.describe(
            self._dispatcher,
            app=record.name_of(self._boot["reference"]),
            keeper=self._boot["keeper_pid"],
            started_at=self._started_at,
            heartbeat=self._settings.heartbeat,
            workers=self._pool.pids(),
            pid_of=self._pool.pid_of,
        )

    # -------------------------------------------------------------- hearing

    def _rest(self) -> bool:
        """Hear what there is to hear for a moment; False: told to stop."""
        self._select(CLOSED_SECONDS)
        self.tell_keeper(alive=True)
        return not (self._signals or self._keeper_gone)

    def _select(self, timeout: float | None) -> None:
        for key, _events in self._selector.select(timeout):
            key.data()

    def message(self, number: int, message: list[Any]) -> None:
        """The first worker said something: we only wait for its hello."""
        if message[0] == messages.HELLO:
            self._hello = message[1]
        elif message[0] == messages.IMPORT_FAILED:
            why = message[1]
            place = f" ({why['file']}, line {why['line']})" if why["file"] else ""
            self._import_error = f"the application cannot be imported: {why['message']}{place}"
        elif message[0] == messages.CALL:
            error = {"class": "ConfigError", "message": link.NOT_WHILE_IMPORTING, "facts": {}}
            self._pool.reply(number, message[1], error, None)

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        """The first worker ended before its hello."""
        self._last_exit = exit

    def tell_keeper(self, **word: Any) -> None:
        """One line to the parent."""
        if "stopping" in word:
            self._signals += 1  # an order counts as the first of them
        with contextlib.suppress(OSError):
            self._keeper.send(json.dumps(word).encode() + b"\n")

    def _keeper_said(self) -> None:
        try:
            if said := self._keeper.recv(512):
                self._told_to_stop(said.count(b"stop"))
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        # The keeper is gone and nobody would start another engine: end at once, workers first.
        self._selector.unregister(self._keeper)
        self._keeper_gone = True
        log.error("the keeper is gone; stopping")
        self._pool.kill_all()
        if self._dispatcher is not None:
            self._dispatcher.stop(at_once=True)

    def _listen_to_signals(self) -> None:
        woken_out, woken_in = os.pipe()
        for fd in (woken_out, woken_in):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(woken_in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._selector.register(
            woken_out, selectors.EVENT_READ, lambda: self._told_to_stop(len(os.read(woken_out, 512)))
        )

    def _told_to_stop(self, times: int) -> None:
        for _ in range(times):
            self._signals += 1
            if self._dispatcher is not None:
                self._dispatcher.stop(at_once=self._signals > 1)


def _why_it_ended(exit: Exit | None) -> str:
    assert exit is not None
    # What it printed has been passed on.
    return f"a worker ended with {status_of(exit)} while importing the application"


def _store_of(boot: dict[str, Any]) -> dict[str, Any]:
    """What whoever started us said of the store, for workers whose jobs open it themselves."""
    settings = boot.get("settings", {})
    return {name: settings[name] for name in ("url", "config", "moving_to", "worker_client") if name in settings}


def main() -> None:
    """Be an engine: the boot document comes over the socket to the keeper."""
    keeper = socket.socket(fileno=int(sys.argv[1]))
    line = bytearray()
    while b"\n" not in line:
        data = keeper.recv(1 << 16)
        if not data:
            os._exit(exits.FAILED)
        line += data
    keeper.setblocking(False)
    document, _newline, already_said = line.partition(b"\n")
    boot = json.loads(document)
    sys.path[:] = boot["sys_path"]
    configure_logging(**boot.get("logging", {}))
    code = Engine(keeper, boot, stops=already_said.count(b"stop")).run()
    logging.shutdown()
    os._exit(code)
