"""Who comes in: every route of the table, asked by nobody, by each role, and from elsewhere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from visitors import CHEAP, HOST, PASSWORD, Site, token_of, visit
from walking import addresses

from jobcard.client import Jobcard
from jobcard.dashboard import passwords
from jobcard.dashboard.gate import Gate
from jobcard.dashboard.options import check_options
from jobcard.dashboard.origins import network_of
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.roles import Role
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route
from jobcard.dashboard.users import Users, add_user, remove_user
from jobcard.errors import ConfigError

PUBLIC = {"/healthz", "/login", "/static/{name:path}"}


def ids(value: Any) -> str:
    return value.method if isinstance(value, Route) else str(value)


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    coded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {coded}"}


class TestRoutes:
    def test_only_these_are_for_anybody(self) -> None:
        """The table says so: health, signing in and out, and what a sign-in page is drawn with."""
        assert {route.path for route in ROUTES if route.role is None} == PUBLIC | {"/logout"}

    @pytest.mark.parametrize(("route", "address"), addresses(), ids=ids)
    def test_without_credentials_it_is_closed(self, site: Site, route: Route, address: str) -> None:
        """401, 403 or the way to the sign-in page, and not a word of what is inside."""
        answer = site.browser(None).request(route.method, address)
        if route.role is None and route.path in PUBLIC and not route.writes:
            assert answer.status_code == 200
        elif answer.status_code == 303:
            assert answer.headers["location"].startswith("/login")
        else:
            assert answer.status_code in (401, 403)
        assert "mail" not in answer.text

    @pytest.mark.parametrize("role", list(Role))
    @pytest.mark.parametrize(("route", "address"), addresses(), ids=ids)
    def test_a_role_may_what_the_table_says(self, site: Site, route: Route, address: str, role: Role) -> None:
        """And nothing else: 403 for less."""
        if route.path == "/logout":
            return  # it would end the session of the others
        browser = site.browser(role)
        answer = browser.request(route.method, address, headers={"x-csrf-token": site.token(role)})
        may = route.role is None or role.may(route.role)
        assert (answer.status_code != 403) == may
        assert answer.status_code < 500

    @pytest.mark.parametrize(("route", "address"), addresses(), ids=ids)
    def test_no_other_method_does_anything(self, site: Site, route: Route, address: str) -> None:
        """What reads is asked by GET, what writes by POST, and by nothing else."""
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            assert site.browser("admin").request(method, address).status_code == 405

    def test_unknown_addresses_tell_strangers_nothing(self, site: Site) -> None:
        """Whether there is such a page is for those who may come in."""
        assert site.browser(None).get("/nothing/1").status_code == 401
        assert site.browser(None).get("/nothing").status_code == 401
        assert site.get("/nothing").status_code == 404


class TestPasswords:
    def test_signing_in_leads_to_what_was_asked_for(self, site: Site) -> None:
        """By the way of the form."""
        browser = site.browser(None)
        sent = browser.get("/overview/chart?span=12h")
        assert sent.headers["location"] == "/login?next=%2Foverview%2Fchart%3Fspan%3D12h"
        answer = site.sign_in(browser, "viewer", next="/overview/chart?span=12h")
        assert (answer.status_code, answer.headers["location"]) == (303, "/overview/chart?span=12h")
        assert browser.get("/overview/chart?span=12h").status_code == 200

    @pytest.mark.parametrize(
        "elsewhere",
        ["//evil.example", "https://evil.example/", "/\\evil.example", "/\t/evil.example", "evil", "\\\\evil"],
    )
    def test_it_leads_nowhere_else(self, site: Site, elsewhere: str) -> None:
        """No address of another host."""
        answer = site.sign_in(site.browser(None), "viewer", next=elsewhere)
        assert answer.headers["location"] == "/"

    @pytest.mark.parametrize(("name", "password"), [("viewer", "wrong password"), ("nobody", PASSWORD), ("", "")])
    def test_a_wrong_one_says_nothing_more(self, site: Site, name: str, password: str) -> None:
        """The same words whether there is such a user or not."""
        answer = site.sign_in(site.browser(None), name, password)
        assert answer.status_code == 401
        assert "The name or the password is wrong." in answer.text

    def test_too_many_tries_are_put_off(self, site: Site) -> None:
        """Also the right one, until some minutes have passed."""
        browser = site.browser(None)
        for _ in range(10):
            assert site.sign_in(browser, "admin", "a wrong one").status_code == 401
        answer = site.sign_in(browser, "admin")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0

    def test_of_many_at_once_no_more_are_made(self, users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten passwords are looked at, however many come before the first was found wrong."""
        looked: list[str] = []
        gate = Gate(check_options({"users": users}))
        monkeypatch.setattr(Users, "check", lambda _, name, password: looked.append(password))

        async def knock() -> list[int]:
            async def once(number: int) -> int:
                request = Request({"type": "http", "headers": [], "client": ("192.0.2.7", 1)})
                try:
                    await gate.sign_in(request, f"user{number}", f"password{number}")
                except Refused as refusal:
                    return refusal.status
                return 200

            return await asyncio.gather(*map(once, range(90)))

        told = asyncio.run(knock())
        assert len(looked) == 10
        assert sorted(told) == [401] * 10 + [429] * 80
        gate.close()

    def test_the_same_right_one_many_times_at_once_is_looked_at_once(self, site: Site) -> None:
        """Programs send it with every request, and many requests at a time."""
        with ThreadPoolExecutor(12) as threads:
            statuses = threads.map(
                lambda _: visit(site.app).get("/api/v1/session", headers=basic("viewer")).status_code, range(24)
            )
        assert set(statuses) == {200}

    @pytest.mark.parametrize(
        ("one", "other", "together"),
        [
            ("2001:db8::1", "2001:db8::ffff:2", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("192.0.2.7", "192.0.2.8", False),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
            ("fe80::1%eth0", "fe80::2%eth0", True),
            ("", "testclient", False),
        ],
    )
    def test_an_address_counts_with_those_its_owner_has(self, one: str, other: str, together: bool) -> None:
        """With IPv6 they are as many as anybody wants."""
        said = [network_of(Request({"type": "http", "headers": [], "client": (each, 1)})) for each in (one, other)]
        assert (said[0] == said[1]) is together

    def test_a_name_is_guessed_from_everywhere_no_faster(self, site: Site) -> None:
        """Ten tries of one name, whatever address they come from."""
        for number in range(10):
            browser = visit(site.app, client=(f"198.51.100.{number}", 1))
            assert site.sign_in(browser, "admin", "a wrong one").status_code == 401
        assert site.sign_in(visit(site.app, client=("198.51.100.99", 1)), "admin").status_code == 429
        assert site.sign_in(visit(site.app, client=("198.51.100.99", 1)), "viewer").status_code == 303

    def test_a_forwarded_address_counts_for_nobody(self, site: Site) -> None:
        """Only a proxy that was named is believed, and by the server, not by a header."""
        for number in range(10):
            said = {"x-forwarded-for": f"198.51.100.{number}", "forwarded": f"for=198.51.100.{number}"}
            answer = site.browser(None).get("/api/v1/session", headers={**basic(f"user{number}", "wrong"), **said})
            assert answer.status_code == 401
        assert site.browser(None).get("/api/v1/session", headers=basic("u", "wrong one")).status_code == 429

    @pytest.mark.parametrize("name", ["admin\x00", "admin ", "ADMIN", "\u0430dmin", "admin\u200b", "a" * 100])
    def test_nobody_is_called_almost_so(self, site: Site, name: str) -> None:
        """Names are compared as they are."""
        assert site.sign_in(site.browser(None), name).status_code in (400, 401)
        assert site.browser(None).get("/api/v1/session", headers=basic(name)).status_code == 401

    def test_an_unknown_name_costs_as_much(self, users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hash is made either way: how long it takes tells no names."""
        made: list[str] = []
        monkeypatch.setattr(passwords, "_derive", lambda password, *cost: made.append(password) or b"")
        known, found = Users(users), []
        for name in ("admin", "nobody"):
            found.append(known.check(name, "a wrong one"))
        assert (found, made) == ([None, None], ["a wrong one"] * 2)

    def test_the_cookie_is_for_us_alone(self, site: Site) -> None:
        """No script reads it, no other site's page sends it, and over TLS it is never sent without."""
        plain = site.sign_in(site.browser(None), "viewer").headers["set-cookie"].lower()
        assert "httponly" in plain
        assert "samesite=strict" in plain
        assert "secure" not in plain
        browser = visit(site.app, base_url="https://jobs.example.org")
        assert "secure" in site.sign_in(browser, "viewer").headers["set-cookie"].lower()

    def test_signing_in_begins_another_session(self, site: Site) -> None:
        """One that somebody planted before is worth nothing after."""
        browser = site.browser(None)
        browser.get("/login")
        before = dict(browser.cookies)
        site.sign_in(browser, "viewer")
        planted = visit(site.app, cookies=before)
        assert dict(browser.cookies) != before
        assert planted.get("/").status_code == 303

    def test_signing_out_ends_it_everywhere(self, site: Site) -> None:
        """Also for a copy of the cookie."""
        browser = site.browser(None)
        site.sign_in(browser, "viewer")
        copy = visit(site.app, cookies=dict(browser.cookies))
        token = token_of(browser.get("/").text)
        assert copy.get("/").status_code == 200
        assert browser.post("/logout", data={"csrf": token}).status_code == 303
        assert copy.get("/").status_code == 303

    def test_a_forged_cookie_is_worth_nothing(self, site: Site) -> None:
        """Nor one with a byte changed."""
        [(name, value)] = dict(site.browser("viewer").cookies).items()
        payload, _, signature = value.partition(".")
        for forged in (payload + "." + signature[:-2] + "AA", "e30=." + signature, payload, "x.y", "", "." * 3_000):
            assert visit(site.app, cookies={name: forged}).get("/").status_code == 303

    def test_a_sentence_of_ours_is_no_session(self, site: Site) -> None:
        """What was signed as one thing is not believed as another."""
        gate = site.app.gate
        text = '{"id": "x", "user": "admin", "proof": "", "seen": 99999999999}'
        said = gate.sessions.wrap(text)
        for forged in (said, f"said {said}", said.replace(".", ".said ")):
            assert gate.sessions.read(forged) is None
        assert gate.sessions.unwrap(gate.sessions.write(gate.sessions.new())) is None

    def test_a_program_sends_its_password_along(self, site: Site) -> None:
        """With each request; it has no cookie and needs no form's token."""
        browser = site.browser(None)
        assert browser.get("/api/v1/overview", headers=basic("viewer")).status_code == 200
        assert browser.get("/metrics", headers=basic("viewer")).status_code == 200
        assert browser.get("/api/v1/overview", headers=basic("viewer", "wrong one")).status_code == 401
        assert not browser.cookies

    def test_a_browser_is_never_asked_for_one_by_itself(self, site: Site) -> None:
        """It would send it along with whatever another site's page asks."""
        answer = site.browser(None).get("/api/v1/overview")
        assert not answer.headers["www-authenticate"].lower().startswith(("basic", "digest"))


class TestUsersFile:
    def test_a_change_counts_at_once(self, filled: Jobcard, tmp_path: Path) -> None:
        """Another password or role, or no user any more: sessions end, or may more, without a restart."""
        path = tmp_path / "users.json"
        add_user(path, "anna", "viewer", PASSWORD, log_n=4)
        add_user(path, "otto", "viewer", PASSWORD, log_n=4)
        site = Site(filled, filled.dashboard(users=path))
        browser = site.browser("anna")
        assert browser.get("/api/v1/session").json()["role"] == "viewer"
        add_user(path, "anna", "admin", "another password", log_n=4)
        assert browser.get("/").status_code == 303
        assert site.sign_in(browser, "anna", "another password").status_code == 303
        assert browser.get("/api/v1/session").json()["role"] == "admin"
        remove_user(path, "anna")
        assert browser.get("/").status_code == 303
        site.app.close()

    def test_it_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        """As it is made; one that others may write to is refused."""
        path = tmp_path / "users.json"
        add_user(path, "anna", "viewer", PASSWORD, log_n=4)
        assert path.stat().st_mode & 0o777 == 0o600
        assert PASSWORD not in path.read_text("utf-8")
        for mode in (0o666, 0o644, 0o604, 0o620, 0o601):
            path.chmod(mode)
            with pytest.raises(ConfigError, match="by others: chmod 600"):
                Jobcard("sqlite:///:memory:").dashboard(users=path)

    def test_one_that_is_opened_to_others_lets_nobody_in(self, filled: Jobcard, tmp_path: Path) -> None:
        """Also while it is in use: whoever reads its key signs sessions."""
        path = tmp_path / "users.json"
        add_user(path, "viewer", "viewer", PASSWORD, log_n=CHEAP)
        site = Site(filled, filled.dashboard(users=path))
        assert site.get("/").status_code == 200
        path.chmod(0o644)
        assert site.get("/").status_code == 303
        path.chmod(0o600)
        assert site.get("/").status_code == 200
        site.app.close()

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"key": "00", "users": {}}', '{"key": "' + "0" * 64 + '", "users": {}}']
    )
    def test_one_that_we_did_not_write_is_refused(self, tmp_path: Path, text: str) -> None:
        """Also one whose key somebody made up."""
        path = tmp_path / "users.json"
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="none that"):
            Jobcard("sqlite:///:memory:").dashboard(users=path)

    def test_a_short_password_is_refused(self, tmp_path: Path) -> None:
        """Before anything is written."""
        with pytest.raises(ConfigError, match="8 to"):
            add_user(tmp_path / "users.json", "anna", "viewer", "short")
        assert list(tmp_path.iterdir()) == []


class TestHostApplication:
    @pytest.fixture
    def asked(self) -> list[str]:
        """The paths that the application was asked about."""
        return []

    def test_it_says_who_asks(self, filled: Jobcard, asked: list[str]) -> None:
        """By a role, or a name and a role; None is nobody, and there is no form of ours then."""
        answers: dict[str, Any] = {"a": "viewer", "b": ("anna", "admin"), "c": Role.OPERATOR}

        def auth(request: Any) -> Any:
            asked.append(request.url.path)
            return answers.get(request.headers.get("x-user", ""))

        app = filled.dashboard(auth=auth)
        browser = visit(app)
        said = [browser.get("/api/v1/session", headers={"x-user": user}).json() for user in "abc"]
        assert [(each["name"], each["role"]) for each in said] == [
            ("viewer", "viewer"),
            ("anna", "admin"),
            ("operator", "operator"),
        ]
        assert browser.get("/").status_code == 401
        assert browser.get("/login").status_code == 404
        assert asked[-1] == "/login"
        app.close()

    def test_an_async_one_is_awaited(self, filled: Jobcard) -> None:
        """As an ASGI application has them."""

        async def auth(request: Any) -> tuple[str, str]:
            return "anna", "operator"

        app = filled.dashboard(auth=auth)
        assert visit(app).get("/api/v1/session").json()["name"] == "anna"
        app.close()

    @pytest.mark.parametrize("said", [True, "root", ("anna", "root"), ("", "admin"), 3, ("a", "b", "c"), {}])
    def test_what_cannot_be_meant_lets_nobody_in(
        self, filled: Jobcard, said: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An answer of another kind closes the door, and the log says what it was: the application is to blame."""

        def auth(request: Any) -> Any:
            return said

        app = filled.dashboard(auth=auth)
        assert visit(app).get("/").status_code == 500
        assert "what auth= returned is no visitor" in caplog.text
        app.close()

    def test_an_error_of_its_own_is_told_to_nobody(self, filled: Jobcard, caplog: pytest.LogCaptureFixture) -> None:
        """But to the log."""

        def auth(request: Any) -> Any:
            raise RuntimeError("the canary sings")

        app = filled.dashboard(auth=auth)
        answer = visit(app).get("/")
        assert answer.status_code == 500
        assert "canary" not in answer.text
        assert "canary" in caplog.text
        app.close()


class TestOpen:
    @pytest.fixture
    def app(self, filled: Jobcard) -> Iterator[Any]:
        """A dashboard without users."""
        app = filled.dashboard(open=True)
        yield app
        app.close()

    def test_it_must_be_asked_for(self, jobs: Jobcard) -> None:
        """Nobody mounts a dashboard for the world by leaving something out."""
        with pytest.raises(ConfigError, match="who may see the dashboard"):
            jobs.dashboard()
        with pytest.raises(ConfigError, match="give one of them"):
            jobs.dashboard(open=True, auth=lambda request: "viewer")

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8678", "[::1]:8678"])
    def test_this_machine_comes_in(self, app: Any, address: str, host: str) -> None:
        """By the socket, under this machine's names."""
        assert visit(app, base_url=f"http://{host}", client=(address, 1)).get("/").status_code == 200

    @pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "testclient", "::2", "::ffff:192.0.2.7"])
    def test_another_does_not(self, app: Any, address: str) -> None:
        """Whatever it says of itself."""
        browser = visit(app, base_url="http://localhost", client=(address, 1))
        assert browser.get("/").status_code == 403
        assert browser.get("/", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403
        assert browser.get("/healthz").status_code == 403

    @pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-host"])
    def test_a_proxy_does_not(self, app: Any, header: str) -> None:
        """Behind one everybody is this machine."""
        browser = visit(app, base_url="http://localhost", client=("127.0.0.1", 1))
        assert browser.get("/", headers={header: "127.0.0.1"}).status_code == 403

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]"])
    def test_another_name_does_not(self, app: Any, host: str) -> None:
        """A page elsewhere may make its own name lead to this machine."""
        browser = visit(app, base_url="http://localhost", client=("127.0.0.1", 1))
        assert browser.get("/", headers={"host": host}).status_code == 400


class TestHosts:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("jobs.example.org", 200),
            ("JOBS.example.org:443", 200),
            ("a.internal", 200),
            ("internal", 400),
            ("evil.example", 400),
            ("jobs.example.org.evil.example", 400),
        ],
    )
    def test_only_those_that_are_allowed(self, filled: Jobcard, users: Path, host: str, status: int) -> None:
        """With any port; a star stands for names below one."""
        app = filled.dashboard(users=users, allowed_hosts=["jobs.example.org", "*.internal"])
        assert visit(app).get("/healthz", headers={"host": host}).status_code == status
        app.close()

    def test_its_own_address_is_in_no_link(self, site: Site) -> None:
        """Links are paths: no name that somebody sends comes back in one."""
        assert HOST not in site.get("/").text
