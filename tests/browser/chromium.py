"""The system's Chromium, driven by Playwright, and what a page may not do in it: complain, or call out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Request, expect, sync_playwright

from helpers.waiting import PATIENCE

VARIABLE = "JOBCARD_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 760}}

# Nothing of its own goes out, and nothing of a page could: no name but this machine's address is found.
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
    "--no-sandbox",  # it cannot have one as root; nothing but our own pages is shown
)
# What it says of an answer with an error status, which a journey may well want to see.
_STATUS = "Failed to load resource: the server responded with a status of"

expect.set_options(timeout=PATIENCE * 1000)


class MissingBrowserError(Exception):
    """There is no Chromium to test with."""


def program() -> str:
    """Where Chromium is; an error that says how it is had, never a skipped test."""
    if given := os.environ.get(VARIABLE):
        return given
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise MissingBrowserError(
        f"the tests need a Chromium: `apt-get install chromium`, or set {VARIABLE} to the path of one"
    )


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, closed in the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a browser did beyond showing pages: what its console holds, and whom else than this machine it asked."""

    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Look at all pages of it."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._request)

    def check(self) -> None:
        """Nothing was complained of, and nothing went out."""
        assert self.complaints == []
        assert self.strangers == []

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_STATUS):
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            self.strangers.append(request.url)


@contextmanager
def visiting(browser: Browser, address: str, *, width: str = "desktop", **given: Any) -> Iterator[BrowserContext]:
    """A visitor of its own; in the end it must have seen no error, and have called nobody else."""
    context = browser.new_context(base_url=address, viewport=WIDTHS[width], **given)
    context.set_default_timeout(PATIENCE * 1000)
    watch = Watch()
    watch.over(context)
    try:
        yield context
    finally:
        context.close()
    watch.check()
