"""From any store, by a file, into any store: equal, field by field."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from helpers.places import new_place
from helpers.stock import everything, fill
from jobcard.backends.registry import open_backend
from jobcard.moving.backup import back_up, restore

pytestmark = pytest.mark.turns

KINDS = ["sqlite", "postgres", "mariadb", "mongodb", "redis"]
RING = {*zip(KINDS, KINDS[1:] + KINDS[:1], strict=True)}
"""Each is the source once and the target once: what the tests of a week do."""


def pairs() -> list[object]:
    found = []
    for source, target in product(KINDS, KINDS):
        marks = [pytest.mark.slow] if {source, target} != {"sqlite"} else []
        if (source, target) not in {*RING, ("sqlite", "sqlite")}:
            marks.append(pytest.mark.long)
        found.append(pytest.param(source, target, marks=marks, id=f"{source}-{target}"))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("source", "target"), pairs())
def test_what_one_store_had_another_has(source: str, target: str, tmp_path: Path) -> None:
    """Jobs in every state and under every hold with their tries and lines, once keys, queues, schedules."""
    for folder in ("from", "to"):
        (tmp_path / folder).mkdir()
    with new_place(source, tmp_path / "from") as one, new_place(target, tmp_path / "to") as other:
        here, there = open_backend(one.url), open_backend(other.url)
        try:
            for store in (here, there):
                store.migrate()
            fill(here)
            before = everything(here)
            made = back_up(here, tmp_path / "shop.jobcard")
            done = restore(there, made.path)
            assert everything(there) == before
            assert everything(here) == before
            assert made.jobs == done.jobs == len(before["jobs"])
            again = back_up(there, tmp_path / "again.jobcard")
            assert again.jobs == made.jobs
        finally:
            here.close()
            there.close()
