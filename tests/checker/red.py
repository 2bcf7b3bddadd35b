"""What is kept of a run that went wrong: histories, rows, logs, under the temporary directory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from checker.lab import Lab
from helpers.places import Place

VARIABLE = "JOBCARD_TEST_RED"


def keep(lab: Lab, place: Place, seed: int) -> Path:
    """Copy everything that may explain it to $JOBCARD_TEST_RED, or `jobcard-red` in the temporary directory; where."""
    parent = Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir()) / "jobcard-red")
    folder = parent / f"{place.kind}-seed{seed}-{time.strftime('%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    shutil.copytree(lab.histories, folder / "history")
    for log in lab.folder.glob("errors-*.txt"):
        shutil.copy(log, folder)
    if place.server is not None:
        shutil.copy(place.server.log, folder / "server.log")
    try:
        stored = lab.stored()
        rows = [row._asdict() for row in stored.rows]
        (folder / "rows.json").write_text("\n".join(map(json.dumps, rows)))
        (folder / "endings.json").write_text("\n".join(json.dumps(ending._asdict()) for ending in stored.endings))
    except Exception as error:
        (folder / "rows.json").write_text(f"the store could not be read: {error}")
    return folder
