"""The dashboard below a path of an application, in a browser: every link, form, file and refresh stays below it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from chromium import visiting
from playwright.sync_api import Browser, expect
from storefront import SHOP, free_port

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until
from jobcard.client import Jobcard
from jobcard.dashboard.users import add_user

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery staple"
ROOT = "/ops/jobs"
PAGES = ("/", "/jobs", "/queues", "/queues/mail", "/schedules", "/schedules/stock", "/engines", "/audit")
_LEADS_OUT = f"""() => [...document.querySelectorAll("[href], [src], [action], [hx-get]")]
  .map((each) => each.getAttribute("hx-get") || each.href || each.src || each.action)
  .filter((address) => !new URL(address, location).pathname.startsWith("{ROOT}/") && !address.includes("#main"))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An application of its own that has the dashboard at /ops/jobs."""
    app = App(tmp_path_factory.mktemp("mounted"))
    url = f"sqlite:///{app.directory}/jobs.db"
    add_user(app.directory / "users.json", "anna", "operator", PASSWORD, log_n=4)
    app.write("shop.py", SHOP)
    app.write(
        "web.py",
        """
        from shop import jobs
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Mount, Route


        async def home(request):
            return PlainTextResponse("the shop")


        site = Starlette(routes=[Route("/", home), Mount("/ops/jobs", jobs.dashboard(users="users.json"))])
        """,
    )
    with Jobcard(url) as jobs:
        jobs.migrate()
        jobs.enqueue("shop.welcome", ["ann"], queue="mail")
        jobs.queues.create("default")
        jobs.schedule("stock", "@hourly", "shop.figures")
    port = free_port()
    with (app.directory / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "web:site", "--port", str(port)],
            cwd=app.directory,
            env={**app.environment(), "JOBCARD_URL": url},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/") or process.poll() is not None, timeout=4 * PATIENCE)
        assert process.poll() is None, (app.directory / "web.log").read_text("utf-8")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(2 * PATIENCE)


def answers(address: str) -> bool:
    """Whether somebody is there."""
    try:
        return httpx2.get(address).is_success
    except httpx2.TransportError:
        return False


class TestBelowAPath:
    def test_it_stays_there(self, browser: Browser, address: str) -> None:
        """From coming in to going out; its own styles and scripts are found, and parts refresh themselves."""
        refused: list[str] = []
        with visiting(browser, address) as context:
            page = context.new_page()
            page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
            page.goto(ROOT)
            expect(page).to_have_url(re.compile(f"{ROOT}/login"))
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            expect(page).to_have_url(f"{address}{ROOT}/")
            expect(page.locator("#chart-drawn canvas")).to_be_visible()
            with page.expect_response(f"**{ROOT}/overview/counts") as refreshed:
                pass
            assert refreshed.value.ok
            links: set[str] = set()
            for path in PAGES:
                page.goto(ROOT + path)
                assert page.evaluate(_LEADS_OUT) == []
                links |= set(page.evaluate("() => [...document.links].map((each) => each.href.split('#')[0])"))
            for link in sorted(links):
                assert urlsplit(urljoin(address, link)).path.startswith(f"{ROOT}/")
                assert context.request.get(link).ok, link
            page.goto(f"{ROOT}/queues/mail")
            page.get_by_role("button", name="Pause").click()
            expect(page.locator("#state")).to_contain_text("Paused by anna")
            page.get_by_role("button", name="Sign out").click()
            expect(page).to_have_url(re.compile(f"{ROOT}/login"))
            assert refused == []
            page.goto("/")
            expect(page.locator("body")).to_have_text("the shop")
