"""The SQLite store."""

from jobcard.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
