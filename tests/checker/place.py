"""A store for a load that breaks it: on a server of its own that may be killed, behind a network that may be broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from checker.faults.disk_full import small_disk
from helpers.places import Place, own_place
from helpers.proxy import Proxy


@contextlib.contextmanager
def place_for_faults(kind: str, folder: Path, *, small: bool = False) -> Iterator[tuple[Place, Proxy | None]]:
    """The store, and the way to it; None: it is a file.

    small: on a disk of its own that can be filled, where one can be had.
    """
    with contextlib.ExitStack() as undo:
        disk = undo.enter_context(small_disk()) if small else None
        if kind == "sqlite":
            yield Place(kind, f"sqlite:///{(disk or folder) / 'jobs.db'}", disk=disk), None
            return
        place = undo.enter_context(own_place(kind, disk))
        yield place, undo.enter_context(Proxy(place.port))
