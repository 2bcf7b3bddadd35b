"""The PostgreSQL store."""

from jobcard.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
