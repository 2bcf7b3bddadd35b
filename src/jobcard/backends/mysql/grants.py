"""What each role may do in MySQL and MariaDB, as the statements that an administrator runs once."""

from __future__ import annotations

from collections.abc import Mapping

from jobcard.backends.roles import Role
from jobcard.backends.sql.schema import TABLES
from jobcard.errors import ConfigError

# `meta` counts what engines want to hear of: a new queue, a job put in line. Its `word` is for migrations and seals.
# `turns` are only locked. Who takes a once key whose time is over deletes the one that was there.
_ALL = "select, insert, update, delete"

RIGHTS: Mapping[Role, Mapping[str, str]] = {
    Role.ENGINE: {
        "jobs": _ALL,
        "attempts": _ALL,
        "log_lines": _ALL,
        "once": _ALL,
        "starts": _ALL,
        "turns": "select, update",
        "records": _ALL,
        "meta": "select, update (number)",
    },
    Role.PRODUCER: {
        "jobs": "select, insert",
        "attempts": "select",
        "log_lines": "select",
        "once": "select, insert, delete",
        "starts": "select",
        "turns": "select",
        "records": "select, insert",
        "meta": "select, update (number)",
    },
    Role.VIEWER: dict.fromkeys(TABLES, "select"),
    Role.MIGRATION: dict.fromkeys(TABLES, f"create, alter, index, drop, trigger, {_ALL}"),
}
"""By role and table, and nothing else in the database."""


def grants(role: Role, user: str, *, prefix: str, database: str) -> list[str]:
    """The statements that give an account what a role needs; they may be run again.

    user: `name@host`, or a name alone: from any host.
    """
    name, _, host = user.rpartition("@") if "@" in user else (user, "", "%")
    who = f"{quoted(name)}@{quoted(host)}"
    return [
        f"grant {rights} on {quoted(database)}.{quoted(prefix + table)} to {who}"
        for table, rights in RIGHTS[role].items()
    ]


def quoted(name: str) -> str:
    """A name as the servers take it, whatever is in it: between back-ticks nothing else is special."""
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise ConfigError(f"{name[:80]!r} cannot be a name in MySQL: at least one character, and nothing invisible")
    return "`" + name.replace("`", "``") + "`"
