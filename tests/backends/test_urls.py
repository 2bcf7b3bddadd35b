"""Store URLs: every mistake is a `ConfigError` that names the part and never shows a password."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jobcard.backends import registry
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.backends.sqlite.options import read_options
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.errors import ConfigError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        7,
        b"sqlite:///jobs.db",
        "jobs",
        "://",
        "postgres:/x",
        "1sql://host/db",
        "sqlite:///my jobs.db",
        "sqlite:///jobs.db\n",
        "sqlite:///jobs\x00.db",
        "sqlite:///jobs%00.db",
        "sqlite:///jobs#1.db",
        "sqlite:///50%.db",
        "sqlite:///%zz.db",
        "sqlite:///%ff.db",
        f"redis://:{SECRET}@host:99999/0",
        f"redis://:{SECRET}@host:0/0",
        f"redis://:{SECRET}@host:/0",
        f"redis://:{SECRET}@host:80a/0",
        f"redis://:{SECRET}@[::1/0",
        f"redis://:{SECRET}@[::1]x/0",
        f"redis://:{SECRET}@ho]st/0",
        f"postgresql://app:{SECRET}%zz@host/db",
        f"postgresql://app:{SECRET}@x@host/db",
        f"postgresql://app:{SECRET}:x@host/db",
        "sqlite:///jobs.db?prefix",
        "sqlite:///jobs.db?=x",
        "sqlite:///jobs.db?prefix=a_&prefix=b_",
        "sqlite:///jobs.db?prefix=a_&pre%66ix=b_",
    ],
)
def test_a_malformed_url_is_refused(url: object) -> None:
    """Nothing is opened for a URL that cannot be read, and no password appears in the message."""
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert SECRET not in str(caught.value)


def test_a_url_in_parts() -> None:
    """Escapes are decoded once, in every part."""
    url = parse("PostgreSQL://app%40x:p%3A%2F%3F%23%25%2B%40%C3%A9@db.example:5432/jobs%20here?prefix=a%5F&x=1%2B1")
    assert url == StoreURL(
        scheme="postgresql",
        user="app@x",
        password="p:/?#%+@é",
        host="db.example",
        port=5432,
        path="jobs here",
        options={"prefix": "a_", "x": "1+1"},
    )
    assert "p:/" not in repr(url)
    assert parse("redis://[::1]:6379/0").host == "::1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://app:{SECRET}@host/db", "postgresql://app:***@host/db"),
        (f"redis://:{SECRET}@host", "redis://:***@host"),
        (f"postgresql://app:{SECRET}/x@host/db", "postgresql://app:***@host/db"),
        (f"postgresql://app:x@{SECRET}?y@host/db", "postgresql://app:***@host/db"),
        (f"postgresql://host/db?sslpassword={SECRET}&a=1", "postgresql://host/db?sslpassword=***&a=1"),
        (f"mysql://host/db?a=1&PASSWD={SECRET}", "mysql://host/db?a=1&PASSWD=***"),
        (f"mysql://host/db?p%61ssword={SECRET}&a=1", "mysql://host/db?p%61ssword=***&a=1"),
        (f"mysql://host/db?password=x {SECRET};#&a=1", "mysql://host/db?password=***&a=1"),
        (f"mysql://host:1/db?password=x@{SECRET}", "mysql://host:***"),
        (f"mysql://app:x@host:1/db?password=x@{SECRET}", "mysql://app:***@host:1/db?password=***"),
        (f"mysql://app:{SECRET}?pwd=x@host/db", "mysql://app:***"),
        (f"app:{SECRET}@host", "app:***@host"),
        ("sqlite:////srv/jobs.db?prefix=a_", "sqlite:////srv/jobs.db?prefix=a_"),
        (None, "<NoneType>"),
    ],
)
def test_a_masked_url_shows_no_secret(url: object, shown: str) -> None:
    """What may be shown of a URL holds no password, wherever it stood."""
    assert mask(url) == shown


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:////srv/jobs.db", "/srv/jobs.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite:///my%20jobs%3F.db", "my jobs?.db"),
        ("jobs.db", "jobs.db"),
        (Path("/srv/my jobs.db"), "/srv/my jobs.db"),
    ],
)
def test_where_a_sqlite_url_leads(url: object, path: str) -> None:
    """Three slashes are relative, four absolute."""
    assert read_options(url, {})[0] == path


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("sqlite://jobs.db", "three slashes"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("mysql:///jobs.db", "not a SQLite URL"),
        ("sqlite:///j.db?busy_timout=1", "busy_timeout"),
        ("sqlite:///j.db?encryption_key_env=KEY", "encryption_key_env"),
        ("sqlite:///j.db?library=sqlcipher", "encryption_key_env"),
        ("sqlite:///j.db?library=sqlite4", "apsw, sqlite3, sqlcipher"),
        ("sqlite:///j.db?synchronous=bogus", "off, normal, full, extra"),
        ("sqlite:///j.db?journal_mode=memory", "wal"),
        ("sqlite:///j.db?busy_timeout=-1", "busy_timeout"),
        ("sqlite:///j.db?busy_timeout=soon", "busy_timeout"),
        ("sqlite:///j.db?cache_size=1.5", "cache_size"),
        ("sqlite:///j.db?readonly=maybe", "readonly"),
        ("sqlite:///j.db?pool_size=0", "pool_size"),
        ("sqlite:///j.db?prefix=a;drop", "prefix"),
        ("sqlite:///j.db?prefix=", "prefix"),
        ("sqlite:///j.db?prefix=sqlite_", "prefix"),
        ("sqlite:///:memory:?readonly=1", "memory"),
    ],
)
def test_a_wrong_sqlite_option_is_named(url: str, part: str) -> None:
    """An option that is unknown or out of range is refused, with what it may be."""
    with pytest.raises(ConfigError, match=part):
        SQLiteBackend(url)


def test_options_from_url_and_code_are_typed_alike() -> None:
    """The same option means the same in the URL and in `config`; what code gives wins."""
    _, options = read_options(
        "sqlite:///j.db?busy_timeout=2.5&readonly=1&prefix=a_&cache_size=-2000", {"prefix": "b_", "pool_size": 2}
    )
    assert (options.busy_timeout, options.readonly, options.prefix) == (2.5, True, "b_")
    assert (options.cache_size, options.pool_size) == (-2000, 2)
    _, options = read_options("j.db", {"busy_timeout": timedelta(seconds=3), "pool_recycle": None})
    assert (options.busy_timeout, options.pool_recycle) == (3.0, None)


def test_the_scheme_finds_the_store(tmp_path: Path) -> None:
    """`sqlite://` is served by the entry point of that name."""
    backend = registry.open_backend(f"sqlite:///{tmp_path}/jobs.db", {"synchronous": "normal"}, busy_timeout=0.25)
    assert isinstance(backend, SQLiteBackend)
    assert backend.migrate() == [1, 2, 3, 4]
    backend.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("foo://x", "installed: .*sqlite"),
        ("sqlit:///jobs.db", "did you mean sqlite://"),
        (f"postgresqls://app:{SECRET}@host/db", "no store is installed for postgresqls"),
    ],
)
def test_an_unknown_scheme_says_what_is_installed(url: str, words: str) -> None:
    """A scheme without a store is refused with the schemes there are."""
    with pytest.raises(ConfigError, match=words) as caught:
        registry.open_backend(url)
    assert SECRET not in str(caught.value)


def test_an_option_in_url_and_config_is_refused() -> None:
    """An option given in two places is an error, not a guess."""
    with pytest.raises(ConfigError, match="prefix"):
        registry.open_backend("sqlite:///j.db?prefix=a_", {"prefix": "b_"})


def test_a_class_may_be_given_in_code(tmp_path: Path) -> None:
    """A dotted path, a class and a ready store all serve instead of a scheme."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    by_path = registry.open_backend(url, backend="jobcard.backends.sqlite:SQLiteBackend")
    by_class = registry.open_backend(url, backend=SQLiteBackend)
    assert isinstance(by_path, SQLiteBackend)
    assert isinstance(by_class, SQLiteBackend)
    assert registry.open_backend(None, backend=by_class) is by_class


@pytest.mark.parametrize(
    "given",
    ["nowhere:Thing", "jobcard.backends.sqlite:Nothing", "os:getcwd", "SQLiteBackend", "a..b:C", "../x:C", "x:y z", ""],
)
def test_a_bad_dotted_path_is_refused(given: str) -> None:
    """A dotted path that leads to no class is a `ConfigError`."""
    with pytest.raises(ConfigError):
        registry.load_backend_class(given)
