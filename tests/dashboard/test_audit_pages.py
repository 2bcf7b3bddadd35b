"""The audit: every write has an entry, by whoever it was, whatever came of it; and nothing else has."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from elements import HOSTILE, elements
from visitors import HOST, MARK, PASSWORD, Site, visit

from jobcard.backends.base import RecordKind
from jobcard.client import Jobcard
from jobcard.client import audit as audit_module
from jobcard.dashboard import app as app_module
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.fields import Choice, Moment, Text, Whole
from jobcard.dashboard.roles import Role
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route
from jobcard.errors import JobcardError, StoreUnavailableError, TransitionError

WRITES = [route for route in ROUTES if route.writes and route.view is not None]


def entries(site: Site, **where: str) -> list[dict[str, Any]]:
    """What stands on the page, newest first."""
    found: list[dict[str, Any]] = site.browser("viewer").get("/api/v1/audit", params=where).json()["entries"]
    return found


def did(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(entry[name] for name in ("who", "role", "action", "on", "result"))


class TestEveryWrite:
    @pytest.mark.parametrize("route", WRITES, ids=lambda route: route.path or route.api)
    def test_it_has_an_entry(self, site: Site, route: Route) -> None:
        """Every writing route of the table: by page and API, done or refused."""
        for path, _ in route.paths:
            address = path.replace("{name}", "nothing").replace("{id}", "018f0000-0000-7000-8000-000000000000")
            answer = site.post(address, {}, role="admin")
            [entry, *_] = entries(site)
            assert entry["action"] == route.summary
            assert (entry["who"], entry["role"]) == ("admin", "admin")
            assert entry["result"] == ("done" if answer.status_code < 400 else "refused")
        assert len(entries(site)) == len(route.paths)

    def test_no_other_way_leads_to_a_write(self) -> None:
        """What writes and is for those who came in has a view, for those are written down."""
        assert not [route for route in ROUTES if route.writes and route.handler is not None and route.role is not None]
        assert len(WRITES) >= 9

    def test_it_says_who_did_what_to_which(self, site: Site) -> None:
        """When, with what, and what came of it."""
        site.post("/queues/mail/pause", {})
        site.post("/queues/mail/limits", {"concurrency": "5", "global_concurrency": ""}, role="admin")
        site.post("/schedules/nightly/run", {})
        site.post("/queues/nothing/pause", {})
        found = entries(site)
        assert list(map(did, found)) == [
            ("operator", "operator", "Pause a queue", "nothing", "refused"),
            ("operator", "operator", "Run a schedule now", "nightly", "done"),
            ("admin", "admin", "Change a queue's limits", "mail", "done"),
            ("operator", "operator", "Pause a queue", "mail", "done"),
        ]
        assert found[0]["text"] == "no queue is named 'nothing'."
        assert found[2]["said"] == {"concurrency": "5", "global_concurrency": "none"}
        assert found[2]["text"] == "Changed mail: concurrency 3 → 5; global_concurrency 7 → none."
        assert [each["at"] for each in found] == sorted((each["at"] for each in found), reverse=True)

    def test_a_program_and_a_host_application_are_named(self, filled: Jobcard, site: Site) -> None:
        """By the name that they came in with."""
        answer = visit(site.app).post("/api/v1/queues/mail/pause", json={}, auth=("operator", PASSWORD))
        assert answer.status_code == 200
        app = filled.dashboard(auth=lambda _: ("anna@example.org", "operator"))
        browser = visit(app)
        token = browser.get("/api/v1/session").json()["csrf_token"]
        assert browser.post("/queues/mail/resume", data={"csrf": token}).status_code == 303
        app.close()
        assert [did(each)[:3] for each in entries(site)] == [
            ("anna@example.org", "operator", "Resume a queue"),
            ("operator", "operator", "Pause a queue"),
        ]

    def test_what_was_not_let_in_is_none(self, site: Site) -> None:
        """Strangers, viewers, other sites' forms and bad numbers do nothing, and fill nothing."""
        site.post("/queues/mail/pause", {}, role="viewer")
        site.browser(None).post("/queues/mail/pause", data={})
        site.post("/queues/mail/pause", {}, origin="http://evil.example")
        site.browser("operator").post("/queues/mail/pause", data={}, headers={"origin": HOST})
        site.post("/queues/mail/limits", {"concurrency": "0"})
        site.get("/queues")
        assert entries(site) == []

    def test_a_line_in_the_log_says_it_too(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        """For whoever keeps logs longer than a store its entries."""
        with caplog.at_level(logging.INFO, "jobcard.dashboard"):
            site.post("/queues/mail/pause", {})
        assert "operator (operator): Pause a queue, mail: done: The queue mail is paused." in caplog.text


ANSWERS: dict[str, JobcardError | Exception | None] = {
    "done": None,
    "moved on": TransitionError("retry", "running", ["failed"]),
    "down": StoreUnavailableError("asleep"),
    "bug": RuntimeError("canary"),
}
SEEN: list[list[dict[str, Any]]] = []


class TestAnyView:
    @pytest.fixture
    def site(self, filled: Jobcard, users: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
        """A dashboard with a view that thinks of no audit."""

        def view(ask: Ask) -> Done:
            SEEN.append([{"result": each.result} for each in ask.reading.parts.audit.list(limit=5)])
            if (error := ANSWERS[ask["how"]]) is not None:
                raise error
            return Done("/", "did it")

        form = (
            Choice("how", tuple(ANSWERS), "done"),
            Text("arguments"),
            Text("ids", many=True),
            Whole("number", 3, 0, 9),
            Whole("many", None, 0, 999, many=True),
            Moment("at"),
        )
        route = Route(
            path="/any/{id}", api="/any/{id}", view=view, role=Role.OPERATOR, writes=True, form=form, summary="Any"
        )
        monkeypatch.setattr(app_module, "ROUTES", (*ROUTES, route))
        SEEN.clear()
        app = filled.dashboard(users=users)
        yield Site(filled, app)
        app.close()

    @pytest.mark.parametrize(
        ("how", "status", "result", "text"),
        [
            ("done", 303, "done", "did it"),
            ("moved on", 409, "refused", "running"),
            ("down", 503, "failed", "asleep"),
            ("bug", 500, "failed", "RuntimeError"),
        ],
    )
    def test_what_came_of_it_is_told(self, site: Site, how: str, status: int, result: str, text: str) -> None:
        """And while it went on there was an entry already: were it killed now, one could see that it began."""
        assert site.post("/any/x", {"how": how}).status_code == status
        assert SEEN == [[{"result": None}]]
        [entry] = entries(site)
        assert entry["result"] == result
        assert text in entry["text"]
        assert "canary" not in json.dumps(entry)

    def test_free_text_is_not_written_down(self, site: Site) -> None:
        """It may be an argument; that it was there is told, and how many there were."""
        said = {
            "arguments": "hunter2",
            "ids": ["secret-a", "secret-b"],
            "number": "7",
            "at": "2030-01-31T08:00:00Z",
            "many": ["1", "2"],
        }
        assert site.post("/any/x", said).status_code == 303
        [entry] = entries(site)
        assert entry["said"] == {
            "how": "done",
            "arguments": "given",
            "ids": "2 given",
            "number": "7",
            "many": "2: 1, 2",
            "at": "2030-01-31T08:00:00.000000Z",
        }
        with site.jobs.parts.connection as store:
            text = "".join(record.value for record in store.read_records(RecordKind.AUDIT))
        assert "hunter2" not in text
        assert "secret" not in text

    def test_without_an_entry_nothing_is_done(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where it cannot be written the view is not asked."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise StoreUnavailableError("asleep")

        monkeypatch.setattr(audit_module.Audit, "begin", refuse)
        assert site.post("/any/x", {}).status_code == 503
        assert SEEN == []

    def test_what_is_done_is_not_taken_back(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where only its end cannot be told the answer stands, the entry has no result, and the log has it."""

        def refuse(*_: Any, **__: Any) -> Any:
            raise StoreUnavailableError("asleep")

        monkeypatch.setattr(audit_module.Audit, "end", refuse)
        assert site.post("/any/x", {}).status_code == 303
        assert "cannot tell what came of operator (operator): Any, x" in caplog.text
        [entry] = entries(site)
        assert entry["result"] is None
        assert "under way, or it ended in between" in site.get("/audit").text

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_in_it_becomes_markup(self, site: Site, text: str) -> None:
        """Neither what it was done to nor who did it: no element more than in any other entry."""

        def page(word: str) -> str:
            with site.jobs.parts.connection as store:
                for record in store.read_records(RecordKind.AUDIT):
                    store.remove_record(RecordKind.AUDIT, record.key)
            trail = site.jobs.parts.audit
            entry = trail.begin(who=word, role=word, action=word, on=word, said={word: word})
            trail.end(entry, "done", word)
            shown: str = site.get("/audit").text
            return shown

        plain, hostile = page("plain"), page(text)
        assert elements(hostile) == elements(plain)
        assert "\x1b" not in hostile
        assert "‮" not in hostile

    def test_an_id_is_written_in_one_way(self, site: Site) -> None:
        """However it stood in the address."""
        for word in ("018f000000007000800000000000000A", "018f0000-0000-7000-8000-00000000000a", "a~b"):
            assert site.post(f"/any/{word}", {}).status_code == 303
        assert [each["on"] for each in entries(site)] == ["a/b", *["018f0000-0000-7000-8000-00000000000a"] * 2]

    def test_nor_does_an_odd_address(self, site: Site) -> None:
        """Whatever is asked for is told as it was."""
        site.browser("operator").post(
            "/any/%3Cb%20id=planted%20onclick=alert(1)%3E'%22&", data={"csrf": site.token("operator")}
        )
        assert entries(site)[0]["on"] == MARK
        assert "<b id=planted" not in site.get("/audit").text


class TestKeeping:
    def test_the_oldest_go(self, jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever writes sees to it; some more than the bound may stand there."""
        monkeypatch.setattr(audit_module, "KEPT", 30)
        trail = jobs.parts.audit
        ids = [trail.begin(who="a", role="admin", action=str(number)).id for number in range(100)]
        with jobs.parts.connection as store:
            kept = [record.key for record in store.read_records(RecordKind.AUDIT)]
        assert 30 <= len(kept) < 30 + audit_module.STEP
        assert kept == ids[-len(kept) :]

    def test_pages_go_back(self, site: Site) -> None:
        """A hundred a page, none twice, none left out."""
        trail = site.jobs.parts.audit
        for number in range(205):
            trail.begin(who="a", role="admin", action="Count", on=f"n{number}")
        seen: list[str] = []
        where: dict[str, str] = {}
        while True:
            found = site.browser("viewer").get("/api/v1/audit", params=where).json()
            seen += [entry["on"] for entry in found["entries"]]
            if found["older"] is None:
                break
            where = {"before": found["older"]}
        assert seen == [f"n{number}" for number in reversed(range(205))]
        assert 'rel="next"' in site.get("/audit").text
        assert [each["on"] for each in entries(site, on="n7")] == ["n7"]

    def test_one_that_cannot_be_read_hides_no_other(self, site: Site) -> None:
        """It is left out."""
        site.post("/queues/mail/pause", {})
        with site.jobs.parts.connection as store:
            for number, text in enumerate(("{", "[]", '{"at": 1}', "null", '{"at": 1e999}')):
                store.write_record(RecordKind.AUDIT, f"9{number}", text)
        assert len(entries(site)) == 1
        assert site.get("/audit").status_code == 200

    def test_long_texts_are_cut(self, jobs: Jobcard) -> None:
        """However long they are, an entry is small."""
        long = "x" * 100_000
        trail = jobs.parts.audit
        entry = trail.begin(
            who=long, role="admin", action=long, on=long, said={f"{n}{long}": long for n in range(1000)}
        )
        trail.end(entry, "done", long)
        [found] = trail.list(limit=5)
        assert len(found.text) == 500
        with jobs.parts.connection as store:
            assert len(store.read_records(RecordKind.AUDIT)[0].value) < 60_000

    def test_many_write_at_once(self, jobs: Jobcard) -> None:
        """Each has its entry."""
        trail = jobs.parts.audit

        def write(who: str) -> None:
            for _ in range(10):
                trail.end(trail.begin(who=who, role="admin", action="Count"), "done", "")

        threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = trail.list(limit=100)
        assert sorted(each.who for each in found) == sorted([f"t{number}" for number in range(4)] * 10)
        assert {each.result for each in found} == {"done"}

    def test_it_goes_along_into_a_backup(self, site: Site, tmp_path: Any) -> None:
        """A job's history is told by it, wherever the job is."""
        site.post("/queues/mail/pause", {})
        made = site.jobs.backup(tmp_path / "shop.jobcard")
        with Jobcard(f"sqlite:///{tmp_path}/other.db") as other:
            other.restore(made.path)
            assert other.parts.audit.list(limit=5) == site.jobs.parts.audit.list(limit=5) != []
