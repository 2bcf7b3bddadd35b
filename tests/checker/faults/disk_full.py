"""The disk of the store is full for a while: nothing breaks, enqueueing says so, and all goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene
from jobcard.errors import StoreError, StoreFullError

FULL_SECONDS = 5.0
LAST_WORDS_SECONDS = 2.0
"""A server that gives up for want of room may write about it for a while before it ends."""
MEGABYTES = 1024


@contextlib.contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system of its own, in memory; None where this machine does not let us mount one."""
    folder = Path(tempfile.mkdtemp(prefix="jobcard-disk-"))
    options = f"size={MEGABYTES}m,mode=755"  # servers have users of their own, and must find the way to it
    folder.chmod(0o755)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            yield None
            return
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()


def _why_not(scene: Scene) -> str:
    if scene.place.disk is None:
        return "NOT PROVEN: this machine lets us mount no file system that could be filled"
    return ""


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Fill the disk, free it some seconds later; recovered when every engine runs jobs again.

    A server that ended because its disk was full is started again then, as its operator would.
    """
    disk, server = scene.place.disk, scene.place.server
    assert disk is not None
    ballast = disk / "ballast"
    said: list[str] = []
    _fill(ballast)
    full_at = scene.now()
    try:
        while scene.now() - full_at < FULL_SECONDS:
            yield from scene.in_background(lambda: said.append(_enqueue(scene)))
            _fill(ballast)
            yield from scene.after(0.2)
    finally:
        ballast.unlink()
    scene.count("said_full", said.count("StoreFullError"))
    if server is None and "StoreFullError" not in said:
        scene.broken("stuck", f"nobody said that the disk is full, but {sorted(set(said))}")
    yield from scene.after(LAST_WORDS_SECONDS)
    if server is not None and not server.runs:
        scene.count("servers_ended_by_a_full_disk", 1)
        yield from scene.in_background(server.start)
    elif "StoreFullError" not in said:
        scene.count("full_disks_not_felt", 1)  # a server may live on room that it took before
    yield from scene.back("disk_back", scene.now())
    if server is None and (found := _integrity(disk / "jobs.db")) != "ok":
        scene.broken("lost", f"the file is damaged: {found}")


def _fill(ballast: Path) -> None:
    """Take every byte that is left."""
    block = bytes(1 << 16)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            if file.write(block) < len(block):
                os.write(file.fileno(), block[:4096])


def _enqueue(scene: Scene) -> str:
    try:
        scene.lab.enqueue(scene.app, [scene.app.hardy.call()])
    except StoreFullError:
        return "StoreFullError"
    except StoreError as error:
        for job in getattr(error, "ids", ()):
            scene.lab.history.write("enq-unknown", job.hex)
        return type(error).__name__
    return "stored"


def _integrity(file: Path) -> object:
    connection = apsw.Connection(str(file))
    try:
        [(answer,)] = connection.execute("pragma integrity_check")
        return answer
    finally:
        connection.close()


FAULT = Fault("disk-full", strike, {"disk_back": 10.0}, "all", _why_not)
