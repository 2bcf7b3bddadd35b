"""The public suite as somebody else runs it on a store of theirs: twenty lines, pytest, and what it then says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobcard.backends.asynchronous import VERBS
from jobcard.conformance import CHECKS

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "backends.md"

THEIRS = """
from collections.abc import Callable, Iterator

import pytest

from {module} import {store} as MyStore
from jobcard.backends.base import Backend
from jobcard.conformance import BackendSuite, Harness
from jobcard.conformance.model import ModelStore
from jobcard.core.clock import FrozenClock


class TestMyStore(BackendSuite):
    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        def new_store(clock: FrozenClock) -> Callable[[], Backend]:
            store = ModelStore(clock)
            return lambda: MyStore(store)

        harness = Harness(new_store)
        yield harness
        harness.close()
"""

BROKEN = {
    "broken.fencing:FinishesWithoutToken": "A worker that lost its job to a rescue can neither complete, fail nor",
    "broken.claiming:SelectsThenClaims": "Eight engines that claim and complete at once run each job exactly once",
    "broken.claiming:ForgetsTheLastExchange": "What was answered was stored",
    "broken.storing:StoresHalfACall": "All or nothing: when one job cannot be stored, an error of ours is raised",
    "broken.storing:PrunesTheLiving": "However old, a job that has not ended stays",
}
"""Five stores as people write them, and the rule that each of them breaks, in the words of the suite."""


def run_theirs(folder: Path, place: str) -> subprocess.CompletedProcess[str]:
    """Their test file, by their pytest, in their folder; the random histories have tests of their own."""
    module, _, store = place.partition(":")
    (folder / "test_theirs.py").write_text(THEIRS.format(module=module, store=store))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "test_theirs.py", "-q", "-p", "no:cacheprovider", "-k", "not histories"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(TESTS / "backends")},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=[pytest.mark.long] if number else []) for number, place in enumerate(BROKEN)]
)
def test_a_broken_store_is_told_which_rule_it_breaks(place: str, tmp_path: Path) -> None:
    """The run fails, and the failure quotes the rule; most of what is not broken passes."""
    ran = run_theirs(tmp_path, place)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert f"The rule: {BROKEN[place]}" in ran.stdout
    found = re.search(r"(\d+) failed, (\d+) passed", ran.stdout)
    assert found is not None
    assert int(found[1]) < int(found[2])


@pytest.mark.slow
@pytest.mark.turns
@pytest.mark.timeout(300)
def test_a_sound_store_passes_the_same_run(tmp_path: Path) -> None:
    """It is the fault that fails, and not the way it is run."""
    ran = run_theirs(tmp_path, "jobcard.conformance.model:ModelBackend")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_five_are_in_the_documentation() -> None:
    """docs/backends.md names each with the rule it breaks."""
    text = " ".join(DOCS.read_text("utf-8").split())
    for place, rule in BROKEN.items():
        assert f"`{place.partition(':')[2]}`" in text
        assert rule in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_contract_is_checked(verb: str) -> None:
    """A verb that no check calls would be a promise nobody asks for."""
    folder = Path(sys.modules[CHECKS["check_closing_twice_is_fine"].__module__].__file__ or "").parent
    sources = [path.read_text("utf-8") for path in folder.glob("check_*.py")]
    assert any(re.search(rf"\.{verb}\b", source) for source in [*sources, (folder / "factory.py").read_text("utf-8")])
