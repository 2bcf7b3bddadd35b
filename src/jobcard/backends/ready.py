"""What must hold before a store is used: its schema fits, and it is as durable as was asked for."""

from __future__ import annotations

from jobcard.backends.base import Backend
from jobcard.errors import ConfigError


def make_ready(backend: Backend, *, migrate: bool, strict_durability: bool) -> None:
    """Migrate the store, or check that it is; with `strict_durability` refuse one that may lose what it confirmed.

    `SchemaVersionError` when the schema does not fit, `ConfigError` naming what makes the store unsafe.
    """
    if migrate:
        backend.migrate()
    else:
        backend.check_schema()
    if strict_durability and (problems := backend.facts().problems):
        raise ConfigError(f"strict_durability: {'; '.join(problems)}")
