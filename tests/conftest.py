"""What holds for all tests: the same collection in every test process, and nothing of the caller's settings."""

from __future__ import annotations

import gc
import os
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings

from helpers.days import has_its_turn

# Before any module makes its own settings from these. No deadline: how long an example takes is up to the machine.
settings.register_profile("new", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same" if os.environ.get("JOBCARD_TEST_DRAW") == "same" else "new")

_WAITING = frozenset({"stores"})
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]*")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds; left out by `scripts/test --quick`")
    config.addinivalue_line("markers", "long: left out by `scripts/test` unless it is told what to test")
    config.addinivalue_line("markers", "turns: those of them that are slow are long, too, but for one day a week")
    # Test processes must agree on the names of tests, and those may show a set. Another order in every run.
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(1, 1 << 32)))


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # The same for a name that shows where an object lies in memory.
    for mark in metafunc.definition.iter_markers("parametrize"):
        if callable(name_of := mark.kwargs.get("ids")):
            cast(dict[str, Any], mark.kwargs)["ids"] = partial(_name_without_address, name_of)


def _name_without_address(name_of: Callable[[object], object], value: object) -> object:
    name = name_of(value)
    return _ADDRESS.sub("0x…", name) if isinstance(name, str) else name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See who has a turn, before it is chosen by marks; and deal the folders."""
    for item in items:
        if item.get_closest_marker("turns") and item.get_closest_marker("slow") and not has_its_turn(item.nodeid):
            item.add_marker("long")
    _deal(items)


def _deal(items: list[pytest.Item]) -> None:
    # Folders whose tests mostly wait stand out among the others: at the end one process would do them alone.
    files = [list(of_file) for _, of_file in groupby(items, key=lambda item: item.path)]
    waiting = [of_file for of_file in files if of_file[0].path.parent.name in _WAITING]
    others = [of_file for of_file in files if of_file[0].path.parent.name not in _WAITING]
    apart = len(others) // (len(waiting) + 1) + 1
    for place, of_file in enumerate(waiting):
        others.insert(place * (apart + 1), of_file)
    items[:] = [item for of_file in others for item in of_file]


def pytest_collection_finish() -> None:
    """Thousands of tests lie in memory to the end: the collector of garbage need not look through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the shell it is run from; and none leaves it elsewhere."""
    # Which servers there are to test on is no such setting.
    for name in [n for n in os.environ if n.startswith("JOBCARD_") and not n.startswith("JOBCARD_TEST_")]:
        monkeypatch.delenv(name)
    before = Path.cwd()
    yield
    os.chdir(before)
