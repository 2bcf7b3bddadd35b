"""A store as a package of somebody else would bring it: `notebook:///jobs.db`, found by its entry point alone."""

from __future__ import annotations

from typing import Any

from jobcard.backends.base import Facts
from jobcard.backends.sqlite import SQLiteBackend


class NotebookBackend(SQLiteBackend):
    """Jobs in a notebook, which on the inside is a SQLite file."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url.replace("notebook://", "sqlite://", 1), **options)

    def facts(self) -> Facts:
        """A SQLite file's, under a name of its own."""
        return super().facts()._replace(store="Notebook")
