"""The list of jobs: every filter, paging both ways while jobs arrive, bounds of a look, and roles."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from visitors import MARK, Site

from jobcard.backends.base import Fate
from jobcard.client import Jobcard, browsing
from jobcard.conformance import factory
from jobcard.core import clock
from jobcard.core.job import WholeJob


def listed(site: Site, query: str = "", role: str = "operator") -> list[str]:
    """The names of the jobs that programs are given."""
    answer = site.get(f"/api/v1/jobs{query}", role)
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["jobs"]]


def named(jobs: Jobcard, count: int, prefix: str = "page") -> list[str]:
    """Jobs called page-00, page-01 …, in this order."""
    names = [f"{prefix}-{number:02}" for number in range(count)]
    for name in names:
        jobs.enqueue(name, [name])
    return names


def hrefs(page: str) -> dict[str, str]:
    """Where the page's own words lead to."""
    found = re.findall(r'<a(?: rel="\w+")? href="([^"]*)">(Newer|Older|Newest|Look further back)</a>', page)
    return {word: address.replace("&amp;", "&") for address, word in found}


class TestFilters:
    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 11),
            ("?state=failed", 2),
            ("?state=failed&state=canceled", 3),
            ("?state=failed&state=", 2),
            ("?queue=mail", 6),
            ("?queue=mail&state=completed", 3),
            ("?queue=nowhere", 0),
            ("?name=add", 3),
            ("?name=add&name=later", 4),
            ("?search=elco", 6),
            ("?error_kind=" + quote(f"ValueError {MARK}"), 2),
            ("?error_kind=ValueError", 0),
            ("?tag=red", 0),
            ("?args=hunter", 0),
            ("?schedule=nightly", 0),
            ("?limit=4", 4),
        ],
    )
    def test_each_leaves_what_fits(self, site: Site, query: str, count: int) -> None:
        """And all that are given must hold."""
        assert len(listed(site, query)) == count

    def test_tags_must_all_be_there(self, site: Site) -> None:
        """One job may have several."""
        site.jobs.enqueue("tagged", tags=["red", "blue"])
        site.jobs.enqueue("red", tags=["red"])
        assert listed(site, "?tag=red") == ["red", "tagged"]
        assert listed(site, "?tag=red&tag=blue") == ["tagged"]

    def test_a_schedule_has_its_jobs(self, site: Site) -> None:
        """Of its ticks and of `run_now`."""
        site.jobs.schedules.run_now("nightly")
        assert listed(site, "?schedule=nightly") == ["report"]
        assert listed(site, "?schedule=weekly") == []

    def test_a_time_has_its_jobs(self, site: Site) -> None:
        """From a moment on, and up to one."""
        now = datetime.now(UTC)
        soon, long_ago = (quote((now + span).isoformat()) for span in (timedelta(hours=1), timedelta(hours=-1)))
        assert len(listed(site, f"?after={long_ago}")) == len(listed(site, f"?before={soon}")) == 11
        assert listed(site, f"?after={soon}") == listed(site, f"?before={long_ago}") == []
        assert len(listed(site, f"?after={long_ago}&before={soon}&state=failed")) == 2

    def test_an_id_is_found_whole_or_in_part(self, site: Site) -> None:
        """With or without dashes; several at once."""
        first, second = (site.jobs.enqueue(name).id for name in ("first", "second"))
        assert listed(site, f"?id={first}") == listed(site, f"?id={first.hex}") == ["first"]
        assert listed(site, f"?id={second}&id={first}") == ["second", "first"]
        assert listed(site, f"?search={str(first)[9:]}") == ["first"]

    def test_arguments_are_looked_through(self, site: Site) -> None:
        """As they are typed, also where JSON writes them otherwise."""
        site.jobs.enqueue("plain", [{"to": "ann@example.org"}])
        site.jobs.enqueue("odd", [], {"to": 'Zoë "the" one'})
        assert listed(site, "?args=ann@example") == ["plain"]
        assert listed(site, "?args=" + quote('"to":"ann')) == ["plain"]
        assert listed(site, "?args=" + quote('Zoë "the"')) == ["odd"]

    def test_what_is_hidden_is_not_found_either(self, site: Site) -> None:
        """Else it could be guessed letter by letter; by its place, too, where the code says what stands there."""

        @site.jobs.job(name="log.in")
        def log_in(user: str, password: str) -> None:
            """Called by place."""

        log_in.enqueue("ann", "sesame")
        assert listed(site, "?args=ann") == ["log.in"]
        assert listed(site, "?args=sesame", "admin") == listed(site, "?args=hunter2", "admin") == []

    def test_a_viewer_does_not_look_there(self, site: Site) -> None:
        """Finding is seeing."""
        assert site.get("/api/v1/jobs?args=x", "viewer").status_code == 403
        assert "Text in arguments" not in site.get("/jobs", "viewer").text

    def test_what_was_asked_for_stands_in_the_form(self, site: Site) -> None:
        """So that a click more narrows it down."""
        page = site.get("/jobs?state=failed&queue=mail&queue=b&search=" + quote(MARK), "operator").text
        assert '<input type="checkbox" name="state" value="failed" checked>' in page
        assert '<input name="queue" value="mail" maxlength="200">' in page
        assert '<input name="queue" value="b" maxlength="200">' in page
        assert "&lt;b id=planted" in page
        assert "<b id=planted" not in page

    @pytest.mark.parametrize(
        "query",
        [
            "state=zombie",
            "state[]=failed",
            "limit=0",
            "limit=201",
            "limit=ten",
            "limit=1e3",
            "cursor=1",
            "cursor=" + "g" * 32,
            "back=x",
            "id=1",
            "id=018f0000-0000-7000-8000-000000000000&state=failed",
            "batch=x",
            "after=yesterday",
            "after=2030-01-01",
            "before=2030-01-01T00:00:00",
            "after=9999-99-99T00:00:00Z",
            "before=0001-01-01T00:00:00Z",
            "queue=%00",
            "name=" + "a" * 201,
            "search=" + "a" * 201,
            "args=%ff",
            "tag=%ed%a0%80",
            "queue=a&" * 101 + "queue=b",
            "order_by=name",
            "error_kind=a&error_kind=b",
        ],
    )
    @pytest.mark.parametrize("path", ["/jobs", "/api/v1/jobs", "/jobs/rows", "/api/v1/jobs/count"])
    def test_what_cannot_be_meant_is_refused(self, site: Site, path: str, query: str) -> None:
        """400 with a sentence, never a 500."""
        answer = site.get(f"{path}?{query}", "operator")
        assert answer.status_code == 400, answer.text
        assert "Traceback" not in answer.text

    def test_counts_are_shown_where_they_are_cheap(self, site: Site) -> None:
        """By state and queue; else whoever wants to know asks."""
        assert "6 waiting" not in site.get("/jobs").text
        assert "4 waiting, 1 claimed, 3 completed, 2 failed, 1 canceled." in site.get("/jobs").text
        page = site.get("/jobs?name=add").text
        assert 'hx-get="/jobs/count?name=add"' in page
        assert site.get("/jobs/count?name=add").text.strip() == '<p id="count" class="quiet">3 waiting.</p>'
        assert site.get("/api/v1/jobs/count?name=add").json()["counts"]["waiting"] == 3
        assert site.get("/api/v1/jobs/count?schedule=nightly").status_code == 400

    def test_a_batch_has_its_jobs_and_their_counts(self, site: Site) -> None:
        """At once, however many others there are; what waits for others says so in words."""
        job = site.jobs.job(name="packed")(lambda: None)
        with site.jobs.batch() as batch:
            first, second = batch.enqueue_many([job.call(), job.call()])
            batch.enqueue(job.options(after=first).call())
        second.cancel()
        page = site.get(f"/jobs?batch={batch.id}").text
        assert page.count(">packed</a>") == 3
        assert "2 waiting, 1 canceled." in page
        assert '<span class="quiet">waits for other jobs</span>' in page
        assert f'<input name="batch" value="{batch.id}">' in page
        assert listed(site, f"?batch={batch.id}&state=canceled") == ["packed"]
        assert listed(site, "?batch=018f0000-0000-7000-8000-000000000000") == []
        counts = site.get(f"/api/v1/jobs/count?batch={batch.id}").json()
        assert (counts["counts"]["waiting"], counts["counted_among"]) == (2, None)

    def test_many_are_not_counted_to_the_end(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """10,000+."""
        monkeypatch.setattr("jobcard.dashboard.views.jobs.COUNTED", 2)
        assert "2+ waiting" in site.get("/jobs").text


class TestPages:
    def test_they_lead_there_and_back_while_jobs_arrive(self, site: Site) -> None:
        """No job twice on the way down, none left out; on the way back what stood there, new ones on the first."""
        names = named(site.jobs, 12)
        address, seen, pages = "/jobs?limit=5&search=page-", [], []
        while True:
            pages.append(re.findall(r"page-\d\d(?=</a>)", site.get(address).text))
            seen += pages[-1]
            links = hrefs(site.get(address).text)
            if "Older" not in links:
                break
            address = links["Older"]
            site.jobs.enqueue("page-new")
        assert seen == names[::-1]
        assert [len(page) for page in pages] == [5, 5, 2]
        address = links["Newer"]
        assert re.findall(r"page-\d\d(?=</a>)", site.get(address).text) == pages[1]
        first = site.get(hrefs(site.get(address).text)["Newer"]).text
        assert re.findall(r"page-\w+(?=</a>)", first) == ["page-new"] * 2 + pages[0][:3]
        assert "Newer" not in hrefs(first)

    def test_programs_go_on_by_the_cursor(self, site: Site) -> None:
        """The same jobs, a page at a time."""
        seen, cursor = [], ""
        while cursor is not None:
            found = site.get(f"/api/v1/jobs?limit=4{cursor and '&cursor=' + cursor}").json()
            seen += [job["id"] for job in found["jobs"]]
            cursor = found["next_cursor"]
        assert seen == [str(job.id) for job in site.jobs.list()]

    def test_the_way_back_has_an_end(self, site: Site) -> None:
        """An address cannot grow for ever: the oldest steps are forgotten."""
        some = "018f0000-0000-7000-8000-000000000000".replace("-", "")
        named(site.jobs, 3)
        cursor = site.jobs.list(limit=1).next_cursor
        page = site.get(f"/jobs?limit=1&cursor={cursor}" + f"&back={some}" * 80).text
        assert hrefs(page)["Older"].count("back=") == 60

    def test_its_part_is_refreshed_where_it_stands(self, site: Site) -> None:
        """With the same filters and the same place; its rows keep their ids, by which they are told apart."""
        named(site.jobs, 3)
        older = hrefs(site.get("/jobs?limit=2&search=page").text)["Older"]
        page = site.get(older).text
        [part] = re.findall(r'hx-get="(/jobs/rows[^"]*)"', page)
        alone = site.get(part.replace("&amp;", "&"), **{"hx-request": "true"}).text
        assert "<html" not in alone
        assert re.findall(r'<tr id="job-\w+">', alone) == re.findall(r'<tr id="job-\w+">', page) != []

    def test_a_damaged_job_is_on_it(self, site: Site) -> None:
        """Nothing of its arguments is read for a list."""
        [row] = [site.jobs.parts.lookup.row(site.jobs.enqueue("bad").id.bytes)]
        with site.jobs.parts.connection as store:
            store.put([WholeJob(row._replace(args="[{", tags="{", created_at=1 << 62), [], [])])
        assert "bad" in listed(site)


class TestBounds:
    @pytest.fixture
    def many(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
        """A site with more jobs than are looked at in one request."""
        monkeypatch.setattr(browsing, "FEW", 10)
        monkeypatch.setattr(browsing, "MOST_LOOKED_AT", 100)
        monkeypatch.setattr(browsing, "LOOKS_FOR", 600.0)
        site.jobs.enqueue("needle", ["pin"], queue="rare", tags=["sharp"])
        with site.jobs.parts.connection as store:
            assert {each.fate for each in store.enqueue([factory.new_job() for _ in range(400)])} == {Fate.STORED}
        return site

    @pytest.mark.parametrize("query", ["args=pin", "name=needle", "queue=rare", "tag=sharp", "search=eedl"])
    def test_a_look_ends_says_so_and_goes_on(self, many: Site, query: str) -> None:
        """How many it looked at, back to when; the rest is found by going on."""
        page = many.get(f"/jobs?{query}", "operator").text
        assert re.search(r"Looked at 1\d\d jobs, back to \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, and found 0\.", page)
        looks = 1
        while "needle</a>" not in page:
            page = many.get(hrefs(page)["Look further back"], "operator").text
            looks += 1
        assert 2 <= looks <= 5

    def test_a_look_ends_when_it_takes_long(self, many: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the number; at least a step is done, so that it gets on."""
        monkeypatch.setattr(browsing, "LOOKS_FOR", 0.0)
        found = many.get("/api/v1/jobs?args=pin", "operator").json()
        assert (found["is_cut"], found["looked"], found["jobs"]) == (True, 50, [])
        assert found["next_cursor"] is not None

    def test_a_count_ends_and_says_so(self, many: Site) -> None:
        """It is of as many jobs as it looked at."""
        found = many.get("/api/v1/jobs/count?name=shop.mail").json()
        assert found["counts"]["waiting"] == found["counted_among"] >= 100
        assert re.search(r"waiting among the newest 1\d\d, back to \d{4}-", many.get("/jobs/count?name=shop.mail").text)
        assert many.get("/api/v1/jobs/count?state=failed&name=mail.welcome").json()["counted_among"] is None

    def test_what_was_stored_before_is_found_at_once(self, many: Site) -> None:
        """The look begins where the ids tell of that time, and not at the newest."""
        [row] = [many.jobs.parts.lookup.row(many.jobs.enqueue("old").id.bytes)]
        long_ago = row.created_at - 30 * clock.DAY
        old = row._replace(id=(long_ago // 1_000).to_bytes(6, "big") + row.id[6:], created_at=long_ago)
        with many.jobs.parts.connection as store:
            store.put([WholeJob(old, [], [])])
        moment = clock.to_datetime(long_ago + clock.DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = many.get(f"/api/v1/jobs?before={moment}").json()
        assert ([job["name"] for job in found["jobs"]], found["is_cut"], found["looked"]) == (["old"], False, 1)

    def test_few_that_were_many_a_moment_ago_are_found(self, many: Site) -> None:
        """That there were many is remembered for some seconds, in which most of them may go."""
        assert "mail" in str(listed(many, "?name=mail.welcome&name=shop.mail"))
        with many.jobs.parts.connection as store:
            store.truncate()
        many.jobs.enqueue("needle")
        assert listed(many, "?name=needle") == ["needle"]

    def test_a_batch_is_found_at_once(self, many: Site) -> None:
        """Whatever stands before it; in one with many jobs is looked for what is rare, and nowhere else."""
        small, large = factory.new_id(), factory.new_id()
        with many.jobs.parts.connection as store:
            store.enqueue([factory.new_job(batch_id=small) for _ in range(8)])
            store.enqueue([factory.new_job(batch_id=large, name="needle"), *[factory.new_job() for _ in range(200)]])
            store.enqueue([factory.new_job(batch_id=large) for _ in range(200)])
            store.enqueue([factory.new_job(name="needle") for _ in range(200)])
        one = many.get(f"/api/v1/jobs?batch={small.hex()}&name=shop.mail").json()
        assert (len(one["jobs"]), one["is_cut"], one["looked"]) == (8, False, 8)
        other = many.get(f"/api/v1/jobs?batch={large.hex()}&limit=5").json()
        assert (len(other["jobs"]), other["is_cut"], other["looked"]) == (5, False, 6)
        assert many.get(f"/api/v1/jobs/count?batch={large.hex()}").json()["counts"]["waiting"] == 201
        page = many.get(f"/jobs?batch={large.hex()}&name=needle&state=waiting&after=2020-01-01T00:00:00Z").text
        assert re.search(r"Looked at 1\d\d jobs, .* and found 0\.", page)
        page = many.get(hrefs(page)["Look further back"]).text
        assert page.count(">needle</a>") == 1

    def test_few_are_looked_at_by_the_store(self, many: Site) -> None:
        """Whatever stands before them."""
        assert listed(many, "?state=failed&name=mail.welcome") == ["mail.welcome"] * 2


class TestRoles:
    def test_who_may_not_move_jobs_is_shown_no_way_to(self, site: Site) -> None:
        """A viewer chooses nothing, and an operator deletes nothing."""
        viewer, operator, admin = (site.get("/jobs", role).text for role in ("viewer", "operator", "admin"))
        assert 'type="checkbox" name="id"' not in viewer
        assert 'value="retry"' in operator
        assert 'value="delete"' not in operator
        assert 'value="delete"' in admin

    def test_arguments_are_on_no_list(self, site: Site) -> None:
        """Whoever asks."""
        for path in ("/jobs", "/api/v1/jobs", "/api/v1/jobs/bulk?verb=retry"):
            assert "hunter2" not in site.get(path, "admin").text
