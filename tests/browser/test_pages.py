"""Every page as people see it: light and dark, wide and on a phone, for eyes and for screen readers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest
from chromium import WIDTHS, visiting
from playwright.sync_api import Browser, Page, expect
from storefront import Shop, open_shop, opened, running

from helpers.waiting import wait_until
from jobcard import Ended, RateLimit
from jobcard.dashboard.users import add_user

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(300)]

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
BROKEN = 25
"""How many jobs fail."""

# What is wider than the window; something that scrolls by itself may be, and so may what is in it.
_TOO_WIDE = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return wide <= 0 ? [] : [...document.querySelectorAll("body *")].filter((each) =>
    each.getBoundingClientRect().right > innerWidth + 1 && !each.parentElement.closest(".scrolls, pre")
  ).map((each) => each.outerHTML.slice(0, 120));
}"""
_SERIOUS = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations.filter((each) => ["serious", "critical"].includes(each.impact)).map((each) =>
    `${each.id}: ${each.help}: ` + each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(" | "));
}"""


@dataclass
class Sights:
    """A shop in which something of everything has happened."""

    shop: Shop
    signed: str
    """The address of a dashboard with users over the same store."""
    places: dict[str, str]
    """Each page, by the name of its pictures."""


@pytest.fixture(scope="module")
def sights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sights]:
    directory = tmp_path_factory.mktemp("shop")
    url = f"sqlite:///{directory}/jobs.db"
    with ExitStack() as stack:
        shop = stack.enter_context(open_shop(directory, url))
        add_user(directory / "users.json", "anna", "operator", "correct horse battery staple", log_n=4)
        said = stack.enter_context(
            running(shop.app, "dashboard", "--url", url, "--port", "0", "--users", "users.json", until="ready:")
        )
        signed = said.partition("dashboard at ")[2].split()[0].rstrip("/")
        gate = shop.gate("month")
        jobs = shop.jobs
        for number in range(40):
            jobs.enqueue("shop.welcome", [f"customer{number}@example.org"], queue="mail")
        for number in range(BROKEN):
            jobs.enqueue("shop.charge", [number, 9.5], queue="payments", max_attempts=1, tags=["cards"])
        shop.wait_for(40, "completed")
        shop.wait_for(BROKEN, "failed")
        jobs.queues.update("mail", global_concurrency=20, rate=RateLimit(1000, per=60), priority=5)
        jobs.queues.pause("payments", by="anna")
        jobs.enqueue("shop.welcome", ["later@example.org"], queue="mail", delay=7200, tags=["campaign", "spring"])
        jobs.enqueue("shop.charge", [1000], queue="payments")
        jobs.enqueue("shop.welcome", ["nobody@example.org"], queue="mail", delay=7200).cancel()
        running_now = jobs.enqueue("shop.report", [str(gate)], queue="reports")
        wait_until(lambda: jobs.get(running_now.id).progress, "the report's progress")
        with jobs.batch("spring") as batch, jobs.batch("summer") as its_own:
            pass
        for number in range(3):
            jobs.enqueue("shop.welcome", [f"new{number}@example.org"], queue="mail", delay=7200, batch=batch)
        [sent] = jobs.list(state="completed", limit=1)
        all_kinds = [running_now, sent, Ended(batch), uuid4()]
        last = jobs.enqueue("shop.figures", queue="reports", after=all_kinds, batch=its_own)
        [failed] = jobs.list(state="failed", limit=1)
        places = {
            "overview": "/",
            "jobs": "/jobs?limit=20",
            "jobs found": "/jobs?state=failed&queue=payments&tag=cards&error_kind=CardDeclined in shop.charge&limit=5",
            "jobs none": "/jobs?queue=nowhere",
            "job failed": f"/jobs/{failed.id}",
            "job running": f"/jobs/{running_now.id}",
            "job waiting for others": f"/jobs/{last.id}",
            "jobs of a batch": f"/jobs?batch={batch.id}",
            "job edit": f"/jobs/{failed.id}/edit",
            "bulk preview": "/jobs/bulk?verb=retry&state=failed",
            "queues": "/queues",
            "queue": "/queues/mail",
            "queue paused": "/queues/payments",
            "schedules": "/schedules",
            "schedule": "/schedules/nightly-figures",
            "engines": "/engines",
            "audit": "/audit",
            "error": "/jobs/no-such-job",
        }
        yield Sights(shop, signed, places)
        opened(gate)


def looks_well(page: Page, name: str) -> None:
    """A picture in each light and width is kept; nothing leaves the window, and axe finds nothing serious."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.evaluate(AXE)
    for light in ("light", "dark"):
        page.emulate_media(color_scheme=light)
        for width, size in WIDTHS.items():
            page.set_viewport_size(size)
            page.screenshot(path=SCREENSHOTS / f"{name.replace(' ', '-')}.{light}.{width}.png", full_page=True)
            assert page.evaluate(_TOO_WIDE) == [], f"{name} on a {width}"
        assert page.evaluate(_SERIOUS) == [], f"{name} when {light}"


NAMES = (
    "overview", "jobs", "jobs found", "jobs none", "jobs of a batch", "job failed", "job running",
    "job waiting for others", "job edit", "bulk preview", "queues", "queue", "queue paused", "schedules", "schedule",
    "engines", "audit", "error",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(browser: Browser, sights: Sights) -> Iterator[Page]:
    """One for all of them, whose console is judged in the end."""
    with visiting(browser, sights.shop.address) as context:
        page = context.new_page()
        page.goto("/queues/mail")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        yield page


class TestLooks:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_page_looks_well(self, page: Page, sights: Sights, name: str) -> None:
        """Light and dark, wide and on a phone."""
        page.set_viewport_size(WIDTHS["desktop"])
        page.goto(sights.places[name])
        expect(page.locator("h1")).to_be_visible()
        looks_well(page, name)

    def test_what_is_done_with_ticked_rows_stays_in_sight(self, page: Page) -> None:
        """However long the list; with none ticked it stands at its end."""
        page.set_viewport_size(WIDTHS["desktop"])
        page.goto("/jobs?limit=50")
        retry = page.get_by_role("button", name="Retry…")
        expect(retry).not_to_be_in_viewport()
        page.locator("tbody").get_by_role("checkbox").first.check()
        expect(retry).to_be_in_viewport()
        page.emulate_media(color_scheme="light")
        page.screenshot(path=SCREENSHOTS / "jobs-ticked.light.desktop.png")
        page.get_by_label("All on this page").check()
        retry.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Retry [1-9][0-9]* jobs"))

    def test_a_fault_would_be_seen(self, page: Page) -> None:
        """Something too wide, something too pale, and a button without a name."""
        page.set_viewport_size(WIDTHS["phone"])
        page.goto("/audit")
        page.evaluate(AXE)
        assert page.evaluate(_TOO_WIDE) == page.evaluate(_SERIOUS) == []
        page.evaluate(
            """() => {
              const h1 = document.querySelector("h1");
              h1.style.cssText = "width: 500px; color: #999; background: #aaa";
              h1.after(document.createElement("button"));
            }"""
        )
        assert len(page.evaluate(_TOO_WIDE)) == 1
        assert {fault.partition(":")[0] for fault in page.evaluate(_SERIOUS)} == {"color-contrast", "button-name"}

    def test_the_way_in_looks_well(self, browser: Browser, sights: Sights) -> None:
        """Also with a wrong password, and when somebody has come in."""
        with visiting(browser, sights.signed) as context:
            page = context.new_page()
            page.goto("/")
            looks_well(page, "sign in")
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_be_visible()
            looks_well(page, "sign in refused")
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill("correct horse battery staple")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            looks_well(page, "overview of a user")
