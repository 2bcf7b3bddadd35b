"""Queues: shown as they are, paused, resumed and limited by operators, and engines keep to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from elements import HOSTILE, NAMES, elements
from visitors import MARK, Site

from helpers.waiting import PATIENCE
from jobcard.backends.base import RecordKind, Want
from jobcard.client import Jobcard
from jobcard.conformance import factory
from jobcard.core import clock
from jobcard.core.queue import Queue
from jobcard.core.rates import RateLimit


def address(name: str) -> str:
    return quote(name.replace("/", "~"), safe="")


def claims(site: Site) -> int:
    """How many jobs of `mail` an engine gets, by the limits that it reads in the store."""
    limit = site.jobs.queues.get("mail").limit
    want = Want(queues=[("mail", 5)], total=5, limits={} if limit is None else {"mail": limit})
    with site.jobs.parts.connection as store:
        return len(store.exchange("other", want=want, lease=clock.MINUTE).claimed)


class TestShown:
    def test_all_of_them_with_their_jobs(self, site: Site) -> None:
        """By state, with what is at work beside the limit, whoever looks."""
        [mail] = [each for each in site.get("/api/v1/queues").json()["queues"] if each["name"] == "mail"]
        assert mail["counts"] == {
            **dict.fromkeys(("waiting", "running", "canceled"), 0),
            "claimed": 1,
            "completed": 3,
            "failed": 2,
        }
        assert (mail["at_work"], mail["global_concurrency"], mail["paused"]) == (1, 7, False)
        page = site.get("/queues").text
        assert "1 / 7 in all" in page
        assert 'href="/queues/mail"' in page
        assert site.get("/queues/mail").text.count("<dt>") == 11

    def test_who_paused_one_is_told(self, site: Site) -> None:
        """As text."""
        page = site.get("/queues/odd").text
        assert "Paused by &lt;b id=planted" in page
        assert site.get("/api/v1/queues/odd").json()["queue"]["paused_by"] == MARK

    def test_how_far_its_rate_is_used(self, site: Site) -> None:
        """And when it lets the next one start."""
        site.jobs.queues.update("mail", rate=RateLimit(2, per=3600))
        for _ in range(3):
            site.jobs.enqueue("mail.welcome", queue="mail")
        assert claims(site) == 2
        found = site.get("/api/v1/queues/mail").json()["queue"]
        assert (found["rate_started"], found["rate_count"], found["rate_per"]) == (2, 2, 3600)
        assert "T" in found["rate_full_until"]
        assert "Its rate is used up" in site.get("/queues/mail").text

    @pytest.mark.parametrize("path", ["/queues/nothing", "/queues/a~b", "/queues/%00", "/queues/%3Cb%3E", "/queues/.."])
    def test_one_that_is_not_there(self, site: Site, path: str) -> None:
        """404, or the way to where such a path leads."""
        assert site.browser("viewer").get(path).status_code in (303, 307, 404) or path.endswith("..")
        assert site.get(f"/api/v1{path}").status_code == 404 or path.endswith("..")

    def test_parts_are_refreshed_by_themselves(self, site: Site) -> None:
        """The list, and the figures of one; the form for limits stands outside, so nobody's typing is lost."""
        assert site.get("/parts/queues").text.startswith("<section id=")
        part = site.get("/parts/queues/mail", "operator").text
        assert part.startswith('<section id="state" hx-get="/parts/queues/mail"')
        assert "global_concurrency" not in part
        assert "global_concurrency" in site.get("/queues/mail", "operator").text

    def test_a_viewer_sees_no_buttons(self, site: Site) -> None:
        """What they may not do is not offered."""
        for path in ("/queues", "/queues/mail"):
            assert 'action="/queues/' not in site.get(path).text
            assert 'action="/queues/' in site.get(path, "operator").text


class TestPausing:
    def test_a_paused_queue_gives_engines_nothing(self, site: Site) -> None:
        """Until it is resumed, however many others run meanwhile."""
        site.jobs.job(name="told")(lambda: "done")
        site.jobs.queues.create("held")
        answer = site.post("/queues/held/pause", {})
        assert (answer.status_code, answer.headers["location"]) == (303, "/queues/held")
        assert "The queue held is paused" in site.get("/queues/held", "operator").text
        assert site.jobs.queues.get("held").paused_by == "operator"
        kept = site.jobs.enqueue("told", queue="held")
        with site.jobs.running(in_process=True):
            for _ in range(3):
                assert site.jobs.enqueue("told").result(timeout=PATIENCE) == "done"
            assert site.jobs.get(kept.id).state == "waiting"
            assert site.post("/queues/held/resume", {}).status_code == 303
            assert kept.result(timeout=PATIENCE) == "done"

    @pytest.mark.parametrize("verb", ["pause", "resume"])
    def test_not_by_a_viewer(self, site: Site, verb: str) -> None:
        """403, and nothing changed."""
        before = site.jobs.queues.list()
        for name in ("mail", "odd"):
            assert site.post(f"/queues/{name}/{verb}", {}, role="viewer").status_code == 403
            assert site.post(f"/api/v1/queues/{name}/{verb}", {}, role="viewer").status_code == 403
        assert site.jobs.queues.list() == before

    def test_one_that_is_not_there_is_not_made(self, site: Site) -> None:
        """404: a name that is misspelt makes no queue."""
        for verb in ("pause", "resume", "limits"):
            assert site.post(f"/queues/mial/{verb}", {}).status_code == 404
        assert "mial" not in site.jobs.queues.names()


class TestLimits:
    def test_engines_keep_to_them(self, site: Site) -> None:
        """With one at work and a limit of one nothing more is claimed; with three, two more."""
        for _ in range(5):
            site.jobs.enqueue("mail.welcome", queue="mail")
        assert site.post("/queues/mail/limits", {"global_concurrency": "1"}).status_code == 303
        assert claims(site) == 0
        assert site.post("/queues/mail/limits", {"global_concurrency": "3"}).status_code == 303
        assert claims(site) == 2

    def test_a_form_says_all_of_them(self, site: Site) -> None:
        """Empty: no limit."""
        form = {
            "concurrency": "4",
            "global_concurrency": "",
            "rate_count": "50",
            "rate_per": "0.5",
            "priority": "-3",
            "weight": "2",
            "ageing": "60",
        }
        assert site.post("/queues/mail/limits", form).status_code == 303
        wanted = Queue("mail", concurrency=4, rate=RateLimit(50, 0.5), priority=-3, weight=2, ageing=60)
        assert site.jobs.queues.get("mail") == wanted
        page = site.get("/queues/mail", "operator").text
        assert "global_concurrency 7 → none; " in page
        for name, value in form.items():
            shown = {"rate_per": "0.5", "ageing": "60.0"}.get(name, value)
            assert f'name="{name}"' in page
            assert f'value="{shown}"' in page

    def test_a_program_says_what_changes(self, site: Site) -> None:
        """What it leaves out stays; null: no limit."""
        browser, token = site.browser("operator"), {"x-csrf-token": site.token("operator")}

        def send(**changes: Any) -> Any:
            return browser.post("/api/v1/queues/mail/limits", json=changes, headers=token)

        assert send(rate_count=10, rate_per=1).json()["changed"] == {"rate": {"count": 10, "per": 1.0}}
        assert send(rate_per=2.5).status_code == 200
        assert send(priority=5).json()["changed"] == {"priority": 5}
        expected = Queue("mail", concurrency=3, global_concurrency=7, rate=RateLimit(10, 2.5), priority=5)
        assert site.jobs.queues.get("mail") == expected
        assert send(rate_count=None, global_concurrency=None).status_code == 200
        assert site.jobs.queues.get("mail") == Queue("mail", concurrency=3, priority=5)
        assert send().json() == {"done": "That is what it was; nothing is changed.", "changed": {}}

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            ("concurrency", "0", "concurrency must be from 1 to 10,000"),
            ("concurrency", "10001", "concurrency must be from 1 to 10,000"),
            ("concurrency", "ten", "concurrency must be a whole number"),
            ("concurrency", "1.5", "concurrency must be a whole number"),
            ("global_concurrency", "-1", "global_concurrency must be from 1"),
            ("global_concurrency", "9" * 30, "global_concurrency must be a whole number"),
            ("global_concurrency", "١", "global_concurrency must be a whole number"),
            ("rate_count", "0", "rate_count must be from 1 to 1,000,000"),
            ("rate_count", "5", "A rate needs rate_count and rate_per"),
            ("rate_per", "5", "A rate needs rate_count and rate_per"),
            ("rate_per", "0.01", "rate_per must be from 0.1"),
            ("rate_per", "nan", "rate_per must be a number"),
            ("rate_per", "1e5", "rate_per must be a number"),
            ("rate_per", "inf", "rate_per must be a number"),
            ("priority", "32768", "priority must be from -32,768 to 32,767"),
            ("weight", "0", "weight must be from 1 to 1,000"),
            ("ageing", "0", "ageing must be from 0.001 to 86,400"),
            ("ageing", MARK, "ageing must be a number"),
            ("paused", "true", "There is no &#39;paused&#39; here"),
        ],
    )
    def test_what_cannot_be_is_refused(self, site: Site, field: str, value: str, text: str) -> None:
        """With what it must be, and nothing is changed: not what was right beside it, either."""
        before = site.jobs.queues.list()
        answer = site.post("/queues/mail/limits", {field: value, **({} if field == "weight" else {"weight": "9"})})
        assert answer.status_code == 400
        assert text in answer.text
        assert site.jobs.queues.list() == before

    def test_not_by_a_viewer(self, site: Site) -> None:
        """403, and nothing changed."""
        before = site.jobs.queues.list()
        for path in ("/queues/mail/limits", "/api/v1/queues/mail/limits"):
            assert site.post(path, {"concurrency": "5"}, role="viewer").status_code == 403
        assert site.jobs.queues.list() == before


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_each_has_a_page_and_is_paused(self, site: Site, name: str) -> None:
        """Whatever characters it is made of: the links on the page lead to it and to nothing else."""
        site.jobs.queues.create(name)
        assert f'href="/queues/{address(name)}"' in site.get("/queues").text
        assert site.get(f"/api/v1/queues/{address(name)}").json()["queue"]["name"] == name
        page = site.get(f"/queues/{address(name)}", "operator").text
        assert f'action="/queues/{address(name)}/pause"' in page
        answer = site.post(f"/queues/{address(name)}/pause", {})
        assert answer.status_code == 303
        assert site.browser("operator").get(answer.headers["location"]).status_code == 200
        assert [queue.name for queue in site.jobs.queues.list() if queue.paused] == sorted([name, "odd"])

    def test_what_somebody_wrote_by_hand_is_text(self, filled: Jobcard, site: Site) -> None:
        """Names that no client would write: named on the page, and no element more than any other name makes."""

        def page(names: tuple[str, ...]) -> str:
            with filled.parts.connection as store:
                for name in names:
                    factory.enqueue(store, queue=name)
                    store.write_record(RecordKind.QUEUE, name, "{")
                text: str = site.get("/queues", "operator").text
                for name in names:
                    store.remove_record(RecordKind.QUEUE, name)
            return text

        texts = tuple(text for text in HOSTILE if text.isprintable())
        with filled.parts.connection as store:
            store.write_record(RecordKind.QUEUE, "plain", "{")
        plain = site.get("/queues", "operator").text
        assert "cannot be read" in plain
        shown = page(texts)
        assert elements(shown) == elements(plain)
        assert "&lt;b id=planted" in shown
