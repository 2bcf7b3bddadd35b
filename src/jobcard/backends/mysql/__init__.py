"""The MySQL and MariaDB store."""

from jobcard.backends.mysql.backend import MySQLBackend

__all__ = ["MySQLBackend"]
