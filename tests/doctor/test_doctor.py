"""`jobcard doctor` on every kind of store: a healthy one, and one with each fault that can be planted from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from patient import Patient

from helpers.apps import App
from helpers.behind import set_schema_version, spoil
from helpers.waiting import wait_until
from jobcard.backends.base import RecordKind
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.queue import Queue, queue_to_text
from jobcard.version import VERSION

pytestmark = pytest.mark.turns

SHOP = """
    from jobcard import Jobcard

    jobs = Jobcard(max_concurrent_jobs=1)

    @jobs.job
    def add(a: int, b: int) -> int:
        return a + b

    if __name__ == "__main__":
        with jobs.running():
            assert add.enqueue(1, 2).result(timeout=60) == 3
"""


LIVELY = ("--lease", "3", "--heartbeat", "0.2")


def severities(findings: list[dict[str, str]]) -> set[str]:
    return {finding["severity"] for finding in findings}


class TestHealthy:
    def test_a_store_that_has_worked_is_well(self, patient: Patient) -> None:
        """Exit code 0, every point told, versions by name; in words too, with nothing that needs a terminal."""
        patient.app.write("shop.py", SHOP)
        ran = patient.app.python("shop.py", env={"JOBCARD_URL": patient.url})
        assert ran.code == 0, ran.err
        found = patient.told("--full")
        assert severities(found) <= {"ok", "note"}, [each for each in found if each["severity"] not in ("ok", "note")]
        assert all(set(finding) == {"code", "severity", "subject", "text", "fix"} for finding in found)
        codes = {finding["code"] for finding in found}
        assert {"versions.driver", "versions.server", "durability.survives", "store.schema", "store.identity"} <= codes
        assert {"clock.offset", "jobs.parked", "jobs.broken", "rows.looked", "rows.impossible"} <= codes
        [looked] = [finding for finding in found if finding["code"] == "rows.looked"]
        assert looked["text"] == "looked at 1 job, all there are"
        answer = json.loads(patient.run("--json").out)
        assert answer["versions"].keys() == {"python", "jobcard", "driver", "server"}
        assert answer["versions"]["jobcard"] == VERSION
        words = patient.run("--strict")
        assert words.code == 0
        assert "\x1b" not in words.out and words.err == ""
        assert "What the store survives" in words.out and "store.identity" in words.out

    def test_the_doctor_changes_nothing(self, patient: Patient) -> None:
        """A store that was never migrated stays so, and is told to be."""
        store = patient.store()
        while store.rollback() is not None:
            pass
        for _ in range(2):
            [schema] = patient.named("store.schema", code=1)
            assert (schema["severity"], "jobcard migrate" in schema["fix"]) == ("error", True)
        assert store.migrate() != []
        store.close()


class TestSchema:
    def test_a_newer_schema_needs_a_newer_jobcard(self, patient: Patient) -> None:
        """It is told, with the way out, and nothing behind it is guessed."""
        store = patient.store()
        version = store.facts().schema_version
        store.close()
        set_schema_version(patient.url, 99)
        [schema] = patient.named("store.schema", code=1)
        assert "99" in schema["text"] and "upgrade" in schema["fix"]
        assert patient.named("rows.looked", code=1) == []
        set_schema_version(patient.url, version)


class TestRows:
    FAULTS = (
        ("claimed", {"lease_until": None}, "without a lease"),
        ("claimed", {"claimed_by": None}, "nobody holds it"),
        ("claimed", {"attempt": 9}, "more attempts than it may"),
        ("running", {"hold": "parked"}, "under a hold and not waiting"),
        ("completed", {"finished_at": None}, "ended at no time"),
        ("failed", {"reason": None}, "no reason"),
        ("waiting", {"lease_until": 5}, "has a lease and is not at work"),
        ("waiting", {"state": "sleeping"}, "state there is not"),
    )

    def test_rows_spoiled_by_hand_are_named(self, patient: Patient) -> None:
        """Each with its id, what is wrong and what to do; a sound job beside them is not."""
        store = patient.store()
        made = []
        for state, fields, words in self.FAULTS:
            if state == "waiting":
                job_id = factory.enqueue(store, queue="spoiled")
            else:
                claim = (factory.running_job if state == "running" else factory.claimed_job)(store)
                job_id = claim.id
                if state == "completed":
                    assert factory.complete(store, claim) == []
                elif state == "failed":
                    factory.settle(store, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
            made.append((job_id, fields, words))
        sound = [factory.enqueue(store), factory.claimed_job(store).id, factory.running_job(store).id]
        store.close()
        for job_id, fields, _ in made:
            spoil(patient.url, job_id, **fields)
        for arguments in ((), ("--full",)):
            found = patient.named("rows.impossible", *arguments, code=1)
            assert severities(found) == {"error"}
            for job_id, _, words in made:
                told = [finding for finding in found if str(UUID(bytes=job_id)) in finding["subject"]]
                assert any(words in finding["text"] for finding in told), (words, found)
                assert all(finding["fix"] for finding in told)
            assert not [f for f in found if any(str(UUID(bytes=job_id)) in f["subject"] for job_id in sound)]

    def test_what_the_doctor_says_mends_a_row(self, patient: Patient) -> None:
        """Its commands for a waiting and for an ended job leave a store without errors."""
        store = patient.store()
        waiting = factory.enqueue(store)
        claim = factory.claimed_job(store)
        factory.settle(store, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
        store.close()
        spoil(patient.url, waiting, claimed_at=5)
        spoil(patient.url, claim.id, cancel_requested="x")
        found = patient.named("rows.impossible", code=1)
        assert len(found) == 2
        for finding in found:
            for command in finding["fix"].split("`")[1::2][:2]:
                ran = patient.app.jobcard(*command.split()[1:], env={"JOBCARD_URL": patient.url})
                assert ran.code in (0, 4), (command, ran.err)  # the last is for a job that the first one deleted
        assert severities(patient.named("rows.impossible")) == {"ok"}


class TestSetAside:
    def test_parked_and_broken_jobs(self, patient: Patient) -> None:
        """Parked ones by name, a warning; broken ones an error."""
        store = patient.store()
        parked, broken = factory.claimed_job(store, name="shop.gone"), factory.claimed_job(store)
        factory.settle(store, parked, states.park(parked))
        [told] = patient.named("jobs.parked")
        assert told["severity"] == "warning" and "shop.gone" in told["text"] and "jobcard start" not in told["text"]
        assert patient.run("--strict").code == 1
        factory.settle(store, broken, factory.quarantine(broken))
        [told] = patient.named("jobs.broken", code=1)
        assert told["severity"] == "error" and told["subject"].startswith("1 job") and told["fix"]
        store.close()


class TestQueuesAndEngines:
    def test_a_paused_queue_with_waiting_jobs(self, patient: Patient) -> None:
        """It is named, and the command that resumes it; an empty paused one is not."""
        store = patient.store()
        for name in ("mail", "empty"):
            store.write_record(RecordKind.QUEUE, name, queue_to_text(Queue(name, paused=True)))
        factory.enqueue(store, queue="mail")
        store.close()
        [told] = patient.named("queues.paused")
        assert told["subject"] == "queue mail" and "jobcard queues resume mail" in told["fix"]
        [nobody] = patient.named("engines.alive")
        assert nobody["severity"] == "warning" and "jobcard start" in nobody["fix"]
        assert patient.run("--strict").code == 1

    def test_a_record_that_cannot_be_read(self, patient: Patient) -> None:
        """A queue's or an engine's: an error, and the look goes on."""
        store = patient.store()
        store.write_record(RecordKind.QUEUE, "mail", '{"concurrency": -1}')
        store.write_record(RecordKind.ENGINE, "engine", "[]")
        store.close()
        found = patient.told(code=1)
        codes = [finding["code"] for finding in found if finding["severity"] == "error"]
        assert sorted(codes) == ["engines.unreadable", "queues.unreadable"]
        assert [finding for finding in found if finding["code"] == "rows.looked"]
        [mail] = [finding for finding in found if finding["code"] == "queues.unreadable"]
        assert "`jobcard queues set mail --concurrency 10`" in mail["fix"]

    def test_a_queue_that_no_engine_serves_then_an_engine_that_fell_silent(self, patient: Patient) -> None:
        """A live engine of other queues does not help; once it is killed it is told to be silent, and where."""
        patient.app.write("shop.py", SHOP)
        store = patient.store()
        factory.enqueue(store, queue="mail")
        factory.enqueue(store, queue="paused")
        store.write_record(RecordKind.QUEUE, "paused", queue_to_text(Queue("paused", paused=True)))
        with engine(patient, "--queues", "reports,paused") as process:
            wait_until(lambda: patient.named("engines.alive")[0]["severity"] == "ok", "an engine", interval=0.2)
            [told] = patient.named("queues.unserved")
            assert told["subject"] == "queue mail" and "--queues mail" in told["fix"]
            [record] = store.read_records(RecordKind.ENGINE)
            kill(process)
        [silent] = wait_until(
            lambda: [each for each in patient.named("engines.silent") if each["severity"] == "warning"],
            "silence",
            interval=0.2,
        )
        assert record.key in silent["subject"] and "pid" in silent["text"] and silent["fix"]
        store.close()

    def test_engines_of_other_versions(self, patient: Patient) -> None:
        """The versions are named with their numbers."""
        store = patient.store()
        about = {"pid": 1, "keeper_pid": 2, "host": "far", "version": "0.0.7", "started_at": 0, "heartbeat": 3600}
        store.write_record(RecordKind.ENGINE, "old", json.dumps({**about, "queues": ["default"], "workers": []}))
        store.close()
        [told] = patient.named("engines.versions")
        assert told["severity"] == "warning" and "1 of 0.0.7" in told["text"] and VERSION in told["text"]


@contextmanager
def engine(patient: Patient, *arguments: str) -> Iterator[psutil.Popen]:
    """A running `jobcard start shop`, killed in the end if it still runs."""
    environment = {**patient.app.environment(), "JOBCARD_URL": patient.url}
    with (patient.app.directory / "engine.log").open("wb") as log:
        process = psutil.Popen(
            [
                sys.executable,
                "-m",
                "jobcard",
                "start",
                "shop:jobs",
                "--lease",
                "3",
                "--heartbeat",
                "0.2",
                *arguments,
            ],
            cwd=patient.app.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: psutil.Popen) -> None:
    """Kill a keeper and all below it at one stroke, so that nobody says goodbye."""
    if process.poll() is not None:
        return
    family = [process, *process.children(recursive=True)]
    for member in family:
        os.kill(member.pid, signal.SIGSTOP)
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    process.wait()


class TestTheCommandItself:
    @pytest.fixture
    def app(self, tmp_path: Path) -> App:
        return App(tmp_path)

    def test_a_store_that_does_not_answer(self, app: App) -> None:
        """Exit code 3; what is known without it is told all the same, the password never."""
        url = "redis://:s3cret@127.0.0.1:1/0"
        ran = app.jobcard("doctor", "--json", "--url", url)
        assert ran.code == 3
        assert "s3cret" not in ran.out + ran.err
        answer = json.loads(ran.out)
        told = {finding["code"]: finding for finding in answer["findings"]}
        assert (answer["ok"], told["store.unreachable"]["severity"]) == (False, "error")
        assert told["versions.driver"]["subject"].startswith("redis-py")
        assert "JOBCARD_URL" in told["url.command_line"]["fix"]
        assert told["url.command_line"]["severity"] == "warning"

    @pytest.mark.parametrize("arguments", [("--url", "nothing://x"), ("no_such_module:jobs",), ("--frobnicate",)])
    def test_wrong_usage(self, app: App, arguments: tuple[str, ...]) -> None:
        """Exit code 2 and one line."""
        ran = app.jobcard("doctor", *arguments)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)

    def test_an_application_names_its_store(self, app: App) -> None:
        """With APP it is the application's store that is looked at."""
        app.write("shop.py", SHOP.replace("Jobcard(", 'Jobcard("sqlite:///own.db", '))
        assert app.jobcard("doctor", "shop:jobs").code == 1  # nothing is in it yet
        assert app.jobcard("migrate", "--url", "sqlite:///own.db").code == 0
        ran = app.jobcard("doctor", "shop:jobs")
        assert (ran.code, "own.db" in ran.out) == (0, True), ran.err
