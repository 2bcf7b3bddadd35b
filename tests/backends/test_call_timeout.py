"""`call_timeout`: every store has it, and a statement that takes longer ends, whatever the connection is for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.options import read_options
from jobcard.errors import StoreUnavailableError

ENDLESS = "with recursive number (n) as (select 1 union all select n + 1 from number) select count(*) from number"


@pytest.mark.parametrize("store", ["sqlite", "postgres", "mysql", "mongodb", "redis"])
def test_every_store_knows_it(store: str) -> None:
    """By the same name: who opens a store by its URL need not know which it is."""
    assert "call_timeout" in import_module(f"jobcard.backends.{store}.options").KNOWN


@pytest.mark.parametrize("library", ["apsw", "sqlite3"])
def test_a_statement_without_end_ends(tmp_path: Path, library: str) -> None:
    """In SQLite, where nobody but we ends one; the connection is as good as before."""
    path, options = read_options(str(tmp_path / "jobs.db"), {"call_timeout": 1, "library": library})
    connection = Connection(path, options, create=True)
    with pytest.raises(StoreUnavailableError, match="call_timeout"):
        connection.execute(ENDLESS)
    assert connection.execute("select 1") == [(1,)]
    connection.close()
