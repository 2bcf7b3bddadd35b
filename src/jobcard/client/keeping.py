"""`jobs.backup` and `jobs.restore`: a store into a file, and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobcard.client.store import Connection, refuse_in_job

if TYPE_CHECKING:
    from jobcard.moving.backup import Backup, Restored

Path = str | os.PathLike[str]
Tell = Callable[[int], object]
"""Hears how many jobs are done so far."""


def _unheard(_so_far: int) -> None:
    return


def back_up(connection: Connection, path: Path, *, overwrite: bool, tell: Tell = _unheard) -> Backup:
    """Write all that the store has into a file."""
    from jobcard.moving import backup  # only now: most processes never need it

    with connection.direct() as store:
        store.check_schema()
        return backup.back_up(store, backup.path_from(path), overwrite=overwrite, tell=tell)


def restore(connection: Connection, path: Path, *, merge: bool, tell: Tell = _unheard) -> Restored:
    """Write what a backup has into the store."""
    from jobcard.moving import backup

    refuse_in_job("a backup cannot be restored")
    where = backup.path_from(path)
    with connection as store:
        return backup.restore(store, where, merge=merge, tell=tell)
