"""What a browser has to fetch before it shows a page, by what it says that came over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chromium import visiting
from playwright.sync_api import Browser, Page, expect
from storefront import Shop, open_shop

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(300)]

KIB = 1024


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with fifty jobs: a full page."""
    directory = tmp_path_factory.mktemp("shop")
    with open_shop(directory, f"sqlite:///{directory}/jobs.db") as shop:
        for number in range(50):
            shop.jobs.enqueue("shop.charge", [number], queue="payments", max_attempts=1)
        shop.wait_for(50, "failed")
        yield shop


class Fetched:
    """What came over the wire, by address, headers included."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self.sizes: dict[str, int] = {}

    def asked(self, event: dict[str, Any]) -> None:
        self._addresses[event["requestId"]] = event["request"]["url"]

    def came(self, event: dict[str, Any]) -> None:
        address = self._addresses[event["requestId"]]
        self.sizes[address] = self.sizes.get(address, 0) + int(event["encodedDataLength"])

    def weight(self, *but: str) -> int:
        """Of all but what has one of these words in its address."""
        return sum(size for address, size in self.sizes.items() if not any(word in address for word in but))


@contextmanager
def watched(browser: Browser, shop: Shop) -> Iterator[tuple[Page, Fetched]]:
    """A browser that has never been here, and what it fetches."""
    found = Fetched()
    with visiting(browser, shop.address) as context:
        page = context.new_page()
        wire = context.new_cdp_session(page)
        wire.on("Network.requestWillBeSent", found.asked)
        wire.on("Network.loadingFinished", found.came)
        wire.send("Network.enable")
        yield page, found


def fetched(browser: Browser, shop: Shop, path: str) -> Fetched:
    """All of a page, until it is drawn."""
    with watched(browser, shop) as (page, found):
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        if path == "/":
            expect(page.locator("#chart-drawn canvas")).to_be_visible()
    return found


class TestWeight:
    def test_the_overview_is_light(self, browser: Browser, shop: Shop) -> None:
        """At most 100 KiB without what draws the chart, 200 KiB with it."""
        found = fetched(browser, shop, "/")
        chart = {address for address in found.sizes if "uplot" in address or "chart.js" in address}
        assert len(chart) == 3
        assert 10 * KIB < found.weight("uplot", "chart.js") <= 100 * KIB, found.sizes
        assert found.weight() <= 200 * KIB, found.sizes

    @pytest.mark.parametrize("path", ["/jobs", "/jobs/bulk?verb=retry&state=failed", "/queues/payments", "/engines"])
    def test_other_pages_are_lighter(self, browser: Browser, shop: Shop, path: str) -> None:
        """At most 100 KiB, a list of fifty jobs too; none of them loads the chart."""
        found = fetched(browser, shop, path)
        assert not any("uplot" in address for address in found.sizes)
        assert 10 * KIB < found.weight() <= 100 * KIB, found.sizes

    def test_the_second_page_costs_itself_alone(self, browser: Browser, shop: Shop) -> None:
        """Style and scripts are kept by the browser."""
        with watched(browser, shop) as (page, found):
            page.goto("/queues")
            assert found.weight() > 30 * KIB
            found.sizes.clear()
            page.get_by_role("link", name="Engines").click()
            expect(page.get_by_role("heading", name="Engines")).to_be_visible()
            page.wait_for_load_state("load")
            assert 0 < found.weight() < 20 * KIB, found.sizes
