"""Who uses a store: four roles, each with the rights it needs and no others."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Role(StrEnum):
    """One part of the system with a user of its own on the server; `grants` of a store says what that user may do."""

    ENGINE = "engine"
    """Everything but the schema: runs jobs and prunes them; operators' clients, which cancel, retry and delete, too."""
    PRODUCER = "producer"
    """Adds jobs and looks them up, waits for results; changes no job that is stored, ends none, deletes none."""
    VIEWER = "viewer"
    """Reads: lists, counts, figures, a dashboard that only shows; writes nothing."""
    MIGRATION = "migration"
    """Makes, changes and drops the tables, seals a store, and all the rest; for the time of a deployment or a move."""


_VERBS = {
    Role.PRODUCER: ("enqueue",),
    Role.VIEWER: (
        "check_schema", "get", "attempts", "log_lines", "ended", "list", "count", "count_over_time", "tally",
        "lines", "usage", "dependents", "read_records", "versions", "once_keys", "facts",
    ),
    Role.MIGRATION: ("migrate", "rollback", "seal"),
}  # fmt: skip


def role_for(verb: str) -> Role:
    """The role with the fewest rights that may do what this verb of a store does."""
    return next((role for role, verbs in _VERBS.items() if verb in verbs), Role.ENGINE)


def way_out(verb: str) -> str:
    """What to do where a user lacks the rights for a verb."""
    if verb == "migrate":
        return (
            "if the tables are there, this user may not see them, or they are old: "
            "`jobcard grants` prints what each role needs, and `--role migration` what this takes"
        )
    return f"{verb} takes the rights that `jobcard grants --role {role_for(verb)}` prints"


@runtime_checkable
class HasRoles(Protocol):
    """A store on a server with users. A store may be without; then everybody who reaches it may do everything."""

    def grants(self, role: Role, user: str) -> Sequence[str]:
        """The statements, for an administrator, that give this user what the role needs; opens nothing."""
        ...
