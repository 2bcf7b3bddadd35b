"""What a job says of itself becomes text: no field of it puts an element, an attribute or a handler into a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from uuid import UUID

import pytest
from visitors import Site

from jobcard.core.job import Attempt, LogLine, WholeJob
from jobcard.core.states import JobState
from jobcard.engine.outcomes import error_text

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><iframe src=javascript:alert(1)>",
    "</textarea><script>alert(1)</script>",
    "</pre></details><form action=//evil.example><button>",
    "</title><base href=//evil.example>",
    "--><!--<a href=x>",
    "]]><x:script xmlns:x='http://www.w3.org/1999/xhtml'>",
    "<!DOCTYPE html><html><body onload=alert(1)>",
    "&lt;script&gt;&#60;script&#62;",
    "{{ 7*7 }}{% include 'error.html' %}",
    "${7*7}#{7*7}<%= 7*7 %>",
    "javascript:alert(1)",
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus="alert(1)" x="',
    "` onclick=`alert(1)",
    "\u202e<b>\u2066rtl\x1b[31m\x07\x08\x7f\x85",
    "\u2028<plaintext>\u2029",
    "<math><mtext></table></math><img src onerror=alert(1)>",
    "<template><style>@import'//evil.example'</style></template>",
    "<div hx-get=/jobs hx-trigger=load data-hx-on=alert(1)>",
    "＜script＞<ſcript>alert(1)</ſcript>",
    "<" * 90 + ">" * 90,
    "../../login?next=//evil.example#",
)


class Shape(HTMLParser):
    """The elements of a page, each with the names of its attributes, and the addresses that it leads to."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "hx-get")]


def fill(site: Site, text: str) -> tuple[UUID, UUID, UUID]:
    """A job that failed, one that waits and one at work that say this in every field."""
    made = []
    for state, job_id in ((JobState.FAILED, 1), (JobState.WAITING, 2), (JobState.RUNNING, 3)):
        row = site.jobs.parts.lookup.row(site.jobs.enqueue("plain").id.bytes)
        said = json.dumps(text)
        row = row._replace(
            id=UUID(f"018f0000-0000-7000-8000-00000000000{job_id}").bytes,
            state=state,
            name=text,
            # A queue that cannot be called so has other reasons, and so other elements.
            queue="default" if state is JobState.WAITING else text,
            init=json.dumps({"args": [text], "kwargs": {text: text}}),
            args=f"[{said}]",
            kwargs=json.dumps({text: {text: [text]}}),
            result=said if state is JobState.FAILED else None,
            claim_token=1,
            claimed_by=text,
            claimed_at=row.created_at,
            started_at=row.created_at,
            finished_at=row.created_at if state is JobState.FAILED else None,
            lease_until=1 << 50,
            cancel_requested=text if state is JobState.RUNNING else None,
            unique_key=f"{text} {state}",
            once_key=text,
            limit_key="#" + text,
            key_limit=1,
            batch_id=UUID(int=7).bytes,
            parent_id=UUID(int=8).bytes,
            schedule_id=text,
            reason=text,
            error_kind=text,
            progress=json.dumps({"value": 0.5, "text": text, "at": row.created_at}),
            checkpoint=said,
            tags=f"[{said}]",
            meta=json.dumps({text: text, "edited_from": str(UUID(int=9))}),
            waits_for=json.dumps(
                [
                    ["job", "018f0000-0000-7000-8000-000000000002", "completed"],
                    ["job", str(UUID(int=8)), "ended"],
                    ["batch", str(UUID(int=7)), "ended"],
                ]
            ),
        )
        error = dict.fromkeys(("kind", "type", "message", "traceback", "exit_code", "signal", "output"), text)
        tried = Attempt(row.id, 1, row.created_at, error_text({"attempt": 1, **error}))
        with site.jobs.parts.connection as store:
            assert store.put([WholeJob(row, [tried], [LogLine(row.id, row.created_at, text)])]) == []
        made.append(UUID(bytes=row.id))
    first, second, third = made
    return first, second, third


def shapes(site: Site, text: str) -> dict[str, Shape]:
    """Every page that shows these jobs, by its address."""
    first, second, third = fill(site, text)
    addresses = [
        "/",
        "/jobs?limit=3&name=" + re.sub(".", lambda at: "".join(f"%{byte:02x}" for byte in at[0].encode()), text),
        *(f"/jobs?id={first}&id={second}&id={third}{more}" for more in ("", "&limit=3")),
        f"/jobs/rows?id={first}&id={second}&id={third}",
        *(f"/jobs/bulk?verb={verb}&id={first}&id={second}&id={third}" for verb in ("retry", "cancel", "delete")),
        *(f"/jobs/{each}{rest}" for each in (first, second, third) for rest in ("", "/now", "/edit")),
    ]
    pages = {}
    for place, address in enumerate(addresses):
        answer = site.get(address, "admin")
        assert answer.status_code == 200, (address, answer.text)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        pages[f"{place} {address.split('name=')[0]}"] = Shape(answer.text)
    return pages


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_page_has_an_element_more(site: Site, payload: str) -> None:
    """The same elements with the same attributes as with a harmless word in the same place; no address elsewhere."""
    harmless = shapes(site, "harmless")
    hostile = shapes(site, payload)
    for address, shape in hostile.items():
        assert shape.elements == harmless[address].elements, address
        for each in shape.addresses:
            assert re.fullmatch(r"#main|/(?!/)[\x21-\x7e]*", each), each
            assert "javascript:" not in each.split("?")[0]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_typed_comes_back_as_text(site: Site, payload: str) -> None:
    """In the form, in messages, and in JSON, which holds no markup at all."""
    harmless = Shape(site.get("/jobs?search=harmless&queue=harmless", "admin").text).elements
    typed = "".join(character for character in payload if character != "\0")[:200]
    answer = site.browser("admin").get("/jobs", params={"search": typed, "queue": typed})
    assert Shape(answer.text).elements == harmless
    refused = [site.browser("admin").get("/jobs", params={"state": word, word: word}) for word in ("harmless", typed)]
    assert {answer.status_code for answer in refused} == {400}
    assert Shape(refused[0].text).elements == Shape(refused[1].text).elements
    told = site.browser("admin").get("/api/v1/jobs", params={"search": typed})
    assert not re.search("[<>&]", told.text)
    assert told.headers["content-type"] == "application/json"
