"""A store for one measurement: a file or a prefix that no other job shares, gone afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from jobcard.backends.url import parse


@contextmanager
def own_store(url: str | None) -> Iterator[str]:
    """The URL of a store of our own: a temporary SQLite file, or one where `url` is.

    Beside a SQLite file it is another file, so that the same disk is measured; elsewhere a prefix.
    """
    if url is not None and parse(url).scheme != "sqlite":
        with _own_prefix(url) as own:
            yield own
        return
    place, _, options = (url or "").partition("?")
    beside = None if url is None else Path(parse(place).path).absolute().parent
    with TemporaryDirectory(prefix="jobcard-", dir=beside) as directory:
        yield f"{sqlite_url(Path(directory) / 'own.db')}?{options or 'synchronous=full'}"


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, wherever it is."""
    return f"sqlite:///{quote(str(path.absolute()))}"


@contextmanager
def _own_prefix(url: str) -> Iterator[str]:
    from jobcard.client import Jobcard

    own = f"{url}{'&' if '?' in url else '?'}prefix=bench_{secrets.token_hex(4)}_"
    try:
        yield own
    finally:
        with Jobcard(own, migrate=False) as jobs:
            while jobs.rollback_migration() is not None:
                pass
