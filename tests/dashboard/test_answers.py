"""How it answers: headers, errors, files, figures for programs, the document of the API, and where it is mounted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from visitors import Site, visit
from walking import addresses

from jobcard.client import Jobcard
from jobcard.dashboard import app as app_module
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.headers import HEADERS
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route
from jobcard.dashboard.views import machines
from jobcard.dashboard.views.assets import TYPES
from jobcard.errors import JobNotFoundError, StoreUnavailableError

PACKAGE = Path(app_module.__file__).parent
TEMPLATES = sorted((PACKAGE / "templates").rglob("*.html"))


class TestHeaders:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/nothing"),
            ("PUT", "/"),
            ("GET", "/api/v1/overview"),
            ("GET", "/healthz"),
            ("GET", "/static/jobcard.js"),
            ("GET", "/login"),
            ("POST", "/logout"),
        ],
    )
    def test_they_are_on_every_answer(self, site: Site, method: str, path: str) -> None:
        """Pages, errors, redirects, files and JSON."""
        answer = site.browser("viewer").request(method, path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.headers["cache-control"] in ("no-store", "no-cache")

    @pytest.mark.parametrize("role", [None, "admin"])
    def test_no_route_is_without(self, site: Site, role: str | None) -> None:
        """Every address of the table, asked for and posted to; nothing of the store is kept by anybody on the way."""
        for route, address in addresses():
            if route.path == "/logout" and role is not None:
                continue
            answer = site.browser(role).request(route.method, address)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, address
            kept = "no-cache" if address.startswith("/static/") else "no-store"
            assert answer.headers["cache-control"] == kept, address
            assert "access-control-allow-origin" not in answer.headers

    def test_the_policy_lets_nothing_in(self) -> None:
        """No script or style but our files, none written into a page, and no page that holds ours."""
        policy = HEADERS["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


class TestTemplates:
    @pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_nothing_gets_around_escaping(self, path: Path) -> None:
        """No `safe`, no block without escaping, no script, style or handler that is written into the page."""
        text = path.read_text("utf-8")
        assert not re.search(
            r"\|\s*(safe|xmlattr|urlize|tojson)\b|autoescape|Markup|<style|\sstyle\s*=|\son\w+\s*=", text
        )
        assert not re.search(r"<script(?! src=)|javascript:|hx-on|hx-vals|https?://", text)

    def test_nor_does_the_code(self) -> None:
        """Text becomes markup by the templates alone."""
        words = ("Markup(", "unescape(", "|safe")
        found = [path.name for path in PACKAGE.rglob("*.py") for word in words if word in path.read_text("utf-8")]
        assert found == ["__init__.py"]  # which says that there is none

    def test_every_template_is_shown_by_a_route(self) -> None:
        """But for what others are made of."""
        shown = {route.template for route in ROUTES if route.template}
        names = {str(path.relative_to(PACKAGE / "templates")) for path in TEMPLATES}
        assert names - shown == {"base.html", "error.html", "macros.html", "sign_in.html"}
        assert shown <= names


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "text"),
        [
            (JobNotFoundError("018f0000-0000-7000-8000-000000000000"), 404, "018f0000"),
            (StoreUnavailableError("the server is asleep"), 503, "asleep"),
            (RuntimeError("canary"), 500, "Something went wrong here."),
        ],
    )
    def test_what_a_view_raises_is_a_page(
        self, filled: Jobcard, users: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
    ) -> None:
        """Or the same in JSON; never a traceback."""

        def fail(ask: Ask) -> Any:
            raise error

        route = Route(path="/fail", api="/fail", view=fail, summary="Fail")
        monkeypatch.setattr(app_module, "ROUTES", (*ROUTES, route))
        site = Site(filled, filled.dashboard(users=users))
        page, found = site.get("/fail"), site.get("/api/v1/fail")
        assert page.status_code == found.status_code == found.json()["status"] == status
        assert text in page.text
        assert text in found.json()["error"]
        assert "canary" not in page.text + found.text
        assert "Traceback" not in page.text + found.text
        site.app.close()

    @pytest.mark.parametrize(
        "path",
        [
            "/?span=1m",
            "/?span=12m&span=12h",
            "/?span=%ff",
            "/?span=%00",
            "/?page=-1",
            "/?span[]=12m",
            "/?" + "a&" * 3_000,
            "/api/v1/overview?span=x",
        ],
    )
    def test_a_query_has_bounds(self, site: Site, path: str) -> None:
        """400, and what it must be."""
        assert site.get(path).status_code == 400

    @pytest.mark.parametrize(
        "path",
        [
            "/jobs/../../etc/passwd",
            "/%2e%2e%2f",
            "/x//evil.example",
            "/\\",
            "/%00",
            "/%c0%ae",
            "/api/v1/",
            "/overview/",
        ],
    )
    def test_an_odd_path_leads_nowhere(self, site: Site, path: str) -> None:
        """Neither to a file nor to another host, and to no error of ours."""
        answer = site.get(path)
        assert answer.status_code in (400, 404)
        assert "root:" not in answer.text

    def test_a_long_address_is_refused(self, site: Site) -> None:
        """Before anybody looks at it."""
        assert site.get("/?" + "a" * 9_000).status_code == 414

    def test_it_lives_through_an_outage(self, tmp_path: Path, users: Path) -> None:
        """It starts without a store, says so, and is there when the store is."""
        place = tmp_path / "absent"
        jobs = Jobcard(f"sqlite:///{place}/jobs.db")
        site = Site(jobs, jobs.dashboard(users=users))
        assert site.browser(None).get("/healthz").status_code == 503
        assert site.browser("viewer").get("/").status_code == 503
        assert "absent" not in site.browser(None).get("/healthz").text
        place.mkdir()
        assert site.browser(None).get("/healthz").text == "ok\n"
        assert site.browser("viewer").get("/").status_code == 200
        site.app.close()
        jobs.close()


class TestFiles:
    @pytest.mark.parametrize("name", TYPES)
    def test_each_is_there(self, site: Site, name: str) -> None:
        """Of its kind, for anybody."""
        answer = site.browser(None).get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name])

    def test_what_pages_name_may_be_kept(self, site: Site) -> None:
        """For ever: another content has another address."""
        for link in re.findall(r'(?:href|src)="(/static/[^"]+)"', site.get("/").text):
            assert "immutable" in site.browser(None).get(link).headers["cache-control"]

    @pytest.mark.parametrize(
        "name",
        [
            "nothing.js",
            "../app.py",
            "..%2fapp.py",
            "%2e%2e/app.py",
            "vendor",
            "",
            "jobcard.css/",
            "vendor/htmx.LICENSE",
        ],
    )
    def test_nothing_else_is(self, site: Site, name: str) -> None:
        """Whatever the path says."""
        assert site.get(f"/static/{name}").status_code == 404

    def test_nothing_is_loaded_from_elsewhere(self, site: Site) -> None:
        """It works without the internet."""
        assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', site.get("/").text) == []

    def test_a_page_is_small(self, site: Site) -> None:
        """100 KiB without the chart, 200 KiB with it."""
        page = site.get("/").text
        files = {link: len(site.get(link).content) for link in re.findall(r'(?:href|src)="(/static/[^"]+)"', page)}
        whole = len(page.encode()) + sum(files.values())
        chart = sum(size for link, size in files.items() if "uplot" in link or "chart.js" in link)
        assert whole - chart <= 100 << 10
        assert whole <= 200 << 10


class TestPrograms:
    def test_prometheus_reads_the_figures(self, site: Site) -> None:
        """A line for each queue and state."""
        answer = site.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.text.splitlines()
        assert 'jobcard_jobs{queue="mail",state="failed"} 2' in lines
        assert 'jobcard_queue_paused{queue="odd"} 1' in lines
        assert "jobcard_delayed_jobs 1" in lines
        assert all(re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{.*\})? [0-9.e+-]+", line) for line in lines)

    @pytest.mark.parametrize("text", ['a"b', "a\\", "a\nb", "\ud800", "\x00\x1b", '"} 1\njobcard_jobs{queue="x'])
    def test_a_name_is_no_line_of_its_own(self, text: str) -> None:
        """Whatever somebody wrote into the store as the name of a queue."""
        [line] = [each for each in machines._family("jobs", "Jobs.", [({"queue": text}, 1)]) if each[0] != "#"]
        assert re.fullmatch(r'jobs\{queue="([^"\\\n]|\\.)*"\} 1', line)
        assert line.encode("utf-8")

    def test_the_document_has_every_route(self, site: Site) -> None:
        """Of the API, each with what it takes."""
        document = site.get("/api/v1/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        there = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
        assert there == {(route.api, route.method) for route in ROUTES if route.api}
        [span] = document["paths"]["/overview"]["get"]["parameters"]
        assert span["schema"]["enum"] == ["12m", "12h", "12d"]
        job = document["paths"]["/jobs/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert job["properties"]["after"]["items"]["required"] == ["kind", "id", "until"]
        names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
        assert len(names) == len(set(names))

    def test_json_is_no_page(self, site: Site) -> None:
        """Nor what a browser would take for one."""
        answer = site.get("/api/v1/overview")
        assert answer.headers["content-type"] == "application/json"
        assert "<" not in answer.text


class TestMounted:
    def test_in_an_application(self, filled: Jobcard, users: Path) -> None:
        """Every link begins where it is mounted, and so does the cookie."""
        inner = filled.dashboard(users=users)
        site = Site(filled, Starlette(routes=[Mount("/ops/jobs", app=inner)]), root="/ops/jobs")
        page = site.get("/").text
        links = re.findall(r'(?:src|href|action|hx-get)="(/[^"]*)"', page)
        assert len(links) > 10
        assert all(link.startswith("/ops/jobs/") for link in links)
        assert site.browser(None).get("/ops/jobs/").headers["location"] == "/ops/jobs/login"
        assert visit(site.app).get("/ops/jobs").status_code == 307
        assert site.get(re.findall(r'src="/ops/jobs(/static/[^"]+)"', page)[0]).status_code == 200
        inner.close()

    @pytest.mark.parametrize("stripped", ["", "/ops"], ids=["as it is", "stripped"])
    def test_behind_a_proxy(self, filled: Jobcard, users: Path, stripped: str) -> None:
        """Under a base path, whether the proxy leaves it in what it passes on or not."""
        app = filled.dashboard(users=users, base_path="/ops/")

        async def proxy(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "path": scope["path"].removeprefix(stripped)}, receive, send)

        site = Site(filled, proxy, root="/ops")
        page = site.get("/").text
        assert 'href="/ops/"' in page
        assert 'hx-get="/ops/overview/counts"' in page
        app.close()

    def test_it_has_connections_of_its_own(self, site: Site) -> None:
        """Its end is not the application's."""
        assert site.get("/").status_code == 200
        site.app.close()
        assert site.jobs.count().total == 11
