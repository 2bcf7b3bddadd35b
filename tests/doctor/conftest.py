"""What `jobcard doctor` is asked about: a store of each kind, and a directory to ask from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from patient import Patient

from helpers.apps import App
from helpers.places import ALL, Place, new_place


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    with new_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def patient(place: Place, tmp_path: Path) -> Patient:
    """A store of each kind, its schema in place."""
    patient = Patient(App(tmp_path), place.url)
    store = patient.store()
    store.migrate()
    store.close()
    return patient
