"""What SQLite says when it fails, in jobcard's words; by result code, never by message."""

from __future__ import annotations

import sys

import apsw

from jobcard.backends.door import Door
from jobcard.backends.verbs import NotUnderstoodError
from jobcard.errors import (
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    JobcardError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

_BUSY, _LOCKED, _PROTOCOL = 5, 6, 15
_CONSTRAINT, _CONSTRAINT_UNIQUE, _CONSTRAINT_TRIGGER = 19, 2067, 1811

SEALED = "this store was sealed: its jobs live elsewhere now"
"""What the triggers of a seal say, and `StoreMovedError`."""

_NOT_A_VALUE = (OverflowError, UnicodeEncodeError, TypeError)
"""What both libraries raise for a value that they cannot hand to SQLite."""


class UniqueKeyError(InvalidJobError):
    """A unique index refused the row; its caller finds out who is there."""


class StatementError(NotUnderstoodError):
    """SQLite did not understand a statement: the tables are missing or not of this version."""


def is_busy(error: BaseException) -> bool:
    """Somebody else holds the lock that was needed."""
    return _code_of(error) & 0xFF in (_BUSY, _LOCKED, _PROTOCOL)


def _code_of(error: BaseException) -> int:
    code = getattr(error, "extendedresult", None) or getattr(error, "sqlite_errorcode", None)
    if code == _CONSTRAINT:
        # sqlcipher3 asks for no extended codes: which constraint it was stands in SQLite's words alone, or in ours.
        words = str(error)
        return _CONSTRAINT_UNIQUE if words.startswith("UNIQUE ") else _CONSTRAINT_TRIGGER if words == SEALED else code
    return code if isinstance(code, int) else 0


def _standard(name: str) -> tuple[type[BaseException], ...]:
    """This error of every library in use that has the interface of `sqlite3`."""
    drivers = map(sys.modules.get, ("sqlite3", "sqlcipher3.dbapi2"))
    return tuple(getattr(driver, name) for driver in drivers if driver is not None)


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for a driver's; None: it is none of the driver's."""
    if isinstance(error, UnicodeDecodeError):
        return CorruptRecordError("a row of the store holds text that is not UTF-8")
    if isinstance(error, _NOT_A_VALUE):
        return InvalidJobError(f"SQLite cannot store a value: {error}")
    if isinstance(error, _standard("OperationalError")) and not _code_of(error):
        # The standard library's way to say that a stored text is not UTF-8; the only one without a code.
        return CorruptRecordError("a row of the store holds text that is not UTF-8")
    if isinstance(error, _standard("Error")) and not _code_of(error):
        return InvalidJobError(f"SQLite cannot store a value: {error}")
    if not isinstance(error, (apsw.Error, *_standard("Error"))):
        return None
    code = _code_of(error)
    if code == _CONSTRAINT_UNIQUE:
        return UniqueKeyError("another job holds the same unique key")
    if code == _CONSTRAINT_TRIGGER:  # the only triggers on our tables are those of a seal
        return StoreMovedError(SEALED)
    match code & 0xFF:
        case 5 | 6 | 15:  # busy, locked, a race for the lock
            return StoreUnavailableError("the SQLite file is busy: another process held its lock too long")
        case 9:  # interrupted, which nobody but our own clock does
            return StoreUnavailableError("a statement took longer than call_timeout lets it")
        case 13:  # full
            return StoreFullError("the disk of the SQLite file is full; nothing was stored")
        case 26:  # not a database
            return ConfigError("the file is not a SQLite database, or it is encrypted")
        case 14:  # cannot open
            return ConfigError("the SQLite file, or a file beside it, cannot be opened")
        case 8:  # read-only
            return StoreError("the SQLite file cannot be written: it is read-only, or was moved while it was open")
        case 11:  # corrupt
            return StoreError("the SQLite file is damaged: keep it, and restore a backup")
        case 18 | 19 | 20:  # too big, constraint, mismatch
            return InvalidJobError(f"SQLite refused a value: {error}")
        case 1:
            return StatementError(f"SQLite refused a statement: {error}")
    return StoreError(f"SQLite failed with code {code}: {error}")


driver_errors = Door(translate)
