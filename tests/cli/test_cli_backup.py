"""`jobcard backup` and `jobcard restore`: what they ask, what they say, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import complaint, listed, succeeded
from terminal import on_terminal

from helpers.apps import App
from helpers.behind import spoil
from jobcard import Jobcard, Unique

OTHER = "sqlite:///other.db"


@pytest.fixture
def file(shop: App) -> Path:
    """A backup of the shop."""
    succeeded(shop.jobcard("backup", "shop.jobcard"))
    return shop.directory / "shop.jobcard"


def count(shop: App) -> int:
    """The jobs of the other store; 0 where there is none."""
    if not (shop.directory / "other.db").exists():
        return 0
    return len(listed(shop, "--url", OTHER))


class TestBackup:
    def test_it_says_what_it_made(self, shop: App) -> None:
        """A line for people, an object for programs."""
        assert "4 jobs backed up: shop.jobcard" in succeeded(shop.jobcard("backup", "shop.jobcard")).out
        told = json.loads(succeeded(shop.jobcard("backup", "shop.jobcard", "--overwrite", "--json")).out)
        size = (shop.directory / "shop.jobcard").stat().st_size
        assert told == {"path": "shop.jobcard", "jobs": 4, "size": size, "unreadable": []}

    def test_a_name_that_is_taken(self, shop: App, file: Path) -> None:
        """Exit code 2, and what is there stays; the store itself is never overwritten."""
        before = file.read_bytes()
        assert "is there already" in complaint(shop.jobcard("backup", "shop.jobcard"), 2)
        assert file.read_bytes() == before
        assert "is no backup" in complaint(shop.jobcard("backup", "jobcard.db", "--overwrite"), 2)
        assert len(listed(shop)) == 4

    def test_what_cannot_be_written(self, shop: App) -> None:
        """Exit code 3."""
        assert "No such file" in complaint(shop.jobcard("backup", "missing/shop.jobcard"), 3)

    def test_a_store_that_is_not_there(self, bare: App) -> None:
        """Exit code 3, and neither a schema nor a file is made."""
        complaint(bare.jobcard("backup", "shop.jobcard"), 3)
        assert not (bare.directory / "shop.jobcard").exists()

    def test_a_job_that_cannot_be_read(self, shop: App) -> None:
        """It is named, the others are backed up; exit code 1, or 0 with `--skip-unreadable`."""
        spoilt = listed(shop)[0]["id"]
        spoil(f"sqlite:///{shop.directory / 'jobcard.db'}", bytes.fromhex(spoilt.replace("-", "")), attempt="many")
        ran = shop.jobcard("backup", "shop.jobcard")
        assert ran.code == 1
        assert "3 jobs backed up" in ran.out
        assert spoilt in ran.err
        ran = succeeded(shop.jobcard("backup", "shop.jobcard", "--overwrite", "--skip-unreadable", "--json"))
        assert json.loads(ran.out)["unreadable"] == [spoilt]


class TestRestore:
    def test_without_a_terminal_it_needs_yes(self, shop: App, file: Path) -> None:
        """Exit code 2, and nothing is written; with `--yes` it is done, into a store that is made for it."""
        assert "--yes" in complaint(shop.jobcard("restore", "shop.jobcard", "--url", OTHER), 2)
        assert count(shop) == 0
        ran = succeeded(shop.jobcard("restore", "shop.jobcard", "--url", OTHER, "--yes"))
        assert "4 jobs restored" in ran.out
        before = sorted(listed(shop), key=lambda job: job["id"])
        assert sorted(listed(shop, "--url", OTHER), key=lambda job: job["id"]) == before

    def test_on_a_terminal_it_asks(self, shop: App, file: Path) -> None:
        """No: exit code 1, nothing is written. Yes: it is done."""
        for answer, code, jobs in (("n\n", 1, 0), ("y\n", 0, 4)):
            ran = on_terminal(shop, "restore", "shop.jobcard", "--url", OTHER, answer=answer, until="Write 4 jobs")
            assert ran.code == code, ran
            assert count(shop) == jobs

    def test_a_store_that_is_not_empty(self, shop: App, file: Path) -> None:
        """Exit code 2; with `--merge` what it has stays, and what it lacks is added."""
        with Jobcard(f"sqlite:///{shop.directory / 'other.db'}") as jobs:
            jobs.enqueue("x.y", strict=False)
        arguments = ("restore", "shop.jobcard", "--url", OTHER, "--yes", "--json")
        assert "not empty" in complaint(shop.jobcard(*arguments), 2)
        assert count(shop) == 1
        told = json.loads(succeeded(shop.jobcard(*arguments, "--merge")).out)
        assert told == {"jobs": 4, "present": 0, "refused": []}
        told = json.loads(succeeded(shop.jobcard(*arguments, "--merge")).out)
        assert told == {"jobs": 0, "present": 4, "refused": []}
        assert count(shop) == 5

    def test_a_damaged_file(self, shop: App, file: Path) -> None:
        """Exit code 3 before anything is asked, and no store is made."""
        file.write_bytes(file.read_bytes()[:-1])
        assert "is damaged" in complaint(shop.jobcard("restore", "shop.jobcard", "--url", OTHER), 3)
        assert not (shop.directory / "other.db").exists()
        complaint(shop.jobcard("restore", "missing.jobcard", "--url", OTHER, "--yes"), 2)

    def test_a_key_that_is_taken(self, shop: App) -> None:
        """The job that is not written is named; exit code 1."""

        def only_one(jobs: Jobcard) -> str:
            @jobs.job(name="only.one", unique=Unique())
            def only() -> None: ...

            return str(only.enqueue().id)

        with Jobcard(f"sqlite:///{shop.directory / 'jobcard.db'}") as jobs:
            refused = only_one(jobs)
        succeeded(shop.jobcard("backup", "shop.jobcard"))
        with Jobcard(f"sqlite:///{shop.directory / 'other.db'}") as jobs:
            only_one(jobs)
        ran = shop.jobcard("restore", "shop.jobcard", "--url", OTHER, "--yes", "--merge")
        assert ran.code == 1
        assert "4 jobs restored" in ran.out
        assert refused in ran.err
