"""What holds for all tests: the same collection in every test process, and nothing of the caller's settings."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]*")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds; left out by `scripts/test --quick`")
    # Test processes must agree on the names of tests, and those may show a set. Another order in every run.
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(1, 1 << 32)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The same for the address of an object that a name shows.
        item._nodeid = _ADDRESS.sub("0x…", item.nodeid)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the shell it is run from; and none leaves it elsewhere."""
    for name in [name for name in os.environ if name.startswith("JOBCARD_")]:
        monkeypatch.delenv(name)
    before = Path.cwd()
    yield
    os.chdir(before)
