"""What a job was given: for those who may see arguments, and what is hidden for nobody, by no way out of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from visitors import Site
from walking import addresses

from jobcard.client import Jobcard
from jobcard.core.job import Attempt, LogLine, WholeJob
from jobcard.core.states import JobState
from jobcard.engine.outcomes import error_text

GIVEN = "canary-of-what-was-given"
HIDDEN = "canary-of-what-is-hidden"
SHOWN = "canary-of-what-it-says"


@dataclass
class Login:
    """A value of the application's own."""

    user: str
    password: str


@pytest.fixture
def told(filled: Jobcard, users: Path) -> Iterator[Site]:
    """A site where jobs and a schedule were given things to hide, and repeat them."""

    @filled.job(name="log.in")
    def log_in(user: str, password: str, **more: object) -> None:
        """Called by place."""

    filled.codec.add(Login, "login", lambda login: [login.user, login.password], lambda said: Login(*said))
    filled.schedule("doors", timedelta(hours=1), "log.in", [GIVEN, HIDDEN], {"more": {"token": HIDDEN, "x": GIVEN}})
    app = filled.dashboard(users=users)
    yield Site(filled, app)
    app.close()


def put_jobs(site: Site) -> dict[JobState, UUID]:
    """A job in each state that matters, with canaries in every field."""
    made = {}
    for state in (JobState.WAITING, JobState.RUNNING, JobState.FAILED, JobState.COMPLETED):
        row = site.jobs.parts.lookup.row(site.jobs.enqueue("log.in", ["x", "y"]).id.bytes)
        given = {"a": GIVEN, "deep": [{"Password": HIDDEN}], "token": {"inner": [HIDDEN]}}
        says = f"{SHOWN}: no {HIDDEN} here"
        row = row._replace(
            state=state,
            init=json.dumps({"args": [GIVEN], "kwargs": given}),
            args=json.dumps([GIVEN, HIDDEN]),
            kwargs=json.dumps({**given, "pairs": {"$jc": ["dict", [["$jc", 1], ["password", HIDDEN]]]}}),
            result=json.dumps(given),
            checkpoint=json.dumps(given),
            meta=json.dumps(given),
            unique_key=f"{GIVEN} {state}",
            once_key=GIVEN,
            limit_key="#" + GIVEN,
            key_limit=1,
            claim_token=1,
            reason=says,
            cancel_requested=says if state is JobState.RUNNING else None,
            progress=json.dumps({"value": 0.5, "text": says, "at": row.created_at}),
            finished_at=row.created_at if state in (JobState.FAILED, JobState.COMPLETED) else None,
            started_at=row.created_at,
        )
        error = {"kind": "error", "type": "shop.Error", **dict.fromkeys(("message", "traceback", "output"), says)}
        tried = Attempt(row.id, 1, row.created_at, error_text({"attempt": 1, **error}))
        with site.jobs.parts.connection as store:
            assert store.put([WholeJob(row, [tried], [LogLine(row.id, row.created_at, says)])]) == []
        made[state] = UUID(bytes=row.id)
    return made


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING, JobState.FAILED, JobState.COMPLETED])
def test_no_route_tells_more_than_its_visitor_may_see(told: Site, state: JobState) -> None:
    """Every page and every answer in JSON: a viewer learns nothing that was given, nobody what is hidden."""
    job_id = put_jobs(told)[state]
    words = {"jobs": str(job_id), "queues": "default", "schedules": "doors", "engines": "none"}
    seen = dict.fromkeys(("viewer", "operator", "admin"), "")
    for route, address in addresses(words):
        if route.writes:
            continue
        for role in seen:
            answer = told.get(address, role)
            assert answer.status_code < 500, (address, answer.text)
            assert HIDDEN not in answer.text, (role, address)
            assert role != "viewer" or GIVEN not in answer.text, address
            seen[role] += answer.text
    # Errors and log lines are for all; what was given for those who may.
    assert SHOWN in seen["viewer"]
    assert GIVEN in seen["operator"]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_nor_does_looking_for_it(told: Site, role: str) -> None:
    """Neither the list's own search nor that of arguments says whether it is there."""
    put_jobs(told)
    for word in ("search", "args", "tag", "name", "error_kind", "queue"):
        for path in ("/jobs", "/jobs/rows", "/jobs/count", "/jobs/bulk"):
            answer = told.get(f"/api/v1{path}?{word}={HIDDEN[:-2]}", role)
            listed = answer.json().get("jobs", []) if answer.status_code == 200 else []
            assert listed == [], (word, path)
            assert HIDDEN not in answer.text


def test_nor_does_a_form_that_moves_it(told: Site) -> None:
    """What is put back stays under its own name, and is hidden again; nothing of it is in an answer or in the audit."""
    job_id = put_jobs(told)[JobState.FAILED]
    fields = told.get(f"/api/v1/jobs/{job_id}/edit", "operator").json()
    args, kwargs = (json.dumps(fields[name]) for name in ("args", "kwargs"))
    assert "(hidden)" in args
    assert "(hidden)" in kwargs
    moved = [
        (args, kwargs.replace('"pairs"', '"plain"')),
        (args, kwargs.replace('"Password"', '"plain"')),
        (args, kwargs.replace('"token"', '"plain"')),
        (args, kwargs.replace('"(hidden)"}', '{"$jc": ["tuple", [["password", "(hidden)"]]]}}')),
        (json.dumps([fields["args"][1], fields["args"][0]]), kwargs),
        (json.dumps([*fields["args"], "(hidden)"]), kwargs),
        (json.dumps([*fields["args"], 1, 2]), kwargs),
        (kwargs, args),
        ("[]", json.dumps({"password": "(hidden)", "user": "x"})),
        (json.dumps([{"password": "(hidden)"}, "y"]), "{}"),
    ]
    before = told.jobs.count().total
    for one, other in moved:
        for path in ("", "/api/v1"):
            answer = told.post(f"{path}/jobs/{job_id}/edit", {"args": one, "kwargs": other})
            assert answer.status_code == 400, (one, other, answer.text)
            assert HIDDEN not in answer.text
    assert told.jobs.count().total == before
    own = told.jobs.enqueue("log.in", [Login(GIVEN, HIDDEN), "y"], {"more": (1, {"password": HIDDEN})})
    own.cancel()
    assert HIDDEN not in told.get(f"/jobs/{own.id}/edit", "admin").text
    assert told.post(f"/jobs/{job_id}/edit", {"args": args, "kwargs": kwargs}).status_code in (303, 409)
    for path in ("/audit", "/api/v1/audit"):
        found = told.get(path, "admin").text
        assert HIDDEN not in found
        assert GIVEN not in found


def test_a_schedule_tells_no_more_than_its_jobs(told: Site) -> None:
    """By place, within a value of the application's own, and not at all to a viewer."""
    told.jobs.schedule("own", timedelta(hours=1), "log.in", [Login(GIVEN, HIDDEN), HIDDEN], {})
    for name in ("doors", "own"):
        for path in (f"/schedules/{name}", f"/parts/schedules/{name}", f"/api/v1/schedules/{name}"):
            for role in ("viewer", "operator", "admin"):
                answer = told.get(path, role)
                assert answer.status_code == 200
                assert HIDDEN not in answer.text, (path, role)
                assert (GIVEN in answer.text) == (role != "viewer")


def test_short_values_are_left_in_sentences(told: Site) -> None:
    """A hidden `a` in every word would make a log unreadable."""
    job = told.jobs.enqueue("plain", [], {"password": "a"}, strict=False)
    row = told.jobs.parts.lookup.row(job.id.bytes)._replace(claim_token=1)
    with told.jobs.parts.connection as store:
        store.put([WholeJob(row, [], [LogLine(row.id, row.created_at, "a cat sat")])])
    assert "a cat sat" in told.get(f"/jobs/{job.id}").text
