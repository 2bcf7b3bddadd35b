"""Many producers at once want the same unique jobs."""

from __future__ import annotations

import json
import subprocess

import pytest

from checker.lab import Lab
from helpers.places import Place
from jobcard import Jobcard

pytestmark = pytest.mark.turns

PROCESSES, THREADS = 4, 8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("keys", [50, pytest.param(1_000, marks=pytest.mark.long)])
def test_of_32_producers_one_stores_each_unique_job(lab: Lab, place: Place, keys: int) -> None:
    """In four processes, each with its keys in another order: every key has one living job, which all are told of."""
    with Jobcard(place.url) as jobs:
        jobs.migrate()
        gate = lab.folder / "gate"
        racing = [
            lab.python("-m", "racing", str(gate), str(THREADS), str(keys), str(seed)) for seed in range(PROCESSES)
        ]
        for process in racing:
            for _ in range(THREADS):
                assert _line(process) == "ready"
        gate.touch()
        told = [json.loads(_line(process)) for process in racing for _ in range(THREADS)]
        assert [process.wait(30) for process in racing] == [0] * PROCESSES
        living = {job.args[0]: job.id.hex for job in jobs.iterate()}
        assert jobs.count().total == len(living) == keys
        assert all(each == living for each in told)


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()
