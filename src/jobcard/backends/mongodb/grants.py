"""What each role may do in MongoDB, as the commands that an administrator runs once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from jobcard.backends.mongodb.connection import COLLECTIONS
from jobcard.backends.roles import Role
from jobcard.errors import ConfigError

_FINDS = ("find",)
_ADDS = ("find", "insert", "update")
_ALL = ("find", "insert", "update", "remove")
_MAKES = (
    "createCollection",
    "createIndex",
    "dropCollection",
    "dropIndex",
    "listIndexes",
    "collMod",
    "bypassDocumentValidation",
)

RIGHTS: Mapping[Role, Mapping[str, Sequence[str]]] = {
    Role.ENGINE: {**dict.fromkeys(COLLECTIONS, _ALL), "jobs": (*_ALL, "changeStream")},
    # Storing several jobs at once is a few writes: the jobs, a record that commits them, and their state.
    Role.PRODUCER: {"jobs": _ADDS, "loads": _ALL, "records": _ADDS, "once": _ALL, "limits": _FINDS},
    Role.VIEWER: dict.fromkeys(COLLECTIONS, _FINDS),
    Role.MIGRATION: dict.fromkeys(COLLECTIONS, (*_ALL, *_MAKES)),
}
"""By role and collection, and nothing else in the database."""


def grants(role: Role, user: str, *, prefix: str, database: str, home: str) -> list[str]:
    """The commands that make a role of this name and give it to a user.

    home: the database that the user is kept in.
    """
    if not user or "\0" in user or len(user) > 100:
        raise ConfigError(f"{user[:80]!r} cannot be a user in MongoDB: 1 to 100 characters, none of them NUL")
    name = f"{prefix}_{role}"
    privileges = [
        {"resource": {"db": database, "collection": f"{prefix}.{collection}"}, "actions": list(actions)}
        for collection, actions in RIGHTS[role].items()
    ]
    return [
        _command(database, {"createRole": name, "privileges": privileges, "roles": []}),
        _command(home, {"grantRolesToUser": user, "roles": [{"role": name, "db": database}]}),
    ]


def _command(database: str, command: Mapping[str, object]) -> str:
    # JSON is JavaScript, whatever stands in a name.
    return f"db.getSiblingDB({json.dumps(database)}).runCommand({json.dumps(command)})"
