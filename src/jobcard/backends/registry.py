"""From a URL scheme to the store that serves it, by entry points of the group `jobcard.backends`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from jobcard.backends import url as urls
from jobcard.backends.base import Backend
from jobcard.core.clock import Clock
from jobcard.core.nearest import nearest
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "jobcard.backends"

# Our own entry points once more: every process opens a store, and to look through all installed packages takes longer
# than to import the store.
OURS = {
    "sqlite": "jobcard.backends.sqlite:SQLiteBackend",
    "mongodb": "jobcard.backends.mongodb:MongoBackend",
    "mongodb+srv": "jobcard.backends.mongodb:MongoBackend",
    "mysql": "jobcard.backends.mysql:MySQLBackend",
    "mariadb": "jobcard.backends.mysql:MySQLBackend",
    "postgresql": "jobcard.backends.postgres:PostgresBackend",
    "postgres": "jobcard.backends.postgres:PostgresBackend",
    "redis": "jobcard.backends.redis:RedisBackend",
    "rediss": "jobcard.backends.redis:RedisBackend",
    "valkey": "jobcard.backends.redis:RedisBackend",
    "valkeys": "jobcard.backends.redis:RedisBackend",
}


def open_backend(
    url: str | None,
    config: Mapping[str, Any] | None = None,
    *,
    backend: str | type | Backend | None = None,
    clock: Clock | None = None,
    moving_to: str | None = None,
    **overrides: Any,
) -> Backend:
    """The store behind a URL; nothing is opened until its first use.

    config: options by name, as they may stand in the URL; one that stands in both is refused.
    backend: a class, its dotted path `pkg.mod:Class`, or a store made already, instead of looking up the scheme.
    moving_to: the URL of the store that its jobs may move to while it is open (`backends/following.py`).
    overrides: options that win over URL and config.
    """
    if moving_to is not None and moving_to != url:  # where its jobs live already there is nothing to follow
        return _open_following(url, config, moving_to, backend=backend, clock=clock, **overrides)
    if backend is not None and not isinstance(backend, (str, type)):
        return backend
    options = dict(config or {})
    cls: type
    if backend is not None:
        cls = load_backend_class(backend)
    else:
        parsed = urls.parse(url, several_hosts=True)
        cls = _find(parsed.scheme, urls.mask(url))
        twice = sorted(options.keys() & parsed.options.keys())
        if twice:
            raise ConfigError(f"the option {twice[0]!r} stands in the store URL and in config; give it once")
    if clock is not None:
        options["clock"] = clock
    options |= overrides
    return cast(Backend, cls(url, **options) if url is not None else cls(**options))


def _open_following(url: str | None, config: Mapping[str, Any] | None, moving_to: str, **given: Any) -> Backend:
    from jobcard.backends.following import following  # only now: hardly any process needs it

    source = open_backend(url, config, **given)
    # Whoever only looks changes nothing in the other store either.
    looking = {"readonly": True} if source.capabilities.readonly else {}
    return following(source, open_backend(moving_to, **{**given, **looking, "backend": None}))


def load_backend_class(given: str | type) -> type:
    """A store's class from its dotted path `pkg.mod:Class`; a class comes back as it is."""
    if isinstance(given, type):
        return given
    module_name, colon, attribute = given.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise ConfigError(f"backend {given[:80]!r} must be written as 'package.module:Class'")
    try:
        found = getattr(import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(f"backend {given!r}: {_missing(error)}") from error
    except AttributeError as error:
        raise ConfigError(f"backend {given!r}: the module {module_name!r} has no {attribute!r}") from error
    if not isinstance(found, type):
        raise ConfigError(f"backend {given!r} is not a class")
    return found


def installed_schemes() -> dict[str, EntryPoint]:
    """The stores that are installed, by URL scheme."""
    from importlib.metadata import entry_points  # only now: it brings parsers of mails, archives and tables

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _find(scheme: str, shown: str) -> type:
    if scheme in OURS:
        module_name, _, attribute = OURS[scheme].partition(":")
        with contextlib.suppress(ImportError):  # its entry point, below, says what to install
            return cast(type, getattr(import_module(module_name), attribute))
    known = installed_schemes()
    if scheme not in known:
        near = nearest(scheme, known)
        hint = f"; did you mean {near}://?" if near else ""
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"no store is installed for {scheme}:// (in {shown!r}){hint}; installed: {names}")
    entry = known[scheme]
    try:
        return cast(type, entry.load())
    except ImportError as error:
        package = entry.dist.name if entry.dist else "jobcard"
        extra = entry.extras[0] if entry.extras else scheme
        raise ConfigError(f"{scheme}:// {_missing(error)}: pip install '{package}[{extra}]'") from error


def _missing(error: ImportError) -> str:
    return f"needs the package {error.name!r}" if error.name else f"cannot be imported ({error})"
