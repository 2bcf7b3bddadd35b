"""Why a server refused a connection, by its SQLSTATE: libpq gives only words, in whatever language the server speaks.

So the same is tried once more while libpq writes down what goes to and fro. The same words have the same state, hence
they are looked into once in a process.
"""

from __future__ import annotations

import os
import re
import select
import time

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, PGconn, Ping, PollingStatus
from psycopg.pq.abc import PGconn as Connecting

_SECONDS = 5.0
_MOST = 100
_STATE = re.compile(rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')

_known: dict[str, str] = {}


def state_of(error: psycopg.Error, conninfo: str) -> str | None:
    """The SQLSTATE behind a connection that could not be made; None: no server has said one."""
    said = str(error)
    if said not in _known:
        state = None if isinstance(error, errors.ConnectionTimeout) else _listen_in(conninfo.encode())
        if state is None:
            return None
        if len(_known) >= _MOST:
            _known.clear()
        _known[said] = state
    return _known[said]


def _listen_in(conninfo: bytes) -> str | None:
    if not hasattr(os, "memfd_create") or PGconn.ping(conninfo) != Ping.OK:
        return None
    # In memory, and gone at once: some ways to sign in show a password.
    talk = os.memfd_create("jobcard")
    try:
        connection = PGconn.connect_start(conninfo)
        if connection.status != ConnStatus.BAD:
            connection.trace(talk)
            _wait(connection)
            connection.untrace()
        connection.finish()
        found = _STATE.findall(os.pread(talk, 1 << 16, 0))
    finally:
        os.close(talk)
    return found[-1].decode() if found else None


def _wait(connection: Connecting) -> None:
    until = time.monotonic() + _SECONDS
    while (left := until - time.monotonic()) > 0:
        match connection.connect_poll():
            case PollingStatus.READING:
                event = select.POLLIN
            case PollingStatus.WRITING:
                event = select.POLLOUT
            case _:
                return
        poller = select.poll()
        poller.register(connection.socket, event)
        poller.poll(left * 1e3)
