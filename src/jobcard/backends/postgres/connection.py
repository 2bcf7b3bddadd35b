"""One PostgreSQL connection: what it is told when it opens, and statements that go out together."""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.waiting import Wait

from jobcard.backends.postgres import refusal
from jobcard.backends.postgres.errors import ConflictError, ProtocolError, cannot_connect, driver_errors
from jobcard.backends.postgres.options import STATEMENT_SECONDS, Options
from jobcard.backends.postgres.values import adapters
from jobcard.errors import ConfigError

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]

OLDEST_SERVER = 140_000
_TURNS = 10
_GRACE = 3.0
"""Seconds: the server ends a statement that takes too long by itself; one that does not even do that is gone."""

# Every statement here is made for one index, so nothing is left to plan. Statistics of a queue are wrong as soon as
# they are made: gathered while nothing was claimed, they once cost a factor of ten.
_SETTINGS: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS * 2e3:.0f}",
}

_READ, _WRITE = int(Wait.R), int(Wait.W)
_EVENTS = {_READ: select.POLLIN, _WRITE: select.POLLOUT, _READ | _WRITE: select.POLLIN | select.POLLOUT}
_HOURS = 100_000.0
_POOLER_FOUND = (
    "a pooler stands before PostgreSQL, and what is set for a connection does not reach the server: "
    "say pooler=transaction in the store URL, or give it the server's own address"
)


class Step(NamedTuple):
    """A statement and its values. prepare: worth it only where the text is one of a few."""

    sql: str
    values: Values | None = None
    prepare: bool = True


class _Raw(psycopg.Connection[Row]):
    """Waits no longer than until its deadline: a server that hangs says nothing, least of all that it hangs."""

    deadline = float("inf")

    def wait(self, gen: PQGen[Any], *_: Any, **__: Any) -> Any:
        descriptor = self.pgconn.socket
        poller = select.poll()
        try:
            wanted = int(next(gen))
            while True:
                poller.register(descriptor, _EVENTS[wanted])
                left = min(_HOURS, max(0.0, self.deadline - time.monotonic()))
                found = poller.poll(left * 1e3)
                if not found:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server does not answer")
                events = found[0][1]
                # An error or a hang-up is for libpq to read.
                broken = events & ~(select.POLLIN | select.POLLOUT)
                readable = _READ if events & select.POLLIN or broken else 0
                writable = _WRITE if events & select.POLLOUT or broken else 0
                wanted = int(gen.send((readable | writable) & wanted))
        except StopIteration as end:
            return end.value


class Connection:
    """A connection for one thread at a time. Without a transaction around it every call is one."""

    is_joined = False
    """It is somebody else's, whose transaction may end much later, or never well."""

    def __init__(self, options: Options, *, patient: float | None = None) -> None:
        """patient: seconds a statement may take, for work on the schema; None: as statements do."""
        self._pooled = options.pooled
        seconds = options.call_timeout if patient is None else patient
        self._limit = seconds + _GRACE
        self._settings = {**_SETTINGS, "statement_timeout": f"{seconds * 1e3:.0f}"}
        if patient is None and options.lock_timeout is not None:
            # 0 would mean to wait for ever.
            self._settings["lock_timeout"] = f"{max(1.0, options.lock_timeout * 1e3):.0f}"
        self._raw = self._open(options)
        self.version = self._raw.info.server_version
        self.opened_at = time.monotonic()
        if self.version < OLDEST_SERVER:
            self.close()
            raise ConfigError(f"PostgreSQL {self.version // 10_000} is too old: 14 is the first that will do")

        self._refuse_hidden_pooler()

    def _open(self, options: Options) -> _Raw:
        arguments = dict(options.connection)
        if self._pooled:
            return self._connect(arguments)
        told = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        # As every statement is written for it; in another one conflicts are undone and tried again.
        told += " -c default_transaction_isolation=read\\ committed"
        try:
            return self._connect({**arguments, "options": f"{told} {arguments.get('options', '')}".strip()})
        except ProtocolError as error:
            # Many poolers let no settings through. If it is not that, the second failure tells more.
            self._connect(arguments).close()
            raise ConfigError(_POOLER_FOUND) from error

    def _refuse_hidden_pooler(self) -> None:
        # Others let them through and forget them: every claim would be slow without a word.
        if not self._pooled:
            [(mode,)] = self.execute("select current_setting('plan_cache_mode')", prepare=False)
            if mode != self._settings["plan_cache_mode"]:
                self.close()
                raise ConfigError(_POOLER_FOUND)

    def _connect(self, arguments: Mapping[str, str | int]) -> _Raw:
        try:
            return _Raw.connect(
                "",
                autocommit=True,
                prepare_threshold=None if self._pooled else 0,
                context=adapters,
                client_encoding="UTF8",
                **arguments,  # type: ignore[arg-type]
            )
        except psycopg.Error as error:
            state = refusal.state_of(error, make_conninfo("", **arguments))
            raise cannot_connect(error, state) from error

    @property
    def fileno(self) -> int:
        """Its socket."""
        return self._raw.pgconn.socket

    @property
    def raw(self) -> psycopg.Connection[Row]:
        """The driver's own, for what only it can do."""
        return self._raw

    @property
    def in_transaction(self) -> bool:
        """Inside `transaction()`."""
        return self._raw.pgconn.transaction_status != TransactionStatus.IDLE

    def is_usable(self) -> bool:
        """False: it was closed, left in the middle of something, or the server has said goodbye."""
        if self._raw.closed or self._raw.pgconn.transaction_status != TransactionStatus.IDLE:
            return False
        poller = select.poll()
        poller.register(self.fileno, select.POLLIN)
        # Nobody asked anything, so whatever is there to read is the end.
        return not poller.poll(0)

    # -- statements

    def execute(self, sql: str, values: Values | None = None, *, prepare: bool = True) -> list[Row]:
        """Run one statement; its rows."""
        return self.run([Step(sql, values, prepare)])[0]

    def run(self, steps: Sequence[Step], *, then: Step | None = None) -> list[list[Row]]:
        """Run statements in one round trip and one transaction; the rows of each.

        When it was in another's way it is tried again. then: something to do in a transaction of its own once the
        statements are stored, on the same trip; its rows are of no interest.
        """
        return self.again(lambda: self._run(steps, then))

    def again(self, work: Callable[[], T]) -> T:
        """Do something that is one transaction, and do it again when that was in another's way."""
        for turn in range(1, _TURNS + 1):
            try:
                return work()
            except ConflictError:
                if turn == _TURNS or self._raw.closed:
                    raise
            time.sleep(random.uniform(0.0, 0.002 * turn))
        raise AssertionError("not reached")

    def _run(self, steps: Sequence[Step], then: Step | None) -> list[list[Row]]:
        self._raw.deadline = time.monotonic() + self._limit
        with driver_errors:
            if len(steps) == 1 and then is None and not self._pooled:
                return [self._rows(self._send(steps[0]))]
            with self._raw.pipeline() as pipeline:
                try:
                    if self._pooled:
                        self._settle_in()
                    cursors = [self._send(step) for step in steps]
                    if then is not None:
                        # Its public brother waits for the answer, which would be a second round trip.
                        getattr(pipeline, "_enqueue_sync", pipeline.sync)()
                        if self._pooled:
                            self._settle_in()
                        self._send(then)
                except psycopg.Error as error:
                    # Of the server's: it has given up the transaction already.
                    if error.sqlstate is None:
                        self._raw.pgconn.finish()
                    raise
                except BaseException:
                    # What was sent must not be stored without the rest.
                    self._raw.pgconn.finish()
                    raise
            return [self._rows(cursor) for cursor in cursors]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, statement by statement with `ask`."""
        self._raw.deadline = time.monotonic() + self._limit
        with driver_errors, self._raw.transaction():
            if self._pooled:
                self._settle_in()
            yield

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: what fails in here is undone alone."""
        with driver_errors, self._raw.transaction():
            yield

    def ask(self, step: Step) -> list[Row]:
        """Run one statement inside a transaction; its rows."""
        self._raw.deadline = time.monotonic() + self._limit
        with driver_errors:
            return self._rows(self._send(step))

    def ask_all(self, steps: Sequence[Step]) -> list[list[Row]]:
        """Run statements inside a transaction, in one round trip; the rows of each."""
        self._raw.deadline = time.monotonic() + self._limit
        with driver_errors:
            with self._raw.pipeline():
                cursors = [self._send(step) for step in steps]
            return [self._rows(cursor) for cursor in cursors]

    def _send(self, step: Step) -> psycopg.Cursor[Row]:
        cursor = self._raw.cursor(binary=True)
        return cursor.execute(step.sql, step.values, prepare=step.prepare and not self._pooled)

    @staticmethod
    def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
        return cursor.fetchall() if cursor.description is not None else []

    def _settle_in(self) -> None:
        # Behind a pooler a setting lives as long as its transaction.
        sets = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in self._settings.items())
        self._raw.execute("select " + sets, prepare=False)

    def abandon(self) -> None:
        """Let go of its socket without a word to the server."""
        with contextlib.suppress(OSError, psycopg.Error):
            os.close(self.fileno)

    def close(self) -> None:
        """Say goodbye to the server."""
        self._raw.close()
