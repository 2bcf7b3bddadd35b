"""The barrier of a sealed store: triggers that refuse every write of anybody while there is a word of the seal.

    raise   a trigger for each table. Putting one up waits for those who have the table open. It refuses nobody yet: it
            lets a writer pass, who then holds the row of the word, beside others, until his transaction ends
    word    waits for those who hold its row, and closes all tables at once; no word opens them at once
    lower   takes the triggers away

Many servers commit after every trigger that is made or dropped, so the word alone decides. Whoever dies before it is
written has sealed nothing, and whoever dies after it everything; triggers that are left over refuse nobody. The same
once more mends it.
"""

from __future__ import annotations

import contextlib
from functools import partial

from jobcard.backends.sql.connection import Connection, Rows, Step
from jobcard.backends.sql.errors import SEALED
from jobcard.backends.sql.statements import Statements
from jobcard.errors import JobcardError, StoreMovedError, StoreUnavailableError

CLOSED = ("jobs", "attempts", "log_lines", "once", "starts", "records")
"""The tables that a seal closes: all but that of the seal itself, and that of which nobody writes a row."""

# ------------------------------------------------------------------ for those who write


def begin(connection: Connection, sql: Statements, *steps: Step) -> list[Rows]:
    """The first steps of a write, in its transaction; their rows. `StoreMovedError` when the store is sealed.

    The barrier stops whoever changes a row; this is for those who find nothing to change, and so do not meet it.
    """
    sealed, *answers = connection.run([Step(sql["seal"]), *steps])
    refuse(sealed)
    return answers


def refuse(sealed: Rows) -> None:
    """`StoreMovedError` when there is a word in what `seal.sql` has found."""
    if sealed and sealed[0][0] is not None:
        raise StoreMovedError(SEALED)


# ------------------------------------------------------------------ for whoever seals


def seal(connection: Connection, sql: Statements, word: str, *, patience: float) -> None:
    """Close the store with this word; under the lock of a migration."""
    try:
        _raise_barrier(connection, sql)
        connection.again(partial(connection.change, sql["set_seal"], {"word": word}), patience)
    except StoreUnavailableError as error:
        why = f"the store could not be sealed: {error}{_who_is_open(connection, sql)}"
        _leave_open(connection, sql)
        raise StoreUnavailableError(why) from error
    except JobcardError:
        _leave_open(connection, sql)
        raise


def open_again(connection: Connection, sql: Statements) -> None:
    """Let everybody write; under the lock of a migration."""
    connection.again(partial(connection.change, sql["set_seal"], {"word": None}))
    _lower_barrier(connection, sql)


def stay_sealed(connection: Connection, sql: Statements) -> None:
    """After a migration, and under its lock: where the store is sealed, tables that are new are closed too."""
    if connection.execute(sql["seal"])[0][0] is not None:
        _raise_barrier(connection, sql)


def _triggers(sql: Statements) -> dict[str, tuple[str, str]]:
    """By the name of each its table, and the write that it refuses."""
    return {
        f"{sql.prefix}{table}_sealed_{write.split()[0]}": (f"{sql.prefix}{table}", write)
        for table in CLOSED
        for write in sql.dialect.writes
    }


def _found(connection: Connection, sql: Statements) -> set[str]:
    rows = connection.execute(sql["barrier_found"], {"names": list(_triggers(sql))})
    return {name for (name,) in rows}


def _raise_barrier(connection: Connection, sql: Statements) -> None:
    # Only those that are not there: who reads from a sealed store for long need not be waited for.
    found = _found(connection, sql)
    for name, (table, write) in _triggers(sql).items():
        if name not in found:
            text = sql["raise_barrier"].replace("{trigger}", name)
            connection.execute(text.replace("{table}", table).replace("{write}", write))


def _lower_barrier(connection: Connection, sql: Statements) -> None:
    found = _found(connection, sql)
    for name in _triggers(sql):
        if name in found:
            connection.execute(sql["lower_barrier"].replace("{trigger}", name))


def _leave_open(connection: Connection, sql: Statements) -> None:
    """Take away what was put up in vain, unless the store was sealed before and only the word was to change."""
    with contextlib.suppress(JobcardError):
        [(word,)] = connection.execute(sql["seal"])
        if word is None:
            _lower_barrier(connection, sql)


def _who_is_open(connection: Connection, sql: Statements) -> str:
    """Those that have been open for longest, for a message; nothing where this user may not know."""
    rows = Rows()
    with contextlib.suppress(JobcardError):
        rows = connection.execute(sql["open_transactions"])
    return "".join(f"; connection {number} of {who} has a transaction open for {ago} s" for number, who, ago in rows)
