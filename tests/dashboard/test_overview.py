"""The overview shows what the store holds: the same figures on the page, in its parts and in JSON."""

from __future__ import annotations

import re

import pytest
from visitors import MARK, Site

from jobcard.dashboard.views import overview

PARTS = ("counts", "chart", "queues", "engines", "schedules", "failures")


def figures(page: str) -> dict[str, str]:
    """What stands under each state."""
    found = re.findall(
        r'<dt><span class="state state-(\w+)">\w+</span></dt><dd><a href="/jobs\?state=\w+">([^<]*)</a></dd>', page
    )
    assert len(found) == 6
    return dict(found)


class TestOverview:
    def test_it_counts_by_state(self, site: Site) -> None:
        """As `jobs.count()` does."""
        shown = figures(site.get("/").text)
        counts = site.jobs.count()
        assert shown == {state.value: str(number) for state, number in counts.items()}
        assert shown["waiting"] == "4"
        assert "1 of those that wait are not due yet" in site.get("/").text

    def test_programs_get_the_same(self, site: Site) -> None:
        """In JSON, from the same view."""
        found = site.get("/api/v1/overview").json()
        assert found["counts"] == {state.value: number for state, number in site.jobs.count().items()}
        assert found["delayed"] == 1
        mail = next(queue for queue in found["queues"] if queue["name"] == "mail")
        assert (mail["at_work"], mail["concurrency"], mail["global_concurrency"]) == (1, 3, 7)
        assert 0 < mail["run_p50"] <= mail["run_p95"]
        assert [each["name"] for each in found["schedules"]] == ["nightly"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found["schedules"][0]["next_at"])
        assert found["engines"] == []

    @pytest.mark.parametrize(("span", "buckets"), [("12m", 12), ("12h", 12), ("12d", 12)])
    def test_the_chart_has_a_row_for_each_step(self, site: Site, span: str, buckets: int) -> None:
        """A table, which a script may draw; the figures are those of the client."""
        page = site.get(f"/overview/chart?span={span}").text
        rows = re.findall(r"<tr><th scope=\"row\" data-at=\"[^\"]+\">[^<]+</th>((?:<td>\d+</td>){3})</tr>", page)
        assert len(rows) == buckets
        completed = sum(int(re.findall(r"\d+", row)[0]) for row in rows)
        failed = sum(int(re.findall(r"\d+", row)[1]) for row in rows)
        assert (completed, failed) == (3, 2)

    def test_each_queue_tells_how_long_its_first_job_waits(self, site: Site) -> None:
        """Of those that are due; a queue in which nothing waits has no such time."""
        found = {queue["name"]: queue["oldest_waiting"] for queue in site.get("/api/v1/overview").json()["queues"]}
        assert found["default"] > 0 and found["mail"] is None
        assert "Oldest waiting" in site.get("/overview/queues").text
        told = re.findall(r'jobcard_queue_oldest_waiting_seconds\{queue="(\w+)"\} [\d.]+', site.get("/metrics").text)
        assert told == ["default"]

    def test_counts_have_an_end(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond it nobody reads the digits."""
        monkeypatch.setattr(overview, "COUNTED", 3)
        shown = figures(site.get("/").text)
        assert (shown["waiting"], shown["completed"], shown["failed"]) == ("3+", "3+", "2")

    def test_a_chart_counts_what_is_new(self, site: Site) -> None:
        """Though its older slices are kept."""
        first = site.get("/api/v1/overview").json()["buckets"]
        for job in site.jobs.list(name="add"):
            site.jobs.cancel(job.id)
        second = site.get("/api/v1/overview").json()["buckets"]
        assert sum(each["canceled"] for each in second) == 3 + sum(each["canceled"] for each in first)
        assert len(second) == len(first) == 12

    def test_alike_failures_stand_together(self, site: Site) -> None:
        """With how many there are, and which jobs they are of."""
        [found] = site.get("/api/v1/overview").json()["failures"]
        assert (found["error_kind"], found["jobs"], found["names"]) == (f"ValueError {MARK}", 2, ["mail.welcome"])

    @pytest.mark.parametrize("part", PARTS)
    def test_a_part_is_refreshed_by_itself(self, site: Site, part: str) -> None:
        """It stands on the page as it comes alone, and asks for itself again."""
        alone = site.get(f"/overview/{part}", **{"hx-request": "true"}).text
        assert f'<section id="{part}" hx-get="/overview/{part}' in alone
        assert "<html" not in alone
        assert f'<section id="{part}"' in site.get("/").text

    def test_an_engine_shows_what_it_runs(self, site: Site) -> None:
        """A live one, as it told of itself."""
        with site.jobs.running(in_process=True):
            [engine] = site.jobs.engines.list()
            assert engine.id[:12] in site.get("/overview/engines").text

    def test_without_an_engine_it_says_so(self, site: Site) -> None:
        """Nothing runs jobs then: the first thing to know."""
        assert "No engine is alive" in site.get("/").text

    def test_nothing_stored_becomes_markup(self, site: Site) -> None:
        """Who paused a queue, and errors."""
        page = site.get("/").text
        assert "planted onclick" in page
        assert "<b id=planted" not in page

    def test_arguments_are_not_on_it(self, site: Site) -> None:
        """Neither on the page nor in JSON."""
        assert "hunter2" not in site.get("/", "admin").text + site.get("/api/v1/overview", "admin").text
