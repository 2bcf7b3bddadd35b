"""What operators do, in a real browser, with a real engine beside it, on two stores."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from chromium import visiting
from playwright.sync_api import Browser, Locator, Page, expect
from storefront import Shop, open_shop, opened

from helpers.postgres import databases
from helpers.waiting import wait_until
from jobcard import Ended, Jobcard

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(300)]

MANY = 500


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop of this module, with its engine."""
    directory = tmp_path_factory.mktemp("shop")
    if request.param == "sqlite":
        with open_shop(directory, f"sqlite:///{directory}/jobs.db") as shop:
            yield shop
    else:
        with databases() as (_, url), open_shop(directory, url) as shop:
            yield shop


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    """A new visitor. In the end no console has complained, and no request has left this machine."""
    with visiting(browser, shop.address) as context:
        yield context.new_page()


@pytest.fixture
def declined(shop: Shop) -> str:
    """The id of a job that has failed, and would again."""
    shop.break_()
    return failed(shop, 7)


def failed(shop: Shop, order: int) -> str:
    job = shop.jobs.enqueue("shop.charge", [order], queue="payments", max_attempts=1)
    wait_until(lambda: shop.jobs.get(job.id).state == "failed", "a failed job")
    return str(job.id)


def charge_elsewhere(order: int) -> str:
    """Stands for the shop's own, which the test cannot import."""
    raise NotImplementedError


def figure(page: Page, state: str) -> int:
    """What the overview counts."""
    text = page.locator("#counts .figures div", has_text=state).locator("dd").inner_text()
    return int(text.replace(",", ""))


def loaded_once(page: Page) -> None:
    """From now on the page must refresh itself: a mark on it is gone with the next load."""
    page.evaluate("window.stillTheSame = true")


def is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.stillTheSame === true"))


class TestWatching:
    def test_jobs_are_seen_while_they_run(self, page: Page, shop: Shop) -> None:
        """The overview counts them as they start and end; nobody loads it again."""
        gate = shop.gate("watched")
        page.goto("/")
        loaded_once(page)
        expect(page.locator("#chart-drawn canvas")).to_be_visible()
        done = figure(page, "completed")
        job = shop.jobs.enqueue("shop.report", [str(gate)], queue="reports")
        expect(page.locator("#engines")).to_contain_text("shop.report")
        expect(page.locator("#counts .figures div", has_text="running").locator("dd")).to_have_text("1")
        opened(gate)
        expect(page.locator("#engines")).not_to_contain_text("shop.report")
        expect(page.locator("#counts .figures div", has_text="completed").locator("dd")).to_have_text(str(done + 1))
        assert is_the_same(page)
        assert shop.jobs.get(job.id).state == "completed"

    def test_a_running_job_shows_how_far_it_is(self, page: Page, shop: Shop) -> None:
        """Progress, log, result: each as it comes."""
        gate = shop.gate("followed")
        job = shop.jobs.enqueue("shop.report", [str(gate)], queue="reports")
        page.goto(f"/jobs/{job.id}")
        loaded_once(page)
        expect(page.get_by_text("400 of 1,000 orders")).to_be_visible()
        expect(page.locator("progress")).to_have_attribute("value", "0.4")
        expect(page.locator("pre.log")).to_contain_text("reading the orders")
        opened(gate)
        expect(page.locator("h1 .state")).to_have_text("completed")
        expect(page.locator("#brought-result pre")).to_contain_text('"pages": 12')
        assert is_the_same(page)

    def test_a_job_that_waits_for_a_batch_is_seen_to_run(self, page: Page, shop: Shop) -> None:
        """From its page to the jobs of the batch and back; when those have ended it goes on."""
        gate = shop.gate("awaited")
        with shop.jobs.batch() as batch:
            pass
        awaited = shop.jobs.enqueue("shop.report", [str(gate)], queue="reports", batch=batch)
        last = shop.jobs.enqueue("shop.figures", queue="reports", after=[awaited, Ended(batch)])
        page.goto(f"/jobs/{last.id}")
        expect(page.locator("dl.card")).to_contain_text("waits for other jobs")
        page.get_by_role("link", name=str(batch.id)).click()
        expect(page.locator("#count")).to_have_text(re.compile("^1 (waiting|claimed|running).$"))
        rows = page.locator("#rows tbody tr")
        expect(rows).to_have_count(1)
        rows.get_by_role("link", name="shop.report").click()
        expect(page.get_by_text("400 of 1,000 orders")).to_be_visible()
        page.goto(f"/jobs/{last.id}")
        loaded_once(page)
        opened(gate)
        expect(page.locator("h1 .state")).to_have_text("completed")
        expect(page.get_by_role("heading", name="Waited for")).to_be_visible()
        assert is_the_same(page)

    def test_figures_open_with_the_chart(self, page: Page) -> None:
        """Closed beside the drawing; opened they stay open while the part refreshes itself."""
        page.clock.install()
        page.goto("/?span=12h")
        figures = page.locator("#chart-figures")
        expect(page.locator("#chart-drawn canvas")).to_be_visible()
        expect(figures).not_to_have_attribute("open", "")
        figures.locator("summary").click()
        with page.expect_response(re.compile("/overview/chart")):
            page.clock.fast_forward(11_000)
        expect(figures).to_have_attribute("open", "")
        expect(page.locator("#chart-data tbody tr")).to_have_count(12)


class TestFinding:
    def test_failed_jobs_are_found_and_opened(self, page: Page, shop: Shop, declined: str) -> None:
        """From the figure on the overview, by queue and text, to the trace of one."""
        page.goto("/")
        page.locator("#counts").get_by_role("link", name=re.compile(r"\d")).nth(4).click()
        expect(page).to_have_url(re.compile("state=failed"))
        page.get_by_label("Queue").fill("payments")
        page.get_by_label("Text in name or id").fill(declined)
        page.get_by_role("button", name="Show").click()
        rows = page.locator("#rows tbody tr")
        expect(rows).to_have_count(1)
        rows.get_by_role("link", name="shop.charge").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("shop.charge failed")
        expect(page.locator("pre.stack")).to_contain_text("CardDeclined: order 7: the bank says no")
        expect(page.locator("pre.stack")).to_contain_text("in book")

    def test_what_was_chosen_is_kept_while_others_come(self, page: Page, shop: Shop, declined: str) -> None:
        """While a row is ticked the list stands still; without one it goes on by itself, and rows keep their place."""
        page.clock.install()
        page.goto("/jobs?name=shop.charge&limit=5")
        loaded_once(page)
        first = page.locator("#rows tbody tr").first
        was = first.get_attribute("id") or ""
        box = first.get_by_role("checkbox")
        box.check()
        failed(shop, 8)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.fast_forward(10_000)
        expect(first).to_have_attribute("id", was)
        expect(box).to_be_checked()
        assert asked == []
        box.uncheck()
        page.clock.fast_forward(4_000)
        expect(first).not_to_have_attribute("id", was)
        expect(page.locator(f"tr + #{was}")).to_be_visible()
        assert is_the_same(page)


class TestMending:
    def test_a_failed_job_is_retried(self, page: Page, shop: Shop, declined: str) -> None:
        """And seen to complete, without another load."""
        shop.mend()
        page.goto(f"/jobs/{declined}")
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status").first).to_contain_text("runs again")
        loaded_once(page)
        expect(page.locator("h1 .state")).to_have_text("completed")
        expect(page.locator("#brought-result pre")).to_contain_text("booked 9.50")
        assert is_the_same(page)

    def test_a_job_is_stored_again_with_other_arguments(self, page: Page, shop: Shop, declined: str) -> None:
        """The new one runs; the old one stays as it was; each names the other."""
        shop.mend()
        page.goto(f"/jobs/{declined}")
        page.get_by_role("link", name="Edit and retry").click()
        assert json.loads(page.get_by_label("args", exact=True).input_value()) == [7]
        page.get_by_label("args", exact=True).fill("[7, 12.25]")
        page.get_by_role("button", name="Store it again").click()
        expect(page.locator("#brought-result pre")).to_contain_text("booked 12.25")
        expect(page.get_by_role("link", name=declined)).to_be_visible()
        assert shop.jobs.get(declined).state == "failed"

    def test_what_cannot_be_stored_is_told(self, page: Page, declined: str) -> None:
        """In a sentence; nothing is stored."""
        page.goto(f"/jobs/{declined}/edit")
        page.get_by_label("args", exact=True).fill("[7,")
        page.get_by_role("button", name="Store it again").click()
        expect(page.locator("main")).to_contain_text("JSON")

    def test_five_hundred_are_retried_at_once(self, page: Page, shop: Shop) -> None:
        """After a page that names them; then exactly those are moved, and run."""
        shop.break_()
        # By a client of its own: one that has some code is to know all names.
        with Jobcard(shop.url) as producer:
            charge = producer.job(name="shop.charge", queue="payments", max_attempts=1)(charge_elsewhere)
            producer.enqueue_many(charge.options(tags=["many"]).call(order) for order in range(MANY))
        wait_until(lambda: shop.jobs.count(tags=["many"]).failed == MANY, "500 failed jobs", timeout=120)
        shop.mend()
        page.goto("/jobs?state=failed&tag=many")
        left = MANY
        while left:  # on a slow machine it says how many it did not come to
            page.get_by_role("link", name="retry…").click()
            expect(page.get_by_role("heading", level=1)).to_have_text(f"Retry {left} jobs?")
            expect(page.locator("main")).to_contain_text(f"{left} failed; {left} shop.charge")
            assert shop.jobs.count(tags=["many"]).failed == left
            page.get_by_role("button", name=f"Retry {left}").click()
            said = page.get_by_role("status").first
            expect(said).to_contain_text(f" of {left} retried", timeout=60_000)
            left -= int(said.inner_text().split()[0])
        wait_until(lambda: shop.jobs.count(tags=["many"]).completed == MANY, "500 completed jobs", timeout=120)
        page.goto("/jobs?state=failed&tag=many")
        expect(page.locator("#rows")).to_contain_text("No jobs fit")

    def test_a_running_job_is_canceled(self, page: Page, shop: Shop) -> None:
        """It ends, and the page says so by itself."""
        job = shop.jobs.enqueue("shop.report", [str(shop.gate("never"))], queue="reports")
        page.goto(f"/jobs/{job.id}")
        expect(page.locator("h1 .state")).to_have_text("running")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("h1 .state")).to_have_text("canceled", timeout=60_000)
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


class TestRunning:
    def test_a_queue_is_paused_and_resumed(self, page: Page, shop: Shop) -> None:
        """While it is paused nothing of it starts; then all of it does."""
        shop.jobs.enqueue("shop.welcome", ["bob"], queue="mail")
        page.goto("/queues")
        row = page.locator("#queues tbody tr", has=page.get_by_role("link", name="mail", exact=True))
        row.get_by_role("button", name="Pause").click()
        expect(page.locator("#state")).to_contain_text("Paused by local")
        # Due when engines must have heard of it: they do so within two seconds.
        job = shop.jobs.enqueue("shop.welcome", ["ann"], queue="mail", delay=3)
        page.goto(f"/jobs/{job.id}")
        expect(page.locator("#why-title + ul")).to_contain_text("paused")
        expect(page.locator("#why-title + ul")).not_to_contain_text("it is due at")
        expect(page.locator("h1 .state")).to_have_text("waiting")
        page.goto("/queues")
        expect(row.get_by_text("paused", exact=True)).to_be_visible()
        row.get_by_role("link", name="mail").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        page.goto(f"/jobs/{job.id}")
        expect(page.locator("h1 .state")).to_have_text("completed")
        page.goto("/audit")
        expect(page.locator("tbody tr").first).to_contain_text("Resume a queue")

    def test_limits_are_changed(self, page: Page, shop: Shop) -> None:
        """By the form of the queue; what cannot be stays as it was."""
        shop.jobs.queues.create("narrow")
        page.goto("/queues/narrow")
        page.get_by_label("Jobs at once in all engines").fill("3")
        page.get_by_role("button", name="Change").click()
        expect(page.locator("#state")).to_contain_text("0 / 3")
        page.get_by_label("Starts in a window of time").fill("5")
        page.get_by_label("That window, in seconds").fill("")
        page.get_by_role("button", name="Change").click()
        expect(page.locator("main")).to_contain_text("rate")
        assert shop.jobs.queues.get("narrow").global_concurrency == 3

    def test_a_schedule_is_run_now(self, page: Page, shop: Shop) -> None:
        """Its job completes, and its page shows it."""
        page.goto("/schedules/nightly-figures")
        expect(page.locator("ol li")).to_have_count(10)
        page.get_by_role("button", name="Run now").click()
        row = page.locator("#state tbody tr").first
        expect(row).to_contain_text("completed")
        row.get_by_role("link").click()
        expect(page.locator("#brought-result pre")).to_contain_text("figures of yesterday")
        expect(page.get_by_role("link", name="nightly-figures")).to_be_visible()


class TestWithoutAMouse:
    def test_everything_is_reached_by_keys(self, page: Page, shop: Shop, declined: str) -> None:
        """Past the navigation to the failed job, and retry it; what has the focus is seen, and keeps it."""
        shop.mend()
        page.clock.install()
        page.goto(f"/jobs?state=failed&search={declined}")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        to(page, page.get_by_role("link", name="shop.charge"))
        page.keyboard.press("Enter")
        expect(page.locator("pre.stack")).to_be_visible()
        to(page, page.get_by_role("button", name="Retry"))
        with page.expect_response(re.compile("/now")):
            page.clock.fast_forward(11_000)
        expect(page.get_by_role("button", name="Retry")).to_be_focused()
        page.keyboard.press("Space")
        expect(page.locator("h1 .state")).to_have_text("completed")


def to(page: Page, wanted: Locator) -> None:
    """Press Tab until it has the focus; whatever has it on the way shows a ring."""
    for _ in range(80):
        page.keyboard.press("Tab")
        is_there, ring, shown = wanted.evaluate(
            """each => {
              const focused = document.activeElement;
              return [each === focused, getComputedStyle(focused).outlineStyle, focused.outerHTML.slice(0, 200)];
            }"""
        )
        assert ring != "none", shown
        if is_there:
            return
    raise AssertionError(f"{wanted} is not reached by Tab")


class TestWithoutScript:
    def test_it_reads_and_acts(self, browser: Browser, shop: Shop, declined: str) -> None:
        """Every page reads, its links lead on, and buttons do what they say."""
        shop.mend()
        with visiting(browser, shop.address, java_script_enabled=False) as context:
            page = context.new_page()
            page.goto("/?span=12h")
            expect(page.locator("#chart-data tbody tr")).to_have_count(12)
            expect(page.locator("#chart-data tbody tr").first).to_be_visible()
            for name in ("Queues", "Schedules", "Engines", "Audit", "Jobs"):
                page.get_by_label("Pages").get_by_role("link", name=name).click()
                expect(page.get_by_role("heading", level=1)).to_have_text(name)
            page.get_by_label("failed").check()
            page.get_by_label("Text in name or id").fill(declined)
            page.get_by_role("button", name="Show").click()
            page.get_by_role("link", name="shop.charge").click()
            expect(page.locator("pre.stack")).to_be_visible()
            page.get_by_role("button", name="Retry").click()
            # The page that says so is there; else it would be reloaded while it comes.
            expect(page.get_by_role("status").first).to_contain_text("It runs again")
            wait_until(lambda: shop.jobs.get(declined).state == "completed", "the job")
            page.reload()
            expect(page.locator("h1 .state")).to_have_text("completed")


class TestOnAPhone:
    def test_a_failed_job_is_retried(self, browser: Browser, shop: Shop, declined: str) -> None:
        """By touch, and nothing has to be moved sideways."""
        shop.mend()
        with visiting(browser, shop.address, width="phone", has_touch=True, is_mobile=True) as context:
            page = context.new_page()
            page.goto(f"/jobs?state=failed&search={declined}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.get_by_role("link", name="shop.charge").tap()
            expect(page.locator("pre.stack")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.get_by_role("button", name="Retry").tap()
            expect(page.locator("h1 .state")).to_have_text("completed")
