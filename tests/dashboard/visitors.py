"""Visitors of a dashboard over a real SQLite store: nobody, and one of each role."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx2 import Client

from helpers.asgi import Inside
from jobcard.client import Jobcard
from jobcard.dashboard.roles import Role
from jobcard.dashboard.users import add_user

PASSWORD = "correct horse battery staple"
HOST = "http://jobs.example.org"
MARK = "<b id=planted onclick=alert(1)>'\"&"
"""Stands wherever a store takes any text: nowhere may it become markup."""
CHEAP = 4
"""What a test's hashes cost: a real one takes some tenths of a second."""

_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


def write_users(path: Path) -> Path:
    """A users file with a user of each role, named as the role."""
    for role in Role:
        add_user(path, role.value, role.value, PASSWORD, log_n=CHEAP)
    return path


def visit(app: Any, *, base_url: str = HOST, client: tuple[str, int] = ("192.0.2.7", 40_000), **given: Any) -> Client:
    """A browser of its own that follows no redirects, and hears what fails."""
    return Client(transport=Inside(app, client), base_url=base_url, follow_redirects=False, **given)


def token_of(page: str) -> str:
    """What the forms of a page carry."""
    found = _TOKEN.search(page)
    assert found is not None, page
    return found[1]


@dataclass
class Site:
    """A dashboard with users, and who visits it."""

    jobs: Jobcard
    app: Any
    root: str = ""
    browsers: dict[str, Client] = field(default_factory=dict)

    def browser(self, role: str | None) -> Client:
        """The browser of a visitor with this role, signed in; None: nobody's."""
        if role is None:
            return visit(self.app)
        if role not in self.browsers:
            self.browsers[role] = browser = visit(self.app)
            assert self.sign_in(browser, role).status_code == 303
        return self.browsers[role]

    def sign_in(self, browser: Client, name: str, password: str = PASSWORD, **said: str) -> Any:
        """Fill the form in and send it."""
        token = token_of(browser.get(f"{self.root}/login").text)
        return browser.post(f"{self.root}/login", data={"csrf": token, "name": name, "password": password, **said})

    def token(self, role: str) -> str:
        """What this visitor's forms carry."""
        token: str = self.browser(role).get(f"{self.root}/api/v1/session").json()["csrf_token"]
        return token

    def get(self, path: str, role: str = "viewer", **headers: str) -> Any:
        """A page, as a visitor of this role sees it."""
        return self.browser(role).get(self.root + path, headers=headers)

    def post(self, path: str, form: Mapping[str, Any], role: str = "operator", **headers: str) -> Any:
        """Send a form of our own page."""
        return self.browser(role).post(self.root + path, data={"csrf": self.token(role), **form}, headers=headers)
