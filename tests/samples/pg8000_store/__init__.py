"""A store of one's own: jobs in PostgreSQL through pg8000, a driver in pure Python."""

from __future__ import annotations

import socket
from typing import Any

from pg8000 import dbapi as pg8000

from jobcard.backends.sql import Dialect, Options, SQLBackend, by_sqlstate
from jobcard.errors import JobcardError, StoreUnavailableError


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for an error of the driver."""
    if isinstance(error, pg8000.DatabaseError) and isinstance(error.args[0], dict):
        return by_sqlstate(error.args[0]["C"], error.args[0]["M"])
    if isinstance(error, (OSError, pg8000.InterfaceError)):
        return StoreUnavailableError(f"the connection to PostgreSQL failed: {error}")
    return None


class PG8000Backend(SQLBackend):
    """Jobs in PostgreSQL 14 or newer, through pg8000."""

    store = "postgresql"
    dialect = Dialect(
        name="PostgreSQL",
        package=__package__,
        translate=translate,
        now="cast(extract(epoch from statement_timestamp()) * 1000000 as bigint)",
        id_text="cast(cast(encode(job.id, 'hex') as uuid) as text)",
        # The strings of a JSON array, each as it is written there.
        tagged=r"""{tag} = any(array(select found[1]
            from regexp_matches(job.tags, '("(?:[^"\\]|\\.)*")', 'g') as found))""",
        holds_nul=False,
        word='text collate "C"',
    )

    @staticmethod
    def connect(options: Options) -> Any:
        """A connection whose socket says when the server has gone."""
        place = (options.host, options.port or 5432)
        plug = socket.create_connection(place, options.connect_timeout)
        limits = {
            "statement_timeout": f"{1e3 * options.call_timeout:.0f}",
            "lock_timeout": f"{1e3 * (options.lock_timeout or 5):.0f}",
            # Statistics of a queue are wrong as soon as they are made.
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
        }
        raw = pg8000.Connection(
            user=options.user or "postgres",
            password=options.password,
            database=options.database,
            sock=plug,
            ssl_context=False,
            startup_params=limits,
        )
        plug.settimeout(options.call_timeout + 1)
        raw.autocommit = True
        raw.fileno = plug.fileno
        return raw
