"""The real program is asked what its OpenAPI document says, and much that it does not: no 500, and answers that fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from raw_server import Server, running
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from visitors import PASSWORD, write_users

from helpers.apps import App
from jobcard.client import Jobcard
from jobcard.dashboard.openapi import openapi
from jobcard.dashboard.roles import Role

pytestmark = pytest.mark.turns

EXAMPLES = int(os.environ.get("JOBCARD_TEST_EXAMPLES", "12"))
"""Of each operation, once such as it may be asked and once such as it may not."""
SECONDS = 15
"""Longer than anything may take: a visitor is told to come again after ten."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


def operations() -> Iterator[tuple[str, str, schemathesis.GenerationMode]]:
    """Every operation, as it may be asked, and as it may not where there is anything to say wrongly."""
    for path, methods in openapi()["paths"].items():
        for method, said in methods.items():
            yield path, method, POSITIVE
            if "requestBody" in said or any(each["in"] == "query" for each in said["parameters"]):
                yield path, method, NEGATIVE


@dataclass
class Asked:
    """A running dashboard with a user of each role, and what its document says."""

    server: Server
    document: schemathesis.BaseSchema
    sessions: dict[str, requests.Session]
    ids: list[str]

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.server.port}/api/v1"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One with jobs, queues and a schedule to be asked about."""
    app = App(tmp_path_factory.mktemp("asked"))
    write_users(app.directory / "users.json")
    with running(app, 40, 20, "--users", "users.json") as server:
        with Jobcard(f"sqlite:///{app.directory}/jobs.db") as jobs:
            jobs.queues.create("mail")
            jobs.schedule("nightly", timedelta(hours=1), "report", [1])
            made = [jobs.enqueue("add", [number, {"password": "x" * number}], queue="mail") for number in range(20)]
            made[0].cancel()
        sessions = {}
        for role in Role:
            sessions[role.value] = session = requests.Session()
            # As a browser: with a cookie, and the token that its forms carry.
            session.auth = (role.value, PASSWORD)
        with requests.Session() as program:
            found = program.get(
                f"http://127.0.0.1:{server.port}/api/v1/openapi.json", auth=("admin", PASSWORD), timeout=SECONDS
            ).json()
        document = schemathesis.openapi.from_dict(found)
        yield Asked(server, document, sessions, [str(each.id) for each in made])
        for session in sessions.values():
            session.close()
        assert server.is_well()
        said = server.log.read_text("utf-8")
        assert "Traceback" not in said, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method", "mode"), list(operations()), ids=lambda each: getattr(each, "value", each).strip("/")
)
def test_every_answer_fits(asked: Asked, path: str, method: str, mode: schemathesis.GenerationMode) -> None:
    """Whatever is asked, and whoever asks: a status of the document, a body of its schema, in time."""
    operation = asked.document[path][method.upper()]
    known = {"jobs": asked.ids, "queues": ["mail", "default"], "schedules": ["nightly"], "engines": ["e1"]}
    named = [each for word, each in known.items() if path.startswith(f"/{word}/{{")]
    ways = [operation.as_strategy(generation_mode=mode)]
    for names in named:
        word = "id" if "{id}" in path else "name"
        ways += [operation.as_strategy(generation_mode=mode, path_parameters={word: each}) for each in names[:3]]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(st.one_of(ways), st.sampled_from([*Role]) | st.just(Role.ADMIN))
    def ask(case: schemathesis.Case, role: Role) -> None:
        response = case.call(base_url=asked.url, session=asked.sessions[role.value], timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)
        assert response.headers["x-content-type-options"] == ["nosniff"]

    ask()
