"""What MongoDB says when it fails, in jobcard's words; by the code of the error, never by its text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bson.errors import InvalidBSON, InvalidDocument, InvalidStringData
from pymongo import errors as mongo

from jobcard.backends.door import Door
from jobcard.backends.verbs import NotAllowedError, NotUnderstoodError
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    JobcardError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

DUPLICATE = 11000
NO_SUCH_INDEX = 2  # also any other value a command cannot take
COLLECTION_EXISTS = 48
NO_SUCH_COLLECTION = 26
NO_SUCH_INDEX_NAMED = 27

NOT_ALLOWED = 13
NO_TRANSACTIONS = 20
"""Of a server that stands alone: it numbers no transactions."""

_NOT_LET_IN = frozenset({18, 33, 334})
_NOT_NOW = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        24,  # LockTimeout
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        79,  # UnknownReplWriteConcern
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        262,  # ExceededTimeLimit
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)
_FULL = frozenset({14031, 12501})
SEALED = 121  # DocumentValidationFailure: no document satisfies the rule of a sealed store

_UNWRITABLE = (InvalidDocument, InvalidStringData, UnicodeEncodeError, OverflowError, mongo.DocumentTooLarge)


class CommandError(NotUnderstoodError):
    """The server cannot take a command as it is: something that we rely on may be missing, an index or a collection."""


def code_of(error: BaseException) -> int | None:
    """The server's code for an error; of several a seal's, else the first that is not about a key that was taken."""
    if isinstance(error, mongo.BulkWriteError):
        problems: list[dict[str, Any]] = [
            *error.details.get("writeErrors", ()),
            *error.details.get("writeConcernErrors", ()),
        ]
        codes = [problem.get("code") for problem in problems]
        if SEALED in codes:  # from then on nothing was written, whatever else was wrong with it
            return SEALED
        return next((code for code in codes if code != DUPLICATE), codes[0] if codes else None)
    return error.code if isinstance(error, mongo.OperationFailure) else None


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for a driver's; None: it is none of the driver's."""
    if isinstance(error, _UNWRITABLE):
        return InvalidJobError(f"MongoDB cannot store a value: {type(error).__name__}")
    if isinstance(error, InvalidBSON):
        return CorruptRecordError("a record of the store cannot be read")
    if not isinstance(error, mongo.PyMongoError):
        return None
    if isinstance(error, (mongo.ConfigurationError, mongo.InvalidURI)):
        return ConfigError(f"MongoDB cannot be reached as its URL and options say: {type(error).__name__}")
    code = code_of(error)
    if code in _NOT_LET_IN:
        return AccessDeniedError(f"MongoDB does not let us in: code {code}")
    if code == NOT_ALLOWED:
        return NotAllowedError(f"this MongoDB user may not do that: {_first_words(error)}")
    if code in _FULL:
        return StoreFullError("MongoDB has no room left; nothing was stored")
    if code == SEALED:
        return StoreMovedError("this store was sealed: its jobs live elsewhere now")
    if code in _NOT_NOW or error.has_error_label("RetryableWriteError"):
        return StoreUnavailableError(f"MongoDB cannot take this now: code {code}")
    if isinstance(error, (mongo.ConnectionFailure, mongo.ExecutionTimeout, mongo.WTimeoutError)) or error.timeout:
        return StoreUnavailableError(f"MongoDB does not answer: {type(error).__name__}")
    if code in (NO_SUCH_INDEX, NO_SUCH_COLLECTION):
        return CommandError(f"MongoDB cannot do this: code {code}")
    return StoreError(f"MongoDB failed: {type(error).__name__}, code {code}")


def _first_words(error: BaseException) -> str:
    # "not authorized on shop to execute command { update: "jobcard.jobs", …": what follows may be a job's content.
    details = error.details if isinstance(error, mongo.OperationFailure) else None
    return str((details or {}).get("errmsg", "")).partition("{")[0].strip() or "it says no more"


def is_about_a_value(error: BaseException) -> bool:
    """Whether an update failed for what it was to write, or for what stood there: others may go on without it."""
    ours = translate(error)
    return isinstance(ours, InvalidJobError) or (
        isinstance(error, mongo.OperationFailure) and type(ours) in (StoreError, CommandError)
    )


@contextmanager
def unless_sealed() -> Iterator[None]:
    """Do what stands within, which nobody misses where the store has been sealed: whoever opens it, or goes on in the
    store that the jobs went to, sees to it.
    """
    try:
        yield
    except mongo.PyMongoError as error:
        if code_of(error) != SEALED:
            raise


driver_errors = Door(translate)
