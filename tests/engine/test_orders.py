"""What an operator tells a running engine: to be quiet, to work again, to stop; and what it says of itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import Jobcard
from jobcard.backends.base import RecordKind
from jobcard.backends.sqlite import SQLiteBackend

APP = """
    import time
    from pathlib import Path
    from jobcard import Jobcard
    jobs = Jobcard({url!r})

    @jobs.job(name="until", max_attempts=3)
    def until(path: str) -> str:
        while not Path(path).exists():
            time.sleep(0.01)
        return path
"""


@pytest.mark.slow
def test_an_engine_does_what_it_is_told(lab: Lab) -> None:
    """Quiet: it finishes what it has and takes nothing; work: it goes on; stop: it ends as with SIGTERM."""
    url = f"sqlite:///{lab.folder}/orders.db"
    Path(lab.folder, "orders.py").write_text(dedent(APP).format(url=url))
    jobs = Jobcard(url)
    tree = lab.start("orders:jobs", "--lease", "30", "--heartbeat", "0.5")
    store = SQLiteBackend(url)

    def about() -> dict[str, Any]:
        [record] = store.read_records(RecordKind.ENGINE)
        return {**json.loads(record.value), "id": record.key}

    def order(what: str) -> None:
        store.write_record(RecordKind.ORDER, about()["id"], json.dumps({"order": what}))

    gate = lab.folder / "gate"
    running = jobs.enqueue("until", [str(gate)], strict=False)
    wait_until(lambda: about()["jobs"], "the record to name the job that runs", timeout=30)
    [[pid, job_id, name, since]] = about()["jobs"]
    assert (job_id, name, about()["app"]) == (str(running.id), "until", "orders:jobs")
    assert pid in about()["workers"] and abs(since / 1e6 - time.time()) < 120
    order("quiet")
    wait_until(lambda: about()["quiet"], "the engine to be quiet", timeout=30)
    later = jobs.enqueue("until", [str(gate)], strict=False)
    gate.touch()
    assert running.result(timeout=30) == str(gate)
    assert later.refresh().state == "waiting" and later.refresh().attempt == 0
    order("work")
    assert later.result(timeout=30) == str(gate)
    wait_until(lambda: not about()["quiet"], "the engine to say that it works", timeout=30)
    order("stop")
    assert tree.wait(timeout=60) == 0
    assert store.read_records(RecordKind.ENGINE) == store.read_records(RecordKind.ORDER) == []
    store.close()
    jobs.close()
