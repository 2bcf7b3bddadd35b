"""Stores that would forget: the doctor names each setting and its remedy, `strict_durability` refuses by the same."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patient import Patient

from helpers.apps import App
from helpers.behind import on_mysql
from helpers.places import ALL, new_place
from helpers.quick import Commands, QuickApp
from helpers.servers import KINDS, OwnServer
from jobcard import Jobcard
from jobcard.core.findings import weaknesses
from jobcard.errors import ConfigError

pytestmark = pytest.mark.turns

Told = dict[str, dict[str, Any]]
SWITCHES = ("fsync", "full_page_writes", "synchronous_commit")


@contextlib.contextmanager
def weak(kind: str, app: App, *flags: str) -> Iterator[Patient]:
    """A server of one's own that was started with these flags."""
    server = copy.copy(KINDS[kind])
    server.lasting = (*server.lasting, *flags)
    own = OwnServer(server)
    try:
        own.start()
        yield Patient(app, own.url)
    finally:
        own.close()


@pytest.fixture
def app(tmp_path: Path, commands: Commands) -> App:
    return QuickApp(tmp_path, commands)


def bad(patient: Patient, *, code: int) -> Told:
    """What the doctor tells about durability that is not as it should be, by its code."""
    return {
        finding["code"].partition(".")[2]: finding
        for finding in patient.told(code=code)
        if finding["code"].startswith("durability.") and finding["severity"] in ("warning", "error")
    }


def assert_strict_refuses(patient: Patient, told: Told) -> None:
    """An application that asks for durability is refused, for exactly what the doctor told."""
    store = patient.store()
    words = weaknesses(store.examine())
    store.close()
    assert words == [f"{finding['text']}; {finding['fix']}" for finding in told.values()]
    with Jobcard(patient.url, strict_durability=True) as jobs:
        with pytest.raises(ConfigError) as refused:
            jobs.count()
        assert all(finding["text"] in str(refused.value) for finding in told.values())
        assert all(finding["fix"] for finding in told.values())


def make(patient: Patient) -> None:
    store = patient.store()
    store.migrate()
    store.close()


@pytest.mark.parametrize("kind", ALL)
def test_a_healthy_store_is_taken(kind: str, tmp_path: Path) -> None:
    """With the settings that we advise nothing is refused."""
    with new_place(kind, tmp_path) as place, Jobcard(place.url, strict_durability=True) as jobs:
        assert jobs.count().total == 0
        assert jobs.health().problems == ()


class TestSQLite:
    @pytest.mark.parametrize(
        ("options", "point", "code", "fix"),
        [
            ("synchronous=normal", "synchronous", 0, "full"),
            ("synchronous=off", "synchronous", 1, "full"),
            ("library=sqlite3", "wal_reset", 1, "apsw"),
        ],
    )
    def test_options_that_forget(self, app: App, tmp_path: Path, options: str, point: str, code: int, fix: str) -> None:
        """Each is named; `off`, and a library that loses commits, are errors."""
        import sqlite3

        if point == "wal_reset" and sqlite3.sqlite_version_info >= (3, 51, 3):
            pytest.skip(f"Python's own SQLite is {sqlite3.sqlite_version} here, which has not the bug")
        patient = Patient(app, f"sqlite:///{tmp_path / 'jobs.db'}?{options}")
        assert patient.app.jobcard("migrate", "--url", patient.url).code == 0
        told = bad(patient, code=code)
        assert [*told] == [point] and fix in told[point]["fix"]
        if point != "wal_reset":  # this process has another library
            assert_strict_refuses(patient, told)

    def test_a_file_that_others_may_read(self, app: App, tmp_path: Path) -> None:
        """A warning with the very command; when that was run it is gone."""
        patient = Patient(app, f"sqlite:///{tmp_path / 'jobs.db'}")
        make(patient)
        (tmp_path / "jobs.db").chmod(0o644)
        [told] = patient.named("file.permissions")
        assert (told["severity"], "0644" in told["text"]) == ("warning", True)
        assert told["fix"].startswith(f"chmod 600 {tmp_path / 'jobs.db'}")
        assert patient.run("--strict").code == 1
        (tmp_path / "jobs.db").chmod(0o600)
        assert patient.run("--strict").code == 0


@pytest.mark.slow
class TestServers:
    def test_postgresql(self, app: App) -> None:
        """fsync, full_page_writes and synchronous_commit."""
        off = [part for name in SWITCHES for part in ("-c", f"{name}=off")]
        with weak("postgres", app, *off) as patient:
            make(patient)
            told = bad(patient, code=1)
            assert [*told] == [*SWITCHES]
            assert all(f"{name} = on" in told[name]["fix"] for name in SWITCHES)
            assert_strict_refuses(patient, told)

    def test_mariadb(self, app: App) -> None:
        """innodb_flush_log_at_trx_commit at 2 is a warning, at 0 an error; a server that takes no writes."""
        name = "innodb_flush_log_at_trx_commit"
        with weak("mariadb", app, f"--{name}=2", "--innodb-doublewrite=0") as patient:
            make(patient)
            told = bad(patient, code=0)
            assert [*told] == [name, "innodb_doublewrite"]
            assert (told[name]["severity"], f"{name} = 1" in told[name]["fix"]) == ("warning", True)
            assert_strict_refuses(patient, told)
            for statement in (f"set global {name} = 0", "set global read_only = on"):
                on_mysql(patient.url, statement)
            told = bad(patient, code=1)
            assert told[name]["severity"] == told["standby"]["severity"] == "error"

    @pytest.mark.parametrize("kind", ["redis", "valkey"])
    def test_redis(self, kind: str, app: App) -> None:
        """appendonly, appendfsync and the policy of eviction, which is refused without being asked."""
        with weak(kind, app, "--appendonly", "no") as patient:
            make(patient)
            store = patient.store()
            client = store._client  # type: ignore[attr-defined]
            told = bad(patient, code=1)
            assert [*told] == ["appendonly"] and "appendonly yes" in told["appendonly"]["fix"]
            assert_strict_refuses(patient, told)
            client.config_set("appendonly", "yes")
            client.config_set("appendfsync", "no")
            told = bad(patient, code=0)
            assert [*told] == ["appendfsync"] and "appendfsync always" in told["appendfsync"]["fix"]
            assert_strict_refuses(patient, told)
            client.config_set("appendfsync", "everysec")
            [told_note] = patient.named("durability.appendfsync")
            assert (told_note["severity"], "last second" in told_note["text"]) == ("note", True)
            client.config_set("maxmemory-policy", "allkeys-lru")
            [told_note] = patient.named("durability.eviction")
            assert (told_note["severity"], "noeviction" in told_note["fix"]) == ("note", True)
            client.config_set("maxmemory", "500mb")
            told = bad(patient, code=1)
            assert (told["eviction"]["severity"], "noeviction" in told["eviction"]["fix"]) == ("error", True)
            with pytest.raises(ConfigError, match="noeviction"), Jobcard(patient.url) as jobs:
                jobs.count()
            store.close()

    def test_mongodb(self, app: App) -> None:
        """A majority that need not have it on disk."""
        from pymongo import MongoClient

        with weak("mongodb", app) as patient:
            make(patient)
            with MongoClient[dict[str, Any]](patient.url) as client:
                settings = client.admin.command("replSetGetConfig")["config"]
                settings |= {"writeConcernMajorityJournalDefault": False, "version": settings["version"] + 1}
                client.admin.command("replSetReconfig", settings)
            told = bad(patient, code=1)
            assert [*told] == ["majority_journal"] and "rs.reconfig()" in told["majority_journal"]["fix"]
            assert_strict_refuses(patient, told)
