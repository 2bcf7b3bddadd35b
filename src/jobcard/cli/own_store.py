"""A store for one measurement: a file or a prefix that no other job shares, gone afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote

from jobcard.backends.registry import open_backend
from jobcard.backends.url import parse
from jobcard.client.sources import DEFAULT_URL


@contextmanager
def own_store(url: str | None) -> Iterator[str]:
    """The URL of a store of our own: a temporary file, or one where `url` is.

    Beside a file it is another file, so that the same disk is measured; in a store that hosts share, a prefix.
    """
    if url is not None and _is_shared(url):
        with _own_prefix(url) as own:
            yield own
        return
    like = url or DEFAULT_URL
    _, _, options = like.partition("?")
    beside = None if url is None else Path(parse(url).path).absolute().parent
    with TemporaryDirectory(prefix="jobcard-", dir=beside) as directory:
        own = file_url(Path(directory) / "own.db", like=like)
        yield f"{own}?{options}" if options else own


def file_url(path: Path, like: str = DEFAULT_URL) -> str:
    """The URL of a file as store, wherever it is, of the same kind as another one."""
    return f"{parse(like).scheme}:///{quote(str(path.absolute()))}"


def _is_shared(url: str) -> bool:
    """Whether this store is none of this host's files. Nothing is opened to learn it."""
    backend = open_backend(url)
    try:
        return backend.capabilities.shared_by_hosts
    finally:
        backend.close()


@contextmanager
def _own_prefix(url: str) -> Iterator[str]:
    from jobcard.client import Jobcard

    place, _, options = url.partition("?")
    others = [option for option in options.split("&") if option and unquote(option.partition("=")[0]) != "prefix"]
    own = f"{place}?{'&'.join([*others, f'prefix=bench_{secrets.token_hex(4)}_'])}"
    try:
        yield own
    finally:
        with Jobcard(own, migrate=False) as jobs:
            while jobs.rollback_migration() is not None:
                pass
