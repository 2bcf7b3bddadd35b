"""What each role may do in PostgreSQL, as the statements that an administrator runs once."""

from __future__ import annotations

from collections.abc import Mapping

from jobcard.backends.postgres.schema import TABLES
from jobcard.backends.roles import Role
from jobcard.errors import ConfigError

DEFAULT_SCHEMA = "public"
_NOBODY = ("public", "none")  # everybody and nobody, in quotes too

# `meta` counts the changes of settings, which an enqueue into a new queue is; its version belongs to migrations.
_ALL = "select, insert, update, delete, truncate"

# What an enqueue that replaces writes over. Not a job's state, who holds it, its token, its result or its keys.
_CONTENT = ", ".join(
    (
        "queue", "name", "init", "args", "kwargs", "priority", "rank", "available_at", "order_at", "order_offset",
        "hold", "max_attempts", "max_crashes", "backoff", "timeout", "keep", "limit_key", "key_limit", "rate_count",
        "rate_per", "batch_id", "parent_id", "schedule_id", "tags", "meta", "waits_for", "version",
        "attempt", "crashes", "interrupts", "cancel_requested", "error_kind", "progress", "checkpoint",
    )
)  # fmt: skip

RIGHTS: Mapping[Role, Mapping[str, str]] = {
    Role.ENGINE: {
        "jobs": _ALL,
        "attempts": _ALL,
        "log_lines": _ALL,
        "records": _ALL,
        "once": _ALL,
        "starts": _ALL,
        "meta": "select, update (settings)",
    },
    Role.PRODUCER: {
        "jobs": f"select, insert, update ({_CONTENT})",
        "attempts": "select",
        "log_lines": "select",
        "records": "select, insert",
        "once": "select, insert, update",
        "starts": "select",
        "meta": "select, update (settings)",
    },
    Role.VIEWER: dict.fromkeys(TABLES, "select"),
}
"""By role and table; who migrates owns the tables."""


def grants(role: Role, user: str, *, schema: str | None, prefix: str, database: str | None = None) -> list[str]:
    """The statements that give a user what a role needs; they may be run again.

    schema: None: `public`. database: None: whoever runs them sees to the right to connect.
    """
    if user in _NOBODY:
        raise ConfigError(f"{user!r} is no user of its own in PostgreSQL")
    who = quoted(user)
    place = quoted(schema or DEFAULT_SCHEMA)
    tables = {name: f"{place}.{quoted(prefix + name)}" for name in TABLES}
    statements = [] if database is None else [f"grant connect on database {quoted(database)} to {who}"]
    if role is Role.MIGRATION:
        if schema is not None:
            statements.append(f"create schema if not exists {place}")
        statements.append(f"grant usage, create on schema {place} to {who}")
        # Those that are there already; what it makes itself is its own.
        statements += [f"alter table if exists {table} owner to {who}" for table in tables.values()]
    else:
        statements.append(f"grant usage on schema {place} to {who}")
        statements += [f"grant {rights} on {tables[name]} to {who}" for name, rights in RIGHTS[role].items()]
    return statements


def quoted(name: str) -> str:
    """A name as PostgreSQL takes it, whatever is in it."""
    if not name or len(name.encode()) > 63 or not name.isprintable():
        raise ConfigError(f"{name[:80]!r} cannot be a name in PostgreSQL: 1 to 63 bytes, and nothing invisible")
    return '"' + name.replace('"', '""') + '"'
