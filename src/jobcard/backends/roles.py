"""Who uses a store: four roles, each with the rights it needs and no others."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """One part of the system with a user of its own on the server; `grants` of a store says what that user may do."""

    ENGINE = "engine"
    """Everything but the schema: runs jobs and prunes them; operators' clients, which cancel, retry and delete, too."""
    PRODUCER = "producer"
    """Adds jobs and looks them up, waits for results; changes no job that is stored, ends none, deletes none."""
    VIEWER = "viewer"
    """Reads: lists, counts, figures, a dashboard that only shows; writes nothing."""
    MIGRATION = "migration"
    """Makes, changes and drops the tables, and all the rest; for the time of a deployment."""
