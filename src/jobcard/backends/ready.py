"""What must hold before a store is used: its schema fits, and it is as durable as was asked for."""

from __future__ import annotations

import logging

from jobcard.backends.base import Backend
from jobcard.core.findings import Severity
from jobcard.errors import ConfigError

_log = logging.getLogger("jobcard.store")


def make_ready(backend: Backend, *, migrate: bool, strict_durability: bool) -> None:
    """Migrate the store, or check that it is; with `strict_durability` refuse one that may lose what it confirmed.

    One that is open to look only is checked, whatever `migrate` says. `SchemaVersionError` when the schema does not
    fit, `ConfigError` naming what makes the store unsafe.
    """
    if migrate and not backend.capabilities.readonly:
        backend.migrate()
    else:
        backend.check_schema()
    if strict_durability and (problems := backend.facts().problems):
        raise ConfigError(f"strict_durability: {'; '.join(problems)}")


def refuse_to_look_only(backend: Backend) -> None:
    """`ConfigError` for a store that is open with readonly=1: an engine could change nothing in it."""
    if backend.capabilities.readonly:
        raise ConfigError("this store is open with readonly=1, and an engine changes it: start it without")


def warn_of_open_door(backend: Backend) -> None:
    """Log a warning when whoever reaches the server of a store could read and change its jobs."""
    for finding in backend.examine():
        if finding.code == "url.password" and finding.severity == Severity.ERROR:
            _log.warning("store.open %s: %s; %s", finding.subject, finding.text, finding.fix)
