"""Whatever a producer, a job, an engine or a visitor wrote is text, on every page and in every answer of the table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote
from uuid import UUID

import pytest
from hostile import COUNT, TEXTS, UNSAFE, Shape, in_json, shape_of, storable, typed
from visitors import Site, visit, write_users
from walking import addresses

from jobcard.backends.base import RecordKind
from jobcard.client import Jobcard
from jobcard.core.job import Attempt, LogLine, WholeJob
from jobcard.core.states import JobState
from jobcard.engine.outcomes import error_text

AT_ONCE = 25
_LONGEST_NAME = 2_000
"""Of what no client would store longer, and every store has a limit for."""
STATES = (JobState.FAILED, JobState.WAITING, JobState.RUNNING)


def put_job(site: Site, text: str, number: int, state: JobState) -> UUID:
    """A job that says this in every field."""
    row = site.jobs.parts.lookup.row(site.jobs.enqueue("plain").id.bytes)
    said, name = in_json(text), storable(text)[:_LONGEST_NAME]
    has_ended = state is JobState.FAILED
    row = row._replace(
        state=state,
        name=name,
        # One that nobody can have named so, whatever the text: it has no record, and other elements than one that has.
        queue="default" if state is JobState.WAITING else f"{name} ?",
        init=json.dumps({"args": [text], "kwargs": {text: text}}),
        args=f"[{said}]",
        kwargs=json.dumps({text: {text: [text]}}),
        result=said if has_ended else None,
        checkpoint=said,
        meta=json.dumps({text: text, "edited_from": str(UUID(int=9))}),
        tags=f"[{said}]",
        claim_token=1,
        claimed_by=name,
        claimed_at=row.created_at,
        started_at=row.created_at,
        finished_at=row.created_at if has_ended else None,
        lease_until=1 << 50,
        cancel_requested=name if state is JobState.RUNNING else None,
        unique_key=f"{name} {number} {state}",
        once_key=name,
        limit_key="#" + name,
        key_limit=1,
        batch_id=UUID(int=7).bytes,
        parent_id=UUID(int=8).bytes,
        schedule_id=name,
        reason=name,
        error_kind=f"{number:02} {name}",
        progress=json.dumps({"value": 0.5, "text": text, "at": row.created_at}),
    )
    error = dict.fromkeys(("kind", "type", "message", "traceback", "exit_code", "signal", "output"), text)
    tried = Attempt(row.id, 1, row.created_at, error_text({"attempt": 1, **error}))
    with site.jobs.parts.connection as store:
        assert store.put([WholeJob(row, [tried], [LogLine(row.id, row.created_at, storable(text))])]) == []
    return UUID(bytes=row.id)


def printable(text: str) -> str:
    """As far as a visitor can be called so."""
    return "".join(each if each.isprintable() else "?" for each in text)


def put_the_rest(site: Site, texts: Sequence[str]) -> None:
    """Engines, schedules, queues and the audit, each once for every text."""
    with site.jobs.parts.connection as store:
        now = store.facts().now
        for number, text in enumerate(texts):
            job = [12, str(UUID(int=number)), text, now]
            engine = {"pid": 10, "keeper_pid": 9, "host": text, "version": text, "started_at": now, "heartbeat": 3600}
            engine |= {"queues": [text], "workers": [11, 12], "app": text, "jobs": [job]}
            store.write_record(RecordKind.ENGINE, f"e{number}", json.dumps(engine))
    for number, text in enumerate(texts):
        site.jobs.schedule(f"s{number}", timedelta(hours=1), "plain", [text], {text: {text: text}})
        site.jobs.queues.create(f"q{number}")
        site.jobs.queues.pause(f"q{number}", by=printable(text)[:100])
        trail = site.jobs.parts.audit
        entry = trail.begin(who=text, role=text, action=text, on=typed(text), said={text: text})
        trail.end(entry, "done", text)


def pages_of(texts: Sequence[str]) -> dict[str, tuple[Shape, list[str]]]:
    """Every page of the table that shows these texts, by its address; what is in JSON is looked at on the way."""
    with TemporaryDirectory() as folder, Jobcard(f"sqlite:///{folder}/jobs.db") as jobs:
        jobs.migrate()
        app = jobs.dashboard(users=write_users(Path(folder) / "users.json"))
        site = Site(jobs, app)
        made = [put_job(site, text, number, STATES[number % 3]) for number, text in enumerate(texts)]
        made += [put_job(site, text, number, JobState.FAILED) for number, text in enumerate(texts) if number % 3]
        put_the_rest(site, texts)
        found: dict[str, tuple[Shape, list[str]]] = {}
        first = {"jobs": str(made[0]), "queues": "q0", "schedules": "s0"}
        walked = [(address, address) for route, address in addresses(first) if not route.writes]
        for number, job_id in enumerate(made[1:]):
            walked += [(f"/jobs/{job_id}{rest}", f"job {number}{rest}") for rest in ("", "/edit")]
            walked.append((f"/api/v1/jobs/{job_id}", f"job {number} json"))
        for number in range(1, len(texts)):
            walked += [(f"/{kind}s/{kind[0]}{number}", f"{kind} {number}") for kind in ("queue", "schedule")]
        chosen = "&".join(f"id={each}" for each in made)
        walked += [(f"/jobs?limit=200&{chosen}", "chosen"), ("/jobs?limit=200", "all")]
        walked += [(f"/jobs/bulk?verb={verb}&{chosen}", verb) for verb in ("retry", "cancel", "delete")]
        for number, text in enumerate(texts):
            # What is typed comes back: in the form, in links, in the sentence that refuses it.
            word = quote(typed(text), safe="")
            for path in ("/jobs", "/api/v1/jobs"):
                walked.append((f"{path}?search={word}&name={word}&error_kind={word}", f"typed {number} {path}"))
            walked.append((f"/audit?on={word}", f"on {number}"))
            walked.append((f"/login?next={word}", f"next {number}"))
            walked.append((f"/queues/{word}", f"no queue {number}"))
            walked.append((f"/jobs?{word}=1", f"no word {number}"))
        for address, name in walked:
            browser = visit(app) if "next" in name else site.browser("admin")
            answer = browser.get(address)
            # A queue that jobs are in and nobody can have named so is a record that cannot be read.
            assert answer.status_code < 500 or (answer.status_code == 503 and "queue" in name), (address, answer.text)
            kind = answer.headers.get("content-type", "").partition(";")[0]
            if kind == "text/html":
                assert not UNSAFE.search(answer.text), (name, UNSAFE.search(answer.text))
                found[_without_ids(name)] = shape_of(answer.text)
            elif kind == "application/json":
                assert not re.search("[<>&\x00-\x1f\x7f-\U0010ffff]", answer.text), name
                answer.json()
            else:
                assert kind in ("text/plain", "text/css", "text/javascript", ""), (name, kind)
            assert not any("planted" in cookie for cookie in answer.cookies)
        app.close()
        return found


def _without_ids(name: str) -> str:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "…", name)


@cache
def harmless() -> dict[str, tuple[Shape, list[str]]]:
    """The same pages with nothing but words in them."""
    return pages_of([f"word{number:02}" for number in range(AT_ONCE)])


def test_there_are_as_many_as_promised() -> None:
    """Each another."""
    assert len(TEXTS) == len(set(TEXTS)) == COUNT == 250


@pytest.mark.slow
@pytest.mark.turns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("begin", range(0, COUNT, AT_ONCE))
def test_no_page_has_an_element_or_attribute_more(begin: int) -> None:
    """Every text in every field, against a harmless word in the same place; and no address leads elsewhere."""
    texts = TEXTS[begin : begin + AT_ONCE]
    plain, found = harmless(), pages_of(texts)
    assert found.keys() == plain.keys()
    for name, (elements, leads) in found.items():
        assert elements == plain[name][0], name
        for each in leads:
            assert re.fullmatch(r"#main|/(?!/)[\x21-\x7e]*", each), (name, each)
