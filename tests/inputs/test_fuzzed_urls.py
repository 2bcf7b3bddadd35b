"""Any text as a store URL: a `ConfigError` or a store that nothing was opened for, and no password in what is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobcard.backends.registry import installed_schemes, open_backend
from jobcard.backends.url import mask, parse
from jobcard.errors import ConfigError

SECRET = "Canary7"
CASES = settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ODD = "\x00\n \t%@:/?#&=+;,[]{}()'\"\\|~$*é😀\ud800"
SCHEMES = st.sampled_from([*installed_schemes(), "SQLite", "sqlite", "foo", "", "1x", "http", "file"])
HOSTS = st.sampled_from(
    ["localhost", "127.0.0.1", "[::1]", "[::1", "h:5432", "h:99999", "h:0", "h:", "a,b", "a:1,b:2", "a,,b", ""]
) | st.text(max_size=8)
OPTIONS = """
    prefix pool_size pool_timeout pool_recycle library readonly synchronous schema listen pooler sslmode db cluster
    ssl_mode ssl_ca driver init_command local_infile passfile options replicaSet w journal tls tlsInsecure
    unsafe_url_options connect_timeout socket_timeout port host user database dbname clock connection unsafe
"""
NAMES = st.sampled_from(OPTIONS.split()) | st.text(max_size=6)
VALUES = st.sampled_from(
    ["", "0", "1", "-1", "1e999", "nan", "9" * 5000, "true", "maybe", "wal", "%zz", "%ff", "%00", "require"]
) | st.text(max_size=8)
AROUND = st.text(st.sampled_from(ODD) | st.characters(), max_size=4)


@st.composite
def logins(draw: st.DrawFn) -> str:
    """A login with a password that holds the secret, escaped or not."""
    secret = draw(AROUND) + SECRET + draw(AROUND)
    return f"{draw(AROUND)}:{secret}@"


@st.composite
def options(draw: st.DrawFn) -> str:
    """Options, among them perhaps one whose value is secret."""
    pairs = [f"{draw(NAMES)}={draw(VALUES)}" for _ in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        name = draw(st.sampled_from(["password", "PASSWORD", "sslpassword", "tlsCertificateKeyFilePassword", "p%61ss"]))
        pairs.insert(draw(st.integers(0, len(pairs))), f"{name}={SECRET}")
    return "&".join(pairs)


@st.composite
def likely(draw: st.DrawFn) -> str:
    """What is nearly a URL of a store, with one mistake or several."""
    between = draw(st.sampled_from(["://"] * 8 + [":/", ":", ":///", ""]))
    # Without a host in front of it nothing tells a password from the rest.
    front = draw(st.just("") | logins()) if between == "://" else ""
    path = draw(st.sampled_from(["", "/", "/jobs", "/0", "/jobs.db", "//x", "/a/b", "/:memory:", "/%zz", "/a b"]))
    behind = draw(options())
    return f"{draw(SCHEMES)}{between}{front}{draw(HOSTS)}{path}{'?' if behind else ''}{behind}"


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What was tried to reach; and the test works in an empty directory that it leaves empty."""
    import psycopg

    tried: list[str] = []

    def no_way(*arguments: Any, **named: Any) -> Any:
        tried.append(repr(arguments)[:80])
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "socket", no_way)
    monkeypatch.setattr(socket, "getaddrinfo", no_way)
    monkeypatch.setattr(psycopg.Connection, "connect", no_way)
    monkeypatch.chdir(tmp_path)
    yield tried
    assert tried == []
    assert list(tmp_path.iterdir()) == []


def all_that_is_said(error: BaseException | None) -> str:
    """An error's message and those of the errors behind it."""
    said = ""
    while error is not None:
        said += f"{error}\n{error.args!r}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


def open_and_close(url: str) -> str:
    """What is to be seen of a store behind this URL: its repr, or the errors that refuse it."""
    try:
        store = open_backend(url)
    except ConfigError as error:
        return all_that_is_said(error)
    said = repr(store)
    store.close()
    return said


@CASES
@given(st.text(max_size=60).filter(lambda text: SECRET not in text) | likely())
@example(f"postgresql://app:{SECRET}@h/db?p%61ss=1&prefix")
@example(f"postgresql://h/db?p%61ssword={SECRET}&prefix")
@example(f"mysql://h/db?port=x&password={SECRET}")
@example(f"mariadb://?:{SECRET}@localhost?password={SECRET}")
def test_any_text_is_a_store_or_a_config_error(dialled: list[str], url: str) -> None:
    """Whatever stands in the URL: no other exception, no connection, no file, and no password."""
    assert SECRET not in open_and_close(url)
    assert dialled == []


@CASES
@given(likely())
def test_what_may_be_shown_is_masked_whatever_is_wrong(url: str) -> None:
    """`mask` hides a password in a URL that nothing can read, too."""
    assert SECRET not in mask(url)


@CASES
@given(st.none() | st.integers() | st.binary(max_size=9) | st.floats() | st.lists(st.text(max_size=3), max_size=2))
def test_what_is_no_text_is_no_url(url: object) -> None:
    """A `ConfigError` that names the type."""
    with pytest.raises(ConfigError, match=type(url).__name__):
        parse(url)
