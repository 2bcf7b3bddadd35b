"""What an address may say of the jobs it wants: no column of its own, text as text, and times that there are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from visitors import Site

from jobcard.dashboard.routes import ROUTES

READING = [path for route in ROUTES if route.path and not route.writes and route.role for path, _ in route.paths]
LISTS = ["/jobs", "/jobs/rows", "/jobs/count", "/jobs/bulk", "/api/v1/jobs", "/api/v1/jobs/count", "/api/v1/jobs/bulk"]


def stored(site: Site) -> object:
    """Everything that a look might have changed."""
    ids = [job.id.bytes for job in site.jobs.list()]
    with site.jobs.parts.connection as store:
        return store.get(ids)


class TestOrder:
    @pytest.mark.parametrize(
        "query",
        [
            "sort=id;drop table",
            "sort=(select 1)",
            "order=desc--",
            "order_by=name",
            "sort[]=id",
            "state=failed' or '1'='1",
            "state=failed;drop table jobs",
            "limit=1;drop table jobs",
            "limit=(select 50)",
            "cursor=' or 1=1 --",
            "id=' or 1=1 --",
            'state={"$gt":""}',
            "state[$ne]=x",
            "queue[$regex]=.*",
        ],
    )
    @pytest.mark.parametrize("path", LISTS)
    def test_nobody_says_how_the_store_is_asked(self, site: Site, path: str, query: str) -> None:
        """400: there is one order, and a fixed list of words; nothing is changed."""
        before = stored(site)
        name, _, value = query.partition("=")
        answer = site.get(f"{path}?{quote(name, safe='[]')}={quote(value)}", "admin")
        assert answer.status_code == 400, answer.text
        assert stored(site) == before

    @pytest.mark.parametrize("path", READING)
    def test_no_page_takes_a_word_that_it_does_not_know(self, site: Site, path: str) -> None:
        """Every reading route of the table: a word left alone would mean all jobs."""
        address = path.replace("{name}", "mail").replace("{id}", "018f0000-0000-7000-8000-000000000000")
        assert site.get(f"{address}?sort=id", "admin").status_code == 400


class TestSearch:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("%00", 400),
            ("a%00b", 400),
            ("%ff", 400),
            ("%c0%ae", 400),
            ("%ed%a0%80", 400),
            ("a" * 201, 400),
            ("%F0%9F%90%98" * 200, 200),
            ("a" * 10_000, 414),
        ],
    )
    @pytest.mark.parametrize("word", ["search", "args", "name", "queue", "tag", "error_kind", "schedule"])
    def test_what_is_no_text_or_too_long_is_refused(self, site: Site, word: str, text: str, status: int) -> None:
        """400 with what it must be, before the store is asked."""
        if word == "error_kind" and len(text) == 201:
            status = 200  # as much of it is stored
        for path in LISTS[:2]:
            assert site.get(f"{path}?{word}={text}", "operator").status_code == status

    @pytest.mark.parametrize(
        "text",
        [
            "%", "_", "%%", "a%", "_dd", "'", '"', "''", "' or '1'='1", "'; drop table jobs; --", "\\", "\\%", "\\'",
            "[a-z]", "*", "?", "a*d", ".", ".*", "^add$", "a.d", "(a+)+$", "(a|aa)+$", "(.*)*x", "a{1,999}{1,999}",
            "[[:alpha:]]", "(?i)ADD", "(?=a)", "$where", '{"$gt":""}', "${7*7}", "{{7*7}}", "KEYS *", "ADD", " add",
        ],
    )  # fmt: skip
    def test_it_is_taken_literally(self, site: Site, text: str) -> None:
        """No pattern of any kind: it finds what says so, and nothing else."""
        site.jobs.enqueue("x.a_a+", [f"<{text}>"], tags=["t"])
        row = site.jobs.parts.lookup.row(site.jobs.enqueue("literal").id.bytes)
        for word in ("search", "args", "name", "tag", "error_kind", "queue"):
            answer = site.get(f"/api/v1/jobs?{word}={quote(text)}", "operator")
            assert answer.status_code == 200, answer.text
            found = answer.json()["jobs"]
            names = {job["name"] for job in found}
            if word == "args":
                assert "x.a_a+" in names
            elif word == "search":
                # A part of an id is searched for, too, and some of these texts may be one.
                by_id = {job["name"] for job in found if text.lower() in job["id"]}
                assert names - by_id <= {name for name in NAMES if text in name} <= names
            else:
                assert names == set()
        assert site.jobs.parts.lookup.row(row.id) == row

    def test_a_pattern_that_takes_for_ever_takes_no_time(self, site: Site) -> None:
        """Names made for it, as long as they may be."""
        for number in range(40):
            site.jobs.enqueue("a" * 190 + f"-{number}", ["a" * 10_000])
        for text in ("(a+)+$", "(a|a)*b", "a" * 199 + "!", "%a" * 90, "a%" * 90):
            for word in ("search", "args"):
                answer = site.get(f"/api/v1/jobs?{word}={quote(text)}", "operator")
                assert (answer.status_code, answer.json()["jobs"]) == (200, [])


NAMES = {"mail.welcome", "canceled", "add", "later", "x.a_a+", "literal"}


class TestTimes:
    @pytest.mark.parametrize(
        "text",
        [
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "1969-12-31T23:59:59Z",
            "2201-01-01T00:00:00Z",
            "9999-12-31T23:59:59-23:59",
            "10000-01-01T00:00:00Z",
            "2030-01-01T00:00:00+25:00",
            "2030-01-01T00:00:00+99:99",
            "2030-02-30T00:00:00Z",
            "2030-01-01T24:00:01Z",
            "2030-01-01T00:00:61Z",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-W01-1T00:00:00",
            "1893456000",
            "-1",
            "1e400",
            "now",
            "9999999",
            "٢٠٣٠-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z' or 1=1 --",
            "2030-01-01T00:00:00Z" + " " * 100,
            "nan",
        ],
    )
    @pytest.mark.parametrize("word", ["after", "before"])
    def test_what_is_no_time_is_refused(self, site: Site, word: str, text: str) -> None:
        """400 wherever it stands: in the query of a list, or in the form of a move, which then moves nothing."""
        for path in LISTS:
            assert site.get(f"{path}?{word}={quote(text)}", "admin").status_code == 400
        job = site.jobs.list(state="failed", limit=1)[0]
        answer = site.post("/jobs/bulk", {"verb": "retry", "id": str(job.id), word: text})
        assert answer.status_code == 400
        assert site.jobs.get(job.id).state == "failed"

    def test_it_ends_after_it_begins(self, site: Site) -> None:
        """400 for a span that is none."""
        now = datetime.now(UTC)
        for after, before in ((now, now), (now, now - timedelta(days=1))):
            said = f"after={quote(after.isoformat())}&before={quote(before.isoformat())}"
            for path in LISTS:
                answer = site.get(f"{path}?{said}", "admin")
                assert answer.status_code == 400
                assert "earlier" in answer.text

    @pytest.mark.parametrize("query", ["days=9999999", "days=-1", "span=9999999d", "span=0m", "minutes=1e9", "hours=x"])
    @pytest.mark.parametrize("path", ["/", "/overview/chart", "/api/v1/overview", "/jobs"])
    def test_a_span_is_one_of_three(self, site: Site, path: str, query: str) -> None:
        """However many days somebody wants: each would be a bucket."""
        answer = site.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert not re.search("Traceback|Overflow", answer.text)
