"""`jobcard grants`: statements to be read and run by somebody else, and nothing besides."""

from __future__ import annotations

import json

import pytest
from answers import complaint, succeeded

from helpers.apps import App
from jobcard.backends.registry import open_backend
from jobcard.backends.roles import HasRoles, Role, role_for

AWAY = "postgresql://admin:not-to-be-seen@127.0.0.1:9/shop?schema=jobs"


@pytest.mark.parametrize("role", Role)
def test_it_prints_statements_and_opens_nothing(bare: App, role: Role) -> None:
    """One a line, ready for a server's own client; no server need be there, and no password is shown."""
    ran = succeeded(bare.jobcard("grants", "--url", AWAY, "--role", role, "--user", 'o"hara'))
    lines = ran.out.splitlines()
    assert lines and all(line.endswith(";") for line in lines)
    assert any('"o""hara"' in line for line in lines)
    assert "not-to-be-seen" not in ran.out + ran.err
    again = succeeded(bare.jobcard("grants", "--url", AWAY, "--role", role, "--user", 'o"hara', "--json"))
    assert [f"{statement};" for statement in json.loads(again.out)] == lines


def test_a_store_without_users_says_so(bare: App) -> None:
    """In a sentence, and nothing is made."""
    said = complaint(bare.jobcard("grants", "--role", "viewer", "--user", "x"), 2)
    assert "sqlite knows no roles" in said
    assert not list(bare.directory.glob("*.db"))


def test_everybody_and_nobody_are_no_users(bare: App) -> None:
    """PostgreSQL takes "public" for everybody, in quotes too."""
    without_password = AWAY.replace(":not-to-be-seen", "")
    for name in ("public", "none"):
        complaint(bare.jobcard("grants", "--url", without_password, "--role", "viewer", "--user", name), 2)


def test_a_store_says_by_a_method_that_it_has_roles() -> None:
    """So a store of somebody else's has them too, or is told apart."""
    found = {url.partition(":")[0]: open_backend(url) for url in ("postgresql://h/x", "mysql://h/x", "sqlite:///x.db")}
    assert {scheme: isinstance(store, HasRoles) for scheme, store in found.items()} == {
        "postgresql": True, "mysql": True, "sqlite": False,
    }  # fmt: skip


def test_each_verb_has_a_role() -> None:
    """The one that an error names; what is not said elsewhere is an engine's."""
    assert [role_for(verb) for verb in ("enqueue", "list", "migrate", "exchange", "prune")] == [
        Role.PRODUCER, Role.VIEWER, Role.MIGRATION, Role.ENGINE, Role.ENGINE,
    ]  # fmt: skip
