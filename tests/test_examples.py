"""The programs in examples/ do what they say."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
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


class TestArchive:
    @pytest.fixture
    def files(self, app: App) -> Path:
        """Two files, and two in folders."""
        files = app.directory / "files"
        (files / "more" / "most").mkdir(parents=True)
        for name in ("a", "b", "more/c", "more/most/d"):
            (files / name).write_text(name)
        return files

    def test_contents_are_listed_when_all_is_packed(self, app: App, files: Path) -> None:
        """Files of folders that were found on the way as well."""
        ran = app.python("archive.py", "files")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == ["7 of 7 jobs completed", "4 files in archive"]
        listed = (app.directory / "archive" / "contents.txt").read_text().splitlines()
        assert listed == ["files_a.gz", "files_b.gz", "files_more_c.gz", "files_more_most_d.gz"]
        assert gzip.decompress((app.directory / "archive" / listed[3]).read_bytes()) == b"more/most/d"

    def test_without_one_of_them_there_is_no_list(self, app: App, files: Path) -> None:
        """The others are packed all the same, and it is told which one was not."""
        (files / "more" / "packed.gz").write_text("")
        ran = app.python("archive.py", "files")
        assert ran.code == 1
        assert ran.out.splitlines() == ["7 of 8 jobs completed", "no list of contents: dependency"]
        assert ran.err.splitlines() == ["files/more/packed.gz is packed already"]
        assert len(list((app.directory / "archive").glob("*.gz"))) == 4
        assert not (app.directory / "archive" / "contents.txt").exists()


class TestMailer:
    @pytest.fixture
    def engine(self, app: App) -> Iterator[subprocess.Popen[str]]:
        engine = started(app, "-m", "jobcard", "start", "mailer:jobs")
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


class TestDigest:
    @pytest.fixture
    def engine(self, app: App) -> Iterator[subprocess.Popen[str]]:
        engine = started(app, "-m", "jobcard", "start", "digest:jobs")
        assert engine.stderr is not None
        assert engine.stderr.readline().startswith("ready")
        yield engine
        stop(engine)

    def test_each_note_stands_in_one_digest(self, app: App, engine: subprocess.Popen[str]) -> None:
        """Made at ticks of two seconds; a paused schedule makes none."""
        digests = app.directory / "digests.txt"
        noted = []
        for number in range(2):
            assert app.python("digest.py", "note", f"note {number}").code == 0
            noted.append(f"note {number}")
            wait_until(lambda: digests.exists() and noted[-1] in digests.read_text(), "a digest")
        lines = [line.split(maxsplit=2) for line in digests.read_text().splitlines()]
        assert [text for _tick, _count, text in lines] == noted
        assert all(int(tick[-2:]) % 2 == 0 for tick, *_ in lines)
        url = "sqlite:///digest.db"
        assert app.jobcard("schedules", "pause", "digest", "--url", url).code == 0
        shown = json.loads(app.jobcard("schedules", "list", "--url", url, "--json").out)
        assert [(schedule["name"], schedule["paused"]) for schedule in shown] == [("digest", True)]


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


class Site(BaseHTTPRequestHandler):
    """Three pages: /whole, /half, which stops in the middle until the test is over, and nothing else."""

    over = threading.Event()

    def do_GET(self) -> None:
        if self.path not in ("/whole", "/half"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        if self.path == "/whole":
            self.wfile.write(b"x" * 100)
        else:
            self.wfile.write(b"x" * 40)
            self.wfile.flush()
            self.over.wait(60)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class TestPages:
    @pytest.fixture
    def site(self) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
            Site.over.clear()
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            Site.over.set()
            server.shutdown()
            thread.join()

    def test_pages_are_fetched_and_the_late_one_is_canceled(self, app: App, site: str) -> None:
        """Each page has its line; of the one that does not come it is told how far it was, and its job knew why."""
        ran = app.python("pages.py", "--patience", "5", f"{site}/whole", f"{site}/half", "ftp://there")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == [
            f"{site}/whole 100 bytes",
            f"{site}/half canceled: canceled, 40 of 100 bytes",
            "ftp://there failed: only http:// is spoken here",
        ]
        listed = json.loads(
            app.jobcard("jobs", "list", "--state", "canceled", "--url", "sqlite:///pages.db", "--json").out
        )
        shown = json.loads(app.jobcard("jobs", "show", listed[0]["id"], "--url", "sqlite:///pages.db", "--json").out)
        assert [text for _at, text in shown["log"]] == ["hung up: canceled"]


def call(url: str, method: str = "GET") -> dict[str, Any]:
    with urlopen(Request(url, method=method)) as answer:
        body: dict[str, Any] = json.load(answer)
        return body


class TestLabels:
    @pytest.fixture
    def servers(self, app: App) -> Iterator[list[subprocess.Popen[str]]]:
        servers = [started(app, "labels.py", env={"PORT": "0"}) for _ in range(2)]
        yield servers
        for server in servers:
            if server.poll() is None:
                stop(server)
            else:
                server.communicate()

    @pytest.fixture
    def urls(self, servers: list[subprocess.Popen[str]]) -> list[str]:
        assert servers[0].stdout is not None and servers[1].stdout is not None
        return [servers[0].stdout.readline().strip(), servers[1].stdout.readline().strip()]

    def engines(self, app: App) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            app.jobcard("engines", "list", "--url", "sqlite:///labels.db", "--json").out
        )
        return found

    def test_two_servers_have_one_engine(self, app: App, urls: list[str]) -> None:
        """What one server enqueues the other can see, and there is one engine for both."""
        place = call(f"{urls[0]}?parcels=3", "POST")["place"].rpartition("/")[2]
        done = wait_until(lambda: (job := call(f"{urls[1]}/{place}"))["state"] == "completed" and job, "the labels")
        assert (done["labels"], done["progress"]) == (["parcel 1", "parcel 2", "parcel 3"], 1)
        assert len(self.engines(app)) == 1

    def test_a_job_is_canceled_at_work(self, urls: list[str]) -> None:
        """DELETE ends it where it is; once ended it cannot be canceled."""
        place = call(f"{urls[0]}?parcels=2000", "POST")["place"].rpartition("/")[2]
        wait_until(lambda: call(f"{urls[0]}/{place}")["progress"] > 0, "some progress")
        call(f"{urls[1]}/{place}", "DELETE")
        wait_until(lambda: call(f"{urls[0]}/{place}")["state"] == "canceled", "the cancel")
        with pytest.raises(HTTPError) as caught:
            call(f"{urls[0]}/{place}", "DELETE")
        assert caught.value.code == 409
        caught.value.close()

    def test_the_other_server_takes_over(self, app: App, servers: list[subprocess.Popen[str]], urls: list[str]) -> None:
        """When the server that has the engine is killed, the other starts the next one, and the job goes on."""
        place = call(f"{urls[0]}?parcels=60", "POST")["place"].rpartition("/")[2]
        wait_until(lambda: call(f"{urls[0]}/{place}")["progress"] > 0.2, "some progress")
        [engine] = self.engines(app)
        owner = psutil.Process(engine["keeper_pid"]).ppid()
        killed = [server.pid for server in servers].index(owner)
        servers[killed].kill()
        other = urls[1 - killed]
        done = wait_until(lambda: (job := call(f"{other}/{place}"))["state"] == "completed" and job, "the labels")
        assert done["labels"] == [f"parcel {number}" for number in range(1, 61)]
        assert [each["id"] for each in self.engines(app)] != [engine["id"]]
