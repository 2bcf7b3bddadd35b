"""What `jobcard doctor` is asked about: a store of each kind, and a directory to ask from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from patient import Patient

from helpers.places import ALL, Place, new_place
from helpers.quick import Commands, QuickApp


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """What runs the command, on a store of any kind."""
    stores = (f"jobcard.backends.{name}" for name in ("postgres", "mysql", "mongodb", "redis"))
    commands = Commands(tmp_path_factory.mktemp("commands"), "jobcard.cli.doctor", "jobcard.client.doctor", *stores)
    yield commands
    commands.close()


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    with new_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def patient(place: Place, tmp_path: Path, commands: Commands) -> Patient:
    """A store of each kind, its schema in place."""
    patient = Patient(QuickApp(tmp_path, commands), place.url)
    store = patient.store()
    store.migrate()
    store.close()
    return patient
