"""A browser for a module, and visitors of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import launched
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser. Of a module and no longer: while it runs, this thread cannot have an event loop of its own."""
    with launched() as started:
        yield started
