"""What an operator should know about a PostgreSQL store: what weakens it, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from jobcard.backends.postgres.connection import OLDEST_SERVER, Connection
from jobcard.backends.url import is_this_machine
from jobcard.core import findings
from jobcard.core.findings import Finding, error, ok, warning

_OLDEST_DRIVER = (3, 2)
_HOW = "`alter system set {}`, then `select pg_reload_conf()`"


class Settings(NamedTuple):
    """What `sql/settings.sql` asks for."""

    version: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    synchronous_standby_names: str
    in_recovery: bool
    process: int


def driver() -> Finding:
    """The driver's version."""
    return findings.version(
        "versions.driver", "psycopg", psycopg.__version__, _OLDEST_DRIVER, "pip install --upgrade 'jobcard[postgres]'"
    )


def server(settings: Settings) -> Finding:
    """The server's version."""
    oldest = (OLDEST_SERVER // 10_000,)
    return findings.version("versions.server", "PostgreSQL", settings.version, oldest, "upgrade the server")


def durability(settings: Settings) -> list[Finding]:
    """What the newest confirmed jobs outlive."""
    return [
        _switch("durability.fsync", settings.fsync, "a crash of the server's host may damage the whole database"),
        _switch(
            "durability.full_page_writes",
            settings.full_page_writes,
            "a crash of the server's host may damage the database",
        ),
        _switch(
            "durability.synchronous_commit",
            settings.synchronous_commit,
            "the newest jobs may be lost when the server dies",
        ),
        _standby(settings),
        _survives(settings),
    ]


def _switch(code: str, value: str, what: str) -> Finding:
    name = code.partition(".")[2]
    if value == "off":
        return error(code, name, f"{name}=off: {what}", _HOW.format(f"{name} = on"))
    return ok(code, name, f"{name}={value}")


def _standby(settings: Settings) -> Finding:
    code = "durability.standby"
    if settings.in_recovery:
        fix = "give the URL of the primary, or add target_session_attrs=primary and all hosts to it"
        return error(code, "server", "the server is a standby: nothing can be stored in it", fix)
    return ok(code, "server", "the server takes writes")


def _survives(settings: Settings) -> Finding:
    if settings.fsync == "off" or settings.full_page_writes == "off":
        power = "but not the loss of power, which may damage everything"
    elif settings.synchronous_commit == "off":
        power = "but not the loss of power, nor a crash of the server: the newest may be gone"
    else:
        power = "and the loss of power"
    waits = settings.synchronous_standby_names and settings.synchronous_commit not in ("off", "local")
    fail_over = (
        f"and a fail-over to a synchronous standby ({settings.synchronous_standby_names})"
        if waits
        else "but not a fail-over: no standby is synchronous (synchronous_standby_names is empty, or not waited for)"
    )
    return findings.survives("this store", f"confirmed jobs outlive the processes that use it, {power}, {fail_over}")


# ------------------------------------------------------------------ the way to it


def way(connection: Connection, settings: Settings, *, pooled: bool) -> Iterator[Finding]:
    """Who can read along, and whether a pooler stands in between."""
    raw = connection.raw
    host = raw.info.hostaddr or raw.info.host
    local = is_this_machine(raw.info.host) or is_this_machine(host)
    subject = raw.info.host or "the server's socket"
    yield findings.secrecy(subject, local=local, encrypted=raw.pgconn.ssl_in_use, fix=(
        "switch ssl on in the server and add sslmode=verify-full (or require) to the URL"
    ))  # fmt: skip
    yield pooler(raw.pgconn.backend_pid, settings.process, pooled=pooled)


def pooler(told: int, answering: int, *, pooled: bool) -> Finding:
    """Whether the process that let us in is the one that answers: a pooler makes up its own number.

    pooled: the URL says pooler=transaction.
    """
    code, subject = "url.pooler", "PgBouncer or the like"
    if told == answering:
        return ok(code, subject, "none stands in between: the server itself answers")
    if pooled:
        return ok(code, subject, "one stands in between, and the URL says pooler=transaction")
    return warning(
        code,
        subject,
        "a pooler stands in between, and the URL does not say so: what jobcard leaves with a connection may be lost",
        "add pooler=transaction (and listen=off where nobody shall be woken through it) to the URL of clients, and "
        "give engines the server's own address",
    )
