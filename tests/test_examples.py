"""The programs in examples/ do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from helpers.apps import App
from helpers.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An empty directory with a copy of the examples."""
    app = App(tmp_path)
    for path in EXAMPLES.glob("*.py"):
        app.write(path.name, path.read_text("utf-8"))
    return app


def started(app: App, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=app.directory,
        env={**app.environment(), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_checksums_finds_equal_files(app: App) -> None:
    """One job a file; run again, nothing is computed twice."""
    folder = app.directory / "files"
    folder.mkdir()
    for name, text in (("a", "same"), ("b", "other"), ("c", "same")):
        (folder / name).write_text(text)
    for _ in range(2):
        ran = app.python("checksums.py", "files")
        assert (ran.code, ran.err) == (0, "")
        assert [line.split()[1:] for line in ran.out.splitlines()] == [["a", "c"]]
    stats = json.loads(app.jobcard("stats", "--url", "sqlite:///checksums.db", "--json").out)
    assert stats["completed"] == stats["total"] == 3


class TestMailer:
    @pytest.fixture
    def engine(self, app: App) -> Iterator[subprocess.Popen[str]]:
        engine = started(app, "-m", "jobcard.cli", "start", "mailer:jobs")
        assert engine.stderr is not None
        assert engine.stderr.readline().startswith("ready")
        yield engine
        stop(engine)

    def test_a_mail_is_sent_when_the_server_is_back(self, app: App, engine: subprocess.Popen[str]) -> None:
        """Tried again until the outbox is there, then sent once; a bad address is not tried again."""
        good = json.loads(self.enqueue(app, "ann@example.org"))["id"]
        bad = json.loads(self.enqueue(app, "nobody"))["id"]
        wait_until(lambda: self.job(app, good)["errors"], "a failed try")
        (app.directory / "outbox").mkdir()
        wait_until(lambda: self.job(app, good)["state"] == "completed", "the mail")
        assert [path.name for path in (app.directory / "outbox").iterdir()] == [f"{good}.eml"]
        failed = wait_until(lambda: self.job(app, bad), "the other")
        assert (failed["state"], failed["reason"], len(failed["errors"])) == ("failed", "fail", 1)

    def enqueue(self, app: App, to: str) -> str:
        ran = app.jobcard("enqueue", "mailer:jobs", "mail.send", "--args", json.dumps([to, "Welcome"]), "--json")
        assert ran.code == 0, ran.err
        return ran.out

    def job(self, app: App, job_id: str) -> dict[str, Any]:
        ran = app.jobcard("jobs", "show", job_id, "--url", "sqlite:///mailer.db", "--json")
        assert ran.code == 0, ran.err
        job: dict[str, Any] = json.loads(ran.out)
        return job


class TestReports:
    @pytest.fixture
    def url(self, app: App) -> Iterator[str]:
        server = started(app, "reports.py", env={"PORT": "0"})
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        stop(server)

    def test_a_report_is_made_beside_the_requests(self, url: str) -> None:
        """The request answers at once with a place to look; the report is there in the end."""
        with urlopen(Request(f"{url}?region=north", method="POST")) as answer:
            assert answer.status == 202
            place = answer.headers["Location"].rpartition("/")[2]

        def report() -> dict[str, int] | None:
            with urlopen(f"{url}/{place}") as answer:
                found: dict[str, int] | None = json.load(answer)["report"]
                return found

        assert len(wait_until(report, "the report") or {}) == 12

    def test_an_unknown_report_is_not_found(self, url: str) -> None:
        """An id that is none, or none of ours: 404."""
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{url}/nonsense")
        assert caught.value.code == 404
        caught.value.close()
