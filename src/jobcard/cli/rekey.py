"""`jobcard rekey`: another key for an encrypted store."""

from __future__ import annotations

import os

import click

from jobcard.cli import output
from jobcard.cli.options import URL_HELP, common


@click.command(epilog="Example: jobcard rekey --url 'sqlite:///jobs.db?encryption_key_env=KEY' --new-key-env NEW_KEY")
@click.option("--new-key-env", metavar="NAME", required=True, help="The environment variable that holds the new key.")
@common(URL_HELP)
def rekey(new_key_env: str, url: str | None, as_json: bool) -> None:
    """Encrypt a SQLite file with another key; stop its engines and clients first.

    The URL says with encryption_key_env=NAME which variable holds the present key. If it is interrupted, the file has
    the old key or the new one, and no job is lost.
    """
    from jobcard.backends.registry import open_backend
    from jobcard.client import sources
    from jobcard.errors import ConfigError

    if new_key_env not in os.environ:
        raise ConfigError(f"--new-key-env: the environment variable {new_key_env!r} is not set")
    where = url or sources.find_url()
    store = open_backend(where)
    try:
        change = getattr(store, "rekey", None)
        if change is None:
            raise ConfigError(f"a store of {where.partition(':')[0]} has no key of ours: the server encrypts its disk")
        change(os.environ[new_key_env])
    finally:
        store.close()
    if as_json:
        output.emit_json({"rekeyed": True})
    else:
        output.emit("the file is encrypted with the new key: start its engines and clients with it")
