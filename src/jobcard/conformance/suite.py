"""Gathers every check of every `check_*.py` into one class that a store's tests inherit from."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from jobcard.backends.base import Backend
from jobcard.conformance.awaited import awaited
from jobcard.conformance.concurrent import CROWD, run_concurrent_histories
from jobcard.conformance.drawing import CI, SHORT
from jobcard.conformance.harness import Harness
from jobcard.conformance.machine import run_histories
from jobcard.core.clock import FrozenClock


def _gather() -> dict[str, Callable[..., None]]:
    found: dict[str, Callable[..., None]] = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)], "jobcard.conformance."):
        if not entry.name.startswith("jobcard.conformance.check_"):
            continue
        for name, function in vars(importlib.import_module(entry.name)).items():
            if not name.startswith("check_") or function.__module__ != entry.name:
                continue
            if name in found:
                raise RuntimeError(f"two checks are named {name}: the second would hide the first")
            found[name] = function
    return found


def _naming_its_rule(check: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(check)
    def run(*args: object, **kwargs: object) -> None:
        try:
            check(*args, **kwargs)
        except pytest.skip.Exception:
            raise
        except BaseException as error:
            error.add_note(f"The rule: {inspect.getdoc(check)}")
            raise

    return run


CHECKS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {name: _naming_its_rule(check) for name, check in _gather().items()}
)
"""Every check by its name."""


def run_check(name: str, harness: Harness) -> None:
    """Run one check without pytest, on a harness of its own kind but with an empty store."""
    check = CHECKS[name]
    fresh = harness.fresh()
    makers: dict[str, Callable[[], object]] = {
        "harness": lambda: fresh,
        "backend": fresh.ready,
        "clock": lambda: fresh.clock,
    }
    try:
        check(**{parameter: makers[parameter]() for parameter in inspect.signature(check).parameters})
    finally:
        fresh.close()


class BackendSuite:
    """Inherit from this and give a `harness` fixture: today's checks and tomorrow's come with it.

    histories: how many random histories are run, and how long they are.
    crowd: the same for histories of several threads at once.
    """

    histories = CI
    crowd = CROWD

    @pytest.fixture
    def backend(self, harness: Harness) -> Iterator[Backend]:
        """A backend on the empty store, schema in place."""
        yield harness.ready()
        harness.close()

    @pytest.fixture
    def clock(self, harness: Harness) -> FrozenClock:
        """The store's clock."""
        return harness.clock

    def test_random_histories_agree_with_the_model(self, harness: Harness) -> None:
        """Whatever is done in whatever order, the store holds what the model holds."""
        run_histories(harness.fresh, self.histories)

    def test_concurrent_histories_are_linearizable(self, harness: Harness) -> None:
        """What several threads saw of a job can have happened one step after the other."""
        run_concurrent_histories(harness, self.crowd)
        harness.close()


class AsyncBackendSuite:
    """Inherit from this and from your own suite, in this order: the same checks through `AsyncBackend`.

    class TestMyStoreAwaited(AsyncBackendSuite, TestMyStore): ...
    """

    histories = SHORT
    crowd = replace(CROWD, histories=3)

    @pytest.fixture(autouse=True)
    def _through_the_facade(self, harness: Harness) -> None:
        harness.through = awaited

    def test_random_histories_agree_with_the_model(self, harness: Harness) -> None:
        """Awaited, too, the store holds what the model holds."""
        run_histories(harness.fresh, self.histories)


for _name, _check in CHECKS.items():
    setattr(BackendSuite, _name.replace("check_", "test_", 1), staticmethod(_check))
