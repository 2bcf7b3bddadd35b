"""What writes is believed only from our own pages: a token in the form, and an origin that is ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from visitors import HOST, PASSWORD, Site, visit

from jobcard.client import Jobcard
from jobcard.dashboard import app as app_module
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.fields import Text, Whole
from jobcard.dashboard.roles import Role
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route

NOTES: list[tuple[str, str, int]] = []


def note(ask: Ask) -> Done:
    """A view that writes, for the tests: it takes note of who sent what."""
    NOTES.append((ask.visitor.name, ask["text"], ask["number"]))
    return Done(see="/", text=f"noted {ask['text']}", data={"number": ask["number"]})


WRITES = Route(
    path="/note",
    api="/note",
    view=note,
    role=Role.OPERATOR,
    writes=True,
    form=(Text("text", ""), Whole("number", 1, 0, 10)),
    summary="Take note",
)


@pytest.fixture
def site(filled: Jobcard, users: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A dashboard with a route that writes."""
    monkeypatch.setattr(app_module, "ROUTES", (*ROUTES, WRITES))
    NOTES.clear()
    app = filled.dashboard(users=users)
    yield Site(filled, app)
    app.close()


class TestForms:
    def test_one_of_ours_is_believed(self, site: Site) -> None:
        """It is done once, by whoever is signed in, and the next page says so once."""
        answer = site.post("/note", {"text": "<i>x</i>", "number": "3"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert NOTES == [("operator", "<i>x</i>", 3)]
        assert "noted &lt;i&gt;x&lt;/i&gt;" in site.get("/", "operator").text
        assert "noted" not in site.get("/", "operator").text

    def test_a_viewer_may_not(self, site: Site) -> None:
        """Whatever the form."""
        assert site.post("/note", {}, role="viewer").status_code == 403
        assert NOTES == []

    @pytest.mark.parametrize("token", ["", "0" * 64, "x", "é"])
    def test_without_the_token_it_is_not(self, site: Site, token: str) -> None:
        """Also with an origin of ours, also in JSON."""
        browser = site.browser("operator")
        assert browser.post("/note", data={"csrf": token}, headers={"origin": HOST}).status_code == 403
        assert browser.post("/api/v1/note", json={"csrf": token}).status_code == 403
        assert NOTES == []

    def test_a_token_of_another_session_is_worth_nothing(self, site: Site) -> None:
        """Somebody else's is no key to ours."""
        answer = site.browser("operator").post("/note", data={"csrf": site.token("admin")})
        assert answer.status_code == 403

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"origin": HOST}, 303),
            ({"sec-fetch-site": "same-origin"}, 303),
            ({"sec-fetch-site": "none"}, 303),
            ({"origin": "https://jobs.example.org"}, 303),
            ({"origin": "null"}, 403),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "http://jobs.example.org.evil.example"}, 403),
            ({"origin": "http://jobs.example.org:81"}, 403),
            ({"origin": "http://[broken"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "same-site"}, 403),
            ({"sec-fetch-site": "cross-site", "origin": HOST}, 403),
        ],
    )
    def test_from_another_site_it_is_not(self, site: Site, headers: dict[str, str], status: int) -> None:
        """Also with the token: two locks, and each holds by itself."""
        assert site.post("/note", {}, **headers).status_code == status
        assert len(NOTES) == (status == 303)

    def test_what_came_without_tls_is_not_believed_with(self, site: Site) -> None:
        """Who is on the way can write such pages; the other way round TLS ends at a proxy."""
        browser = visit(site.app, base_url="https://jobs.example.org")
        site.sign_in(browser, "operator")
        form = {"csrf": browser.get("/api/v1/session").json()["csrf_token"]}
        assert browser.post("/note", data=form, headers={"origin": HOST}).status_code == 403
        assert browser.post("/note", data=form, headers={"origin": "https://jobs.example.org"}).status_code == 303

    def test_a_program_with_its_password_needs_no_token(self, site: Site) -> None:
        """No browser sends that by itself; where one says that another site's page asks, it is refused all the same."""
        browser, sent = visit(site.app), {"json": {"text": "by hand", "number": 2}, "auth": ("operator", PASSWORD)}
        assert browser.post("/api/v1/note", **sent).json() == {"done": "noted by hand", "number": 2}
        assert browser.post("/api/v1/note", headers={"origin": "http://evil.example"}, **sent).status_code == 403
        assert NOTES == [("operator", "by hand", 2)]

    @pytest.mark.parametrize(
        ("number", "status"),
        [("10", 303), ("0", 303), ("11", 400), ("-1", 400), ("1e1", 400), ("١", 400), ("9" * 99, 400)],
    )
    def test_numbers_have_bounds(self, site: Site, number: str, status: int) -> None:
        """And are written in ordinary digits."""
        assert site.post("/note", {"number": number}).status_code == status

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"x" * 70_000, "application/x-www-form-urlencoded", 413),
            (b"a=1&" * 3_000, "application/x-www-form-urlencoded", 400),
            (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
            (b"[" * 60_000, "application/json", 400),
            (b"[1]", "application/json", 400),
            (b'{"text": {"a": 1}}', "application/json", 400),
            (b'{"text": [["a"]]}', "application/json", 400),
            (b'{"text": [{}]}', "application/json", 400),
            (b"x", "multipart/form-data; boundary=x", 415),
            (b"x", "text/plain", 415),
        ],
    )
    def test_a_body_has_bounds(self, site: Site, body: bytes, kind: str, status: int) -> None:
        """In size, number of fields and kind."""
        headers = {"content-type": kind, "x-csrf-token": site.token("operator")}
        assert site.browser("operator").post("/note", content=body, headers=headers).status_code == status
        assert NOTES == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
    def test_no_other_way_leads_to_a_write(self, site: Site, method: str) -> None:
        """Whatever a header says that the method is meant to be."""
        for name in ("x-http-method-override", "x-method-override"):
            headers = {name: "POST", "x-csrf-token": site.token("operator")}
            assert site.browser("operator").request(method, "/note?_method=POST", headers=headers).status_code == 405
        assert NOTES == []

    def test_without_users_it_needs_the_token_too(self, filled: Jobcard, site: Site) -> None:
        """A page elsewhere may send forms to this machine."""
        app = filled.dashboard(open=True)
        browser = visit(app, base_url="http://localhost", client=("127.0.0.1", 1))
        assert browser.post("/note", data={}).status_code == 403
        token = browser.get("/api/v1/session").json()["csrf_token"]
        assert browser.post("/note", data={"csrf": token}).status_code == 303
        assert NOTES == [("local", "", 1)]
        app.close()
