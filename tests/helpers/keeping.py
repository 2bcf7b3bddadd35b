"""Backing up and restoring as users who may do no more than their role needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobcard import Jobcard, Unique
from jobcard.backends.roles import Role


def viewer_backs_up_and_engine_restores(client: Callable[..., Jobcard], folder: Path) -> None:
    """A job of a producer goes into a file and comes back. client: makes the one of a role's user."""
    with client(Role.PRODUCER) as producer:
        handle = producer.job(name="add", unique=Unique(per="day"))(lambda: None).enqueue()
    with client(Role.VIEWER, migrate=False) as viewer:
        assert viewer.backup(folder / "shop.jobcard").jobs == 1
    with client(Role.MIGRATION) as jobs:
        jobs.truncate(confirm=True)
    with client(Role.ENGINE) as engine:
        assert engine.restore(folder / "shop.jobcard").jobs == 1
        assert engine.get(handle.id).state == "waiting"
