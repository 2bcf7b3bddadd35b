"""Jobs are canceled at any moment: before they are claimed, in their first or last breath, and while they run."""

from __future__ import annotations

import contextlib
import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene
from jobcard.errors import StoreUnavailableError, TransitionError

AT_ONCE = 15


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Cancel some of the newest jobs, and one that runs until it is told; the checker sees who ran after all."""
    app = scene.app
    [handle] = yield from scene.enqueued(app.obey)
    for job in chance.sample(sorted(scene.tail.newest), min(AT_ONCE, len(scene.tail.newest))):
        scene.cancel(job)
        yield
    job = handle.id.hex
    yield from scene.until(lambda: job in scene.tail.begun, "a job to cancel", timeout=60)
    told: list[bool] = []

    def insist() -> None:
        while not told:
            # A host that stands still may have the lock of a file.
            with contextlib.suppress(StoreUnavailableError):
                try:
                    handle.cancel()
                    told.append(True)
                except TransitionError:
                    told.append(False)

    yield from scene.in_background(insist)
    if not told[0]:
        return  # its engine died, and it ended as it was told to stop
    at = scene.now()
    yield from scene.until(lambda: job in scene.tail.told or scene.ended(handle) is not None, "a told job")
    yield  # it may have ended since the histories were read
    if job in scene.tail.told:
        scene.measured("cancel_told", max(0.0, scene.tail.told[job] - at))


FAULT = Fault("jobs-canceled", strike, {"cancel_told": 2.0}, breaks="nothing")
