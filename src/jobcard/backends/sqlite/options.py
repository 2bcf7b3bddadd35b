"""What a SQLite store can be told, in its URL or in `config`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from jobcard.backends.checks import Check, choice, flag, matching, seconds, whole
from jobcard.backends.sqlite import keys
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core import clock
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

MEMORY = ":memory:"

_NAME = matching(r"[A-Za-z_][A-Za-z0-9_]{0,39}", "1 to 40 letters, digits and _, not a digit first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds; None: SQLite's own default, or never."""

    library: str = "apsw"
    """`apsw` brings a current SQLite; `sqlite3` is Python's own, for jobs inside an application's file; `sqlcipher` is
    for encrypted files, and comes with their key."""
    busy_timeout: float = 10.0
    """How long to wait for another process's lock."""
    call_timeout: float | None = None
    """How long a statement may take."""
    synchronous: str = "full"
    journal_mode: str = "wal"
    cache_size: int | None = None
    temp_store: str | None = None
    wal_autocheckpoint: int | None = None
    readonly: bool = False
    pool_size: int = 5
    """Connections for reading, opened when needed; there is always one for writing."""
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    pool_recycle: float | None = None
    """Open a connection afresh after this long."""
    prefix: str = "jobcard_"
    encryption_key: str | None = field(default=None, repr=False)
    """What the file is encrypted with; None: it is not. Only code gives it, or a function that does."""
    encryption_key_env: str | None = None
    """The environment variable that holds the key."""


def _prefix(what: str, value: object) -> str:
    name = _NAME(what, value)
    if str(name).lower().startswith("sqlite_"):
        raise ConfigError(f"{what} must not begin with sqlite_: SQLite keeps such names for itself")
    return str(name)


_CHECKS: Mapping[str, Check] = {
    "library": choice("apsw", "sqlite3", "sqlcipher"),
    "busy_timeout": seconds(0, 3600),
    "call_timeout": seconds(1, 3600),
    "synchronous": choice("off", "normal", "full", "extra"),
    # Not memory or off: a process that dies in the middle of a commit would then damage the file.
    "journal_mode": choice("wal", "delete", "truncate", "persist"),
    "cache_size": whole(-(1 << 31), (1 << 31) - 1),
    "temp_store": choice("default", "file", "memory"),
    "wal_autocheckpoint": whole(0, 1_000_000),
    "readonly": flag,
    "pool_size": whole(1, 64),
    "pool_timeout": seconds(0, 3600),
    "pool_recycle": seconds(1, 10 * clock.DAY / clock.SECOND),
    "prefix": _prefix,
    "encryption_key": keys.check,
    # What does not look so may be a key, and is not repeated in an error.
    "encryption_key_env": matching(r"[A-Z_][A-Z0-9_]{0,99}", "the name of an environment variable, in capitals"),
}
KNOWN = frozenset(each.name for each in fields(Options))
"""Every name that the URL, or `config`, may say."""


def read_options(url_or_path: object, given: Mapping[str, Any]) -> tuple[str, Options]:
    """The path (or `:memory:`) and the checked options; `given` wins over the URL. None: not given."""
    path, in_url = _take_apart(url_or_path)
    # A URL is logged, kept in files, and shown to all by `ps`.
    check_names(dict(in_url), KNOWN - {"encryption_key"}, f"the store URL {mask(url_or_path)!r}")
    check_names(dict(given), KNOWN, "the SQLite store")
    merged = {**in_url, **{name: value for name, value in given.items() if value is not None}}
    checked: dict[str, Any] = {
        name: _CHECKS[name](f"the SQLite option {name}", value) for name, value in merged.items()
    }
    if path == MEMORY and checked.get("readonly"):
        raise ConfigError("a store in memory cannot be read-only: it is empty when it is opened")
    return path, Options(**_with_key(path, checked))


def _with_key(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options with the key where there is one, and the library that goes with it."""
    name = options.get("encryption_key_env")
    if name is not None:
        if "encryption_key" in options:
            raise ConfigError("encryption_key and encryption_key_env: give one of them")
        options["encryption_key"] = keys.from_environment("encryption_key_env", name)
    if "encryption_key" not in options:
        if options.get("library") == "sqlcipher":
            raise ConfigError("library=sqlcipher opens encrypted files: give encryption_key or encryption_key_env")
        return options
    if path == MEMORY:
        raise ConfigError("a store in memory has no file that could be encrypted: leave the encryption key out")
    if options.setdefault("library", "sqlcipher") != "sqlcipher":
        raise ConfigError(f"library={options['library']} opens no encrypted files: leave the option library out")
    if options.get("temp_store") == "file":
        raise ConfigError("temp_store=file would write what is sorted to the disk unencrypted: leave it out")
    return options


def _take_apart(url_or_path: object) -> tuple[str, Mapping[str, str]]:
    if hasattr(url_or_path, "__fspath__"):
        url_or_path = url_or_path.__fspath__()
        if not isinstance(url_or_path, str) or not url_or_path:
            raise ConfigError("the path of a SQLite file must be text and not empty")
        return url_or_path, {}
    if isinstance(url_or_path, str) and url_or_path and ":/" not in url_or_path and "?" not in url_or_path:
        return url_or_path, {}
    url: StoreURL = parse(url_or_path)
    shown = mask(url_or_path)
    if url.scheme != "sqlite":
        raise ConfigError(f"{shown!r} is not a SQLite URL; for example sqlite:///jobs.db")
    if url.host or url.port or url.user:
        raise ConfigError(f"{shown!r} names a host: write three slashes, as in sqlite:///jobs.db")
    if not url.path:
        raise ConfigError(f"{shown!r} names no file; for example sqlite:///jobs.db or sqlite:///:memory:")
    return url.path, url.options
